"""Station reports as CSV files, one an hour: the smallest station source.

``YYYYMMDD/HH.csv`` below the base, UTC, with one line a station::

    station,time,temperature_2m,precipitation_amount,precipitation_amount_interval
    lang,2025-07-01T03:00Z,28.4,0.2,1

``station`` is an id of the region, the other columns are names of the catalog in its units, an empty field was not reported, and every
column of an interval variable has one of the same name with ``_interval``: the hours that its value covers, ending at ``time``. A file
that is not there is an hour without reports.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_catalog.dimensions import AVAILABLE_TIME, STATION, TIME
from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.grids import station_coordinates
from data_catalog.sources.base import StationSpec, Transport, day_and_hour
from data_catalog.stations import Station
from data_catalog.variables import VARIABLES

_HOUR = np.timedelta64(1, "h")


def path(time: np.datetime64) -> str:
    """Path of the file of an hour."""
    return "{}/{}.csv".format(*day_and_hour(time))


def columns(variables: Sequence[str]) -> list[str]:
    """Columns of a file: station, time, and each variable with its interval where it has one."""
    found = ["station", "time"]
    for name in variables:
        found += [name, f"{name}_interval"] if VARIABLES[name].has_interval else [name]
    return found


def render(
    stations: Sequence[str], time: np.datetime64, values: Mapping[str, np.ndarray], intervals: Mapping[str, np.ndarray]
) -> str:
    """The text of a file.

    Args:
        stations: Ids.
        time: Of the reports, a whole hour, UTC.
        values: By variable, shape (station,), catalog units, NaN for not reported. A station that reports nothing has no line.
        intervals: Hours that the values cover, by interval variable, shape (station,).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(list(values)))
    for number, station in enumerate(stations):
        row = {name: float(value[number]) for name, value in values.items()}
        if not all(np.isnan(value) for value in row.values()):
            cells: list[str] = [station, f"{time.astype('datetime64[m]')}Z"]
            for name, value in row.items():
                reported = not np.isnan(value)
                cells.append(f"{value:.6g}" if reported else "")
                if VARIABLES[name].has_interval:
                    cells.append(f"{float(intervals[name][number]):g}" if reported else "")
            writer.writerow(cells)
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class CsvReports:
    """Reports in files of this module's layout.

    Attributes:
        spec: What it declares.
        stations: Stations that are kept; others are passed over.
    """

    spec: StationSpec
    stations: tuple[Station, ...]

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> xr.Dataset:
        """Reports with since < time <= until.

        Returns:
            ``VARIABLE(time, station)`` for the hours that have a file, with ``<VARIABLE>_interval`` in hours and ``available_time(time)``.

        Raises:
            SourceError: A file could not be read, or is not in this layout.
        """
        times = list(_hours(since, until))
        texts = [(time, text) for time in times if (text := _text(transport, path(time))) is not None]
        names = [name for name in columns(self.spec.variables) if name not in ("station", "time")]
        place = {station.id: number for number, station in enumerate(self.stations)}
        values = {name: np.full((len(texts), len(place)), np.nan, dtype=np.float32) for name in names}
        for row, (time, text) in enumerate(texts):
            for line in _lines(text, path(time)):
                column = place.get(line["station"])
                if column is None:
                    continue
                for name in names:
                    values[name][row, column] = _number(line.get(name, ""), name, path(time))
        found = np.array([time for time, _ in texts], dtype="datetime64[ns]")
        available = found + np.timedelta64(round(self.spec.delay_hours * 3600), "s")
        coords = {TIME: found, AVAILABLE_TIME: (TIME, available), **station_coordinates(self.stations)}
        data = {name: ((TIME, STATION), array) for name, array in values.items()}
        return xr.Dataset(data, coords=coords, attrs={"simulated": self.spec.simulated, "network": self.spec.network})


def _hours(since: np.datetime64, until: np.datetime64) -> Iterator[np.datetime64]:
    """Whole hours with since < hour <= until."""
    yield from np.arange(since.astype("datetime64[h]") + _HOUR, until.astype("datetime64[h]") + _HOUR, _HOUR)


def _text(transport: Transport, url: str) -> str | None:
    try:
        return transport.read(url).decode()
    except NotAvailableError:
        return None
    except UnicodeDecodeError as error:
        raise SourceError(f"The report file {url} is not text ({error}); fetch it again.") from error


def _lines(text: str, url: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text))
    if not reader.fieldnames or reader.fieldnames[:2] != ["station", "time"]:
        raise SourceError(f"The report file {url} begins with {text[:60]!r}; expected the columns station,time,....")
    return list(reader)


def _number(text: str | None, name: str, url: str) -> float:
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise SourceError(f"The report file {url} has {text!r} for {name}; expected a number or nothing.") from None
