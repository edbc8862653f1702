"""WARDROBE: pieces that the visitor picked, outfits composed from them, and a score of photos that are never kept."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from starlette.responses import Response

from panfit.errors import DataError, Problem
from panfit.serve.page.desk import NobodyError, Person
from panfit.serve.page.forms import Form, Guest, Sent
from panfit.serve.page.render import PageRoute, Visitor, local
from panfit.serve.page.show import cards, full_of, part, piece
from panfit.serve.page.visit import MAX_WARDROBE, add_to_wardrobe
from panfit.serve.queries import ScorePhotos
from panfit.serve.uploads import UploadError, decode
from panfit.unseen import Photo

router = APIRouter(include_in_schema=False, route_class=PageRoute)

RACK_PAGE = 36
COMPOSED = 12
REPEAT = 3
"""In how many of the composed outfits one piece may appear: a wardrobe is small."""

Number = Annotated[int, Query(ge=0, le=100_000)]
Text = Annotated[str, Query(max_length=200)]


@router.get("/wardrobe")
async def wardrobe(
    visitor: Guest, user: str | None = None, category: Text = "", q: Text = "", page: Number = 0
) -> Response:
    """Pick pieces of the catalogue."""
    person, me = await _who(visitor, user)
    return visitor.page("wardrobe.html", person=person, me=me, **_rack(visitor, category, q, page))


@router.get("/wardrobe/rack")
async def rack(
    visitor: Guest, user: str | None = None, category: Text = "", q: Text = "", page: Number = 0
) -> Response:
    """The catalogue's part of that page."""
    person, _ = await _who(visitor, user)
    return visitor.page("rack.html", person=person, **_rack(visitor, category, q, page))


@router.post("/wardrobe")
async def change(form: Form) -> Response:
    """Put pieces in, take them out, or empty it."""
    visitor, desk = form.visitor, form.visitor.desk
    item_ids = form.texts("piece")
    for item_id in item_ids:
        desk.service.engine.recommender.ids.item_row(item_id)
    wish = form.text("wish")
    if wish == "add":
        if not add_to_wardrobe(desk.visits, visitor.visit, item_ids):
            raise DataError(
                "the wardrobe is full",
                [
                    Problem(
                        "wardrobe", "no more room", "fewer", f"It holds at most {MAX_WARDROBE} pieces; take some out."
                    )
                ],
            )
    elif wish == "remove":
        visitor.visit.wardrobe = [each for each in visitor.visit.wardrobe if each not in item_ids]
    elif wish == "empty":
        visitor.visit.wardrobe = []
    else:
        raise HTTPException(422, "Say whether to add, remove or empty.")
    if not visitor.is_part:
        return visitor.go(local(form.text("back", "/wardrobe")))
    person, _ = await _who(visitor, form.user)
    return visitor.page(
        "wardrobe_changed.html",
        person=person,
        pieces=[piece(desk.service.dataset, item_id) for item_id in item_ids],
        from_tray=form.text("tray") == "yes",
        is_shown=form.text("shown") == "yes",
        back=local(form.text("back", "/wardrobe")),
        **_tray(visitor),
    )


@router.get("/wardrobe/outfits")
async def composed(visitor: Guest, user: str | None = None, wait: bool = False) -> Response:
    """The best outfits of one's own pieces."""
    desk = visitor.desk
    person, me = await _who(visitor, user)
    if person is None:
        raise NobodyError
    found = await desk.soon(_composed(visitor, person), wait=wait)
    shown = None if found is None else cards(desk.service.dataset, found)
    return visitor.page("own_outfits.html", person=person, me=me, cards=shown, **_tray(visitor))


@router.get("/wardrobe/answers")
async def composed_answers(visitor: Guest, user: str | None = None) -> Response:
    """The outfits of that page."""
    person, _ = await _who(visitor, user)
    if person is None:
        raise NobodyError
    found = await _composed(visitor, person)
    return visitor.page("own_answers.html", person=person, cards=cards(visitor.desk.service.dataset, found))


@router.get("/photos")
async def photos(visitor: Guest, user: str | None = None) -> Response:
    """A form for photos of one's own."""
    person, me = await _who(visitor, user)
    return visitor.page("photos.html", person=person, me=me, result=None, **_choices(visitor))


