"""What gauges make of the truth: surroundings, sensors, habits and gaps, each a pure function of station and time.

A station reports as its kind does: SYNOP where it has a WMO number; METAR at an aerodrome, whose automatic gauges beside the runway report
rain, radiation, gusts and extremes; automatic gauges alone elsewhere. Values come with the precision of that code form, so that what goes
straight into the archive is what a decoder reads from the message.

- Streets, trees and paddies around a station change over some hours and are in no model.
- Each sensor has a small constant error; where a station is moved, all of them change on that day.
- A sensor sticks now and then and repeats one value for a day or so; a blocked rain gauge says zero.
- Stations outside the city that report SYNOP have people, and their habits: rain of 6 h at 00, 06, 12 and 18 UTC and of 3 h in between,
  the day's maximum at 12 and its minimum at 00 UTC over 12 h. All others are automatic and report every hour.
- Reports get lost one by one and for days.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.observations import KNOT, MILE
from data_catalog.simulated.noise import Floats, between_knots, normals
from data_catalog.simulated.world import World
from data_catalog.stations import Station
from data_catalog.variables import VARIABLES

_SURROUNDINGS, _REPORT, _OUTAGE, _SENSOR, _STUCK = 4, 5, 6, 9, 10  # streams of the generator
_SURROUNDINGS_HOURS: Final = 6.0
TEMPERATURE_SD: Final = 0.5
"""K, what the surroundings of a station do to its temperature."""

WIND_SD: Final = 0.6
"""m/s, likewise to each component of the wind; a third of it is gustiness that calm nights do not have."""

_OUTAGE_HOURS: Final = 36
_OUTAGE_NORMAL: Final = 2.3  # standard normal above which a station is silent for a slot: 1.1 % of the time
_GAP_NORMAL: Final = 2.6  # and above which one report is lost: 0.5 %
_STUCK_SLOT: Final = 240  # hours
_STUCK_NORMAL: Final = 2.2  # above which a sensor sticks in a slot: 1.4 %
_STUCK_HOURS: Final = (12, 60)
_SENSORS: Final = ("temperature_2m", "dew_point_temperature_2m", "wind", "pressure_reduced_to_mean_sea_level", "precipitation_amount")
_SENSOR_SD: Final = np.array([0.15, 0.25, 0.05, 25.0, 0.02])  # K, K, share, Pa, share
_MOVE: Final = 3.0  # a move changes the errors by this much more
_BLOCKED: Final = "precipitation_amount"

RESOLUTION: Final[Mapping[str, float]] = {
    "temperature_2m": 0.1,
    "temperature_2m_max": 0.1,
    "temperature_2m_min": 0.1,
    "dew_point_temperature_2m": 0.1,
    "wind_speed_10m": 0.1,
    "wind_from_direction_10m": 1.0,
    "wind_gust_10m": 0.1,
    "pressure_reduced_to_mean_sea_level": 10.0,
    "total_cloud_cover_atmosphere": 1.0,
    "precipitation_amount": 0.1,
    "downward_short_wave_radiation_flux_surface": 1.0,
    "visibility": 100.0,
}
"""Smallest step of a report, in catalog units: rain from a gauge of 0.1 mm, visibility in 100 m; cloud is of eighths, in whole percent."""

METAR: Final = (
    "temperature_2m", "dew_point_temperature_2m", "wind_speed_10m", "wind_from_direction_10m", "pressure_reduced_to_mean_sea_level",
    "total_cloud_cover_atmosphere", "visibility",
)  # fmt: skip
"""What an aerodrome puts into its METAR; its gauges report the rest."""

COVER: Final[Mapping[str, float]] = {"NSC": 0.0, "FEW": 18.75, "SCT": 43.75, "BKN": 75.0, "OVC": 100.0}
"""Cloud in METAR: none, 1-2, 3-4, 5-7 and 8 eighths, as the middle of each in percent."""

GUST_HOURS: Final = 1.0 / 6.0
"""Hours before a SYNOP over which it states the greatest gust."""

FAR_MILES: Final = 6.0
"""What the Aviation Weather Center makes of 9999, a visibility of 10 km or more."""

_COMPONENTS: Final = ("wind_u_10m", "wind_v_10m")


@dataclass(frozen=True, slots=True)
class Reports:
    """What stations report.

    Attributes:
        values: By variable, shape (time, station), float32, NaN where nothing was reported.
        intervals: Hours that a value covers, by interval variable, of the same shape, NaN where there is none.
    """

    values: Mapping[str, Floats]
    intervals: Mapping[str, Floats]


def has_synop(station: Station) -> bool:
    """Whether a station reports SYNOP."""
    return "synop" in station.aliases


def has_metar(station: Station) -> bool:
    """Whether a station is an aerodrome that reports METAR."""
    return "metar" in station.aliases and not has_synop(station)


def by_hand(station: Station) -> bool:
    """Whether people report from here, with the habits of SYNOP."""
    return has_synop(station) and not station.city


def needed(world: World, stations: Sequence[Station], hours: Floats) -> Floats:
    """Hours whose truth the reports of ``hours`` are made of: the hours before them, and where a stuck sensor's value comes from."""
    found = {float(hour) for hour in hours}
    if any(by_hand(station) for station in stations):
        for hour in hours[hours % 3.0 == 0.0]:
            found.update(hour - back for back in range(1, _habit(hour % 24.0)))
    for station in stations:
        for sensor in range(len(_SENSORS)):
            found.update(_stuck_since(world.seed, station, sensor, hours)[1].tolist())
    return np.array(sorted(found))


