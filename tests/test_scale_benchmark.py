"""The study of scale: what is drawn has the exact counts and passes import and check; a stage is measured once."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.scale import __main__ as scale
from benchmarks.scale import works
from benchmarks.scale.measuring import StageError, watch
from benchmarks.scale.release import CATEGORIES, SPLITS, Size, write_release
from benchmarks.scale.stages import STAGES, Place
from panfit.data.check import check_dataset
from panfit.data.folder import read_dataset, write_dataset
from panfit.data.polyvore_u import import_polyvore_u
from panfit.features.store import open_store
from panfit.outfits import Dataset

TINY = 0.002


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn release, with text vectors, as a data set."""
    folder = tmp_path_factory.mktemp("scale")
    write_release(folder / "release", Size.scaled(TINY), seed=0, text_dim=5)
    report = import_polyvore_u(folder / "release")
    assert report.skipped == ()
    return write_dataset(report.dataset, folder / "data", source="")


@pytest.fixture(scope="module")
def dataset(imported: Path) -> Dataset:
    return read_dataset(imported)


def test_the_whole_size_is_polyvores() -> None:
    size = Size.scaled(1)
    assert size.told() == {
        "users": 630, "train_likes": 127_326, "val_likes": 12_565, "test_likes": 23_054, "items": 237_463,
    }  # fmt: skip
    assert [sum(size.worn[split]) for split in SPLITS] == [159_729, 32_229, 45_505]
    assert Size.scaled(10).told()["items"] == 2_374_630


def test_what_is_drawn_has_the_counts(dataset: Dataset) -> None:
    size = Size.scaled(TINY)
    assert len(dataset.user_ids) == size.users
    assert [dataset.catalogue.item_categories.count(name) for name in CATEGORIES] == list(size.items)
    for split, outfits in dataset.likes.items():
        assert len(outfits) == size.likes[split]
        assert len(np.unique(outfits.users)) == size.users
        assert tuple(len(np.unique(column)) for column in outfits.items.T) == size.worn[split]
    worn = [set(outfits.items.ravel().tolist()) for outfits in dataset.likes.values()]
    assert not any(worn[one] & worn[other] for one, other in ((0, 1), (0, 2), (1, 2)))
    for split in ("val", "test"):
        for kind in ("random", "hard"):
            assert len(dataset.negatives[split, kind]) == 10 * size.likes[split]
    assert dataset.fitb["test"].candidates.shape == (size.likes["test"], 4)
    assert dataset.text is not None
    assert dataset.text.shape == (sum(size.items), 5)


def test_it_checks_clean(imported: Path) -> None:
    report = check_dataset(imported)
    assert report.problems == ()
    items = sum(Size.scaled(TINY).items)
    assert [note.found for note in report.notes] == [f"{items} of {items} items without a photo"]


def test_a_release_is_drawn_once(tmp_path: Path) -> None:
    size = Size.scaled(0.001)
    write_release(tmp_path, size, seed=0)
    likes = tmp_path / "tuples_630" / "tuples_train_posi"
    before = likes.read_bytes()
    likes.write_bytes(b"")
    write_release(tmp_path, size, seed=0)
    assert likes.read_bytes() == b""
    write_release(tmp_path, size, seed=1)
    assert likes.read_bytes() not in (b"", before)


def test_the_works(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MAP", (3, 2, 2))
    told = works.store(imported)
    dataset = read_dataset(imported)
    store = open_store(imported / "features" / works.STORE, dataset, extractor=works.EXTRACTOR)
    assert store.maps.shape == (len(dataset.catalogue), 3, 2, 2)
    assert told["store_mb"] == pytest.approx(store.manifest.num_bytes / 1e6, abs=0.05)
    told = works.metrics(imported)
    assert told["scored_outfits"] == len(dataset.likes["test"]) * (1 + 10 + 4)
    assert told["metrics_s"] > 0


def test_a_process_is_watched(tmp_path: Path) -> None:
    code = "import time; held = bytearray(60_000_000); time.sleep(.15); print('done')"
    found = watch([sys.executable, "-c", code], folder=tmp_path, errors=tmp_path / "stage.err")
    assert found.output == "done\n"
    assert found.wall_s > 0.15
    assert found.anonymous_mb is None or 57 < found.anonymous_mb < 200
    with pytest.raises(StageError, match="exit 3"):
        watch([sys.executable, "-c", "raise SystemExit(3)"], folder=tmp_path, errors=tmp_path / "stage.err")


def test_a_stage_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "pedigree", lambda: {"commit": "c0ffee", "dirty": False, "hardware": {},
                                                    "created_at": "", "peak_mb": 1.0})  # fmt: skip
    work = ["--work", str(tmp_path / "work"), "--results", str(tmp_path), "--scales", "0.001"]
    assert scale.main([*work, "--stages", "import"]) == 0
    path = tmp_path / "benchmarks" / "scale.json"
    content = json.loads(path.read_text("utf-8"))
    (run,) = content["runs"]
    assert (run["stage"], run["scale"], run["dirty"]) == ("import", 0.001, False)
    assert run["wall_s"] > 0
    assert run["cpu_s"] > 0
    assert content["sizes"]["0.001"]["train_likes"] == 127
    record, place = scale.Record(path), Place(tmp_path / "work" / "0.001", 0.001)
    code = scale.fingerprint()
    assert record.is_measured("import", 0.001, code, dirty=False)
    assert not record.is_measured("import", 0.001, "another", dirty=False)
    assert due(record, place, ["import", "check"], code) == ["check"]
    assert due(record, place, ["import", "check"], "another") == ["import", "check"]
    (place.data / "dataset.json").unlink()
    assert due(record, place, ["check"], code) == ["import", "check"]
    assert due(record, place, ["evaluate"], code) == ["import-text", "store", "train", "evaluate"]
    assert due(record, Place(place.folder, 10), ["evaluate"], code) == []
    record.runs[0]["dirty"] = True
    assert record.is_measured("import", 0.001, code, dirty=True)
    assert not record.is_measured("import", 0.001, code, dirty=False)


def due(record: Any, place: Place, names: list[str], code: str) -> list[str]:
    return scale.due(names, place, record, code, dirty=False, again=False)


def test_stages_come_after_what_they_need() -> None:
    order = list(STAGES)
    for name, stage in STAGES.items():
        assert all(order.index(needed) < order.index(name) for needed in stage.needs)
        assert all(STAGES[needed].product is not None for needed in stage.needs)


def test_a_failed_stage_is_told_and_leaves_no_figure(tmp_path: Path) -> None:
    place = Place(tmp_path / "work" / "0.001", 0.001)
    place.folder.mkdir(parents=True)
    (place.folder / "data").write_text("in the way")
    words = ["--work", str(tmp_path / "work"), "--results", str(tmp_path), "--scales", "0.001", "--stages", "import"]
    assert scale.main(words) == 1
    assert not (tmp_path / "benchmarks" / "scale.json").exists()
