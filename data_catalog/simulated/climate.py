"""What the simulated atmosphere is like on average: seasons, hours of the day and the sun, in closed form.

Monthly values stand at mid-month and are joined linearly; normals come from the region's own file. Times are hours since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from data_catalog.errors import ConfigurationError
from data_catalog.regions import Region
from data_catalog.simulated.noise import YEAR_HOURS, Floats
from data_catalog.simulated.places import Points

MONTH_HOURS: Final = YEAR_HOURS / 12.0
_MID_MONTH: Final = (np.arange(-1, 13) + 0.5) * MONTH_HOURS

LAPSE_RATE: Final = 0.006
"""K per m: how much colder it is higher up."""

WARMING: Final = 0.04 / YEAR_HOURS
"""K per hour: June at Hanoi was 30.3 °C in 2015-25 and 29.6 °C in the normals of 1988-2017."""

NORMALS_MIDDLE: Final = 33.0 * YEAR_HOURS
"""Hours since 1970 of the middle of 1988-2017, for which the normals hold."""


def hours_since_1970(times: ArrayLike) -> Floats:
    """Hours since 1970 of numpy datetimes, float64."""
    return np.asarray(times, dtype="datetime64[s]").astype(np.float64) / 3600.0


def by_month(values: Sequence[float], hours: Floats) -> Floats:
    """Monthly values joined linearly between mid-months, round the year.

    Args:
        values: January to December.
        hours: Shape (time,).

    Returns:
        Shape (time,), float64.
    """
    return np.interp(hours % YEAR_HOURS, _MID_MONTH, [values[-1], *values, values[0]])


# January to December.
_CONVECTIVE: Final = (0.0, 0.0, 0.15, 0.5, 0.9, 1.0, 1.0, 1.0, 0.9, 0.6, 0.25, 0.0)  # share of the rain
_TEMPERATURE_SD: Final = (3.1, 3.0, 2.6, 2.2, 1.9, 1.7, 1.7, 1.6, 1.5, 1.9, 2.3, 2.8)  # K, beside surges and heat
_PRESSURE: Final = (1020.0, 1018.0, 1015.0, 1011.5, 1007.5, 1003.5, 1003.0, 1004.0, 1008.5, 1013.5, 1017.0, 1020.0)  # hPa
_PRESSURE_SD: Final = (2.6, 2.8, 2.8, 2.6, 2.2, 1.9, 1.9, 1.9, 2.0, 2.0, 2.2, 2.4)  # hPa
_CLOUD: Final = (0.95, 1.10, 1.15, 0.98, 0.68, 0.68, 0.66, 0.67, 0.62, 0.64, 0.65, 0.72)  # rank of the rain latent with half cover
_MONSOON_EAST: Final = (-1.6, -1.7, -1.6, -1.4, -1.0, -0.4, -0.3, -0.5, -0.9, -1.3, -1.4, -1.5)  # m/s
_MONSOON_NORTH: Final = (-1.3, -0.6, 0.4, 1.2, 1.6, 1.7, 1.7, 1.0, -0.3, -1.2, -1.6, -1.6)  # m/s
_SURGE_DRYING: Final = (0.25, 0.05, -0.05, 0.0, 0.1, 0.2, 0.2, 0.2, 0.3, 0.45, 0.5, 0.45)  # K of depression per K of cold: moist in spring
_NORTHWARD: Final = (0.8, 0.8, 0.7, 0.5, 0.3, 0.1, 0.1, 0.1, 0.3, 0.5, 0.7, 0.8)  # K colder per degree of latitude
_HEAT_ISLAND: Final = (1.8, 1.4, 1.2, 1.2, 1.3, 1.3, 1.2, 1.2, 1.4, 1.8, 2.0, 2.0)  # K at night, middle of the city less open country
_TAKEN: Final = (-0.10, 0.20, 0.05, 0.45, 0.45, 0.35, 0.05, 0.15, 0.20, 0.15, -0.05, -0.20)  # K, by rain, clouds and surges

_TABLES: Final = {
    "convective": _CONVECTIVE,
    "temperature_sd": _TEMPERATURE_SD,
    "pressure": _PRESSURE,
    "pressure_sd": _PRESSURE_SD,
    "cloud": _CLOUD,
    "monsoon_east": _MONSOON_EAST,
    "monsoon_north": _MONSOON_NORTH,
    "surge_drying": _SURGE_DRYING,
    "northward": _NORTHWARD,
    "heat_island": _HEAT_ISLAND,
    "taken": _TAKEN,
}


def seasonal(name: str, hours: Floats) -> Floats:
    """A monthly table of this module by name, joined linearly, shape (time,)."""
    return by_month(_TABLES[name], hours)


def winter(hours: Floats) -> Floats:
    """1 in the middle of January, -1 in the middle of July, shape (time,)."""
    return np.asarray(np.cos(2.0 * np.pi * (hours / YEAR_HOURS - 15.0 / 365.25)))


def local_hour(hours: Floats, longitude: Floats) -> Floats:
    """Solar hour of the day, shape (time, point)."""
    return (hours[:, None] + longitude[None, :] / 15.0) % 24.0


def _day_shape(hour: Floats) -> Floats:
    """Rise from 5.5 to 14.5 h, then decay: 0 to 1."""
    rising = np.clip(np.sin(np.pi * (hour - 5.5) / 18.0), 0.0, 1.0) ** 2.0
    falling = np.exp(-((((hour - 14.5) % 24.0) / 5.2) ** 1.05))
    return np.where((hour >= 5.5) & (hour <= 14.5), np.maximum(rising, np.exp(-((15.0 / 5.2) ** 1.05))), falling)


_DAY_SHAPE_MEAN: Final = float(_day_shape(np.arange(0.0, 24.0, 0.05)).mean())
_DAY_SHAPE_RANGE: Final = float(np.ptp(_day_shape(np.arange(0.0, 24.0, 0.05))))


def day_curve(hour: Floats) -> Floats:
    """Course of temperature over the day: zero mean, range one, lowest before sunrise and highest at 14.5 h solar time."""
    return (_day_shape(hour) - _DAY_SHAPE_MEAN) / _DAY_SHAPE_RANGE


def sun_elevation_sine(hours: Floats, points: Points) -> Floats:
    """Sine of the sun's elevation, negative at night, shape (time, point). Declination by Cooper (1969)."""
    day = (hours / 24.0) % 365.25
    declination = np.radians(23.45) * np.sin(2.0 * np.pi * (day + 284.0) / 365.25)
    angle = np.radians(15.0 * (local_hour(hours, points.longitude) - 12.0))
    latitude = np.radians(points.latitude)[None, :]
    declination = declination[:, None]
    upright, level = np.sin(latitude) * np.sin(declination), np.cos(latitude) * np.cos(declination)
    return np.asarray(upright + level * np.cos(angle))


