"""Views 1, 5 and 7: what was observed, cold and comfort by local day, and the same days in the last cycles."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from data_catalog.errors import GiomuaError
from data_catalog.regions import Region
from serving.api.cycles import Cycle, PublishedCycles
from serving.comfort import Weather, comfort, relative_humidity
from serving.observed import Observations, hourly, past_days
from serving.page.common import VARIABLES, daily_of, intervals_of, leads_of, numbers, position_of, stamp, utc_offset

RUNS: Final = 6
"""Cycles compared with each other."""
OBSERVED_HOURS: Final = 72


def observed_of(observations: Observations, region: Region, station: str) -> dict[str, Any]:
    """The last hours and days at a station."""
    reports = observations.all()
    if reports is None:
        return {"times": [], "variables": {}, "days": []}
    offset = utc_offset(region, reports["time"].values[-1])
    times: np.ndarray = np.array([], dtype="datetime64[h]")
    shown = {}
    for variable, (factor, decimals) in VARIABLES.items():
        grid, values = hourly(reports, variable, station)
        if values.size and np.isfinite(values[-OBSERVED_HOURS:]).any():
            times = grid[-OBSERVED_HOURS:]
            shown[variable] = numbers(values[-OBSERVED_HOURS:] * factor, decimals)
    ends = [int(clock[:2]) for clock in region.rain.day_ends_local]
    days = past_days(reports.isel(time=slice(-34 * 24, None)), station, offset, ends)[-31:]
    return {"times": [stamp(time) for time in times], "variables": shown, "days": days, "simulated": bool(reports.attrs.get("simulated"))}


def comfort_of(cycle: Cycle, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    """:func:`serving.comfort.comfort` at a station, with the two days observed before the cycle in front where there are reports."""
    at = {"station": position_of(cycle, "stations", station)}
    needed = ("temperature_2m", "dew_point_temperature_2m", "precipitation_amount")
    if any(name not in cycle.dataset("stations") for name in needed):
        return {"days": [], "reason": f"The cycle lacks one of {', '.join(needed)}."}
    temperature, dew_point, rain = (cycle.read("stations", name, **at).astype(np.float64) for name in needed)
    leads, intervals = leads_of(cycle, "stations"), intervals_of(cycle, "stations")
    humidity = relative_humidity(temperature, np.minimum(dew_point, temperature))
    past = _before(observations, station, cycle.init_time, temperature.shape[1])
    if past is not None:
        start = int(leads[0] == past.hours[-1])     # what was observed at the start stands for the forecast of it
        leads = np.concatenate([past.hours, leads[start:]])
        temperature, dew_point, humidity, rain = (
            np.concatenate([before, now[start:]])
            for before, now in ((past.temperature, temperature), (past.dew_point, dew_point), (past.humidity, humidity), (past.rain, rain))
        )
        intervals = np.concatenate([past.interval, intervals[start:]])
    offset = utc_offset(region, cycle.init_time)
    midnight = float(-((cycle.init_time.astype("datetime64[h]").astype(int) + offset) % 24))
    weather = Weather(leads, temperature, dew_point, humidity, rain, intervals)
    found = comfort(weather, midnight, region.temperature.cold_mean, region.temperature.heat_maximum)
    local = [cycle.init_time + np.timedelta64(round(end) + offset - 24, "h") for end in found["end"]]
    return found | {
        "days": [str(day)[:10] for day in local], "observed_until": None if past is None else float(past.hours[-1]),
        "cold_mean": region.temperature.cold_mean, "heat_maximum": region.temperature.heat_maximum,
    }


def _before(observations: Observations, station: str, init_time: np.datetime64, members: int) -> Weather | None:
    """Three-hourly reports of the 72 h up to the cycle's start, the same in every member; None where there is none.

    A time without temperature and dew point is left out; rain that is not known in full is NaN.
    """
    reports = observations.all()
    if reports is None:
        return None
    wanted = init_time.astype("datetime64[h]") + np.arange(-72, 1, 3)
    temperature, dew_point = (_at(hourly(reports, name, station), wanted) for name in ("temperature_2m", "dew_point_temperature_2m"))
    rain = np.stack([_at(hourly(reports, "precipitation_amount", station), wanted - back) for back in range(3)]).sum(axis=0)
    known = np.isfinite(temperature) & np.isfinite(dew_point)
    if not known.any():
        return None
    temperature, dew_point, rain = (np.repeat(values[known, None], members, axis=1) for values in (temperature, dew_point, rain))
    hours = (wanted[known] - init_time.astype("datetime64[h]")).astype(float)
    humidity = relative_humidity(temperature, np.minimum(dew_point, temperature))
    return Weather(hours, temperature, dew_point, humidity, rain, np.full(hours.shape, 3.0))


def _at(series: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """Values of an hourly series at some hours, NaN outside it."""
    times, values = series
    if not times.size:
        return np.full(wanted.shape, np.nan)
    place = (wanted - times[0]).astype(int)
    inside = (place >= 0) & (place < times.size)
    return np.where(inside, values[np.where(inside, place, 0)], np.nan)


def runs_of_cycles(store: PublishedCycles, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    """The newest cycles beside each other for the same local days: highest temperature, 24 h rain, P(> 50 mm) and surge onset."""
    newest: dict[str, str] = {}
    for name in store.names():
        newest.setdefault(name.key, name.id)
    rows = []
    for cycle_id in list(newest.values())[:RUNS]:
        try:
            rows.append(_run(store.cycle(cycle_id), region, observations, station))
        except GiomuaError:         # an older cycle that is gone or damaged leaves its row out
            continue
    return {"runs": rows}


def _run(cycle: Cycle, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    at = {"station": position_of(cycle, "stations", station)}
    days = daily_of(cycle, "daily", at)
    comforts = comfort_of(cycle, region, observations, station)
    surge = dict(zip(comforts["days"], comforts.get("surge", []), strict=False))
    chances: dict[str, Any] = {}
    if "risk" in cycle.groups:
        group = cycle.dataset("risk")
        place = [str(name) for name in group["forecaster"].values].index("blend")
        rule = np.flatnonzero((group["rule_window"].values == 24) & (group["rule_threshold"].values == 50.0))
        if rule.size:
            values = cycle.read("risk", "precipitation_risk", station=position_of(cycle, "risk", station))[place, :, rule[0]]
            chances = {stamp(end): value for end, value in zip(group["day_end"].values, numbers(values, 3), strict=True)}
    return {
        "id": cycle.id, "init_time": stamp(cycle.init_time), "daily": days, "above_50": chances,
        "surge": {day: chance for day, chance in surge.items() if chance is not None},
    }
