"""FITB, AUC and NDCG: one value a user or a question; the caller averages. Design section 4; decisions D16, D17.

Three cases are settled here, once:

* **Ties.** Every metric is its mean over all orderings of what is tied, which needs no chance: a tied positive and
  negative count one half in AUC, a tied answer counts 1/ties in FITB, and each rank of a tied group carries the group's
  share of positives in NDCG (DCG is linear in the gains, so this *is* the mean over the orderings).
* **Nothing to rank.** A user without positives, or without negatives, has no ranking: his value is NaN in all three
  ranking metrics, and `panfit.evaluate` leaves him out of the means.
* **NaN scores** are a bug upstream: ValueError. Infinite ones rank like any other.

The forms over many users sort once and equal a loop over the forms for one user. Imports numpy only.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

BLOCK_CELLS = 1 << 20
"""Cells of the (users, ranks) matrix that the NDCGs work on at a time."""


def auc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Area under the ROC curve of one user: P(positive > negative) + P(tie) / 2. Decision D17.

    Args:
        positive: (P,) scores of his liked outfits.
        negative: (N,) scores of his negatives.

    Returns:
        A value in [0, 1]; NaN where P or N is 0.
    """
    return _only(_one_user(positive, negative).auc())


def ndcg_all_ranks(positive: ArrayLike, negative: ArrayLike) -> float:
    """FHN's NDCG of one user: NDCG@m averaged over *every* cut-off m = 1..n. Decision D16.

    Gain 2^rel - 1 (rel is 0 or 1, so the gain is rel), discount log2(max(rank, 2)): ranks 1 and 2 are undiscounted.
    IDCG@m is the DCG@m of the ranking with all positives first. The headline ``ndcg`` of a `Result`.

    Args:
        positive: (P,) scores of his liked outfits.
        negative: (N,) scores of his negatives.

    Returns:
        A value in [0, 1]; NaN where P or N is 0.
    """
    return _only(_one_user(positive, negative).ndcg_all_ranks())


def ndcg(positive: ArrayLike, negative: ArrayLike) -> float:
    """The ordinary NDCG of one user, over his whole ranking: discount log2(rank + 1), no cut-off. Decision D16.

    Args:
        positive: (P,) scores of his liked outfits.
        negative: (N,) scores of his negatives.

    Returns:
        A value in [0, 1]; NaN where P or N is 0.
    """
    return _only(_one_user(positive, negative).ndcg())


def fitb(scores: ArrayLike, answers: ArrayLike) -> FloatArray:
    """Fill-in-the-blank: is the true candidate the best one? A tie for the best counts its share. Decision D17.

    Args:
        scores: (Q, C) scores of each question's candidates.
        answers: (Q,) the true candidate's column.

    Returns:
        (Q,) 1 where the answer alone is the best, 1/ties where it shares the best score, else 0.

    Raises:
        ValueError: other shapes, no candidates, an answer outside 0..C-1, or a NaN.
    """
    scores = np.asarray(scores, dtype=np.float64)  # (Q, C)
    answers = np.asarray(answers)  # (Q,)
    if not answers.size:
        answers = answers.astype(np.int64)  # np.asarray([]) is float
    if scores.ndim != 2 or answers.shape != (len(scores),) or not np.issubdtype(answers.dtype, np.integer):
        raise ValueError(f"scores {scores.shape} and answers {answers.shape} must be (Q, C) and (Q,) integers")
    if not len(scores):
        return np.zeros(0)
    _refuse_nan(scores)
    if not scores.shape[1] or answers.min() < 0 or answers.max() >= scores.shape[1]:
        raise ValueError(f"an answer outside the {scores.shape[1]} candidates")
    is_best = scores == scores.max(axis=1, keepdims=True)  # (Q, C)
    hit = is_best[np.arange(len(scores)), answers]  # (Q,)
    return np.where(hit, 1.0 / is_best.sum(axis=1), 0.0)  # (Q,)


