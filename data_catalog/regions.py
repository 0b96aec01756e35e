"""Regions: the box that is kept, its grid, its city and its thresholds, read from one configuration file.

Another city is another TOML file like ``config/hanoi.toml``; name it, or its path, in the setting ``region``.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_catalog.errors import ConfigurationError
from data_catalog.stations import Station

_CONFIG = Path(__file__).parent / "config"


class Box(BaseModel):
    """A box in degrees; longitudes -180..180."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    latitude_north: float = Field(ge=-90, le=90)
    latitude_south: float = Field(ge=-90, le=90)
    longitude_west: float = Field(ge=-180, le=180)
    longitude_east: float = Field(ge=-180, le=180)
    citation: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        if not (self.latitude_south < self.latitude_north and self.longitude_west < self.longitude_east):
            raise ValueError("the box is empty: south must be below north, and west left of east")
        return self

    def contains(self, latitude: float, longitude: float) -> bool:
        """Whether a point in degrees lies in the box, its edges included."""
        return (
            self.latitude_south <= latitude <= self.latitude_north and self.longitude_west <= longitude <= self.longitude_east
        )


class Tiny(Box):
    """The cut of a region that the profile ``tiny`` works on."""

    stations: tuple[str, ...]


class RainRules(BaseModel):
    """Thresholds and windows of the duty practice; mm and hours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day_ends_local: tuple[str, ...]
    thresholds_24h: tuple[float, ...]
    inclusive_24h: tuple[bool, ...]
    thresholds_3h: tuple[float, ...]
    thresholds_2h: tuple[float, ...] = ()
    windows_hours: tuple[int, ...]
    citation: str


class TemperatureRules(BaseModel):
    """Heat by daily maximum and cold by daily mean, degree_Celsius."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heat_maximum: tuple[float, ...]
    cold_mean: tuple[float, ...]
    citation: str


class Region(Box):
    """A region and everything that is particular to it."""

    id: str
    title: str
    title_vi: str = ""
    timezone: str
    resolution: float = Field(gt=0, description="degrees")
    city: Box
    tiny: Tiny
    rain: RainRules
    temperature: TemperatureRules
    stations: tuple[Station, ...]
    normals: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def latitude(self) -> np.ndarray:
        """Grid latitudes, descending, degrees_north."""
        count = round((self.latitude_north - self.latitude_south) / self.resolution) + 1
        return np.round(self.latitude_north - self.resolution * np.arange(count), 6)

    @property
    def longitude(self) -> np.ndarray:
        """Grid longitudes, ascending, degrees_east."""
        count = round((self.longitude_east - self.longitude_west) / self.resolution) + 1
        return np.round(self.longitude_west + self.resolution * np.arange(count), 6)


    @property
    def operating(self) -> tuple[Station, ...]:
        """The stations that report today: those a forecast is made for."""
        return tuple(station for station in self.stations if station.operating)

    def cut(self) -> Region:
        """The same region on the box and the stations of its profile ``tiny``."""
        box = self.tiny.model_dump(exclude={"stations"})
        kept = tuple(station for station in self.stations if station.id in self.tiny.stations)
        return self.model_copy(update={**box, "stations": kept})


@lru_cache(maxsize=8)
def load_region(name: str = "hanoi") -> Region:
    """Read a region by name or by the path of its TOML file.

    Args:
        name: ``hanoi``, another file of ``data_catalog/config``, or a path ending in ``.toml``.

    Returns:
        The region, frozen.

    Raises:
        ConfigurationError: No such file, or a value in it cannot be used.
    """
    path = Path(name) if name.endswith(".toml") else _CONFIG / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in _CONFIG.glob("*.toml")))
        raise ConfigurationError(f"No region {name!r} at {path}; name one of {known}, or the path of a TOML file like them.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        region = raw.pop("region")
        return Region(**region, **raw)
    except (tomllib.TOMLDecodeError, KeyError, ValidationError) as error:
        raise ConfigurationError(f"The region file {path} cannot be used: {error}") from error
