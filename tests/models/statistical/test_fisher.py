"""Batched maximum likelihood: against scipy, against published figures, and finite whatever it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from models.base import ForecasterError
from models.statistical.fisher import fit_location_scale

PARENT = {"normal": stats.norm, "logistic": stats.logistic}
CASES = [
    ("censored", None, None),
    ("censored", 0.0, None),
    ("censored", None, 2.5),
    ("censored", 0.0, 2.5),
    ("truncated", 0.0, None),
    ("truncated", None, 2.5),
    ("truncated", 0.0, 2.5),
]


def problem(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.normal(size=n)
    y = 1.0 + 0.8 * x + np.exp(0.1 + 0.3 * z) * rng.logistic(size=n) * 0.6
    one = np.ones(n)
    return y, np.stack([one, x], axis=1), np.stack([one, z], axis=1)


def likelihood(theta, y, X, Z, family, form, lower, upper) -> float:
    """Negative log-likelihood as scipy.stats writes it."""
    parent = PARENT[family]
    mu, sigma = X @ theta[: X.shape[1]], np.exp(Z @ theta[X.shape[1] :])
    rows = -parent.logpdf((y - mu) / sigma) + np.log(sigma)
    if form == "censored":
        if lower is not None:
            rows = np.where(y <= lower, -parent.logcdf((lower - mu) / sigma), rows)
        if upper is not None:
            rows = np.where(y >= upper, -parent.logsf((upper - mu) / sigma), rows)
    else:
        top = 1.0 if upper is None else parent.cdf((upper - mu) / sigma)
        bottom = 0.0 if lower is None else parent.cdf((lower - mu) / sigma)
        with np.errstate(divide="ignore"):  # a line search may step where no mass is left
            rows = rows + np.log(top - bottom)
    return float(rows.sum())


def cut(y: np.ndarray, form: str, lower: float | None, upper: float | None) -> np.ndarray:
    if form == "censored":
        return np.clip(y, lower, upper)
    inside = (y > (-np.inf if lower is None else lower)) & (y < (np.inf if upper is None else upper))
    return np.where(inside, y, np.nan)


@pytest.mark.parametrize("family", ["normal", "logistic"])
@pytest.mark.parametrize(("form", "lower", "upper"), CASES)
def test_reaches_the_maximum_that_scipy_finds(family, form, lower, upper):
    y, X, Z = problem(1)
    y = cut(y, form, lower, upper)
    found = fit_location_scale(*(torch.as_tensor(a)[None] for a in (y, X, Z)), family=family, form=form, lower=lower, upper=upper)
    keep = np.isfinite(y)
    arguments = (y[keep], X[keep], Z[keep], family, form, lower, upper)
    theta = torch.cat([found.location, found.log_scale], dim=1)[0].numpy()
    options = {"maxiter": 4000, "xatol": 1e-5, "fatol": 1e-9}
    peer = minimize(likelihood, np.array([0.5, 0.5, 0.0, 0.0]), args=arguments, method="Nelder-Mead", options=options)
    assert bool(found.converged.all())
    assert likelihood(theta, *arguments) <= peer.fun + 1e-4
    np.testing.assert_allclose(theta, peer.x, atol=2e-3)
    assert float(found.loss[0]) == pytest.approx(likelihood(theta, *arguments), rel=1e-9)


@pytest.mark.parametrize("family", ["normal", "logistic"])
@pytest.mark.parametrize(("form", "lower", "upper"), CASES)
def test_curvature_is_the_second_derivative(family, form, lower, upper):
    y, X, Z = problem(2, 60)
    y = cut(y, form, lower, upper)
    found = fit_location_scale(*(torch.as_tensor(a)[None] for a in (y, X, Z)), family=family, form=form, lower=lower, upper=upper)
    keep = np.isfinite(y)
    arguments = (y[keep], X[keep], Z[keep], family, form, lower, upper)
    theta = torch.cat([found.location, found.log_scale], dim=1)[0].numpy()
    step, size = 1e-4, 4
    numeric = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            values = [
                likelihood(theta + step * (a * np.eye(size)[i] + b * np.eye(size)[j]), *arguments)
                for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))
            ]
            numeric[i, j] = (values[0] - values[1] - values[2] + values[3]) / (4 * step**2)
    np.testing.assert_allclose(found.curvature[0].numpy(), numeric, rtol=1e-3, atol=0.05)


def test_problems_are_solved_as_if_alone_and_missing_rows_do_not_count():
    parts = [problem(seed, 120) for seed in range(5)]
    y, X, Z = (torch.as_tensor(np.stack(column)) for column in zip(*parts, strict=True))
    y[1, 10:90] = torch.nan
    X[2, 5, 1] = torch.nan
    together = fit_location_scale(y, X, Z, lower=0.0)
    for i in range(5):
        keep = torch.isfinite(y[i]) & torch.isfinite(X[i]).all(dim=1)
        alone = fit_location_scale(y[i][keep][None], X[i][keep][None], Z[i][keep][None], lower=0.0)
        torch.testing.assert_close(together.location[i], alone.location[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.log_scale[i], alone.log_scale[0], atol=1e-5, rtol=1e-5)


def test_weights_count_as_repeated_rows():
    y, X, Z = (torch.as_tensor(a)[None] for a in problem(3, 80))
    weights = torch.ones_like(y)
    weights[0, :30] = 2.0
    weights[0, 70:] = 0.0
    order = [*range(30), *range(30), *range(30, 70)]
    one = fit_location_scale(y, X, Z, weights=weights, family="logistic")
    other = fit_location_scale(y[:, order], X[:, order], Z[:, order], family="logistic")
    torch.testing.assert_close(one.location, other.location, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.log_scale, other.log_scale, atol=1e-5, rtol=1e-5)


def test_many_problems_are_worked_on_in_parts_with_the_same_answer():
    rng = torch.Generator().manual_seed(1)
    y = torch.randn(700, 200, generator=rng, dtype=torch.float64)
    X = torch.stack([torch.ones_like(y), torch.randn(700, 200, generator=rng, dtype=torch.float64)], dim=-1)
    whole = fit_location_scale(y, X, X[..., :1])
    part = fit_location_scale(y[650:], X[650:], X[650:, :, :1])
    torch.testing.assert_close(whole.location[650:], part.location, atol=1e-6, rtol=1e-6)


def test_float32_agrees_with_float64():
    parts = [problem(seed, 300) for seed in range(4)]
    arrays = [torch.as_tensor(np.stack(column)) for column in zip(*parts, strict=True)]
    fine = fit_location_scale(*arrays, lower=0.0, family="logistic")
    coarse = fit_location_scale(*(a.float() for a in arrays), lower=0.0, family="logistic")
    assert coarse.location.dtype == torch.float32
    torch.testing.assert_close(coarse.location.double(), fine.location, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(coarse.log_scale.double(), fine.log_scale, atol=2e-3, rtol=2e-3)


def test_ridge_draws_from_the_data_to_the_prior():
    y, X, Z = (torch.as_tensor(a)[None] for a in problem(5, 50))
    prior = (torch.tensor([[3.0, 0.0]]), torch.tensor([[0.5, 0.0]]))
    last = None
    for ridge in (0.0, 10.0, 100.0, 1e3, 1e6):
        found = fit_location_scale(y, X, Z, ridge=ridge, prior=prior)
        away = float((found.location - prior[0]).norm())
        assert last is None or away < last
        last = away
    assert last is not None
    assert last < 1e-3
    one_only = fit_location_scale(y, X, Z, ridge=torch.tensor([0.0, 1e6, 0.0, 0.0]), prior=prior)
    assert abs(float(one_only.location[0, 1])) < 1e-3
    assert abs(float(one_only.location[0, 0]) - 3.0) > 0.5


def test_nothing_to_learn_from_gives_the_prior():
    y = torch.full((2, 6), torch.nan, dtype=torch.float64)
    X = torch.ones(2, 6, 2, dtype=torch.float64)
    prior = (torch.tensor([[0.3, 0.9]]), torch.tensor([[-0.2]]))
    found = fit_location_scale(y, X, X[..., :1], prior=prior)
    np.testing.assert_allclose(found.location, np.tile([0.3, 0.9], (2, 1)), atol=1e-6)
    np.testing.assert_allclose(found.log_scale, [[-0.2], [-0.2]], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["normal", "logistic"])
@pytest.mark.parametrize(("form", "lower", "upper"), CASES)
def test_ill_conditioned_problems_end_finite(dtype, family, form, lower, upper):
    rng = torch.Generator().manual_seed(7)
    n = 40
    x = torch.randn(n, generator=rng, dtype=dtype)
    one, zero = torch.ones(n, dtype=dtype), torch.zeros(n, dtype=dtype)
    both = torch.stack([one, x], -1)
    wild = torch.where(torch.arange(n) == 3, 2.4 * one, 0.5 + 0.1 * x.clamp(-2, 2))
    few = torch.full((n,), torch.nan, dtype=dtype)
    few[:3] = torch.tensor([0.5, 0.7, 1.1], dtype=dtype)
    cases = {
        "constant predictor": (x.abs().clamp(0.1, 2.4), torch.stack([one, 3.0 * one], -1), torch.stack([one, 3.0 * one], -1)),
        "all zero": (zero, both, both),
        "all at the upper bound": (2.5 * one, both, both),
        "three rows": (few, both, both),
        "perfect": (1.0 + 0.2 * x.clamp(-2, 2), both, both),
        "one wild row": (wild, torch.stack([one, 1e4 * x], -1), both),
        "collinear": (x.abs(), torch.stack([one, x, x], -1), torch.stack([one, zero], -1)),
    }
    for name, (y, X, Z) in cases.items():
        found = fit_location_scale(y[None], X[None], Z[None], family=family, form=form, lower=lower, upper=upper)
        assert bool(torch.isfinite(found.location).all()), name
        assert bool(torch.isfinite(found.log_scale).all()), name
        assert bool(torch.isfinite(found.curvature).all()), name


@given(st.integers(0, 10_000), st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
def test_units_do_not_matter(seed, scale, shift):
    y, X, Z = (torch.as_tensor(a)[None] for a in problem(seed, 80))
    one = fit_location_scale(y, X, Z)
    other = fit_location_scale(scale * y + shift, X, Z)
    np.testing.assert_allclose(other.location[0, 0], scale * one.location[0, 0] + shift, rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(other.location[0, 1], scale * one.location[0, 1], rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(other.log_scale[0, 0], one.log_scale[0, 0] + np.log(scale), atol=1e-3)
    np.testing.assert_allclose(other.log_scale[0, 1], one.log_scale[0, 1], atol=1e-3)


def test_wrong_arguments_are_named():
    y, X = torch.zeros(1, 4), torch.ones(1, 4, 1)
    with pytest.raises(ForecasterError, match="'gamma'"):
        fit_location_scale(y, X, X, family="gamma")
    with pytest.raises(ForecasterError, match=r"Expected y \(batch, n\)"):
        fit_location_scale(y, X[:, :3], X)


def test_published_censored_logistic_regression(real_data: Path):
    """The fit that CRAN crch publishes for RainIbk; figures from the README of the data folder."""
    folder = real_data / "pairs" / "innsbruck_rain_3day"
    forecast = xr.open_dataset(folder / "gefs.nc", engine="h5netcdf", decode_timedelta=True).load()
    observations = xr.open_dataset(folder / "observations.nc", engine="h5netcdf").load()
    valid = (forecast["init_time"] + forecast["lead_time"]).values[:, 0]
    members = np.sqrt(forecast["precipitation_amount"].values[:, 0, 0].astype(float))
    y = np.sqrt(observations["precipitation_amount"].reindex(time=valid).values[:, 0].astype(float))
    mean, spread = members.mean(axis=1), members.std(axis=1, ddof=1)

    def fit(keep, family):
        one = np.ones(keep.sum())
        X, Z = np.stack([one, mean[keep]], 1), np.stack([one, np.log(spread[keep])], 1)
        return fit_location_scale(*(torch.as_tensor(a)[None] for a in (y[keep], X, Z)), family=family, lower=0.0)

    found = fit(spread > 0, "logistic")
    assert round(-float(found.loss[0])) == -8921
    assert round(2 * (4 + float(found.loss[0]))) == 17850
    assert float(found.location[0, 1]) == pytest.approx(0.7869, abs=5e-5)
    np.testing.assert_allclose(found.log_scale[0], [0.1174, 0.2705], atol=5e-5)

    # Trained to 2004-11-30 and scored from 2005-01-01, in square-root millimetres.
    train = (spread > 0) & (valid <= np.datetime64("2004-11-30T23"))
    test = (spread > 0) & (valid >= np.datetime64("2005-01-01"))
    grid = np.linspace(0.0, 40.0, 8001)
    for family, expected in (("logistic", 0.875), ("normal", 0.876)):
        found = fit(train, family)
        mu = found.location[0] @ torch.as_tensor(np.stack([np.ones(test.sum()), mean[test]]))
        sigma = torch.exp(found.log_scale[0] @ torch.as_tensor(np.stack([np.ones(test.sum()), np.log(spread[test])])))
        crps = []
        for m, s, value in zip(mu.numpy(), sigma.numpy(), y[test], strict=True):
            square = (PARENT[family].cdf((grid - m) / s) - (grid >= value)) ** 2
            crps.append(np.trapezoid(square, grid))
        assert np.mean(crps) == pytest.approx(expected, abs=1e-3)
