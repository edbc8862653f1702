"""Does attention look where the user cares? Maps held against a wardrobe world's truth, for the demo and the study.

Three sets of eyes look at each garment: the user's own, those of the users of other groups, and nobody's, which is the
mean map of all users. A user's map is taken relative to nobody's, so that a garment's outline alone points nowhere.
Pixels beside the garment do not count, and neither do users who care about nothing but color: it is everywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panfit.bootstrap import interval95, p_value, resampled_means, weighted_mean
from panfit.data.wardrobe_truth import CATEGORIES, Truth
from panfit.explain import relative_maps, spatial_maps
from panfit.features.inputs import ItemInputs
from panfit.heat import upsample
from panfit.model.pan import Pan
from panfit.outfits import IntArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

EVERYWHERE = "color"
"""The factor that is seen wherever the garment is: whoever cares about it need not look anywhere in particular."""
PER_CATEGORY = 20
"""Test garments of each category on which the maps are held against the truth."""
RESAMPLES = 2000
"""Of the bootstrap over users."""
DECIMALS = 6
"""Of log2 of a look: places that differ by less tie, since float32 cannot tell them apart."""


@dataclass(frozen=True)
class Measure:
    """One measure for three sets of eyes: means over all pairs of a user and a garment with a place to point at.

    Attributes:
        own, another, nobody: with the user's own maps, those of users of other groups, the mean map of all users.
        own_ci95, another_ci95: 95 % intervals over users.
        difference, difference_ci95, p_value: own - another, paired by user.
        own_by_category: own, on the garments of each category.
    """

    own: float
    another: float
    nobody: float
    own_ci95: tuple[float, float]
    another_ci95: tuple[float, float]
    difference: float
    difference_ci95: tuple[float, float]
    p_value: float
    own_by_category: Mapping[str, float]


@dataclass(frozen=True)
class Pointing:
    """How well maps point at what users care about.

    Attributes:
        game: the pointing game, how often the map's maximum lies inside; places that tie for it count their share.
        mass: the share of the look that falls inside, over the share of the garment that lies inside; 1 is chance.
        pairs: of all pairs of a pixel inside and one outside, how often the inside one gets more; 0.5 is chance.
        chance: of the game; the mean share of the garment that lies inside.
        users, garments: how many were held against the truth.
    """

    game: Measure
    mass: Measure
    pairs: Measure
    chance: float
    users: int
    garments: int

    def to_json(self) -> dict[str, Any]:
        """Plain values: the game's under their own names, "mass_..." and "pairs_...", None for what is undefined."""
        values: dict[str, Any] = {"chance": self.chance, "users": self.users, "garments": self.garments}
        for prefix, measure in (("", self.game), ("mass_", self.mass), ("pairs_", self.pairs)):
            values |= {prefix + name: value for name, value in asdict(measure).items()}
        return {name: _plain(value) for name, value in values.items()}


def measure_pointing(
    model: Pan,
    inputs: ItemInputs,
    truth: Truth,
    pools: Sequence[IntArray],
    rng: np.random.Generator,
    *,
    per_category: int | None = PER_CATEGORY,
) -> Pointing:
    """Hold every user's maps against the true regions.

    Args:
        model: trained on the world's users, with attention.
        inputs: the world's garments, as the model sees them.
        truth: of the world.
        pools: the garments of each category that may be looked at (`Dataset.split_items`).
        rng: chooses among them.
        per_category: how many of each category; None: all.
    """
    items = np.concatenate([rng.permutation(pool)[:per_category] for pool in pools])  # (N,)
    return point(spatial_maps(model, inputs, np.arange(len(truth.groups)), items), items, truth)


def point(maps: FloatArray, items: IntArray, truth: Truth) -> Pointing:
    """Maps (M, N, H, W) of all M users on N garments, positive, held against the truth.

    Raises:
        ValueError: a world of one group: there are no other eyes to compare with.
    """
    groups, num_items = truth.groups, len(items)
    is_other = groups[:, None] != groups  # (M, M)
    if not is_other.any(axis=0).all():
        raise ValueError("a world of one group of users has no other eyes to compare with")
    values = np.full((3, 3, len(groups), num_items), np.nan)  # measure, eyes, user, garment; NaN: no place
    share = np.full((len(groups), num_items), np.nan)  # (M, N) of the garment that lies inside
    for column, item in enumerate(items.tolist()):
        garment = truth.factor_region(item, EVERYWHERE)  # (h, w)
        inside = places_of(truth, np.arange(len(groups)), item)[:, garment]  # (M, P)
        users = np.flatnonzero(inside.any(axis=1) & ~inside.all(axis=1))  # (m,)
        looks = upsample(eyes(maps[:, column]), truth.image_size)[:, garment]  # (M + 1, P)
        others = is_other[:, users]  # (M, m)
        for row, table in enumerate(hold(looks.round(DECIMALS), inside[users])):  # (M + 1, m)
            own, nobody = table[users, np.arange(len(users))], table[-1]  # (m,)
            another = np.where(others, table[:-1], 0).sum(axis=0) / others.sum(axis=0)  # (m,)
            values[row][:, users, column] = own, another, nobody
        share[users, column] = inside[users].mean(axis=1)
    categories = truth.categories[items]  # (N,)
    game, mass, pairs = (_measure(each, categories) for each in values)
    is_counted = np.isfinite(share)  # (M, N)
    return Pointing(
        game=game,
        mass=mass,
        pairs=pairs,
        chance=float(share[is_counted].mean()) if is_counted.any() else math.nan,
        users=int(is_counted.any(axis=1).sum()),
        garments=num_items,
    )


