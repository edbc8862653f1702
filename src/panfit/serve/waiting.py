"""WAITING: questions that clients of event loops wait for, and a thread answers."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """Too many questions wait already, or this one has waited too long. Asking again later helps."""


@dataclass(frozen=True, eq=False)
class Waiting(Generic[T]):
    """Somebody who waits.

    Attributes:
        asked: what for.
        answer: of the event loop ``loop``.
        since: `time.perf_counter`.
    """

    asked: T
    answer: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    since: float

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more. For any thread."""
        return self.answer.done()

    def expire(self, error: Exception) -> None:
        """Wait no longer. In the event loop."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Line(Generic[T]):
    """Where questions wait for the thread.

    Args:
        length: questions that may wait; more are refused.
        seconds: how long one may wait.
    """

    def __init__(self, length: int, seconds: float) -> None:
        self._waiting: queue.Queue[Waiting[T] | None] = queue.Queue(length)
        self._seconds = seconds
        self._bell = threading.Event()

    def __len__(self) -> int:
        return self._waiting.qsize()

    async def join(self, asked: T) -> Any:
        """Wait for an answer. Raises BusyError, or what the thread has to say."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(asked, loop.create_future(), loop, time.perf_counter())
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            raise BusyError("too many questions are waiting") from None
        # The bell is rung once this turn of the loop has asked what else it has read: that comes in the same batch.
        loop.call_soon(self._bell.set)
        late = loop.call_later(self._seconds, waiting.expire, BusyError(f"no answer within {self._seconds:g} s"))
        try:
            return await waiting.answer
        finally:
            late.cancel()

    def close(self) -> None:
        """Let the thread take what waits, then know that it is done."""
        self._waiting.put(None)
        self._bell.set()

    def take(self, most: int) -> tuple[list[Waiting[T]], bool]:
        """In the thread: all that wait, at most so many; and whether the line is closed behind them. Waits for one."""
        while True:
            self._bell.wait()
            self._bell.clear()
            batch = self._taken(most)
            is_closed = bool(batch) and batch[-1] is None
            if batch:
                if len(batch) == most:  # there may be more
                    self._bell.set()
                return [each for each in batch if each is not None], is_closed

    def leave(self) -> list[Waiting[T]]:
        """All that still wait."""
        return [each for each in self._taken(self._waiting.qsize()) if each is not None]

    def _taken(self, most: int) -> list[Waiting[T] | None]:
        batch: list[Waiting[T] | None] = []
        with contextlib.suppress(queue.Empty):
            while len(batch) < most and (not batch or batch[-1] is not None):
                batch.append(self._waiting.get_nowait())
        return batch


def tell(told: Sequence[tuple[Waiting[Any], Any, Exception | None]]) -> None:
    """Give answers, or what went wrong, to those who wait for them; each loop is woken once. For any thread."""
    of_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting[Any], Any, Exception | None]]] = {}
    for each in told:
        of_loop.setdefault(each[0].loop, []).append(each)
    for loop, own in of_loop.items():
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
            loop.call_soon_threadsafe(_settle, own)


def _settle(told: Sequence[tuple[Waiting[Any], Any, Exception | None]]) -> None:
    for waiting, answer, error in told:
        if waiting.answer.done():  # nobody waits for it any more
            continue
        if error is None:
            waiting.answer.set_result(answer)
        else:
            waiting.answer.set_exception(error)