def _habit(hour: float) -> int:
    """Hours before a synoptic hour that its report looks back."""
    return 12 if hour % 12.0 == 0.0 else 6 if hour % 6.0 == 0.0 else 3


def report(world: World, stations: Sequence[Station], hours: Floats, known: Floats, truth: Mapping[str, Floats]) -> Reports:
    """What the stations report.

    Args:
        world: Where a station was moved.
        stations: Who reports.
        hours: Whole hours since 1970 that are wanted, ascending, shape (time,).
        known: Hours of ``truth``, ascending; those of :func:`needed`.
        truth: Weather at the stations by variable, shape (known, station), intervals of one hour.

    Returns:
        Reports at ``hours`` with the precision of their code form; dew point <= temperature, gust >= wind speed. A calm has direction 0.
    """
    seen = {name: values.astype(np.float64) for name, values in truth.items() if name in RESOLUTION or name in _COMPONENTS}
    for column, station in enumerate(stations):
        _disturb(world, station, known, {name: values[:, column] for name, values in seen.items()})
    rows = np.searchsorted(known, hours)
    values = {name: every[rows] for name, every in seen.items()}
    ones = np.ones((hours.size, len(stations)))
    intervals = {name: ones.copy() for name in values if VARIABLES[name].has_interval}
    for column, station in enumerate(stations):
        if by_hand(station):
            _report_by_hand(hours, known, rows, column, seen, values, intervals)
    east, north = (values.pop(name) for name in _COMPONENTS)
    values["wind_from_direction_10m"] = np.degrees(np.arctan2(-east, -north)) % 360.0
    values["total_cloud_cover_atmosphere"] = np.round(values["total_cloud_cover_atmosphere"] / 12.5) * 12.5
    exact = {name: value.copy() for name, value in values.items()}
    rounded = {name: np.round(value / RESOLUTION[name]) * RESOLUTION[name] for name, value in values.items()}
    intervals["wind_gust_10m"] = np.where([has_synop(station) for station in stations], GUST_HOURS, np.nan) * ones
    for column, station in enumerate(stations):
        if has_metar(station):
            _as_metar(*({name: value[:, column] for name, value in part.items()} for part in (exact, rounded)))
    _as_directions(rounded)
    silent = np.stack([_silent(world.seed, station, hours) for station in stations], axis=1)
    reported = {name: np.where(silent, np.nan, value).astype(np.float32) for name, value in rounded.items()}
    lengths = {name: np.where(np.isfinite(reported[name]), length, np.nan).astype(np.float32) for name, length in intervals.items()}
    return Reports(reported, lengths)


