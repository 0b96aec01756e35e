"""Answers kept in memory for as long as the same cycle is published, with ETag, 304 and gzip in one place.

What is computed from a published cycle is the same for everybody until the next one is out. The first reader's request runs, those that
ask the same meanwhile wait for it, later ones get what is kept. A handler that must run every time answers with ``Cache-Control:
no-store``.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.cycles import PublishedCycles

LIMIT_BYTES: Final = 64 * 2**20
LARGEST_BYTES: Final = 8 * 2**20
"""A larger answer is sent as it comes, neither kept nor compressed."""
WORTH_BYTES: Final = 1024
"""Smaller answers fit a packet or two as they are."""
QUICK_BYTES: Final = 256 * 1024
"""Compressed here, in a few milliseconds: under load a thread waits longer than that for its turn."""
COMPRESSIBLE: Final = ("application/json", "application/geo+json", "application/vnd.cov+json", "application/vnd.oai", "text/", "image/svg")
EVERY_TIME: Final = ("/health", "/ready", "/metrics", "/events")

Key = tuple[int, bytes, bytes, str, tuple[bytes, ...]]


@dataclass(slots=True)
class Answer:
    """A whole answer of status 200, kept in one coding.

    Attributes:
        headers: Without Content-Length, ETag and Vary.
        content: The body; in gzip where ``is_packed``.
        etag: Of the body, quoted.
        is_packed: Whether compression paid.
    """

    headers: list[tuple[bytes, bytes]]
    content: bytes
    etag: bytes
    is_packed: bool

    @classmethod
    def of(cls, headers: list[tuple[bytes, bytes]], body: bytes, level: int) -> Answer:
        """From a body, compressed where its kind and size say that it pays."""
        kind = next((value.decode("latin-1") for name, value in headers if name.lower() == b"content-type"), "")
        etag = b'"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
        pays = len(body) >= WORTH_BYTES and kind.startswith(COMPRESSIBLE)
        return cls(headers, gzip.compress(body, level, mtime=0) if pays else body, etag, pays)

    @property
    def size(self) -> int:
        """Bytes in memory, roughly."""
        return len(self.content) + 500

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it as the request's conditions and codings ask for."""
        asked = dict(scope["headers"])
        packed = self.is_packed and b"gzip" in asked.get(b"accept-encoding", b"")
        etag = self.etag[:-1] + b'-gzip"' if packed else self.etag
        headers = [*self.headers, (b"etag", etag), (b"vary", b"Accept, Accept-Encoding")]
        if matches(asked.get(b"if-none-match"), self.etag):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        body = gzip.decompress(self.content) if self.is_packed and not packed else self.content
        headers.append((b"content-length", b"%d" % len(body)))
        if packed:
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def matches(if_none_match: bytes | None, etag: bytes) -> bool:
    """Whether a client has this entity already, in any coding (RFC 9110, 13.1.2: weak comparison)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == b"*":
        return True
    known = (part.strip().removeprefix(b"W/").replace(b'-gzip"', b'"') for part in if_none_match.split(b","))
    return etag in known


class Answers:
    """ASGI middleware; see the module.

    Args:
        app: What answers.
        store: Its ``generation`` says how long an answer holds.
        ready: Answers by path that hold as long as the process.
        limit: Bytes kept.
    """

    def __init__(self, app: ASGIApp, store: PublishedCycles, ready: Mapping[str, Answer], limit: int = LIMIT_BYTES) -> None:
        self.app = app
        self.store = store
        self.ready = ready
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[Key, Answer] = OrderedDict()
        self._making: dict[Key, asyncio.Future[Answer | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or run the application and remember."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "GET" and scope["path"] in self.ready:
            await self.ready[scope["path"]].send(scope, send)
            return
        asked = dict(scope["headers"])
        if scope["method"] != "GET" or b"range" in asked or scope["path"] in EVERY_TIME:
            await self.app(scope, receive, send)
            return
        fresh = scope["path"].startswith("/published/") and ".zarr/" not in scope["path"]  # replaced in place, by others
        target = scope.get("raw_path") or scope["path"].encode()
        varied = tuple(asked.get(name, b"") for name in (b"accept", b"host"))
        key = (self.store.generation, target, scope["query_string"], scope["scheme"], varied)
        answer = None if fresh else self._kept.get(key)
        if answer is None and not fresh and key in self._making:
            answer = await self._making[key]
        if answer is not None:
            if key in self._kept:
                self._kept.move_to_end(key)
            await answer.send(scope, send)
            return
        await self._make(key, fresh, scope, receive, send)

    async def _make(self, key: Key, fresh: bool, scope: Scope, receive: Receive, send: Send) -> None:
        waiting: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._making.setdefault(key, waiting)
        answer = None
        try:
            recorder = Recorder(send)
            await self.app(scope, receive, recorder)
            answer = await recorder.answer()
            if answer is not None and not fresh and not recorder.once and self.store.generation == key[0]:
                self._keep(key, answer)
        finally:
            if self._making.get(key) is waiting:
                del self._making[key]
            waiting.set_result(answer)
        if answer is not None:
            await answer.send(scope, send)

    def _keep(self, key: Key, answer: Answer) -> None:
        old = self._kept.pop(key, None)
        self._kept[key] = answer
        self.bytes += answer.size - (old.size if old else 0)
        while self._kept and (self.bytes > self.limit or next(iter(self._kept))[0] != key[0]):
            self.bytes -= self._kept.popitem(last=False)[1].size


class Recorder:
    """An ASGI ``send`` that collects an answer of status 200 and bounded size, and lets every other one through as it comes."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.once = False
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._through = False

    async def __call__(self, message: Message) -> None:
        """Collect or let through."""
        if message["type"] == "http.response.start":
            self._start = message
            self._through = not self._is_whole(message)
            if not self._through:
                return
        if self._through:
            await self.send(message)
        elif message["type"] == "http.response.body":
            self._parts.append(message.get("body", b""))

    def _is_whole(self, start: Message) -> bool:
        headers = {name.lower(): value for name, value in start["headers"]}
        self.once = b"no-store" in headers.get(b"cache-control", b"")
        length = headers.get(b"content-length")
        return start["status"] == 200 and b"etag" not in headers and length is not None and int(length) <= LARGEST_BYTES

    async def answer(self) -> Answer | None:
        """What was collected, compressed where that pays; None when it was let through."""
        if self._start is None or self._through:
            return None
        body = b"".join(self._parts)
        headers: list[tuple[bytes, bytes]] = [
            (name, value) for name, value in self._start["headers"] if name.lower() not in (b"content-length", b"vary")
        ]
        if len(body) > QUICK_BYTES:
            return await asyncio.to_thread(Answer.of, headers, body, 2)
        return Answer.of(headers, body, 2)
