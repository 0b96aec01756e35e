"""NCEP's layout: one GRIB2 file per lead (and member), with a text index ``.idx`` beside it; GFS and GEFS on public object stores.

An index line is ``number:start:d=YYYYMMDDHH:ELEMENT:LEVEL:WINDOW:MEMBER``; a message ends where the next one begins and the last one at
the end of the file. Read from real index files of 2025-08-01.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.errors import SourceError
from data_catalog.sources.base import FieldKey, GridSpec, Plan, Span, Transport, day_and_hour, expected_keys, read_indexes

_UNIT_HOURS: Final = {"hour": 1, "day": 24}
_INSTANT = re.compile(r"(\d+) (hour|day) fcst$")
_INTERVAL = re.compile(r"(\d+)-(\d+) (hour|day) (acc|ave|max|min) fcst$")


@dataclass(frozen=True, slots=True)
class IdxLine:
    """One line of an ``.idx`` file.

    Attributes:
        number: ``596``, or ``596.1`` for a field that shares its message with another.
        start: First byte.
        stop: Byte after the last, None for the last message of the file.
        init_time: Start of the forecast, UTC.
        element: ``TMP``.
        level: ``2 m above ground``, in full: ``2 mb`` is another place.
        begin_hours: Start of the interval, equal to ``end_hours`` for an instant.
        end_hours: Lead, or end of the interval.
        statistic: ``""`` for an instant, else ``acc``, ``ave``, ``max`` or ``min``.
        member: ``""``, ``ENS=+1``, ``ENS=low-res ctl``, ``ens mean``, ...
    """

    number: str
    start: int
    stop: int | None
    init_time: np.datetime64
    element: str
    level: str
    begin_hours: int
    end_hours: int
    statistic: str
    member: str


def parse_idx(text: str) -> list[IdxLine]:
    """Read an ``.idx`` file.

    Lines whose window is none of ``anl``, ``N hour fcst`` and ``M-N hour acc|ave|max|min fcst`` (hours or days) are left out: probabilities
    and the like are no forecast of a value.

    Args:
        text: The file.

    Returns:
        Its lines in order.

    Raises:
        SourceError: The text is no index: a line without the seven fields, or byte offsets that go back.
    """
    rows = [line.split(":") for line in text.splitlines() if line.strip()]
    for row in rows:
        if len(row) < 7 or not row[1].isdigit() or not re.fullmatch(r"d=\d{10}", row[2]):
            raise SourceError(
                f"Not a line of an .idx file: {':'.join(row)[:80]!r}; expected number:start:d=YYYYMMDDHH:element:level:window:member."
            )
    starts = [int(row[1]) for row in rows]
    if starts != sorted(starts):
        raise SourceError("The byte offsets of an .idx file go back; the file is damaged, fetch it again.")
    distinct = sorted(set(starts))
    after = dict(zip(distinct, [*distinct[1:], None], strict=True))
    found = []
    for row, start in zip(rows, starts, strict=True):
        window = _window(row[5])
        if window is not None:
            init = np.datetime64(f"{row[2][2:6]}-{row[2][6:8]}-{row[2][8:10]}T{row[2][10:12]}", "s")
            found.append(IdxLine(row[0], start, after[start], init, row[3], row[4], *window, ":".join(row[6:]).strip()))
    return found


def _window(text: str) -> tuple[int, int, str] | None:
    if text == "anl":
        return 0, 0, ""
    if instant := _INSTANT.match(text):
        lead = int(instant[1]) * _UNIT_HOURS[instant[2]]
        return lead, lead, ""
    if interval := _INTERVAL.match(text):
        unit = _UNIT_HOURS[interval[3]]
        return int(interval[1]) * unit, int(interval[2]) * unit, interval[4]
    return None


@dataclass(frozen=True, slots=True)
class NcepField:
    """A variable of ours in NCEP's words: element, full level and statistic (``""`` for an instant)."""

    variable: str
    element: str
    level: str
    statistic: str = ""


