import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.scores import crps_ensemble, energy_score, variogram_score

values = st.floats(-50, 50, allow_subnormal=False)


def sample(cases=30, size=9, parts=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(cases, size, parts)), rng.normal(size=(cases, parts))


@pytest.mark.parametrize("fair", [False, True])
def test_agree_with_a_peer(fair):
    members, y = sample()
    estimator = "fair" if fair else "nrg"
    np.testing.assert_allclose(energy_score(members, y, fair=fair), scoringrules.es_ensemble(y, members, estimator=estimator), rtol=1e-10)
    weights = np.exp(-np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    peer = scoringrules.vs_ensemble(y, members, w=weights, p=0.5, estimator=estimator)
    np.testing.assert_allclose(variogram_score(members, y, weights=weights, fair=fair), peer, rtol=1e-10)


@given(members=arrays(float, (3, 5, 1), elements=values), y=arrays(float, (3, 1), elements=values))
def test_energy_score_of_one_component_is_the_crps(members, y):
    for fair in (False, True):
        np.testing.assert_allclose(energy_score(members, y, fair=fair), crps_ensemble(members[..., 0], y[..., 0], fair=fair), atol=1e-9)


@pytest.mark.parametrize("score", [energy_score, variogram_score])
def test_laws(score):
    members, y = sample()
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(score(members[:, order], y), score(members, y), rtol=1e-12)
    np.testing.assert_allclose(score(members + 3.0, y + 3.0), score(members, y), rtol=1e-10)
    tensors = torch.from_numpy(members), torch.from_numpy(y)
    for fair in (False, True):
        np.testing.assert_allclose(score(*tensors, fair=fair), score(members, y, fair=fair), rtol=1e-12)
    members[0, 2, 1] = np.nan
    assert np.isnan(score(members, y)[0])
    assert np.isnan(score(members[:, :1], y, fair=True)).all()
    with pytest.raises(ValueError, match=r"\(\.\.\., M, D\)"):
        score(members, y[:, :2])


@pytest.mark.parametrize("score", [energy_score, variogram_score])
def test_fair_forms_do_not_depend_on_the_number_of_members(score):
    means = []
    for size in (2, 12):
        members, y = sample(cases=40_000, size=size, parts=3, seed=size)
        means.append(score(members, y, fair=True).mean())
    assert means[0] == pytest.approx(means[1], rel=0.02)


def test_variogram_score_sees_a_wrong_dependence():
    rng = np.random.default_rng(2)
    shared, y = rng.normal(size=(4000, 20, 1)), rng.normal(size=(4000, 1)) * np.ones(3)
    right, wrong = shared * np.ones(3), rng.normal(size=(4000, 20, 3))
    assert variogram_score(right, y).mean() < 0.1 * variogram_score(wrong, y).mean()
