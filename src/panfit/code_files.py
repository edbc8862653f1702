"""Code tables on disk: one file a viewer, mapped into memory, told apart by fingerprints so that none is ever stale.

    FOLDER/panfit-codes.json                      says that the folder is panfit's
    FOLDER/MODEL/CATALOGUE/items.safetensors      the items' fingerprints (N, 16), in the catalogue's order
    FOLDER/MODEL/CATALOGUE/VIEWER.safetensors     the viewer's packed codes (N, V * D / 8) in that order

MODEL is a fingerprint of all that makes codes but the user table; CATALOGUE one of the items' fingerprints; VIEWER one
of the embedding. Another model or catalogue thus has other files, and what an older catalogue's table says of items
that are still the same can be taken over. Files are written aside, then renamed, and together take a bounded space. A
file or folder that is not what its name says is a `CacheError`; one that cannot be written is a warning. Never imports
train.
"""

import contextlib
import hashlib
import json
import logging
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from panfit.errors import CacheError
from panfit.files import write_aside

log = logging.getLogger("panfit")

FORMAT = "1"
"""Raised when a file's layout, or what makes a code, changes."""
MARK_FILE, ITEMS_FILE, SUFFIX = "panfit-codes.json", "items.safetensors", ".safetensors"
MARK = {"format": FORMAT, "holds": "panfit's cached code tables; the folder may be removed at any time"}
TENSOR = "rows"
MOST_BYTES = 10 << 30
"""Of all tables in a folder; the longest unused leave first."""
MOST_HEADER_BYTES = 1 << 16
"""A longer header is not one of ours."""

Rows = NDArray[np.uint8]


class CodeFiles:
    """The tables of one model and one catalogue.

    Args:
        folder: FOLDER; made when the first table is written.
        model: the model's fingerprint, a word of hexadecimal digits.
        items: (N, 16) the items' fingerprints.
        max_bytes: bound on all tables in the folder, of whatever model; the last one stays even beyond it.

    Raises:
        CacheError: ``folder`` holds something else.
    """

    def __init__(self, folder: Path, *, model: str, items: Rows, max_bytes: int = MOST_BYTES) -> None:
        check_folder(folder)
        self._max_bytes = max_bytes
        self._root, self._model = folder, model
        self._items = np.ascontiguousarray(items)
        self._catalogue = catalogue_fingerprint(self._items)
        self._folder = folder / model / self._catalogue
        self._can_write = True

    def path(self, viewer: str) -> Path:
        """Where a viewer's table is, or would be."""
        return self._folder / f"{viewer}{SUFFIX}"

    def read(self, viewer: str, num_bytes: int) -> Rows | None:
        """The viewer's table (N, num_bytes), mapped; None where there is none. Its checksum is checked.

        Raises:
            CacheError: the file is damaged, or not this viewer's.
        """
        table = read_rows(self.path(viewer), self._said(viewer), (len(self._items), num_bytes))
        if table is not None:
            with contextlib.suppress(OSError):  # a read-only disk
                os.utime(self.path(viewer))  # used just now
        return table

    def older(self, viewer: str, num_bytes: int) -> tuple[NDArray[np.int64], Rows]:
        """What tables of other catalogues say of items that are still the same: (m,) item rows, rising, and (m, b).

        Raises:
            CacheError: as `read`.
        """
        mine = _as_words(self._items)  # (N,)
        codes = np.empty((len(mine), num_bytes), dtype=np.uint8)  # (N, b) costs no memory until written
        is_found = np.zeros(len(mine), dtype=np.bool_)  # (N,)
        for folder in self._others(viewer):
            items = read_rows(folder / ITEMS_FILE, self._said(ITEMS_FILE, folder.name), (None, self._items.shape[1]))
            if items is None or catalogue_fingerprint(items) != folder.name:
                raise _damaged(folder / ITEMS_FILE, "it does not hold the fingerprints that its folder is named by")
            table = read_rows(folder / f"{viewer}{SUFFIX}", self._said(viewer, folder.name), (len(items), num_bytes))
            if table is None:  # another process removed it meanwhile
                continue
            theirs, first = np.unique(_as_words(items), return_index=True)  # (n,) rising, (n,)
            place = np.searchsorted(theirs, mine).clip(max=len(theirs) - 1)  # (N,)
            fresh = ~is_found & (theirs[place] == mine)  # (N,)
            codes[fresh] = table[first[place[fresh]]]
            is_found |= fresh
            if is_found.all():
                break
        rows = np.flatnonzero(is_found)  # (m,)
        return rows, codes[rows]

    def write(self, viewer: str, table: Rows) -> bool:
        """Write the viewer's table (N, b). False, and a warning the first time, where the disk does not let us."""
        if not self._can_write:
            return False
        try:
            make_folder(self._root, self._folder)
            if not (self._folder / ITEMS_FILE).exists():
                write_rows(self._folder / ITEMS_FILE, self._said(ITEMS_FILE), self._items)
            write_rows(self.path(viewer), self._said(viewer), table)
            self._make_room(self.path(viewer))
        except OSError as error:
            self._can_write = False
            log.warning("%s: code tables cannot be kept there (%s): they stay in memory", self._root, error.strerror)
            return False
        return True

    def _make_room(self, written: Path) -> None:
        """Remove tables, the longest unused first and the one just written never, until the others fit."""
        tables = []
        for path in self._root.glob(f"*/*/*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process removed it meanwhile
                if path.name != ITEMS_FILE:
                    found = path.stat()
                    tables.append((found.st_mtime_ns, found.st_size, path))
        held = sum(size for _, size, _ in tables)
        for _, size, path in sorted(tables):
            if held <= self._max_bytes:
                break
            if path != written:
                path.unlink(missing_ok=True)
                held -= size

    def _said(self, name: str, catalogue: str | None = None) -> dict[str, str]:
        """What a file's header says besides its checksum."""
        return {
            "format": f"panfit-codes {FORMAT}",
            "model": self._model,
            "catalogue": catalogue or self._catalogue,
            "of": name.removesuffix(SUFFIX),
        }

    def _others(self, viewer: str) -> Iterator[Path]:
        """Folders of other catalogues with a table of the viewer, the newest first."""
        found: list[tuple[int, Path]] = []
        for path in (self._root / self._model).glob(f"*/{viewer}{SUFFIX}"):
            try:
                found.append((path.stat().st_mtime_ns, path.parent))
            except OSError:  # removed meanwhile
                continue
        return (folder for _, folder in sorted(found, reverse=True) if folder != self._folder)


def catalogue_fingerprint(items: Rows) -> str:
    """What a catalogue of items (N, 16) is called: of their fingerprints, in order."""
    return hashlib.blake2b(np.ascontiguousarray(items).tobytes(), digest_size=16).hexdigest()


def _as_words(items: Rows) -> NDArray[np.void]:
    """(N, 16) fingerprints as (N,) values that can be sorted and compared."""
    return np.ascontiguousarray(items).view(f"S{items.shape[1]}").reshape(-1)


def check_folder(folder: Path) -> None:
    """Raises CacheError for anything but a folder that is ours, empty, or not there yet."""
    try:
        mark = json.loads((folder / MARK_FILE).read_text("utf-8"))
    except FileNotFoundError:
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        raise CacheError(
            f"{folder}: found a folder with other things in it, wanted panfit's code tables, an empty folder or none. "
            "Name another folder"
        ) from None
    except NotADirectoryError:
        raise CacheError(f"{folder}: found a file, wanted a folder for code tables. Name another folder") from None
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{folder / MARK_FILE}: cannot be read: {error}. If the folder holds panfit's code tables, remove it: they "
            "are made again. If not, name another folder"
        ) from None
    if not isinstance(mark, dict) or mark.get("format") != FORMAT:
        raise CacheError(
            f"{folder}: found code tables of another version of panfit, wanted format {FORMAT}. "
            "Remove the folder, it is made again; or name another"
        )


