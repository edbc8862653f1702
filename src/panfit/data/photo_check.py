"""Are the photos there, and can they be opened? Quickly at import, thoroughly in `panfit check`.

The judge is always `panfit.features.photos.open_photo`; the quick look only saves it the photos that are plainly whole:
a known format, a modest size, and the format's own end mark in its place.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image

from panfit.errors import DataError
from panfit.features.photos import open_photo

MODEST_PIXELS = 20_000_000
"""More than this, and the judge is asked whether it is a decompression bomb."""
_TAIL = 64
"""Bytes at the end of a file among which the end mark must be: some cameras pad."""
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}

Fault = tuple[str, str, str]
"""found, wanted, remedy"""


def stays_inside(image: str) -> bool:
    """Whether a photo path is relative and never climbs out of the folder it starts from."""
    return not image.startswith("/") and os.path.normpath(image).split("/")[0] != ".." and "\0" not in image


def photo_faults(
    root: Path, images: Iterable[str], *, thorough: bool, progress: Callable[[int], object] | None = None
) -> Iterator[tuple[int, Fault]]:
    """The place of each photo that cannot be used, and why.

    Args:
        root: the folder that the paths start from.
        images: photo paths.
        thorough: decode every photo whole, instead of only the suspicious ones.
        progress: called with the number of photos looked at.
    """
    for place, image in enumerate(images):
        path = root / image
        if not stays_inside(image):
            remedy = f"Put the photos under {root} and write their paths from there."
            yield place, (f"the photo path {image!r}", "a relative path inside the photo folder", remedy)
        elif not path.is_file():
            remedy = f"Paths start from {root}, with / between folders; --images names another folder."
            yield place, (f"no photo at {image!r}", "a file", remedy)
        elif thorough or not _plainly_whole(path):
            try:
                open_photo(path)
            except DataError as error:
                fault = error.problems[0].found if error.problems else error.summary
                yield place, (f"the photo {image!r}: {fault}", "a photo that can be opened", "Replace the photo.")
        if progress is not None:
            progress(place + 1)


def _plainly_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            file.seek(0)
            with Image.open(file, formats=tuple(_END_MARKS)) as image:
                mark = _END_MARKS[image.format or ""]
                return image.width * image.height <= MODEST_PIXELS and mark in tail
    except Exception:  # Pillow's readers raise all sorts on damaged headers; the judge says what is wrong
        return False
