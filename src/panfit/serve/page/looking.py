"""LOOKING: one outfit through one person's eyes, and beside it through another's; what would raise it; a gap filled."""

import io
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, HTTPException, Query
from starlette.responses import Response

from panfit.errors import DataError, UnknownIdError
from panfit.explain import Explanation
from panfit.features.photos import open_photo
from panfit.figure import LEAST_REACH, MOST_REACH, Look, as_seen
from panfit.heat import color_bar, heat_map
from panfit.ids import OutfitIds
from panfit.outfits import Catalogue
from panfit.serve.page.desk import Desk, NobodyError, Person
from panfit.serve.page.forms import Guest, outfit_from
from panfit.serve.page.people import opinion_of
from panfit.serve.page.render import PageRoute, Visitor
from panfit.serve.page.show import card, full_of, part, piece
from panfit.serve.queries import SimilarUsers

router = APIRouter(include_in_schema=False, route_class=PageRoute)

HEAT_PIXELS = 384
FILLERS = 12
NEIGHBORS = 3
MAX_CHOICES = 400
"""People offered in a list to choose from; of more users, the first ones (any id can be typed)."""

Items = Annotated[list[str], Query(max_length=16)]


@router.get("/look")
async def look(
    visitor: Guest,
    item: Items,
    user: str | None = None,
    against: str | None = None,
    look: Look = "relative",
    wait: bool = False,
) -> Response:
    """Why somebody likes an outfit as much as he does."""
    person, outfit, other = await _asked(visitor, user, item, against)
    desk = visitor.desk
    found = await desk.soon(_why(desk, person, outfit, other, look), wait=wait)
    me = person if person.is_me else await desk.me(visitor.visit)
    shown = card(desk.service.dataset, outfit, opinion=opinion_of(me.profile if me else None, outfit))
    values: dict[str, Any] = {"why": None} if found is None else found
    return visitor.page(
        "look.html", person=person, me=me, other=other, card=shown, look=look, against=against, **values
    )


@router.get("/look/why")
async def why(
    visitor: Guest, item: Items, user: str | None = None, against: str | None = None, look: Look = "relative"
) -> Response:
    """What of that page takes long."""
    person, outfit, other = await _asked(visitor, user, item, against)
    desk = visitor.desk
    me = person if person.is_me else await desk.me(visitor.visit)
    found = await _why(desk, person, outfit, other, look)
    shown = card(desk.service.dataset, outfit)
    return visitor.page("why.html", person=person, me=me, other=other, card=shown, look=look, against=against, **found)


