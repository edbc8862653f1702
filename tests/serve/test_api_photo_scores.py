"""/v1/score-photos: photos and ids in one form -> the library's score; what the form must not hold."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panfit.recommend import Recommender
from panfit.serve.settings import Limits
from tests.serve.shop_service import Shop, item, make_recommender, open_shop

Part = tuple[str, Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    limits = Limits(photo_bytes=20_000, photo_pixels=5000)
    with open_shop(tmp_path_factory.mktemp("shop"), limits=limits) as shop:
        yield shop


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Of the same answers, to compare with."""
    return make_recommender(tmp_path_factory.mktemp("library"))


def draw(seed: int, size: tuple[int, int] = (30, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (10, 8, 3), dtype=np.uint8)).resize(size)


def png(photo: Image.Image) -> bytes:
    file = io.BytesIO()
    photo.save(file, format="PNG")
    return file.getvalue()


def file(photo: Image.Image) -> tuple[str, bytes, str]:
    """A part that is a file; its name leads elsewhere, to no avail."""
    return ("../../photo.exe", png(photo), "text/html")


def post(shop: Shop, *parts: Part) -> Any:
    """A form of these parts, in this order: texts, or (name, content, type)."""
    files = [(name, (None, value.encode()) if isinstance(value, str) else value) for name, value in parts]
    return shop.client.post("/v1/score-photos", files=files)


def test_photos_of_every_slot(shop: Shop, library: Recommender) -> None:
    photos = {"top": draw(1), "bottom": draw(2), "shoe": draw(3)}
    response = post(shop, ("user", "bob/eve?"), *((slot, file(photo)) for slot, photo in reversed(photos.items())))
    assert response.status_code == 200, response.text
    (score,) = library.score("bob/eve?", [list(photos.values())])
    assert response.json() == {"user": "bob/eve?", "score": pytest.approx(score, abs=1e-6)}
    assert response.headers["cache-control"] == "private, no-store"


def test_photos_beside_ids_and_nothing(shop: Shop, library: Recommender) -> None:
    response = post(shop, ("user", "ann"), ("shoe", item("shoe-1")), ("top", file(draw(4))))
    (score,) = library.score("ann", [(draw(4), None, item("shoe-1"))])
    assert response.json()["score"] == pytest.approx(score, abs=1e-6)
    response = post(shop, ("user", "ann"), ("bottom", ""), ("top", file(draw(4))))
    (score,) = library.score("ann", [(draw(4), None, None)])
    assert response.json()["score"] == pytest.approx(score, abs=1e-6)
    response = post(shop, ("user", "ann"), ("top", item("top-2")))  # no photo at all
    (score,) = library.score("ann", [(item("top-2"), None, None)])
    assert response.json()["score"] == pytest.approx(score, abs=1e-6)


def test_a_newcomer_and_a_title(shop: Shop) -> None:
    newcomer = shop.client.post("/v1/newcomers", json={}).json()["id"]
    response = post(shop, ("user", newcomer), ("top", file(draw(4))), ("title.top", "a red top"))
    assert response.status_code == 200, response.text  # this model reads no titles


@pytest.mark.parametrize(
    ("parts", "status", "said"),
    [
        ([("top", file(draw(1)))], 422, "'user'"),
        ([("user", "ann"), ("user", "ann"), ("top", file(draw(1)))], 422, "'user'"),
        ([("user", file(draw(1))), ("top", file(draw(1)))], 422, "'user'"),
        ([("user", "ann"), ("hat", file(draw(1)))], 422, "'hat'"),
        ([("user", "ann"), ("top", file(draw(1))), ("top", "top-0")], 422, "'top'"),
        ([("user", "ann"), ("top", "x" * 1025)], 422, "'top'"),
        ([("user", "ann"), ("top", "top-0"), ("title.top", "red")], 422, "title"),
        ([("user", "ann"), ("title.hat", "red")], 422, "'title.hat'"),
        ([("user", "ann"), ("top", file(draw(1))), ("title.top", "x" * 1001)], 422, "'title.top'"),
        ([("user", "ann")], 422, "without any item"),
        ([("user", "ann"), ("top", "shoe-0")], 422, "'shoe-0'"),
        ([("user", "ann"), ("top", "top-10")], 404, "'top-0'"),
        ([("user", "an"), ("top", file(draw(1)))], 404, "'ann'"),
        ([("user", "ann"), ("top", ("a.jpg", b"", "image/jpeg"))], 422, None),
        ([("user", "ann"), ("top", ("a.jpg", png(draw(1))[:-40], "image/jpeg"))], 422, None),
        (
            [("user", "ann"), ("top", ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"))],
            415,
            None,
        ),
        ([("user", "ann"), ("top", file(draw(1, (101, 50))))], 413, None),
        ([("user", "ann"), ("top", ("a.jpg", b"\xff\xd8\xff" + bytes(20_000), "image/jpeg"))], 413, None),
    ],
)
def test_forms_that_make_no_sense(shop: Shop, parts: list[Part], status: int, said: str | None) -> None:
    response = post(shop, *parts)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert said is None or said in response.text


def test_a_form_that_cannot_be_read(shop: Shop) -> None:
    address = "/v1/score-photos"
    assert shop.client.post(address, json={"user": "ann"}).status_code == 415
    assert shop.client.post(address, data={"user": "ann", "top": "top-0"}).status_code == 415
    assert shop.client.post(address).status_code == 415
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = shop.client.post(address, content=b"--y\r\nnothing", headers={"Content-Type": content_type})
        assert 400 <= response.status_code < 500
        assert response.headers["content-type"] == "application/problem+json"
    many = [("user", "ann"), *((f"part {number}", "x") for number in range(20))]
    assert post(shop, *many).status_code == 400
    assert post(shop, ("user", "x" * 10_000)).status_code == 400
