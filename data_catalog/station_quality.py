"""Quality control of station reports: a flag with its reason beside every value, and never a value deleted.

Every check asks for more than weather does, because the records that matter are the extremes: 985 hPa in Yagi, 41.5 degC at Láng, 255 mm
in a day happened here, and must pass again. A value that stands out is excused where the stations around it stand out with it. The flags
are a pure function of the reports they are given, so they are computed anew with every merge, and a late report may clear or convict an
earlier one.

Where a threshold comes from stands beside it: WMO-305 is the Guide on the Global Data-processing System (WMO-No. 305, 1993, VI.21),
HadISD is Dunn et al. (2012, Climate of the Past 8, 1649-1679), and "ours" is chosen here and tried on planted records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import STATION, TIME
from data_catalog.observations import base_variable, vapour_pressure
from data_catalog.variables import VARIABLES

GOOD, INCONSISTENT, JUMP, RANGE, STUCK, SPATIAL, INTERVAL, MISSING, MISPLACED, CENSORED = range(10)

MEANINGS: Final[Mapping[int, str]] = {
    GOOD: "good",
    INCONSISTENT: "inconsistent_with_other_variables",
    JUMP: "jump_and_back",
    RANGE: "out_of_range",
    STUCK: "stuck",
    SPATIAL: "far_from_neighbours",
    INTERVAL: "interval_unknown_or_not_as_stated",
    MISSING: "missing",
    MISPLACED: "reported_from_another_place",
    CENSORED: "not_reported_below_threshold",
}

ATTRIBUTES: Final = {
    "long_name": "quality of the value: good, or why it is not to be used",
    "standard_name": "quality_flag",
    "flag_values": list(MEANINGS),
    "flag_meanings": " ".join(MEANINGS.values()),
}

_ORDER: Final = (INCONSISTENT, STUCK, SPATIAL, JUMP, INTERVAL, MISPLACED, RANGE)
"""Of several reasons the last of these stands."""

_HOUR: Final = np.timedelta64(1, "h")


@dataclass(frozen=True, slots=True)
class _Step:
    """How far a value may go from the one before and come back, by hours between them."""

    hours: tuple[float, ...]
    tolerance: tuple[float, ...]


_STEPS: Final[Mapping[str, _Step]] = {
    "temperature_2m": _Step((1, 2, 3, 6, 12), (4, 7, 9, 15, 25)),                                               # WMO-305, K
    "dew_point_temperature_2m": _Step((1, 2, 3, 6, 12), (4, 6, 8, 12, 20)),                                     # WMO-305, K
    "pressure_reduced_to_mean_sea_level": _Step((1, 2, 3, 6, 12), (600, 900, 1200, 1800, 3600)),
    # WMO-305 has 300 Pa an hour; a typhoon that passes falls and rises by more, so ours is twice that at short steps, Pa
    "wind_speed_10m": _Step((1, 12), (15, 20)),                                                                 # ours, m s-1
    "wind_gust_10m": _Step((1, 12), (30, 35)),                                                                  # ours, m s-1
}
_SPIKE_REPORTS: Final = 3           # a spike lasts at most so many reports (HadISD)

_STREAKS: Final[Mapping[str, tuple[tuple[float, int], ...]]] = {
    "temperature_2m": ((0.1, 24), (0.5, 30), (1.0, 40)),
    "dew_point_temperature_2m": ((0.1, 48), (0.5, 60), (1.0, 80)),
    "pressure_reduced_to_mean_sea_level": ((10.0, 72), (50.0, 100), (100.0, 120)),
    "wind_speed_10m": ((0.1, 24), (0.5, 30), (1.0, 40)),
    "wind_from_direction_10m": ((1.0, 24), (10.0, 48), (22.5, 72), (45.0, 96)),
    "wind_gust_10m": ((0.1, 24), (0.5, 30), (1.0, 40)),
}
"""Equal reports in a row that are too many, by the resolution of the reports (HadISD, table 4); calms do not count."""
_RAIN: Final = 1.0                  # mm from which equal hourly amounts in a row are remarkable, and
_RAIN_STREAK: Final = 6             # how many of them are too many: ours

_ELEVATION: Final = 500.0           # m between stations that are compared (HadISD)
_DISTANCE: Final = 200.0            # km (HadISD has 300; northern Vietnam has mountains)
_ENOUGH: Final = 3                  # stations around, to say what is usual
_LAPSE: Final[Mapping[str, float]] = {
    "temperature_2m": 0.0065,                           # K m-1, ICAO standard atmosphere
    "dew_point_temperature_2m": 0.002,                  # K m-1, of a well-mixed layer
    "pressure_reduced_to_mean_sea_level": 0.0,
}
_FAR: Final[Mapping[str, tuple[float, float]]] = {
    "temperature_2m": (13.0, 4.5),
    "dew_point_temperature_2m": (13.0, 4.5),
    "pressure_reduced_to_mean_sea_level": (600.0, 300.0),
}
"""Distance from what the stations around say that is too far at once, and as the median of a day: ours. A thunderstorm over one station
takes 11 K from it, and stays below the first; an offset or a drift goes beyond the second."""
_SPREADS: Final = (3.0, 1.0)        # robust standard deviations of the stations around that come on top of each
_LASTING: Final = 0.4               # share of the limit of a day that a single value of such a day exceeds: ours

_ENVELOPE: Final = (422.0, 0.475)   # world's largest rain in t hours is 422 t^0.475 mm (WMO-No. 1045, PMP manual, 5.7)
_SATURATED: Final = 0.5             # K that a dew point may exceed the temperature by rounding to whole degrees (HadISD: none)
_GUST: Final = 0.5                  # m s-1 that a gust may lie below the mean wind by rounding
_HUMIDITY: Final = 20.0             # percent between a humidity and what temperature and dew point say: ours
_WET: Final = 0.1                   # mm
_WET_REPORTS: Final = 20            # before anything is said of the hours at which it rains
SYNOPTIC_SHARE: Final = 0.4         # of rain at 00, 06, 12 and 18 UTC above which no amount is believed to be hourly; 4/24 is usual
_BLOCKED: Final = (48, 40.0)        # hours, mm around, with nothing in the gauge: ours
_PLACE: Final = 5.0                 # km between where a report says it is from and its station: ours, above rounding to 0.01 degree


def flags(reports: xr.Dataset, others: Sequence[xr.Dataset] = ()) -> dict[str, np.ndarray]:
    """Every check on a stretch of reports.

    Args:
        reports: See :mod:`data_catalog.observations`; the longer the stretch, the more is known of what is usual.
        others: Reports of other networks, flagged or not, as further stations around.

    Returns:
        By variable (and ``VARIABLE_<H>h``) its flag, int8, shape (time, station).
    """
    names = [str(name) for name in reports.data_vars if base_variable(str(name)) is not None]
    values = {name: reports[name].transpose(TIME, STATION).values.astype(np.float64) for name in names}
    found = {name: np.zeros(array.shape, dtype=np.int8) for name, array in values.items()}

    def mark(name: str, where: np.ndarray, flag: int) -> None:
        if name in found:
            weaker = np.isin(found[name], (GOOD, *_ORDER[: _ORDER.index(flag)]))
            found[name][where & weaker & np.isfinite(values[name])] = flag

    if reports.sizes[TIME]:
        for name, where in _outside(reports, values):
            mark(name, where, RANGE)
        away = _misplaced(reports)
        for name in names:
            mark(name, away, MISPLACED)
        for name, where in _intervals(reports, values):
            mark(name, where, INTERVAL)
        believed = {name: np.where(found[name] == GOOD, array, np.nan) for name, array in values.items()}
        times = reports[TIME].values
        around = _neighbours(reports, believed, others)
        for name, step in _STEPS.items():
            if name in believed:
                near = around.get(name)
                supported = False if near is None else np.abs(believed[name] - near.estimate) <= near.limit(_FAR[name][1], _SPREADS[1])
                mark(name, spikes(times, believed[name], step.hours, step.tolerance) & ~np.asarray(supported), JUMP)
        for name, near in around.items():
            mark(name, _far(times, np.where(found[name] == GOOD, values[name], np.nan), near, _FAR[name]), SPATIAL)
        for name, where in _stuck(reports, believed):
            mark(name, where, STUCK)
        for name, where in _contradictions({name: np.where(found[name] == GOOD, array, np.nan) for name, array in values.items()}):
            mark(name, where, INCONSISTENT)
        _inherit(found, values)
    for name, array in values.items():
        found[name][np.isnan(array)] = MISSING
    _censored(reports, found)
    return found


# --- range, place, interval ------------------------------------------------------------------------------------------------------------


def _outside(reports: xr.Dataset, values: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """What is not believable by itself: the catalog's ranges, and for rain the largest there ever was over its interval."""
    for name, array in values.items():
        known = base_variable(name)
        assert known is not None
        high = np.full(array.shape, known.maximum)
        if known.name == "precipitation_amount":
            factor, power = _ENVELOPE
            high = np.fmin(high, factor * _hours(reports, name) ** power)
        yield name, (array < known.minimum) | (array > high)


