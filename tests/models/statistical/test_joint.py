"""Forecasters made from all sources together: their predictors, the joint EMOS, the forest, analogs and rain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from models.base import LEVELS, Inputs, Pairs
from models.registry import build
from models.scores import cdf_interval_quantiles, crps_quantiles
from models.statistical.forest import _grow
from models.statistical.joint import JointEmos
from models.statistical.predictors import design_of, training_of

START = np.datetime64("2022-01-01", "ns")
DAY = np.timedelta64(24, "h").astype("timedelta64[ns]")


def world(
    days: int = 400, stations: int = 1, seed: int = 0, memory: float = 0.0, variable: str = "temperature_2m", swing: float = 8.0
) -> Pairs:
    """Two sources of a daily forecast for tomorrow; their common error remembers yesterday's with ``memory``; the seasons ``swing``."""
    rng = np.random.default_rng(seed)
    times = START + np.arange(days + 1) * DAY
    weather = 15.0 + swing * np.sin(2 * np.pi * np.arange(days + 1) / 365.25)[:, None] + 3.0 * rng.normal(size=(days + 1, stations))
    if variable == "precipitation_amount":
        weather = np.maximum(rng.normal(size=(days + 1, stations)) * 4.0 - 1.0, 0.0)
    error = np.zeros((days + 1, stations))
    for i in range(1, days + 1):
        error[i] = memory * error[i - 1] + np.sqrt(1 - memory**2) * rng.normal(size=stations)
    place = {"station": [f"s{i}" for i in range(stations)]}
    truth = xr.Dataset({variable: (("time", "station"), weather.round(1))}, coords={"time": times, **place})
    lead = np.array([DAY])
    sources = {}
    bias = rng.normal(size=stations) * 1.5
    for name, members, off, noise in (("a", 6, 1.0, 0.6), ("b", 1, -2.0, 1.0)):
        centre = weather[1:] + off + bias + error[1:] + noise * rng.normal(size=(days, stations))
        values = centre[:, None, :, None] + 0.5 * rng.normal(size=(days, 1, stations, members))
        if variable == "precipitation_amount":
            values = np.maximum(values, 0.0)
        sources[name] = xr.Dataset(
            {variable: (("init_time", "lead_time", "station", "ensemble_member"), values)},
            coords={"init_time": times[:-1], "lead_time": lead, **place},
        )
    observed = xr.Dataset(
        {variable: (("init_time", "lead_time", "station"), truth[variable].values[1:, None])},
        coords={"init_time": times[:-1], "lead_time": lead, **place},
    )
    return Pairs(sources, truth, (variable,), None, observed)


def past_of(pairs: Pairs, days: int) -> Pairs:
    """The first cycles, with what was known at the last of them."""
    cut = {"init_time": slice(0, days)}
    known = None if pairs.observations is None else pairs.observations.isel(time=slice(0, days + 1))
    return Pairs({n: s.isel(cut) for n, s in pairs.sources.items()}, known, pairs.targets, None, pairs.observed.isel(cut))


def score(forecaster_id: str, pairs: Pairs, days: int) -> float:
    """CRPS after the first cycles."""
    said = build(forecaster_id).fit(past_of(pairs, days)).predict(Inputs(pairs.sources, pairs.observations, pairs.targets))
    name = pairs.targets[0]
    q, y = said[name].values[days:].astype(float), pairs.observed[name].values[days:]
    return float(crps_quantiles(q, y).mean())


def test_two_sources_are_better_than_one():
    pairs = world()
    assert score("emos", pairs, 300) < 0.97 * min(score("emos_a", pairs, 300), score("emos_b", pairs, 300))


def test_errors_that_last_are_corrected():
    pairs = world(memory=0.9)
    blind = replace(pairs, observations=None)
    assert score("emos", pairs, 300) < 0.9 * score("emos", blind, 300)


def test_stations_borrow_from_each_other_when_history_is_short():
    pairs = world(days=60, stations=40, swing=0.0)
    assert score("emos", pairs, 20) < score("emos_a", pairs, 20)


def test_predictors_of_a_cycle_do_not_see_what_it_could_not_know():
    pairs = world(days=120, memory=0.8)
    frame = training_of(past_of(pairs, 100), "temperature_2m", 1.0, None).frame
    now = pairs.frame["init_time"].values[60]
    changed = pairs.observations.assign(temperature_2m=pairs.observations["temperature_2m"] + 20.0 * (pairs.observations["time"] > now))
    one, other = (design_of(Inputs(pairs.sources, o), "temperature_2m", frame, None) for o in (pairs.observations, changed))
    for a, b in ((one.location, other.location), (one.log_scale, other.log_scale)):
        assert np.array_equal(a[:61], b[:61])
        assert not np.array_equal(a[62:], b[62:])


