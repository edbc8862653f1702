"""The service under load: how many recommendations and completions a second, against the library asked one at a time?

A server process (uvicorn, the app of `panfit serve`, one worker), a process of clients that each wait for their answer
and ask again (asyncio, plain sockets), and before them a process that asks the library the same questions. Loopback
only. Users, their tops and the given items are drawn with a seed, from all users and all known outfits, so that few
questions come twice; users' code tables are made before the clock starts. Three configurations of the same server:

    default     as `panfit serve` is: a person's ranking of the known outfits is kept, and so are answers
    no-answers  rankings are kept, answers are not
    nothing     nothing is kept

    .venv/bin/python -m benchmarks.serving --run RUN --data DATA --codes FOLDER --minutes 5
                                                            writes results/benchmarks/serving.json

The rate limit is raised out of the way; all else is as it is by default. The target is judged on "default".

Of each measurement it is told how large the model's batches were, and what a request cost the server: its event loop
(HTTP, JSON) and its other threads (the model), in milliseconds of CPU. They share an interpreter, so that these add up.
"ceiling" is what the server could answer if the model cost nothing: GET /health, and a completion whose answer is kept.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import asyncio
import itertools
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLIENTS, MOST_CLIENTS = (1, 8, 32), 32
KINDS = ("recommend", "complete", "both")
CEILINGS = ("health", "kept")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-answers": {"answers_bytes": 0},
    "nothing": {"answers_bytes": 0, "rankings_bytes": 0},
}
TARGET_RATIO, TARGET_GROWTH = 4.0, 0.05
START_S, ANSWER_S = 300.0, 60.0
MOST_QUESTIONS = 2_000_000


@dataclass(frozen=True)
class Shop:
    """What questions are drawn from: ids of users, of slots, of known outfits."""

    users: list[str]
    slots: list[str]
    outfits: list[list[str | None]]


@dataclass(frozen=True)
class Question:
    """One of the two; ``given`` is None in a recommendation. Nobody's: whether the server lives."""

    user: str | None
    top: int
    given: dict[str, str] | None

    def request(self) -> bytes:
        if self.user is None:
            return b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        if self.given is None:
            query = f"user={quote(self.user, safe='')}&top={self.top}"
            return f"GET /v1/recommendations?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        body = json.dumps({"user": self.user, "given": self.given, "top": self.top}).encode()
        head = "POST /v1/complete HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def draw(shop: Shop, kind: str, seed: int) -> Iterator[Question]:
    """Questions without end, of one kind or of both in turn; or the same again and again."""
    if kind == "health":
        yield from itertools.repeat(Question(None, 0, None))
    if kind == "kept":
        yield from itertools.repeat(next(draw(shop, "complete", 0)))
    rng = np.random.default_rng(seed)
    for number in range(MOST_QUESTIONS):
        user, top = shop.users[int(rng.integers(len(shop.users)))], int(rng.integers(1, 21))
        outfit = shop.outfits[int(rng.integers(len(shop.outfits)))]
        left_out = int(rng.integers(len(shop.slots)))
        worn = {slot: item for slot, item in zip(shop.slots, outfit, strict=True) if item is not None}
        given = {slot: item for slot, item in worn.items() if slot != shop.slots[left_out]}
        is_completion = kind == "complete" or (kind == "both" and number % 2 == 1)
        yield Question(user, top, given if is_completion else None)


def load_recommender(options: argparse.Namespace) -> Any:
    from panfit.loading import load

    return load(options.run, data=options.data, cache=options.codes.resolve())


