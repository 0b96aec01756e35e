"""Places of the simulated atmosphere: where they are, and how coast, mountains and the city shape their weather.

Coast and mountains of northern Vietnam are smooth closed forms, read off a map by eye: right to some 20 km, which is what a grid of 25 km
sees. The city stands where the normals were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from scipy.special import ndtr

from data_catalog.simulated.noise import KM_PER_DEGREE, Floats
from data_catalog.stations import Station

_COAST_LATITUDE: Final = (18.5, 19.0, 20.0, 20.7, 21.0, 21.4, 21.55)
_COAST_LONGITUDE: Final = (105.9, 105.75, 106.6, 106.95, 107.4, 108.0, 111.0)
_COAST_WIDTH: Final = 0.15  # degrees over which land turns into sea
_PLATEAU: Final = 900.0  # m, the uplands north and west of the delta
_RIDGE: Final = (22.2, 104.0, 1100.0, 25.0, 90.0)  # Hoàng Liên Sơn: latitude, longitude, m, km across and along, running to the south-east
_CITY_KM: Final = 9.0  # radius of the city
_CELL_KM: Final = 8.0  # standard deviation of a place within a cell of 28 km
_UNKNOWN_ELEVATION: Final = 10.0  # m


@dataclass(frozen=True, eq=False)
class Points:
    """Places at which the atmosphere is evaluated, and how they lie.

    Attributes:
        latitude: degrees_north, shape (point,).
        longitude: degrees_east, shape (point,).
        elevation: m, shape (point,).
        gauges: Whether they are points; otherwise they are cells of a grid.
    """

    latitude: Floats
    longitude: Floats
    elevation: Floats
    gauges: bool = False

    @classmethod
    def grid(cls, latitude: Floats, longitude: Floats) -> Points:
        """Cells of a grid, in the order of ``values.reshape(latitude.size, longitude.size)``, on smooth terrain."""
        lat, lon = (axis.ravel() for axis in np.meshgrid(latitude, longitude, indexing="ij"))
        return cls(lat, lon, terrain(lat, lon))

    @classmethod
    def stations(cls, stations: Sequence[Station]) -> Points:
        """Stations at their own elevation; one of unknown elevation stands at 10 m."""
        place = np.array([[s.latitude, s.longitude, s.elevation] for s in stations], dtype=np.float64).reshape(-1, 3)
        return cls(place[:, 0], place[:, 1], np.where(np.isfinite(place[:, 2]), place[:, 2], _UNKNOWN_ELEVATION), gauges=True)

    def only(self, chosen: np.ndarray) -> Points:
        """Some of the places, by their numbers."""
        return Points(self.latitude[chosen], self.longitude[chosen], self.elevation[chosen], self.gauges)

    @property
    def size(self) -> int:
        """Number of points."""
        return int(self.latitude.size)

    @cached_property
    def relief(self) -> Floats:
        """0 in the plains and at sea, 1 in the mountains."""
        return relief(self.latitude, self.longitude)

    @cached_property
    def sea(self) -> Floats:
        """0 inland, 1 over the Gulf of Tonkin, one half on the coast."""
        coast = np.interp(self.latitude, _COAST_LATITUDE, _COAST_LONGITUDE)
        return np.asarray(ndtr((self.longitude - coast) / _COAST_WIDTH))

    @property
    def shore(self) -> Floats:
        """1 on the coast, fading to 0 inland and at sea."""
        return 4.0 * self.sea * (1.0 - self.sea)

    def city(self, latitude: float, longitude: float) -> Floats:
        """How urban a place is: 1 in the centre, a Gaussian around it; a cell has the mean of its places."""
        east, north = self.kilometres(latitude, longitude)
        width = _CITY_KM**2 + (0.0 if self.gauges else 2.0 * _CELL_KM**2)
        return np.asarray(_CITY_KM**2 / width * np.exp(-(east**2 + north**2) / width))

    def kilometres(self, latitude: float, longitude: float) -> tuple[Floats, Floats]:
        """Distance east and north of an origin on the tangent plane, km."""
        east = (self.longitude - longitude) * KM_PER_DEGREE * np.cos(np.radians(latitude))
        return east, (self.latitude - latitude) * KM_PER_DEGREE


def relief(latitude: Floats, longitude: Floats) -> Floats:
    """A smooth outline of the mountains north and west of the Red River delta, 0 to 1."""
    north = ndtr((latitude - 22.0) / 0.3)
    west = ndtr((104.9 + 0.35 * (21.0 - latitude) - longitude) / 0.3)
    return np.asarray(1.0 - (1.0 - north) * (1.0 - west))


def terrain(latitude: Floats, longitude: Floats) -> Floats:
    """Smooth elevation of the ground, m: the uplands and the one high ridge."""
    lat, lon, height, across_km, along_km = _RIDGE
    east, north = (longitude - lon) * KM_PER_DEGREE * np.cos(np.radians(lat)), (latitude - lat) * KM_PER_DEGREE
    along, across = (east - north) / np.sqrt(2.0), (east + north) / np.sqrt(2.0)
    ridge = height * np.exp(-((across / across_km) ** 2) - (along / along_km) ** 2)
    return np.asarray(_PLATEAU * relief(latitude, longitude) + ridge)
