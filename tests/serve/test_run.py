"""A real service in real processes: it is killed, stops, shares a database; and what it refuses to start with."""

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from panfit.errors import ConfigError, DataError
from panfit.serve import run as run_module
from panfit.serve.protocol import HEAD_BYTES, BoundedProtocol
from panfit.serve.run import app_from_environment, check_database, is_ready, make_app
from panfit.serve.settings import Limits, ServeConfig
from panfit.serve.start import Start, listen, make_config, read_limits, read_token, url_of
from panfit.serve.workers import MISTAKE
from tests.batch_run import COUNTS, make_run
from tests.serve.postgres import find_binaries
from tests.serve.process import SECONDS, Serving, serving

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("serve"))


def outfit(number: int) -> list[str]:
    """A different outfit for each number below 13 * 9 * 7."""
    tops, bottoms, shoes = COUNTS.values()
    return [f"top-{number % tops}", f"bottom-{number // tops % bottoms}", f"shoe-{number // (tops * bottoms) % shoes}"]


def likes_of(service: Serving, newcomer: str) -> list[list[str]]:
    status, profile = service.ask("GET", f"/v1/newcomers/{newcomer}")
    assert status == 200, profile
    return [like["outfit"] for like in profile["likes"]]


def test_no_acknowledged_like_is_lost_and_two_services_agree(run: Path, tmp_path: Path) -> None:
    """kill -9 while four clients like; afterwards two services on that database; one ends by SIGTERM, one by Ctrl-C."""
    arguments = (run, "--port", "0", "--database", f"sqlite:///{tmp_path / 'likes.db'}")
    acknowledged: list[list[list[str]]] = [[] for _ in range(4)]
    newcomers: list[str] = []
    enough = threading.Semaphore(0)

    def like(client: int) -> None:
        number = 100 * client
        while True:
            try:
                status, _ = service.ask(
                    "POST", f"/v1/newcomers/{newcomers[client]}/likes", {"outfits": [outfit(number)]}
                )
            except (OSError, ValueError):  # it is dead
                return
            assert 200 <= status < 300, status
            acknowledged[client].append(outfit(number))
            number += 1
            enough.release()

    with serving(*arguments) as service:
        for client in range(4):
            status, made = service.ask("POST", "/v1/newcomers", {"name": f"client {client}"})
            assert status == 201, made
            newcomers.append(made["id"])
        clients = [threading.Thread(target=like, args=(client,)) for client in range(4)]
        for each in clients:
            each.start()
        for _ in range(20):
            assert enough.acquire(timeout=SECONDS)
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
        for each in clients:
            each.join(SECONDS)

    with serving(*arguments) as first, serving(*arguments) as second:
        for client, newcomer in enumerate(newcomers):
            kept = likes_of(first, newcomer)
            # What was under way may be there too: one like of each client.
            assert kept[: len(acknowledged[client])] == acknowledged[client]
            assert len(kept) <= len(acknowledged[client]) + 1
            assert likes_of(second, newcomer) == kept
        assert second.ask("POST", f"/v1/newcomers/{newcomers[0]}/likes", {"outfits": [outfit(700)]})[0] < 300
        assert likes_of(first, newcomers[0])[-1] == outfit(700)
        path = f"/v1/recommendations?user={newcomers[0]}&top=3"
        status, answer = first.ask("GET", path)
        assert (status, len(answer["outfits"])) == (200, 3)
        assert second.ask("GET", path) == (200, answer)
        assert first.end(signal.SIGTERM) == 0
        assert second.end(signal.SIGINT) == 130
        assert "interrupted" in second.told[-1]
        assert not any("Traceback" in line for line in first.told + second.told)


