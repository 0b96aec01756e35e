"""The statistics of ten years at Láng, with tolerances of ten years; notebook 01 shows those of fifty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.regions import load_region
from data_catalog.simulated import measure
from data_catalog.simulated.climate import WARMING, Climate
from data_catalog.simulated.noise import YEAR_HOURS
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases
from data_catalog.simulated.world import CENTRES

YEARS = range(2006, 2016)


@pytest.fixture(scope="module")
def record(truth: Truth) -> dict[str, np.ndarray]:
    return measure.record(truth, YEARS)


@pytest.mark.slow
def test_rain_falls_by_month_day_and_hour_as_at_hanoi(record: dict[str, np.ndarray], climate: Climate) -> None:
    rain = record["precipitation_amount"]
    daily = rain.sum(axis=2)
    totals = measure.mean(measure.by_month(daily))
    off = np.abs(totals.value - climate.rain) / np.maximum((totals.high - totals.low) / 4.0, 1.0)
    assert np.sort(off)[-3] < 3.5, "standard errors, themselves of ten skewed years"
    assert daily.sum(axis=1).mean() == pytest.approx(sum(climate.rain), rel=0.12)
    assert (daily >= 1).sum(axis=1).mean() == pytest.approx(115, abs=8)
    assert 22 < (daily >= 16).sum(axis=1).mean() < 36
    assert 4 < (daily >= 50).sum(axis=1).mean() < 10
    assert 0.4 < (daily >= 100).sum(axis=1).mean() < 2.5
    assert measure.wet_after(daily, measure.SUMMER, True).value == pytest.approx(0.62, abs=0.06)
    assert measure.wet_after(daily, measure.SUMMER, False).value == pytest.approx(0.40, abs=0.07)
    assert measure.wet_after(daily, measure.WINTER, False).value == pytest.approx(0.12, abs=0.06)
    assert 90 < np.median(measure.yearly_maximum(rain, 24)) < 210
    assert 30 < np.median(measure.yearly_maximum(rain, 1)) < 65
    summer = rain[:, np.isin(measure.MONTH, measure.SUMMER)].mean(axis=(0, 1))
    assert summer[14:20].mean() > 1.3 * summer[7:13].mean(), "most rain falls in the afternoon and evening"


@pytest.mark.slow
def test_temperature_humidity_and_pressure_are_those_of_the_season(record: dict[str, np.ndarray], climate: Climate) -> None:
    daily = record["temperature_2m"].mean(axis=2)
    monthly = measure.by_month(daily, np.mean).mean(axis=0)
    warming = WARMING * YEAR_HOURS * (np.mean(YEARS) - 2002.5)
    assert monthly - warming == pytest.approx(np.array(climate.temperature), abs=1.2)
    assert (monthly - warming - climate.temperature).mean() == pytest.approx(0.0, abs=0.3)
    swing = record["temperature_2m_max"].max(axis=2) - record["temperature_2m_min"].min(axis=2)
    assert measure.by_month(swing, np.mean).mean(axis=0) == pytest.approx(np.array(climate.range), abs=1.2)
    assert measure.anomaly_sd(daily, 0).value == pytest.approx(3.1, abs=0.5)
    assert measure.anomaly_sd(daily, 6).value == pytest.approx(1.8, abs=0.3)
    assert 0.45 < measure.lag_one(daily, 0).value < 0.83
    assert 5 < (daily < 15).sum(axis=1).mean() < 20
    assert 3 < (record["temperature_2m_max"].max(axis=2) >= 37).sum(axis=1).mean() < 16
    falls = np.diff(daily, axis=1) <= -4
    assert 2 < falls[:, 31:120].sum(axis=1).mean() < 7, "spring has its surges"
    humidity = measure.by_month(record["relative_humidity_2m"].mean(axis=2), np.mean).mean(axis=0)
    assert humidity == pytest.approx(np.array(climate.humidity), abs=3.0)
    pressure = measure.by_month(record["pressure_reduced_to_mean_sea_level"].mean(axis=2), np.mean).mean(axis=0) / 100
    assert pressure[0] - pressure[6] == pytest.approx(17.0, abs=2.0)
    sun = measure.by_month(record["downward_short_wave_radiation_flux_surface"].mean(axis=2), np.mean).mean(axis=0)
    assert sun[6] > 1.6 * sun[1], "the grey late winter"


@pytest.mark.slow
def test_late_winter_is_damp(record: dict[str, np.ndarray]) -> None:
    rain, humid = record["precipitation_amount"], record["relative_humidity_2m"]
    drizzle = measure.by_month(((rain > 0) & (rain < 0.2) & (humid > 92)).any(axis=2)).mean(axis=0)
    assert drizzle[1:3].min() > 3
    assert drizzle[5:11].max() < 1.5
    fog = measure.by_month(((record["visibility"] < 1000) & (rain < 0.2)).any(axis=2)).mean(axis=0)
    assert fog[[0, 1, 2]].sum() > fog[[5, 6, 7]].sum()


@pytest.mark.slow
def test_neighbouring_cells_share_their_rain_as_far_as_showers_reach(truth: Truth, cells: Bases) -> None:
    hour, day = measure.cell_correlations(truth, [2019, 2020], (1, 2, 4, 8), cells, 33)
    assert hour.value == pytest.approx([0.64, 0.40, 0.21, 0.06], abs=0.05)
    assert day.value == pytest.approx([0.87, 0.72, 0.49, 0.20], abs=0.08)


@pytest.mark.slow
def test_the_ceiling_lies_above_every_centre_and_falls_with_lead(climate: Climate) -> None:
    """On temperature, where few forecasts decide; rain is measured in notebook 01."""
    inits = np.arange("2022-01-04", "2023-01-04", 9, dtype="datetime64[D]").astype("datetime64[h]")
    found = measure.hindcasts(climate, 1, CENTRES, inits, (24, 120, 240), members=6)
    usual = found.observed_temperature
    scores = {name: measure.crps(members, usual).mean(axis=0) for name, members in found.temperature.items()}
    ceiling = scores[measure.CEILING]
    assert (np.diff(ceiling) > 0).all()
    for name, score in scores.items():
        assert (score >= ceiling * 0.999).all(), name
    spread = measure.spread_error(found.temperature[measure.CEILING], usual)
    assert spread == pytest.approx(np.ones(3), abs=0.45)
    for name in CENTRES:
        if found.temperature[name].shape[-1] > 1:
            assert (measure.spread_error(found.temperature[name], usual) < 1.0).all(), name


def test_typhoons_are_counted_in_their_year(truth: Truth) -> None:
    each = [measure.typhoons(truth, [year])[0] for year in range(2000, 2010)]
    assert list(measure.typhoons(truth, range(2000, 2010))) == each


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(-5, 5))
def test_crps_is_the_integral_of_the_squared_difference_of_distributions(members: list[float], observed: float) -> None:
    ordered = np.sort(np.array([*members, observed]))
    below = np.searchsorted(np.sort(members), ordered[:-1], side="right") / len(members)
    integral = np.sum((below - (ordered[:-1] >= observed)) ** 2 * np.diff(ordered))
    assert measure.crps(np.array(members), np.array(observed)) == pytest.approx(integral, abs=1e-9)


@given(st.integers(1, 48))
def test_the_greatest_window_is_found(hours: int) -> None:
    values = np.random.Generator(np.random.Philox(hours)).gamma(0.3, 4.0, (2, 5, 24))
    expected = [max(year[start : start + hours].sum() for start in range(120 - hours + 1)) for year in values.reshape(2, 120)]
    assert measure.yearly_maximum(values, hours) == pytest.approx(expected)


def test_exchangeable_members_have_flat_ranks() -> None:
    drawn = np.random.Generator(np.random.Philox(1)).normal(size=(20_000, 6))
    assert measure.ranks(drawn[:, 1:], drawn[:, 0]) == pytest.approx(np.full(6, 1 / 6), abs=0.01)
    dry = np.zeros((10, 4))
    assert measure.ranks(dry, np.zeros(10)) == pytest.approx(np.full(5, 0.2))


def test_an_interval_holds_its_value_and_narrows_with_years() -> None:
    yearly = np.random.Generator(np.random.Philox(2)).normal(10.0, 2.0, 200)
    few, many = measure.mean(yearly[:20]), measure.mean(yearly)
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    assert many.holds(9.5, 10.5)
    assert not many.holds(12.0, 13.0)


def test_the_region_has_the_normals_that_are_compared() -> None:
    assert sum(load_region().normals["lang"]["rain"]) == pytest.approx(1637, abs=3)