def _hours(reports: xr.Dataset, name: str) -> np.ndarray:
    """Length in hours of the interval of each value, NaN where unknown; shape (time, station)."""
    shape = (reports.sizes[TIME], reports.sizes[STATION])
    if name not in VARIABLES:
        return np.full(shape, float(name.rpartition("_")[2].removesuffix("h")))
    if f"{name}_interval" not in reports:
        return np.full(shape, np.nan)
    return reports[f"{name}_interval"].transpose(TIME, STATION).values.astype(np.float64)


def _misplaced(reports: xr.Dataset) -> np.ndarray:
    """Reports from another place than their station's: one number for two places, or a station that moved."""
    shape = (reports.sizes[TIME], reports.sizes[STATION])
    if "reported_latitude" not in reports or "reported_longitude" not in reports:
        return np.zeros(shape, dtype=bool)
    latitude, longitude = (reports[f"reported_{axis}"].transpose(TIME, STATION).values for axis in ("latitude", "longitude"))
    away = distance(latitude, longitude, reports["latitude"].values[None], reports["longitude"].values[None])
    return np.asarray(away > _PLACE)


def distance(latitude: np.ndarray, longitude: np.ndarray, other_latitude: np.ndarray, other_longitude: np.ndarray) -> np.ndarray:
    """Great-circle distance in km (haversine, mean radius 6371.0 km); degrees, broadcast together, NaN where a place is."""
    lat1, lon1 = np.deg2rad(np.asarray(latitude, dtype=np.float64)), np.deg2rad(np.asarray(longitude, dtype=np.float64))
    lat2, lon2 = np.deg2rad(np.asarray(other_latitude, dtype=np.float64)), np.deg2rad(np.asarray(other_longitude, dtype=np.float64))
    chord = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return np.asarray(2 * 6371.0 * np.arcsin(np.sqrt(np.clip(chord, 0, 1))))


