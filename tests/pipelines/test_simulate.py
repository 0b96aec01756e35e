from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_catalog.manifest import Manifest
from data_catalog.settings import Settings, load_settings
from data_catalog.sources import registry
from data_catalog.store import Root
from pipelines.cycle import cycle_datasets
from pipelines.ingest import ingest_cycle
from pipelines.simulate import SimulateReport, simulate

INIT = np.datetime64("2025-07-03T00", "ns")
DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(root=str(tmp_path_factory.mktemp("root")), profile="tiny")


@pytest.fixture(scope="module")
def report(settings: Settings) -> SimulateReport:
    return simulate(settings, INIT, history_days=5)


def newest(settings: Settings, dataset: str) -> dict[str, str]:
    with Manifest.open(settings.manifest) as manifest:
        return {revision.key: revision.path for revision in manifest.revisions(dataset, latest_only=True)}


def test_it_says_what_it_wrote(report: SimulateReport) -> None:
    assert report.published == ("simulated-global-eps", "simulated-regional-eps")
    assert report.reports == 72
    assert report.forecasts == {"simulated-global-eps": 5, "simulated-regional-eps": 5}
    assert report.observations == (5 + 11) * 24 + 1
    assert json.loads(json.dumps(report.as_json()))["init_time"] == "2025-07-03T00:00:00Z"


def test_history_is_in_the_form_a_backtest_reads(settings: Settings, report: SimulateReport) -> None:
    root = Root.open(settings)
    months = newest(settings, "simulated-global-eps-stations")
    assert sorted(months) == ["202506", "202507"]
    assert all(path.startswith("archive/simulated-global-eps-stations/") for path in months.values())
    june, july = (root.open_store(months[key]).load() for key in ("202506", "202507"))
    assert [str(time)[:13] for time in np.concatenate([june["init_time"], july["init_time"]])] == [
        "2025-06-28T00", "2025-06-29T00", "2025-06-30T00", "2025-07-01T00", "2025-07-02T00",
    ]  # fmt: skip
    rain = july["precipitation_amount"]
    assert rain.dims == ("init_time", "lead_time", "station", "ensemble_member")
    assert rain.shape == (2, 8, 3, 5)
    assert {"latitude", "longitude", "elevation"} <= set(rain.coords)
    widths = np.diff(july["lead_time_bounds"].values, axis=1).ravel() / np.timedelta64(1, "h")
    assert (widths == 3).all()
    assert np.array_equal(july["available_time"].values, july["init_time"].values + np.timedelta64(4, "h"))
    assert july.attrs["simulated"] is True


def test_observations_are_hourly_with_quality_and_interval(settings: Settings, report: SimulateReport) -> None:
    root = Root.open(settings)
    months = newest(settings, "observations/simulated-stations")
    july = root.open_store(months["202507"]).load()
    assert months["202507"].startswith("archive/observations/simulated-stations/202507.")
    assert july["time"].values[-1] == INIT
    assert set(np.diff(july["time"].values)) == {np.timedelta64(1, "h")}
    reported = np.isfinite(july["precipitation_amount"].values)
    assert np.array_equal(july["precipitation_amount_interval"].values == 1, reported)
    assert np.array_equal(july["precipitation_amount_quality"].values == 0, reported)
    assert july.attrs["simulated"] is True


def test_again_it_writes_nothing(settings: Settings, report: SimulateReport) -> None:
    again = simulate(settings, INIT, history_days=5)
    assert (again.published, again.reports, again.observations, again.stores) == ((), 0, 0, ())
    assert set(again.forecasts.values()) == {0}


