"""ASKING: what handlers share: the service, whom a request is about, and how much it may ask for."""

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Annotated, cast

import anyio.to_thread
from fastapi import Depends, Query, Request

from panfit.errors import DataError, Problem
from panfit.newcomers import User
from panfit.serve.likes import Profile
from panfit.serve.schemas import ID_LENGTH
from panfit.serve.service import Service


async def service_of(request: Request) -> Service:
    """The app's service. Asynchronous, though it waits for nothing: FastAPI takes others to a thread and back."""
    return cast(Service, request.app.state.service)


USUAL_TOP, USUAL_PAGE = 10, 100
"""Answers to a question, and entries of a page, where a client does not say how many."""

ServiceDep = Annotated[Service, Depends(service_of)]
UserQuery = Annotated[
    str,
    Query(max_length=ID_LENGTH, description="The id of a user of the model, or of a newcomer.", examples=["u001"]),
]
TopQuery = Annotated[int, Query(ge=1, description="How many answers; fewer come where there are fewer.")]
LimitQuery = Annotated[int, Query(ge=1, description="How many a page holds.")]
AfterQuery = Annotated[
    str | None,
    Query(max_length=ID_LENGTH, description="The last id of the page before; the first page comes without."),
]


@dataclass(frozen=True)
class Asked:
    """Whom a request is about, checked, and in which state.

    Attributes:
        id: of a user of the model or of a newcomer.
        profile: the newcomer's; None for a user of the model.
    """

    id: str
    profile: Profile | None

    @property
    def state(self) -> str:
        """What answers about him depend on, beside the model and the question."""
        return self.id if self.profile is None else f"{self.id} {self.profile.version}"

    async def user(self, service: Service) -> User:
        """As the Recommender takes him."""
        return self.id if self.profile is None else await service.newcomer(self.profile)


async def asked_about(service: Service, user_id: str, *items: str | None) -> Asked:
    """Whom an id means; he and the items are known. Raises UnknownIdError."""
    await check_items(service, items)
    if service.is_newcomer(user_id):
        return Asked(user_id, await service.profile(user_id))
    await check_user(service, user_id)
    return Asked(user_id, None)


async def check_user(service: Service, user_id: str) -> None:
    """Raise UnknownIdError for somebody who is not a user of the model."""
    if user_id not in service.dataset.user_row_of:
        # To find the nearest ids takes long: neither other clients nor the engine shall wait for it.
        await anyio.to_thread.run_sync(service.engine.recommender.ids.user_row, user_id)


async def check_items(service: Service, items: Iterable[str | None]) -> None:
    """Raise UnknownIdError for an item that the catalogue does not have."""
    known = service.dataset.catalogue.row_of
    for item in items:
        if item is not None and item not in known:
            await anyio.to_thread.run_sync(service.engine.recommender.ids.item_row, item)


def bounded(name: str, number: int, most: int, usual: int) -> int:
    """How many answers come; of the usual number, no more than there may be. Raises DataError for more than that."""
    if number == usual:
        return min(usual, most)
    check_number(name, number, most)
    return number


def check_number(name: str, number: int, most: int) -> None:
    """Raise DataError for more than a request may ask for."""
    if number > most:
        found = Problem(name, str(number), f"at most {most}", "Ask in several requests.")
        raise DataError("the request asks for too much", [found])


def check_lists(service: Service, **lists: Sized | None) -> None:
    """Raise DataError for a list of more entries than a request may hold."""
    for name, entries in lists.items():
        check_number(name, 0 if entries is None else len(entries), service.config.limits.list_items)
