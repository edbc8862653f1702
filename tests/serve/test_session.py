"""Signed cookies that nobody can change or take from one purpose to another; forms of our own pages alone."""

import base64

import pytest
from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import Response

from panfit.serve.session import (
    LOGIN_COOKIE,
    LOGIN_SECONDS,
    Session,
    is_foreign,
    is_token,
    set_login,
)

KEY = bytes(range(32))
TOKEN = "a-token-of-some-length"


class Clock:
    """Says what it is told."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def test_what_was_signed_is_read() -> None:
    session = Session(KEY)
    for value in ("", "a", "ann; Path=/", "größer 靴 👢", "x" * 2000, '{"a": [1, 2]}'):
        cookie = session.sign(value)
        assert session.read(cookie) == value
        assert set(cookie) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_every_changed_character_is_noticed() -> None:
    session = Session(KEY)
    cookie = session.sign("ann 12")
    for place, found in enumerate(cookie):
        for other in "Aa1-_.= é":
            if other != found:
                assert session.read(cookie[:place] + other + cookie[place + 1 :]) is None
    for length in range(len(cookie)):
        assert session.read(cookie[:length]) is None
    assert session.read(cookie + "A") is None
    assert session.read(cookie + "=") is None


@pytest.mark.parametrize("cookie", ["", ".", "..", "a", "a.b", "\ud800.x", "é.é", "." * 5000, "A" * 100_000, "\0.\0"])
def test_rubbish_is_no_cookie(cookie: str) -> None:
    assert Session(KEY).read(cookie) is None
    assert not Session(KEY).is_login(cookie, TOKEN)


def test_another_spelling_of_the_same_bytes_is_no_cookie() -> None:
    session = Session(KEY)
    cookie = session.sign("a")  # one byte: four bits of the second letter mean nothing
    letter = cookie[1]
    assert base64.urlsafe_b64decode(f"{cookie[0]}{chr(ord(letter) + 1)}==") == b"a"
    assert session.read(f"{cookie[0]}{chr(ord(letter) + 1)}{cookie[2:]}") is None


def test_keys_and_purposes_are_apart() -> None:
    session = Session(KEY)
    assert Session(KEY).read(session.sign("ann")) == "ann"
    assert Session(KEY[::-1]).read(session.sign("ann")) is None
    assert session.read(session.sign("ann", "login")) is None
    assert session.read(session.sign("ann", "login"), "login") == "ann"
    assert session.csrf_token("ann") not in session.sign("ann", "csrf")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes, not 31"):
        Session(KEY[:31])


def test_nothing_secret_is_shown() -> None:
    assert repr(Session(KEY)) == "Session(...)"
    assert TOKEN not in base64.urlsafe_b64decode(Session(KEY).login(TOKEN).partition(".")[0] + "==").decode()


def test_forms_carry_their_sessions_token() -> None:
    session = Session(KEY)
    token = session.csrf_token("one")
    assert session.is_csrf("one", token)
    for wrong in (session.csrf_token("two"), token[:-1], token.upper(), "", None, 3, b"x", "\ud800", "é"):
        assert not session.is_csrf("one", wrong)
    session.check_csrf(Headers(), "one", token)
    session.check_csrf(Headers({"x-csrf-token": token}), "one")
    for headers, field in (
        ({}, None),
        ({}, "x"),
        ({"x-csrf-token": "x"}, token),
        ({"sec-fetch-site": "cross-site"}, token),
    ):
        with pytest.raises(HTTPException) as caught:
            session.check_csrf(Headers(headers), "one", field)
        assert caught.value.status_code == 403


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"host": "shop.example"}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://a", "host": "a"}, True),
        ({"sec-fetch-site": ""}, True),
        ({"origin": "http://shop.example:81", "host": "Shop.example:81"}, False),
        ({"origin": "http://shop.example:81", "host": "shop.example"}, True),
        ({"origin": "http://evil.example", "host": "shop.example"}, True),
        ({"origin": "http://shop.example.evil.example", "host": "shop.example"}, True),
        ({"origin": "http://evil.example/shop.example", "host": "shop.example"}, True),
        ({"origin": "null", "host": "shop.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "", "host": ""}, True),
        ({"origin": "http://[", "host": "["}, True),
    ],
)
def test_other_sites_are_told_apart(headers: dict[str, str], foreign: bool) -> None:
    assert is_foreign(Headers(headers)) is foreign


def test_a_login_holds_for_its_token_and_its_time() -> None:
    clock = Clock()
    session = Session(KEY, now=clock)
    cookie = session.login(TOKEN)
    assert session.is_login(cookie, TOKEN)
    assert not session.is_login(cookie, TOKEN + "x")  # the service has another token now
    assert not session.is_login(session.sign("ann", "session"), TOKEN)
    assert not session.is_login(session.sign(f"{'0' * 64} {int(clock.at)}", "login"), TOKEN)
    assert not session.is_login(session.sign("no date", "login"), TOKEN)
    clock.at += LOGIN_SECONDS
    assert session.is_login(cookie, TOKEN)
    clock.at += 1
    assert not session.is_login(cookie, TOKEN)
    clock.at -= LOGIN_SECONDS + 2  # a clock that was set back: a cookie of the future
    assert not session.is_login(cookie, TOKEN)


def test_tokens_are_compared() -> None:
    assert is_token(TOKEN, TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "é", "\ud800", "x" * 100_000):
        assert not is_token(wrong, TOKEN)


@pytest.mark.parametrize("secure", [True, False])
def test_the_logins_cookie_is_out_of_reach(secure: bool) -> None:
    response = Response()
    set_login(response, Session(KEY), TOKEN, secure=secure)
    value = response.headers["set-cookie"]
    assert value.startswith(f"{LOGIN_COOKIE}=")
    assert TOKEN not in value
    attributes = {part.strip().lower() for part in value.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/", f"max-age={LOGIN_SECONDS}"} <= attributes
    assert ("secure" in attributes) is secure
