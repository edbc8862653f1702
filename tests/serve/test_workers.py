"""The parent of several processes: keeps their number, replaces them without a refused request, ends them all."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serve.process import ROOT, SECONDS

Parent = tuple["subprocess.Popen[str]", int, Path]


@contextmanager
def parent(mark: Path, number: int) -> Iterator[Parent]:
    """(process, port, mark) of a light service."""
    mark.touch()
    command = [sys.executable, "-m", "tests.serve.light_service", str(mark), str(number)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline()), mark
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=SECONDS)


def answer(port: int) -> int:
    """The process id of whoever answers. Waits for him."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        return int(client.recv(100))


def until(port: int, wanted: int, others: set[int] = frozenset()) -> set[int]:  # type: ignore[assignment]
    """So many that answer, none of the others among them."""
    found: set[int] = set()
    end = time.monotonic() + SECONDS
    while len(found) < wanted:
        assert time.monotonic() < end, found
        found |= {answer(port)} - others
    return found


def is_gone(process: int) -> bool:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_one_that_dies_is_replaced(tmp_path: Path) -> None:
    with parent(tmp_path / "mark", 2) as (process, port, _):
        workers = until(port, 2)
        os.kill(min(workers), signal.SIGKILL)
        assert until(port, 2, {min(workers)}) > {max(workers)}
        process.send_signal(signal.SIGTERM)
        said, told = process.communicate(timeout=SECONDS)
        assert (said, process.returncode) == ("SIGTERM\n", 0)
        assert f"worker {min(workers)} died (status -9)" in told
        assert all(map(is_gone, workers))


def test_one_that_dies_at_once_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("crash", "utf-8")
    with parent(tmp_path / "mark", 1) as (process, port, mark):
        assert answer(port) != process.pid
        assert mark.read_text("utf-8") == ""


def test_all_are_replaced_one_by_one_and_nobody_is_refused(tmp_path: Path) -> None:
    with parent(tmp_path / "mark", 2) as (process, port, _):
        old = until(port, 2)
        process.send_signal(signal.SIGHUP)
        new = until(port, 2, old)  # every one of its connections is answered
        assert all(map(is_gone, old))
        assert not new & old
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS)[0] == "SIGINT\n"


def test_a_replacement_that_cannot_start_leaves_the_old_ones(tmp_path: Path) -> None:
    with parent(tmp_path / "mark", 2) as (process, port, mark):
        old = until(port, 2)
        mark.write_text("mistake", "utf-8")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert "a new worker could not start (status 3); the old ones go on" in process.stderr.readline()
        assert until(port, 2) == old


def test_a_mistake_that_all_would_make_ends_it(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("mistake", "utf-8")
    with parent(tmp_path / "mark", 3) as (process, _, _):
        _, told = process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert told == "error: a worker could not start; what kept it from it stands above\n"


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anybody_serves_ends_it_too(tmp_path: Path, sig: signal.Signals) -> None:
    with parent(tmp_path / "mark", 2) as (process, port, _):
        answer(port)
        process.send_signal(sig)
        assert process.communicate(timeout=SECONDS)[0] == f"{sig.name}\n"
