"""What stations report, between a source and the archive: single values in, ``VARIABLE(time, station)`` out, and what could not be used.

A source hands every value it reads to a :class:`Gathered` with its station, time, interval and the time at which it was available. One
report that came in several pieces comes together there, and the same one twice counts once. The dataset that results carries

- ``VARIABLE(time, station)`` in catalog units, NaN for not reported;
- ``VARIABLE_interval(time, station)``, hours that end at ``time``, where a value belongs to an interval. Of several intervals of one
  variable ending together the shortest stands there, and each longer one in ``VARIABLE_<H>h``, e.g. ``precipitation_amount_24h``;
- ``available_time(time, station)``, when the last value of a report was at hand, NaT where there is no report;
- ``reported_latitude`` and ``reported_longitude`` where reports state their place: a number can stand for two places.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import AVAILABLE_TIME, STATION, TIME
from data_catalog.errors import DecodeError, NotAvailableError, SourceError
from data_catalog.grids import station_coordinates
from data_catalog.stations import Station
from data_catalog.variables import VARIABLES, Variable

if TYPE_CHECKING:
    from data_catalog.sources.base import StationSpec, Transport

KELVIN: Final = 273.15
KNOT: Final = 1852.0 / 3600.0
"""m s-1 (ICAO Annex 5)."""
MILE: Final = 1609.344
"""The statute mile in metres."""

@dataclass(frozen=True, slots=True)
class Flaw:
    """Something of a source that could not be used, and why.

    Attributes:
        file: Name or address of the file.
        reason: In words.
        part: Its line or message from 1; 0 stands for the whole file.
        data: The file's bytes, which go to quarantine; empty when there were none to keep.
    """

    file: str
    reason: str
    part: int = 0
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Reports:
    """What a source had for some time.

    Attributes:
        data: See the top of this module.
        flaws: What could not be used of it.
        soundings: ``VARIABLE(profile, level)``, see :func:`profiles`, where the source has any.
    """

    data: xr.Dataset
    flaws: tuple[Flaw, ...] = ()
    soundings: xr.Dataset | None = None


class Gathered:
    """Values and flaws of one reading of a source.

    Args:
        spec: Of the source.
        stations: The stations kept, in the order of the dataset.
        since: Reports after this, UTC.
        until: Reports up to this, UTC.

    A report from the future, by the clock or in a simulated network by ``until``, is a flaw and no report.
    """

    def __init__(
        self,
        spec: StationSpec,
        stations: Iterable[Station],
        since: np.datetime64,
        until: np.datetime64,
    ) -> None:
        self._spec = spec
        self.stations = tuple({station.id: station for station in stations}.values())
        self.since, self.until = since.astype("datetime64[s]"), until.astype("datetime64[s]")
        self._delay = np.timedelta64(round(spec.delay_hours * 3600), "s")
        self._latest = (self.until if spec.simulated else np.datetime64("now")) + np.timedelta64(1, "h")
        self._values: dict[_Key, tuple[np.datetime64, float]] = {}
        self._soundings: dict[tuple[str, np.datetime64], tuple[np.datetime64, np.ndarray]] = {}
        self._flaws: list[Flaw] = []

    def add(
        self,
        station: Station,
        time: np.datetime64,
        variable: str,
        value: float,
        hours: float = math.nan,
        available: np.datetime64 | None = None,
    ) -> None:
        """Take one value; NaN is not reported, and a later word on the same thing replaces an earlier one.

        Args:
            station: Whose.
            time: Of the report, or the end of the interval, UTC.
            variable: Name of the catalog, or ``reported_latitude`` and ``reported_longitude``.
            value: Catalog units.
            hours: Length of the interval that ends at ``time``; NaN for an instant.
            available: When it was at hand; default: the usual delay after ``time``.

        Raises:
            DecodeError: The time lies in the future.
        """
        if math.isnan(value):
            return
        moment = self._wanted(time)
        if moment is None:
            return
        came = self._came(moment, available)
        length = _UNKNOWN if math.isnan(hours) and variable in VARIABLES and VARIABLES[variable].has_interval else hours
        key = (station.id, moment, variable, 0.0 if math.isnan(length) else length)
        known = self._values.get(key)
        if known is None or (came >= known[0] and known[1] != value):
            self._values[key] = (came, value)

    def add_sounding(self, station: Station, time: np.datetime64, levels: np.ndarray, available: np.datetime64 | None = None) -> None:
        """Take one sounding; of several of one station and time the one with the most levels counts.

        Args:
            station: Whose.
            time: Of the launch, UTC.
            levels: Columns of :data:`LEVELS`. (level, column)
            available: When it was at hand; default: the usual delay after ``time``.

        Raises:
            DecodeError: The time lies in the future.
        """
        moment = self._wanted(time)
        if moment is not None:
            known = self._soundings.get((station.id, moment))
            if known is None or len(levels) > len(known[1]):
                self._soundings[station.id, moment] = (self._came(moment, available), levels)

    def _wanted(self, time: np.datetime64) -> np.datetime64 | None:
        """The time in seconds, None when it was not asked for."""
        moment = time.astype("datetime64[s]")
        if moment > self._latest:
            raise DecodeError(f"its time {moment}Z lies in the future; check the station's clock and the UTC offset")
        return moment if self.since < moment <= self.until else None

    def _came(self, moment: np.datetime64, available: np.datetime64 | None) -> np.datetime64:
        return moment + self._delay if available is None else max(available.astype("datetime64[s]"), moment)

    def flaw(self, file: str, reason: str, part: int = 0, data: bytes = b"") -> None:
        """Put down something that cannot be used."""
        self._flaws.append(Flaw(file, reason, part, data))

    @contextlib.contextmanager
    def part(self, file: str, part: int, data: bytes) -> Iterator[None]:
        """A line or message of a file: what goes wrong in it is a flaw, and the next part is read."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = str(error) if isinstance(error, DecodeError) else f"it cannot be read ({type(error).__name__}: {error})"
            self.flaw(file, reason, part, data)

    def reports(self) -> Reports:
        """Everything taken, as one dataset, with what follows from it (:func:`complete`)."""
        about = {"simulated": self._spec.simulated, "network": self._spec.network}
        data = complete(_table(self._values, self.stations, self._spec.variables)).assign_attrs(about)
        soundings = profiles(self._soundings, self.stations).assign_attrs(about) if self._soundings else None
        return Reports(data, tuple(self._flaws), soundings)