def test_late_observations_come_late():
    pairs = world(days=120, memory=0.8)
    frame = training_of(past_of(pairs, 100), "temperature_2m", 1.0, None).frame
    late = pairs.observations.assign_coords(available_time=("time", pairs.observations["time"].values + 3 * DAY))
    now = pairs.frame["init_time"].values[60]
    changed = late.assign(temperature_2m=late["temperature_2m"] + 20.0 * (late["time"] > now - 3 * DAY))
    one, other = (design_of(Inputs(pairs.sources, o), "temperature_2m", frame, None).location for o in (late, changed))
    assert np.array_equal(one[:61], other[:61])


@pytest.mark.parametrize("forecaster_id", ["emos", "emos-recent", "emos-loose"])
def test_one_impossible_observation_changes_little(forecaster_id: str):
    pairs = world(days=200)
    observed = pairs.observed["temperature_2m"].copy(deep=True)
    series = pairs.observations["temperature_2m"].copy(deep=True)
    observed[{"init_time": 50}] = 150.0
    series[{"time": 51}] = 150.0
    known = pairs.observations.assign(temperature_2m=series)
    broken = replace(pairs, observed=pairs.observed.assign(temperature_2m=observed), observations=known)
    late = Inputs({n: s.isel(init_time=slice(150, 200)) for n, s in pairs.sources.items()}, pairs.observations, pairs.targets)
    one, other = (build(forecaster_id).fit(past_of(p, 150)).predict(late)["temperature_2m"].values for p in (pairs, broken))
    assert np.abs(one - other)[..., 2:-2].max() < 0.8


def test_a_source_thirty_kelvin_off_changes_little():
    pairs = world(days=300)
    cold = replace(pairs, sources={**pairs.sources, "b": pairs.sources["b"] - 30.0})
    assert score("emos", cold, 200) == pytest.approx(score("emos", pairs, 200), rel=0.02)


def test_a_source_that_goes_missing_leaves_a_forecast():
    pairs = world(days=200)
    fitted = JointEmos().fit(past_of(pairs, 150))
    late = {n: s.isel(init_time=slice(150, 200)) for n, s in pairs.sources.items()}
    whole = fitted.predict(Inputs(late, pairs.observations, pairs.targets))["temperature_2m"].values
    one = fitted.predict(Inputs({"a": late["a"]}, pairs.observations, pairs.targets))["temperature_2m"].values
    assert np.isfinite(one).all()
    assert np.abs(one - whole).mean() < 1.5


def test_trees_as_arrays_are_the_trees_of_the_library():
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    residual = x[:, 0] + rng.normal(size=400)
    trees = _grow(x, residual)
    order = np.argsort(residual, kind="stable")
    held = np.clip(residual[order], *np.quantile(residual, [0.001, 0.999]))
    library = ExtraTreesRegressor(len(trees.root), min_samples_leaf=20, max_features="sqrt", random_state=0).fit(x[order], held)
    fresh = rng.normal(size=(50, 5)).astype(np.float32)
    assert np.array_equal(trees.apply(fresh) - trees.root[:, None], library.apply(fresh).T)
    q = trees.quantiles(fresh)
    assert (np.diff(q, axis=1) >= 0).all()
    assert np.corrcoef(q[:, 52], fresh[:, 0])[0, 1] > 0.8


def test_the_forest_knows_how_often_it_stays_dry():
    pairs = world(600, variable="precipitation_amount", seed=3)
    learned, later = past_of(pairs, 400), replace(pairs, sources={n: s.isel(init_time=slice(400, None)) for n, s in pairs.sources.items()})
    said = build("forest").fit(learned).predict(later)["precipitation_amount"].values[:, 0, 0]
    observed = pairs.observed["precipitation_amount"].values[400:, 0, 0]
    low, high = cdf_interval_quantiles(said, observed, resolution=0.1)
    assert (0.5 * (low + high)).mean() == pytest.approx(0.5, abs=0.05)
    assert cdf_interval_quantiles(said, np.full(200, 0.05))[1].mean() == pytest.approx((observed == 0.0).mean(), abs=0.05)


def test_the_forest_finds_what_is_not_linear():
    pairs = world(days=700)
    kink = np.where(np.abs(pairs.observed["temperature_2m"].values - 15.0) < 4.0, 3.0, 0.0)
    bent = {n: s.assign(temperature_2m=s["temperature_2m"] + kink[..., None]) for n, s in pairs.sources.items()}
    bent_pairs = replace(pairs, sources=bent)
    assert score("forest", bent_pairs, 550) < score("emos-recent", bent_pairs, 550)


@pytest.mark.parametrize("forecaster_id", ["csgd", "analog", "emos"])
def test_rain_beats_climatology_and_stays_positive(forecaster_id: str):
    pairs = world(days=300, variable="precipitation_amount")
    assert score(forecaster_id, pairs, 200) < 0.6 * score("climatology", pairs, 200)
    said = build(forecaster_id).fit(past_of(pairs, 200)).predict(Inputs(pairs.sources, pairs.observations, pairs.targets))
    assert float(said["precipitation_amount"].min()) >= 0.0
    assert said.sizes["quantile"] == len(LEVELS)
