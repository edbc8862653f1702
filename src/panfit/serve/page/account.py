"""ACCOUNT: what is known of the visitor, and how it is erased; the login, where the service has a token."""

import contextlib

import anyio.to_thread
from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from panfit.errors import UnknownIdError
from panfit.serve.page.desk import NobodyError
from panfit.serve.page.forms import Form, Guest
from panfit.serve.page.render import PageRoute, local
from panfit.serve.page.show import card
from panfit.serve.session import LOGIN_COOKIE, is_token, set_login

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/me")
async def me(visitor: Guest) -> Response:
    """All that is known of the visitor."""
    desk = visitor.desk
    person = await desk.me(visitor.visit)
    if person is None or person.profile is None:
        raise NobodyError
    opinions = [
        card(desk.service.dataset, each.outfit, opinion="liked" if each.liked else "disliked")
        for each in reversed(person.profile.opinions)
        if all(item is None or item in desk.service.dataset.catalogue.row_of for item in each.outfit)
    ]
    others = []
    for place, newcomer_id in enumerate(visitor.visit.mine):
        try:
            others.append((place, newcomer_id == person.user_id, await desk.service.profile(newcomer_id)))
        except UnknownIdError:  # erased from another browser
            continue
    return visitor.page("me.html", me=person, person=person, opinions=opinions, others=others)


@router.post("/me/switch")
async def switch(form: Form) -> Response:
    """Go on as another of the visitor's own newcomers, by his place among them."""
    mine = form.visitor.visit.mine
    place = form.text("place")
    if not place.isdecimal() or int(place) >= len(mine):
        raise HTTPException(422, "There is nobody at that place.")
    form.visitor.visit.me = mine[int(place)]
    return form.visitor.go("/me")


@router.post("/me/leave")
async def leave(form: Form) -> Response:
    """Be nobody for a while; what is known stays, and one can come back to it."""
    form.visitor.visit.me = None
    return form.visitor.go("/fresh")


@router.get("/me/erase")
async def ask_before_erasing(visitor: Guest) -> Response:
    """Are you sure?"""
    person = await visitor.desk.me(visitor.visit)
    if person is None:
        raise NobodyError
    return visitor.page("erase.html", me=person, person=person)


@router.post("/me/erase")
async def erase(form: Form) -> Response:
    """Erase the visitor's newcomer for good."""
    visitor, desk = form.visitor, form.visitor.desk
    if form.text("sure") != "yes":
        return visitor.go("/me/erase")
    newcomer_id = visitor.visit.me
    if newcomer_id is not None:
        with contextlib.suppress(UnknownIdError):  # was erased already
            await anyio.to_thread.run_sync(desk.service.likes.forget, newcomer_id)
        desk.forget(newcomer_id)
        visitor.visit.leave(newcomer_id)
    return visitor.go("/", "erased")


@router.get("/login")
async def login(visitor: Guest, back: str = "/") -> Response:
    """Ask for the token, where the service has one."""
    if visitor.desk.service.config.token is None:
        return visitor.go("/")
    return visitor.page("login.html", back=local(back), wrong=False)


@router.post("/login")
async def log_in(form: Form) -> Response:
    """Whoever knows the token gets a cookie that says so; the token itself is not kept."""
    visitor, token = form.visitor, form.visitor.desk.service.config.token
    if token is None:
        return visitor.go("/")
    if not is_token(form.text("token"), token.get_secret_value()):
        return visitor.page("login.html", status=401, back=local(form.text("back", "/")), wrong=True)
    response = visitor.go(local(form.text("back", "/")))
    set_login(
        response,
        visitor.desk.visits.session,
        token.get_secret_value(),
        secure=visitor.desk.service.config.secure_cookies,
    )
    return response


@router.post("/logout")
async def log_out(form: Form) -> Response:
    """Forget the login."""
    response = form.visitor.go("/login")
    response.delete_cookie(LOGIN_COOKIE, path="/")
    return response