_Key = tuple[str, np.datetime64, str, float]
"""Station, time, variable and hours of the interval: 0 for an instant, -1 where the interval is not known."""
_UNKNOWN: Final = -1.0


def _table(values: Mapping[_Key, tuple[np.datetime64, float]], stations: tuple[Station, ...], variables: tuple[str, ...]) -> xr.Dataset:
    """The dataset of single values; what reports nothing but its place is no report."""
    reported = {(station, time) for station, time, name, _ in values if name in VARIABLES}
    times = np.array(sorted({time for _, time in reported}), dtype="datetime64[ns]")
    row = {time.astype("datetime64[s]"): number for number, time in enumerate(times)}
    column = {station.id: number for number, station in enumerate(stations)}
    shape = (times.size, len(stations))
    layers: dict[tuple[str, float], np.ndarray] = defaultdict(lambda: np.full(shape, np.nan, dtype=np.float32))
    for name in variables:
        layers[name, _UNKNOWN if VARIABLES[name].has_interval else 0.0] = np.full(shape, np.nan, dtype=np.float32)
    available = np.full(shape, np.datetime64("NaT"), dtype="datetime64[ns]")
    for (station, time, name, hours), (came, value) in values.items():
        if (station, time) in reported:
            place = row[time], column[station]
            layers[name, hours][place] = value
            available[place] = np.fmax(available[place], came.astype("datetime64[ns]"))
    coords = {TIME: times, AVAILABLE_TIME: ((TIME, STATION), available), **station_coordinates(stations)}
    return xr.Dataset(from_layers(layers), coords=coords)


