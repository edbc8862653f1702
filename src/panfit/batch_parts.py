"""PARTS: a batch's answers on disk, block by block, and the one Parquet file they become.

    OUT.partial/manifest.json     of what run, data set and settings the parts are, and how users are cut into blocks
    OUT.partial/000017.parquet    the answers of block 17, whole or not at all
    OUT                           all answers, in one file; the folder is gone then

A killed batch goes on where it was. Row groups of the file are cut by rows, not by blocks, so its bytes are the same
however the work was divided. Imports no model.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from panfit.answers import Source
from panfit.errors import DataError
from panfit.ids import OutfitIds
from panfit.settings import Positive, Settings

if sys.platform != "win32":
    import fcntl

Row = tuple[str, int, str | None, OutfitIds, float]
"""user_id, rank from 1, outfit_id, items in slot order, score."""

COLUMNS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("outfit_id", pa.string()),
        pa.field("items", pa.list_(pa.field("element", pa.string())), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
METADATA_KEY = b"panfit"
"""Under it the file's schema says, in JSON, of what job it is."""
MANIFEST_FILE = "manifest.json"
GROUP_ROWS = 1 << 16
"""Rows of a row group of the finished file: what assembling holds in memory."""


class Job(Settings):
    """What is asked of whom. Two jobs that are equal give the same file, to the byte."""

    format: Literal[1] = 1
    panfit: str = version("panfit")
    method: str
    model: str
    """SHA-256 of the model's settings, shape and weights."""
    dataset: str
    dataset_checksum: str
    items: str
    """SHA-256 of the catalogue's item ids in order: a recommender can take in items that the tables do not have."""
    slots: tuple[str, ...]
    """Names of the slots that ``items`` follows."""
    source: Source
    top: Positive
    users: Positive
    """How many users are asked about."""
    user_ids: str
    """SHA-256 of their ids in order."""
    withdrawn: tuple[str, ...] = ()
    """Items that are not recommended any more."""

    def differences(self, other: "Job") -> list[str]:
        """The names of the values in which two jobs differ."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [name for name in mine if mine[name] != theirs[name]]

    @property
    def schema(self) -> pa.Schema:
        """Of the parts and of the finished file."""
        return COLUMNS.with_metadata({METADATA_KEY: self.model_dump_json()})


@dataclass(frozen=True)
class Block:
    """Users whose answers make one part.

    Attributes:
        number: from 0.
        users: their ids.
    """

    number: int
    users: tuple[str, ...]


def hash_ids(user_ids: Sequence[str]) -> str:
    """SHA-256 of ids in order."""
    return hashlib.sha256(json.dumps(list(user_ids)).encode()).hexdigest()


def partial_folder(out: Path) -> Path:
    """Where the parts of ``out`` lie until they are all there."""
    return out.with_name(out.name + ".partial")


def is_finished(out: Path, job: Job) -> bool:
    """Whether ``out`` is the finished file of just this job."""
    try:
        schema: pa.Schema = pq.read_schema(out)
    except (OSError, pa.ArrowException):
        return False
    return bool(schema.equals(job.schema, check_metadata=True))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder of parts and hold it: two batches never fill the same one. The hold dies with its process.

    Raises:
        DataError: another process holds it.
    """
    folder.mkdir(exist_ok=True)
    if sys.platform == "win32":  # nothing holds two batches apart there
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder}: another batch is filling it now. Wait for it, or name another --out") from None
        except OSError:  # a network file system without locks
            pass
        if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise DataError(f"{folder}: another batch has just finished it. Run the command again")
        yield
    finally:
        os.close(descriptor)


