"""PHOTOS: the catalogue's photos as thumbnails, made when first asked for and then held in memory.

Which file is read, the catalogue says, never a request: an id is only looked up. A file has to lie under the data
set's image root, symbolic links followed; one that leads out of there is not shown, whoever made it.
"""

import hashlib
import io
import logging
import os
import re
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from PIL import Image

from panfit.features.photos import PhotoError, open_photo
from panfit.outfits import Catalogue
from panfit.serve.api import addresses  # noqa: F401 {id:any}
from panfit.serve.api.asking import ServiceDep, check_items
from panfit.serve.api.tags import Tagged
from panfit.serve.problems import documented, problem_response
from panfit.serve.schemas import ID_LENGTH

SIZES = (64, 128, 256, 512, 1024)
"""Pixels a side; what is asked for is rounded up to one of them, so that nobody can fill the memory with all others."""
DRAWN_AT_ONCE = 2
HELD_BYTES = 64 << 20
JPEG_QUALITY, WEBP_QUALITY = 85, 80
FRESH_S, STALE_S = 24 * 3600, 7 * 24 * 3600
"""A browser does not ask for so long; and then shows what it has while it asks."""

Kind = Literal["JPEG", "WEBP"]

router = APIRouter(prefix="/v1", tags=["items"])
_log = logging.getLogger("panfit.serve")


class NoPhotoError(Exception):
    """An item without a photo, or with one that cannot be shown."""


@dataclass(frozen=True)
class Source:
    """A photo's file as it is now.

    Attributes:
        path: resolved.
        state: other than before as soon as the file is another: device, number, size, and time of its last change.
    """

    path: Path
    state: tuple[int, int, int, int]

    def tag(self, size: int, kind: Kind) -> str:
        """The entity tag of its thumbnail."""
        told = repr((str(self.path), self.state, size, kind, JPEG_QUALITY, WEBP_QUALITY))
        return f'"{hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:32]}"'


class Thumbnails:
    """Thumbnails by entity tag, the ones asked for last. Safe to use from several threads.

    Args:
        max_bytes: of all that are held.
    """

    def __init__(self, max_bytes: int = HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.limiter = anyio.CapacityLimiter(DRAWN_AT_ONCE)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def num_bytes(self) -> int:
        """Held now."""
        return self._bytes

    def get(self, tag: str) -> bytes | None:
        """A thumbnail that is held."""
        with self._lock:
            if tag in self._held:
                self._held.move_to_end(tag)
            return self._held.get(tag)

    def make(self, source: Source, size: int, kind: Kind) -> bytes:
        """A thumbnail: held, or drawn now. Raises PhotoError."""
        tag = source.tag(size, kind)
        found = self.get(tag)  # perhaps another thread has just drawn it
        if found is None:
            found = thumbnail(source.path, size, kind)
            self._put(tag, found)
        return found

    def _put(self, tag: str, drawn: bytes) -> None:
        with self._lock:
            self._bytes += len(drawn) - len(self._held.pop(tag, b""))
            self._held[tag] = drawn
            while self._bytes > self._max_bytes:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= len(oldest)


def thumbnail(path: Path, size: int, kind: Kind) -> bytes:
    """A photo, whole, no larger than ``size`` a side, never enlarged, as a file without metadata. Raises PhotoError."""
    image = open_photo(path, at_least=size)
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    image.info = {}  # a comment, a color profile: nothing of the file goes out but its pixels
    file = io.BytesIO()
    if kind == "WEBP":
        image.save(file, "WEBP", quality=WEBP_QUALITY, method=2)
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=size > SIZES[2])
    return file.getvalue()


def source_of(catalogue: Catalogue, row: int) -> Source:
    """The file of an item's photo. Raises NoPhotoError."""
    name = catalogue.images[row]
    if name is None:
        raise NoPhotoError("this item has no photo")
    try:
        root = Path(os.path.realpath(catalogue.image_root))
        path = Path(os.path.realpath(root / name))
        if not path.is_relative_to(root):
            _log.warning("a photo's file does not lie under the data set's image root, and is not shown")
            raise NoPhotoError("this item's photo cannot be shown")
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would never end
            raise NoPhotoError("this item's photo cannot be shown")
    except (OSError, ValueError):  # gone, no access, or a name that no file can have
        raise NoPhotoError("this item's photo cannot be found") from None
    return Source(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


def rounded(size: int) -> int:
    """The next of `SIZES`."""
    return next(each for each in SIZES if each >= size)


def kind_for(accept: str) -> Kind:
    """WebP for whoever names it in Accept; JPEG, which everybody can show, for all others."""
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        if media_type == "image/webp":
            refused = any(re.fullmatch(r"q\s*=\s*0(\.0*)?", each) for each in parameters)
            return "JPEG" if refused else "WEBP"
    return "JPEG"


@router.get(
    "/photos/{id:any}",
    operation_id="get_photo",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}, "image/webp": {}}}, **documented(304, 404, 422)},
)
async def get_photo(
    request: Request,
    service: ServiceDep,
    item_id: Annotated[str, InPath(alias="id", max_length=ID_LENGTH, examples=["top-1"])],
    size: Annotated[
        int,
        Query(
            ge=SIZES[0], le=SIZES[-1], description=f"Pixels a side, rounded up to one of {', '.join(map(str, SIZES))}."
        ),
    ] = 256,
) -> Response:
    """An item's photo, fitted into a square, upright: WebP for those who accept it, else JPEG."""
    await check_items(service, [item_id])
    catalogue = service.dataset.catalogue
    try:
        source = await anyio.to_thread.run_sync(source_of, catalogue, catalogue.row_of[item_id])
    except NoPhotoError as error:
        return problem_response(404, str(error))
    size, kind = rounded(size), kind_for(request.headers.get("accept", ""))
    tag = Tagged(source.tag(size, kind), request.headers.get("if-none-match", ""))
    shared = "public" if service.config.token is None else "private"
    headers = {
        "ETag": tag.tag,
        "Cache-Control": f"{shared}, max-age={FRESH_S}, stale-while-revalidate={STALE_S}",
        "Vary": "Accept",
    }
    if tag.is_held:
        return Response(status_code=304, headers=headers)
    thumbnails = thumbnails_of(request.app)
    drawn = thumbnails.get(tag.tag)
    if drawn is None:
        try:
            make = partial(thumbnails.make, source, size, kind)
            drawn = await anyio.to_thread.run_sync(make, limiter=thumbnails.limiter)
        except (PhotoError, OSError):
            _log.warning("a photo of the catalogue cannot be shown", exc_info=True)
            return problem_response(404, "this item's photo cannot be shown")
    return Response(drawn, headers=headers, media_type=f"image/{kind.lower()}")


def thumbnails_of(app: FastAPI) -> Thumbnails:
    """An app's own."""
    found = getattr(app.state, "thumbnails", None)
    if not isinstance(found, Thumbnails):
        found = app.state.thumbnails = Thumbnails()
    return found
