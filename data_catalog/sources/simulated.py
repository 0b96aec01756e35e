"""The centres and the station network of the simulated atmosphere, as sources like any other: specs and layouts, no truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr

from data_catalog import bufr
from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.observations import Gathered, Reports
from data_catalog.regions import Region
from data_catalog.settings import Profile
from data_catalog.sources import ecmwf, gauges, metar, ncep, synop
from data_catalog.sources.base import (
    FieldKey,
    GridSource,
    GridSpec,
    Host,
    Progress,
    StationSource,
    StationSpec,
    Transport,
    day_and_hour,
    lead_steps,
    silent,
)
from data_catalog.sources.gribfiles import GribSource
from data_catalog.stations import Station, by_code

GLOBAL_EPS: Final = "simulated-global-eps"
REGIONAL_EPS: Final = "simulated-regional-eps"
GLOBAL_DET: Final = "simulated-global-det"
AI_EPS: Final = "simulated-ai-eps"
NETWORK: Final = "simulated-stations"

_LEADS: Final = lead_steps((0, 144, 3), (150, 240, 6))
_TINY_LEADS: Final = lead_steps((3, 24, 3))
_TINY_MEMBERS: Final = 5

VARIABLES: Final = (
    "temperature_2m",
    "dew_point_temperature_2m",
    "wind_u_10m",
    "wind_v_10m",
    "wind_gust_10m",
    "pressure_reduced_to_mean_sea_level",
    "total_cloud_cover_atmosphere",
    "precipitation_amount",
    "downward_short_wave_radiation_flux_surface",
)
"""What every simulated centre offers."""

REPORTED: Final = (
    "temperature_2m", "temperature_2m_max", "temperature_2m_min", *VARIABLES[1:4], "wind_speed_10m", *VARIABLES[4:], "visibility",
)  # fmt: skip
"""What every simulated station reports."""

ANALYSED: Final = (*VARIABLES, "convective_available_potential_energy", "precipitable_water", "visibility")
"""What a gridded analysis has."""

ANALYSIS_HOURS: Final = 6
"""Hours between two analyses."""

GLOBAL_EPS_RESOLUTION: Final = 0.5
"""degrees; the other centres publish on the region's own grid."""


class SimulatedAtmosphere(Protocol):
    """What makes the data that these sources then read; :func:`data_catalog.sources.registry.simulator` gives one."""

    @property
    def specs(self) -> Mapping[str, GridSpec]:
        """What the centres declare, by dataset."""
        ...

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the station networks."""
        ...

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of everything that comes from here."""
        ...

    def emit(self, init_time: np.datetime64, progress: Progress = silent) -> dict[str, bool]:
        """Let every centre publish a cycle: by dataset, whether it was written now."""
        ...

    def reports(self, since: np.datetime64, until: np.datetime64, progress: Progress = silent) -> int:
        """Let the stations report for since < hour <= until: how many hours were written now."""
        ...

    def observations(self, times: np.ndarray) -> xr.Dataset:
        """``VARIABLE(time, station)`` that the stations report at whole hours."""
        ...

    def analyses(self, times: np.ndarray) -> xr.Dataset:
        """``VARIABLE(time, latitude, longitude)``: the atmosphere as it was, intervals of 6 h."""
        ...

    def history(self, dataset: str, init_times: np.ndarray, progress: Progress = silent) -> xr.Dataset:
        """``VARIABLE(init_time, lead_time, station, ensemble_member)`` of past forecasts."""
        ...


def _spec(dataset: str, title: str, members: int, delay_hours: float, profile: Profile) -> GridSpec:
    tiny = profile == "tiny"
    return GridSpec(
        dataset=dataset,
        title=title,
        hosts=(Host(dataset),),
        cycles=(0, 6, 12, 18),
        delay_hours=delay_hours,
        lead_hours=_TINY_LEADS if tiny else _LEADS,
        members=min(members, _TINY_MEMBERS) if tiny else members,
        variables=VARIABLES,
        grid="",
        simulated=True,
        licence="Apache-2.0, simulated data",
    )


def _coarse_gefs(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return (ncep.gefs_path(init_time, key.lead_hours, key.member, "a", "0p50"),)


def _aifs_ens(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return (ecmwf.path(init_time, key.lead_hours, "aifs-ens", "enfo", "pf" if key.member else "cf"),)


def grid_sources(profile: Profile) -> dict[str, GridSource]:
    """The simulated centres by dataset: three ensembles and a deterministic model; in the profile ``tiny`` the first two ensembles."""
    found: list[GridSource] = [
        GribSource(_spec(GLOBAL_EPS, "Simulated global ensemble", 31, 4.0, profile), _coarse_gefs, ncep.IDX),
        ecmwf.ens(_spec(REGIONAL_EPS, "Simulated regional ensemble", 10, 5.0, profile)),
    ]
    if profile != "tiny":
        found.append(ncep.gfs(_spec(GLOBAL_DET, "Simulated global model", 1, 3.0, profile)))
        found.append(GribSource(_spec(AI_EPS, "Simulated learned ensemble", 51, 4.5, profile), _aifs_ens, ecmwf.INDEX))
    return {source.spec.dataset: source for source in found}


def report_paths(time: np.datetime64) -> tuple[str, str, str]:
    """Where the reports of an hour lie: SYNOP in BUFR, METAR in JSON, gauges in CSV; the last is written last."""
    day, hour = day_and_hour(time)
    return f"{day}/synop/{hour}.bufr", f"{day}/metar/{hour}.json", f"{day}/gauges/{hour}.csv"


@dataclass(frozen=True, slots=True)
class SimulatedReports:
    """Reports of the simulated stations, in the three forms in which stations report, read by those who read the real ones.

    Attributes:
        stations: Stations that are kept; others are passed over.
        spec: What it declares.
        timeout: Seconds one BUFR message may take to decode.
    """

    stations: tuple[Station, ...]
    spec: StationSpec
    timeout: float = 120.0

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        gathered = Gathered(self.spec, self.stations, since, until)
        hour = np.timedelta64(1, "h")
        numbers, aerodromes = synop.known_by_number(self.stations), by_code(self.stations, "metar")
        names = {station.id: station for station in self.stations}
        with bufr.worker(self.timeout) as worker:
            for time in np.arange(since.astype("datetime64[h]") + hour, until.astype("datetime64[h]") + hour, hour):
                for path in report_paths(time):
                    try:
                        data = transport.read(path)
                    except NotAvailableError:
                        continue
                    except SourceError as error:
                        gathered.flaw(path, str(error))
                        continue
                    if path.endswith(".bufr"):
                        synop.take(gathered, path, data, numbers, worker)
                    elif path.endswith(".json"):
                        metar.take(gathered, path, data, aerodromes)
                    else:
                        gauges.take(gathered, path, data, names)
        return gathered.reports()


def station_sources(region: Region) -> dict[str, StationSource]:
    """The simulated network by name: every operating station of the region."""
    spec = StationSpec(
        network=NETWORK,
        title="Simulated stations",
        url=NETWORK,
        delay_hours=1.0 / 3.0,
        variables=REPORTED,
        simulated=True,
        licence="Apache-2.0, simulated data",
    )
    return {NETWORK: SimulatedReports(region.operating, spec)}
