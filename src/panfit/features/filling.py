"""Filling a feature store: block by block, in a `.partial` folder beside its place that is renamed when it is whole.

A killed run goes on where it was, and what looks finished is finished. Blocks are written with plain writes, never
through a memory map, so that a full disk is an error and not a crash. Imports no model.
"""

import contextlib
import datetime
import errno
import os
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from panfit.config import Settings
from panfit.errors import DataError, FeatureStoreError, Problem
from panfit.features.ahead import ahead
from panfit.features.store import ARRAY_FILE, MANIFEST_FILE, Manifest, array_header, read_manifest
from panfit.outfits import IntArray

Progress = Callable[[int, int], None]
"""Called with (items done, items in all) as work goes on."""
Encode = Callable[[Any], NDArray[Any]]
"""(n,) item rows, or what `Prepare` made of them -> (n, ...) their rows of the store; a DataError says which items
cannot be encoded."""
Prepare = Callable[[IntArray], Any]
"""(n,) item rows -> what ``encode`` is given in their place; called in threads, ahead of it. May raise as it may."""

Filler = Callable[[Path, Manifest, Sequence[int]], Generator[tuple[int, int | list[Problem]]]]
"""(the array's file, what it will hold, open blocks) -> each block, in any order, when it is written: its checksum, or
why its items cannot be encoded. The file is there, in its full size."""

PROGRESS_FILE = "progress.json"
SAVE_EVERY_S = 2.0
"""Seconds between saves of the progress: what a kill can lose."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_store(
    folder: str | Path,
    *,
    manifest: Manifest,
    encode: Encode,
    prepare: Prepare | None = None,
    progress: Progress | None = None,
    replace: bool = False,
) -> None:
    """`fill_store` by this process.

    Args:
        folder: the store's place.
        manifest: what it will hold.
        encode: item rows -> their rows of the store; values beyond ``manifest.dtype`` are an error.
        prepare: the half of the work that does not need ``encode``'s own processor: of the next blocks it is done in
            threads while ``encode`` is busy, which then gets what it made. None: ``encode`` gets the rows.
        progress: told (items done, items in all).
        replace: see `fill_store`.

    Raises:
        DataError, FeatureStoreError, OSError: as `fill_store`.
    """

    def fill(array: Path, manifest: Manifest, blocks: Sequence[int]) -> Generator[tuple[int, int | list[Problem]]]:
        with array.open("r+b") as file:
            yield from write_blocks(file, manifest, blocks, encode=encode, prepare=prepare)
            os.fsync(file.fileno())

    fill_store(folder, manifest=manifest, fill=fill, progress=progress, replace=replace)


def fill_store(
    folder: str | Path,
    *,
    manifest: Manifest,
    fill: Filler,
    progress: Progress | None = None,
    replace: bool = False,
) -> None:
    """Fill a store block by block; one that was begun goes on; one that is finished and the same stays as it is.

    Items that cannot be encoded do not stop the work: their blocks stay open, the others are kept, and all problems are
    raised together at the end; after a repair only the open blocks are encoded again.

    Args:
        folder: the store's place, DATASET/features/<name>.
        manifest: what it will hold (`Manifest.describe`).
        fill: writes blocks, here or elsewhere.
        progress: told (items done, items in all).
        replace: a finished store that differs, or whose manifest is damaged, is replaced rather than refused.

    Raises:
        DataError: items that cannot be encoded.
        FeatureStoreError: another store is there, the disk is full, or what was encoded is not what the manifest says.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if folder.exists() and _is_finished(folder, manifest, replace=replace):
            return
        try:
            checksums = _fill(partial, manifest, fill, progress)
            finished = manifest.model_copy(update={"checksums": checksums, "created_at": _now()})
            _write_text(partial / MANIFEST_FILE, finished.model_dump_json(indent=1))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise FeatureStoreError(
                f"{partial}: the disk is full (the store needs {manifest.num_bytes / 1e9:.2f} GB): make room "
                f"and run again; it goes on from where it was"
            ) from None
        (partial / PROGRESS_FILE).unlink()
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)


def _is_finished(folder: Path, manifest: Manifest, *, replace: bool) -> bool:
    """Whether just this store is there already. Raises FeatureStoreError for another one, unless it may be replaced."""
    try:
        differences = read_manifest(folder).differences(manifest)
    except FeatureStoreError:
        if replace:
            return False
        raise
    if differences and not replace:
        raise FeatureStoreError(
            f"{folder}: another store is there; it differs in {', '.join(differences)}. "
            f"Remove it or choose another name"
        )
    return not differences


