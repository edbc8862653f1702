"""EVALUATE: scorer x split x negatives -> Result, with 95 % intervals; and two Results -> a paired comparison.

Every metric is a weighted mean over users: AUC and the NDCGs give each user who has likes and negatives the weight 1;
FITB gives him the number of his questions, so that it is the plain mean over questions (decision D17). One bootstrap
over users serves them all. Knows no model: whoever scores outfits can be evaluated (PAN, a rival, the true utilities).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from panfit import metrics
from panfit.bootstrap import interval95, p_value, resampled_means, weighted_mean
from panfit.errors import DataError
from panfit.outfits import Dataset, FitbQuestions, Kind, Outfits, Split

FloatArray = NDArray[np.float64]

METRICS = ("fitb", "auc", "ndcg", "ndcg_plain")
"""The headline ``ndcg`` is `metrics.ndcg_all_ranks` (decision D16); ``ndcg_plain`` is `metrics.ndcg`."""
STORED = ("split", "negatives", *METRICS, "relaxed", "users", "questions", "seconds", "dataset", "checksum")
"""The fields of a `Result` that its JSON holds as they are."""


class Scorer(Protocol):
    """Whatever gives outfits their scores."""

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """(relaxed (B,), binary (B,)) scores of (B) outfits."""
        ...


@runtime_checkable
class QuestionScorer(Scorer, Protocol):
    """A Scorer that answers FITB questions by a rule of its own, not by the score of the filled outfits."""

    def question_scores(self, questions: FitbQuestions) -> FloatArray:
        """(Q, K) scores of the candidates, relaxed and binary alike."""
        ...


@dataclass(frozen=True)
class PlainScorer:
    """A Scorer of one score, where there are no codes to tell relaxed from binary (a ceiling, a linear rival)."""

    score: Callable[[Outfits], FloatArray]

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """The one score, (B,), twice."""
        scores = np.asarray(self.score(outfits), dtype=np.float64)  # (B,)
        return scores, scores


@dataclass(frozen=True, eq=False)
class Result:
    """What `evaluate` measured. ``fitb``, ``auc``, ``ndcg`` and ``ndcg_plain`` are of the binary codes.

    Attributes:
        relaxed: the same four of the relaxed codes.
        ci95: metric -> (low, high) over resampled users, of the binary codes; empty if nothing was resampled.
        users: users who have likes and negatives, over whom AUC and the NDCGs are averaged.
        questions: FITB questions.
        seconds: wall-clock time of scoring and measuring.
        dataset, checksum: the data set's name and fingerprint.
        user_ids: (U) users who have a ranking or a question.
        values: metric -> (U,) each user's value; "relaxed_" + metric too; NaN where he has none.
        num_questions: (U,) each user's FITB questions.
    """

    split: Split
    negatives: Kind
    fitb: float
    auc: float
    ndcg: float
    ndcg_plain: float
    relaxed: Mapping[str, float]
    ci95: Mapping[str, tuple[float, float]]
    users: int
    questions: int
    seconds: float
    dataset: str
    checksum: str
    user_ids: tuple[str, ...] = field(repr=False)
    values: Mapping[str, FloatArray] = field(repr=False)
    num_questions: NDArray[np.int64] = field(repr=False)

    def weights(self, metric: str) -> FloatArray:
        """(U,) each user's weight in the mean of a metric."""
        return _weights(metric, self.values[metric], self.num_questions)

    def to_json(self, *, per_user: bool = True) -> dict[str, Any]:
        """A JSON-ready object as design section 4 prints it, and more; NaN becomes null. `from_json` reads it back."""
        shown: dict[str, Any] = {
            **{key: getattr(self, key) for key in STORED},
            "relaxed": dict(self.relaxed),
            "ci95": {metric: _json_floats(interval) for metric, interval in self.ci95.items()},
        }
        if per_user:
            values = {metric: _json_floats(array) for metric, array in self.values.items()}
            ids_and_counts = {"user_id": list(self.user_ids), "num_questions": self.num_questions.tolist()}
            shown["per_user"] = ids_and_counts | values
        return shown

    @classmethod
    def from_json(cls, shown: Mapping[str, Any]) -> "Result":
        """The Result that `to_json` (with per-user values) wrote; keys it does not know are left alone.

        Raises:
            DataError: a key that a Result needs is not there.
        """
        try:
            per_user = dict(shown["per_user"])
            return cls(
                user_ids=tuple(per_user.pop("user_id")),
                num_questions=np.array(per_user.pop("num_questions"), dtype=np.int64),
                values={metric: np.array(values, dtype=np.float64) for metric, values in per_user.items()},
                ci95={metric: _pair(interval) for metric, interval in shown["ci95"].items()},
                **{key: shown[key] for key in STORED},
            )
        except KeyError as error:
            raise DataError(f"not a full result: it has no {error.args[0]!r}") from None


