"""The log says how the service fares, one line a request, and nothing of whom or what a request was about."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from panfit.serve import access_log, problems
from panfit.serve.access_log import LOGGERS, NO_ROUTE, AccessLog, JsonLines

SECRET = "someone-in-particular"


def make_app(tmp_path: Any, **options: Any) -> FastAPI:
    (tmp_path / "a.css").write_text("a {}")
    app = FastAPI(redirect_slashes=False, docs_url=None, openapi_url=None)
    router = APIRouter(prefix="/v1")

    @router.get("/users/{id:path}")
    async def user(id: str) -> Response:
        return PlainTextResponse("x" * 12)

    @router.post("/fails")
    async def fails() -> Response:
        raise RuntimeError("went wrong")

    app.include_router(router)
    app.mount("/docs/static", StaticFiles(directory=tmp_path))
    problems.install(app)
    access_log.install(app, **options)
    return app


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonLines().format(record)) for record in caplog.records]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "panfit.access")
    return caplog


def test_a_request_is_one_line(tmp_path: Any, logged: pytest.LogCaptureFixture) -> None:
    TestClient(make_app(tmp_path)).get(
        f"/v1/users/{SECRET}?q={SECRET}", headers={"Cookie": SECRET, "User-Agent": SECRET}
    )
    (line,) = lines_of(logged)
    assert {name: line[name] for name in ("level", "logger", "message", "method", "route", "status", "bytes")} == {
        "level": "INFO",
        "logger": "panfit.access",
        "message": "request",
        "method": "GET",
        "route": "/v1/users/{id:path}",
        "status": 200,
        "bytes": 12,
    }
    assert 0 <= line["ms"] < 10_000
    assert set(line) == {"time", "level", "logger", "message", "method", "route", "status", "bytes", "ms"}
    assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    assert SECRET not in logged.text + json.dumps(line)
    assert "testclient" not in json.dumps(line)


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", f"/{SECRET}", ("GET", NO_ROUTE, 404)),
        ("GET", "/docs/static/a.css", ("GET", "/docs/static/*", 200)),
        ("GET", f"/docs/static/{SECRET}", ("GET", "/docs/static/*", 404)),
        ("DELETE", f"/v1/users/{SECRET}", ("DELETE", "/v1/users/{id:path}", 405)),
        ("BREW", f"/v1/users/{SECRET}", ("OTHER", "/v1/users/{id:path}", 405)),
        ("GET", f"/v1/users/%22,{{%22status%22:1}}/{SECRET}", ("GET", "/v1/users/{id:path}", 200)),
    ],
)
def test_addresses_are_told_as_routes(
    tmp_path: Any, logged: pytest.LogCaptureFixture, method: str, path: str, told: tuple[str, str, int]
) -> None:
    TestClient(make_app(tmp_path)).request(method, path)
    (line,) = lines_of(logged)
    assert (line["method"], line["route"], line["status"]) == told
    assert SECRET not in json.dumps(line)


def test_peers_are_told_only_where_somebody_asked_for_it(tmp_path: Any, logged: pytest.LogCaptureFixture) -> None:
    TestClient(make_app(tmp_path, with_clients=True), client=("192.0.2.1", 7)).get("/v1/users/a")
    assert lines_of(logged)[0]["client"] == "192.0.2.1"


def test_an_id_leads_from_the_answer_to_what_went_wrong(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], to_stderr: None
) -> None:
    client = TestClient(make_app(tmp_path), raise_server_exceptions=False)
    answers = [client.post("/v1/fails"), client.post("/v1/fails", headers={"X-Request-ID": "shop-7.a_B"})]
    assert [each.status_code for each in answers] == [500, 500]
    ids = [each.headers["x-request-id"] for each in answers]
    assert ids[1] == "shop-7.a_B"
    assert len(ids[0]) == 16
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["request_id"]) for line in lines] == [
        (logger, request_id) for request_id in ids for logger in ("panfit.serve", "panfit.access")
    ]
    assert "RuntimeError: went wrong" in lines[0]["traceback"]
    assert "went wrong" not in answers[0].text
    assert lines[1]["status"] == 500


@pytest.mark.parametrize("asked", ["", " ", "a b", "x" * 65, 'a"', "a;b", "a/b", "a%0d%0aX: y", "é".encode(), b"\xff"])
def test_ids_that_are_not_sane_are_replaced(tmp_path: Any, asked: str | bytes) -> None:
    found = TestClient(make_app(tmp_path)).get(
        "/v1/users/a", headers=[(b"x-request-id", asked if isinstance(asked, bytes) else asked.encode())]
    )
    assert len(found.headers.get_list("x-request-id")) == 1
    assert len(found.headers["x-request-id"]) == 16
    assert set(found.headers["x-request-id"]) <= set("0123456789abcdef")


def test_requests_do_not_take_each_others_ids(capsys: pytest.CaptureFixture[str], to_stderr: None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        logging.getLogger("panfit.serve").warning("here %s", scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(_: Message) -> None:
        await asyncio.sleep(0)

    async def ask(number: int) -> None:
        headers = [(b"x-request-id", b"id-%d" % number)]
        scope = {"type": "http", "method": "GET", "path": f"/{number}", "headers": headers}
        await AccessLog(app)(scope, None, send)  # type: ignore[arg-type]

    async def ask_all() -> None:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, number)

    anyio.run(ask_all)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    warned = [line for line in lines if line["logger"] == "panfit.serve"]
    assert sorted(line["message"].removeprefix("here /") for line in warned) == sorted(map(str, range(20)))
    assert all(line["request_id"] == f"id-{line['message'].removeprefix('here /')}" for line in warned)


def test_a_client_that_leaves_is_told_of_as_such(logged: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep_forever()

    async def ask() -> None:
        with anyio.move_on_after(0.01):
            await AccessLog(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, None)  # type: ignore[arg-type]

    anyio.run(ask)
    (line,) = lines_of(logged)
    assert "status" not in line
    assert (line["bytes"], line["route"]) == (0, NO_ROUTE)


def test_the_lifespan_goes_through_without_a_line(logged: pytest.LogCaptureFixture) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    anyio.run(AccessLog(app), {"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
    assert not logged.records


def test_lines_that_would_break_out_do_not() -> None:
    record = logging.LogRecord("panfit.serve", logging.WARNING, "", 0, 'a\n{"b": 1}\u2028%s', ("\x1b[2J",), None)
    text = JsonLines().format(record)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["message"] == 'a\n{"b": 1}\u2028\x1b[2J'


def test_a_process_that_asks_for_it_twice_writes_once(capsys: pytest.CaptureFixture[str], to_stderr: None) -> None:
    access_log.to_stderr()
    logging.getLogger("panfit.serve").info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_being_asked_an_app_writes_nothing(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("panfit"), "handlers", [])  # of a command that another test has called
    handlers = [list(logging.getLogger(name).handlers) for name in LOGGERS]
    TestClient(make_app(tmp_path)).get("/v1/users/a")
    assert capsys.readouterr() == ("", "")
    assert [list(logging.getLogger(name).handlers) for name in LOGGERS] == handlers


@pytest.fixture
def to_stderr() -> Iterator[None]:
    """As a process that serves would have it; undone afterwards."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    access_log.to_stderr()
    assert sys.stderr is not None
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate
        logger.setLevel(level)
