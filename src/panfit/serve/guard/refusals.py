"""REFUSALS: how the guard says no: to programs as a problem (RFC 9457), to people as a line on a page."""

from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from panfit.serve.guard.access import LOGIN, is_page, path_of
from panfit.serve.problems import problem_response

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>panfit</title></head>
<body><main><h1>{title}</h1><p>{detail}</p><p><a href="/">To the front page</a></p></main></body></html>
"""
TITLES = {401: "Please log in", 408: "Too slow", 413: "Too large", 421: "Not here", 429: "A moment, please"}


def refusal(scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is not let through.

    Args:
        scope: of the request.
        status: of HTTP.
        detail: a sentence of ours; nothing of the request.
        headers: to be sent with it.
    """
    connection = HTTPConnection(scope)
    is_part = connection.headers.get("hx-request") == "true"
    reads_html = is_part or "text/html" in connection.headers.get("accept", "")
    if not (reads_html and is_page(path_of(scope))):
        return problem_response(status, detail, headers=headers)
    if status == 401:
        return _to_login(scope, is_part=is_part)
    title = TITLES.get(status, "Refused")
    if is_part:  # a line where the page shows its messages
        shown = {"HX-Retarget": "#messages", "HX-Reswap": "innerHTML", **(headers or {})}
        return HTMLResponse(f"<p>{escape(title)}: {escape(detail)}</p>", status, shown)
    return HTMLResponse(PAGE.format(title=escape(title), detail=escape(detail)), status, headers)


def _to_login(scope: Scope, *, is_part: bool) -> Response:
    """To the login, and from there back to where somebody wanted to go."""
    root = scope.get("root_path", "")
    if is_part:
        return Response(status_code=401, headers={"HX-Redirect": f"{root}{LOGIN}"})
    if scope["method"] not in ("GET", "HEAD"):
        return RedirectResponse(f"{root}{LOGIN}", 303)
    query = scope.get("query_string", b"").decode("latin-1")
    back = quote(path_of(scope) + (f"?{query}" if query else ""), safe="")
    return RedirectResponse(f"{root}{LOGIN}?back={back}", 303)
