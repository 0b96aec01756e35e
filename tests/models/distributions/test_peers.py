"""Against scoringrules where it is right; where it is not (2026, version 0.10), quadrature says so in the other files."""

import math

import numpy as np
import pytest
import scoringrules
import torch

from models.distributions import (
    Censored,
    Gamma,
    GeneralizedPareto,
    Logistic,
    Normal,
    StudentT,
    Truncated,
    censored_shifted_gamma,
)

OBSERVED = np.array([-0.9, 0.3, 2.5])
Y = torch.from_numpy(OBSERVED)


def t(value):
    return torch.tensor(value, dtype=torch.float64)


BASES = {
    "normal": (Normal(t(0.2), t(1.3)), (0.2, 1.3)),
    "logistic": (Logistic(t(0.2), t(1.3)), (0.2, 1.3)),
    "t": (StudentT(t(0.2), t(1.3), t(4.0)), (4.0, 0.2, 1.3)),
}


@pytest.mark.parametrize("name", BASES)
def test_symmetric_families(name):
    base, arguments = BASES[name]
    np.testing.assert_allclose(base.crps(Y), getattr(scoringrules, f"crps_{name}")(OBSERVED, *arguments), rtol=1e-10)
    bounds = (-1.0, 3.0)
    for kind, prefix in ((Censored, "c"), (Truncated, "t")):
        peer = getattr(scoringrules, f"crps_{prefix}{name}")(OBSERVED, *arguments, *bounds)
        np.testing.assert_allclose(kind(base, *bounds).crps(Y), peer, rtol=1e-9)


@pytest.mark.parametrize("name", ["normal", "t"])
@pytest.mark.parametrize("kind", [Censored, Truncated])
def test_half_open_bounds(name, kind):
    base, arguments = BASES[name]
    score = getattr(scoringrules, f"crps_{'c' if kind is Censored else 't'}{name}")
    np.testing.assert_allclose(kind(base, lower=-1.0).crps(Y), score(OBSERVED, *arguments, lower=-1.0), rtol=1e-9)
    np.testing.assert_allclose(kind(base, upper=3.0).crps(Y), score(OBSERVED, *arguments, upper=3.0), rtol=1e-9)


@pytest.mark.parametrize("kind", [Censored, Truncated])
def test_half_open_logistic_is_the_limit_of_far_bounds(kind):
    """Here the peer gives NaN; a bound that no probability reaches stands in for none."""
    base, arguments = BASES["logistic"]
    score = scoringrules.crps_clogistic if kind is Censored else scoringrules.crps_tlogistic
    np.testing.assert_allclose(kind(base, lower=-1.0).crps(Y), score(OBSERVED, *arguments, -1.0, 45.0), rtol=1e-9)
    np.testing.assert_allclose(kind(base, upper=3.0).crps(Y), score(OBSERVED, *arguments, -45.0, 3.0), rtol=1e-9)


def test_truncation_far_in_the_tail_is_exponential():
    """Here the peer gives NaN too: 20 and 40 standard deviations above the mean the excess is exponential with the hazard as rate."""
    for location in (-20.0, -40.0):
        found = Truncated(Normal(t(location), t(1.0)), lower=0.0).crps(t(0.01)).item()
        assert found == pytest.approx(scoringrules.crps_exponential(0.01, -location), rel=2.0 / location**2 * 2.0)


def test_positive_families():
    y = torch.tensor([0.0, 0.4, 7.0], dtype=torch.float64)
    np.testing.assert_allclose(Gamma(t(0.7), t(2.0)).crps(y), scoringrules.crps_gamma(y.numpy(), 0.7, scale=2.0), rtol=1e-10)
    shape, scale, shift = 0.7, 2.0, 0.5
    rain = censored_shifted_gamma(t(shape * scale), t(math.sqrt(shape) * scale), t(-shift))
    np.testing.assert_allclose(rain.crps(y), scoringrules.crps_csg0(y.numpy(), shape, scale=scale, shift=shift), rtol=1e-10)
    tail = GeneralizedPareto(t(0.0), t(2.0), t(0.2))
    np.testing.assert_allclose(tail.crps(y), scoringrules.crps_gpd(y.numpy(), 0.2, 0.0, 2.0), rtol=1e-10)
