from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.grids import to_stations
from data_catalog.settings import load_settings
from data_catalog.simulated.centres import Centre, Forecast
from data_catalog.simulated.climate import Climate
from data_catalog.simulated.simulator import Simulator
from data_catalog.simulated.view import Hourly
from data_catalog.simulated.weather import Bases, Faults
from data_catalog.sources import registry
from data_catalog.sources.simulated import GLOBAL_EPS, REGIONAL_EPS

LEADS = (0, 3, 6, 9, 12, 24, 48)


def run(climate: Climate, bases: Bases, init: str, **chosen: object) -> dict[str, np.ndarray]:
    centre = Centre(**{"number": 7, "members": 4, "spread": 0.5, "skill": 1.0, "faults": Faults(), **chosen})  # type: ignore[arg-type]
    return Forecast.of(climate, 1, centre, np.datetime64(init)).weather(LEADS, bases)


def test_a_forecast_is_a_function_of_its_arguments(climate: Climate, few_cells: Bases) -> None:
    first, again = run(climate, few_cells, "2024-07-01T00"), run(climate, few_cells, "2024-07-01T00")
    other = run(climate, few_cells, "2024-07-01T00", number=8)
    for name, values in first.items():
        assert np.array_equal(values, again[name], equal_nan=True)
        assert not np.array_equal(values, other[name], equal_nan=True)


@given(st.sets(st.integers(1, 240), min_size=1, max_size=4), st.sampled_from(["2024-01-22T06", "2024-09-06T00"]))
def test_an_hour_alone_is_bit_for_bit_the_hour_in_a_run(climate: Climate, few_cells: Bases, leads: set[int], init: str) -> None:
    forecast = Forecast.of(climate, 1, Centre(3, 2, 0.5, 1.0, Faults(wet=0.2)), np.datetime64(init))
    whole = run_of(climate, few_cells, init)
    alone = forecast.hourly(forecast.init + np.array(sorted(leads), dtype=np.float64), few_cells)
    for position, lead in enumerate(sorted(leads)):
        assert np.array_equal(alone.rain[position], whole.rain[lead - 1])
        assert np.array_equal(alone.short_wave[position], whole.short_wave[lead - 1])


@lru_cache
def run_of(climate: Climate, bases: Bases, init: str) -> Hourly:
    forecast = Forecast.of(climate, 1, Centre(3, 2, 0.5, 1.0, Faults(wet=0.2)), np.datetime64(init))
    return forecast.hourly(forecast.init + np.arange(1.0, 241.0), bases)


def test_more_members_leave_the_first_ones_as_they_are(climate: Climate, few_cells: Bases) -> None:
    few, many = run(climate, few_cells, "2024-07-01T00", members=3), run(climate, few_cells, "2024-07-01T00", members=6)
    for name in few:
        assert many[name][:, :3] == pytest.approx(few[name], rel=1e-4, abs=1e-3, nan_ok=True)


def test_forecasts_are_physical_and_have_no_interval_at_lead_zero(climate: Climate, few_cells: Bases) -> None:
    faults = Faults(temperature=-1.0, dryness=-3.0, wind=1.3, cloud=2.0, wet=0.4, early=3.0, heat=1.5, city=2.0)
    for init in ("2024-01-10T00", "2024-07-10T12"):
        fields = run(climate, few_cells, init, faults=faults)
        assert (fields["dew_point_temperature_2m"] <= fields["temperature_2m"]).all()
        assert (fields["wind_gust_10m"] >= np.hypot(fields["wind_u_10m"], fields["wind_v_10m"])).all()
        for name in ("precipitation_amount", "downward_short_wave_radiation_flux_surface"):
            assert np.isnan(fields[name][0]).all()
            assert (fields[name][1:] >= 0).all()


def test_sums_cover_the_time_since_the_lead_before(climate: Climate, few_cells: Bases) -> None:
    centre = Centre(7, 2, 0.5, 1.0, Faults())
    forecast = Forecast.of(climate, 1, centre, np.datetime64("2024-07-01T00"))
    hourly = forecast.weather(tuple(range(13)), few_cells)
    steps = forecast.weather((0, 6, 12), few_cells)
    for begin, end, at in ((0, 6, 1), (6, 12, 2)):
        for name, combine in (("precipitation_amount", np.sum), ("downward_short_wave_radiation_flux_surface", np.mean)):
            assert steps[name][at] == pytest.approx(combine(hourly[name][begin + 1 : end + 1], axis=0), rel=1e-4, abs=1e-3)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    return registry.simulator(load_settings(root=str(tmp_path_factory.mktemp("root"))))


