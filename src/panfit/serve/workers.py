"""WORKERS: several processes that serve one socket, and a parent that keeps their number.

A worker that dies is replaced, at once if it has served, after `PAUSE_SECONDS` if it has not. SIGTERM and Ctrl-C end
all. SIGHUP replaces one after the other, each by one that serves already, so that no request is refused meanwhile.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from panfit.errors import ConfigError

logger = logging.getLogger("panfit.serve")

MISTAKE = 3
"""The exit status of a worker that would fail in the same way again (uvicorn's, where the application cannot start)."""
PAUSE_SECONDS = 1.0
STOP_SECONDS = 30.0
"""After so long a process that is to stop is killed, whatever still runs in it."""

Serve = Callable[[socket.socket, Connection], None]
"""Serves a socket until SIGTERM; sends something once it does. Importable, for it is sent to another process."""


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    told: Connection
    _has_served: bool = False

    @property
    def has_served(self) -> bool:
        """Whether it has said that it serves."""
        with contextlib.suppress(EOFError, OSError):  # it died before it could
            self._has_served = self._has_served or (self.told.poll() and bool(self.told.recv_bytes()))
        return self._has_served


class Workers:
    """A number of processes.

    Args:
        serve: what each does.
        listener: bound.
        number: of processes.
    """

    def __init__(self, serve: Serve, listener: socket.socket, number: int) -> None:
        self._serve, self._listener, self._number = serve, listener, number
        self._workers: list[_Worker] = []
        self._next: _Worker | None = None
        """The one that will replace the oldest, as soon as it serves."""
        self._to_replace = 0

    def run(self) -> int:
        """Keep them until a signal; returns SIGTERM or SIGINT.

        Raises:
            ConfigError: a worker could not start, and none would; it has said why.
        """
        with _signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as came:
            try:
                self._workers = [self._start() for _ in range(self._number)]
                while True:
                    wait([came, *(each.process.sentinel for each in self._all()), *self._awaited()])
                    for sig in _read(came):
                        if sig != signal.SIGHUP:
                            return sig
                        self._to_replace = self._number
                    self._bury()
                    self._renew()
            finally:
                self._stop(self._all())

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        told, telling = context.Pipe(duplex=False)
        process = context.Process(target=self._serve, args=(self._listener, telling), name="worker")
        process.start()
        telling.close()
        return _Worker(process, told)

    def _all(self) -> list[_Worker]:
        return self._workers if self._next is None else [*self._workers, self._next]

    def _awaited(self) -> list[Connection]:
        return [] if self._next is None else [self._next.told]

    def _bury(self) -> None:
        """Replace who is dead."""
        for dead in [each for each in self._all() if not each.process.is_alive()]:
            status, has_served = dead.process.exitcode, dead.has_served
            dead.told.close()
            if dead is self._next:
                self._next, self._to_replace = None, 0
                logger.error("a new worker could not start (status %s); the old ones go on", status)
            elif status == MISTAKE and not has_served:
                raise ConfigError("a worker could not start; what kept it from it stands above")
            else:
                logger.error("worker %d died (status %s); another takes its place", dead.process.pid, status)
                if not has_served:
                    time.sleep(PAUSE_SECONDS)
                self._workers[self._workers.index(dead)] = self._start()

    def _renew(self) -> None:
        """The next step of a replacement of all."""
        if self._next is not None and self._next.has_served:
            oldest = self._workers.pop(0)
            self._workers.append(self._next)
            self._next, self._to_replace = None, self._to_replace - 1
            self._stop([oldest])
        if self._next is None and self._to_replace:
            self._next = self._start()

    def _stop(self, workers: list[_Worker]) -> None:
        for each in workers:
            each.process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for each in workers:
            each.process.join(max(0.0, until - time.monotonic()))
            if each.process.is_alive():
                each.process.kill()
                each.process.join()
            each.told.close()


@contextlib.contextmanager
def _signals(*wanted: signal.Signals) -> Iterator[int]:
    """Inside, signals arrive as bytes on a file descriptor, which can be waited for beside other things."""
    arriving, writing = os.pipe()
    os.set_blocking(arriving, False)
    os.set_blocking(writing, False)

    def write(sig: int, frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, bytes([sig]))

    before = {sig: signal.signal(sig, write) for sig in wanted}
    try:
        yield arriving
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
        os.close(arriving)
        os.close(writing)


def _read(arriving: int) -> list[int]:
    try:
        return list(os.read(arriving, 64))
    except BlockingIOError:
        return []
