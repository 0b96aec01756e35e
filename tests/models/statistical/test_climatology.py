"""Climatology: the season and the hour, the mass at zero rain, short records, and nothing of the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from models.base import LEVELS, ForecasterError, Inputs, MissingInputError, Pairs, quantiles_of_members
from models.statistical.climatology import Climatology
from tests.models.statistical.worlds import DAY, HOUR, START, coordinates, part


def pairs_of(values: np.ndarray, leads: list[int], name: str = "temperature_2m") -> Pairs:
    """Pairs without any source; values (day, lead, station)."""
    coords = coordinates(values.shape[0], values.shape[2], leads)
    frame = xr.Dataset(coords=coords)
    return Pairs(sources={}, template=frame, observed=xr.Dataset({name: (("init_time", "lead_time", "station"), values)}, coords=coords))


def ask(valid_day: float, leads: list[int], stations: int) -> Inputs:
    coords = coordinates(1, stations, leads, START + np.timedelta64(int(valid_day * 24), "h"))
    return Inputs(sources={}, template=xr.Dataset(coords=coords))


def test_season_and_hour():
    rng = np.random.default_rng(1)
    days, leads = 3 * 365, [6, 12, 18, 24]
    day = np.arange(days)[:, None] + np.array(leads) / 24.0
    truth = 24.0 - 6.0 * np.cos(2 * np.pi * day / 365.25) + 3.0 * np.sin(2 * np.pi * (day - 0.25))
    fitted = Climatology().fit(pairs_of(truth[..., None] + rng.normal(size=(days, 4, 1)), leads))
    for at in (days + 15, days + 105, days + 196):
        found = fitted.predict(ask(at, leads, 1))["temperature_2m"]
        when = at + np.array(leads) / 24.0
        expected = 24.0 - 6.0 * np.cos(2 * np.pi * when / 365.25) + 3.0 * np.sin(2 * np.pi * (when - 0.25))
        np.testing.assert_allclose(found.sel(quantile=0.5).values[0, :, 0], expected, atol=0.6)
        width = (found.sel(quantile=0.84, method="nearest") - found.sel(quantile=0.16, method="nearest")).values
        assert 1.6 < width.mean() < 2.9


def test_a_short_record_is_its_own_distribution():
    rng = np.random.default_rng(2)
    values = rng.normal(20.0, 2.0, size=(25, 1, 3))
    found = Climatology().fit(pairs_of(values, [24])).predict(ask(26, [24], 3))["temperature_2m"].values[0, 0]
    plain = quantiles_of_members(values[:, 0].T)
    assert np.abs(found - plain)[:, 20:85].max() < 1.0
    assert (found.min(axis=-1) >= values.min()).all()


def test_equal_weights_are_the_converter():
    values = np.random.default_rng(3).normal(size=(4, 1, 1))
    record = pairs_of(np.repeat(values, 1, axis=0), [24])
    same_day = xr.Dataset(coords=coordinates(4, 1, [24])).assign_coords(init_time=START + np.array([0, 365, 730, 1096]) * DAY)
    record = replace(record, template=same_day, observed=record.observed.assign_coords(init_time=same_day["init_time"]))
    found = Climatology().fit(record).predict(ask(1461, [24], 1))["temperature_2m"].values[0, 0, 0]
    np.testing.assert_allclose(found, quantiles_of_members(values[:, 0, 0]), atol=0.02)


def test_rain_keeps_its_mass_at_zero():
    rng = np.random.default_rng(4)
    rain = np.where(rng.uniform(size=(400, 1, 2)) < 0.7, 0.0, rng.gamma(1.0, 8.0, size=(400, 1, 2)))
    found = Climatology().fit(pairs_of(rain, [24], "precipitation_amount")).predict(ask(410, [24], 2))["precipitation_amount"]
    assert found.dtype == np.float32
    assert (found.values >= 0).all()
    assert ((found.values == 0).mean(axis=-1) == pytest.approx(np.full((1, 1, 2), 0.7), abs=0.12))


def test_sums_over_other_intervals_are_not_mixed():
    leads = [3, 6, 9, 12, 18, 24]
    length = np.array([3, 3, 3, 3, 6, 6])
    values = np.tile(length[None, :, None].astype(float), (60, 1, 1))  # as much rain as hours
    pairs = pairs_of(values, leads, "precipitation_amount")
    found = Climatology().fit(pairs).predict(ask(61, leads, 1))["precipitation_amount"]
    np.testing.assert_array_equal(found.sel(quantile=0.5).values[0, :, 0], length)
    bounds = np.stack([np.array(leads) - 24, np.array(leads)], axis=1) * HOUR
    named = pairs.template.assign_coords(lead_time_bounds=(("lead_time", "bounds"), bounds))
    day_sums = replace(pairs, template=named)
    asked = ask(61, leads, 1)
    with_bounds = replace(asked, template=asked.template.assign_coords(lead_time_bounds=(("lead_time", "bounds"), bounds)))
    again = Climatology().fit(day_sums)
    assert np.isfinite(again.predict(with_bounds)["precipitation_amount"].values).all()
    assert np.isnan(again.predict(asked)["precipitation_amount"].values).all()  # 3 and 6 h were never observed


def test_longer_observations_are_used_up_to_the_last_init_only():
    times = START - 400 * DAY + np.arange(500) * DAY
    series = xr.Dataset({"temperature_2m": (("time", "station"), np.full((500, 1), 5.0))}, coords={"time": times, "station": ["s0"]})
    pairs = replace(pairs_of(np.full((10, 1, 1), 5.0), [24]), observations=series)
    planted = replace(pairs, observations=series.where(series["time"] <= START + 9 * DAY, 99.0))
    for used in (pairs, planted):
        found = Climatology().fit(used)
        assert len(found.record_["temperature_2m"]["times"]) == 411
        assert float(found.predict(ask(12, [24], 1))["temperature_2m"].max()) == 5.0


def test_missing_values_unknown_stations_and_hours():
    values = np.random.default_rng(5).normal(size=(50, 2, 3))
    values[:, :, 1] = np.nan
    values[:20, :, 2] = np.nan
    found = Climatology().fit(pairs_of(values, [6, 12])).predict(ask(51, [6, 12, 15], 4))["temperature_2m"].values[0]
    assert np.isfinite(found[:2, [0, 2]]).all()
    assert np.isnan(found[:, [1, 3]]).all()
    assert np.isnan(found[2]).all()
    alone = Climatology().fit(pairs_of(values[..., 2:], [6, 12])).predict(ask(51, [6, 12], 1))["temperature_2m"].values[0]
    assert np.isfinite(alone).all()
    assert (np.diff(found[:2, 2], axis=-1) >= 0).all()


def test_what_is_missing_is_said():
    with pytest.raises(ForecasterError, match="nothing has been observed"):
        Climatology().fit(pairs_of(np.full((5, 1, 1), np.nan), [24]))
    fitted = Climatology().fit(pairs_of(np.ones((15, 1, 1)), [24]))
    with pytest.raises(MissingInputError, match="wind_speed_10m"):
        fitted.predict(replace(ask(16, [24], 1), targets=("wind_speed_10m",)))
    grid = xr.Dataset(coords={"init_time": [START], "lead_time": [DAY], "latitude": [21.0], "longitude": [105.0]})
    with pytest.raises(MissingInputError, match="grid"):
        fitted.predict(Inputs(sources={}, template=grid))


def test_forecasts_of_many_cycles_are_those_of_each():
    values = np.random.default_rng(6).normal(size=(90, 2, 2))
    pairs = pairs_of(values, [12, 24])
    fitted = Climatology().fit(pairs)
    many = Inputs(sources={}, template=part(replace(pairs, sources={}), 0, 90).observed)
    together = fitted.predict(many)["temperature_2m"].values
    assert together.shape == (90, 2, 2, len(LEVELS))
    one = Inputs(sources={}, template=many.template.isel(init_time=[40]))
    np.testing.assert_array_equal(fitted.predict(one)["temperature_2m"].values[0], together[40])