@pytest.fixture(scope="module")
def verified(simulator: Simulator) -> dict[str, dict[str, np.ndarray]]:
    """A run every six days of a year: ensembles at 24, 96 and 240 h and what the gauges said, by centre and variable."""
    runs = np.arange(np.datetime64("2023-01-01"), np.datetime64("2024-01-01"), np.timedelta64(9, "D"))
    chosen = (24, 96, 240)
    found: dict[str, dict[str, np.ndarray]] = {}
    for dataset in (GLOBAL_EPS, REGIONAL_EPS):
        history = simulator.history(dataset, runs)
        leads = (history["lead_time"].values / np.timedelta64(1, "h")).astype(int)
        at = [int(np.flatnonzero(leads == lead)[0]) for lead in chosen]
        valid = runs.astype("datetime64[h]")[:, None] + np.array(chosen)
        times = np.unique(valid)
        observed = simulator.observations(times)
        where = np.searchsorted(times, valid)
        found[dataset] = {}
        for name in ("temperature_2m", "pressure_reduced_to_mean_sea_level"):
            found[dataset][name] = history[name].values[:, at]
            found[f"observed {dataset}"] = found.get(f"observed {dataset}", {})
            found[f"observed {dataset}"][name] = observed[name].values[where]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("dataset", [GLOBAL_EPS, REGIONAL_EPS])
@pytest.mark.parametrize("name", ["temperature_2m", "pressure_reduced_to_mean_sea_level"])
def test_ensembles_are_skilful_biased_and_too_narrow(verified: dict[str, dict[str, np.ndarray]], dataset: str, name: str) -> None:
    members, observed = verified[dataset][name], verified[f"observed {dataset}"][name]  # (run, lead, station, member), (run, lead, station)
    error = members.mean(axis=-1) - observed
    there = np.isfinite(error)
    rmse = [np.sqrt(np.nanmean((error[:, lead] - np.nanmean(error[:, lead])) ** 2)) for lead in range(3)]
    assert rmse[0] < rmse[1] < rmse[2]
    count = members.shape[-1]
    spread = [np.sqrt(members[:, lead].var(axis=-1, ddof=1).mean() * (1 + 1 / count)) for lead in range(3)]
    assert spread[0] < spread[1]
    ratios = [wide / far for wide, far in zip(spread, rmse, strict=True)]
    assert all(0.15 < ratio < 1.1 for ratio in ratios), ratios
    correlation_24 = np.corrcoef(members.mean(axis=-1)[:, 0][there[:, 0]], observed[:, 0][there[:, 0]])[0, 1]
    assert correlation_24 > 0.9
    quarters = [np.nanmean(part) for part in np.array_split(error, 4)]  # a bias is one of season and hour
    assert np.max(np.abs(quarters)) > 0.05 * np.nanstd(error)


@pytest.mark.slow
def test_centres_share_part_of_their_errors(verified: dict[str, dict[str, np.ndarray]]) -> None:
    errors = []
    for dataset in (GLOBAL_EPS, REGIONAL_EPS):
        error = verified[dataset]["temperature_2m"].mean(axis=-1) - verified[f"observed {dataset}"]["temperature_2m"]
        errors.append((error - np.nanmean(error, axis=(0, 2), keepdims=True))[:, 1].ravel())
    there = np.isfinite(errors[0])
    assert 0.3 < np.corrcoef(errors[0][there], errors[1][there])[0, 1] < 0.9


def test_history_is_the_forecast_on_the_grid_taken_to_the_stations(simulator: Simulator) -> None:
    region = simulator.region
    init = np.datetime64("2024-08-01T00")
    history = simulator.history(REGIONAL_EPS, np.array([init]))
    latitude, longitude = region.latitude[4:14], region.longitude[12:21]
    fields = simulator.forecast(REGIONAL_EPS, init, latitude, longitude)
    shape = (-1, 10, latitude.size, longitude.size)
    gridded = xr.Dataset(
        {name: (("lead_time", "ensemble_member", "latitude", "longitude"), values.reshape(shape)) for name, values in fields.items()},
        coords={"latitude": latitude, "longitude": longitude},
    )
    stations = tuple(station for station in region.stations if station.operating)
    expected = to_stations(gridded, stations).transpose("lead_time", "station", "ensemble_member")
    for name in fields:
        assert history[name].values[0] == pytest.approx(expected[name].values, rel=2e-4, abs=2e-3, nan_ok=True), name
    assert list(history["station"].values) == [station.id for station in stations]
