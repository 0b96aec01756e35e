"""Surface reports (SYNOP) and soundings (TEMP) in BUFR, decoded with ecCodes in a process of its own.

A template is read as WMO-No. 306, volume I.2 defines it: element after element, each under the time periods and sensor heights before it.
So one reader serves 307080 and its regional forms (307082 to 307086), 307092, ECMWF's own 307005, TEMP (309052, 309057, 309007), and what
comes next, for one subset or many, compressed or not. A mark of missing is NaN and never zero; quality bitmaps are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_catalog.errors import DecodeError, TruncatedError, WorkerDiedError
from data_catalog.variables import TRACE
from data_catalog.workers import Worker

_MISSING_LONG: Final = 2147483647
_MISSING_DOUBLE: Final = -1e99
_KELVIN: Final = 273.15
_SURFACE, _UPPER_AIR = 0, 2             # BUFR table A
_GRAVITY: Final = 9.80665               # m s-2, WMO-No. 306: geopotential to geopotential metres

_INSTANTS: Final[Mapping[str, tuple[str, float, float]]] = {
    "airTemperature": ("temperature_2m", 1.0, -_KELVIN),
    "airTemperatureAt2M": ("temperature_2m", 1.0, -_KELVIN),
    "dewpointTemperature": ("dew_point_temperature_2m", 1.0, -_KELVIN),
    "dewpointTemperatureAt2M": ("dew_point_temperature_2m", 1.0, -_KELVIN),
    "relativeHumidity": ("relative_humidity_2m", 1.0, 0.0),
    "pressureReducedToMeanSeaLevel": ("pressure_reduced_to_mean_sea_level", 1.0, 0.0),
    "windDirection": ("wind_from_direction_10m", 1.0, 0.0),
    "windDirectionAt10M": ("wind_from_direction_10m", 1.0, 0.0),
    "windSpeed": ("wind_speed_10m", 1.0, 0.0),
    "windSpeedAt10M": ("wind_speed_10m", 1.0, 0.0),
    "horizontalVisibility": ("visibility", 1.0, 0.0),
    "cloudCoverTotal": ("total_cloud_cover_atmosphere", 1.0, 0.0),
}
"""Catalog name, factor and offset by ecCodes' name; of several in a report the first that is not missing counts."""

_PERIODS: Final[Mapping[str, tuple[str, float, float]]] = {
    "totalPrecipitationOrTotalWaterEquivalent": ("precipitation_amount", 1.0, 0.0),
    "maximumTemperatureAtHeightAndOverPeriodSpecified": ("temperature_2m_max", 1.0, -_KELVIN),
    "minimumTemperatureAtHeightAndOverPeriodSpecified": ("temperature_2m_min", 1.0, -_KELVIN),
    "globalSolarRadiationIntegratedOverPeriodSpecified": ("downward_short_wave_radiation_flux_surface", 1.0, 0.0),
    "maximumWindGustSpeed": ("wind_gust_10m", 1.0, 0.0),
}
"""Likewise for values over the time period before them."""

_FIXED: Final[Mapping[str, tuple[str, float, float, float]]] = {
    "totalPrecipitationPast1Hour": ("precipitation_amount", 1.0, 0.0, 1.0),
    "totalPrecipitationPast3Hours": ("precipitation_amount", 1.0, 0.0, 3.0),
    "totalPrecipitationPast6Hours": ("precipitation_amount", 1.0, 0.0, 6.0),
    "totalPrecipitationPast12Hours": ("precipitation_amount", 1.0, 0.0, 12.0),
    "totalPrecipitationPast24Hours": ("precipitation_amount", 1.0, 0.0, 24.0),
    "maximumTemperatureAt2MPast12Hours": ("temperature_2m_max", 1.0, -_KELVIN, 12.0),
    "minimumTemperatureAt2MPast12Hours": ("temperature_2m_min", 1.0, -_KELVIN, 12.0),
    "maximumTemperatureAt2MPast24Hours": ("temperature_2m_max", 1.0, -_KELVIN, 24.0),
    "minimumTemperatureAt2MPast24Hours": ("temperature_2m_min", 1.0, -_KELVIN, 24.0),
}
"""Likewise for elements that name their hours."""

