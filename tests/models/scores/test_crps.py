import numpy as np
import properscoring
import pytest
import scoringrules
import torch

from models.scores.crps import crps_ensemble


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
