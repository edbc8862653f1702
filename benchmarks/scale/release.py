"""A release of Polyvore-630's form and size, or a part or a multiple of it: the files that `panfit import` takes.

Counts are those of the released set (its authors' training logs): 630 users; 127,326, 12,565 and 23,054 likes; in the
likes of each split, so many different tops, bottoms and shoes, 237,463 items in all, every one of them worn. Splits
share no item. Each like of val and test has ten random and ten hard negatives; each like of test a question of four
candidates; val's questions are drawn by the import, as for the released set. Who likes what is chance.
"""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from panfit.files import write_aside

CATEGORIES = ("top", "bottom", "shoe")
SPLITS = ("train", "val", "test")
USERS = 630
LIKES = {"train": 127_326, "val": 12_565, "test": 23_054}
WORN = {
    "train": (66_556, 44_482, 48_691),
    "val": (11_250, 10_460, 10_519),
    "test": (18_472, 13_449, 13_584),
}
"""Different tops, bottoms and shoes in a split's likes: 159,729, 32,229 and 45,505."""
NEGATIVES, CANDIDATES = 10, 4
FEWEST_USERS, FEWEST_ITEMS = 4, 6
"""What a small part does not fall below: users, and items of a category in a split."""
DISTINCT_VECTORS = 512
"""Different text vectors; items share them."""
MARK = "release.json"

IntArray = NDArray[np.int64]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Size:
    """Counts of a release."""

    users: int
    likes: dict[str, int]
    worn: dict[str, tuple[int, int, int]]

    @classmethod
    def scaled(cls, scale: float) -> "Size":
        """So many times Polyvore-630; at 1, just that."""

        def times(count: int, fewest: int) -> int:
            return max(fewest, round(count * scale))

        users = times(USERS, FEWEST_USERS)
        likes = {split: times(count, users) for split, count in LIKES.items()}
        worn = {}
        for split, counts in WORN.items():
            tops, bottoms, shoes = (min(times(count, FEWEST_ITEMS), likes[split]) for count in counts)
            worn[split] = (tops, bottoms, shoes)
        return cls(users, likes, worn)

    @property
    def items(self) -> tuple[int, int, int]:
        """Tops, bottoms and shoes in all."""
        tops, bottoms, shoes = (sum(counts) for counts in zip(*self.worn.values(), strict=True))
        return tops, bottoms, shoes

    def told(self) -> dict[str, int]:
        """For a result file."""
        return {"users": self.users, **{f"{split}_likes": self.likes[split] for split in SPLITS},
                "items": sum(self.items)}  # fmt: skip


def write_release(root: Path, size: Size, *, seed: int, text_dim: int = 0) -> None:
    """Write ROOT/tuples_630 and, with a text_dim, ROOT/sentence_vector; left as it is where just this is there."""
    told = json.dumps({"size": [size.users, size.likes, size.worn], "seed": seed, "text_dim": text_dim})
    mark = root / MARK
    if mark.exists() and mark.read_text("utf-8") == told:
        return
    folder = root / "tuples_630"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    places = [rng.permutation(count) for count in size.items]  # (n,) each: where a category's items stand in its list
    names = [_names(category, count) for category, count in zip(CATEGORIES, size.items, strict=True)]
    for category, listed in zip(CATEGORIES, names, strict=True):
        (folder / f"image_list_{category}").write_text("\n".join(listed) + "\n", "utf-8")
    first = [0, 0, 0]
    for split in SPLITS:
        pools = [place[start:][:count] for place, start, count in zip(places, first, size.worn[split], strict=True)]
        first = [start + count for start, count in zip(first, size.worn[split], strict=True)]
        likes = draw_likes(size.users, size.likes[split], pools, rng)  # (B, 1 + S)
        _write(folder / f"tuples_{split}_posi", likes)
        if split == "train":
            continue
        known = np.sort(_keys(likes))
        _write(folder / f"tuples_{split}_nega", draw_random(likes, pools, known, rng))
        _write(folder / f"tuples_{split}_nega_hard", draw_hard(likes, known, rng))
        if split == "test":
            _write(folder / "fill_in_blank_test", draw_questions(likes, pools, known, rng))
    if text_dim:
        _write_vectors(root / "sentence_vector" / "semantic.pkl", [each for listed in names for each in listed],
                       text_dim, rng)  # fmt: skip
    write_aside(mark, told)  # last: without it, it is written again


