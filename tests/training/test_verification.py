"""Verification of published cycles: sums that add up, and planted forecasts whose right score is known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from models.base import LEVELS
from models.scores import pit_histogram
from training.verification import (
    DRIFT_BOUND,
    LEAD_EDGES,
    PIT_BINS,
    STATISTICS,
    Cases,
    _pit_bins,
    add,
    basin_cases,
    drifts,
    excursion,
    lead_bucket,
    pit_counts,
    pit_square,
    reliability,
    skills,
    station_cases,
    sums,
    table,
)  # fmt: skip

START = np.datetime64("2026-06-01T00", "ns")
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")


def exactly(values: np.ndarray) -> np.ndarray:
    """Quantiles of a forecast that is sure of a value."""
    return np.repeat(np.asarray(values, dtype=float)[:, None], LEVELS.size, axis=1)


def normal(mean: np.ndarray, spread: float) -> np.ndarray:
    return np.asarray(mean)[:, None] + spread * norm.ppf(LEVELS)


def cases(forecasts: dict[str, np.ndarray], observed: np.ndarray, variable: str = "temperature_2m", lead: float = 12.0) -> Cases:
    """One case a day from :data:`START` on."""
    n = len(observed)
    return Cases(variable, forecasts, observed, START + np.arange(n) * DAY, np.full(n, lead))


def row(total: xr.DataArray, forecaster: str, variable: str = "temperature_2m") -> dict:
    (found,) = (r for r in table(total) if r["forecaster"] == forecaster and r["variable"] == variable)
    return found


# --- sums that add up ----------------------------------------------------------------------------------------------------------------


@st.composite
def many_cases(draw: st.DrawFn) -> Cases:
    """Cases of several days and leads with missing observations."""
    n = draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    observed = np.where(random.random(n) < 0.3, np.nan, np.round(random.normal(size=n), 1))
    forecasts = {
        name: np.sort(np.round(random.normal(size=(n, LEVELS.size)), 1), axis=1) for name in ("blend", "climatology", "raw_a", "raw_b")
    }
    valid = START + random.integers(0, 3, n) * DAY
    return Cases("precipitation_amount", forecasts, observed, valid, random.choice([0.0, 3.0, 24.0, 27.0, 240.0], n))


@given(many_cases(), st.integers(0, 12))
@settings(deadline=None, max_examples=25)
def test_statistics_of_two_halves_add_to_the_whole(whole: Cases, cut: int) -> None:
    def part(rows: slice) -> Cases:
        forecasts = {name: values[rows] for name, values in whole.forecasts.items()}
        return Cases(whole.variable, forecasts, whole.observed[rows], whole.valid_time[rows], whole.lead_hours[rows])

    halves = [sums([part(slice(None, cut))]), sums([part(slice(cut, None))])]
    xr.testing.assert_allclose(add(halves), sums([whole]), rtol=1e-12, atol=1e-12)
    xr.testing.assert_identical(add(halves), add(halves[::-1]))


def test_sums_of_cycles_with_other_forecasters_and_variables_stand_side_by_side() -> None:
    y = np.array([1.0, 2.0])
    one = sums([cases({"blend": exactly(y), "raw_a": exactly(y + 1)}, y)])
    other = sums([cases({"blend": exactly(y), "raw_b": exactly(y + 3)}, y, "wind_speed_10m")])
    total = add([one, other])
    assert row(total, "raw_a")["bias"] == pytest.approx(1.0)
    assert row(total, "raw_b", "wind_speed_10m")["bias"] == pytest.approx(3.0)
    assert not [r for r in table(total) if r["forecaster"] == "raw_b" and r["variable"] == "temperature_2m"]
    with pytest.raises(ValueError, match="no sums"):
        add([])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_pit_masses_are_those_of_the_histogram(pairs: list[tuple[float, float]]) -> None:
    lower, upper = np.sort(np.array(pairs), axis=1).T
    lower, upper = np.round(lower, 3), np.round(upper, 3)
    bins = _pit_bins(lower, upper)
    assert np.allclose(bins.sum(axis=1), 1)
    inside = (lower * PIT_BINS) % 1 > 1e-9     # at the edge of a bin rounding may choose either
    if inside.any():
        assert np.allclose(bins[inside].mean(axis=0), pit_histogram(lower[inside], upper[inside], PIT_BINS))


def test_the_spread_of_a_mass_is_that_of_draws_from_it() -> None:
    lower, upper = np.array([0.0, 0.3, 0.2]), np.array([1.0, 0.3, 0.9])
    draws = lower + (upper - lower) * (np.arange(20000)[:, None] + 0.5) / 20000
    assert np.allclose(pit_square(lower, upper), (12 * (draws - 0.5) ** 2).mean(axis=0), atol=1e-6)


def test_a_range_of_leads_includes_its_upper_end() -> None:
    assert list(lead_bucket(np.array([-1.0, 0, 3, 24, 25, 48, 72, 73, 120, 168, 240, 246]))) == [-1, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, -1]
    assert len(LEAD_EDGES) == 7


# --- planted forecasts ---------------------------------------------------------------------------------------------------------------


def test_a_perfect_blend_and_a_biased_centre_get_the_right_scores() -> None:
    y = np.random.default_rng(1).normal(25, 3, 40)
    total = sums([cases({"blend": exactly(y), "raw_warm": exactly(y + 2), "climatology": normal(np.full(40, 25.0), 3)}, y)])
    blend, warm = row(total, "blend"), row(total, "raw_warm")
    assert (blend["n"], blend["score"], blend["mae"], blend["bias"]) == (40, 0, 0, 0)
    assert warm["score"] == pytest.approx(2, rel=0.005)
    assert (warm["mae"], warm["bias"]) == (pytest.approx(2), pytest.approx(2))
    assert warm["coverage_90"] == 0
    (skill,) = skills(total)
    assert (skill.best_centre, skill.n, skill.days, skill.skill, skill.interval) == ("raw_warm", 40, 40, 1.0, (1.0, 1.0))
    assert skill.climatology == pytest.approx(3 / np.sqrt(np.pi), rel=0.3)


def test_a_calibrated_blend_is_covered_and_flat() -> None:
    random = np.random.default_rng(12)
    mean = random.normal(20, 5, 4000)
    total = sums([cases({"blend": normal(mean, 2.0)}, mean + 2 * random.normal(size=4000))])
    found = row(total, "blend")
    assert found["coverage_50"] == pytest.approx(0.5, abs=0.03)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert found["score"] == pytest.approx(2 / np.sqrt(np.pi), rel=0.03)
    (pit,) = pit_counts(total)
    assert np.abs(np.array(pit["counts"]) - 400).max() < 80
    assert not drifts(total)
    assert not skills(total), "without a centre there is nothing to compare with"


def test_dry_forecasts_on_dry_days_are_neither_over_covered_nor_piled_up() -> None:
    y = np.zeros(200)
    dry = np.broadcast_to(np.where(LEVELS <= 0.8, 0.0, LEVELS), (200, LEVELS.size))
    total = sums([cases({"blend": dry}, y, "precipitation_amount")])
    found = row(total, "blend", "precipitation_amount")
    assert found["coverage_50"] == pytest.approx(0.5 / 0.8, abs=0.01)
    assert found["events"] == 0
    (pit,) = pit_counts(total)
    assert pit["counts"][:8] == [25] * 8
    assert sum(pit["counts"][8:]) == 0


def test_missing_observations_and_forecasts_are_left_out_of_every_row() -> None:
    y = np.array([1.0, np.nan, 3.0, 4.0, 5.0])
    raw = exactly(np.nan_to_num(y) + 1)
    raw[0] = np.nan
    total = sums([cases({"blend": exactly(y + 0.5), "raw_a": raw}, y)])
    assert {r["forecaster"]: r["n"] for r in table(total)} == {"blend": 3, "raw_a": 3}
    assert row(total, "raw_a")["bias"] == pytest.approx(1)


def test_a_forecaster_that_is_nearly_absent_takes_no_cases_from_the_others() -> None:
    y = np.arange(10.0)
    short = exactly(y)
    short[4:] = np.nan
    total = sums([cases({"blend": exactly(y), "raw_a": exactly(y + 1), "shortrange": short}, y)])
    assert {r["forecaster"]: r["n"] for r in table(total)} == {"blend": 10, "raw_a": 10}


def test_without_a_blend_nothing_is_scored() -> None:
    y = np.arange(10.0)
    assert not sums([cases({"raw_a": exactly(y)}, y)]).any()
    assert not sums([cases({"raw_a": exactly(y), "blend": exactly(y * np.nan)}, y)]).any()


def test_a_centre_missing_in_some_cycles_is_compared_in_the_others_only() -> None:
    y = np.arange(8.0)
    easy = sums([cases({"blend": exactly(y + 1), "raw_a": exactly(y + 2), "raw_b": exactly(y + 4)}, y)])
    hard = sums([cases({"blend": exactly(y + 9), "raw_b": exactly(y + 10)}, y)])
    (skill,) = skills(add([easy, hard]))
    assert skill.best_centre == "raw_b", "5 against 7 on average leaves the blend less than 1 against 2"
    assert (skill.n, skill.skill) == (16, pytest.approx(1 - 5 / 7))
    assert skill.blend == pytest.approx(5, rel=0.01)
    rare = sums([cases({"blend": exactly(y[:2] + 9), "raw_lucky": exactly(y[:2] + 1)}, y[:2])])
    assert {s.best_centre for s in skills(add([easy, hard, rare]))} == {"raw_b"}, "seen in too few cases to be called the best"


def test_the_interval_holds_the_true_skill_and_needs_four_days() -> None:
    truth = 1 - 0.56419 / (1.39929 - 0.56419)     # mean CRPS of N(0, 1) and of N(1, 1) for y from N(0, 1)
    held = []
    for seed in range(40):
        y = np.random.default_rng(seed).normal(size=90)
        total = sums([cases({"blend": normal(np.zeros(90), 1.0), "raw_a": normal(np.ones(90), 1.0)}, y)])
        (skill,) = skills(total)
        held.append(skill.interval[0] < truth < skill.interval[1])
        assert 0 < skill.interval[1] - skill.interval[0] < 0.6
    assert sum(held) >= 32, "95 % of intervals, a little less with nine blocks of days"
    assert skills(total) == [skill], "the draws are the same each time"
    (short,) = skills(sums([cases({"blend": exactly(y[:3]), "raw_a": exactly(y[:3] + 1)}, y[:3])]))
    assert np.isnan(short.interval).all()
    assert short.days == 3


def test_chances_are_scored_by_brier_and_have_no_coverage() -> None:
    event = np.array([0.0, 1.0, 0.0, 1.0])
    total = sums([cases({"blend": np.array([0.1, 0.9, 0.1, 0.9]), "raw_a": np.full(4, 0.5)}, event, "precipitation_amount_day_above_16")])
    found = row(total, "blend", "precipitation_amount_day_above_16")
    assert (found["score"], found["events"], found["coverage_90"]) == (pytest.approx(0.01), 2, None)
    assert skills(total)[0].skill == pytest.approx(1 - 0.01 / 0.25)
    assert not pit_counts(total)
    assert not drifts(total)


def test_reliability_counts_what_was_forecast_and_what_came() -> None:
    chance = np.array([0.015, 0.01, 0.35, 0.38, np.nan, 1.0, 0.3])
    event = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0, np.nan])
    total = reliability(chance, event, START + np.arange(7) * HOUR, np.full(7, 24.0), 16.0)
    bins = total.sum(["threshold", "lead", "day"]).transpose("bin", "part").values
    shown = bins[bins[:, 0] > 0]
    assert np.allclose(shown, [[2, 0.025, 0], [2, 0.73, 1], [1, 1, 1]])
    twice = add([total, total])
    assert np.allclose(twice.values, 2 * total.values)


# --- stations and their mean -----------------------------------------------------------------------------------------------------------


def observations(values: np.ndarray, variable: str) -> xr.Dataset:
    """Hourly values (time, station) from the first hour after START on."""
    times = START + (1 + np.arange(len(values))) * HOUR
    stations = np.array(["a", "b"], dtype=object)
    return xr.Dataset({variable: (("time", "station"), values)}, coords={"time": times, "station": stations})


def test_station_cases_take_the_sum_over_the_lead_s_own_interval_and_no_gap_for_zero() -> None:
    rain = np.ones((6, 2))
    rain[4, 1] = np.nan
    leads = np.array([0, 3, 6]) * HOUR
    bounds = np.array([[np.timedelta64("NaT", "ns")] * 2, [0 * HOUR, 3 * HOUR], [3 * HOUR, 6 * HOUR]])
    blend = xr.Dataset(
        {"precipitation_amount": (("lead_time", "station", "quantile"), np.zeros((3, 2, LEVELS.size)))},
        coords={"init_time": START, "lead_time": leads, "station": ["a", "b"], "lead_time_bounds": (("lead_time", "bounds"), bounds)},
    )
    (found,) = station_cases(blend, xr.Dataset(), observations(rain, "precipitation_amount"))
    assert list(found.observed) == [3, 3, 3], "not the lead at zero, not the interval with a gap"
    assert list(found.lead_hours) == [3, 3, 6]
    assert set(found.forecasts) == {"blend"}


def test_the_basin_is_the_mean_of_the_stations_that_reported_and_needs_half_of_them() -> None:
    members = np.array([[[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]] * 3)          # (lead, station, member)
    observed = np.array([[3.0, 3.0, 3.0], [3.0, np.nan, 9.0], [np.nan, np.nan, 9.0]])
    found = basin_cases({"blend": members, "raw_a": members + 1}, observed, START + np.arange(3) * HOUR, np.full(3, 6.0), "basin")
    assert np.allclose(found.observed, [3, 6, np.nan], equal_nan=True)
    blend = found.forecasts["blend"]
    assert (blend[0, 0], blend[0, -1]) == (4, 6)
    assert (blend[1, 0], blend[1, -1]) == (4, 6), "over the same two stations as the observation"
    assert np.isnan(blend[2]).all()
    assert np.allclose(found.forecasts["raw_a"][:2], blend[:2] + 1)


def test_a_centre_without_a_lead_leaves_the_basin_to_the_others() -> None:
    members = np.ones((2, 2, 3))
    short = members.copy()
    short[1] = np.nan
    found = basin_cases({"blend": members, "raw_a": short}, np.ones((2, 2)), START + np.arange(2) * HOUR, np.full(2, 6.0), "basin")
    assert np.isfinite(found.observed).all()
    assert np.isnan(found.forecasts["raw_a"][1]).all()


# --- drifts ------------------------------------------------------------------------------------------------------------------------


def test_a_bias_that_begins_is_found_with_its_day_and_its_sign() -> None:
    random = np.random.default_rng(4)
    days, each = 90, 20
    mean = np.repeat(random.normal(25, 3, days), each)
    shift = np.repeat(np.where(np.arange(days) >= 50, -1.0, 0.0), each)      # the weather turns colder than the blend knows
    y = mean + shift + random.normal(size=days * each)
    valid = START + np.repeat(np.arange(days), each) * DAY
    total = sums([Cases("temperature_2m", {"blend": normal(mean, 1.0)}, y, valid, np.full(y.size, 12.0))])
    level = next(one for one in drifts(total) if one.kind.endswith(("high", "low")))
    assert (level.variable, level.kind, level.lead_hours) == ("temperature_2m", "too high", (0.0, 24.0))
    assert abs(np.datetime64(level.since) - (START.astype("datetime64[D]") + 50)) <= 5 * DAY


@pytest.mark.parametrize(("spread", "kind"), [(0.4, "too narrow"), (2.5, "too wide")])
def test_a_wrong_spread_is_a_drift(spread: float, kind: str) -> None:
    y = np.random.default_rng(5).normal(size=1200)
    valid = START + np.repeat(np.arange(60), 20) * DAY
    total = sums([Cases("temperature_2m", {"blend": normal(np.zeros(1200), spread)}, y, valid, np.full(1200, 12.0))])
    assert kind in {one.kind for one in drifts(total)}


def test_alike_neighbouring_days_alone_are_rarely_called_a_drift() -> None:
    random = np.random.default_rng(6)
    noise = random.normal(size=(300, 90))
    for day in range(1, 90):
        noise[:, day] += 0.4 * noise[:, day - 1]
    sizes = np.array([abs(excursion(series)[0]) for series in noise])
    assert (sizes > DRIFT_BOUND).mean() < 0.05


def test_a_few_days_have_no_drift() -> None:
    y = np.zeros(10)
    assert not drifts(sums([cases({"blend": normal(y + 50, 1.0)}, y)]))


def test_the_statistics_are_named_once() -> None:
    assert len(set(STATISTICS)) == len(STATISTICS)
