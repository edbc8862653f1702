"""`panfit features --engine ray`: this process's bytes, from actors that may be killed, each mistake told once."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panfit import features_ray
from panfit.data.folder import read_dataset, write_dataset
from panfit.errors import DataError, FeatureStoreError, PanfitError
from panfit.features import extract
from panfit.features.extract import extract_features
from panfit.features.store import FeatureStore
from panfit.features_ray import EncodeBlocks, ExtractionPlan, filler_on_ray
from panfit.outfits import Dataset
from tests.photos import tiny_config, with_photos
from tests.ray_drivers import drive, needs_ray

CONFIG = tiny_config()
BATCH, NUM_PHOTOS = 5, 72

WORK = """
data, config, cwd = sys.argv[1:]

if __name__ == "__main__":
    from panfit import features_ray
    from panfit.config import Config
    from panfit.data.folder import read_dataset
    from panfit.features import extract

    features_ray.BLOCKS_PER_PIECE, extract.PHOTOS_PER_BATCH = 1, 5
    os.chdir(cwd)
    dataset = read_dataset(os.path.relpath(data))
    config = Config.model_validate_json(Path(config).read_text("utf-8"))
    done = [0]
    threading.Thread(target=watch, args=(lambda: done[-1],), daemon=True).start()
    extract.extract_features(
        dataset, config, name="ray", elsewhere=features_ray.filler_on_ray(dataset, config, workers=2),
        progress=lambda photos, total: done.append(photos),
    )
    tell(done=done)
"""


@pytest.fixture
def data(tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    (tmp_path / "photos").mkdir()
    dataset = with_photos(tiny_dataset, tmp_path / "photos")
    monkeypatch.setattr(extract, "PHOTOS_PER_BATCH", BATCH)
    return read_dataset(write_dataset(dataset, tmp_path / "data", source="test", copy_images=True))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Actors live here, and each piece has one of its own; the pieces that were done."""
    pieces: list[list[int]] = []

    def map_here(
        worker: type[EncodeBlocks], plan: ExtractionPlan, todo: Sequence[Mapping[str, Any]], **_: Any
    ) -> Iterator[dict[str, Any]]:
        for piece in reversed(todo):  # in whatever order
            answer = worker(plan)({"blocks": np.array([piece["blocks"]])})
            if answer["failure"][0]:
                raise PanfitError(answer["failure"][0])
            pieces.append(piece["blocks"])
            yield {key: values[0] for key, values in answer.items()}

    monkeypatch.setattr(features_ray, "map_on_ray", map_here)
    monkeypatch.setattr(features_ray, "BLOCKS_PER_PIECE", 4)
    return pieces


def on_ray(data: Dataset, **options: Any) -> FeatureStore:
    return extract_features(data, CONFIG, name="ray", elsewhere=filler_on_ray(data, CONFIG), **options)


