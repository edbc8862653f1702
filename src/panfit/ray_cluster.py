"""Pieces of work on a Ray cluster, or on one that is started on this machine for a call: with Ray Data's actors.

What a worker was told, did and could not do travels as rows; a killed worker is replaced, and its piece is done again.
Knows nothing of panfit's work.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from panfit.errors import MissingExtraError, PanfitError

OBJECT_STORE_BYTES = 128 << 20
"""Of a cluster for one call: pieces travel through it as numbers and names, never what they are made of."""
TRIES = 3
"""How many workers may die of a piece before it stops the work."""


def map_on_ray(
    worker: type[Any],
    plan: Any,
    pieces: Sequence[Mapping[str, Any]],
    *,
    workers: int | None,
    address: str | None,
    gpus: float = 0,
) -> Iterator[dict[str, Any]]:
    """Have actors do pieces of work; yields what they answer, in the order in which they are done.

    Args:
        worker: ``worker(plan)`` is made once an actor; called with a batch of one piece, it answers a batch of one row,
            whose "failure" is "" or what went wrong.
        plan: told to every actor. Its folders are on a file system that all machines of the cluster share.
        pieces: rows of one form.
        workers: actors; None: one a CPU.
        address: of a running cluster; None: the one that is in use, or RAY_ADDRESS names, or one for this call.
        gpus: that each actor needs.

    Raises:
        MissingExtraError: Ray is not installed.
        PanfitError: the cluster cannot be reached; a failure that a worker tells.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
    # Ray's core prints an error about Ray Data's own actors (ray issue 53727); what matters comes as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray: Any = import_module("ray")  # types are checked alike with and without it
        import_module("ray.data")
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    with _cluster(ray, workers, address), _quiet(ray):
        num_cpus = int(ray.cluster_resources().get("CPU", 1))
        num_workers = min(workers or num_cpus, len(pieces))
        done = ray.data.from_items([dict(piece) for piece in pieces], override_num_blocks=len(pieces)).map_batches(
            worker,
            fn_constructor_args=(plan,),
            batch_size=1,
            # A cluster that is smaller than what was asked for begins with what it has.
            compute=ray.data.ActorPoolStrategy(min_size=min(num_workers, num_cpus), max_size=num_workers),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        try:
            for row in done.iter_rows():
                if row["failure"]:
                    raise PanfitError(row["failure"])
                yield row
        except ray.exceptions.RayError as error:
            raise PanfitError(
                f"the Ray cluster could not finish: {error}. Run the command again: it goes on"
            ) from error


def begin_try(note: Path) -> bool:
    """Whether a piece may be tried once more. The note outlives whoever dies of it; `end_try` when nobody did.

    Ray starts a killed actor and its task again without end.
    """
    with note.open("ab") as file:
        file.write(b".")
        return file.tell() <= TRIES


def end_try(note: Path) -> None:
    """Nobody died of the piece: forget how often it was begun."""
    with contextlib.suppress(OSError):
        note.unlink()


@contextlib.contextmanager
def _cluster(ray: Any, workers: int | None, address: str | None) -> Iterator[None]:
    """The cluster that is in use, or one that is joined or started here and left at the end."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {}
    if address is None and "RAY_ADDRESS" not in os.environ:
        num_cpus = (workers or os.cpu_count() or 1) + 1  # one for Ray Data itself
        address = "local"  # without it, Ray would join whatever cluster it finds traces of
        options = {"num_cpus": num_cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PanfitError(f"no Ray cluster: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Without Ray Data's own bars and notes: the command has its own."""
    context = ray.data.DataContext.get_current()
    shown = context.enable_progress_bars, context.print_on_execution_start
    logger = logging.getLogger("ray.data")
    level = logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = shown
        logger.setLevel(level)
