"""Code tables: made once, bounded, kept on disk, never stale; damaged and foreign files are refused with a remedy."""

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from panfit import code_files, codes
from panfit.codes import CachedScores, CodeTables, key_of
from panfit.encode import ItemCoder
from panfit.errors import CacheError
from panfit.features.fingerprints import item_fingerprints
from panfit.features.inputs import ItemInputs
from panfit.features.store import FeatureStore
from panfit.model.hashing import pack_codes
from panfit.model.pan import Pan
from panfit.outfits import IntArray, Outfits
from panfit.scoring import OutfitScorer
from tests.test_scoring import NUM_ITEMS, draw_outfits, make
from tests.test_sweep import stored

EVERY = np.arange(NUM_ITEMS)
BYTES = 6  # of an item: V * D / 8
MUCH = 1 << 20


@pytest.fixture
def world() -> tuple[Pan, ItemInputs]:
    return make()


def eyes_of(model: Pan, user: int) -> Tensor:
    with torch.no_grad():
        return model.eval().user_embeddings(torch.tensor([user]))[0]  # (D,)


def plain_table(model: Pan, inputs: ItemInputs, viewer: Tensor) -> np.ndarray:
    """(N, 6), item by item."""
    coder = ItemCoder(model, inputs)
    alone = [coder.codes(viewer[None], np.array([0]), np.array([row]), binary=True) for row in range(len(inputs))]
    return pack_codes(torch.cat(alone)).flatten(1).numpy()


class Spied:
    """Tables, and the items that they had encoded."""

    def __init__(self, model: Pan, inputs: ItemInputs, folder: Path | None = None, *, max_bytes: int = MUCH) -> None:
        self.made: list[int] = []
        coder = ItemCoder(model, inputs)
        encode = coder.codes

        def counted(eyes: Tensor, pair_eyes: IntArray, pair_items: IntArray, *, binary: bool) -> Tensor:
            self.made.extend(pair_items.tolist())
            return encode(eyes, pair_eyes, pair_items, binary=binary)

        coder.codes = counted  # type: ignore[method-assign]
        self.tables = CodeTables(coder, max_bytes=max_bytes, folder=folder)

    def table(self, viewer: Tensor) -> np.ndarray:
        self.made.clear()
        return self.tables.table(viewer)


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "codes" if request.param == "disk" else None


def test_only_what_is_missing_is_made(world: tuple[Pan, ItemInputs], place: Path | None) -> None:
    model, inputs = world
    viewer = eyes_of(model, 3)
    wanted = plain_table(model, inputs, viewer)
    spied = Spied(model, inputs, place)
    some = np.array([9, 4, 4, 20])
    np.testing.assert_array_equal(spied.tables.packed(viewer, some), wanted[some])
    assert spied.made == [4, 9, 20]
    assert spied.tables.is_made(viewer, np.array([3, 4, 9, 21])).tolist() == [False, True, True, False]
    more = np.array([20, 0, 21])
    np.testing.assert_array_equal(spied.tables.packed(viewer, more), wanted[more])
    assert spied.made == [4, 9, 20, 0, 21]
    np.testing.assert_array_equal(spied.tables.table(viewer), wanted)
    assert sorted(spied.made) == EVERY.tolist()
    codes_of = spied.tables.codes(viewer, some)  # (4, V, D)
    np.testing.assert_array_equal(pack_codes(codes_of).flatten(1).numpy(), wanted[some])
    assert set(codes_of.flatten().tolist()) == {-1.0, 1.0}
    assert len(spied.made) == NUM_ITEMS
    for beyond in (NUM_ITEMS, -1):
        with pytest.raises(IndexError):
            spied.tables.packed(viewer, np.array([beyond]))


