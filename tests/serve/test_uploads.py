"""Uploads: whatever anybody sends, a small RGB image comes out, or an UploadError; in bounded memory, one at a time."""

import io
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from starlette.datastructures import UploadFile

from benchmarks import fuzz_uploads
from benchmarks.fuzz_uploads import NOT_TAKEN, Case, gif, mutated, photos, png, png_chunk, scans, zipped
from panfit.features.photos import PHOTO_FORMATS, open_image
from panfit.serve import uploads
from panfit.serve.engine import BusyError
from panfit.serve.settings import Limits
from panfit.serve.uploads import (
    DECODED_AT_ONCE,
    FORMATS,
    KEPT_SIDE,
    MAX_JUNK,
    MAX_PIECES,
    MAX_SCANS,
    UploadError,
    decode,
    decode_file,
    is_endless,
)
from tests.serve.shop_service import Shop, open_shop

SMALL = Limits(photo_bytes=50_000, photo_pixels=64 * 48)
FILES = photos(np.random.default_rng(3))


def decoded(data: bytes, limits: Limits = SMALL) -> Image.Image:
    return anyio.run(decode, UploadFile(io.BytesIO(data), filename="/etc/passwd\0.exe"), limits)


def refused(data: bytes, limits: Limits = SMALL) -> tuple[int, str]:
    with pytest.raises(UploadError) as caught:
        decoded(data, limits)
    assert caught.value.status == caught.value.status_code
    return caught.value.status, caught.value.detail


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(NOT_TAKEN)])
def test_photos_of_every_kind_are_taken(name: str) -> None:
    found = decoded(FILES[name])
    assert found.mode == "RGB"
    assert sorted(found.size) == [36, 48]
    assert found.info == {}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(NOT_TAKEN)])
def test_photos_that_no_browser_knows_are_not(name: str) -> None:
    assert refused(FILES[name])[0] == 415


def test_the_library_knows_all_that_may_be_sent() -> None:
    assert set(FORMATS) < set(PHOTO_FORMATS)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 422),
        (b"\0" * 1000, 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
        (b"%PDF-1.4\n", 415),
        (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0" + bytes(8), 415),  # an icon
        (zipped(), 415),
        (zipped() + FILES["jpeg"], 415),
        (b"\xff\xd8\xff", 415),
        (b"P3 9 9 255\n" + b"#\n" * 20_000, 415),  # a minute for each few megabytes, if it was read
        (FILES["jpeg"][:-200], 422),
        (FILES["png"][:-30], 422),
        (png(4, 4, data=b"not compressed"), 422),
        (FILES["jpeg"] + bytes(50_000), 413),
        (png(64, 49), 413),
        (png(30_000, 30_000, bits=1, data=b""), 413),
        (png(2**31 - 1, 2**31 - 1, data=b""), 413),
        (gif(65_535, 65_535, 1), 413),
        (png(20_001, 1), 413),
        (png(1, 20_001), 413),
    ],
)
def test_what_cannot_be_used_is_refused_in_our_words(data: bytes, status: int) -> None:
    found, detail = refused(data)
    assert found == status
    assert "0x" not in detail  # nothing of what Pillow said
    assert "passwd" not in detail
    assert detail.endswith(("photo", "of it", "another", "that", "GIF"))


def test_the_limits_are_exact() -> None:
    data = FILES["png"]
    assert decoded(data, Limits(photo_bytes=len(data), photo_pixels=48 * 36)).size == (36, 48)  # it is to be turned
    assert refused(data, Limits(photo_bytes=len(data) - 1))[0] == 413
    assert refused(data, Limits(photo_pixels=48 * 36 - 1))[0] == 413


def test_a_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UploadError) as caught:
        decode_file(io.BytesIO(png(64, 49)), SMALL)
    assert caught.value.status == 413


@pytest.mark.parametrize("tail", [zipped(), b"<script>alert(1)</script>", b"\xff\xd8" * 999, FILES["gif"]])
def test_what_comes_after_a_photo_is_not_looked_at(tail: bytes) -> None:
    alone, followed = (np.asarray(decoded(data)) for data in (FILES["jpeg"], FILES["jpeg"] + tail))
    np.testing.assert_array_equal(alone, followed)


def test_a_photo_is_turned_once() -> None:
    """Whoever opens it again finds no EXIF in it that would turn it once more."""
    image = Image.new("RGB", (8, 4), "white")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right: the first pixel goes to the upper right
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = decoded(saved(image, kind, exif=exif, **options))
        assert found.size == (4, 8)
        assert found.getpixel((3, 0)) == (255, 0, 0)
        again = open_image(found, "again")
        np.testing.assert_array_equal(np.asarray(again), np.asarray(found))


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "green", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data).getpixel((2, 2)) == (255, 0, 0)
    began = time.perf_counter()
    decoded(gif(8, 8, 100_000), Limits())
    assert time.perf_counter() - began < 1.0


