"""The archives of dynamical.org: years of GFS, GEFS, IFS ENS and AIFS forecasts as Zarr, opened by their address and cut.

Their words are ours (DESIGN: dimensions and variables are named as there), with rain as a rate over the hours since the lead before.
An archive is ``https://`` or ``s3://`` for plain Zarr, ``icechunk+s3://bucket/prefix?region=us-west-2`` for an Icechunk repository (with
the package icechunk installed), or a folder.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LATITUDE, LEAD_TIME, LONGITUDE
from data_catalog.errors import ConfigurationError, NotAvailableError, SourceError
from data_catalog.sources.base import FieldKey, GridSpec, Host, Transport, expected_keys, lead_steps
from data_catalog.variables import VARIABLES

if TYPE_CHECKING:
    from data_catalog.grib import Field
    from data_catalog.grib.grid import Edges

RATE: Final = "precipitation_surface"
_THEIRS: Final[Mapping[str, str]] = MappingProxyType(
    {"precipitation_amount": RATE, "precipitable_water": "precipitable_water_atmosphere"}
)
_UNITS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "degree_Celsius": frozenset({"degree_Celsius", "C", "degC"}),
        "percent": frozenset({"percent", "%"}),
        "m s-1": frozenset({"m s-1", "m/s"}),
        "Pa": frozenset({"Pa"}),
        "W m-2": frozenset({"W m-2", "W/(m^2)", "W/m^2"}),
        "kg m-2": frozenset({"kg m-2", "kg/(m^2)"}),
        "kg m-2 s-1": frozenset({"kg m-2 s-1", "kg/(m^2 s)", "mm/s", "mm s-1"}),
        "J kg-1": frozenset({"J kg-1", "J/kg"}),
    }
)
_SECOND: Final = np.timedelta64(1, "s")


@dataclass(frozen=True, slots=True)
class ZarrArchive:
    """An archive ``VARIABLE(init_time, lead_time[, ensemble_member], latitude, longitude)``; its address is the spec's first host.

    Attributes:
        spec: What it declares.
    """

    spec: GridSpec

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        """Every field a complete cycle has; interval variables have none at lead 0."""
        return expected_keys(self.spec)

    def fields(self, init_time: np.datetime64, edges: Edges, wanted: frozenset[FieldKey]) -> Iterator[Field]:
        """The wanted fields of a cycle that are there, cut to a box (north, south, west, east in degrees).

        Sums and means are over the hours since the lead before that is read, made of all leads in between that the archive has.

        Raises:
            NotAvailableError: The archive does not have this cycle.
            SourceError: It cannot be read, or is not in the form that is declared.
        """
        self.spec.check(init_time)
        with _explained(self.spec.hosts[0].url):
            cycle = self._cut(open_archive(self.spec.hosts[0].url), init_time, edges)
            for name in sorted({key.variable for key in wanted}):
                yield from self._variable(cycle, init_time, name, wanted)

    def probe(self, init_time: np.datetime64, transport: Transport) -> str:
        """Open the archive: in words what is there.

        Raises:
            SourceError: It could not be read.
        """
        with _explained(self.spec.hosts[0].url):
            newest = open_archive(self.spec.hosts[0].url)[INIT_TIME].values.max()
        return f"its newest cycle is {newest.astype('datetime64[h]')}Z"

    def _cut(self, archive: xr.Dataset, init_time: np.datetime64, edges: Edges) -> xr.Dataset:
        """The cycle within the box and half a cell around it, latitude descending, with members."""
        if init_time not in archive[INIT_TIME].values:
            raise NotAvailableError(f"{self.spec.dataset} has no cycle {init_time.astype('datetime64[h]')}Z yet.")
        spacing = float(self.spec.grid.replace("p", "."))
        north, south, west, east = edges
        latitude, longitude = (np.round(archive[name].values.astype(np.float64), 6) for name in (LATITUDE, LONGITUDE))
        for name, axis in ((LATITUDE, latitude), (LONGITUDE, longitude)):
            if not np.allclose(np.abs(np.diff(axis)), spacing) or not np.allclose(axis / spacing, np.round(axis / spacing)):
                raise SourceError(f"{self.spec.dataset}: {name} is not on steps of {spacing:g} degrees: its coordinates have changed.")
        rows = np.flatnonzero((latitude <= north + spacing / 2) & (latitude >= south - spacing / 2))
        columns = np.flatnonzero((longitude >= west - spacing / 2) & (longitude <= east + spacing / 2))
        rows = rows[np.argsort(-latitude[rows])]
        found = archive.assign_coords({LATITUDE: latitude, LONGITUDE: longitude}).isel({LATITUDE: rows, LONGITUDE: columns})
        found = found.sel({INIT_TIME: init_time})
        return found if ENSEMBLE_MEMBER in found.dims else found.expand_dims({ENSEMBLE_MEMBER: [0]})

    def _variable(self, cycle: xr.Dataset, init_time: np.datetime64, name: str, wanted: frozenset[FieldKey]) -> Iterator[Field]:
        from data_catalog.grib import Field

        theirs, about = _THEIRS.get(name, name), VARIABLES[name]
        if theirs not in cycle:
            return
        units = VARIABLES[RATE].units if theirs == RATE else about.units
        if (given := str(cycle[theirs].attrs.get("units", ""))) not in _UNITS[units]:
            raise SourceError(f"{self.spec.dataset}: {theirs} is in {given!r}, expected {units!r}.")
        values = cycle[theirs].transpose(LEAD_TIME, ENSEMBLE_MEMBER, LATITUDE, LONGITUDE).load().values
        seconds = (cycle[LEAD_TIME].values / _SECOND).astype(int)
        widths = np.diff(seconds, prepend=0)[:, None, None]
        leads = [3600 * lead for lead in self.spec.lead_hours]
        members = {int(member): place for place, member in enumerate(cycle[ENSEMBLE_MEMBER].values)}
        for key in sorted(key for key in wanted if key.variable == name and key.member in members):
            lead, own = 3600 * key.lead_hours, values[:, members[key.member]]
            begin = max((one for one in leads if one < lead), default=0)
            parts = (seconds > begin) & (seconds <= lead) if about.has_interval else seconds == lead
            if not parts.any() or seconds[parts][-1] != lead:
                continue
            field = own[parts][-1]
            if about.has_interval:
                field = (own[parts] * widths[parts]).sum(axis=0) / (1 if name == "precipitation_amount" else lead - begin)
            if not np.isnan(field).all():
                yield Field(
                    dataset=self.spec.dataset, variable=name, init_time=init_time.astype("datetime64[s]"),
                    interval_start=np.timedelta64(begin, "s") if about.has_interval else None, lead_time=np.timedelta64(lead, "s"),
                    member=key.member, units=about.units, process=about.kind, values=field.astype(np.float32),
                    latitude=cycle[LATITUDE].values, longitude=cycle[LONGITUDE].values, step=0.0, message=1, part=1,
                    attributes={"grid": self.spec.grid},
                )    # fmt: skip


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """What the libraries raise of an archive that cannot be read, in our words."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (SourceError, ConfigurationError):
        raise
    except (OSError, ValueError, KeyError, RuntimeError, BaseError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(f"{url} cannot be read: {type(error).__name__}: {reason}.") from error


def open_archive(url: str) -> xr.Dataset:
    """Open an archive by its address; nothing but its coordinates is read.

    Raises:
        ConfigurationError: The address needs a package that is not installed.
        OSError: It cannot be reached.
    """
    # Over HTTP nothing can be listed: plain Zarr needs its consolidated metadata, which Icechunk does not have.
    found: xr.Dataset = xr.open_zarr(_store(url), chunks=None, decode_timedelta=True, consolidated=not url.startswith("icechunk+"))
    return found


def _store(url: str) -> Any:
    if url.startswith("icechunk+"):
        try:
            import icechunk
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"{url} is an Icechunk repository; install giomua[icechunk].") from error
        where = urlsplit(url.removeprefix("icechunk+"))
        if where.scheme == "s3":
            region = parse_qs(where.query).get("region", ["us-west-2"])[0]
            storage = icechunk.s3_storage(bucket=where.netloc, prefix=where.path.strip("/"), region=region, anonymous=True)
        else:
            storage = icechunk.local_filesystem_storage(where.path)
        return icechunk.Repository.open(storage).readonly_session("main").store
    if "://" not in url or url.startswith("file://"):
        return url.removeprefix("file://")
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    retries: Any = {"max_retries": 4, "retry_timeout": datetime.timedelta(minutes=2)}
    if url.startswith("s3://"):
        return ObjectStore(from_url(url, skip_signature=True, retry_config=retries), read_only=True)
    return ObjectStore(from_url(url, client_options={"allow_http": True}, retry_config=retries), read_only=True)


