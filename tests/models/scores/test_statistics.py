from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import LEVELS, quantiles_of_members
from models.scores import Statistic, finish, merge, skill, spread_error, statistics_of_members, statistics_of_quantiles


def sample(n=60, size=8, seed=0):
    rng = np.random.default_rng(seed)
    members, y = rng.gamma(0.7, 3.0, (n, size)), rng.gamma(0.7, 3.0, n)
    members[3, 2:] = np.nan
    members[4] = np.nan
    members[5, 1:] = np.nan
    y[6] = np.nan
    return members, y


def summed(values):
    return {name: Statistic.of(v) for name, v in values.items()}


@given(cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 5))
def test_any_split_merges_to_the_same_scores(cuts, seed):
    values = statistics_of_members(*sample(seed=seed), thresholds=(1.0, 5.0))
    edges = [0, *sorted(cuts), 60]
    parts = [summed({k: v[a:b] for k, v in values.items()}) for a, b in pairwise(edges)]
    whole = finish(summed(values))
    for order in (parts, parts[::-1]):
        merged = finish(merge(order))
        assert merged.keys() == whole.keys()
        for name, score in merged.items():
            np.testing.assert_allclose(score, whole[name], rtol=1e-10)


def test_chunks_have_to_agree():
    values = summed(statistics_of_members(*sample()))
    with pytest.raises(ValueError, match="fair_crps"):
        merge([values, {k: v for k, v in values.items() if k != "fair_crps"}])
    assert merge([]) == {}


def test_scores_of_members():
    members, y = sample()
    found = finish(summed(statistics_of_members(members, y, thresholds=(1.0,))))
    known = np.isfinite(y) & np.isfinite(members).any(axis=1)
    x, o = members[known], y[known]
    assert found["mae"] == pytest.approx(np.mean(np.abs(np.nanmedian(x, axis=1) - o)))
    assert found["bias"] == pytest.approx(np.mean(np.nanmean(x, axis=1) - o))
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((np.nanmean(x, axis=1) - o) ** 2)))
    share = np.nansum(x > 1.0, axis=1) / np.isfinite(x).sum(axis=1)
    assert found["brier_gt_1"] == pytest.approx(np.mean((share - (o > 1.0)) ** 2))
    full = sample(seed=1)[0][10:], sample(seed=1)[1][10:]
    ratio = finish(summed(statistics_of_members(*full)))["spread_error"]
    expected = spread_error(full[0].var(axis=1, ddof=1), (full[0].mean(axis=1) - full[1]) ** 2, 8)
    assert ratio == pytest.approx(expected)


def test_one_member_has_no_spread_and_no_coverage():
    y = np.array([1.0, 2.0])
    found = finish(summed(statistics_of_members(np.array([[1.5], [1.0]]), y)))
    assert found["crps"] == pytest.approx(0.75)
    for name in ("fair_crps", "coverage_50", "coverage_90", "spread_error"):
        assert np.isnan(found[name])


def test_scores_of_quantiles_are_those_of_many_members():
    rng = np.random.default_rng(2)
    members, y = np.sort(rng.normal(size=(400, 1000)), axis=-1), rng.normal(size=400)
    ours = finish(summed(statistics_of_quantiles(quantiles_of_members(members), y, thresholds=(0.5,))))
    theirs = finish(summed(statistics_of_members(members, y, thresholds=(0.5,))))
    for name in ("crps", "mae", "rmse", "brier_gt_0.5"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.01)
    for name in ("bias", "coverage_50", "coverage_90", "spread_error"):
        assert ours[name] == pytest.approx(theirs[name], abs=0.01)
    assert ours.keys() == theirs.keys()


def test_quantile_moments_are_exact_between_levels():
    q = 3.0 + 2.0 * LEVELS[None, :]  # uniform on 3..5, its ends gathered at the outer levels
    found = statistics_of_quantiles(q, np.array([4.0]))
    assert found["error"][0] == pytest.approx(0.0)
    assert found["variance"][0] == pytest.approx(1.0 / 3.0, rel=1e-4)


def test_axes_and_empty_cells():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    statistic = Statistic.of(values, axis=0)
    np.testing.assert_array_equal(statistic.count, [2, 0])
    assert statistic.mean[0] == 2.0
    assert np.isnan(statistic.mean[1])
    assert skill(0.5, 2.0) == 0.75
