"""The paper in plain loops: the slow oracles that every fast path must equal, in value and in gradient.

Written from the equations alone, one scalar at a time, without looking at the fast code; nothing here imports panfit.
"""

import itertools
import math
from collections.abc import Sequence

# ---------------------------------------------------------------------------------------------------------------------
# Metrics: AUC by counting pairs, both NDCGs rank by rank, FITB question by question (decisions D16, D17)
# ---------------------------------------------------------------------------------------------------------------------


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Pairs in the right order, a tie counting one half, over all pairs; NaN without a pair."""
    right = 0.0
    pairs = 0
    for liked in positive:
        for other in negative:
            pairs += 1
            if liked > other:
                right += 1.0
            elif liked == other:
                right += 0.5
    return right / pairs if pairs else math.nan


def _orderings(positive: Sequence[float], negative: Sequence[float]) -> list[list[int]]:
    """The relevances (1, 0) in every order of falling score that ties allow: all permutations, filtered."""
    candidates = [(score, 1) for score in positive] + [(score, 0) for score in negative]
    allowed = []
    for permutation in itertools.permutations(candidates):
        scores = [score for score, _ in permutation]
        if all(first >= second for first, second in itertools.pairwise(scores)):
            allowed.append([relevance for _, relevance in permutation])
    return allowed


def _dcg_at(relevances: Sequence[int], cut: int, *, fhn: bool) -> float:
    total = 0.0
    for rank in range(1, cut + 1):
        discount = math.log2(max(rank, 2)) if fhn else math.log2(rank + 1)
        total += (2 ** relevances[rank - 1] - 1) / discount
    return total


def ndcg_all_ranks(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Mean over orderings of ties, and over every cut-off, of DCG@m / IDCG@m; NaN without positives or negatives."""
    if not positive or not negative:
        return math.nan
    ideal = [1] * len(positive) + [0] * len(negative)
    values = []
    for relevances in _orderings(positive, negative):
        for cut in range(1, len(ideal) + 1):
            values.append(_dcg_at(relevances, cut, fhn=True) / _dcg_at(ideal, cut, fhn=True))
    return sum(values) / len(values)


def ndcg(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Mean over orderings of ties of DCG / IDCG over the whole list; NaN without positives or negatives."""
    if not positive or not negative:
        return math.nan
    ideal = [1] * len(positive) + [0] * len(negative)
    values = []
    for relevances in _orderings(positive, negative):
        values.append(_dcg_at(relevances, len(ideal), fhn=False) / _dcg_at(ideal, len(ideal), fhn=False))
    return sum(values) / len(values)


def fitb(scores: Sequence[Sequence[float]], answers: Sequence[int]) -> list[float]:
    """For each question: 0 if a candidate beats the answer, else one over the number of candidates that equal it."""
    values = []
    for question, answer in zip(scores, answers, strict=True):
        beaten = False
        equal = 0
        for score in question:
            if score > question[answer]:
                beaten = True
            if score == question[answer]:
                equal += 1
        values.append(0.0 if beaten else 1.0 / equal)
    return values
