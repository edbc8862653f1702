"""One photo, of a file or in memory: any photo a shop has -> RGB the right way up -> a square of uint8.

A photo that cannot be used is a `PhotoError` that says what was found. The size is checked from the file's header,
before anything is decoded. Imports Pillow and numpy only: the importers and `panfit check` open photos without torch.
Photos may be opened in several threads at once: Pillow lets go of Python's lock while it decodes and resizes.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from panfit.errors import DataError, Problem

MAX_PHOTO_PIXELS = 100_000_000
"""Width times height beyond which a photo is refused unseen (300 MB once decoded): a decompression bomb."""
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""The formats that are opened, as Pillow names them. Others of Pillow's start programs (EPS) or are not photos."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Quiet:
    """No warnings as long as anybody is inside. Python's filters are one for all threads: the first one in puts them
    aside, the last one out puts them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    @contextmanager
    def silenced(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._filters.__exit__(None, None, None)


_QUIET = _Quiet()


class PhotoError(DataError):
    """A photo that cannot be used; ``problems`` holds the one problem.

    Attributes:
        reason: "format": it is none of PHOTO_FORMATS; "pixels": it has too many; "damaged": all else.
    """

    def __init__(
        self,
        path: str | Path,
        found: str,
        *,
        wanted: str,
        remedy: str,
        reason: Literal["format", "pixels", "damaged"] = "damaged",
    ) -> None:
        super().__init__("a photo cannot be used", [Problem(str(path), found, wanted, remedy)])
        self.reason = reason


def open_photo(path: str | Path, *, at_least: int | None = None) -> Image.Image:
    """A photo file -> an RGB image the right way up.

    EXIF rotation is applied; CMYK, gray and palette colors are converted; what is transparent becomes white; 16 bits a
    channel become 8; of an animation the first frame is taken.

    Args:
        path: the photo.
        at_least: the caller needs no more than this many pixels a side; a large JPEG is then decoded at a fraction of
            its size, which is several times faster.

    Raises:
        PhotoError: missing, empty, no photo, truncated, or more than MAX_PHOTO_PIXELS.
    """
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise _photo_error(path, "no such file" if not path.exists() else f"no access ({error.strerror})") from None
    if path.is_dir():
        raise _photo_error(path, "a folder")
    if size_bytes == 0:
        raise _photo_error(path, "an empty file")
    try:
        file = path.open("rb")
    except OSError as error:
        raise _photo_error(path, f"no access ({error.strerror})") from None
    with file:
        return read_photo(file, path, at_least=at_least)


def read_photo(
    file: BinaryIO,
    name: str | Path,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    max_pixels: int | None = None,
    max_side: int | None = None,
    formats: tuple[str, ...] = PHOTO_FORMATS,
) -> Image.Image:
    """An open file -> an RGB image the right way up, by the rules of `open_photo`.

    Args:
        file: which can seek; it stays open.
        name: what an error calls it.
        at_least: as `open_photo` has it.
        at_most: a larger photo is averaged down to as many pixels on its longer side, before its colors are converted:
            the conversions of a large one would take several times its own memory.
        max_pixels: width times height that are accepted; None: MAX_PHOTO_PIXELS.
        max_side: of width and of height alone; None: whatever ``max_pixels`` allows.
        formats: some of PHOTO_FORMATS.

    Raises:
        PhotoError: no photo, truncated, or more than ``max_pixels`` or ``max_side``.
    """
    max_pixels = MAX_PHOTO_PIXELS if max_pixels is None else max_pixels
    with _QUIET.silenced():  # Pillow warns about bombs and odd metadata; what matters is raised below
        try:
            image = Image.open(file, formats=formats)
        except UnidentifiedImageError:
            file.seek(0)
            raise _photo_error(name, f"no photo (the file begins with {file.read(12)!r})", "format") from None
        except Image.DecompressionBombError:
            raise _too_large(name, f"far more than {max_pixels} pixels", max_pixels) from None
        except Exception as error:  # Pillow's readers raise whatever a damaged file makes them trip over
            raise _photo_error(name, f"a damaged photo ({error})") from None
        with image:
            if max_side is not None and max(image.size) > max_side:
                raise _too_large(name, f"{image.size[0]} x {image.size[1]} pixels", max_pixels)
            return _decoded(image, name, at_least, at_most, max_pixels)


def open_image(image: Image.Image, name: str) -> Image.Image:
    """A picture in memory -> a new RGB image the right way up, by the rules of `open_photo`.

    Args:
        image: as Pillow opened or made it. It is loaded, and otherwise left as it is.
        name: what an error calls it.

    Raises:
        PhotoError: no pixels, more than MAX_PHOTO_PIXELS, truncated, or opened from a file of another format.
    """
    if image.format is not None and image.format not in (*PHOTO_FORMATS, "MPO"):  # MPO: what phones call a JPEG
        raise _photo_error(name, f"a {image.format} file", "format")
    if not all(image.size):
        raise _photo_error(name, f"{image.size[0]} x {image.size[1]} pixels")
    with _QUIET.silenced():  # as above
        return _decoded(image, name, None, None, MAX_PHOTO_PIXELS)


def _decoded(
    image: Image.Image, name: str | Path, at_least: int | None, at_most: int | None, max_pixels: int
) -> Image.Image:
    """An opened image -> RGB the right way up, decoded here, once its size is known."""
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(name, f"{width} x {height} = {width * height} pixels", max_pixels)
    try:
        if at_least is not None:
            image.draft(None, (2 * at_least, 2 * at_least))  # twice as many, for the final resize to average
        image.load()
        done = _to_rgb(_upright(image if at_most is None else _shrunk(image, at_most), _orientation(image)))
        done.info = {}  # it would be turned again, by the same EXIF, if it came here again
        return done
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them trip over
        kind = "an image" if image.format is None else f"a {image.format} file"
        raise _photo_error(name, f"{kind} that is truncated or damaged ({error})") from None


def fit_photo(image: Image.Image, size: int, fit: Literal["pad", "squash"]) -> NDArray[np.uint8]:
    """An RGB image -> (3, size, size) uint8: stretched ("squash"), or whole on a white square ("pad": FHN's helper)."""
    if fit == "squash":
        square = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        square = Image.new("RGB", (size, size), "white")
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))


def _shrunk(image: Image.Image, at_most: int) -> Image.Image:
    """A loaded image, averaged down to at most so many pixels a side."""
    longest = max(image.size)
    if longest <= at_most:
        return image
    if image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA")  # averages of the one transparent color are other colors
    elif image.mode in ("1", "P"):
        image = image.convert("RGB")
    width, height = (max(1, round(side * at_most / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged metadata does not make the picture useless
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or of floats -> 8 bits. Floats up to 1 span 0 to 1; integers above 255 span 16 bits."""
    gray = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = gray.max()
    if image.mode == "F":
        scale = 255.0 if top <= 1 else 1.0
    else:
        scale = 1 / 257 if image.mode.startswith("I;16") or top > 255 else 1.0
    return Image.fromarray((gray * scale).round().clip(0, 255).astype(np.uint8))


def _photo_error(path: str | Path, found: str, reason: Literal["format", "damaged"] = "damaged") -> PhotoError:
    return PhotoError(
        path,
        found,
        wanted="a photo (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF)",
        remedy="Replace the file, or leave the item out",
        reason=reason,
    )


def _too_large(path: str | Path, found: str, max_pixels: int) -> PhotoError:
    return PhotoError(
        path,
        found,
        wanted=f"at most {max_pixels} pixels",
        remedy="Save a smaller copy in its place",
        reason="pixels",
    )
