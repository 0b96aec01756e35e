"""The published cycles as a server reads them: one whole cycle at a time, whatever is published, broken or deleted meanwhile.

A handler asks :meth:`PublishedCycles.current` (or :meth:`PublishedCycles.cycle`) once and takes everything it answers from that one
:class:`Cycle`: stores never change, so the answer is whole however many cycles are published before it is sent.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np
import xarray as xr

from data_catalog.errors import GiomuaError, StoreCorruptError, StoreError, StoreNotFoundError, UnknownNameError
from data_catalog.store import TILE, Root

FOLDER: Final = "published"
LATEST: Final = f"{FOLDER}/latest.json"
CACHE_BYTES: Final = 256 * 2**20
OPENED: Final = 8
"""Earlier cycles kept open."""
OUTLINES: Final = 128
"""Earlier cycles whose description is kept."""
WARM_TILES: Final = 128
"""Tiles of a new cycle that are read before anyone asks for it: a few seconds' work, a hundred megabytes at most."""
RELIST_SECONDS: Final = 60.0
"""After this time the folder is listed again although ``latest.json`` stayed: retention deletes old cycles."""
RETRY_SECONDS: Final = 60.0
"""After this time a store that failed its check is looked at again: an operator may have restored it."""

_NAME: Final = re.compile(r"(\d{8}T\d{2}Z)\.r(\d{1,6})\.([0-9a-f]{12})\.zarr")

Index = int | slice | np.ndarray


Read = TypeVar("Read")

_log = logging.getLogger(__name__)


class NotPublishedError(StoreNotFoundError):
    """Nothing that can be served is published."""


class CycleGoneError(StoreNotFoundError):
    """The store of a cycle was deleted, or damaged, while it was read."""


class NotKeptError(Exception):
    """Something had to be read that is not in memory, where only memory may be used (:meth:`ArrayCache.memory_only`)."""


@dataclass(frozen=True, slots=True, order=True)
class CycleName:
    """What the name of a published store says; ordered by init_time, then revision.

    Attributes:
        key: ``20250101T00Z``.
        revision: 0, 1, 2, ...
        digits: The first 12 digits of its content hash.
    """

    key: str
    revision: int
    digits: str

    @classmethod
    def parse(cls, href: str) -> CycleName:
        """From the name of a store.

        Raises:
            StoreCorruptError: It is no such name.
        """
        match = _NAME.fullmatch(href)
        if match is None:
            raise StoreCorruptError(f"{href!r} is no name of a published store; expected 20250101T00Z.r0.<12 digits>.zarr.")
        return cls(match[1], int(match[2]), match[3])

    @property
    def id(self) -> str:
        """``20250101T00Z.r0``, also the id of its STAC item."""
        return f"{self.key}.r{self.revision}"

    @property
    def href(self) -> str:
        """Relative to the published folder."""
        return f"{self.id}.{self.digits}.zarr"

    @property
    def init_time(self) -> np.datetime64:
        """UTC, ``datetime64[ns]``."""
        text = self.key
        return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[9:11]}", "ns")


