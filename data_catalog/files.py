"""The two places a root can be, a local folder and an object store, behind one small interface.

Paths are relative to the root, with forward slashes. Each change is one atomic step for those who read: a rename of something that is
already whole and on disk, or the upload of one object.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from data_catalog.errors import ConfigurationError, GiomuaError, StoreError, StoreNotFoundError

MARKER: Final = "zarr.json"
"""The file that makes a folder a store: it appears last in an object store, and with everything else in a local folder."""


class Files(Protocol):
    """Whole files by relative path.

    Attributes:
        url: The absolute folder, or the URL without a closing slash.
    """

    url: str

    def location(self, path: str) -> str:
        """Where this path is, in words for people and for ``xarray.open_zarr``."""
        ...

    def zarr_store(self, path: str) -> Any:
        """What ``xarray.open_zarr`` takes to read the store at ``path``."""
        ...

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The content of a file, or the bytes from ``start`` to ``stop`` of it, fewer where it ends before.

        Raises:
            StoreNotFoundError: There is none.
        """
        ...

    def size(self, path: str) -> int | None:
        """Length of a file in bytes, None where there is no file."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Replace a file: a reader sees the old content or the new one."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file at ``path``, or a folder holding a :data:`MARKER`."""
        ...

    def sizes(self, path: str) -> dict[str, int]:
        """Every file under a folder: relative path and length in bytes."""
        ...

    def folders(self, path: str) -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        ...

    def delete(self, path: str) -> None:
        """Remove a folder; a reader sees it whole or not at all."""
        ...

    def staging(self) -> AbstractContextManager[Path]:
        """Context manager for a new private local folder, gone afterwards, from which :meth:`publish` takes."""
        ...

    def publish(self, staged: Path, path: str) -> bool:
        """Make a staged folder visible at ``path`` in one step; False when something is there already."""
        ...


