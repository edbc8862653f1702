"""A process that works on a real cluster of two Ray workers, one of which is killed on the way."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not Path("/proc/self/stat").exists(),
    reason="Ray is not installed, or there is no /proc to find its workers in",
)

WATCH = """
import json, os, signal, sys, threading, time
from pathlib import Path

seen, killed, before = set(), [], set()


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def workers():
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"MapWorker" in (entry / "cmdline").read_bytes() and parent(parent(entry.name)) == os.getpid():
                yield int(entry.name)
        except (OSError, IndexError):
            pass  # it has just ended


def watch(done):  # kill a worker when something, but not everything, is done
    while True:
        there = set(workers())
        seen.update(there)
        so_far = done()
        if so_far and there and not killed:
            killed.extend([min(there), so_far])
            os.kill(killed[0], signal.SIGKILL)
            before.update(seen)
        time.sleep(0.01)


def tell(**found):
    import ray

    print(json.dumps({**found, "killed": killed, "new": sorted(seen - before), "left": ray.is_initialized()}))
"""


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    """For Ray's sockets, whose paths may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def drive(work: str, folder: Path, *arguments: Path) -> dict[str, Any]:
    """Run a script that starts with `WATCH`, and goes on with ``work``; what it tells."""
    script = folder / "driver.py"
    script.write_text(f"{WATCH}\n{work}", "utf-8")
    with _short_folder() as short:
        environment = os.environ | {
            "RAY_TMPDIR": str(short),
            "HOME": str(short),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        driver = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={name: value for name, value in environment.items() if name != "RAY_ADDRESS"},
        )
        try:
            shown, told = driver.communicate(timeout=150)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing is left of it, unless it hung
                os.killpg(driver.pid, signal.SIGKILL)
    assert driver.returncode == 0, told
    report: dict[str, Any] = json.loads(shown.splitlines()[-1])
    assert not report["left"], "the cluster still runs"
    return report
