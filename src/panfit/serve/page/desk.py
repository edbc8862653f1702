"""DESK: what all of the page's addresses share: who is meant, what the model says to it, and how long that may take."""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from panfit.answers import Source
from panfit.errors import UnknownIdError
from panfit.explain import Explanation
from panfit.ids import OutfitIds
from panfit.newcomers import User
from panfit.serve.likes import Profile
from panfit.serve.page.visit import Visit, Visits
from panfit.serve.page.wall import make_wall
from panfit.serve.queries import Complete, Explain, Ranked, Recommend, Score
from panfit.serve.service import Service
from panfit.serve.session import session_of

T = TypeVar("T")

SOON_S = 0.3
"""What is there within this is shown at once; for more, the page comes first and the answer when it is there."""
KEPT_EXPLANATIONS = 128
DRAWN_AT_ONCE = 2
"""Pictures: a page wants six at a time, and the model wants the processor too."""
ME = "~me"
"""Stands for the visitor himself where another person is chosen; a user of the model of that name comes first."""


class NobodyError(Exception):
    """The visitor is nobody yet, or his newcomer was erased: he has to like something first."""


@dataclass(frozen=True)
class Person:
    """Through whose eyes a page looks.

    Attributes:
        user_id: a user of the model, or the id of the visitor's newcomer.
        name: what to call him.
        profile: the newcomer's opinions; None of a user of the model.
        num_likes: how many outfits he is known to like.
    """

    user_id: str
    name: str
    profile: Profile | None
    num_likes: int

    @property
    def is_me(self) -> bool:
        return self.profile is not None

    @property
    def params(self) -> dict[str, str]:
        """What an address says of him: nothing of the visitor himself, whose id is a secret."""
        return {} if self.is_me else {"user": self.user_id}

    @property
    def key(self) -> tuple[str, int]:
        """Changes whenever what he is known to like changes."""
        return self.user_id, self.profile.version if self.profile else 0


class Desk:
    """One per app.

    Args:
        service: started.
        visits: reads and writes cookies.
    """

    def __init__(self, service: Service, visits: Visits) -> None:
        self.service, self.visits = service, visits
        self.drawing = anyio.CapacityLimiter(DRAWN_AT_ONCE)
        self._explanations: OrderedDict[tuple[Any, ...], Explanation] = OrderedDict()
        self._running: set[asyncio.Task[Any]] = set()
        self._wall: asyncio.Task[list[OutfitIds]] | None = None

    async def person(self, visit: Visit, user_id: str | None) -> Person:
        """Whoever an address means; without a user id, the visitor's newcomer.

        Raises:
            UnknownIdError: no such user of the model; a newcomer's id is never taken from an address.
            NobodyError: the visitor is nobody yet.
        """
        dataset = self.service.dataset
        if user_id is not None and not (user_id == ME and ME not in dataset.user_row_of):
            self.service.engine.recommender.people.check(user_id)
            likes = dataset.likes["train"].users
            return Person(user_id, user_id, None, int((likes == dataset.user_row_of[user_id]).sum()))
        if visit.me is None:
            raise NobodyError
        try:
            profile = await self.service.profile(visit.me)
        except UnknownIdError:
            visit.leave(visit.me)
            raise NobodyError from None
        return Person(profile.id, "you", profile, sum(opinion.liked for opinion in profile.opinions))

    async def me(self, visit: Visit) -> Person | None:
        """The visitor's newcomer, if he is one."""
        try:
            return await self.person(visit, None)
        except NobodyError:
            return None

    async def eyes(self, person: Person) -> User:
        """As the Recommender takes him."""
        return person.user_id if person.profile is None else await self.service.newcomer(person.profile)

    async def recommend(self, person: Person, top: int, source: Source) -> Ranked:
        return await self.service.engine.ask(Recommend(await self.eyes(person), top, source))

    async def complete(self, person: Person, query: dict[str, Any]) -> Ranked:
        return await self.service.engine.ask(Complete(await self.eyes(person), **query))

    async def score(self, person: Person, outfits: tuple[OutfitIds, ...]) -> Ranked:
        return await self.service.engine.ask(Score(await self.eyes(person), outfits))

    async def explain(self, person: Person, outfit: OutfitIds, against: Person | None) -> Explanation:
        """Kept for a while: a page asks once, and then once for each picture on it."""
        key = person.key, outfit, None if against is None else against.key
        found = self._explanations.pop(key, None)
        if found is None:
            other = None if against is None else await self.eyes(against)
            found = await self.service.engine.ask(Explain(await self.eyes(person), outfit, other))
        self._explanations[key] = found
        while len(self._explanations) > KEPT_EXPLANATIONS:
            self._explanations.popitem(last=False)
        return found

    def forget(self, newcomer_id: str) -> None:
        """Hold nothing more of a newcomer who was erased."""
        self.service.forget(newcomer_id)
        for key in [key for key in self._explanations if any(part and part[0] == newcomer_id for part in key[::2])]:
            del self._explanations[key]

    async def wall(self) -> list[OutfitIds]:
        """Outfits of every taste there is, in turn; made once."""
        if self._wall is None or (self._wall.done() and self._wall.exception() is not None):
            self._wall = asyncio.create_task(anyio.to_thread.run_sync(make_wall, self.service.engine.recommender))
        return await asyncio.shield(self._wall)

    async def soon(self, work: Coroutine[Any, Any, T], *, wait: bool) -> T | None:
        """An answer if it comes within `SOON_S`, or, with ``wait``, whenever it comes; None: it is still being made."""
        if wait:
            return await work
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait([task], timeout=SOON_S)
        return task.result() if task.done() else None

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asks again will hear of it


async def desk_of(request: Request) -> Desk:
    """The desk of a request's app; made at the first request."""
    state = request.app.state
    desk = getattr(state, "page", None)
    if not isinstance(desk, Desk) or desk.service is not state.service:
        session = await session_of(request.app)
        desk = state.page = Desk(state.service, Visits(session, secure=state.service.config.secure_cookies))
    return desk
