"""EXPLANATIONS: why a user likes an outfit, as numbers and as a picture."""

import io
import logging
from dataclasses import replace
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from panfit.errors import DataError
from panfit.explain import Explanation
from panfit.figure import Look, explanation_picture, photos_of
from panfit.recommend import Recommender
from panfit.serve.api.asking import ServiceDep, UserQuery, asked_about, check_number
from panfit.serve.api.tags import private, tagged
from panfit.serve.problems import documented
from panfit.serve.queries import Explain
from panfit.serve.schemas import ID_LENGTH, ExplainIn, ExplanationOut

router = APIRouter(prefix="/v1", tags=["explanations"])
DRAWN_AT_ONCE = 2
"""Pictures: each takes a core and some ten megabytes while it is drawn."""

_log = logging.getLogger("panfit.serve")


@router.post(
    "/explain",
    operation_id="explain",
    response_model=ExplanationOut,
    responses=documented(400, 404, 415, 422, 501, 503),
)
async def explain(service: ServiceDep, body: ExplainIn) -> Response:
    """Why a user likes an outfit as much as he does, and, beside it, how another user sees it.

    The score is split into parts that add up exactly. Maps say where he looks; the swap, what would raise it most.
    """
    people = [await asked_about(service, each, *body.outfit) for each in (body.user, body.against) if each is not None]
    users = [await each.user(service) for each in people]
    found = await service.engine.ask(Explain(users[0], tuple(body.outfit), *users[1:]))
    return private(ExplanationOut.model_validate(found.to_json()))


@router.get(
    "/explanation.png",
    operation_id="draw_explanation",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **documented(304, 404, 422, 501, 503)},
)
async def draw_explanation(
    request: Request,
    service: ServiceDep,
    user: UserQuery,
    item: Annotated[
        list[Annotated[str, Query(max_length=ID_LENGTH)]],
        Query(
            description="Item ids in the order of the slots, one `item` for each slot, empty where nothing is worn.",
            max_length=64,
            examples=[["top-1", "bottom-2", ""]],
        ),
    ],
    against: Annotated[
        str | None, Query(max_length=ID_LENGTH, description="A second user, for comparison.", examples=["u002"])
    ] = None,
    look: Annotated[Look, Query(description="Where he looks more than others, or where at all.")] = "relative",
) -> Response:
    """A picture of where a user looks on each garment, and under it where another looks."""
    check_number("item", len(item), len(service.dataset.slots))
    outfit = tuple(each or None for each in item)
    people = [await asked_about(service, each, *outfit) for each in (user, against) if each is not None]
    tag = tagged(request, *(each.state for each in people))
    if tag.is_held:
        return tag.not_modified()
    users = [await each.user(service) for each in people]
    found = await service.engine.ask(Explain(users[0], outfit, *users[1:]))
    draw = partial(_drawn, service.engine.recommender, found, look)
    picture = await anyio.to_thread.run_sync(draw, limiter=request.app.state.drawing)
    return Response(picture, headers=tag.headers, media_type="image/png")


def _drawn(recommender: Recommender, explanation: Explanation, look: Look) -> bytes:
    photos: dict[str, Image.Image] = {}
    for slot in explanation.by_item:
        worn = [item if name == slot else None for name, item in zip(explanation.slots, explanation.items, strict=True)]
        try:
            photos |= photos_of(
                replace(explanation, items=tuple(worn)),
                recommender.dataset.catalogue,
                recommender.pan.config.images.fit,
            )
        except DataError:  # the shop's photo, not the client's mistake: a gray tile
            _log.warning("a photo of the catalogue cannot be used", exc_info=True)
    picture = io.BytesIO()
    explanation_picture(explanation, photos, look=look).save(picture, format="PNG")
    return picture.getvalue()
