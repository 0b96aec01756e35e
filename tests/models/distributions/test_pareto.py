import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.distributions import GeneralizedPareto, fit_generalized_pareto
from models.distributions.special import five_point
from tests.models.distributions import oracle

SHAPES = [-0.8, -0.3, -1e-9, 0.0, 1e-12, 1e-4, 0.06, 0.4]


def t(value):
    return torch.tensor(value, dtype=torch.float64)


def make(shape):
    return GeneralizedPareto(t(10.0), t(2.0), t(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [(-math.inf, math.inf), (11.0, math.inf), (9.0, 12.0)])
def test_crps(shape, window):
    reference = scipy.stats.genpareto(shape, 10.0, 2.0)
    stop = min(reference.support()[1], 1e8)
    observed = np.array([8.0, 10.0, 10.3, 12.0, 90.0])
    expected = oracle.crps(reference.logpdf, observed, 10.0, stop, 10.0, 2.0, (0.0, 0.0), window)
    np.testing.assert_allclose(make(shape).twcrps(torch.from_numpy(observed), *window), expected, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_functions_agree_with_scipy(shape):
    reference = scipy.stats.genpareto(shape, 10.0, 2.0)
    x = t([9.0, 10.0, 10.01, 11.0, 12.4, 90.0])
    np.testing.assert_allclose(make(shape).cdf(x), reference.cdf(x), rtol=1e-9)
    np.testing.assert_allclose(make(shape).log_prob(x), reference.logpdf(x), rtol=1e-7, atol=1e-7)
    p = t([1e-3, 0.1, 0.5, 0.999])
    np.testing.assert_allclose(make(shape).cdf(make(shape).quantile(p)), p, rtol=1e-9)
    assert make(shape).mean.item() == pytest.approx(reference.mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_pass_through_shape_zero(shape):
    y = t([8.0, 10.0, 10.3, 12.0, 90.0])
    leaf = torch.full_like(y, shape).requires_grad_(True)

    def score(value):
        return GeneralizedPareto(t(10.0), t(2.0), value).crps(y)

    (slope,) = torch.autograd.grad(score(leaf).sum(), leaf)
    np.testing.assert_allclose(slope, five_point(score, leaf.detach(), torch.full_like(y, 1e-3)), rtol=1e-6, atol=1e-8)


@given(shape=st.floats(-0.3, 0.4), scale=st.floats(0.1, 30.0))
def test_moments_find_the_parameters_of_exact_quantiles(shape, scale):
    p = (torch.arange(1, 20001, dtype=torch.float64) - 0.5) / 20000
    sample = GeneralizedPareto(t(0.0), t(scale), t(shape)).quantile(p)
    found_scale, found_shape = fit_generalized_pareto(sample)
    assert found_shape.item() == pytest.approx(shape, abs=0.02)
    assert found_scale.item() == pytest.approx(scale, rel=0.02)


def test_moments_leave_out_what_is_not_known():
    sample = t([[1.0, 2.0, 5.0, 0.4], [1.0, 2.0, 0.4, 9.0], [1.0, 2.0, 3.0, 4.0]])
    known = torch.tensor([[True] * 3 + [False], [True, True, False, False], [True, False, False, False]])
    scale, shape = fit_generalized_pareto(sample, known)
    alone = fit_generalized_pareto(sample[0, :3])
    torch.testing.assert_close((scale[0], shape[0]), alone)
    assert torch.isfinite(scale[1])
    assert torch.isnan(scale[2])
