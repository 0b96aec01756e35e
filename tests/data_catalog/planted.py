"""A record of several stations with every defect that records here are known to have, and true extremes that look like defects.

The weather is the simulated truth (without the faults of its own sensors), seen by sensors with errors of their own. What is planted is
drawn from a seed: thresholds were chosen on seeds 1 to 5, others are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from data_catalog.grids import station_coordinates
from data_catalog.settings import load_settings
from data_catalog.simulated.climate import hours_since_1970
from data_catalog.simulated.places import Points
from data_catalog.simulated.weather import Bases
from data_catalog.sources import registry

HOUR = np.timedelta64(1, "h")
RESOLUTION = {
    "temperature_2m": 0.1,
    "dew_point_temperature_2m": 0.1,
    "pressure_reduced_to_mean_sea_level": 10.0,
    "wind_speed_10m": 0.1,
    "wind_from_direction_10m": 10.0,
    "wind_gust_10m": 0.1,
    "precipitation_amount": 0.1,
}


@dataclass
class Planted:
    """A record, what was planted where, and which true extremes have to survive.

    Attributes:
        record: As :mod:`data_catalog.observations` has it.
        defects: By kind, and by variable in it, where. (time, station)
        extremes: By name, and by variable in it, where.
    """

    record: xr.Dataset
    random: np.random.Generator
    defects: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    extremes: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    taken: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def shape(self) -> tuple[int, int]:
        return self.record.sizes["time"], self.record.sizes["station"]

    def values(self, name: str) -> np.ndarray:
        return self.record[name].values

    def defect(self, kind: str, name: str, rows: slice | np.ndarray, column: int) -> None:
        where = self.defects.setdefault(kind, {}).setdefault(name, np.zeros(self.shape, dtype=bool))
        where[rows, column] = np.isfinite(self.values(name)[rows, column])

    def extreme(self, kind: str, name: str, rows: slice | np.ndarray, columns: slice | int | np.ndarray) -> None:
        self.extremes.setdefault(kind, {}).setdefault(name, np.zeros(self.shape, dtype=bool))[rows, columns] = True

    def spell(self, length: int, column: int | None = None) -> tuple[slice, int]:
        """A stretch of hours at a station in which nothing else was planted."""
        for _ in range(1000):
            where = int(self.random.integers(self.shape[1])) if column is None else column
            start = int(self.random.integers(24, self.shape[0] - length - 24))
            if not self.taken[start - 6 : start + length + 6, where].any():
                self.taken[start - 6 : start + length + 6, where] = True
                return slice(start, start + length), where
        raise AssertionError("the record is too short for what is to be planted")


def weather(start: str, days: int, world: int) -> xr.Dataset:
    """True weather at the stations of the region as good sensors see it, hourly."""
    settings = load_settings(world=world)
    simulator = registry.simulator(settings)
    stations = settings.load_region().operating
    times = np.datetime64(start, "ns") + np.arange(24 * days) * HOUR
    truth = simulator.truth.weather(hours_since_1970(times), Bases.at(simulator.climate, Points.stations(stations)))
    random = np.random.default_rng(world)

    def error(size: float) -> np.ndarray:
        """Red noise with a memory of some six hours."""
        white = random.normal(size=(times.size, len(stations)))
        found = np.empty_like(white)
        found[0] = white[0]
        for row in range(1, times.size):
            found[row] = 0.85 * found[row - 1] + np.sqrt(1 - 0.85**2) * white[row]
        return size * found

    temperature = truth["temperature_2m"] + error(0.5)
    depression = np.maximum(truth["temperature_2m"] - truth["dew_point_temperature_2m"] + error(0.4), 0.0)
    east, north = truth["wind_u_10m"] + error(0.6), truth["wind_v_10m"] + error(0.6)
    speed = np.hypot(east, north)
    exact = {
        "temperature_2m": temperature,
        "dew_point_temperature_2m": temperature - depression,
        "pressure_reduced_to_mean_sea_level": truth["pressure_reduced_to_mean_sea_level"] + error(20.0),
        "wind_speed_10m": speed,
        "wind_from_direction_10m": np.rad2deg(np.arctan2(-east, -north)) % 360.0,
        "wind_gust_10m": np.maximum(truth["wind_gust_10m"], 1.2 * speed),
        "precipitation_amount": truth["precipitation_amount"],
    }
    dims = ("time", "station")
    lost = random.random((times.size, len(stations))) < 0.01
    data = {
        name: (dims, np.where(lost, np.nan, np.round(value / RESOLUTION[name]) * RESOLUTION[name]).astype(np.float32))
        for name, value in exact.items()
    }
    data["precipitation_amount_interval"] = (dims, np.where(lost, np.nan, 1.0).astype(np.float32))
    places = station_coordinates(stations)
    for axis in ("latitude", "longitude"):
        data[f"reported_{axis}"] = (dims, np.where(lost, np.nan, np.round(places[axis].values, 2)[None]).astype(np.float32))
    return xr.Dataset(data, coords={"time": times, "available_time": ("time", times + HOUR), **places})


def planted(start: str, days: int, seed: int) -> Planted:
    """The record of a seed with everything planted."""
    record = weather(start, days, world=seed)
    found = Planted(record, np.random.default_rng(1000 + seed))
    found.taken = np.zeros(found.shape, dtype=bool)
    for plant in (_extremes, _moved, _synoptic, _unknown_interval, _offset, _stuck, _blocked, _jumps, _ranges, _contradictions):
        plant(found)
    return found


# --- true extremes ---------------------------------------------------------------------------------------------------------------------


def _extremes(found: Planted) -> None:
    """A typhoon (985 hPa, 89 km/h), 41.5 degC, 255 mm in a day, a thunderstorm over one station, a cold front over all."""
    random, (hours, count) = found.random, found.shape
    every = slice(None)
    slots = random.permutation(np.linspace(100, hours - 150, 5).astype(int))

    at = int(slots[0])
    for column in range(count):
        near = np.exp(-(((np.arange(hours) - at - 0.4 * column) / 5.0) ** 2))
        depth = random.uniform(0.85, 1.0)
        values = found.values("pressure_reduced_to_mean_sea_level")
        low = values[:, column] - near * depth * (values[at, column] - 98500.0)
        values[:, column] = np.where(near > 1e-3, np.round(low, -1), values[:, column])
        wind = found.values("wind_speed_10m")
        wind[:, column] = np.round(np.maximum(wind[:, column], 17.0 * near * depth), 1)
        gust = found.values("wind_gust_10m")
        gust[:, column] = np.round(np.maximum(np.maximum(gust[:, column], wind[:, column] * 1.3), 24.7 * near * depth), 1)
    for name in ("pressure_reduced_to_mean_sea_level", "wind_speed_10m", "wind_gust_10m"):
        found.extreme("typhoon", name, slice(at - 8, at + 12), every)
    found.taken[at - 20 : at + 24] = True

    at = int(slots[1]) // 24 * 24 + 7              # 14 ICT
    temperature = found.values("temperature_2m")
    rise = np.clip(1 - np.abs(np.arange(hours) - at) / 7.0, 0, 1)
    for column in range(count):
        top = 41.5 if column == 0 else random.uniform(38.0, 41.0)
        temperature[:, column] += (rise * (top - temperature[at, column])).astype(np.float32)
    temperature[:] = np.round(temperature, 1)
    dew_point = found.values("dew_point_temperature_2m")
    dew_point[:] = np.minimum(dew_point, temperature)
    found.extreme("heat", "temperature_2m", slice(at - 5, at + 6), every)
    found.taken[at - 12 : at + 12] = True

    at = int(slots[2])
    shape = np.array([2, 4, 9, 21, 38, 60, 52, 31, 17, 9, 6, 3, 2, 1])
    for column in range(count):
        rain = found.values("precipitation_amount")
        share = 1.0 if column == 1 else random.uniform(0.2, 0.6)
        rows = np.flatnonzero(np.isfinite(rain[at : at + shape.size, column]))
        rain[at + rows, column] = np.round(shape * share * random.uniform(0.9, 1.1, shape.size), 1)[rows]
    found.extreme("255 mm", "precipitation_amount", slice(at, at + shape.size), every)
    found.taken[at - 6 : at + 30] = True

    at, column = int(slots[3]), 2
    temperature[at : at + 6, column] = np.round(temperature[at - 1, column] - np.array([8.5, 9.0, 8.0, 6.5, 5.0, 3.0]), 1)
    dew_point[at : at + 6, column] = np.minimum(dew_point[at : at + 6, column], temperature[at : at + 6, column])
    found.values("wind_gust_10m")[at, column] = 23.0
    rain = found.values("precipitation_amount")[at : at + 2, column]
    rain[:] = np.where(np.isfinite(rain), [71.0, 24.0], np.nan)
    for name in ("temperature_2m", "wind_gust_10m", "precipitation_amount"):
        found.extreme("thunderstorm", name, slice(at, at + 2), column)
    found.taken[at - 12 : at + 24, column] = True

    at = int(slots[4])
    for column in range(count):
        since = np.arange(hours) - at - column % 3
        fall = np.where(since >= 0, 9.0 * (1 - np.exp(-np.maximum(since, 0) / 1.5)) * np.exp(-np.maximum(since, 0) / 60.0), 0.0)
        temperature[:, column] = np.round(temperature[:, column] - fall, 1)
        dew_point[:, column] = np.minimum(np.round(dew_point[:, column] - 0.7 * fall, 1), temperature[:, column])
    found.extreme("cold front", "temperature_2m", slice(at, at + 12), every)
    found.taken[at - 12 : at + 24] = True


# --- defects ---------------------------------------------------------------------------------------------------------------------------

ALL = tuple(RESOLUTION)


def _moved(found: Planted) -> None:
    """For ten days a station's number stands for another place 22 km away: what comes is what that place reports."""
    rows, column = found.spell(240, 0)
    for axis, step in (("latitude", 0.2043), ("longitude", 0.007)):
        found.values(f"reported_{axis}")[rows, column] = found.record[axis].values[column] + step
    for name in ALL:
        found.values(name)[rows, column] = found.values(name)[rows, 1]
        found.defect("moved", name, rows, column)


