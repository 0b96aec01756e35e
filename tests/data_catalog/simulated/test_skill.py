"""Laws of what a forecast knows: a path that only ever learns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.simulated.noise import BANDS, FLOW, WET, Latent
from data_catalog.simulated.skill import SHARED_VARIANCE, correlation, known_together, odds, path

SEED = 3
START = 480_000.0  # a 00 UTC, hours since 1970
BAND = BANDS[1]


def paths(centre: int, init: float, valid: np.ndarray, seeds: int = 70) -> np.ndarray:
    """B(s) at one valid time in many worlds, shape (world, 2 * modes)."""
    return np.stack([path(seed, centre, FLOW, BAND, init, valid, 1.0)[0] for seed in range(seeds)])


@pytest.mark.parametrize("latent", [WET, FLOW])
def test_what_is_known_falls_with_lead_and_with_scale(latent: Latent) -> None:
    lead = np.array([0.0, 24.0, 72.0, 240.0, 400.0])
    for band in range(5):
        rho = correlation(latent, band, lead)
        assert (np.diff(rho) <= 0).all()
        assert ((rho >= 0) & (rho < 1)).all()
        assert rho[-1] == 0
    assert (np.diff([correlation(latent, band, lead)[1] for band in range(5)]) < 0).all()
    assert (correlation(latent, 5, lead) == 0).all()


@pytest.mark.parametrize("init", [START, START + 6.0, START + 18.0])
def test_a_path_has_the_variance_of_its_odds(init: float) -> None:
    valid = np.array([START + 60.0])
    found = paths(1, init, valid)
    assert found.var() == pytest.approx(odds(FLOW, 1, valid - init)[0], rel=0.1)


@pytest.mark.parametrize("gap", [6.0, 24.0, 48.0])
def test_a_newer_run_knows_all_that_the_older_one_knew(gap: float) -> None:
    """Of a Brownian motion: the covariance of two times is the earlier one."""
    valid = np.array([START + 96.0])
    newer, older = (paths(1, init, valid) for init in (START, START - gap))
    assert np.mean(newer * older) == pytest.approx(odds(FLOW, 1, valid - START + gap)[0], rel=0.12)


def test_centres_share_their_part_of_the_errors() -> None:
    valid = np.array([START + 48.0])
    one, other = paths(1, START, valid), paths(2, START, valid)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] == pytest.approx(SHARED_VARIANCE, abs=0.06)


@given(st.integers(1, 200), st.sampled_from([WET, FLOW]))
def test_one_hour_alone_is_the_hour_in_a_sequence(hour: int, latent: object) -> None:
    hours = START + np.arange(1.0, 201.0)
    together = path(SEED, 1, latent, BAND, START, hours, 1.1)  # type: ignore[arg-type]
    assert np.array_equal(path(SEED, 1, latent, BAND, START, hours[hour - 1 : hour], 1.1)[0], together[hour - 1])  # type: ignore[arg-type]


@given(st.lists(st.floats(0.01, 30.0), min_size=1, max_size=5))
def test_together_centres_know_what_the_best_linear_combination_knows(known: list[float]) -> None:
    """Against the textbook: posterior precision of a unit normal seen through correlated noise."""
    s = np.array(known)
    noise = SHARED_VARIANCE + (1.0 - SHARED_VARIANCE) * np.eye(s.size)  # of X / sqrt(s)
    gain = np.linalg.solve(noise, np.sqrt(s))
    x = np.linspace(-1.0, 2.0, s.size)
    seen, together = known_together([(np.array([[value]]), np.array([one])) for value, one in zip(x, s, strict=True)])
    assert together[0] == pytest.approx(gain @ np.sqrt(s), rel=1e-6)
    assert seen[0, 0] == pytest.approx(gain @ (x / np.sqrt(s)), rel=1e-5, abs=1e-6)
