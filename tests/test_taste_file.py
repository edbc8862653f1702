"""What newcomers are compared with is kept for later processes: bit for bit, under all it is made of, or made again."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panfit import taste_file
from panfit.code_files import check_folder
from panfit.encode import ItemCoder
from panfit.features.inputs import ItemInputs
from panfit.model.pan import Pan
from panfit.newcomers import NewcomerFitter
from tests.test_scoring import NUM_USERS, draw_outfits, make

NOTHING = np.zeros((0, 4), dtype=np.int64)
LIKES, DISLIKES = draw_outfits(40).items[30:34], draw_outfits(40).items[35:38]


@pytest.fixture(scope="module")
def world() -> tuple[Pan, ItemInputs]:
    return make()


def fitter_of(world: tuple[Pan, ItemInputs], folder: Path | None, **options: int) -> NewcomerFitter:
    """Of more users than tastes, unless told otherwise."""
    model, inputs = world
    eyes = model.user_embeddings(torch.arange(NUM_USERS))
    given = {"num_references": 5, "max_tastes": 3} | options
    return NewcomerFitter(ItemCoder(model, inputs), eyes, draw_outfits().items, folder=folder, **given)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_a_later_process_takes_it_to_the_last_bit_and_encodes_nothing(
    world: tuple[Pan, ItemInputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fitter_of(world, None)
    first = fitter_of(world, tmp_path)
    first.prepare()
    assert len(files_in(tmp_path)) == 1
    later = fitter_of(world, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ItemCoder, "codes", None)
        patch.setattr("panfit.newcomers.group_tastes", None)
        later.prepare()
    assert torch.equal(later.tastes.embeddings, made.tastes.embeddings)
    assert len(later.tastes.shares) == 3
    for fitter in (first, later):
        np.testing.assert_array_equal(fitter.weights(LIKES, DISLIKES), made.weights(LIKES, DISLIKES))
        assert torch.equal(fitter.fit(LIKES, NOTHING), made.fit(LIKES, NOTHING))
    check_folder(tmp_path)  # of code tables, still


def other_weights(model: Pan, inputs: ItemInputs) -> tuple[Pan, ItemInputs]:
    other = make()[0]
    with torch.no_grad():
        next(iter(other.predictor.parameters())).mul_(1.5)
    return other, inputs


def other_users(model: Pan, inputs: ItemInputs) -> tuple[Pan, ItemInputs]:
    other = make()[0]
    with torch.no_grad():
        for weight in other.user_encoder.parameters():
            weight.mul_(-1)
    return other, inputs


def other_photo(model: Pan, inputs: ItemInputs) -> tuple[Pan, ItemInputs]:
    assert isinstance(inputs.source, np.ndarray)
    photos: NDArray[np.uint8] = 255 - inputs.source
    return model, replace(inputs, source=photos)


@pytest.mark.parametrize("change", [other_weights, other_users, other_photo])
def test_what_is_of_another_model_or_other_items_is_not_taken(
    world: tuple[Pan, ItemInputs], tmp_path: Path, change: Callable[[Pan, ItemInputs], tuple[Pan, ItemInputs]]
) -> None:
    fitter_of(world, tmp_path).prepare()
    changed = change(*world)
    found = fitter_of(changed, tmp_path).weights(LIKES, DISLIKES)
    np.testing.assert_array_equal(found, fitter_of(changed, None).weights(LIKES, DISLIKES))
    assert len(files_in(tmp_path)) == 2


@pytest.mark.parametrize("options", [{"seed": 4}, {"num_references": 6}, {"max_tastes": 2}, {"max_tastes": 50}])
def test_nor_what_was_made_otherwise(world: tuple[Pan, ItemInputs], tmp_path: Path, options: dict[str, int]) -> None:
    fitter_of(world, tmp_path).prepare()
    found = fitter_of(world, tmp_path, **options).weights(LIKES, DISLIKES)
    np.testing.assert_array_equal(found, fitter_of(world, None, **options).weights(LIKES, DISLIKES))
    assert len(files_in(tmp_path)) == 2


def flipped(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    return bytes(content)


DAMAGE: dict[str, Callable[[Path], bytes]] = {
    "a flipped bit": flipped,
    "half of it": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "nothing": lambda path: b"",
    "a pickle": lambda path: b"\x80\x04\x95" + bytes(200),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_told_and_made_again(
    world: tuple[Pan, ItemInputs], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = fitter_of(world, tmp_path).weights(LIKES, DISLIKES)
    (path,) = files_in(tmp_path)
    path.write_bytes(DAMAGE[damage](path))
    with caplog.at_level(logging.WARNING, "panfit"):
        np.testing.assert_array_equal(fitter_of(world, tmp_path).weights(LIKES, DISLIKES), wanted)
        np.testing.assert_array_equal(fitter_of(world, tmp_path).weights(LIKES, DISLIKES), wanted)
    assert [str(path) in record.message for record in caplog.records] == [True], "told once: it was mended"


def test_a_whole_file_in_another_s_place_is_not_taken(
    world: tuple[Pan, ItemInputs], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitter_of(world, tmp_path, seed=1).prepare()
    (other,) = files_in(tmp_path)
    wanted = fitter_of(world, tmp_path).weights(LIKES, DISLIKES)
    (mine,) = (path for path in files_in(tmp_path) if path != other)
    mine.write_bytes(other.read_bytes())
    np.testing.assert_array_equal(fitter_of(world, tmp_path).weights(LIKES, DISLIKES), wanted)
    assert "not the code table that it should be" in caplog.text


def test_a_disk_that_takes_nothing_is_a_warning(
    world: tuple[Pan, ItemInputs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(taste_file, "write_rows", full)
    found = fitter_of(world, tmp_path).weights(LIKES, DISLIKES)
    np.testing.assert_array_equal(found, fitter_of(world, None).weights(LIKES, DISLIKES))
    assert "No space left on device" in caplog.text
    assert not files_in(tmp_path)