def test_workers_agree_and_leave_with_their_parent(run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two workers on one PostgreSQL, where it is installed; otherwise on one SQLite."""
    url = f"sqlite:///{tmp_path / 'likes.db'}"
    if find_binaries() is not None:
        url = request.getfixturevalue("postgres").new_database()
    (tmp_path / "token").write_text(f"{TOKEN}\n", "utf-8")
    arguments = ("--workers", "2", "--token-file", tmp_path / "token")
    with serving(run, "--port", "0", *arguments, environ={"PANFIT_DATABASE": url}, token=TOKEN) as service:
        newcomer = service.ask("POST", "/v1/newcomers", {"name": "eve"})[1]["id"]
        for number in range(10):  # each question has a connection of its own, which either of the two may take
            path = f"/v1/newcomers/{newcomer}/likes"
            assert service.ask("POST", path, {"outfits": [outfit(number)]})[0] < 300
            assert likes_of(service, newcomer) == [outfit(each) for each in range(number + 1)]
        workers = children(service.process.pid)
        assert len(workers) == 2
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
        until_that(lambda: not any(is_alive(each) for each in workers))


def test_a_worker_that_cannot_start_says_why_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("panfit.serve.access_log.to_stderr", lambda: None)
    start = Start(tmp_path / "none", ServeConfig(database="sqlite:///x.db"))
    here, there = multiprocessing.Pipe(duplex=False)
    with here, there, listen("127.0.0.1", 0, has_token=False) as listener, pytest.raises(SystemExit) as ended:
        run_module._work(start, 1, listener, there)
    assert ended.value.code == MISTAKE
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}/none: there is no such run folder"]


def children(parent: int) -> list[int]:
    """The process ids of a process's workers; Python has one of its own beside them, which tracks resources."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it has just ended
                continue
            if int(status[1]) == parent and status[0] != "Z" and b"spawn_main" in command:
                found.append(int(folder.name))
    return sorted(found)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_that(holds: Any) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def test_a_stop_lets_a_request_under_way_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """In process: the signal comes while a request is answered."""
    came, may_go = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        came.set()
        await asyncio.to_thread(may_go.wait, SECONDS)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with listening(app) as (server, address):
        client = socket.create_connection(address, timeout=SECONDS)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert came.wait(SECONDS)
        server.should_exit = True
        until_that(lambda: not accepts(address))
        may_go.set()
        assert client.recv(100).startswith(b"HTTP/1.1 204")
        client.close()


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


class listening:
    """An ASGI application behind `BoundedProtocol`, in a thread: (server, address)."""

    def __init__(self, app: Any, protocol: type[BoundedProtocol] = BoundedProtocol) -> None:
        self.listener = listen("127.0.0.1", 0, has_token=False)
        config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))

    def __enter__(self) -> tuple[uvicorn.Server, tuple[str, int]]:
        address = self.listener.getsockname()
        self.thread.start()
        until_that(lambda: self.server.started)
        return self.server, address

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(SECONDS)
        self.listener.close()
        assert not self.thread.is_alive()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """How many bytes the body has."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Hasty(BoundedProtocol):
    head_seconds = 0.05


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with listening(echo) as (_, found):
        yield found


def talk(address: tuple[str, int], *pieces: bytes) -> bytes:
    """All that the other side says until it closes."""
    said = b""
    with socket.create_connection(address, timeout=SECONDS) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
            while piece := client.recv(65536):
                said += piece
        except ConnectionError:  # it has closed while we still sent
            pass
    return said


@pytest.mark.parametrize(
    "head",
    [
        [b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * HEAD_BYTES + b"\r\n\r\n"],
        [b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X-%d: y\r\n" % number * 40 for number in range(500)]],
        [b"GET / HTTP/1.1\r\nX: ", *[b"a" * 4096] * 40],
        [b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok", b"GET / HTTP/1.1\r\nX: ", *[b"a" * 4096] * 40],
    ],
    ids=["a header", "the path", "many headers", "no end", "the second request"],
)
def test_a_head_that_is_too_large_is_refused(address: tuple[str, int], head: list[bytes]) -> None:
    said = talk(address, *head)
    # Where we still sent, the system may drop the message; that it closed is what counts.
    assert b" 400 " in said or said in (b"", talk(address, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok", b"\0"))


def test_large_bodies_and_several_requests_pass(address: tuple[str, int]) -> None:
    body = b"z" * (4 * HEAD_BYTES)
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: " + b"a" * (HEAD_BYTES - 200) + b"\r\n\r\n"
    said = talk(address, request, request, last)
    assert said.count(b"HTTP/1.1 200") == 3
    assert said.count(b"\r\n\r\n%d" % len(body)) == 2
    assert said.endswith(b"\r\n\r\n0")


def test_a_head_that_is_too_slow_is_given_up() -> None:
    with listening(echo, Hasty) as (_, slow):
        assert talk(slow) == b""
        assert talk(slow, b"GET / HTTP/1.1\r\nHost: ") == b""
        said = talk(slow, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTT")
        assert said.count(b"HTTP/1.1 200") == 1


def test_a_token_is_long_and_comes_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert read_token(None, None) is None
    file.write_text(f" {TOKEN}\n", "utf-8")
    for token in (read_token(TOKEN, None), read_token(None, file)):
        assert token is not None
        assert token.get_secret_value() == TOKEN
        assert TOKEN not in repr(token)
    with pytest.raises(ConfigError, match="given twice"):
        read_token(TOKEN, file)
    for bad in ("short", "a" * 15, "0123456789 abcdef", "0123456789äbcdef", "0123456789\nabcdef", ""):
        with pytest.raises(ConfigError, match="at least 16") as found:
            read_token(bad, None)
        assert not bad or bad not in str(found.value)
    file.write_bytes(b"\xff\xfe" * 16)
    with pytest.raises(ConfigError, match="not a text file"):
        read_token(None, file)


def test_limits_are_read_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("top = 7\nseconds = 2.5\n", "utf-8")
    assert read_limits(file) == Limits().model_copy(update={"top": 7, "seconds": 2.5})
    for text, what in (("tops = 7", "tops: Extra"), ("top = 0", "top: Input"), ('top = "7"', "top: "), ("=", "TOML")):
        file.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=what):
            read_limits(file)


def test_a_config_is_made_of_what_is_said(tmp_path: Path) -> None:
    assert make_config(tmp_path).database == f"sqlite:///{tmp_path}/likes.db"
    (tmp_path / "password").write_text("s/e:c@ret\n", "utf-8")
    url = "postgresql+psycopg://ann@db/likes"
    config = make_config(tmp_path, database=url, password_file=tmp_path / "password", trusted_proxies=("::1",))
    assert config.database == "postgresql+psycopg://ann:s%2Fe%3Ac%40ret@db/likes"
    assert config.trusted_proxies == ("::1",)
    with pytest.raises(ConfigError, match="cannot be read"):
        make_config(tmp_path, database="nonsense", password_file=tmp_path / "password")
    with pytest.raises(ConfigError, match="--trusted-proxy proxy"):
        make_config(tmp_path, trusted_proxies=("proxy",))


def test_nobody_else_can_ask_unless_that_is_meant() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        with listen(host, 0, has_token=False) as listener:
            assert url_of(listener).startswith(("http://127.", "http://[::1]:"))
    with pytest.raises(ConfigError, match="no token is set"):
        listen("0.0.0.0", 0, has_token=False)
    with pytest.raises(ConfigError, match="no token is set"):
        listen("::", 0, has_token=False)
    with listen("0.0.0.0", 0, has_token=True) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")
    listen("0.0.0.0", 0, has_token=False, without_token=True).close()


def test_a_port_that_is_taken_and_a_host_that_is_not_ours() -> None:
    with listen("127.0.0.1", 0, has_token=False) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use"):
            listen("127.0.0.1", port, has_token=False)
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0, has_token=True)
    with pytest.raises(ConfigError, match="no such address"):
        listen("no host", 0, has_token=True)


def test_the_environment_is_enough(run: Path, tmp_path: Path) -> None:
    environ = {
        "PANFIT_RUN": str(run),
        "PANFIT_DATA": str(run.parent / "data"),
        "PANFIT_DATABASE": f"sqlite:///{tmp_path}/x.db",
        "PANFIT_TOKEN": TOKEN,
        "PANFIT_TRUSTED_PROXY": "127.0.0.1 ::1",
        "PANFIT_SECURE_COOKIES": "true",
        "PANFIT_CODES": str(tmp_path / "codes"),
    }
    config = app_from_environment(environ).state.service.config
    assert config == make_config(
        run,
        database=f"sqlite:///{tmp_path}/x.db",
        token=TOKEN,
        trusted_proxies=("127.0.0.1", "::1"),
        secure_cookies=True,
    )
    with pytest.raises(ConfigError, match="PANFIT_RUN is not set"):
        app_from_environment({})


def test_nothing_slow_is_imported_for_a_start_and_what_is_loaded_is_out_of_the_collector_s_way(
    run: Path, tmp_path: Path
) -> None:
    slow = ["sklearn", "scipy", "alembic", "matplotlib", "transformers", "torchvision", "ray"]
    code = (
        "import gc, sys\n"
        "from panfit.serve.run import app_from_environment\n"
        "app_from_environment()\n"
        f"print([name for name in {slow} if name in sys.modules], gc.get_freeze_count() > 100_000)"
    )
    environ = {
        "PANFIT_RUN": str(run),
        "PANFIT_DATA": str(run.parent / "data"),
        "PANFIT_DATABASE": f"sqlite:///{tmp_path}/x.db",
        "PANFIT_CODES": str(tmp_path / "codes"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environ
    )
    assert done.stdout == "[] True\n"


def test_only_pan_is_served(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rival:
        pan = None

    monkeypatch.setattr("panfit.loading.load", lambda *_, **__: Rival())
    with pytest.raises(ConfigError, match="only PAN can be served"):
        make_app(Start(run, ServeConfig(database="sqlite:///x.db")))


def test_a_database_that_cannot_be_had_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_database(ServeConfig(database=f"sqlite:///{tmp_path}/none/likes.db"))
    check_database(ServeConfig(database=f"sqlite:///{tmp_path}/likes.db"))
    assert (tmp_path / "likes.db").exists()


def test_nobody_is_not_ready() -> None:
    with listen("127.0.0.1", 0, has_token=False) as listener:
        url = url_of(listener)
    assert not is_ready(url, ServeConfig(database="sqlite:///x.db"))


def test_what_still_runs_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    run_module._end_in(0.01)
    assert ended.wait(SECONDS)
