"""ENGINE: one thread that owns the Recommender and answers many clients' questions, those that wait together at once.

Torch is fastest when it is not shared, and a Recommender is not made for several threads. So questions queue; the
thread takes all that wait, answers equal ones once, and lets each client have its own. Knows nothing of the web.
"""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from panfit.answers import Alike
from panfit.encode import FloatArray
from panfit.explain import Explanation
from panfit.newcomers import Newcomer
from panfit.recommend import Recommender
from panfit.serve import queries
from panfit.serve.queries import Query, Ranked


class BusyError(Exception):
    """Too many questions wait already, or this one has waited too long. Asking again later helps."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    query: Query
    answer: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Engine:
    """Asks a Recommender on behalf of many.

    Args:
        recommender: nobody else may use it from now on.
        waiting: questions that may wait; more are refused.
        seconds: how long one may wait.
        batch: questions that are taken at a time.
    """

    def __init__(
        self, recommender: Recommender, *, waiting: int = 256, seconds: float = 60.0, batch: int = 64
    ) -> None:
        self.recommender = recommender
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(waiting)
        self._seconds, self._batch = seconds, batch
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; it first prepares what questions will need."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    @overload
    async def ask(self, query: queries.Recommend | queries.Complete | queries.Score) -> Ranked: ...
    @overload
    async def ask(self, query: queries.ScorePhotos) -> FloatArray: ...
    @overload
    async def ask(self, query: queries.Explain) -> Explanation: ...
    @overload
    async def ask(self, query: queries.Fit) -> Newcomer: ...
    @overload
    async def ask(self, query: queries.SimilarUsers | queries.SimilarItems) -> Alike: ...

    async def ask(self, query: Query) -> Any:
        """The query's answer.

        Raises:
            BusyError: too many wait, or it took too long.
            PanfitError: what the Recommender says to it.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(query, loop.create_future(), loop)
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            raise BusyError("too many questions are waiting") from None
        try:
            return await asyncio.wait_for(waiting.answer, self._seconds)
        except TimeoutError:
            raise BusyError(f"no answer within {self._seconds:g} s") from None

    def _run(self) -> None:
        while True:
            batch = self._take()
            self._answer([each for each in batch if each is not None])
            if None in batch:
                return

    def _take(self) -> list[_Waiting | None]:
        """All that wait, at least one, at most a batch."""
        batch = [self._waiting.get()]
        while batch[-1] is not None and len(batch) < self._batch:
            try:
                batch.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        alike: dict[Query, list[_Waiting]] = {}
        for each in batch:
            if not each.answer.cancelled():
                alike.setdefault(each.query, []).append(each)
        for query, asked in alike.items():
            try:
                answer, error = query.answer(self.recommender), None
            except Exception as raised:  # whoever asked shall hear of it; the thread goes on
                answer, error = None, raised
            for each in asked:
                each.loop.call_soon_threadsafe(_tell, each.answer, answer, error)


def _tell(future: "asyncio.Future[Any]", answer: Any, error: Exception | None) -> None:
    if future.done():  # nobody waits for it any more
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
