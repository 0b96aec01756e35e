"""The simulated atmosphere as its users meet it: centres that publish GRIB2, stations that report, and a past to learn from.

Everything is a pure function of (region, seed, profile) and of the time asked for. Only the source registry imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import AVAILABLE_TIME, BOUNDS, ENSEMBLE_MEMBER, INIT_TIME, LATITUDE, LEAD_TIME, LONGITUDE, STATION, TIME
from data_catalog.grids import axis_weights, station_coordinates, to_stations
from data_catalog.regions import Region
from data_catalog.settings import Profile
from data_catalog.simulated import emit, network
from data_catalog.simulated.centres import Centre, Forecast
from data_catalog.simulated.climate import Climate, Points, hours_since_1970
from data_catalog.simulated.noise import Floats
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases, Faults
from data_catalog.sources import reports, simulated
from data_catalog.sources.base import GridSpec, Progress, day_and_hour, silent

VERSION: Final = "first-1"
"""Changes with every change of what the same arguments give."""

_HOUR: Final = np.timedelta64(1, "h")
_MARGIN: Final = 2  # cells around the region's box that a centre publishes
_REPORT_INTERVAL_HOURS: Final = 1


@dataclass(frozen=True, slots=True)
class _Publisher:
    """A centre and how it writes its files."""

    centre: Centre
    write: emit.Writer
    cycle_folder: Callable[[str, str], str]  # of day and hour


_PUBLISHERS: Final[Mapping[str, _Publisher]] = {
    simulated.GLOBAL_EPS: _Publisher(
        Centre(1, 20, 0.45, 1.0, Faults(-0.4, 0.5, 0.85, 0.6, 1.10, 40.0, -0.10, drizzle=0.15, rain=0.75, early=3.0)),
        emit.write_gefs,
        lambda day, hour: f"gefs.{day}/{hour}",
    ),
    simulated.REGIONAL_EPS: _Publisher(
        Centre(2, 10, 0.30, 1.1, Faults(0.5, -0.3, 1.10, -0.5, 0.95, -60.0, 0.15, drizzle=0.05, rain=1.00, early=1.0)),
        emit.write_ens,
        lambda day, hour: f"{day}/{hour}z",
    ),
    simulated.GLOBAL_DET: _Publisher(
        Centre(3, 1, 1.0, 0.9, Faults(-0.8, 0.4, 0.90, 0.2, 1.20, 20.0, 0.0, drizzle=0.10, rain=0.85, early=2.0)),
        emit.write_gfs,
        lambda day, hour: f"gfs.{day}/{hour}",
    ),
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
    def _truth(self) -> Truth:
        return Truth(Climate.of(self.region), self.seed)

    def _axes(self) -> tuple[Floats, Floats]:
        """Axes of the published grid, its margin included."""
        extra = self.region.resolution * np.arange(1, _MARGIN + 1)
        lat, lon = self.region.latitude, self.region.longitude
        latitude = np.concatenate([lat[0] + extra[::-1], lat, lat[-1] - extra])
        longitude = np.concatenate([lon[0] - extra[::-1], lon, lon[-1] + extra])
        return np.round(latitude, 6), np.round(longitude, 6)

    def forecast(self, dataset: str, init_time: np.datetime64, latitude: Floats, longitude: Floats) -> dict[str, Floats]:
        """A centre's forecast on a grid by variable, shape (lead, member, latitude * longitude); rain is since the lead before."""
        return self._forecast(dataset, init_time, self._bases(latitude, longitude))

    def _bases(self, latitude: Floats, longitude: Floats) -> Bases:
        return Bases.at(self._truth.climate, Points.grid(latitude, longitude), gauges=False)

    def _forecast(self, dataset: str, init_time: np.datetime64, bases: Bases) -> dict[str, Floats]:
        spec, centre = self.specs[dataset], _PUBLISHERS[dataset].centre
        run = Centre(centre.number, spec.members, centre.spread, centre.skill, centre.faults)
        return Forecast.of(self._truth, run, init_time).weather(spec.lead_hours, bases)

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
        latitude, longitude = self._axes()
        fields = self.forecast(dataset, init_time, latitude, longitude)
        product = emit.Product(init_time, self.specs[dataset].lead_hours, latitude, longitude, fields)

        def named(what: str, done: int, total: int) -> None:
            progress(f"{what} of {dataset}", done, total)

        return emit.write_aside(lambda aside: _PUBLISHERS[dataset].write(product, aside, named), base, inside)

    def reports(self, since: np.datetime64, until: np.datetime64, progress: Progress = silent) -> int:
        """Let the stations report, one file an hour with since < hour <= until.

        Returns:
            How many files were written now; those that were there are left as they are.
        """
        base = self.folder / simulated.NETWORK
        wanted = np.arange(since.astype("datetime64[h]") + _HOUR, until.astype("datetime64[h]") + _HOUR, _HOUR)
        hours = [hour for hour in wanted if not (base / reports.path(hour)).is_file()]
        if not hours:
            return 0
        observed = self.observations(np.array(hours))
        ids = [station.id for station in self.region.operating]
        for number, hour in enumerate(hours):
            values = {name: observed[name].values[number] for name in simulated.REPORTED}
            target = base / reports.path(hour)
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.{os.getpid()}")
            aside.write_text(reports.render(ids, hour, values, _REPORT_INTERVAL_HOURS), encoding="utf-8")
            aside.replace(target)
            progress("reports", number + 1, len(hours))
        return len(hours)

    def observations(self, times: np.ndarray) -> xr.Dataset:
        """What the stations report at whole hours.

        Args:
            times: UTC, ascending, shape (time,).

        Returns:
            ``VARIABLE(time, station)`` as :class:`data_catalog.sources.reports.CsvReports` reads it from the files; rain and short wave
            are those of the hour before, as ``<VARIABLE>_interval`` says.
        """
        points = Points.stations(self.region.operating)
        hours = hours_since_1970(times)
        weather = self._truth.weather(hours, Bases.at(self._truth.climate, points, gauges=True), gauges=True)
        values = network.report(self.seed, self.region.operating, hours, weather)
        data = {name: ((TIME, STATION), values[name]) for name in simulated.REPORTED}
        for name in reports.columns(simulated.REPORTED):
            if name.endswith("_interval"):
                reported = np.isfinite(values[name.removesuffix("_interval")])
                data[name] = ((TIME, STATION), np.where(reported, np.float32(_REPORT_INTERVAL_HOURS), np.float32(np.nan)))
        moments = np.asarray(times).astype("datetime64[ns]")
        delay = simulated.station_sources(self.region)[simulated.NETWORK].spec.delay_hours
        available = moments + np.timedelta64(round(delay * 3600), "s")
        coords = {TIME: moments, AVAILABLE_TIME: (TIME, available), **station_coordinates(self.region.operating)}
        return xr.Dataset(data, coords=coords, attrs={**self.attributes, "network": simulated.NETWORK})

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
        latitude, longitude, needed = self._cells_of_stations()
        grid = Points.grid(latitude, longitude)
        bases = Bases.at(self._truth.climate, Points(grid.latitude[needed], grid.longitude[needed], grid.elevation[needed]), gauges=False)
        box = (len(init_times), len(spec.lead_hours), spec.members, grid.size)
        fields = {name: np.full(box, np.nan, dtype=np.float32) for name in [*spec.variables, "wind_speed_10m"]}
        for number, init_time in enumerate(init_times):
            run = self._forecast(dataset, init_time, bases)
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
            ENSEMBLE_MEMBER: np.arange(spec.members),
            AVAILABLE_TIME: (INIT_TIME, starts + np.timedelta64(round(spec.delay_hours * 3600), "s")),
        }
        return found.assign(lead_time_bounds=((LEAD_TIME, BOUNDS), bounds)).assign_coords(coords).assign_attrs(self.attributes)

    def _cells_of_stations(self) -> tuple[Floats, Floats, np.ndarray]:
        """The published grid around the stations: its axes, and the numbers of the cells from which a station is interpolated."""
        latitude, longitude = self._axes()
        half = self.region.resolution
        lats = np.array([station.latitude for station in self.region.operating])
        lons = np.array([station.longitude for station in self.region.operating])
        latitude = latitude[(latitude > lats.min() - half) & (latitude < lats.max() + half)]
        longitude = longitude[(longitude > lons.min() - half) & (longitude < lons.max() + half)]
        south, north, _ = axis_weights(latitude, lats, "bilinear")
        west, east, _ = axis_weights(longitude, lons, "bilinear")
        rows, columns = np.stack([south, south, north, north]), np.stack([west, east, west, east])
        return latitude, longitude, np.unique(rows * longitude.size + columns)