class LocalFiles:
    """A root in a local folder, made when first written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def location(self, path: str) -> str:
        """The absolute path."""
        return str(self.folder / path)

    def zarr_store(self, path: str) -> str:
        """The absolute path: zarr's own local store."""
        return str(self.folder / path)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """See :class:`Files`."""
        with explained("read", self.location(path), self.folder):
            try:
                with (self.folder / path).open("rb") as file:
                    file.seek(start)
                    return file.read() if stop is None else file.read(stop - start)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                raise StoreNotFoundError(f"There is no file {self.location(path)}.") from error

    def size(self, path: str) -> int | None:
        """See :class:`Files`."""
        target = self.folder / path
        with explained("look for", str(target), self.folder):
            return target.stat().st_size if target.is_file() else None

    def write(self, path: str, data: bytes) -> None:
        """See :class:`Files`."""
        target = self.folder / path
        with self.staging() as staged, explained("write", self.location(path), self.folder):
            made = staged / "file"
            made.write_bytes(data)
            _sync(made)
            _make_folders(target.parent)
            made.replace(target)
            _sync(target.parent)

    def exists(self, path: str) -> bool:
        """See :class:`Files`."""
        target = self.folder / path
        with explained("look for", str(target), self.folder):
            return target.is_file() or (target / MARKER).is_file()

    def sizes(self, path: str) -> dict[str, int]:
        """See :class:`Files`."""
        top = self.folder / path
        return {found.relative_to(top).as_posix(): found.stat().st_size for found in _files_under(top)}

    def folders(self, path: str) -> list[str]:
        """See :class:`Files`."""
        with explained("list", self.location(path), self.folder):
            try:
                return sorted(entry.name for entry in os.scandir(self.folder / path) if entry.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def delete(self, path: str) -> None:
        """See :class:`Files`."""
        with self.staging() as staged, explained("delete", self.location(path), self.folder):
            (self.folder / path).rename(staged / "deleted")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See :class:`Files`; beside the data, so that a rename never crosses a file system."""
        with staging_folder(self.folder / ".staging") as staged:
            yield staged

    def publish(self, staged: Path, path: str) -> bool:
        """See :class:`Files`."""
        target = self.folder / path
        with explained("publish", self.location(path), self.folder):
            for file in _files_under(staged):
                _sync(file)
            for folder, _, _ in os.walk(staged):
                _sync(Path(folder))
            _make_folders(target.parent)
            try:
                staged.rename(target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            _sync(target.parent)
        return True


class ObjectFiles:
    """A root in an object store: ``s3://bucket/prefix``, or ``memory://`` for this object alone."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.url = url.rstrip("/") if url != "memory://" else url
        self._store = _object_store(url, options)

    def location(self, path: str) -> str:
        """The URL."""
        return f"{self.url.removesuffix('/')}/{path}"

    def zarr_store(self, path: str) -> Any:
        """A read-only zarr store on the objects under ``path``."""
        from zarr.storage import ObjectStore, StorePath

        return StorePath(ObjectStore(self._store, read_only=True), path)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """See :class:`Files`."""
        import obstore
        from obstore.exceptions import NotFoundError

        with explained("read", self.location(path)):
            try:
                if stop is None:
                    return bytes(obstore.get(self._store, path).bytes())[start:]
                return bytes(obstore.get_range(self._store, path, start=start, end=stop))
            except (NotFoundError, FileNotFoundError) as error:
                raise StoreNotFoundError(f"There is no object {self.location(path)}.") from error

    def size(self, path: str) -> int | None:
        """See :class:`Files`."""
        import obstore
        from obstore.exceptions import NotFoundError

        with explained("look for", self.location(path)):
            try:
                return int(obstore.head(self._store, path)["size"])
            except (NotFoundError, FileNotFoundError):
                return None

    def write(self, path: str, data: bytes) -> None:
        """See :class:`Files`."""
        import obstore

        with explained("write", self.location(path)):
            obstore.put(self._store, path, data)

    def exists(self, path: str) -> bool:
        """See :class:`Files`."""
        return self._has(path) or self._has(f"{path}/{MARKER}")

    def sizes(self, path: str) -> dict[str, int]:
        """See :class:`Files`."""
        import obstore

        with explained("list", self.location(path)):
            return {
                str(PurePosixPath(found["path"]).relative_to(path)): int(found["size"])
                for page in obstore.list(self._store, prefix=path)
                for found in page
            }

    def folders(self, path: str) -> list[str]:
        """See :class:`Files`."""
        import obstore

        with explained("list", self.location(path)):
            listed = obstore.list_with_delimiter(self._store, prefix=path or None)
        return sorted(PurePosixPath(found).name for found in listed["common_prefixes"])

    def delete(self, path: str) -> None:
        """See :class:`Files`; the marker goes first."""
        import obstore

        names = sorted(self.sizes(path), key=lambda name: name != MARKER)
        with explained("delete", self.location(path)):
            for name in names:
                obstore.delete(self._store, f"{path}/{name}")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See :class:`Files`; in this machine's folder for temporary files."""
        parent = Path(tempfile.gettempdir()) / f"giomua-staging-{os.getuid()}"
        with explained("make", str(parent), parent.parent):
            parent.mkdir(mode=0o700, exist_ok=True)
            if parent.stat().st_uid != os.getuid():
                raise StoreError(f"The folder {parent} belongs to another user; remove it or set TMPDIR to another folder.")
        with staging_folder(parent) as staged:
            yield staged

    def publish(self, staged: Path, path: str) -> bool:
        """See :class:`Files`; everything but the marker, then the marker, created only if nobody else has."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with explained("publish", self.location(path)):
            if self._has(f"{path}/{MARKER}"):
                return False
            names = [file.relative_to(staged).as_posix() for file in _files_under(staged)]
            with ThreadPoolExecutor(max_workers=8) as pool:
                uploads = [pool.submit(obstore.put, self._store, f"{path}/{name}", staged / name) for name in names if name != MARKER]
            for upload in uploads:
                upload.result()
            try:
                obstore.put(self._store, f"{path}/{MARKER}", (staged / MARKER).read_bytes(), mode="create")
            except (AlreadyExistsError, FileExistsError, PreconditionError):
                return False
        return True

    def _has(self, path: str) -> bool:
        import obstore
        from obstore.exceptions import NotFoundError

        with explained("look for", self.location(path)):
            try:
                obstore.head(self._store, path)
            except (NotFoundError, FileNotFoundError):
                return False
        return True


def open_files(url: str, options: Mapping[str, str]) -> Files:
    """The files of a root by URL or path.

    Raises:
        ConfigurationError: No such kind of URL, or an option that its object store does not know.
    """
    if "://" not in url:
        return LocalFiles(Path(url).expanduser().absolute())
    if url.startswith("file://"):
        return LocalFiles(Path(url.removeprefix("file://").removeprefix("localhost")).absolute())
    return ObjectFiles(url, options)


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A new private folder in ``parent``, removed afterwards; folders that dead processes left there are removed first.

    A lock file beside the folder is held with flock(2) as long as the folder is in use. The kernel drops the lock with the process,
    however it dies, so no process id or time has to be believed, also between containers that share the folder.

    Raises:
        StoreError: The folder cannot be made.
    """
    with explained("write in", str(parent), parent):
        _make_folders(parent)
        _remove_abandoned(parent)
        folder, lock = _claim(parent)
    try:
        with explained("write in", str(parent), parent):
            folder.mkdir(mode=0o700)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(f"{folder}.lock").unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def explained(action: str, where: str, folder: Path | None = None) -> Iterator[None]:
    """Turn errors of the system and of the object store into one sentence with the place, the free space and what to do.

    Raises:
        StoreError: The system or the object store refused.
    """
    try:
        yield
    except GiomuaError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreError(f"Cannot {action} {where}: {error.strerror}{_free(folder)}; {_advice(error.errno)}.") from error
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] != "obstore":
            raise
        first = str(error).strip().partition("\n")[0]
        raise StoreError(f"Cannot {action} {where}: {first}; check that the object store answers and the storage options.") from error


