"""Runs a command and watches it from outside: seconds, processor seconds, and its greatest memory."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WATCH_EVERY_S = 0.02


@dataclass(frozen=True)
class Measured:
    """What a process took.

    Attributes:
        wall_s, cpu_s: seconds of the clock, and of all processors, its children's included.
        peak_mb: the most memory that it held at once, pages of mapped files included; None outside Linux.
        anonymous_mb: the most that the system could not drop: beside the page cache; None outside Linux.
        output: what it wrote to stdout.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float | None
    anonymous_mb: float | None
    output: str


class StageError(Exception):
    """A stage's process failed."""


def watch(command: Sequence[str], *, folder: Path, errors: Path) -> Measured:
    """Run a command to its end.

    Args:
        command: its words.
        folder: where it works.
        errors: takes what it writes to stderr.

    Raises:
        StageError: it failed; says the last of its stderr.
    """
    output = errors.with_suffix(".out")
    with errors.open("wb") as err, output.open("wb") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)
        peak = anonymous = None
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            seen = _memory(process.pid)
            peak, anonymous = _larger(peak, seen.get("VmHWM")), _larger(anonymous, seen.get("RssAnon"))
            time.sleep(WATCH_EVERY_S)
        wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = errors.read_text("utf-8", errors="replace")[-3000:]
        raise StageError(f"exit {process.returncode}: {' '.join(command)}\n{last}")
    return Measured(
        wall_s=round(wall_s, 3),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
        peak_mb=peak,
        anonymous_mb=anonymous,
        output=output.read_text("utf-8"),
    )


def _memory(pid: int) -> dict[str, float]:
    """VmHWM and RssAnon of a process, MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return {}
    cells = [line.split() for line in lines if line.startswith(("VmHWM:", "RssAnon:"))]
    return {cell[0].rstrip(":"): round(int(cell[1]) / 1024, 1) for cell in cells}


def _larger(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)
