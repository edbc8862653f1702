"""A folder that is there whole or not at all: it grows beside its place and is renamed at the end.

Imports nothing of panfit but its errors.
"""

import glob
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panfit.errors import DataError, Problem

if sys.platform != "win32":
    import fcntl


def refuse_foreign(folder: Path, *, marker: str = "dataset.json") -> None:
    """Raise DataError where ``folder`` is a file, or a non-empty folder without a panfit marker file."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir() and (not any(folder.iterdir()) or _is_ours(folder / marker)):
        return
    found = "a folder of other files" if folder.is_dir() else "a file"
    raise DataError(
        "will not overwrite what panfit did not make",
        [Problem(str(folder), found, "no such path, an empty folder, or an older data set", "Give another --out.")],
    )


def _is_ours(marker: Path) -> bool:
    try:
        values = json.loads(marker.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"format", "slots", "checksums"} <= values.keys()


@contextmanager
def staged_folder(folder: str | Path, *, marker: str = "dataset.json") -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block ends, or vanishes when it raises.

    An older data set at ``folder`` is replaced as a whole, and comes back if the replacing fails.

    Raises:
        DataError: something else is at ``folder``, or it cannot be written (no room, no permission).
    """
    folder = Path(folder)
    refuse_foreign(folder, marker=marker)
    target = folder.resolve()
    stage: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
        stage.chmod(0o777 & ~_umask())  # mkdtemp's own mode is for secrets
        with _held(stage):
            yield stage
            _swap(stage, target)
    except OSError as error:
        found = error.strerror or str(error)
        remedy = "Make room, or give a folder that may be written."
        raise DataError(
            f"cannot write {folder}; nothing is there now that was not there before",
            [Problem(error.filename or str(folder), found, "to write the data set", remedy)],
        ) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, target: Path) -> None:
    """Rename ``stage`` to ``target``; an older data set there steps aside first and is deleted last."""
    if not target.exists() or not any(target.iterdir()):
        os.replace(stage, target)  # noqa: PTH105 - the atomic one, by its name
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    os.replace(target, aside)  # noqa: PTH105
    try:
        os.replace(stage, target)  # noqa: PTH105
    except BaseException:
        os.replace(aside, target)  # noqa: PTH105
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _held(stage: Path) -> Iterator[bool]:
    """Hold a lock on a folder while the block runs; yields False where a living process holds it already.

    The system lets go of it when a process is killed. Without such locks (Windows) everything counts as held.
    """
    if sys.platform == "win32":
        yield False
        return
    descriptor = os.open(stage, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _sweep(target: Path) -> None:
    """Remove what killed imports left beside the target, and put back an old data set that was stepping aside."""
    for orphan in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        if not target.exists() and _is_ours(orphan / "dataset.json"):
            os.replace(orphan, target)  # noqa: PTH105
        else:
            shutil.rmtree(orphan, ignore_errors=True)
    for orphan in target.parent.glob(f".{glob.escape(target.name)}.new-*"):
        with _held(orphan) as free:
            if free:
                shutil.rmtree(orphan, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
