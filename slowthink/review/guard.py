"""What the pages refuse: other machines, sites and strangers; and the headers of every answer."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}  # fmt: skip
"""Nothing is loaded from elsewhere, and nothing in a text can run."""


class Guard:
    """Middleware: with a `key`, every visitor must bring it in the address once; without, only
    names of this machine are answered, so that no other site can point its name here."""

    def __init__(self, key: str | None, *, cookie: str) -> None:
        self._key = key
        self._cookie = cookie

    async def __call__(
        self, request: Request, call: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer the request, or refuse it."""
        response = self._refusal(request) or await call(request)
        response.headers.update(HEADERS)
        return response

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if self._key is None and _part("hostname", f"//{host}") not in LOOPBACK:
            return _refused("This server answers only to 127.0.0.1 and localhost.", 421)
        if request.method not in ("GET", "HEAD", "POST"):
            return _refused("Only GET and POST.", 405)
        is_foreign = origin is not None and _part("netloc", origin) != host
        site = request.headers.get("sec-fetch-site", "same-origin")
        if request.method == "POST" and (is_foreign or site != "same-origin"):
            return _refused("A form of another site; expected one of this page.", 403)
        return self._without_key(request, self._key.encode()) if self._key else None

    def _without_key(self, request: Request, key: bytes) -> Response | None:
        """The answer to a request without the key; one that brings it gets a cookie instead."""
        if hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), key):
            return None
        if hmac.compare_digest(request.query_params.get("token", "").encode(), key):
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, key.decode(), httponly=True, samesite="lax")
            return response
        return _refused("No valid token; open the address that `slowthink review` printed.", 403)


def _part(name: str, url: str) -> str:
    """A part of an address; empty for one that is malformed."""
    try:
        return getattr(urlsplit(url), name) or ""
    except ValueError:
        return ""


def _refused(text: str, status: int) -> Response:
    return Response(text + "\n", status, media_type="text/plain")