@pytest.mark.parametrize("worth", [1, MUCH])
def test_sweeps_and_single_codes_agree(
    worth: int, world: tuple[Pan, ItemInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "WORTH_A_SWEEP", worth)
    model, inputs = world
    spied = Spied(model, inputs)
    np.testing.assert_array_equal(spied.table(eyes_of(model, 1)), plain_table(model, inputs, eyes_of(model, 1)))
    assert len(spied.made) == (0 if worth == 1 else NUM_ITEMS)


def test_the_bound_is_of_what_is_held(world: tuple[Pan, ItemInputs]) -> None:
    model, inputs = world
    an_item = BYTES + 8  # its code, and its row
    spied = Spied(model, inputs, max_bytes=5 * an_item)
    some = np.array([2, 7])
    for user in (0, 1, 0):  # 2 + 2 items: both are held
        spied.tables.packed(eyes_of(model, user), some)
    assert len(spied.made) == 4
    spied.tables.packed(eyes_of(model, 2), some)  # 6 items: the one asked for longest ago goes, which is 1
    spied.tables.packed(eyes_of(model, 0), some)
    assert len(spied.made) == 6
    spied.tables.packed(eyes_of(model, 1), some)
    assert len(spied.made) == 8
    spied.table(eyes_of(model, 1))  # beyond the bound alone, and yet held
    spied.tables.table(eyes_of(model, 1))
    assert len(spied.made) == NUM_ITEMS - 2


def test_mapped_tables_cost_nothing(
    world: tuple[Pan, ItemInputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = world
    spied = Spied(model, inputs, tmp_path, max_bytes=0)
    for user in (0, 1):
        assert isinstance(spied.tables.table(eyes_of(model, user)), np.memmap)
    monkeypatch.setattr(code_files, "read_rows", None)
    for user in (0, 1):
        spied.tables.table(eyes_of(model, user))  # not even opened again
    monkeypatch.undo()
    monkeypatch.setattr(codes, "MOST_MAPPED", 1)
    spied.tables.table(eyes_of(model, 2))
    assert len(spied.tables._held) == 1


def test_a_later_process_makes_nothing(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    viewers = [eyes_of(model, user) for user in (0, 1)]
    first = Spied(model, inputs, tmp_path / "a" / "codes")
    wanted = [np.array(first.table(viewer)) for viewer in viewers]
    assert (wanted[0] != wanted[1]).any()
    again, same = make()
    later = Spied(again, same, tmp_path / "a" / "codes")
    for viewer, table in zip(viewers, wanted, strict=True):
        found = later.table(viewer)
        assert later.made == []
        np.testing.assert_array_equal(found, table)
        torch.from_numpy(found)  # without a warning
    path = tmp_path / "a" / "codes"
    said = load_file(next(path.glob(f"*/*/{key_of(viewers[0]).hex()}.safetensors")))
    np.testing.assert_array_equal(said["rows"], wanted[0])
    assert not [name for name in path.rglob("*") if name.name.startswith(".")], "nothing is left aside"


def test_what_is_asked_for_piece_by_piece_is_written_when_it_is_whole(
    world: tuple[Pan, ItemInputs], tmp_path: Path
) -> None:
    model, inputs = world
    viewer = eyes_of(model, 5)
    tables = Spied(model, inputs, tmp_path).tables
    for piece in np.array_split(EVERY, 3)[:2]:
        tables.packed(viewer, piece)
    assert not list(tmp_path.rglob("*.safetensors"))
    tables.packed(viewer, EVERY[15:])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3  # the table, the maps, and the fingerprints
    later = Spied(model, inputs, tmp_path)
    later.tables.packed(viewer, np.array([3]))
    assert later.made == []


def of_rows(inputs: ItemInputs, rows: IntArray) -> ItemInputs:
    """A catalogue of these of the items, in this order."""
    assert isinstance(inputs.source, np.ndarray)
    assert inputs.text is not None
    chosen = torch.from_numpy(rows)
    return replace(inputs, source=inputs.source[rows], categories=inputs.categories[chosen], text=inputs.text[chosen])


def with_another_photo(inputs: ItemInputs) -> ItemInputs:
    photos = np.array(inputs.source)
    photos[6, 0, 0, 0] ^= 1
    return replace(inputs, source=photos)


def with_another_title(inputs: ItemInputs) -> ItemInputs:
    assert inputs.text is not None
    text = inputs.text.clone()
    text[6, 2] += 0.25
    return replace(inputs, text=text)


def with_another_category(inputs: ItemInputs) -> ItemInputs:
    categories = inputs.categories.clone()
    categories[6] = 1
    return replace(inputs, categories=categories)


CHANGES: dict[str, tuple[Callable[[ItemInputs], ItemInputs], Callable[[ItemInputs], ItemInputs], list[int]]] = {
    "added": (lambda every: of_rows(every, np.r_[0:5, 7:22]), lambda every: every, [5, 6]),
    "removed": (lambda every: every, lambda every: of_rows(every, np.r_[0:5, 7:22]), []),
    "reordered": (lambda every: every, lambda every: of_rows(every, EVERY[::-1].copy()), []),
    "photo": (lambda every: every, with_another_photo, [6]),
    "title": (lambda every: every, with_another_title, [6]),
    "category": (lambda every: every, with_another_category, [6]),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_of_a_changed_catalogue_only_the_new_is_made(
    change: str, world: tuple[Pan, ItemInputs], tmp_path: Path
) -> None:
    model, every = world
    before, after, new = CHANGES[change]
    viewer = eyes_of(model, 4)
    Spied(model, before(every), tmp_path).table(viewer)
    spied = Spied(model, after(every), tmp_path)
    found = np.array(spied.table(viewer))
    assert spied.made == new
    np.testing.assert_array_equal(found, plain_table(model, after(every), viewer))
    back = Spied(model, before(every), tmp_path)
    np.testing.assert_array_equal(back.table(viewer), plain_table(model, before(every), viewer))
    assert back.made == [], "the older catalogue's table is still there"
    other = Spied(model, after(every), tmp_path)
    other.table(eyes_of(model, 0))
    assert len(other.made) == len(after(every)), "another viewer's table helps nobody"


def test_two_older_catalogues_together_have_it_all(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, every = world
    viewer = eyes_of(model, 4)
    for rows in (EVERY[:9], EVERY[6:]):
        Spied(model, of_rows(every, rows), tmp_path).table(viewer)
    spied = Spied(model, every, tmp_path)
    np.testing.assert_array_equal(spied.table(viewer), plain_table(model, every, viewer))
    assert spied.made == []


def test_a_changed_model_makes_its_own(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    viewer = eyes_of(model, 4)
    before = np.array(Spied(model, inputs, tmp_path).table(viewer))
    with torch.no_grad():
        for weight in model.image_encoder.parameters():
            weight.mul_(-1)
    spied = Spied(model, inputs, tmp_path)
    found = spied.table(viewer)
    assert len(spied.made) == NUM_ITEMS
    assert (found != before).any()
    np.testing.assert_array_equal(found, plain_table(model, inputs, viewer))


def test_a_grown_catalogue_goes_on(world: tuple[Pan, ItemInputs], place: Path | None) -> None:
    model, every = world
    small = of_rows(every, EVERY[:17])
    viewer = eyes_of(model, 4)
    spied = Spied(model, small, place)
    spied.table(viewer)
    assert isinstance(every.source, np.ndarray)
    assert every.text is not None
    spied.tables.extend(small.extended(every.source[17:], every.categories[17:], every.text[17:]))
    assert spied.tables.is_made(viewer, EVERY[15:19]).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(spied.table(viewer), plain_table(model, every, viewer))
    assert spied.made == [17, 18, 19, 20, 21]
    if place is not None:  # and the same catalogue, imported anew, finds it
        later = Spied(model, every, place)
        later.table(viewer)
        assert later.made == []


def test_a_changed_block_of_a_store_changes_its_items(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    before = stored(tmp_path / "before", model, inputs, block_items=4)
    after = stored(tmp_path / "after", model, with_another_photo(with_another_photo(inputs)), block_items=4)
    np.testing.assert_array_equal(item_fingerprints(before), item_fingerprints(after))
    photos = np.array(inputs.source)
    photos[6] = 255 - photos[6]
    changed = stored(tmp_path / "changed", model, replace(inputs, source=photos), block_items=4)
    differ = (item_fingerprints(before) != item_fingerprints(changed)).any(axis=1)
    assert np.flatnonzero(differ).tolist() == [4, 5, 6, 7]
    alike = replace(before, text=None, categories=torch.zeros(NUM_ITEMS, dtype=torch.int64))
    assert len(np.unique(item_fingerprints(alike), axis=0)) == NUM_ITEMS, "the items of one block are told apart"
    assert isinstance(before.source, FeatureStore)
    for other in ({"weights": "of another trunk"}, {"extractor": "alexnet"}, {"preparation": "224 px, squash"}):
        manifest = before.source.manifest.model_copy(update=other)
        elsewhere = replace(before, source=replace(before.source, manifest=manifest))
        assert (item_fingerprints(before) != item_fingerprints(elsewhere)).any(axis=1).all()


def test_fingerprints_are_an_items_own(world: tuple[Pan, ItemInputs]) -> None:
    _, inputs = world
    rows = np.array([3, 3, 8])
    found = item_fingerprints(of_rows(inputs, rows))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found, item_fingerprints(inputs)[rows])
    np.testing.assert_array_equal(item_fingerprints(inputs, first=20), item_fingerprints(inputs)[20:])
    assert len(np.unique(item_fingerprints(inputs), axis=0)) == NUM_ITEMS


def written(model: Pan, inputs: ItemInputs, folder: Path) -> Path:
    """The file of user 4's table."""
    tables = Spied(model, inputs, folder).tables
    for user in (4, 5):
        tables.table(eyes_of(model, user))
    return next(folder.glob(f"*/*/{key_of(eyes_of(model, 4)).hex()}.safetensors"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_table(path: Path) -> None:
    path.write_text("some notes of mine, which are longer than eight bytes", "utf-8")


def with_another_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"panfit-codes 1", b"panfit-codes 0"))


def another_viewers(path: Path) -> None:
    other = next(each for each in path.parent.iterdir() if each != path and each.name != "items.safetensors")
    shutil.copy(other, path)


def another_kind(path: Path) -> None:
    shutil.copy(path.parent / "items.safetensors", path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [
    truncated,
    lengthened,
    flipped,
    emptied,
    no_table,
    with_another_header,
    another_viewers,
    another_kind,
    a_folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_the_table_is_refused(
    damage: Callable[[Path], None], world: tuple[Pan, ItemInputs], tmp_path: Path
) -> None:
    model, inputs = world
    path = written(model, inputs, tmp_path)
    damage(path)
    changed = with_another_title(inputs)  # takes over from the older table: it is not trusted either
    for given in (inputs, changed):
        spied = Spied(model, given, tmp_path)
        with pytest.raises(CacheError) as caught:
            spied.tables.packed(eyes_of(model, 4), np.array([1]))
        assert str(path) in str(caught.value)
        assert "Remove it, it is made again" in str(caught.value)
        spied.table(eyes_of(model, 5))  # others are not touched by it
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    spied = Spied(model, inputs, tmp_path)
    np.testing.assert_array_equal(spied.table(eyes_of(model, 4)), plain_table(model, inputs, eyes_of(model, 4)))


@pytest.mark.parametrize("damage", [truncated, flipped, no_table, another_viewers])
def test_damaged_fingerprints_are_refused(
    damage: Callable[[Path], None], world: tuple[Pan, ItemInputs], tmp_path: Path
) -> None:
    model, inputs = world
    items = written(model, inputs, tmp_path).with_name("items.safetensors")
    damage(items)
    with pytest.raises(CacheError) as caught:
        Spied(model, with_another_title(inputs), tmp_path).table(eyes_of(model, 4))
    assert str(items) in str(caught.value)


def test_a_renamed_catalogue_is_refused(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    path = written(model, inputs, tmp_path)
    path.parent.rename(path.parent.with_name("0" * 32))
    with pytest.raises(CacheError, match="found catalogue"):
        Spied(model, with_another_title(inputs), tmp_path).table(eyes_of(model, 4))


def test_fingerprints_of_other_items_are_refused(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    items = written(model, inputs, tmp_path).with_name("items.safetensors")
    path, said = items.parent, {"format": "panfit-codes 1", "model": items.parent.parent.name, "of": "items"}
    others = item_fingerprints(with_another_photo(inputs))
    code_files.write_rows(items, {**said, "catalogue": path.name}, others)  # a whole file, of the wrong contents
    with pytest.raises(CacheError, match="fingerprints that its folder is named by"):
        Spied(model, with_another_title(inputs), tmp_path).table(eyes_of(model, 4))


def test_a_folder_that_is_not_ours_is_refused(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"sea")
    with pytest.raises(CacheError, match="a folder with other things in it"):
        Spied(model, inputs, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]
    (tmp_path / "file").write_text("a file", "utf-8")
    with pytest.raises(CacheError, match="found a file, wanted a folder"):
        Spied(model, inputs, tmp_path / "file")
    (tmp_path / "old").mkdir()
    mark = tmp_path / "old" / "panfit-codes.json"
    mark.write_text(json.dumps({"format": "0"}), "utf-8")
    with pytest.raises(CacheError, match=r"another version of panfit.* Remove the folder"):
        Spied(model, inputs, tmp_path / "old")
    mark.write_text("{", "utf-8")
    with pytest.raises(CacheError, match="cannot be read"):
        Spied(model, inputs, tmp_path / "old")
    (tmp_path / "empty").mkdir()
    Spied(model, inputs, tmp_path / "empty").table(eyes_of(model, 0))


@pytest.mark.parametrize("where", ["folder", "table"])
def test_a_disk_that_takes_nothing_is_one_warning(
    where: str,
    world: tuple[Pan, ItemInputs],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, inputs = world

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_files, "write_aside" if where == "folder" else "write_rows", full)
    spied = Spied(model, inputs, tmp_path / "codes")
    with caplog.at_level(logging.WARNING, "panfit"):
        for user in (0, 1):
            viewer = eyes_of(model, user)
            np.testing.assert_array_equal(spied.table(viewer), plain_table(model, inputs, viewer))
            spied.tables.table(viewer)
            assert len(spied.made) == NUM_ITEMS
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()
    assert "stay in memory" in record.getMessage()


def test_a_full_disk_leaves_no_half_file(
    world: tuple[Pan, ItemInputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = world

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    Spied(model, inputs, tmp_path).table(eyes_of(model, 0))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["panfit-codes.json"]


def test_several_may_write_the_same(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    _, inputs = world
    items, table = item_fingerprints(inputs), np.arange(NUM_ITEMS * BYTES, dtype=np.uint8).reshape(-1, BYTES)
    files = [code_files.CodeFiles(tmp_path, model="ab", items=items) for _ in range(4)]
    threads = [threading.Thread(target=each.write, args=("cd", table)) for each in files for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in files:
        found = each.read("cd", BYTES)
        assert found is not None
        np.testing.assert_array_equal(found, table)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize("binary", [True, False])
def test_cached_scores_are_the_scorers(binary: bool, world: tuple[Pan, ItemInputs], place: Path | None) -> None:
    model, inputs = world
    outfits = draw_outfits(30)
    scores = CachedScores(Spied(model, inputs, place).tables)
    wanted = OutfitScorer(model, inputs).scores(Outfits(np.full(30, 3), outfits.items), binary=binary)
    for _ in range(2):
        np.testing.assert_allclose(scores(eyes_of(model, 3), outfits.items, binary=binary), wanted, atol=2e-5)


def test_keys_are_of_an_embeddings_bits() -> None:
    eyes = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    assert len({key_of(each) for each in eyes}) == 3
    assert key_of(eyes[0]) == key_of(eyes[0].clone())
    assert key_of(eyes[0]) != key_of(torch.nextafter(eyes[0], torch.tensor(9.0)))


def test_tables_together_take_a_bounded_space(tmp_path: Path) -> None:
    """The longest unused leave first, whatever model they are of; reading is using; the last one written stays."""
    items = np.arange(5 * 16, dtype=np.uint8).reshape(5, 16)
    table = np.arange(5 * 8, dtype=np.uint8).reshape(5, 8)
    files = code_files.CodeFiles(tmp_path, model="ab", items=items)
    for viewer in ("aa", "bb"):
        assert files.write(viewer, table)
    size = files.path("aa").stat().st_size
    for place, viewer in enumerate(("aa", "bb")):  # the clock may be too coarse to tell them apart
        os.utime(files.path(viewer), ns=(place, place))
    assert files.read("aa", 8) is not None
    other = code_files.CodeFiles(tmp_path, model="cd", items=items, max_bytes=2 * size + 10)
    assert other.write("cc", table)
    assert [files.path(viewer).exists() for viewer in ("aa", "bb")] == [True, False]
    least = code_files.CodeFiles(tmp_path, model="cd", items=items, max_bytes=1)
    assert least.write("dd", table)
    assert [path.name for path in tmp_path.rglob("??.safetensors")] == ["dd.safetensors"]
    np.testing.assert_array_equal(least.read("dd", 8), table)


def test_who_asks_for_most_of_a_kept_table_has_it_made_whole(world: tuple[Pan, ItemInputs], place: Path | None) -> None:
    """A recommendation asks for the items of known outfits alone, and the next process for them again."""
    model, inputs = world
    viewer = eyes_of(model, 3)
    wanted, most = plain_table(model, inputs, viewer), np.arange(NUM_ITEMS // 2 + 1)
    spied = Spied(model, inputs, place)
    np.testing.assert_array_equal(spied.tables.packed(viewer, most), wanted[most])
    assert len(spied.made) == (len(most) if place is None else NUM_ITEMS)
    later = Spied(model, inputs, place)
    np.testing.assert_array_equal(later.tables.packed(viewer, most), wanted[most])
    assert len(later.made) == (len(most) if place is None else 0)
