"""OUTFITS: recommended, completed, composed, scored."""

from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from panfit.answers import Source
from panfit.serve.api.asking import USUAL_TOP, ServiceDep, TopQuery, UserQuery, asked_about, bounded, check_lists
from panfit.serve.api.tags import private, tagged
from panfit.serve.problems import documented
from panfit.serve.queries import Complete, Recommend, Score
from panfit.serve.schemas import CompleteIn, ComposeIn, OutfitsOut, ScoreIn, as_ids, ranking
from panfit.serve.service import Service

router = APIRouter(prefix="/v1", tags=["outfits"])
POSTED = documented(400, 404, 415, 422, 501, 503)


@router.get(
    "/recommendations",
    operation_id="recommend",
    response_model=OutfitsOut,
    responses=documented(304, 404, 422, 501, 503),
)
async def recommend(
    request: Request,
    service: ServiceDep,
    user: UserQuery,
    top: TopQuery = USUAL_TOP,
    source: Annotated[Source, Query(description="Outfits that somebody likes, or new ones.")] = "known",
    exclude_known: Annotated[bool, Query(description="Leave out what the user is known to like.")] = True,
) -> Response:
    """A user's best outfits, best first."""
    top = bounded("top", top, service.config.limits.top, USUAL_TOP)
    asked = await asked_about(service, user)
    tag = tagged(request, asked.state)
    if tag.is_held:
        return tag.not_modified()
    query = Recommend(await asked.user(service), top, source, exclude_known)
    return tag.answer(ranking(user, service.dataset.slots, await service.engine.ask(query)))


@router.post("/complete", operation_id="complete", response_model=OutfitsOut, responses=POSTED)
async def complete(service: ServiceDep, body: CompleteIn) -> Response:
    """The best ways to fill an outfit's open slots, best first."""
    return await _filled(service, body, repeat=None)


@router.post("/compose", operation_id="compose", response_model=OutfitsOut, responses=POSTED)
async def compose(service: ServiceDep, body: ComposeIn) -> Response:
    """Whole outfits, around given items or from nothing, of the catalogue or of one's own wardrobe, best first."""
    return await _filled(service, body, repeat=body.repeat)


@router.post("/score", operation_id="score", response_model=OutfitsOut, responses=POSTED)
async def score(service: ServiceDep, body: ScoreIn) -> Response:
    """How much a user likes each outfit, with the score's parts, in the order in which they were asked for."""
    check_lists(service, outfits=body.outfits)
    asked = await asked_about(service, body.user, *chain.from_iterable(body.outfits))
    found = await service.engine.ask(Score(await asked.user(service), as_ids(body.outfits)))
    return private(ranking(body.user, service.dataset.slots, found))


async def _filled(service: Service, body: CompleteIn, *, repeat: int | None) -> Response:
    top = bounded("top", body.top, service.config.limits.top, USUAL_TOP)
    check_lists(service, slots=body.slots, among=body.among, exclude=body.exclude)
    asked = await asked_about(service, body.user, *body.given.values(), *(body.among or ()), *body.exclude)
    query = Complete(
        user=await asked.user(service),
        given=tuple(sorted(body.given.items())),
        top=top,
        slots=None if body.slots is None else tuple(body.slots),
        among=None if body.among is None else tuple(body.among),
        exclude=tuple(body.exclude),
        repeat=repeat,
    )
    return private(ranking(body.user, service.dataset.slots, await service.engine.ask(query)))
