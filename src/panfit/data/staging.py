"""A folder that is there whole or not at all: it grows beside its place and is renamed at the end.

Imports nothing of panfit but its errors.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panfit.errors import DataError, Problem


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
        return "format" in json.loads(marker.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


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
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
        stage.chmod(0o777 & ~_umask())  # mkdtemp's own mode is for secrets
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


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
