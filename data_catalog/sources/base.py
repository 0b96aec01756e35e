"""The two protocols every source follows, and the small frozen records that pass between a source and the ingest.

A source declares; it does not fetch, decode or store. :class:`Transport` reads bytes (folder, HTTP, mirrors), ``grib`` and ``bufr.py``
decode in worker processes, ``pipelines.ingest`` puts the pieces together. Providers of GRIB files are all one
:class:`~data_catalog.sources.gribfiles.GribSource`. A pretrained global model run locally is a :class:`GridSource` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np

from data_catalog.errors import NotAvailableError
from data_catalog.variables import VARIABLES

if TYPE_CHECKING:
    from data_catalog.grib import Field
    from data_catalog.grib.grid import Edges
    from data_catalog.observations import Reports

_HOUR: Final = np.timedelta64(1, "h")


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
class Coordinates:
    """The cell centres of an unstructured grid.

    Attributes:
        latitude: Address of the GRIB file with the latitude of every cell, degrees.
        longitude: Address of the one with the longitudes.
        spacing: Degrees between the points of the regular lattice to which the nearest cells are brought.
    """

    latitude: str
    longitude: str
    spacing: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be fetched for one cycle, and what the provider does not have.

    Attributes:
        init_time: Start of the forecast, UTC.
        spans: One for each expected field that is there. Fields with the same address and bytes are in one file that is fetched whole.
        missing: Expected fields that no index lists, each with the reason in words.
        notes: Anything unusual that is worth keeping in the manifest.
        coordinates: Of the cells, where the grid is unstructured.
    """

    init_time: np.datetime64
    spans: tuple[Span, ...]
    missing: tuple[tuple[FieldKey, str], ...] = ()
    notes: tuple[str, ...] = ()
    coordinates: Coordinates | None = None


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
class Host:
    """One place that a provider serves from, and how politely it is asked there; the limits hold for all sources of a process together.

    Attributes:
        url: Base URL or folder.
        connections: Requests under way at once.
        per_minute: Requests begun in a minute.
    """

    url: str
    connections: int = 8
    per_minute: float = inf


@dataclass(frozen=True, slots=True)
class GridSpec:
    """What a gridded source declares.

    Attributes:
        dataset: ``provider-model-variant``, the name in the archive and the manifest.
        title: What people read.
        hosts: Where it is served from, the first choice first, with the documented limits of each; a setting overrides them.
        cycles: Hours of the day, UTC, at which a forecast starts.
        delay_hours: Usual time from init_time to the last field.
        lead_hours: Leads of its longest cycle that are read.
        members: Number of members.
        variables: Names of the catalog that it offers.
        not_at_start: Those that have nothing at lead 0 though the catalog knows them as instants: the highest gust of the hours before.
        first_number: What its files call our member 0: 1 where there is no control.
        grid: Name of its grid, as :func:`data_catalog.grib.grid.read_grid` gives it; a field on another one is not believed. "" takes any.
        since: First cycle in this form, None for unknown.
        until: Last cycle, None while there are new ones.
        simulated: True for the simulated atmosphere.
        licence: Under which its data may be used.
    """

    dataset: str
    title: str
    hosts: tuple[Host, ...]
    cycles: tuple[int, ...]
    delay_hours: float
    lead_hours: tuple[int, ...]
    members: int
    variables: tuple[str, ...]
    not_at_start: tuple[str, ...] = ()
    first_number: int = 0
    grid: str = "0p25"
    since: np.datetime64 | None = None
    until: np.datetime64 | None = None
    simulated: bool = False
    licence: str = ""

    def newest_due(self, now: np.datetime64) -> np.datetime64:
        """The newest cycle that is usually published by a time, UTC; of an archive that has ended, its last one."""
        ready = now.astype("datetime64[ns]") - np.timedelta64(round(self.delay_hours * 60), "m")
        if self.until is not None:
            ready = min(ready, self.until.astype("datetime64[ns]"))
        day = ready.astype("datetime64[D]")
        starts = [np.datetime64(day - back, "ns") + hour * _HOUR for back in (0, 1) for hour in self.cycles]
        return max(start for start in starts if start <= ready)

    def check(self, init_time: np.datetime64) -> None:
        """Hold a time against the cycles there are.

        Raises:
            NotAvailableError: No cycle of this source starts then.
        """
        hour = int(day_and_hour(init_time)[1])
        outside = (self.since is not None and init_time < self.since) or (self.until is not None and init_time > self.until)
        if hour not in self.cycles or init_time != init_time.astype("datetime64[h]") or outside:
            hours = ", ".join(f"{one:02d}" for one in self.cycles)
            period = f"{_date(self.since, 'its beginning')} to {_date(self.until, 'now')}"
            raise NotAvailableError(
                f"{self.dataset} has no cycle {init_time.astype('datetime64[m]')}Z; its cycles are at {hours} UTC, from {period}."
            )


