"""Pairs from the archive: what is read, what it is matched with, and that nothing of the future is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_catalog.manifest import Manifest
from data_catalog.store import Root
from training.pairs import make_pairs, observation_history, on_hours, on_interval, read_past, station_history, verify_at

HOUR = np.timedelta64(1, "h")
STATIONS = ["lang", "ha_dong"]
T0 = np.datetime64("2025-03-01T00", "ns")


def observations(hours: int = 24 * 40, start: np.datetime64 = T0 - 30 * 24 * HOUR) -> xr.Dataset:
    """Hourly temperature = hours since T0 and rain of 1 mm an hour, at two stations."""
    times = start + np.arange(hours) * HOUR
    since = ((times - T0) / HOUR).astype(float)
    return xr.Dataset(
        {
            "temperature_2m": (("time", "station"), np.stack([since, since + 1000], axis=1).astype(np.float32)),
            "precipitation_amount": (("time", "station"), np.ones((hours, 2), np.float32)),
        },
        coords={
            "time": times,
            "station": np.array(STATIONS, dtype=object),
            "available_time": ("time", times + 20 * np.timedelta64(1, "m")),
        },
    )


def forecasts(inits: np.ndarray, leads: list[int], members: int = 3) -> xr.Dataset:
    """Temperature = hours from T0 to valid time, so that a correct pair differs by nothing; rain as its interval's length."""
    hours = np.array(leads, dtype="timedelta64[h]").astype("timedelta64[ns]")
    valid = (((inits[:, None] + hours) - T0) / HOUR).astype(np.float32)
    temperature = np.broadcast_to(valid[:, :, None, None], (*valid.shape, 2, members)) + np.array([0, 1000], np.float32)[:, None]
    bounds = np.full((len(leads), 2), np.timedelta64("NaT", "ns"))
    bounds[1:] = np.stack([hours[:-1], hours[1:]], axis=1)
    lengths = np.concatenate([[np.nan], np.diff(leads)]).astype(np.float32)
    rain = np.broadcast_to(lengths[None, :, None, None], temperature.shape)
    dims = ("init_time", "lead_time", "station", "ensemble_member")
    return xr.Dataset(
        {"temperature_2m": (dims, temperature.copy()), "precipitation_amount": (dims, rain.copy())},
        coords={
            "init_time": inits,
            "lead_time": hours,
            "station": np.array(STATIONS, dtype=object),
            "ensemble_member": np.arange(members),
            "lead_time_bounds": (("lead_time", "bounds"), bounds),
        },
    )


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "root").mkdir(exist_ok=True)
    return Manifest.open(f"sqlite:///{tmp_path}/root/manifest.db")


def file_forecasts(root: Root, manifest: Manifest, data: xr.Dataset, key: str, dataset: str = "a") -> None:
    ref = root.write_store(f"archive/{dataset}-stations", key, {"": data})
    manifest.add_revision(f"{dataset}-stations", key, ref, available_time=data.init_time.values.max() + 5 * HOUR)


def file_observations(root: Root, manifest: Manifest, data: xr.Dataset, key: str = "202502") -> None:
    ref = root.write_store("archive/observations/net", key, {"": data})
    manifest.add_revision("observations/net", key, ref, available_time=data.time.values.max())


def test_instants_are_matched_at_valid_time_and_intervals_are_put_together() -> None:
    inits = T0 - np.arange(20, 0, -1) * 24 * HOUR
    source = forecasts(inits, [0, 3, 6, 12])
    pairs = make_pairs({"a": source}, observations(), ["temperature_2m", "precipitation_amount", "wind_speed_10m"], T0)
    assert pairs.targets == ("temperature_2m", "precipitation_amount")
    error = source.temperature_2m.isel(ensemble_member=0) - pairs.observed.temperature_2m
    assert float(abs(error).max()) == 0
    rain = pairs.observed.precipitation_amount.isel(init_time=5, station=0).values
    assert np.isnan(rain[0])
    assert rain[1:].tolist() == [3, 3, 6]


def test_what_has_not_happened_is_unknown() -> None:
    source = forecasts(np.array([T0 - 24 * HOUR]), [0, 12, 24, 36])
    pairs = make_pairs({"a": source}, observations(), ["temperature_2m"], T0)
    known = pairs.observed.temperature_2m.notnull().all("station").values[0]
    assert known.tolist() == [True, True, True, False]


