"""ACCESS: whoever has the token may ask anything; whoever logged in on the page, what a page asks."""

import re

from starlette.requests import HTTPConnection
from starlette.types import Scope

from panfit.serve.session import LOGIN_COOKIE, is_token, session_of

LOGIN = "/login"
OPEN = frozenset({"/health", LOGIN, "/favicon.ico"})
"""Addresses that need no token: whether the process lives, and how to log in."""
OPEN_FILES = ("/page/", "/docs/static/")
"""Files that came with panfit. The pages that use them need a token."""
API = ("/v1/", "/metrics", "/ready", "/openapi.json", "/docs")
"""How the addresses begin that are not pages; there, cookies count for what `SHOWN` says alone."""
SHOWN = ("/v1/photos/", "/v1/explanation.png", "/openapi.json", "/docs")
"""What pages show, and browsers fetch on their own: a login is enough to read it."""

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


def path_of(scope: Scope) -> str:
    """The address as the routes see it: without what a proxy has put before it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def is_open(path: str) -> bool:
    """Whether an address needs no token."""
    return path in OPEN or (path.startswith(OPEN_FILES) and ".." not in path)


def is_page(path: str) -> bool:
    """Whether an address is one of the page's, and answers people."""
    return not path.startswith(API) and path != "/health"


def bearer(connection: HTTPConnection) -> str | None:
    """What stands in `Authorization: Bearer`."""
    found = _BEARER.fullmatch(connection.headers.get("authorization", "").strip())
    return None if found is None else found[1]


async def is_logged_in(scope: Scope, token: str) -> bool:
    """Whether a request brings a login that counts here. Raises UnavailableError."""
    path, connection = path_of(scope), HTTPConnection(scope)
    cookie = connection.cookies.get(LOGIN_COOKIE)
    if cookie is None:
        return False
    reads = scope["method"] in ("GET", "HEAD")
    if not (is_page(path) or (reads and path.startswith(SHOWN))):
        return False
    return (await session_of(scope["app"])).is_login(cookie, token)


def has_token(connection: HTTPConnection, token: str) -> bool:
    """Whether a request brings the token itself."""
    sent = bearer(connection)
    return sent is not None and is_token(sent, token)