def make_folder(root: Path, folder: Path) -> None:
    """Make ``folder``, inside a folder ``root`` that says that it is ours. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (root / MARK_FILE).exists():
        write_aside(root / MARK_FILE, json.dumps(MARK, indent=1) + "\n")


def write_rows(path: Path, said: dict[str, str], rows: Rows) -> None:
    """Write rows (m, b), with what the header says besides their checksum, whole or not at all. Raises OSError."""
    rows = np.ascontiguousarray(rows)
    content = save({TENSOR: rows}, metadata={**said, "crc32": f"{zlib.crc32(rows.data):08x}"})
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_rows(path: Path, said: dict[str, str], shape: tuple[int | None, int]) -> Rows | None:
    """The rows of a file, mapped; None where it is missing. Raises CacheError unless all is as it should be."""
    try:
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > min(MOST_HEADER_BYTES, num_bytes - 8):
                raise _damaged(path, "its header is not one of ours")
            header = json.loads(file.read(header_bytes))
        found_shape = _rows_shape(header, num_bytes - 8 - header_bytes)
        metadata = dict(header["__metadata__"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its header is not one of ours ({error})") from None
    crc32 = metadata.pop("crc32", None)
    for name, wanted in said.items():
        if metadata.get(name) != wanted:
            raise _damaged(path, f"found {name} {metadata.get(name)!r}, wanted {wanted!r}")
    if found_shape != (shape[0] or found_shape[0], shape[1]):
        raise _damaged(path, f"found {found_shape} bytes, wanted {shape}")
    if not found_shape[0]:
        return np.zeros(found_shape, dtype=np.uint8)
    # Mode c: never written back, and torch takes it without a warning, which it would not if it were read-only.
    rows: Rows = np.memmap(path, dtype=np.uint8, mode="c", offset=8 + header_bytes, shape=found_shape)
    if f"{zlib.crc32(rows.data):08x}" != crc32:
        raise _damaged(path, "its bytes do not match its checksum")
    return rows


def _rows_shape(header: dict[str, Any], num_bytes: int) -> tuple[int, int]:
    """What a header says of its tensor. Raises ValueError, KeyError or TypeError."""
    told = header[TENSOR]
    rows, width = (int(size) for size in told["shape"])
    if told["dtype"] != "U8" or told["data_offsets"] != [0, num_bytes] or rows * width != num_bytes or rows < 0:
        raise ValueError(f"{told} for {num_bytes} bytes")
    return rows, width


def _damaged(path: Path, what: str) -> CacheError:
    return CacheError(f"{path}: not the code table that it should be: {what}. Remove it, it is made again")