@router.post("/photos")
async def score_photos(form: Form) -> Response:
    """Score an outfit of photos and pieces of the catalogue. Nothing of a photo outlives the request."""
    visitor, desk = form.visitor, form.visitor.desk
    person = await desk.person(visitor.visit, form.user)
    worn = [await _worn(form, slot.name) for slot in desk.service.dataset.slots]
    if all(each is None for each in worn):
        raise DataError("choose a photo or a piece for at least one place")
    user = await desk.eyes(person)
    if any(isinstance(each, Photo) for each in worn):
        (score,) = await desk.service.engine.ask(ScorePhotos(user, worn))
        result = {"score": part(float(score), abs(float(score))), "general": None, "personal": None}
    else:
        ranked = await desk.score(person, (tuple(each if isinstance(each, str) else None for each in worn),))
        full = full_of(ranked.general, ranked.personal)
        values = {"score": ranked.scores, "general": ranked.general, "personal": ranked.personal}
        result = {name: part(float(value[0]), full) for name, value in values.items()}
    if visitor.is_part:
        return visitor.page("photos_result.html", person=person, result=result)
    me = await desk.me(visitor.visit)
    return visitor.page("photos.html", person=person, me=me, result=result, **_choices(visitor))


async def _worn(form: Sent, slot: str) -> Photo | str | None:
    """What a form puts into one slot: a photo before a piece of the catalogue."""
    upload = form.file(f"photo.{slot}")
    if upload is None:
        return form.text(f"piece.{slot}") or None
    try:
        image = await decode(upload, form.visitor.desk.service.config.limits)
    except UploadError as error:
        raise HTTPException(error.status, f"{slot}: {error.detail}") from None
    return Photo(image, title=form.text(f"title.{slot}").strip()[:200] or None)


async def _who(visitor: Visitor, user: str | None) -> tuple[Person | None, Person | None]:
    """Through whose eyes, if anybody's; and who the visitor is."""
    me = await visitor.desk.me(visitor.visit)
    return (me if user is None else await visitor.desk.person(visitor.visit, user)), me


async def _composed(visitor: Visitor, person: Person) -> Any:
    there = visitor.desk.service.dataset.catalogue.row_of
    own = tuple(item_id for item_id in visitor.visit.wardrobe if item_id in there)
    return await visitor.desk.complete(person, {"among": own, "top": COMPOSED, "repeat": REPEAT})


def _tray(visitor: Visitor) -> dict[str, Any]:
    """What is in the wardrobe, and which categories are still missing for an outfit."""
    dataset = visitor.desk.service.dataset
    catalogue = dataset.catalogue
    own = [piece(dataset, item_id) for item_id in visitor.visit.wardrobe if item_id in catalogue.row_of]
    have = {each.slot for each in own}
    missing = [category for category in catalogue.categories if category not in have]
    return {"own": own, "missing": missing, "most": MAX_WARDROBE}


def _rack(visitor: Visitor, category: str, q: str, page: int) -> dict[str, Any]:
    """A page of the catalogue."""
    dataset = visitor.desk.service.dataset
    catalogue = dataset.catalogue
    wanted = q.strip().casefold()
    gone = frozenset(visitor.desk.service.engine.recommender.withdrawn)
    found = [
        item_id
        for item_id, of, title in zip(catalogue.item_ids, catalogue.item_categories, catalogue.titles, strict=True)
        if category in ("", of) and item_id not in gone and wanted in f"{title or ''} {item_id}".casefold()
    ]
    pieces = [piece(dataset, item_id) for item_id in found[page * RACK_PAGE : (page + 1) * RACK_PAGE]]
    more = page + 1 if (page + 1) * RACK_PAGE < len(found) else None
    return {
        "pieces": pieces,
        "category": category,
        "categories": catalogue.categories,
        "q": q,
        "found": len(found),
        "more": more,
        "rack_page": page,
        **_tray(visitor),
    }


def _choices(visitor: Visitor) -> dict[str, Any]:
    """For each slot, the pieces of the wardrobe that go there."""
    dataset: Any = visitor.desk.service.dataset
    own = _tray(visitor)["own"]
    return {"slots": [(slot, [each for each in own if each.slot == slot.category]) for slot in dataset.slots]}
