"""/v1/recommendations, complete, compose, score: what the library says; what does not fit; limits."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from panfit.encode import FloatArray
from panfit.ids import OutfitIds
from panfit.recommend import Recommender
from panfit.serve.schemas import OutfitsOut
from panfit.serve.settings import Limits
from tests.serve.shop_service import COUNTS, USERS, Shop, item, make_recommender, open_shop, outfit

LIKES = [outfit(1, 1, 2), outfit(3, None, 1)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop"), limits=Limits(top=50, list_items=9)) as shop:
        yield shop


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Of the same answers, to compare with."""
    return make_recommender(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def newcomer(shop: Shop) -> str:
    return str(shop.client.post("/v1/newcomers", json={"likes": LIKES}).json()["id"])


def check(answer: Any, library: Recommender, user: Any, outfits: Sequence[OutfitIds], scores: FloatArray) -> None:
    """An answer is these outfits, with their parts, in the form that is documented."""
    assert OutfitsOut.model_validate(answer, strict=True, extra="forbid").model_dump() == answer
    assert [list(each["items"]) for each in answer["outfits"]] == [list(COUNTS)] * len(outfits)
    assert [tuple(each["items"].values()) for each in answer["outfits"]] == list(outfits)
    assert [each["score"] for each in answer["outfits"]] == pytest.approx(scores.tolist(), abs=1e-5)
    general, personal = library.score_parts(user, outfits)
    assert [each["general"] for each in answer["outfits"]] == pytest.approx(general.tolist(), abs=1e-5)
    assert [each["personal"] for each in answer["outfits"]] == pytest.approx(personal.tolist(), abs=1e-5)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("exclude_known", [True, False])
def test_recommendations(shop: Shop, library: Recommender, user: str, exclude_known: bool) -> None:
    params: dict[str, Any] = {"user": user, "top": 7, "exclude_known": exclude_known}
    answer = shop.client.get("/v1/recommendations", params=params).json()
    assert answer["user"] == user
    check(answer, library, user, *library.recommend(user, 7, exclude_known=exclude_known))


def test_composed_recommendations(shop: Shop, library: Recommender) -> None:
    params: dict[str, Any] = {"user": "ann", "top": 4, "source": "composed"}
    answer = shop.client.get("/v1/recommendations", params=params).json()
    check(answer, library, "ann", *library.recommend("ann", 4, source="composed"))


def test_a_newcomer_goes_wherever_a_user_goes(shop: Shop, library: Recommender, newcomer: str) -> None:
    eve = library.newcomer(LIKES)
    answer = shop.client.get("/v1/recommendations", params={"user": newcomer, "top": 50}).json()
    check(answer, library, eve, *library.recommend(eve, 50))
    assert not {tuple(each["items"].values()) for each in answer["outfits"]} & set(LIKES)
    answer = shop.client.post("/v1/score", json={"user": newcomer, "outfits": LIKES}).json()
    check(answer, library, eve, LIKES, library.score(eve, LIKES))
    answer = shop.client.post("/v1/complete", json={"user": newcomer, "given": {"shoe": item("shoe-1")}}).json()
    check(answer, library, eve, *library.complete(eve, {"shoe": item("shoe-1")}))


@pytest.mark.parametrize(
    "asked",
    [
        {"given": {"top": item("top-1"), "bottom": item("bottom-2")}, "top": 5},
        {"given": {"top": item("top-2")}, "top": 3, "slots": ["shoe"]},
        {"given": {}, "top": 6, "exclude": [item("shoe-1"), "top-0"]},
        {"top": 50, "among": ["top-0", item("top-1"), "bottom-0", item("bottom-1"), item("shoe-1"), "shoe-3"]},
    ],
)
def test_complete_and_compose(shop: Shop, library: Recommender, asked: dict[str, Any]) -> None:
    filters = {name: value for name, value in asked.items() if name not in ("given", "top")}
    given = asked.get("given", {})
    answer = shop.client.post("/v1/complete", json={"user": "Zoë 100%", **asked}).json()
    check(answer, library, "Zoë 100%", *library.complete("Zoë 100%", given, asked["top"], **filters))
    answer = shop.client.post("/v1/compose", json={"user": "..", **asked}).json()
    check(answer, library, "..", *library.compose("..", asked["top"], given=given, **filters))
    answer = shop.client.post("/v1/compose", json={"user": "..", **asked, "repeat": None}).json()
    check(answer, library, "..", *library.compose("..", asked["top"], given=given, repeat=None, **filters))


def test_scores_come_in_the_order_of_the_outfits(shop: Shop, library: Recommender) -> None:
    outfits = [outfit(5, 5, 5), outfit(0, None, None), outfit(1, 1, 1), outfit(5, 5, 5)]
    answer = shop.client.post("/v1/score", json={"user": "new-user", "outfits": outfits}).json()
    check(answer, library, "new-user", outfits, library.score("new-user", outfits))


UNKNOWN = [
    ("score", {"user": "an", "outfits": [outfit(1, 1, 1)]}, "'ann'"),
    ("score", {"user": "new-" + "0" * 32, "outfits": [outfit(1, 1, 1)]}, "new-"),
    ("score", {"user": "ann", "outfits": [["top-10", None, None]]}, "'top-0'"),
    ("complete", {"user": "ann", "given": {"hat": "top-0"}}, "its slots: top, bottom, shoe"),
    ("complete", {"user": "ann", "given": {"top": "top-10"}}, "'top-0'"),
    ("complete", {"user": "ann", "slots": ["hat"]}, "its slots: top, bottom, shoe"),
    ("complete", {"user": "ann", "among": ["top-10"]}, "'top-0'"),
    ("compose", {"user": "ann", "exclude": ["top-10"]}, "'top-0'"),
]


@pytest.mark.parametrize(("address", "asked", "told"), UNKNOWN)
def test_unknown_ids(shop: Shop, address: str, asked: dict[str, Any], told: str) -> None:
    response = shop.client.post(f"/v1/{address}", json=asked)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert told in response.json()["detail"]


NONSENSE = [
    ("score", {"user": "ann", "outfits": [outfit(1, 1, 1), ["shoe-0", None, None]]}, "outfits", 2),
    ("score", {"user": "ann", "outfits": [["top-0"]]}, "outfits", 1),
    ("score", {"user": "ann", "outfits": [[None, None, None]]}, "outfits", 1),
    ("score", {"user": "ann", "outfits": []}, "body.outfits", None),
    ("score", {"user": "ann", "outfits": [outfit(1, 1, 1)] * 10}, "outfits", None),
    ("score", {"user": "ann", "outfits": [outfit(1, 1, 1)], "codes": "relaxed"}, "body.codes", None),
    ("score", {"user": 7, "outfits": [outfit(1, 1, 1)]}, "body.user", None),
    ("score", {"user": "x" * 1025, "outfits": [outfit(1, 1, 1)]}, "body.user", None),
    ("complete", {"user": "ann", "given": {"top": "shoe-0"}}, "given", None),
    ("complete", {"user": "ann", "top": 51}, "top", None),
    ("complete", {"user": "ann", "top": 0}, "body.top", None),
    ("complete", {"user": "ann", "top": 1.5}, "body.top", None),
    ("complete", {"user": "ann", "top": True}, "body.top", None),
    ("complete", {"user": "ann", "repeat": 1}, "body.repeat", None),
    ("complete", {"user": "ann", "among": ["top-0"] * 10}, "among", None),
    ("compose", {"user": "ann", "exclude": ["top-0"] * 10}, "exclude", None),
    ("compose", {"user": "ann", "repeat": 0}, "body.repeat", None),
]


@pytest.mark.parametrize(("address", "asked", "where", "row"), NONSENSE)
def test_what_makes_no_sense(shop: Shop, address: str, asked: dict[str, Any], where: str, row: int | None) -> None:
    response = shop.client.post(f"/v1/{address}", json=asked)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    (problem,) = response.json()["problems"]
    assert problem["where"] == where
    assert problem.get("row") == row
    assert problem["what"]


def test_nothing_left_to_choose_from(shop: Shop) -> None:
    for asked in ({"given": dict(zip(COUNTS, outfit(1, 1, 1), strict=True))}, {"among": ["top-0"]}):
        response = shop.client.post("/v1/complete", json={"user": "ann", **asked})
        assert response.status_code == 422
        assert response.json()["detail"]


@pytest.mark.parametrize(
    "query", ["user=ann&top=51", "user=ann&top=0", "user=ann&source=mine", "user=ann&top=", "top=3"]
)
def test_recommendations_that_make_no_sense(shop: Shop, query: str) -> None:
    response = shop.client.get(f"/v1/recommendations?{query}")
    assert response.status_code == 422
    assert response.json()["problems"]


def test_answers_about_somebody_are_private(shop: Shop) -> None:
    for response in (
        shop.client.get("/v1/recommendations", params={"user": "ann"}),
        shop.client.post("/v1/score", json={"user": "ann", "outfits": [outfit(1, 1, 1)]}),
    ):
        assert response.headers["cache-control"].startswith("private, no-")
