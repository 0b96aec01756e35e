"""Rain from the rain latent: bands, hours of the day, intensity, change of support and winter's drizzle.

The intensity is a generalised Pareto quantile of the latent's rank above a threshold. A cell mean is its expectation over the scales that
the cell does not resolve, so that point and cell are one climate. Both are tabulated by day of the year: threshold, scale and shape change
slowly, and a table makes fields fast.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from data_catalog.simulated.climate import Climate, by_month, local_hour, seasonal
from data_catalog.simulated.noise import BANDS, YEAR_HOURS, Floats
from data_catalog.simulated.places import Points

_SUMMER: Final = (0.18, 0.13, 0.13, 0.11, 0.09)  # latent variance by band, the rest is sub-grid
_WINTER: Final = (0.56, 0.20, 0.11, 0.05, 0.04)
# January to December: thresholds in standard deviations of the latents, and the scale of the intensity in mm per hour for each mm of the
# monthly normal; calibrate.py finds them.
SHOWER_THRESHOLD: Final = (1.217, 1.265, 2.006, 1.414, 1.657, 1.597, 1.413, 1.488, 1.609, 1.768, 1.852, 1.745)
SHOWER_SCALE: Final = (0.011, 0.0036, 0.0384, 0.0077, 0.0196, 0.02, 0.0121, 0.015, 0.0191, 0.0289, 0.0383, 0.0274)
DRIZZLE_THRESHOLD: Final = (3.22, 1.75, 1.51, 2.16, 2.9, 4.9, 4.9, 4.9, 4.9, 3.9, 3.2, 2.3)
_HEAVIEST: Final = 130.0  # mm per hour at a point, which intensities approach
_UPLAND: Final = 0.12  # by how much the latent is higher in the mountains
_DRIZZLE_LEAST, _DRIZZLE_RISE = 0.05, 0.07  # mm per hour, and per unit of the latent above its threshold

_LOWEST, _HIGHEST, _STEP = -1.0, 9.0, 0.01  # of the tabulated latent
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()


def band_variance(hours: Floats) -> Floats:
    """Variance of each band of the rain latent, summing to one, shape (time, band); the last band is sub-grid."""
    share = seasonal("convective", hours)[:, None]
    resolved = share * np.array(_SUMMER) + (1.0 - share) * np.array(_WINTER)
    return np.concatenate([resolved, 1.0 - resolved.sum(axis=1, keepdims=True)], axis=1)


def threshold(hours: Floats) -> Floats:
    """Latent value above which it rains, standard deviations, shape (time,)."""
    return by_month(SHOWER_THRESHOLD, hours)


def scale(climate: Climate, hours: Floats) -> Floats:
    """Scale of the intensity, mm per hour, shape (time,)."""
    return by_month([part * total for part, total in zip(SHOWER_SCALE, climate.rain, strict=True)], hours)


def shape(hours: Floats) -> Floats:
    """Shape of the generalised Pareto intensity, shape (time,)."""
    return 0.06 + 0.12 * seasonal("convective", hours)


def diurnal(hours: Floats, points: Points, early: float = 0.0) -> Floats:
    """What hour and ground add to the rain latent, standard deviations, shape (time, point).

    Convection peaks at 18 h over land with a second maximum at 2 h, at 17 h over mountains, at 5 h over the gulf; winter rain at 5 h.

    Args:
        hours: Shape (time,).
        points: Where.
        early: Hours by which convection comes too early: a fault of models.
    """
    hour = local_hour(hours, points.longitude)

    def wave(peak: float, size: float, moved: float = 0.0) -> Floats:
        return size * np.cos(2.0 * np.pi * (hour - peak + moved) / 24.0)

    high, sea = points.relief[None, :], points.sea[None, :]
    land = (1.0 - high) * (wave(18.0, 0.28, early) + wave(2.0, 0.10)) + high * wave(17.0, 0.50, early)
    summer = (1.0 - sea) * land + sea * wave(5.0, 0.30)
    share = seasonal("convective", hours)[:, None]
    return np.asarray(share * summer + (1.0 - share) * wave(5.0, 0.15) + _UPLAND * high)


def intensity(latent: Floats, bound: ArrayLike, size: ArrayLike, tail: ArrayLike) -> Floats:
    """Rain intensity where the latent exceeds its threshold: the generalised Pareto quantile of its rank, and 0 below.

    The heaviest rain is bent towards 130 mm per hour, which no hour at Hanoi has passed.

    Args:
        latent: Any shape.
        bound: Threshold, broadcast against ``latent``.
        size: Scale, mm per hour, likewise.
        tail: Shape, > 0, likewise.

    Returns:
        mm per hour, float64 of the shape of ``latent``.
    """
    latent = np.asarray(latent, dtype=np.float64)
    wet = latent > np.asarray(bound)
    low, mu, xi = (np.broadcast_to(value, latent.shape)[wet] for value in (bound, size, tail))
    rate = mu * ((ndtr(-latent[wet]) / ndtr(-low)) ** -xi - 1.0) / xi
    found = np.zeros(latent.shape)
    found[wet] = rate / (1.0 + (rate / _HEAVIEST) ** 3) ** (1.0 / 3.0)
    return found


@lru_cache(maxsize=8)
def _tables(climate: Climate, resolved: int) -> Floats:
    """Rain rate by day of the year and latent, mm per hour, shape (366, latent), float32; ``resolved`` bands are in the latent."""
    days = (np.arange(366) + 0.5) * 24.0
    latent = np.arange(_LOWEST, _HIGHEST, _STEP)
    missing = np.sqrt(band_variance(days)[:, resolved:].sum(axis=1))[:, None]
    bound, size, tail = (values[:, None] for values in (threshold(days), scale(climate, days), shape(days)))
    if resolved >= len(BANDS):
        return intensity(np.broadcast_to(latent, (366, latent.size)), bound, size, tail).astype(np.float32)
    mean = np.zeros((366, latent.size))
    for node, weight in zip(_NODES, _NODE_WEIGHTS, strict=True):
        mean += weight * intensity(latent + missing * node, bound, size, tail)
    return mean.astype(np.float32)


def rate(climate: Climate, middle: Floats, latent: Floats, resolved: int) -> Floats:
    """Rain rate of a shower latent with everything added to it.

    Args:
        climate: The climate.
        middle: Middle of the hours, shape (time,).
        latent: Shape (time, member, point).
        resolved: How many bands the latent has: all of them at a gauge, fewer in a cell, whose mean is over the rest.

    Returns:
        mm per hour, >= 0, same shape, float32.
    """
    tables = _tables(climate, resolved)
    day = (middle % YEAR_HOURS / 24.0).astype(np.intp)
    position = np.clip((latent - _LOWEST) / _STEP, 0.0, tables.shape[1] - 1.001).astype(np.float32)
    below = position.astype(np.int32)
    at = below + (day * tables.shape[1]).astype(np.int32)[:, None, None]
    flat = tables.ravel()
    low = flat[at]
    found: Floats = low + (position - below) * (flat[at + 1] - low)
    return found


def drizzle_excess(hours: Floats, points: Points, latent: Floats) -> Floats:
    """The drizzle latent above its threshold, most at 5 h, shape (time, member, point); positive where it drizzles."""
    course = 0.9 * np.cos(2.0 * np.pi * (local_hour(hours, points.longitude) - 5.0) / 24.0)
    lowland = 1.0 - 0.5 * points.relief
    return np.asarray(latent + (course - by_month(DRIZZLE_THRESHOLD, hours)[:, None] - 0.6 * (1.0 - lowland))[:, None, :])


def drizzle(excess: Floats) -> Floats:
    """Rate of drizzle, mm per hour, same shape."""
    return np.where(excess > 0.0, _DRIZZLE_LEAST + _DRIZZLE_RISE * np.clip(excess, 0.0, 1.5), 0.0)


def drizzle_season(hours: Floats) -> np.ndarray:
    """Whether it may drizzle at all, shape (time,): where the threshold is below 4 standard deviations."""
    return np.asarray(by_month(DRIZZLE_THRESHOLD, hours) < 4.0)
