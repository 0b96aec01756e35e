"""NOAA's Integrated Surface Database in its fixed-width form ISD-lite: one gzip file a station and year.

``isd-lite/YYYY/USAF-WBAN-YYYY.gz`` below the base, with the station list ``isd-history.csv`` beside it. Fields are 5, 3, 3, 2 and eight
times 6 wide: year, month, day, hour (UTC), then air temperature, dew point, sea-level pressure, wind direction, wind speed, sky, and
precipitation over 1 and 6 h; tenths but for direction and sky, -9999 missing, -1 a trace. NOAA files Nội Bài under 488200, which the
SYNOP list gives to Láng: the place in the station list goes with every value, and the quality control compares.
"""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.errors import DecodeError
from data_catalog.observations import Gathered, Reports, fetch
from data_catalog.sources.base import StationSpec, Transport, calendar_years
from data_catalog.stations import Station, by_code
from data_catalog.variables import TRACE

SPEC: Final = StationSpec(
    network="isd",
    title="NOAA ISD-lite",
    url="https://www.ncei.noaa.gov/pub/data/noaa",
    delay_hours=48.0,
    variables=(
        "temperature_2m", "dew_point_temperature_2m", "relative_humidity_2m", "pressure_reduced_to_mean_sea_level",
        "wind_from_direction_10m", "wind_speed_10m", "wind_u_10m", "wind_v_10m", "total_cloud_cover_atmosphere", "precipitation_amount",
    ),
    licence="NOAA public domain",
)    # fmt: skip

_HISTORY: Final = "isd-history.csv"
_MISSING: Final = -9999
_ENDS: Final = np.cumsum([5, 3, 3, 2] + [6] * 8)
_LENGTH: Final = int(_ENDS[-1])
_COLUMNS: Final[Mapping[str, tuple[int, float]]] = {
    "temperature_2m": (4, 0.1),
    "dew_point_temperature_2m": (5, 0.1),
    "pressure_reduced_to_mean_sea_level": (6, 10.0),        # tenths of hPa
    "wind_from_direction_10m": (7, 1.0),
    "wind_speed_10m": (8, 0.1),
}
_SKY: Final = 9
_RAIN: Final = ((10, 1.0), (11, 6.0))
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class IsdLite:
    """Reports of the stations with an ``isd`` alias: eleven digits, USAF and WBAN.

    Attributes:
        stations: Stations of the region.
        spec: What it declares.
    """

    stations: tuple[Station, ...]
    spec: StationSpec = SPEC

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        known = list(by_code(self.stations, "isd").values())
        gathered = Gathered(self.spec, known, since, until)
        years = calendar_years(since, until)
        wanted = {f"isd-lite/{year}/{_name(station)}-{year}.gz": station for station in known for year in years}
        places: dict[str, tuple[float, float]] = {}
        for url, data in fetch(gathered, transport, [_HISTORY] if known else []):
            with gathered.part(url, 0, data):
                places = _places(data)
        for url, data in fetch(gathered, transport, wanted):
            station = wanted[url]
            text, whole = gunzip(data)
            if not whole:
                gathered.flaw(url, f"the gzip file is cut off or damaged; {text.count(chr(10))} lines of it could be read", data=data)
                text = text[: text.rfind("\n") + 1]
            for number, line in enumerate(text.splitlines(), 1):
                with gathered.part(url, number, data):
                    _take(gathered, station, line, places.get(_name(station)))
        return gathered.reports()


def gunzip(data: bytes) -> tuple[str, bool]:
    """The text of a gzip file as far as it can be read, and whether that is all of it."""
    stream = zlib.decompressobj(_GZIP)
    parts: list[bytes] = []
    try:
        parts.extend(stream.decompress(data[start : start + 4096]) for start in range(0, len(data), 4096))
    except zlib.error:
        return b"".join(parts).decode("ascii", "replace"), False
    return b"".join(parts).decode("ascii", "replace"), stream.eof


def _name(station: Station) -> str:
    code = station.aliases["isd"]
    return f"{code[:6]}-{code[6:]}"


def _places(data: bytes) -> dict[str, tuple[float, float]]:
    """Latitude and longitude by ``USAF-WBAN`` of the station list."""
    rows: Iterable[Mapping[str, str]] = csv.DictReader(io.StringIO(data.decode("utf-8", "replace")))
    found = {f"{row['USAF']}-{row['WBAN']}": (row["LAT"], row["LON"]) for row in rows}
    if not found:
        raise DecodeError("the station list is empty; expected the columns USAF, WBAN, LAT and LON")
    return {code: (float(lat), float(lon)) for code, (lat, lon) in found.items() if lat and lon}


def _take(gathered: Gathered, station: Station, line: str, place: tuple[float, float] | None) -> None:
    """One line; everything is read before anything is taken."""
    if len(line) < _LENGTH:
        raise DecodeError(f"the line {line!r} has {len(line)} characters, expected {_LENGTH}")
    cells = [int(line[begin:end]) for begin, end in zip([0, *_ENDS[:-1]], _ENDS, strict=True)]
    year, month, day, hour = cells[:4]
    time = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}", "s")

    def tenths(column: int, factor: float) -> float:
        return math.nan if cells[column] == _MISSING else cells[column] * factor

    for variable, (column, factor) in _COLUMNS.items():
        gathered.add(station, time, variable, tenths(column, factor))
    if 0 <= cells[_SKY] <= 8:                   # 9 is sky obscured, and codes from 10 on are not oktas
        gathered.add(station, time, "total_cloud_cover_atmosphere", 12.5 * cells[_SKY])
    for column, hours in _RAIN:
        gathered.add(station, time, "precipitation_amount", TRACE if cells[column] == -1 else tenths(column, 0.1), hours)
    if place is not None:
        gathered.add(station, time, "reported_latitude", place[0])
        gathered.add(station, time, "reported_longitude", place[1])
