"""The seam of forecasters: levels, the one converter, and what was known when."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.base import LEVELS, ForecasterError, Inputs, MissingInputError, check_state, quantiles_of_members, to_quantiles

HOUR = np.timedelta64(1, "h")
INITS = np.array(["2024-01-02T00", "2024-01-03T00"], dtype="datetime64[ns]")
LEADS = np.array([6, 24], dtype="timedelta64[h]").astype("timedelta64[ns]")


def frame() -> xr.Dataset:
    return xr.Dataset(coords={"init_time": INITS, "lead_time": LEADS, "station": ["a", "b"]})


def series(late_hours: int | None = None) -> xr.Dataset:
    times = np.arange(np.datetime64("2024-01-01T00", "ns"), np.datetime64("2024-01-05T00", "ns"), 6 * HOUR)
    values = np.arange(len(times), dtype=float)[:, None] + [0.0, 100.0]
    found = xr.Dataset({"temperature_2m": (("time", "station"), values)}, coords={"time": times, "station": ["a", "b"]})
    return found if late_hours is None else found.assign_coords(available_time=("time", times + late_hours * HOUR))


def test_levels_are_those_of_the_contract():
    assert len(LEVELS) == 105
    assert (np.diff(LEVELS) > 0).all()
    assert {0.001, 0.01, 0.5, 0.99, 0.999} <= set(LEVELS.tolist())
    np.testing.assert_allclose(LEVELS, 1.0 - LEVELS[::-1], atol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        LEVELS[0] = 0.5


members = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=st.floats(-1e4, 1e4))


@given(members)
def test_quantiles_are_monotone_and_within_the_members(values):
    found = quantiles_of_members(values)
    assert (np.diff(found, axis=-1) >= -1e-9).all()
    assert (found >= values.min(axis=-1, keepdims=True) - 1e-9).all()
    assert (found <= values.max(axis=-1, keepdims=True) + 1e-9).all()


@given(members)
def test_quantiles_are_numpys_hazen_type(values):
    expected = np.moveaxis(np.quantile(values, LEVELS, axis=-1, method="hazen"), 0, -1)
    np.testing.assert_allclose(quantiles_of_members(values), expected, atol=1e-7)


@given(members, st.randoms())
def test_order_and_missing_members_do_not_matter(values, random):
    order = list(range(values.shape[1]))
    random.shuffle(order)
    padded = np.concatenate([values[:, order], np.full((len(values), 3), np.nan)], axis=1)
    np.testing.assert_array_equal(quantiles_of_members(values), quantiles_of_members(padded))


def test_one_member_and_none():
    found = quantiles_of_members(np.array([[3.0], [np.nan]]))
    assert (found[0] == 3.0).all()
    assert np.isnan(found[1]).all()


def test_to_quantiles_labels_its_answer():
    data = xr.DataArray(
        np.arange(12.0, dtype=np.float32).reshape(3, 4), dims=("ensemble_member", "station"),
        coords={"station": list("abcd"), "ensemble_member": [0, 1, 2]}, name="temperature_2m", attrs={"units": "degree_Celsius"},
    )  # fmt: skip
    found = to_quantiles(data)
    assert found.dims == ("station", "quantile")
    assert found.dtype == np.float32
    assert found.attrs == data.attrs
    assert "ensemble_member" not in found.coords
    np.testing.assert_allclose(found.sel(quantile=0.5), data.median("ensemble_member"))
    with pytest.raises(ForecasterError, match="ensemble_member"):
        to_quantiles(found)


def test_what_was_known():
    inputs = Inputs(sources={}, observations=series(), template=frame())
    known = inputs.known_at(INITS[0])
    assert known is not None
    assert known["time"].values.max() == INITS[0]
    late = Inputs(sources={}, observations=series(late_hours=7), template=frame()).known_at(INITS[0])
    assert late is not None
    assert late["time"].values.max() == INITS[0] - 12 * HOUR
    assert Inputs(sources={}, template=frame()).known_at(INITS[0]) is None


@pytest.mark.parametrize("late_hours", [None, 0, 5, 30])
def test_observed_at_is_known_at_for_many(late_hours):
    inputs = Inputs(sources={}, observations=series(late_hours), template=frame())
    times = inputs.frame["valid_time"].values - 24 * HOUR
    times[0, 0] += 1 * HOUR  # no observation then
    found = inputs.observed_at("temperature_2m", times)
    for i, init in enumerate(INITS):
        known = inputs.known_at(init)
        assert known is not None
        expected = known["temperature_2m"].reindex(time=times[i]).values
        np.testing.assert_array_equal(found[i], expected)


def test_observed_at_follows_the_stations_of_the_frame_and_refuses_what_is_not_there():
    turned = Inputs(sources={}, observations=series(), template=frame().isel(station=[1, 0]))
    times = turned.frame["valid_time"].values - 48 * HOUR
    straight = Inputs(sources={}, observations=series(), template=frame())
    np.testing.assert_array_equal(turned.observed_at("temperature_2m", times)[..., ::-1], straight.observed_at("temperature_2m", times))
    with pytest.raises(MissingInputError, match="wind_speed_10m"):
        turned.observed_at("wind_speed_10m", times)


def test_the_frame_comes_from_the_template_or_the_first_source():
    source = frame().expand_dims(ensemble_member=[0, 1])
    source = source.assign(temperature_2m=(("ensemble_member", "init_time", "lead_time", "station"), np.zeros((2, 2, 2, 2))))
    inputs = Inputs(sources={"x": source})
    assert set(inputs.frame.coords) == {"init_time", "lead_time", "station", "valid_time"}
    assert inputs.place_dims == ("station",)
    assert (inputs.frame["valid_time"].values == INITS[:, None] + LEADS).all()
    with pytest.raises(MissingInputError, match="no template"):
        _ = Inputs(sources={}).frame


def test_a_state_that_lacks_something_is_named():
    with pytest.raises(ForecasterError, match="coefficients"):
        check_state({"source": 1}, "source", "coefficients")
