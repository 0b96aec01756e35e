import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.base import LEVELS
from models.distributions import Normal, QuantileGrid

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)


def t(value):
    return torch.tensor(np.asarray(value), dtype=torch.float64)


def rain():
    """Dry with probability one half, exponential above: quantiles with a mass at zero."""
    return t(np.maximum(0.0, -3.0 * np.log(2.0 * (1.0 - LEVELS))))


def with_tail(values):
    return QuantileGrid(values, tail_scale=torch.full_like(values[..., 0], 3.0), tail_shape=torch.full_like(values[..., 0], 0.1))


def by_quadrature(forecast, y, low, high):
    """Gauss-Legendre between the quantiles, where the squared difference is a smooth function."""
    grid = np.concatenate([forecast.values.numpy(), np.linspace(low, high, 400), [y]])
    cuts = np.unique(grid[(grid >= low) & (grid <= high)])
    half = 0.5 * np.diff(cuts)[:, None]
    x = cuts[:-1, None] + half * (1.0 + NODES)
    return ((forecast.cdf(t(x)).numpy() - (y <= x)) ** 2 * half * WEIGHTS).sum()


@pytest.mark.parametrize("make", [QuantileGrid, with_tail])
def test_scores_against_quadrature(make):
    forecast = make(rain())
    stop = float(forecast.quantile(t(1.0 - 1e-14)))
    for y in (-1.0, 0.0, 0.4, 7.0, 25.0):
        np.testing.assert_allclose(forecast.crps(t(y)), by_quadrature(forecast, y, -2.0, max(stop, 40.0)), rtol=1e-7, atol=1e-9)
        for window in ((1.0, 5.0), (19.0, 30.0), (-5.0, 0.0)):
            np.testing.assert_allclose(forecast.twcrps(t(y), *window), by_quadrature(forecast, y, *window), rtol=1e-7, atol=1e-9)


def test_mass_at_zero():
    forecast = QuantileGrid(rain())
    assert forecast.cdf_before(t(0.0)) == 0.0
    assert forecast.cdf(t(0.0)).item() == pytest.approx(0.5)
    assert forecast.cdf(t(-1e-9)) == 0.0
    assert forecast.cdf(t(1e9)) == 1.0
    assert forecast.cdf_before(rain()[-1]).item() == pytest.approx(0.999)
    assert torch.isnan(forecast.cdf(t(math.nan)))
    assert torch.isnan(QuantileGrid(torch.full_like(rain(), math.nan)).cdf(t(1.0)))


@pytest.mark.parametrize("make", [QuantileGrid, with_tail])
@given(p=st.floats(0.0015, 0.9989))
def test_quantile_inverts_cdf(make, p):
    forecast = make(5.0 + 2.0 * torch.special.ndtri(t(LEVELS)))
    assert forecast.cdf(forecast.quantile(t(p))).item() == pytest.approx(p, abs=1e-12)
    assert forecast.cdf_before(forecast.quantile(t(p))).item() == pytest.approx(p, abs=1e-12)


def test_tail_continues_the_grid():
    forecast = with_tail(rain())
    p = t([0.9995, 0.99999])
    np.testing.assert_allclose(forecast.cdf(forecast.quantile(p)), p, rtol=1e-12)
    x = forecast.quantile(p).requires_grad_(True)
    (slope,) = torch.autograd.grad(forecast.cdf(x).sum(), x)
    np.testing.assert_allclose(torch.exp(forecast.log_prob(x)).detach(), slope, rtol=1e-9)
    assert QuantileGrid(rain()).log_prob(t(1e3)) == -math.inf


def test_close_to_the_distribution_it_samples():
    normal = Normal(t(1.0), t(2.0))
    forecast = QuantileGrid(normal.quantile(t(LEVELS)))
    y = t(np.linspace(-4, 6, 21))
    np.testing.assert_allclose(forecast.crps(y), normal.crps(y), rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(forecast.mean, 1.0, atol=1e-9)


def test_batches_and_gradients():
    values = torch.stack([rain(), rain() + 1.0, 2.0 * rain()]).requires_grad_(True)
    y = t([0.0, 3.0, 5.0])
    forecast = QuantileGrid(values)
    score = forecast.crps(y)
    for i in range(3):
        torch.testing.assert_close(score[i], QuantileGrid(values[i]).crps(y[i]))
    (slope,) = torch.autograd.grad(score.sum(), values)
    assert torch.isfinite(slope).all()
    smooth = (t(np.sort(np.random.default_rng(0).normal(size=9))), t(np.linspace(0.1, 0.9, 9)))
    leaf = smooth[0].clone().requires_grad_(True)
    torch.autograd.gradcheck(lambda v: QuantileGrid(v, smooth[1]).crps(t(0.123)), (leaf,))
    p = t([[0.2], [0.7]])
    assert forecast.quantile(p).shape == (2, 3)
    assert forecast.cdf(t([[1.0], [2.0]])).shape == (2, 3)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="one quantile a level"):
        QuantileGrid(t([1.0, 2.0]))
    with pytest.raises(ValueError, match="scale and a shape"):
        QuantileGrid(rain(), tail_scale=t(1.0))
