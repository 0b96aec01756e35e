"""The published folder over HTTP: read-only, with ranges, and nothing else of the machine.

A path is served when all its parts are plain names (letters, digits, ``. _ + -``, none hidden), no part is a link, and it ends at a
regular file inside ``published/``. Stores never change once published, so they may be cached for ever; ``latest.json`` and the catalog
are asked for anew each time.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from data_catalog.errors import StoreNotFoundError
from data_catalog.store import Root
from serving.api.answers import matches
from serving.api.problems import ProblemError
from serving.api.static import FOREVER, FRESH

PIECE: Final = 256 * 1024
"""Bytes read and sent at a time: what a reader who does not read costs."""
AT_ONCE: Final = 16
LARGEST_JSON: Final = 16 * 2**20

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


class Folder(Protocol):
    """Where published files are read from; both methods block.

    Attributes:
        turn: How many may read at the same time.
        is_near: Whether a small file takes less time to read than a thread to get its turn.
    """

    turn: CapacityLimiter
    is_near: bool

    def size(self, path: str) -> int | None:
        """Length in bytes of the file at a path relative to ``published``, None when none may be served there."""
        ...

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes ``start`` to ``stop`` of a file, or all of it.

        Raises:
            StoreNotFoundError: It is gone.
        """
        ...


class LocalFolder:
    """``published`` of a root on this machine."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.is_near = True
        self.turn = CapacityLimiter(AT_ONCE)

    def size(self, path: str) -> int | None:
        """See :class:`Folder`."""
        try:
            descriptor = self._open(path)
        except OSError:
            return None
        try:
            found = os.fstat(descriptor)
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        finally:
            os.close(descriptor)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """See :class:`Folder`."""
        try:
            descriptor = self._open(path)
        except OSError as error:
            raise StoreNotFoundError(f"There is no file {path}.") from error
        try:
            return os.pread(descriptor, (os.fstat(descriptor).st_size if stop is None else stop) - start, start)
        finally:
            os.close(descriptor)

    def _open(self, path: str) -> int:
        """A descriptor reached part by part from the folder, refusing links, so that nothing outside can be meant."""
        *folders, name = path.split("/")
        here = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in folders:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = inner
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
        finally:
            os.close(here)


class RemoteFolder:
    """``published`` of a root in an object store."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.is_near = False
        self.turn = CapacityLimiter(AT_ONCE)

    def size(self, path: str) -> int | None:
        """See :class:`Folder`."""
        return self.root.file_size(f"published/{path}")

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """See :class:`Folder`."""
        return self.root.read_bytes(f"published/{path}", start, stop)


def published_folder(root: Root) -> Folder:
    """Where the published files of a root are read from."""
    return RemoteFolder(root) if root.is_remote else LocalFolder(Path(root.url) / "published")


def is_plain(path: str) -> bool:
    """Whether every part of a path, already percent-decoded, is a plain name."""
    return len(path) <= 1024 and all(_PART.fullmatch(part) for part in path.split("/"))


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop of the one range a client asks for; None for the whole file (RFC 9110, 14.2).

    Several ranges, and units that are not bytes, are ignored as the RFC allows: the whole file is the answer.

    Raises:
        ProblemError: 416, the range cannot be read or lies outside the file.
    """
    if header is None or not header.strip().lower().startswith("bytes") or "," in header:
        return None
    match = _RANGE.fullmatch(header.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(size - int(last or 0), 0), size
    if match is None or start >= stop:
        detail = f"The range {header[:100]!r} cannot be had from {size} bytes; ask for bytes=FIRST-LAST inside them."
        raise ProblemError(416, detail, {"Content-Range": f"bytes */{size}"})
    return start, stop


async def answer_file(folder: Folder, path: str, headers: Headers) -> Response:
    """A published file, or the part of it that was asked for.

    Args:
        folder: Where from.
        path: Relative to ``published``, percent-decoded.
        headers: Of the request: Range, If-Range, If-None-Match.

    Raises:
        ProblemError: 404, no such file; 416, no such range.
    """
    begun = None
    if is_plain(path):
        ask = partial(_begin, folder, path, headers.get("range") is None)
        begun = ask() if folder.is_near else await to_thread.run_sync(ask, limiter=folder.turn)
    if begun is None:
        raise ProblemError(404, "There is no such published file; published/latest.json names the newest store.")
    size, whole = begun
    immutable = any(part.endswith(".zarr") for part in path.split("/")[:-1])
    kind = "application/octet-stream"
    if path.endswith(".json"):
        kind = "application/geo+json" if path.startswith("items/") else "application/json"
    common = {"Cache-Control": FOREVER if immutable else FRESH, "Accept-Ranges": "bytes", "Content-Type": kind}
    asked = headers.get("range")
    if whole is not None:
        return Response(whole, headers=common)
    etag = f'"{hashlib.blake2b(path.encode(), digest_size=8).hexdigest()}-{size:x}"' if immutable else None
    if etag is not None:
        common["ETag"] = etag
        if matches(headers.get("if-none-match", "").encode() or None, etag.encode()):
            return Response(status_code=304, headers=common)
    if headers.get("if-range") not in (None, etag):
        asked = None
    part = byte_range(asked, size)
    start, stop = part or (0, size)
    common["Content-Length"] = str(stop - start)
    if part is not None:
        common["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 200 if part is None else 206
    if stop - start <= PIECE:
        return Response(await to_thread.run_sync(folder.read, path, start, stop, limiter=folder.turn), status, headers=common)
    return StreamingResponse(_pieces(folder, path, start, stop), status, headers=common)


def _begin(folder: Folder, path: str, all_of_it: bool) -> tuple[int, bytes | None] | None:
    """Length of a file, and its content when it is JSON that is wanted whole; None when there is no file."""
    size = folder.size(path)
    if size is None:
        return None
    return size, folder.read(path) if all_of_it and path.endswith(".json") and size <= LARGEST_JSON else None


async def _pieces(folder: Folder, path: str, start: int, stop: int) -> AsyncIterator[bytes]:
    for first in range(start, stop, PIECE):
        yield await to_thread.run_sync(folder.read, path, first, min(first + PIECE, stop), limiter=folder.turn)
