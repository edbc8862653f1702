"""The dataset folder: what is written is read, whole or not at all, and nothing damaged is accepted."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from panfit.data import folder as folder_module
from panfit.data import staging
from panfit.data.folder import Manifest, read_dataset, write_dataset
from panfit.data.splits import complete
from panfit.data.table import import_table
from panfit.errors import DataError
from panfit.outfits import ABSENT, Dataset, Outfits
from tests.shop import make_shop


@pytest.fixture
def dataset(tiny_dataset: Dataset) -> Dataset:
    """The tiny data set, completed, with an empty slot here and there, and text vectors."""
    items = tiny_dataset.likes["train"].items.copy()
    items[::3, 1] = ABSENT
    likes = {**tiny_dataset.likes, "train": Outfits(tiny_dataset.likes["train"].users, items)}
    text = np.arange(72 * 7, dtype=np.float32).reshape(72, 7)
    return complete(replace(tiny_dataset, likes=likes, text=text), seed=2)


@pytest.fixture
def stored(dataset: Dataset, tmp_path: Path) -> Path:
    return write_dataset(dataset, tmp_path / "set", source="a test")


def same_outfits(one: Outfits, other: Outfits) -> bool:
    return np.array_equal(one.users, other.users) and np.array_equal(one.items, other.items)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(folder: Path, name: str, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """Change a table's columns, and its checksum with it: a file that is whole and says something wrong."""
    table = pq.read_table(folder / name)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), folder / name)
    edit_manifest(folder, lambda values: values["checksums"].update({name: folder_module._sha256(folder / name)}))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "dataset.json").read_text("utf-8"))
    change(values)
    (folder / "dataset.json").write_text(json.dumps(values), "utf-8")


# ---- round trip


def test_what_is_written_is_read(dataset: Dataset, stored: Path) -> None:
    read = read_dataset(str(stored))
    assert (read.name, read.slots, read.user_ids) == (dataset.name, dataset.slots, dataset.user_ids)
    for column in ("item_ids", "item_categories", "images", "titles", "categories"):
        assert getattr(read.catalogue, column) == getattr(dataset.catalogue, column)
    assert read.catalogue.image_root == dataset.catalogue.image_root.resolve()
    assert set(read.likes) == set(dataset.likes)
    assert set(read.negatives) == set(dataset.negatives)
    assert all(same_outfits(read.likes[split], dataset.likes[split]) for split in dataset.likes)
    assert all(same_outfits(read.negatives[key], dataset.negatives[key]) for key in dataset.negatives)
    assert set(read.fitb) == {"val", "test"}
    for split, questions in dataset.fitb.items():
        assert same_outfits(read.fitb[split].outfits, questions.outfits)
        for column in ("blank", "candidates", "answer"):
            assert np.array_equal(getattr(read.fitb[split], column), getattr(questions, column))
    assert dataset.text is not None
    assert np.array_equal(read.text, dataset.text)  # type: ignore[arg-type]
    assert read.folder == stored


def test_the_tables_are_the_documented_ones(stored: Path) -> None:
    assert pq.read_table(stored / "outfits.parquet").column_names == ["outfit_id", "user_id", "items", "split"]
    first = pq.read_table(stored / "outfits.parquet").slice(0, 1).to_pylist()[0]
    assert first["items"][1] is None
    assert first["items"][0].startswith("top-")
    question = pq.read_table(stored / "fitb.parquet").slice(0, 1).to_pylist()[0]
    assert (
        question["items"][["top", "bottom", "shoe"].index(question["blank"])]
        == (question["candidates"][question["answer"]])
    )
    manifest = json.loads((stored / "dataset.json").read_text("utf-8"))
    assert manifest["format"] == 1
    assert manifest["slots"] == ["top", "bottom", "shoe"]
    assert manifest["counts"]["likes"] == {"train": 10, "val": 10, "test": 10}
    assert manifest["source"]["from"] == "a test"


def test_users_keep_their_rows_though_their_likes_come_in_another_order(tiny_dataset: Dataset, tmp_path: Path) -> None:
    names = ("z", "nobody", "ü", "10", "1")
    read = read_dataset(write_dataset(replace(tiny_dataset, user_ids=names), tmp_path / "set", source=""))
    assert read.user_ids == names
    assert same_outfits(read.likes["val"], tiny_dataset.likes["val"])


def test_the_checksum_names_the_tables(dataset: Dataset, stored: Path, tmp_path: Path) -> None:
    checksum = read_dataset(stored).checksum
    assert read_dataset(write_dataset(dataset, tmp_path / "again", source="elsewhere")).checksum == checksum
    other = complete(replace(dataset, negatives={}), seed=9)
    assert read_dataset(write_dataset(other, tmp_path / "other", source="a test")).checksum != checksum


