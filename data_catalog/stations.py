"""Stations: stable ids of our own, and the numbers by which each network knows them.

WMO number 48820 stands for two places 22 km apart (Láng in the SYNOP list, Nội Bài in NOAA's). A number therefore means a
station only together with the network it came through, and :func:`by_alias` refuses a bare one.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from data_catalog.errors import UnknownNameError


class Station(BaseModel):
    """An observing place.

    Attributes:
        id: Stable, lower case, ours.
        name: As people write it.
        latitude: degrees_north.
        longitude: degrees_east.
        elevation: m above sea level, NaN where unknown.
        city: Whether it lies in the city.
        operating: False for a station of the past, kept for its history and left out of forecasts.
        aliases: Number or code by network: ``{"synop": "48825", "metar": "VVNB"}``.
        ambiguous: Numbers that more than one place uses; never joined on.
        citation: Where its coordinates were read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    name: str
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    elevation: float = float("nan")
    city: bool = False
    operating: bool = True
    aliases: dict[str, str] = Field(default_factory=dict)
    ambiguous: tuple[str, ...] = ()
    citation: str = ""


def by_id(stations: Iterable[Station], station_id: str) -> Station:
    """The station with this id.

    Raises:
        UnknownNameError: No station has it; the message lists those there are.
    """
    known = tuple(stations)
    for station in known:
        if station.id == station_id:
            return station
    raise UnknownNameError(f"No station {station_id!r}; known are {', '.join(s.id for s in known)}.")


def by_code(stations: Iterable[Station], network: str) -> dict[str, Station]:
    """The stations that a network knows, by its code."""
    return {station.aliases[network]: station for station in stations if network in station.aliases}


def by_alias(stations: Iterable[Station], network: str, code: str) -> Station | None:
    """The station that a network knows under a code, or None.

    Args:
        stations: Where to look.
        network: ``synop``, ``metar``, ``isd``, ``ghcnd``, ``meteostat`` or ``icao``.
        code: The network's number or code, as text.

    Raises:
        UnknownNameError: ``network`` is empty. A bare number is not a place: 48820 is two.
    """
    if not network:
        raise UnknownNameError(f"The code {code!r} came without its network; 48820, for one, is two places 22 km apart.")
    for station in stations:
        if station.aliases.get(network) == code:
            return station
    return None