def write_blocks(
    file: BinaryIO, manifest: Manifest, blocks: Sequence[int], *, encode: Encode, prepare: Prepare | None = None
) -> Generator[tuple[int, int | list[Problem]]]:
    """Encode blocks of a store and write them where they belong; yields each one's checksum, or its problems.

    Args:
        file: the array's, open for reading and writing.
        manifest: what it will hold.
        blocks: which ones.
        encode: as in `write_store`.
        prepare: as in `write_store`.

    Raises:
        FeatureStoreError: ``encode`` gave what the manifest does not say.
        OSError: the disk is full, or fails.
    """
    start, item_bytes = len(array_header(manifest)), manifest.num_bytes // manifest.shape[0]
    ready_to = prepare or _as_asked
    with contextlib.closing(ahead(lambda block: ready_to(manifest.block_rows(block)), blocks)) as prepared:
        for block, ready in prepared:
            rows = manifest.block_rows(block)
            try:
                data = _block_bytes(encode(ready.result()), manifest, rows)
            except DataError as error:
                yield block, list(error.problems)
                continue
            file.seek(start + int(rows[0]) * item_bytes)
            file.write(data)
            file.flush()  # a full disk shows here, not when the file is closed
            yield block, zlib.crc32(data)


def _as_asked(rows: IntArray) -> IntArray:
    return rows


def _fill(partial: Path, manifest: Manifest, fill: Filler, progress: Progress | None) -> tuple[int, ...]:
    """Have the blocks written that are missing; returns every block's checksum. Raises DataError with all problems."""
    checksums = _resume(partial, manifest)
    problems: list[Problem] = []
    saved_at = time.monotonic()
    is_open = [block for block, checksum in enumerate(checksums) if checksum is None]
    num_done = sum(len(manifest.block_rows(block)) for block, done in enumerate(checksums) if done is not None)
    if progress is not None and num_done:
        progress(num_done, manifest.shape[0])
    try:
        with contextlib.closing(fill(partial / ARRAY_FILE, manifest, is_open)) as filled:
            for block, outcome in filled:
                if not isinstance(outcome, int):
                    problems += outcome
                    continue
                checksums[block] = outcome
                num_done += len(manifest.block_rows(block))
                if progress is not None:
                    progress(num_done, manifest.shape[0])
                if time.monotonic() - saved_at >= SAVE_EVERY_S:
                    _save_progress(partial, manifest, checksums)
                    saved_at = time.monotonic()
    finally:
        with contextlib.suppress(OSError):  # on a full disk the last saved progress stands
            _save_progress(partial, manifest, checksums)
    if problems:
        raise DataError(f"{len(problems)} of {manifest.shape[0]} items cannot be used", problems)
    return tuple(checksum for checksum in checksums if checksum is not None)


def _block_bytes(values: NDArray[Any], manifest: Manifest, rows: IntArray) -> bytes:
    wanted = (len(rows), *manifest.shape[1:])
    if values.shape != wanted:
        raise FeatureStoreError(f"items {rows[0]} to {rows[-1]}: found maps {values.shape}, wanted {wanted}")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found below, and named
        converted = np.ascontiguousarray(values, dtype=manifest.dtype)
    if not np.isfinite(converted).all():
        beyond = rows[~np.isfinite(converted).reshape(len(rows), -1).all(axis=1)]
        raise FeatureStoreError(f"item {beyond[0]}: its map holds a value that is not finite in {manifest.dtype}")
    return converted.tobytes()


def _resume(partial: Path, manifest: Manifest) -> list[int | None]:
    """Make the partial folder ready: each block's checksum where an earlier run of the same store wrote it."""
    size = len(array_header(manifest)) + manifest.num_bytes
    path = partial / ARRAY_FILE
    checksums: list[int | None] = [None] * manifest.num_blocks
    with contextlib.suppress(OSError, ValueError, ValidationError, KeyError):
        saved = _PartialProgress.model_validate_json((partial / PROGRESS_FILE).read_text("utf-8"))
        same = not saved.manifest.differences(manifest) and len(saved.checksums) == len(checksums)
        if same and path.stat().st_size == size:
            return _still_whole(path, manifest, list(saved.checksums))
    if partial.exists():
        shutil.rmtree(partial)
    free = shutil.disk_usage(partial.parent).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{size} bytes are needed, {free} are free")
    partial.mkdir()
    with path.open("wb") as file:
        file.write(array_header(manifest))
        file.truncate(size)
    return checksums


def _still_whole(path: Path, manifest: Manifest, checksums: list[int | None]) -> list[int | None]:
    """The checksums of the blocks that did reach the disk; None for the others."""
    maps = np.load(path, mmap_mode="r", allow_pickle=False)
    for block, checksum in enumerate(checksums):
        rows = manifest.block_rows(block)
        if checksum is not None and zlib.crc32(maps[rows[0] : rows[-1] + 1].tobytes()) != checksum:
            checksums[block] = None
    return checksums


class _PartialProgress(Settings):
    manifest: Manifest
    checksums: tuple[int | None, ...]


def _save_progress(partial: Path, manifest: Manifest, checksums: list[int | None]) -> None:
    saved = _PartialProgress(manifest=manifest, checksums=tuple(checksums))
    _write_text(partial / PROGRESS_FILE, saved.model_dump_json())


def _write_text(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, "utf-8")
    aside.replace(path)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the store's lock: two runs that want the same store make it once. The lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing holds two runs apart there
        yield
        return
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # a network file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
