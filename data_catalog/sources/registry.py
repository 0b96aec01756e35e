"""Every source by name, how its bytes are reached, and the way to the simulated atmosphere.

To add a source, write it like ``ncep.py`` or ``reports.py`` and name it in :func:`grid_sources` or :func:`station_sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from data_catalog.errors import UnknownNameError
from data_catalog.settings import Settings
from data_catalog.sources import simulated
from data_catalog.sources.base import GridSource, GridSpec, StationSource, StationSpec, Transport, lead_steps
from data_catalog.sources.ecmwf import EcmwfSource
from data_catalog.sources.ncep import NcepSource, gefs_path, gfs_path
from data_catalog.sources.transport import FolderTransport, HttpTransport

T = TypeVar("T")

_PUBLIC_DOMAIN: Final = "NOAA public domain"
_ECMWF_LICENCE: Final = "ECMWF open data, CC BY 4.0"

_GFS: Final = GridSpec(
    dataset="noaa-gfs-0p25",
    title="NOAA GFS",
    url="https://noaa-gfs-bdp-pds.s3.amazonaws.com",
    cycles=(0, 6, 12, 18),
    delay_hours=5.7,
    lead_hours=lead_steps((0, 240, 3)),
    members=1,
    variables=(*simulated.VARIABLES, "convective_available_potential_energy", "precipitable_water", "visibility"),
    licence=_PUBLIC_DOMAIN,
)
_GEFS: Final = replace(
    _GFS,
    dataset="noaa-gefs-0p25",
    title="NOAA GEFS",
    url="https://noaa-gefs-pds.s3.amazonaws.com",
    delay_hours=6.8,
    members=31,
    variables=tuple(name for name in _GFS.variables if name != "total_cloud_cover_atmosphere"),
)
_IFS_ENS: Final = replace(
    _GFS,
    dataset="ecmwf-ifs-ens",
    title="ECMWF IFS ensemble",
    url="https://data.ecmwf.int/forecasts",
    cycles=(0, 12),
    delay_hours=8.7,
    lead_hours=lead_steps((0, 144, 3), (150, 240, 6)),
    members=51,
    variables=tuple(name for name in simulated.VARIABLES if name != "wind_gust_10m"),
    licence=_ECMWF_LICENCE,
)


def grid_sources(settings: Settings) -> dict[str, GridSource]:
    """Every gridded source by dataset: the simulated centres first, then the public ones."""
    public: tuple[GridSource, ...] = (NcepSource(_GFS, gfs_path), NcepSource(_GEFS, gefs_path), EcmwfSource(_IFS_ENS))
    return {**simulated.grid_sources(settings.profile), **{source.spec.dataset: source for source in public}}


def station_sources(settings: Settings) -> dict[str, StationSource]:
    """Every source of station reports by network."""
    return simulated.station_sources(settings.load_region())


def grid_source(settings: Settings, dataset: str) -> GridSource:
    """One gridded source.

    Raises:
        UnknownNameError: There is none of this name; the message lists those there are.
    """
    return _named(grid_sources(settings), dataset, "source")


def station_source(settings: Settings, network: str) -> StationSource:
    """One source of station reports.

    Raises:
        UnknownNameError: There is none of this name; the message lists those there are.
    """
    return _named(station_sources(settings), network, "station network")


def transport_for(settings: Settings, source: str) -> Transport:
    """How the bytes of a source are reached: over HTTP, or from a folder.

    Args:
        settings: ``source_urls`` gives another base for a source: a mirror, a test server, or a folder.
        source: A dataset or a network.

    Raises:
        UnknownNameError: There is none of this name; the message lists those there are.
    """
    specs: dict[str, GridSpec | StationSpec] = {name: known.spec for name, known in grid_sources(settings).items()}
    specs |= {name: known.spec for name, known in station_sources(settings).items()}
    spec = _named(specs, source, "source")
    url = settings.source_urls.get(source) or (str(simulated_folder(settings) / spec.url) if spec.simulated else spec.url)
    if url.startswith(("http://", "https://")):
        return HttpTransport(url)
    return FolderTransport(Path(url.removeprefix("file://")))


def simulated_folder(settings: Settings) -> Path:
    """Folder in which the simulated centres and stations publish: one for each world and profile."""
    return settings.local_root / "simulated" / f"world-{settings.world}{'-tiny' if settings.profile == 'tiny' else ''}"


def simulator(settings: Settings) -> simulated.SimulatedAtmosphere:
    """The simulated atmosphere of these settings, which publishes what its sources then read."""
    from data_catalog.simulated.simulator import Simulator  # the only import of it outside its own folder

    return Simulator(settings.load_region(), settings.world, settings.profile, simulated_folder(settings))


def _named(known: Mapping[str, T], name: str, kind: str) -> T:
    if name not in known:
        raise UnknownNameError(f"There is no {kind} {name!r}; known are {', '.join(known)}.")
    return known[name]
