"""What the simulated atmosphere is like on average: seasons, hours of the day, sun and terrain, in closed form.

Monthly values stand at mid-month and are joined linearly; normals come from the region's own file. Times are hours since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from data_catalog.errors import ConfigurationError
from data_catalog.regions import Region
from data_catalog.simulated.noise import KM_PER_DEGREE, YEAR_HOURS, Floats
from data_catalog.stations import Station

_MONTH_HOURS: Final = YEAR_HOURS / 12.0
_MID_MONTH: Final = (np.arange(-1, 13) + 0.5) * _MONTH_HOURS

LAPSE_RATE: Final = 0.006
"""K per m: how much colder it is higher up."""


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


# January to December, tried in the prototype of the full nature run.
_CONVECTIVE: Final = (0.0, 0.0, 0.15, 0.5, 0.9, 1.0, 1.0, 1.0, 0.9, 0.6, 0.25, 0.0)
_TEMPERATURE_SD: Final = (2.2, 2.5, 2.2, 2.0, 1.7, 1.5, 1.4, 1.4, 1.2, 1.6, 1.9, 2.1)  # K, without cold surges
_PRESSURE: Final = (1020.0, 1018.0, 1015.0, 1011.5, 1007.5, 1003.5, 1003.0, 1004.0, 1008.5, 1013.5, 1017.0, 1020.0)  # hPa
_PRESSURE_SD: Final = (2.6, 2.8, 2.8, 2.6, 2.2, 1.9, 1.9, 1.9, 2.0, 2.0, 2.2, 2.4)  # hPa
_CLOUD: Final = (0.72, 0.85, 0.92, 0.80, 0.60, 0.62, 0.60, 0.60, 0.50, 0.45, 0.45, 0.50)  # latent threshold of half cover
_MONSOON_EAST: Final = (-1.6, -1.7, -1.6, -1.4, -1.0, -0.4, -0.3, -0.5, -0.9, -1.3, -1.4, -1.5)  # m/s
_MONSOON_NORTH: Final = (-1.3, -0.6, 0.4, 1.2, 1.6, 1.7, 1.7, 1.0, -0.3, -1.2, -1.6, -1.6)  # m/s
_WET_SUMMER: Final = (0.22, 0.13, 0.11, 0.09, 0.07)  # latent variance by band, the rest is sub-grid
_WET_WINTER: Final = (0.48, 0.20, 0.12, 0.07, 0.05)
# Latent value above which it rains, in standard deviations: what calibrate.py prints.
_RAIN_THRESHOLD: Final = (1.84, 1.81, 1.81, 1.75, 1.67, 1.63, 1.6, 1.61, 1.68, 1.81, 1.91, 1.9)


@dataclass(frozen=True, eq=False)
class Points:
    """Places at which the atmosphere is evaluated, and how they lie.

    Attributes:
        latitude: degrees_north, shape (point,).
        longitude: degrees_east, shape (point,).
        elevation: m, shape (point,).
    """

    latitude: Floats
    longitude: Floats
    elevation: Floats

    @classmethod
    def grid(cls, latitude: Floats, longitude: Floats) -> Points:
        """Cells of a grid, in the order of ``values.reshape(latitude.size, longitude.size)``, on smooth terrain."""
        lat, lon = (axis.ravel() for axis in np.meshgrid(latitude, longitude, indexing="ij"))
        return cls(lat, lon, 1100.0 * relief(lat, lon))

    @classmethod
    def stations(cls, stations: Sequence[Station]) -> Points:
        """Stations at their own elevation; one of unknown elevation stands at 10 m."""
        place = np.array([[s.latitude, s.longitude, s.elevation] for s in stations], dtype=np.float64).reshape(-1, 3)
        return cls(place[:, 0], place[:, 1], np.where(np.isfinite(place[:, 2]), place[:, 2], 10.0))

    @property
    def size(self) -> int:
        """Number of points."""
        return int(self.latitude.size)

    @cached_property
    def relief(self) -> Floats:
        """0 in the plains and at sea, 1 in the mountains."""
        return relief(self.latitude, self.longitude)

    @cached_property
    def sea(self) -> np.ndarray:
        """True over the Gulf of Tonkin."""
        coast = np.interp(
            self.latitude, [18.5, 19.0, 20.0, 20.7, 21.0, 21.4, 21.55], [105.9, 105.75, 106.6, 106.95, 107.4, 108.0, 111.0]
        )
        return np.asarray(self.longitude > coast)

    def kilometres(self, latitude: float, longitude: float) -> tuple[Floats, Floats]:
        """Distance east and north of an origin on the tangent plane, km."""
        east = (self.longitude - longitude) * KM_PER_DEGREE * np.cos(np.radians(latitude))
        return east, (self.latitude - latitude) * KM_PER_DEGREE


def relief(latitude: Floats, longitude: Floats) -> Floats:
    """A smooth outline of the mountains north and west of the Red River delta, 0 to 1."""
    north = ndtr((latitude - 22.0) / 0.3)
    west = ndtr((104.9 + 0.35 * (21.0 - latitude) - longitude) / 0.3)
    return np.asarray(1.0 - (1.0 - north) * (1.0 - west))


def local_hour(hours: Floats, longitude: Floats) -> Floats:
    """Solar hour of the day, shape (time, point)."""
    return (hours[:, None] + longitude[None, :] / 15.0) % 24.0


def _day_shape(hour: Floats) -> Floats:
    """Rise from 5.5 to 14.5 h, then decay: 0 to 1."""
    rising = np.clip(np.sin(np.pi * (hour - 5.5) / 18.0), 0.0, 1.0) ** 1.6
    falling = np.exp(-((((hour - 14.5) % 24.0) / 6.2) ** 1.15))
    return np.where((hour >= 5.5) & (hour <= 14.5), np.maximum(rising, np.exp(-((15.0 / 6.2) ** 1.15))), falling)


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


@dataclass(frozen=True, eq=False)
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
    threshold: tuple[float, ...] = field(default=_RAIN_THRESHOLD)

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

    def convective(self, hours: Floats) -> Floats:
        """Share of the rain that is convective, 0 to 1, shape (time,)."""
        return by_month(_CONVECTIVE, hours)

    def wet_weights(self, hours: Floats) -> Floats:
        """Weight of each band in the rain latent; squares sum to one. Shape (time, band), the last band sub-grid."""
        share = self.convective(hours)[:, None]
        variance = share * np.array(_WET_SUMMER) + (1.0 - share) * np.array(_WET_WINTER)
        return np.asarray(np.sqrt(np.concatenate([variance, 1.0 - variance.sum(axis=1, keepdims=True)], axis=1)))

    def wet_shift(self, hours: Floats, points: Points, early: float = 0.0) -> Floats:
        """Course of the rain latent over the day, in standard deviations, shape (time, point).

        Convection peaks at 18 h over land with a second maximum at 2 h, at 17 h over mountains, at 5 h over the gulf; winter rain at 5 h.

        Args:
            hours: Shape (time,).
            points: Where.
            early: Hours by which convection comes too early: a fault of models.
        """
        hour = local_hour(hours, points.longitude)

        def wave(peak: float, size: float, moved: float = 0.0) -> Floats:
            return size * np.cos(2.0 * np.pi * (hour - peak + moved) / 24.0)

        high = points.relief[None, :]
        land = (1.0 - high) * (wave(18.0, 0.28, early) + wave(2.0, 0.10)) + high * wave(17.0, 0.50, early)
        summer = np.where(points.sea[None, :], wave(5.0, 0.30), land)
        share = self.convective(hours)[:, None]
        return np.asarray(share * summer + (1.0 - share) * wave(5.0, 0.15))

    @cached_property
    def rain_scale(self) -> tuple[float, ...]:
        """Scale of the intensity by month, mm per hour: what makes the expected rain at the place of the normals its normal.

        The expectation over the latent is a one-dimensional integral for each hour of every third day; the scale enters linearly.
        """
        hours = (np.arange(0.0, YEAR_HOURS, 72.0)[:, None] + np.arange(24.0) + 0.5).ravel()
        latent = np.linspace(-1.0, 6.0, 701)
        density = np.exp(-0.5 * latent**2) / np.sqrt(2.0 * np.pi) * (latent[1] - latent[0])
        place = Points(np.array([self.latitude]), np.array([self.longitude]), np.array([self.elevation]))
        shift = self.wet_shift(hours, place)  # (hour, 1)
        threshold = by_month(self.threshold, hours)[:, None]
        unit = unit_intensity(latent[None, :] + shift, threshold, self.shape(hours)[:, None]) @ density
        month = np.minimum(hours / _MONTH_HOURS, 11).astype(int)
        wanted = np.array(self.rain) / _MONTH_HOURS
        scale = wanted / (np.bincount(month, unit, 12) / np.bincount(month))
        for _ in range(20):
            mean = np.bincount(month, unit * by_month(tuple(scale), hours), 12) / np.bincount(month)
            scale = scale * (wanted / mean) ** 0.7
        return tuple(float(value) for value in scale)

    def shape(self, hours: Floats) -> Floats:
        """Shape of the generalised Pareto intensity, shape (time,)."""
        return 0.08 + 0.14 * self.convective(hours)

    def depression(self, hours: Floats) -> Floats:
        """Mean dew point depression that goes with the normal humidity (Magnus, Alduchov and Eskridge 1996), K, shape (time,)."""
        temperature, humidity = by_month(self.temperature, hours), by_month(self.humidity, hours)
        gamma = np.log(humidity / 100.0) + 17.625 * temperature / (243.04 + temperature)
        return temperature - 243.04 * gamma / (17.625 - gamma)

    def seasonal(self, name: str, hours: Floats) -> Floats:
        """A monthly table of this module by name, joined linearly, shape (time,)."""
        return by_month(_TABLES[name], hours)


_TABLES: Final = {
    "temperature_sd": _TEMPERATURE_SD,
    "pressure": _PRESSURE,
    "pressure_sd": _PRESSURE_SD,
    "cloud": _CLOUD,
    "monsoon_east": _MONSOON_EAST,
    "monsoon_north": _MONSOON_NORTH,
}


def unit_intensity(latent: Floats, threshold: ArrayLike, shape: ArrayLike) -> Floats:
    """Rain intensity of scale one: the generalised Pareto quantile of the latent's rank above the threshold, 0 below it.

    Args:
        latent: Any shape.
        threshold: Of rain, broadcast against ``latent``.
        shape: Of the distribution, > 0, likewise.

    Returns:
        float64 of the shape of ``latent``.
    """
    latent = np.asarray(latent, dtype=np.float64)
    wet = latent > np.asarray(threshold)
    bound, xi = (np.broadcast_to(value, latent.shape)[wet] for value in (threshold, shape))
    exceedance = np.maximum(ndtr(-latent[wet]) / ndtr(-bound), 2e-6)
    found = np.zeros(latent.shape)
    found[wet] = (exceedance**-xi - 1.0) / xi
    return found
