"""The bootstrap's interval is the standard error's; its p value is right under no difference."""

import numpy as np
import pytest

from panfit import bootstrap
from panfit.bootstrap import interval95, p_value, resampled_means, weighted_mean


def test_interval_matches_the_standard_error(rng: np.random.Generator) -> None:
    values = rng.random(400)
    sample = resampled_means({"auc": (values, np.ones(400))}, 3, resamples=4000)["auc"]
    margin = 1.96 * values.std() / 20
    np.testing.assert_allclose(interval95(sample), [values.mean() - margin, values.mean() + margin], atol=0.004)


def test_blocks_draw_whole_resamples(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"a": (rng.random(7), np.ones(7)), "b": (np.full(7, 3.0), rng.random(7))}
    whole = resampled_means(columns, 5, resamples=11)
    monkeypatch.setattr(bootstrap, "RESAMPLE_CELLS", 20)
    blocks = resampled_means(columns, 5, resamples=11)
    np.testing.assert_array_equal(whole["a"], blocks["a"])
    np.testing.assert_allclose(whole["b"], 3.0)  # the mean of equal values, whatever the weights


def test_weightless_values_are_left_out() -> None:
    values, weights = np.array([1.0, np.nan, 4.0]), np.array([2.0, 0.0, 1.0])
    assert weighted_mean(values, weights) == pytest.approx(2.0)
    assert np.isnan(weighted_mean(values, np.zeros(3)))
    sample = resampled_means({"a": (values, weights), "b": (values, np.zeros(3))}, 0, resamples=50)
    assert 30 < len(sample["a"]) <= 50  # one draw in 27 is of the weightless user alone
    assert np.isin(np.round(sample["a"], 6), [1, 4, 2, 1.6, 2.5, 3]).all()
    assert np.isnan(interval95(sample["b"])).all()


def test_p_value_is_uniform_without_a_difference(rng: np.random.Generator) -> None:
    found = []
    for seed in range(200):
        difference = rng.standard_normal(60)
        found.append(p_value(resampled_means({"d": (difference, np.ones(60))}, seed, resamples=200)["d"]))
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.12
    assert 0.4 <= np.mean(found) <= 0.6


def test_p_value_of_certainty() -> None:
    assert p_value(np.zeros(99)) == 1.0
    assert p_value(np.ones(99)) == pytest.approx(0.02)
    assert p_value(-np.ones(99)) == pytest.approx(0.02)
