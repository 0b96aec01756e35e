from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import NotAvailableError, UnknownNameError
from data_catalog.settings import Settings, load_settings
from data_catalog.sources import registry
from data_catalog.sources.base import GridSource, StationSource, Transport
from data_catalog.sources.transport import FolderTransport, HttpTransport
from tests.data_catalog.sources.contract import SourceContract, StationSourceContract

INIT = np.datetime64("2025-07-10T00")
TINY = ("simulated-global-eps", "simulated-regional-eps")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A root in which the tiny simulated centres and stations have published a cycle."""
    found = load_settings(root=str(tmp_path_factory.mktemp("root")), profile="tiny")
    simulator = registry.simulator(found)
    simulator.emit(INIT)
    simulator.reports(INIT - np.timedelta64(12, "h"), INIT)
    return found


@pytest.fixture(scope="module")
def init_time() -> np.datetime64:
    return INIT


class TestSimulatedSources(SourceContract):
    """The tiny simulated centres, on what they really publish."""

    @pytest.fixture(params=TINY)
    def source(self, request: pytest.FixtureRequest, settings: Settings) -> GridSource:
        return registry.grid_source(settings, request.param)

    @pytest.fixture
    def transport(self, source: GridSource, settings: Settings) -> Transport:
        return registry.transport_for(settings, source.spec.dataset)


class TestSimulatedStations(StationSourceContract):
    @pytest.fixture
    def source(self, settings: Settings) -> StationSource:
        return registry.station_source(settings, "simulated-stations")

    @pytest.fixture
    def transport(self, settings: Settings) -> Transport:
        return registry.transport_for(settings, "simulated-stations")

    @pytest.fixture
    def since(self) -> np.datetime64:
        return INIT - np.timedelta64(6, "h")

    @pytest.fixture
    def until(self) -> np.datetime64:
        return INIT


def test_an_unknown_name_lists_the_known_ones(settings: Settings) -> None:
    for look_up in (registry.grid_source, registry.station_source, registry.transport_for):
        with pytest.raises(UnknownNameError, match=r"'nowhere'; known are .*simulated-"):
            look_up(settings, "nowhere")


def addresses(chosen: Settings, source: str) -> list[str]:
    transport = registry.transport_for(chosen, source)
    assert isinstance(transport, HttpTransport)
    return [host.url for host in transport.hosts]


def test_a_base_url_from_the_settings_replaces_the_providers(tmp_path: Path) -> None:
    chosen = load_settings(
        root=str(tmp_path), source_urls={"noaa-gfs-0p25": "http://127.0.0.1:1/gfs", "noaa-gefs-0p25": f"file://{tmp_path}/gefs"}
    )
    assert addresses(chosen, "noaa-gfs-0p25") == ["http://127.0.0.1:1/gfs"]
    assert registry.transport_for(chosen, "noaa-gefs-0p25") == FolderTransport(tmp_path / "gefs")
    assert addresses(chosen, "ecmwf-ifs-ens")[0] == "https://ecmwf-forecasts.s3.eu-central-1.amazonaws.com"
    assert addresses(chosen, "ecmwf-ifs-ens")[-1] == "https://data.ecmwf.int/forecasts"
    several = load_settings(root=str(tmp_path), source_urls={"noaa-gfs-0p25": "http://127.0.0.1:1/a, http://127.0.0.1:2/b"})
    assert addresses(several, "noaa-gfs-0p25") == ["http://127.0.0.1:1/a", "http://127.0.0.1:2/b"]


def test_worlds_and_profiles_keep_apart(tmp_path: Path) -> None:
    folders = {
        registry.simulated_folder(load_settings(root=str(tmp_path), **chosen))
        for chosen in ({}, {"world": 2}, {"profile": "tiny"}, {"world": 2, "profile": "tiny"})
    }
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path) for folder in folders)


def test_tiny_is_two_centres_of_five_members_and_eight_leads() -> None:
    specs = [source.spec for source in registry.grid_sources(load_settings(profile="tiny")).values() if source.spec.simulated]
    assert [(spec.members, len(spec.lead_hours)) for spec in specs] == [(5, 8), (5, 8)]
    specs = [source.spec for source in registry.grid_sources(load_settings()).values() if source.spec.simulated]
    assert [(spec.members, len(spec.lead_hours), spec.delay_hours) for spec in specs] == [
        (31, 65, 4.0),
        (10, 65, 5.0),
        (1, 65, 3.0),
        (51, 65, 4.5),
    ]


def test_nothing_is_simulated_before_it_is_asked_for(tmp_path: Path) -> None:
    chosen = load_settings(root=str(tmp_path), profile="tiny")
    source = registry.grid_source(chosen, "simulated-global-eps")
    with pytest.raises(NotAvailableError, match="simulated-global-eps has no cycle 2025-07-10T00Z"):
        source.plan(INIT, registry.transport_for(chosen, source.spec.dataset))
