"""Feature stores: what is written is read back; a kill, a full disk or a flipped bit never passes for a whole one."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panfit.errors import DataError, FeatureStoreError, Problem
from panfit.features import filling
from panfit.features.filling import write_store
from panfit.features.store import ARRAY_FILE, MANIFEST_FILE, FeatureStore, Manifest, open_store
from panfit.outfits import Dataset, IntArray

SHAPE = (4, 3, 2)
Encode = Callable[[IntArray], NDArray[Any]]


def maps_of(rows: IntArray) -> NDArray[np.float32]:
    """(n, 4, 3, 2): every value tells its item and place."""
    return (rows[:, None, None, None] + np.arange(24).reshape(SHAPE) / 32).astype(np.float32)


def describe(dataset: Dataset, **values: Any) -> Manifest:
    defaults: dict[str, Any] = {"extractor": "alexnet", "weights": "w", "dtype": "float16", "block_items": 5}
    return Manifest.describe(dataset, item_shape=SHAPE, **{**defaults, **values})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "features" / "maps"


@pytest.fixture
def store(tiny_dataset: Dataset, folder: Path) -> FeatureStore:
    write_store(folder, manifest=describe(tiny_dataset), encode=maps_of)
    return open_store(folder, tiny_dataset, extractor="alexnet")


def test_what_is_written_is_read_back(store: FeatureStore, tiny_dataset: Dataset, folder: Path) -> None:
    assert len(store) == 72
    assert store.maps.dtype == np.float16
    assert isinstance(store.maps, np.memmap)
    np.testing.assert_array_equal(store.maps, maps_of(np.arange(72)).astype(np.float16))
    rows = np.array([70, 3, 3, 41])
    np.testing.assert_array_equal(store.rows(rows), maps_of(rows).astype(np.float16))
    assert store.manifest.shape == (72, *SHAPE)
    assert len(store.manifest.checksums) == 15
    assert store.manifest.created_at
    store.verify()
    assert sorted(path.name for path in folder.iterdir()) == [ARRAY_FILE, MANIFEST_FILE]
    assert np.load(folder / ARRAY_FILE, allow_pickle=False).shape == (72, *SHAPE)


def test_progress_counts_items(tiny_dataset: Dataset, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    write_store(folder, manifest=describe(tiny_dataset), encode=maps_of, progress=lambda *pair: told.append(pair))
    assert told[0] == (5, 72)
    assert told[-1] == (72, 72)
    assert len(told) == 15


# ---- going on


def counting(encode: Encode, *, stop_at: int | None = None) -> tuple[Encode, list[int]]:
    """The encoder, noting which rows it is asked for; at a row it is interrupted."""
    asked: list[int] = []

    def counted(rows: IntArray) -> NDArray[Any]:
        if stop_at is not None and stop_at in rows:
            raise KeyboardInterrupt
        asked.extend(rows.tolist())
        return encode(rows)

    return counted, asked


def test_an_interrupted_run_goes_on_where_it_was(tiny_dataset: Dataset, folder: Path) -> None:
    encode, first = counting(maps_of, stop_at=43)
    with pytest.raises(KeyboardInterrupt):
        write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    assert not folder.exists()
    with pytest.raises(FeatureStoreError, match="unfinished"):
        open_store(folder, tiny_dataset)
    encode, second = counting(maps_of)
    write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    assert first + second == list(range(72))
    assert len(first) == 40
    store = open_store(folder, tiny_dataset)
    store.verify()
    np.testing.assert_array_equal(store.maps, maps_of(np.arange(72)).astype(np.float16))


def test_a_killed_process_goes_on_where_it_was(
    tiny_dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = describe(tiny_dataset)
    script = """
        import os, signal, sys
        import numpy as np
        from panfit.features import filling
        from panfit.features.store import Manifest

        filling.SAVE_EVERY_S = 0.0
        manifest = Manifest.model_validate_json(sys.argv[2])

        def encode(rows):
            if 43 in rows:
                os.kill(os.getpid(), signal.SIGKILL)
            return (rows[:, None, None, None] + np.arange(24).reshape(4, 3, 2) / 32).astype(np.float32)

        filling.write_store(sys.argv[1], manifest=manifest, encode=encode)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder), manifest.model_dump_json()]
    ended = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL
    encode, asked = counting(maps_of)
    write_store(folder, manifest=manifest, encode=encode)
    assert asked == list(range(40, 72))
    open_store(folder, tiny_dataset).verify()


