"""/v1/explain and /v1/explanation.png: what the library says and draws."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panfit.figure import explanation_picture, photos_of
from panfit.recommend import Recommender
from tests.serve.shop_service import Shop, make_recommender, open_shop, outfit


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Of the same answers, to compare with."""
    return make_recommender(tmp_path_factory.mktemp("library"))


def query(worn: tuple[str | None, ...], **more: str) -> dict[str, Any]:
    return {"user": "ann", "item": [each or "" for each in worn], **more}


@pytest.mark.parametrize("against", [None, ".."])
@pytest.mark.parametrize("worn", [outfit(1, 2, 1), outfit(3, None, 5)])
def test_numbers_are_the_librarys(
    shop: Shop, library: Recommender, worn: tuple[str | None, ...], against: str | None
) -> None:
    asked = {"user": "bob/eve?", "outfit": worn, "against": against}
    response = shop.client.post("/v1/explain", json=asked)
    assert response.status_code == 200, response.text
    assert response.json() == library.explain("bob/eve?", worn, against=against).to_json()


@pytest.mark.parametrize("look", ["relative", "absolute"])
@pytest.mark.parametrize("worn", [outfit(1, 2, 1), outfit(3, None, 5)])
def test_the_picture_is_the_librarys(shop: Shop, library: Recommender, worn: tuple[str | None, ...], look: Any) -> None:
    response = shop.client.get("/v1/explanation.png", params=query(worn, against="Zoë 100%", look=look))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    explanation = library.explain("ann", worn, against="Zoë 100%")
    photos = photos_of(explanation, library.dataset.catalogue, library.pan.config.images.fit)
    wanted = explanation_picture(explanation, photos, look=look)
    with Image.open(io.BytesIO(response.content)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(wanted))


def test_a_newcomer_is_explained(shop: Shop) -> None:
    newcomer = shop.client.post("/v1/newcomers", json={"name": "eve", "likes": [outfit(1, 1, 1)]}).json()["id"]
    told = shop.client.post("/v1/explain", json={"user": newcomer, "outfit": outfit(2, 2, 2), "against": "ann"}).json()
    assert told["user"] == "eve"
    assert told["against"]["user"] == "ann"
    response = shop.client.get("/v1/explanation.png", params={**query(outfit(2, 2, 2)), "user": newcomer})
    assert response.status_code == 200


def test_a_photo_that_is_gone_is_a_gray_tile(shop: Shop) -> None:
    worn = outfit(6, 5, 4)
    whole = shop.client.get("/v1/explanation.png", params=query(worn))
    root = shop.recommender.dataset.catalogue.image_root
    (root / "images/top-6.jpg").rename(root / "images/elsewhere.jpg")
    try:
        response = shop.client.get("/v1/explanation.png", params=query(worn))
    finally:
        (root / "images/elsewhere.jpg").rename(root / "images/top-6.jpg")
    assert response.status_code == 200
    assert response.content != whole.content
    with Image.open(io.BytesIO(response.content)) as one, Image.open(io.BytesIO(whole.content)) as other:
        assert one.size == other.size


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"user": "an", "item": ["top-0", "bottom-0", "shoe-0"]}, 404),
        ({"user": "ann", "item": ["top-10", "bottom-0", "shoe-0"]}, 404),
        ({"user": "ann", "item": ["top-0", "bottom-0", "shoe-0"], "against": "nobody"}, 404),
        ({"user": "ann", "item": ["top-0", "bottom-0"]}, 422),
        ({"user": "ann", "item": ["top-0", "bottom-0", "shoe-0", "shoe-1"]}, 422),
        ({"user": "ann", "item": ["", "", ""]}, 422),
        ({"user": "ann", "item": ["shoe-0", "", ""]}, 422),
        ({"user": "ann", "item": ["top-0", "", ""], "look": "away"}, 422),
        ({"user": "ann"}, 422),
        ({"item": ["top-0", "", ""]}, 422),
    ],
)
def test_what_cannot_be_drawn(shop: Shop, params: dict[str, Any], status: int) -> None:
    response = shop.client.get("/v1/explanation.png", params=params)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"user": "ann", "outfit": ["top-10", None, None]}, 404),
        ({"user": "an", "outfit": outfit(1, 1, 1)}, 404),
        ({"user": "ann", "outfit": outfit(1, 1, 1), "against": "an"}, 404),
        ({"user": "ann", "outfit": []}, 422),
        ({"user": "ann", "outfit": [None, None, None]}, 422),
        ({"user": "ann", "outfit": "top-0"}, 422),
    ],
)
def test_what_cannot_be_explained(shop: Shop, asked: dict[str, Any], status: int) -> None:
    response = shop.client.post("/v1/explain", json=asked)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
