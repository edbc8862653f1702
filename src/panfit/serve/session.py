"""SESSION: signed cookies, tokens against forged forms (CSRF), and the login that stands in for the API's token.

A signature is HMAC-SHA256 over a purpose and a value, so that what was signed for one purpose is worth nothing for
another. The key lies in the database: all processes of a service read each other's cookies, and they outlive a restart.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import HTTPException
from starlette.applications import Starlette
from starlette.responses import Response

LOGIN_COOKIE = "panfit_login"
LOGIN_SECONDS = 30 * 24 * 3600
"""After so long the page asks for the token again."""
KEY = "session"
"""The name of the key in the database (`LikesStore.secret`)."""
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
MAX_COOKIE = 4096
"""Characters of a cookie that are looked at; browsers keep no longer ones."""


class Session:
    """Signs, and reads what it signed.

    Args:
        key: secret, at least 32 bytes; the same in all processes of a service.
        now: seconds since 1970; a test brings its own.

    Raises:
        ValueError: the key is too short.
    """

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        if len(key) < 32:
            raise ValueError(f"the key must have at least 32 bytes, not {len(key)}")
        self._key, self._now = key, now

    def __repr__(self) -> str:
        return "Session(...)"

    def sign(self, value: str, purpose: str = "session") -> str:
        """A text of a value and its signature, of letters, digits, `-`, `_` and `.`: it may stand in a cookie."""
        return f"{_base64(value.encode())}.{_base64(self._mac(purpose, value))}"

    def read(self, cookie: str, purpose: str = "session") -> str | None:
        """The value of what `sign` made for this purpose; None for anything else."""
        body, dot, mac = cookie[:MAX_COOKIE].partition(".")
        if not dot or not cookie.isascii():
            return None
        try:
            value = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
        except ValueError:  # neither base64 nor UTF-8
            return None
        expected = f"{_base64(value.encode())}.{_base64(self._mac(purpose, value))}"  # base64 has several spellings
        return value if hmac.compare_digest(expected.encode(), f"{body}.{mac}".encode()) else None

    def csrf_token(self, session_id: str) -> str:
        """What the forms of one session carry; nobody else can know it."""
        return self._mac("csrf", session_id).hex()

    def is_csrf(self, session_id: str, token: object) -> bool:
        """Whether a form's token is this session's."""
        if not isinstance(token, str):
            return False
        return hmac.compare_digest(self.csrf_token(session_id).encode(), token.encode(errors="replace"))

    def check_csrf(self, headers: Mapping[str, str], session_id: str, field: object = None) -> None:
        """Raise HTTPException (403) unless a form was sent by one of this session's own pages.

        Args:
            headers: the request's.
            session_id: of the cookie that came with it.
            field: the form's field `csrf`; the header X-CSRF-Token comes first.
        """
        if is_foreign(headers):
            raise HTTPException(403, "This form was sent by another site.")
        if not self.is_csrf(session_id, headers.get(CSRF_HEADER) or field):
            raise HTTPException(403, "The form is out of date. Reload the page and try again.")

    def login(self, token: str) -> str:
        """A cookie for somebody who has shown that he knows the API's token. It does not hold the token."""
        return self.sign(f"{self._mac('token', token).hex()} {int(self._now())}", "login")

    def is_login(self, cookie: str, token: str) -> bool:
        """Whether a cookie is a login that still holds: of this token, and not too old."""
        digest, _, since = (self.read(cookie, "login") or "").partition(" ")
        if not since.isdecimal() or not 0 <= self._now() - int(since) <= LOGIN_SECONDS:
            return False
        return hmac.compare_digest(self._mac("token", token).hex(), digest)

    def _mac(self, purpose: str, value: str) -> bytes:
        return hmac.new(self._key, f"{purpose}\0{value}".encode(), hashlib.sha256).digest()


async def session_of(app: Starlette) -> Session:
    """An app's Session: made when first asked for, of the key in its database. Raises UnavailableError."""
    found = getattr(app.state, "session", None)
    if not isinstance(found, Session):
        key = await anyio.to_thread.run_sync(app.state.service.likes.secret, KEY)
        found = app.state.session = Session(key)
    return found


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that another site's page made it send this request.

    Programs say nothing of the kind. Sec-Fetch-Site is a browser's own word; where it is not sent (over plain HTTP),
    Origin is compared with Host.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        named = urlsplit(origin).netloc.lower()
    except ValueError:
        return True
    return not named or named != headers.get("host", "").lower()


def is_token(sent: str, token: str) -> bool:
    """Whether somebody sent the API's token; takes as long for any wrong one."""
    digests = [hashlib.sha256(each.encode(errors="surrogatepass")).digest() for each in (sent, token)]
    return hmac.compare_digest(*digests)


def set_login(response: Response, session: Session, token: str, *, secure: bool) -> None:
    """Keep a login in the browser: no script can read it, no other site can use it."""
    response.set_cookie(
        LOGIN_COOKIE,
        session.login(token),
        max_age=LOGIN_SECONDS,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
