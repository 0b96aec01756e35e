"""What the past says about weights, recalibration and gate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from models.base import LEVELS, ForecasterError
from models.blend import Evidence, apply_blend, bucket_of, evidence, join, learn_blend
from models.mixture import mixture
from models.scores import crps_quantiles

IDS = ("good", "wide", "far", "noisy")
Z = ndtri(LEVELS)


def world(days: int = 300, seed: int = 1, narrow: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantiles (n, F, Q) of four forecasters, outcomes and days: the first calibrated, one too wide, one 10 off, one noisy."""
    rng = np.random.default_rng(seed)
    signal = 5.0 * rng.normal(size=days)
    y = np.round(signal + rng.normal(size=days), 1)
    centre = np.stack([signal, signal, signal + 10.0, signal + 1.5 * rng.normal(size=days)], axis=1)
    scale = np.array([narrow, 3.0, 1.0, np.sqrt(1 + 1.5**2)])
    return centre[..., None] + scale[:, None] * Z, y, np.arange(days, dtype=float) + 14000.0


def past(days: int = 300, lead: float = 24.0, **kwargs: float) -> Evidence:
    q, y, day = world(days, **kwargs)  # type: ignore[arg-type]
    return evidence(IDS, q, y, day, np.full(days, lead))


def crps(q: np.ndarray, y: np.ndarray) -> float:
    return float(crps_quantiles(q.astype(float), y).mean())


def test_the_quadratic_form_is_the_score_of_the_mixture():
    q, y, _ = world(60)
    found = past(60)
    weights = np.array([0.4, 0.3, 0.1, 0.2])
    mixed = mixture([q[:, f] for f in range(4)], weights)
    difference = np.einsum("nkg,k->ng", found.cdf, weights) - found.step
    assert np.einsum("ng,ng->n", difference**2, found.width).mean() == pytest.approx(crps(mixed, y), rel=5e-3)


def test_the_best_forecaster_gets_the_weight_and_the_blend_is_no_worse():
    state = learn_blend(past(), IDS, 14400.0)
    b = int(bucket_of(np.array([24.0]))[0])
    assert state.weights[b].argmax() == 0
    assert state.weights[b][2] == 0.0
    q, y, _ = world(400, seed=2)
    blended = apply_blend(state, [q[:, None, None, f] for f in range(4)], np.array([24.0]))[:, 0, 0]
    assert crps(blended, y) < 1.01 * crps(q[:, 0], y)
    assert state.past_crps[b].argmin() == 0


def test_a_copy_that_is_off_changes_little():
    q, y, day = world()
    three = evidence(("good", "noisy"), q[:, [0, 3]], y, day, np.full(len(y), 24.0))
    five = evidence(("good", "noisy", "off"), np.concatenate([q[:, [0, 3]], q[:, :1] + 3.0], axis=1), y, day, np.full(len(y), 24.0))
    later, truth, _ = world(400, seed=3)
    plain = apply_blend(learn_blend(three, ("good", "noisy"), 14400.0), [later[:, None, None, f] for f in (0, 3)], np.array([24.0]))
    parts = [later[:, None, None, 0], later[:, None, None, 3], later[:, None, None, 0] + 3.0]
    robust = apply_blend(learn_blend(five, ("good", "noisy", "off"), 14400.0), parts, np.array([24.0]))
    assert crps(robust[:, 0, 0], truth) == pytest.approx(crps(plain[:, 0, 0], truth), rel=0.01)


def test_forecasts_that_are_too_narrow_are_widened():
    q, y, day = world(800, narrow=0.5)
    found = evidence(("good",), q[:, :1], y, day, np.full(800, 24.0))
    state = learn_blend(found, ("good",), 14800.0)
    later, truth, _ = world(800, seed=5, narrow=0.5)
    blended = apply_blend(state, [later[:, None, None, 0]], np.array([24.0]))[:, 0, 0]
    assert state.recalibration[0][1] < 0.8
    held = (truth >= blended[:, 7]) & (truth <= blended[:, 97])
    assert held.mean() == pytest.approx(0.9, abs=0.04)
    assert crps(blended, truth) < crps(later[:, 0], truth)


def test_a_calibrated_forecast_is_left_nearly_alone():
    q, y, day = world(800)
    state = learn_blend(evidence(("good",), q[:, :1], y, day, np.full(800, 24.0)), ("good",), 14800.0)
    assert state.recalibration[0] == pytest.approx([0.0, 1.0], abs=0.12)


def test_dry_days_are_known_only_up_to_their_mass():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=600)
    y = np.round(np.maximum(latent + rng.normal(size=600) - 0.7, 0.0), 1)
    q = np.maximum(latent[:, None] - 0.7 + Z, 0.0)
    state = learn_blend(evidence(("rain",), q[:, None], y, np.arange(600.0), np.full(600, 24.0)), ("rain",), 600.0)
    assert state.recalibration[0] == pytest.approx([0.0, 1.0], abs=0.15)
    blended = apply_blend(state, [q[:, None, None]], np.array([24.0]), lower=0.0)
    assert blended.min() >= 0.0


