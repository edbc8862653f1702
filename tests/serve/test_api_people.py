"""/v1/users, /v1/similar-users: pages, ids of any kind, tags."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from panfit.recommend import Recommender
from panfit.serve.settings import Limits
from tests.serve.shop_service import USERS, Shop, make_recommender, open_shop, outfit


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop"), limits=Limits(top=4, list_items=3)) as shop:
        yield shop


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Of the same answers, to compare with."""
    return make_recommender(tmp_path_factory.mktemp("library"))


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_hold_everybody_once(shop: Shop, library: Recommender, limit: int) -> None:
    found, after = [], None
    for _ in range(len(USERS) + 1):
        params = {"limit": limit} | ({} if after is None else {"after": after})
        page = shop.client.get("/v1/users", params=params).json()
        assert len(page["users"]) <= limit
        found += page["users"]
        after = page["next"]
        if after is None:
            break
    assert [each["id"] for each in found] == list(USERS)
    assert [each["likes"] for each in found] == [len(library.people.known(user)) for user in USERS]
    assert not any(each["is_newcomer"] for each in found)


def test_a_page_after_the_last_is_empty(shop: Shop) -> None:
    assert shop.client.get("/v1/users", params={"after": USERS[-1]}).json() == {"users": [], "next": None}


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 4}, {"limit": "x"}, {"after": "x" * 1025}])
def test_pages_have_bounds(shop: Shop, params: dict[str, str | int]) -> None:
    response = shop.client.get("/v1/users", params=params)
    assert response.status_code == 422
    assert response.json()["problems"]


def test_after_nobody(shop: Shop) -> None:
    response = shop.client.get("/v1/users", params={"after": "an"})
    assert response.status_code == 404
    assert "'ann'" in response.json()["detail"]  # the nearest


@pytest.mark.parametrize("user", [user for user in USERS if user != ".."])
def test_one_user(shop: Shop, user: str) -> None:
    response = shop.client.get(f"/v1/users/{quote(user, safe='')}")
    assert response.status_code == 200
    assert response.json()["id"] == user
    assert response.json()["is_newcomer"] is False


@pytest.mark.parametrize(
    "user", ["", "nobody", "ann/", "ann%00", "..%2f..%2fetc%2fpasswd", "%F0%9F%91%A2", "new-" + "0" * 32]
)
def test_no_user(shop: Shop, user: str) -> None:
    response = shop.client.get(f"/v1/users/{user}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_a_newcomer_is_somebody(shop: Shop) -> None:
    told = {"likes": [outfit(1, 2, 3), outfit(4, None, 5)], "dislikes": [outfit(2, 2, 2)]}
    newcomer = shop.client.post("/v1/newcomers", json=told).json()["id"]
    assert shop.client.get(f"/v1/users/{newcomer}").json() == {"id": newcomer, "likes": 2, "is_newcomer": True}
    similar = shop.client.get("/v1/similar-users", params={"user": newcomer, "top": 4}).json()
    assert len(similar) == 4
    assert {each["id"] for each in similar} < set(USERS)


@pytest.mark.parametrize("user", USERS)
def test_similar_users_are_the_librarys(shop: Shop, library: Recommender, user: str) -> None:
    found = shop.client.get("/v1/similar-users", params={"user": user, "top": 3}).json()
    ids, cosines = library.similar_users(user, 3)
    assert [each["id"] for each in found] == ids
    assert [each["cosine"] for each in found] == cosines.tolist()


@pytest.mark.parametrize("top", [0, 5])
def test_top_has_bounds(shop: Shop, top: int) -> None:
    assert shop.client.get("/v1/similar-users", params={"user": "ann", "top": top}).status_code == 422
