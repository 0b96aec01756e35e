"""What gauges make of the truth: their surroundings, their resolution and their gaps, each a pure function of station and time."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from data_catalog.simulated.noise import Floats, between_knots, normals
from data_catalog.stations import Station

_SURROUNDINGS, _REPORT, _OUTAGE = 4, 5, 6  # streams of the generator
_SURROUNDINGS_HOURS: Final = 6.0
_TEMPERATURE_SD: Final = 0.5  # K, streets, trees and paddies around a station
_WIND_SD: Final = 0.6  # m/s
_OUTAGE_HOURS: Final = 36
_OUTAGE_NORMAL: Final = 2.3  # standard normal above which a station is silent for a slot: 1.1 % of the time
_GAP_NORMAL: Final = 2.6  # and above which one report is lost: 0.5 %

RESOLUTION: Final[Mapping[str, float]] = {
    "temperature_2m": 0.1,
    "dew_point_temperature_2m": 0.1,
    "wind_u_10m": 0.1,
    "wind_v_10m": 0.1,
    "wind_speed_10m": 0.1,
    "wind_gust_10m": 0.1,
    "pressure_reduced_to_mean_sea_level": 10.0,
    "total_cloud_cover_atmosphere": 12.5,
    "precipitation_amount": 0.1,
    "downward_short_wave_radiation_flux_surface": 1.0,
}
"""Smallest step of a report, in catalog units: cloud comes in eighths, rain from a gauge of 0.1 mm."""


def report(seed: int, stations: Sequence[Station], hours: Floats, truth: Mapping[str, Floats]) -> dict[str, Floats]:
    """What the stations report.

    Args:
        seed: The world.
        stations: Who reports.
        hours: Whole hours since 1970, shape (time,).
        truth: Weather at the stations by variable, shape (time, station).

    Returns:
        By variable, shape (time, station), float32, NaN where nothing was reported: rounded, dew point <= temperature, gust >= wind speed.
    """
    around = np.stack([_surroundings(seed, station, hours) for station in stations], axis=1)  # (time, station, 3)
    silent = np.stack([_silent(seed, station, hours) for station in stations], axis=1)
    temperature = truth["temperature_2m"] + _TEMPERATURE_SD * around[..., 0]
    depression = truth["temperature_2m"] - truth["dew_point_temperature_2m"]
    east, north = truth["wind_u_10m"] + _WIND_SD * around[..., 1], truth["wind_v_10m"] + _WIND_SD * around[..., 2]
    speed = np.hypot(east, north)
    values = {
        **truth,
        "temperature_2m": temperature,
        "dew_point_temperature_2m": temperature - depression,
        "wind_u_10m": east,
        "wind_v_10m": north,
        "wind_speed_10m": speed,
        "wind_gust_10m": np.maximum(truth["wind_gust_10m"], speed),
    }
    rounded = {name: np.round(exact.astype(np.float64) / RESOLUTION[name]) * RESOLUTION[name] for name, exact in values.items()}
    return {name: np.where(silent, np.nan, value).astype(np.float32) for name, value in rounded.items()}


def _key(station: Station) -> int:
    """A number of the station below 65,536 that does not depend on which others there are."""
    return zlib.crc32(station.id.encode()) & 0xFFFF


def _surroundings(seed: int, station: Station, hours: Floats) -> Floats:
    """Three unit-variance series (time, 3) that change over some hours."""
    position = hours / _SURROUNDINGS_HOURS
    first, last = int(np.floor(position.min())), int(np.floor(position.max())) + 1
    draws = np.stack([normals(seed, (_SURROUNDINGS, _key(station), 0), knot, (3,)) for knot in range(first, last + 1)])
    return between_knots(position, draws, first)


def _silent(seed: int, station: Station, hours: Floats) -> np.ndarray:
    """Whether there is no report, shape (time,)."""
    slots, inverse = np.unique((hours // _OUTAGE_HOURS).astype(int), return_inverse=True)
    outage = np.array([normals(seed, (_OUTAGE, _key(station), 0), int(slot), (1,))[0] > _OUTAGE_NORMAL for slot in slots])
    days, day = np.unique((hours // 24.0).astype(int), return_inverse=True)
    lost = np.stack([normals(seed, (_REPORT, _key(station), 0), int(number), (24,)) > _GAP_NORMAL for number in days])
    return np.asarray(outage[inverse] | lost[day, (hours % 24.0).astype(int)])