def clear_sky_hour(hours: Floats, points: Points) -> Floats:
    """Mean clear-sky short wave over the hour ending at ``hours``, W m-2: 910 sin h - 30 (Kasten and Czeplak 1980), eight samples."""
    parts = (np.arange(8) + 0.5) / 8.0
    flux = [np.clip(910.0 * sun_elevation_sine(hours - part, points) - 30.0, 0.0, None) for part in parts]
    return np.asarray(np.mean(flux, axis=0))


@dataclass(frozen=True)
class Climate:
    """Averages of one region.

    Attributes:
        temperature: Monthly means, degree_Celsius.
        range: Mean daily maximum less minimum, K.
        rain: Monthly totals, mm.
        humidity: Monthly mean relative humidity, percent.
        latitude: Of the place of the normals, and origin of the tangent plane.
        longitude: Likewise.
        elevation: Of that place, m.
    """

    temperature: tuple[float, ...]
    range: tuple[float, ...]
    rain: tuple[float, ...]
    humidity: tuple[float, ...]
    latitude: float
    longitude: float
    elevation: float

    @classmethod
    def of(cls, region: Region) -> Climate:
        """The climate that a region's normals give.

        Raises:
            ConfigurationError: The region file has no normals of one of its stations.
        """
        known = {station.id: station for station in region.stations}
        named = next((name for name in region.normals if name in known), None)
        if named is None:
            raise ConfigurationError(
                f"The region {region.id} has normals for {', '.join(region.normals) or 'no station'}; the simulated atmosphere needs those "
                "of one of its stations: add [normals.<station id>] with temperature_mean, _max, _min, rain and humidity."
            )
        normals, station = region.normals[named], known[named]
        spread = tuple(high - low for high, low in zip(normals["temperature_max"], normals["temperature_min"], strict=True))
        return cls(
            tuple(normals["temperature_mean"]),
            spread,
            tuple(normals["rain"]),
            tuple(normals["humidity"]),
            station.latitude,
            station.longitude,
            station.elevation,
        )

    @property
    def place(self) -> Points:
        """The place of the normals, as a gauge."""
        return Points(np.array([self.latitude]), np.array([self.longitude]), np.array([self.elevation]), gauges=True)

    def mean_temperature(self, hours: Floats) -> Floats:
        """Normal temperature of the season with the warming, degree_Celsius, shape (time,)."""
        return by_month(self.temperature, hours) + WARMING * (hours - NORMALS_MIDDLE)

    def depression(self, hours: Floats) -> Floats:
        """Mean dew point depression that goes with the normal humidity (Magnus, Alduchov and Eskridge 1996), K, shape (time,)."""
        temperature, humidity = by_month(self.temperature, hours), by_month(self.humidity, hours)
        gamma = np.log(humidity / 100.0) + 17.625 * temperature / (243.04 + temperature)
        return temperature - 243.04 * gamma / (17.625 - gamma)