Variables = dict[str, tuple[tuple[str, str], np.ndarray, dict[str, str]]]


def from_layers(layers: Mapping[tuple[str, float], np.ndarray]) -> Variables:
    """The variables of a dataset from values by the length of their interval.

    Args:
        layers: Float32 (time, station) by name and hours: 0 for an instant, -1 for an interval that is not known.

    Returns:
        In the order of their names: of the intervals that end together the shortest is the variable's own; unknown ones come last.
    """
    found: dict[str, np.ndarray] = {}
    for name, hours in sorted(layers, key=lambda key: (key[0], key[1] == _UNKNOWN, key[1])):
        values = layers[name, hours]
        own = found.setdefault(name, np.full_like(values, np.nan))
        first = np.isfinite(values) & np.isnan(own)
        own[first] = values[first]
        if hours != 0:
            interval = found.setdefault(f"{name}_interval", np.full_like(values, np.nan))
            interval[first & (hours > 0)] = hours
        if hours > 0 and (longer := np.isfinite(values) & ~first).any():
            found[f"{name}_{hours:g}h"] = np.where(longer, values, np.float32(np.nan))
    return {name: ((TIME, STATION), found[name], _attributes(name)) for name in sorted(found)}


def to_layers(data: xr.Dataset) -> dict[tuple[str, float], np.ndarray]:
    """The inverse of :func:`from_layers`; whatever has no interval, a stated place too, counts as of an instant."""
    found: dict[tuple[str, float], np.ndarray] = {}
    for name in (str(name) for name in data.data_vars if not str(name).endswith("_interval")):
        values = data[name].transpose(TIME, STATION).values.astype(np.float32)
        known = base_variable(name)
        if known is not None and name != known.name:
            _join(found, (known.name, float(name.rpartition("_")[2].removesuffix("h"))), values)
        elif f"{name}_interval" in data:
            length = data[f"{name}_interval"].transpose(TIME, STATION).values
            unknown = _UNKNOWN if known is not None and known.has_interval else 0.0
            _join(found, (name, unknown), np.where(np.isnan(length), values, np.float32(np.nan)))
            for hours in np.unique(length[np.isfinite(length)]):
                _join(found, (name, float(hours)), np.where(length == hours, values, np.float32(np.nan)))
        else:
            _join(found, (name, _UNKNOWN if known is not None and known.has_interval else 0.0), values)
    return found


def _join(found: dict[tuple[str, float], np.ndarray], key: tuple[str, float], values: np.ndarray) -> None:
    found[key] = np.where(np.isfinite(values), values, found[key]) if key in found else values


