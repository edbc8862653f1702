"""Several seeds of one method -> one Result, each user's values averaged, for `evaluate.compare` to resample users."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from panfit.bootstrap import interval95, resampled_means, weighted_mean
from panfit.errors import DataError
from panfit.evaluate import METRICS, Result

SAME = ("dataset", "checksum", "split", "negatives", "user_ids")
"""What runs that differ in their seed alone have in common."""


def averaged(results: Sequence[Result], *, seed: int = 0, resamples: int = 1000) -> Result:
    """The mean over seeds: of every user's value, and so of every metric. Intervals are over users, not over seeds.

    Args:
        results: one a seed, at least one, of the same questions and negatives.
        seed: of the bootstrap.
        resamples: bootstrap resamples of the users; 0: no intervals.

    Raises:
        DataError: the results were not measured on the same thing.
    """
    first, *others = results
    for other in others:
        differing = [what for what in SAME if getattr(other, what) != getattr(first, what)]
        if differing or not np.array_equal(other.num_questions, first.num_questions):
            what = ", ".join(differing) or "FITB questions"
            raise DataError(f"results of several seeds cannot be averaged: their {what} differ")
    values = {
        metric: np.mean([each.values[metric] for each in results], axis=0) for metric in first.values
    }  # (U,) each
    mean = replace(first, values=values, seconds=sum(each.seconds for each in results))
    weights = {metric: mean.weights(metric) for metric in values}  # (U,) each
    means = {metric: weighted_mean(values[metric], weights[metric]) for metric in values}
    drawn = resampled_means(
        {metric: (values[metric], weights[metric]) for metric in METRICS}, seed, resamples=resamples
    )
    return replace(
        mean,
        fitb=means["fitb"],
        auc=means["auc"],
        ndcg=means["ndcg"],
        ndcg_plain=means["ndcg_plain"],
        relaxed={metric: means[f"relaxed_{metric}"] for metric in METRICS},
        ci95={metric: interval95(sample) for metric, sample in drawn.items()},
    )
