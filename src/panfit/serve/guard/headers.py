"""HEADERS: what browsers are told with every answer, so that no page of ours can be turned against its reader."""

from starlette.datastructures import MutableHeaders
from starlette.types import Message

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000"
"""Where cookies travel over HTTPS alone, so does everything else."""
UNSAID = "no-store"
"""Cache-Control, where the handler has not said what may be kept."""


def add_headers(message: Message, *, https: bool, close: bool = False) -> None:
    """Add them to the start of a response. A handler's own Cache-Control stays; the others are not its to choose.

    Args:
        message: http.response.start.
        https: the service stands behind TLS.
        close: the connection is of no use after this answer.
    """
    headers = MutableHeaders(scope=message)
    for name, value in SECURITY_HEADERS.items():
        headers[name] = value
    headers.setdefault("Cache-Control", UNSAID)
    if https:
        headers["Strict-Transport-Security"] = HSTS
    if close:
        headers["Connection"] = "close"
