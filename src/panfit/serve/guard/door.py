"""DOOR: the guard's ASGI middleware: each question in its turn, the cheapest first."""

from fastapi import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panfit.serve.guard.access import LOGIN, has_token, is_logged_in, is_open, path_of
from panfit.serve.guard.bodies import Body
from panfit.serve.guard.clients import Clients
from panfit.serve.guard.headers import add_headers
from panfit.serve.guard.hosts import REMEDY, Hosts
from panfit.serve.guard.rates import Rates, retry_after
from panfit.serve.guard.refusals import refusal
from panfit.serve.likes import UnavailableError
from panfit.serve.session import is_foreign
from panfit.serve.settings import ServeConfig

UNMETERED = "/health"
"""Whoever watches over the service may ask as often as he likes."""
WRONG_TOKEN_COST = 20.0
"""Requests that a wrong token, or a wrong login, counts for: 60 tries a minute with the limits as they come."""
LIGHT = ("/v1/photos/", "/page/", "/docs/static/")
"""How the addresses of what a page shows by the dozen begin: thumbnails, and files that came with panfit."""
LIGHT_COST = 0.1
"""Requests that one of those counts for: a page of forty outfits shows 120 photos, and a person turns pages."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cost_of(scope: Scope) -> float:
    """Requests that one counts for, before anything else is known of it."""
    return LIGHT_COST if scope["method"] in ("GET", "HEAD") and path_of(scope).startswith(LIGHT) else 1.0


class Door:
    """What stands around the app.

    Args:
        app: the ASGI application.
        config: token, limits, trusted proxies.
        rates: a test's own.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, *, rates: Rates | None = None) -> None:
        self._app, self._config = app, config
        limits = config.limits
        self._clients = Clients(config.trusted_proxies)
        self._hosts = Hosts(self._clients)
        self._rates = Rates(limits.requests_per_minute, limits.burst) if rates is None else rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the service speaks nothing else
            await send({"type": "websocket.close", "code": 1008})
            return
        body = Body(scope, receive, self._config.limits.body_bytes)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A body that nobody reads would be in the way of the next request, and may be endless.
                add_headers(message, https=self._config.secure_cookies, close=not body.is_complete)
            await send(message)

        client = self._clients.client_of(scope)
        try:
            await self._check(scope, client, body)
        except HTTPException as error:
            await refusal(scope, error.status_code, error.detail, error.headers)(scope, receive, guarded)
            return
        is_try = scope["method"] == "POST" and path_of(scope) == LOGIN
        await self._app(scope, body.receive, self._watching_login(client, guarded) if is_try else guarded)

    async def _check(self, scope: Scope, client: str, body: Body) -> None:
        """Raise HTTPException for what is not let through."""
        if path_of(scope) != UNMETERED:
            wait_s = self._rates.take(client, cost_of(scope))
            if wait_s:
                raise HTTPException(
                    429, "too many requests. Wait as long as Retry-After says", {"Retry-After": retry_after(wait_s)}
                )
        connection = HTTPConnection(scope)
        if self._config.token is None:
            if self._hosts.is_misdirected(scope):
                raise HTTPException(421, REMEDY)
            brings_token = False
        else:
            brings_token = await self._check_token(scope, connection, client)
        if scope["method"] not in SAFE and not brings_token and is_foreign(connection.headers):
            raise HTTPException(403, "another site made the browser send this request")
        body.check_length()

    async def _check_token(self, scope: Scope, connection: HTTPConnection, client: str) -> bool:
        """Whether the request brings the token itself. Raises HTTPException (401) where it should and does not."""
        assert self._config.token is not None
        token = self._config.token.get_secret_value()
        if has_token(connection, token):
            return True
        if is_open(path_of(scope)):
            return False
        try:
            if await is_logged_in(scope, token):
                return False
        except UnavailableError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        challenge = 'Bearer realm="panfit"'
        if "authorization" in connection.headers:
            self._rates.punish(client, WRONG_TOKEN_COST)
            challenge += ', error="invalid_token"'
            raise HTTPException(401, "the token is not the right one", {"WWW-Authenticate": challenge})
        raise HTTPException(401, "send the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": challenge})

    def _watching_login(self, client: str, send: Send) -> Send:
        """Let a login that fails (401 or 403) cost as much as a wrong token."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (401, 403):
                self._rates.punish(client, WRONG_TOKEN_COST)
            await send(message)

        return watched