class ArrayCache:
    """Decoded arrays, the least recently used forgotten first; one reader loads, others that want the same wait for it.

    Args:
        limit: Bytes kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._loading: dict[Hashable, Future[np.ndarray]] = {}
        self._lock = threading.Lock()
        self._here = threading.local()

    @property
    def is_memory_only(self) -> bool:
        """Whether this thread is inside :meth:`memory_only`."""
        return bool(getattr(self._here, "memory_only", False))

    @contextmanager
    def memory_only(self) -> Iterator[None]:
        """Within it this thread never waits for a disk: what is not kept raises :class:`NotKeptError`."""
        self._here.memory_only = True
        try:
            yield
        finally:
            self._here.memory_only = False

    def newest_keys(self, count: int) -> list[Hashable]:
        """Keys of the arrays used last."""
        with self._lock:
            return list(itertools.islice(reversed(self._kept), count))

    def peek(self, key: Hashable) -> np.ndarray | None:
        """The array if it is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def get(self, key: Hashable, load: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key, loaded when it is not kept; read-only.

        Raises:
            NotKeptError: It is not kept and this thread may not wait.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            if self.is_memory_only:
                raise NotKeptError
            waiting = self._loading.get(key)
            if waiting is None:
                mine = self._loading[key] = Future()
        if waiting is not None:
            return waiting.result()
        try:
            made = load()
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            mine.set_exception(error)
            raise
        made.setflags(write=False)
        with self._lock:
            del self._loading[key]
            self._kept[key] = made
            self.bytes += made.nbytes
            while self.bytes > self.limit and len(self._kept) > 1:
                self.bytes -= self._kept.popitem(last=False)[1].nbytes
        mine.set_result(made)
        return made


class Cycle:
    """One published revision, opened for reading. Hold it for as long as an answer takes; safe to share between threads.

    Attributes:
        name: What its name says: ``id``, ``href``, ``init_time``, ``revision``.
        content_hash: 64 hex digits, checked when it was opened.
        attributes: Of the root group: ``simulated``, ``sources``, ``disclaimer``, ...
        groups: Names of its groups.
    """

    def __init__(self, root: Root, name: CycleName, content_hash: str, cache: ArrayCache) -> None:
        self.name = name
        self.content_hash = content_hash
        self._root = root
        self._path = f"{FOLDER}/{name.href}"
        self._cache = cache
        self._datasets: dict[str, xr.Dataset] = {}
        self._lock = threading.Lock()
        self.attributes: Mapping[str, Any] = root.attributes(self._path)
        self.groups: tuple[str, ...] = tuple(group for group in root.groups(self._path) if group)

    def __repr__(self) -> str:
        return f"Cycle({self.id!r})"

    @property
    def id(self) -> str:
        """``20250101T00Z.r0``."""
        return self.name.id

    @property
    def init_time(self) -> np.datetime64:
        """Start of the forecast, UTC."""
        return self.name.init_time

    @property
    def simulated(self) -> bool:
        """Whether any of it comes from the simulated atmosphere."""
        return bool(self.attributes.get("simulated"))

    @property
    def is_memory_only(self) -> bool:
        """Whether this thread may not wait for a disk; see :meth:`ArrayCache.memory_only`."""
        return self._cache.is_memory_only

    def dataset(self, group: str) -> xr.Dataset:
        """A group: coordinates in memory, variables read when asked for. Prefer :meth:`read` for values.

        Raises:
            UnknownNameError: No such group; the message lists those there are.
            CycleGoneError: The store is gone.
        """
        if group not in self.groups:
            raise UnknownNameError(f"{self.id} has no group {group!r}; it has {', '.join(self.groups)}.")
        with self._lock:
            if group not in self._datasets:
                opened = self._guarded(lambda: self._root.open_store(self._path, group))
                loaded = self._guarded(lambda: {name: opened[name].load() for name in opened.coords})
                self._datasets[group] = opened.assign_coords(loaded)
            return self._datasets[group]

    def read(self, group: str, variable: str, **where: Index) -> np.ndarray:
        """Values of a variable, from whole tiles that are kept in memory for the next reader.

        Args:
            group: A group of the store.
            variable: A data variable of the group.
            **where: Position, slice or array of positions by dimension (``isel``); a dimension not named comes whole.

        Returns:
            Values in the order of the variable's dimensions, without those given as one position; read-only.

        Raises:
            UnknownNameError: No such group or variable.
            CycleGoneError: The store is gone or damaged.
        """
        found = self.dataset(group).data_vars.get(variable)
        if found is None:
            raise UnknownNameError(f"The group {group!r} has no variable {variable!r}; it has {', '.join(map(str, self.dataset(group)))}.")
        array = found.variable
        tiles: dict[str, list[int]] = {}
        picks: dict[str, Any] = {}
        for dim in filter(TILE.__contains__, map(str, array.dims)):
            index = where.get(dim, slice(None))
            if isinstance(index, int) and 0 <= index < array.sizes[dim]:
                number, picks[dim] = divmod(index, TILE[dim])
                tiles[dim] = [number]
                continue
            positions = np.arange(array.sizes[dim])[index]
            numbers, rank = np.unique(positions // TILE[dim], return_inverse=True)
            tiles[dim] = numbers.tolist() or [0]
            picks[dim] = rank.reshape(positions.shape) * TILE[dim] + positions % TILE[dim]
        others = {dim: index for dim, index in where.items() if dim not in tiles}

        def joined(dims: tuple[str, ...], at: dict[str, int]) -> xr.Variable:
            if not dims:
                block = self._tile(group, variable, array, at)
                return xr.Variable(array.dims, block, fastpath=True).isel(others)
            parts = [joined(dims[1:], {**at, dims[0]: number}) for number in tiles[dims[0]]]
            if len(parts) == 1:
                return parts[0]
            kept = parts[0].dims
            return xr.Variable(kept, np.concatenate([part.values for part in parts], kept.index(dims[0])), fastpath=True)

        values: np.ndarray = joined(tuple(tiles), {}).isel(picks).values
        return values

    def warm(self, other: Cycle) -> None:
        """Read the tiles that were last read of another cycle, so that its readers find them when they turn to this one."""
        for key in self._cache.newest_keys(WARM_TILES):
            digest, group, variable, *numbers = cast("tuple[Any, ...]", key)
            array = self._datasets[group].data_vars.get(variable) if digest == other.content_hash and group in self._datasets else None
            if array is None:
                continue
            dims = [str(dim) for dim in array.dims if dim in TILE]
            if len(dims) == len(numbers) and all(number * TILE[dim] < array.sizes[dim] for dim, number in zip(dims, numbers, strict=True)):
                self._tile(group, variable, array.variable, dict(zip(dims, numbers, strict=True)))

    def _tile(self, group: str, variable: str, array: xr.Variable, at: Mapping[str, int]) -> np.ndarray:
        """One tile with all that is not tiled, from memory or from the store."""
        cut = {dim: slice(number * TILE[dim], (number + 1) * TILE[dim]) for dim, number in at.items()}
        key = (self.content_hash, group, variable, *at.values())
        return self._cache.get(key, lambda: self._guarded(lambda: np.asarray(array.isel(cut).values)))

    def _guarded(self, read: Callable[[], Read]) -> Read:
        """What ``read`` finds, given that the store is still there afterwards: chunks of a deleted one would read as missing values."""
        try:
            found = read()
        except (IndexError, TypeError):
            raise
        except Exception as error:
            raise CycleGoneError(f"The store of {self.id} cannot be read: {error}.") from error
        if not self._root.exists(self._path):
            raise CycleGoneError(f"The store of {self.id} was deleted while it was read.")
        return found


class PublishedCycles:
    """The cycles in the ``published`` folder of a root, local or in an object store; safe to share between threads.

    A cycle is checked against the hash in its name before it is first served. When the newest one fails that check, or ``latest.json``
    cannot be read, the last good one stays; a server that starts then takes the newest good one there is. Nothing is ever written.

    Args:
        root: Its ``published`` folder may be empty or not there yet.
        cache_bytes: Decoded arrays kept in memory, over all cycles.

    Attributes:
        generation: Counts up whenever :meth:`current`, :meth:`names` or ``problem`` would answer differently; what was computed
            between two equal values belongs to one state.
        problem: Why the newest cycle is not the one that is served, in one sentence, or None.
    """

    def __init__(self, root: Root, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.root = root
        self.cache = ArrayCache(cache_bytes)
        self.generation = 0
        self.problem: str | None = None
        self._current: Cycle | None = None
        self._names: tuple[CycleName, ...] = ()
        self._listed: tuple[CycleName, ...] = ()
        self._listed_at = -RELIST_SECONDS
        self._newest: CycleName | None = None
        self._opened: OrderedDict[CycleName, Cycle] = OrderedDict()
        self._outlines: dict[CycleName, Cycle] = {}
        self._failed: dict[CycleName, float] = {}
        self._refreshing = threading.Lock()
        self._opening = threading.Lock()
        self._looked = False

    def current(self) -> Cycle:
        """The newest cycle that is whole, as of the last :meth:`refresh` (the first call makes one). Never touches the disk otherwise.

        Raises:
            NotPublishedError: There is none; the message says why.
        """
        if not self._looked:
            self.refresh()
        found = self._current
        if found is None:
            raise NotPublishedError(self.problem or "Nothing is published yet; run giomua run.")
        return found

    def names(self) -> tuple[CycleName, ...]:
        """All announced revisions, newest first, as of the last :meth:`refresh`."""
        if not self._looked:
            self.refresh()
        return self._names

    def cycle(self, cycle_id: str) -> Cycle:
        """An announced revision by id, checked when it is first opened.

        Args:
            cycle_id: ``20250101T00Z.r0``, or ``20250101T00Z`` for the newest revision of that cycle.

        Raises:
            UnknownNameError: None has this id.
            StoreError: Its store is damaged or gone.
        """
        current = self._current
        if current is not None and current.id == cycle_id:
            return current
        found = next((name for name in self.names() if cycle_id in (name.id, name.key)), None)
        if found is None:
            raise UnknownNameError(f"There is no published cycle {cycle_id!r}.")
        return self._open(found)

    def outline(self, name: CycleName) -> Cycle:
        """A revision of :meth:`names` whose hash is not checked: good for its attributes and coordinates.

        Raises:
            StoreError: Its store is gone.
        """
        kept = self._opened.get(name) or self._outlines.get(name)
        if kept is None:
            kept = self._outlines[name] = Cycle(self.root, name, name.digits, self.cache)
            while len(self._outlines) > OUTLINES:
                self._outlines.pop(next(iter(self._outlines)))
        return kept

    def refresh(self) -> bool:
        """Look at what is published now, and move on to it when it is whole. Blocks while a new cycle is checked; may be called often.

        Returns:
            Whether :meth:`current` changed.
        """
        with self._refreshing:
            before = self._current
            newest, problem = self._announced()
            chosen, trouble = self._first_good((newest,) if newest else ())
            if chosen is None and before is not None and before.name not in self._failed and self._is_there(before):
                chosen = before
            if chosen is None and (problem or trouble):
                chosen, _ = self._first_good(tuple(name for name in self._listed if newest is None or name < newest))
            names = tuple(name for name in self._listed if chosen and name <= chosen.name and name not in self._failed)
            changed = chosen is not before
            if changed and chosen is not None and before is not None:
                with suppress(GiomuaError):
                    chosen.warm(before)
            if changed or (names, problem or trouble) != (self._names, self.problem):
                self.generation += 1
            self._current, self._names, self.problem, self._looked = chosen, names, problem or trouble, True
            return changed

    def doubt(self, cycle: Cycle) -> None:
        """Check a cycle anew that could not be read, and fall back when it is broken or gone."""
        with self._opening:
            self._opened.pop(cycle.name, None)
        self.refresh()

    def serve(self, make: Callable[[Cycle], Read]) -> Read:
        """What ``make`` finds in the current cycle, whole; once more in the next one when its store is deleted or breaks meanwhile.

        Raises:
            NotPublishedError: Nothing can be served.
            CycleGoneError: The other one broke as well.
        """
        cycle = self.current()
        try:
            return make(cycle)
        except CycleGoneError:
            self.doubt(cycle)
            return make(self.current())

    def _announced(self) -> tuple[CycleName | None, str | None]:
        """The cycle that ``latest.json`` names, or what is wrong with it; the list of stores is read anew when it moved on."""
        name, problem = None, None
        try:
            latest = self.root.read_json(LATEST)
            name = None if latest is None else CycleName.parse(str(latest["href"]))
        except (GiomuaError, KeyError, TypeError) as error:
            problem = self._said("published/latest.json cannot be read or is not what it should be.", error)
        if name != self._newest or time.monotonic() - self._listed_at > RELIST_SECONDS:
            try:
                hrefs = [path.removeprefix(f"{FOLDER}/") for path in self.root.list_stores(FOLDER)]
                self._listed = tuple(sorted({CycleName.parse(href) for href in hrefs if _NAME.fullmatch(href)}, reverse=True))
                self._newest, self._listed_at = name, time.monotonic()
            except GiomuaError as error:
                problem = problem or self._said("The published folder cannot be listed.", error)
        return name, problem

    def _first_good(self, names: tuple[CycleName, ...]) -> tuple[Cycle | None, str | None]:
        """The first of these that is whole, and why one before it was not."""
        trouble = None
        for name in names:
            try:
                return self._open(name), trouble
            except GiomuaError as error:
                trouble = trouble or self._said(f"The store of {name.id} is damaged, gone or cannot be read.", error)
        return None, trouble

    def _said(self, problem: str, error: Exception) -> str:
        """A problem as anyone may read it; where and why goes to the log, once."""
        if problem != self.problem:
            _log.warning("%s %s", problem, error)
        return problem

    def _is_there(self, cycle: Cycle) -> bool:
        try:
            return self.root.exists(f"{FOLDER}/{cycle.name.href}")
        except StoreError:
            return True  # the object store does not answer for the moment; what is in memory still serves

    def _open(self, name: CycleName) -> Cycle:
        with self._opening:
            kept = self._opened.get(name)
            if kept is not None and self._is_there(kept):
                self._opened.move_to_end(name)
                return kept
            self._opened.pop(name, None)
            if time.monotonic() - self._failed.get(name, -RETRY_SECONDS) < RETRY_SECONDS:
                raise StoreCorruptError(f"The store of {name.id} failed its check; the one before it is served.")
            try:
                digest = self.root.verify(f"{FOLDER}/{name.href}")
                made = Cycle(self.root, name, digest, self.cache)
                for group in made.groups:
                    made.dataset(group)
                self._opened[name] = made
            except GiomuaError:
                self._failed[name] = time.monotonic()
                raise
            self._failed.pop(name, None)
            while len(self._opened) > OPENED:
                self._opened.popitem(last=False)
            return made
