"""EMOS: right on a known truth, on the real archives, and steady where there is little to learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from models.base import LEVELS, ForecasterError, Inputs, MissingInputError, Pairs
from models.statistical.emos import CARRY_KM, Emos, location_scale_quantiles, moments
from models.statistical.raw import Raw
from models.statistical.shared import Shape, shape_of
from tests.models.statistical.worlds import DAY, HOUR, START, crps, ensemble, part, share_inside


def test_corrects_bias_and_spread():
    pairs = ensemble(days=500)
    new = part(pairs, 300, 500)
    observed = new.observed["temperature_2m"].values
    emos = Emos("x").fit(part(pairs, 0, 300)).predict(new)["temperature_2m"].values
    raw = Raw("x").predict(new)["temperature_2m"].values
    assert crps(emos, observed).mean() < 0.8 * crps(raw, observed).mean()
    assert share_inside(emos, observed, 0.05, 0.95) == pytest.approx(0.9, abs=0.03)
    assert share_inside(emos, observed, 0.25, 0.75) == pytest.approx(0.5, abs=0.05)


def test_each_station_gets_its_own_bias_from_a_short_history():
    bias = np.linspace(-4.0, 4.0, 20)
    pairs = ensemble(days=60, stations=20, bias=bias)
    found = Emos("x").fit(part(pairs, 0, 25)).predict(part(pairs, 25, 60))["temperature_2m"].sel(quantile=0.5)
    mean = pairs.sources["x"]["temperature_2m"].isel(init_time=slice(25, 60)).mean("ensemble_member")
    corrected = (mean - found).mean(("init_time", "lead_time")).values
    assert np.corrcoef(corrected, bias)[0, 1] > 0.98
    assert np.abs(corrected - bias).mean() < 0.6


def test_stations_that_do_not_differ_are_drawn_together():
    alike, unlike = (ensemble(days=30, stations=30, bias=b, seed=4) for b in (1.0, np.linspace(-5, 5, 30)))

    def spread_of_slopes(pairs: Pairs) -> float:
        learned = Emos("x").fit(pairs).learned_["temperature_2m"]
        return float(learned.location[..., 0].std(axis=1).mean())

    assert spread_of_slopes(alike) < 0.2 * spread_of_slopes(unlike)


def test_a_rain_forecast_has_its_mass_at_zero():
    pairs = ensemble(days=400, name="precipitation_amount")
    wet = replace(
        pairs,
        sources={"x": (((pairs.sources["x"] - 20.0) / 2.0).clip(min=0.0)) ** 2},
        observed=(((pairs.observed - 20.0) / 2.0).clip(min=0.0)) ** 2,
    )
    new = part(wet, 300, 400)
    found = Emos("x").fit(part(wet, 0, 300)).predict(new)["precipitation_amount"].values
    observed = new.observed["precipitation_amount"].values
    dry = (found == 0.0).mean(axis=-1)  # about the probability of no rain
    assert dry.mean() == pytest.approx((observed == 0.0).mean(), abs=0.04)
    assert dry[observed == 0.0].mean() > dry[observed > 1.0].mean() + 0.3
    raw = Raw("x").predict(new)["precipitation_amount"].values
    assert crps(found, observed).mean() < crps(raw, observed).mean()


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape("logistic"),
        Shape("normal", "censored", 0.0, None, 0.5),
        Shape("normal", "truncated", 0.0),
        Shape("normal", "truncated", 0.0, 100.0),
        Shape("logistic", "truncated", None, 5.0),
    ],
)
def test_quantiles_are_those_of_the_distribution(shape):
    unit = np.array([2.0, 3.0])
    location, scale = np.array([-3.0, 0.1, 2.0]), np.array([0.4, 1.0, 0.7])
    found = location_scale_quantiles(torch.as_tensor(location), torch.as_tensor(scale), unit, shape).numpy()
    parent = stats.norm if shape.family == "normal" else stats.logistic
    mu, sigma = location * 3.0 + 2.0, scale * 3.0
    low, high = (b if b is not None else s * np.inf for b, s in zip(shape.bounds(), (-1, 1), strict=True))
    for i in range(3):
        if shape.form == "truncated":
            bottom, top = parent.cdf(low, mu[i], sigma[i]), parent.cdf(high, mu[i], sigma[i])
            expected = parent.ppf(bottom + LEVELS * (top - bottom), mu[i], sigma[i])
        else:
            expected = np.clip(parent.ppf(LEVELS, mu[i], sigma[i]), low, high)
        np.testing.assert_allclose(found[i], expected ** (1.0 / shape.power), rtol=1e-5, atol=1e-5)


def test_truncated_quantiles_keep_their_digits_far_out():
    location = torch.tensor([-30.0, 0.5], dtype=torch.float64)
    found = location_scale_quantiles(location, torch.ones_like(location), np.array([0.0, 1.0]), Shape("normal", "truncated", 0.0))
    assert bool(torch.isfinite(found).all())
    assert bool((torch.diff(found, dim=-1) >= 0).all())
    np.testing.assert_allclose(found[0, 52], np.log(2.0) / 30.0, rtol=0.02)  # an exponential tail with rate 30


def test_shapes_follow_the_bounds_of_the_catalog():
    assert shape_of("temperature_2m") == Shape()
    assert shape_of("precipitation_amount").lower == 0.0
    assert shape_of("precipitation_amount").power == 0.5
    assert (shape_of("relative_humidity_2m").lower, shape_of("relative_humidity_2m").upper) == (0.0, 100.0)
    assert shape_of("wind_speed_10m") == Shape("normal", "truncated", 0.0)
    assert shape_of("something_new") == Shape()


def test_moments_leave_out_missing_members():
    members = torch.tensor([[1.0, 3.0, torch.nan], [2.0, torch.nan, torch.nan], [torch.nan] * 3])
    mean, deviation = moments(members, Shape())
    np.testing.assert_allclose(mean, [2.0, 2.0, np.nan])
    np.testing.assert_allclose(deviation[:2], [2.0**0.5, 0.0], atol=1e-6)
    many = torch.randn(20000, 5, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(moments(many, Shape())[1], many.std(dim=1), rtol=1e-4)


def test_a_season_is_learned_from_a_year_and_not_from_a_month():
    pairs = ensemble(days=780, stations=1, leads=[24])
    waves = 3.0 * np.sin(2 * np.pi * np.arange(780) / 365.25)
    seasonal = replace(pairs, sources={"x": pairs.sources["x"] + xr.DataArray(waves, dims="init_time")})
    long, short = Emos("x").fit(part(seasonal, 0, 750)), Emos("x").fit(part(seasonal, 0, 60))
    assert int(long.learned_["temperature_2m"].harmonics) == 2
    assert int(Emos("x").fit(part(seasonal, 0, 400)).learned_["temperature_2m"].harmonics) == 1
    assert int(short.learned_["temperature_2m"].harmonics) == 0
    new = part(seasonal, 750, 780)
    flat = Emos("x").fit(part(seasonal, 650, 750)).predict(new)["temperature_2m"].values
    with_season = long.predict(new)["temperature_2m"].values
    observed = new.observed["temperature_2m"].values
    assert crps(with_season, observed).mean() < 1.05 * crps(flat, observed).mean()


def test_beyond_the_training_range_the_correction_does_not_grow():
    pairs = ensemble(days=200, stations=1)
    doubled = replace(pairs, sources={"x": 20.0 + 0.5 * (pairs.sources["x"] - 20.0)})  # slope 2 is right
    emos = Emos("x").fit(doubled)
    record = doubled.sources["x"].isel(init_time=slice(0, 1))
    top = float(doubled.sources["x"]["temperature_2m"].mean("ensemble_member").max())
    steps = [emos.predict(Inputs(sources={"x": record * 0.0 + top + k}))["temperature_2m"].sel(quantile=0.5).values for k in (0.0, 10.0)]
    np.testing.assert_allclose(steps[1] - steps[0], 10.0, atol=0.1)


def test_a_lead_without_pairs_takes_the_pool():
    pairs = ensemble(days=60, leads=[24, 48, 240])
    observed = pairs.observed.where(pairs.observed["lead_time"] < 100 * HOUR)
    emos = Emos("x").fit(replace(pairs, observed=observed))
    found = emos.predict(part(pairs, 50, 60))["temperature_2m"]
    assert np.isfinite(found.values).all()
    mean = pairs.sources["x"]["temperature_2m"].isel(init_time=slice(50, 60)).mean("ensemble_member")
    correction = (mean - found.sel(quantile=0.5)).mean(("init_time", "station")).values
    assert correction[2] == pytest.approx(1.5, abs=0.6)


def test_a_grid_takes_the_stations_nearby_and_the_pool_far_away():
    pairs = ensemble(days=120, stations=2, bias=np.array([-3.0, 3.0]))
    far_apart = {"latitude": ("station", [21.0, 16.0]), "longitude": ("station", [105.8, 108.0])}
    pairs = replace(
        pairs, sources={"x": pairs.sources["x"].assign_coords(far_apart)}, observed=pairs.observed.assign_coords(far_apart)
    )
    emos = Emos("x").fit(pairs)
    latitude, longitude = np.array([23.0, 21.0, 16.0]), np.array([105.8, 108.0])
    field = np.full((1, 2, 3, 2, 5), 20.0) + np.linspace(-1.0, 1.0, 5)
    grid = xr.Dataset(
        {"temperature_2m": (("init_time", "lead_time", "latitude", "longitude", "ensemble_member"), field)},
        coords={"init_time": [START + 121 * DAY], "lead_time": np.array([24, 48]) * HOUR, "latitude": latitude, "longitude": longitude},
    )
    found = emos.predict(Inputs(sources={"x": grid}))
    middle = found["temperature_2m"].sel(quantile=0.5).values[0, 0]
    assert middle[1, 0] == pytest.approx(23.0, abs=0.8)  # on the first station, which is 3 K too cold
    assert middle[2, 1] == pytest.approx(17.0, abs=0.8)
    assert abs(middle[0, 1] - 20.0) < 0.8  # far from both
    assert f"{CARRY_KM:g} km" in found.attrs["coefficients"]
    station = xr.Dataset({"temperature_2m": grid["temperature_2m"].isel(latitude=1, longitude=0).expand_dims(station=["new"])})
    near = emos.predict(Inputs(sources={"x": station.assign_coords(latitude=("station", [21.0]), longitude=("station", [105.8]))}))
    np.testing.assert_allclose(near["temperature_2m"].sel(quantile=0.5).values[0, 0, 0], middle[1, 0], rtol=1e-5)
    nowhere = emos.predict(Inputs(sources={"x": station.drop_vars(["latitude", "longitude"])}))
    assert abs(float(nowhere["temperature_2m"].sel(quantile=0.5).values[0, 0, 0]) - 20.0) < 0.8


def test_what_is_missing_is_said():
    pairs = ensemble(days=20)
    with pytest.raises(MissingInputError, match="'y' is required, found x"):
        Emos("y").fit(pairs)
    with pytest.raises(ForecasterError, match="no pair"):
        Emos("x").fit(replace(pairs, observed=pairs.observed * np.nan))
    with pytest.raises(MissingInputError, match="wind_speed_10m"):
        Emos("x").fit(pairs).predict(replace(pairs, targets=("wind_speed_10m",)))


@pytest.mark.parametrize(
    ("archive", "source", "name", "split", "at_most"),
    [
        ("magdeburg_t2m_24h", "ens", "temperature_2m", "2010-12-31", 0.770),
        ("innsbruck_tmin", "gefs", "temperature_2m", "2010-02-28", 1.285),
        ("frankfurt_rain_24h", "ens", "precipitation_amount", "2012-12-31", 0.715),
        ("innsbruck_rain_3day", "gefs", "precipitation_amount", "2008-12-31", 4.56),
    ],
)
def test_real_archives(real_data: Path, archive: str, source: str, name: str, split: str, at_most: float):
    """One fit up to the split; CRPS after it. Best seasonal EMOS known: 0.765 K, 1.329 K, 0.704 mm, 4.530 mm."""
    folder = real_data / "pairs" / archive
    forecast = xr.open_dataset(folder / f"{source}.nc", engine="h5netcdf", decode_timedelta=True).load()
    observations = xr.open_dataset(folder / "observations.nc", engine="h5netcdf").load()
    valid = (forecast["init_time"] + forecast["lead_time"]).values
    values = observations[name].transpose("time", "station").reindex(time=valid.ravel()).values.reshape(*valid.shape, 1)
    coords = {k: forecast.coords[k] for k in ("init_time", "lead_time", "station")}
    observed = xr.Dataset({name: (("init_time", "lead_time", "station"), values)}, coords=coords)
    pairs = Pairs(sources={source: forecast}, observed=observed)
    last = int((valid[:, 0] < np.datetime64(split) + DAY).sum())
    new = part(pairs, last, len(valid))
    found = Emos(source).fit(part(pairs, 0, last)).predict(new)[name].values
    score = crps(found, new.observed[name].values)
    assert np.nanmean(score) <= at_most


def test_hours_that_are_always_zero_do_not_cost_the_others_their_forecast():
    name = "downward_short_wave_radiation_flux_surface"
    pairs = ensemble(days=90, stations=4, name=name)
    night = pairs.observed.copy(deep=True)
    night[name][{"lead_time": 0}] = 0.0
    found = Emos("x").fit(replace(pairs, observed=night)).predict(part(pairs, 60, 90))[name]
    assert bool(found.notnull().all())
    assert float(found.isel(lead_time=0).sel(quantile=0.99).max()) < 0.05 * float(found.isel(lead_time=1).sel(quantile=0.5).min())
