"""/v1/items, /v1/similar-items, /v1/slots: pages, ids of any kind, addresses of photos that lead there."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from panfit.recommend import Recommender
from tests.serve.shop_service import COUNTS, UNRULY, Shop, item, make_recommender, open_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Of the same answers, to compare with."""
    return make_recommender(tmp_path_factory.mktemp("library"))


@pytest.mark.parametrize("category", [None, *COUNTS])
def test_pages_hold_every_item_once(shop: Shop, category: str | None) -> None:
    found: list[str] = []
    after = None
    while after is not None or not found:
        wanted = {"limit": 4, "category": category, "after": after}
        params = {name: value for name, value in wanted.items() if value is not None}
        page = shop.client.get("/v1/items", params=params).json()
        found += [each["id"] for each in page["items"]]
        after = page["next"]
    catalogue = shop.recommender.dataset.catalogue
    pairs = zip(catalogue.item_ids, catalogue.item_categories, strict=True)
    assert found == [item_id for item_id, of in pairs if category in (None, of)]


def test_after_an_item_of_another_category(shop: Shop) -> None:
    page = shop.client.get("/v1/items", params={"category": "shoe", "after": "bottom-3", "limit": 1}).json()
    assert [each["id"] for each in page["items"]] == ["shoe-0"]
    page = shop.client.get("/v1/items", params={"category": "top", "after": "bottom-3"}).json()
    assert page == {"items": [], "next": None}


@pytest.mark.parametrize("params", [{"category": "hat"}, {"after": "top-10"}])
def test_what_the_catalogue_does_not_have(shop: Shop, params: dict[str, str]) -> None:
    response = shop.client.get("/v1/items", params=params)
    assert response.status_code == 404
    assert "top" in response.json()["detail"]  # what there is instead


@pytest.mark.parametrize("name", ["top-0", *UNRULY])
def test_one_item(shop: Shop, name: str) -> None:
    catalogue = shop.recommender.dataset.catalogue
    response = shop.client.get(f"/v1/items/{quote(item(name), safe='')}")
    row = catalogue.row_of[item(name)]
    assert response.status_code == 200
    told = response.json()
    assert told["id"] == item(name)
    assert told["category"] == name.partition("-")[0]
    assert told["title"] == catalogue.titles[row]
    assert told["photo"].startswith("/v1/photos/")
    assert "/" not in told["photo"].removeprefix("/v1/photos/")
    photo = shop.client.get(told["photo"])
    assert photo.status_code == 200
    assert photo.headers["content-type"].startswith("image/")


def test_an_item_without_a_photo(shop: Shop) -> None:
    assert shop.client.get("/v1/items/shoe-5").json()["photo"] is None


@pytest.mark.parametrize(
    "path", ["", "top-0/", "images/top-0.jpg", "..%2fimages%2ftop-0.jpg", "%00", "top-0%0a", "%0atop-0", "top-0%0d%0a"]
)
def test_no_item(shop: Shop, path: str) -> None:
    response = shop.client.get(f"/v1/items/{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_slots(shop: Shop) -> None:
    slots = [{"name": name, "category": name} for name in COUNTS]
    assert shop.client.get("/v1/slots").json() == {"slots": slots}


@pytest.mark.parametrize("name", ["top-0", *UNRULY])
def test_similar_items_are_the_librarys(shop: Shop, library: Recommender, name: str) -> None:
    params = {"user": "bob/eve?", "item": item(name), "top": "3"}
    found = shop.client.get("/v1/similar-items", params=params).json()
    ids, shares = library.similar_items("bob/eve?", item(name), 3)
    assert [each["id"] for each in found] == ids
    assert [each["equal_bits"] for each in found] == shares.tolist()


def test_similar_to_no_item(shop: Shop) -> None:
    response = shop.client.get("/v1/similar-items", params={"user": "ann", "item": "top-10"})
    assert response.status_code == 404
    assert "top-0" in response.json()["detail"]
