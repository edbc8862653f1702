"""Heat maps: what is relative, what is upsampled where, what is colored how."""

import numpy as np
import pytest
from PIL import Image

from panfit.explain import LESS, MORE, OUTLINE, color_bar, heat_map, relative_maps, upsample

WHITE = Image.new("RGB", (10, 10), (255, 255, 255))


def test_relative_maps_forget_the_garment_and_the_level(rng: np.random.Generator) -> None:
    garment = rng.uniform(0.5, 2.0, (3, 4))  # (H, W) what everybody sees
    same = np.stack([garment, 3 * garment])  # (U, H, W)
    assert np.allclose(relative_maps(same), 0)
    one_looks = same.copy()
    one_looks[0, 1, 2] *= 4
    relative = relative_maps(one_looks)
    assert np.unravel_index(relative[0].argmax(), (3, 4)) == (1, 2)
    assert np.unravel_index(relative[1].argmin(), (3, 4)) == (1, 2)
    assert relative[0, 1, 2] > 0 > relative[1, 1, 2]


def test_relative_maps_want_positive_maps() -> None:
    with pytest.raises(ValueError, match="positive"):
        relative_maps(np.zeros((2, 3, 4)))


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
