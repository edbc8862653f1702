"""evaluate() equals the oracles user by user; its intervals cover; compare() tells better from equal."""

import dataclasses
import json

import numpy as np
import pytest

from panfit.errors import DataError
from panfit.evaluate import METRICS, PlainScorer, Result, compare, evaluate
from panfit.outfits import KINDS, Dataset, FitbQuestions, Kind, Outfits, Split
from tests import oracles


def with_questions(dataset: Dataset, rng: np.random.Generator, *, per_like: int = 3) -> Dataset:
    """The data set with test negatives (random and hard) and FITB questions of 4, of a different number a user."""
    likes = dataset.likes["test"].take(np.array([0, 1, 2, 3, 5, 6, 7, 0]))  # user 4 likes nothing; 3 likes once
    pools = dataset.split_items("test")
    liked = set(map(tuple, likes.items.tolist()))
    negatives: dict[tuple[Split, Kind], Outfits] = {}
    for kind in KINDS:
        users = np.repeat(likes.users, per_like)
        items = np.column_stack([rng.choice(pool, len(users)) for pool in pools])
        is_new = np.array([tuple(row) not in liked for row in items.tolist()])
        negatives["test", kind] = Outfits(users[is_new], items[is_new])
    asked = likes.take(np.array([0, 1, 3, 4, 5]))
    blank = np.array([0, 1, 2, 0, 1])
    answer = np.array([0, 3, 1, 2, 0])
    candidates = np.stack([rng.choice(pools[slot], 4) for slot in blank])
    candidates[np.arange(5), answer] = asked.items[np.arange(5), blank]
    return dataclasses.replace(
        dataset,
        likes={**dataset.likes, "test": likes},
        negatives=negatives,
        fitb={"test": FitbQuestions(asked, blank, candidates, answer)},
    )


class CoarseScorer:
    """Pseudo-random scores of (user, outfit), with many ties; counts how often it is called."""

    def __init__(self, levels: int = 5, shift: int = 0) -> None:
        self.levels = levels
        self.shift = shift
        self.num_calls = 0

    def both(self, outfits: Outfits) -> tuple[np.ndarray, np.ndarray]:
        self.num_calls += 1
        mixed = (outfits.users * 7 + outfits.items @ np.array([3, 5, 11]) + self.shift) * 2654435761 % 2**32
        relaxed = mixed / 2**32
        return relaxed, np.floor(relaxed * self.levels)


@pytest.fixture
def dataset(tiny_dataset: Dataset, rng: np.random.Generator) -> Dataset:
    return with_questions(tiny_dataset, rng)


@pytest.mark.parametrize("negatives", KINDS)
def test_equals_the_oracles(dataset: Dataset, negatives: Kind) -> None:
    scorer = CoarseScorer()
    result = evaluate(scorer, dataset, negatives=negatives)
    assert scorer.num_calls == 1
    likes, others = dataset.likes["test"], dataset.negatives["test", negatives]
    for column, shown in ((0, result.relaxed), (1, {metric: getattr(result, metric) for metric in METRICS})):
        expected: dict[str, list[float]] = {"auc": [], "ndcg": [], "ndcg_plain": []}
        for user in range(4):
            positive = scorer.both(likes.take(likes.users == user))[column].tolist()
            negative = scorer.both(others.take(others.users == user))[column].tolist()
            expected["auc"].append(oracles.auc(positive, negative))
            if len(positive) + len(negative) <= 8:  # the oracle permutes
                expected["ndcg"].append(oracles.ndcg_all_ranks(positive, negative))
                expected["ndcg_plain"].append(oracles.ndcg(positive, negative))
        prefix = "relaxed_" if column == 0 else ""
        assert shown["auc"] == pytest.approx(np.mean(expected["auc"]))
        for metric in ("ndcg", "ndcg_plain"):
            values = result.values[f"{prefix}{metric}"]
            np.testing.assert_allclose(values[1:4], expected[metric], rtol=1e-12)
            assert shown[metric] == pytest.approx(values[:4].mean())
        questions = dataset.fitb["test"]
        scores = scorer.both(questions.filled())[column].reshape(5, 4).tolist()
        assert shown["fitb"] == pytest.approx(np.mean(oracles.fitb(scores, questions.answer.tolist())))
    assert (result.users, result.questions) == (4, 5)
    assert result.user_ids == ("u0", "u1", "u2", "u3")


def test_perfect_and_blind_scorers(dataset: Dataset) -> None:
    liked = dataset.known_likes(["test"])

    def truth(outfits: Outfits) -> np.ndarray:
        rows = np.column_stack([outfits.users, outfits.items]).tolist()
        return np.array([float(tuple(row) in liked) for row in rows])

    perfect = evaluate(PlainScorer(truth), dataset)
    assert [perfect.auc, perfect.ndcg, perfect.ndcg_plain] == [1.0, 1.0, 1.0]
    assert perfect.ci95["auc"] == (1.0, 1.0)
    blind = evaluate(PlainScorer(lambda outfits: np.zeros(len(outfits))), dataset)
    assert blind.auc == 0.5
    assert blind.fitb == 0.25  # a tie is no hit
    assert blind.relaxed["fitb"] == 0.25


