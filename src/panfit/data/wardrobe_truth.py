"""What is true in a wardrobe world: what every item shows, what every user likes, and where he looks.

    utility = signal * (personal_weight * personal + general_weight * general)

personal: the sum over the worn items of the user's weights of the values they show. general: whether the items' colors
harmonize and their styles match, over all pairs of items. Both have unit spread over random outfits, so the two
weights say what they seem to say. Pictures and regions are drawn again from the factor values, not stored.
"""

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panfit.data.garment_parts import COLORS
from panfit.data.garments import GARMENTS, draw_garment, factor_region
from panfit.data.pen import Pose
from panfit.errors import DataError, Problem
from panfit.outfits import ABSENT, IntArray, Outfits

FloatArray = NDArray[np.float64]

FORMAT = 1
CATEGORIES = tuple(GARMENTS)
NUM_FACTORS = max(len(garment.factors) for garment in GARMENTS.values())
NUM_VALUES = max(len(factor.values) for garment in GARMENTS.values() for factor in garment.factors)
POSE_COLUMNS = ("shift_x", "shift_y", "scale", "angle", "red", "green", "blue", "light")

FORMALITY: dict[str, dict[str, dict[str, float]]] = {
    "top": {
        "collar": {"crew": -1.0, "v": -0.3, "shirt": 0.8, "turtle": 0.2, "bow": 1.0},
        "hem": {"straight": 0.4, "ribbed": -0.4, "peplum": 1.0, "fringe": -1.0},
    },
    "bottom": {
        "cut": {"shorts": -1.0, "slim": 0.4, "flared": -0.2, "mini": -0.2, "long": 1.0},
        "waist": {"band": 1.0, "elastic": -1.0, "paperbag": 0.6, "drawstring": -0.6},
    },
    "shoe": {
        "heel": {"stiletto": 1.0, "block": -0.4, "wedge": -1.0, "cone": 0.4, "spool": 0.0},
        "platform": {"thin": 1.0, "slab": -0.2, "lugs": -1.0, "layers": 0.2},
    },
}
"""From casual (-1) to formal (+1): what makes two items match in style."""

_HUES = {"red": 0.0, "yellow": 50.0, "green": 130.0, "blue": 220.0, "pink": 335.0, "brown": 25.0}
"""Degrees; black and white have none."""


def harmony() -> FloatArray:
    """(8, 8) how well two colors go together, -1..1: near hues and opposite hues do, those in between clash.

    Black and white go a little with everything, and well with each other.
    """
    table = np.zeros((len(COLORS), len(COLORS)))
    for (row, one), (column, other) in ((a, b) for a in enumerate(COLORS) for b in enumerate(COLORS)):
        if one in _HUES and other in _HUES:
            table[row, column] = np.cos(2 * np.radians(_HUES[one] - _HUES[other]))
        else:
            table[row, column] = 0.25 if one in _HUES or other in _HUES else 0.75
    return table


def style_of(category: str) -> FloatArray:
    """(F, V) how formal each value of each factor makes a garment of the category."""
    table = np.zeros((NUM_FACTORS, NUM_VALUES))
    for name, values in FORMALITY[category].items():
        index = GARMENTS[category].factor(name)
        for place, value in enumerate(GARMENTS[category].factors[index].values):
            table[index, place] = values[value]
    return table


def num_values() -> IntArray:
    """(3, F) how many values each factor of each category has; 0 where a category has fewer factors."""
    counts = np.zeros((len(CATEGORIES), NUM_FACTORS), dtype=np.int64)
    for row, garment in enumerate(GARMENTS.values()):
        counts[row, : len(garment.factors)] = [len(factor.values) for factor in garment.factors]
    return counts


def random_values(categories: IntArray, rng: np.random.Generator) -> NDArray[np.int8]:
    """(N,) categories -> (N, F) int8 values, each as likely as the others; 0 beyond a category's factors."""
    counts = np.maximum(num_values()[categories], 1)  # (N, F)
    return rng.integers(counts).astype(np.int8)


