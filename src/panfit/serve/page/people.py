"""PEOPLE: the front page, where one chooses a person; the wall, where one starts fresh; what suits somebody."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from panfit.ids import OutfitIds
from panfit.serve.likes import Profile
from panfit.serve.page.desk import Desk, Person
from panfit.serve.page.forms import Guest
from panfit.serve.page.render import PageRoute, Visitor
from panfit.serve.page.show import Card, card, cards

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PEOPLE_PAGE = 24
WALL_PAGE = 24
HERO = 2
"""Outfits at the top of the front page."""
TOP, TOP_SO_FAR = 12, 4
LIKED = 6
"""Liked outfits that are shown beside what suits somebody."""
ENOUGH_LIKES = 3
"""So many are wanted before the wall shows what suits the visitor."""

Number = Annotated[int, Query(ge=0, le=100_000)]
Source = Literal["known", "composed"]


@router.get("/")
async def front(visitor: Guest, q: Annotated[str, Query(max_length=200)] = "", page: Number = 0) -> Response:
    """Choose a person, or start fresh."""
    desk = visitor.desk
    wall = await desk.wall()
    return visitor.page(
        "front.html",
        me=await desk.me(visitor.visit),
        hero=[card(desk.service.dataset, outfit) for outfit in wall[:HERO]],
        **_people(desk, q, page),
    )


@router.get("/people")
async def people(visitor: Guest, q: Annotated[str, Query(max_length=200)] = "", page: Number = 0) -> Response:
    """The part of the front page that a search changes."""
    return visitor.page("people.html", **_people(visitor.desk, q, page))


@router.get("/fresh")
async def fresh(visitor: Guest, page: Number = 0) -> Response:
    """A wall of outfits of every taste."""
    desk = visitor.desk
    wall = await desk.wall()
    me = await desk.me(visitor.visit)
    page %= max(1, -(-len(wall) // WALL_PAGE))
    shown = [
        card(desk.service.dataset, outfit, opinion=opinion_of(me.profile if me else None, outfit))
        for outfit in wall[page * WALL_PAGE : (page + 1) * WALL_PAGE]
    ]
    return visitor.page("fresh.html", me=me, person=me, cards=shown, page=page, **await so_far(visitor, me, wait=False))


@router.get("/fresh/so-far")
async def fresh_so_far(visitor: Guest) -> Response:
    """What suits the visitor by what he has liked until now."""
    me = await visitor.desk.me(visitor.visit)
    return visitor.page("so_far.html", me=me, person=me, **await so_far(visitor, me, wait=True))


@router.get("/outfits")
async def outfits(visitor: Guest, user: str | None = None, source: Source = "known", wait: bool = False) -> Response:
    """What suits somebody; what takes long is asked for by the page itself."""
    desk = visitor.desk
    person = await desk.person(visitor.visit, user)
    found = await desk.soon(desk.recommend(person, TOP, source), wait=wait)
    return visitor.page(
        "outfits.html",
        person=person,
        me=person if person.is_me else await desk.me(visitor.visit),
        source=source,
        cards=None if found is None else cards(desk.service.dataset, found),
        liked=liked_by(desk, person)[-LIKED:],
    )


@router.get("/outfits/answers")
async def answers(visitor: Guest, user: str | None = None, source: Source = "known") -> Response:
    """The outfits of that page."""
    desk = visitor.desk
    person = await desk.person(visitor.visit, user)
    found = await desk.recommend(person, TOP, source)
    shown = cards(desk.service.dataset, found)
    return visitor.page(
        "answers.html", person=person, source=source, cards=shown, liked=liked_by(desk, person)[-LIKED:]
    )


@router.get("/progress")
async def progress(visitor: Guest) -> Response:
    """What the model is busy with."""
    return visitor.page("progress.html", work=visitor.desk.service.engine.progress)


def opinion_of(profile: Profile | None, outfit: OutfitIds) -> str:
    """ "liked", "disliked" or ""."""
    for opinion in profile.opinions if profile else ():
        if opinion.outfit == outfit:
            return "liked" if opinion.liked else "disliked"
    return ""


def liked_by(desk: Desk, person: Person) -> list[Card]:
    """Outfits that somebody is known to like, the latest last; a user of the model: his first few."""
    dataset = desk.service.dataset
    if person.profile is not None:
        return [card(dataset, outfit, opinion="liked") for outfit in desk.service.known(person.profile).likes]
    likes = dataset.likes["train"]
    rows = likes.items[likes.users == dataset.user_row_of[person.user_id]][:LIKED]  # (n, S)
    return [card(dataset, dataset.catalogue.ids(row)) for row in rows.tolist()]


async def so_far(visitor: Visitor, me: Person | None, *, wait: bool) -> dict[str, Any]:
    """What `so_far.html` wants: cards; None where they are still being made; none at all of too few likes."""
    desk = visitor.desk
    if me is None or me.num_likes < ENOUGH_LIKES:
        return {"ready": False, "so_far": [], "wanted": ENOUGH_LIKES - (me.num_likes if me else 0)}
    found = await desk.soon(desk.recommend(me, TOP_SO_FAR, "known"), wait=wait)
    return {"ready": True, "so_far": None if found is None else cards(desk.service.dataset, found), "wanted": 0}


def _people(desk: Desk, q: str, page: int) -> dict[str, Any]:
    """Users of the model whose id holds a text, a page of them, each with an outfit that he likes."""
    dataset = desk.service.dataset
    wanted = q.strip().casefold()
    found = [row for row, user_id in enumerate(dataset.user_ids) if wanted in user_id.casefold()]
    shown = found[page * PEOPLE_PAGE : (page + 1) * PEOPLE_PAGE]
    likes = dataset.likes["train"]
    of_person = []
    for row in shown:
        liked = likes.items[likes.users == row]  # (n, S)
        outfit = card(dataset, dataset.catalogue.ids(liked[0].tolist())) if len(liked) else None
        of_person.append((dataset.user_ids[row], len(liked), outfit))
    more = page + 1 if (page + 1) * PEOPLE_PAGE < len(found) else None
    return {"people": of_person, "q": q, "more": more, "found": len(found), "first": page == 0}
