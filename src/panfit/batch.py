"""BATCH: the best outfits of every user -> one Parquet file, on one machine or on a Ray cluster.

The same file, to the byte, whatever the engine, the number of workers, the size of the blocks, and however often the
work was interrupted. Never imports train.
"""

import contextlib
import errno
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from panfit.answers import Source
from panfit.batch_blocks import BlockWriter, Plan, describe
from panfit.batch_local import write_apart, write_here
from panfit.batch_parts import Block, Job, assemble, begin, has_part, held, is_finished, partial_folder, remove
from panfit.errors import DataError, UnknownIdError
from panfit.loading import load
from panfit.outfits import Dataset
from panfit.recommend import Recommender

Engine = Literal["local", "ray"]
Progress = Callable[[int, int], None]
"""Called with (users done, users in all)."""

BLOCK_USERS = 32
"""Users a block: what a kill can lose of each worker."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class BatchReport:
    """What a batch did.

    Attributes:
        out: the finished file.
        users: who were asked about.
        found: how many of them an earlier call had answered.
        rows: of the file.
        seconds: that this call took.
    """

    out: Path
    users: int
    found: int
    rows: int
    seconds: float


def recommend_all(
    run: str | Path | Recommender,
    out: str | Path,
    *,
    top: int = 10,
    source: Source = "known",
    users: Iterable[str] | None = None,
    data: str | Path | None = None,
    allow_changed: bool = False,
    engine: Engine = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    block_users: int = BLOCK_USERS,
    overwrite: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> BatchReport:
    """Every user's best outfits, in one Parquet file.

    A row is an outfit: user_id, rank (from 1), outfit_id (null where the data set has no such outfit), items (in slot
    order, null where nothing is worn), score (falling). Users come in the data set's order. The schema's metadata says
    under "panfit", in JSON, of what model, data set and settings the file is.

    Work goes block by block into OUT.partial; a call after an interruption goes on there. A finished file of just this
    job is left as it is.

    Args:
        run: a run folder; or a recommender, for the local engine in this process.
        out: the file to write; its folder exists.
        top: outfits a user; fewer where there are fewer candidates.
        source: "known": from the outfits that anybody likes; "composed": new ones (`Recommender.recommend`).
        users: ids; everybody if not given.
        data: the data set's folder, where it is no longer where the run says.
        allow_changed: take a data set that has changed since the training, such as a shop's catalogue of today.
        engine: "local", or "ray" (the extra of that name).
        workers: processes, each with a model of its own. None: here, this process alone; on Ray, one a CPU.
        ray_address: of a running cluster, where ``run``, ``data`` and ``out`` are on a file system that all its
            machines share. None: the one RAY_ADDRESS names, or a cluster of this machine for this call.
        block_users: users a block. A batch that was begun keeps the size it was begun with.
        overwrite: replace another file at ``out``, when the new one is whole.
        restart: throw away what an earlier call has begun.
        progress: told (users done, users in all) as blocks get done.

    Raises:
        UnknownIdError: users that the data set does not have; all of them.
        DataError: something else is at ``out``, its folder is missing, another batch was begun or is at work there, the
            disk is full, or nobody is asked about.
        CheckpointError, DataError: the run or its data cannot be used (see `panfit.load`).
        MissingExtraError: Ray is not installed.
        PanfitError: workers that cannot do their work.
        ValueError: numbers below 1; a recommender for other processes than this one.
    """
    started = time.monotonic()
    num_workers = 1 if workers is None else workers
    if min(top, block_users, num_workers) < 1:
        raise ValueError(f"wanted top, block_users and workers of at least 1, not {top}, {block_users}, {workers}")
    apart = engine == "ray" or num_workers > 1
    if isinstance(run, Recommender) and (apart or data is not None):
        raise ValueError("a recommender works in this process, on its own data; else name the run folder")
    out = Path(out).absolute()
    _check_place(out)
    recommender = run if isinstance(run, Recommender) else load(run, data=data, allow_changed=allow_changed)
    if source == "composed":
        assert recommender.pan is not None  # a rival is refused
    user_ids = _chosen(recommender.dataset, users)
    job = describe(recommender, user_ids, source=source, top=top)
    folder = partial_folder(out)
    if is_finished(out, job):
        if folder.is_dir():
            remove(folder)  # left by a call that was killed between its last two steps
        return BatchReport(out, len(user_ids), len(user_ids), pq.read_metadata(out).num_rows, _since(started))
    if out.exists() and not overwrite:
        raise DataError(
            f"{out}: another file is there. Replace it (overwrite=True, --overwrite), or name another one (--out)"
        )
    with _room(folder), held(folder):
        blocks = begin(folder, job, user_ids, block_users=block_users, restart=restart)
        missing = [block for block in blocks if not has_part(folder, job, block)]
        found = done = len(user_ids) - sum(len(block.users) for block in missing)
        tell = progress or _tell_nobody
        tell(done, len(user_ids))
        if isinstance(run, Recommender) or not apart:
            finishing = _finish_here(recommender, job, folder, missing)
        else:
            plan = Plan(_absolute(run), None if data is None else _absolute(data), allow_changed, str(folder), job)
            finishing = _finish_apart(plan, missing, engine, workers, ray_address)
        with contextlib.closing(finishing):
            for block in finishing:
                done += len(block.users)
                tell(done, len(user_ids))
        num_rows = assemble(folder, job, blocks, out)
        remove(folder)
    return BatchReport(out, len(user_ids), found, num_rows, _since(started))


Finishing = Generator[Block, None, None]
"""Yields each block when its part is there."""


def _finish_here(recommender: Recommender, job: Job, folder: Path, blocks: list[Block]) -> Finishing:
    if blocks:
        yield from write_here(BlockWriter(recommender, job, folder), blocks)


def _finish_apart(
    plan: Plan, blocks: list[Block], engine: Engine, workers: int | None, ray_address: str | None
) -> Finishing:
    if not blocks:
        return
    if engine == "local":
        yield from write_apart(plan, blocks, workers=workers or 1)
    else:
        from panfit.batch_ray import write_on_ray

        yield from write_on_ray(plan, blocks, workers=workers, address=ray_address)


def _check_place(out: Path) -> None:
    """Raise DataError where no file can be written."""
    if not out.parent.is_dir():
        raise DataError(f"{out}: there is no folder {out.parent}. Make it, or name another file (--out)")
    if out.is_dir():
        raise DataError(f"{out}: a folder is there; wanted a place for a file. Name another one (--out)")


def _chosen(dataset: Dataset, users: Iterable[str] | None) -> list[str]:
    """The ids of those who are asked about, each once, in the data set's order. Raises UnknownIdError, DataError."""
    if users is None:
        return list(dataset.user_ids)
    if isinstance(users, str):
        raise TypeError(f"wanted several user ids, not the one string {users!r}")
    wanted = dict.fromkeys(users)
    unknown = [user for user in wanted if user not in dataset.user_row_of]
    if unknown:
        raise UnknownIdError(
            f"the data set {dataset.name!r} lacks {len(unknown)} of the {len(wanted)} users: "
            f"{', '.join(map(repr, unknown))}"
        )
    if not wanted:
        raise DataError("nobody is asked about: the list of users is empty. Name some, or leave it out for everybody")
    return [user for user in dataset.user_ids if user in wanted]


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A full disk is the user's to mend, and loses nothing. Raises DataError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DataError(f"{folder}: the disk is full: make room and run again; it goes on from where it was") from None


def _absolute(path: str | Path) -> str:
    """For workers, which may work elsewhere."""
    return str(Path(path).absolute())


def _since(started: float) -> float:
    return time.monotonic() - started


def _tell_nobody(done: int, total: int) -> None:
    pass
