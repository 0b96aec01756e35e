"""The outermost layer of the application: what is refused unseen, the headers that every answer carries, and the count of it all."""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.metrics import Metrics
from serving.api.problems import problem

LONGEST_TARGET: Final = 8192
"""Bytes of path and query together; a polygon of two hundred points fits."""

SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), payment=(), usb=()",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag, Giomua-Cycle, Retry-After",
}
"""Of every answer. All of it is public and read-only, so any page may read it; ours loads nothing from elsewhere."""

_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]

PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
    "Allow": "GET, HEAD, OPTIONS",
}

_log = logging.getLogger(__name__)


class Edge:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on, and dress what comes back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        head = scope["method"] == "HEAD"

        async def dressed(message: Message) -> None:
            nonlocal status
            if head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_RAW]}
            await send(message)

        self.metrics.open_requests.inc()
        try:
            refusal = refused(scope)
            if refusal is not None:
                await refusal(scope, receive, dressed)
            else:
                await self.app(as_get(scope) if head else scope, receive, dressed)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await problem(500, "Something went wrong here; the log of the server says what.")(scope, receive, dressed)
        finally:
            self.metrics.open_requests.dec()
            self.metrics.count(scope["path"], scope["method"], status, time.perf_counter() - started)


def as_get(scope: Scope) -> Scope:
    """A HEAD request as the GET whose headers it asks for; a range means nothing to it (RFC 9110, 14.2)."""
    return {**scope, "method": "GET", "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}


def refused(scope: Scope) -> Response | None:
    """The answer to a request that is not even looked at; None for one that may go on."""
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
        detail = f"The URL is longer than {LONGEST_TARGET} bytes; ask for a simpler area or fewer parameters."
        return problem(414, detail, {"Connection": "close"})
    method = scope["method"]
    if method == "OPTIONS":
        return Response(status_code=204, headers=PREFLIGHT)
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
    has_body = headers.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in headers
    if method not in ("GET", "HEAD") or (method == "HEAD" and scope["path"] == "/events"):
        allowed = {"Allow": "GET, HEAD, OPTIONS", "Connection": "close"}
        return problem(405, f"{method} is not allowed here; everything is read with GET.", allowed)
    if has_body:
        return problem(413, "A request here has no body; put the parameters into the URL.", {"Connection": "close"})
    return None