def _synoptic(found: Planted) -> None:
    """Totals over 6 h that say they are hourly, with zeros between, all the time at one station."""
    column = found.shape[1] - 1
    rain = found.values("precipitation_amount")[:, column]
    hour = (found.record["time"].values - found.record["time"].values.astype("datetime64[D]")) / HOUR
    total = np.convolve(np.nan_to_num(rain), np.ones(6))[: rain.size]
    rain[:] = np.where(np.isnan(rain), np.nan, np.where(hour % 6 == 0, np.round(total, 1), 0.0))
    found.defect("synoptic", "precipitation_amount", slice(None), column)
    for where in found.extremes.values():
        if "precipitation_amount" in where:
            where["precipitation_amount"][:, column] = False


def _unknown_interval(found: Planted) -> None:
    """Amounts that do not say over what."""
    for _ in range(3):
        rows, column = found.spell(48, 4)
        found.values("precipitation_amount_interval")[rows, column] = np.nan
        found.defect("unknown interval", "precipitation_amount", rows, column)


def _offset(found: Planted) -> None:
    """A sensor that is off by much for days."""
    for name, size, length in (("temperature_2m", 7.0, 96), ("pressure_reduced_to_mean_sea_level", 900.0, 72)):
        rows, column = found.spell(length, 3 if name == "temperature_2m" else 5)
        values = found.values(name)
        values[rows, column] += -size if name == "temperature_2m" else size
        found.defect("offset", name, rows, column)
        if name == "temperature_2m":
            found.values("dew_point_temperature_2m")[rows, column] -= size
            found.defect("offset", "dew_point_temperature_2m", rows, column)