def test_sharded_maps_are_this_processs(data: Dataset, in_process: list[list[int]]) -> None:
    done: list[int] = []
    sharded = on_ray(data, progress=lambda photos, total: done.append(photos))
    straight = extract_features(data, CONFIG, name="local")
    assert np.array_equal(sharded.maps, straight.maps)
    assert sharded.manifest.checksums == straight.manifest.checksums
    assert not sharded.manifest.differences(straight.manifest)
    assert sorted(block for piece in in_process for block in piece) == list(range(-(-NUM_PHOTOS // BATCH)))
    assert max(map(len, in_process)) == 4
    assert done[-1] == NUM_PHOTOS
    assert sorted(done) == done
    sharded.verify()
    assert on_ray(data).manifest == sharded.manifest  # finished: nothing is done again
    assert len(in_process) == 4
    assert not list(sharded.folder.glob(".tries*"))


def test_all_bad_photos_are_told_and_only_their_blocks_are_done_again(
    data: Dataset, in_process: list[list[int]]
) -> None:
    spoiled = [data.catalogue.image_root / str(data.catalogue.images[row]) for row in (3, 61)]
    whole = [path.read_bytes() for path in spoiled]
    for path in spoiled:
        path.write_bytes(b"no photo")
    with pytest.raises(DataError, match="2 of 72 items cannot be used") as caught:
        on_ray(data)
    assert sorted(problem.file for problem in caught.value.problems) == sorted(map(str, spoiled))
    for path, photo in zip(spoiled, whole, strict=True):
        path.write_bytes(photo)
    in_process.clear()
    sharded = on_ray(data)
    # Mended photos have other times, so it is another store, made anew; what it holds is right all the same.
    assert np.array_equal(sharded.maps, extract_features(data, CONFIG, name="local").maps)


def make_plan(data: Dataset, folder: Path) -> tuple[ExtractionPlan, FeatureStore]:
    """Of one block's work into a copy of a finished array."""
    store = extract_features(data, CONFIG, name="local")
    array = folder / "array.npy"
    shutil.copy(store.folder / "array.npy", array)
    assert data.folder is not None
    config, manifest = CONFIG.model_dump_json(), store.manifest.model_dump_json()
    return ExtractionPlan(str(data.folder), config, manifest, str(array), "cpu"), store


def ask(plan: ExtractionPlan, *blocks: int) -> tuple[Any, str]:
    answer = EncodeBlocks(plan)({"blocks": np.array([blocks])})
    return json.loads(answer["outcomes"][0]), answer["failure"][0]


def test_an_actor_writes_its_blocks_alone(data: Dataset, tmp_path: Path) -> None:
    plan, store = make_plan(data, tmp_path)
    maps = np.load(plan.array, mmap_mode="r+")
    before = np.array(maps)
    maps[:] = 0
    maps.flush()
    outcomes, failure = ask(plan, 2, 14)  # the last one is short
    assert failure == ""
    assert outcomes == [[block, store.manifest.checksums[block]] for block in (2, 14)]
    written = np.load(plan.array)
    rows = np.r_[10:15, 70:72]
    assert np.array_equal(written[rows], before[rows])
    assert not np.delete(written, rows, axis=0).any()


def test_an_actor_refuses_another_data_set_or_other_weights(data: Dataset, tmp_path: Path) -> None:
    plan, _ = make_plan(data, tmp_path)
    other = CONFIG.model_copy(update={"seed": 8})
    outcomes, failure = ask(replace(plan, config=other.model_dump_json()), 0)
    assert outcomes == []
    assert "a worker on this cluster finds another weights than" in failure
    renamed = (*data.catalogue.item_ids[:-1], "another")
    changed = replace(data, catalogue=replace(data.catalogue, item_ids=renamed))
    folder = write_dataset(changed, tmp_path / "changed", source="test", copy_images=True)
    outcomes, failure = ask(replace(plan, data=str(folder)), 0)
    assert outcomes == []
    assert "items" in failure
    assert "same files under the same paths" in failure
    assert not list(tmp_path.glob(".tries*"))  # nobody died


def test_a_piece_that_actors_die_of_is_given_up(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = make_plan(data, tmp_path)

    def die(actor: EncodeBlocks) -> None:
        raise KeyboardInterrupt  # what nobody catches, as a kill

    monkeypatch.setattr(EncodeBlocks, "_open", die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            ask(plan, 1, 2)
    outcomes, failure = ask(plan, 1, 2)
    assert outcomes == []
    assert "3 workers died of the photos of items 5 to 14; out of memory?" in failure


def test_a_data_set_without_a_folder_cannot_be_shared(data: Dataset) -> None:
    with pytest.raises(FeatureStoreError, match="a cluster reads the data set from its folder"):
        filler_on_ray(replace(data, folder=None), CONFIG)


@needs_ray
def test_a_killed_worker_loses_nothing_and_changes_nothing(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json(), "utf-8")
    assert data.folder is not None
    report = drive(WORK, tmp_path, data.folder, tmp_path / "config.json", tmp_path)
    _, photos_then = report["killed"]
    assert 0 < photos_then < NUM_PHOTOS, "the worker was not killed in the middle"
    assert report["done"][-1] == NUM_PHOTOS
    straight = extract_features(data, CONFIG, name="local")
    sharded = extract_features(data, CONFIG, name="ray")  # finished, so it is only opened
    assert sharded.manifest.checksums == straight.manifest.checksums
    sharded.verify()


def test_photos_may_be_of_any_size(data: Dataset, in_process: list[list[int]]) -> None:
    Image.new("RGB", (90, 31), "teal").save(data.catalogue.image_root / str(data.catalogue.images[0]))
    assert np.array_equal(on_ray(data).maps, extract_features(data, CONFIG, name="local").maps)
