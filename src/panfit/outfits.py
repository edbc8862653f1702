"""The nouns every stage agrees on: Slot, Catalogue, Outfits, FitbQuestions, Dataset. They check themselves at birth.

Outside, users and items are ids (strings); inside, they are rows (integers). A `Catalogue` and a `Dataset` translate,
once, at the boundary. Readers make these nouns; everything downstream only reads them. Imports numpy only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from panfit.errors import UnknownIdError

ABSENT = -1
"""The item row that says: nothing is worn in this slot (decision D14)."""

Split = Literal["train", "val", "test"]
Kind = Literal["random", "hard"]
SPLITS: tuple[Split, ...] = get_args(Split)
KINDS: tuple[Kind, ...] = get_args(Kind)

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Slot:
    """A place in an outfit, and the category of the items that go there (two tops: two slots, one category)."""

    name: str
    category: str


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items, one row each.

    Attributes:
        item_ids: N distinct ids.
        item_categories: N category names, each one of ``categories``.
        images: N photo paths relative to ``image_root``, or None where an item has no photo.
        titles: N titles, or None where an item has none.
        categories: the category names in the order of the slots; the model's encoders follow it.
        image_root: the folder that the photo paths start from.
    """

    item_ids: tuple[str, ...]
    item_categories: tuple[str, ...]
    images: tuple[str | None, ...]
    titles: tuple[str | None, ...]
    categories: tuple[str, ...]
    image_root: Path

    def __post_init__(self) -> None:
        lengths = {len(self.item_ids), len(self.item_categories), len(self.images), len(self.titles)}
        if len(lengths) != 1:
            raise ValueError(f"the catalogue's columns differ in length: {sorted(lengths)}")
        if len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError("the catalogue holds an item id twice")
        unknown = sorted(set(self.item_categories) - set(self.categories))
        if unknown:
            raise ValueError(f"the catalogue holds categories {unknown} that are not among {list(self.categories)}")

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> row."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def category_rows(self) -> IntArray:
        """(N,) index of each item's category in ``categories``."""
        place = {name: index for index, name in enumerate(self.categories)}
        return np.array([place[name] for name in self.item_categories], dtype=np.int64)

    def rows(self, item_ids: Iterable[str | None]) -> IntArray:
        """Ids -> rows; None -> ABSENT. Raises UnknownIdError for an id that is not in the catalogue."""
        ids = list(item_ids)
        unknown = [item_id for item_id in ids if item_id is not None and item_id not in self.row_of]
        if unknown:
            raise UnknownIdError(f"the catalogue of {len(self)} items has no item {unknown[0]!r}")
        return np.array([ABSENT if item_id is None else self.row_of[item_id] for item_id in ids], dtype=np.int64)

    def ids(self, rows: Iterable[int]) -> tuple[str | None, ...]:
        """Rows -> ids; ABSENT -> None."""
        return tuple(None if row == ABSENT else self.item_ids[row] for row in rows)


@dataclass(frozen=True, eq=False)
class Outfits:
    """(user, outfit) pairs as rows of integers: somebody's likes, or somebody's negatives.

    Attributes:
        users: (B,) user rows.
        items: (B, S) item rows, ABSENT where a slot is empty; at least one slot of a row is filled.
    """

    users: IntArray
    items: IntArray

    def __post_init__(self) -> None:
        if self.users.ndim != 1 or self.items.ndim != 2 or len(self.users) != len(self.items):
            raise ValueError(f"users {self.users.shape} and items {self.items.shape} must be (B,) and (B, S)")
        if self.users.dtype != np.int64 or self.items.dtype != np.int64:
            raise ValueError(f"users and items must be int64, not {self.users.dtype} and {self.items.dtype}")
        if len(self) and (self.users.min() < 0 or self.items.min() < ABSENT):
            raise ValueError("a user row below 0, or an item row below -1")
        if len(self) and not self.mask.any(axis=1).all():
            raise ValueError("an outfit without any item")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def mask(self) -> BoolArray:
        """(B, S) True where a slot is filled."""
        return np.not_equal(self.items, ABSENT)

    def take(self, rows: IntArray | NDArray[np.bool_]) -> "Outfits":
        """The outfits of the given rows (or where a boolean mask is True)."""
        return Outfits(self.users[rows], self.items[rows])


