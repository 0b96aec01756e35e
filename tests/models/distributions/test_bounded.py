"""Normal, logistic and Student t: free, censored and truncated, against quadrature of the density to |z| = 40 and at every bound."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.distributions import Censored, Logistic, Normal, StudentT, Truncated
from models.distributions.special import five_point
from tests.models.distributions import oracle

INF = math.inf
BOUNDS = [
    (0.0, INF),
    (-INF, 0.0),
    (40.0, INF),
    (-INF, -40.0),
    (-40.0, INF),
    (-INF, 40.0),
    (-40.0, 40.0),
    (-1.0, 2.0),
    (-2.0, 30.0),
    (39.0, 40.0),
    (-40.0, -39.9),
    (3.0, 3.01),
    (0.3, 0.3001),
]
FAMILIES = {"normal": None, "logistic": None, "student": 4.0}
OBSERVED = [-40.0, -39.95, 0.0, 0.30005, 1.7, 3.003, 39.7]


def t(value):
    return torch.tensor(value, dtype=torch.float64)


def make(name, location, scale):
    location, scale = torch.as_tensor(location, dtype=torch.float64), torch.as_tensor(scale, dtype=torch.float64)
    if name == "student":
        return StudentT(location, scale, t(FAMILIES[name]))
    return {"normal": Normal, "logistic": Logistic}[name](location, scale)


def expected(name, kind, bounds, y, location=0.0, scale=1.0, window=(-INF, INF)):
    reference = oracle.frozen(name, location, scale, FAMILIES[name])
    reach = scale * (3e4 if name == "student" else 800.0 if name == "logistic" else 60.0)
    start, stop = max(bounds[0], location - reach), min(bounds[1], location + reach)
    masses = (float(reference.cdf(bounds[0])), float(reference.sf(bounds[1]))) if kind is Censored else None
    return oracle.crps(reference.logpdf, y, start, stop, float(np.clip(location, start, stop)), scale, masses, window)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", [Censored, Truncated])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_crps_and_its_gradients(name, kind, bounds):
    observed = np.unique(np.clip(OBSERVED, *bounds)) if kind is Truncated else np.array([*OBSERVED, 45.0])
    y = torch.from_numpy(observed).requires_grad_(True)
    location, scale = torch.zeros_like(y).requires_grad_(True), torch.ones_like(y).requires_grad_(True)
    score = kind(make(name, location, scale), *bounds).crps(y)
    reference = expected(name, kind, bounds, observed)
    np.testing.assert_allclose(score.detach().numpy(), reference, rtol=1e-6, atol=1e-9)
    slopes = torch.autograd.grad(score.sum(), (y, location, scale))
    arguments = (y.detach(), torch.zeros_like(y), torch.ones_like(y))
    for i, found in enumerate(slopes):
        assert torch.isfinite(found).all()
        if i > 0:  # the score has a kink in y at a bound

            def shifted(value, i=i):
                at = [*arguments[:i], value.detach(), *arguments[i + 1 :]]
                return kind(make(name, *at[1:]), *bounds).crps(at[0])

            slope = five_point(shifted, arguments[i], torch.full_like(y, 1e-3))
            np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", [None, Censored, Truncated])
@pytest.mark.parametrize("window", [(0.5, INF), (-INF, 1.0), (-0.5, 0.8), (5.0, 6.0), (-3.0, 40.0)])
def test_threshold_weighted_crps(name, kind, window):
    bounds = (-INF, INF) if kind is None else (-1.0, 2.0)
    observed = np.array([-0.9, 0.0, 0.7, 1.9])
    base = make(name, 0.2, 1.3)
    found = (base if kind is None else kind(base, *bounds)).twcrps(torch.from_numpy(observed), *window)
    reference = expected(name, kind or Censored, bounds, observed, 0.2, 1.3, window)
    np.testing.assert_allclose(found, reference, rtol=1e-7, atol=1e-9)
    batched = [torch.full((4,), b, dtype=torch.float64) for b in window]  # infinities inside a tensor
    np.testing.assert_allclose((base if kind is None else kind(base, *bounds)).twcrps(torch.from_numpy(observed), *batched), found)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_quantile_inverts_cdf(name, bounds):
    p = torch.tensor([1e-6, 0.001, 0.2, 0.5, 0.7, 0.99, 0.999999], dtype=torch.float64)
    base = make(name, 0.0, 1.0)
    np.testing.assert_allclose(base.cdf(base.quantile(p)), p, rtol=1e-12)
    truncated = Truncated(base, *bounds)
    np.testing.assert_allclose(truncated.cdf(truncated.quantile(p)), p, rtol=1e-6, atol=1e-9)
    censored = Censored(base, *bounds)
    x = censored.quantile(p)
    assert ((x >= bounds[0]) & (x <= bounds[1])).all()
    assert (censored.cdf(x) >= p - 1e-12).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("z", [-40.0, -30.0, -3.0, 0.0, 1.5, 1.9, 12.0, 40.0])
def test_density_and_tails_agree_with_scipy(name, z):
    base, reference = make(name, 0.5, 2.0), oracle.frozen(name, 0.5, 2.0, FAMILIES[name])
    x = t(0.5 + 2.0 * z).requires_grad_(True)
    np.testing.assert_allclose(base.log_prob(x).item(), reference.logpdf(x.item()), rtol=1e-12)
    np.testing.assert_allclose(base.log_sf(x).item(), reference.logsf(x.item()), rtol=1e-9)
    np.testing.assert_allclose(base.log_cdf(x).item(), reference.logcdf(x.item()), rtol=1e-9)
    (slope,) = torch.autograd.grad(base.log_cdf(x), x)
    np.testing.assert_allclose(slope.item(), np.exp(reference.logpdf(x.item()) - reference.logcdf(x.item())), rtol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_truncated_density_is_the_slope_of_the_cdf_and_the_mean_its_centre(name, bounds):
    truncated = Truncated(make(name, 0.0, 1.0), *bounds)
    p = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    x = truncated.quantile(p).requires_grad_(True)
    (slope,) = torch.autograd.grad(truncated.cdf(x).sum(), x)
    np.testing.assert_allclose(torch.exp(truncated.log_prob(x)).detach(), slope, rtol=1e-6)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    u = 0.5 * (1.0 + nodes)
    level = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)  # flat at both ends, where the quantile function is steep
    values = truncated.quantile(torch.from_numpy(level)).numpy()
    mean = (values * 30.0 * u**2 * (1.0 - u) ** 2) @ (0.5 * weights)
    np.testing.assert_allclose(truncated.mean, mean, rtol=2e-4 if name == "student" else 1e-6, atol=1e-6)
    censored = Censored(make(name, 0.0, 1.0), *bounds)
    values = censored.base.quantile(torch.from_numpy(level)).clamp(*bounds).numpy()
    mean = (values * 30.0 * u**2 * (1.0 - u) ** 2) @ (0.5 * weights)
    np.testing.assert_allclose(censored.mean, mean, rtol=2e-3, atol=2e-3)  # the kink at a bound limits the quadrature


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", [Censored, Truncated])
def test_second_derivatives(name, kind):
    """Newton and Fisher steps may differentiate the gradient once more."""

    def slope(scale):
        scale = scale.requires_grad_(True)
        score = kind(make(name, 0.1, scale), -0.7, 2.0).crps(torch.full_like(scale, 1.2))
        return torch.autograd.grad(score.sum(), scale, create_graph=True)[0]

    at = t([0.8, 3.0])
    (curvature,) = torch.autograd.grad(slope(at).sum(), at)
    difference = five_point(lambda s: slope(s).detach(), at.detach(), torch.full_like(at, 1e-3))
    np.testing.assert_allclose(curvature, difference, rtol=1e-6)


def test_degrees_of_freedom_have_a_gradient():
    df = torch.tensor([1.3, 2.5, 6.0, 40.0], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([0.4, -2.0, 3.0, 1.0], dtype=torch.float64)
    for kind in (lambda base: base, lambda base: Truncated(base, -3.0, math.inf)):

        def score(d, kind=kind):
            return kind(StudentT(t(0.1), t(1.2), d)).crps(z)

        (slope,) = torch.autograd.grad(score(df).sum(), df)
        np.testing.assert_allclose(slope, five_point(score, df.detach(), torch.full_like(z, 1e-3)), rtol=1e-7)


@settings(max_examples=25)
@given(
    shift=st.floats(-50, 50),
    stretch=st.floats(0.1, 20),
    name=st.sampled_from(list(FAMILIES)),
    kind=st.sampled_from([Censored, Truncated]),
    y=st.floats(-1, 3),
)
def test_scores_are_equivariant(shift, stretch, name, kind, y):
    """Moving and stretching forecast, bounds and observation stretches the score."""
    there = kind(make(name, 0.3 * stretch + shift, 1.2 * stretch), -1.0 * stretch + shift, 3.0 * stretch + shift)
    here = kind(make(name, 0.3, 1.2), -1.0, 3.0)
    np.testing.assert_allclose(there.crps(t(y * stretch + shift)), stretch * here.crps(t(y)), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", [Censored, Truncated])
def test_single_precision_is_finite(name, kind):
    location = torch.linspace(-40, 40, 41).requires_grad_(True)
    base = make(name, 0.0, 1.0)
    family = type(base)(location, torch.tensor(1.0), *([torch.tensor(4.0)] if name == "student" else []))
    for bounds in ((0.0, INF), (-INF, 5.0), (0.0, 5.0)):
        score = kind(family, *bounds).crps(torch.tensor(3.0))
        (slope,) = torch.autograd.grad(score.sum(), location)
        double = kind(make(name, location.detach().double(), 1.0), *bounds).crps(t(3.0))
        assert torch.isfinite(slope).all()
        np.testing.assert_allclose(score.detach(), double, rtol=2e-3, atol=1e-4)


def test_a_truncated_distribution_without_bounds_is_refused():
    with pytest.raises(ValueError, match="finite bound"):
        Truncated(make("normal", 0.0, 1.0))
