"""The Ray engine of a batch: the same blocks by the same code, with Ray Data, on a cluster or on this machine.

Each actor reads the run folder once. A part is written whole or not at all, and twice the same, so a worker that is
killed loses nothing: Ray starts another, which does its block again. Never imports train.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from panfit.batch_blocks import TRIES, BlockWriter, Plan, died, open_writer, told
from panfit.batch_parts import Block
from panfit.errors import MissingExtraError, PanfitError

OBJECT_STORE_BYTES = 128 << 20
"""Of a cluster for one call: only block numbers and user ids travel through it."""


class WriteBlocks:
    """What a Ray actor does: rows of a block -> which block, and what went wrong ("" if nothing).

    The run is read with the first block and not in the constructor, so that a mistake comes back as an answer.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._writer: BlockWriter | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        numbers = [int(number) for number in batch["number"]]
        blocks = [
            Block(*each) for each in zip(numbers, (tuple(map(str, users)) for users in batch["users"]), strict=True)
        ]
        return {"number": numbers, "failure": [self._write(block) for block in blocks]}

    def _write(self, block: Block) -> str:
        # Ray starts a killed actor and its task again without end. The note outlives whoever dies of the block.
        note = Path(self._plan.folder) / f".tries-{block.number}"
        try:
            with note.open("ab") as file:
                file.write(b".")
                tries = file.tell()
            if tries > TRIES:
                return died(block)
            self._writer = self._writer or open_writer(self._plan)
            self._writer.write(block)
            note.unlink(missing_ok=True)
        except (PanfitError, OSError) as error:
            return told(error)
        return ""


def write_on_ray(plan: Plan, blocks: Sequence[Block], *, workers: int | None, address: str | None) -> Iterator[Block]:
    """Write the parts on a Ray cluster; yields each block when its part is there.

    Args:
        plan: its folders are on a file system that all machines of the cluster share.
        blocks: what to write.
        workers: actors; None: one a CPU.
        address: of a running cluster; None: the one that is in use, or RAY_ADDRESS names, or one for this call.

    Raises:
        MissingExtraError: Ray is not installed.
        PanfitError: the cluster cannot be reached; what a worker could not do; a block that workers died of.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
    try:
        ray: Any = import_module("ray")  # types are checked alike with and without it
        import_module("ray.data")
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    by_number = {block.number: block for block in blocks}
    with _cluster(ray, workers, address), _quiet(ray):
        num_cpus = int(ray.cluster_resources().get("CPU", 1))
        num_workers = min(workers or num_cpus, len(blocks))
        rows = [{"number": block.number, "users": list(block.users)} for block in blocks]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            WriteBlocks,
            fn_constructor_args=(plan,),
            batch_size=1,
            # A cluster that is smaller than what was asked for begins with what it has.
            compute=ray.data.ActorPoolStrategy(min_size=min(num_workers, num_cpus), max_size=num_workers),
            num_cpus=1,
        )
        try:
            for row in done.iter_rows():
                if row["failure"]:
                    raise PanfitError(row["failure"])
                yield by_number[row["number"]]
        except ray.exceptions.RayError as error:
            raise PanfitError(
                f"the Ray cluster could not finish: {error}. Run the command again: it goes on"
            ) from error


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