def draw_likes(users: int, count: int, pools: list[IntArray], rng: np.random.Generator) -> IntArray:
    """(B, 1 + S) users and items: every user and every item of the pools at least once, no like twice."""
    rows = np.empty((count, 1 + len(pools)), dtype=np.int64)
    rows[:, 0] = np.sort(_each(np.arange(users), count, rng))
    for slot, pool in enumerate(pools, start=1):
        rows[:, slot] = _each(pool, count, rng)
    while True:
        _, first = np.unique(_keys(rows), return_index=True)
        if len(first) == count:
            return rows
        twice = np.setdiff1d(np.arange(count), first)  # they exchange their first item with any other like's
        for row, other in zip(twice, rng.integers(count, size=len(twice)), strict=True):
            rows[[row, other], 1] = rows[[other, row], 1]


def _each(values: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """(count,) values in random order, each at least once."""
    more = values[rng.integers(len(values), size=count - len(values))]
    return rng.permutation(np.concatenate([values, more]))


def draw_random(
    likes: IntArray, pools: list[IntArray], known: NDArray[np.uint64], rng: np.random.Generator
) -> IntArray:
    """(B * 10, 1 + S) outfits of any items of the pools that their users do not like."""
    users = np.repeat(likes[:, 0], NEGATIVES)

    def draw(rows: IntArray) -> IntArray:
        return np.column_stack([users[rows], *(pool[rng.integers(len(pool), size=len(rows))] for pool in pools)])

    return _until_unknown(draw, len(users), known)


def draw_hard(likes: IntArray, known: NDArray[np.uint64], rng: np.random.Generator) -> IntArray:
    """(B * 10, 1 + S) likes of others."""
    users = np.repeat(likes[:, 0], NEGATIVES)

    def draw(rows: IntArray) -> IntArray:
        return np.column_stack([users[rows], likes[rng.integers(len(likes), size=len(rows)), 1:]])

    return _until_unknown(draw, len(users), known)


def draw_questions(
    likes: IntArray, pools: list[IntArray], known: NDArray[np.uint64], rng: np.random.Generator
) -> IntArray:
    """(B, K * (1 + S)) questions: the like, and three times the like with another item in one slot."""
    outfits = np.repeat(likes[:, None], CANDIDATES, axis=1)  # (B, K, 1 + S)
    blank = rng.integers(len(pools), size=len(likes))  # (B,)
    for slot, pool in enumerate(pools):
        rows = np.flatnonzero(blank == slot)
        while len(rows):
            drawn = pool[rng.integers(len(pool), size=(len(rows), CANDIDATES - 1))]  # (b, K - 1)
            outfits[rows, 1:, 1 + slot] = drawn
            again = np.sort(outfits[rows, :, 1 + slot], axis=1)  # (b, K)
            is_bad = (again[:, 1:] == again[:, :-1]).any(axis=1)
            is_bad |= _among(outfits[rows, 1:].reshape(-1, outfits.shape[2]), known).reshape(len(rows), -1).any(axis=1)
            rows = rows[is_bad]
    return outfits.reshape(len(likes), -1)


def _until_unknown(draw: Callable[[IntArray], IntArray], count: int, known: NDArray[np.uint64]) -> IntArray:
    drawn = draw(np.arange(count))
    rows = np.flatnonzero(_among(drawn, known))
    while len(rows):
        drawn[rows] = draw(rows)
        rows = rows[_among(drawn[rows], known)]
    return drawn


def _keys(rows: IntArray) -> NDArray[np.uint64]:
    """(B,) 64-bit hashes of rows (B, C)."""
    keys: NDArray[np.uint64] = rows[:, 0].astype(np.uint64)
    for column in rows.T[1:]:
        keys = (keys ^ (keys >> np.uint64(29))) * _FACTOR + column.astype(np.uint64)
    return keys


def _among(rows: IntArray, known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(B,) True where a row is one of those whose sorted hashes are ``known``."""
    keys = _keys(rows)
    found: NDArray[np.bool_] = known[np.searchsorted(known, keys).clip(max=len(known) - 1)] == keys
    return found


def _names(category: str, count: int) -> list[str]:
    """Photo names, as long as the released ones."""
    return [f"{category}{row:027x}.jpg" for row in range(count)]


def _write(path: Path, rows: IntArray) -> None:
    """A released table: a header that repeats for each outfit of a row, then integers."""
    columns = ["user", *CATEGORIES]
    with path.open("wb") as file:
        file.write((",".join(columns * (rows.shape[1] // len(columns))) + "\n").encode())
        table = pa.table({str(place): column for place, column in enumerate(rows.T)})
        csv.write_csv(table, file, csv.WriteOptions(include_header=False))


def _write_vectors(path: Path, names: list[str], dim: int, rng: np.random.Generator) -> None:
    """{photo name: (dim,) float32}, pickled, as the released file is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    few = rng.random((DISTINCT_VECTORS, dim), dtype=np.float32)
    vectors = {name: few[row % DISTINCT_VECTORS] for row, name in enumerate(names)}  # views, each pickled whole
    with path.open("wb") as file:
        pickle.dump(vectors, file, protocol=4)