def test_a_gap_in_hourly_rain_makes_the_sum_unknown_not_smaller() -> None:
    data = observations()
    data.precipitation_amount[100, 0] = np.nan
    end = data.time.values[np.array([99, 100, 101, 103, 106])]
    found = verify_at(data, "precipitation_amount", end, np.full(5, 3.0))
    assert np.isnan(found[:, 0]).tolist() == [False, True, True, False, False]
    assert np.isnan(found[:, 1]).sum() == 0


def test_a_reported_interval_counts_only_for_its_own_length() -> None:
    data = observations(hours=48)
    interval = np.ones((48, 2), np.float32)
    interval[24:, 0] = 6
    data["precipitation_amount"][24:, 0] = 7.5
    data["precipitation_amount_interval"] = (("time", "station"), interval)
    end = data.time.values[[10, 30]]
    assert verify_at(data, "precipitation_amount", end, np.full(2, 6.0))[:, 0].tolist() == [6, 7.5]
    three = verify_at(data, "precipitation_amount", end, np.full(2, 3.0))[:, 0]
    assert three[0] == 3
    assert np.isnan(three[1]), "six hours of rain are not three"


def test_observations_on_one_interval() -> None:
    found = on_interval(observations(hours=30), 3)
    assert np.isnan(found.precipitation_amount.values[:2]).all()
    assert (found.precipitation_amount.values[2:] == 3).all()


def test_history_of_another_hour_stands_in_at_the_same_valid_time(root: Root, manifest: Manifest) -> None:
    at_00 = T0 - np.arange(10, 0, -1) * 24 * HOUR
    file_forecasts(root, manifest, forecasts(at_00, [0, 6, 12, 18, 24]), "202502")
    init = T0 + 6 * HOUR
    found, hashes = station_history(root, manifest, "a", init, 30, STATIONS)
    assert found is not None
    assert len(hashes) == 1
    hours = (found.init_time.values - found.init_time.values.astype("datetime64[D]")) / HOUR
    assert (hours == 6).all()
    assert (found.lead_time.values / HOUR).tolist() == [0, 6, 12, 18]
    pairs = make_pairs({"a": found}, observations(), ["temperature_2m"], init)
    error = found.temperature_2m.isel(ensemble_member=0) - pairs.observed.temperature_2m
    assert float(abs(error).max()) == 0


def test_a_run_of_the_very_hour_wins_over_a_month(root: Root, manifest: Manifest) -> None:
    inits = T0 - np.arange(5, 0, -1) * 24 * HOUR
    month = forecasts(inits, [0, 6])
    file_forecasts(root, manifest, month, "202502")
    single = forecasts(inits[-1:], [0, 6]) + 5
    file_forecasts(root, manifest, single.assign_coords(month.isel(init_time=[-1]).coords), "20250228T00Z")
    found, _ = station_history(root, manifest, "a", T0, 30, STATIONS)
    assert found is not None
    assert found.sizes["init_time"] == 5
    assert float((found - month).temperature_2m.isel(init_time=-1).min()) == 5


@pytest.mark.parametrize("lag", [6, 24])
def test_the_history_of_a_lagged_source_is_as_old_as_its_run(root: Root, manifest: Manifest, lag: int) -> None:
    inits = T0 - np.arange(1, 6) * 24 * HOUR
    for start in [*inits, *(inits - 6 * HOUR)]:
        run = forecasts(np.array([start]), [0, 3, 6, 12, 24, 27, 30, 36])
        run["temperature_2m"][:] = (T0 - start) / HOUR % 24  # the hour tells which run it was
        file_forecasts(root, manifest, run, f"{start.astype('datetime64[h]')}Z".replace("-", ""))
    found, _ = station_history(root, manifest, "a", T0, 30, STATIONS, lag_hours=lag)
    assert found is not None
    assert (found.sel(lead_time=6 * HOUR).temperature_2m == lag % 24).all()
    assert found.init_time.values.max() == T0 - 24 * HOUR
    leads = found.lead_time.values[found.temperature_2m.notnull().any(["init_time", "station", "ensemble_member"]).values] / HOUR
    assert leads.max() == 36 - lag


