"""Cold, heat and comfort from coupled members: what is counted is counted in each member first, over its own days.

Definitions (data_catalog/config/hanoi.toml and its citations): surge, the first fall of the daily mean by 5 K or more from one day to the
next; rét, rét đậm, rét hại by daily mean; drizzle (mưa phùn), rain below 0.6 mm in 3 h at more than 92 % humidity; nồm, dew point above the
mean temperature of the two days before; heat by daily maximum; wet-bulb temperature by Stull (2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

SURGE_KELVIN: Final = 5.0
SPELL_DAYS: Final = 3
DRIZZLE_MM: Final = 0.6
DRIZZLE_HUMIDITY: Final = 92.0


@dataclass(frozen=True, eq=False)
class Weather:
    """Members at one place; what was observed before the forecast stands in front, the same in every member.

    Attributes:
        hours: Hours after init_time, ascending, shape (T,); observed ones are not positive.
        temperature: degree_Celsius, shape (T, M).
        dew_point: degree_Celsius, shape (T, M).
        humidity: Per cent, shape (T, M).
        rain: mm over ``interval``, shape (T, M), NaN where unknown.
        interval: Hours, shape (T,), NaN where there is none.
    """

    hours: np.ndarray
    temperature: np.ndarray
    dew_point: np.ndarray
    humidity: np.ndarray
    rain: np.ndarray
    interval: np.ndarray


def wet_bulb(temperature: np.ndarray, humidity: np.ndarray) -> np.ndarray:
    """Wet-bulb temperature at 1013 hPa, degree_Celsius.

    Args:
        temperature: degree_Celsius, -20 to 50.
        humidity: Relative, per cent; taken within 5 to 99, where the fit holds to 1 K.

    Returns:
        Same shape.

    References:
        Stull (2011), J. Appl. Meteor. Climatol. 50, 2267-2269, equation 1.
    """
    rh = np.clip(humidity, 5.0, 99.0)
    found: np.ndarray = (
        temperature * np.arctan(0.151977 * np.sqrt(rh + 8.313659)) + np.arctan(temperature + rh) - np.arctan(rh - 1.676331)
        + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh) - 4.686035
    )
    return found


def relative_humidity(temperature: np.ndarray, dew_point: np.ndarray) -> np.ndarray:
    """Relative humidity over water, per cent, by Magnus (Alduchov and Eskridge 1996, equation 21); at most 100."""
    vapour = np.exp(17.625 * dew_point / (243.04 + dew_point) - 17.625 * temperature / (243.04 + temperature))
    found: np.ndarray = np.minimum(100.0 * vapour, 100.0)
    return found


def whole_days(hours: np.ndarray, first_midnight: float) -> list[tuple[float, np.ndarray]]:
    """Local days whose hours are covered with gaps of six hours at most.

    Args:
        hours: Ascending.
        first_midnight: Any local midnight, on the same axis.

    Returns:
        (its end, positions of the hours in (end - 24, end]) of each such day, ascending.
    """
    start = first_midnight + 24 * np.floor((hours[0] - first_midnight) / 24)
    found = []
    for end in np.arange(start + 24, hours[-1] + 24.1, 24):
        inside = np.flatnonzero((hours > end - 24) & (hours <= end))
        edges = np.concatenate([[end - 24], hours[inside], [end]])
        if inside.size >= 4 and np.diff(edges).max() <= 6 and end <= hours[-1] + 3:
            found.append((float(end), inside))
    return found


def runs_of(cold: np.ndarray, length: int) -> np.ndarray:
    """Whether each day (axis 0) lies in an unbroken run of at least ``length`` true days; same shape."""
    found = np.zeros_like(cold)
    for start in range(cold.shape[0] - length + 1):
        found[start : start + length] |= cold[start : start + length].all(axis=0)
    return found


def comfort(weather: Weather, first_midnight: float, cold_mean: tuple[float, ...], heat_maximum: tuple[float, ...]) -> dict[str, Any]:
    """Chances and quantiles by local day.

    Args:
        weather: Members at one place.
        first_midnight: Any local midnight, hours after init_time.
        cold_mean: Daily means of rét, rét đậm and rét hại, degree_Celsius: below the first, at most the second, below the third.
        heat_maximum: Daily maxima of the heat classes, reached or passed.

    Returns:
        ``end``: hours after init_time at which each day ends; then lists by day, None where the day before (or the two before) is unknown:
        ``mean``, ``maximum``, ``minimum``, ``wet_bulb`` (each [10 %, 50 %, 90 %]), ``surge``, ``surge_before_end`` (at any day so far),
        ``cold`` (one list a class), ``spell`` (3 days or more, rét đậm and rét hại), ``drizzle``, ``nom``, ``heat`` (one list a class).
    """
    days = whole_days(weather.hours, first_midnight)
    if not days:
        return {"end": []}
    at = [inside for _, inside in days]
    mean = np.stack([weather.temperature[i].mean(axis=0) for i in at])                      # (day, member)
    highest = np.stack([weather.temperature[i].max(axis=0) for i in at])
    lowest = np.stack([weather.temperature[i].min(axis=0) for i in at])
    wet = np.stack([wet_bulb(weather.temperature[i], weather.humidity[i]).max(axis=0) for i in at])
    ends = np.array([end for end, _ in days])
    follows = np.concatenate([[False], np.diff(ends) == 24])
    falls = np.zeros(mean.shape, dtype=bool)
    falls[1:] = (mean[:-1] - mean[1:] >= SURGE_KELVIN) & follows[1:, None]
    begun = np.cumsum(falls, axis=0)
    onset = falls & (begun == 1)
    mild, severe = mean <= cold_mean[1], mean < cold_mean[2]
    drizzling = np.stack([_drizzle(weather, i) for i in at])
    sticky = np.zeros(mean.shape, dtype=bool)
    for day in range(2, len(days)):
        sticky[day] = (weather.dew_point[at[day]] > (mean[day - 1] + mean[day - 2]) / 2).any(axis=0)
    steps_known = [bool(np.nansum(weather.interval[i][weather.interval[i] <= 3]) >= 24 and np.isfinite(weather.rain[i]).all()) for i in at]
    nom_known = follows & np.concatenate([[False], follows[:-1]])
    return {
        "end": ends.tolist(),
        "mean": _spread(mean), "maximum": _spread(highest), "minimum": _spread(lowest), "wet_bulb": _spread(wet),
        "surge": _shares(onset, follows), "surge_before_end": _shares(begun > 0, follows),
        "cold": [_shares(mean < cold_mean[0]), _shares(mild), _shares(severe)],
        "spell": [_shares(runs_of(mild, SPELL_DAYS)), _shares(runs_of(severe, SPELL_DAYS))],
        "drizzle": _shares(drizzling, np.array(steps_known)),
        "nom": _shares(sticky, nom_known),
        "heat": [_shares(highest >= threshold) for threshold in heat_maximum],
    }  # fmt: skip


def _drizzle(weather: Weather, inside: np.ndarray) -> np.ndarray:
    rain, humid = weather.rain[inside], weather.humidity[inside] > DRIZZLE_HUMIDITY
    short = (weather.interval[inside] <= 3)[:, None]
    return np.asarray((short & humid & (rain > 0) & (rain < DRIZZLE_MM)).any(axis=0))


def _spread(values: np.ndarray) -> list[list[float]]:
    return [[round(float(v), 1) for v in row] for row in np.quantile(values, [0.1, 0.5, 0.9], axis=1).T]


def _shares(passed: np.ndarray, known: np.ndarray | None = None) -> list[float | None]:
    means = passed.mean(axis=1)
    return [round(float(m), 3) if known is None or known[i] else None for i, m in enumerate(means)]
