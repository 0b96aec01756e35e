"""The simulated atmosphere as its users meet it: centres that publish GRIB2, stations that report, and a past to learn from.

Everything is a pure function of (region, seed, profile) and of the time asked for. Only the source registry imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import (
    AVAILABLE_TIME,
    BOUNDS,
    ENSEMBLE_MEMBER,
    INIT_TIME,
    LATITUDE,
    LEAD_TIME,
    LONGITUDE,
    STATION,
    TIME,
    attributes,
)
from data_catalog.grids import axis_weights, station_coordinates, to_stations
from data_catalog.observations import complete
from data_catalog.regions import Region
from data_catalog.settings import Profile
from data_catalog.simulated import emit, messages, network
from data_catalog.simulated.centres import Centre, Forecast
from data_catalog.simulated.climate import Climate, hours_since_1970
from data_catalog.simulated.noise import Floats
from data_catalog.simulated.places import Points
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases
from data_catalog.simulated.world import World
from data_catalog.sources import simulated
from data_catalog.sources.base import GridSpec, Progress, day_and_hour, silent
from data_catalog.variables import VARIABLES

VERSION: Final = "3"
"""Changes with every change of what the same arguments give; the reference fields of its tests are those of this version."""

HISTORY_MEMBERS: Final = 11
"""Members of a past forecast that are kept, as in public reforecasts."""

_HOUR: Final = np.timedelta64(1, "h")
_MARGIN: Final = 2  # cells around the region's box that a centre publishes


@dataclass(frozen=True, slots=True)
class _Publisher:
    """How a centre writes its files, the folder of a cycle by day and hour, and its grid in degrees (0: the region's)."""

    write: emit.Writer
    cycle_folder: Callable[[str, str], str]
    resolution: float = 0.0


_PUBLISHERS: Final[Mapping[str, _Publisher]] = {
    simulated.GLOBAL_EPS: _Publisher(emit.write_gefs, lambda day, hour: f"gefs.{day}/{hour}", simulated.GLOBAL_EPS_RESOLUTION),
    simulated.REGIONAL_EPS: _Publisher(emit.write_ens, lambda day, hour: f"{day}/{hour}z"),
    simulated.GLOBAL_DET: _Publisher(emit.write_gfs, lambda day, hour: f"gfs.{day}/{hour}"),
    simulated.AI_EPS: _Publisher(emit.write_aifs_ens, lambda day, hour: f"{day}/{hour}z"),
}


@dataclass(frozen=True, eq=False)
class Simulator:
    """The simulated atmosphere of a region.

    Attributes:
        region: Where.
        seed: Which world.
        profile: ``tiny`` publishes little.
        folder: Where the sources publish, one folder each.
    """

    region: Region
    seed: int
    profile: Profile
    folder: Path

    @cached_property
    def specs(self) -> dict[str, GridSpec]:
        """What the centres declare, by dataset."""
        return {name: source.spec for name, source in simulated.grid_sources(self.profile).items()}

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the station networks."""
        return (simulated.NETWORK,)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of everything that comes from here."""
        return {"simulated": True, "simulation": VERSION, "world": self.seed}

    @cached_property
    def climate(self) -> Climate:
        """Averages of the region."""
        return Climate.of(self.region)

    @cached_property
    def world(self) -> World:
        """What its centres and stations are like."""
        return World.of(self.seed, self.region.stations)

    @cached_property
    def truth(self) -> Truth:
        """What really happens; for tests and for what is drawn of the simulation itself."""
        return Truth(self.climate, self.seed)

    def axes(self, dataset: str) -> tuple[Floats, Floats]:
        """Latitudes (descending) and longitudes of a centre's published grid, its margin included."""
        step = _PUBLISHERS[dataset].resolution or self.region.resolution
        box = self.region
        north, south = np.ceil(box.latitude_north / step) + _MARGIN, np.floor(box.latitude_south / step) - _MARGIN
        west, east = np.floor(box.longitude_west / step) - _MARGIN, np.ceil(box.longitude_east / step) + _MARGIN
        return np.round(step * np.arange(north, south - 1.0, -1.0), 6), np.round(step * np.arange(west, east + 1.0), 6)

    def centre(self, dataset: str, init_time: np.datetime64) -> Centre:
        """A centre as it is at a time, with the members that it publishes in this profile."""
        centre = self.world.centre(dataset, float(hours_since_1970(init_time)))
        return replace(centre, members=min(centre.members, self.specs[dataset].members))

    def forecast(self, dataset: str, init_time: np.datetime64, latitude: Floats, longitude: Floats) -> dict[str, Floats]:
        """A centre's forecast on a grid by variable, shape (lead, member, latitude * longitude); rain is since the lead before."""
        return self._run(dataset, self.centre(dataset, init_time), init_time, self._bases(dataset, Points.grid(latitude, longitude)))

    def _bases(self, dataset: str, points: Points) -> Bases:
        return Bases.at(self.climate, points, self.world.centres[dataset].bands)

    def _run(self, dataset: str, centre: Centre, init_time: np.datetime64, bases: Bases) -> dict[str, Floats]:
        spec = self.specs[dataset]
        fields = Forecast.of(self.climate, self.seed, centre, init_time).weather(spec.lead_hours, bases)
        return {name: fields[name] for name in spec.variables}

    def emit(self, init_time: np.datetime64, progress: Progress = silent) -> dict[str, bool]:
        """Let every centre publish a cycle as GRIB2 with index files.

        Args:
            init_time: Start of the forecasts, UTC, a whole hour.
            progress: Called as it goes on.

        Returns:
            By dataset, whether it was written now; False means it was there already.
        """
        day, hour = day_and_hour(init_time)
        written = {}
        for dataset in self.specs:
            base, inside = self.folder / dataset, Path(_PUBLISHERS[dataset].cycle_folder(day, hour))
            written[dataset] = not (base / inside).is_dir() and self._publish(dataset, init_time, base, inside, progress)
        return written

    def _publish(self, dataset: str, init_time: np.datetime64, base: Path, inside: Path, progress: Progress) -> bool:
        latitude, longitude = self.axes(dataset)
        fields = self.forecast(dataset, init_time, latitude, longitude)
        product = emit.Product(init_time, self.specs[dataset].lead_hours, latitude, longitude, fields)

        def named(what: str, done: int, total: int) -> None:
            progress(f"{what} of {dataset}", done, total)

        return emit.write_aside(lambda aside: _PUBLISHERS[dataset].write(product, aside, named), base, inside)

    def reports(self, since: np.datetime64, until: np.datetime64, progress: Progress = silent) -> int:
        """Let the stations report for since < hour <= until: SYNOP in BUFR, METAR in JSON and gauges in CSV, a file of each an hour.

        Returns:
            How many hours were written now; those that were there are left as they are.
        """
        base = self.folder / simulated.NETWORK
        wanted = np.arange(since.astype("datetime64[h]") + _HOUR, until.astype("datetime64[h]") + _HOUR, _HOUR)
        hours = [hour for hour in wanted if not (base / simulated.report_paths(hour)[-1]).is_file()]
        if not hours:
            return 0
        observed = self.observations(np.array(hours))
        names = [str(name) for name in observed.data_vars]
        arrays = [observed[name].values for name in names]
        columns = [name for name in network.RESOLUTION if name in names]
        stations = self.region.operating
        for number, hour in enumerate(hours):
            said = [
                {name: float(array[number, place]) for name, array in zip(names, arrays, strict=True) if np.isfinite(array[number, place])}
                for place in range(len(stations))
            ]
            written = (
                messages.synop(stations, hour, said),
                messages.metar(stations, hour, observed[AVAILABLE_TIME].values[number], said),
                messages.gauges(stations, hour, columns, said),
            )
            for path, data in zip(simulated.report_paths(hour), written, strict=True):
                if data:
                    _put(base / path, data)
            progress("reports", number + 1, len(hours))
        return len(hours)

    def observations(self, times: np.ndarray) -> xr.Dataset:
        """What the stations report at whole hours.

        Args:
            times: UTC, ascending, shape (time,).

        Returns:
            ``VARIABLE(time, station)`` as :class:`data_catalog.sources.simulated.SimulatedReports` reads it from the files; rain, short
            wave, extremes and the gusts of SYNOP are over the hours before that ``<VARIABLE>_interval`` says.
        """
        stations = self.region.operating
        hours = hours_since_1970(times)
        known = network.needed(self.world, stations, hours)
        weather = self.truth.weather(known, Bases.at(self.climate, Points.stations(stations)))
        found = network.report(self.world, stations, hours, known, weather)
        data = {name: ((TIME, STATION), values) for name, values in found.values.items()}
        data |= {f"{name}_interval": ((TIME, STATION), length) for name, length in found.intervals.items()}
        there = np.isfinite(found.values["temperature_2m"])
        sent = np.array([network.has_synop(station) or network.has_metar(station) for station in stations])
        for name in ("latitude", "longitude"):  # messages state it
            place = np.array([getattr(station, name) for station in stations], dtype=np.float32)
            data[f"reported_{name}"] = ((TIME, STATION), np.where(there & sent, place, np.float32(np.nan)))
        moments = np.asarray(times).astype("datetime64[ns]")
        delay = simulated.station_sources(self.region)[simulated.NETWORK].spec.delay_hours
        available = moments + np.timedelta64(round(delay * 3600), "s")
        coords = {TIME: moments, AVAILABLE_TIME: (TIME, available), **station_coordinates(stations)}
        return complete(xr.Dataset(data, coords=coords, attrs={**self.attributes, "network": simulated.NETWORK}))

    def analyses(self, times: np.ndarray) -> xr.Dataset:
        """The nature run on the region's grid.

        Args:
            times: UTC, whole hours, ascending, shape (time,).

        Returns:
            ``VARIABLE(time, latitude, longitude)`` with ``time_bounds``: rain and short wave are over the 6 h before.
        """
        latitude, longitude = self.region.latitude, self.region.longitude
        bases = Bases.at(self.climate, Points.grid(latitude, longitude))
        hours, step = hours_since_1970(times), simulated.ANALYSIS_HOURS
        values: dict[str, list[Floats]] = {name: [] for name in simulated.ANALYSED}
        for hour in hours:
            hourly = self.truth.hourly(hour - np.arange(step - 1.0, -1.0, -1.0), bases)
            found = self.truth.instants(np.array([hour]), bases, hourly.at(np.array([step - 1])))
            found["precipitation_amount"] = hourly.rain.sum(axis=0, keepdims=True)
            found["downward_short_wave_radiation_flux_surface"] = hourly.short_wave.mean(axis=0, keepdims=True)
            for name, pieces in values.items():
                pieces.append(found[name].reshape(latitude.size, longitude.size))
        dims = (TIME, LATITUDE, LONGITUDE)
        moments = np.asarray(times).astype("datetime64[ns]")
        bounds = np.stack([moments - step * _HOUR, moments], axis=1)
        coords = {name: (name, axis, attributes(name)) for name, axis in ((TIME, moments), (LATITUDE, latitude), (LONGITUDE, longitude))}
        data = {name: (dims, np.stack(pieces).astype(np.float32), VARIABLES[name].attributes()) for name, pieces in values.items()}
        return xr.Dataset(data, coords=coords, attrs=self.attributes).assign(time_bounds=((TIME, BOUNDS), bounds))

    def history(self, dataset: str, init_times: np.ndarray, progress: Progress = silent) -> xr.Dataset:
        """A centre's past forecasts at the stations, by the way a cycle takes: from the grid, with the same error model.

        Args:
            dataset: A simulated centre.
            init_times: UTC, ascending, shape (init_time,).
            progress: Called as it goes on.

        Returns:
            ``VARIABLE(init_time, lead_time, station, ensemble_member)`` with ``lead_time_bounds`` and ``available_time(init_time)``; rain
            and short wave are over those bounds, NaN at lead 0.
        """
        spec = self.specs[dataset]
        latitude, longitude, needed = self._cells_of_stations(dataset)
        bases = self._bases(dataset, Points.grid(latitude, longitude).only(needed))
        members = min(spec.members, HISTORY_MEMBERS)
        box = (len(init_times), len(spec.lead_hours), members, latitude.size * longitude.size)
        fields = {name: np.full(box, np.nan, dtype=np.float32) for name in [*spec.variables, "wind_speed_10m"]}
        for number, init_time in enumerate(init_times):
            run = self._run(dataset, replace(self.centre(dataset, init_time), members=members), init_time, bases)
            run["wind_speed_10m"] = np.hypot(run["wind_u_10m"], run["wind_v_10m"])
            for name, field in fields.items():
                field[number][..., needed] = run[name]
            progress(f"history of {dataset}", number + 1, len(init_times))
        dims = (INIT_TIME, LEAD_TIME, ENSEMBLE_MEMBER, LATITUDE, LONGITUDE)
        shape = (*box[:-1], latitude.size, longitude.size)
        gridded = xr.Dataset(
            {name: (dims, field.reshape(shape)) for name, field in fields.items()}, coords={LATITUDE: latitude, LONGITUDE: longitude}
        )
        starts = np.asarray(init_times).astype("datetime64[ns]")
        leads = np.array(spec.lead_hours)
        bounds = np.stack([np.concatenate([[0], leads[:-1]]), leads], axis=1) * _HOUR.astype("timedelta64[ns]")
        bounds[leads == 0] = np.timedelta64("NaT", "ns")
        found = to_stations(gridded, self.region.operating).transpose(INIT_TIME, LEAD_TIME, STATION, ENSEMBLE_MEMBER)
        coords = {
            INIT_TIME: starts,
            LEAD_TIME: leads * _HOUR.astype("timedelta64[ns]"),
            ENSEMBLE_MEMBER: np.arange(members),
            AVAILABLE_TIME: (INIT_TIME, starts + np.timedelta64(round(spec.delay_hours * 3600), "s")),
        }
        return found.assign(lead_time_bounds=((LEAD_TIME, BOUNDS), bounds)).assign_coords(coords).assign_attrs(self.attributes)

    def _cells_of_stations(self, dataset: str) -> tuple[Floats, Floats, np.ndarray]:
        """The published grid around the stations: its axes, and the numbers of the cells from which a station is interpolated."""
        latitude, longitude = self.axes(dataset)
        half = float(longitude[1] - longitude[0])
        lats = np.array([station.latitude for station in self.region.operating])
        lons = np.array([station.longitude for station in self.region.operating])
        latitude = latitude[(latitude > lats.min() - half) & (latitude < lats.max() + half)]
        longitude = longitude[(longitude > lons.min() - half) & (longitude < lons.max() + half)]
        south, north, _ = axis_weights(latitude, lats, "bilinear")
        west, east, _ = axis_weights(longitude, lons, "bilinear")
        rows, columns = np.stack([south, south, north, north]), np.stack([west, east, west, east])
        return latitude, longitude, np.unique(rows * longitude.size + columns)


def _put(target: Path, data: bytes) -> None:
    """A file appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.replace(target)
