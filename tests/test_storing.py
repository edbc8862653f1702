"""A data set's tables: in any number of groups they say the same; in Arrow's own, the bytes are the plain writing's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from panfit.data import storing
from panfit.data.folder import read_dataset, write_dataset
from panfit.data.splits import complete
from panfit.data.stored import SCHEMAS
from panfit.outfits import ABSENT, KINDS, SPLITS, Dataset, Outfits


@pytest.fixture
def dataset(tiny_dataset: Dataset) -> Dataset:
    """Completed; some slots are empty."""
    items = tiny_dataset.likes["train"].items.copy()
    items[::3, 1] = ABSENT
    likes = {**tiny_dataset.likes, "train": Outfits(tiny_dataset.likes["train"].users, items)}
    return complete(replace(tiny_dataset, likes=likes), seed=2)


def plain_rows(dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """Every table, row by row."""
    catalogue, slots = dataset.catalogue, dataset.slots

    def worn(outfits: Outfits) -> list[dict[str, Any]]:
        pairs = zip(outfits.users.tolist(), outfits.items.tolist(), strict=True)
        return [{"user_id": dataset.user_ids[user], "items": list(catalogue.ids(items))} for user, items in pairs]

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    columns = zip(catalogue.item_ids, catalogue.item_categories, catalogue.images, catalogue.titles, strict=True)
    rows["items.parquet"] = [dict(zip(("item_id", "category", "image", "title"), row, strict=True)) for row in columns]
    rows["users.parquet"] = [{"user_id": user} for user in dataset.user_ids]
    for split in SPLITS:
        for outfit in worn(dataset.likes[split]) if split in dataset.likes else []:
            number = len(rows["outfits.parquet"])
            rows["outfits.parquet"].append({"outfit_id": f"o{number}", **outfit, "split": split})
        for kind in KINDS:
            for outfit in worn(dataset.negatives[split, kind]) if (split, kind) in dataset.negatives else []:
                rows["negatives.parquet"].append({**outfit, "split": split, "kind": kind})
        questions = dataset.fitb.get(split)
        for place, outfit in enumerate(worn(questions.outfits) if questions is not None else []):
            assert questions is not None
            asked = {
                "question": len(rows["fitb.parquet"]),
                "blank": slots[questions.blank[place]].name,
                "candidates": list(catalogue.ids(questions.candidates[place].tolist())),
                "answer": int(questions.answer[place]),
            }
            rows["fitb.parquet"].append({**outfit, **asked, "split": split})
    return rows


@pytest.mark.parametrize("is_bare", [False, True])
def test_the_bytes_are_those_of_tables_written_whole(dataset: Dataset, tmp_path: Path, is_bare: bool) -> None:
    """A data set's checksum is of its files: other bytes would make every old result one of another data set."""
    if is_bare:
        dataset = replace(dataset, negatives={}, fitb={})
    for name, rows in plain_rows(dataset).items():
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[name]), tmp_path / "plain", compression="zstd")
        storing.write_table(dataset, name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "plain").read_bytes(), name


def test_many_groups_say_what_one_says(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "GROUP_ROWS", 13)
    folder = write_dataset(dataset, tmp_path / "set", source="")
    assert pq.ParquetFile(folder / "negatives.parquet").num_row_groups > 5
    read = read_dataset(folder)
    for split, outfits in dataset.likes.items():
        assert np.array_equal(read.likes[split].items, outfits.items)
    for key, outfits in dataset.negatives.items():
        assert np.array_equal(read.negatives[key].users, outfits.users)
        assert np.array_equal(read.negatives[key].items, outfits.items)
    for split, questions in dataset.fitb.items():
        assert np.array_equal(read.fitb[split].candidates, questions.candidates)
        assert np.array_equal(read.fitb[split].blank, questions.blank)