FIELDS: Final = (
    NcepField("temperature_2m", "TMP", "2 m above ground"),
    NcepField("dew_point_temperature_2m", "DPT", "2 m above ground"),
    NcepField("wind_u_10m", "UGRD", "10 m above ground"),
    NcepField("wind_v_10m", "VGRD", "10 m above ground"),
    NcepField("wind_gust_10m", "GUST", "surface"),
    NcepField("pressure_reduced_to_mean_sea_level", "PRMSL", "mean sea level"),
    NcepField("total_cloud_cover_atmosphere", "TCDC", "entire atmosphere"),
    NcepField("precipitation_amount", "APCP", "surface", "acc"),
    NcepField("downward_short_wave_radiation_flux_surface", "DSWRF", "surface", "ave"),
    NcepField("convective_available_potential_energy", "CAPE", "surface"),
    NcepField("precipitable_water", "PWAT", "entire atmosphere (considered as a single layer)"),
    NcepField("visibility", "VIS", "surface"),
)
"""As in the index files of 2025-08-01. GEFS has its cloud cover only as a mean over an interval, which is another quantity."""


def gfs_path(init_time: np.datetime64, lead_hours: int, member: int) -> str:
    """Path of a GFS file since 2021-03-23: ``gfs.YYYYMMDD/HH/atmos/gfs.tHHz.pgrb2.0p25.fFFF``."""
    day, hour = day_and_hour(init_time)
    return f"gfs.{day}/{hour}/atmos/gfs.t{hour}z.pgrb2.0p25.f{lead_hours:03d}"


def gefs_path(init_time: np.datetime64, lead_hours: int, member: int) -> str:
    """Path of a GEFS file of 0.25 degrees since 2020-09-23; member 0 is the control ``gec00``, then ``gep01`` and on."""
    day, hour = day_and_hour(init_time)
    name = f"gep{member:02d}" if member else "gec00"
    return f"gefs.{day}/{hour}/atmos/pgrb2sp25/{name}.t{hour}z.pgrb2s.0p25.f{lead_hours:03d}"


@dataclass(frozen=True, slots=True)
class NcepSource:
    """A source in NCEP's layout.

    Attributes:
        spec: What it declares.
        path: Path of a file from init time, lead in hours and member, relative to the transport's base.
        fields: Its variables in NCEP's words; those not in ``spec.variables`` are ignored.
    """

    spec: GridSpec
    path: Callable[[np.datetime64, int, int], str]
    fields: tuple[NcepField, ...] = FIELDS

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        """Every field a complete cycle has; interval variables have none at lead 0."""
        return expected_keys(self.spec)

    def plan(self, init_time: np.datetime64, transport: Transport) -> Plan:
        """Read the index files of a cycle and list what to fetch.

        Where a file has a variable over more than one window, the shortest that ends at the lead is taken.

        Raises:
            NotAvailableError: No index of this cycle is there yet.
        """
        files = [(lead, member) for lead in self.spec.lead_hours for member in range(self.spec.members)]
        wanted = {(lead, member): self.path(init_time, lead, member) for lead, member in files}
        texts = read_indexes({url: f"{url}.idx" for url in wanted.values()}, transport, self.spec.dataset, init_time)
        spans: list[Span] = []
        missing: list[tuple[FieldKey, str]] = []
        expected = expected_keys(self.spec)
        for (lead, member), url in wanted.items():
            text = texts[url]
            lines = [] if isinstance(text, SourceError) else parse_idx(text)
            lines = [line for line in lines if line.end_hours == lead and line.init_time == init_time]
            for field in self.fields:
                key = FieldKey(field.variable, lead, member)
                if key not in expected:
                    continue
                line = _best(lines, field)
                if line is not None:
                    spans.append(Span(key, url, line.start, line.stop))
                elif isinstance(text, SourceError):
                    missing.append((key, str(text)))
                else:
                    missing.append((key, f"{url}.idx lists no {field.element}:{field.level} {field.statistic}".rstrip()))
        return Plan(init_time, tuple(spans), tuple(missing))


def _best(lines: Iterable[IdxLine], field: NcepField) -> IdxLine | None:
    fitting = [line for line in lines if (line.element, line.level, line.statistic) == (field.element, field.level, field.statistic)]
    return max(fitting, key=lambda line: line.begin_hours, default=None)