@dataclass(frozen=True, eq=False)
class FitbQuestions:
    """Fill-in-the-blank questions: which of the candidates completes this user's outfit?

    Attributes:
        outfits: (Q) the true outfits, the answer in place.
        blank: (Q,) the slot that is blanked.
        candidates: (Q, K) item rows that compete for the blank slot.
        answer: (Q,) the true candidate's column, 0..K-1.
    """

    outfits: Outfits
    blank: IntArray
    candidates: IntArray
    answer: IntArray

    def __post_init__(self) -> None:
        num_questions = len(self.outfits)
        if self.blank.shape != (num_questions,) or self.answer.shape != (num_questions,):
            raise ValueError("blank and answer must be (Q,)")
        if self.candidates.ndim != 2 or len(self.candidates) != num_questions:
            raise ValueError(f"candidates must be (Q, K), not {self.candidates.shape}")
        rows = np.arange(num_questions)
        if num_questions and not np.array_equal(
            self.candidates[rows, self.answer], self.outfits.items[rows, self.blank]
        ):
            raise ValueError("a question's answer is not the item in its blank slot")

    def __len__(self) -> int:
        return len(self.outfits)

    def filled(self) -> Outfits:
        """(Q * K) outfits: every question with each candidate in the blank slot, question-major."""
        num_questions, num_candidates = self.candidates.shape
        items = np.repeat(self.outfits.items, num_candidates, axis=0)  # (Q*K, S)
        blank = np.repeat(self.blank, num_candidates)  # (Q*K,)
        items[np.arange(len(items)), blank] = self.candidates.reshape(num_questions * num_candidates)
        return Outfits(np.repeat(self.outfits.users, num_candidates), items)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset folder in memory (design section 3).

    Attributes:
        name: the data set's name, as results carry it.
        slots: the S slots of an outfit, in order.
        user_ids: M distinct ids.
        catalogue: the items.
        likes: the liked outfits of each split; "train" is always there.
        negatives: (split, kind) -> fixed negatives, the same for every method; may lack some.
        fitb: split -> questions; may lack some.
        text: (N, T) float32 text vectors that came with the source, or None.
        checksum: a hash of the tables; results and feature stores carry it.
        folder: where it was read from, or None for a data set made in memory.
    """

    name: str
    slots: tuple[Slot, ...]
    user_ids: tuple[str, ...]
    catalogue: Catalogue
    likes: Mapping[Split, Outfits]
    negatives: Mapping[tuple[Split, Kind], Outfits] = field(default_factory=dict)
    fitb: Mapping[Split, FitbQuestions] = field(default_factory=dict)
    text: NDArray[np.float32] | None = None
    checksum: str = ""
    folder: Path | None = None

    def __post_init__(self) -> None:
        if len(set(self.user_ids)) != len(self.user_ids):
            raise ValueError("the data set holds a user id twice")
        if self.text is not None and len(self.text) != len(self.catalogue):
            raise ValueError(f"{len(self.text)} text vectors for {len(self.catalogue)} items")
        questions = [question.outfits for question in self.fitb.values()]
        for outfits in [*self.likes.values(), *self.negatives.values(), *questions]:
            self._check_range(outfits)

    def _check_range(self, outfits: Outfits) -> None:
        if outfits.items.shape[1] != len(self.slots):
            raise ValueError(f"outfits of {outfits.items.shape[1]} slots in a data set of {len(self.slots)}")
        if not len(outfits):
            return
        if outfits.users.max() >= len(self.user_ids) or outfits.items.max() >= len(self.catalogue):
            raise ValueError("an outfit names a user or an item beyond the data set's")
        slot_categories = np.array([self.catalogue.categories.index(slot.category) for slot in self.slots])  # (S,)
        item_categories = self.catalogue.category_rows[outfits.items]  # (B, S), garbage where absent
        if (outfits.mask & (item_categories != slot_categories)).any():
            raise ValueError("an outfit wears an item in a slot of another category")

    @cached_property
    def user_row_of(self) -> dict[str, int]:
        """User id -> row."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    def user_row(self, user_id: str) -> int:
        """User id -> row. Raises UnknownIdError."""
        if user_id not in self.user_row_of:
            raise UnknownIdError(f"the data set {self.name!r} of {len(self.user_ids)} users has no user {user_id!r}")
        return self.user_row_of[user_id]

    def user_rows(self, user_ids: Sequence[str]) -> IntArray:
        """User ids -> (B,) rows. Raises UnknownIdError."""
        return np.array([self.user_row(user_id) for user_id in user_ids], dtype=np.int64)

    def split_items(self, split: Split) -> tuple[IntArray, ...]:
        """For each slot, the distinct item rows that the split's likes wear in a slot of that category, sorted.

        Random negatives of a split are drawn from these (decision D9), so that splits that share no item stay apart.
        """
        items = self.likes[split].items  # (B, S)
        pools = {}
        for slot in self.slots:
            columns = [index for index, other in enumerate(self.slots) if other.category == slot.category]
            worn = np.unique(items[:, columns])
            pools[slot.category] = worn[worn != ABSENT]
        return tuple(pools[slot.category] for slot in self.slots)

    def known_likes(self, splits: Iterable[Split] = ("train",)) -> set[tuple[int, ...]]:
        """{(user row, item rows...)}: every like of the given splits, for membership tests."""
        known: set[tuple[int, ...]] = set()
        for split in splits:
            if split in self.likes:
                outfits = self.likes[split]
                known.update(map(tuple, np.column_stack([outfits.users, outfits.items]).tolist()))
        return known
