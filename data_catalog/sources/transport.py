"""Reading bytes from a folder or over HTTP. Both are a :class:`~data_catalog.sources.base.Transport`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_catalog.errors import NotAvailableError, SourceError

if TYPE_CHECKING:
    import httpx

_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABSENT: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class FolderTransport:
    """Reads files below a folder.

    Attributes:
        base: The folder.
    """

    base: Path

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of the file ``url``, a path below the base.

        Raises:
            NotAvailableError: No such file.
            SourceError: It cannot be read, is shorter than asked for, or lies outside the base.
        """
        path = (self.base / url).resolve()
        if not path.is_relative_to(self.base.resolve()):
            raise SourceError(f"The path {url!r} leads out of the folder {self.base}; sources read below their base only.")
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                data = stream.read() if stop is None else stream.read(stop - start)
        except (FileNotFoundError, NotADirectoryError):
            raise NotAvailableError(f"There is no file {path}.") from None
        except OSError as error:
            raise SourceError(f"The file {path} could not be read: {error}.") from error
        return _whole(data, url, start, stop)


@dataclass(frozen=True)
class HttpTransport:
    """Reads objects over HTTP by byte ranges, again after a growing pause when the server is busy, slow or breaks off.

    Attributes:
        base: Base URL; an absolute URL handed to :meth:`read` is taken as it is.
        timeout: Seconds to wait for a connection, and for each next piece of an answer.
        deadline: Seconds one attempt may take in all, so that a server that drips is left.
        attempts: How often an object is tried.
        pause: Seconds before the second attempt, doubled for each one more; the real pause is drawn between half of it and all of it.
        sleep: Waits; tests hand in their own.
    """

    base: str
    timeout: float = 20.0
    deadline: float = 120.0
    attempts: int = 5
    pause: float = 0.5
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        return httpx.Client(timeout=self.timeout, follow_redirects=True, headers={"Accept-Encoding": "identity"})

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of ``url``.

        Raises:
            NotAvailableError: The server says there is no such object (404 or 410), without a second try.
            SourceError: It could not be read in all attempts, was refused, or is shorter than asked for.
        """
        address = url if "://" in url else f"{self.base.rstrip('/')}/{url.lstrip('/')}"
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                # Jitter spreads many readers over time; it decides nothing that is stored.
                self.sleep(self.pause * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0))
            try:
                return self._attempt(address, start, stop)
            except _TryAgainError as error:
                reason = str(error)
        raise SourceError(f"{address} could not be read in {self.attempts} attempts: {reason}.")

    def close(self) -> None:
        """Close the connections that are kept open."""
        if "_client" in self.__dict__:
            self._client.close()

    def _attempt(self, address: str, start: int, stop: int | None) -> bytes:
        import httpx

        ranged = start > 0 or stop is not None
        headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"} if ranged else {}
        begun = time.monotonic()
        parts: list[bytes] = []
        try:
            with self._client.stream("GET", address, headers=headers) as answer:
                self._judge(answer.status_code, address)
                for part in answer.iter_bytes():
                    parts.append(part)
                    if time.monotonic() - begun > self.deadline:
                        raise _TryAgainError(f"the answer took more than {self.deadline:g} s")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise _TryAgainError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        except httpx.InvalidURL as error:
            raise SourceError(f"{address} is no URL: {error}; check the base URL.") from error
        data = b"".join(parts)
        if ranged and status == 200:  # the server does not know ranges and sent everything
            data = data[start:stop]
        try:
            return _whole(data, address, start, stop)
        except SourceError as error:
            raise _TryAgainError(str(error)) from error

    @staticmethod
    def _judge(status: int, address: str) -> None:
        if status in _ABSENT:
            raise NotAvailableError(f"There is no object {address} (HTTP {status}).")
        if status in _RETRIED:
            raise _TryAgainError(f"HTTP {status}")
        if status not in (200, 206):
            raise SourceError(f"{address} was refused with HTTP {status}; expected 200 or 206. Check the address and the credentials.")


class _TryAgainError(Exception):
    """Something that may pass: the reason in words."""


def _whole(data: bytes, url: str, start: int, stop: int | None) -> bytes:
    if stop is not None and len(data) != stop - start:
        raise SourceError(
            f"{url} gave {len(data)} bytes of [{start}, {stop}), expected {stop - start}; it is cut off or its index is of another file."
        )
    return data
