"""Photos as shops have them: every mode comes out as RGB the right way up, and what is no photo is named."""

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from panfit.config import ImageConfig
from panfit.errors import DataError
from panfit.features import images, photos
from panfit.features.images import PhotoError, augment, fit_photo, normalize, open_photo, photo_array
from panfit.features.store import ARRAY_FILE
from panfit.outfits import Dataset


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green grows downwards."""
    red = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.dstack([red, green, np.full((height, width), 60)]).astype(np.uint8))


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photo"


# ---- what can be opened


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats(path: Path, file_format: str) -> None:
    gradient(40, 30).save(path, file_format)
    opened = open_photo(path)
    assert opened.mode == "RGB"
    assert opened.size == (40, 30)
    assert np.abs(pixels(opened) - pixels(gradient(40, 30))).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(path: Path, orientation: int) -> None:
    upright = gradient(24, 16)
    stored = {  # how a camera held that way stores an upright scene
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.rotate(180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.rotate(90, expand=True),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.rotate(-90, expand=True),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(open_photo(path)), pixels(upright))


def test_damaged_exif_does_not_cost_the_photo(path: Path) -> None:
    gradient(24, 16).save(path, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert open_photo(path).size == (24, 16)


def test_cmyk(path: Path) -> None:
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(path, "JPEG")
    assert open_photo(path).getpixel((3, 3)) == pytest.approx((254, 0, 0), abs=3)


@pytest.mark.parametrize(("mode", "value"), [("L", 90), ("1", 1)])
def test_gray_and_black_and_white(path: Path, mode: str, value: int) -> None:
    Image.new(mode, (8, 6), value).save(path, "PNG")
    level = 255 if mode == "1" else value
    assert open_photo(path).getpixel((0, 0)) == (level, level, level)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(path: Path, mode: str) -> None:
    image = Image.new("RGBA", (9, 5), (0, 0, 0, 0))
    image.paste((200, 200, 200, 255), (0, 0, 4, 5))
    image.convert(mode).save(path, "PNG")
    opened = open_photo(path)
    assert opened.getpixel((1, 2)) == (200, 200, 200)
    assert opened.getpixel((7, 2)) == (255, 255, 255)


def test_half_transparent_is_mixed_with_white(path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 100, 200, 128)).save(path, "PNG")
    assert open_photo(path).getpixel((0, 0)) == pytest.approx((127, 177, 227), abs=1)


def test_a_palette_with_one_transparent_color(path: Path) -> None:
    image = Image.new("P", (6, 4), 0)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.paste(1, (0, 0, 3, 4))
    image.save(path, "GIF", transparency=0)
    assert open_photo(path).getpixel((5, 0)) == (255, 255, 255)
    assert open_photo(path).getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize(("file_format", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_sixteen_bits_become_eight(path: Path, file_format: str, dtype: type) -> None:
    levels: NDArray[Any] = np.array([[0, 257 * 100, 65535], [257 * 7, 257 * 200, 257]], dtype=dtype)
    Image.fromarray(levels).save(path, file_format)
    np.testing.assert_array_equal(pixels(open_photo(path))[..., 0], [[0, 100, 255], [7, 200, 1]])


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floats_become_eight_bits(path: Path, top: float) -> None:
    Image.fromarray(np.array([[0.0, top], [top * 0.4, np.nan]], dtype=np.float32)).save(path, "TIFF")
    np.testing.assert_array_equal(pixels(open_photo(path))[..., 1], [[0, 255], [102, 0]])


def test_the_first_frame_of_an_animation(path: Path) -> None:
    frames = [Image.new("RGB", (5, 5), color) for color in ("red", "blue")]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])
    assert open_photo(path).getpixel((2, 2)) == (255, 0, 0)


def test_a_large_jpeg_is_decoded_small_enough_and_no_smaller(path: Path) -> None:
    gradient(1600, 1200).save(path, "JPEG")
    opened = open_photo(path, at_least=64)
    assert 128 <= min(opened.size) < 600
    whole, quick = (pixels(Image.fromarray(fit_photo(image, 64, "squash")[0])) for image in (open_photo(path), opened))
    assert np.abs(whole - quick).max() <= 3


# ---- what cannot


def found(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PhotoError) as caught:
            open_photo(path)
    (problem,) = caught.value.problems
    assert isinstance(caught.value, DataError)
    assert problem.file == str(path)
    assert problem.wanted
    assert problem.remedy
    return problem.found


def test_missing_folder_empty_and_no_photo(path: Path, tmp_path: Path) -> None:
    assert found(path) == "no such file"
    assert found(tmp_path) == "a folder"
    path.write_bytes(b"")
    assert found(path) == "an empty file"
    path.write_bytes(b"<html>not found</html>")
    assert found(path) == "no photo (the file begins with b'<html>not fo')"


def test_programs_that_draw_are_not_run(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert found(path).startswith("no photo")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_a_file_cut_anywhere_is_an_error_or_whole(path: Path, file_format: str, rng: np.random.Generator) -> None:
    noise = Image.fromarray(rng.integers(0, 256, (33, 47, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, file_format)
    data = buffer.getvalue()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated or damaged" in found(path) or "damaged photo" in found(path)
    for end in rng.integers(1, len(data), 25):
        path.write_bytes(data[:end])
        with contextlib.suppress(PhotoError):
            assert open_photo(path).size == (47, 33)


def test_flipped_bytes_never_raise_anything_else(path: Path, rng: np.random.Generator) -> None:
    for file_format in ("JPEG", "PNG", "TIFF", "GIF", "BMP"):
        buffer = io.BytesIO()
        gradient(20, 15).save(buffer, file_format)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            data[rng.integers(min(len(data), 200))] = rng.integers(256)
            path.write_bytes(bytes(data))
            with contextlib.suppress(PhotoError):
                assert open_photo(path).mode == "RGB"


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size whose pixels never come."""
    chunks = b""
    for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("side", [9_500, 12_000, 40_000])