def test_a_data_set_without_negatives_and_questions(tiny_dataset: Dataset, tmp_path: Path) -> None:
    read = read_dataset(write_dataset(tiny_dataset, tmp_path / "a" / "b" / "set", source=""))
    assert read.negatives == {}
    assert read.fitb == {}
    assert read.text is None


def test_copied_photos_survive_replacing_the_data_set_by_itself(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop")
    out = tmp_path / "set"
    write_dataset(import_table(shop).dataset, out, source="shop", copy_images=True)
    for _ in range(2):
        read = read_dataset(out)
        assert read.catalogue.image_root == out / "images"
        assert all((read.catalogue.image_root / str(image)).is_file() for image in read.catalogue.images)
        write_dataset(read, out, source="itself")
    assert json.loads((out / "dataset.json").read_text("utf-8"))["image_root"] == "images"


# ---- whole or not at all


def test_an_older_data_set_is_replaced(dataset: Dataset, stored: Path) -> None:
    (stored / "features").mkdir()
    write_dataset(replace(dataset, name="new", text=None), stored, source="")
    assert read_dataset(stored).name == "new"
    assert not (stored / "features").exists()
    assert not (stored / "text").exists()
    assert [path.name for path in stored.parent.iterdir()] == ["set"]


def test_an_empty_folder_is_filled(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert read_dataset(write_dataset(dataset, tmp_path / "set", source="")).name == "tiny"


@pytest.mark.parametrize("marker", [None, "{}", "no json", '["format"]', '{"format": "jpeg"}'])
def test_a_folder_of_other_files_is_refused(dataset: Dataset, tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    if marker is not None:
        (tmp_path / "mine" / "dataset.json").write_text(marker)
    with pytest.raises(DataError, match="found a folder of other files"):
        write_dataset(dataset, tmp_path / "mine", source="")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file")
    with pytest.raises(DataError, match="found a file"):
        write_dataset(dataset, tmp_path / "set", source="")


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["tables", "manifest", "photos", "rename"])
@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, older: bool
) -> None:
    dataset = import_table(make_shop(tmp_path / "shop")).dataset
    out = tmp_path / "out" / "set"
    if older:
        write_dataset(replace(dataset, name="older"), out, source="")
    before = files_of(out)

    def full(*_: object, **__: object) -> None:
        raise FULL

    if when == "tables":
        monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    elif when == "photos":
        monkeypatch.setattr(shutil, "copyfile", full)
    elif when == "manifest":
        monkeypatch.setattr(Path, "write_text", full)
    else:
        real = os.replace

        def no_room_for_the_new(source: Path, target: Path) -> None:
            if ".new-" in Path(source).name:
                raise FULL
            real(source, target)

        monkeypatch.setattr(os, "replace", no_room_for_the_new)
    with pytest.raises(DataError, match="No space left on device"):
        write_dataset(dataset, out, source="", copy_images=True)
    monkeypatch.undo()
    assert files_of(out) == before
    assert [path.name for path in out.parent.iterdir()] == (["set"] if older else [])
    if older:
        assert read_dataset(out).name == "older"


def test_a_killed_write_leaves_no_data_set_and_the_next_sweeps_up(dataset: Dataset, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from panfit.data.staging import staged_folder\n"
        "with staged_folder(sys.argv[1]) as stage:\n"
        "    (stage / 'items.parquet').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "set")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert len(list(tmp_path.iterdir())) == 1
    write_dataset(dataset, tmp_path / "set", source="")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_another_import_that_is_still_running_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    with staging.staged_folder(tmp_path / "set") as stage:
        (stage / "file").write_text("growing")
        write_dataset(dataset, tmp_path / "set", source="")
        assert (stage / "file").read_text() == "growing"
        (stage / "dataset.json").write_text('{"format": 1}')
    assert (tmp_path / "set" / "file").exists()


def test_a_replacement_killed_between_its_renames_is_put_back(stored: Path) -> None:
    before = files_of(stored)
    stored.rename(stored.parent / ".set.old-abc")
    with pytest.raises(KeyboardInterrupt), staging.staged_folder(stored):
        raise KeyboardInterrupt
    assert files_of(stored) == before


# ---- damaged folders


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda folder: (folder / "items.parquet").unlink(), "no such file"),
        (lambda folder: (folder / "fitb.parquet").write_bytes(b""), "sha256"),
        (lambda folder: (folder / "text" / "vectors.npy").write_bytes(b"x"), "sha256"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "no JSON"),
        (lambda folder: (folder / "dataset.json").unlink(), "no dataset.json"),
        (lambda folder: edit_manifest(folder, lambda values: values.update(format=2)), "format 2"),
        (lambda folder: edit_manifest(folder, lambda values: values.update(format=True)), "format True"),
        (lambda folder: edit_manifest(folder, lambda values: values.pop("slots")), "slots: Field required"),
        (lambda folder: edit_manifest(folder, lambda values: values.update(more=1)), "more: Extra inputs"),
        (lambda folder: edit_manifest(folder, lambda values: values["slots"].pop()), "slots must be distinct"),
        (lambda folder: edit_manifest(folder, lambda values: values.update(slots="top")), "slots: Input should be"),
        (lambda folder: edit_manifest(folder, lambda values: values["checksums"].pop("items.parquet")), "checksums"),
        (
            lambda folder: edit_manifest(folder, lambda values: values["checksums"].update({"../../etc": "0"})),
            "checksums must name",
        ),
    ],
)
def test_a_damaged_folder_is_refused(stored: Path, damage: Callable[[Path], object], found: str) -> None:
    damage(stored)
    with pytest.raises(DataError) as caught:
        read_dataset(stored)
    (problem,) = caught.value.problems
    assert found in problem.found
    assert problem.remedy


