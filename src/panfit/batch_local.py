"""The local engine of a batch: its blocks written in this process, or in several on this machine.

Never imports train.
"""

import contextlib
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from panfit.batch_blocks import BlockWriter, Plan, died, open_writer, told
from panfit.batch_parts import Block
from panfit.errors import PanfitError
from panfit.ray_cluster import TRIES


def write_here(writer: BlockWriter, blocks: Sequence[Block]) -> Iterator[Block]:
    """Write the parts in this process; yields each block when its part is there."""
    for block in blocks:
        writer.write(block)
        yield block


def write_apart(plan: Plan, blocks: Sequence[Block], *, workers: int) -> Iterator[Block]:
    """Write the parts in processes of their own, each with a model of its own; yields each block when it is there.

    A process that is killed is replaced, and its block is done again.

    Raises:
        PanfitError: what a worker could not do; a block that TRIES workers died of.
    """
    crew: dict[Any, tuple[BaseProcess, Block]] = {}  # by the connection to it
    waiting = deque(blocks)
    deaths: Counter[int] = Counter()
    try:
        while waiting or crew:
            while waiting and len(crew) < workers:
                process, started = _start(plan)
                crew[started] = process, waiting.popleft()
                _send(started, crew[started][1])
            for ready in wait(list(crew)):
                connection: Any = ready
                process, block = crew.pop(connection)
                try:
                    failure = connection.recv()
                except (EOFError, OSError):  # killed: its end of the pipe is closed
                    process.join()
                    connection.close()
                    deaths[block.number] += 1
                    if deaths[block.number] == TRIES:
                        raise PanfitError(died(block)) from None
                    waiting.appendleft(block)
                    continue
                if failure is not None:
                    crew[connection] = process, block
                    raise PanfitError(failure)
                if waiting:
                    crew[connection] = process, waiting.popleft()
                    _send(connection, crew[connection][1])
                else:
                    connection.close()  # it reads the end, and goes
                    process.join()
                yield block
    finally:
        for connection, (process, _) in crew.items():
            process.terminate()  # what it is writing is written aside
            process.join()
            connection.close()


def _start(plan: Plan) -> tuple[BaseProcess, Connection]:
    mine, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(plan, theirs), daemon=True)
    with _deaf_to_interrupts():
        process.start()
    theirs.close()
    return process, mine


def _serve(plan: Plan, connection: Connection) -> None:
    """A worker's life: block in, None or what went wrong out; until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer: BlockWriter | None = None
    with contextlib.suppress(EOFError, OSError):  # the other end is gone
        while True:
            block = connection.recv()
            failure = None
            try:
                writer = writer or open_writer(plan)
                writer.write(block)
            except (PanfitError, OSError) as error:
                failure = told(error)
            connection.send(failure)


def _send(connection: Connection, block: Block) -> None:
    with contextlib.suppress(OSError):  # it was killed a moment ago: reading from it will tell
        connection.send(block)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which a terminal sends to all: whoever started them ends them."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # each start of a process looks after it, and starting it lifts the mask
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
