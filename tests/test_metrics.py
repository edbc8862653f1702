"""Metrics equal their oracles, ties included; many users equal a loop; the corner cases are what they say."""

import math
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike
from sklearn.metrics import ndcg_score, roc_auc_score

from panfit import metrics
from tests import oracles

OneUser = Callable[[ArrayLike, ArrayLike], float]
Oracle = Callable[[list[float], list[float]], float]
PAIRS: list[tuple[OneUser, Oracle]] = [
    (metrics.auc, oracles.auc),
    (metrics.ndcg_all_ranks, oracles.ndcg_all_ranks),
    (metrics.ndcg, oracles.ndcg),
]
BY_USER: dict[OneUser, Callable[[ArrayLike, ArrayLike, ArrayLike], metrics.FloatArray]] = {
    metrics.auc: metrics.auc_by_user,
    metrics.ndcg_all_ranks: metrics.ndcg_all_ranks_by_user,
    metrics.ndcg: metrics.ndcg_by_user,
}


@pytest.mark.parametrize(("fast", "slow"), PAIRS)
@pytest.mark.parametrize("num_values", [2, 3, 1000])
def test_one_user_equals_oracle(fast: OneUser, slow: Oracle, num_values: int, rng: np.random.Generator) -> None:
    for num_positive, num_negative in [(1, 1), (1, 4), (2, 3), (3, 2), (2, 5)]:
        positive = rng.integers(0, num_values, num_positive).astype(float).tolist()  # few values: many ties
        negative = rng.integers(0, num_values, num_negative).astype(float).tolist()
        assert fast(positive, negative) == pytest.approx(slow(positive, negative), abs=1e-12)


@pytest.mark.parametrize("metric", BY_USER)
def test_perfect_is_one_and_inverse_is_not(metric: OneUser) -> None:
    assert metric([3, 2, 1.5], [1, 0.5, 0, -1]) == 1.0
    assert metric([2, 2, 2], [1, 1, 1, 1]) == 1.0  # ties among one class change nothing
    assert metric([-3, -2], [1, 0.5, 0]) < 0.6


def test_known_values() -> None:
    assert metrics.auc([-3, -2], [1, 0.5, 0]) == 0.0
    assert metrics.auc([0.5], [0.5]) == 0.5
    # One positive at rank 2: FHN does not discount it (0 at m = 1, 1 at m = 2, 3); the ordinary one does.
    assert metrics.ndcg_all_ranks([2], [3, 1]) == pytest.approx(2 / 3)
    assert metrics.ndcg([2], [3, 1]) == pytest.approx(1 / math.log2(3))


def test_agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    positive = rng.integers(0, 20, 37).astype(float)
    negative = rng.integers(0, 17, 211).astype(float)
    truth = np.repeat([1, 0], [37, 211])
    scores = np.concatenate([positive, negative])
    assert metrics.auc(positive, negative) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert metrics.ndcg(positive, negative) == pytest.approx(ndcg_score([truth], [scores]), abs=1e-12)


@pytest.mark.parametrize("metric", BY_USER)
@pytest.mark.parametrize(("positive", "negative"), [([], [1.0]), ([1.0], []), ([], [])])
def test_nothing_to_rank_is_nan(metric: OneUser, positive: list[float], negative: list[float]) -> None:
    assert math.isnan(metric(positive, negative))


@pytest.mark.parametrize("metric", BY_USER)
def test_refuses(metric: OneUser) -> None:
    with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
        metric([1.0, math.nan], [0.0])
    with pytest.raises(ValueError, match="vectors"):
        metric([[1.0]], [[0.0]])


def test_infinite_scores_rank() -> None:
    assert metrics.auc([math.inf, 1.0], [-math.inf, 1.0]) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("metric", BY_USER)
@pytest.mark.parametrize("block_cells", [1, 40, 1 << 20])
def test_many_users_equal_a_loop(
    metric: OneUser, block_cells: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "BLOCK_CELLS", block_cells)
    users = rng.choice([3, 5, 8, 13, 21], 190, p=[0.5, 0.3, 0.1, 0.06, 0.04])  # interleaved, ids with gaps
    users = np.concatenate([users, [34, 34, 55]])  # 34: negatives only, 55: positives only
    is_positive = np.concatenate([rng.random(190) < 0.4, [False, False, True]])
    scores = rng.integers(0, 12, 193).astype(float)
    values = BY_USER[metric](scores, is_positive, users)
    looped = [
        metric(scores[(users == user) & is_positive], scores[(users == user) & ~is_positive])
        for user in np.unique(users)
    ]
    np.testing.assert_allclose(values, looped, rtol=1e-14)
    assert np.isnan(values[-2:]).all()
    assert np.isfinite(values[:3]).all()


def test_many_users_are_fast(rng: np.random.Generator) -> None:
    users = np.repeat(np.arange(630), 400)
    is_positive = np.tile(np.arange(400) < 36, 630)
    scores = rng.standard_normal(len(users)) + is_positive
    started = time.perf_counter()
    rankings = metrics.rank_by_user(scores, is_positive, users)
    values = [rankings.auc(), rankings.ndcg_all_ranks(), rankings.ndcg()]
    assert time.perf_counter() - started < 2.0  # 0.1 s on an idle core
    assert all(len(value) == 630 and 0.2 < value.mean() < 0.9 for value in values)


def test_no_candidates_at_all() -> None:
    assert metrics.auc_by_user([], [], []).shape == (0,)
    assert metrics.ndcg_all_ranks_by_user([], [], []).shape == (0,)


def test_fitb_equals_oracle(rng: np.random.Generator) -> None:
    scores = rng.integers(0, 3, (60, 4)).astype(float)
    answers = rng.integers(0, 4, 60)
    values = metrics.fitb(scores, answers)
    np.testing.assert_array_equal(values, oracles.fitb(scores.tolist(), answers.tolist()))
    assert set(values) >= {0.0, 0.5, 1.0}


def test_fitb_corner_cases() -> None:
    np.testing.assert_array_equal(metrics.fitb([[1, 1, 1, 1], [0, 2, 1, 2]], [2, 1]), [0.25, 0.5])
    assert metrics.fitb(np.zeros((0, 4)), []).shape == (0,)
    with pytest.raises(ValueError, match="outside the 2 candidates"):
        metrics.fitb([[1.0, 2.0]], [2])
    with pytest.raises(ValueError, match="outside the 2 candidates"):
        metrics.fitb([[1.0, 2.0]], [-1])
    with pytest.raises(ValueError, match=r"\(Q, C\)"):
        metrics.fitb([1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="NaN"):
        metrics.fitb([[1.0, math.nan]], [0])


def test_imports_numpy_alone() -> None:
    code = "import sys, panfit.metrics; print([m for m in ('torch', 'panfit.model', 'pydantic') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
