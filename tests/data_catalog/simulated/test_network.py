from __future__ import annotations

import numpy as np
import pytest

from data_catalog.observations import KNOT
from data_catalog.settings import load_settings
from data_catalog.simulated.network import METAR, RESOLUTION
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
    airport = found["station"].values == "noi_bai"
    for name, step in RESOLUTION.items():
        values = found[name].values[:, ~airport if name in METAR else slice(None)].astype(float)
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


def test_an_aerodrome_reports_as_metar_does(simulator: Simulator) -> None:
    found = simulator.observations(hours("2024-01-10T00", 24 * 40)).sel(station="noi_bai")
    steps = {"temperature_2m": 1.0, "dew_point_temperature_2m": 1.0, "wind_speed_10m": KNOT, "wind_from_direction_10m": 10.0}
    for name, step in {**steps, "pressure_reduced_to_mean_sea_level": 100.0}.items():
        values = found[name].values.astype(float)
        assert np.nanmax(np.abs(values / step - np.round(values / step))) < 1e-3, name
    assert set(np.unique(found["total_cloud_cover_atmosphere"].values[np.isfinite(found["total_cloud_cover_atmosphere"].values)])) <= {
        0.0, 18.75, 43.75, 75.0, 100.0,
    }  # fmt: skip
    calm = found["wind_speed_10m"].values == 0
    assert (found["wind_from_direction_10m"].values[calm] == 0).all()
    assert (found["wind_u_10m"].values[calm] == 0).all()
    assert np.nanmin(found["wind_from_direction_10m"].values[~calm]) >= 10


def test_fewer_stations_report_the_same(simulator: Simulator) -> None:
    few = Simulator(simulator.region.cut(), simulator.seed, "tiny", simulator.folder)
    one, all_of_them = few.observations(hours("2024-05-03T00", 48)), simulator.observations(hours("2024-05-03T00", 48))
    for name in one.data_vars:
        wide = all_of_them[name].sel(station=one["station"]).values
        assert np.array_equal(np.isnan(one[name].values), np.isnan(wide)), name
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


BY_HAND = ("nam_dinh", "phu_lien", "thai_nguyen")


def test_people_report_rain_as_synop_does(simulator: Simulator) -> None:
    """6 h at the main hours, 3 h in between, nothing at others; the totals are those of an hourly gauge at the same place."""
    whole = hours("2024-07-01T00", 24 * 30)
    found = simulator.observations(whole).sel(station=list(BY_HAND))
    of_day = (whole - whole.astype("datetime64[D]")).astype(int)
    rain, interval = found["precipitation_amount"].values, found["precipitation_amount_interval"].values
    assert np.isnan(rain[of_day % 3 != 0]).all()
    for hour, length in ((0, 6), (6, 6), (12, 6), (18, 6), (3, 3), (9, 3), (15, 3), (21, 3)):
        there = interval[of_day == hour]
        assert set(np.unique(there[np.isfinite(there)])) == {length}
    late, main = rain[of_day == 9], rain[of_day == 12]
    assert np.nanmin(main - late) > -0.11, "six hours hold the three before"
    shown = [np.isfinite(found[name].values) for name in ("temperature_2m_max", "temperature_2m_min")]
    assert shown[0][of_day == 12].mean() > 0.9
    assert not shown[0][of_day != 12].any()
    assert not shown[1][of_day != 0].any()
    warm = found["temperature_2m"].values.reshape(30, 24, 3)
    assert np.nanmin(found["temperature_2m_max"].values[of_day == 12] - warm[:, 6:13].max(axis=1)) > -0.15


def test_some_sensor_sticks_now_and_then(simulator: Simulator) -> None:
    values = simulator.observations(hours("2024-01-01T00", 24 * 200))["pressure_reduced_to_mean_sea_level"].values
    repeated = np.zeros(values.shape[1])
    for station in range(values.shape[1]):
        same = np.diff(values[np.isfinite(values[:, station]), station]) == 0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
        repeated[station] = np.max(np.diff(edges)[::2], initial=0)
    assert repeated.max() > 10, "hours at one value"
    assert np.median(repeated) < 10


def test_the_truth_that_reports_need_reaches_back_far_enough(simulator: Simulator) -> None:
    one = simulator.observations(hours("2024-07-01T12", 1))
    many = simulator.observations(hours("2024-06-28T00", 24 * 4))
    for name in one.data_vars:
        assert np.array_equal(one[name].values, many[name].sel(time=one["time"]).values, equal_nan=True), name
