"""The HTTP server around the application: uvicorn, with bounds on what one client can hold on to.

A client that sends its request slowly, never reads its answer, or opens thousands of connections loses its own connections and nobody
else's. Listeners bind to loopback by default; a proxy that ends TLS stands in front of a public address.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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

TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Doorkeeper:
    """Who is connected and not being answered: first those that never asked for anything, then the rest, the oldest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.silent: dict[GuardedProtocol, None] = {}
        self.idle: dict[GuardedProtocol, None] = {}

    def admit(self) -> None:
        """Make room for one more."""
        self.open += 1
        if self.open > self.most:
            waiting = self.silent or self.idle
            if waiting:
                oldest = next(iter(waiting))
                del waiting[oldest]
                oldest.transport.abort()

    def forget(self, connection: GuardedProtocol) -> None:
        """No longer among those to be closed."""
        self.silent.pop(connection, None)
        self.idle.pop(connection, None)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's connection with deadlines for the head of a request and for reading an answer."""

    doorkeeper: Doorkeeper

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is here."""
        super().connection_made(transport)
        self.doorkeeper.admit()
        self.doorkeeper.silent[self] = None
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
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._within("head", HEAD_SECONDS, TOO_SLOW)

    def on_headers_complete(self) -> None:
        """The head is whole: it is answered now."""
        self._in_time("head")
        self.doorkeeper.forget(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._head_bytes = 0
        super().on_message_complete()

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

    def _within(self, what: str, seconds: float, last_words: bytes) -> None:
        self._in_time(what)
        self._timers[what] = self.loop.call_later(seconds, self._late, last_words)

    def _in_time(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _late(self, last_words: bytes) -> None:
        if self.transport.is_closing():
            return
        if last_words and self._head_bytes:
            self.transport.write(last_words)
            self.transport.close()
        else:
            self.transport.abort()


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
        "http": protocol, "ws": "none", "log_level": "warning", "access_log": False, "server_header": False, "date_header": True,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS, "timeout_graceful_shutdown": 3, "backlog": 2048, "proxy_headers": True,
    }  # fmt: skip
    return uvicorn.Server(uvicorn.Config(app, **(chosen | options)))


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve on a bound socket until interrupted."""
    sys.setswitchinterval(SWITCH_SECONDS)
    server(app).run(sockets=[listener])
