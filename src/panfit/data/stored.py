"""The tables inside a dataset folder: Parquet -> nouns, by whole columns, with every problem and its row.

Row numbers of Parquet tables count from 1. Imports the nouns only.
"""

from collections.abc import Mapping, Sequence
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
    FitbQuestions,
    IntArray,
    Kind,
    Outfits,
    Slot,
    Split,
)

_STR = pa.string()
_IDS = pa.list_(_STR)
_NUMBERS = pa.list_(pa.dictionary(pa.int32(), _STR))
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
NEGATIVES: tuple[tuple[Split, Kind], ...] = tuple((split, kind) for split in SPLITS for kind in KINDS)
"""The order in which a folder stores negatives."""


def load_table(folder: Path, name: str, problems: list[Problem]) -> pa.Table | None:
    """One Parquet file in its schema, or None with the problems told. Columns whose texts come again and again, in all
    but the tables of items and users, hold numbers of texts instead (Arrow's dictionaries)."""
    path = folder / name
    try:
        with pq.ParquetFile(path) as file:  # read_table would import pandas, where it is installed
            groups = (file.read_row_group(group) for group in range(file.num_row_groups))
            if name not in ("items.parquet", "users.parquet"):
                groups = (_numbered(group) for group in groups)  # before the next: the texts take many times the room
            table = pa.concat_tables([*groups]) if file.num_row_groups else file.read()
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
        columns = [_in_type(table[column], schema.field(column).type) for column in schema.names]
    except (pa.ArrowException, ValueError) as error:
        problems.append(Problem(str(path), f"columns of other types ({error})", str(schema), REMEDY))
        return None
    return pa.table(columns, names=schema.names)


def _numbered(table: pa.Table) -> pa.Table:
    """The same with all texts, alone or in lists, by number; but for ids that come once each."""
    for place, name in enumerate(table.column_names):
        column = table[name]
        if pa.types.is_string(column.type) and name != "outfit_id":
            table = table.set_column(place, name, column.dictionary_encode())
        elif column.type == _IDS:
            table = table.set_column(
                place, name, pa.chunked_array([_lists(chunk) for chunk in column.chunks], _NUMBERS)
            )
    return table


def _lists(lists: pa.ListArray) -> pa.ListArray:
    """Lists of texts -> lists of their numbers."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()  # (b,)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])  # (b + 1,)
    values = lists.flatten().dictionary_encode()
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=lists.is_null())


def _in_type(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """A column as it is, where it holds texts by number, else in its type."""
    found = column.type
    inner, wanted_inner = (kind.value_type if pa.types.is_list(kind) else kind for kind in (found, wanted))
    is_numbered = pa.types.is_dictionary(inner) and pa.types.is_list(found) == pa.types.is_list(wanted)
    return column if is_numbered and inner.value_type == wanted_inner else column.cast(wanted)


@dataclass
class TableReader:
    """Maps the columns of the outfit tables to rows, collecting what does not fit in ``problems``."""

    slots: tuple[Slot, ...]
    user_ids: tuple[str, ...]
    catalogue: Catalogue
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._user_ids, self._item_ids = pa.array(self.user_ids, _STR), pa.array(self.catalogue.item_ids, _STR)

    def tell(self, path: Path, bad: NDArray[np.bool_], found: Any, wanted: str) -> None:
        """One problem for each row where ``bad`` is True; ``found`` is a text, or one value a row."""
        for row in np.flatnonzero(bad):
            what = found if isinstance(found, str) else repr(found[int(row)].as_py())
            self.problems.append(Problem(str(path), what, wanted, REMEDY, row=int(row) + 1))

    def outfits(self, path: Path, table: pa.Table) -> Outfits | None:
        """The user_id and items columns as rows; None where any row is bad."""
        told = len(self.problems)
        users = _index(table["user_id"], self._user_ids)
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
        rows = _index(values, self._item_ids).reshape(len(lists), width)
        self.tell(path, np.asarray((rows < ABSENT).any(axis=1), dtype=np.bool_), lists, "items of items.parquet")
        return rows if len(self.problems) == told else None

    def labels(self, path: Path, column: pa.ChunkedArray, allowed: Sequence[str]) -> IntArray:
        """A column of names -> index into ``allowed``; what is not there is told."""
        index = _index(column, pa.array(allowed, _STR))
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
            for split, kind in NEGATIVES
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


def _index(column: pa.ChunkedArray, values: pa.Array) -> IntArray:
    """(B,) index of each text in ``values``; ABSENT for null, -2 for what is not there."""
    if not pa.types.is_dictionary(column.type):
        found = pc.fill_null(pc.index_in(column, value_set=values), -2).to_numpy().astype(np.int64)
        return np.where(pc.is_null(column).to_numpy(), ABSENT, found)
    texts = [pa.array([], _STR), *(chunk.dictionary for chunk in column.chunks)]  # looked up once for all chunks
    index = pc.fill_null(pc.index_in(pa.concat_arrays(texts), value_set=values), -2).to_numpy().astype(np.int64)
    parts, first = [np.zeros(0, dtype=np.int64)], 0
    for chunk in column.chunks:
        number = pc.fill_null(chunk.indices, ABSENT).to_numpy()  # (b,)
        own = np.append(index[first : first + len(chunk.dictionary)], ABSENT)  # the last: of null
        parts.append(own[number])
        first += len(chunk.dictionary)
    return np.concatenate(parts)
