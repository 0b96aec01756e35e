"""Aerodrome reports (METAR and SPECI) from the Aviation Weather Center, as JSON.

``api/data/metar?ids=VVNB&format=json&hours=N`` lists the reports of the last N hours. Wind is in knots, visibility in statute miles,
precipitation in inches, pressure in hPa whatever the report itself used. What an aerodrome leaves out is not known: a gust is stated
only 10 knots above the mean wind (ICAO Annex 3, appendix 3, 4.1.5.2), and rain not at all in most of the world.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from data_catalog.errors import DecodeError
from data_catalog.observations import KNOT, MILE, Gathered, Reports, fetch
from data_catalog.sources.base import StationSpec, Transport
from data_catalog.stations import Station, by_code

SPEC: Final = StationSpec(
    network="metar",
    title="METAR, Aviation Weather Center",
    url="https://aviationweather.gov",
    delay_hours=0.25,
    variables=(
        "temperature_2m", "dew_point_temperature_2m", "relative_humidity_2m", "wind_u_10m", "wind_v_10m", "wind_speed_10m",
        "wind_from_direction_10m", "wind_gust_10m", "pressure_reduced_to_mean_sea_level", "total_cloud_cover_atmosphere", "visibility",
    ),
    licence="NOAA public domain",
)    # fmt: skip

_INCH: Final = 25.4
_LOW: Final = 50.0              # m: below it QNH is the pressure reduced to mean sea level within 0.4 hPa, whatever the temperature
_COVER: Final[Mapping[str, float]] = {"SKC": 0, "CLR": 0, "NSC": 0, "NCD": 0, "FEW": 18.75, "SCT": 43.75, "BKN": 75, "OVC": 100}
"""Percent: the middle of 1-2, 3-4 and 5-7 oktas (WMO-No. 306, code table 2700 and FM 15)."""
_SUMS: Final[Mapping[str, float]] = {"precip": 1, "pcp3hr": 3, "pcp6hr": 6, "pcp24hr": 24}
_EXTREMES: Final[Mapping[str, tuple[str, float]]] = {
    "maxT": ("temperature_2m_max", 6), "minT": ("temperature_2m_min", 6),
    "maxT24": ("temperature_2m_max", 24), "minT24": ("temperature_2m_min", 24),
}    # fmt: skip


@dataclass(frozen=True, slots=True)
class Metar:
    """Reports of the stations with a ``metar`` alias.

    Attributes:
        stations: Stations of the region.
        spec: What it declares.
    """

    stations: tuple[Station, ...]
    spec: StationSpec = SPEC

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        known = by_code(self.stations, "metar")
        gathered = Gathered(self.spec, known.values(), since, until)
        back = max(1, math.ceil((np.datetime64("now") - since.astype("datetime64[s]")) / np.timedelta64(1, "h")))
        for url, data in fetch(gathered, transport, [f"api/data/metar?ids={','.join(known)}&format=json&hours={back}"] if known else []):
            take(gathered, url, data, known)
        return gathered.reports()


def take(gathered: Gathered, url: str, data: bytes, known: Mapping[str, Station]) -> None:
    """Every report of an answer; what cannot be read is put down.

    Args:
        gathered: Where to.
        url: Where the answer is from.
        data: JSON: a list of reports.
        known: Stations by their ICAO code.
    """
    try:
        rows = json.loads(data)
        if not isinstance(rows, list):
            raise DecodeError(f"the answer is a {type(rows).__name__}; expected a list of reports")
    except ValueError as error:
        gathered.flaw(url, f"the answer is no list of reports in JSON: {error}", data=data)
        return
    for number, row in enumerate(rows, 1):
        with gathered.part(url, number, data):
            station = known.get(row["icaoId"])
            if station is not None:
                _take(gathered, station, row)


def _take(gathered: Gathered, station: Station, row: Mapping[str, Any]) -> None:
    """One report; everything is read before anything is taken."""
    time = np.datetime64(int(row["obsTime"]), "s")
    came = row.get("receiptTime")
    available = np.datetime64(str(came).replace(" ", "T").rstrip("Z"), "s") if came else None
    values: list[tuple[str, float, float]] = [
        ("temperature_2m", _number(row.get("temp")), math.nan),
        ("dew_point_temperature_2m", _number(row.get("dewp")), math.nan),
        ("wind_speed_10m", _number(row.get("wspd")) * KNOT, math.nan),
        ("wind_gust_10m", _number(row.get("wgst")) * KNOT, math.nan),
        ("wind_from_direction_10m", math.nan if row.get("wdir") == "VRB" else _number(row.get("wdir")), math.nan),
        ("pressure_reduced_to_mean_sea_level", _pressure(row, station), math.nan),
        ("visibility", _miles(row.get("visib")) * MILE, math.nan),
        ("total_cloud_cover_atmosphere", _cover(row), math.nan),
        *(("precipitation_amount", _number(row.get(name)) * _INCH, hours) for name, hours in _SUMS.items()),
        *((variable, _number(row.get(name)), hours) for name, (variable, hours) in _EXTREMES.items()),
        ("reported_latitude", _number(row.get("lat")), math.nan),
        ("reported_longitude", _number(row.get("lon")), math.nan),
    ]
    for variable, value, hours in values:
        gathered.add(station, time, variable, value, hours, available)


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _pressure(row: Mapping[str, Any], station: Station) -> float:
    """Pa: as reported reduced to sea level, else QNH where the aerodrome is low."""
    reduced = _number(row.get("slp"))
    if math.isnan(reduced) and station.elevation < _LOW:
        reduced = _number(row.get("altim"))
    return reduced * 100.0


def _miles(value: Any) -> float:
    """``6``, ``"10+"``, ``"1 1/2"``, ``"P6SM"``: beyond what is measured the limit stands."""
    text = str(value if value is not None else "").upper().strip("+PM<>").removesuffix("SM")
    return float(sum(Fraction(part) for part in text.split())) if text else math.nan


def _cover(row: Mapping[str, Any]) -> float:
    layers = [layer.get("cover") for layer in row.get("clouds") or ()]
    covers = [_COVER[layer] for layer in (layers or [row.get("cover")]) if layer in _COVER]
    return max(covers, default=math.nan)