@pytest.mark.parametrize("path", ["missing", "a file"])
def test_no_folder_at_all(tmp_path: Path, path: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(DataError, match="import the data set first"):
        read_dataset(tmp_path / path)


def test_every_damaged_file_is_told(stored: Path) -> None:
    (stored / "items.parquet").unlink()
    (stored / "outfits.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError) as caught:
        read_dataset(stored)
    assert [Path(problem.file).name for problem in caught.value.problems] == ["items.parquet", "outfits.parquet"]


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "found"),
    [
        ("items", "category", 3, "hat", "category 'hat'"),
        ("items", "item_id", 5, "top-0", "the id 'top-0' of row 1 again"),
        ("items", "item_id", 5, "", "an empty id"),
        ("items", "image", 7, "../../secret.png", "../../secret.png"),
        ("items", "image", 7, "/etc/passwd", "/etc/passwd"),
        ("users", "user_id", 2, "u0", "the id 'u0' of row 1 again"),
        ("outfits", "user_id", 4, "nobody", "'nobody'"),
        ("outfits", "user_id", 4, None, "None"),
        ("outfits", "items", 2, ["top-1", "bottom-1", "hat-1"], "hat-1"),
        ("outfits", "items", 2, ["top-1", "bottom-1"], "['top-1', 'bottom-1']"),
        ("outfits", "items", 2, None, "None"),
        ("outfits", "items", 2, [None, None, None], "an outfit without any item"),
        ("outfits", "items", 2, ["top-1", "shoe-1", "shoe-2"], "['top-1', 'shoe-1', 'shoe-2']"),
        ("outfits", "split", 6, "training", "'training'"),
        ("negatives", "kind", 9, "easy", "'easy'"),
        ("negatives", "split", 9, None, "None"),
        ("fitb", "blank", 1, "hat", "'hat'"),
        ("fitb", "answer", 3, 4, "4"),
        ("fitb", "answer", 3, None, "None"),
        ("fitb", "candidates", 3, ["top-1", None, "top-3", "top-2"], "top-1"),
        ("fitb", "candidates", 3, ["top-1"], "['top-1']"),
    ],
)
def test_a_whole_table_that_says_something_wrong(
    stored: Path, table: str, column: str, row: int, value: object, found: str
) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[column][row - 1] = value

    rewrite(stored, f"{table}.parquet", change)
    with pytest.raises(DataError) as caught:
        read_dataset(stored)
    first = caught.value.problems[0]
    assert Path(first.file).name == f"{table}.parquet"
    assert first.row == row
    assert found in first.found


def test_a_table_without_a_column(stored: Path) -> None:
    pq.write_table(pq.read_table(stored / "items.parquet").drop(["image"]), stored / "items.parquet")
    checksum = folder_module._sha256(stored / "items.parquet")
    edit_manifest(stored, lambda values: values["checksums"].update({"items.parquet": checksum}))
    with pytest.raises(DataError, match="only the columns item_id, category, title"):
        read_dataset(stored)


def test_text_vectors_of_another_length(stored: Path) -> None:
    np.save(stored / "text" / "vectors.npy", np.zeros((5, 7), np.float32))
    checksum = folder_module._sha256(stored / "text" / "vectors.npy")
    edit_manifest(stored, lambda values: values["checksums"].update({"text/vectors.npy": checksum}))
    with pytest.raises(DataError, match=r"float32 of shape \(5, 7\); wanted float32 of shape \(72, T\)"):
        read_dataset(stored)


def test_text_is_never_unpickled(stored: Path) -> None:
    np.save(stored / "text" / "vectors.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    checksum = folder_module._sha256(stored / "text" / "vectors.npy")
    edit_manifest(stored, lambda values: values["checksums"].update({"text/vectors.npy": checksum}))
    with pytest.raises(DataError, match="an unreadable array"):
        read_dataset(stored)


def test_the_manifest_is_frozen() -> None:
    assert Manifest.model_config["frozen"]
    assert Manifest.model_config["extra"] == "forbid"
