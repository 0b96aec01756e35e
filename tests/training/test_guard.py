"""Beyond the range of training the raw ensembles prevail, and heavy rain is not argued away."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import LEVELS, Inputs, Pairs, quantiles_of_members
from models.couple import couple
from training.guard import HALF, HEAVY, RAIN, day_sums, guard, guarded, lift_heavy_rain, pooled, ranges_of, too_dry

INIT = np.datetime64("2025-07-01", "ns")
LEADS = np.arange(6, 54, 6)
HOURS = LEADS.astype("timedelta64[h]").astype("timedelta64[ns]")
MEMBERS = 20


def source(values: np.ndarray, name: str = RAIN, days: int = 1) -> xr.Dataset:
    """(init_time, lead_time, station, member) as a source; intervals of six hours."""
    bounds = np.stack([HOURS - np.timedelta64(6, "h"), HOURS], axis=1)
    return xr.Dataset(
        {name: (("init_time", "lead_time", "station", "ensemble_member"), values.astype(np.float32))},
        coords={
            "init_time": INIT - np.arange(days)[::-1] * np.timedelta64(1, "D"), "lead_time": HOURS,
            "station": ["a", "b"], "lead_time_bounds": (("lead_time", "bounds"), bounds),
            "latitude": ("station", [21.0, 21.2]), "longitude": ("station", [105.8, 105.8]),
        },
    )  # fmt: skip


def history(name: str = RAIN, days: int = 40) -> Pairs:
    """Up to some 30 mm in six hours, or temperatures of 20 to 30 degrees."""
    rng = np.random.default_rng(1)
    shape = (days, len(LEADS), 2, MEMBERS)
    values = rng.gamma(0.3, 6.0, shape) if name == RAIN else rng.uniform(20.0, 30.0, shape)
    made = source(values, name, days)
    observed = made[name].isel(ensemble_member=0, drop=True).to_dataset(name=name)
    return Pairs({"eps": made}, None, (name,), None, observed)


def blend_of(values: np.ndarray, name: str = RAIN) -> xr.Dataset:
    """Quantiles (lead_time, station, quantile) as a blend."""
    frame = source(np.zeros((1, len(LEADS), 2, 1)), name).coords
    coords = {n: frame[n] for n in ("init_time", "lead_time", "station", "latitude", "longitude")}
    dims = ("init_time", "lead_time", "station", "quantile")
    return xr.Dataset({name: (dims, values[None].astype(np.float32))}, coords | {"quantile": LEVELS})


def test_within_the_range_nothing_changes():
    seen = ranges_of(history("temperature_2m"))
    members = source(np.full((1, len(LEADS), 2, MEMBERS), 25.0) + np.linspace(-2, 2, MEMBERS), "temperature_2m")
    blend = blend_of(np.broadcast_to(25.0 + 3.0 * (LEVELS - 0.5), (len(LEADS), 2, len(LEVELS))), "temperature_2m")
    assert guard(blend, Inputs({"eps": members}), seen)["temperature_2m"].equals(blend["temperature_2m"])


def test_a_record_is_kept_to_within_the_bounded_bias_and_its_extreme_members():
    seen = ranges_of(history("temperature_2m"))
    values = np.full((1, len(LEADS), 2, MEMBERS), 60.0) + np.linspace(-1, 1, MEMBERS)
    blend = blend_of(np.broadcast_to(30.0 + LEVELS, (len(LEADS), 2, len(LEVELS))), "temperature_2m")
    inputs = Inputs({"eps": source(values, "temperature_2m")})
    found = guard(blend, inputs, seen)["temperature_2m"].values
    raw = quantiles_of_members(values)
    bias = seen["temperature_2m"].bias.max()
    assert (np.abs(found - raw) <= bias + 1e-3).all()
    assert (found[..., -1] >= values.max() - 1e-4).all()
    assert (np.diff(found, axis=-1) >= 0).all()


def test_rain_beyond_the_range_stays_within_a_factor():
    seen = ranges_of(history())
    values = np.full((1, len(LEADS), 2, MEMBERS), 150.0) * np.linspace(0.8, 1.2, MEMBERS)
    found = guard(blend_of(np.zeros((len(LEADS), 2, len(LEVELS)))), Inputs({"eps": source(values)}), seen)[RAIN].values
    raw = quantiles_of_members(values)
    assert (found >= raw / 2 - 1e-3).all()
    assert (found[..., -1] >= values.max() - 1e-3).all()


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(0.0, 80.0))
def test_guarded_quantiles_ascend_and_nothing_jumps_at_the_edge(seed: int, height: float):
    rng = np.random.default_rng(seed)
    seen = ranges_of(history("temperature_2m"))["temperature_2m"]
    values = height + rng.normal(size=(1, len(LEADS), 2, MEMBERS))
    quantiles = blend_of(np.sort(25.0 + 4.0 * rng.normal(size=(len(LEADS), 2, len(LEVELS)))), "temperature_2m")["temperature_2m"]
    one = guarded(quantiles, pooled(Inputs({"eps": source(values, "temperature_2m")}), "temperature_2m"), seen).values
    other = guarded(quantiles, pooled(Inputs({"eps": source(values + 1e-3, "temperature_2m")}), "temperature_2m"), seen).values
    assert (np.diff(one, axis=-1) >= 0).all()
    assert np.abs(one - other).max() < 0.1


def test_day_sums_fill_whole_days():
    sums, windows = day_sums(np.ones((len(LEADS), 1)), LEADS.astype(float), np.full(len(LEADS), 6.0))
    assert [(w.start, w.stop) for w in windows] == [(0, 4), (1, 5), (2, 6), (3, 7), (4, 8)]
    assert (sums == 4).all()
    assert not day_sums(np.ones((2, 1)), np.array([6.0, 48.0]), np.array([6.0, 6.0]))[1]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_half_of_the_raw_chance_of_heavy_rain_is_kept(share: float):
    values = np.zeros((1, len(LEADS), 2, MEMBERS))
    values[..., : round(share * MEMBERS)] = 40.0  # four of them make 160 mm
    inputs = Inputs({"eps": source(values)})
    quantiles = blend_of(np.broadcast_to(LEVELS, (len(LEADS), 2, len(LEVELS))))
    rng = np.random.default_rng(0)
    template = source(values + rng.uniform(0, 0.1, size=(*values.shape[:-1], 1)) * np.arange(MEMBERS)).isel(init_time=0)
    members = couple(quantiles.isel(init_time=0), template, MEMBERS)
    interval = np.full(len(LEADS), 6.0)
    assert too_dry(members[RAIN].values, values[0], LEADS.astype(float), interval)[1] == 10
    found = lift_heavy_rain(quantiles, members, inputs, template)
    sums, _ = day_sums(found.members[RAIN].values, LEADS.astype(float), interval)
    assert ((sums > HEAVY).mean(axis=-1) >= HALF * share - 1e-6).all()
    assert "below half the share of raw members" in found.reasons[0]


def test_what_cannot_be_lifted_is_said():
    values = np.zeros((1, len(LEADS), 2, MEMBERS))
    values[..., :10] = 40.0
    quantiles = blend_of(np.zeros((len(LEADS), 2, len(LEVELS))))
    rng = np.random.default_rng(3)
    template = source(rng.normal(size=values.shape)).isel(init_time=0)  # no member keeps its rank from lead to lead
    found = lift_heavy_rain(quantiles, couple(quantiles.isel(init_time=0), template, MEMBERS), Inputs({"eps": source(values)}), template)
    assert found.reasons
    left = too_dry(found.members[RAIN].values, values[0], LEADS.astype(float), np.full(len(LEADS), 6.0))[1]
    assert ("even with the raw ensembles alone" in found.reasons[-1]) == (left > 0)


def test_ordinary_rain_is_left_alone():
    values = np.full((1, len(LEADS), 2, MEMBERS), 2.0)
    quantiles = blend_of(np.zeros((len(LEADS), 2, len(LEVELS))))
    template = source(values).isel(init_time=0)
    members = couple(quantiles.isel(init_time=0), template, MEMBERS)
    found = lift_heavy_rain(quantiles, members, Inputs({"eps": source(values)}), template)
    assert found.reasons == ()
    assert found.members is members
