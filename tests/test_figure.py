"""The figure: a row for each user, a column for each garment, one scale for all maps, no color without reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panfit import figure
from panfit.errors import DataError
from panfit.explain import Explanation
from panfit.figure import CELL, GAP, MARGIN, SIDE, Look, as_seen, explanation_picture, photos_of, signed
from panfit.heat import MORE
from tests.explaining import make_closet

WORN = ("top-0", None, "bottom-2", "shoe-3")
PHOTOS = {
    "top": Image.new("RGB", (90, 120), (250, 250, 250)),
    "bottom": Image.new("RGB", (120, 60), (8, 8, 8)),
    "shoe": Image.new("RGB", (50, 50), (128, 128, 128)),
}


@pytest.fixture(scope="module")
def both() -> Explanation:
    return make_closet().compare("ann", "eve", *WORN)


def pixels(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture).astype(np.int64)


def cell(picture: Image.Image, row: int, column: int) -> NDArray[np.int64]:
    """The (CELL, CELL, 3) pixels of a user's map; row -1: of the photo."""
    page = figure._Page(columns=3, rows=2, pairs=3)
    top = page.top + row * page.row_height if row >= 0 else MARGIN + 74 + figure.HEADER
    left = MARGIN + SIDE + column * (CELL + GAP)
    return pixels(picture)[top : top + CELL, left : left + CELL]


def colored(values: NDArray[np.int64]) -> float:
    """The share of pixels that are not gray."""
    return float((np.ptp(values, axis=2) > 12).mean())


@pytest.mark.parametrize("look", ["relative", "absolute"])
def test_one_row_a_user_and_one_column_a_garment(both: Explanation, look: Look) -> None:
    picture = explanation_picture(both, PHOTOS, look=look)
    alone = explanation_picture(replace(both, against=None), PHOTOS, look=look)
    assert picture.mode == "RGB"
    assert picture.width == alone.width == 2 * MARGIN + SIDE + 3 * CELL + 2 * GAP
    assert picture.height > alone.height + CELL
    for column in range(3):
        assert colored(cell(picture, -1, column)) == 0  # the photos themselves are gray
        for row in range(2):
            assert colored(cell(picture, row, column)) > 0.05
    assert (pixels(picture)[[0, -1]] == 255).all()


def test_photos_keep_their_proportions(both: Explanation) -> None:
    picture = explanation_picture(both, PHOTOS)
    ground = cell(picture, -1, 1)  # twice as wide as high: black in the middle half
    assert (ground[: CELL // 4 - 2] == 255).all()
    assert (ground[CELL // 4 + 4 : CELL // 2, 8:-8] < 30).all()


def test_what_is_looked_at_more_than_by_others_is_red(both: Explanation) -> None:
    there = np.zeros((4, 4))
    there[0, 3] = 1.0  # top right, twice as much as others
    plain = {slot: np.zeros((4, 4)) for slot in both.by_item}
    assert both.against is not None
    mine = replace(both, relative_maps={**plain, "shoe": there}, against=replace(both.against, relative_maps=plain))
    picture = explanation_picture(mine, PHOTOS)
    values = cell(picture, 0, 2)
    assert np.argmax(values[CELL // 8, CELL - CELL // 8]) == np.argmax(MORE)
    assert np.ptp(values[CELL - CELL // 8, CELL // 8]) < 5
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 2)):
        assert colored(cell(picture, row, column)) == 0


def test_maps_that_all_but_agree_stay_pale(both: Explanation) -> None:
    faint = {slot: np.full((4, 4), 0.01) for slot in both.by_item}
    picture = explanation_picture(replace(both, relative_maps=faint, against=None), PHOTOS)
    assert colored(cell(picture, 0, 0)) == 0


def test_without_attention_no_colors_are_shown() -> None:
    found = make_closet(attention={"kind": "none"}).compare("ann", "eve", *WORN)
    for look in ("relative", "absolute"):
        picture = explanation_picture(found, PHOTOS, look=look)
        for row in range(2):
            for column in range(3):
                assert colored(cell(picture, row, column)) == 0


def test_items_without_photo_get_a_tile(both: Explanation) -> None:
    picture = explanation_picture(both, {"top": PHOTOS["top"]})
    assert colored(cell(picture, 0, 0)) > 0.05
    assert colored(cell(picture, 0, 1)[5:-5, 5:-5]) < 0.01  # the words on it
    assert (cell(picture, 0, 1)[20, 20] == figure.TILE).all()


def test_long_and_foreign_names_do_not_break_the_page(both: Explanation) -> None:
    picture = explanation_picture(both, PHOTOS)
    named = replace(both, user="a user whose name is far too long " * 9, items=("\u88d9\u5b50" * 40, *both.items[1:]))
    assert explanation_picture(named, PHOTOS).size == picture.size


def test_many_slots_make_room_for_their_pairs(both: Explanation) -> None:
    pairs = {(f"slot {m}", f"slot {n}"): 0.1 for m in range(6) for n in range(m)}
    taller = explanation_picture(replace(both, by_pair=pairs, against=None), PHOTOS)
    assert taller.height > explanation_picture(replace(both, against=None), PHOTOS).height + 100


def test_a_padded_photo_is_shown_with_its_ground() -> None:
    seen = as_seen(PHOTOS["bottom"], "pad")
    assert seen.size == (120, 120)
    assert seen.getpixel((60, 10)) == (255, 255, 255)
    assert seen.getpixel((60, 60)) == (8, 8, 8)
    assert as_seen(PHOTOS["bottom"], "squash") is PHOTOS["bottom"]
    assert as_seen(PHOTOS["shoe"], "pad") is PHOTOS["shoe"]


def test_photos_are_found_in_the_catalogue(both: Explanation, tmp_path: Path) -> None:
    catalogue = make_closet().dataset.catalogue
    PHOTOS["top"].save(tmp_path / "top.png")
    images: list[str | None] = [None] * len(catalogue)
    images[catalogue.row_of["top-0"]] = "top.png"
    found = photos_of(both, replace(catalogue, images=tuple(images), image_root=tmp_path), "squash")
    assert {slot: photo.size for slot, photo in found.items()} == {"top": (90, 120)}
    images[catalogue.row_of["shoe-3"]] = "gone.png"
    with pytest.raises(DataError, match=r"gone\.png"):
        photos_of(both, replace(catalogue, images=tuple(images), image_root=tmp_path), "squash")


def test_signed() -> None:
    assert [signed(value) for value in (1.234, -0.5, -0.001, 0.0)] == ["+1.23", "-0.50", "+0.00", "+0.00"]
