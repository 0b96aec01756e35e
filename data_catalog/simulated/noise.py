"""Correlated noise of which any time and place can be had on its own.

A latent field is a sum of plane waves in wavelength bands. The amplitudes of a band are independent normals at regular time knots. They
come from a counter-based generator (Philox4x64-10; Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") whose key is
(seed, stream) and whose counter is the knot; between two knots cos(pi f / 2) W_n + sin(pi f / 2) W_(n+1) keeps the variance exactly
constant. The waves ride on a steering wind whose displacement has a closed form. No state is kept, nothing recurs, and a field asked for
alone is bit for bit the field asked for in a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Floats: TypeAlias = np.ndarray
"""Real numbers; docstrings say the shape."""

KM_PER_DEGREE: Final = 111.19
YEAR_HOURS: Final = 8766.0
_GOLDEN_ANGLE: Final = np.pi * (3.0 - np.sqrt(5.0))
_POWER_SLOPE: Final = -0.6  # of power per mode against wavenumber, modes spaced evenly in its logarithm: amplitude k^-1.3 on a lattice


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Plane waves of similar length.

    Attributes:
        number: Position among the bands of :data:`BANDS`; part of the generator's key.
        wave: Wavenumber vectors eastward and northward, radians per km, shape (2, modes).
        amplitude: Of each wave, shape (modes,); squares sum to one, so the field has unit variance.
        knot_hours: Time between two independent draws.
        ride: Share of the steering wind at which the band moves.
    """

    number: int
    wave: Floats
    amplitude: Floats
    knot_hours: float
    ride: float

    @property
    def modes(self) -> int:
        """Number of waves."""
        return int(self.amplitude.size)


def _band(number: int, longest_km: float, shortest_km: float, modes: int, knot_hours: float, ride: float = 1.0) -> Band:
    """Waves with log-spaced lengths and golden-angle directions: isotropic with few modes, and not periodic in any box."""
    step = np.arange(modes)
    length = longest_km * (shortest_km / longest_km) ** ((step + 0.5) / modes)
    direction = _GOLDEN_ANGLE * (step + 0.37 * number)
    wavenumber = 2.0 * np.pi / length
    power = wavenumber**_POWER_SLOPE
    return Band(
        number,
        np.stack([wavenumber * np.cos(direction), wavenumber * np.sin(direction)]),
        np.sqrt(power / power.sum()),
        knot_hours,
        ride,
    )


BANDS: Final = (
    _band(0, 2000.0, 700.0, 12, 30.0, ride=0.35),
    _band(1, 700.0, 350.0, 16, 16.0, ride=0.35),
    _band(2, 350.0, 175.0, 24, 9.0),
    _band(3, 175.0, 90.0, 40, 4.5),
    _band(4, 90.0, 50.0, 64, 2.2),
    _band(5, 50.0, 14.0, 48, 1.0),
)
"""Five bands that a 25 km grid resolves, and the sub-grid band that only a gauge sees. Knots grow as length^0.9."""


def normals(seed: int, stream: tuple[int, int, int], knot: int, shape: tuple[int, ...]) -> Floats:
    """Standard normals, a pure function of the arguments.

    Args:
        seed: The world.
        stream: Three numbers below 65,536 that say what is drawn.
        knot: Which draw of the stream, >= 0.
        shape: Shape of the answer; a larger leading axis begins with the same numbers.

    Returns:
        float32 of ``shape``.
    """
    first, second, third = stream
    key = np.array([seed, (first << 32) | (second << 16) | third], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=np.array([0, 0, 0, knot], dtype=np.uint64))
    return np.random.Generator(bits).standard_normal(shape, dtype=np.float32)


def between_knots(position: Floats, draws: Floats, first_knot: int) -> Floats:
    """Variance-preserving interpolation between independent draws.

    Args:
        position: Time in knots, shape (time,).
        draws: Draws at knots first_knot, first_knot + 1, ..., shape (..., knot, n).
        first_knot: Number of the first draw.

    Returns:
        Shape (..., time, n).
    """
    whole = np.floor(position).astype(np.intp)
    share = (position - whole) * (np.pi / 2.0)
    before, after = np.cos(share).astype(np.float32)[:, None], np.sin(share).astype(np.float32)[:, None]
    index = whole - first_knot
    found: Floats = before * draws[..., index, :] + after * draws[..., index + 1, :]
    return found