def test_a_user_with_questions_but_no_negatives_counts_for_fitb_alone(dataset: Dataset) -> None:
    others = dataset.negatives["test", "random"]
    fewer = dataclasses.replace(dataset, negatives={("test", "random"): others.take(others.users != 1)})
    whole, part = evaluate(CoarseScorer(), dataset), evaluate(CoarseScorer(), fewer)
    assert part.fitb == whole.fitb
    assert part.users == 3
    assert np.isnan(part.values["auc"][1])
    assert part.auc == pytest.approx(np.delete(whole.values["auc"], 1).mean())
    assert part.weights("auc").tolist() == [1, 0, 1, 1]
    assert part.weights("relaxed_fitb").sum() == 5


def test_a_user_with_questions_alone_has_no_ranking(dataset: Dataset) -> None:
    likes, others = dataset.likes["test"], dataset.negatives["test", "random"]
    fewer = dataclasses.replace(
        dataset,
        likes={**dataset.likes, "test": likes.take(likes.users != 0)},
        negatives={("test", "random"): others.take(others.users != 0)},
    )
    whole, part = evaluate(CoarseScorer(), dataset), evaluate(CoarseScorer(), fewer)
    assert part.fitb == whole.fitb
    np.testing.assert_array_equal(part.values["auc"], [np.nan, *whole.values["auc"][1:]])


def test_json_is_the_promised_object_and_comes_back(dataset: Dataset) -> None:
    others = dataset.negatives["test", "random"]
    dataset = dataclasses.replace(dataset, negatives={("test", "random"): others.take(others.users != 1)})
    result = evaluate(CoarseScorer(), dataset)
    shown = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert {"split", "negatives", "fitb", "auc", "ndcg", "relaxed", "ci95", "users", "seconds"} <= set(shown)
    assert set(shown["relaxed"]) >= {"fitb", "auc", "ndcg"}
    assert {metric: len(shown["ci95"][metric]) for metric in METRICS} == dict.fromkeys(METRICS, 2)
    back = Result.from_json(shown)
    assert back.to_json() == result.to_json()
    assert "per_user" not in result.to_json(per_user=False)
    with pytest.raises(DataError, match="'per_user'"):
        Result.from_json(result.to_json(per_user=False))


def test_bootstrap_is_seeded_and_optional(dataset: Dataset) -> None:
    first, again, other = (evaluate(CoarseScorer(), dataset, seed=seed) for seed in (1, 1, 2))
    assert first.ci95 == again.ci95
    assert first.ci95 != other.ci95
    assert evaluate(CoarseScorer(), dataset, resamples=0).ci95 == {}
    for metric in METRICS:
        low, high = first.ci95[metric]
        assert low <= getattr(first, metric) <= high


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ({"negatives": {}}, "no random negatives for its split 'test'.*complete"),
        ({"fitb": {}}, "no FITB questions for its split 'test'.*complete"),
    ],
)
def test_what_is_missing_is_named(dataset: Dataset, lacks: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(CoarseScorer(), dataclasses.replace(dataset, **lacks))  # type: ignore[arg-type]


def test_a_split_without_likes_is_named(dataset: Dataset) -> None:
    likes: dict[Split, Outfits] = {"train": dataset.likes["train"]}
    with pytest.raises(DataError, match="no likes in its split 'test'"):
        evaluate(CoarseScorer(), dataclasses.replace(dataset, likes=likes))


def test_a_scorer_of_another_shape_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="scores for"):
        evaluate(PlainScorer(lambda outfits: np.zeros((len(outfits), 1))), dataset)


def test_compare_tells_better_from_equal(dataset: Dataset) -> None:
    a, b = evaluate(CoarseScorer(), dataset), evaluate(CoarseScorer(shift=13), dataset)
    same = compare(a, a)
    assert same.users == 4
    assert all(difference.value == 0 and difference.p_value == 1 for difference in same.differences.values())
    forth, back = compare(a, b).differences, compare(b, a).differences
    for metric in METRICS:
        assert forth[metric].value == pytest.approx(getattr(a, metric) - getattr(b, metric))
        assert back[metric].value == pytest.approx(-forth[metric].value)
        assert back[metric].p_value == pytest.approx(forth[metric].p_value)
        assert forth[metric].ci95[0] <= forth[metric].value <= forth[metric].ci95[1]
    assert forth["relaxed_auc"].value == pytest.approx(a.relaxed["auc"] - b.relaxed["auc"])
    better = dataclasses.replace(a, values={metric: values + 0.1 for metric, values in a.values.items()})
    assert compare(better, a).differences["auc"].p_value == pytest.approx(2 / 1001)
    assert json.loads(json.dumps(compare(a, b).to_json(), allow_nan=False))["users"] == 4


def test_compare_is_over_common_users(dataset: Dataset) -> None:
    a = evaluate(CoarseScorer(), dataset)
    rows = np.array([2, 0])  # another order, too
    b = dataclasses.replace(
        a,
        user_ids=("u2", "u0"),
        values={metric: values[rows] for metric, values in a.values.items()},
        num_questions=a.num_questions[rows],
    )
    found = compare(a, b)
    assert found.users == 2
    assert found.differences["auc"].value == 0


@pytest.mark.parametrize("what", ["dataset", "checksum", "split", "negatives", "user_ids", "num_questions"])
def test_compare_refuses_different_things(dataset: Dataset, what: str) -> None:
    a = evaluate(CoarseScorer(), dataset)
    other = {"user_ids": ("a", "b", "c", "d"), "num_questions": a.num_questions + 1}.get(what, "other")
    with pytest.raises(DataError, match="cannot be compared"):
        compare(a, dataclasses.replace(a, **{what: other}))  # type: ignore[arg-type]
