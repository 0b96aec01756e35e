import numpy as np
import properscoring
import pytest
import scores.probability
import scoringrules
import torch
import xarray as xr
import xskillscore
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.base import LEVELS
from models.distributions import Normal, QuantileGrid
from models.scores import crps_ensemble, crps_quantiles, quantile_score, twcrps_ensemble


def brute(members, y, fair):
    x = members[~np.isnan(members)]
    size = len(x)
    pairs = np.abs(x[:, None] - x[None, :]).sum()
    return np.abs(x - y).mean() - pairs / (2 * size * (size - 1 if fair else size))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 50])
@pytest.mark.parametrize("fair", [False, True])
def test_ensemble_agrees_with_the_double_sum(size, fair):
    rng = np.random.default_rng(size)
    members, y = rng.gamma(0.5, 3.0, (7, size)), rng.gamma(0.5, 3.0, 7)
    members[0, : size // 2] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.array([brute(x, o, fair) for x, o in zip(members, y, strict=True)])
    np.testing.assert_allclose(crps_ensemble(members, y, fair=fair), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(crps_ensemble(members.T, y, axis=0, fair=fair), expected, rtol=1e-12, atol=1e-12)
    tensor = torch.from_numpy(members).requires_grad_(True)
    found = crps_ensemble(tensor, torch.from_numpy(y), fair=fair)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_ensemble_agrees_with_peers():
    rng = np.random.default_rng(0)
    members, y = rng.normal(size=(200, 20)), rng.normal(size=200)
    np.testing.assert_allclose(crps_ensemble(members, y), properscoring.crps_ensemble(y, members), rtol=1e-12)
    np.testing.assert_allclose(crps_ensemble(members, y, fair=True), scoringrules.crps_ensemble(y, members, estimator="fair"), rtol=1e-12)


def test_missing_values():
    members = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [1.0, 2.0, 3.0]])
    y = np.array([2.0, 1.0, np.nan])
    found = crps_ensemble(members, y)
    assert found[0] == crps_ensemble(members[:1, [0, 2]], y[:1])[0]
    assert np.isnan(found[1:]).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="without axis 0"):
        crps_ensemble(np.zeros((3, 5)), np.zeros(3), axis=0)


@pytest.mark.parametrize("fair", [False, True])
def test_ensemble_agrees_with_labelled_peers(fair):
    rng = np.random.default_rng(3)
    members, y = rng.normal(size=(30, 12)), rng.normal(size=30)
    forecast, truth = xr.DataArray(members, dims=("case", "member")), xr.DataArray(y, dims="case")
    peer = scores.probability.crps_for_ensemble(forecast, truth, "member", method="fair" if fair else "ecdf", preserve_dims="all")
    np.testing.assert_allclose(crps_ensemble(members, y, fair=fair), peer, rtol=1e-12)
    if not fair:
        np.testing.assert_allclose(crps_ensemble(members, y), xskillscore.crps_ensemble(truth, forecast, dim=[]), rtol=1e-12)


def test_threshold_weighted_ensemble_agrees_with_peers():
    rng = np.random.default_rng(4)
    members, y = rng.gamma(0.6, 4.0, (50, 15)), rng.gamma(0.6, 4.0, 50)
    found = twcrps_ensemble(members, y, lower=3.0)
    np.testing.assert_allclose(found, scoringrules.twcrps_ensemble(y, members, 3.0, np.inf, estimator="nrg"), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found + twcrps_ensemble(members, y, upper=3.0), crps_ensemble(members, y), rtol=1e-12)
    np.testing.assert_allclose(
        twcrps_ensemble(torch.from_numpy(members).requires_grad_(True), torch.from_numpy(y), lower=3.0).detach(), found, rtol=1e-12
    )


values = st.floats(-100, 100, allow_subnormal=False)


