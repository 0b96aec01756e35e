"""NOAA's Global Historical Climatology Network hourly (GHCNh), which follows ISD: one file a station and year, fields between bars.

``by-year/YYYY/psv/GHCNh_ID_YYYY.psv`` below the base. Columns are found by their names in the first line. Precipitation without hours
in its name is hourly, but from a SYNOP report (FM-12) it may be a total over 6, 12 or 24 h, and is kept without an interval.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.errors import DecodeError
from data_catalog.observations import Gathered, Reports, fetch, whole_lines
from data_catalog.sources.base import StationSpec, Transport, calendar_years
from data_catalog.stations import Station, by_code
from data_catalog.variables import TRACE

SPEC: Final = StationSpec(
    network="ghcnh",
    title="NOAA GHCN hourly",
    url="https://www.ncei.noaa.gov/oa/global-historical-climatology-network/hourly/access",
    delay_hours=48.0,
    variables=(
        "temperature_2m", "dew_point_temperature_2m", "relative_humidity_2m", "pressure_reduced_to_mean_sea_level",
        "wind_from_direction_10m", "wind_speed_10m", "wind_u_10m", "wind_v_10m", "wind_gust_10m", "visibility",
        "total_cloud_cover_atmosphere", "precipitation_amount",
    ),
    licence="NOAA public domain",
)    # fmt: skip

_COLUMNS: Final[Mapping[str, tuple[str, float]]] = {
    "temperature": ("temperature_2m", 1.0),
    "dew_point_temperature": ("dew_point_temperature_2m", 1.0),
    "relative_humidity": ("relative_humidity_2m", 1.0),
    "sea_level_pressure": ("pressure_reduced_to_mean_sea_level", 100.0),
    "wind_direction": ("wind_from_direction_10m", 1.0),
    "wind_speed": ("wind_speed_10m", 1.0),
    "wind_gust": ("wind_gust_10m", 1.0),
    "visibility": ("visibility", 1000.0),
}
_NO_DIRECTION: Final = 999.0
_HOURS: Final = (3, 6, 9, 12, 15, 18, 21, 24)
_SYNOP: Final = "FM-12"


@dataclass(frozen=True, slots=True)
class Ghcnh:
    """Reports of the stations with a ``ghcnh`` alias.

    Attributes:
        stations: Stations of the region.
        spec: What it declares.
    """

    stations: tuple[Station, ...]
    spec: StationSpec = SPEC

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        codes = by_code(self.stations, "ghcnh")
        gathered = Gathered(self.spec, codes.values(), since, until)
        years = calendar_years(since, until)
        wanted = {f"by-year/{year}/psv/GHCNh_{code}_{year}.psv": code for code in codes for year in years}
        for url, data in fetch(gathered, transport, wanted):
            rows = csv.DictReader(io.StringIO(whole_lines(gathered, url, data)), delimiter="|")
            columns = rows.fieldnames or ()
            if not {"temperature", "DATE"} <= set(columns) and not {"temperature", "Year"} <= set(columns):
                reason = f"the first line is {str(columns)[:80]!r}; expected a header with temperature and DATE or Year"
                gathered.flaw(url, reason, data=data)
                continue
            for number, row in enumerate(rows, 2):
                with gathered.part(url, number, data):
                    _take(gathered, codes[wanted[url]], wanted[url], row)
        return gathered.reports()


def _take(gathered: Gathered, station: Station, code: str, row: Mapping[str, str | None]) -> None:
    """One line; everything is read before anything is taken."""
    if None in row.values():
        raise DecodeError("the line has fewer fields than the first line")

    def text(*names: str) -> str:
        return next((value.strip() for name in names if (value := row.get(name))), "")

    stated = text("STATION", "Station_ID")
    if stated != code:
        raise DecodeError(f"the line is of station {stated!r}, expected {code}")
    date = text("DATE") or "{}-{:0>2}-{:0>2}T{:0>2}:{:0>2}".format(*(text(name) for name in ("Year", "Month", "Day", "Hour", "Minute")))
    time = np.datetime64(date.removesuffix("Z"), "s")
    values: list[tuple[str, float, float]] = []
    for column, (variable, factor) in _COLUMNS.items():
        value = _number(text(column)) * factor
        if not (variable == "wind_from_direction_10m" and value == _NO_DIRECTION):
            values.append((variable, value, math.nan))
    covers = [float(oktas) for name in ("sky_cover_1", "sky_cover_2", "sky_cover_3") if (oktas := text(name).rpartition(":")[2]).isdigit()]
    values.append(("total_cloud_cover_atmosphere", 12.5 * max((oktas for oktas in covers if oktas <= 8), default=math.nan), math.nan))
    hourly = math.nan if _SYNOP in text("precipitation_Report_Type") else 1.0
    values.append(("precipitation_amount", _rain(text("precipitation")), hourly))
    values += [("precipitation_amount", _rain(text(f"precipitation_{hours}_hour")), float(hours)) for hours in _HOURS]
    values += [("reported_latitude", _number(text("LATITUDE", "Latitude")), math.nan)]
    values += [("reported_longitude", _number(text("LONGITUDE", "Longitude")), math.nan)]
    for variable, value, hours in values:
        gathered.add(station, time, variable, value, hours)


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _rain(text: str) -> float:
    return TRACE if text == "T" else _number(text)