def _intervals(reports: xr.Dataset, values: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Rain whose interval is not known, or which says it is hourly and gathers at the synoptic hours."""
    name = "precipitation_amount"
    if name not in values:
        return
    amount, hours = values[name], _hours(reports, name)
    where = np.isnan(hours)
    hourly = ~where & (hours == 1)
    for column in np.flatnonzero(hourly.any(axis=0)):
        rows = hourly[:, column]
        if synoptic_share(reports[TIME].values[rows], amount[rows, column]) > SYNOPTIC_SHARE:
            where[rows, column] = True
    yield name, where


def synoptic_share(times: np.ndarray, amounts: np.ndarray) -> float:
    """Share of rain at 00, 06, 12 and 18 UTC: the smaller of its share of the amounts and of the wet reports.

    Args:
        times: Whole hours at which amounts that are called hourly end, UTC. (time,)
        amounts: mm. (time,)

    Returns:
        0..1; NaN where fewer than 20 reports are wet.
    """
    wet = amounts >= _WET
    if wet.sum() < _WET_REPORTS:
        return float("nan")
    synoptic = (times - times.astype("datetime64[D]")) % (6 * _HOUR) == np.timedelta64(0)
    return float(min(amounts[wet & synoptic].sum() / amounts[wet].sum(), synoptic[wet].mean()))


# --- in time ---------------------------------------------------------------------------------------------------------------------------


def spikes(times: np.ndarray, values: np.ndarray, hours: Sequence[float], tolerance: Sequence[float]) -> np.ndarray:
    """Values that go further than is believable from the one before, and come back as far within three reports.

    Args:
        times: Ascending. (time,)
        values: NaN where missing; reports are compared over gaps. (time, station)
        hours: Lengths of steps for which a tolerance is known.
        tolerance: Largest change over each, linear between them. Beyond the longest nothing is said.
    """
    found = np.zeros(values.shape, dtype=bool)
    clock = (times - times[0]) / _HOUR
    for column in range(values.shape[1]):
        rows = np.flatnonzero(np.isfinite(values[:, column]))
        series, at = values[rows, column], clock[rows]
        for length in range(1, _SPIKE_REPORTS + 1):
            if rows.size < length + 2:
                break
            before, after = series[: -length - 1], series[length + 1 :]
            middle = np.lib.stride_tricks.sliding_window_view(series[1:-1], length)
            up, down = middle - before[:, None], middle - after[:, None]
            gap_up, gap_down = np.diff(at)[: up.shape[0]], np.diff(at)[length:]
            limit_up = np.interp(gap_up, hours, tolerance, right=np.inf)
            limit_down = np.interp(gap_down, hours, tolerance, right=np.inf)
            for sign in (1.0, -1.0):
                out = (sign * up > limit_up[:, None]).all(axis=1) & (sign * down > limit_down[:, None]).all(axis=1)
                for start in np.flatnonzero(out):
                    found[rows[start + 1 : start + 1 + length], column] = True
    return found


def _stuck(reports: xr.Dataset, values: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The same value too often in a row, and gauges in which nothing arrives while it rains around them."""
    times = reports[TIME].values
    for name, streaks in _STREAKS.items():
        if name in values:
            columns = [_runs(times, series, _longest(series, streaks), name.startswith("wind")) for series in values[name].T]
            yield name, np.stack(columns, axis=1)
    if "precipitation_amount" in values:
        hourly = np.where(_hours(reports, "precipitation_amount") == 1, values["precipitation_amount"], np.nan)
        columns = [_runs(times, np.where(series < _RAIN, 0.0, series), _RAIN_STREAK, True) for series in hourly.T]
        yield "precipitation_amount", np.stack(columns, axis=1) | _blocked(times, hourly)


def _longest(series: np.ndarray, streaks: Sequence[tuple[float, int]]) -> int:
    """Allowed reports in a row, by the smallest step that the series knows."""
    distinct = np.unique(series[np.isfinite(series)])
    steps = np.diff(distinct)
    step = float(np.min(steps[steps > 1e-6 * np.abs(distinct).max()], initial=np.inf)) if distinct.size > 1 else np.inf
    return next((count for resolution, count in reversed(streaks) if step >= 0.99 * resolution), streaks[0][1])


def _runs(times: np.ndarray, series: np.ndarray, longest: int, without_zero: bool) -> np.ndarray:
    """Members of runs of equal values, gaps passed over, of ``longest`` reports or more over as many hours or more."""
    rows = np.flatnonzero(np.isfinite(series))
    found = np.zeros(series.shape, dtype=bool)
    if rows.size:
        edges = np.flatnonzero(np.diff(series[rows]) != 0) + 1
        for run in np.split(rows, edges):
            long = run.size >= longest and times[run[-1]] - times[run[0]] >= (longest - 1) * _HOUR
            if long and not (without_zero and series[run[0]] == 0):
                found[run] = True
    return found


def _blocked(times: np.ndarray, hourly: np.ndarray) -> np.ndarray:
    """Dry hours of a gauge in two days in which every other station had rain, and half of them much."""
    found = np.zeros(hourly.shape, dtype=bool)
    length, much = _BLOCKED
    if hourly.shape[1] < _ENOUGH + 1 or times.size < length:
        return found
    days = ((times - times[0]) / _HOUR // length).astype(int)
    for day in np.unique(days):
        rows = np.flatnonzero(days == day)
        known = np.isfinite(hourly[rows]).mean(axis=0) > 0.8
        total = np.nansum(hourly[rows], axis=0)
        if known.sum() > _ENOUGH:
            for column in np.flatnonzero(known & (total == 0)):
                others = np.delete(total, column)[np.delete(known, column)]
                if others.min() > 0.1 * much and np.median(others) > much:
                    found[rows, column] = True
    return found


# --- in space --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Around:
    """What the stations around say, and how far they are apart; shape (time, station), NaN where they are too few."""

    estimate: np.ndarray
    spread: np.ndarray

    def limit(self, far: float, spreads: float) -> np.ndarray:
        """How far from the estimate is too far."""
        return far + spreads * self.spread


def _neighbours(
    reports: xr.Dataset, values: Mapping[str, np.ndarray], others: Sequence[xr.Dataset]
) -> dict[str, _Around]:
    """For each smooth variable: the median of the stations around, brought to the station's height and to its usual difference from it."""
    times, places = reports[TIME].values, _places(reports)
    ids = [str(station) for station in reports[STATION].values]
    found = {}
    for name, lapse in _LAPSE.items():
        if name not in values:
            continue
        columns, where = [values[name]], [places]
        for other in others:
            keep = [number for number, station in enumerate(other[STATION].values) if str(station) not in ids]
            if name in other and keep:
                there = other[name].isel({STATION: keep}).transpose(TIME, STATION)
                good = there.where(other[f"{name}_quality"].isel({STATION: keep}) == GOOD) if f"{name}_quality" in other else there
                columns.append(good.drop_vars([c for c in good.coords if c not in (TIME, STATION)]).reindex({TIME: times}).values)
                where.append(_places(other.isel({STATION: keep})))
        level = np.concatenate(columns, axis=1)
        place = np.concatenate(where, axis=0)
        level = level + lapse * np.nan_to_num(place[:, 2])
        found[name] = _estimate(level, place, len(ids), lapse)
    return found


def _places(reports: xr.Dataset) -> np.ndarray:
    """(station, 3): latitude, longitude, elevation."""
    return np.stack([np.asarray(reports[name].values, dtype=np.float64) for name in ("latitude", "longitude", "elevation")], axis=1)


def _estimate(level: np.ndarray, place: np.ndarray, count: int, lapse: float) -> _Around:
    """Estimates at the first ``count`` columns of ``level`` (time, station), values reduced to sea level."""
    estimate = np.full((level.shape[0], count), np.nan)
    spread = np.full((level.shape[0], count), np.nan)
    away = distance(place[:, None, 0], place[:, None, 1], place[None, :, 0], place[None, :, 1])
    higher = np.abs(np.nan_to_num(place[:, None, 2]) - np.nan_to_num(place[None, :, 2]))
    for column in range(count):
        near = np.flatnonzero((away[column] <= _DISTANCE) & (higher[column] <= _ELEVATION))
        near = near[near != column]
        if near.size < _ENOUGH:
            continue
        around = level[:, near]
        around = around + _usual(level[:, column, None] - around)
        enough = np.isfinite(around).sum(axis=1) >= _ENOUGH
        middle, deviation = _median_and_deviation(around[enough])
        estimate[enough, column] = middle - lapse * np.nan_to_num(place[column, 2])
        spread[enough, column] = deviation
    return _Around(estimate, spread)


def _usual(difference: np.ndarray) -> np.ndarray:
    """Median over time of each column, 0 where nothing is known."""
    known = np.isfinite(difference).any(axis=0)
    found = np.zeros(difference.shape[1])
    found[known] = np.nanmedian(difference[:, known], axis=0)
    return found


def _median_and_deviation(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median over the second axis, and 1.4826 times the median distance from it."""
    if not values.size:
        return np.empty(values.shape[0]), np.empty(values.shape[0])
    middle = np.nanmedian(values, axis=1)
    return middle, 1.4826 * np.nanmedian(np.abs(values - middle[:, None]), axis=1)


def _far(times: np.ndarray, values: np.ndarray, around: _Around, far: tuple[float, float]) -> np.ndarray:
    """Values too far from the stations around: at once, or with the median of the day around them."""
    residual = values - around.estimate
    limit = around.limit(far[1], _SPREADS[1])
    day = _middle_of_day(times, residual)
    lasting = (np.abs(day) > limit) & (np.abs(residual) > _LASTING * limit) & (residual * day > 0)
    return np.asarray((np.abs(residual) > around.limit(far[0], _SPREADS[0])) | lasting)


def _middle_of_day(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Median of the reports of the 24 h around each time, NaN where less than half of them are there."""
    found = np.full(values.shape, np.nan)
    if times.size > 1:
        half = int(np.clip(12 * _HOUR / np.median(np.diff(times)), 1, 72))
        padded = np.pad(values, ((half, half), (0, 0)), constant_values=np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
        enough = np.isfinite(windows).sum(axis=-1) > half
        found[enough] = np.nanmedian(windows[enough], axis=-1)
    return found


# --- between variables -----------------------------------------------------------------------------------------------------------------


def _contradictions(values: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """What cannot be true together; of two the one that is the harder to measure is not believed (HadISD)."""

    def known(*names: str) -> bool:
        return all(name in values for name in names)

    with np.errstate(invalid="ignore"):
        if known("temperature_2m", "dew_point_temperature_2m"):
            wet = values["dew_point_temperature_2m"] > values["temperature_2m"] + _SATURATED
            yield "dew_point_temperature_2m", wet
            yield "relative_humidity_2m", wet
            if known("relative_humidity_2m"):
                expected = 100 * vapour_pressure(values["dew_point_temperature_2m"]) / vapour_pressure(values["temperature_2m"])
                yield "relative_humidity_2m", np.abs(values["relative_humidity_2m"] - expected) > _HUMIDITY
        if known("wind_speed_10m", "wind_gust_10m"):
            yield "wind_gust_10m", values["wind_gust_10m"] < values["wind_speed_10m"] - _GUST
        if known("wind_speed_10m", "wind_u_10m", "wind_v_10m"):
            length = np.hypot(values["wind_u_10m"], values["wind_v_10m"])
            for name in ("wind_u_10m", "wind_v_10m"):
                yield name, np.abs(length - values["wind_speed_10m"]) > 1.0
        if known("temperature_2m", "temperature_2m_max"):
            yield "temperature_2m_max", values["temperature_2m_max"] < values["temperature_2m"] - _SATURATED
        if known("temperature_2m", "temperature_2m_min"):
            yield "temperature_2m_min", values["temperature_2m_min"] > values["temperature_2m"] + _SATURATED
        if known("precipitation_amount"):
            for name in values:
                if name.startswith("precipitation_amount_"):
                    yield name, values["precipitation_amount"] > values[name] + _WET


def _inherit(found: dict[str, np.ndarray], values: Mapping[str, np.ndarray]) -> None:
    """Wind components are as good as the speed and direction that they come from, humidity as temperature and dew point."""
    for name, origins in _ORIGINS.items():
        if name in found:
            for origin in origins:
                if origin in found:
                    bad = (found[name] == GOOD) & (found[origin] != GOOD) & np.isfinite(values[origin]) & np.isfinite(values[name])
                    found[name][bad] = found[origin][bad]


_ORIGINS: Final[Mapping[str, tuple[str, ...]]] = {
    "wind_u_10m": ("wind_speed_10m", "wind_from_direction_10m"),
    "wind_v_10m": ("wind_speed_10m", "wind_from_direction_10m"),
    "relative_humidity_2m": ("dew_point_temperature_2m", "temperature_2m"),
}


def _censored(reports: xr.Dataset, found: dict[str, np.ndarray]) -> None:
    """A gust that is not reported beside a wind that is, at a station that reports gusts at times only, was below a threshold."""
    if "wind_gust_10m" in found and "wind_speed_10m" in found:
        gust, wind = found["wind_gust_10m"] != MISSING, found["wind_speed_10m"] != MISSING
        together = (gust & wind).sum(axis=0) / np.maximum(wind.sum(axis=0), 1)
        found["wind_gust_10m"][~gust & wind & (together > 0) & (together < 0.9)] = CENSORED
