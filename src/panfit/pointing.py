"""Do attention maps point where a user truly looks? Held against a wardrobe world's truth, for the demo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panfit.bootstrap import interval95, resampled_means, weighted_mean
from panfit.data.wardrobe import Truth
from panfit.explain import relative_maps, spatial_maps, upsample
from panfit.metrics import auc
from panfit.outfits import IntArray
from panfit.recommend import Recommender

EVERYWHERE = "color"
"""The factor that is seen wherever the garment is: whoever cares about it need not look anywhere in particular."""
POINTING_ITEMS = 20
"""Test garments of each category on which the maps are held against the truth."""


@dataclass(frozen=True)
class Pointing:
    """How well maps point at what users care about: of all pairs of a pixel inside it and one outside, both on the
    garment, the share in which the inside one is looked at more. Chance is 0.5.

    Attributes:
        own: with each user's own maps; another: with the maps of a user of another group.
        own_ci95, another_ci95: over users.
        own_by_category: own, for each category.
        users, garments: how many were held against the truth.
    """

    own: float
    own_ci95: tuple[float, float]
    another: float
    another_ci95: tuple[float, float]
    own_by_category: tuple[float, ...]
    users: int
    garments: int


def places_of(truth: Truth, user: int, item: int, *, size: int | None = None) -> NDArray[np.bool_]:
    """(h, w) True where the item shows what the user cares about, color aside: that is everywhere."""
    side = size or truth.image_size
    where = np.zeros((side, side), dtype=np.bool_)
    for factor in truth.cares(user, item):
        if factor != EVERYWHERE:
            where |= truth.factor_region(item, factor, size=side)
    return where


def measure_pointing(pan: Recommender, truth: Truth, pools: Sequence[IntArray], rng: np.random.Generator) -> Pointing:
    """Hold every user's maps against the true regions, on some garments of each pool.

    Maps are taken relative to the mean over users, so that a garment's outline alone points nowhere, and pixels beside
    the garment do not count. Where a user cares about nothing but color, there is no place to point at.
    """
    items = np.concatenate([rng.permutation(pool)[:POINTING_ITEMS] for pool in pools])  # (N,)
    users = np.arange(len(truth.groups))
    others = np.array([rng.choice(users[truth.groups != truth.groups[user]]) for user in users])  # (M,)
    maps = spatial_maps(pan.model, pan.inputs, users, items)  # (M, N, H, W)
    values = np.full((2, len(users), len(items)), np.nan)  # own and another's, NaN where there is no place
    for column, item in enumerate(items.tolist()):
        large = [upsample(relative, truth.image_size) for relative in relative_maps(maps[:, column])]  # (h, w) each
        garment = truth.factor_region(item, EVERYWHERE)  # (h, w)
        for user in users.tolist():
            region = places_of(truth, user, item)  # (h, w)
            if not (region & garment).any():
                continue
            for row, eyes in enumerate((user, others[user])):
                values[row, user, column] = auc(large[eyes][region & garment], large[eyes][garment & ~region])
    counted = np.isfinite(values[0])  # (M, N)
    weights = counted.sum(axis=1).astype(np.float64)  # (M,)
    means = [np.where(counted, each, 0).sum(axis=1) / np.maximum(weights, 1) for each in values]  # (M,) each
    drawn = resampled_means({"own": (means[0], weights), "another": (means[1], weights)}, 0, resamples=1000)
    categories = truth.categories[items]  # (N,)
    return Pointing(
        own=weighted_mean(means[0], weights),
        own_ci95=interval95(drawn["own"]),
        another=weighted_mean(means[1], weights),
        another_ci95=interval95(drawn["another"]),
        own_by_category=tuple(
            float(np.nanmean(values[0][:, categories == category])) for category in np.unique(categories)
        ),
        users=int((weights > 0).sum()),
        garments=len(items),
    )