def test_the_next_cycle_adds_one_day_and_keeps_the_rest(settings: Settings, report: SimulateReport, tmp_path: Path) -> None:
    root = Root.open(settings)
    before = root.open_store(newest(settings, "simulated-global-eps-stations")["202507"]).load()
    later = simulate(settings, INIT + DAY, history_days=5)
    assert later.reports == 24
    assert later.forecasts == {"simulated-global-eps": 1, "simulated-regional-eps": 1}
    assert later.observations == 24
    after = root.open_store(newest(settings, "simulated-global-eps-stations")["202507"]).load()
    assert after.sizes["init_time"] == before.sizes["init_time"] + 1
    for name in before.data_vars:
        kept = after[name].sel(init_time=before["init_time"]) if "init_time" in after[name].dims else after[name]
        assert np.array_equal(kept.values, before[name].values, equal_nan=True)
    # At once or day by day: the same store.
    other = load_settings(root=str(tmp_path), profile="tiny")
    simulate(other, INIT + DAY, history_days=6)
    for dataset in ("simulated-global-eps-stations", "simulated-regional-eps-stations", "observations/simulated-stations"):
        assert newest(other, dataset)["202507"] == newest(settings, dataset)["202507"]


def test_another_world_replaces_the_history(tmp_path: Path) -> None:
    first = load_settings(root=str(tmp_path), profile="tiny")
    second = load_settings(root=str(tmp_path), profile="tiny", world=2)
    simulate(first, INIT, history_days=1)
    made = simulate(second, INIT, history_days=1)
    assert made.forecasts["simulated-global-eps"] == 1
    stored = Root.open(second).open_store(newest(second, "simulated-global-eps-stations")["202507"])
    assert stored.attrs["world"] == 2
    observed = Root.open(second).open_store(newest(second, "observations/simulated-stations")["202507"]).load()
    assert observed.attrs["world"] == 2
    expected = registry.simulator(second).observations(observed["time"].values)
    assert np.array_equal(observed["temperature_2m"].values, expected["temperature_2m"].values, equal_nan=True)


def test_without_history_there_is_only_the_cycle(tmp_path: Path) -> None:
    chosen = load_settings(root=str(tmp_path), profile="tiny")
    report = simulate(chosen, np.datetime64("2025-07-03T06", "ns"), history_days=0)
    assert report.published
    assert report.forecasts == {"simulated-global-eps": 1, "simulated-regional-eps": 1}  # the 00 UTC run of the day


def test_the_last_cycle_is_the_history_of_tomorrow(settings: Settings, report: SimulateReport) -> None:
    """What ingest reads from the GRIB files of a cycle is what the history says of the same run."""
    from data_catalog.grids import to_stations

    root, region = Root.open(settings), settings.load_region()
    simulator = registry.simulator(settings)
    with Manifest.open(settings.manifest) as manifest:
        for dataset in ("simulated-global-eps", "simulated-regional-eps"):
            source, transport = registry.grid_source(settings, dataset), registry.transport_for(settings, dataset)
            taken = ingest_cycle(root, manifest, region, source, transport, INIT, workers=1)
            assert taken.revision is not None
            assert not taken.missing
            stored = root.open_store(taken.revision.path).load()
            stations = to_stations(stored, region.stations)
            history = simulator.history(dataset, np.array([INIT]))
            for name in source.spec.variables:
                found = stations[name].transpose("lead_time", "station", "ensemble_member").values
                scale = 1e-4 * float(np.nanmax(np.abs(history[name].values)))
                assert found == pytest.approx(history[name].values[0], abs=max(scale, 2e-3), nan_ok=True), name


def test_the_gridded_atmosphere_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    chosen = load_settings(root=str(tmp_path), profile="tiny")
    first = simulate(chosen, INIT, history_days=1, grid=True)
    assert sum(path.startswith("archive/analyses/simulated/") for path in first.stores) == 2, "June and July"
    assert not any("analyses" in path for path in simulate(chosen, INIT, history_days=1, grid=True).stores)
    july = Root.open(chosen).open_store(newest(chosen, "analyses/simulated")["202507"]).load()
    assert july["temperature_2m"].dims == ("time", "latitude", "longitude")
    assert july["temperature_2m"].shape[1:] == (6, 6)
    assert set(np.diff(july["time"].values)) == {np.timedelta64(6, "h")}
    assert july.attrs["simulated"] is True
    expected = registry.simulator(chosen).analyses(july["time"].values[-1:])
    assert np.array_equal(july["precipitation_amount"].values[-1], expected["precipitation_amount"].values[0])
    with Manifest.open(chosen.manifest) as manifest:
        assert cycle_datasets(chosen, manifest) == ("simulated-global-eps", "simulated-regional-eps"), "no source of forecasts"
