import numpy as np
import pytest
import scipy.stats

from models.scores import automatic_lags, benjamini_hochberg, block_bootstrap, block_standard_error, diebold_mariano


def autoregressive(n, rho, seed, series=1):
    noise = np.random.default_rng(seed).normal(size=(n, series))
    x = np.empty_like(noise)
    x[0] = noise[0] / np.sqrt(1.0 - rho**2)
    for t in range(1, n):
        x[t] = rho * x[t - 1] + noise[t]
    return x


def test_without_lags_it_is_the_t_test():
    d = np.random.default_rng(0).normal(0.1, 1.0, 60)
    found = diebold_mariano(d, lags=0)
    peer = scipy.stats.ttest_1samp(d, 0.0)
    assert found.statistic == pytest.approx(peer.statistic)
    assert found.p_value == pytest.approx(peer.pvalue)


def test_variance_is_that_of_a_bartlett_window():
    d = autoregressive(200, 0.5, 1)[:, 0]
    e = d - d.mean()
    covariance = [e @ e / 200, *(e[k:] @ e[:-k] / 200 for k in (1, 2, 3))]
    variance = covariance[0] + 2.0 * sum((1.0 - k / 4.0) * covariance[k] for k in (1, 2, 3))
    assert diebold_mariano(d, lags=3).standard_error == pytest.approx(np.sqrt(variance / 200))


def test_holds_its_level_where_a_plain_test_does_not():
    d = autoregressive(400, 0.5, 2, series=1500).T
    rejected = (diebold_mariano(d).p_value < 0.05).mean()
    assert rejected < 0.11
    assert (diebold_mariano(d, lags=0).p_value < 0.05).mean() > 0.2


def test_missing_steps_and_equal_forecasts():
    d = np.random.default_rng(3).normal(size=(4, 50))
    d[0, 10:20] = np.nan
    d[1] = np.nan
    d[2] = 0.0
    found = diebold_mariano(d, horizon=3)
    assert found.mean[0] == pytest.approx(np.nanmean(d[0]))
    assert np.isfinite(found.p_value[[0, 3]]).all()
    assert np.isnan(found.p_value[1])
    assert found.p_value[2] == 1.0
    np.testing.assert_allclose(diebold_mariano(-d).statistic, -diebold_mariano(d).statistic)
    with pytest.raises(ValueError, match="at least 1"):
        diebold_mariano(d, horizon=0)


@pytest.mark.parametrize("kind", ["stationary", "moving"])
def test_bootstrap_widens_with_dependence(kind):
    x = autoregressive(2000, 0.8, 4, series=2)
    x[5, 0] = np.nan
    means = block_bootstrap(x, block=50, resamples=400, seed=1, kind=kind)
    assert means.shape == (400, 2)
    np.testing.assert_array_equal(means, block_bootstrap(x, block=50, resamples=400, seed=1, kind=kind))
    true = 1.0 / (1.0 - 0.8) / np.sqrt(2000)
    assert means.std(axis=0) == pytest.approx(true, rel=0.35)
    assert means.mean(axis=0) == pytest.approx(np.nanmean(x, axis=0), abs=4 * true / np.sqrt(400) + 0.03)
    single = block_bootstrap(x, block=1, resamples=400, seed=1, kind=kind)
    assert single.std(axis=0) == pytest.approx(x[10:].std(axis=0) / np.sqrt(2000), rel=0.15)
    with pytest.raises(ValueError, match="between 1 and 2000"):
        block_bootstrap(x, block=0, resamples=1, seed=0)


def test_block_standard_error():
    x = autoregressive(2000, 0.8, 5, series=300)
    true = 1.0 / (1.0 - 0.8) / np.sqrt(2000)
    assert block_standard_error(x, block=60).mean() == pytest.approx(true, rel=0.1)
    independent = x[:, 0].std(ddof=1) / np.sqrt(2000)
    assert block_standard_error(x[:, 0], block=1) == pytest.approx(independent)
    x[:100] = np.nan
    assert block_standard_error(x, block=60).mean() == pytest.approx(true, rel=0.15)
    with pytest.raises(ValueError, match="between 1 and 1999"):
        block_standard_error(x, block=2000)


def test_benjamini_hochberg():
    p = np.array([[0.01, 0.04, np.nan], [0.03, 0.005, 0.5]])
    adjusted = benjamini_hochberg(p)
    np.testing.assert_allclose(adjusted[~np.isnan(p)], [0.025, 0.05, 0.05, 0.025, 0.5])
    assert np.isnan(adjusted[0, 2])
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()


def test_automatic_lags():
    assert [automatic_lags(n) for n in (10, 100, 1000)] == [2, 4, 6]
