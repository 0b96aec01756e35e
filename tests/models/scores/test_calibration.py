import numpy as np
import pytest
import torch
import xarray as xr
import xskillscore
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.base import LEVELS
from models.distributions import QuantileGrid
from models.scores import (
    cdf_interval_ensemble,
    cdf_interval_quantiles,
    coverage,
    flatness,
    pit,
    pit_histogram,
    rank,
    rank_histogram,
    spread_error,
)

DRY = 0.6


def rain_quantiles(scale):
    """Quantiles of rain that falls with probability 0.4 and is then exponential."""
    q = -np.log(np.minimum((1.0 - LEVELS) / (1.0 - DRY), 1.0))
    return scale[..., None] * q


def rain(rng, scale):
    return np.where(rng.uniform(size=scale.shape) < DRY, 0.0, rng.exponential(scale))


def test_interval_of_quantiles_is_that_of_the_distribution():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.5, 5.0, 200)
    q, y = rain_quantiles(scale), rain(rng, scale)
    lower, upper = cdf_interval_quantiles(q, y)
    grid = QuantileGrid(torch.from_numpy(q))
    np.testing.assert_allclose(lower, grid.cdf_before(torch.from_numpy(y)), atol=1e-12)
    np.testing.assert_allclose(upper, grid.cdf(torch.from_numpy(y)), atol=1e-12)
    dry = y == 0.0
    assert (lower[dry] == 0.0).all()
    np.testing.assert_allclose(upper[dry], DRY)
    np.testing.assert_array_equal(lower[~dry], upper[~dry])


def test_drizzle_below_the_resolution_of_a_gauge_is_calibrated_only_where_the_resolution_is_known():
    rng = np.random.default_rng(1)
    fallen = rng.exponential(0.1, 20_000)
    reading = np.floor(fallen / 0.1 + 0.5) * 0.1
    q = np.broadcast_to(-0.1 * np.log1p(-LEVELS), (fallen.size, LEVELS.size))
    members = rng.exponential(0.1, (fallen.size, 30))
    for interval, forecast in ((cdf_interval_quantiles, q), (cdf_interval_ensemble, members)):
        known = pit_histogram(*interval(forecast, reading, resolution=0.1), bins=5)
        np.testing.assert_allclose(known, 0.2, atol=0.015)
        assert pit_histogram(*interval(forecast, reading), bins=5)[0] > 0.35  # all that was not seen


def test_missing_values_stay_missing():
    q, y = rain_quantiles(np.ones(3)), np.array([np.nan, 1.0, 1.0])
    q[1, 4] = np.nan
    for values in (*cdf_interval_quantiles(q, y), *cdf_interval_ensemble(np.full((3, 4), np.nan), y)):
        assert np.isnan(values[:2]).all()
    assert np.isnan(coverage(*cdf_interval_quantiles(q, y), 0.9)[:2]).all()
    lower, upper = cdf_interval_ensemble(np.array([1.0, np.nan, 2.0]), np.array(1.0))
    assert (lower, upper) == (0.0, 0.5)


@given(
    members=arrays(float, (6, 7), elements=st.integers(0, 5).map(float)),
    y=arrays(float, 6, elements=st.integers(0, 5).map(float)),
)
def test_interval_of_an_ensemble_counts_members(members, y):
    lower, upper = cdf_interval_ensemble(members, y)
    np.testing.assert_allclose(lower, [(x < o).mean() for x, o in zip(members, y, strict=True)])
    np.testing.assert_allclose(upper, [(x <= o).mean() for x, o in zip(members, y, strict=True)])
    for share in (0.5, 0.9):
        assert ((coverage(lower, upper, share) >= 0.0) & (coverage(lower, upper, share) <= 1.0)).all()


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_coverage_of_a_calibrated_rain_forecast_is_nominal(share):
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.5, 5.0, 100_000)
    interval = cdf_interval_quantiles(rain_quantiles(scale), rain(rng, scale))
    assert coverage(*interval, share).mean() == pytest.approx(share, abs=0.005)