@router.get("/look/heat")
async def heat(
    visitor: Guest,
    item: Items,
    slot: str,
    user: str | None = None,
    against: str | None = None,
    look: Look = "relative",
    eyes: Annotated[str, Query(pattern="^(own|other)$")] = "own",
) -> Response:
    """Where a person looks on one garment: colors over its photo, PNG. All of a page's pictures share one scale."""
    person, outfit, other = await _asked(visitor, user, item, against)
    desk = visitor.desk
    explanation = await desk.explain(person, outfit, other)
    if slot not in explanation.by_item:
        raise UnknownIdError(f"nothing is worn in a slot {slot!r}")
    seen = explanation if eyes == "own" or explanation.against is None else explanation.against
    reach, catalogue = _reach(explanation, look), desk.service.dataset.catalogue
    fit = desk.service.engine.recommender.pan.config.images.fit
    drawn = await anyio.to_thread.run_sync(
        lambda: _drawn(seen, slot, look, reach, catalogue, fit), limiter=desk.drawing
    )
    if drawn is None:
        raise HTTPException(404, "This piece has no photo.")
    return Response(drawn, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


@router.get("/look/scale")
async def scale(look: Look = "relative") -> Response:
    """The colors, from least to most."""
    file = io.BytesIO()
    color_bar(256, 10, scale="both" if look == "relative" else "more").save(file, format="PNG")
    return Response(file.getvalue(), media_type="image/png", headers={"Cache-Control": "public, max-age=86400"})


@router.get("/complete")
async def complete(visitor: Guest, item: Items, open: str, user: str | None = None, wait: bool = False) -> Response:
    """What fills the gap best when one piece is taken off."""
    desk = visitor.desk
    person = await desk.person(visitor.visit, user)
    dataset = desk.service.dataset
    names = [slot.name for slot in dataset.slots]
    outfit = outfit_from(visitor, item)
    if open not in names:
        raise UnknownIdError(f"there is no slot {open!r}; the slots: {', '.join(names)}")
    place = names.index(open)
    found = await desk.soon(_fillers(desk, person, outfit, place), wait=wait)
    taken = outfit[place]
    return visitor.page(
        "complete.html",
        person=person,
        me=person if person.is_me else await desk.me(visitor.visit),
        card=card(dataset, outfit),
        open=open,
        taken=None if taken is None else piece(dataset, taken, open),
        fillers=found,
    )


@router.get("/complete/fillers")
async def fillers(visitor: Guest, item: Items, open: str, user: str | None = None) -> Response:
    """The pieces of that page."""
    desk = visitor.desk
    person = await desk.person(visitor.visit, user)
    place = desk.service.engine.recommender.ids.slot(open)
    outfit = outfit_from(visitor, item)
    found = await _fillers(desk, person, outfit, place)
    return visitor.page("fillers.html", person=person, open=open, fillers=found)


async def _asked(
    visitor: Visitor, user: str | None, items: list[str], against: str | None
) -> tuple[Person, OutfitIds, Person | None]:
    """Who looks at what, and who looks beside him."""
    desk = visitor.desk
    person = await desk.person(visitor.visit, user)
    outfit = outfit_from(visitor, items)
    if not against:
        return person, outfit, None
    try:
        other = await desk.person(visitor.visit, against)
    except NobodyError:
        return person, outfit, None
    return person, outfit, None if other == person else other


async def _why(desk: Desk, person: Person, outfit: OutfitIds, other: Person | None, look: Look) -> dict[str, Any]:
    """All that `why.html` draws."""
    service = desk.service
    near, _ = await service.engine.ask(SimilarUsers(await desk.eyes(person), len(service.dataset.user_ids)))
    found = await desk.explain(person, outfit, other)
    both = [found] if found.against is None else [found, found.against]
    full = full_of(*([each.general, each.personal] for each in both))
    full_small = full_of(*([*each.by_item.values(), *each.by_pair.values()] for each in both))
    swap = None
    if found.swap is not None:
        place = found.slots.index(found.swap.slot)
        swapped = (*outfit[:place], found.swap.add, *outfit[place + 1 :])
        swap = {
            "slot": found.swap.slot,
            "remove": piece(service.dataset, found.swap.remove, found.swap.slot),
            "add": piece(service.dataset, found.swap.add, found.swap.slot),
            "gain": part(found.swap.gain, full),
            "score": part(found.swap.score, full),
            "items": [each or "" for each in swapped],
        }
    reach = _reach(found, look)
    return {
        "why": found,
        "seen": [_seen(each, full, full_small) for each in both],
        "swap": swap,
        "reach": f"{2**reach:.1f}" if look == "relative" else f"{reach:.1f}",
        "nearest": near[:NEIGHBORS],
        "farthest": near[::-1][:NEIGHBORS] if len(near) > 2 * NEIGHBORS else [],
        "choices": [each for each in service.dataset.user_ids[:MAX_CHOICES] if each != person.user_id],
    }


def _seen(explanation: Explanation, full: float, full_small: float) -> dict[str, Any]:
    return {
        "score": part(explanation.score, full),
        "general": part(explanation.general, full),
        "personal": part(explanation.personal, full),
        "by_item": {slot: part(share, full_small) for slot, share in explanation.by_item.items()},
        "by_pair": {pair: part(share, full_small) for pair, share in explanation.by_pair.items()},
    }


def _values(explanation: Explanation, slot: str, look: Look) -> Any:
    """(H, W) what is colored, as in `panfit.figure`."""
    if look == "relative" or not explanation.has_attention:
        return explanation.relative_maps[slot]
    spatial = explanation.spatial_maps[slot]  # (H, W)
    return spatial / spatial.mean()


def _reach(explanation: Explanation, look: Look) -> float:
    """What gets the strongest color on a page."""
    both = [explanation] if explanation.against is None else [explanation, explanation.against]
    most = max(float(_values(each, slot, look).max()) for each in both for slot in each.by_item)
    is_relative = look == "relative" or not explanation.has_attention
    return min(max(most, LEAST_REACH), MOST_REACH) if is_relative else max(most, 1e-9)


def _drawn(
    explanation: Explanation, slot: str, look: Look, reach: float, catalogue: Catalogue, fit: Any
) -> bytes | None:
    """A PNG file; None where there is no photo, or none that can be used."""
    item_id = explanation.items[explanation.slots.index(slot)]
    image = None if item_id is None else catalogue.images[catalogue.row_of[item_id]]
    if image is None:
        return None
    try:
        photo = open_photo(catalogue.image_root / image, at_least=HEAT_PIXELS)
    except DataError:
        return None
    ground = as_seen(photo, fit)
    scale = HEAT_PIXELS / max(ground.size)
    size = max(1, round(ground.width * scale)), max(1, round(ground.height * scale))
    drawn = heat_map(ground, _values(explanation, slot, look), reach=reach, size=size)
    left, top = (ground.width - photo.width) // 2 * scale, (ground.height - photo.height) // 2 * scale
    own = round(left), round(top), round(left + photo.width * scale), round(top + photo.height * scale)
    file = io.BytesIO()
    drawn.crop(own).save(
        file, format="PNG", compress_level=1
    )  # without the ground that the model saw it on: it lies over the photo
    return file.getvalue()


async def _fillers(desk: Desk, person: Person, outfit: OutfitIds, place: int) -> list[dict[str, Any]]:
    """Pieces for one slot, best first, each with the outfit that it makes; what was there is marked."""
    dataset = desk.service.dataset
    slots = dataset.slots
    given = tuple((slots[other].name, item) for other, item in enumerate(outfit) if item is not None and other != place)
    if not given:
        raise DataError("take off a piece of an outfit of at least two")
    query = {"given": given, "top": FILLERS, "slots": (slots[place].name,)}
    found = await desk.complete(person, query)
    full = full_of(found.scores)
    return [
        {
            "piece": piece(dataset, filled[place] or "", slots[place].name),
            "items": [each or "" for each in filled],
            "score": part(score, full),
            "is_same": filled[place] == outfit[place],
        }
        for filled, score in zip(found.outfits, found.scores, strict=True)
    ]