def general_parts(categories: IntArray, values: NDArray[np.int8]) -> tuple[FloatArray, FloatArray]:
    """(B, S) worn items' categories (ABSENT: none) and (B, S, F) values -> (B,) color harmony, (B,) style match."""
    worn = categories != ABSENT  # (B, S)
    color_index = np.array([garment.factor("color") for garment in GARMENTS.values()])
    color = np.take_along_axis(values, color_index[categories][..., None], axis=2)[..., 0]  # (B, S)
    table = np.stack([style_of(category) for category in CATEGORIES])  # (3, F, V)
    style = table[categories[..., None], np.arange(NUM_FACTORS), values].sum(axis=2)  # (B, S)
    pair_harmony = harmony()
    colors, styles = np.zeros(len(categories)), np.zeros(len(categories))
    for one, other in combinations(range(categories.shape[1]), 2):
        both = worn[:, one] & worn[:, other]
        colors += both * pair_harmony[color[:, one], color[:, other]]
        styles += both * style[:, one] * style[:, other]
    return colors, styles


@dataclass(frozen=True, eq=False)
class Truth:
    """What a wardrobe world knows and a model must find out.

    Attributes:
        categories: (N,) index of each item's category in CATEGORIES.
        values: (N, F) int8 the value each item shows of each factor of its category.
        poses: (N, 8) float32 how it lies in its photo, columns POSE_COLUMNS.
        tastes: (M, 3, F, V) float32 each user's weight of each value; 0 for factors the user does not care about.
        groups: (M,) the group each user belongs to.
        image_size: side of a photo, pixels.
        signal: 0..1, scales everything there is to learn.
        personal_weight, general_weight: of the two parts.
        general_moments: (color mean, color spread, style mean, style spread) over random outfits.
    """

    categories: IntArray
    values: NDArray[np.int8]
    poses: NDArray[np.float32]
    tastes: NDArray[np.float32]
    groups: IntArray
    image_size: int
    signal: float
    personal_weight: float
    general_weight: float
    general_moments: tuple[float, float, float, float]

    def utility(self, outfits: Outfits) -> FloatArray:
        """(B,) how much each user likes each outfit; no scorer can rank likes better in the long run."""
        personal, general = self.personal(outfits), self.general(outfits)
        return self.signal * (self.personal_weight * personal + self.general_weight * general)

    def personal(self, outfits: Outfits) -> FloatArray:
        """(B,) the user's own part, of unit spread over random outfits; not scaled by the signal."""
        scores = np.zeros(len(outfits))
        for slot in range(outfits.items.shape[1]):
            items = outfits.items[:, slot]  # (B,)
            weights = self.tastes[outfits.users, self.categories[items]]  # (B, F, V)
            shown = np.take_along_axis(weights, self.values[items][..., None].astype(np.int64), axis=2)  # (B, F, 1)
            scores += np.where(items == ABSENT, 0.0, shown[..., 0].sum(axis=1, dtype=np.float64))
        return scores

    def general(self, outfits: Outfits) -> FloatArray:
        """(B,) everybody's part: color harmony and style match, of unit spread; not scaled by the signal."""
        categories = np.where(outfits.mask, self.categories[outfits.items], ABSENT)  # (B, S)
        colors, styles = general_parts(categories, self.values[outfits.items])
        color_mean, color_spread, style_mean, style_spread = self.general_moments
        both = (colors - color_mean) / color_spread + (styles - style_mean) / style_spread
        return np.asarray(both / np.sqrt(2.0))

    def cares(self, user_row: int, item_row: int) -> tuple[str, ...]:
        """The names of the factors of this item that matter to this user."""
        category = int(self.categories[item_row])
        factors = GARMENTS[CATEGORIES[category]].factors
        return tuple(
            factor.name for index, factor in enumerate(factors) if self.tastes[user_row, category, index].any()
        )

    def shown(self, item_row: int) -> dict[str, str]:
        """Factor -> the value that the item shows of it."""
        factors = GARMENTS[CATEGORIES[self.categories[item_row]]].factors
        return {
            factor.name: list(factor.values)[value]
            for factor, value in zip(factors, self.values[item_row], strict=False)
        }

    def factor_region(self, item_row: int, factor: str, *, size: int | None = None) -> NDArray[np.bool_]:
        """(H, W) True where the factor can be seen in the item's photo, at the photo's size or another."""
        category, values = self._garment(item_row)
        index = GARMENTS[category].factor(factor)
        return factor_region(category, values, index, size=size or self.image_size, pose=self._pose(item_row))

    def regions(self, user_row: int, item_row: int, *, size: int | None = None) -> NDArray[np.bool_]:
        """(H, W) True where the item's photo shows what this user cares about."""
        side = size or self.image_size
        where = np.zeros((side, side), dtype=np.bool_)
        for factor in self.cares(user_row, item_row):
            where |= self.factor_region(item_row, factor, size=side)
        return where

    def picture(self, item_row: int, *, size: int | None = None) -> Image.Image:
        """The item's photo, drawn again, at its own size or another."""
        category, values = self._garment(item_row)
        return draw_garment(category, values, size=size or self.image_size, pose=self._pose(item_row))

    def _garment(self, item_row: int) -> tuple[str, list[int]]:
        category = CATEGORIES[self.categories[item_row]]
        return category, self.values[item_row, : len(GARMENTS[category].factors)].tolist()

    def _pose(self, item_row: int) -> Pose:
        x, y, scale, angle, red, green, blue, light = self.poses[item_row].tolist()
        return Pose((x, y), scale, angle, (round(red), round(green), round(blue)), light)


