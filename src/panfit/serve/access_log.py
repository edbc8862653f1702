"""ACCESS LOG: one line of JSON a request, and none of it says who asked, for whom, or about what.

An address is logged as its route ("/v1/users/{id:path}"), for ids and queries are personal. A request's id, which also
stands in the answer (X-Request-ID) and beside whatever went wrong, leads from one to the other.
"""

import contextvars
import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "X-Request-ID"
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Another's id is taken over if it is of this form: it cannot break out of a line, a header or a query."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "(none)"
"""Stands for all addresses that do not exist, and for requests that were not let through."""
LOGGERS = ("panfit.access", "panfit.serve", "uvicorn.error", "py.warnings")
"""Whose lines `to_stderr` writes."""

_log = logging.getLogger("panfit.access")
_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("panfit_request_id", default=None)


def install(app: FastAPI, *, with_clients: bool = False) -> None:
    """Log an app's requests, at level INFO to the logger "panfit.access". To be called last: it stands around all else.

    Args:
        app: not started yet.
        with_clients: say the peer's address too; that is personal data.
    """
    app.add_middleware(AccessLog, with_clients=with_clients)


def to_stderr() -> None:
    """Write the service's lines to the standard error, as JSON. For whoever starts a process; a library would not."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
            logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def route_of(scope: Scope) -> str:
    """Which of the app's addresses a request was for, once it has been answered."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str):
        return route
    mounted = scope.get("root_path", "")  # static files' router puts its own place there
    return f"{mounted}/*" if "endpoint" in scope and mounted else NO_ROUTE


def method_of(scope: Scope) -> str:
    """Its method, if it is one."""
    return scope["method"] if scope["method"] in METHODS else "OTHER"


class AccessLog:
    """The ASGI middleware.

    Args:
        app: the ASGI application.
        with_clients: as `install` has it.
        now: seconds that never go back; a test brings its own.
    """

    def __init__(
        self, app: ASGIApp, *, with_clients: bool = False, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app, self._with_clients, self._now = app, with_clients, now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = asked if SANE_ID.fullmatch(asked) else secrets.token_hex(8)
        since, status, sent = self._now(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        token = _request_id.set(request_id)
        try:
            await self._app(scope, receive, counted)
        finally:
            if _log.isEnabledFor(logging.INFO):
                told: dict[str, Any] = {
                    "method": method_of(scope),
                    "route": route_of(scope),
                    "status": status or None,  # None: the client left before there was an answer
                    "ms": round((self._now() - since) * 1000, 1),
                    "bytes": sent,
                }
                if self._with_clients:
                    told["client"] = (scope.get("client") or [None])[0]
                _log.info("request", extra={"told": told})
            _request_id.reset(token)


class JsonLines(logging.Formatter):
    """A record -> one line of JSON: time (UTC), level, logger, message, request id, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": _request_id.get(),
        }
        more = getattr(record, "told", None)
        if isinstance(more, dict):
            told |= more
        if record.exc_info:
            told["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps({name: value for name, value in told.items() if value is not None}, default=str)


class _Stderr(logging.Handler):
    """Writes lines to whatever the standard error is at the time."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)