def _object_store(url: str, options: Mapping[str, str]) -> Any:
    from datetime import timedelta

    from obstore.exceptions import BaseError
    from obstore.store import MemoryStore, from_url

    if url == "memory://":
        return MemoryStore()
    plain_http = any(value.startswith("http://") for value in options.values())
    choices: dict[str, Any] = {
        "config": dict(options) or None,
        "client_options": {"allow_http": plain_http, "timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)},
        "retry_config": {"max_retries": 6, "retry_timeout": timedelta(seconds=60)},
    }
    try:
        return from_url(url, **choices)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(
            f"The root {url!r} cannot be used: {error}; give a folder, or a URL such as s3://bucket/prefix with its storage options."
        ) from error


def _claim(parent: Path) -> tuple[Path, int]:
    """A name for a new folder, and the descriptor that holds its lock."""
    while True:
        folder = parent / uuid.uuid4().hex
        name = f"{folder}.lock"
        lock = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
        if _locked(lock) and _same_file(lock, name):
            return folder, lock
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for entry in parent.glob("*.lock"):
        try:
            lock = os.open(entry, os.O_RDWR)
        except OSError:
            continue  # gone meanwhile, or another user's
        try:
            if _locked(lock) and _same_file(lock, str(entry)):
                shutil.rmtree(entry.with_suffix(""), ignore_errors=True)
                entry.unlink(missing_ok=True)
        finally:
            os.close(lock)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(descriptor: int, name: str) -> bool:
    """Whether the locked file still has its name: someone may have removed it before the lock was taken."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name))
    except FileNotFoundError:
        return False


def _files_under(folder: Path) -> list[Path]:
    return sorted(Path(at, name) for at, _, names in os.walk(folder) for name in names)


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, each of them on disk before anything is put into it."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync(new.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(folder: Path | None) -> str:
    while folder is not None and not os.path.exists(folder) and folder != folder.parent:  # never raises, unlike Path's
        folder = folder.parent
    if folder is None:
        return ""
    try:
        return f" ({shutil.disk_usage(folder).free / 1e6:,.0f} MB free)"
    except OSError:
        return ""


def _advice(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, raise the limit or choose another root"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "give this user the right to write there or choose another root"
    return "check the path and the disk, then run it again"