# ---- on disk

_ARRAYS = ("categories", "values", "poses", "tastes", "groups")
_NUMBERS = ("image_size", "signal", "personal_weight", "general_weight", "general_moments")


def vocabulary() -> dict[str, dict[str, list[str]]]:
    """Category -> factor -> its values: what the numbers in a stored truth mean."""
    return {
        category: {factor.name: list(factor.values) for factor in garment.factors}
        for category, garment in GARMENTS.items()
    }


def write_truth(truth: Truth, folder: Path, *, settings: dict[str, Any]) -> None:
    """Write plain arrays and truth.json into a new folder."""
    folder.mkdir(parents=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(truth, name), allow_pickle=False)
    record = {"format": FORMAT, **{name: getattr(truth, name) for name in _NUMBERS}}
    record |= {"factors": vocabulary(), "settings": settings}
    (folder / "truth.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def read_truth(folder: str | Path) -> Truth:
    """The truth of the wardrobe world in a dataset folder.

    Raises:
        DataError: the folder holds none, or one that other drawings were made from.
    """
    where = Path(folder) / "truth"
    remedy = "Draw the wardrobe again with this version of panfit."
    try:
        record = json.loads((where / "truth.json").read_text("utf-8"))
        arrays = {name: np.load(where / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
        numbers = {name: record[name] for name in _NUMBERS}
        factors = record["factors"]
    except FileNotFoundError as error:
        problem = Problem(str(where), "no such folder or file", "the truth that a drawn wardrobe comes with", remedy)
        raise DataError(f"{folder} holds no wardrobe world", [problem]) from error
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        problem = Problem(str(where), f"a damaged file ({error})", "arrays and truth.json as drawn", remedy)
        raise DataError(f"{folder} holds a damaged wardrobe world", [problem]) from error
    if factors != vocabulary():
        problem = Problem(str(where / "truth.json"), "other factors", "the factors this version draws", remedy)
        raise DataError(f"{folder} holds a wardrobe world of another version", [problem])
    return Truth(**arrays, **{**numbers, "general_moments": tuple(numbers["general_moments"])})