def test_blocks_that_did_not_reach_the_disk_are_made_again(tiny_dataset: Dataset, folder: Path) -> None:
    encode, _ = counting(maps_of, stop_at=43)
    with pytest.raises(KeyboardInterrupt):
        write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    path = folder.with_name("maps.partial") / ARRAY_FILE
    data = bytearray(path.read_bytes())
    data[128 + 12 * 48] ^= 4  # of item 12, in the block of items 10 to 14
    path.write_bytes(bytes(data))
    encode, asked = counting(maps_of)
    write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    assert asked == [*range(10, 15), *range(40, 72)]


@pytest.mark.parametrize("damage", ["manifest", "progress", "size"])
def test_a_partial_store_of_something_else_is_begun_anew(tiny_dataset: Dataset, folder: Path, damage: str) -> None:
    encode, _ = counting(maps_of, stop_at=43)
    with pytest.raises(KeyboardInterrupt):
        write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    partial = folder.with_name("maps.partial")
    manifest = describe(tiny_dataset, weights="other" if damage == "manifest" else "w")
    if damage == "progress":
        (partial / filling.PROGRESS_FILE).write_text('{"manifest"')
    if damage == "size":
        os.truncate(partial / ARRAY_FILE, 1000)
    encode, asked = counting(maps_of)
    write_store(folder, manifest=manifest, encode=encode)
    assert asked == list(range(72))
    open_store(folder, tiny_dataset).verify()


def test_a_finished_store_is_left_as_it_is(store: FeatureStore, tiny_dataset: Dataset) -> None:
    encode, asked = counting(maps_of)
    write_store(store.folder, manifest=describe(tiny_dataset), encode=encode)
    assert asked == []


def test_another_store_is_in_the_way_unless_it_may_be_replaced(store: FeatureStore, tiny_dataset: Dataset) -> None:
    other = describe(tiny_dataset, weights="other", block_items=9)
    with pytest.raises(FeatureStoreError, match="differs in weights, block_items"):
        write_store(store.folder, manifest=other, encode=maps_of)
    write_store(store.folder, manifest=other, encode=maps_of, replace=True)
    assert open_store(store.folder, tiny_dataset).manifest.weights == "other"


def test_all_items_that_cannot_be_encoded_are_told_and_only_they_are_done_again(
    tiny_dataset: Dataset, folder: Path
) -> None:
    broken = {7, 9, 68}

    def encode(rows: IntArray) -> NDArray[Any]:
        bad = sorted(broken & set(rows.tolist()))
        if bad:
            raise DataError("bad", [Problem(f"{row}.jpg", "junk", "a photo", "mend it") for row in bad])
        return maps_of(rows)

    with pytest.raises(DataError) as caught:
        write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    assert [problem.file for problem in caught.value.problems] == ["7.jpg", "9.jpg", "68.jpg"]
    assert not folder.exists()
    again, asked = counting(maps_of)
    write_store(folder, manifest=describe(tiny_dataset), encode=again)
    assert asked == [5, 6, 7, 8, 9, 65, 66, 67, 68, 69]
    np.testing.assert_array_equal(open_store(folder, tiny_dataset).maps, maps_of(np.arange(72)).astype(np.float16))


# ---- what is refused


def test_another_data_set_or_extractor_is_refused(store: FeatureStore, tiny_dataset: Dataset) -> None:
    with pytest.raises(FeatureStoreError, match="made for another data set"):
        open_store(store.folder, replace(tiny_dataset, checksum="other"))
    ids = tiny_dataset.catalogue.item_ids
    swapped = replace(tiny_dataset.catalogue, item_ids=(ids[1], ids[0], *ids[2:]))
    with pytest.raises(FeatureStoreError, match="made for another data set"):
        open_store(store.folder, replace(tiny_dataset, catalogue=swapped))
    with pytest.raises(FeatureStoreError, match="made by 'alexnet', wanted 'resnet50'"):
        open_store(store.folder, tiny_dataset, extractor="resnet50")
    with pytest.raises(FeatureStoreError, match="not there"):
        open_store(store.folder.with_name("none"), tiny_dataset)


