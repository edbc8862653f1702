"""IDS: what people name (users, items, slots, outfits of ids) -> rows, with errors that name the nearest.

Imports numpy and the nouns only.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from panfit.errors import DataError, Problem, UnknownIdError
from panfit.outfits import ABSENT, Dataset, IntArray

OutfitIds = tuple[str | None, ...]
"""Item ids in slot order; None where nothing is worn."""


class Ids:
    """Translates a data set's ids.

    Args:
        dataset: whose users, items and slots are meant.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._name = f"the data set {dataset.name!r}"

    def user_row(self, user_id: str) -> int:
        """User id -> row. Raises UnknownIdError, with the nearest ids."""
        known = self._dataset.user_row_of
        if user_id not in known:
            raise UnknownIdError(f"{self._name} has no user {user_id!r}{_nearest(user_id, known)}")
        return known[user_id]

    def item_row(self, item_id: str | None) -> int:
        """Item id -> row, None -> ABSENT. Raises UnknownIdError, with the nearest ids."""
        if item_id is None:
            return ABSENT
        known = self._dataset.catalogue.row_of
        if item_id not in known:
            raise UnknownIdError(f"{self._name} has no item {item_id!r}{_nearest(item_id, known)}")
        return known[item_id]

    def item_rows(self, item_ids: Iterable[str]) -> IntArray:
        """Item ids -> (n,) distinct rows, rising. Raises UnknownIdError."""
        if isinstance(item_ids, str):
            raise TypeError(f"wanted several item ids, not the one string {item_ids!r}")
        return np.array(sorted({self.item_row(item_id) for item_id in item_ids}), dtype=np.int64)

    def slot(self, name: str) -> int:
        """Slot name -> place. Raises UnknownIdError."""
        names = [slot.name for slot in self._dataset.slots]
        if name not in names:
            raise UnknownIdError(f"{self._name} has no slot {name!r}; its slots: {', '.join(names)}")
        return names.index(name)

    def given_rows(self, given: Mapping[str, str]) -> IntArray:
        """{slot name: item id} -> (S,) rows, ABSENT in the other slots.

        Raises:
            UnknownIdError: a slot or an item that there is not.
            DataError: items of the wrong slot, an item twice; all of them.
        """
        rows = np.full(len(self._dataset.slots), ABSENT, dtype=np.int64)  # (S,)
        for name, item_id in given.items():
            place = self.slot(name)
            rows[place] = self.item_row(item_id)
        found = self._misfits(rows.tolist())
        if found:
            wanted = "items of their slots' categories, each once"
            raise DataError(
                "the given items do not fit",
                [Problem("given", each, wanted, "Name each slot an item of its category.") for each in found],
            )
        return rows

    def outfit_rows(self, outfits: Iterable[Sequence[str | None]]) -> IntArray:
        """Outfits of ids -> (B, S) rows. Raises UnknownIdError, or DataError with every outfit that does not fit."""
        slots = self._dataset.slots
        wanted = f"{len(slots)} item ids in the order {', '.join(slot.name for slot in slots)}, None where empty"
        problems, rows = [], []
        for place, outfit in enumerate(outfits, start=1):
            found: list[str] = []
            if isinstance(outfit, str) or len(outfit) != len(slots):
                found = [f"{outfit!r}"]
            elif all(item_id is None for item_id in outfit):
                found = ["an outfit without any item"]
            else:
                rows.append([self.item_row(item_id) for item_id in outfit])
                found = self._misfits(rows[-1])
            problems += [
                Problem("outfits", each, wanted, "Give each slot an item of its category.", place) for each in found[:1]
            ]
        if problems:
            raise DataError(f"{len(problems)} outfit(s) do not fit the slots", problems)
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(slots))

    def _misfits(self, rows: Sequence[int]) -> list[str]:
        """What is wrong with an outfit (S,): items of another category than their slot's, items worn twice."""
        catalogue = self._dataset.catalogue
        found = []
        for place, (slot, row) in enumerate(zip(self._dataset.slots, rows, strict=True)):
            if row == ABSENT:
                continue
            category = catalogue.item_categories[row]
            if category != slot.category:
                found.append(f"{catalogue.item_ids[row]!r} of category {category!r} in slot {slot.name!r}")
            elif row in rows[:place]:
                found.append(f"{catalogue.item_ids[row]!r} a second time, in slot {slot.name!r}")
        return found


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    return f"; the nearest: {', '.join(map(repr, close))}" if close else ""
