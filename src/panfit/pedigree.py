"""Where a result comes from: the code's commit, the hardware, the hour. Imports the standard library and torch."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

NOT_CODE = (":(top,exclude)results", ":(top,exclude)docs", ":(top,exclude)*.md")
"""Changes there do not make a result another one."""


def pedigree(folder: str | Path = Path(__file__).parent) -> dict[str, Any]:
    """What a result file says about its making.

    Args:
        folder: of the code, inside a git checkout or not.

    Returns:
        commit: of the checkout that tracks the code, or None outside one; dirty: whether code was changed since, or
        None; hardware: system, processor, cores, threads, gpu, and the versions of python and torch; peak_mb: peak
        memory of this process so far, or None where the system does not tell; created_at: ISO 8601, UTC.
    """
    commit = _git(folder, "rev-parse", "HEAD") if _git(folder, "ls-files", "*.py") else None
    changes = None if commit is None else _git(folder, "status", "--porcelain", "--", ":/", *NOT_CODE)
    return {
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "hardware": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "peak_mb": peak_mb(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_mb() -> float | None:
    """Peak memory of this process so far, MB; None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def _git(folder: str | Path, *arguments: str) -> str | None:
    """What git says about a folder; None without git, or outside a checkout."""
    try:
        done = subprocess.run(["git", "-C", os.fspath(folder), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """The processor's model as Linux tells it, else what platform knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