def displacement(hours: ArrayLike) -> tuple[Floats, Floats]:
    """Closed-form integral of the steering wind: how far east and north a wave has ridden, km.

    Westerly in winter and light south-easterly in summer, with three waves of 61 to 151 h and 3 to 4 m/s.

    Args:
        hours: Hours since 1970, UTC.

    Returns:
        East and north, km, float64, of the shape of ``hours``.
    """
    t = np.asarray(hours, dtype=np.float64)
    annual = 2.0 * np.pi / YEAR_HOURS
    season = np.sin(annual * (t - 4700.0)) / annual
    east = 3.6 * 0.6 * (8.0 * t - 6.0 * season)
    north = 3.6 * 0.6 * (2.0 * t + 3.0 * season)
    for speed, period, phase in ((4.0, 97.0, 1.0), (3.0, 151.0, 2.0), (3.0, 61.0, 0.3)):
        reach = 3.6 * speed * period / (2.0 * np.pi)
        east = east + reach * np.sin(2.0 * np.pi * t / period + phase)
        north = north + 0.6 * reach * np.cos(2.0 * np.pi * t / period + 2.0 * phase)
    return east, north


@dataclass(frozen=True, slots=True)
class Latent:
    """One random field of the atmosphere: which bands it uses and how slowly it evolves.

    Attributes:
        number: Part of the generator's key.
        bands: How many of :data:`BANDS` it has, from the largest.
        slow: Factor on the time between knots by band; the last holds for all that follow.
    """

    number: int
    bands: int
    slow: tuple[float, ...] = (1.0,)

    def knot_hours(self, band: Band) -> float:
        """Time between two independent draws of one of its bands."""
        return band.knot_hours * self.slow[min(band.number, len(self.slow) - 1)]


WET: Final = Latent(1, 6, slow=(3.4, 2.6, 1.0))
"""Showers, rain and cloud. Wet and dry spells last: its largest scales change over days."""

AIR: Final = Latent(2, 3, slow=(3.0,))
"""Warmth of the air mass."""

FLOW: Final = Latent(3, 2, slow=(2.0,))
"""Streamfunction of the wind, and so the pressure."""

DRIZZLE: Final = Latent(4, 3, slow=(2.2,))
"""Low stratus and drizzle of late winter."""

_TRUTH_STREAM: Final = 1


def truth_amplitudes(seed: int, latent: Latent, band: Band, hours: Floats) -> Floats:
    """Wave amplitudes of the true field in the frame that rides with the wind.

    Args:
        seed: The world.
        latent: Which field.
        band: Which band.
        hours: Hours since 1970, shape (time,).

    Returns:
        Shape (time, 2 * modes), float32: cosine parts, then sine parts.
    """
    position = hours / latent.knot_hours(band)
    needed = np.unique(np.concatenate([np.floor(position), np.floor(position) + 1]).astype(np.int64))
    if needed.size and needed[0] < 0:
        raise ValueError(f"The simulated atmosphere begins in 1970; asked for hour {hours.min():.0f}.")
    draws = np.stack([_truth_draw(seed, latent.number, band.number, int(knot)) for knot in needed])
    # The knots needed may have gaps; number them by their place among those drawn.
    whole = np.floor(position).astype(np.int64)
    place = np.searchsorted(needed, whole)
    return between_knots(place + (position - whole), draws, 0)


@lru_cache(maxsize=16384)
def _truth_draw(seed: int, latent: int, band: int, knot: int) -> Floats:
    """What every forecast that reaches a knot asks for again; 16384 of them are 10 MB at most."""
    draw = normals(seed, (_TRUTH_STREAM, latent, band), knot, (2 * BANDS[band].modes,))
    draw.setflags(write=False)
    return draw


def ride(amplitudes: Floats, band: Band, hours: Floats) -> Floats:
    """Carry amplitudes from the riding frame to the ground.

    Args:
        amplitudes: Shape (time, ..., 2 * modes).
        band: Their band.
        hours: Shape (time,).

    Returns:
        Same shape.
    """
    east, north = displacement(hours)
    phase = band.ride * (np.outer(east, band.wave[0]) + np.outer(north, band.wave[1]))  # (time, mode)
    between = (slice(None),) + (None,) * (amplitudes.ndim - 2)
    cosine, sine = np.cos(phase).astype(np.float32)[between], np.sin(phase).astype(np.float32)[between]
    a, b = amplitudes[..., : band.modes], amplitudes[..., band.modes :]
    return np.concatenate([a * cosine + b * sine, b * cosine - a * sine], axis=-1)


def basis(band: Band, east_km: Floats, north_km: Floats, derivative: str = "") -> Floats:
    """What each wave is at each point.

    Args:
        band: The band.
        east_km: Points, shape (point,), km from the origin.
        north_km: Likewise.
        derivative: ``""`` for the field, ``"east"`` or ``"north"`` for its gradient per km.

    Returns:
        Shape (2 * modes, point), float32; the field is ``amplitudes @ basis``.
    """
    theta = np.outer(band.wave[0], east_km) + np.outer(band.wave[1], north_km)
    cosine, sine = band.amplitude[:, None] * np.cos(theta), -band.amplitude[:, None] * np.sin(theta)
    if derivative:
        slope = band.wave[0 if derivative == "east" else 1][:, None]
        cosine, sine = slope * sine, -slope * cosine
    return np.concatenate([cosine, sine]).astype(np.float32)