@given(members=arrays(float, (4, 11), elements=values), y=arrays(float, 4, elements=values), seed=st.integers(0, 9))
def test_laws_of_the_ensemble_score(members, y, seed):
    score = crps_ensemble(members, y)
    shuffled = np.random.default_rng(seed).permuted(members, axis=-1)
    np.testing.assert_allclose(crps_ensemble(shuffled, y), score, atol=1e-10)
    np.testing.assert_allclose(crps_ensemble(2.5 * members + 7.0, 2.5 * y + 7.0), 2.5 * score, atol=1e-10)
    np.testing.assert_allclose(crps_ensemble(-members, -y), score, atol=1e-10)
    assert (score >= -1e-10).all()
    assert (crps_ensemble(members, y, fair=True) <= score + 1e-10).all()
    np.testing.assert_allclose(crps_ensemble(np.repeat(members, 2, axis=-1), y), score, atol=1e-10)  # the same distribution
    np.testing.assert_allclose(crps_ensemble(np.full((4, 6), 3.0), y, fair=True), np.abs(y - 3.0), atol=1e-10)


def test_the_fair_score_does_not_depend_on_the_number_of_members():
    rng = np.random.default_rng(5)
    y = rng.normal(size=200_000)
    exact = Normal(torch.tensor(0.3), torch.tensor(1.4)).crps(torch.from_numpy(y)).mean().item()
    for size in (2, 5, 12):
        scored = crps_ensemble(0.3 + 1.4 * rng.normal(size=(y.size, size)), y, fair=True)
        assert abs(scored.mean() - exact) < 4.0 * scored.std() / np.sqrt(y.size)


def test_the_score_is_proper():
    """Expected over the truth, no other forecast does better than the truth itself."""
    truth = Normal(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    y = truth.quantile(torch.arange(0.5, 4000.0, dtype=torch.float64) / 4000.0)
    q = truth.quantile(torch.from_numpy(LEVELS.copy()))
    best = crps_quantiles(q.expand(4000, -1), y).mean()
    for other in (q + 0.05, 1.05 * q, 0.95 * q, q + 0.02 * q**2):
        assert crps_quantiles(other.expand(4000, -1), y).mean() > best


def test_quantile_form_is_close_to_the_exact_score():
    normal = Normal(torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    y = normal.quantile(torch.arange(0.5, 2000.0, dtype=torch.float64) / 2000.0)
    q = normal.quantile(torch.from_numpy(LEVELS.copy())).expand(2000, -1)
    exact = normal.crps(y).mean()
    assert abs(crps_quantiles(q, y).mean() / exact - 1.0) < 3e-4
    assert abs(QuantileGrid(q).crps(y).mean() / exact - 1.0) < 1e-3
    plain = 2.0 * quantile_score(q, y).mean()
    assert 0.04 < abs(plain / exact - 1.0) < 0.05


def test_quantile_scores_agree_in_both_kinds_and_with_a_peer():
    rng = np.random.default_rng(6)
    q, y = np.sort(rng.normal(size=(40, 105)), axis=-1), rng.normal(size=40)
    loss = quantile_score(q, y)
    np.testing.assert_allclose(loss, scoringrules.quantile_score(y[:, None], q, LEVELS[None, :]), rtol=1e-12)
    np.testing.assert_allclose(crps_quantiles(q, y), 2.0 * np.trapezoid(loss, LEVELS, axis=-1), rtol=1e-12)
    tensors = torch.from_numpy(q).requires_grad_(True), torch.from_numpy(y)
    np.testing.assert_allclose(crps_quantiles(*tensors).detach(), crps_quantiles(q, y), rtol=1e-12)
    np.testing.assert_allclose(quantile_score(*tensors).detach(), loss, rtol=1e-12)
    assert crps_quantiles(q.astype(np.float32), y.astype(np.float32)).dtype == np.float32
    assert np.isnan(crps_quantiles(q, np.where(y > 0, np.nan, y))[y > 0]).all()


@pytest.mark.parametrize("size", [5, 12])
def test_gradients_of_the_ensemble_score(size):
    rng = np.random.default_rng(7)
    members = torch.from_numpy(rng.normal(size=(3, size))).requires_grad_(True)
    y = torch.from_numpy(rng.normal(size=3)).requires_grad_(True)
    for fair in (False, True):
        torch.autograd.gradcheck(lambda x, o, fair=fair: crps_ensemble(x, o, fair=fair), (members, y))


def test_levels_and_thresholds_are_checked():
    with pytest.raises(ValueError, match="one quantile a level"):
        crps_quantiles(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ValueError, match="lower has to be below"):
        twcrps_ensemble(np.zeros((2, 3)), np.zeros(2), lower=1.0, upper=0.0)