def plain_average(pixels: np.ndarray[Any, np.dtype[Any]], factor: int) -> np.ndarray[Any, np.dtype[Any]]:
    """The oracle: each pixel is the average of factor x factor."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    found = np.zeros((height, width, pixels.shape[2]))
    for row in range(height):
        for column in range(width):
            block = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            found[row, column] = block.reshape(-1, pixels.shape[2]).mean(axis=0)
    return found


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_large_photos_are_averaged_down(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "KEPT_SIDE", 16)
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((64, 48), Image.Resampling.BICUBIC)
    if mode == "I;16":
        given = Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
    elif mode == "P":
        given = image.quantize(64)
    else:
        given = image.convert(mode)
    reference = {"I;16": image.convert("L"), "P": given, "L": given}.get(mode, image).convert("RGB")
    found = np.asarray(decode_file(io.BytesIO(saved(given, "PNG")), SMALL), dtype=float)
    assert found.shape == (12, 16, 3)
    np.testing.assert_allclose(found, plain_average(np.asarray(reference, dtype=float), 4), atol=1.01)


def test_what_is_transparent_in_a_large_photo_becomes_white(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "KEPT_SIDE", 4)
    image = Image.new("P", (16, 8), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.paste(0, (0, 0, 8, 8))
    found = decode_file(io.BytesIO(saved(image, "PNG", transparency=0)), SMALL)
    assert [found.getpixel((column, 1)) for column in range(4)] == [(255, 255, 255)] * 2 + [(200, 0, 0)] * 2
    rgb = Image.new("RGB", (16, 8), (200, 0, 0))
    rgb.paste((0, 0, 0), (0, 0, 8, 8))
    found = decode_file(io.BytesIO(saved(rgb, "PNG", transparency=(0, 0, 0))), SMALL)
    assert [found.getpixel((column, 1)) for column in range(4)] == [(255, 255, 255)] * 2 + [(200, 0, 0)] * 2


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (2000, 3)])
def test_thin_photos_stay_photos(size: tuple[int, int]) -> None:
    found = decoded(saved(Image.new("RGB", size, "green"), "PNG"), Limits())
    assert max(found.size) == KEPT_SIDE
    assert min(found.size) >= 1


def test_a_large_jpeg_is_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.new("RGB", (4096, 2048), "red"), "JPEG", quality=40)
    drafted: list[tuple[int, int]] = []
    draft = JpegImageFile.draft

    def told(self: JpegImageFile, mode: str | None, size: tuple[int, int] | None) -> Any:
        found = draft(self, mode, size)
        drafted.append(self.size)
        return found

    monkeypatch.setattr(JpegImageFile, "draft", told)
    assert decoded(data, Limits()).size == (1024, 512)
    assert drafted == [(2048, 1024)]


def exif(content: bytes) -> bytes:
    """A segment of a JPEG."""
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def test_photos_of_too_many_pieces_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg, progressive = FILES["jpeg"], FILES["jpeg progressive"]
    text = png_chunk(b"tEXt", b"a\0b")
    passes = progressive.count(b"\xff\xda")
    assert 5 < passes < 15
    fine = [
        *FILES.values(),
        *(progressive[:length] for length in range(0, len(progressive), 7)),
        scans(progressive, MAX_SCANS - passes + 1),
        progressive + b"\xff\xda" * 500,  # what follows does not count
        progressive[:2] + exif(b"\xff\xda" * 500) + progressive[2:],  # nor what is inside: a thumbnail
        jpeg[:2] + exif(b"") * (MAX_PIECES - 20) + jpeg[2:],
        jpeg[:2] + bytes(MAX_JUNK) + jpeg[2:],
        png(4, 4, more=text * (MAX_PIECES - 3)),
        b"",
    ]
    assert [is_endless(data) for data in fine] == [False] * len(fine)
    endless = [
        scans(progressive, MAX_SCANS - passes + 2),
        scans(progressive, 5000),
        jpeg[:2] + exif(b"") * (MAX_PIECES + 1) + jpeg[2:],
        jpeg[:2] + bytes(MAX_JUNK + 1) + jpeg[2:],
        jpeg[:2] + b"\xff" * 2_000_000 + jpeg[2:],
        b"\xff\xd8" + b"\xff" * 2_000_000,
        b"\xff\xd8" + bytes(2_000_000),
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 500_000,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 500_000,
        b"\xff\xd8" + b"\xff\x01" * 500_000,
        png(4, 4, more=text * (MAX_PIECES + 1)),
    ]
    began = time.process_time()
    assert [is_endless(data) for data in endless] == [True] * len(endless)
    assert not is_endless(progressive[:-2] + b"\xff" * 2_000_000)  # in the data, which Pillow does not read in Python
    assert time.process_time() - began < 2.0  # linear: it once took hours
    monkeypatch.setattr(uploads, "read_photo", lambda *_, **__: pytest.fail("it was read"))
    assert {refused(data, Limits())[0] for data in endless} == {422}


def test_two_are_decoded_at_once_and_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow(file: Any, limits: Limits) -> Image.Image:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(uploads, "decode_file", slow)

    async def send_all() -> int:
        done = 0

        async def send() -> None:
            nonlocal done
            await decode(UploadFile(io.BytesIO(b"x")), SMALL)
            done += 1

        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(send)
        return done

    for _ in range(2):  # each event loop has its own two
        most = 0
        assert anyio.run(send_all) == 12
        assert most == DECODED_AT_ONCE


def test_whoever_waits_too_long_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(uploads, "decode_file", lambda *_: free.wait(5) and Image.new("RGB", (1, 1)))

    async def send_all() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(DECODED_AT_ONCE):
                group.start_soon(decode, UploadFile(io.BytesIO(b"x")), SMALL)
            await anyio.sleep(0.01)
            with pytest.raises(BusyError, match="too many photos"):
                await decode(UploadFile(io.BytesIO(b"x")), Limits(seconds=0.01))
            free.set()
        assert (await decode(UploadFile(io.BytesIO(b"x")), SMALL)).size == (1, 1)  # and the place is free again

    anyio.run(send_all)


def test_a_failure_frees_its_place() -> None:
    async def send_all() -> None:
        for _ in range(3 * DECODED_AT_ONCE):
            with pytest.raises(UploadError):
                await decode(UploadFile(io.BytesIO(b"no photo")), Limits(seconds=0.5))

    anyio.run(send_all)


def test_what_has_no_memory_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(uploads, "read_photo", read)
    assert refused(FILES["png"])[0] == 413


@pytest.mark.parametrize("case", list(mutated(150, seed=1)), ids=lambda case: case.name)
def test_damaged_files(case: Case) -> None:
    fuzz_uploads.outcome(case, SMALL)


def test_the_fuzzers_files_are_the_same_each_time() -> None:
    assert list(mutated(30, seed=2)) == list(mutated(30, seed=2))
    assert list(mutated(30, seed=2)) != list(mutated(30, seed=3))


def test_the_fuzzer_notices_what_must_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("a photo", FILES["png"])
    for wrong in (Image.new("L", (4, 4)), Image.new("RGB", (KEPT_SIDE + 1, 4))):
        monkeypatch.setattr(fuzz_uploads, "decode_file", lambda *_, wrong=wrong: wrong)
        with pytest.raises(AssertionError, match="a photo"):
            fuzz_uploads.outcome(case)

    def fails(*_: Any) -> None:
        raise UploadError(500, "what")

    monkeypatch.setattr(fuzz_uploads, "decode_file", fails)
    with pytest.raises(AssertionError, match="500"):
        fuzz_uploads.outcome(case)


# --- through the service


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("uploads"), limits=SMALL) as shop:
        yield shop


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (FILES["jpeg"], 200),
        (FILES["jpeg"] + zipped(), 200),
        (FILES["png 16 bits"], 200),
        (b"", 422),
        (FILES["webp"][:300], 422),
        (b"<svg/>", 415),
        (png(64, 49), 413),
        (FILES["gif"] + bytes(50_000), 413),
    ],
    ids=["a photo", "with a zip", "of 16 bits", "empty", "truncated", "svg", "a bomb", "too large"],
)
def test_the_service_says_the_same(shop: Shop, data: bytes, status: int) -> None:
    files = {"top": ("../../x.html", data, "text/html")}
    found = shop.client.post("/v1/score-photos", data={"user": "ann"}, files=files)
    assert found.status_code == status
    assert found.headers["content-type"] == ("application/json" if status == 200 else "application/problem+json")
    assert "x.html" not in found.text


def test_the_page_says_the_same(shop: Shop) -> None:
    token = shop.client.get("/photos?user=ann").text.partition('name="csrf" value="')[2].partition('"')[0]
    for data, status in ((FILES["jpeg"], 200), (b"<svg/>", 415), (png(64, 49), 413)):
        form = {"user": "ann", "csrf": token}
        found = shop.client.post("/photos", data=form, files={"photo.top": ("a.png", data)})
        assert found.status_code == status