@pytest.mark.parametrize("where", [0, 400, -1])
def test_a_flipped_bit_is_found_when_its_block_is_read(store: FeatureStore, tiny_dataset: Dataset, where: int) -> None:
    path = store.folder / ARRAY_FILE
    data = bytearray(path.read_bytes())
    start = len(data) - store.maps.nbytes
    place = start + where if where >= 0 else len(data) - 1
    data[place] ^= 1
    path.write_bytes(bytes(data))
    damaged = open_store(store.folder, tiny_dataset)
    item = (place - start) // 48
    healthy = np.setdiff1d(np.arange(72), np.arange(item // 5 * 5, item // 5 * 5 + 5))
    damaged.rows(healthy)
    for _ in range(2):  # a second reading does not slip through
        with pytest.raises(FeatureStoreError, match=f"items {item // 5 * 5} to"):
            damaged.rows(np.array([item]))
    with pytest.raises(FeatureStoreError, match="damaged"):
        damaged.verify()


@pytest.mark.parametrize("cut", [1, 200, 5000])
def test_a_cut_or_longer_array_is_refused(store: FeatureStore, tiny_dataset: Dataset, cut: int) -> None:
    path = store.folder / ARRAY_FILE
    whole = path.read_bytes()
    for contents in (whole[: len(whole) - cut], whole + b"\0" * cut):
        path.write_bytes(contents)
        with pytest.raises(FeatureStoreError, match="damaged"):
            open_store(store.folder, tiny_dataset)


def edit(store: FeatureStore, **values: Any) -> None:
    path = store.folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"dtype": "object"}, "dtype"),
        ({"shape": [72, 2, 3, 4]}, "the manifest says"),
        ({"shape": [71, 4, 3, 2]}, "71 rows for 72 items"),
        ({"checksums": [1, 2]}, "2 checksums"),
        ({"block_items": 0}, "block_items"),
        ({"shape": [72, 4, 3, -2]}, "shape"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    store: FeatureStore, tiny_dataset: Dataset, values: dict[str, Any], words: str
) -> None:
    edit(store, **values)
    with pytest.raises(FeatureStoreError, match=words):
        open_store(store.folder, tiny_dataset)


@pytest.mark.parametrize("contents", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_damaged_manifest_is_refused(store: FeatureStore, tiny_dataset: Dataset, contents: bytes) -> None:
    (store.folder / MANIFEST_FILE).write_bytes(contents)
    with pytest.raises(FeatureStoreError, match="manifest"):
        open_store(store.folder, tiny_dataset)


def test_a_pickled_array_is_not_loaded(store: FeatureStore, tiny_dataset: Dataset) -> None:
    np.save(store.folder / ARRAY_FILE, np.array([{"a": 1}] * 72, dtype=object), allow_pickle=True)
    with pytest.raises(FeatureStoreError, match="damaged"):
        open_store(store.folder, tiny_dataset)


def test_an_encoder_that_gives_other_shapes_or_no_numbers_is_refused(tiny_dataset: Dataset, folder: Path) -> None:
    with pytest.raises(FeatureStoreError, match=r"items 0 to 4: found maps \(5, 4, 3, 1\)"):
        write_store(folder, manifest=describe(tiny_dataset), encode=lambda rows: maps_of(rows)[..., :1])
    with pytest.raises(FeatureStoreError, match=r"item 7: .* not finite in float16"):
        write_store(
            folder,
            manifest=describe(tiny_dataset),
            encode=lambda rows: np.where(rows[:, None, None, None] == 7, 7e4, maps_of(rows)),
        )


# ---- a full disk


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file of this process may grow beyond 4 KB: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, previous)


def test_a_disk_that_fills_up_leaves_nothing_that_looks_finished(
    tiny_dataset: Dataset, folder: Path, little_room: None
) -> None:
    encode, _ = counting(maps_of)

    def narrowing(rows: IntArray) -> NDArray[Any]:
        if 20 in rows:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit))
        return encode(rows)

    with pytest.raises(FeatureStoreError, match=r"the disk is full .* goes on"):
        write_store(folder, manifest=describe(tiny_dataset), encode=narrowing)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    assert not folder.exists()
    with pytest.raises(FeatureStoreError, match="unfinished"):
        open_store(folder, tiny_dataset)
    write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    open_store(folder, tiny_dataset).verify()


def test_too_little_room_is_told_before_anything_is_encoded(
    tiny_dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    encode, asked = counting(maps_of)
    with pytest.raises(FeatureStoreError, match="the disk is full"):
        write_store(folder, manifest=describe(tiny_dataset), encode=encode)
    assert asked == []