_COMMON: Final = ("temperature_2m", "wind_u_10m", "wind_v_10m", "precipitation_amount", "downward_short_wave_radiation_flux_surface")
_GEFS: Final = GridSpec(
    dataset="dynamical-noaa-gefs",
    title="NOAA GEFS, archive of dynamical.org",
    hosts=(Host("https://data.dynamical.org/noaa/gefs/forecast-35-day/latest.zarr"),),
    cycles=(0,),
    delay_hours=10.0,
    lead_hours=lead_steps((0, 240, 3)),
    members=31,
    variables=(*_COMMON, "pressure_reduced_to_mean_sea_level"),
    since=np.datetime64("2020-10-01T00"),
    licence="NOAA public domain; the archive CC BY 4.0",
)
_GFS: Final = replace(
    _GEFS,
    dataset="dynamical-noaa-gfs",
    title="NOAA GFS, archive of dynamical.org",
    hosts=(Host("https://data.dynamical.org/noaa/gfs/forecast/latest.zarr"),),
    cycles=(0, 6, 12, 18),
    delay_hours=8.0,
    members=1,
    since=np.datetime64("2021-05-01T00"),
)
_ENS: Final = replace(
    _GEFS,
    dataset="dynamical-ecmwf-ens",
    title="ECMWF IFS ensemble, archive of dynamical.org",
    hosts=(Host("https://data.dynamical.org/ecmwf/ifs-ens/forecast-15-day-0-25-degree/latest.zarr"),),
    lead_hours=lead_steps((0, 144, 3), (150, 240, 6)),
    members=51,
    variables=(*_COMMON, "dew_point_temperature_2m", "pressure_reduced_to_mean_sea_level"),
    since=np.datetime64("2024-04-01T00"),
    licence="ECMWF open data and the archive, CC BY 4.0",
)
_AIFS: Final = replace(
    _ENS,
    dataset="dynamical-ecmwf-aifs",
    title="ECMWF AIFS, archive of dynamical.org",
    hosts=(Host("https://data.dynamical.org/ecmwf/aifs-single/forecast/latest.zarr"),),
    cycles=(0, 6, 12, 18),
    lead_hours=lead_steps((0, 240, 6)),
    members=1,
    since=np.datetime64("2024-04-01T00"),
)

ARCHIVES: Final = tuple(ZarrArchive(spec) for spec in (_GFS, _GEFS, _ENS, _AIFS))
