from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.simulated import noise
from data_catalog.simulated.noise import BANDS, DRIZZLE, FLOW, WET, basis, between_knots, displacement, normals, ride, truth_amplitudes


def test_a_draw_is_a_function_of_its_key_alone() -> None:
    first = normals(1, (2, 3, 4), 5, (7,))
    assert np.array_equal(first, normals(1, (2, 3, 4), 5, (7,)))
    for seed, stream, knot in ((2, (2, 3, 4), 5), (1, (2, 3, 5), 5), (1, (3, 2, 4), 5), (1, (2, 3, 4), 6)):
        assert not np.array_equal(first, normals(seed, stream, knot, (7,)))


def test_more_members_begin_with_the_same_ones() -> None:
    assert np.array_equal(normals(1, (2, 3, 4), 5, (3, 10)), normals(1, (2, 3, 4), 5, (8, 10))[:3])


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_variance_between_knots_is_the_variance_at_knots(share: float) -> None:
    weights = between_knots(np.array([share]), np.eye(2, dtype=np.float32)[None], 0)[0, 0]
    assert np.sum(weights**2) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("band", BANDS, ids=lambda band: str(band.number))
def test_a_band_has_unit_variance_everywhere(band: noise.Band) -> None:
    at = basis(band, np.array([0.0, 37.0, -400.0]), np.array([0.0, 120.0, 250.0]))
    assert np.sum(at**2, axis=0) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("band", BANDS, ids=lambda band: str(band.number))
def test_gradients_are_derivatives(band: noise.Band) -> None:
    east, north, step = np.array([10.0]), np.array([-20.0]), 0.05
    slope = (basis(band, east + step, north).astype(float) - basis(band, east - step, north)) / (2 * step)
    assert basis(band, east, north, "east") == pytest.approx(slope, abs=2e-5)
    slope = (basis(band, east, north + step).astype(float) - basis(band, east, north - step)) / (2 * step)
    assert basis(band, east, north, "north") == pytest.approx(slope, abs=2e-5)


def test_riding_moves_a_field_by_the_displacement() -> None:
    band, hours = BANDS[2], np.array([400_000.25])
    still = normals(1, (9, 9, 9), 0, (1, 1, 2 * band.modes))
    east, north = displacement(hours)
    moved = (ride(still, band, hours) @ basis(band, east * band.ride + 12.0, north * band.ride - 5.0))[0, 0, 0]
    assert moved == pytest.approx((still @ basis(band, np.array([12.0]), np.array([-5.0])))[0, 0, 0], abs=2e-3)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12, unique=True), st.sampled_from([WET, FLOW, DRIZZLE]))
def test_a_time_alone_is_the_time_in_a_sequence(steps: list[int], latent: noise.Latent) -> None:
    hours = 490_000.0 + 0.5 * np.sort(np.array(steps))
    for band in BANDS[: latent.bands]:
        together = ride(truth_amplitudes(3, latent, band, hours)[:, None, :], band, hours)
        for number, hour in enumerate(hours):
            alone = ride(truth_amplitudes(3, latent, band, hour[None])[:, None, :], band, hour[None])
            assert np.array_equal(alone[0], together[number])


def test_before_1970_there_is_nothing() -> None:
    with pytest.raises(ValueError, match="begins in 1970"):
        truth_amplitudes(1, WET, BANDS[0], np.array([-100.0]))
