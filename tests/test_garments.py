"""The drawn garments: a factor changes pixels in its own region only, and visibly so."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from panfit.data.garments import GARMENTS, draw_garment, factor_region, garment_title
from panfit.data.pen import Pose, ellipse, smooth, stencil, supersampling

CASES = [(category, factor.name) for category, garment in GARMENTS.items() for factor in garment.factors]
VISIBLE = 60
"""A change of red + green + blue that an eye would notice, of 765."""
LEAST_PIXELS = 16
"""Pixels of a 64 x 64 picture that two values of a factor must differ in, visibly."""


def pixels(category: str, values: list[int], *, size: int, pose: Pose) -> NDArray[np.int64]:
    return np.asarray(draw_garment(category, values, size=size, pose=pose)).astype(np.int64)  # (size, size, 3)


def random_garment(category: str, rng: np.random.Generator) -> list[int]:
    return [int(rng.integers(len(factor.values))) for factor in GARMENTS[category].factors]


def random_pose(rng: np.random.Generator) -> Pose:
    x, y, turn = rng.uniform(-1, 1, 3)
    return Pose((0.025 * x, 0.025 * y), float(rng.uniform(0.93, 1.0)), 5 * turn, (236, 240, 228), 0.97)


def pictures_of_values(
    category: str, index: int, values: list[int], *, size: int, pose: Pose
) -> list[NDArray[np.int64]]:
    count = len(GARMENTS[category].factors[index].values)
    return [
        pixels(category, [*values[:index], value, *values[index + 1 :]], size=size, pose=pose) for value in range(count)
    ]


@pytest.mark.parametrize(("category", "name"), CASES)
@pytest.mark.parametrize("size", [48, 64])
def test_a_factor_changes_pixels_in_its_region_only_and_visibly(
    category: str, name: str, size: int, rng: np.random.Generator
) -> None:
    index = GARMENTS[category].factor(name)
    for _ in range(2):
        pose, values = random_pose(rng), random_garment(category, rng)
        region = factor_region(category, values, index, size=size, pose=pose)
        for one, other in combinations(pictures_of_values(category, index, values, size=size, pose=pose), 2):
            change = np.abs(one - other).sum(axis=2)  # (H, W)
            assert not (change[~region] > 0).any()
            assert (change > VISIBLE).sum() >= LEAST_PIXELS * (size / 64) ** 2


@pytest.mark.parametrize("category", GARMENTS)
def test_regions_are_small_and_apart(category: str, rng: np.random.Generator) -> None:
    values, size = random_garment(category, rng), 64
    regions = [
        factor_region(category, values, index, size=size, pose=random_pose(np.random.default_rng(1)))
        for index in range(len(GARMENTS[category].factors) - 1)
    ]  # all but the color's
    for region in regions:
        assert 0 < region.mean() < 0.45
        assert not region[:, [0, -1]].any()
    for one, other in combinations(regions, 2):
        assert (one & other).sum() <= 0.35 * min(one.sum(), other.sum())  # borders and shadows only


@pytest.mark.parametrize("category", GARMENTS)
def test_color_is_seen_where_the_garment_is(category: str) -> None:
    pose = Pose(ground=(240, 240, 240))
    values = [0] * len(GARMENTS[category].factors)
    silhouette = factor_region(category, values, len(values) - 1, size=64, pose=pose)
    bare = np.abs(pixels(category, values, size=64, pose=pose) - 240).sum(axis=2) == 0
    assert not (bare & silhouette).all()
    assert 0.15 < silhouette.mean() < 0.7
    assert silhouette[32].any()
    assert not silhouette[:, 0].any()


def test_regions_follow_the_pose() -> None:
    values = [0] * len(GARMENTS["top"].factors)
    logo = GARMENTS["top"].factor("logo")
    here = factor_region("top", values, logo, size=100, pose=Pose())
    there = factor_region("top", values, logo, size=100, pose=Pose(shift=(0.05, -0.03)))
    np.testing.assert_array_equal(np.roll(here, (-3, 5), axis=(0, 1)), there)


def test_pictures_vary_with_the_pose_and_nothing_else() -> None:
    values = [1] * len(GARMENTS["shoe"].factors)
    first = pixels("shoe", values, size=40, pose=Pose())
    np.testing.assert_array_equal(first, pixels("shoe", values, size=40, pose=Pose()))
    for other in (Pose(shift=(0.02, 0.0)), Pose(angle=4.0), Pose(scale=0.9), Pose(ground=(200, 220, 240))):
        assert (first != pixels("shoe", values, size=40, pose=other)).any()


@pytest.mark.parametrize("size", [32, 48, 64, 96, 128])
def test_pictures_have_the_size_asked_for(size: int) -> None:
    picture = draw_garment("bottom", [0] * 6, size=size, pose=Pose())
    assert (picture.size, picture.mode) == ((size, size), "RGB")
    assert size * supersampling(size) <= 288


def test_titles_name_visible_factors() -> None:
    top = GARMENTS["top"]
    values = [0] * len(top.factors)
    for name, value in (("color", "red"), ("pattern", "stripes"), ("sleeve", "long")):
        index = top.factor(name)
        values[index] = list(top.factors[index].values).index(value)
    assert garment_title("top", values) == "red striped longsleeve"
    assert garment_title("shoe", [0] * len(GARMENTS["shoe"].factors)) == "black stilettos"


def test_curves_and_stencils() -> None:
    path = smooth([(0.0, 0.0), (1.0, 2.0), (3.0, 1.0)], steps=4)
    assert path[0] == (0.0, 0.0)
    assert path[4] == (1.0, 2.0)
    assert path[-1] == (3.0, 1.0)
    disc = stencil([ellipse((0.5, 0.5), 0.25, points=60)], 120, Pose(scale=1.0))
    assert np.pi / 16 < disc.mean() < np.pi / 16 + 0.03  # its shadow lies beside it
