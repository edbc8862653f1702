"""BODIES: a request's body is neither larger nor slower than it may be, whatever it says of itself."""

import time
from collections.abc import Callable

import anyio
from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

BODY_SECONDS = 120.0
"""All of a body must be there by then: 24 MiB at 200 kB/s."""
PAUSE_SECONDS = 20.0
"""Longest time in which nothing comes."""


class Body:
    """One request's body, as `receive` gives it; counts and times it.

    Args:
        scope: of the request.
        receive: the server's.
        max_bytes: more are not read.
        pause_s: longest time in which nothing comes.
        total_s: longest time until all has come.
        now: seconds that never go back.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        max_bytes: int,
        *,
        pause_s: float = PAUSE_SECONDS,
        total_s: float = BODY_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = Headers(scope=scope)
        self._length = headers.get("content-length")
        self._receive, self._max_bytes, self._now = receive, max_bytes, now
        self._pause_s, self._until = pause_s, now() + total_s
        self._read = 0
        self._error: HTTPException | None = None
        self.is_complete = self._length in (None, "0") and "transfer-encoding" not in headers
        """Whether all of it has come; at once where there is none."""

    def check_length(self) -> None:
        """Raise HTTPException for a length that is too large (413) or no number (400), before anything is read."""
        if self._length is None:
            return
        if not (self._length.isascii() and self._length.isdecimal()):
            raise HTTPException(400, "Content-Length is not a number")
        if len(self._length.lstrip("0")) > 18 or int(self._length) > self._max_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next message. Raises HTTPException: 413 for too many bytes, 408 if they do not come."""
        if self._error is not None:
            raise self._error
        if self.is_complete:  # what comes next is that the client has left, which may take its time
            return await self._receive()
        left_s = self._until - self._now()
        with anyio.move_on_after(min(self._pause_s, left_s)) as waited:
            message = await self._receive()
        if waited.cancelled_caught or left_s < 0:  # what is there at once cannot be cancelled
            self._error = HTTPException(408, "the body did not arrive in time")
            raise self._error
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
            if self._read > self._max_bytes:
                self._error = self._too_large()
                raise self._error
        else:
            self.is_complete = True
        return message

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body has more than {self._max_bytes} bytes. Send less at a time")