def _date(time: np.datetime64 | None, otherwise: str) -> str:
    return otherwise if time is None else f"{time.astype('datetime64[h]')}Z"


@runtime_checkable
class GridSource(Protocol):
    """A provider of gridded forecasts as GRIB files."""

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

    def probe(self, init_time: np.datetime64, transport: Transport) -> str:
        """Read as little as shows whether a cycle can be had: in words what is there.

        Raises:
            NotAvailableError: The provider answers, and this cycle is not there yet.
            SourceError: The provider cannot be read.
        """
        ...


@runtime_checkable
class FieldSource(Protocol):
    """A provider of gridded forecasts that can be opened and cut without decoding GRIB: an archive in Zarr."""

    @property
    def spec(self) -> GridSpec:
        """What this source declares."""
        ...

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        """Every field a complete cycle has; interval variables have none at lead 0."""
        ...

    def fields(self, init_time: np.datetime64, edges: Edges, wanted: frozenset[FieldKey]) -> Iterator[Field]:
        """The wanted fields of a cycle that are there, cut to a box (north, south, west, east in degrees).

        Raises:
            NotAvailableError: No such cycle, or nothing of it is there yet.
            SourceError: The archive cannot be read.
        """
        ...

    def probe(self, init_time: np.datetime64, transport: Transport) -> str:
        """Read as little as shows whether a cycle can be had: in words what is there.

        Raises:
            NotAvailableError: The provider answers, and this cycle is not there yet.
            SourceError: The provider cannot be read.
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

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until.

        Returns:
            The values (:mod:`data_catalog.observations` has the form), and what could not be used with its reason. A file or line that
            cannot be read never keeps the rest from being returned.

        Raises:
            SourceError: The provider cannot be read at all.
        """
        ...


@runtime_checkable
class Subscribed(Protocol):
    """A station source whose provider sends by itself: what has come is collected before it is read."""

    def collect(self, transport: Transport, *, quiet: float = ..., longest: float = ..., progress: Progress = ...) -> dict[str, int]:
        """Take in what has come: how many of what by what became of them.

        Args:
            transport: Reads absolute URLs.
            quiet: Stop when nothing has come for so many seconds.
            longest: Stop after so many seconds in any case.
            progress: Called as it goes on.

        Raises:
            SourceError: The provider cannot be reached.
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
def expected_keys(spec: GridSpec, last_lead: int | None = None) -> frozenset[FieldKey]:
    """Every field of a complete cycle up to a lead: all variables, leads and members, at lead 0 only those there."""
    late = {name for name in spec.variables if VARIABLES[name].has_interval} | set(spec.not_at_start)
    return frozenset(
        FieldKey(variable, lead, member)
        for variable in spec.variables
        for lead in spec.lead_hours
        if (last_lead is None or lead <= last_lead) and (lead > 0 or variable not in late)
        for member in range(spec.members)
    )


def calendar_years(since: np.datetime64, until: np.datetime64) -> range:
    """The years that a time span touches, for providers that file by year."""
    first, last = (int(time.astype("datetime64[Y]").astype(int)) + 1970 for time in (since, until))
    return range(first, last + 1)


def day_and_hour(time: np.datetime64) -> tuple[str, str]:
    """``("20250801", "06")``, as providers write a time in addresses."""
    text = str(time.astype("datetime64[h]"))
    return text[:10].replace("-", ""), text[11:13]
