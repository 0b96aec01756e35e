import numpy as np
import pytest
import scores.probability
import scoringrules
import sklearn.isotonic
import sklearn.metrics
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from models.scores import (
    brier_decomposition,
    brier_decomposition_binned,
    brier_score,
    brier_score_ensemble,
    relative_economic_value,
    reliability_diagram,
    roc,
)


def forecasts(seed=0, n=2000, steps=20):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, steps + 1, n) / steps
    return p, (rng.uniform(size=n) < p**1.5).astype(float)


def test_brier_score_and_its_fair_form():
    p, o = forecasts()
    np.testing.assert_allclose(brier_score(p, o), scoringrules.brier_score(o, p))
    rng = np.random.default_rng(1)
    for size in (2, 5, 20):
        count = rng.binomial(size, 0.3, 100_000)
        event = (rng.uniform(size=100_000) < 0.45).astype(float)
        fair = brier_score_ensemble(count, size, event, fair=True)
        assert fair.mean() == pytest.approx((0.3 - 0.45) ** 2 + 0.45 * 0.55, abs=0.004)
        np.testing.assert_allclose(brier_score_ensemble(count, size, event), brier_score(count / size, event))
    members, y = rng.normal(size=(50, 8)), rng.normal(size=50)
    forecast, truth = xr.DataArray(members, dims=("case", "member")), xr.DataArray(y, dims="case")
    peer = scores.probability.brier_score_for_ensemble(forecast, truth, "member", 0.3, fair_correction=True, preserve_dims="all")
    ours = brier_score_ensemble((members >= 0.3).sum(axis=1), 8, (y >= 0.3).astype(float), fair=True)
    np.testing.assert_allclose(ours, np.squeeze(peer), rtol=1e-12)
    assert np.isnan(brier_score_ensemble(np.array([1]), 1, np.array([1.0]), fair=True)).all()


@given(seed=st.integers(0, 50), steps=st.integers(1, 60))
def test_decompositions_add_up(seed, steps):
    p, o = forecasts(seed, 300, steps)
    for found in (brier_decomposition(p, o), brier_decomposition_binned(p, o)):
        assert found.score == pytest.approx(np.mean((p - o) ** 2))
        total = found.miscalibration - found.discrimination + found.uncertainty + found.within
        assert found.score == pytest.approx(total)
        assert min(found.miscalibration, found.discrimination, found.uncertainty) >= -1e-12


def test_isotonic_decomposition_agrees_with_peers():
    p, o = forecasts()
    calibrated = sklearn.isotonic.IsotonicRegression().fit(p, o).predict(p)
    found = brier_decomposition(p, o)
    assert found.miscalibration == pytest.approx(np.mean((p - o) ** 2) - np.mean((calibrated - o) ** 2))
    diagram = reliability_diagram(p, o, seed=0, resamples=50)
    np.testing.assert_allclose(diagram.frequency[np.searchsorted(diagram.probability, p)], calibrated)
    assert diagram.count.sum() == p.size


def test_consistency_bands_hold_a_calibrated_forecast():
    rng = np.random.default_rng(3)
    p = rng.integers(0, 11, 3000) / 10
    inside = []
    for seed in range(40):
        o = (rng.uniform(size=p.size) < p).astype(float)
        diagram = reliability_diagram(p, o, seed=seed, resamples=200)
        inside.append((diagram.frequency >= diagram.lower - 1e-12) & (diagram.frequency <= diagram.upper + 1e-12))
    assert np.mean(inside) > 0.87
    p, o = forecasts(n=5000)
    diagram = reliability_diagram(p, o, seed=0)
    outside = (diagram.frequency < diagram.lower) | (diagram.frequency > diagram.upper)
    assert outside[5:15].mean() > 0.7
    np.testing.assert_array_equal(diagram.lower, reliability_diagram(p, o, seed=0).lower)


def test_roc_agrees_with_a_peer():
    p, o = forecasts()
    found = roc(p, o)
    false, hit, threshold = sklearn.metrics.roc_curve(o, p, drop_intermediate=False)
    np.testing.assert_allclose(found.false_alarm_rate, false)
    np.testing.assert_allclose(found.hit_rate, hit)
    np.testing.assert_allclose(found.threshold, threshold)
    assert found.area == pytest.approx(sklearn.metrics.roc_auc_score(o, p))
    assert np.isnan(roc(p, np.zeros_like(o)).area)


def test_economic_value():
    p, o = forecasts(n=20_000)
    ratio = np.array([0.05, 0.2, 0.5, 0.8])
    own, potential = relative_economic_value(p, o, ratio)
    assert (potential >= own - 1e-12).all()
    assert (potential >= -1e-12).all()  # the best threshold is no worse than always or never warning
    assert (potential <= 1.0).all()
    np.testing.assert_allclose(relative_economic_value(o, o, ratio), 1.0)
    base = o.mean()
    for a, value in zip(ratio, own, strict=True):
        spent = np.where(p >= a, a, o).mean()
        assert value == pytest.approx((min(a, base) - spent) / (min(a, base) - base * a))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match=r"n > 0"):
        brier_decomposition(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        roc(np.array([50.0]), np.array([1.0]))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        roc(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="0 or 1"):
        roc(np.array([0.5]), np.array([0.5]))
