"""Aerodrome reports of the past from the Iowa Environmental Mesonet: CSV, one request a station.

Its hourly precipitation is left alone: where a report has none, which is everywhere but in North America, the archive says 0.00.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.observations import KNOT, MILE, Gathered, Reports, fetch, whole_lines
from data_catalog.sources import metar
from data_catalog.sources.base import StationSpec, Transport
from data_catalog.stations import Station, by_code

SPEC: Final = StationSpec(
    network="iem",
    title="METAR archive, Iowa Environmental Mesonet",
    url="https://mesonet.agron.iastate.edu",
    delay_hours=0.5,
    variables=tuple(name for name in metar.SPEC.variables if name != "total_cloud_cover_atmosphere"),
    licence="Iowa Environmental Mesonet, free to use with citation",
)

_COLUMNS: Final[Mapping[str, tuple[str, float]]] = {
    "tmpc": ("temperature_2m", 1.0),
    "dwpc": ("dew_point_temperature_2m", 1.0),
    "drct": ("wind_from_direction_10m", 1.0),
    "sknt": ("wind_speed_10m", KNOT),
    "gust": ("wind_gust_10m", KNOT),
    "mslp": ("pressure_reduced_to_mean_sea_level", 100.0),
    "vsby": ("visibility", MILE),
}


@dataclass(frozen=True, slots=True)
class Iem:
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
        wanted = {request(code, since, until): code for code in known}
        for url, data in fetch(gathered, transport, wanted):
            rows = csv.DictReader(io.StringIO(whole_lines(gathered, url, data)))
            if (rows.fieldnames or [])[:2] != ["station", "valid"]:
                gathered.flaw(url, f"the answer begins with {data[:60]!r}; expected the columns station,valid,...", data=data)
                continue
            for number, row in enumerate(rows, 2):
                with gathered.part(url, number, data):
                    time = np.datetime64(row["valid"].replace(" ", "T"), "s")
                    values = [(variable, _number(row[column]) * factor) for column, (variable, factor) in _COLUMNS.items()]
                    for variable, value in values:
                        gathered.add(known[row["station"]], time, variable, value)
        return gathered.reports()


def request(code: str, since: np.datetime64, until: np.datetime64) -> str:
    """Address of the reports of one aerodrome, both ends included, UTC."""
    data = "&".join(f"data={column}" for column in _COLUMNS)
    start, stop = (f"{time.astype('datetime64[m]')}Z" for time in (since, until))
    times = f"sts={start}&ets={stop}&tz=UTC"
    return f"cgi-bin/request/asos.py?station={code}&{data}&{times}&format=onlycomma&missing=M&report_type=3&report_type=4"


def _number(text: str) -> float:
    return math.nan if text in ("M", "") else float(text)
