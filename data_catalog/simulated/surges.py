"""Cold surges: at most one in each slot of 5.5 days, a pure function of the slot's number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from data_catalog.simulated.climate import Climate, Points, by_month
from data_catalog.simulated.noise import YEAR_HOURS, Floats, normals

SLOT_HOURS: Final = 132.0
FALL_HOURS: Final = 9.0
RECOVERY_HOURS: Final = 58.0
_WIND_HOURS: Final = 20.0
_LASTS_HOURS: Final = 400.0  # by then 0.1 % of the fall is left
_SPEED: Final = 40.0  # km/h, from the north-east
_CHANCE: Final = (0.95, 0.95, 0.85, 0.65, 0.35, 0.1, 0.0, 0.0, 0.15, 0.6, 0.85, 0.95)
_SIZE: Final = (5.2, 5.4, 4.6, 4.6, 3.0, 1.5, 0.0, 0.0, 2.0, 3.6, 4.6, 4.9)  # K
_NORM: Final = 1.18  # makes the greatest fall about the size
_STREAM: Final = (2, 0, 0)

TimingError = Callable[[int], tuple[Floats, Floats]]
"""From a slot's number to how late a model has its surge, hours, shape (time, member), and how large, as a factor, shape (member,)."""


def _slot(seed: int, number: int) -> tuple[float, float]:
    """Onset at the origin in hours since 1970, and size in K (0 where there is none)."""
    bits = np.random.Philox(key=np.array([seed, (_STREAM[0] << 32)], dtype=np.uint64), counter=np.array([0, 0, 0, number], dtype=np.uint64))
    generator = np.random.Generator(bits)
    chance, jitter, strength = generator.random(), generator.random(), generator.gamma(6.0, 1.0 / 6.0)
    onset = (number + jitter) * SLOT_HOURS
    month = min(int(onset % YEAR_HOURS / (YEAR_HOURS / 12.0)), 11)
    return onset, strength * _SIZE[month] if chance < _CHANCE[month] else 0.0


def exact(slot: int) -> tuple[Floats, Floats]:
    """The surge as it is: neither late nor too weak."""
    return np.zeros((1, 1)), np.ones(1)


def surges(seed: int, climate: Climate, hours: Floats, points: Points, error: TimingError = exact) -> tuple[Floats, Floats]:
    """How much colder it is for the surges that have come, and how much harder the wind blows from the north-east.

    Args:
        seed: The world.
        climate: Gives the origin.
        hours: Shape (time,).
        points: Where.
        error: What a forecast has wrong in a slot.

    Returns:
        Cold in K and wind in m/s, both >= 0, shape (time, member, point).
    """
    east, north = points.kilometres(climate.latitude, climate.longitude)
    arrival = -(east + north) / np.sqrt(2.0) / _SPEED  # h after the origin
    members = error(0)[1].size
    cold = np.zeros((hours.size, members, points.size))
    wind = np.zeros_like(cold)
    first = int((hours.min() - _LASTS_HOURS) // SLOT_HOURS) - 1
    last = int((hours.max() + 60.0) // SLOT_HOURS) + 1
    for number in range(max(first, 0), last + 1):
        onset, size = _slot(seed, number)
        if size == 0.0:
            continue
        late, factor = error(number)
        since = hours[:, None] - onset - late  # (time, member)
        active = np.flatnonzero(((since > -60.0) & (since < _LASTS_HOURS)).any(axis=1))
        if not active.size:
            continue
        age = np.clip(np.broadcast_to(since, (hours.size, members))[active, :, None] - arrival, 0.0, None)
        pulse = (_NORM * size) * factor[:, None] * -np.expm1(-age / FALL_HOURS)
        cold[active] += pulse * np.exp(-age / RECOVERY_HOURS)
        wind[active] += pulse * np.exp(-age / _WIND_HOURS)
    return cold, wind


def mean_cold(hours: Floats) -> Floats:
    """Expectation of the cold in the season of ``hours``, K, shape (time,); the normal temperature already contains it."""
    both = 1.0 / (1.0 / FALL_HOURS + 1.0 / RECOVERY_HOURS)
    area = _NORM * (RECOVERY_HOURS - both) / SLOT_HOURS
    return by_month([area * chance * size for chance, size in zip(_CHANCE, _SIZE, strict=True)], hours)


def timing_normals(seed: int, centre: int, day: int, slot: int, members: int) -> Floats:
    """Standard normals for the surge errors of a centre's forecast, shape (members, 2): lateness and size."""
    return normals(seed, (3, centre, slot % 65536), day, (members, 2))
