"""ITEMS: the catalogue, and what looks like what."""

from typing import Annotated
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response

from panfit.errors import UnknownIdError
from panfit.outfits import IntArray
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
    check_items,
)
from panfit.serve.api.tags import tagged
from panfit.serve.problems import documented
from panfit.serve.queries import SimilarItems
from panfit.serve.schemas import ID_LENGTH, ItemOut, ItemsOut, SimilarItem, SlotOut, SlotsOut, similar_items
from panfit.serve.service import Service

router = APIRouter(prefix="/v1", tags=["items"])


@router.get("/slots", operation_id="list_slots", response_model=SlotsOut, responses=documented(304))
async def list_slots(request: Request, service: ServiceDep) -> Response:
    """The places of an outfit, in the order in which outfits are written as lists."""
    tag = tagged(request)
    if tag.is_held:
        return tag.not_modified()
    return tag.answer(
        SlotsOut(slots=[SlotOut(name=each.name, category=each.category) for each in service.dataset.slots])
    )


@router.get("/items", operation_id="list_items", response_model=ItemsOut, responses=documented(304, 404, 422))
async def list_items(
    request: Request,
    service: ServiceDep,
    category: Annotated[
        str | None, Query(max_length=ID_LENGTH, description="Only items of this category.", examples=["top"])
    ] = None,
    limit: LimitQuery = USUAL_PAGE,
    after: AfterQuery = None,
) -> Response:
    """The catalogue's items, in its order."""
    limit = bounded("limit", limit, service.config.limits.list_items, USUAL_PAGE)
    await check_items(service, [after])
    first = -1 if after is None else service.dataset.catalogue.row_of[after]
    rows = _rows(service, category)  # (n,) rising
    tag = tagged(request)
    if tag.is_held:
        return tag.not_modified()
    rest = rows[np.searchsorted(rows, first, side="right") :]  # (m,)
    shown = [_item(request, service, row) for row in rest[:limit].tolist()]
    return tag.answer(ItemsOut(items=shown, next=shown[-1].id if limit < len(rest) else None))


@router.get("/items/{id:any}", operation_id="get_item", response_model=ItemOut, responses=documented(304, 404, 422))
async def get_item(
    request: Request,
    service: ServiceDep,
    item_id: Annotated[str, Path(alias="id", max_length=ID_LENGTH, examples=["top-1"])],
) -> Response:
    """An item of the catalogue."""
    await check_items(service, [item_id])
    row = service.dataset.catalogue.row_of[item_id]
    tag = tagged(request)
    return tag.not_modified() if tag.is_held else tag.answer(_item(request, service, row))


@router.get(
    "/similar-items",
    operation_id="similar_items",
    response_model=list[SimilarItem],
    responses=documented(304, 404, 422, 501, 503),
)
async def list_similar_items(
    request: Request,
    service: ServiceDep,
    user: UserQuery,
    item: Annotated[str, Query(max_length=ID_LENGTH, description="An item's id.", examples=["top-1"])],
    top: TopQuery = USUAL_TOP,
) -> Response:
    """The items of an item's category that look most like it to a user, most alike first, itself aside."""
    top = bounded("top", top, service.config.limits.top, USUAL_TOP)
    asked = await asked_about(service, user, item)
    tag = tagged(request, asked.state)
    if tag.is_held:
        return tag.not_modified()
    found = await service.engine.ask(SimilarItems(await asked.user(service), item, top))
    return tag.answer(similar_items(found))


def _rows(service: Service, category: str | None) -> IntArray:
    """(n,) rows of a category's items, or of all, rising. Raises UnknownIdError."""
    catalogue = service.dataset.catalogue
    if category is None:
        return np.arange(len(catalogue))
    if category not in catalogue.categories:
        raise UnknownIdError(f"there is no category {category!r}; the categories: {', '.join(catalogue.categories)}")
    return np.flatnonzero(catalogue.category_rows == catalogue.categories.index(category))


def _item(request: Request, service: Service, row: int) -> ItemOut:
    catalogue = service.dataset.catalogue
    item_id = catalogue.item_ids[row]
    photo = f"{request.scope.get('root_path', '')}/v1/photos/{quote(item_id, safe='')}"
    return ItemOut(
        id=item_id,
        category=catalogue.item_categories[row],
        title=catalogue.titles[row],
        photo=None if catalogue.images[row] is None else photo,
    )
