"""Every source by name, how its bytes are reached, and the way to the simulated atmosphere.

To add a source, write it like ``reforecast.py`` or ``iem.py`` and name it in :func:`grid_sources` or :func:`station_sources`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from data_catalog.errors import UnknownNameError
from data_catalog.settings import Settings
from data_catalog.sources import dwd, ecmwf, gauges, ghcnh, iem, isd, metar, ncep, simulated, synop, wis2
from data_catalog.sources.base import FieldSource, GridSource, GridSpec, Host, StationSource, StationSpec, Transport
from data_catalog.sources.dynamical import ARCHIVES
from data_catalog.sources.reforecast import REFORECAST
from data_catalog.sources.transport import FolderTransport, HttpTransport

T = TypeVar("T")


def grid_sources(settings: Settings) -> dict[str, GridSource | FieldSource]:
    """Every gridded source by dataset: the simulated centres first, then the public ones, then archives."""
    public: tuple[GridSource | FieldSource, ...] = (*ncep.SOURCES, *ecmwf.SOURCES, *dwd.SOURCES, REFORECAST, *_archives(settings))
    return {**simulated.grid_sources(settings.profile), **{source.spec.dataset: source for source in public}}


def _archives(settings: Settings) -> Iterator[FieldSource]:
    for archive in ARCHIVES:
        chosen = _chosen(settings, archive.spec.dataset)
        yield replace(archive, spec=replace(archive.spec, hosts=chosen)) if chosen else archive


def station_sources(settings: Settings) -> dict[str, StationSource]:
    """Every source of station reports by network: the simulated one first, then the real ones."""
    region = settings.load_region()
    places, timeout = region.operating, settings.decode_timeout
    broker = settings.source_urls.get(wis2.SPEC.network, wis2.SPEC.url)
    subscribed = wis2.Wis2(places, broker, _folder(settings, INBOX) / wis2.SPEC.network, settings.wis2_topics, _client(settings), timeout)
    real: tuple[StationSource, ...] = (
        synop.Synop(places, timeout), subscribed, metar.Metar(places), isd.IsdLite(region.stations), ghcnh.Ghcnh(region.stations),
        iem.Iem(places), gauges.Gauges(places),
    )    # fmt: skip
    return {**simulated.station_sources(region), **{source.spec.network: source for source in real}}


def chosen_networks(settings: Settings) -> dict[str, StationSource]:
    """The station networks that are read unless one is named: those of the settings, else the simulated one.

    Raises:
        UnknownNameError: The settings name one that there is not.
    """
    known = station_sources(settings)
    if settings.networks:
        return {name: _named(known, name, "station network") for name in settings.networks}
    return {name: source for name, source in known.items() if source.spec.simulated}


def grid_source(settings: Settings, dataset: str) -> GridSource | FieldSource:
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
    """How the bytes of a source are reached: over HTTP from its hosts in their order, or from a folder.

    Args:
        settings: ``source_urls`` gives other places for a source: mirrors in their order with commas between, a test server, or a folder.
        source: A dataset or a network.

    Raises:
        UnknownNameError: There is none of this name; the message lists those there are.
    """
    hosts = hosts_of(settings, source)
    if source == wis2.SPEC.network:                          # its URL is that of a broker; what came from there is read from the inbox
        return FolderTransport(_folder(settings, INBOX) / source)
    if hosts[0].url.startswith(("http://", "https://")):
        return HttpTransport(*hosts)
    return FolderTransport(Path(hosts[0].url.removeprefix("file://")))


def hosts_of(settings: Settings, source: str) -> tuple[Host, ...]:
    """Where a source is read from, the first choice first; a folder of our own below the local root.

    Raises:
        UnknownNameError: There is none of this name; the message lists those there are.
    """
    specs: dict[str, GridSpec | StationSpec] = {name: known.spec for name, known in grid_sources(settings).items()}
    specs |= {name: known.spec for name, known in station_sources(settings).items()}
    spec = _named(specs, source, "source")
    if chosen := _chosen(settings, source):
        return chosen
    hosts = spec.hosts if isinstance(spec, GridSpec) else (Host(spec.url),)
    base = simulated_folder(settings) if spec.simulated else settings.local_root
    return tuple(host if "://" in host.url else Host(str(base / host.url)) for host in hosts)


def links() -> Transport:
    """Reads absolute URLs, as notifications state them."""
    return HttpTransport(attempts=3)


INBOX: Final = "inbox"
"""Folder under the local root into which what comes by itself is put."""


def _folder(settings: Settings, path: str) -> Path:
    return settings.local_root / path


def _client(settings: Settings) -> str:
    """Our name at a broker, the same for the same root: the broker keeps what came while we were away."""
    return f"giomua-{hashlib.sha256(str(settings.local_root.resolve()).encode()).hexdigest()[:16]}"


def _chosen(settings: Settings, source: str) -> tuple[Host, ...]:
    """Where the settings want a source to be read from, in the order to try; none when they do not say."""
    return tuple(Host(url.strip()) for url in settings.source_urls.get(source, "").split(",") if url.strip())


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
