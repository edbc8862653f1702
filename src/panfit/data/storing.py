"""The tables inside a dataset folder: nouns -> Parquet, some rows at a time (stored.py reads them back).

Imports the nouns only.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from panfit.data.stored import NEGATIVES, SCHEMAS
from panfit.outfits import ABSENT, SPLITS, Dataset, IntArray, Outfits

_STR = pa.string()

GROUP_ROWS = 1 << 20
"""Rows that are made and written at a time. Arrow's own groups: the file's bytes are those of a table written whole."""
_Cells = Callable[[slice], pa.Array]
"""A stretch of rows -> a column's cells there: texts take many times the memory of the rows they stand for."""


def write_table(dataset: Dataset, name: str, path: Path) -> None:
    """One of a data set's tables, in its schema above, as a Parquet file."""
    num_rows, columns = _columns_of(dataset, name)
    schema = SCHEMAS[name]
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, max(num_rows, 1), GROUP_ROWS):
            rows = slice(first, min(first + GROUP_ROWS, num_rows))
            writer.write_table(pa.table({column: cells(rows) for column, cells in columns.items()}, schema=schema))


def _columns_of(dataset: Dataset, name: str) -> tuple[int, dict[str, _Cells]]:
    """A table's rows, and its columns."""
    items, users = dataset.catalogue, dataset.user_ids
    if name == "items.parquet":
        texts = {"item_id": items.item_ids, "category": items.item_categories, "image": items.images}
        return len(items), {column: _texts(values) for column, values in {**texts, "title": items.titles}.items()}
    if name == "users.parquet":
        return len(users), {"user_id": _texts(users)}
    if name == "outfits.parquet":
        likes = [(split, dataset.likes[split]) for split in SPLITS if split in dataset.likes]
        outfits = _joined([part for _, part in likes], len(dataset.slots))
        return len(outfits), {
            "outfit_id": lambda rows: pa.array([f"o{row}" for row in range(rows.start, rows.stop)], _STR),
            **_outfit_columns(outfits, dataset),
            "split": _labels([(split, len(part)) for split, part in likes]),
        }
    if name == "negatives.parquet":
        negatives = [(key, dataset.negatives[key]) for key in NEGATIVES if key in dataset.negatives]
        outfits = _joined([part for _, part in negatives], len(dataset.slots))
        return len(outfits), {
            **_outfit_columns(outfits, dataset),
            "split": _labels([(split, len(part)) for (split, _), part in negatives]),
            "kind": _labels([(kind, len(part)) for (_, kind), part in negatives]),
        }
    fitb = [(split, dataset.fitb[split]) for split in SPLITS if split in dataset.fitb]
    outfits = _joined([questions.outfits for _, questions in fitb], len(dataset.slots))
    nothing = np.zeros(0, dtype=np.int64)
    blank = np.concatenate([nothing, *(questions.blank for _, questions in fitb)])  # (Q,)
    answer = np.concatenate([nothing, *(questions.answer for _, questions in fitb)])  # (Q,)
    width = fitb[0][1].candidates.shape[1] if fitb else 0
    candidates = np.concatenate([nothing.reshape(0, width), *(questions.candidates for _, questions in fitb)])  # (Q, K)
    return len(outfits), {
        "question": lambda rows: pa.array(np.arange(rows.start, rows.stop), pa.int64()),
        **_outfit_columns(outfits, dataset),
        "blank": _taken(blank, [slot.name for slot in dataset.slots]),
        "candidates": _id_lists(candidates, items.item_ids),
        "answer": lambda rows: pa.array(answer[rows], pa.int64()),
        "split": _labels([(split, len(questions)) for split, questions in fitb]),
    }


def _joined(parts: Sequence[Outfits], width: int) -> Outfits:
    users = np.concatenate([np.zeros(0, np.int64), *(part.users for part in parts)])
    return Outfits(users, np.concatenate([np.zeros((0, width), np.int64), *(part.items for part in parts)]))


def _outfit_columns(outfits: Outfits, dataset: Dataset) -> dict[str, _Cells]:
    return {
        "user_id": _taken(outfits.users, dataset.user_ids),
        "items": _id_lists(outfits.items, dataset.catalogue.item_ids),
    }


def _texts(values: Sequence[str | None]) -> _Cells:
    return lambda rows: pa.array(values[rows], _STR)


def _taken(places: IntArray, values: Sequence[str]) -> _Cells:
    """(B,) places -> what of ``values`` stands there."""
    texts = pa.array(values, _STR)
    return lambda rows: texts.take(pa.array(places[rows], pa.int64()))


def _id_lists(places: IntArray, ids: Sequence[str]) -> _Cells:
    """(B, S) rows of ids -> B lists of S ids; ABSENT -> null."""
    texts = pa.array(ids, _STR)

    def cells(rows: slice) -> pa.Array:
        part = places[rows]  # (b, S)
        flat = part.reshape(-1)
        values = texts.take(pa.array(flat, pa.int64(), mask=flat == ABSENT))
        offsets = np.arange(len(part) + 1, dtype=np.int32) * part.shape[1]
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)

    return cells


def _labels(runs: Sequence[tuple[str, int]]) -> _Cells:
    """Labels, each so many times."""
    return _taken(np.repeat(np.arange(len(runs)), [count for _, count in runs]), [label for label, _ in runs])
