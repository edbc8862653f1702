"""/v1/photos: thumbnails of the catalogue's photos and of nothing else on the disk, whatever the request says."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from panfit.outfits import Catalogue
from panfit.serve.photos import (
    SIZES,
    NoPhotoError,
    Source,
    Thumbnails,
    kind_for,
    rounded,
    source_of,
    thumbnail,
)
from tests.serve.shop_service import UNRULY, Shop, item, open_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("photos")) as shop:
        yield shop


def url(item_id: str, size: int | None = None) -> str:
    return f"/v1/photos/{quote(item_id, safe='')}" + ("" if size is None else f"?size={size}")


def image_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("name", ["top-0", *UNRULY])
def test_every_item_has_its_photo(shop: Shop, name: str) -> None:
    found = shop.client.get(url(item(name)))
    assert found.status_code == 200
    assert found.headers["content-type"] == "image/jpeg"
    catalogue = shop.recommender.dataset.catalogue
    image = catalogue.images[catalogue.row_of[item(name)]]
    assert image is not None
    whole = np.asarray(Image.open(catalogue.image_root / image), dtype=int)  # (50, 40, 3)
    shown = np.asarray(image_of(found.content), dtype=int)
    assert shown.shape == whole.shape  # small as it is, it is not enlarged
    assert abs(shown - whole).mean() < 12


@pytest.mark.parametrize(
    "item_id", ["nothing", "../likes.db", "%2e%2e/likes.db", "..%2f..", "images/top-0.jpg", "\0", "x" * 200]
)
def test_other_ids_lead_nowhere(shop: Shop, item_id: str) -> None:
    for address in (url(item_id), f"/v1/photos/{item_id}" if item_id.isprintable() else url(item_id)):
        found = shop.client.get(address)
        assert found.status_code == 404
        assert found.headers["content-type"] == "application/problem+json"
        assert str(shop.recommender.dataset.catalogue.image_root) not in found.text


def test_an_id_that_is_a_path_is_only_looked_up(shop: Shop) -> None:
    """The catalogue has an item of the name /etc/passwd: its photo is a photo."""
    assert image_of(shop.client.get(url("/etc/passwd")).content).format == "JPEG"


def test_an_item_without_a_photo(shop: Shop) -> None:
    found = shop.client.get(url("shoe-5"))
    assert (found.status_code, found.json()["detail"]) == (404, "this item has no photo")


@pytest.mark.parametrize("size", ["63", "1025", "-1", "0", "1e3", "", "64.5", "9" * 5000])
def test_sizes_are_bounded(shop: Shop, size: str) -> None:
    assert shop.client.get(f"/v1/photos/top-0?size={size}").status_code == 422


def test_sizes_are_rounded_up() -> None:
    assert [rounded(size) for size in (64, 65, 128, 200, 257, 513, 1024)] == [64, 128, 128, 256, 512, 1024, 1024]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "JPEG"),
        ("*/*", "JPEG"),
        ("image/*", "JPEG"),
        ("image/avif,image/webp,image/apng,*/*;q=0.8", "WEBP"),
        ("IMAGE/WEBP ; q=0.5", "WEBP"),
        ("image/webp;q=0", "JPEG"),
        ("image/webp; q = 0.000", "JPEG"),
        ("image/webp;q=0.001", "WEBP"),
        ("image/webpx, ;;,,", "JPEG"),
    ],
)
def test_webp_goes_to_whoever_names_it(accept: str, kind: str) -> None:
    assert kind_for(accept) == kind


def test_what_is_held_is_not_sent_again(shop: Shop) -> None:
    first = shop.client.get(url("top-0", 64))
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert first.headers["cache-control"] == "public, max-age=86400, stale-while-revalidate=604800"
    assert first.headers["vary"] == "Accept"
    again = shop.client.get(url("top-0", 64), headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    others = [
        shop.client.get(url("top-0", 128)),
        shop.client.get(url("top-3", 64)),
        shop.client.get(url("top-0", 64), headers={"Accept": "image/webp"}),
    ]
    assert len({tag, *(other.headers["etag"] for other in others)}) == 4
    assert image_of(others[2].content).format == "WEBP"


def test_with_a_token_no_proxy_keeps_photos(tmp_path: Path) -> None:
    token = "a-token-for-this-test"
    with open_shop(tmp_path, token=token) as shop:
        assert shop.client.get(url("top-0")).status_code == 401
        found = shop.client.get(url("top-0"), headers={"Authorization": f"Bearer {token}"})
        assert found.headers["cache-control"].startswith("private, ")


def test_a_file_that_changes_is_shown_anew(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        before = shop.client.get(url("top-0"))
        path = tmp_path / "images" / "top-0.jpg"
        Image.new("RGB", (90, 30), "blue").save(path)
        after = shop.client.get(url("top-0"), headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.headers["etag"] != before.headers["etag"]
        assert image_of(after.content).size == (90, 30)
        path.write_bytes(b"no photo any more")
        assert shop.client.get(url("top-0")).status_code == 404
        path.unlink()
        gone = shop.client.get(url("top-0"), headers={"If-None-Match": after.headers["etag"]})
        assert (gone.status_code, gone.json()["detail"]) == (404, "this item's photo cannot be found")


def one_item(root: Path, image: str | None) -> Catalogue:
    return Catalogue(("a",), ("top",), (image,), (None,), ("top",), root)


def test_a_file_outside_the_image_root_is_not_shown(tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    Image.new("RGB", (4, 4)).save(root / "inside.png")
    (root / "out.png").symlink_to(tmp_path / "outside.png")
    (root / "up").symlink_to(tmp_path)
    (root / "in.png").symlink_to(root / "inside.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (tmp_path / "images-too").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images-too" / "a.png")
    for name in ("../outside.png", "out.png", "up/outside.png", str(tmp_path / "outside.png"), "../images-too/a.png"):
        with pytest.raises(NoPhotoError, match="cannot be shown"):
            source_of(one_item(root, name), 0)
    for name in ("none.png", "loop.png", "inside.png/a", "a\0b", "x" * 5000):
        with pytest.raises(NoPhotoError, match=r"cannot be (found|shown)"):
            source_of(one_item(root, name), 0)
    for name in ("inside.png", "in.png", "sub/../inside.png"):
        assert source_of(one_item(root, name), 0).path == root / "inside.png"
    (tmp_path / "link").symlink_to(root)
    assert source_of(one_item(tmp_path / "link", "inside.png"), 0).path == root / "inside.png"  # the root may be one


@pytest.mark.parametrize("name", ["folder", "pipe"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NoPhotoError, match="cannot be shown"):
        source_of(one_item(tmp_path, name), 0)


def test_thumbnails_are_whole_upright_and_bare(tmp_path: Path) -> None:
    image = Image.new("RGB", (400, 100), "red")
    image.paste("blue", (0, 0, 200, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right: what was left is on top
    exif[0x010E] = "where and when"
    image.save(tmp_path / "a.jpg", exif=exif, icc_profile=b"a profile", comment=b"a comment", quality=95)
    for kind in ("JPEG", "WEBP"):
        content = thumbnail(tmp_path / "a.jpg", 64, kind)
        shown = image_of(content)
        assert (shown.format, shown.size, shown.mode) == (kind, (16, 64), "RGB")
        assert not shown.getexif()
        assert not {"icc_profile", "comment", "exif"} & set(shown.info)
        assert b"where and when" not in content
        top, bottom = shown.getpixel((8, 8)), shown.getpixel((8, 56))
        assert isinstance(top, tuple)
        assert isinstance(bottom, tuple)
        assert top[2] > 200 > 60 > top[0]
        assert bottom[0] > 200 > 60 > bottom[2]


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1)])
def test_thin_photos_have_thumbnails(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "green").save(tmp_path / "a.png")
    shown = image_of(thumbnail(tmp_path / "a.png", 64, "JPEG"))
    assert max(shown.size) <= 64
    assert min(shown.size) >= 1


def make_source(path: Path, number: int = 0) -> Source:
    return Source(path, (1, number, 3, 4))


def test_what_is_held_is_bounded_in_bytes_and_the_least_asked_for_goes(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    one = len(thumbnail(path, 64, "JPEG"))
    held = Thumbnails(max_bytes=3 * one)
    sources = [make_source(path, number) for number in range(5)]
    for source in sources[:3]:
        assert len(held.make(source, 64, "JPEG")) == one
    assert held.get(sources[0].tag(64, "JPEG")) is not None  # asked for again
    held.make(sources[3], 64, "JPEG")
    there = [held.get(source.tag(64, "JPEG")) is not None for source in sources]
    assert there == [True, False, True, True, False]
    assert (len(held), held.num_bytes) == (3, 3 * one)
    for size in SIZES:
        for number in range(40):
            held.make(make_source(path, number), size, "WEBP")
            assert held.num_bytes <= 3 * one
    small = Thumbnails(max_bytes=one - 1)  # a thumbnail that is larger than all that may be held
    assert len(small.make(sources[0], 64, "JPEG")) == one
    assert (len(small), small.num_bytes) == (0, 0)


def test_a_thumbnail_that_is_held_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []

    def draw(path: Path, size: int, kind: str) -> bytes:
        drawn.append(path)
        return b"x"

    monkeypatch.setattr("panfit.serve.photos.thumbnail", draw)
    held = Thumbnails()
    for _ in range(3):
        assert held.make(make_source(tmp_path), 64, "JPEG") == b"x"
    assert drawn == [tmp_path]


def test_the_description_tells_of_it(shop: Shop) -> None:
    told = TestClient(shop.app).get("/openapi.json").json()["paths"]["/v1/photos/{id}"]["get"]
    assert {"200", "304", "404", "422", "429"} <= set(told["responses"])
    assert set(told["responses"]["200"]["content"]) >= {"image/jpeg", "image/webp"}
