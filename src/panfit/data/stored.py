"""The tables inside a dataset folder: nouns -> Parquet -> nouns, by whole columns, with every problem and its row.

Row numbers of Parquet tables count from 1. Imports the nouns only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from panfit.errors import Problem
from panfit.outfits import (
    ABSENT,
    KINDS,
    SPLITS,
    Catalogue,
    Dataset,
    FitbQuestions,
    IntArray,
    Kind,
    Outfits,
    Slot,
    Split,
)

_STR = pa.string()
_IDS = pa.list_(_STR)
SCHEMAS: dict[str, pa.Schema] = {
    "items.parquet": pa.schema([("item_id", _STR), ("category", _STR), ("image", _STR), ("title", _STR)]),
    "users.parquet": pa.schema([("user_id", _STR)]),
    "outfits.parquet": pa.schema([("outfit_id", _STR), ("user_id", _STR), ("items", _IDS), ("split", _STR)]),
    "negatives.parquet": pa.schema([("user_id", _STR), ("items", _IDS), ("split", _STR), ("kind", _STR)]),
    "fitb.parquet": pa.schema(
        [
            ("question", pa.int64()),
            ("user_id", _STR),
            ("items", _IDS),
            ("blank", _STR),
            ("candidates", _IDS),
            ("answer", pa.int64()),
            ("split", _STR),
        ]
    ),
}
"""File -> columns. Every file is always there, if only with its header."""

REMEDY = "Import the data set again."


# ---- nouns -> tables


def tables_of(dataset: Dataset) -> dict[str, pa.Table]:
    """Dataset -> {file: table}, in the schemas above."""
    return {name: pa.table(columns, schema=SCHEMAS[name]) for name, columns in _columns_of(dataset).items()}


def _columns_of(dataset: Dataset) -> dict[str, dict[str, Any]]:
    items = dataset.catalogue
    item_ids = pa.array(items.item_ids, _STR)
    user_ids = pa.array(dataset.user_ids, _STR)
    likes = [(split, dataset.likes[split]) for split in SPLITS if split in dataset.likes]
    negatives = [(key, dataset.negatives[key]) for key in _pairs() if key in dataset.negatives]
    fitb = [(split, dataset.fitb[split]) for split in SPLITS if split in dataset.fitb]
    width = len(dataset.slots)
    num_likes = sum(len(outfits) for _, outfits in likes)
    questions = [question for _, question in fitb]
    names = np.array([slot.name for slot in dataset.slots], dtype=object)
    return {
        "items.parquet": {
            "item_id": item_ids,
            "category": pa.array(items.item_categories, _STR),
            "image": pa.array(items.images, _STR),
            "title": pa.array(items.titles, _STR),
        },
        "users.parquet": {"user_id": user_ids},
        "outfits.parquet": {
            "outfit_id": pa.array([f"o{row}" for row in range(num_likes)], _STR),
            **_outfit_columns([outfits for _, outfits in likes], user_ids, item_ids, width),
            "split": _labels((split, len(outfits)) for split, outfits in likes),
        },
        "negatives.parquet": {
            **_outfit_columns([outfits for _, outfits in negatives], user_ids, item_ids, width),
            "split": _labels((split, len(outfits)) for (split, _), outfits in negatives),
            "kind": _labels((kind, len(outfits)) for (_, kind), outfits in negatives),
        },
        "fitb.parquet": {
            "question": pa.array(range(sum(map(len, questions))), pa.int64()),
            **_outfit_columns([question.outfits for question in questions], user_ids, item_ids, width),
            "blank": pa.array([name for question in questions for name in names[question.blank]], _STR),
            "candidates": _join([_id_lists(question.candidates, item_ids) for question in questions], _IDS),
            "answer": _join([pa.array(question.answer, pa.int64()) for question in questions], pa.int64()),
            "split": _labels((split, len(question)) for split, question in fitb),
        },
    }


def _pairs() -> list[tuple[Split, Kind]]:
    return [(split, kind) for split in SPLITS for kind in KINDS]


def _outfit_columns(parts: Sequence[Outfits], user_ids: pa.Array, item_ids: pa.Array, width: int) -> dict[str, Any]:
    users = np.concatenate([np.zeros(0, np.int64), *(part.users for part in parts)])
    items = np.concatenate([np.zeros((0, width), np.int64), *(part.items for part in parts)])
    return {"user_id": user_ids.take(pa.array(users, pa.int64())), "items": _id_lists(items, item_ids)}


def _id_lists(rows: IntArray, ids: pa.Array) -> pa.Array:
    """(B, S) rows -> B lists of S ids; ABSENT -> null."""
    flat = rows.reshape(-1)
    values = ids.take(pa.array(flat, pa.int64(), mask=flat == ABSENT))
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _labels(runs: Iterable[tuple[str, int]]) -> pa.Array:
    return _join([pa.repeat(pa.scalar(label, _STR), count) for label, count in runs], _STR)


def _join(parts: Sequence[pa.Array], kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays(parts) if parts else pa.array([], kind)


# ---- tables -> nouns


def load_table(folder: Path, name: str, problems: list[Problem]) -> pa.Table | None:
    """One Parquet file in its schema, or None with the problems told."""
    path = folder / name
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        problems.append(Problem(str(path), f"an unreadable file ({error})", "a Parquet table", REMEDY))
        return None
    schema = SCHEMAS[name]
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        wanted = f"the columns {', '.join(schema.names)}"
        problems.append(Problem(str(path), f"only the columns {', '.join(table.column_names)}", wanted, REMEDY))
        return None
    try:
        return table.select(schema.names).cast(schema).combine_chunks()
    except (pa.ArrowException, ValueError) as error:
        problems.append(Problem(str(path), f"columns of other types ({error})", str(schema), REMEDY))
        return None


@dataclass
class TableReader:
    """Maps the columns of the outfit tables to rows, collecting what does not fit in ``problems``."""

    slots: tuple[Slot, ...]
    user_ids: tuple[str, ...]
    catalogue: Catalogue
    problems: list[Problem] = field(default_factory=list)

    def tell(self, path: Path, bad: NDArray[np.bool_], found: Any, wanted: str) -> None:
        """One problem for each row where ``bad`` is True; ``found`` is a text, or one value a row."""
        for row in np.flatnonzero(bad):
            what = found if isinstance(found, str) else repr(found[int(row)].as_py())
            self.problems.append(Problem(str(path), what, wanted, REMEDY, row=int(row) + 1))

    def outfits(self, path: Path, table: pa.Table) -> Outfits | None:
        """The user_id and items columns as rows; None where any row is bad."""
        told = len(self.problems)
        users = _index(table["user_id"], self.user_ids)
        self.tell(path, users < 0, table["user_id"], "a user of users.parquet")
        items = self._matrix(path, table["items"], len(self.slots))
        if items is None:
            return None
        empty: NDArray[np.bool_] = np.asarray((items == ABSENT).all(axis=1), dtype=np.bool_)
        self.tell(path, empty, "an outfit without any item", "at least one item")
        categories = self.catalogue.category_rows
        place = np.array([self.catalogue.categories.index(slot.category) for slot in self.slots])  # (S,)
        wrong = (items >= 0) & (categories[np.maximum(items, 0)] != place) if len(categories) else items >= 0
        for slot, column in zip(self.slots, wrong.T, strict=True):
            wanted = f"an item of category {slot.category!r} in slot {slot.name!r}"
            self.tell(path, column, table["items"], wanted)
        return Outfits(users, items) if len(self.problems) == told else None

    def _matrix(self, path: Path, lists: pa.ChunkedArray, width: int) -> IntArray | None:
        """A column of id lists -> (B, width) item rows, or None with the problems told."""
        told = len(self.problems)
        lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
        self.tell(path, np.asarray(lengths != width, dtype=np.bool_), lists, f"{width} item ids")
        if len(self.problems) != told:
            return None
        values = pc.list_flatten(lists)
        rows = _index(values, self.catalogue.item_ids).reshape(len(lists), width)
        self.tell(path, np.asarray((rows < ABSENT).any(axis=1), dtype=np.bool_), lists, "items of items.parquet")
        return rows if len(self.problems) == told else None

    def labels(self, path: Path, column: pa.ChunkedArray, allowed: Sequence[str]) -> IntArray:
        """A column of names -> index into ``allowed``; what is not there is told."""
        index = _index(column, allowed)
        self.tell(path, index < 0, column, f"one of {', '.join(allowed)}")
        return index

    def likes(self, path: Path, table: pa.Table) -> dict[Split, Outfits]:
        outfits = self.outfits(path, table)
        splits = self.labels(path, table["split"], SPLITS)
        if outfits is None:
            return {}
        found = {split: outfits.take(splits == index) for index, split in enumerate(SPLITS)}
        return {split: part for split, part in found.items() if len(part) or split == "train"}

    def negatives(self, path: Path, table: pa.Table) -> dict[tuple[Split, Kind], Outfits]:
        outfits = self.outfits(path, table)
        splits = self.labels(path, table["split"], SPLITS)
        kinds = self.labels(path, table["kind"], KINDS)
        if outfits is None:
            return {}
        found = {
            (split, kind): outfits.take((splits == SPLITS.index(split)) & (kinds == KINDS.index(kind)))
            for split, kind in _pairs()
        }
        return {key: part for key, part in found.items() if len(part)}

    def fitb(self, path: Path, table: pa.Table) -> dict[Split, FitbQuestions]:
        if not len(table):
            return {}
        told = len(self.problems)
        outfits = self.outfits(path, table)
        splits = self.labels(path, table["split"], SPLITS)
        blank = self.labels(path, table["blank"], [slot.name for slot in self.slots])
        width = pc.max(pc.list_value_length(table["candidates"])).as_py() or 0
        candidates = self._matrix(path, table["candidates"], width)
        answer = pc.fill_null(table["answer"], -1).to_numpy()
        self.tell(path, (answer < 0) | (answer >= width), table["answer"], f"a candidate's place, 0 to {width - 1}")
        if outfits is None or candidates is None or len(self.problems) != told:
            return {}
        rows = np.arange(len(table))
        untrue = candidates[rows, answer] != outfits.items[rows, blank]
        self.tell(path, untrue, table["candidates"], "the item in the blank slot at the answer's place")
        self.tell(path, (candidates == ABSENT).any(axis=1), table["candidates"], "an item for each candidate")
        if len(self.problems) != told:
            return {}
        found: Mapping[Split, NDArray[np.bool_]] = {split: splits == index for index, split in enumerate(SPLITS)}
        return {
            split: FitbQuestions(outfits.take(part), blank[part], candidates[part], answer[part])
            for split, part in found.items()
            if part.any()
        }


def _index(column: pa.ChunkedArray, values: Sequence[str]) -> IntArray:
    """(B,) index of each text in ``values``; ABSENT for null, -2 for what is not there."""
    index = pc.fill_null(pc.index_in(column, value_set=pa.array(values, _STR)), -2).to_numpy().astype(np.int64)
    return np.where(pc.is_null(column).to_numpy(), ABSENT, index)