def ask_the_library(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: tables made, then questions one at a time. Times in ms, rates a second."""
    from panfit.serve.queries import Complete, Recommend

    recommender = load_recommender(options)
    catalogue = recommender.dataset.catalogue
    shop = Shop(
        list(recommender.dataset.user_ids)[: options.users],
        [slot.name for slot in recommender.dataset.slots],
        [list(catalogue.ids(row)) for row in recommender.candidates.tolist()],
    )
    for user in shop.users:
        recommender.complete(user, {shop.slots[0]: next(each[0] for each in shop.outfits if each[0] is not None)})
    found: dict[str, Any] = {"shop": shop, "items": len(catalogue)}
    for kind in KINDS:
        times: list[float] = []
        end = time.perf_counter() + options.seconds
        for question in draw(shop, kind, seed=1):
            assert question.user is not None
            query = (
                Recommend(question.user, question.top)
                if question.given is None
                else Complete(question.user, tuple(question.given.items()), question.top)
            )
            start = time.perf_counter()
            query.answer(recommender)
            times.append(time.perf_counter() - start)
            if time.perf_counter() > end and len(times) >= 20:
                break
        found[kind] = summary(times, sum(times))
    return found


def summary(times: list[float], seconds: float) -> dict[str, Any]:
    """Of n answers that came in so many seconds. Raises SystemExit where none did."""
    if not times:
        raise SystemExit("nothing was answered")
    milliseconds = np.array(times) * 1e3  # (n,)
    return {
        "requests": len(times),
        "per_second": round(len(times) / seconds, 1),
        "median_ms": round(float(np.median(milliseconds)), 2),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
    }


def serve(options: argparse.Namespace) -> None:
    """The server's process, until it is told to stop."""
    import uvicorn

    from panfit.serve.app import create_app
    from panfit.serve.engine import Engine
    from panfit.serve.settings import Limits, ServeConfig

    limits = Limits(requests_per_minute=100_000_000, burst=10_000_000)
    config = ServeConfig(database=f"sqlite:///{options.database}", limits=limits)
    with patch("panfit.serve.app.Engine", partial(Engine, **CONFIGURATIONS[options.serve])):
        app = create_app(load_recommender(options), config)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


async def converse(
    port: int, questions: Iterator[Question], until: float, times: list[float], errors: list[str]
) -> None:
    """One client: a connection that is kept, a question after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            start = time.perf_counter()
            writer.write(next(questions).request())
            async with asyncio.timeout(ANSWER_S):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                (length,) = (int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
                body = await reader.readexactly(length)
            if b" 200 " in lines[0]:  # a refusal is quick, and is no answer
                times.append(time.perf_counter() - start)
            else:
                errors.append(f"{lines[0].decode()}: {body[:200].decode()}")
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        errors.append(repr(error))
    finally:
        writer.close()


def press(port: int, shop: Shop, kind: str, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """In a process of its own: so many clients for so many seconds; they cost ``client_cpu_share`` of a core."""
    times: list[float] = []
    errors: list[str] = []

    async def everybody() -> None:
        until = time.perf_counter() + seconds
        drawn = [draw(shop, kind, seed=1000 * seed + client) for client in range(clients)]
        await asyncio.gather(*(converse(port, questions, until, times, errors) for questions in drawn))

    start, start_cpu = time.perf_counter(), time.process_time()
    asyncio.run(everybody())
    took = time.perf_counter() - start
    cpu = (time.process_time() - start_cpu) / took
    if errors:
        print(f"{len(errors)} errors, the first: {errors[0]}", file=sys.stderr, flush=True)
    return summary(times, took) | {"errors": len(errors), "first_error": errors[:1], "client_cpu_share": round(cpu, 2)}


def resident_mb(process: int) -> float:
    """Memory that a process holds now, Linux."""
    lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    (held,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return held / 1024


def cpu_seconds(process: int) -> tuple[float, float]:
    """CPU of a process's main thread, and of its others, Linux."""
    of_thread = {}
    for folder in Path(f"/proc/{process}/task").iterdir():
        fields = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()
        of_thread[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return of_thread[process], sum(of_thread.values()) - of_thread[process]


def get(port: int, path: str) -> tuple[int, str]:
    """The status and body of a GET; 0 where nobody listens."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except OSError:
        return 0, ""
    finally:
        connection.close()


def batches(port: int) -> tuple[float, float]:
    """How many questions the model was asked, and in how many batches."""
    told = dict(line.rpartition(" ")[::2] for line in get(port, "/metrics")[1].splitlines())
    return float(told["panfit_batch_size_sum"]), float(told["panfit_batch_size_count"])


def watched(
    pool: Any,
    server: "subprocess.Popen[bytes]",
    port: int,
    shop: Shop,
    kind: str,
    clients: int,
    seconds: float,
    seed: int,
) -> dict[str, Any]:
    """`press`, and what it cost the server."""
    asked, cpu = batches(port), cpu_seconds(server.pid)
    found: dict[str, Any] = pool.apply(press, (port, shop, kind, clients, seconds, seed))
    loop_s, others_s = (after - before for before, after in zip(cpu, cpu_seconds(server.pid), strict=True))
    questions, num_batches = (after - before for before, after in zip(asked, batches(port), strict=True))
    return found | {
        "loop_ms": round(1e3 * loop_s / found["requests"], 3),
        "model_ms": round(1e3 * others_s / found["requests"], 3),
        "mean_batch": round(questions / num_batches, 1) if num_batches else None,
    }


def measure(options: argparse.Namespace, name: str, shop: Shop, pool: Any) -> dict[str, Any]:
    """One configuration, a fresh server: all kinds and numbers of clients; of the default one, then minutes of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        told = ["--run", options.run, "--data", options.data, "--codes", options.codes]
        command = [sys.executable, "-m", "benchmarks.serving", "--serve", name, "--port", port, *told]
        start = time.perf_counter()
        server = subprocess.Popen([*map(str, command), "--database", f"{folder}/likes.db"], cwd=ROOT)
        try:
            while get(port, "/ready")[0] != 200:
                if server.poll() is not None or time.perf_counter() - start > START_S:
                    raise SystemExit("the server did not come up")
                time.sleep(0.05)
            found: dict[str, Any] = {"ready_s": round(time.perf_counter() - start, 2)}
            for user in shop.users:
                if (status := get(port, f"/v1/recommendations?user={quote(user, safe='')}")[0]) != 200:
                    raise SystemExit(f"asked for {user!r}'s recommendations, the server says {status}")
            for kind in KINDS:
                for clients in CLIENTS:
                    seed = 100 * KINDS.index(kind) + clients
                    pressed = watched(pool, server, port, shop, kind, clients, options.seconds, seed)
                    found.setdefault(kind, {})[str(clients)] = pressed
                    print(name, kind, clients, pressed, file=sys.stderr, flush=True)
            if name == "default":
                for kind in CEILINGS:
                    pressed = watched(pool, server, port, shop, kind, MOST_CLIENTS, options.seconds, 0)
                    found.setdefault("ceiling", {})[kind] = pressed
                    print(name, "ceiling", kind, pressed, file=sys.stderr, flush=True)
            if name == "default" and options.minutes:
                long = pool.apply_async(press, (port, shop, "both", MOST_CLIENTS, 60 * options.minutes, 7))
                held = []
                while not long.ready():
                    held.append(resident_mb(server.pid))
                    long.wait(1)
                part = max(1, min(60, len(held) // 3))
                first, last = statistics.mean(held[:part]), statistics.mean(held[-part:])
                memory = {"first_mb": round(first, 1), "last_mb": round(last, 1), "growth": round(last / first - 1, 4)}
                found["long"] = long.get() | memory | {"minutes": options.minutes, "averaged_s": part}
                print(name, "long", found["long"], file=sys.stderr, flush=True)
        finally:
            server.terminate()
            server.wait(60)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--codes", type=Path, required=True, help="where users' code tables are kept")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=5, help="of the long one; 0: none")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "serving.json")
    parser.add_argument("--users", type=int, help="who asks: the first so many; all if not given")
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--serve", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--database", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    from panfit.pedigree import pedigree

    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        library = pool.apply(ask_the_library, (options,))
    shop = library.pop("shop")
    print("library", library, file=sys.stderr, flush=True)
    with spawn.Pool(1) as pool:
        served = {name: measure(options, name, shop, pool) for name in options.only}
    ratios = {
        name: {
            kind: round(found[kind][str(MOST_CLIENTS)]["per_second"] / library[kind]["per_second"], 2) for kind in KINDS
        }
        for name, found in served.items()
    }
    content = {
        "case": f"recommend and complete over HTTP: {len(shop.users)} users, {library.pop('items'):,} items, "
        f"{len(shop.outfits):,} known outfits; 1, 8 and 32 clients",
        "ratio_to_plain": ratios[options.only[0]]["both"],
        "share_of_ceiling": None,
        "target": TARGET_RATIO,
        "target_growth": TARGET_GROWTH,
        "ratios": ratios,
        "library": library,
        "served": served,
        **pedigree(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))
    measured = [found[kind][str(clients)] for found in served.values() for kind in KINDS for clients in CLIENTS]
    measured += [found["long"] for found in served.values() if "long" in found]
    if any(each["errors"] for each in measured):
        raise SystemExit("some questions were not answered: see the errors")


if __name__ == "__main__":
    main()
