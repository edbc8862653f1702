"""How long after it is started again does `panfit serve RUN` answer, and `panfit recommend RUN` print?

The run is copied, and each command runs once before the clock starts: that start writes what later ones find (decoded
photos, one user's table of codes, what newcomers are compared with, the database, compiled modules). Then so many
restarts, one after the other. ``ready_s`` ends with the first 200 of GET /ready, ``answer_s`` with the first
recommendations that are asked for right then. CPU seconds are of the process and all its threads, until it is ready.

    .venv/bin/python -m benchmarks.ready --run RUN --data DATA
                                                            writes results/benchmarks/ready.json

Wall-clock seconds, so nothing else should run; the system's load before each start is in the result. Linux only.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
STARTS = 5
TARGET_S = 5.0
"""Until the service is ready; the median of the restarts is held against it."""
LONGEST_S = 300.0
PAUSE_S = 0.05
"""Between two questions whether it is ready: each costs the process some milliseconds."""
NOT_COPIED = "last", "state.safetensors", "codes", "likes.db*"
COMMAND = sys.executable, "-m", "panfit"


def environment() -> dict[str, str]:
    """As a shop has it: compiled modules are kept."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def status(port: int, path: str) -> int:
    """Of a GET; 0 where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def cpu_seconds(process: int) -> float:
    """What a process has used so far, in user and in system mode."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve_once(run: Path, data: Path, user: str) -> dict[str, float]:
    """One start of the service, until it has answered; then its end."""
    port = free_port()
    load = os.getloadavg()[0]
    start = time.perf_counter()
    server = subprocess.Popen(
        [*COMMAND, "serve", str(run), "--data", str(data), "--port", str(port)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while status(port, "/ready") != 200:
            if server.poll() is not None or time.perf_counter() - start > LONGEST_S:
                raise SystemExit("the service did not come up; start it by hand to see why")
            time.sleep(PAUSE_S)
        ready_s, cpu_s = time.perf_counter() - start, cpu_seconds(server.pid)
        if (found := status(port, f"/v1/recommendations?user={quote(user, safe='')}")) != 200:
            raise SystemExit(f"asked for {user!r}'s recommendations, the service says {found}")
        answer_s = time.perf_counter() - start
    finally:
        server.terminate()
        server.wait(60)
    return {"ready_s": ready_s, "cpu_s": cpu_s, "answer_s": answer_s, "load_before": load}


def recommend_once(run: Path, data: Path, user: str) -> dict[str, float]:
    """One run of the command."""
    load = os.getloadavg()[0]
    before, start = os.times(), time.perf_counter()
    subprocess.run(
        [*COMMAND, "recommend", str(run), "--data", str(data), "--user", user, "--json"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    wall, after = time.perf_counter() - start, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": wall, "cpu_s": cpu_s, "load_before": load}


def told(starts: list[dict[str, float]]) -> dict[str, Any]:
    """Each start, and the medians."""
    medians = {name: round(statistics.median(each[name] for each in starts), 2) for name in starts[0]}
    return {
        "median": medians,
        "each": [{name: round(value, 2) for name, value in each.items()} for each in starts],
    }


def measure(run: Path, data: Path, starts: int) -> dict[str, Any]:
    """All figures, of a copy of the run."""
    from panfit.data.folder import read_dataset

    dataset = read_dataset(data)
    user = dataset.user_ids[0]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        first = serve_once(copy, data, user)
        served = told([serve_once(copy, data, user) for _ in range(starts)])
        recommend_once(copy, data, user)
        recommended = told([recommend_once(copy, data, user) for _ in range(starts)])
    ready_s = served["median"]["ready_s"]
    return {
        "case": f"panfit serve, started again: {len(dataset.user_ids)} users, {len(dataset.catalogue):,} items; "
        "seconds until it is ready",
        "ratio_to_plain": None,
        "share_of_ceiling": None,
        "target": None,
        "ready_s": ready_s,
        "target_ready_s": TARGET_S,
        "is_met": ready_s < TARGET_S,
        "served": served,
        "recommended": recommended,
        "first_start": {name: round(value, 2) for name, value in first.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "ready.json")
    options = parser.parse_args()
    if options.starts < 1:
        parser.error("--starts must be at least 1")
    content = measure(options.run, options.data, options.starts)
    from panfit.pedigree import pedigree  # it brings torch, which would take memory from what is measured

    content |= pedigree()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
