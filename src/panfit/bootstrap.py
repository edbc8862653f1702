"""The bootstrap over users: weighted means of resampled users, their 95 % interval, a paired p value. Numpy only."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RESAMPLE_CELLS = 1 << 22
"""Cells of the (resamples, users) matrix drawn at a time."""


def weighted_mean(values: FloatArray, weights: FloatArray) -> float:
    """Mean of (U,) values by (U,) weights; a value of weight 0 may be NaN. NaN if nothing has weight."""
    counted = weights > 0
    return float(np.average(values[counted], weights=weights[counted])) if counted.any() else float("nan")


def resampled_means(
    columns: Mapping[str, tuple[FloatArray, FloatArray]], seed: int, *, resamples: int
) -> dict[str, FloatArray]:
    """Weighted means over users drawn with replacement; every column sees the same draws.

    Args:
        columns: name -> (values (U,), weights (U,)).
        seed: of the draws.
        resamples: R; 0 gives no columns.

    Returns:
        Name -> (R,) means; a resample in which a column has no weight (few users) is left out of it.
    """
    if resamples == 0:
        return {}
    weights = np.stack([weight for _, weight in columns.values()])  # (M, U)
    weighted = np.stack([np.where(weight > 0, value, 0.0) * weight for value, weight in columns.values()])  # (M, U)
    num_users = weights.shape[1]
    generator = np.random.default_rng(seed)
    sums, totals = [], []
    block = max(1, RESAMPLE_CELLS // num_users)
    for first in range(0, resamples, block):
        size = min(block, resamples - first)
        counts = generator.multinomial(num_users, np.full(num_users, 1 / num_users), size=size)  # (r, U)
        sums.append(counts @ weighted.T)  # (r, M)
        totals.append(counts @ weights.T)  # (r, M)
    total = np.concatenate(totals)  # (R, M)
    means = np.concatenate(sums) / np.where(total > 0, total, 1)  # (R, M)
    return {name: means[total[:, index] > 0, index] for index, name in enumerate(columns)}


def interval95(sample: FloatArray) -> tuple[float, float]:
    """The percentile interval of (R,) resampled means; NaN, NaN of none."""
    if not len(sample):
        return float("nan"), float("nan")
    low, high = np.percentile(sample, [2.5, 97.5])
    return float(low), float(high)


def p_value(sample: FloatArray) -> float:
    """Two-sided p value of a mean difference of 0, from (R,) resampled differences; at least 2 / (R + 1), at most 1."""
    beyond = min(int((sample <= 0).sum()), int((sample >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(sample) + 1))
