"""Timing in turns, the machine's own rates, and memory."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

PRODUCT_SIDE, COPY_BYTES = 2048, 1 << 29
WATCH_EVERY_S = 0.02

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: Mapping[str, Work], *, rounds: int) -> dict[str, float]:
    """Name -> the best seconds of so many calls; one call of each in every round, so that all see the same machine."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            best[name] = min(best[name], seconds(work))
    return best


def machine(dtype: torch.dtype = torch.float32, *, side: int = PRODUCT_SIDE, rounds: int = 4) -> dict[str, float]:
    """What torch's threads can do here, the best of what was seen.

    Returns:
        giga_multiply_adds_per_s: of a large matrix product in ``dtype``; copied_gb_per_s: of a large copy.
    """
    factor = torch.ones(side, side, dtype=dtype)
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    best = in_turns({"product": lambda: factor @ factor, "copy": lambda: target.copy_(source)}, rounds=rounds)
    return {
        "giga_multiply_adds_per_s": round(side**3 / best["product"] / 1e9, 2),
        "copied_gb_per_s": round(COPY_BYTES / best["copy"] / 1e9, 2),
    }


def multiply_adds(work: Work) -> int:
    """Of the matrix products and convolutions in one call, backward passes included."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops()) // 2


@contextmanager
def watched_memory() -> Iterator[dict[str, float]]:
    """Fills in "mb", the most anonymous memory of this process meanwhile; nothing outside Linux.

    Files that are mapped are not counted: the system can drop their pages.
    """
    seen: dict[str, float] = {}
    done = threading.Event()

    def watch() -> None:
        while True:
            found = anonymous_mb()
            if found is not None:
                seen["mb"] = round(max(seen.get("mb", 0.0), found), 1)
            if done.wait(WATCH_EVERY_S):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def anonymous_mb() -> float | None:
    """Anonymous memory of this process, MB; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) / 1024 if found else None


def digits(values: Mapping[str, float], places: int = 5) -> dict[str, Any]:
    """The same numbers with so many decimals."""
    return {name: round(value, places) for name, value in values.items()}
