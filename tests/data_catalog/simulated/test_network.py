from __future__ import annotations

import numpy as np
import pytest

from data_catalog.settings import load_settings
from data_catalog.simulated.network import RESOLUTION
from data_catalog.simulated.simulator import Simulator
from data_catalog.sources import registry
from data_catalog.sources.base import expected_keys


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    return registry.simulator(load_settings(root=str(tmp_path_factory.mktemp("root"))))


def hours(start: str, count: int) -> np.ndarray:
    return np.datetime64(start, "h") + np.arange(count)


def test_reports_are_rounded_physical_and_gappy(simulator: Simulator) -> None:
    found = simulator.observations(hours("2024-05-01T00", 24 * 60))
    for name, step in RESOLUTION.items():
        values = found[name].values.astype(float)
        assert np.nanmax(np.abs(values / step - np.round(values / step))) < 2e-3, name
    assert np.nanmin(found["temperature_2m"].values - found["dew_point_temperature_2m"].values) > -1e-4
    assert np.nanmin(found["wind_gust_10m"].values - found["wind_speed_10m"].values) > -1e-4
    assert np.nanmin(found["precipitation_amount"].values) == 0
    missing = np.isnan(found["temperature_2m"].values).mean()
    assert 0.003 < missing < 0.06
    assert found.sizes["station"] == sum(station.operating for station in simulator.region.stations)


def test_reports_do_not_depend_on_which_hours_are_asked_for(simulator: Simulator) -> None:
    whole = simulator.observations(hours("2024-05-03T00", 72))
    part = simulator.observations(hours("2024-05-04T05", 7))
    for name in part.data_vars:
        assert np.array_equal(part[name].values, whole[name].sel(time=part["time"]).values, equal_nan=True), name


def test_fewer_stations_report_the_same(simulator: Simulator) -> None:
    few = Simulator(simulator.region.cut(), simulator.seed, "tiny", simulator.folder)
    one, all_of_them = few.observations(hours("2024-05-03T00", 48)), simulator.observations(hours("2024-05-03T00", 48))
    for name in one.data_vars:
        wide = all_of_them[name].sel(station=one["station"]).values
        assert one[name].values == pytest.approx(wide, abs=1.01 * RESOLUTION.get(str(name), 1e-6), nan_ok=True)
        assert np.mean(np.isclose(one[name].values, wide, atol=1e-6, equal_nan=True)) > 0.97


def test_intervals_say_one_hour_where_there_is_a_value(simulator: Simulator) -> None:
    found = simulator.observations(hours("2024-05-01T00", 24 * 20))
    by_hand = np.isin(found["station"].values, ["nam_dinh", "phu_lien", "thai_nguyen"])
    for name in ("precipitation_amount", "downward_short_wave_radiation_flux_surface", "temperature_2m_max"):
        interval = found[f"{name}_interval"].values
        assert np.array_equal(np.isfinite(interval), np.isfinite(found[name].values))
        assert set(np.unique(interval[:, ~by_hand][np.isfinite(interval[:, ~by_hand])])) == {1.0}


def test_everything_says_simulated(simulator: Simulator) -> None:
    assert simulator.observations(hours("2024-05-01T00", 2)).attrs["simulated"] is True
    tiny = Simulator(simulator.region.cut(), simulator.seed, "tiny", simulator.folder)
    history = tiny.history("simulated-global-eps", np.array([np.datetime64("2024-05-01")]))
    assert history.attrs["simulated"] is True
    assert dict(history.sizes) == {"init_time": 1, "lead_time": 8, "station": 3, "ensemble_member": 5, "bounds": 2}
    assert len(expected_keys(tiny.specs["simulated-global-eps"])) == 9 * 8 * 5