def test_a_bomb_is_refused_from_its_header(path: Path, side: int) -> None:
    path.write_bytes(png_header(side, side))
    assert ("pixels" in found(path)) == (side > 10_000)


def test_the_limit_counts_pixels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient(20, 10).save(path, "PNG")
    monkeypatch.setattr(photos, "MAX_PHOTO_PIXELS", 200)
    assert open_photo(path).size == (20, 10)
    monkeypatch.setattr(photos, "MAX_PHOTO_PIXELS", 199)
    assert found(path) == "20 x 10 = 200 pixels"


# ---- the square


def test_pad_keeps_proportions_on_white_and_squash_does_not() -> None:
    blue = Image.new("RGB", (40, 20), (0, 0, 255))
    padded, squashed = fit_photo(blue, 16, "pad"), fit_photo(blue, 16, "squash")
    assert padded.shape == squashed.shape == (3, 16, 16)
    assert (squashed == np.array([0, 0, 255])[:, None, None]).all()
    assert (padded[:, 4:12] == np.array([0, 0, 255])[:, None, None]).all()
    assert (padded[:, :4] == 255).all()
    assert (padded[:, 12:] == 255).all()


def test_channels_rows_columns() -> None:
    square = fit_photo(gradient(64, 64), 32, "squash").astype(int)
    assert (np.diff(square[0], axis=1) > 0).all()
    assert (np.diff(square[1], axis=0) > 0).all()


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_slivers(size: tuple[int, int]) -> None:
    for fit in ("pad", "squash"):
        assert fit_photo(Image.new("RGB", size), 16, fit).shape == (3, 16, 16)


# ---- a catalogue's photos


CONFIG = ImageConfig(size=16)


@pytest.fixture
def shop(tiny_dataset: Dataset, tmp_path: Path, rng: np.random.Generator) -> Dataset:
    """The tiny data set in a folder, every item with a photo of its own color."""
    (tmp_path / "shop").mkdir()
    names = []
    for item_id in tiny_dataset.catalogue.item_ids:
        color = tuple(rng.integers(0, 256, 3).tolist())
        Image.new("RGB", (18, 20), color).save(tmp_path / "shop" / f"{item_id}.png")
        names.append(f"{item_id}.png")
    catalogue = replace(tiny_dataset.catalogue, images=tuple(names), image_root=tmp_path / "shop")
    return replace(tiny_dataset, catalogue=catalogue, folder=tmp_path / "dataset")


def plainly(shop: Dataset) -> NDArray[np.uint8]:
    root = shop.catalogue.image_root
    return np.stack([fit_photo(open_photo(root / str(name)), 16, "squash") for name in shop.catalogue.images])


