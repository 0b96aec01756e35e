"""Persistence: the newest value of the hour that was known, and the errors it makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from models.base import ForecasterError, Inputs, MissingInputError, Pairs
from models.statistical.persistence import DAYS_BACK, Persistence
from tests.models.statistical.worlds import DAY, HOUR, START, coordinates, crps, share_inside

LEADS = [6, 24, 30, 54]


def world(days: int = 120, stations: int = 2, name: str = "temperature_2m", seed: int = 0) -> Pairs:
    """Observations every six hours: a daily cycle and a red noise that forgets in some days."""
    rng = np.random.default_rng(seed)
    times = START - 4 * DAY + np.arange((days + 8) * 4) * 6 * HOUR
    noise = rng.normal(size=(len(times), stations))
    for i in range(1, len(times)):
        noise[i] = 0.95 * noise[i - 1] + np.sqrt(1 - 0.95**2) * noise[i]
    values = 20.0 + 5.0 * np.sin(2 * np.pi * np.arange(len(times)) / 4)[:, None] + 2.0 * noise
    if name == "precipitation_amount":
        values = np.maximum(noise - 0.5, 0.0) ** 2 * 10.0
    coords = coordinates(days, stations, LEADS)
    frame = xr.Dataset(coords=coords)
    valid = coords["init_time"][:, None] + coords["lead_time"]
    series = xr.Dataset({name: (("time", "station"), values)}, coords={"time": times, "station": coords["station"]})
    observed = series[name].sel(time=valid.ravel()).values.reshape(*valid.shape, stations)
    return Pairs(
        sources={}, template=frame, observations=series,
        observed=xr.Dataset({name: (("init_time", "lead_time", "station"), observed)}, coords=coords),
    )  # fmt: skip


def cut(pairs: Pairs, first: int, last: int) -> Pairs:
    assert pairs.template is not None
    days = {"init_time": slice(first, last)}
    return replace(pairs, template=pairs.template.isel(days), observed=pairs.observed.isel(days))


def test_errors_are_calibrated_and_grow_with_the_lead():
    pairs = world(days=400)
    new = cut(pairs, 200, 400)
    found = Persistence().fit(cut(pairs, 0, 200)).predict(new)["temperature_2m"].values
    observed = new.observed["temperature_2m"].values
    assert share_inside(found, observed, 0.05, 0.95) == pytest.approx(0.9, abs=0.04)
    by_lead = crps(found, observed).mean(axis=(0, 2))
    assert by_lead[1] < by_lead[3]


def test_the_value_is_the_newest_of_the_same_hour_that_was_known():
    pairs = world()
    assert pairs.observations is not None
    fitted = Persistence().fit(cut(pairs, 0, 100))
    fitted.errors_["temperature_2m"] = np.zeros_like(fitted.errors_["temperature_2m"])
    asked = cut(pairs, 110, 111)
    init = asked.frame["init_time"].values[0]
    found = fitted.predict(asked)["temperature_2m"].values[0, :, :, 0]
    back = [init + 6 * HOUR - DAY, init, init + 6 * HOUR - DAY, init + 6 * HOUR - DAY]
    expected = pairs.observations["temperature_2m"].sel(time=back).values
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    late = pairs.observations.assign_coords(available_time=("time", pairs.observations["time"].values + 3 * HOUR))
    found = fitted.predict(replace(asked, observations=late))["temperature_2m"].values[0, :, :, 0]
    back[1] = init - DAY
    np.testing.assert_allclose(found, late["temperature_2m"].sel(time=back).values, rtol=1e-6)


def test_a_gap_is_bridged_by_days_and_not_for_ever():
    pairs = world()
    assert pairs.observations is not None
    fitted = Persistence().fit(cut(pairs, 0, 100))
    asked = cut(pairs, 110, 111)
    init = asked.frame["init_time"].values[0]
    for gap, answered in ((1, True), (DAYS_BACK + 2, False)):
        holed = pairs.observations.where((pairs.observations["time"] <= init - gap * DAY) | (pairs.observations["station"] == "s1"))
        found = fitted.predict(replace(asked, observations=holed))["temperature_2m"].values
        assert np.isfinite(found[:, :, 0]).all() == answered
        assert np.isfinite(found[:, :, 1]).all()


def test_rain_is_never_below_zero():
    pairs = world(name="precipitation_amount")
    found = Persistence().fit(cut(pairs, 0, 100)).predict(cut(pairs, 100, 120))["precipitation_amount"].values
    assert (found >= 0.0).all()
    assert (np.diff(found, axis=-1) >= 0.0).all()


def test_a_new_station_takes_the_errors_of_all():
    pairs = world()
    assert pairs.observations is not None
    fitted = Persistence().fit(cut(pairs, 0, 100))
    asked = cut(pairs, 110, 111)
    names = {"station": ["s0", "new"]}
    renamed = Inputs(sources={}, template=asked.frame.assign_coords(names), observations=pairs.observations.assign_coords(names))
    found = fitted.predict(renamed)["temperature_2m"].values
    known = fitted.predict(asked)["temperature_2m"].values
    np.testing.assert_array_equal(found[:, :, 0], known[:, :, 0])
    assert np.isfinite(found[:, :, 1]).all()


def test_what_is_missing_is_said():
    pairs = world(days=20)
    with pytest.raises(MissingInputError, match="observations"):
        Persistence().fit(replace(pairs, observations=None))
    with pytest.raises(ForecasterError, match="give more history"):
        Persistence().fit(replace(pairs, observed=pairs.observed * np.nan))
    fitted = Persistence().fit(pairs)
    with pytest.raises(MissingInputError, match="observations"):
        fitted.predict(replace(pairs, observations=None))
    with pytest.raises(MissingInputError, match="wind_speed_10m"):
        fitted.predict(replace(pairs, targets=("wind_speed_10m",)))
