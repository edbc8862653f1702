"""RENDER: templates -> responses; what goes wrong -> a page that says so; the page's own files."""

import hashlib
from collections.abc import Callable, Coroutine
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from panfit.errors import DataError, PanfitError, UnknownIdError
from panfit.serve.engine import BusyError
from panfit.serve.likes import UnavailableError
from panfit.serve.page.desk import ME, Desk, NobodyError, desk_of
from panfit.serve.page.show import url
from panfit.serve.page.visit import Visit

FILES = {
    "style.css": "text/css; charset=utf-8",
    "parts.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""What may be asked for under /page/, and what it is."""
FOREVER = "public, max-age=31536000, immutable"


class Visitor:
    """What a handler has in hand: the request, the desk, and who is there.

    Attributes:
        visit: may be changed; is written back if it was.
        is_part: htmx asked: it wants a part of a page.
    """

    def __init__(self, request: Request, desk: Desk, visit: Visit) -> None:
        self.request, self.desk, self.visit = request, desk, visit
        self._before = repr(visit)
        self.is_part = request.headers.get("hx-request") == "true" and "hx-boosted" not in request.headers

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A template, filled; the message that waited is said."""
        flash = [] if self.is_part else self.visit.flash
        if flash:
            self.visit.flash = []
        html = render(template, visitor=self, flash=flash, **values)
        response = HTMLResponse(html, status, {"Cache-Control": "no-store", "Vary": "HX-Request, Cookie"})
        return self.kept(response)

    def go(self, address: str, *flash: str) -> Response:
        """On to another page of ours, which says something once: POST, redirect, GET."""
        if flash:
            self.visit.flash = list(flash)
        if self.is_part:
            return self.kept(Response(status_code=204, headers={"HX-Redirect": address}))
        return self.kept(RedirectResponse(address, 303))

    def kept(self, response: Response) -> Response:
        """With the cookie, where there is something new in it."""
        if self.visit.new or repr(self.visit) != self._before:
            self.desk.visits.keep(self.visit, response)
        return response

    @property
    def csrf(self) -> str:
        return self.desk.visits.csrf(self.visit)


async def visitor_of(request: Request) -> Visitor:
    """Whoever sent a request; a FastAPI dependency."""
    desk = await desk_of(request)
    visitor = Visitor(request, desk, desk.visits.read(request))
    request.state.visitor = visitor
    return visitor


class PageRoute(APIRoute):
    """An address of the page: what goes wrong there is told as a page, or as a message in one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except NobodyError:
                visitor = await visitor_of(request)
                return visitor.go("/fresh", "nobody")
            except (PanfitError, BusyError, UnavailableError, RequestValidationError, HTTPException) as error:
                status, title, lines = _told(error)
                if status >= 500 and not isinstance(error, BusyError | PanfitError):
                    return HTMLResponse(render("trouble.html", visitor=None, title=title, lines=lines), status)
                visitor = await visitor_of(request)
                template = "trouble_part.html" if visitor.is_part else "trouble.html"
                response = visitor.page(template, status=status, title=title, lines=lines)
                if visitor.is_part:
                    response.headers.update({"HX-Retarget": "#messages", "HX-Reswap": "innerHTML"})
                return response

        return handled


def local(address: str) -> str:
    """An address of ours that a form wants to go back to; of anything else, the front page."""
    parts = urlsplit(address.replace("\\", "/"))
    is_ours = address.startswith("/") and not address.startswith("//") and not parts.netloc and not parts.scheme
    return address if is_ours and address.isprintable() and "\\" not in address else "/"


def asset(name: str) -> str:
    """The address of one of the page's files; it changes with what is in it."""
    return f"/page/{name}?v={hashlib.sha256(content(name)).hexdigest()[:12]}"


@cache
def content(name: str) -> bytes:
    """Of one of `FILES`."""
    if name not in FILES:
        raise KeyError(name)
    return files("panfit.serve.page").joinpath("static", name).read_bytes()


def render(template: str, **values: Any) -> str:
    """A template, everything in it escaped."""
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("panfit.serve.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"url": url, "asset": cache(asset), "ME": ME}
    environment.filters["part_of_path"] = lambda text: quote(text, safe="")
    return environment


def _told(error: Exception) -> tuple[int, str, list[str]]:
    """Status, title, and what to say."""
    if isinstance(error, BusyError | UnavailableError):
        return 503, "A moment, please", ["Too many questions at once. Try again in a few seconds."]
    if isinstance(error, UnknownIdError):
        return 404, "Not found", [str(error)]
    if isinstance(error, DataError):
        return 422, "That does not fit", [error.summary, *(f"{each.found}: {each.remedy}" for each in error.problems)]
    if isinstance(error, PanfitError):
        return 501, "This model cannot do that", [str(error)]
    if isinstance(error, HTTPException):
        titles = {403: "Not from this page", 404: "Not found", 405: "Not like that", 413: "Too large"}
        return error.status_code, titles.get(error.status_code, "That does not work"), [str(error.detail)]
    return 422, "That does not fit", ["The address or the form is not one that this page makes."]
