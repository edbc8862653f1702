"""CHOICES: which slots are open, and which items may fill them. Never the wrong slot; never nothing without a word.

Imports numpy and the nouns only.
"""

from collections.abc import Sequence

import numpy as np

from panfit.errors import DataError
from panfit.outfits import ABSENT, BoolArray, Dataset, IntArray


def open_slots(dataset: Dataset, worn: IntArray, asked: Sequence[int] | None) -> list[int]:
    """The slots to fill, rising.

    Args:
        dataset: whose slots.
        worn: (S,) item rows, ABSENT where nothing is worn.
        asked: the slots that are asked for; None: every slot whose category is not worn yet, once a category.

    Raises:
        DataError: no slot is open, or one is asked for that is worn already.
    """
    names = [slot.name for slot in dataset.slots]
    if asked is not None:
        filled = [names[slot] for slot in asked if worn[slot] != ABSENT]
        if filled:
            raise DataError(f"slot {', '.join(map(repr, filled))} is to be filled, but an item is given for it")
        if not asked:
            raise DataError(f"no slot is asked for; name some of {', '.join(names)}")
        return sorted(set(asked))
    there = {slot.category for slot, row in zip(dataset.slots, worn.tolist(), strict=True) if row != ABSENT}
    found = []
    for place, slot in enumerate(dataset.slots):
        if slot.category not in there:
            there.add(slot.category)
            found.append(place)
    if not found:
        raise DataError(
            f"no slot is open: the given items leave nothing to fill of {', '.join(names)}. Give fewer items"
            + (", or name the slots to fill" if (worn == ABSENT).any() else "")
        )
    return found


def choices_of(
    dataset: Dataset,
    worn: IntArray,
    slots: Sequence[int],
    *,
    offered: BoolArray,
    among: IntArray | None,
    exclude: IntArray,
) -> dict[int, IntArray]:
    """Each open slot's candidates: item rows (n,) of its category, rising.

    Args:
        dataset: whose items.
        worn: (S,) item rows, which are not chosen again.
        slots: the open slots.
        offered: (N,) False for items that were withdrawn.
        among: rows to choose from; None: all.
        exclude: rows not to choose.

    Raises:
        DataError: a slot is left without any candidate; every such slot is named.
    """
    allowed = offered.copy()  # (N,)
    allowed[exclude] = False
    allowed[worn[worn != ABSENT]] = False
    if among is not None:
        is_among = np.zeros(len(allowed), dtype=np.bool_)  # (N,)
        is_among[among] = True
        allowed &= is_among
    of_category = dataset.catalogue.category_rows  # (N,)
    found, empty = {}, []
    for place in slots:
        slot = dataset.slots[place]
        rows = np.flatnonzero(allowed & (of_category == dataset.catalogue.categories.index(slot.category)))  # (n,)
        if not len(rows):
            empty.append(f"slot {slot.name!r} (category {slot.category!r})")
        found[place] = rows
    if empty:
        source = "the catalogue" if among is None else f"the {len(among)} item(s) to choose from"
        raise DataError(
            f"nothing is left for {' and '.join(empty)}: {source}, less what is worn, excluded or withdrawn, holds no "
            "item of that category. Widen what may be chosen"
        )
    # Two slots of one category need two items between them.
    for rows in found.values() if len(found) > 1 else ():
        rivals = [other for other in found if np.array_equal(found[other], rows)]
        if len(rows) < len(rivals):
            names = " and ".join(repr(dataset.slots[other].name) for other in rivals)
            raise DataError(f"{len(rows)} item is left for the slots {names}: too few. Widen what may be chosen")
    return found
