"""Drawn garments: a category, a value for each visible factor and a pose -> a picture, and where each factor is seen.

    picture = draw_garment("top", (0, 2, 1, 0, 3, 1, 4), size=64, pose=pose)

Every factor but the color has a fixed region of the garment; changing a factor's value changes pixels in its region
only (tests/test_garments.py holds it). So the wardrobe world knows where a user who cares about a factor should look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panfit.data import garment_bottoms, garment_shoes, garment_tops
from panfit.data.garment_parts import COLORS, Draw, Factor, nothing
from panfit.data.pen import Pen, Pose, stencil

COLOR = Factor("color", dict.fromkeys(COLORS, nothing), words={name: name for name in COLORS})
"""The fabric's color: seen wherever the garment is."""


@dataclass(frozen=True)
class Garment:
    """How a category is drawn: factors[:behind], then the body, then the other factors over it; the color comes last.

    Attributes:
        factors: the visible factors, "color" last.
        body: what every garment of the category has.
        behind: how many factors are painted before the body.
        stretch: (x, y) how much wider and taller than drawn it is shown.
        raised: how far it is moved up, so that it sits in the middle.
        title: the factors whose words make a title, in this order.
    """

    factors: tuple[Factor, ...]
    body: Draw
    behind: int = 0
    stretch: tuple[float, float] = (1.0, 1.0)
    raised: float = 0.0
    title: tuple[str, ...] = ("color",)

    def posed(self, pose: Pose) -> Pose:
        """The pose with the category's own proportions."""
        return replace(pose, stretch=self.stretch, raised=self.raised)

    def factor(self, name: str) -> int:
        """The index of a factor."""
        return [factor.name for factor in self.factors].index(name)


GARMENTS: Mapping[str, Garment] = {
    "top": Garment(
        (*garment_tops.FACTORS, COLOR),
        garment_tops.torso,
        behind=1,
        stretch=(0.94, 1.0),
        raised=-0.02,
        title=("color", "pattern", "sleeve"),
    ),
    "bottom": Garment(
        (*garment_bottoms.FACTORS, COLOR),
        garment_bottoms.hips,
        stretch=(1.18, 1.0),
        raised=-0.01,
        title=("color", "texture", "cut"),
    ),
    "shoe": Garment(
        (*garment_shoes.FACTORS, COLOR),
        garment_shoes.quarter,
        stretch=(0.94, 1.06),
        raised=0.085,
        title=("color", "toe", "heel"),
    ),
}
"""Category -> how it is drawn, in the order of an outfit's slots."""


def draw_garment(category: str, values: Sequence[int], *, size: int, pose: Pose) -> Image.Image:
    """A garment's picture: RGB, ``size`` x ``size`` pixels.

    Args:
        category: one of GARMENTS.
        values: for each factor of the category, the index of its value.
        size: side of the picture, pixels.
        pose: how the garment lies.
    """
    return _painted(category, values, size, pose).picture()


def factor_region(category: str, values: Sequence[int], factor: int, *, size: int, pose: Pose) -> NDArray[np.bool_]:
    """(size, size) True where the factor is seen: its region as the garment lies; for the color, the garment."""
    garment = GARMENTS[category]
    trait = garment.factors[factor]
    if not trait.region:
        return _painted(category, values, size, pose).silhouette()
    posed = garment.posed(pose)
    region = stencil(trait.region, size, posed)
    if trait.shapes:
        body = Pen(size, posed)
        garment.body(body, COLORS["white"])
        region |= stencil(trait.region, size, posed, shadow=True) & ~body.covered()  # no shadow shows on the body
    return region


def garment_title(category: str, values: Sequence[int]) -> str:
    """What a shop would call the garment: some of its visible factors, such as "red striped longsleeve"."""
    garment = GARMENTS[category]
    words = []
    for name in garment.title:
        index = garment.factor(name)
        factor = garment.factors[index]
        words.append(factor.words.get(list(factor.values)[values[index]], ""))
    return " ".join(filter(None, words))


def _painted(category: str, values: Sequence[int], size: int, pose: Pose) -> Pen:
    garment = GARMENTS[category]
    names = [list(factor.values)[value] for factor, value in zip(garment.factors, values, strict=True)]
    painters = [factor.values[name] for factor, name in zip(garment.factors, names, strict=True)]
    cloth = COLORS[names[-1]]
    pen = Pen(size, garment.posed(pose))
    for paint in (*painters[: garment.behind], garment.body, *painters[garment.behind :]):
        paint(pen, cloth)
    return pen
