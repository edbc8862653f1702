"""Heat maps: what is upsampled where, what is colored how, on light photos and on dark ones."""

import numpy as np
import pytest
from PIL import Image

from panfit.heat import LESS, MORE, OUTLINE, color_bar, heat_map, upsample

WHITE = Image.new("RGB", (10, 10), (255, 255, 255))
BLACK = Image.new("RGB", (10, 10), (0, 0, 0))


def test_upsampling_keeps_places_and_range() -> None:
    values = np.zeros((2, 3))
    values[1, 0] = 6.0
    large = upsample(values, 24)
    assert large.shape == (24, 24)
    assert large[18, 2] == pytest.approx(6.0)
    assert large[2, 20] == pytest.approx(0.0)
    assert large.max() <= 6.0


def test_colors_say_more_and_less_and_nothing_at_zero() -> None:
    values = np.array([[5.0, 0.0, -5.0]] * 3)
    picture = np.asarray(heat_map(WHITE, values, reach=1.0, size=30)).astype(int)
    more, middle, less = picture[15, 1], picture[15, 15], picture[15, 28]
    assert np.abs(middle - 255).max() < 60
    assert np.argmax(more) == np.argmax(MORE)
    assert np.argmax(less) == np.argmax(LESS)


def test_a_region_gets_an_outline_and_keeps_its_inside() -> None:
    region = np.zeros((10, 10), dtype=bool)
    region[2:8, 2:8] = True
    picture = np.asarray(heat_map(WHITE, np.zeros((2, 2)), reach=1.0, region=region, size=100))
    outlined = (picture == OUTLINE).all(axis=2)
    assert outlined[21, 50]
    assert outlined[50, 78]
    assert not outlined[50, 50]
    assert not outlined[5, 5]


def test_colors_are_faint_beside_the_item() -> None:
    within = np.zeros((30, 30), dtype=bool)
    within[:, :15] = True
    picture = np.asarray(heat_map(WHITE, np.full((2, 2), 9.0), reach=1.0, within=within, size=30)).astype(int)
    inside, beside = (255 - picture[15, column].min() for column in (3, 27))
    assert inside > 3 * beside > 0


def test_the_color_bar_runs_from_less_to_more() -> None:
    bar = np.asarray(color_bar(64, 5)).astype(int)
    assert bar.shape == (5, 64, 3)
    assert np.argmax(bar[2, 0]) == np.argmax(LESS)
    assert np.argmax(bar[2, -1]) == np.argmax(MORE)


def test_the_color_bar_of_looks_starts_at_nothing() -> None:
    bar = np.asarray(color_bar(64, 5, scale="more")).astype(int)
    assert np.ptp(bar[2, 0]) < 8
    assert np.argmax(bar[2, -1]) == np.argmax(MORE)


@pytest.mark.parametrize("photo", [WHITE, BLACK])
def test_faint_colors_can_be_told_from_none_on_any_photo(photo: Image.Image) -> None:
    values = np.array([[-0.4, 0.0, 0.4]])
    picture = np.asarray(heat_map(photo, values, reach=1.0, size=(30, 10))).astype(int)
    less, middle, more = picture[5, 0], picture[5, 15], picture[5, 29]
    assert np.abs(more - middle).max() > 25
    assert np.abs(less - middle).max() > 25
    assert np.ptp(middle) < 25


def test_dark_photos_keep_their_details() -> None:
    stripes = Image.fromarray(np.tile(np.array([[0, 60]], dtype=np.uint8), (8, 4)))
    picture = np.asarray(heat_map(stripes.convert("RGB"), np.zeros((2, 2)), reach=1.0, size=8)).astype(int)
    assert picture[4, 1, 0] - picture[4, 0, 0] > 25


def test_a_picture_need_not_be_square() -> None:
    values = np.array([[0.0, 9.0], [0.0, 0.0]])
    picture = heat_map(WHITE, values, reach=1.0, size=(20, 40))
    assert picture.size == (20, 40)
    pixels = np.asarray(picture).astype(int)
    assert np.argmax(pixels[4, 17]) == np.argmax(MORE)
    assert np.ptp(pixels[36, 2]) < 5