@dataclass(frozen=True)
class Difference:
    """One metric of two results, paired over users: ``value`` is a - b."""

    value: float
    ci95: tuple[float, float]
    p_value: float
    """Two-sided bootstrap p value of no difference; never below 2 / (resamples + 1)."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: metric (and "relaxed_" + metric) -> Difference, over ``users`` common users."""

    differences: Mapping[str, Difference]
    users: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object: {"users": U, metric: {"difference", "ci95": [low, high], "p_value"}}."""
        shown = {
            metric: {
                "difference": difference.value,
                "ci95": _json_floats(difference.ci95),
                "p_value": difference.p_value,
            }
            for metric, difference in self.differences.items()
        }
        return {"users": self.users, **shown}


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    *,
    split: Split = "test",
    negatives: Kind = "random",
    seed: int = 0,
    resamples: int = 1000,
) -> Result:
    """Measure a scorer on one split's likes, fixed negatives and FITB questions. Decisions D16, D17.

    Likes, negatives and filled questions go to the scorer in one call, so that it encodes a (user, item) pair once; a
    `QuestionScorer` gets the questions as they are.

    Args:
        scorer: gives the scores.
        dataset: has the negatives and the questions of the split.
        split: which likes.
        negatives: which of the split's fixed negatives.
        seed: of the bootstrap.
        resamples: bootstrap resamples of the users; 0: no intervals.

    Raises:
        DataError: the split has no likes, negatives or questions; or no user has both likes and negatives.
    """
    started = time.perf_counter()
    likes = dataset.likes.get(split)
    others = dataset.negatives.get((split, negatives))
    questions = dataset.fitb.get(split)
    if likes is None or not len(likes):
        raise DataError(f"the data set {dataset.name!r} has no likes in its split {split!r} to measure")
    if others is None or not len(others):
        raise DataError(_missing(dataset, f"{negatives} negatives", split))
    if questions is None or not len(questions):
        raise DataError(_missing(dataset, "FITB questions", split))
    answers = scorer.question_scores(questions) if isinstance(scorer, QuestionScorer) else None  # (Q, K) | None
    asked = [likes, others] if answers is not None else [likes, others, questions.filled()]
    outfits = Outfits(np.concatenate([each.users for each in asked]), np.concatenate([each.items for each in asked]))
    relaxed, binary = scorer.both(outfits)  # (B,), (B,)
    if relaxed.shape != (len(outfits),) or binary.shape != (len(outfits),):
        raise ValueError(f"the scorer gave {relaxed.shape} and {binary.shape} scores for {len(outfits)} outfits")

    num_ranked = len(likes) + len(others)
    ranked_users = outfits.users[:num_ranked]  # (P + N,)
    is_positive = np.arange(num_ranked) < len(likes)  # (P + N,)
    user_rows = np.unique(np.concatenate([ranked_users, questions.outfits.users]))  # (U,)
    question_of = np.searchsorted(user_rows, questions.outfits.users)  # (Q,)
    num_questions = np.bincount(question_of, minlength=len(user_rows)).astype(np.int64)  # (U,)
    values: dict[str, FloatArray] = {}
    for prefix, scores in (("", binary), ("relaxed_", relaxed)):
        candidates = scores[num_ranked:].reshape(questions.candidates.shape) if answers is None else answers  # (Q, K)
        hits = metrics.fitb(candidates, questions.answer)  # (Q,)
        sums = np.bincount(question_of, weights=hits, minlength=len(user_rows))  # (U,)
        values[f"{prefix}fitb"] = np.where(num_questions > 0, sums / np.maximum(num_questions, 1), np.nan)
        rankings = metrics.rank_by_user(scores[:num_ranked], is_positive, ranked_users)
        place = np.searchsorted(user_rows, rankings.users)
        by_user = {"auc": rankings.auc(), "ndcg": rankings.ndcg_all_ranks(), "ndcg_plain": rankings.ndcg()}
        for metric, ranked in by_user.items():
            values[f"{prefix}{metric}"] = np.full(len(user_rows), np.nan)
            values[f"{prefix}{metric}"][place] = ranked
    if np.isnan(values["auc"]).all():
        raise DataError(
            f"no user of the data set {dataset.name!r} has both likes and {negatives} negatives in the split {split!r}"
        )

    weights = {metric: _weights(metric, values[metric], num_questions) for metric in values}
    means = {metric: weighted_mean(values[metric], weights[metric]) for metric in values}
    drawn = resampled_means(
        {metric: (values[metric], weights[metric]) for metric in METRICS}, seed, resamples=resamples
    )
    return Result(
        split=split,
        negatives=negatives,
        **{metric: means[metric] for metric in METRICS},
        relaxed={metric: means[f"relaxed_{metric}"] for metric in METRICS},
        ci95={metric: interval95(sample) for metric, sample in drawn.items()},
        users=int(np.isfinite(values["auc"]).sum()),
        questions=len(questions),
        seconds=time.perf_counter() - started,
        dataset=dataset.name,
        checksum=dataset.checksum,
        user_ids=tuple(dataset.user_ids[row] for row in user_rows),
        values=values,
        num_questions=num_questions,
    )


def compare(a: Result, b: Result, *, seed: int = 0, resamples: int = 1000) -> Comparison:
    """Is ``a`` better than ``b``? Paired bootstrap over the users that both measured.

    Args:
        a, b: results on the same data set, split and negatives; positive differences favor ``a``.
        seed: of the bootstrap.
        resamples: bootstrap resamples of the common users, at least 1.

    Raises:
        DataError: the two were not measured on the same thing, or share no user.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    for what in ("dataset", "checksum", "split", "negatives"):
        if getattr(a, what) != getattr(b, what):
            values = f"{getattr(a, what)!r} and {getattr(b, what)!r}"
            raise DataError(f"the two results cannot be compared: their {what} differs: {values}")
    common = sorted(set(a.user_ids) & set(b.user_ids))
    if not common:
        raise DataError("the two results cannot be compared: they share no user")
    rows_a, rows_b = (_rows(result.user_ids, common) for result in (a, b))  # (U,) each
    if not np.array_equal(a.num_questions[rows_a], b.num_questions[rows_b]):
        raise DataError("the two results cannot be compared: they answered different FITB questions")

    columns = {}
    for metric in [*METRICS, *(f"relaxed_{metric}" for metric in METRICS)]:
        difference = a.values[metric][rows_a] - b.values[metric][rows_b]  # (U,) NaN where either has none
        weights = _weights(metric, difference, a.num_questions[rows_a])  # (U,)
        if weights.any():
            columns[metric] = difference, weights
    if not columns:
        raise DataError("the two results cannot be compared: their common users have neither rankings nor questions")
    drawn = resampled_means(columns, seed, resamples=resamples)
    differences = {
        metric: Difference(weighted_mean(*columns[metric]), interval95(sample), p_value(sample))
        for metric, sample in drawn.items()
    }
    return Comparison(differences, len(common))


def _rows(user_ids: tuple[str, ...], wanted: list[str]) -> NDArray[np.int64]:
    row_of = {user_id: row for row, user_id in enumerate(user_ids)}
    return np.array([row_of[user_id] for user_id in wanted], dtype=np.int64)


def _missing(dataset: Dataset, what: str, split: Split) -> str:
    return (
        f"the data set {dataset.name!r} has no {what} for its split {split!r}. They are drawn once and kept, so that "
        "every method answers the same: import the data again, or call panfit.data.splits.complete(dataset, seed=0)"
    )


def _weights(metric: str, values: FloatArray, num_questions: NDArray[np.int64]) -> FloatArray:
    if metric.endswith("fitb"):
        return num_questions.astype(np.float64)
    return np.isfinite(values).astype(np.float64)


def _json_floats(values: Iterable[float]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _pair(interval: Sequence[float | None]) -> tuple[float, float]:
    low, high = np.array(interval, dtype=np.float64).tolist()
    return low, high
