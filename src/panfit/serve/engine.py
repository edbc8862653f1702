"""ENGINE: one thread that owns the Recommender and answers many clients' questions, those that wait together at once.

    starting   the thread prepares; questions wait           ready    it answers
    failed     preparing went wrong (`failure` says why); questions are answered all the same, only later
    stopped    what waited was answered; new questions are refused

Torch is fastest when it is not shared, and a Recommender is not made for several threads. So questions queue; the
thread takes all that wait, answers equal ones once, and computes light completions together. A person's ranking of the
known outfits, and answers, are kept until the catalogue changes (`run`): answers are the Recommender's own, to the last
bit. Knows nothing of the web.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, overload

from panfit.answers import Alike, Ranking
from panfit.arithmetic import one_thread
from panfit.complete import Unfinished
from panfit.encode import FloatArray
from panfit.explain import Explanation
from panfit.newcomers import Newcomer, User
from panfit.pools import PATIENCE
from panfit.recommend import Recommender
from panfit.serve import queries
from panfit.serve.kept import Kept, answer_bytes, ranking_bytes
from panfit.serve.queries import Complete, Query, Ranked, Recommend, finished
from panfit.serve.waiting import BusyError as BusyError
from panfit.serve.waiting import Line, Waiting, tell

log = logging.getLogger("panfit.serve")

T = TypeVar("T")
Asked = Query | Callable[[Recommender], Any]
State = Literal["starting", "ready", "failed", "stopped"]

RANKINGS_BYTES = 64 << 20
"""Of kept rankings: 12 bytes an outfit that anybody likes, a person."""
ANSWERS_BYTES = 32 << 20
"""Of kept answers, some kilobytes each."""
KEPT_KINDS = (
    queries.Recommend | queries.Complete | queries.Score | queries.Explain | queries.SimilarUsers | queries.SimilarItems
)
"""Questions whose answers are kept. Photos are nobody's business; newcomers are kept by who asked for them."""


@dataclass(frozen=True)
class Work:
    """How far the thread is with something long.

    Attributes:
        what: in a few words.
        done, total: items, say; (0, 0) where nobody counts.
    """

    what: str
    done: int = 0
    total: int = 0


class Observer(Protocol):
    """Is told what the thread does, in the thread."""

    def batch(self, size: int) -> None:
        """So many questions were taken at a time."""

    def waited(self, seconds: float) -> None:
        """One of them had waited so long."""


