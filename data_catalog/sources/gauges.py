"""A drop folder for the gauges of one's own: CSV files of the met service, the drainage company, anyone.

Every ``*.csv`` below the folder is read. The first line says everything that a number alone does not: the zone of the times, the unit
of each column, and the interval of sums, means and extremes, which ends at the time of the line::

    station,time [UTC+07:00],precipitation_amount [mm in 10 min],temperature_2m [degree_Celsius]
    lang,2025-08-26 10:10,4.2,26.3
    lang,2025-08-26 10:20,,26.1

``station`` is an id of the region or an alias of the network ``gauges``; columns are names of the catalog. An empty field was not
reported, and is never zero. :data:`UNITS` lists the units.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from data_catalog.errors import DecodeError, NotAvailableError, SourceError
from data_catalog.observations import KELVIN, KNOT, Gathered, Reports, fetch, whole_lines
from data_catalog.sources.base import StationSpec, Transport
from data_catalog.sources.transport import FolderTransport
from data_catalog.stations import Station, by_code
from data_catalog.variables import VARIABLES

SPEC: Final = StationSpec(
    network="gauges",
    title="Gauges of our own, CSV files",
    url="inbox/gauges",
    delay_hours=0.25,
    variables=("precipitation_amount",),
    licence="that of who dropped the files",
)

UNITS: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "kg m-2": {"kg m-2": (1, 0), "mm": (1, 0), "inch": (25.4, 0)},
    "degree_Celsius": {"degree_Celsius": (1, 0), "°C": (1, 0), "K": (1, -KELVIN), "degree_Fahrenheit": (5 / 9, -160 / 9)},
    "m s-1": {"m s-1": (1, 0), "m/s": (1, 0), "km/h": (1 / 3.6, 0), "knot": (KNOT, 0)},
    "Pa": {"Pa": (1, 0), "hPa": (100, 0)},
    "percent": {"percent": (1, 0), "%": (1, 0), "okta": (12.5, 0)},
    "degree": {"degree": (1, 0)},
    "m": {"m": (1, 0), "km": (1000, 0)},
    "W m-2": {"W m-2": (1, 0)},
}
"""Factor and offset to catalog units, by catalog unit and by what a header may say."""

_COLUMN: Final = re.compile(r"(\w+) *\[([^]]+?)(?: +in +(\d+) *(min|h))?\]")
_ZONE: Final = re.compile(r"time *\[UTC(?:([+-])(\d\d):(\d\d))?\]")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a file: catalog name, factor and offset to catalog units, hours of the interval (NaN for an instant)."""

    variable: str
    factor: float
    offset: float
    hours: float


@dataclass(frozen=True, slots=True)
class Gauges:
    """Reports in the files of a folder.

    Attributes:
        stations: Stations of the region.
        spec: What it declares.
    """

    stations: tuple[Station, ...]
    spec: StationSpec = SPEC

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        known = by_code(self.stations, "gauges")
        known |= {station.id: station for station in self.stations}
        gathered = Gathered(self.spec, self.stations, since, until)
        for url, data in fetch(gathered, transport, folder_files(transport, "*.csv")):
            take(gathered, url, data, known)
        return gathered.reports()


def take(gathered: Gathered, url: str, data: bytes, known: Mapping[str, Station]) -> None:
    """Every line of a file; what cannot be read is put down.

    Args:
        gathered: Where to.
        url: Name of the file.
        data: Its content.
        known: Stations by what a line may call them.
    """
    try:
        lines = list(csv.reader(io.StringIO(whole_lines(gathered, url, data).removeprefix("\ufeff"))))
        offset, columns = parse_header(lines[0] if lines else [])
    except ValueError as error:
        gathered.flaw(url, str(error), data=data)
        return
    for number, line in enumerate(lines[1:], 2):
        if line:
            with gathered.part(url, number, data):
                _take(gathered, known, line, offset, columns)


def folder_files(transport: Transport, pattern: str) -> list[str]:
    """Paths, relative to the folder of a transport, of its files that match a pattern, sorted.

    Raises:
        NotAvailableError: There is no such folder.
        SourceError: The transport is of another kind; only folders can be listed.
    """
    if not isinstance(transport, FolderTransport):
        raise SourceError(f"{transport!r} cannot be listed; give the path of a folder in source_urls.")
    base = Path(transport.base)
    if not base.is_dir():
        raise NotAvailableError(f"There is no folder {base}; make it, or name another in source_urls.")
    return sorted(path.relative_to(base).as_posix() for path in base.rglob(pattern) if path.is_file() and not path.name.startswith("."))


def parse_header(cells: Sequence[str]) -> tuple[np.timedelta64, tuple[Column, ...]]:
    """What a first line says.

    Returns:
        (offset of the times from UTC, columns after station and time).

    Raises:
        DecodeError: It does not say the zone, a unit or an interval; the message tells how to write it.
    """
    zone = _ZONE.fullmatch(cells[1].strip()) if len(cells) > 2 else None
    if zone is None or cells[0].strip() != "station":
        raise DecodeError(
            f"the first line is {','.join(cells)[:100]!r}; expected station,time [UTC+07:00],precipitation_amount [mm in 10 min],..."
        )
    sign, hours, minutes = zone.groups()
    offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1) if sign else 0
    return np.timedelta64(offset, "m"), tuple(_column(cell.strip()) for cell in cells[2:])


def _column(cell: str) -> Column:
    match = _COLUMN.fullmatch(cell)
    name = match.group(1) if match else cell
    if name not in VARIABLES:
        raise DecodeError(f"the column {cell!r} is no variable of the catalog; write it like precipitation_amount [mm in 10 min]")
    known = VARIABLES[name]
    units = UNITS.get(known.units, {known.units: (1.0, 0.0)})
    if match is None or match.group(2).strip() not in units:
        raise DecodeError(f"the column {cell!r} has no unit that fits {name}; expected one of {', '.join(units)} in brackets")
    if known.has_interval != (match.group(3) is not None):
        needed = "needs its interval, as in [mm in 10 min]" if known.has_interval else "is of an instant and has no interval"
        raise DecodeError(f"the column {cell!r}: {name} {needed}")
    factor, offset = units[match.group(2).strip()]
    hours = int(match.group(3)) / (60 if match.group(4) == "min" else 1) if match.group(3) else math.nan
    return Column(name, factor, offset, hours)


def _take(
    gathered: Gathered, known: Mapping[str, Station], line: Sequence[str], offset: np.timedelta64, columns: Sequence[Column]
) -> None:
    """One line; everything is read before anything is taken."""
    if len(line) != len(columns) + 2:
        raise DecodeError(f"the line has {len(line)} fields, the header {len(columns) + 2}")
    station = known.get(line[0].strip())
    if station is None:
        raise DecodeError(f"the station {line[0].strip()!r} is neither in the region nor an alias of gauges; known are {', '.join(known)}")
    text = line[1].strip().replace(" ", "T")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", text):
        raise DecodeError(f"the time is {line[1]!r}; expected 2025-08-26 10:10, in the zone of the header")
    time = np.datetime64(text, "s") - offset
    values = [float(cell) if cell.strip() else math.nan for cell in line[2:]]
    for column, value in zip(columns, values, strict=True):
        gathered.add(station, time, column.variable, value * column.factor + column.offset, column.hours)
