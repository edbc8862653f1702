"""`check_dataset`: every problem of a stored data set, its photos decoded whole."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panfit.data.check import CheckReport, check_dataset
from panfit.data.folder import write_dataset
from panfit.data.table import import_table
from panfit.outfits import Dataset, Outfits, Split
from tests.shop import make_shop


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return import_table(make_shop(tmp_path / "shop")).dataset


def check(dataset: Dataset, tmp_path: Path) -> CheckReport:
    return check_dataset(write_dataset(dataset, tmp_path / "set", source=""))


def told(report: CheckReport) -> list[tuple[str, int | None, str]]:
    assert all(problem.wanted and problem.remedy for problem in report.problems)
    return [(Path(problem.file).name, problem.row, problem.found) for problem in report.problems]


def with_likes(dataset: Dataset, split: Split, change: Callable[[Outfits], Outfits]) -> Dataset:
    return replace(dataset, likes={**dataset.likes, split: change(dataset.likes[split])})


def test_a_good_data_set(dataset: Dataset, tmp_path: Path) -> None:
    seen: list[int] = []
    report = check_dataset(write_dataset(dataset, tmp_path / "set", source=""), progress=seen.append)
    assert told(report) == []
    assert report.notes == ()
    assert seen == list(range(1, 19))
    summary = json.loads(json.dumps(report.summary))
    assert summary["items"] == {"top": 7, "bottom": 6, "shoe": 5}
    assert summary["likes"] == {"train": 20, "val": 8, "test": 12}
    assert summary["negatives"]["test hard"] == 120
    assert summary["photos"] == summary["titles"] == 18
    assert summary["slots"] == {"top": "top", "bottom": "bottom", "shoe": "shoe"}
    train = set(dataset.likes["train"].items.ravel().tolist())
    test = set(dataset.likes["test"].items.ravel().tolist())
    assert summary["items_of_train_again_in"]["test"] == len(train & test)


def test_a_damaged_folder(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_dataset(dataset, tmp_path / "set", source="")
    (folder / "items.parquet").write_bytes(b"")
    report = check_dataset(folder)
    assert [(file, row) for file, row, _ in told(report)] == [("items.parquet", None)]
    assert report.summary == {}


def test_photos_are_decoded_whole(dataset: Dataset, tmp_path: Path) -> None:
    """A hole in the middle of a PNG, whose beginning and end are as they should be, and three plainer faults."""
    images = tmp_path / "shop" / "images"
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "top-0.png")
    data = (images / "top-0.png").read_bytes()
    (images / "top-0.png").write_bytes(data[: len(data) // 2] + data[-20:])
    import_table(tmp_path / "shop")  # which looks quickly, sees nothing
    (images / "top-1.jpg").write_bytes((images / "top-1.jpg").read_bytes()[:300])
    (images / "bottom-2.jpg").unlink()
    (images / "shoe-4.jpg").write_text("no photo")
    assert [(file, row) for file, row, _ in told(check(dataset, tmp_path))] == [
        ("items.parquet", 1),
        ("items.parquet", 2),
        ("items.parquet", 10),
        ("items.parquet", 18),
    ]


def test_a_photo_folder_that_is_gone(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "shop" / "images").rename(tmp_path / "images")
    assert len(check(dataset, tmp_path).problems) == 18
    (tmp_path / "shop").rename(tmp_path / "moved")
    ((file, _, found),) = told(check_dataset(tmp_path / "set"))
    assert file == "items.parquet"
    assert found == f"no photo folder {tmp_path / 'shop'}"


def test_items_without_photos_are_noted(tiny_dataset: Dataset, tmp_path: Path) -> None:
    report = check(tiny_dataset, tmp_path)
    assert "72 of 72 items without a photo" in [note.found for note in report.notes]


def test_users_without_train_likes(dataset: Dataset, tmp_path: Path) -> None:
    changed = with_likes(dataset, "train", lambda likes: likes.take(likes.users != 2))
    report = check(changed, tmp_path)
    assert told(report) == [("outfits.parquet", 20, "a val like of user 'u3', who has no train likes")]


def test_a_like_that_is_there_twice(dataset: Dataset, tmp_path: Path) -> None:
    again = dataset.likes["train"].take(np.array([4]))
    changed = with_likes(
        dataset,
        "val",
        lambda likes: Outfits(np.r_[likes.users, again.users], np.concatenate([likes.items, again.items])),
    )
    assert told(check(changed, tmp_path)) == [("outfits.parquet", 29, "the like of row 5 again")]


def test_splits_without_likes_or_negatives(dataset: Dataset, tmp_path: Path) -> None:
    likes: dict[Split, Outfits] = {split: outfits for split, outfits in dataset.likes.items() if split != "val"}
    negatives = {key: dataset.negatives[key] for key in dataset.negatives if key[0] == "val"}
    report = check(replace(dataset, likes=likes, negatives=negatives, fitb={}), tmp_path)
    found = [problem.found for problem in report.problems]
    assert "no likes in split val" in found
    assert "no random negatives for test" in found
    assert "val random negatives of user 'u1', who has no likes there" in found
    assert [note.found for note in report.notes] == ["no hard negatives for test", "no questions for test"]


def test_negatives_of_some_users_only(dataset: Dataset, tmp_path: Path) -> None:
    outfits = dataset.negatives["val", "random"]
    negatives = {**dataset.negatives, ("val", "random"): outfits.take(outfits.users != 1)}
    report = check(replace(dataset, negatives=negatives), tmp_path)
    assert told(report) == [("negatives.parquet", None, "no val random negatives of user 'u2'")]


@pytest.mark.parametrize(("count", "refused"), [(1, False), (2, True)])
def test_negatives_that_are_likes(dataset: Dataset, tmp_path: Path, count: int, refused: bool) -> None:
    """One of 121 (less than 1 %) is label noise; two are told as a problem."""
    outfits, likes = dataset.negatives["test", "random"], dataset.likes["test"].take(np.arange(count))
    joined = Outfits(np.r_[outfits.users, likes.users], np.concatenate([outfits.items, likes.items]))
    report = check(replace(dataset, negatives={**dataset.negatives, ("test", "random"): joined}), tmp_path)
    found = report.problems if refused else report.notes
    assert (len(report.problems), len(report.notes)) == ((count, 0) if refused else (0, count))
    assert found[0].found == "a test random negative that user 'u1' likes"
    assert found[0].row == 80 + 80 + 120 + 1  # the folder's order: val random, val hard, test random