class Engine:
    """Asks a Recommender on behalf of many.

    Args:
        recommender: nobody else may change it from now on, nor ask it what computes.
        waiting: questions that may wait; more are refused.
        seconds: how long one may wait.
        batch: questions that are taken at a time.
        rankings_bytes, answers_bytes: bounds on what is kept; 0: nothing.

    Attributes:
        progress: what the thread is busy with, where that is known to take long; None otherwise. For any thread.
        observer: is told of batches; None: nobody is.
        failure: why preparing failed; None where it did not.
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        waiting: int = 256,
        seconds: float = 60.0,
        batch: int = 64,
        rankings_bytes: int = RANKINGS_BYTES,
        answers_bytes: int = ANSWERS_BYTES,
    ) -> None:
        self.recommender = recommender
        self.progress: Work | None = None
        self.observer: Observer | None = None
        self.failure: str | None = None
        self._line: Line[Asked] = Line(waiting, seconds)
        self._batch = batch
        self._rankings: Kept[User, Ranking] = Kept(rankings_bytes, ranking_bytes)
        self._answers: Kept[Query, Any] = Kept(answers_bytes, answer_bytes)
        self._thread: threading.Thread | None = None
        self._is_prepared, self._is_stopped = False, False
        self._starting = threading.Lock()

    @property
    def state(self) -> State:
        """See the module's text."""
        if self._is_stopped:
            return "stopped"
        if self.failure is not None:
            return "failed"
        return "ready" if self._is_prepared else "starting"

    @property
    def num_waiting(self) -> int:
        """Questions that nobody has begun to answer."""
        return len(self._line)

    @property
    def kept_bytes(self) -> int:
        """What kept rankings and answers take."""
        return self._rankings.num_bytes + self._answers.num_bytes

    def start(self) -> None:
        """Start the thread; it first prepares what questions will need. A second call does nothing."""
        with self._starting:
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end the thread, for good. Preparing is given up."""
        with self._starting:
            self._is_stopped = True  # new questions are refused
            if self._thread is not None:
                self._line.close()
                self._thread.join()
                self._thread = None
        tell([(each, None, BusyError("the service is stopping")) for each in self._line.leave()])  # came at the last

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
        """The query's answer; several may get the same object, which they must leave as it is.

        Raises:
            BusyError: too many wait, it took too long, or the engine was stopped.
            PanfitError: what the Recommender says to it.
        """
        kept = self._answers.get(query)
        return await self._queued(query) if kept is None or self._is_stopped else kept

    async def run(self, change: Callable[[Recommender], T]) -> T:
        """Call something with the Recommender, such as `Recommender.withdraw`, in its turn; kept answers are forgotten.

        Raises:
            BusyError: as `ask`; the change may still come to pass if it took too long.
            Exception: whatever the change raises.
        """
        found: T = await self._queued(change)
        return found

    def forget(self, user: User) -> None:
        """Keep nothing more of somebody who was erased."""
        self._rankings.drop(lambda key: key is user or key == user)
        self._answers.drop(lambda query: user in (query.user, getattr(query, "against", None)))  # type: ignore[union-attr]

    async def _queued(self, asked: Asked) -> Any:
        if self._is_stopped:
            raise BusyError("the service is stopping")
        return await self._line.join(asked)

    def _run(self) -> None:
        try:
            self._prepare()
        except _StoppedError:
            pass
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            log.exception("preparing the model failed")
        self.recommender.progress = self._told("looking at the items")
        self._is_prepared, self.progress = True, None
        while True:
            batch, is_last = self._line.take(self._batch)
            self._observe(batch)
            self._answer(batch)
            if is_last:
                return

    def _prepare(self) -> None:
        recommender = self.recommender
        started = time.perf_counter()
        recommender.progress = self._told("looking at the items", stops=True)
        if len(recommender.dataset.catalogue) > PATIENCE:
            self.progress = Work("learning what tastes there are")
            recommender.prepare(progress=self._told("learning what tastes there are", stops=True))
        self.progress = Work("learning what newcomers are compared with")
        recommender.prepare_newcomers()
        log.info("the model is prepared, in %.1f s", time.perf_counter() - started)

    def _told(self, what: str, *, stops: bool = False) -> Callable[[int, int], None]:
        def told(done: int, total: int) -> None:
            if stops and self._is_stopped:
                raise _StoppedError
            self.progress = Work(what, done, total)

        return told

    def _observe(self, batch: Sequence[Waiting[Asked]]) -> None:
        if self.observer is not None and batch:
            self.observer.batch(len(batch))
            now = time.perf_counter()
            for each in batch:
                self.observer.waited(now - each.since)

    def _answer(self, batch: Sequence[Waiting[Asked]]) -> None:
        """Answer questions, equal ones once; a change parts those before it from those after it."""
        alike: dict[Query, list[Waiting[Asked]]] = {}
        for each in batch:
            if each.is_over:  # nobody waits for it any more
                continue
            if isinstance(each.asked, Query):
                alike.setdefault(each.asked, []).append(each)
            else:
                self._answer_alike(alike)
                alike = {}
                self._tell([each], each.asked)
                self._rankings.drop(lambda _: True)
                self._answers.drop(lambda _: True)
        self._answer_alike(alike)

    def _answer_alike(self, alike: dict[Query, list[Waiting[Asked]]]) -> None:
        """Answer different questions: what is kept, then light completions, together, then the others in turn."""
        is_kept = {query: self._answers.get(query) is not None for query in alike}
        for query in alike:
            if is_kept[query]:
                self._tell_found(query, alike[query])
        light = self._light([query for query in alike if isinstance(query, Complete) and not is_kept[query]])
        for query, answer in light.items():
            self._answers.put(query, answer)
        tell([(each, answer, None) for query, answer in light.items() for each in alike[query]])
        for query in alike:
            if not is_kept[query] and query not in light:
                self._tell_found(query, alike[query])

    def _light(self, queries: Sequence[Complete]) -> dict[Query, Ranked]:
        """Answers to those that are light; whoever is not among them is answered alone, and hears what is wrong."""
        asked: dict[Query, Unfinished] = {}
        for query in queries:
            with contextlib.suppress(Exception):
                unfinished = query.asked(self.recommender)
                if self.recommender.is_light(unfinished):
                    asked[query] = unfinished
        answers: list[Ranked] = []
        if asked:
            with contextlib.suppress(Exception), one_thread():
                answers = finished(self.recommender, list(asked.values()))
        return dict(zip(asked, answers, strict=False))  # all of them or none

    def _tell_found(self, query: Query, asked: Sequence[Waiting[Asked]]) -> None:
        if not all(each.is_over for each in asked):
            self._tell(asked, lambda _: self._found(query))

    def _tell(self, asked: Sequence[Waiting[Asked]], call: Callable[[Recommender], Any]) -> None:
        answer, error = None, None
        try:
            answer = call(self.recommender)
        except Exception as raised:  # whoever asked shall hear of it; the thread goes on
            error = raised
        self.progress = None
        tell([(each, answer, error) for each in asked])

    def _found(self, query: Query) -> Any:
        found = self._answers.get(query)
        if found is None:
            if isinstance(query, Recommend) and query.source == "known":
                found = query.chosen(self.recommender, self._ranking(query.user))
            else:
                found = query.answer(self.recommender)
            if isinstance(query, KEPT_KINDS):
                self._answers.put(query, found)
        return found

    def _ranking(self, user: User) -> Ranking:
        ranking = self._rankings.get(user)
        if ranking is None:
            ranking = self.recommender.rank(user)
            self._rankings.put(user, ranking)
        return ranking


class _StoppedError(Exception):
    """The engine is stopped while it prepares."""