def test_coverage_counts_the_part_of_a_mass_that_lies_inside():
    lower, upper = np.array([0.0, 0.0, 0.3, 0.96, 0.05]), np.array([0.6, 0.04, 0.3, 0.96, 0.05])
    np.testing.assert_allclose(coverage(lower, upper, 0.9), [(0.6 - 0.05) / 0.6, 0.0, 1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="not in per cent"):
        coverage(lower, upper, 90.0)


def test_pit_is_uniform_where_mass_sits():
    rng = np.random.default_rng(2)
    scale = rng.uniform(0.5, 5.0, 50_000)
    interval = cdf_interval_quantiles(rain_quantiles(scale), rain(rng, scale))
    drawn = pit(*interval, seed=3)
    np.testing.assert_array_equal(drawn, pit(*interval, seed=3))
    for counts in (np.histogram(drawn, bins=20, range=(0, 1))[0] / drawn.size, pit_histogram(*interval)):
        assert counts.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(counts, 0.05, atol=0.004)
    middle = pit(*interval)
    assert (middle == 0.3).mean() == pytest.approx(DRY, abs=0.01)


def test_ranks():
    rng = np.random.default_rng(4)
    members, y = rng.normal(size=(3000, 9)), rng.normal(size=3000)
    ranks = rank(members, y, seed=0)
    forecast, truth = xr.DataArray(members, dims=("case", "member")), xr.DataArray(y, dims="case")
    peer = xskillscore.rank_histogram(truth, forecast, dim="case")
    np.testing.assert_array_equal(rank_histogram(ranks, 9), peer)
    members[0, 3] = np.nan
    assert np.isnan(rank(members, y, seed=0)[0])


def test_tied_ranks_are_spread_evenly_and_by_seed():
    members, y = np.zeros((40_000, 4)), np.zeros(40_000)
    counts = rank_histogram(rank(members, y, seed=1), 4)
    np.testing.assert_allclose(counts, 8000, atol=400)
    np.testing.assert_array_equal(rank(members, y, seed=1), rank(members, y, seed=1))


def test_flatness_has_its_nominal_level_and_sees_bias_and_spread():
    rng = np.random.default_rng(5)
    tests = [flatness(rng.multinomial(500, np.full(11, 1 / 11))) for _ in range(2000)]
    for name in ("p_value", "slope_p_value", "bend_p_value"):
        rejected = np.mean([getattr(test, name) < 0.05 for test in tests])
        assert rejected == pytest.approx(0.05, abs=0.02)
    place = np.linspace(-1, 1, 11)
    tilted = flatness(1000 * (1 + 0.2 * place))
    assert tilted.slope_p_value < 1e-6 < tilted.bend_p_value
    assert tilted.bias > 0
    bent = flatness(1000 * (1 + 0.4 * place**2))
    assert bent.bend_p_value < 1e-6 < bent.slope_p_value
    assert bent.dispersion > 1.0
    assert bent.slope + bent.bend <= bent.chi_square + 1e-9
    with pytest.raises(ValueError, match="three bins"):
        flatness(np.array([1, 2]))


def test_spread_matches_error_of_a_calibrated_ensemble():
    rng = np.random.default_rng(6)
    centre = rng.normal(size=(100_000, 1))
    members, y = centre + rng.normal(size=(100_000, 6)), centre[:, 0] + rng.normal(size=100_000)
    ratio = spread_error(members.var(axis=1, ddof=1), (members.mean(axis=1) - y) ** 2, 6)
    assert ratio == pytest.approx(1.0, abs=0.01)
    assert np.isnan(spread_error(np.array([np.nan]), np.array([1.0]), 1))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="one quantile a level"):
        cdf_interval_quantiles(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ValueError, match="at least one"):
        pit_histogram(np.array([np.nan]), np.array([np.nan]))
