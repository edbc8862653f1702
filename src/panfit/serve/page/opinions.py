"""OPINIONS: like, dislike, take back. A user of the model who is judged for goes on as a newcomer of the visitor's."""

import anyio.to_thread
from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from panfit.errors import DataError
from panfit.ids import OutfitIds
from panfit.serve.likes import Profile, opinion_id
from panfit.serve.page.desk import Person
from panfit.serve.page.forms import Form, Sent
from panfit.serve.page.people import opinion_of
from panfit.serve.page.render import PageRoute, local
from panfit.serve.page.show import card
from panfit.serve.page.visit import Visit
from panfit.serve.service import train_likes

router = APIRouter(include_in_schema=False, route_class=PageRoute)

NAME = "You"
CHANGED = "opinions-changed"
"""The event by which the page hears that what suits the visitor may be something else now."""


@router.post("/opinion")
async def opinion(form: Form) -> Response:
    """Like or dislike an outfit ("yes", "no"), or have no opinion on it any more ("undo", and what it was)."""
    visitor, desk, outfit = form.visitor, form.visitor.desk, form.outfit
    wish = form.text("liked")
    if wish not in ("yes", "no", "none"):
        raise HTTPException(422, "Say whether you like it: yes, no or none.")
    if form.user is not None:
        person = await desk.person(visitor.visit, form.user)
        if not person.is_me:
            await _continue(form, person, outfit, liked=wish == "yes")
            address = local(form.text("back")) if form.text("back") and "user=" not in form.text("back") else "/outfits"
            return visitor.go(address, "continued", person.name)
    me = await desk.me(visitor.visit)
    if me is None:
        profile = await anyio.to_thread.run_sync(desk.service.likes.create, NAME)
        visitor.visit.become(profile.id)
    else:
        assert me.profile is not None
        profile = me.profile
    was = opinion_of(profile, outfit)
    profile = await _judge(form, profile, outfit, wish)
    if not visitor.is_part:
        return visitor.go(local(form.text("back", "/fresh")), "judged", wish)
    back = local(form.text("back", "/fresh"))
    response = visitor.page(
        "judged.html",
        card=card(desk.service.dataset, outfit, opinion=opinion_of(profile, outfit)),
        was=was,
        wish=wish,
        likes=sum(each.liked for each in profile.opinions),
        back=back,
        undo=form.text("undo") == "yes",
        stays=not back.startswith("/outfits"),  # there the outfit comes and goes with what is recommended
    )
    response.headers["HX-Trigger"] = CHANGED
    return response


async def _judge(form: Sent, profile: Profile, outfit: OutfitIds, wish: str) -> Profile:
    likes = form.visitor.desk.service.likes
    if wish != "none":
        return await anyio.to_thread.run_sync(lambda: likes.put(profile.id, [outfit], liked=wish == "yes"))
    if not opinion_of(profile, outfit):
        return profile
    return await anyio.to_thread.run_sync(likes.remove, profile.id, opinion_id(outfit))


async def _continue(form: Sent, person: Person, outfit: OutfitIds, *, liked: bool) -> None:
    """The visitor becomes a newcomer who likes what this user of the model likes, and now this."""
    service = form.visitor.desk.service
    likes = [each for each in train_likes(service.dataset, person.user_id) if each != outfit][
        -(service.config.limits.opinions - 1) :
    ]
    dislikes = [] if liked else [outfit]
    likes += [outfit] if liked else []
    name = f"{person.name[:60]}, continued"
    try:
        profile = await anyio.to_thread.run_sync(lambda: service.likes.create(name, likes, dislikes))
    except DataError:  # an id that is no name
        profile = await anyio.to_thread.run_sync(lambda: service.likes.create(NAME, likes, dislikes))
    _become(form.visitor.visit, profile)


def _become(visit: Visit, profile: Profile) -> None:
    visit.become(profile.id)
