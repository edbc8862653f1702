"""/v1/newcomers: made, asked about, changed, erased; and what cannot be."""

from collections.abc import Iterator
from typing import Any

import pytest

from panfit.serve.service import train_likes
from panfit.serve.settings import Limits
from tests.serve.shop_service import USERS, Shop, make_recommender, open_shop, outfit

NOBODY = "new-" + "0" * 32


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop"), limits=Limits(opinions=7, list_items=8)) as shop:
        yield shop


def make(shop: Shop, **told: Any) -> dict[str, Any]:
    response = shop.client.post("/v1/newcomers", json=told)
    assert response.status_code == 201, response.text
    return dict(response.json())


def outfits(opinions: list[dict[str, Any]]) -> list[tuple[str | None, ...]]:
    return [tuple(each["outfit"]) for each in opinions]


def test_made_from_nothing(shop: Shop) -> None:
    response = shop.client.post("/v1/newcomers", json={})
    assert response.status_code == 201
    told = response.json()
    assert response.headers["location"] == f"/v1/newcomers/{told['id']}"
    assert response.headers["cache-control"] == "private, no-store"
    wanted = {"id": told["id"], "name": "newcomer", "version": 1, "likes": [], "dislikes": [], "gone": 0}
    assert told == wanted
    assert shop.client.get(response.headers["location"]).json() == told
    assert shop.client.get("/v1/recommendations", params={"user": told["id"]}).json()["outfits"]


def test_likes_and_dislikes_come_back_in_order(shop: Shop) -> None:
    likes, dislikes = [outfit(2, 2, 2), outfit(1, None, 1)], [outfit(0, 1, 2)]
    told = make(shop, name="Zoë 靴", likes=likes, dislikes=dislikes)
    assert told["name"] == "Zoë 靴"
    assert outfits(told["likes"]) == likes
    assert outfits(told["dislikes"]) == dislikes


def test_opinions_join_are_replaced_and_withdrawn(shop: Shop) -> None:
    newcomer = make(shop, likes=[outfit(1, 1, 1)])
    address = f"/v1/newcomers/{newcomer['id']}"
    added = shop.client.post(f"{address}/likes", json={"outfits": [outfit(2, 2, 2), outfit(1, 1, 1)]}).json()
    assert outfits(added["likes"]) == [outfit(1, 1, 1), outfit(2, 2, 2)]
    assert added["version"] == 2
    again = shop.client.post(f"{address}/likes", json={"outfits": [outfit(2, 2, 2)]}).json()
    assert again == added
    turned = shop.client.post(f"{address}/dislikes", json={"outfits": [outfit(1, 1, 1)]}).json()
    assert outfits(turned["likes"]) == [outfit(2, 2, 2)]
    assert outfits(turned["dislikes"]) == [outfit(1, 1, 1)]
    assert turned["version"] == 3
    opinion = turned["likes"][0]["id"]
    withdrawn = shop.client.delete(f"{address}/opinions/{opinion}").json()
    assert withdrawn["likes"] == []
    assert outfits(withdrawn["dislikes"]) == [outfit(1, 1, 1)]
    assert shop.client.delete(f"{address}/opinions/{opinion}").status_code == 404
    assert shop.client.get(address).json() == withdrawn


def test_his_likes_change_his_scores(shop: Shop) -> None:
    newcomer = make(shop)["id"]
    asked = {"user": newcomer, "outfits": [outfit(1, 1, 1), outfit(5, 5, 5)]}
    before = shop.client.post("/v1/score", json=asked).json()
    likes = train_likes(make_dataset_of(shop), "ann")
    shop.client.post(f"/v1/newcomers/{newcomer}/likes", json={"outfits": likes})
    assert shop.client.post("/v1/score", json=asked).json() != before


@pytest.mark.parametrize("user", USERS)
def test_started_from_a_users_likes(shop: Shop, user: str) -> None:
    likes = train_likes(make_dataset_of(shop), user)
    told = make(shop, like_user=user, likes=[outfit(8, 6, 4), likes[0]])
    assert outfits(told["likes"]) == [*likes, outfit(8, 6, 4)]


def make_dataset_of(shop: Shop) -> Any:
    return shop.app.state.service.dataset


def test_a_users_likes_are_his_own(tmp_path: Any) -> None:
    dataset = make_recommender(tmp_path).dataset
    likes = dataset.likes["train"]
    for row, user in enumerate(USERS):
        wanted = {dataset.catalogue.ids(each) for who, each in zip(likes.users, likes.items, strict=True) if who == row}
        assert set(train_likes(dataset, user)) == wanted
        assert len(train_likes(dataset, user)) == len(wanted) > 0


