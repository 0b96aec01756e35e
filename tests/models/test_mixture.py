"""The mixture of quantile forecasts: laws, point masses, missing parts, and a brute-force inversion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from models.base import LEVELS, ForecasterError
from models.mixture import mixture

SIZE = len(LEVELS)


def cdf(quantiles: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The CDF of one forecast, right-continuous: linear between its quantiles, jumps at ties and at both ends."""
    last = np.searchsorted(quantiles, x, side="right") - 1
    inside = np.clip(last, 0, SIZE - 2)
    width = quantiles[inside + 1] - quantiles[inside]
    share = np.where(width > 0, (x - quantiles[inside]) / np.where(width > 0, width, 1.0), 0.0)
    found = LEVELS[inside] + np.clip(share, 0.0, 1.0) * (LEVELS[inside + 1] - LEVELS[inside])
    return np.where(last < 0, 0.0, np.where(last >= SIZE - 1, 1.0, found))


@st.composite
def forecasts(draw):
    seed, count = draw(st.integers(0, 10_000)), draw(st.integers(1, 6))
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(count):
        kind = draw(st.sampled_from(["normal", "rain", "constant", "steps"]))
        if kind == "normal":
            part = rng.normal(280.0, 5.0) + rng.uniform(0.01, 8.0) * ndtri(LEVELS)
        elif kind == "rain":
            part = np.maximum((LEVELS - rng.uniform(0, 1)) * 50.0, 0.0)
        elif kind == "constant":
            part = np.full(SIZE, rng.normal(0.0, 10.0))
        else:
            part = np.sort(rng.integers(0, 6, SIZE)).astype(float)
        parts.append(part.astype(np.float32).astype(np.float64))
    return parts, rng.dirichlet(np.ones(count))


@given(forecasts())
def test_is_the_inverse_of_the_mean_cdf(case):
    parts, weights = case
    found = mixture(parts, weights)
    low, high = min(p[0] for p in parts), max(p[-1] for p in parts)
    size = 1e-5 * max(high - low, 1e-3) + 1e-6 * max(abs(low), abs(high))
    assert (np.diff(found) >= 0).all()
    assert found[0] >= low - size
    assert found[-1] <= high + size
    above = sum(w * cdf(p, found + size) for w, p in zip(weights, parts, strict=True))
    below = sum(w * cdf(p, found - size) for w, p in zip(weights, parts, strict=True))
    assert (above >= LEVELS - 1e-6).all()
    assert (below <= LEVELS + 1e-6).all()


@given(forecasts())
def test_equal_parts_give_the_part(case):
    parts, weights = case
    np.testing.assert_allclose(mixture([parts[0]] * len(weights), weights), parts[0], rtol=1e-5, atol=1e-5)


def test_order_and_scale_of_the_weights_do_not_matter():
    rng = np.random.default_rng(1)
    parts = [np.sort(rng.normal(k, 1 + k, SIZE)) for k in range(4)]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    expected = mixture(parts, weights)
    np.testing.assert_allclose(mixture(parts[::-1], weights[::-1]), expected, atol=1e-5)
    np.testing.assert_allclose(mixture(parts, 10.0 * weights), expected, atol=1e-9)


def test_a_mixture_of_two_normals_is_known():
    parts = [ndtri(LEVELS), 4.0 + ndtri(LEVELS)]
    found = mixture(parts, np.array([0.5, 0.5]))
    middle = int(np.argmin(np.abs(LEVELS - 0.5)))
    assert found[middle] == pytest.approx(2.0, abs=0.02)
    assert found[int(np.argmin(np.abs(LEVELS - 0.25)))] == pytest.approx(0.0, abs=0.02)


def test_the_mass_at_zero_is_the_mean_of_the_masses():
    parts = [np.maximum((LEVELS - dry) * 30.0, 0.0) for dry in (0.9, 0.3)]
    found = mixture(parts, np.array([0.5, 0.5]))
    assert (found == 0.0).sum() == (LEVELS <= 0.6 + 1e-9).sum()


def test_a_missing_part_leaves_the_others_their_weights():
    rng = np.random.default_rng(2)
    parts = [np.sort(rng.normal(k, 1.0, (5, SIZE)), axis=-1) for k in range(3)]
    holed = [p.copy() for p in parts]
    holed[1][2, 7] = np.nan
    for p in holed:
        p[4] = np.nan
    weights = np.array([0.5, 0.3, 0.2])
    found = mixture(holed, weights)
    whole = mixture(parts, weights)
    np.testing.assert_array_equal(found[[0, 1, 3]], whole[[0, 1, 3]])
    np.testing.assert_allclose(found[2], mixture([parts[0][2], parts[2][2]], np.array([0.5, 0.2])), atol=1e-6)
    assert np.isnan(found[4]).all()


def test_weights_may_differ_from_place_to_place():
    rng = np.random.default_rng(3)
    parts = [np.sort(rng.normal(k, 1.0, (2, 300, SIZE)), axis=-1).astype(np.float32) for k in range(3)]
    weights = rng.dirichlet(np.ones(3), size=(2, 300))
    found = mixture(parts, weights)
    assert found.dtype == np.float32
    for i, j in ((0, 0), (1, 299), (0, 150)):
        np.testing.assert_allclose(found[i, j], mixture([p[i, j] for p in parts], weights[i, j]), atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ForecasterError, match="105"):
        mixture([np.zeros(7)], np.ones(1))
    with pytest.raises(ForecasterError, match="non-negative"):
        mixture([np.zeros(SIZE)], np.array([-1.0]))
    with pytest.raises(ForecasterError, match="no array"):
        mixture([], np.ones(0))
