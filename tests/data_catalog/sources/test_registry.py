from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import NotAvailableError, UnknownNameError
from data_catalog.settings import Settings, load_settings
from data_catalog.sources import registry
from data_catalog.sources.base import GridSource, StationSource, Transport, day_and_hour
from data_catalog.sources.ecmwf import EcmwfSource
from data_catalog.sources.ncep import NcepSource
from data_catalog.sources.transport import FolderTransport, HttpTransport
from tests.data_catalog.sources.contract import SourceContract, StationSourceContract

INIT = np.datetime64("2025-07-10T00")
SIZE = 11
TINY = ("simulated-global-eps", "simulated-regional-eps")
DEFAULT = tuple(registry.grid_sources(load_settings()))


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


def _publish(source: GridSource, folder: Path) -> None:
    """A complete cycle in the source's layout with messages of a few bytes."""
    keys = sorted(source.expected(INIT), key=lambda key: (key.lead_hours, key.member, key.variable))
    files: dict[Path, list[str]] = {}
    day, hour = day_and_hour(INIT)
    for key in keys:
        if isinstance(source, NcepSource):
            path = folder / f"{source.path(INIT, key.lead_hours, key.member)}.idx"
            field = next(field for field in source.fields if field.variable == key.variable)
            begin = (key.lead_hours - 1) // 6 * 6
            window = f"{begin}-{key.lead_hours} hour {field.statistic} fcst" if field.statistic else f"{key.lead_hours} hour fcst"
            lines = files.setdefault(path, [])
            words = f"{field.element}:{field.level}:{window if key.lead_hours else 'anl'}"
            lines.append(f"{len(lines) + 1}:{len(lines) * SIZE}:d={day}{hour}:{words}:")
        elif isinstance(source, EcmwfSource):
            path = folder / f"{source.path(INIT, key.lead_hours).removesuffix('.grib2')}.index"
            param = next(param for param, variable in source.params.items() if variable == key.variable)
            lines = files.setdefault(path, [])
            line = {"param": param, "levtype": "sfc", "step": str(key.lead_hours), "_offset": len(lines) * SIZE, "_length": SIZE}
            lines.append(json.dumps(line | ({"number": str(key.member)} if key.member else {})))
    for path, lines in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        data = path.with_suffix("") if path.suffix == ".idx" else path.with_suffix(".grib2")
        data.write_bytes(b"x" * SIZE * len(lines))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the made-up cycles are."""
    return tmp_path_factory.mktemp("published")


class TestEverySource(SourceContract):
    """Every registered source, on a made-up cycle in its layout."""

    @pytest.fixture(params=DEFAULT)
    def source(self, request: pytest.FixtureRequest) -> GridSource:
        return registry.grid_source(load_settings(), request.param)

    @pytest.fixture
    def transport(self, source: GridSource, published: Path) -> Transport:
        folder = published / source.spec.dataset
        if not folder.is_dir():
            _publish(source, folder)
        return FolderTransport(folder)


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


def test_a_base_url_from_the_settings_replaces_the_providers(tmp_path: Path) -> None:
    chosen = load_settings(
        root=str(tmp_path), source_urls={"noaa-gfs-0p25": "http://127.0.0.1:1/gfs", "noaa-gefs-0p25": f"file://{tmp_path}/gefs"}
    )
    assert registry.transport_for(chosen, "noaa-gfs-0p25") == HttpTransport("http://127.0.0.1:1/gfs")
    assert registry.transport_for(chosen, "noaa-gefs-0p25") == FolderTransport(tmp_path / "gefs")
    assert registry.transport_for(chosen, "ecmwf-ifs-ens") == HttpTransport("https://data.ecmwf.int/forecasts")


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
    assert [(spec.members, len(spec.lead_hours), spec.delay_hours) for spec in specs] == [(20, 65, 4.0), (10, 65, 5.0), (1, 65, 3.0)]


def test_nothing_is_simulated_before_it_is_asked_for(tmp_path: Path) -> None:
    chosen = load_settings(root=str(tmp_path), profile="tiny")
    source = registry.grid_source(chosen, "simulated-global-eps")
    with pytest.raises(NotAvailableError, match="simulated-global-eps has no cycle 2025-07-10T00Z"):
        source.plan(INIT, registry.transport_for(chosen, source.spec.dataset))