def test_a_likeness_that_he_denies(shop: Shop) -> None:
    denied = train_likes(make_dataset_of(shop), "ann")[0]
    response = shop.client.post("/v1/newcomers", json={"like_user": "ann", "dislikes": [denied]})
    assert response.status_code == 422
    assert response.json()["problems"][0]["where"] == "dislikes"


def test_erased_for_good(shop: Shop) -> None:
    service = shop.app.state.service
    newcomer = make(shop, likes=[outfit(1, 1, 1)])["id"]
    address = f"/v1/newcomers/{newcomer}"
    assert shop.client.get("/v1/recommendations", params={"user": newcomer}).status_code == 200
    before = service.likes.count()
    response = shop.client.delete(address)
    assert response.status_code == 204
    assert response.content == b""
    assert service.likes.count() == before - 1
    assert not [key for key in service._newcomers if key[0] == newcomer]
    for again in (
        shop.client.delete(address),
        shop.client.get(address),
        shop.client.get(f"/v1/users/{newcomer}"),
        shop.client.post(f"{address}/likes", json={"outfits": [outfit(1, 1, 1)]}),
        shop.client.get("/v1/recommendations", params={"user": newcomer}),
    ):
        assert again.status_code == 404
        assert again.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("newcomer", [NOBODY, "ann", "new-user", "%00", "x" * 200, "new-%2f"])
def test_nobody(shop: Shop, newcomer: str) -> None:
    assert shop.client.get(f"/v1/newcomers/{newcomer}").status_code == 404
    assert shop.client.delete(f"/v1/newcomers/{newcomer}").status_code == 404
    assert shop.client.delete(f"/v1/newcomers/{newcomer}/opinions/%00").status_code == 404
    response = shop.client.post(f"/v1/newcomers/{newcomer}/likes", json={"outfits": [outfit(1, 1, 1)]})
    assert response.status_code == 404


@pytest.mark.parametrize("opinion", ["%00", "x", "%0a", "%F0%9F%91%A2", "0" * 32])
def test_no_such_opinion(shop: Shop, opinion: str) -> None:
    newcomer = make(shop)["id"]
    assert shop.client.delete(f"/v1/newcomers/{newcomer}/opinions/{opinion}").status_code == 404


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        ({"likes": [["top-10", None, None]]}, 404, "'top-0'"),
        ({"like_user": "an"}, 404, "'ann'"),
        ({"like_user": NOBODY}, 404, "no user"),
        ({"likes": [outfit(1, 1, 1)], "dislikes": [outfit(1, 1, 1)]}, 422, "both liked and disliked"),
        ({"likes": [outfit(1, 1, 1)[::-1]]}, 422, "do not fit"),
        ({"likes": [[]]}, 422, "do not fit"),
        ({"likes": [[None, None, None]]}, 422, "do not fit"),
        ({"likes": [outfit(n, n, n) for n in range(4)], "dislikes": [outfit(n, n, 5) for n in range(4)]}, 422, "7"),
        ({"likes": [outfit(1, 1, 1)] * 9}, 422, "asks for too much"),
        ({"name": ""}, 422, "form"),
        ({"name": "x" * 101}, 422, "form"),
        ({"name": "a\nb"}, 422, "form"),
        ({"name": "a\0b"}, 422, "form"),
        ({"nmae": "eve"}, 422, "form"),
        ({"likes": "top-0"}, 422, "form"),
    ],
)
def test_who_cannot_be_made(shop: Shop, told: dict[str, Any], status: int, said: str) -> None:
    before = shop.app.state.service.likes.count()
    response = shop.client.post("/v1/newcomers", json=told)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert said in response.json()["detail"]
    assert shop.app.state.service.likes.count() == before


def test_more_opinions_than_he_may_have(shop: Shop) -> None:
    newcomer = make(shop, likes=[outfit(n, n, n) for n in range(6)])
    more = {"outfits": [outfit(8, n, 0) for n in range(2)]}
    response = shop.client.post(f"/v1/newcomers/{newcomer['id']}/likes", json=more)
    assert response.status_code == 422
    assert shop.client.get(f"/v1/newcomers/{newcomer['id']}").json() == newcomer  # all or none


@pytest.mark.parametrize(
    ("told", "status"), [({"outfits": []}, 422), ({}, 422), ({"outfits": [["top-10", None, None]]}, 404)]
)
def test_opinions_that_cannot_be_had(shop: Shop, told: dict[str, Any], status: int) -> None:
    newcomer = make(shop)
    for side in ("likes", "dislikes"):
        assert shop.client.post(f"/v1/newcomers/{newcomer['id']}/{side}", json=told).status_code == status
    assert shop.client.get(f"/v1/newcomers/{newcomer['id']}").json() == newcomer
