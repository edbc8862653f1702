"""The trunk runs once on an item, whatever process asks; the bits stay the same; nothing stale or damaged is used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from panfit import map_files
from panfit.codes import CodeTables, key_of
from panfit.encode import ItemCoder, MapDtype
from panfit.errors import CacheError
from panfit.features.inputs import ItemInputs
from panfit.model.pan import Pan
from tests.test_codes import EVERY, MUCH, eyes_of, flipped, plain_table, truncated, with_another_photo
from tests.test_scoring import NUM_ITEMS, make
from tests.test_sweep import stored


@pytest.fixture
def world() -> tuple[Pan, ItemInputs]:
    return make()


class Counted:
    """Tables of a process of its own, and on how many items its trunk has run."""

    def __init__(self, model: Pan, inputs: ItemInputs, folder: Path, *, map_dtype: MapDtype = "auto") -> None:
        self.num_run = 0
        self._model, self._real = model, model.feature_maps
        self.tables = CodeTables(ItemCoder(model, inputs, map_dtype=map_dtype), max_bytes=MUCH, folder=folder)

    def table(self, user: int) -> np.ndarray:
        def counted(batch: torch.Tensor) -> torch.Tensor:
            self.num_run += len(batch)
            return self._real(batch)

        self._model.feature_maps = counted  # type: ignore[assignment, method-assign]
        try:
            return self.tables.table(eyes_of(self._model, user))
        finally:
            self._model.feature_maps = self._real  # type: ignore[method-assign]


def file_in(folder: Path) -> Path:
    (path,) = folder.glob("*/*/maps.safetensors")
    return path


@pytest.mark.parametrize("map_dtype", ["float32", "float16"])
def test_a_later_process_runs_no_trunk(world: tuple[Pan, ItemInputs], tmp_path: Path, map_dtype: MapDtype) -> None:
    model, inputs = world
    first = Counted(model, inputs, tmp_path, map_dtype=map_dtype)
    first.table(1)
    assert first.num_run == NUM_ITEMS
    later = Counted(model, inputs, tmp_path, map_dtype=map_dtype)
    found = later.table(2)
    assert later.num_run == 0
    np.testing.assert_array_equal(found, first.table(2))
    one, other = (each.tables.coder.maps for each in (first, later))
    assert one.dtype == other.dtype == map_dtype
    np.testing.assert_array_equal(one.as_bytes(), other.as_bytes())
    if map_dtype == "float32":
        np.testing.assert_array_equal(found, plain_table(model, inputs, eyes_of(model, 2)))


def test_maps_that_were_made_piece_by_piece_are_in_order(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    tables = Counted(model, inputs, tmp_path).tables
    for piece in (EVERY[15:], EVERY[:4]):
        tables.packed(eyes_of(model, 1), piece)
    assert not list(tmp_path.glob("*/*/maps.safetensors"))
    tables.packed(eyes_of(model, 3), EVERY)  # of somebody else: the maps are whole, his table too
    assert file_in(tmp_path).is_file()
    found = Counted(model, inputs, tmp_path).table(2)
    np.testing.assert_array_equal(found, plain_table(model, inputs, eyes_of(model, 2)))


def test_only_a_changed_photo_goes_through_the_trunk(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    Counted(model, inputs, tmp_path).table(1)
    changed = with_another_photo(inputs)
    later = Counted(model, changed, tmp_path)
    found = later.table(2)
    assert later.num_run == 1
    np.testing.assert_array_equal(found, plain_table(model, changed, eyes_of(model, 2)))
    last = Counted(model, changed, tmp_path)
    last.table(3)
    assert last.num_run == 0
    assert len(list(tmp_path.glob("*/*/maps.safetensors"))) == 2


def test_changed_weights_make_other_maps(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    Counted(model, inputs, tmp_path).table(1)
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(-1.5)
    later = Counted(model, inputs, tmp_path)
    found = later.table(2)
    assert later.num_run == NUM_ITEMS
    np.testing.assert_array_equal(found, plain_table(model, inputs, eyes_of(model, 2)))


def test_items_that_join_go_through_the_trunk_alone(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    later = Counted(model, inputs, tmp_path)
    later.table(1)
    rows = np.array([3, 8])
    text = None if inputs.text is None else inputs.text[rows]
    photos = inputs.raw(rows)
    photos[0] ^= 1  # the other photo is known already, from another item
    more = inputs.extended(photos, inputs.categories[rows], text)
    later.tables.extend(more)
    found = later.table(2)
    assert later.num_run == NUM_ITEMS + 1
    np.testing.assert_array_equal(found, plain_table(model, more, eyes_of(model, 2)))


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_a_damaged_file_is_refused(
    damage: Callable[[Path], None], world: tuple[Pan, ItemInputs], tmp_path: Path
) -> None:
    model, inputs = world
    Counted(model, inputs, tmp_path).table(1)
    damage(file_in(tmp_path))
    later = Counted(model, inputs, tmp_path)
    later.table(1)  # his table is there, and wants no maps
    for _ in range(2):
        with pytest.raises(CacheError, match=r"maps\.safetensors.*Remove it, it is made again"):
            later.table(2)
    file_in(tmp_path).unlink()
    assert Counted(model, inputs, tmp_path).table(2).shape == (NUM_ITEMS, 6)


def test_what_is_too_much_is_not_kept(
    world: tuple[Pan, ItemInputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = world
    maps = ItemCoder(model, inputs).maps
    monkeypatch.setattr(map_files, "MOST_BYTES", maps.num_bytes - 1)
    Counted(model, inputs, tmp_path).table(1)
    assert (next(tmp_path.glob("*/*")) / f"{key_of(eyes_of(model, 1)).hex()}.safetensors").is_file()
    assert not list(tmp_path.rglob("maps.safetensors"))


def test_stored_maps_are_not_kept_a_second_time(world: tuple[Pan, ItemInputs], tmp_path: Path) -> None:
    model, inputs = world
    Counted(model, stored(tmp_path / "store", model, inputs), tmp_path / "codes").table(1)
    assert list((tmp_path / "codes").rglob("items.safetensors"))
    assert not list((tmp_path / "codes").rglob("maps.safetensors"))
