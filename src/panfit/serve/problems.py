"""PROBLEMS: whatever goes wrong -> application/problem+json (RFC 9457) that says what, where, and how to mend it."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panfit.errors import CheckpointError, DataError, MissingExtraError, UnknownIdError
from panfit.errors import Problem as Finding
from panfit.serve.engine import BusyError
from panfit.serve.likes import UnavailableError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
"""After which a client that was refused because others were before it may come again."""

TITLES = {
    400: ("malformed", "Malformed request"),
    401: ("unauthorized", "Token wanted"),
    403: ("forbidden", "Forbidden"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    408: ("timeout", "The request did not arrive in time"),
    413: ("too-large", "Too large"),
    415: ("unsupported-media-type", "Unsupported media type"),
    421: ("misdirected", "Not of this server"),
    422: ("does-not-fit", "The request does not make sense"),
    429: ("too-many-requests", "Too many requests"),
    431: ("headers-too-large", "Headers too large"),
    500: ("internal", "Internal error"),
    501: ("not-of-this-model", "This model cannot do that"),
    503: ("busy", "Busy, or not ready"),
}
"""Status -> the end of its type, and its title. Both are stable; the detail is for people."""

JSON_TYPES = ("/json", "+json")
_log = logging.getLogger("panfit.serve")


class ProblemItem(BaseModel):
    """One of the things wrong with a request."""

    model_config = ConfigDict(title="ProblemItem")

    where: str = Field(description="The part of the request: a path in its body, a parameter, a list.")
    what: str = Field(description="What is wrong with it.")
    row: int | None = Field(default=None, description="The place in the list, counted from 1.")
    found: str | None = Field(default=None, description="What was found there.")
    wanted: str | None = Field(default=None, description="What was wanted instead.")
    remedy: str | None = Field(default=None, description="How to mend it.")


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        title="Problem",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:panfit:problem:not-found",
                    "title": "Not found",
                    "status": 404,
                    "detail": "the data set 'shop' has no user 'an'; the nearest: 'ann'",
                }
            ]
        },
    )

    type: str = Field(description="Names the kind of error; stable.")
    title: str
    status: int
    detail: str | None = Field(default=None, description="What went wrong this time, for people.")
    problems: list[ProblemItem] | None = Field(
        None, description="Every single thing that is wrong, where there is more to say."
    )


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    problems: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response that tells of an error.

    Args:
        status: of HTTP.
        detail: for people; no secret, no path of this machine.
        problems: as `ProblemItem`.
        headers: to be sent with it.
    """
    kind, title = TITLES.get(status, (str(status), "Error"))
    told: dict[str, Any] = {"type": f"urn:panfit:problem:{kind}", "title": title, "status": status}
    if detail is not None:
        told["detail"] = detail
    if problems:
        told["problems"] = list(problems)
    # All ASCII: a message may quote half a surrogate pair from the request, which UTF-8 does not have.
    content = json.dumps(told, ensure_ascii=True).encode()
    return Response(content, status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's words for the errors that an operation may answer with; and for 304, which is none."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": TITLES[status][1], "content": content} for status in statuses if status in TITLES
    }
    if 304 in statuses:
        told[304] = {"description": "What the client holds (If-None-Match) is still right"}
    return told


def install(app: FastAPI) -> None:
    """Give an app the answers to everything that may go wrong in it."""
    app.add_middleware(_CatchAll)  # the innermost: what stands around it sees an answer, not an exception
    app.add_exception_handler(Exception, _unexpected)  # of what stands around it
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def _not_found(_: Request, error: Exception) -> Response:
    return problem_response(404, str(error))


async def _data_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, DataError)
    return problem_response(422, error.summary, problems=[_told(finding) for finding in error.problems])


async def _not_of_this_model(_: Request, error: Exception) -> Response:
    return problem_response(501, str(error))


async def _unexpected(_: Request, error: Exception) -> Response:
    _log.error("what stands around the app failed", exc_info=error)
    return problem_response(500)


async def _busy(_: Request, error: Exception) -> Response:
    return problem_response(503, str(error), headers={"Retry-After": str(RETRY_AFTER_S)})


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(error.status_code, error.detail or None, headers=error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return problem_response(400, "the body is not JSON")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    unread = any(tuple(each["loc"]) == ("body",) and each["type"] != "missing" for each in found)
    if unread and not media_type.endswith(JSON_TYPES):
        return problem_response(415, "send the body as application/json")
    problems = [{"where": ".".join(map(str, each["loc"])), "what": each["msg"]} for each in found]
    return problem_response(422, "the request does not have the form that it should", problems=problems)


_HANDLERS: dict[type[Exception], Any] = {
    UnknownIdError: _not_found,
    DataError: _data_error,
    CheckpointError: _not_of_this_model,
    MissingExtraError: _not_of_this_model,
    BusyError: _busy,
    UnavailableError: _busy,
    RequestValidationError: _validation,
    HTTPException: _http,
}


def _told(finding: Finding) -> dict[str, Any]:
    told = {
        "where": finding.file,
        "what": f"found {finding.found}; wanted {finding.wanted}",
        "row": finding.row,
        "found": finding.found,
        "wanted": finding.wanted,
        "remedy": finding.remedy,
    }
    return {name: value for name, value in told.items() if value is not None}


class _CatchAll:
    """An unexpected exception -> 500 without any detail; its traceback goes to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception:
            _log.exception("a request failed")
            if started:  # too late for another answer: the connection is cut, and the client sees it
                raise
            await problem_response(500)(scope, receive, send)
