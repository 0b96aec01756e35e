"""NOAA GFS and GEFS: one GRIB2 file per lead (and member), with a text index ``.idx`` beside it.

An index line is ``number:start:d=YYYYMMDDHH:ELEMENT:LEVEL:WINDOW:MEMBER``; a message ends where the next one begins and the last one at
the end of the file. Read from real index files of 2025-08-01.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from data_catalog.errors import SourceError
from data_catalog.sources.base import FieldKey, GridSpec, Host, day_and_hour, lead_steps
from data_catalog.sources.gribfiles import GribSource, Index, Range

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


_MEMBER = re.compile(r"ENS=\+(\d+)$")


def find_fields(
    text: str, init_time: np.datetime64, wanted: Collection[FieldKey], fields: tuple[NcepField, ...] = FIELDS
) -> dict[FieldKey, Range]:
    """Find fields in an ``.idx`` file, which is of one member.

    Where a file has a variable over more than one window, the shortest that ends at the lead is taken. Lines of another cycle or another
    member are passed over: such an index is of another file.

    Raises:
        SourceError: The text is no index.
    """
    names = {(field.element, field.level, field.statistic): field.variable for field in fields}
    members = {key.member for key in wanted}
    found: dict[FieldKey, IdxLine] = {}
    for line in parse_idx(text):
        variable = names.get((line.element, line.level, line.statistic))
        if variable is None or line.init_time != init_time:
            continue
        for member in members & _members(line.member, members):
            key = FieldKey(variable, line.end_hours, member)
            if key in wanted and (key not in found or line.begin_hours > found[key].begin_hours):
                found[key] = line
    return {key: (line.start, line.stop) for key, line in found.items()}


def _members(text: str, all_members: set[int]) -> set[int]:
    """Members that the last part of a line may mean: any, where it says nothing."""
    if numbered := _MEMBER.match(text):
        return {int(numbered[1])}
    return {0} if text.endswith("ctl") else set() if text else all_members


IDX: Final = Index(lambda url: f"{url}.idx", find_fields)


def gfs_path(init_time: np.datetime64, lead_hours: int) -> str:
    """Path of a GFS file of 0.25 degrees; before 2021-03-23 the folder ``atmos`` was not there yet."""
    day, hour = day_and_hour(init_time)
    folder = "atmos/" if init_time >= np.datetime64("2021-03-23") else ""
    return f"gfs.{day}/{hour}/{folder}gfs.t{hour}z.pgrb2.0p25.f{lead_hours:03d}"


def gefs_path(init_time: np.datetime64, lead_hours: int, member: int, product: str = "s", grid: str = "0p25") -> str:
    """Path of a GEFS file since 2020-09-23; member 0 is the control ``gec00``, then ``gep01`` and on.

    Args:
        init_time: Start of the forecast, UTC.
        lead_hours: Lead.
        member: 0..30.
        product: ``s`` has what matters at the surface in 0.25 degrees up to 240 h, ``a`` the commoner and ``b`` the other variables.
        grid: ``0p25`` of ``s``, ``0p50`` of ``a`` and ``b``.
    """
    day, hour = day_and_hour(init_time)
    name = f"gep{member:02d}" if member else "gec00"
    folder = f"pgrb2{product}p{grid.removeprefix('0p').rstrip('0')}"
    return f"gefs.{day}/{hour}/atmos/{folder}/{name}.t{hour}z.pgrb2{product}.{grid}.f{lead_hours:03d}"


def _gfs_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return (gfs_path(init_time, key.lead_hours),)


def _gefs_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return (gefs_path(init_time, key.lead_hours, key.member),)


def _gefs_coarse_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return tuple(gefs_path(init_time, key.lead_hours, key.member, product, "0p50") for product in "ab")


def gfs(spec: GridSpec) -> GribSource:
    """A source in the layout of GFS."""
    return GribSource(spec, _gfs_places, IDX)


def gefs(spec: GridSpec) -> GribSource:
    """A source in the layout of GEFS, 0.25 degrees."""
    return GribSource(spec, _gefs_places, IDX)


def _nomads(folder: str) -> Host:
    """NOAA's own server allows 120 requests a minute, and answers 302 with a page when it has had enough."""
    return Host(f"https://nomads.ncep.noaa.gov/pub/data/nccf/com/{folder}/prod", connections=2, per_minute=100)


_GFS: Final = GridSpec(
    dataset="noaa-gfs-0p25",
    title="NOAA GFS",
    hosts=(
        Host("https://noaa-gfs-bdp-pds.s3.amazonaws.com", connections=16),
        Host("https://storage.googleapis.com/global-forecast-system", connections=16),
        _nomads("gfs"),
    ),
    cycles=(0, 6, 12, 18),
    delay_hours=5.7,
    lead_hours=lead_steps((0, 240, 3)),  # of hourly to 120 h and 3-hourly to 384 h
    members=1,
    variables=tuple(field.variable for field in FIELDS),
    since=np.datetime64("2021-01-01T00"),
    licence="NOAA public domain",
)
_GEFS: Final = replace(
    _GFS,
    dataset="noaa-gefs-0p25",
    title="NOAA GEFS",
    hosts=(Host("https://noaa-gefs-pds.s3.amazonaws.com", connections=16), _nomads("gens")),
    delay_hours=6.8,
    members=31,
    variables=tuple(name for name in _GFS.variables if name != "total_cloud_cover_atmosphere"),
    since=np.datetime64("2020-09-23T12"),
)
_GEFS_COARSE: Final = replace(
    _GEFS, dataset="noaa-gefs-0p50", title="NOAA GEFS after 10 days", lead_hours=lead_steps((246, 384, 6)), grid="0p50"
)

SOURCES: Final = (gfs(_GFS), gefs(_GEFS), GribSource(_GEFS_COARSE, _gefs_coarse_places, IDX))
