"""UPLOADS: a file that anybody may have sent -> a small RGB image, in bounded memory; nothing else of it is kept.

Size and format are known from its first bytes, and pixels from its header, before anything is decoded. Two are decoded
at a time. What comes out has at most `KEPT_SIDE` pixels a side, so that those that wait for the model are small too.
"""

import io
import re
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread
from fastapi import HTTPException
from PIL import Image

from panfit.features.photos import PhotoError, read_photo
from panfit.serve.engine import BusyError
from panfit.serve.settings import Limits

DECODED_AT_ONCE = 2
"""Photos. One of the most pixels that may come takes up to 400 MB while it is decoded (benchmarks/fuzz_uploads.py)."""
KEPT_SIDE = 1024
"""Pixels a side that are kept, at most. A model sees 224 to 320 of them."""
MAX_SIDE = 20_000
"""Pixels. Each row costs some bytes of its own, and a picture that is longer is no photo of a garment."""
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF")
"""Those that browsers and phones know. Of the library's others, a few megabytes can take minutes (PPM) to be read."""
MAX_SCANS = 40
"""Of a JPEG; progressive ones have about ten. Each one costs a pass over all pixels, however few bytes it has."""
MAX_PIECES = 5_000
"""Segments of a JPEG before its data, chunks of a PNG: Pillow reads each one in Python, and keeps all other threads
waiting meanwhile. Large photos have some hundred."""
MAX_JUNK = 1 << 16
"""Bytes between the segments of a JPEG that belong to none; Pillow reads them one by one."""

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("panfit_decoding")
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""Of a JPEG, among compressed data: FF 00 is a byte of data, FF D0 to D7 only mark the time. Takes linear time."""


class UploadError(HTTPException):
    """An upload that is no photo that can be used.

    Attributes:
        status: 413 (too large), 415 (not a photo that is understood), 422 (empty, truncated or damaged).
        detail: what was found, what was wanted; for people.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status


class Upload(Protocol):
    """What `decode` needs of Starlette's UploadFile. Its name and type are what the sender says: not looked at."""

    @property
    def file(self) -> BinaryIO: ...


async def decode(upload: Upload, limits: Limits) -> Image.Image:
    """An uploaded photo, upright, RGB, at most `KEPT_SIDE` a side; without the file's metadata.

    Raises:
        UploadError: it cannot be used.
        BusyError: too many photos wait to be decoded.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(DECODED_AT_ONCE)
        _limiter.set(limiter)
    with anyio.move_on_after(limits.seconds) as scope:
        await limiter.acquire()
    if scope.cancelled_caught:
        raise BusyError("too many photos are waiting")
    try:
        return await anyio.to_thread.run_sync(partial(decode_file, upload.file, limits))
    finally:
        limiter.release()


def decode_file(file: BinaryIO, limits: Limits) -> Image.Image:
    """As `decode`, in this thread."""
    file.seek(0)
    data = file.read(limits.photo_bytes + 1)
    if not data:
        raise UploadError(422, "the file is empty. Send a photo")
    if len(data) > limits.photo_bytes:
        raise UploadError(413, f"the file has more than {limits.photo_bytes} bytes. Send a smaller copy of the photo")
    if is_endless(data):
        raise UploadError(
            422, "the file is made of far more pieces than photos are. Save the photo again and send that"
        )
    try:
        # Twice what is kept at most, so that averaging it down does not blur what decoding at a fraction sharpened.
        return read_photo(
            io.BytesIO(data),
            "upload",
            at_least=KEPT_SIDE // 2,
            at_most=KEPT_SIDE,
            max_pixels=limits.photo_pixels,
            max_side=MAX_SIDE,
            formats=FORMATS,
        )
    except PhotoError as error:
        raise UploadError(*_ANSWERS[error.reason](limits)) from None
    except MemoryError:
        raise UploadError(413, "the photo is too large to be decoded. Send a smaller copy of it") from None


def is_endless(data: bytes) -> bool:
    """Whether a JPEG or a PNG would take far longer to read than its pixels do. Looks at little of it."""
    if data.startswith(_JPEG):
        return _is_endless_jpeg(data)
    place, pieces = len(_PNG), 0
    while data.startswith(_PNG) and place < len(data) and pieces <= MAX_PIECES:
        place += 12 + int.from_bytes(data[place : place + 4], "big")  # length, name and checksum; and what is in it
        pieces += 1
    return pieces > MAX_PIECES


def _is_endless_jpeg(data: bytes) -> bool:
    scans = pieces = junk = 0
    place = len(_JPEG)
    while (found := _MARKER.search(data, place)) is not None:
        marker, length = found[1][0], int.from_bytes(data[found.end() : found.end() + 2], "big")
        if marker == _END:
            break
        if not scans:  # what stands between segments; later, it is the data
            junk, pieces = junk + found.start() - place, pieces + 1
        scans += marker == _SCAN
        if max(scans / MAX_SCANS, pieces / MAX_PIECES, junk / MAX_JUNK) > 1:
            return True
        place = found.end() + (0 if marker == _TEMPORARY else length)  # past the segment: not into its thumbnail
    return not scans and len(data) - place > MAX_JUNK


_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_SCAN, _END, _TEMPORARY = 0xDA, 0xD9, 0x01
_ANSWERS: dict[str, Callable[[Limits], tuple[int, str]]] = {
    "format": lambda _: (415, "the file is not a photo that is understood. Send a JPEG, PNG, WebP, AVIF or GIF"),
    "pixels": lambda limits: (
        413,
        f"the photo has more than {limits.photo_pixels} pixels, or {MAX_SIDE} a side. Send a smaller copy of it",
    ),
    "damaged": lambda _: (422, "the photo is truncated or damaged. Save it again, or send another"),
}
"""Why a photo cannot be used -> status and detail. Says nothing of what Pillow said, which may name anything."""
