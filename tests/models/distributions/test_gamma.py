import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.distributions import Censored, Gamma, censored_shifted_gamma
from models.distributions.special import five_point, gamma_p
from tests.models.distributions import oracle

INF = math.inf


def t(value):
    return torch.tensor(value, dtype=torch.float64)


def expected(shape, scale, shift, y, lower=None, window=(-INF, INF)):
    reference = scipy.stats.gamma(shape, shift, scale)
    start = shift if lower is None else max(shift, lower)
    stop = max(float(reference.isf(1e-18)), y.max() + 1.0)
    mass = 0.0 if lower is None else float(reference.cdf(lower))
    return oracle.crps(reference.logpdf, y, start, stop, start, scale, (mass, 0.0), window)


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0, 60.0])
@pytest.mark.parametrize("window", [(-INF, INF), (2.0, INF), (-INF, 4.0), (1.0, 3.0)])
def test_crps_of_gamma(shape, window):
    observed = np.array([-1.0, 0.2, 1.5, 40.0])
    forecast = Gamma(t(shape), t(0.7), t(0.1))
    found = forecast.twcrps(torch.from_numpy(observed), *window)
    reference = expected(shape, 0.7, 0.1, observed, window=window)
    np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [0.05, 0.4, 2.0, 30.0])
@pytest.mark.parametrize("window", [(-INF, INF), (1.0, INF), (0.0, 5.0)])
def test_crps_of_censored_shifted_gamma(shape, window):
    observed = np.array([0.0, 0.3, 4.0, 60.0])
    mean, deviation = shape * 3.0, math.sqrt(shape) * 3.0
    forecast = censored_shifted_gamma(t(mean), t(deviation), t(-0.8))
    found = forecast.twcrps(torch.from_numpy(observed), *window)
    reference = expected(shape, 3.0, -0.8, observed, 0.0, window)
    np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-8)


def test_crps_is_that_of_scheuerer_and_hamill():
    """Their equation with the regularised functions of scipy, y censored."""
    k, theta, delta, y = 0.6, 4.0, -1.1, 2.7
    c, z = -delta / theta, (y - delta) / theta
    f = lambda shape, x: scipy.stats.gamma.cdf(x, shape)  # noqa: E731
    beta = scipy.special.beta(0.5, k + 0.5)
    score = (
        theta * z * (2 * f(k, z) - 1)
        - theta * c * f(k, c) ** 2
        + theta * k * (1 + 2 * f(k, c) * f(k + 1, c) - f(k, c) ** 2 - 2 * f(k + 1, z))
        - theta * k / math.pi * beta * (1 - f(2 * k, 2 * c))
    )
    np.testing.assert_allclose(censored_shifted_gamma(t(k * theta), t(math.sqrt(k) * theta), t(delta)).crps(t(y)), score, rtol=1e-10)


@pytest.mark.parametrize("a", [0.01, 0.3, 1.0, 5.0, 80.0, 2000.0])
def test_derivative_of_the_incomplete_gamma_function_in_its_shape(a):
    for x in (0.02 * a, 0.7 * a, a, 1.4 * a, a + 40.0):
        shape = t(a).requires_grad_(True)
        (slope,) = torch.autograd.grad(gamma_p(shape, t(x)), shape)
        with mpmath.workdps(30):
            exact = float(mpmath.diff(lambda s, x=x: mpmath.gammainc(s, 0, x, regularized=True), a))
        assert slope.item() == pytest.approx(exact, rel=1e-7, abs=1e-9)


@settings(max_examples=25)
@given(
    k=st.floats(0.02, 200.0), theta=st.floats(0.01, 50.0), delta=st.floats(-5.0, -0.01), y=st.one_of(st.just(0.0), st.floats(0.001, 400.0))
)
def test_gradients(k, theta, delta, y):
    arguments = [t(k), t(theta), t(delta)]
    leaves = [a.clone().requires_grad_(True) for a in arguments]
    slopes = torch.autograd.grad(Censored(Gamma(*leaves), 0.0).crps(t(y)), leaves)
    for i, found in enumerate(slopes):

        def score(v, i=i):
            return Censored(Gamma(*arguments[:i], v, *arguments[i + 1 :]), 0.0).crps(t(y))

        assert found.item() == pytest.approx(five_point(score, arguments[i], 1e-3 * arguments[i].abs()).item(), rel=1e-4, abs=1e-5)


@settings(max_examples=40)
@given(k=st.floats(0.01, 1000.0), p=st.floats(1e-6, 1 - 1e-6))
def test_quantile_inverts_cdf(k, p):
    forecast = Gamma(t(k), t(1.3), 0.0)
    x = forecast.quantile(t(p))
    if x > 1e-300:  # below that the quantile is zero
        assert forecast.cdf(x).item() == pytest.approx(p, rel=1e-9)
    shape = t(k).requires_grad_(True)
    level = t(p).requires_grad_(True)
    (d_p,) = torch.autograd.grad(Gamma(shape, t(1.0), 0.0).quantile(level), level)
    if x > 1e-200:  # a smaller quantile has lost its digits
        assert d_p.item() == pytest.approx(torch.exp(-Gamma(t(k), t(1.0), 0.0).log_prob(x / 1.3)).item(), rel=1e-6)


def test_density_mean_and_support():
    forecast = Gamma(t(2.5), t(1.5), t(-1.0))
    x = torch.tensor([-2.0, -0.5, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(forecast.log_prob(x), scipy.stats.gamma(2.5, -1.0, 1.5).logpdf(x), rtol=1e-12)
    assert forecast.mean.item() == pytest.approx(2.5 * 1.5 - 1.0)
    rain = censored_shifted_gamma(t(2.0), t(3.0), t(-0.5))
    assert rain.cdf(t(-0.01)) == 0.0
    assert rain.cdf(t(0.0)).item() == pytest.approx(scipy.stats.gamma(4 / 9, scale=4.5).cdf(0.5))
    assert rain.quantile(t(0.01)) == 0.0