def places_of(truth: Truth, users: IntArray, item: int, *, size: int | None = None) -> BoolArray:
    """(U, h, w) True where the item shows what each user cares about, color aside: that is everywhere."""
    side = size or truth.image_size
    where = np.zeros((len(users), side, side), dtype=np.bool_)
    cares = [set(truth.cares(user, item)) - {EVERYWHERE} for user in users.tolist()]
    for factor in set().union(*cares):
        is_cared = np.array([factor in names for names in cares])  # (U,)
        where[is_cared] |= truth.factor_region(item, factor, size=side)
    return where


def eyes(maps: FloatArray) -> FloatArray:
    """All users' maps of one garment, (M, H, W) -> (M + 1, H, W): log2 of each over nobody's, and of nobody's, last."""
    shares = maps / maps.sum(axis=(1, 2), keepdims=True)  # (M, H, W)
    return np.concatenate([relative_maps(maps), np.log2(shares.mean(axis=0, keepdims=True))])


def hold(looks: FloatArray, inside: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Every pair of eyes held against every user's places.

    Args:
        looks: (E, P) log2 of how much each of E pairs of eyes looks at each of the garment's P pixels.
        inside: (U, P) each user's places; some pixels of each, not all.

    Returns:
        (E, U) tables of the pointing game, the area-normalized mass and the pixel pairs (`Pointing`).
    """
    places = inside.T.astype(np.float64)  # (P, U)
    num_inside = places.sum(axis=0)  # (U,)
    num_outside = len(places) - num_inside  # (U,)
    is_top = looks == looks.max(axis=1, keepdims=True)  # (E, P)
    game = is_top @ places / is_top.sum(axis=1, keepdims=True)  # (E, U)
    look = np.exp2(looks - looks.max(axis=1, keepdims=True))  # (E, P)
    mass = look @ places / look.sum(axis=1, keepdims=True) * len(places) / num_inside  # (E, U)
    below = _ranks(looks) @ places - num_inside * (num_inside - 1) / 2  # (E, U) Mann-Whitney's rank sum
    return game, mass, below / (num_inside * num_outside)


def _ranks(looks: FloatArray) -> FloatArray:
    """(E, P) each pixel's rank among its row's, from 0; those that tie share theirs."""
    ranks = np.empty_like(looks)
    for row, values in zip(ranks, looks, strict=True):
        ordered = np.sort(values)
        row[:] = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2
    return ranks


def _measure(values: FloatArray, categories: IntArray) -> Measure:
    """(3, M, N) own, another's and nobody's values, NaN where there is no place, and (N,) categories -> means."""
    is_counted = np.isfinite(values[0])  # (M, N)
    weights = is_counted.sum(axis=1).astype(np.float64)  # (M,)
    own, another, nobody = np.where(is_counted, values, 0).sum(axis=2) / np.maximum(weights, 1)  # (M,) each
    columns = {"own": own, "another": another, "difference": own - another}
    drawn = resampled_means({name: (column, weights) for name, column in columns.items()}, 0, resamples=RESAMPLES)
    by_category = {
        CATEGORIES[category]: float(np.nanmean(values[0][:, categories == category]))
        for category in np.unique(categories)
        if is_counted[:, categories == category].any()
    }
    return Measure(
        own=weighted_mean(own, weights),
        another=weighted_mean(another, weights),
        nobody=weighted_mean(nobody, weights),
        own_ci95=interval95(drawn["own"]),
        another_ci95=interval95(drawn["another"]),
        difference=weighted_mean(own - another, weights),
        difference_ci95=interval95(drawn["difference"]),
        p_value=p_value(drawn["difference"]),
        own_by_category=by_category,
    )


def _plain(value: Any) -> Any:
    """A value that JSON has: lists for tuples, None for what is not finite."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
