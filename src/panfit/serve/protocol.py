"""PROTOCOL: HTTP as uvicorn speaks it, for clients who send too much before a request begins, or too slowly.

uvicorn bounds neither a request's head (its line and headers) nor the time that it may take with httptools, which is
the quicker of its two parsers. Bodies are bounded by the application.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 * 1024
"""Of a request's line and headers. nginx sends at most as much by default."""
HEAD_SECONDS = 20.0
"""From a connection, or from a request's first byte, to the end of its headers."""


class BoundedProtocol(HttpToolsProtocol):
    """One client's connection; it is closed where a request's head is too large (400) or too slow."""

    head_seconds = HEAD_SECONDS
    _head = 0
    """Bytes since the head began, or a little more: what comes together is counted together."""
    _in_head = True
    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if length > HEAD_BYTES:
            raise ValueError("the request's head is too large")  # the parser gives up; 400
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head = True, 0

    def _await_head(self) -> None:
        self._stop_timer()
        self._slow = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