def test_a_wrong_chance_of_rain_is_mended_though_crps_hardly_sees_it():
    rng = np.random.default_rng(4)
    wet, amount = rng.uniform(size=900) < 0.4, rng.gamma(0.5, 20.0, size=900)
    y = np.round(np.where(wet, amount, 0.0), 1)
    said = np.sort(np.concatenate([np.zeros(400), rng.gamma(0.5, 20.0, size=600)]))  # three wet days of five
    q = np.broadcast_to(np.quantile(said, LEVELS), (900, 1, len(LEVELS)))
    state = learn_blend(evidence(("rain",), q, y, np.arange(900.0), np.full(900, 24.0)), ("rain",), 900.0)
    blended = apply_blend(state, [q[:1, None]], np.array([24.0]), lower=0.0)[0, 0, 0]
    assert (blended <= 0.05).mean() == pytest.approx(0.6, abs=0.06)
    assert "recalibrated" in state.note[0]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(5, 60), st.integers(1, 6))
def test_weights_are_on_the_simplex(seed: int, days: int, forecasters: int):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=days)
    q = np.sort(rng.normal(size=(days, forecasters, len(LEVELS))) * rng.uniform(0.1, 5.0, size=(forecasters, 1)), axis=-1)
    q[rng.random((days, forecasters)) < 0.1] = np.nan
    ids = [f"f{i}" for i in range(forecasters)]
    state = learn_blend(evidence(ids, q, y, np.arange(float(days)), rng.choice([24.0, 72.0], days)), ids, float(days))
    assert (state.weights >= 0).all()
    assert state.weights.sum(axis=1) == pytest.approx(1.0)
    assert np.isfinite(state.recalibration).all()
    assert (state.recalibration[:, 1] > 0).all()
    blended = apply_blend(state, [q[:, None, None, f] for f in range(forecasters)], np.array([24.0]))
    whole = np.isfinite(q[..., 0]).any(axis=1)
    assert (np.diff(blended[whole], axis=-1) >= 0).all()
    assert np.isnan(blended[~whole]).all()


def test_nothing_verified_means_equal_weights_of_those_preferred():
    state = learn_blend(None, IDS, 0.0, prefer=("good", "noisy"))
    assert state.weights == pytest.approx(np.tile([0.5, 0.0, 0.0, 0.5], (len(state.weights), 1)))


def test_the_same_past_gives_the_same_state_in_any_order():
    found = past(120)
    order = np.random.default_rng(0).permutation(120)
    one, other = learn_blend(found, IDS, 14200.0), learn_blend(found.take(order), IDS, 14200.0)
    assert one.weights == pytest.approx(other.weights, abs=2e-3)
    assert one.kind == other.kind
    again = learn_blend(past(120), IDS, 14200.0)
    assert np.array_equal(one.weights, again.weights)
    assert np.array_equal(one.recalibration, again.recalibration)


def test_parts_join_to_the_whole():
    found = past(100)
    parts = [found.take(np.arange(0, 40)), found.take(np.arange(40, 100))]
    assert np.array_equal(learn_blend(join(parts), IDS, 14200.0).weights, learn_blend(found, IDS, 14200.0).weights)


def test_leads_have_their_own_weights_and_an_unseen_lead_borrows():
    q, y, day = world(200)
    swapped = q[:, [1, 0, 2, 3]]
    near, far = evidence(IDS, q, y, day, np.full(200, 24.0)), evidence(IDS, swapped, y, day, np.full(200, 120.0))
    state = learn_blend(join([near, far]), IDS, 14300.0)
    assert state.weights[bucket_of(np.array([24.0]))[0]].argmax() == 0
    assert state.weights[bucket_of(np.array([120.0]))[0]].argmax() == 1
    assert "nothing" not in state.note[int(bucket_of(np.array([240.0]))[0])]


def test_a_forecaster_that_is_missing_leaves_its_weight_to_the_others():
    state = learn_blend(past(), IDS, 14400.0)
    q, y, _ = world(50, seed=9)
    parts = [q[:, None, None, f].copy() for f in range(4)]
    parts[0][:10] = np.nan
    blended = apply_blend(state, parts, np.array([24.0]))[:, 0, 0]
    assert np.isfinite(blended).all()
    only = apply_blend(state, [np.full_like(parts[0], np.nan)] * 3 + [parts[3]], np.array([24.0]))[:, 0, 0]
    assert np.isfinite(only).all()
    assert len(y) == 50


def test_a_forecaster_that_is_mostly_missing_does_not_spoil_the_rest():
    q, y, day = world()
    q = q.copy()
    q[30:, 2] = np.nan
    state = learn_blend(evidence(IDS, q, y, day, np.full(300, 24.0)), IDS, 14400.0)
    assert state.weights[0].argmax() == 0


def test_mistakes_are_named():
    q, y, day = world(10)
    with pytest.raises(ForecasterError, match="finite outcomes"):
        evidence(IDS, q, np.where(np.arange(10) == 3, np.nan, y), day, np.full(10, 24.0))
    with pytest.raises(ForecasterError, match="same forecasters"):
        join([past(10), evidence(IDS[:2], q[:, :2], y, day, np.full(10, 24.0))])