def begin(folder: Path, job: Job, user_ids: Sequence[str], *, block_users: int, restart: bool) -> list[Block]:
    """Make the folder ready for a job, or go on with what was begun of the same one.

    Args:
        folder: of the parts; it exists and is held.
        job: what the parts are to be of.
        user_ids: everybody who is asked about, in order.
        block_users: users a block; a job that was begun keeps the blocks it was begun with.
        restart: throw away what was begun.

    Returns:
        Every block, the finished ones too.

    Raises:
        DataError: parts of another job are there, or files that are not a batch's.
    """
    path = folder / MANIFEST_FILE
    for left in folder.glob(".*"):  # by those who were killed
        left.unlink(missing_ok=True)
    if restart:
        clear(folder)
    if not any(folder.iterdir()):
        begun = _Begun(job=job, block_users=block_users)
        write_whole(path, begun.model_dump_json(indent=1).encode())
    else:
        begun = _read_begun(path)
        differences = begun.job.differences(job)
        if differences:
            told = (f"{name}: {_short(begun.job, name)} there, {_short(job, name)} here" for name in differences)
            raise DataError(
                f"{folder}: the parts of another batch are there; they differ in {'; '.join(told)}. "
                "Throw them away (restart=True, --restart), or name another file (--out)"
            )
    size = begun.block_users
    firsts = range(0, len(user_ids), size)
    return [Block(number, tuple(user_ids[first : first + size])) for number, first in enumerate(firsts)]


def has_part(folder: Path, job: Job, block: Block) -> bool:
    """Whether a block's part is there and whole; a damaged one counts as missing, and is made again."""
    try:
        table = _read_part(part_path(folder, block), job)
    except (OSError, pa.ArrowException, DataError):
        return False
    return set(table["user_id"].unique().to_pylist()) <= set(block.users)


def write_part(folder: Path, job: Job, block: Block, rows: Iterable[Row]) -> None:
    """Write a block's answers, whole or not at all."""
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=job.schema), sink, write_page_checksum=True)
    write_whole(part_path(folder, block), sink.getvalue().to_pybytes())


def assemble(folder: Path, job: Job, blocks: Sequence[Block], out: Path) -> int:
    """Stream all parts into ``out``, which appears, or is replaced, when it is whole. Returns the number of rows.

    Raises:
        DataError: a part is missing or damaged.
    """
    aside = folder / f".{out.name}.{os.getpid()}"
    num_rows = 0
    with aside.open("wb") as file:
        with pq.ParquetWriter(file, job.schema, write_page_checksum=True) as writer:
            for group in _groups(_read_part(part_path(folder, block), job) for block in blocks):
                writer.write_table(group, row_group_size=GROUP_ROWS)
                num_rows += len(group)
        _to_disk(file)
    aside.replace(out)
    return num_rows


def clear(folder: Path) -> None:
    """Remove what a batch wrote into the folder of parts, and nothing else."""
    for path in [*folder.glob("[0-9]*.parquet"), *folder.glob(".*"), folder / MANIFEST_FILE]:
        path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Clear the folder of parts and remove it, unless something else lies there too."""
    clear(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def part_path(folder: Path, block: Block) -> Path:
    """Where a block's part lies."""
    return folder / f"{block.number:06d}.parquet"


def write_whole(path: Path, content: bytes) -> None:
    """Write aside, to the disk, then rename: after a kill or a power cut the file is whole or not there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            _to_disk(file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of any length -> tables of GROUP_ROWS rows, in one piece each; the last may be shorter."""
    pending: list[pa.Table] = []
    num_rows = 0
    for part in parts:
        pending.append(part)
        num_rows += len(part)
        while num_rows >= GROUP_ROWS:
            table = pa.concat_tables(pending)
            yield table.slice(0, GROUP_ROWS).combine_chunks()
            pending, num_rows = [table.slice(GROUP_ROWS)], num_rows - GROUP_ROWS
    if num_rows:
        yield pa.concat_tables(pending).combine_chunks()


def _read_part(path: Path, job: Job) -> pa.Table:
    """A part, its pages checked against their checksums. Raises DataError for one of another job."""
    table = pq.read_table(path, page_checksum_verification=True)
    if not table.schema.equals(job.schema, check_metadata=True):
        raise DataError(f"{path}: a part of another batch")
    return table


class _Begun(Settings):
    job: Job
    block_users: Positive


def _read_begun(path: Path) -> _Begun:
    try:
        return _Begun.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise DataError(
            f"{path.parent}: wanted an empty folder or a batch's parts, found no readable {MANIFEST_FILE}. "
            "Throw a damaged batch away (restart=True, --restart), or name another file (--out)"
        ) from None


def _short(job: Job, name: str) -> str:
    """A value of a job as a message shows it: of a hash, its beginning."""
    text = str(getattr(job, name))
    return text if len(text) <= 20 else f"{text[:12]}..."
