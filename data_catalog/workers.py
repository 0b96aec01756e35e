"""A process of our own that calls one function: what kills it, or takes too long, costs one call and nothing else.

For work in C libraries that a hostile file may crash. The process is a fresh interpreter that imports only what the function needs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from data_catalog.errors import WorkerDiedError

_START_SECONDS: Final = 60.0    # a process on a busy machine may take that long to import a library
_READY: Final = "ready"


class Worker:
    """Calls a function in a process of its own, which is started with the first call and again after it died; a context manager.

    Args:
        function: ``package.module:name`` of a function of one argument; argument and result are pickled.
        timeout: Seconds one call may take.
    """

    def __init__(self, function: str, timeout: float = 120.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}; it must be above zero.")
        self._function, self._timeout = function, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def call(self, argument: Any) -> Any:
        """The function's result.

        Raises:
            WorkerDiedError: The process died or took too long over this argument; the next call finds a new one.
        """
        connection = self._started()
        try:
            connection.send(argument)
            if not connection.poll(self._timeout):
                self.close()
                raise WorkerDiedError(f"decoding took longer than {self._timeout:g} s")
            return connection.recv()
        except (EOFError, OSError):
            raise WorkerDiedError(f"the decoding process {self._ended()}") from None

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._process = self._connection = None

    @property
    def pid(self) -> int | None:
        """Process id of the process that runs now, None before the first call and after one died."""
        return None if self._process is None else self._process.pid

    def _started(self) -> Connection:
        if self._connection is None:
            ours, theirs = socket.socketpair()
            module, name = self._function.split(":")
            with theirs:
                # The folders to import from are handed over as they are here, so that the process finds what its parent found.
                program = (
                    f"import sys; sys.path[:] = {sys.path!r}; from {module} import {name}; "
                    f"from data_catalog.workers import serve; serve({theirs.fileno()}, {name})"
                )
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )    # fmt: skip
            self._connection = Connection(ours.detach())
            try:
                ready = self._connection.poll(_START_SECONDS) and self._connection.recv() == _READY
            except (EOFError, OSError):
                ready = False
            if not ready:
                raise WorkerDiedError(f"The process of {self._function} {self._ended()} before it was ready; try to import it.")
        return self._connection

    def _ended(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.poll()
        self.close()
        if code is None:
            return "stopped answering"
        return f"died of signal {-code}" if code < 0 else f"ended with status {code}"


def serve(descriptor: int, function: Callable[[Any], Any]) -> None:
    """Answer calls of a :class:`Worker` until the other end closes the connection."""
    connection = Connection(descriptor)
    connection.send(_READY)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(function(connection.recv()))
    os._exit(0)                                 # no exit handlers: a C library that aborts there would look like a crash
