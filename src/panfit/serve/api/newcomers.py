"""NEWCOMERS: people whom the model was not trained with, their likes and dislikes, kept until they are erased."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from panfit.ids import OutfitIds
from panfit.newcomers import check_opinions
from panfit.serve.api.asking import ServiceDep, check_lists, check_user
from panfit.serve.api.tags import private
from panfit.serve.likes import Profile
from panfit.serve.problems import documented
from panfit.serve.schemas import ID_LENGTH, NewcomerIn, NewcomerOut, OutfitsIn, as_ids, newcomer
from panfit.serve.service import Service, train_likes

router = APIRouter(prefix="/v1/newcomers", tags=["newcomers"])
NewcomerId = Annotated[str, Path(alias="id", max_length=ID_LENGTH, examples=["new-00000000000000000000000000000000"])]


@router.post(
    "",
    operation_id="create_newcomer",
    status_code=201,
    response_model=NewcomerOut,
    responses={
        201: {"headers": {"Location": {"description": "The newcomer's address.", "schema": {"type": "string"}}}},
        **documented(400, 404, 415, 422, 501, 503),
    },
)
async def create_newcomer(service: ServiceDep, body: NewcomerIn) -> Response:
    """Somebody new, from a few likes, or from none. His id goes wherever a user's id goes.

    The id cannot be guessed, and who knows it can ask about him, change his opinions, and erase him.
    """
    check_lists(service, likes=body.likes, dislikes=body.dislikes)
    recommender = service.engine.recommender
    assert recommender.pan is not None  # a rival is refused
    likes, dislikes = as_ids(body.likes), as_ids(body.dislikes)
    await anyio.to_thread.run_sync(_check, service, likes, dislikes)
    if body.like_user is not None:
        await check_user(service, body.like_user)
        likes = tuple(dict.fromkeys([*train_likes(service.dataset, body.like_user), *likes]))
        check_opinions(likes, dislikes)
    profile = await anyio.to_thread.run_sync(service.likes.create, body.name, likes, dislikes)
    return _told(service, profile, 201, {"Location": f"/v1/newcomers/{profile.id}"})


@router.get("/{id}", operation_id="get_newcomer", response_model=NewcomerOut, responses=documented(404, 422, 503))
async def get_newcomer(service: ServiceDep, newcomer_id: NewcomerId) -> Response:
    """A newcomer and his opinions."""
    return _told(service, await service.profile(newcomer_id))


@router.delete(
    "/{id}",
    operation_id="erase_newcomer",
    status_code=204,
    response_class=Response,
    responses=documented(404, 422, 503),
)
async def erase_newcomer(service: ServiceDep, newcomer_id: NewcomerId) -> Response:
    """Erase a newcomer and his opinions, for good."""
    await anyio.to_thread.run_sync(service.likes.forget, newcomer_id)
    service.forget(newcomer_id)
    return Response(status_code=204)


@router.post(
    "/{id}/likes",
    operation_id="add_likes",
    response_model=NewcomerOut,
    responses=documented(400, 404, 415, 422, 503),
)
async def add_likes(service: ServiceDep, newcomer_id: NewcomerId, body: OutfitsIn) -> Response:
    """He likes these outfits. Said twice, it changes nothing; what he disliked before, he likes from now on."""
    return await _put(service, newcomer_id, body, liked=True)


@router.post(
    "/{id}/dislikes",
    operation_id="add_dislikes",
    response_model=NewcomerOut,
    responses=documented(400, 404, 415, 422, 503),
)
async def add_dislikes(service: ServiceDep, newcomer_id: NewcomerId, body: OutfitsIn) -> Response:
    """He does not like these outfits. Said twice, it changes nothing; what he liked before, he dislikes from now on."""
    return await _put(service, newcomer_id, body, liked=False)


@router.delete(
    "/{id}/opinions/{opinion}",
    operation_id="withdraw_opinion",
    response_model=NewcomerOut,
    responses=documented(404, 422, 503),
)
async def withdraw_opinion(
    service: ServiceDep, newcomer_id: NewcomerId, opinion: Annotated[str, Path(max_length=ID_LENGTH)]
) -> Response:
    """He has no opinion on that outfit any more."""
    return _told(service, await anyio.to_thread.run_sync(service.likes.remove, newcomer_id, opinion))


async def _put(service: Service, newcomer_id: str, body: OutfitsIn, *, liked: bool) -> Response:
    check_lists(service, outfits=body.outfits)
    outfits = as_ids(body.outfits)
    await anyio.to_thread.run_sync(_check, service, outfits, ())
    profile = await anyio.to_thread.run_sync(partial(service.likes.put, newcomer_id, outfits, liked=liked))
    return _told(service, profile)


def _check(service: Service, likes: Sequence[OutfitIds], dislikes: Sequence[OutfitIds]) -> None:
    """Raise UnknownIdError or DataError, with all that is wrong, unless the outfits fit and do not contradict."""
    for outfits in (likes, dislikes):
        service.engine.recommender.ids.outfit_rows(outfits)
    check_opinions(likes, dislikes)


def _told(service: Service, profile: Profile, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return private(newcomer(profile, service.known(profile).gone), status, headers)