def _as_metar(exact: Mapping[str, Floats], rounded: Mapping[str, Floats]) -> None:
    """Round what an aerodrome reports as METAR does (ICAO Annex 3, appendix 3), in place, shape (time,) each."""
    for name in ("temperature_2m", "dew_point_temperature_2m"):
        rounded[name][:] = np.round(exact[name])
    rounded["wind_speed_10m"][:] = np.round(exact["wind_speed_10m"] / KNOT) * KNOT
    rounded["wind_from_direction_10m"][:] = np.round(exact["wind_from_direction_10m"] / 10.0) * 10.0
    rounded["wind_gust_10m"][:] = np.maximum(rounded["wind_gust_10m"], np.ceil(rounded["wind_speed_10m"] * 10.0) / 10.0)
    rounded["pressure_reduced_to_mean_sea_level"][:] = np.floor(exact["pressure_reduced_to_mean_sea_level"] / 100.0) * 100.0
    eighths = np.round(exact["total_cloud_cover_atmosphere"] / 12.5)
    rounded["total_cloud_cover_atmosphere"][:] = np.array([*COVER.values()])[np.searchsorted([1, 3, 5, 8], eighths, side="right")]
    metres = exact["visibility"]
    step = np.where(metres < 800.0, 50.0, np.where(metres < 5000.0, 100.0, 1000.0))
    rounded["visibility"][:] = np.where(metres >= 10_000.0, FAR_MILES, np.round(np.floor(metres / step) * step / MILE, 2)) * MILE


def _as_directions(rounded: Mapping[str, Floats]) -> None:
    """North is 360 degrees, and 0 is a calm, in place."""
    direction = rounded["wind_from_direction_10m"]
    direction[direction == 0.0] = 360.0
    direction[rounded["wind_speed_10m"] == 0.0] = 0.0


def _disturb(world: World, station: Station, hours: Floats, seen: dict[str, Floats]) -> None:
    """Change the truth at a station, shape (time,) each and in place, into what its sensors say."""
    around = _surroundings(world.seed, station, hours)
    errors = _sensor_errors(world, station, hours)  # (time, sensor)
    warmer = TEMPERATURE_SD * around[:, 0] + errors[:, 0]
    depression = np.maximum(seen["temperature_2m"] - seen["dew_point_temperature_2m"] + errors[:, 1], 0.0)
    for name in ("temperature_2m", "temperature_2m_max", "temperature_2m_min"):
        seen[name] += warmer
    seen["dew_point_temperature_2m"][:] = seen["temperature_2m"] - depression
    for name, part in (("wind_u_10m", 1), ("wind_v_10m", 2)):
        seen[name][:] = (1.0 + errors[:, 2]) * seen[name] + WIND_SD * around[:, part]
    seen["pressure_reduced_to_mean_sea_level"] += errors[:, 3]
    seen["precipitation_amount"] *= 1.0 + errors[:, 4]
    _stick(world.seed, station, hours, seen)
    seen["dew_point_temperature_2m"][:] = np.minimum(seen["dew_point_temperature_2m"], seen["temperature_2m"])
    seen["wind_speed_10m"][:] = np.hypot(seen["wind_u_10m"], seen["wind_v_10m"])
    seen["wind_gust_10m"][:] = np.maximum(seen["wind_gust_10m"], seen["wind_speed_10m"])


def _stick(seed: int, station: Station, hours: Floats, seen: dict[str, Floats]) -> None:
    """Let stuck sensors repeat the value at which they stuck, in place; a blocked gauge says zero."""
    for sensor, name in enumerate(_SENSORS):
        stuck, since = _stuck_since(seed, station, sensor, hours)
        if not stuck.any():
            continue
        start = np.searchsorted(hours, since[stuck])
        for part in ("wind_u_10m", "wind_v_10m") if name == "wind" else (name,):
            seen[part][stuck] = 0.0 if name == _BLOCKED else seen[part][start]
        if name == "temperature_2m":
            for extreme in ("temperature_2m_max", "temperature_2m_min"):
                seen[extreme][stuck] = seen[name][start]


