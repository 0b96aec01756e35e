"""The two protocols every source follows, and the small frozen records that pass between a source and the ingest.

A source declares; it does not fetch, decode or store. :class:`Transport` reads bytes (folder, HTTP, object store), ``grib.py`` and
``bufr.py`` decode in worker processes, ``pipelines.ingest`` puts the pieces together. A pretrained global model run locally is a
:class:`GridSource` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.variables import VARIABLES


@dataclass(frozen=True, slots=True, order=True)
class FieldKey:
    """One expected field of a cycle.

    Attributes:
        variable: A name of :mod:`data_catalog.variables`.
        lead_hours: Lead time in hours.
        member: 0..M-1; 0 is the control or the only member.
    """

    variable: str
    lead_hours: int
    member: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of one message: ``url`` (absolute, or relative to the transport's base) and [start, stop); stop None means to the end."""

    key: FieldKey
    url: str
    start: int
    stop: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be fetched for one cycle, and what the provider does not have.

    Attributes:
        init_time: Start of the forecast, UTC.
        spans: One for each expected field that an index lists.
        missing: Expected fields that no index lists, each with the reason in words.
        notes: Anything unusual that is worth keeping in the manifest.
    """

    init_time: np.datetime64
    spans: tuple[Span, ...]
    missing: tuple[tuple[FieldKey, str], ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class Transport(Protocol):
    """Reads from a provider, a mirror, a folder or a test server, all by one base URL."""

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of ``url``.

        Raises:
            NotAvailableError: The object is not there.
            SourceError: It could not be read after the retries, or is shorter than asked for.
        """
        ...


@dataclass(frozen=True, slots=True)
class GridSpec:
    """What a gridded source declares.

    Attributes:
        dataset: ``provider-model-variant``, the name in the archive and the manifest.
        title: What people read.
        url: Base URL or folder; a setting overrides it.
        cycles: Hours of the day, UTC, at which a forecast starts.
        delay_hours: Usual time from init_time to the last field.
        lead_hours: Leads offered.
        members: Number of members.
        variables: Names of the catalog that it offers.
        simulated: True for the simulated atmosphere.
        licence: Under which its data may be used.
    """

    dataset: str
    title: str
    url: str
    cycles: tuple[int, ...]
    delay_hours: float
    lead_hours: tuple[int, ...]
    members: int
    variables: tuple[str, ...]
    simulated: bool = False
    licence: str = ""


@runtime_checkable
class GridSource(Protocol):
    """A provider of gridded forecasts as GRIB with an index."""

    @property
    def spec(self) -> GridSpec:
        """What this source declares."""
        ...

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        """Every field a complete cycle has; interval variables have none at lead 0."""
        ...

    def plan(self, init_time: np.datetime64, transport: Transport) -> Plan:
        """Read the index files of a cycle and list what to fetch.

        Raises:
            NotAvailableError: No index of this cycle is there yet.
        """
        ...


@dataclass(frozen=True, slots=True)
class StationSpec:
    """What a source of station reports declares; ``network`` names its folder under ``archive/observations``."""

    network: str
    title: str
    url: str
    delay_hours: float
    variables: tuple[str, ...]
    simulated: bool = False
    licence: str = ""


@runtime_checkable
class StationSource(Protocol):
    """A provider of station reports."""

    @property
    def spec(self) -> StationSpec:
        """What this source declares."""
        ...

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> xr.Dataset:
        """Reports with since < time <= until.

        Returns:
            ``VARIABLE(time, station)`` in catalog units with ``available_time(time)`` and, for every interval variable, its interval
            in hours as ``<VARIABLE>_interval(time, station)``. NaN is not reported.

        Raises:
            SourceError: The provider could not be read.
        """
        ...


Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` during long work; total 0 means not known yet."""


def silent(what: str, done: int, total: int) -> None:
    """The progress callback that shows nothing."""


def lead_steps(*pieces: tuple[int, int, int]) -> tuple[int, ...]:
    """Leads in hours from (first, last, step) pieces, ends included, without repetition: ``lead_steps((0, 144, 3), (150, 240, 6))``."""
    found: Iterable[int] = (hour for first, last, step in pieces for hour in range(first, last + 1, step))
    return tuple(sorted(set(found)))


@lru_cache(maxsize=64)
def expected_keys(spec: GridSpec) -> frozenset[FieldKey]:
    """Every field a complete cycle of a source has: all variables, leads and members, without interval variables at lead 0."""
    return frozenset(
        FieldKey(variable, lead, member)
        for variable in spec.variables
        for lead in spec.lead_hours
        if lead > 0 or not VARIABLES[variable].has_interval
        for member in range(spec.members)
    )


def day_and_hour(time: np.datetime64) -> tuple[str, str]:
    """``("20250801", "06")``, as providers write a time in addresses."""
    text = str(time.astype("datetime64[h]"))
    return text[:10].replace("-", ""), text[11:13]


_INDEX_READERS = 8


def read_indexes(
    indexes: Mapping[str, str], transport: Transport, dataset: str, init_time: np.datetime64
) -> dict[str, str | SourceError]:
    """Read the index files of a cycle, a few at a time.

    Args:
        indexes: Address of the index by address of the data file, in the order of time.
        transport: Reads them.
        dataset: For the error's text.
        init_time: Likewise.

    Returns:
        By data file its index, or why it could not be read.

    Raises:
        NotAvailableError: The first index is not there: the cycle has not come yet.
        SourceError: The first index could not be read: the provider is down.
    """
    def read(index: str) -> str | SourceError:
        try:
            return transport.read(index).decode()
        except UnicodeDecodeError as error:
            return SourceError(f"The index {index} is not text ({error}); it may be damaged, or a page of another kind.")
        except SourceError as error:
            return error

    addresses = list(indexes.items())
    first = read(addresses[0][1])
    if isinstance(first, NotAvailableError):
        raise NotAvailableError(f"{dataset} has no cycle {init_time.astype('datetime64[h]')}Z yet: {first}")
    if isinstance(first, SourceError):
        raise first
    with ThreadPoolExecutor(_INDEX_READERS) as pool:
        others = pool.map(read, [index for _, index in addresses[1:]])
        return {url: text for (url, _), text in zip(addresses, [first, *others], strict=True)}
