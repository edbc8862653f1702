"""The guard alone, around a small app: who gets in, how often, with how much, and what the answers' headers say."""

import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import SecretStr
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Message, Scope
from starlette.websockets import WebSocketDisconnect

from panfit.serve import guard, problems
from panfit.serve.guard.bodies import Body
from panfit.serve.guard.clients import UNKNOWN, Clients, address_of
from panfit.serve.guard.door import WRONG_TOKEN_COST, Door
from panfit.serve.guard.headers import CONTENT_SECURITY_POLICY, SECURITY_HEADERS
from panfit.serve.guard.rates import Rates, retry_after
from panfit.serve.likes import UnavailableError
from panfit.serve.session import LOGIN_COOKIE, Session
from panfit.serve.settings import Limits, ServeConfig

TOKEN = "0123456789abcdef-token"
KEY = bytes(range(32, 64))
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Likes:
    """Has a key, or no database."""

    works = True

    def secret(self, name: str) -> bytes:
        if not self.works:
            raise UnavailableError("the database does not answer")
        return KEY


def make_app(token: str | None = None, limits: Limits | None = None, **settings: Any) -> FastAPI:
    config = ServeConfig(
        database="sqlite://",
        token=None if token is None else SecretStr(token),
        limits=limits or Limits(requests_per_minute=6000, burst=1000),
        **settings,
    )
    app = FastAPI(redirect_slashes=False, openapi_url=None, docs_url=None)
    app.state.service = SimpleNamespace(likes=Likes(), config=config)

    @app.api_route("/login", methods=["GET", "POST"])
    async def login(wrong: bool = False) -> Response:
        return PlainTextResponse("login", 401 if wrong else 200)

    @app.get("/v1/cached")
    async def cached() -> Response:
        return PlainTextResponse("x", headers={"Cache-Control": "max-age=3", "X-Frame-Options": "ALLOWALL"})

    @app.post("/v1/ignores")
    async def ignores() -> Response:
        return PlainTextResponse("did not look")

    @app.post("/v1/json")
    async def read_json(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @app.post("/v1/form")
    async def read_form(request: Request) -> dict[str, int]:
        async with request.form() as form:
            return {"fields": len(form)}

    @app.get("/v1/stream")
    async def stream() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"part"

        return StreamingResponse(parts())

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def anything(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    problems.install(app)
    guard.install(app, config)
    return app


def client(app: FastAPI | Door, peer: str = "192.0.2.7") -> TestClient:
    return TestClient(app, follow_redirects=False, client=(peer, 4711), raise_server_exceptions=False)


class Clock:
    """Says what it is told."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


# --- token


OPEN = ["/health", "/login", "/favicon.ico", "/page/style.css", "/docs/static/swagger-ui.css"]
CLOSED = [
    *("/", "/v1/users", "/v1/photos/a", "/metrics", "/ready", "/docs", "/openapi.json", "/nowhere", "/healthy"),
    *(
        "/health/",
        "//health",
        "/HEALTH",
        "/login/x",
        "/page",
        "/docs/staticx",
        "/fresh",
        "/v1/x?a=/health",
    ),
]


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_needs_no_token(path: str) -> None:
    assert client(make_app(TOKEN)).get(path).status_code == 200


@pytest.mark.parametrize("path", CLOSED)
def test_all_else_needs_it(path: str) -> None:
    http = client(make_app(TOKEN))
    refused = http.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="panfit"'
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["status"] == 401
    assert http.get(path, headers=BEARER).status_code in (200, 404)


@pytest.mark.parametrize("path", ["/v1/../health", "/page/../v1/users", "/docs/static/../../v1/users", "/./health"])
def test_addresses_are_taken_as_they_are(path: str) -> None:
    """Nothing is made shorter, whatever the routes would make of it."""
    assert answer_of(make_app(TOKEN), make_scope(path))[0]["status"] == 401


@pytest.mark.parametrize(
    "value",
    [
        *(
            "Bearer",
            "Bearer ",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Basic {TOKEN}",
            TOKEN,
            f"Bearer {TOKEN} x",
        ),
        *(f"Bearer {TOKEN},{TOKEN}", f"Bearer\t{TOKEN}", "Bearer " + "x" * 10_000, f"Token {TOKEN}", f"Bearer{TOKEN}"),
    ],
)
def test_a_wrong_token_is_refused_and_repeated_nowhere(value: str) -> None:
    app = make_app(TOKEN)
    refused = client(app).get("/v1/users", headers={"Authorization": value})
    assert refused.status_code == 401
    assert "invalid_token" in refused.headers["www-authenticate"]
    told = refused.text + str(refused.headers)
    assert TOKEN not in told
    assert "xxxx" not in told
    assert TOKEN not in repr(app.state.service.config)


def test_bytes_that_are_no_ascii_are_a_wrong_token() -> None:
    refused = client(make_app(TOKEN)).get("/v1/users", headers=[(b"authorization", b"Bearer \xff\xfe\xe9")])
    assert refused.status_code == 401


@pytest.mark.parametrize("value", [f"bearer {TOKEN}", f"BEARER   {TOKEN}", f"Bearer {TOKEN}  "])
def test_the_schemes_name_is_read_as_it_may_be_written(value: str) -> None:
    assert client(make_app(TOKEN)).get("/v1/users", headers={"Authorization": value}).status_code == 200


def test_a_token_in_the_address_is_none() -> None:
    assert client(make_app(TOKEN)).get(f"/v1/users?token={TOKEN}&access_token={TOKEN}").status_code == 401


def test_people_are_sent_to_the_login() -> None:
    http = client(make_app(TOKEN))
    http.headers["Accept"] = "text/html,*/*"
    found = http.get("/look?item=a/b&user=%3Cb%3E")
    assert found.status_code == 303
    assert found.headers["location"] == "/login?back=%2Flook%3Fitem%3Da%2Fb%26user%3D%253Cb%253E"
    assert http.post("/opinion").headers["location"] == "/login"
    part = http.get("/outfits", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login")
    assert http.get("/v1/users").status_code == 401  # a browser too, of what is no page
    assert (
        client(make_app(TOKEN))
        .get("/", headers={"Accept": "text/html", "Host": "evil.example"})
        .headers["location"]
        .startswith("/login")
    )


def login_cookie(token: str = TOKEN, key: bytes = KEY) -> dict[str, str]:
    return {"Cookie": f"{LOGIN_COOKIE}={Session(key).login(token)}"}


def test_a_login_opens_pages_and_what_they_show_and_nothing_else() -> None:
    http = client(make_app(TOKEN))
    for path in ("/", "/outfits", "/v1/photos/a/b?size=64", "/v1/explanation.png?user=a", "/docs", "/openapi.json"):
        assert http.get(path, headers=login_cookie()).status_code == 200, path
    assert http.post("/opinion", headers=login_cookie()).status_code == 200
    for path in ("/v1/users", "/v1/recommendations?user=a", "/metrics", "/ready", "/v1/photosx"):
        assert http.get(path, headers=login_cookie()).status_code == 401, path
    for path in ("/v1/photos/a", "/v1/json", "/docs"):
        assert http.post(path, headers=login_cookie()).status_code == 401, path
    assert http.delete("/v1/photos/a", headers=login_cookie()).status_code == 401


@pytest.mark.parametrize(
    "cookie",
    [
        login_cookie("another-token-than-ours"),
        login_cookie(key=KEY[::-1]),
        {"Cookie": f"{LOGIN_COOKIE}={TOKEN}"},
        {"Cookie": f"{LOGIN_COOKIE}="},
        {"Cookie": f"{LOGIN_COOKIE}={'.' * 9000}"},
    ],
)
def test_a_forged_login_opens_nothing(cookie: dict[str, str]) -> None:
    assert client(make_app(TOKEN)).get("/outfits", headers=cookie).status_code == 401


def test_without_a_database_no_login_is_believed() -> None:
    app = make_app(TOKEN)
    app.state.service.likes.works = False
    refused = client(app).get("/outfits", headers=login_cookie())
    assert refused.status_code == 503
    assert client(app).get("/outfits", headers=BEARER).status_code == 200


# --- other sites


def test_another_site_cannot_send_anything() -> None:
    http = client(make_app())
    assert http.post("/v1/json", json={}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert http.post("/v1/json", json={}).status_code == 200  # a program
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert http.post("/v1/json", json={}, headers=headers).status_code == 403
        assert http.delete("/v1/newcomers/x", headers=headers).status_code == 403
        assert http.get("/v1/users", headers=headers).status_code == 200
    evil = {"Sec-Fetch-Site": "cross-site", **login_cookie()}
    assert client(make_app(TOKEN)).post("/opinion", headers=evil).status_code == 403
    assert client(make_app(TOKEN)).post("/v1/json", json={}, headers={**evil, **BEARER}).status_code == 200


def local(app: FastAPI, peer: str = "127.0.0.1", server: str = "127.0.0.1") -> Any:
    """Asks as uvicorn would say it: the socket's address is the server's, whatever Host says."""

    def ask(host: str | None) -> int:
        scope = make_scope("/v1/users", peer=peer, headers=[] if host is None else [("host", host)])
        scope["server"] = (server, 8000)
        return answer_of(app, scope)[0]["status"]  # type: ignore[no-any-return]

    return ask


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:" + "8000", "127.3.2.1", "[::1]:8000", "LOCALHOST", "a.localhost", None],
)
def test_this_machine_under_its_own_names(host: str | None) -> None:
    assert local(make_app())(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "[2001:db8::1]",
        "10.0.0.1",
        "127.0.0.1.evil.example",
    ],
)
def test_this_machine_under_a_strangers_name(host: str) -> None:
    assert local(make_app())(host) == 421
    assert local(make_app(), peer="::1", server="::1")(host) == 421
    assert local(make_app(trusted_proxies=("127.0.0.1",)))(host) == 200  # a proxy has its own reasons
    assert local(make_app(), peer="192.0.2.7", server="192.0.2.1")(host) == 200  # not for this machine alone
    assert local(make_app(TOKEN))(host) == 401  # who has the token is no stranger's page


# --- clients


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:" + "80 ", "192.0.2.1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", None),
        ("", None),
        ("192.0.2.256", None),
        ("1" * 5000, None),
        ("_secret:1", None),
        ("testclient", None),
    ],
)
def test_addresses_are_read(text: str, address: str | None) -> None:
    found = address_of(text)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),  # anybody may write that
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),  # what stands before it, he wrote himself
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9, 10.0.0.2"], "198.51.100.9"),  # two proxies, two headers
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # nobody but proxies
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["x, y"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.9, junk"], "10.0.0.1"),
        ("10.0.0.1", ["," * 500], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2::9]:443"], "2001:db8:1:2::/64"),
        ("testclient", [], UNKNOWN),
        (None, ["198.51.100.9"], UNKNOWN),
    ],
)
def test_who_asks(peer: str | None, forwarded: Sequence[str], expected: str) -> None:
    scope = make_scope("/", peer=peer, headers=[("x-forwarded-for", each) for each in forwarded])
    assert Clients(["10.0.0.0/29"]).client_of(scope) == expected


def test_many_hops_are_not_followed() -> None:
    hops = ", ".join(["198.51.100.9", *["10.0.0.2"] * 5000])
    assert Clients(["10.0.0.0/29"]).client_of(make_scope("/", "10.0.0.1", [("x-forwarded-for", hops)])) == "10.0.0.2"


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="nginx"):
        Clients(["nginx"])


# --- rates


def test_a_bucket_empties_and_fills() -> None:
    clock = Clock()
    rates = Rates(60, 3, now=clock)
    assert [rates.take("a") for _ in range(3)] == [0, 0, 0]
    assert rates.take("a") == pytest.approx(1.0)
    assert rates.take("b") == 0  # another's is his own
    clock.at += 0.5
    assert rates.take("a") == pytest.approx(0.5)  # asking does not make it longer
    clock.at += 0.5
    assert rates.take("a") == 0
    clock.at += 1e6
    assert [rates.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(1.0)]  # and no fuller than it was
    clock.at -= 50
    assert rates.take("a") > 0  # a clock that goes back gives nothing away


def test_rates_are_those_of_a_plain_count() -> None:
    """The oracle: all requests let through in any stretch of time are at most burst + rate x time; and no fewer."""
    clock = Clock()
    rates = Rates(120, 5, now=clock)
    through = []
    for step in range(400):
        clock.at = 100 + step * 0.05
        if rates.take("a") == 0:
            through.append(clock.at)
    for first, since in enumerate(through):
        for last, until in enumerate(through[first:], start=1):
            assert last <= 5 + 2 * (until - since) + 1e-6
    assert len(through) == 5 + int(2 * 399 * 0.05)


def test_clients_that_are_remembered_are_bounded() -> None:
    rates = Rates(1, 2, max_clients=10, now=Clock())
    for number in range(1000):
        assert rates.take(f"client {number}") == 0
    assert len(rates) == 10
    rates.take("client 995")
    assert rates.take("client 995") > 0
    for number in range(9):
        rates.take(f"other {number}")
    assert rates.take("client 995") > 0  # was here lately
    rates.punish("a punished one", 5)
    assert len(rates) == 10


def test_a_cost_above_the_burst_can_be_paid() -> None:
    clock = Clock()
    rates = Rates(60, 3, now=clock)
    assert rates.take("a", 50) == 0
    assert rates.take("a", 50) == pytest.approx(3.0)
    rates.punish("b", 50)
    assert rates.take("b") == pytest.approx(48.0)  # 47 owed, and one for the request


@pytest.mark.parametrize(("seconds", "value"), [(0.01, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_retry_after(seconds: float, value: str) -> None:
    assert retry_after(seconds) == value


def test_too_many_requests_are_refused_and_health_is_not() -> None:
    app = make_app(limits=Limits(requests_per_minute=1, burst=3))
    http = client(app)
    assert [http.get("/v1/users").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = http.get("/v1/users")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["title"] == "Too many requests"
    assert refused.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert all(http.get("/health").status_code == 200 for _ in range(10))
    assert http.post("/page/style.css").status_code == 429
    assert client(app, "192.0.2.8").get("/v1/users").status_code == 200


@pytest.mark.parametrize("address", ["/v1/photos/some/hat", "/page/style.css", "/docs/static/x.js"])
def test_what_a_page_shows_by_the_dozen_counts_little_and_yet_counts(address: str) -> None:
    http = client(make_app(limits=Limits(requests_per_minute=1, burst=3)))
    assert http.get("/v1/users").status_code == 200
    assert [http.get(address).status_code for _ in range(18)] == [200] * 18
    assert [http.get(address).status_code for _ in range(4)][-2:] == [429] * 2
    http = client(make_app(limits=Limits(requests_per_minute=1, burst=3)))
    assert [http.post(address).status_code for _ in range(4)] == [200, 200, 200, 429]
    http = client(make_app(limits=Limits(requests_per_minute=1, burst=3)))
    assert [http.get(f"/v1/users{address}").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_people_are_told_in_words() -> None:
    http = client(make_app(limits=Limits(requests_per_minute=1, burst=1)))
    http.get("/")
    page = http.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 429
    assert page.headers["content-type"].startswith("text/html")
    assert "too many requests" in page.text
    part = http.get("/outfits", headers={"HX-Request": "true"})
    assert (part.headers["hx-retarget"], part.headers["hx-reswap"]) == ("#messages", "innerHTML")
    assert "<html" not in part.text


def test_guessing_tokens_is_slow() -> None:
    app = make_app(TOKEN, Limits(requests_per_minute=60, burst=50))
    http = client(app)
    tries = [http.get("/v1/x", headers={"Authorization": f"Bearer {number:016}"}).status_code for number in range(9)]
    assert tries == [401, 401, 401, *[429] * 6]
    assert http.get("/v1/x", headers=BEARER).status_code == 429  # even the right one, which might be a guess
    assert client(app, "192.0.2.8").get("/v1/x", headers=BEARER).status_code == 200
    http = client(make_app(TOKEN, Limits(requests_per_minute=60, burst=50)))
    assert [http.post("/login?wrong=1").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    http = client(make_app(TOKEN, Limits(requests_per_minute=60, burst=50)))
    assert [http.post("/login").status_code for _ in range(5)] == [200] * 5
    assert [http.get("/v1/x").status_code for _ in range(5)] == [401] * 5  # nobody guessed
    assert WRONG_TOKEN_COST == 20


def test_guesses_stay_slow_and_cheap_addresses_do_not_help() -> None:
    """In the long run a client's rate over (1 + cost of a wrong token), wherever he sends his guesses."""
    clock = Clock()
    for address in ("/v1/x", "/v1/photos/x"):
        clock.at = 100.0
        config = ServeConfig(database="sqlite://", token=SecretStr(TOKEN), trusted_proxies=())
        door = Door(FastAPI(), config, rates=Rates(60, 50, now=clock))
        http = client(door)
        refused = 0
        for second in range(210):
            clock.at = 100.0 + second
            refused += http.get(address, headers={"Authorization": f"Bearer {second:016}"}).status_code == 401
        assert 210 / 21 <= refused <= 210 / 20 + 4


# --- bodies


SMALL = Limits(body_bytes=1024, requests_per_minute=6000, burst=1000)


def test_a_length_that_is_too_large_is_refused_before_reading() -> None:
    scope = make_scope("/v1/json", method="POST", headers=[("content-length", "1025")])
    sent = answer_of(make_app(limits=SMALL), scope, receive=never)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("length", ["9" * 400, "1e3", "-1", "+5", "0x10", "", " ", "1,1", "²"])
def test_odd_lengths(length: str) -> None:
    scope = make_scope("/v1/json", method="POST", headers=[("content-length", length)])
    assert answer_of(make_app(limits=SMALL), scope, receive=never)[0]["status"] in (400, 413)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/v1/json", "application/json"), ("/v1/form", "multipart/form-data; boundary=x"), ("/v1/any", "text/plain")],
)
def test_chunks_are_counted(path: str, media_type: str) -> None:
    headers = [("content-type", media_type), ("transfer-encoding", "chunked")]
    taken = []

    async def receive() -> Message:
        taken.append(512)
        return {"type": "http.request", "body": b"--x\r\n".ljust(512, b"-"), "more_body": True}

    sent = answer_of(make_app(limits=SMALL), make_scope(path, method="POST", headers=headers), receive)
    assert sent[0]["status"] == (400 if path == "/v1/form" else 413)  # a form is seen to be none before it is too long
    assert (b"connection", b"close") in sent[0]["headers"]
    assert len(taken) <= 3  # no more was taken than it needed to know


def test_a_body_of_the_most_bytes_is_taken() -> None:
    http = client(make_app(limits=SMALL))
    assert http.post("/v1/any", content=b"y" * 1024).json() == {"bytes": 1024}
    refused = http.post("/v1/any", content=b"y" * 1025)
    assert refused.status_code == 413
    assert refused.json()["detail"] == "the body has more than 1024 bytes. Send less at a time"


def test_a_form_of_many_chunks_is_counted() -> None:
    async def receive() -> Message:
        begin = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
        body = begin if not taken else b"y" * 512
        taken.append(len(body))
        return {"type": "http.request", "body": body, "more_body": True}

    taken: list[int] = []
    headers = [("content-type", "multipart/form-data; boundary=x"), ("transfer-encoding", "chunked")]
    sent = answer_of(make_app(limits=SMALL), make_scope("/v1/form", method="POST", headers=headers), receive)
    assert (sent[0]["status"], len(taken)) == (413, 3)


def test_a_body_that_says_less_than_it_is() -> None:
    messages = iter([{"type": "http.request", "body": b"x" * 2000, "more_body": True}])

    async def receive() -> Message:
        return next(messages)

    scope = make_scope("/v1/any", method="POST", headers=[("content-length", "10")])
    assert answer_of(make_app(limits=SMALL), scope, receive=receive)[0]["status"] == 413


def test_a_body_that_nobody_reads_ends_the_connection() -> None:
    scope = make_scope("/v1/ignores", method="POST", headers=[("transfer-encoding", "chunked")])
    sent = answer_of(make_app(), scope, receive=never)
    assert sent[0]["status"] == 200
    assert (b"connection", b"close") in sent[0]["headers"]
    assert "connection" not in client(make_app()).post("/v1/any", content=b"all of it").headers


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panfit.serve.guard.door.Body", impatient)
    scope = make_scope(
        "/v1/json", method="POST", headers=[("content-length", "100"), ("content-type", "application/json")]
    )
    sent = answer_of(make_app(), scope, receive=never)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["status"] == 408


def test_a_body_that_comes_drop_by_drop_is_given_up() -> None:
    clock = Clock()

    async def receive() -> Message:
        clock.at += 9
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read() -> tuple[int, int]:
        body = Body(
            make_scope("/", headers=[("content-length", "99")]), receive, 1000, pause_s=10, total_s=40, now=clock
        )
        for drop in range(99):
            try:
                await body.receive()
            except HTTPException as error:
                with pytest.raises(HTTPException):  # and again, whoever did not listen
                    await body.receive()
                return drop, error.status_code
        raise AssertionError("all of it was taken")

    assert anyio.run(read) == (5, 408)


def test_whoever_waits_for_the_client_to_leave_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams ask for the next message all along; that is not a slow body."""
    monkeypatch.setattr("panfit.serve.guard.door.Body", impatient)
    scope = make_scope("/v1/stream")
    sent = answer_of(make_app(), scope, receive=never)
    assert b"".join(each.get("body", b"") for each in sent) == b"part" * 3


def test_deeply_nested_json_is_a_mistake_not_a_crash() -> None:
    found = client(make_app()).post("/v1/json", content=b"[" * 200_000, headers={"Content-Type": "application/json"})
    assert found.status_code == 400


# --- headers


@pytest.mark.parametrize("path", ["/", "/v1/cached", "/v1/stream", "/health", "/nowhere"])
def test_every_answer_tells_browsers_to_be_careful(path: str) -> None:
    for headers in (client(make_app()).get(path).headers, client(make_app(TOKEN)).get(path).headers):
        for name, value in SECURITY_HEADERS.items():
            assert headers.get_list(name) == [value]
        assert "strict-transport-security" not in headers


def test_what_the_policy_says() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "*" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self'")


def test_what_may_be_kept_is_said_by_handlers_alone() -> None:
    http = client(make_app(secure_cookies=True))
    assert http.get("/").headers["cache-control"] == "no-store"
    cached = http.get("/v1/cached").headers
    assert (cached["cache-control"], cached["x-frame-options"]) == ("max-age=3", "DENY")
    assert cached["strict-transport-security"] == "max-age=31536000"


def test_hosts_are_not_repeated() -> None:
    found = client(make_app()).get("/nowhere", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert "evil" not in found.text + str(found.headers)


def test_websockets_are_closed() -> None:
    with pytest.raises(WebSocketDisconnect), client(make_app()).websocket_connect("/"):
        pass


def test_the_guard_lets_the_lifespan_through() -> None:
    seen = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def run() -> None:
        await Door(app, ServeConfig(database="sqlite://"))({"type": "lifespan"}, never, never)

    anyio.run(run)
    assert seen == ["lifespan"]


def test_a_prefix_of_a_proxys_is_no_way_around() -> None:
    app = make_app(TOKEN)
    for root, path, status in (
        ("/shop", "/shop/health", 200),
        ("/shop", "/shop/v1/users", 401),
        ("/health", "/health/v1/x", 401),
    ):
        scope = make_scope(path)
        scope["root_path"] = root
        assert answer_of(app, scope)[0]["status"] == status


# --- plain ASGI


async def never(*_: Any) -> Any:
    """A client that says nothing more."""
    await anyio.sleep_forever()


def impatient(scope: Scope, receive: Any, max_bytes: int) -> Body:
    return Body(scope, receive, max_bytes, pause_s=0.01)


def make_scope(
    path: str,
    peer: str | None = "192.0.2.7",
    headers: Sequence[tuple[str, str]] = (),
    method: str = "GET",
) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": None if peer is None else (peer, 4711),
        "server": ("192.0.2.1", 8000),
        "state": {},
    }


async def whole() -> Message:
    """A request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


def answer_of(app: FastAPI, scope: Scope, receive: Any = whole) -> list[Message]:
    """All that an app sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        with anyio.fail_after(5):
            await app(scope, receive, send)

    anyio.run(run)
    return sent