def merge(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """Old and new reports in one: new values win where there is one, and nothing that was there is lost.

    A value is replaced only by one over the same interval; one over another interval that ends at the same time joins it. A report is
    available when its last change was.

    Args:
        old: Reports without flags, times ascending; ``available_time`` may also be one a time.
        new: Likewise.

    Returns:
        The same on the union of times and stations.
    """
    times = np.union1d(old[TIME].values, new[TIME].values)
    ids = [str(station) for station in old[STATION].values]
    ids += [str(station) for station in new[STATION].values if str(station) not in ids]
    shape = (times.size, len(ids))
    layers: dict[tuple[str, float], np.ndarray] = defaultdict(lambda: np.full(shape, np.nan, dtype=np.float32))
    available = np.full(shape, np.datetime64("NaT"), dtype="datetime64[ns]")
    places: dict[str, np.ndarray] = {}
    for part in (old, new):
        columns = np.array([ids.index(str(station)) for station in part[STATION].values], dtype=np.intp)
        cells = np.ix_(np.searchsorted(times, part[TIME].values), columns)
        changed = np.zeros(available[cells].shape, dtype=bool)
        for key, given in to_layers(part).items():
            there = layers[key][cells]
            fresh = np.isfinite(given) & (given != there)
            layers[key][cells] = np.where(fresh, given, there)
            changed |= fresh
        came = part[AVAILABLE_TIME].values
        came = came if came.ndim == 2 else np.broadcast_to(came[:, None], changed.shape)
        available[cells] = np.where(changed, np.fmax(available[cells], came), available[cells])
        for name, values in part.coords.items():
            if values.dims == (STATION,) and name != STATION:
                kept = places.setdefault(str(name), np.empty(len(ids), dtype=object if values.dtype.kind not in "fiu" else values.dtype))
                kept[columns] = values.values
    coords = {
        TIME: times,
        STATION: np.array(ids, dtype=object),
        AVAILABLE_TIME: ((TIME, STATION), available),
        **{name: (STATION, values) for name, values in places.items()},
    }
    return xr.Dataset(from_layers(layers), coords=coords, attrs={**old.attrs, **new.attrs})


LEVELS: Final = {
    "pressure": ("Pa", "air_pressure"),
    "geopotential_height": ("m", "geopotential_height"),
    "temperature": ("degree_Celsius", "air_temperature"),
    "dew_point_temperature": ("degree_Celsius", "dew_point_temperature"),
    "wind_from_direction": ("degree", "wind_from_direction"),
    "wind_speed": ("m s-1", "wind_speed"),
}
"""Units and CF standard names of what a sounding has at each level, in the order of its columns."""


def profiles(
    soundings: Mapping[tuple[str, np.datetime64], tuple[np.datetime64, np.ndarray]], stations: Iterable[Station]
) -> xr.Dataset:
    """Soundings as CF profiles (CF-1.12, 9.3.2: an incomplete multidimensional array).

    Args:
        soundings: Available time and levels (level, column) by station id and time.
        stations: With their places.

    Returns:
        ``VARIABLE(profile, level)``, pressure falling along ``level``, NaN beyond the last level of a sounding; ``station``, ``time`` and
        ``available_time`` along ``profile``, in the order of time and station.
    """
    order = sorted(soundings, key=lambda key: (key[1], key[0]))
    values = np.full((len(LEVELS), len(order), max((len(soundings[key][1]) for key in order), default=0)), np.nan)
    for number, key in enumerate(order):
        levels = soundings[key][1]
        values[:, number, : len(levels)] = levels.T
    data = {
        name: (("profile", "level"), values[column].astype(np.float32), {"units": units, "standard_name": standard})
        for column, (name, (units, standard)) in enumerate(LEVELS.items())
    }
    place = {station.id: station for station in stations}
    coords = {
        STATION: ("profile", np.array([station for station, _ in order], dtype=object)),
        TIME: ("profile", np.array([time for _, time in order], dtype="datetime64[ns]")),
        AVAILABLE_TIME: ("profile", np.array([soundings[key][0] for key in order], dtype="datetime64[ns]")),
        "latitude": ("profile", np.array([place[station].latitude for station, _ in order])),
        "longitude": ("profile", np.array([place[station].longitude for station, _ in order])),
    }
    return xr.Dataset(data, coords=coords, attrs={"featureType": "profile"})


def base_variable(name: str) -> Variable | None:
    """The variable of the catalog that a name of the archive holds values of: itself, or ``VARIABLE_<H>h``; else None."""
    if name in VARIABLES:
        return VARIABLES[name]
    stem, _, tail = name.rpartition("_")
    return VARIABLES.get(stem) if tail.endswith("h") and tail[:-1].replace(".", "").isdigit() else None


def _attributes(name: str) -> dict[str, str]:
    """CF attributes of what the catalog has no name for: intervals, longer sums, stated places."""
    if name in VARIABLES:
        return {}
    if name.endswith("_interval"):
        return {"units": "hours", "long_name": f"length of the interval of {name.removesuffix('_interval')}, which ends at time"}
    known = base_variable(name)
    if known is None:
        return {"units": "degree", "long_name": f"{name.replace('_', ' ')} of the report"}
    hours = name.rpartition("_")[2].removesuffix("h")
    attributes = {"units": known.units, "long_name": f"{known.long_name}, {hours} h"}
    attributes["cell_methods"] = f"{known.cell_methods} (interval: {hours} h)"
    return attributes | ({"standard_name": known.standard_name} if known.standard_name else {})


def complete(data: xr.Dataset) -> xr.Dataset:
    """The same with what follows from what was reported, where it was not: wind components, dew point, relative humidity.

    A direction beyond 360 degrees or a variable wind gives no components; a calm gives zero ones.
    """
    made: dict[str, np.ndarray] = {}

    def known(name: str) -> np.ndarray:
        return data[name].values if name in data else np.full((data.sizes[TIME], data.sizes[STATION]), np.nan, dtype=np.float32)

    if "wind_speed_10m" in data and "wind_from_direction_10m" in data:
        speed, direction = known("wind_speed_10m"), known("wind_from_direction_10m")
        angle = np.deg2rad(np.where((direction >= 0) & (direction <= 360), direction, np.nan))
        calm = speed == 0
        made["wind_u_10m"] = np.where(calm, 0.0, -speed * np.sin(angle))
        made["wind_v_10m"] = np.where(calm, 0.0, -speed * np.cos(angle))
    if "temperature_2m" in data and ("dew_point_temperature_2m" in data or "relative_humidity_2m" in data):
        temperature = known("temperature_2m")
        dew_point, humidity = known("dew_point_temperature_2m"), known("relative_humidity_2m")
        with np.errstate(all="ignore"):
            made["dew_point_temperature_2m"] = dew_point_of(temperature, humidity)
            made["relative_humidity_2m"] = 100.0 * vapour_pressure(dew_point) / vapour_pressure(temperature)
    filled = {}
    for name, values in made.items():
        own = known(name)
        both = np.where(np.isnan(own), values, own).astype(np.float32)
        if name in data or np.isfinite(both).any():
            filled[name] = ((TIME, STATION), both, VARIABLES[name].attributes())
    return data.assign(filled)


def vapour_pressure(temperature: np.ndarray) -> np.ndarray:
    """Saturation vapour pressure over water, Pa, at a temperature in degree_Celsius: Magnus' formula of WMO-No. 8 (2018), annex 4.B."""
    return np.asarray(611.2 * np.exp(17.62 * temperature / (243.12 + temperature)))


def dew_point_of(temperature: np.ndarray, humidity: np.ndarray) -> np.ndarray:
    """Dew point in degree_Celsius from temperature in degree_Celsius and relative humidity in percent: :func:`vapour_pressure` inverted."""
    ratio = np.log(np.where(humidity > 0, humidity, np.nan) / 100.0) + 17.62 * temperature / (243.12 + temperature)
    return np.asarray(243.12 * ratio / (17.62 - ratio))


def fetch(gathered: Gathered, transport: Transport, urls: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files that could be read, one after the other; for every other one its reason is put down."""
    for url in urls:
        try:
            yield url, transport.read(url)
        except NotAvailableError:
            gathered.flaw(url, "the provider does not have it (yet)")
        except SourceError as error:
            gathered.flaw(url, str(error))


def whole_lines(gathered: Gathered, url: str, data: bytes) -> str:
    """The lines of a text file; one that does not end was cut off, or is still being written, and is put down instead."""
    text = data.decode("utf-8", "replace")
    end = text.rfind("\n") + 1
    if text[end:].strip():
        gathered.flaw(url, "its last line does not end: the file is cut off, or not written to its end yet", text.count("\n") + 1, data)
    return text[:end]
