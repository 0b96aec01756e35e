"""The HTTP server around the application: uvicorn, with bounds on what one client can hold on to.

A client that sends its request slowly, never reads its answer, or opens thousands of connections loses its own connections and nobody
else's. Listeners bind to loopback by default; a proxy that ends TLS stands in front of a public address.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.api.edge import LONGEST_TARGET, SECURITY
from serving.api.problems import problem

HEAD_SECONDS: Final = 10.0
"""A request line and its headers have to be there after this time."""
HEAD_BYTES: Final = 32 * 1024
READ_SECONDS: Final = 30.0
"""A client has to have read what fills its buffers after this time."""
KEEP_ALIVE_SECONDS: Final = 15
SPARE_FILES: Final = 256
"""Descriptors kept for stores, libraries and the event loop."""
MOST_CONNECTIONS: Final = 8192
SWITCH_SECONDS: Final = 0.001
"""How long a thread that computes may hold the interpreter while the event loop waits."""


def last_words(status: int, detail: str) -> bytes:
    """A whole answer for a client whose request never gets as far as the application."""
    answer = problem(status, detail, {"Connection": "close", **SECURITY})
    head = "".join(f"{name.decode('latin-1')}: {value.decode('latin-1')}\r\n" for name, value in answer.raw_headers)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode("latin-1") + bytes(answer.body)


NO_REQUEST: Final = last_words(400, "This is no HTTP request.")
TOO_SLOW: Final = last_words(408, f"The head of the request was not there after {HEAD_SECONDS:g} seconds.")
TOO_LONG: Final = last_words(414, f"The URL is longer than {LONGEST_TARGET} bytes; ask for a simpler area or fewer parameters.")
TOO_LARGE: Final = last_words(431, f"The head of the request is longer than {HEAD_BYTES} bytes.")


class Doorkeeper:
    """Who is connected and not being answered: first those that never asked for anything, then the rest, the oldest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.silent: dict[GuardedProtocol, None] = {}
        self.idle: dict[GuardedProtocol, None] = {}

    def admit(self, newcomer: GuardedProtocol) -> None:
        """Let one more in, if need be for the oldest of those that wait, which may be the newcomer itself."""
        self.open += 1
        self.silent[newcomer] = None
        if self.open > self.most:
            oldest = next(iter(self.silent if len(self.silent) > 1 else self.idle or self.silent))
            self.forget(oldest)
            oldest.hang_up()

    def forget(self, connection: GuardedProtocol) -> None:
        """No longer among those to be closed."""
        self.silent.pop(connection, None)
        self.idle.pop(connection, None)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's connection with deadlines for the head of a request and for reading an answer."""

    doorkeeper: Doorkeeper

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._begun = 0
        self._head_bytes = 0
        self._dribbled = 0
        self._in_head = False
        self.url = b""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is here."""
        super().connection_made(transport)
        self.doorkeeper.admit(self)
        self._within("head", HEAD_SECONDS, TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._in_time("head")
        self._in_time("read")
        self.doorkeeper.open -= 1
        self.doorkeeper.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a request; a head that grows beyond bounds ends the connection."""
        begun = self._begun
        super().data_received(data)
        if self._in_head and self._begun == begun:
            self._dribbled += len(data)
            if self._dribbled > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """The last words to a client whose request cannot be read."""
        large = max(self._dribbled, self._head_bytes) > HEAD_BYTES
        self._end(TOO_LONG if len(self.url) > LONGEST_TARGET else TOO_LARGE if large else NO_REQUEST)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._begun += 1
        self._head_bytes, self._dribbled, self._in_head = 0, 0, True
        self._within("head", HEAD_SECONDS, TOO_SLOW)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, one of very many perhaps."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("the head is too long")

    def on_headers_complete(self) -> None:
        """The head is whole: it is answered now."""
        self._in_time("head")
        self._in_head = False
        self.doorkeeper.forget(self)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The answer is on its way."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self.doorkeeper.idle[self] = None

    def pause_writing(self) -> None:
        """The client does not read as fast as it is sent to."""
        super().pause_writing()
        self._within("read", READ_SECONDS, b"")

    def resume_writing(self) -> None:
        """It does again."""
        self._in_time("read")
        super().resume_writing()

    def _within(self, what: str, seconds: float, words: bytes) -> None:
        self._in_time(what)
        self._timers[what] = self.loop.call_later(seconds, self._late, words)

    def _in_time(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _late(self, words: bytes) -> None:
        if self._in_head:
            self._end(words)
        else:
            self.hang_up()

    def _end(self, words: bytes) -> None:
        """Say something, unless an answer is under way, and close."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(words)
        self._forsake()
        self.transport.close()

    def hang_up(self) -> None:
        """Drop the connection and what was not read of it: a close alone would wait in the kernel for a client that never reads."""
        self._forsake()
        listener = self.transport.get_extra_info("socket")
        if listener is not None and not self.transport.is_closing():
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _forsake(self) -> None:
        """Nothing more is sent."""
        self.pipeline.clear()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()


def connection_limit() -> int:
    """How many connections the open-file limit allows, after raising it as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(MOST_CONNECTIONS, soft - SPARE_FILES), 16)


def server(app: FastAPI, **options: Any) -> uvicorn.Server:
    """A server for the application; ``options`` are uvicorn's, such as ``host`` and ``port``."""
    keeper = Doorkeeper(connection_limit())
    protocol = type("Protocol", (GuardedProtocol,), {"doorkeeper": keeper})
    chosen: dict[str, Any] = {
        "http": protocol, "ws": "none", "log_level": "error", "access_log": False, "server_header": False, "date_header": True,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS, "timeout_graceful_shutdown": 3, "backlog": 2048, "proxy_headers": True,
    }  # fmt: skip
    return uvicorn.Server(uvicorn.Config(app, **(chosen | options)))


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve on a bound socket until interrupted, which is the usual end."""
    sys.setswitchinterval(SWITCH_SECONDS)
    with suppress(KeyboardInterrupt):
        server(app).run(sockets=[listener])
