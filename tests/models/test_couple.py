"""Coupling: marginals kept exactly, order taken from the template, ties broken by a correlated latent."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.base import LEVELS, ForecasterError
from models.couple import consistent, couple, dates_template, members_template, ranks, reorder, tie_latent

HOUR = np.timedelta64(1, "h")
INIT = np.datetime64("2024-06-01T00", "ns")
LEADS = np.array([3, 6, 12, 24, 36, 48]) * HOUR.astype("timedelta64[ns]")
STATIONS = {
    "station": ["a", "b", "c"],
    "latitude": ("station", [21.0, 21.1, 23.5]),
    "longitude": ("station", [105.8, 105.9, 103.0]),
}


def quantiles(seed: int = 0, rain_dry: float = 0.6) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    shape = (len(LEADS), 3)
    air = np.sort(rng.normal(25.0, 3.0, (*shape, len(LEVELS))), axis=-1)
    rain = np.maximum((LEVELS - rain_dry) * 40.0 * rng.uniform(0.5, 2.0, (*shape, 1)), 0.0)
    dims = ("lead_time", "station", "quantile")
    return xr.Dataset(
        {"temperature_2m": (dims, air), "precipitation_amount": (dims, rain)},
        coords={"init_time": INIT, "lead_time": LEADS, "quantile": LEVELS, **STATIONS},
    )


def source(members: int, seed: int, offset: float = 0.0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(1, 1, members))
    air = offset + 2.0 * common + rng.normal(size=(len(LEADS), 3, members))
    rain = np.maximum(common + rng.normal(size=air.shape) - 0.8, 0.0) * 5.0
    dims = ("lead_time", "station", "ensemble_member")
    return xr.Dataset(
        {"temperature_2m": (dims, air.astype("float32")), "precipitation_amount": (dims, rain.astype("float32"))},
        coords={"init_time": INIT, "lead_time": LEADS, "ensemble_member": np.arange(members), **STATIONS},
    )


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 140), st.integers(1, 6)), elements=st.integers(-4, 4).map(float)))
def test_ranks_are_those_of_a_stable_sort(keys):
    order = np.argsort(keys, axis=0, kind="stable")
    expected = np.argsort(order, axis=0)
    assert np.array_equal(ranks(keys), expected)


@given(
    hnp.arrays(np.float32, (7, 5), elements=st.floats(-100, 100, width=32)),
    hnp.arrays(np.float32, (7, 5), elements=st.integers(0, 3).map(float)),
)
def test_reorder_keeps_values_and_follows_the_template(values, template):
    values = np.sort(values, axis=0)
    found = reorder(values, template)
    assert np.array_equal(np.sort(found, axis=0), values)
    for column in range(values.shape[1]):
        for i in range(7):
            for j in range(7):
                if template[i, column] < template[j, column]:
                    assert found[i, column] <= found[j, column]


def test_ties_follow_the_latent():
    values = np.arange(4.0)[:, None]
    template, latent = np.array([[0.0], [0.0], [5.0], [-0.0]]), np.array([[0.3], [-2.0], [-9.0], [0.1]])
    assert reorder(values, template, latent)[:, 0].tolist() == [2.0, 0.0, 3.0, 1.0]


def test_shapes_must_agree():
    with pytest.raises(ForecasterError, match="one shape"):
        reorder(np.zeros((3, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize("size", [50, 20, 7])
def test_marginals_are_the_equidistant_quantiles(size):
    forecast = quantiles()
    found = couple(forecast, members_template({"x": source(30, 1), "y": source(40, 2)}, size), size)
    levels = (np.arange(size) + 0.5) / size
    for name in forecast.data_vars:
        expected = np.apply_along_axis(lambda q: np.interp(levels, LEVELS, q), -1, forecast[name].values)
        np.testing.assert_allclose(np.sort(found[name].values, axis=-1), expected, rtol=0, atol=1e-12)
    if size == 50:
        exact = forecast["temperature_2m"].sel(quantile=levels, method="nearest").values
        assert np.array_equal(np.sort(found["temperature_2m"].values, axis=-1), exact)


def test_order_is_the_templates_in_every_variable_lead_and_place():
    template = members_template({"x": source(60, 3)}, 50)
    found = couple(quantiles(), template)
    expected = np.argsort(np.argsort(template["temperature_2m"].values, axis=-1), axis=-1)
    assert np.array_equal(np.argsort(np.argsort(found["temperature_2m"].values, axis=-1), axis=-1), expected)
    wet = (template["precipitation_amount"] > 0).values
    rank = np.argsort(np.argsort(found["precipitation_amount"].values, axis=-1, kind="stable"), axis=-1)
    assert all(rank[i, j][wet[i, j]].min() >= (~wet[i, j]).sum() for i in range(6) for j in range(3) if 0 < wet[i, j].sum() < 50)


def test_the_same_inputs_give_the_same_members():
    template = members_template({"x": source(8, 3), "y": source(5, 4)}, 50)
    assert couple(quantiles(), template).identical(couple(quantiles(), template))


def test_several_cycles_at_once():
    forecast, template = quantiles(), members_template({"x": source(60, 3)}, 50)
    both = xr.concat([forecast, forecast.assign_coords(init_time=INIT + 24 * HOUR)], dim="init_time")
    found = couple(both, template)
    assert found["temperature_2m"].dims == ("init_time", "lead_time", "station", "ensemble_member")
    assert np.array_equal(found["temperature_2m"].values[0], couple(forecast, template)["temperature_2m"].values)


def test_members_come_from_all_centres_in_proportion_and_by_basin_rain():
    sources = {"big": source(51, 1), "middle": source(31, 2), "one": source(1, 3)}
    found = members_template(sources, 50)
    names, counts = np.unique(found["centre"].values, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"big": 31, "middle": 18, "one": 1}
    whole = sources["big"]["precipitation_amount"].mean(("lead_time", "station")).values
    taken = found["precipitation_amount"].isel(ensemble_member=found["centre"].values == "big").mean(("lead_time", "station")).values
    assert taken.mean() == pytest.approx(whole.mean(), rel=0.1)
    assert taken.max() >= np.sort(whole)[-3]


def test_few_members_are_used_again_with_a_correlated_jitter():
    few = source(4, 5)
    found = members_template({"x": few}, 20)
    air = found["temperature_2m"].values
    assert len(np.unique(air[0, 0])) == 20
    for member in range(4):
        assert (np.abs(air - few["temperature_2m"].values[..., member : member + 1]).max(axis=(0, 1)) < 1e-6).sum() == 1
    rain = found["precipitation_amount"].values
    assert (rain >= 0).all()
    assert (rain == 0).mean() == pytest.approx((few["precipitation_amount"].values == 0).mean(), abs=0.1)


def test_the_latent_is_correlated_in_space_and_time():
    latent = tie_latent(quantiles(), 4000)
    assert latent.std() == pytest.approx(1.0, abs=0.02)
    near = np.corrcoef(latent[:, 0, 0], latent[:, 0, 1])[0, 1]
    far = np.corrcoef(latent[:, 0, 0], latent[:, 0, 2])[0, 1]
    assert near > 0.8
    assert far < 0.1
    soon = np.corrcoef(latent[:, 0, 0], latent[:, 1, 0])[0, 1]
    late = np.corrcoef(latent[:, 0, 0], latent[:, 5, 0])[0, 1]
    assert soon == pytest.approx(np.exp(-3 / 12), abs=0.05)
    assert late < 0.1
    grid = xr.Dataset(coords={"init_time": INIT, "lead_time": LEADS[:1], "latitude": [21.5, 21.25], "longitude": [105.0, 105.25, 106.0]})
    field = tie_latent(grid, 4000).reshape(4000, 2, 3)
    expected = np.exp(-(27.8 + 27.8 * np.cos(np.deg2rad(21.375))) / 100)
    assert np.corrcoef(field[:, 0, 0], field[:, 1, 1])[0, 1] == pytest.approx(expected, abs=0.05)


def test_wet_marginals_over_a_dry_template_stay_correlated_in_space():
    forecast = quantiles(rain_dry=0.2)
    dry = members_template({"x": source(60, 3)}, 50) * 0.0
    found = couple(forecast, dry)["precipitation_amount"].values
    near, far = (np.corrcoef(found[0, 0], found[0, k])[0, 1] for k in (1, 2))
    assert near > 0.6
    assert far < near


def test_a_member_that_ends_early_keeps_its_standing():
    long, short = source(25, 1), source(25, 2)
    short = short.where(short["lead_time"] <= LEADS[3])
    template = members_template({"x": long, "y": short}, 50)
    found = couple(quantiles(), template)["temperature_2m"].values
    assert np.isfinite(found).all()
    ended = template["centre"].values == "y"
    rank = np.argsort(np.argsort(found, axis=-1), axis=-1)
    assert np.corrcoef(rank[3, 0][ended], rank[5, 0][ended])[0, 1] > 0.8


def test_a_variable_without_template_and_missing_quantiles():
    forecast = quantiles()
    forecast["precipitation_amount"][0] = np.nan
    found = couple(forecast, members_template({"x": source(60, 3).drop_vars("precipitation_amount")}, 50))
    rain = found["precipitation_amount"].values
    assert np.isnan(rain[0]).all()
    assert np.isfinite(rain[1:]).all()


def test_errors_name_what_was_found():
    template = members_template({"x": source(60, 3)}, 50)
    with pytest.raises(ForecasterError, match="50 members, found 20"):
        couple(quantiles(), template.isel(ensemble_member=slice(20)))
    with pytest.raises(ForecasterError, match="shape"):
        couple(quantiles(), template.isel(station=slice(2)))
    with pytest.raises(ForecasterError, match="No member"):
        members_template({"x": source(3, 1) * np.nan})


def test_consistency_moves_only_what_is_impossible():
    dims = ("ensemble_member",)
    members = xr.Dataset(
        {
            "wind_speed_10m": (dims, [3.0, 5.0, np.nan]),
            "wind_gust_10m": (dims, [4.0, 4.0, 6.0]),
            "temperature_2m": (dims, [20.0, 20.0, 20.0]),
            "dew_point_temperature_2m": (dims, [21.0, np.nan, 19.0]),
            "precipitation_amount": (dims, [-0.1, 0.0, 2.0], {"units": "kg m-2"}),
        }
    )
    found = consistent(members)
    np.testing.assert_array_equal(found["wind_gust_10m"], [4.0, 5.0, 6.0])
    np.testing.assert_array_equal(found["dew_point_temperature_2m"], [20.0, np.nan, 19.0])
    np.testing.assert_array_equal(found["precipitation_amount"], [0.0, 0.0, 2.0])
    assert found["precipitation_amount"].attrs == {"units": "kg m-2"}
    assert consistent(found).identical(found)


def test_similar_dates_have_the_season_and_the_weather_of_the_forecast():
    rng = np.random.default_rng(3)
    times = np.arange(np.datetime64("2019-01-01", "ns"), INIT + 5 * 24 * HOUR, 3 * HOUR)
    day = (times - times[0]) / (24 * HOUR)
    weather = np.repeat(rng.normal(size=len(times) // 16 + 1), 16)[: len(times), None]
    air = 24.0 - 6.0 * np.cos(2 * np.pi * day / 365.25)[:, None] + 3.0 * weather + 0.5 * rng.normal(size=(len(times), 3))
    rain = np.where(weather > 1.0, 8.0, 0.0) * rng.uniform(size=air.shape)
    observations = xr.Dataset(
        {"temperature_2m": (("time", "station"), air), "precipitation_amount": (("time", "station"), rain)},
        coords={"time": times, "station": ["a", "b", "c"]},
    )
    wet = quantiles()
    wet["precipitation_amount"] = wet["precipitation_amount"] * 0.0 + 5.0
    template = dates_template(wet, observations)
    assert (template["date"].values + LEADS[-1] <= INIT).all()
    month = template["date"].values.astype("datetime64[M]").astype(int) % 12 + 1
    assert np.isin(month, [4, 5, 6, 7, 8]).mean() > 0.8
    assert float(template["precipitation_amount"].mean()) > 3.0 * rain.mean()
    assert np.isfinite(couple(wet, template)["temperature_2m"].values).all()
    planted = observations.where(observations["time"] <= INIT, 99.0)
    assert dates_template(wet, planted).identical(template)
    with pytest.raises(ForecasterError, match="past dates"):
        dates_template(wet, observations.isel(time=slice(-400, None)))