LEVEL: Final = ("pressure", "geopotential_height", "temperature", "dew_point_temperature", "wind_from_direction", "wind_speed")
"""Columns of a sounding: Pa, m, degree_Celsius, degree_Celsius, degree, m s-1."""
_LEVELS: Final[Mapping[str, tuple[int, float, float]]] = {
    "pressure": (0, 1.0, 0.0),
    "nonCoordinateGeopotentialHeight": (1, 1.0, 0.0),
    "nonCoordinateGeopotential": (1, 1.0 / _GRAVITY, 0.0),
    "airTemperature": (2, 1.0, -_KELVIN),
    "dewpointTemperature": (3, 1.0, -_KELVIN),
    "windDirection": (4, 1.0, 0.0),
    "windSpeed": (5, 1.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Reported:
    """One value of a surface report: catalog name and units, hours of its interval (NaN for an instant), hours its end lies back."""

    variable: str
    value: float
    hours: float = math.nan
    ago: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """One report.

    Attributes:
        wmo: Five digits of the WMO number, "" where there is none.
        wigos: WIGOS station identifier such as ``0-20000-0-48825``, "" where there is none.
        time: UTC.
        latitude: As stated, degrees_north, NaN where it is not.
        longitude: As stated, degrees_east.
        elevation: As stated, m.
        values: Of a surface report.
        levels: Of a sounding, columns of :data:`LEVEL`, NaN where missing, highest pressure first. (level, column)
    """

    wmo: str
    wigos: str
    time: np.datetime64
    latitude: float
    longitude: float
    elevation: float
    values: tuple[Reported, ...] = ()
    levels: np.ndarray | None = None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Under what a network may know the station: WMO number, WIGOS identifier, the number in the identifier of a WMO station."""
        inside = self.wigos.rpartition("-")[2] if self.wigos.startswith("0-2000") else ""
        return tuple(filter(None, (self.wmo, self.wigos, inside)))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that cannot be used: its number from 1 (0 for the whole file), its bytes, and why."""

    message: int
    data: bytes
    error: DecodeError


def decode(data: bytes, worker: Worker, wanted: Collection[str] | None = None) -> Iterator[Report | Refusal]:
    """Every report of a file of BUFR messages, and a refusal for each message that is none.

    Args:
        data: The file, with or without headers of the telecommunication system around the messages.
        worker: :func:`worker`; one that dies costs the message it had.
        wanted: Station numbers (:attr:`Report.numbers`); what is certainly of others is not decoded. Default: all.
    """
    for number, piece in enumerate(split(data), 1):
        if isinstance(piece, Refusal):
            yield piece
            continue
        try:
            answer: list[Report] | str = worker.call((piece, None if wanted is None else frozenset(wanted)))
        except WorkerDiedError as error:
            yield Refusal(number, piece, error)
            continue
        if isinstance(answer, str):
            yield Refusal(number, piece, DecodeError(answer))
        else:
            yield from answer


def worker(timeout: float = 120.0) -> Worker:
    """A process that decodes one message at a time."""
    return Worker("data_catalog.bufr:read_message", timeout)


def split(data: bytes) -> Iterator[bytes | Refusal]:
    """The messages of a file: from ``BUFR`` over the length in octets 5 to 7 to ``7777`` (WMO-No. 306, FM 94)."""
    start, number = data.find(b"BUFR"), 0
    if start < 0:
        yield Refusal(0, data, DecodeError(f"there is no BUFR message in these {len(data)} octets"))
    while start >= 0:
        number += 1
        length = int.from_bytes(data[start + 4 : start + 7])
        piece = data[start : start + length]
        if len(piece) == length >= 12 and piece.endswith(b"7777"):
            yield piece
            start = data.find(b"BUFR", start + length)
            continue
        following = data.find(b"BUFR", start + 4)
        rest = data[start : following if following >= 0 else None]
        said = f"message {number} says it has {length} octets and is cut off or damaged after {len(rest)}"
        yield Refusal(number, rest, TruncatedError(f"{said}; expected 7777 at its end"))
        start = following


def read_file(path: Path, timeout: float = 120.0) -> list[Report | Refusal]:
    """All reports and refusals of a file."""
    with worker(timeout) as process:
        return list(decode(path.read_bytes(), process))


# --- in the worker ---------------------------------------------------------------------------------------------------------------------


def read_message(job: tuple[bytes, frozenset[str] | None]) -> list[Report] | str:
    """The reports of one message that are wanted (None: all), or why it has none; called in the worker's process."""
    import eccodes

    data, wanted = job
    handle = None
    try:
        handle = eccodes.codes_new_from_message(data)
        category = eccodes.codes_get(handle, "dataCategory")
        if category not in (_SURFACE, _UPPER_AIR):
            return f"data category {category} is neither a surface report on land (0) nor a sounding (2)"
        if wanted is not None and _only_number(data) not in (*wanted, ""):
            return []
        eccodes.codes_set(handle, "unpack", 1)
        subsets = _subsets(handle)
        read = _surface if category == _SURFACE else _sounding
        return [report for report in map(read, subsets) if report is not None]
    except eccodes.CodesInternalError as error:
        return f"ecCodes cannot decode it: {error}"
    except ValueError as error:
        return str(error)
    finally:
        if handle is not None:
            eccodes.codes_release(handle)


def _only_number(data: bytes) -> str:
    """The WMO number of a message with one subset and without a WIGOS identifier, else ""; without units and scales, in half the time."""
    import eccodes

    handle = eccodes.codes_new_from_message(data)
    try:
        eccodes.codes_set(handle, "skipExtraKeyAttributes", 1)
        eccodes.codes_set(handle, "unpack", 1)
        keys = ("#1#blockNumber", "#1#stationNumber")
        single = eccodes.codes_get(handle, "numberOfSubsets") == 1 and not eccodes.codes_is_defined(handle, "#1#wigosIdentifierSeries")
        if not single or not all(eccodes.codes_is_defined(handle, key) for key in keys):
            return ""
        block, station = (eccodes.codes_get(handle, key) for key in keys)
        return "" if _MISSING_LONG in (block, station) else f"{block:02d}{station:03d}"
    finally:
        eccodes.codes_release(handle)


_Element = tuple[str, Any]
_OTHER: Final[_Element] = ("", math.nan)
"""Stands for an element that is not wanted, so that what surrounds it is not taken for neighbours."""


def _subsets(handle: Any) -> Iterator[list[_Element]]:
    """Elements of each subset in order: ecCodes' name without its rank, and the value; time periods in hours."""
    import eccodes

    count = eccodes.codes_get(handle, "numberOfSubsets")
    compressed = count > 1 and bool(eccodes.codes_get(handle, "compressedData"))
    subsets: list[list[_Element]] = [[] for _ in range(count if compressed else 0)]
    keys = eccodes.codes_bufr_keys_iterator_new(handle)
    try:
        while eccodes.codes_bufr_keys_iterator_next(keys):
            key = eccodes.codes_bufr_keys_iterator_get_name(keys)
            if key == "subsetNumber" and not compressed:
                subsets.append([])
            if not key.startswith("#") or "->" in key:
                continue
            name = key.rpartition("#")[2]
            if name not in _WANTED:
                for subset in subsets if compressed else subsets[-1:]:
                    subset.append(_OTHER)
                continue
            text = name == "wigosLocalIdentifierCharacter"
            values = eccodes.codes_get_array(handle, key, str if text else float)
            if name == "timePeriod" and eccodes.codes_get(handle, f"{key}->units") == "min":
                values = np.where(_missing(values), np.nan, values / 60.0)
            for number, subset in enumerate(subsets if compressed else subsets[-1:]):
                value = values[number if len(values) > 1 else 0]
                subset.append((name, str(value).strip() if text else math.nan if _missing(value) else float(value)))
    finally:
        eccodes.codes_bufr_keys_iterator_delete(keys)
    yield from subsets


def _missing(value: Any) -> Any:
    return (value == _MISSING_LONG) | (value < _MISSING_DOUBLE)


_IDENTITY: Final = frozenset({
    "blockNumber", "stationNumber", "wigosIdentifierSeries", "wigosIssuerOfIdentifier", "wigosIssueNumber",
    "wigosLocalIdentifierCharacter", "year", "month", "day", "hour", "minute", "latitude", "longitude",
    "heightOfStation", "heightOfStationGroundAboveMeanSeaLevel",
})    # fmt: skip
_WANTED: Final = _IDENTITY | _INSTANTS.keys() | _PERIODS.keys() | _FIXED.keys() | _LEVELS.keys() | {"timePeriod", "timeSignificance"}


def _identity(subset: list[_Element]) -> dict[str, Any]:
    """Who, when and where: the first word on each counts."""
    found: dict[str, Any] = {}
    for name, value in subset:
        if name in _IDENTITY:
            found.setdefault(name, value)

    def get(name: str) -> float:
        return float(found.get(name, math.nan))

    parts = [get(name) for name in ("year", "month", "day", "hour", "minute")]
    if any(math.isnan(part) for part in parts[:4]):
        raise ValueError("a report does not say its time")
    year, month, day, hour = (int(part) for part in parts[:4])
    minute = 0 if math.isnan(parts[4]) else int(parts[4])
    time = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}", "s")
    block, station = get("blockNumber"), get("stationNumber")
    wigos = [get(name) for name in ("wigosIdentifierSeries", "wigosIssuerOfIdentifier", "wigosIssueNumber")]
    local = str(found.get("wigosLocalIdentifierCharacter", ""))
    height = get("heightOfStationGroundAboveMeanSeaLevel")
    return {
        "wmo": "" if math.isnan(block + station) else f"{int(block):02d}{int(station):03d}",
        "wigos": "" if any(map(math.isnan, wigos)) or not local else "-".join([*(f"{part:.0f}" for part in wigos), local]),
        "time": time,
        "latitude": get("latitude"),
        "longitude": get("longitude"),
        "elevation": get("heightOfStation") if math.isnan(height) else height,
    }


def _surface(subset: list[_Element]) -> Report | None:
    """A surface report, None where nothing was reported."""
    found: dict[tuple[str, float, float], Reported] = {}
    periods: list[float] = []
    earlier = ""

    def keep(variable: str, value: float, hours: float = math.nan, ago: float = 0.0) -> None:
        if not math.isnan(value):
            found.setdefault((variable, -1.0 if math.isnan(hours) else hours, ago), Reported(variable, value, hours, ago))

    for name, value in subset:
        if name == "timePeriod":
            periods = [*periods[-1:], value] if earlier == "timePeriod" else [value]
        elif name == "timeSignificance":
            periods = []
        elif name in _INSTANTS:
            variable, factor, offset = _INSTANTS[name]
            if variable != "total_cloud_cover_atmosphere" or value <= 100:      # 113 is sky obscured by fog
                keep(variable, value * factor + offset)
        elif name in _FIXED:
            variable, factor, offset, hours = _FIXED[name]
            keep(variable, _measured(variable, value) * factor + offset, hours)
        elif name in _PERIODS and periods:
            variable, factor, offset = _PERIODS[name]
            begin, end = -periods[0], -periods[1] if len(periods) > 1 else 0.0
            end = 0.0 if math.isnan(end) else end
            if begin > end >= 0:
                seconds = (begin - end) * 3600.0
                value = value / seconds if variable == "downward_short_wave_radiation_flux_surface" else _measured(variable, value)
                keep(variable, value * factor + offset, begin - end, end)
        earlier = name
    identity = _identity(subset)
    return Report(**identity, values=tuple(found.values())) if found else None


def _measured(variable: str, value: float) -> float:
    """Precipitation of -0.1 is a trace (WMO-No. 306, note on 0 13 011)."""
    return TRACE if variable == "precipitation_amount" and -0.15 < value < 0 else value


def _sounding(subset: list[_Element]) -> Report | None:
    """A sounding, None where it has no level with a value."""
    rows: list[list[float]] = []
    for name, value in subset:
        if name == "pressure":
            rows.append([value] + [math.nan] * (len(LEVEL) - 1))
        elif rows and name in _LEVELS:
            column, factor, offset = _LEVELS[name]
            if math.isnan(rows[-1][column]):
                rows[-1][column] = value * factor + offset
    levels = np.array([row for row in rows if not math.isnan(row[0]) and not all(map(math.isnan, row[1:]))], dtype=np.float64)
    if not levels.size:
        return None
    order = np.argsort(-levels[:, 0], kind="stable")
    return Report(**_identity(subset), levels=levels[order])
