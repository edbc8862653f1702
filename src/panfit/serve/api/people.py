"""PEOPLE: the model's users, and who has whose taste."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from panfit.serve.api import addresses  # noqa: F401 {id:any}
from panfit.serve.api.asking import (
    USUAL_PAGE,
    USUAL_TOP,
    AfterQuery,
    LimitQuery,
    ServiceDep,
    TopQuery,
    UserQuery,
    asked_about,
    bounded,
    check_user,
)
from panfit.serve.api.tags import tagged
from panfit.serve.problems import documented
from panfit.serve.queries import SimilarUsers
from panfit.serve.schemas import ID_LENGTH, SimilarUser, UserOut, UsersOut, similar_users

router = APIRouter(prefix="/v1", tags=["users"])


@router.get("/users", operation_id="list_users", response_model=UsersOut, responses=documented(304, 404, 422))
async def list_users(
    request: Request, service: ServiceDep, limit: LimitQuery = USUAL_PAGE, after: AfterQuery = None
) -> Response:
    """The users that the model was trained with, in the data set's order. Newcomers are never listed."""
    limit = bounded("limit", limit, service.config.limits.list_items, USUAL_PAGE)
    ids, people = service.dataset.user_ids, service.engine.recommender.people
    if after is not None:
        await check_user(service, after)
    first = 0 if after is None else service.dataset.user_row_of[after] + 1
    tag = tagged(request)
    if tag.is_held:
        return tag.not_modified()
    shown = ids[first : first + limit]
    users = [UserOut(id=each, likes=len(people.known(each)), is_newcomer=False) for each in shown]
    return tag.answer(UsersOut(users=users, next=shown[-1] if first + limit < len(ids) else None))


@router.get("/users/{id:any}", operation_id="get_user", response_model=UserOut, responses=documented(304, 404, 422))
async def get_user(
    request: Request,
    service: ServiceDep,
    user_id: Annotated[str, Path(alias="id", max_length=ID_LENGTH, examples=["u001"])],
) -> Response:
    """A user of the model, or a newcomer."""
    asked = await asked_about(service, user_id)
    tag = tagged(request, asked.state)
    if tag.is_held:
        return tag.not_modified()
    if asked.profile is None:
        likes = len(service.engine.recommender.people.known(user_id))
    else:
        likes = sum(opinion.liked for opinion in asked.profile.opinions)
    return tag.answer(UserOut(id=user_id, likes=likes, is_newcomer=asked.profile is not None))


@router.get(
    "/similar-users",
    operation_id="similar_users",
    response_model=list[SimilarUser],
    responses=documented(304, 404, 422, 501, 503),
)
async def list_similar_users(
    request: Request, service: ServiceDep, user: UserQuery, top: TopQuery = USUAL_TOP
) -> Response:
    """The model's users whose taste is nearest to a user's, nearest first, himself aside."""
    top = bounded("top", top, service.config.limits.top, USUAL_TOP)
    asked = await asked_about(service, user)
    tag = tagged(request, asked.state)
    if tag.is_held:
        return tag.not_modified()
    found = await service.engine.ask(SimilarUsers(await asked.user(service), top))
    return tag.answer(similar_users(found))
