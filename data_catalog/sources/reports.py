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
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_catalog.errors import DecodeError, NotAvailableError, SourceError
from data_catalog.observations import Gathered, Reports, whole_lines
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

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        gathered = Gathered(self.spec, self.stations, since, until, now=until if self.spec.simulated else None)
        known = {station.id: station for station in self.stations}
        for time in _hours(since, until):
            try:
                data = transport.read(path(time))
            except NotAvailableError:
                continue
            except SourceError as error:
                gathered.flaw(path(time), str(error))
                continue
            rows = csv.DictReader(io.StringIO(whole_lines(gathered, path(time), data)))
            if (rows.fieldnames or [])[:2] != ["station", "time"]:
                reason = f"the file begins with {data[:60]!r}; expected the columns station,time,..."
                gathered.flaw(path(time), reason, data=data)
                continue
            for number, row in enumerate(rows, 2):
                with gathered.part(path(time), number, data):
                    if row["station"] in known:
                        _take(gathered, known[row["station"]], time, self.spec.variables, row)
        return gathered.reports()


def _take(gathered: Gathered, station: Station, time: np.datetime64, variables: Sequence[str], row: Mapping[str, str | None]) -> None:
    """One line; everything is read before anything is taken."""
    if None in row.values() or None in row:
        raise DecodeError(f"the line of {station.id} has not as many fields as the first line")
    values = [(name, _number(row.get(name)), _number(row.get(f"{name}_interval"))) for name in variables]
    for name, value, hours in values:
        gathered.add(station, time, name, value, hours)


def _hours(since: np.datetime64, until: np.datetime64) -> Iterator[np.datetime64]:
    """Whole hours with since < hour <= until."""
    yield from np.arange(since.astype("datetime64[h]") + _HOUR, until.astype("datetime64[h]") + _HOUR, _HOUR)


def _number(text: str | None) -> float:
    return float(text) if text else math.nan