def auc_by_user(scores: ArrayLike, is_positive: ArrayLike, users: ArrayLike) -> FloatArray:
    """`auc` of many users at once: (U,) in the order of ``np.unique(users)``. Arguments as `rank_by_user`."""
    return rank_by_user(scores, is_positive, users).auc()


def ndcg_all_ranks_by_user(scores: ArrayLike, is_positive: ArrayLike, users: ArrayLike) -> FloatArray:
    """`ndcg_all_ranks` of many users: (U,) in the order of ``np.unique(users)``. Arguments as `rank_by_user`."""
    return rank_by_user(scores, is_positive, users).ndcg_all_ranks()


def ndcg_by_user(scores: ArrayLike, is_positive: ArrayLike, users: ArrayLike) -> FloatArray:
    """`ndcg` of many users at once: (U,) in the order of ``np.unique(users)``. Arguments as `rank_by_user`."""
    return rank_by_user(scores, is_positive, users).ndcg()


@dataclass(frozen=True, eq=False)
class UserRankings:
    """Every user's candidates, ranked; rows are sorted by user, then by falling score.

    Attributes:
        users: (U,) the distinct users, rising; every metric's values come in this order.
        start: (U,) each user's first row.
        num_candidates: (U,) how many candidates each user ranks.
        num_positive: (U,) how many of them are positive.
        positive_rank_sum: (U,) sum of the positives' ranks from 0 at the top, a tie sharing its middle rank.
        gain: (B,) expected gain at each rank: the share of positives among what is tied there.
    """

    users: NDArray[np.int64]
    start: NDArray[np.int64]
    num_candidates: NDArray[np.int64]
    num_positive: NDArray[np.int64]
    positive_rank_sum: FloatArray
    gain: FloatArray

    def auc(self) -> FloatArray:
        """(U,) AUC by the rank sum of the positives (Mann-Whitney), exact in half integers. Decision D17."""
        num_negative = self.num_candidates - self.num_positive  # (U,)
        # A positive at rank r has n - 1 - r candidates below it; those that are positives themselves are taken off.
        below = self.num_positive * (self.num_candidates - 1) - self.positive_rank_sum
        below = below - self.num_positive * (self.num_positive - 1) / 2  # (U,) negatives below, summed over positives
        return self._where_ranked(below / np.maximum(self.num_positive * num_negative, 1))

    def ndcg_all_ranks(self) -> FloatArray:
        """(U,) NDCG@m with discount log2(max(rank, 2)), averaged over all m. Decision D16."""
        values = np.empty(len(self.users))
        for rows, gain, ideal in self._blocks():
            discount = np.log2(np.maximum(np.arange(1, gain.shape[1] + 1), 2))  # (n,)
            at_cut = np.cumsum(gain / discount, axis=1) / np.cumsum(ideal / discount, axis=1)  # (b, n) NDCG@m
            is_rank = np.arange(gain.shape[1]) < self.num_candidates[rows, None]  # (b, n) False where padded
            values[rows] = np.where(is_rank, at_cut, 0.0).sum(axis=1) / self.num_candidates[rows]
        return self._where_ranked(values)

    def ndcg(self) -> FloatArray:
        """(U,) NDCG over the whole ranking with discount log2(rank + 1). Decision D16."""
        values = np.empty(len(self.users))
        for rows, gain, ideal in self._blocks():
            discount = np.log2(np.arange(2, gain.shape[1] + 2))  # (n,)
            values[rows] = (gain / discount).sum(axis=1) / (ideal / discount).sum(axis=1)  # (b,)
        return self._where_ranked(values)

    def _where_ranked(self, values: FloatArray) -> FloatArray:
        has_both = (self.num_positive > 0) & (self.num_positive < self.num_candidates)  # (U,)
        return np.where(has_both, values, np.nan)

    def _blocks(self) -> Iterator[tuple[NDArray[np.int64], FloatArray, FloatArray]]:
        """(user rows (b,), gain (b, n), ideal gain (b, n)): users of like length together, padded with zeros.

        A user without positives gets one ideal gain, so that nothing is divided by zero; his value is NaN anyway.
        """
        by_length = np.argsort(self.num_candidates, kind="stable")[::-1]  # (U,) longest first: it sets the width
        first = 0
        while first < len(by_length):
            width = int(self.num_candidates[by_length[first]])
            rows = by_length[first : first + max(1, BLOCK_CELLS // width)]  # (b,)
            first += len(rows)
            ranks = np.arange(width)
            is_rank = ranks < self.num_candidates[rows, None]  # (b, n)
            place = np.where(is_rank, self.start[rows, None] + ranks, 0)  # (b, n) rows of gain
            ideal = (ranks < np.maximum(self.num_positive[rows, None], 1)).astype(np.float64)  # (b, n)
            yield rows, np.where(is_rank, self.gain[place], 0.0), ideal


def rank_by_user(scores: ArrayLike, is_positive: ArrayLike, users: ArrayLike) -> UserRankings:
    """Rank every user's candidates in one sort.

    Args:
        scores: (B,) one score a candidate; users may be interleaved.
        is_positive: (B,) True where the candidate is a like, False where it is a negative.
        users: (B,) integers, whose candidate it is.

    Raises:
        ValueError: shapes that differ, or a NaN.
    """
    scores = np.asarray(scores, dtype=np.float64)  # (B,)
    is_positive = np.asarray(is_positive, dtype=np.bool_)  # (B,)
    users = np.asarray(users, dtype=np.int64)  # (B,)
    if scores.ndim != 1 or scores.shape != is_positive.shape or scores.shape != users.shape:
        raise ValueError(f"scores {scores.shape}, is_positive {is_positive.shape}, users {users.shape} must be (B,)")
    _refuse_nan(scores)
    order = np.lexsort((-scores, users))  # (B,) by user, then by falling score
    scores, is_positive, users = scores[order], is_positive[order], users[order]
    distinct, start, count = np.unique(users, return_index=True, return_counts=True)  # (U,) each
    user_of = np.repeat(np.arange(len(distinct)), count)  # (B,) row of ``distinct``
    rank = np.arange(len(users)) - start[user_of]  # (B,) from 0 at the top

    opens_tie = np.ones(len(users), dtype=np.bool_)  # (B,) True at each tied group's first row
    opens_tie[1:] = (users[1:] != users[:-1]) | (scores[1:] != scores[:-1])
    tie_of = np.cumsum(opens_tie) - 1  # (B,)
    tie_size = np.bincount(tie_of)  # (T,)
    middle_rank = rank[opens_tie] + (tie_size - 1) / 2  # (T,)
    share = np.bincount(tie_of, weights=is_positive) / tie_size  # (T,) of positives
    rank_sum = np.bincount(user_of[is_positive], weights=middle_rank[tie_of[is_positive]], minlength=len(distinct))
    return UserRankings(
        users=distinct,
        start=start.astype(np.int64),
        num_candidates=count.astype(np.int64),
        num_positive=np.bincount(user_of[is_positive], minlength=len(distinct)).astype(np.int64),
        positive_rank_sum=rank_sum.astype(np.float64),
        gain=share[tie_of],
    )


def _one_user(positive: ArrayLike, negative: ArrayLike) -> UserRankings:
    positive = np.asarray(positive, dtype=np.float64)  # (P,)
    negative = np.asarray(negative, dtype=np.float64)  # (N,)
    if positive.ndim != 1 or negative.ndim != 1:
        raise ValueError(f"one user's positive {positive.shape} and negative {negative.shape} scores must be vectors")
    is_positive = np.arange(len(positive) + len(negative)) < len(positive)  # (P + N,)
    return rank_by_user(np.concatenate([positive, negative]), is_positive, np.zeros(len(is_positive), dtype=np.int64))


def _only(values: FloatArray) -> float:
    return float(values[0]) if len(values) else float("nan")


def _refuse_nan(scores: FloatArray) -> None:
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN")
