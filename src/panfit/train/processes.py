"""Several processes that train together: which of them this one is, how they are started, and how they all end.

`torchrun` starts them on several machines, `run_together` on this one; either way a process reads its place from
torchrun's environment variables. `run_together` works from a command, a script, a notebook and a test, for it starts
fresh interpreters and calls a function in each (a script guards its own start with ``if __name__ == "__main__"``).
One that fails ends the others: its error is raised here.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from panfit import errors
from panfit.config import TrainConfig
from panfit.errors import DataError, PanfitError, TrainingError
from panfit.train.distributed import ALONE, LostProcess, Ranks
from panfit.train.progress import StopRequest

SILENCE = timedelta(minutes=30)
"""How long a process waits in a step for another that says nothing, before it gives up."""
GRACE_S = 15.0
"""What is left to the others, once a process has failed, to find out and to end by themselves."""
LOOK_EVERY_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where this process stands: alone, unless somebody started it as one of several.

    Attributes:
        rank, size: among all processes.
        local_rank, local_size: among those of its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> "Place":
        """What torchrun, or `run_together`, says in the environment."""
        if not dist.is_available() or not dist.is_torchelastic_launched():
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))


def place_for(devices: int, config: TrainConfig) -> Place:
    """This process's place. Raises TrainingError for ``devices`` that are not there, or that torchrun contradicts."""
    if devices < 1:
        raise ValueError(f"devices must be at least 1, not {devices}")
    place = Place.here()
    if place.size > 1 and devices not in (1, place.local_size):
        raise TrainingError(
            f"torchrun started {place.local_size} processes on this machine, and devices says {devices}: leave it out"
        )
    num_processes = max(devices, place.local_size)
    num_gpus = torch.cuda.device_count() if config.accelerator != "cpu" else 0
    if num_processes > 1 and 0 < num_gpus < num_processes:
        raise TrainingError(
            f"{num_processes} processes train on a GPU each, and this machine has {num_gpus}: start {num_gpus}, "
            'or set train.accelerator = "cpu"'
        )
    return place


def join(place: Place, config: TrainConfig) -> tuple[Fabric, Ranks]:
    """Fabric, launched, and this process among the others; waits until all are there.

    They stay connected until they end: what trains next in the same processes finds the others there.

    Raises:
        LostProcess: they do not all come.
    """
    if place.size == 1:
        return Fabric(accelerator=config.accelerator, devices=1, precision=config.precision), ALONE
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), timeout=SILENCE)
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=place.local_size,
        num_nodes=place.size // place.local_size,
        precision=config.precision,
        strategy=strategy,
    )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process
    fabric.launch()
    return fabric, Ranks(place.rank, place.size, local_rank=place.local_rank)


@dataclass(frozen=True)
class _Returned:
    """What a process sends when it is done."""

    result: Any


@dataclass(frozen=True)
class _Raised:
    """What a process sends when it is not: an error may not survive the journey, its name and its text do."""

    kind: str
    message: str
    told: str

    def again(self) -> Exception:
        """An error of panfit's as it was; any other as a RuntimeError with the process's traceback."""
        if self.kind == LostProcess.__name__:
            return LostProcess(self.message)
        if self.kind == DataError.__name__:
            return DataError(self.message)
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, PanfitError):
            return kind.__new__(kind, self.message)  # without its __init__, which would make the message anew
        return RuntimeError(f"in one of the processes that train together:\n{self.told}")


def run_together(work: Callable[[], T], num_processes: int) -> T:
    """Call ``work`` in ``num_processes`` new processes of this machine, each of which knows its place.

    The first Ctrl-C or SIGTERM here asks all of them to stop, as it asks one process that trains alone; the second ends
    them.

    Args:
        work: can be pickled: a function of a module, or a partial of one.
        num_processes: at least 1.

    Returns:
        what it returned in process 0.

    Raises:
        PanfitError: the first that a process raised of its own accord, its text alone.
        RuntimeError: any other error, with that process's traceback.
        TrainingError: a process was killed; or this is the start of one, by a script without a guard.
        KeyboardInterrupt: they were asked to stop.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise TrainingError(
            "a new process reads your script again, and comes here again: put what starts the training under "
            '`if __name__ == "__main__":`'
        )
    # Here they find one another. A name that torch exports, and does not declare.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    ends: list[Connection] = []
    with StopRequest() as stop:
        try:
            for rank in range(num_processes):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(rank, num_processes, store.port, work, sender), name=f"panfit-{rank}"
                )
                process.start()
                sender.close()
                processes.append(process)
                ends.append(receiver)
            outcomes = _watch(processes, ends, stop)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
                process.join()
    found: T = _judge(outcomes, [process.exitcode for process in processes], asked=stop.asked)
    return found


def _watch(processes: Sequence[SpawnProcess], ends: Sequence[Connection], stop: StopRequest) -> list[Any]:
    """What each process sent when it ended, None where nothing; passes a request to stop on; does not wait for ever."""
    outcomes: list[Any] = [None] * len(processes)
    deadline, told = float("inf"), False
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        wait([process.sentinel for process in processes if process.is_alive()], timeout=LOOK_EVERY_S)
        outcomes = [_received(end, before) for end, before in zip(ends, outcomes, strict=True)]
        if any(process.exitcode for process in processes):
            deadline = min(deadline, time.monotonic() + GRACE_S)
        if stop.asked and not told:
            told = True
            for process in processes:
                process.terminate()
    return [_received(end, before) for end, before in zip(ends, outcomes, strict=True)]


def _received(end: Connection, before: Any) -> Any:
    try:
        return end.recv() if before is None and end.poll() else before
    except EOFError:  # it ended without a word
        return before


def _judge(outcomes: list[Any], exit_codes: list[int | None], *, asked: bool = False) -> Any:
    """Process 0's result, or the error that began it all; ``asked``: whether they were asked to stop."""
    raised = [outcome for outcome in outcomes if isinstance(outcome, _Raised)]
    own = [each for each in raised if each.kind not in (LostProcess.__name__, KeyboardInterrupt.__name__)]
    if own:
        raise own[0].again()
    silent = [rank for rank, outcome in enumerate(outcomes) if outcome is None]
    if any(each.kind == KeyboardInterrupt.__name__ for each in raised) or (silent and asked):
        raise KeyboardInterrupt  # also where they ended before they could listen
    if silent:
        rank = next((each for each in silent if (exit_codes[each] or 0) < 0), silent[0])
        code = exit_codes[rank] or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise TrainingError(
            f"process {rank} of {len(outcomes)} {how} and took the others with it (out of memory?); "
            "the last saved state is whole: --resume goes on from it"
        )
    if raised:
        raise raised[0].again()
    return outcomes[0].result


def _work(rank: int, size: int, port: int, work: Callable[[], Any], end: Connection) -> None:
    """A new process: take the place, do the work, send (error, None) or (None, result)."""
    if hasattr(os, "setsid"):
        os.setsid()  # a Ctrl-C goes to the process that started this one, which passes it on, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "panfit",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # not the name of this machine, which may lead elsewhere
    outcome: _Returned | _Raised
    try:
        outcome = _Returned(work())
    except BaseException as error:
        outcome = _Raised(type(error).__name__, str(error), "".join(traceback.format_exception(error)))
    end.send(outcome)
    end.close()
    if isinstance(outcome, _Raised):
        os._exit(1)  # no exit handler may wait for processes that are gone


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
