"""Reading bytes from a folder, or over HTTP from a provider and its mirrors. Both are a :class:`~data_catalog.sources.base.Transport`."""

from __future__ import annotations

import email.utils
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.sources.base import Host

if TYPE_CHECKING:
    import ssl

    import httpx

_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABSENT: Final = frozenset({404, 410})
_REDIRECTS: Final = 5
_PATIENCE: Final = 120.0        # seconds a server may ask us to wait before a further attempt
_GIVEN_UP: Final = 3            # objects one after the other that a host failed to give in all attempts, after which it is asked no more


def merge_ranges(ranges: Sequence[tuple[int, int]], near: int, most: int) -> list[tuple[int, int]]:
    """Join byte ranges that lie near each other, so that fewer requests are made.

    Args:
        ranges: [start, stop) each.
        near: Bytes between two ranges that are rather read too than asked around.
        most: Bytes a joined range may have; a longer one that was asked for stays as it is.

    Returns:
        Ranges in order that cover those given.
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start - merged[-1][1] <= near and max(stop, merged[-1][1]) - merged[-1][0] <= most:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


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
        path = (self.base / unquote(url)).resolve()
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


class HttpTransport:
    """Reads objects over HTTP by byte ranges, from the first of several hosts that gives them.

    An attempt goes through the hosts in their order. What broke off is taken up where it stopped, as long as the object is still the
    same. After an attempt that failed everywhere there is a pause that grows, with jitter, and is no shorter than a server asked for.
    A redirect to the same object elsewhere is followed; one to anything else is a wall against too many requests, and tried again.
    What could not be read in all attempts is not asked for again, nor is a host that failed with several objects: one is made for a run.

    Args:
        hosts: Base URLs, plain or with the limits that hold there.
        connect: Seconds to wait for a connection.
        timeout: Seconds to wait for each next piece of an answer.
        deadline: Seconds one attempt may take in all, so that a server that drips is left.
        attempts: How often an object is tried.
        pause: Seconds before the second attempt, doubled for each one more; the real pause is drawn between half of it and all of it.
        sleep: Waits; tests hand in their own.
    """

    def __init__(
        self,
        *hosts: str | Host,
        connect: float = 10.0,
        timeout: float = 20.0,
        deadline: float = 120.0,
        attempts: int = 5,
        pause: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.hosts: Final = tuple(Host(host) if isinstance(host, str) else host for host in hosts)
        self.deadline, self.attempts, self.pause = deadline, attempts, pause
        self._timeouts, self._sleep = (connect, timeout), sleep
        self._failed: dict[str, str] = {}                       # why by address, of what was tried in all attempts
        self._row = dict.fromkeys(self.hosts, 0)                # objects one after the other that a host failed to give
        self._lock = threading.Lock()
        self._opened: httpx.Client | None = None

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of ``url``; an absolute URL is taken as it is, from no other host.

        Raises:
            NotAvailableError: Every host says that there is no such object (404 or 410).
            SourceError: It could not be read in all attempts, was refused, or is shorter than asked for.
        """
        hosts = (Host(url),) if "://" in url else self.hosts
        todo = {host: _Download(host.url if "://" in url else f"{host.url.rstrip('/')}/{url.lstrip('/')}", start, stop) for host in hosts}
        ended: dict[Host, SourceError] = {}
        for host, download in todo.items():
            if reason := self._failed.get(download.address):
                ended[host] = SourceError(reason)
            elif self._row.get(host, 0) >= _GIVEN_UP:
                ended[host] = SourceError(f"{host.url} was given up after it had failed to give {_GIVEN_UP} objects one after the other")
        waits = 0.0
        for attempt in range(self.attempts):
            if attempt and len(ended) < len(todo):
                # Jitter spreads many readers over time; it decides nothing that is stored.
                self._sleep(max(self.pause * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0), waits))
            for host, download in todo.items():
                if host in ended:
                    continue
                try:
                    found = self._attempt(host, download)
                except SourceError as error:
                    ended[host] = error
                except _TryAgainError as error:
                    download.reason, waits = str(error), error.wait
                else:
                    self._row[host] = 0
                    return found
        for host, download in todo.items():
            if host not in ended:
                reason = f"{download.address} could not be read in {self.attempts} attempts: {download.reason}"
                self._row[host] = self._row.get(host, 0) + (download.address not in self._failed)
                self._failed[download.address] = reason
                ended[host] = SourceError(reason)
        errors = [ended[host] for host in todo]
        absent = [error for error in errors if isinstance(error, NotAvailableError)]
        if len(absent) == len(errors):
            raise absent[0]
        others = [str(error).rstrip(".") for error in errors if not isinstance(error, NotAvailableError)]
        raise SourceError("; ".join(others) + ".")

    def close(self) -> None:
        """Close the connections that are kept open; nobody holding this transport any more does the same."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _client(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._opened is None:
                connect, timeout = self._timeouts
                self._opened = httpx.Client(
                    verify=_certificates(), timeout=httpx.Timeout(timeout, connect=connect), headers={"Accept-Encoding": "identity"},
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
                )    # fmt: skip
                weakref.finalize(self, self._opened.close)
            return self._opened

    def _attempt(self, host: Host, download: _Download) -> bytes:
        import httpx

        begun = time.monotonic()
        address = download.address
        try:
            with _gate(host).turn(self._sleep):
                for _ in range(_REDIRECTS):
                    with self._client.stream("GET", address, headers=download.headers()) as answer:
                        if answer.is_redirect:
                            address = _followed(answer, address)
                            continue
                        _judge(answer, download)
                        download.begin(answer)
                        for part in answer.iter_bytes():
                            if download.add(part):
                                break
                            if time.monotonic() - begun > self.deadline:
                                raise _TryAgainError(f"the answer took more than {self.deadline:g} s")
                        return download.result()
                raise _TryAgainError(f"more than {_REDIRECTS} redirects")
        except httpx.HTTPError as error:
            raise _TryAgainError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        except httpx.InvalidURL as error:
            raise SourceError(f"{address} is no URL: {error}; check the base URL.") from error


@cache
def _certificates() -> ssl.SSLContext:
    """Whom we trust, read once: a seventh of a second."""
    import httpx

    return httpx.create_ssl_context()


class _TryAgainError(Exception):
    """Something that may pass: the reason in words, and seconds that the server wants us to wait."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(slots=True)
