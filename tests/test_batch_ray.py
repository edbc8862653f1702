"""The Ray engine makes the local engine's bytes, on a real cluster of two workers, one of them killed on the way."""

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

import numpy as np
import pytest

from panfit.batch import recommend_all
from panfit.batch_blocks import Plan, describe
from panfit.batch_parts import Block, has_part
from panfit.batch_ray import WriteBlocks
from panfit.errors import MissingExtraError
from panfit.loading import load
from tests.batch_run import make_run

NUM_USERS = 61

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not Path("/proc/self/stat").exists(),
    reason="Ray is not installed, or there is no /proc to find its workers in",
)

DRIVER = """
import json, os, signal, sys, threading, time
from pathlib import Path

seen, killed = set(), []
run, out, cwd = sys.argv[1:]


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def workers():
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"MapWorker" in (entry / "cmdline").read_bytes() and parent(parent(entry.name)) == os.getpid():
                yield int(entry.name)
        except (OSError, IndexError):
            pass  # it has just ended


def watch():
    while True:
        there = set(workers())
        seen.update(there)
        parts = len(list(Path(out + ".partial").glob("[0-9]*.parquet")))
        if parts and there and not killed:
            killed.extend([min(there), parts])
            os.kill(killed[0], signal.SIGKILL)
            before.update(seen)
        time.sleep(0.01)


if __name__ == "__main__":
    from panfit.batch import recommend_all

    before = set()
    os.chdir(cwd)  # workers work elsewhere: relative paths are ours
    threading.Thread(target=watch, daemon=True).start()
    done = []
    report = recommend_all(
        os.path.relpath(run), os.path.relpath(out), top=3, source="composed", engine="ray", workers=2, block_users=1,
        progress=lambda users, total: done.append(users),
    )
    import ray

    print(json.dumps({
        "rows": report.rows, "done": done, "killed": killed, "new": sorted(seen - before),
        "left": ray.is_initialized(),
    }))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("ray"), num_users=NUM_USERS)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For Ray's sockets, whose paths may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@needs_ray
def test_a_killed_worker_loses_nothing_and_changes_nothing(run: Path, tmp_path: Path, short_folder: Path) -> None:
    out, straight = tmp_path / "recs.parquet", tmp_path / "straight.parquet"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, "utf-8")
    environment = os.environ | {
        "RAY_TMPDIR": str(short_folder),
        "HOME": str(short_folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    driver = subprocess.Popen(
        [sys.executable, str(script), str(run), str(out), str(tmp_path)],
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
    report = json.loads(shown.splitlines()[-1])
    _, parts_then = report["killed"]
    assert 1 <= parts_then < NUM_USERS, "the worker was not killed in the middle"
    assert report["new"], "no worker took the killed one's place"
    assert report["done"] == list(range(NUM_USERS + 1))
    assert not report["left"]
    recommend_all(run, straight, top=3, source="composed")
    assert out.read_bytes() == straight.read_bytes()
    assert not Path(f"{out}.partial").exists()


def test_without_ray_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ray is not installed.*panfit\[ray\]"):
        recommend_all(run, tmp_path / "recs.parquet", engine="ray")


def make_plan(run: Path, folder: Path, **other: str) -> Plan:
    job = describe(load(run), ["u0", "u1", "u2"], source="known", top=2).model_copy(update=other)
    return Plan(str(run), None, False, str(folder), job)


def test_an_actor_writes_parts(run: Path, tmp_path: Path) -> None:
    plan = make_plan(run, tmp_path)
    batch = {"number": np.array([4, 7]), "users": np.array([["u0", "u1"], ["u2", "u5"]])}
    assert WriteBlocks(plan)(batch) == {"number": [4, 7], "failure": ["", ""]}
    assert has_part(tmp_path, plan.job, Block(4, ("u0", "u1")))
    assert has_part(tmp_path, plan.job, Block(7, ("u2", "u5")))
    assert not has_part(tmp_path, plan.job, Block(7, ("u2", "u0")))
    assert len(list(tmp_path.iterdir())) == 2


def test_an_actor_tells_what_went_wrong(run: Path, tmp_path: Path) -> None:
    batch = {"number": np.array([4]), "users": np.array([["u0", "u1"]])}
    (failure,) = WriteBlocks(make_plan(run, tmp_path, model="other"))(batch)["failure"]
    assert "has changed since the batch was started" in failure
    (failure,) = WriteBlocks(make_plan(run, tmp_path / "none"))(batch)["failure"]
    assert "No such file" in failure


def test_a_block_that_actors_die_of_is_given_up(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(run, tmp_path)
    batch = {"number": np.array([4]), "users": np.array([["u0", "u1"]])}

    def die(plan: Plan) -> None:
        raise KeyboardInterrupt  # what nobody catches, as a kill

    monkeypatch.setattr("panfit.batch_ray.open_writer", die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            WriteBlocks(plan)(batch)
    (failure,) = WriteBlocks(plan)(batch)["failure"]
    assert "3 workers died of block 4 (users 'u0' to 'u1')" in failure
