"""VISIT: who is looking at the page: a signed cookie that holds his newcomers and his wardrobe.

Nothing of it can be changed by whoever holds the cookie; a newcomer's id, which is all one needs to be him, never
stands in an address. Forms carry a token made from the cookie's id (CSRF).
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from panfit.serve.session import Session

COOKIE = "panfit_page"
PURPOSE = "page"
MAX_AGE_S = 365 * 24 * 3600
MAX_COOKIE_BYTES = 3800
"""Browsers keep no cookie of more than 4096 bytes, its name and attributes included."""
MAX_WARDROBE = 60
MAX_MINE = 8
"""Newcomers that one browser remembers; the oldest is left behind."""


@dataclass
class Visit:
    """What one browser is known by. Handlers change it; `keep` writes it back.

    Attributes:
        id: random, of this browser.
        me: the newcomer who looks now, or None.
        mine: his newcomers, ``me`` among them.
        wardrobe: item ids, in the order they came.
        flash: what the next page says once: a message's name and its words.
        new: he brought no cookie.
    """

    id: str
    me: str | None = None
    mine: list[str] = field(default_factory=list)
    wardrobe: list[str] = field(default_factory=list)
    flash: list[str] = field(default_factory=list)
    new: bool = False

    def become(self, newcomer_id: str) -> None:
        """From now on he is this newcomer."""
        self.mine = [*(each for each in self.mine if each != newcomer_id), newcomer_id][-MAX_MINE:]
        self.me = newcomer_id

    def leave(self, newcomer_id: str) -> None:
        """A newcomer who is gone."""
        self.mine = [each for each in self.mine if each != newcomer_id]
        if self.me == newcomer_id:
            self.me = self.mine[-1] if self.mine else None


class Visits:
    """Reads and writes visits.

    Args:
        session: signs them.
        secure: the cookie travels over HTTPS alone.
    """

    def __init__(self, session: Session, *, secure: bool) -> None:
        self.session, self._secure = session, secure

    def read(self, request: Request) -> Visit:
        """The visit of a request; a new one where there is no cookie, or one that we did not sign."""
        fields = self._fields(request.cookies.get(COOKIE, ""))
        try:
            return Visit(**fields) if fields is not None else Visit(secrets.token_hex(16), new=True)
        except TypeError:  # of an older form
            return Visit(secrets.token_hex(16), new=True)

    def keep(self, visit: Visit, response: Response) -> None:
        """Write a visit into a response. Raises ValueError where it is too large for a cookie."""
        fields = {name: value for name, value in vars(visit).items() if value and name != "new"}
        text = self.session.sign(json.dumps(fields, separators=(",", ":"), ensure_ascii=False), PURPOSE)
        if len(text) > MAX_COOKIE_BYTES:
            raise ValueError(f"a cookie of {len(text)} bytes")
        response.set_cookie(
            COOKIE, text, max_age=MAX_AGE_S, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def fits(self, visit: Visit) -> bool:
        """Whether a browser would keep it."""
        try:
            self.keep(visit, Response())
        except ValueError:
            return False
        return True

    def csrf(self, visit: Visit) -> str:
        """The token that this browser's forms carry."""
        return self.session.csrf_token(visit.id)

    def _fields(self, cookie: str) -> dict[str, Any] | None:
        text = self.session.read(cookie, PURPOSE)
        found = None if text is None else json.loads(text)
        return found if isinstance(found, dict) else None


def add_to_wardrobe(visits: Visits, visit: Visit, item_ids: Sequence[str]) -> bool:
    """Put items in; False, and nothing is put in, where there is no more room."""
    before = visit.wardrobe
    visit.wardrobe = list(dict.fromkeys([*before, *item_ids]))
    if len(visit.wardrobe) > MAX_WARDROBE or not visits.fits(visit):
        visit.wardrobe = before
        return False
    return True
