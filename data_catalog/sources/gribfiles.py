"""Every provider of GRIB files is one :class:`GribSource`: what differs between them is where a field lies and what an index looks like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.sources.base import Coordinates, FieldKey, GridSpec, Plan, Span, Transport, expected_keys

Places = Callable[[np.datetime64, FieldKey], tuple[str, ...]]
"""Addresses, below the base, of the files that may hold a field of a cycle, the first choice first."""

Range = tuple[int, int | None]
"""Bytes [start, stop); None to the end."""

IndexReader = Callable[[str, np.datetime64, Collection[FieldKey]], dict[FieldKey, Range]]
"""Finds fields in the text of one file's index, given the init_time and the fields that the file may hold.

It raises SourceError where the text is no index.
"""


@dataclass(frozen=True, slots=True)
class Index:
    """The index files of a provider: ``address`` of a data file's index, and what ``read`` finds in its text."""

    address: Callable[[str], str]
    read: IndexReader


@dataclass(frozen=True, slots=True)
class GribSource:
    """A provider of GRIB files.

    Attributes:
        spec: What it declares.
        places: Where a field lies.
        index: How the bytes of a field are found; None where files have no index and are fetched whole.
        last_lead: Last lead of a cycle in hours, where 06 and 18 UTC are shorter or the length has changed.
        coordinates: Of the cells by init_time, where the grid is unstructured.
    """

    spec: GridSpec
    places: Places
    index: Index | None
    last_lead: Callable[[np.datetime64], int] | None = None
    coordinates: Callable[[np.datetime64], Coordinates] | None = None

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        """Every field a complete cycle has; interval variables have none at lead 0."""
        return expected_keys(self.spec, None if self.last_lead is None else self.last_lead(init_time))

    def plan(self, init_time: np.datetime64, transport: Transport) -> Plan:
        """Find every expected field of a cycle.

        A file whose index cannot be read or understood costs the fields of that file; the others are planned.

        Raises:
            NotAvailableError: No such cycle, or nothing of it is there yet.
            SourceError: The provider cannot be read at all.
        """
        self.spec.check(init_time)
        places = {key: self.places(init_time, key) for key in sorted(self.expected(init_time), key=_by_lead)}
        if self.index is None:
            return self._whole(init_time, places, transport)
        files: dict[str, list[FieldKey]] = {}
        for key, urls in places.items():
            for url in urls:
                files.setdefault(url, []).append(key)
        texts = _read_all({url: self.index.address(url) for url in files}, transport, self.spec.dataset, init_time)
        found: dict[str, dict[FieldKey, Range]] = {}
        broken: dict[str, str] = {}
        for url, text in texts.items():
            try:
                found[url] = self.index.read(_text(text, url), init_time, frozenset(files[url]))
            except SourceError as error:
                broken[url] = str(error)
        spans: list[Span] = []
        missing: list[tuple[FieldKey, str]] = []
        for key, urls in places.items():
            there = [url for url in urls if key in found.get(url, {})]
            if there:
                spans.append(Span(key, there[0], *found[there[0]][key]))
            else:
                unread = [broken[url] for url in urls if url in broken]
                missing.append((key, unread[0] if unread else f"{self.index.address(urls[0])} does not list it"))
        return Plan(init_time, tuple(spans), tuple(missing))

    def _whole(self, init_time: np.datetime64, places: Mapping[FieldKey, tuple[str, ...]], transport: Transport) -> Plan:
        """Every file from end to end; whether a later one is there shows when it is fetched."""
        first = next(iter(places.values()))[0]
        try:
            transport.read(first, 0, 4)
        except NotAvailableError as error:
            raise NotAvailableError(f"{self.spec.dataset} has no cycle {_hour(init_time)} yet: {error}") from error
        spans = tuple(Span(key, urls[0], 0, None) for key, urls in places.items())
        return Plan(init_time, spans, coordinates=None if self.coordinates is None else self.coordinates(init_time))

    def probe(self, init_time: np.datetime64, transport: Transport) -> str:
        """Read the first octets of a cycle's first file, or of its index: in words what is there.

        Raises:
            NotAvailableError: The provider answers, and this cycle is not there yet.
            SourceError: The provider cannot be read.
        """
        first = self.places(init_time, min(self.expected(init_time), key=_by_lead))[0]
        transport.read(first if self.index is None else self.index.address(first), 0, 4)
        return f"has {_hour(init_time)}"


def _hour(init_time: np.datetime64) -> str:
    return f"{init_time.astype('datetime64[h]')}Z"


def _by_lead(key: FieldKey) -> tuple[int, int, str]:
    return key.lead_hours, key.member, key.variable


_INDEX_READERS: Final = 8
_TRIED: Final = 3               # indexes that have to fail before a cycle counts as not there, or its provider as down


def _read_all(
    indexes: Mapping[str, str], transport: Transport, dataset: str, init_time: np.datetime64
) -> dict[str, bytes | SourceError]:
    """Each index by its data file, or why it could not be read; raises when none of the first few could."""
    def read(address: str) -> bytes | SourceError:
        try:
            return transport.read(address)
        except SourceError as error:
            return error

    addresses = list(indexes.values())
    texts = [read(address) for address in addresses[:_TRIED]]
    failed = [text for text in texts if isinstance(text, SourceError)]
    if len(failed) == len(texts):
        down = next((error for error in failed if not isinstance(error, NotAvailableError)), None)
        raise down or NotAvailableError(f"{dataset} has no cycle {_hour(init_time)} yet: {failed[0]}")
    with ThreadPoolExecutor(_INDEX_READERS, thread_name_prefix="index") as pool:
        texts += pool.map(read, addresses[len(texts) :])
    return dict(zip(indexes, texts, strict=True))


def _text(data: bytes | SourceError, url: str) -> str:
    if isinstance(data, SourceError):
        raise data
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"The index of {url} is not text ({error}); it may be damaged, or a page of another kind.") from error