def test_photos_are_decoded_once_and_mapped(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    decoded = photo_array(shop, CONFIG, progress=lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(decoded, plainly(shop))
    assert told[-1] == (72, 72)
    monkeypatch.setattr(images, "open_photo", lambda *_, **__: pytest.fail("decoded again"))
    again = photo_array(shop, CONFIG)
    np.testing.assert_array_equal(again, decoded)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    assert shop.folder is not None
    assert (shop.folder / "features" / "photos-16-squash" / ARRAY_FILE).exists()


def test_a_data_set_in_memory_decodes_into_memory(shop: Dataset) -> None:
    decoded = photo_array(replace(shop, folder=None), CONFIG)
    np.testing.assert_array_equal(decoded, plainly(shop))


def test_changed_tables_and_replaced_photos_are_decoded_anew(shop: Dataset) -> None:
    before = photo_array(shop, CONFIG).copy()
    other = replace(shop, checksum="other")
    np.testing.assert_array_equal(photo_array(other, CONFIG), before)
    Image.new("RGB", (31, 33), (1, 2, 3)).save(shop.catalogue.image_root / str(shop.catalogue.images[5]))
    after = photo_array(other, CONFIG)
    np.testing.assert_array_equal(after[5, :, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(np.delete(after, 5, axis=0), np.delete(before, 5, axis=0))


def test_a_damaged_cache_is_made_anew(shop: Dataset) -> None:
    before = photo_array(shop, CONFIG).copy()
    assert shop.folder is not None
    path = shop.folder / "features" / "photos-16-squash" / ARRAY_FILE
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(photo_array(shop, CONFIG), before)
    path.write_bytes(bytes(data[:-50]))
    np.testing.assert_array_equal(photo_array(shop, CONFIG), before)


@pytest.mark.parametrize("in_memory", [False, True])
def test_all_bad_photos_are_told_and_the_good_ones_are_kept(
    shop: Dataset, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PHOTOS_PER_BLOCK", 7)
    root = shop.catalogue.image_root
    names = [str(shop.catalogue.images[row]) for row in (3, 50, 51)]
    whole = (root / names[0]).read_bytes()
    (root / names[0]).write_bytes(whole[:40])
    (root / names[1]).unlink()
    (root / names[2]).write_bytes(b"no photo")
    with pytest.raises(DataError) as caught:
        photo_array(replace(shop, folder=None) if in_memory else shop, CONFIG)
    assert [Path(problem.file).name for problem in caught.value.problems] == names


def test_items_without_a_photo_are_all_told(shop: Dataset) -> None:
    lacking = tuple(None if row in (2, 9) else name for row, name in enumerate(shop.catalogue.images))
    shop = replace(shop, catalogue=replace(shop.catalogue, images=lacking))
    with pytest.raises(DataError, match="2 of 72 items have no photo") as caught:
        photo_array(shop, CONFIG)
    assert [problem.row for problem in caught.value.problems] == [3, 10]
    assert "backbone.source" in caught.value.problems[0].remedy


def test_a_folder_that_cannot_be_written_falls_back_to_memory(
    shop: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    decoded = photo_array(replace(shop, folder=tmp_path / "file"), CONFIG)
    np.testing.assert_array_equal(decoded, plainly(shop))
    assert "decoded into memory" in caplog.text


# ---- tensors


def test_normalize_takes_out_imagenets_mean_and_deviation(rng: np.random.Generator) -> None:
    raw = torch.from_numpy(rng.integers(0, 256, (2, 3, 5, 4), dtype=np.uint8))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = (raw.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(normalize(raw), torch.from_numpy(wanted).float())
    with pytest.raises(ValueError, match="uint8"):
        normalize(raw.float())


def batch(rng: np.random.Generator, count: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, (count, 3, 12, 10), dtype=np.uint8))


def test_about_half_are_mirrored_and_nothing_else_changes(rng: np.random.Generator) -> None:
    raw = batch(rng, 400)
    out = augment(raw, ImageConfig(flip=True, crop=0), torch.Generator().manual_seed(1))
    mirrored = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(out, raw, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(out, raw, strict=True)])
    assert (mirrored ^ same).all()
    assert 160 < int(mirrored.sum()) < 240


def test_without_flip_and_crop_nothing_is_drawn(rng: np.random.Generator) -> None:
    raw, generator = batch(rng, 3), torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert torch.equal(augment(raw, ImageConfig(flip=False, crop=0), generator), raw)
    assert torch.equal(generator.get_state(), before)


def test_chance_comes_from_the_generator_alone(rng: np.random.Generator) -> None:
    raw, config = batch(rng, 9), ImageConfig(flip=True, crop=0.4)
    first, same, other = (augment(raw, config, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == raw.shape


def test_a_crop_is_a_window_of_the_photo_resized_back() -> None:
    ramp = torch.arange(0, 256, 2, dtype=torch.uint8).view(1, 1, 1, 128).expand(300, 3, 100, 128)
    out = augment(ramp, ImageConfig(flip=False, crop=0.3), torch.Generator().manual_seed(1)).float()
    left, right = out[:, 0, 50, 0], out[:, 0, 50, -1]
    side = (right - left) / 254
    assert 0.69 < float(side.min()) < 0.74
    assert float(side.max()) > 0.96
    assert float(left.min()) < 5  # windows reach both edges
    assert float(right.max()) > 249
    middle = out[:, 0, 50, 64]
    torch.testing.assert_close(middle, (left + right) / 2, atol=2.0, rtol=0)
    assert (out[:, 0, 0] == out[:, 0, -1]).all()  # nothing is tilted


def test_threads_that_open_photos_leave_pythons_warnings_as_they_were(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(12)]
    for number, path in enumerate(paths):
        gradient(20 + number, 10).save(path, "JPEG")
    before = list(warnings.filters)
    one_by_one = [np.asarray(open_photo(path)) for path in paths]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            for photo, wanted in zip(pool.map(open_photo, paths), one_by_one, strict=True):
                np.testing.assert_array_equal(np.asarray(photo), wanted)
    assert list(warnings.filters) == before