def _report_by_hand(
    hours: Floats,
    known: Floats,
    rows: np.ndarray,
    column: int,
    seen: Mapping[str, Floats],
    values: Mapping[str, Floats],
    intervals: Mapping[str, Floats],
) -> None:
    """Put the habits of a station with people into its column of ``values`` and ``intervals``, in place."""
    for name in ("precipitation_amount", "temperature_2m_max", "temperature_2m_min"):
        values[name][:, column] = np.nan
    for row, hour in zip(np.flatnonzero(hours % 3.0 == 0.0), hours[hours % 3.0 == 0.0], strict=True):
        of_day = hour % 24.0
        length = 6 if of_day % 6.0 == 0.0 else 3
        values["precipitation_amount"][row, column] = seen["precipitation_amount"][rows[row] - length + 1 : rows[row] + 1, column].sum()
        intervals["precipitation_amount"][row, column] = length
        for name, when, extreme in (("temperature_2m_max", 12.0, np.max), ("temperature_2m_min", 0.0, np.min)):
            if of_day == when:
                values[name][row, column] = extreme(seen[name][rows[row] - 11 : rows[row] + 1, column])
                intervals[name][row, column] = 12


def _key(station: Station) -> int:
    """A number of the station below 65,536 that does not depend on which others there are."""
    return zlib.crc32(station.id.encode()) & 0xFFFF


def _sensor_errors(world: World, station: Station, hours: Floats) -> Floats:
    """Constant errors of the sensors, shape (time, sensor), other ones after a move."""
    before, after = (normals(world.seed, (_SENSOR, _key(station), 0), epoch, (len(_SENSORS),)) * _SENSOR_SD for epoch in (0, 1))
    moved = (hours >= world.moved[1]) & (station.id == world.moved[0])
    return np.asarray(np.where(moved[:, None], before + _MOVE * after, before))


def _surroundings(seed: int, station: Station, hours: Floats) -> Floats:
    """Three unit-variance series (time, 3) that change over some hours."""
    position = hours / _SURROUNDINGS_HOURS
    whole = np.floor(position).astype(int)
    knots = np.unique(np.concatenate([whole, whole + 1]))
    draws = np.stack([normals(seed, (_SURROUNDINGS, _key(station), 0), int(knot), (3,)) for knot in knots])
    return between_knots(np.searchsorted(knots, whole) + (position - whole), draws, 0)


def _stuck_since(seed: int, station: Station, sensor: int, hours: Floats) -> tuple[np.ndarray, Floats]:
    """Whether a sensor is stuck, shape (time,), and since when for those hours at which it is (``hours`` itself at others)."""
    slots, inverse = np.unique((hours // _STUCK_SLOT).astype(int), return_inverse=True)
    draws = np.array([normals(seed, (_STUCK, _key(station), sensor), int(slot), (2,)) for slot in slots])
    least, most = _STUCK_HOURS
    length = least + (most - least) * np.clip(0.5 + 0.3 * draws[:, 1], 0.0, 1.0)
    start = slots * float(_STUCK_SLOT) + 24.0
    stuck = (draws[:, 0] > _STUCK_NORMAL)[inverse] & (hours >= start[inverse]) & (hours < (start + np.round(length))[inverse])
    return stuck, np.where(stuck, start[inverse], hours)


def _silent(seed: int, station: Station, hours: Floats) -> np.ndarray:
    """Whether there is no report, shape (time,)."""
    slots, inverse = np.unique((hours // _OUTAGE_HOURS).astype(int), return_inverse=True)
    outage = np.array([normals(seed, (_OUTAGE, _key(station), 0), int(slot), (1,))[0] > _OUTAGE_NORMAL for slot in slots])
    days, day = np.unique((hours // 24.0).astype(int), return_inverse=True)
    lost = np.stack([normals(seed, (_REPORT, _key(station), 0), int(number), (24,)) > _GAP_NORMAL for number in days])
    return np.asarray(outage[inverse] | lost[day, (hours % 24.0).astype(int)])
