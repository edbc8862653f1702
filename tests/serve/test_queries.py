"""Each query is answered by the method it names, with the score's parts; equal questions are equal."""

from pathlib import Path

import numpy as np
import pytest

from panfit.recommend import Recommender
from panfit.serve.queries import Complete, Fit, Ranked, Recommend, Score, ScorePhotos, SimilarItems, SimilarUsers
from tests.serve.shop_service import make_recommender, outfit


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return make_recommender(Path(tmp_path_factory.mktemp("shop")))


def check(found: Ranked, outfits: object, scores: object) -> None:
    assert found.outfits == outfits
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_allclose(found.general + found.personal, found.scores, atol=1e-5)
    assert np.ptp(found.personal) > 1e-3


def test_outfits(recommender: Recommender) -> None:
    check(Recommend("ann", 7).answer(recommender), *recommender.recommend("ann", 7))
    everything = recommender.recommend("ann", 7, source="composed", exclude_known=False)
    check(Recommend("ann", 7, "composed", exclude_known=False).answer(recommender), *everything)
    given = {"bottom": "bottom-3"}
    among = ("top-0", "top-3", "top-4", "shoe-0", "shoe-3")
    asked = Complete("ann", tuple(given.items()), 5, None, among, ("top-3",))
    check(asked.answer(recommender), *recommender.complete("ann", given, 5, among=among, exclude=["top-3"]))
    composed = Complete("ann", (), 4, ("top", "shoe"), repeat=1)
    check(composed.answer(recommender), *recommender.compose("ann", 4, slots=["top", "shoe"], repeat=1))
    worn = (outfit(3, 4, 5), outfit(0, None, 2), outfit(3, 4, 5))
    check(Score("ann", worn).answer(recommender), list(worn), recommender.score("ann", worn))
    nothing = Score("ann", ()).answer(recommender)
    assert (nothing.outfits, len(nothing.scores), len(nothing.general)) == ([], 0, 0)


@pytest.mark.parametrize("exclude_known", [True, False])
def test_a_ranking_that_is_there_already_changes_nothing(recommender: Recommender, exclude_known: bool) -> None:
    query = Recommend("Zoë 100%", 6, exclude_known=exclude_known)
    expected, found = query.answer(recommender), query.chosen(recommender, recommender.rank(query.user))
    assert found.outfits == expected.outfits
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_others(recommender: Recommender) -> None:
    assert SimilarUsers("ann", 3).answer(recommender)[0] == recommender.similar_users("ann", 3)[0]
    assert SimilarItems("ann", "top-3", 4).answer(recommender)[0] == recommender.similar_items("ann", "top-3", 4)[0]
    me = Fit("me", (outfit(3, 4, 5),), (outfit(0, 0, 0),)).answer(recommender)
    assert (str(me), me.likes, me.dislikes) == ("me", (outfit(3, 4, 5),), (outfit(0, 0, 0),))


def test_equal_questions_are_equal() -> None:
    assert Recommend("ann", 3) == Recommend("ann", 3) != Recommend("ann", 4)
    assert len({Complete("ann", (("top", "top-0"),)), Complete("ann", (("top", "top-0"),)), Complete("ann")}) == 2
    assert ScorePhotos("ann", ("a", "b", None)) != ScorePhotos("ann", ("a", "b", None))