def test_nothing_from_the_present_or_the_future_is_history(root: Root, manifest: Manifest) -> None:
    inits = T0 + np.arange(-3, 4) * 24 * HOUR
    file_forecasts(root, manifest, forecasts(inits[:3], [0, 6]), "202502")
    file_forecasts(root, manifest, forecasts(inits[3:], [0, 6]), "202503")
    found, _ = station_history(root, manifest, "a", T0, 30, STATIONS)
    assert found is not None
    assert found.init_time.values.max() < T0
    late, _ = station_history(root, manifest, "a", T0 + 48 * HOUR, 30, STATIONS, available_before=T0 + 12 * HOUR)
    assert late is not None
    assert late.init_time.values.max() < T0, "the later month was not available yet"


def test_flagged_and_unavailable_observations_are_left_out(root: Root, manifest: Manifest) -> None:
    data = observations()
    flags = np.zeros((data.sizes["time"], 2), np.int8)
    flags[5, 1] = 1
    data["temperature_2m_quality"] = (("time", "station"), flags)
    file_observations(root, manifest, data)
    found, hashes = observation_history(root, manifest, T0, 60, STATIONS)
    assert found is not None
    assert len(hashes) == 1
    assert np.isnan(found.temperature_2m.values[5]).tolist() == [False, True]
    assert "temperature_2m_quality" not in found
    assert found.available_time.values.max() <= T0
    assert found.time.values.max() < T0


def test_without_history_there_are_no_pairs(root: Root, manifest: Manifest) -> None:
    past = read_past(root, manifest, ["a"], ["temperature_2m"], STATIONS, T0, 30)
    assert past.pairs is None
    assert past.observations is None
    assert past.hashes == ()


def test_a_value_that_came_late_at_one_station_is_not_known_before(root: Root, manifest: Manifest) -> None:
    data = observations()
    came = np.repeat(data.available_time.values[:, None], 2, axis=1)
    came[690, 0] = T0 + 5 * HOUR
    came[680] = np.datetime64("NaT")
    late = data.assign_coords(available_time=(("time", "station"), came))
    file_observations(root, manifest, late)
    found, _ = observation_history(root, manifest, T0, 60, STATIONS)
    assert found is not None
    values = found.temperature_2m.sel(time=data.time.values[690]).values
    assert np.isnan(values).tolist() == [True, False]
    assert data.time.values[680] not in found.time.values
    assert found.available_time.dims == ("time",)
    assert (found.available_time.values <= T0).all()


def test_ten_minute_rain_becomes_hourly_where_no_report_is_missing() -> None:
    hourly = observations(hours=6)
    times = hourly.time.values[0] + np.arange(6 * 6 + 1) * np.timedelta64(10, "m")
    rain = np.full((times.size, 2), 0.5, np.float32)
    rain[15, 1] = np.nan
    interval = np.where(np.isnan(rain), np.nan, np.float32(1 / 6)).astype(np.float32)
    interval[12, 0], rain[12, 0] = 1.0, 9.0                     # an hourly report of its own stays, unless the ten minutes fill the hour
    rain[11, 0] = np.nan
    dims = ("time", "station")
    fine = xr.Dataset(
        {
            "precipitation_amount": (dims, rain), "precipitation_amount_interval": (dims, interval),
            "temperature_2m": (dims, np.arange(times.size)[:, None] + np.zeros((1, 2))),
        },
        coords={"time": times, "station": hourly.station},
    )    # fmt: skip
    found = on_hours(fine)
    assert found.time.values.tolist() == times[::6].tolist()
    assert found.temperature_2m.values[:, 0].tolist() == list(range(0, 37, 6))
    nan = np.nan
    assert found.precipitation_amount.values[:, 0] == pytest.approx([nan, 3, 9, 3, 3, 3, 3], nan_ok=True)
    assert found.precipitation_amount.values[:, 1] == pytest.approx([nan, 3, 3, nan, 3, 3, 3], nan_ok=True)
    assert found.precipitation_amount_interval.values[1:, 0].tolist() == [1.0] * 6
    xr.testing.assert_identical(on_hours(found), found)


def test_totals_that_end_with_a_shorter_one_are_found_too() -> None:
    data = observations(hours=48)
    data["precipitation_amount_24h"] = data["precipitation_amount"] * np.nan
    data["precipitation_amount_24h"][30] = 25.5
    end = data.time.values[[30, 31]]
    assert verify_at(data, "precipitation_amount", end, np.full(2, 24.0))[:, 0].tolist() == [25.5, 24.0]
    data["precipitation_amount"][20] = np.nan
    found = verify_at(data, "precipitation_amount", end, np.full(2, 24.0))[:, 0]
    assert found[0] == 25.5
    assert np.isnan(found[1])