class _Download:
    """The bytes [start, stop) of one object as far as they have come."""

    address: str
    start: int
    stop: int | None
    reason: str = ""
    data: bytearray = field(default_factory=bytearray)
    version: str = ""           # what tells this object from another one at the same address
    passed: int = 0             # bytes to pass over: of a server that sends everything, those before the start

    def headers(self) -> dict[str, str]:
        """Of a request for what is still missing."""
        if not self.version:
            self.data.clear()
        first = self.start + len(self.data)
        if not first and self.stop is None:
            return {}
        headers = {"Range": f"bytes={first}-{'' if self.stop is None else self.stop - 1}"}
        return headers | ({"If-Range": self.version} if self.data else {})

    def begin(self, answer: httpx.Response) -> None:
        """Read what the answer is of: the bytes asked for, or the whole object."""
        tag = answer.headers.get("ETag", "")
        self.version = (tag if tag and not tag.startswith("W/") else "") or answer.headers.get("Last-Modified", "")
        if answer.status_code == 200:
            self.data.clear()
            self.passed = self.start
            return
        self.passed = 0
        given, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = given.partition("-")[0]
        if first.isdigit() and int(first) != self.start + len(self.data):
            self.data.clear()
            raise _TryAgainError(f"asked for bytes from {self.start}, got those from {first}")
        if total.isdigit() and self.stop is not None and int(total) < self.stop:
            raise SourceError(f"{self.address}: {self._short(f'it has {total} bytes')}.")

    def add(self, part: bytes) -> bool:
        """Take a piece; whether all is there."""
        if self.passed:
            part, self.passed = part[self.passed :], max(self.passed - len(part), 0)
        self.data += part
        return self.stop is not None and len(self.data) >= self.stop - self.start

    def result(self) -> bytes:
        """All of it."""
        wanted = None if self.stop is None else self.stop - self.start
        if wanted is not None and len(self.data) < wanted:
            raise _TryAgainError(self._short(f"gave {len(self.data)} bytes"))
        return bytes(self.data[:wanted])

    def _short(self, found: str) -> str:
        return f"{found} where [{self.start}, {self.stop}) is wanted; it is cut off or its index is of another file"


def _judge(answer: httpx.Response, download: _Download) -> None:
    status, address = answer.status_code, download.address
    if status in _ABSENT:
        raise NotAvailableError(f"There is no object {address} (HTTP {status}).")
    if status == 416:
        raise SourceError(f"{address} has no bytes from {download.start} on; it is cut off or its index is of another file.")
    if status in _RETRIED:
        wait = _retry_after(answer.headers.get("Retry-After", ""))
        if wait > _PATIENCE:
            raise SourceError(f"{address} answers HTTP {status} and asks to wait {wait:.0f} s; try again then.")
        raise _TryAgainError(f"HTTP {status}", wait)
    if status not in (200, 206):
        raise SourceError(f"{address} was refused with HTTP {status}; expected 200 or 206. Check the address and the credentials.")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise _TryAgainError("an HTML page in place of the object")


def _retry_after(text: str) -> float:
    """Seconds to wait, from a number of them or a date."""
    if text.isdigit():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _followed(answer: httpx.Response, address: str) -> str:
    """Where a redirect leads, when that is the same object."""
    target: str = urljoin(address, answer.headers.get("Location", ""))
    if urlsplit(target).path.rpartition("/")[2] != urlsplit(address).path.rpartition("/")[2]:
        raise _TryAgainError(f"HTTP {answer.status_code} to {target}, which is another object: a wall against too many requests")
    return target


class _Gate:
    """Lets no more requests through to a server than it allows."""

    def __init__(self, connections: int, per_minute: float) -> None:
        self._free = threading.BoundedSemaphore(connections)
        self._lock = threading.Lock()
        self._spacing, self._next = 60.0 / per_minute, 0.0

    @contextmanager
    def turn(self, sleep: Callable[[float], None]) -> Iterator[None]:
        """Wait for one's turn, and hold a connection meanwhile."""
        with self._free:
            with self._lock:
                now = time.monotonic()
                mine = max(self._next, now)
                self._next = mine + self._spacing
            if mine > now:
                sleep(mine - now)
            yield


def _gate(host: Host) -> _Gate:
    """The gate of a server, one for all that read from it in this process."""
    return _server_gate(urlsplit(host.url).netloc, host.connections, host.per_minute)


@cache
def _server_gate(server: str, connections: int, per_minute: float) -> _Gate:
    return _Gate(connections, per_minute)


def _whole(data: bytes, url: str, start: int, stop: int | None) -> bytes:
    if stop is not None and len(data) != stop - start:
        raise SourceError(
            f"{url} gave {len(data)} bytes of [{start}, {stop}), expected {stop - start}; it is cut off or its index is of another file."
        )
    return data