def _stuck(found: Planted) -> None:
    """The same value for days."""
    for name, length in (
        ("temperature_2m", 60), ("temperature_2m", 30), ("dew_point_temperature_2m", 72), ("pressure_reduced_to_mean_sea_level", 96),
        ("wind_speed_10m", 48), ("wind_from_direction_10m", 72),
    ):    # fmt: skip
        rows, column = found.spell(length)
        values = found.values(name)
        there = np.isfinite(values[rows, column])
        seen = values[rows, column][there]
        start = seen[:6].max() if name.startswith("wind") else seen.mean()
        step = RESOLUTION[name]
        values[rows, column] = np.where(there, np.float32(max(np.round(start / step) * step, step)), np.nan)
        found.defect("stuck", name, rows, column)


def _blocked(found: Planted) -> None:
    """A gauge that says the same amount for hours."""
    rows, column = found.spell(12, 2)
    found.values("precipitation_amount")[rows, column] = 5.2
    found.defect("stuck", "precipitation_amount", rows, column)


def _singles(found: Planted, kind: str, name: str, count: int, change: Callable[[float], float], length: int = 1) -> None:
    for _ in range(count):
        rows, column = found.spell(length)
        values = found.values(name)
        elsewhere = name != "precipitation_amount" or column != found.shape[1] - 1      # all of that gauge's rain is a defect already
        if np.isfinite(values[rows, column]).all() and elsewhere:
            values[rows, column] = [np.float32(change(float(value))) for value in values[rows, column]]
            found.defect(kind, name, rows, column)


