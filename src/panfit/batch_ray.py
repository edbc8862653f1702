"""The Ray engine of a batch: the same blocks by the same code, with Ray Data, on a cluster or on this machine.

Each actor reads the run folder once. A part is written whole or not at all, and twice the same, so a worker that is
killed loses nothing: Ray starts another, which does its block again. Never imports train.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from panfit.batch_blocks import BlockWriter, Plan, died, open_writer, told
from panfit.batch_parts import Block
from panfit.errors import PanfitError
from panfit.ray_cluster import begin_try, end_try, map_on_ray


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
        note = Path(self._plan.folder) / f".tries-{block.number}"
        failure = ""
        try:
            if not begin_try(note):
                return died(block)
            self._writer = self._writer or open_writer(self._plan)
            self._writer.write(block)
        except (PanfitError, OSError) as error:
            failure = told(error)
        end_try(note)
        return failure


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
    by_number = {block.number: block for block in blocks}
    pieces = [{"number": block.number, "users": list(block.users)} for block in blocks]
    for row in map_on_ray(WriteBlocks, plan, pieces, workers=workers, address=address):
        yield by_number[row["number"]]