def _jumps(found: Planted) -> None:
    """Away and back: a digit or a sign that was lost, for one report or two."""
    random = found.random
    for length in (1, 2):
        _singles(found, "jump", "temperature_2m", 20, lambda value: value + random.choice([-1, 1]) * random.uniform(12, 20), length)
        _singles(found, "jump", "dew_point_temperature_2m", 15, lambda value: value - random.uniform(14, 22), length)
        _singles(
            found, "jump", "pressure_reduced_to_mean_sea_level", 15,
            lambda value: value + random.choice([-1, 1]) * random.uniform(1200, 3000), length,
        )    # fmt: skip


def _ranges(found: Planted) -> None:
    """Codes for missing that were taken for values, other units, lost signs."""
    _singles(found, "range", "temperature_2m", 12, lambda value: found.random.choice([99.9, 300.2, -99.9, 84.0]))
    _singles(found, "range", "pressure_reduced_to_mean_sea_level", 12, lambda value: found.random.choice([value / 100, 0.0, 999990.0]))
    _singles(found, "range", "precipitation_amount", 12, lambda value: found.random.choice([-1.0, 999.9, 450.0]))
    _singles(found, "range", "wind_speed_10m", 12, lambda value: found.random.choice([-9.0, 99.9, 127.0]))
    _singles(found, "direction", "wind_from_direction_10m", 25, lambda value: found.random.choice([370.0, 990.0, 999.0, 720.0]))


def _contradictions(found: Planted) -> None:
    """Dew points above the temperature, gusts below the wind."""
    temperature, wind = found.values("temperature_2m"), found.values("wind_speed_10m")
    for _ in range(25):
        rows, column = found.spell(1)
        if np.isfinite(temperature[rows, column]).all():
            found.values("dew_point_temperature_2m")[rows, column] = np.round(temperature[rows, column] + found.random.uniform(1.5, 4), 1)
            found.defect("inconsistent", "dew_point_temperature_2m", rows, column)
    for _ in range(25):
        rows, column = found.spell(1)
        if (wind[rows, column] > 2).all():
            found.values("wind_gust_10m")[rows, column] = np.round(0.4 * wind[rows, column], 1)
            found.defect("inconsistent", "wind_gust_10m", rows, column)
