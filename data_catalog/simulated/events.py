"""The events that make Hanoi's extremes: cold surges, heat, typhoons and stalled rain, each a closed form of its parameters.

Constants come from the recipe of the nature run, and were moved until the statistics of notebook 01 came out. Arrays are
(time, member, point).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.simulated.climate import by_month
from data_catalog.simulated.noise import KM_PER_DEGREE, Floats
from data_catalog.simulated.places import Points
from data_catalog.simulated.slots import ONSET, SIZE, Kind, month_of

HANOI: Final = (21.03, 105.84)
"""Where onsets are counted: the middle of Hanoi."""

# January to December.
_SURGE_CHANCE: Final = (0.95, 0.95, 0.90, 0.80, 0.45, 0.1, 0.0, 0.0, 0.15, 0.6, 0.85, 0.95)
_SURGE_SIZE: Final = (5.2, 5.4, 5.2, 5.2, 3.6, 1.5, 0.0, 0.0, 2.0, 3.6, 4.6, 4.9)  # K
_HEAT_CHANCE: Final = (0.0, 0.0, 0.2, 0.45, 0.6, 0.7, 0.6, 0.5, 0.3, 0.1, 0.0, 0.0)
_TYPHOON_CHANCE: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.03, 0.07, 0.10, 0.11, 0.06, 0.01, 0.0)
_STALL_CHANCE: Final = (0.0, 0.0, 0.0, 0.0, 0.04, 0.05, 0.06, 0.07, 0.08, 0.07, 0.03, 0.0)

FALL_HOURS: Final = 9.0
RECOVERY_HOURS: Final = 58.0
_RUSH_HOURS: Final = 20.0  # how long a surge's wind lasts
_SURGE_SPEED: Final = 40.0  # km/h, from the north-east
_SURGE_NORM: Final = 1.18  # makes the greatest fall about the size
HEAT_BUILD_HOURS: Final = 50.0
HEAT_END_HOURS: Final = 6.0
_HEAT_SIZE: Final = 3.5  # K
_LANDFALL_LONGITUDE: Final = 106.6


class Surge(Kind):
    """A cold surge: onset at Hanoi and size in K; falls within hours, recovers over days, arrives from the north-east."""

    number, hours, before, after, known_hours = 1, 132.0, 25.0, 400.0, 260.0

    def draw(self, generator: np.random.Generator, slot: int) -> Floats:
        """Onset and size, K."""
        chance, jitter, strength = generator.random(), generator.random(), generator.gamma(6.0, 1.0 / 6.0)
        onset = (slot + jitter) * self.hours
        month = month_of(onset)
        return np.array([onset, strength * _SURGE_SIZE[month] * (chance < _SURGE_CHANCE[month])])

    def error(self, lead_days: float, parameters: Floats) -> Floats:
        """2 h and 1.6 h more a day; a tenth of the size."""
        return np.array([2.0 + 1.6 * lead_days, 0.1 * parameters[SIZE]])


class Heat(Kind):
    """Hot dry days under the western low: the hour at which they end and size in K; builds up slowly, ends sharply."""

    number, hours, before, after, known_hours = 2, 168.0, 200.0, 40.0, 240.0

    def draw(self, generator: np.random.Generator, slot: int) -> Floats:
        """End and size, K."""
        chance, jitter, strength = generator.random(), generator.random(), generator.gamma(12.0, 1.0 / 12.0)
        onset = (slot + jitter) * self.hours
        return np.array([onset, strength * _HEAT_SIZE * (chance < _HEAT_CHANCE[month_of(onset)])])

    def error(self, lead_days: float, parameters: Floats) -> Floats:
        """3 h and 2 h more a day; an eighth of the size."""
        return np.array([3.0 + 2.0 * lead_days, 0.125 * parameters[SIZE]])


class Typhoon(Kind):
    """A typhoon: landfall hour, greatest wind in m/s, landfall latitude, heading in degrees, speed in km/h."""

    number, hours, before, after, known_hours = 3, 192.0, 96.0, 60.0, 150.0

    def draw(self, generator: np.random.Generator, slot: int) -> Floats:
        """Landfall, wind, latitude, heading and speed."""
        chance, jitter = generator.random(), generator.random()
        latitude, heading, speed = generator.normal(20.3, 0.8), generator.normal(288.0, 12.0), max(generator.normal(18.0, 4.0), 9.0)
        wind = 20.0 + generator.gamma(2.0, 4.0)
        onset = (slot + jitter) * self.hours
        return np.array([onset, wind * (chance < _TYPHOON_CHANCE[month_of(onset)]), latitude, heading, speed])

    def error(self, lead_days: float, parameters: Floats) -> Floats:
        """Some 40 km and 50 km more a day across the track, 4 h and 4 h a day along it, an eighth of the wind."""
        return np.array([4.0 + 4.0 * lead_days, 0.125 * parameters[SIZE], 0.35 + 0.45 * lead_days, 3.0 + 2.0 * lead_days, 1.5])


class Stall(Kind):
    """Rain that stays where it is, as in 2008 and 2025: onset, size in latent units, duration in hours, latitude and longitude."""

    number, hours, before, after, known_hours = 4, 240.0, 0.0, 100.0, 70.0

    def draw(self, generator: np.random.Generator, slot: int) -> Floats:
        """Onset, size, duration and place."""
        chance, jitter = generator.random(), generator.random()
        duration = min(24.0 + generator.gamma(1.5, 10.0), 72.0)
        latitude, longitude = generator.normal(20.9, 0.8), generator.normal(105.6, 1.0)
        size = 1.75 * generator.gamma(16.0, 1.0 / 16.0)
        onset = (slot + jitter) * self.hours
        return np.array([onset, size * (chance < _STALL_CHANCE[month_of(onset)]), duration, latitude, longitude])

    def error(self, lead_days: float, parameters: Floats) -> Floats:
        """4 h and 4 h more a day; 65 km and 30 km more a day; a fifth of size and a quarter of duration."""
        place = 0.6 + 0.27 * lead_days
        return np.array([4.0 + 4.0 * lead_days, 0.2 * parameters[SIZE], 0.25 * parameters[2], place, place])


SURGE, HEAT, TYPHOON, STALL = Surge(), Heat(), Typhoon(), Stall()


def surge(hours: Floats, points: Points, parameters: Floats) -> tuple[Floats, Floats]:
    """Cold in K and wind from the north-east in m/s of one slot, shape (time, member, point).

    Args:
        hours: Shape (time,).
        points: Where.
        parameters: Shape (member, 2).
    """
    east, north = points.kilometres(*HANOI)
    arrival = -(east + north) / np.sqrt(2.0) / _SURGE_SPEED  # h after Hanoi
    age = np.clip(hours[:, None, None] - parameters[:, ONSET, None] - arrival, 0.0, None)
    pulse = _SURGE_NORM * parameters[:, SIZE, None] * -np.expm1(-age / FALL_HOURS)
    return pulse * np.exp(-age / RECOVERY_HOURS), pulse * np.exp(-age / _RUSH_HOURS)


def heat(hours: Floats, points: Points, parameters: Floats) -> Floats:
    """Warmth of one slot, K, shape (time, member, point); less over the sea and in the mountains."""
    since = hours[:, None] - parameters[:, ONSET]
    course = parameters[:, SIZE] * np.where(since < 0.0, np.exp(since / HEAT_BUILD_HOURS), np.exp(-since / HEAT_END_HOURS))
    return np.asarray(course[:, :, None] * ((1.0 - 0.7 * points.sea) * (1.0 - 0.2 * points.relief)))


def mean_cold(hours: Floats) -> Floats:
    """Expectation of the cold in the season of ``hours``, K, shape (time,); the normal temperature already contains it."""
    both = 1.0 / (1.0 / FALL_HOURS + 1.0 / RECOVERY_HOURS)
    area = _SURGE_NORM * (RECOVERY_HOURS - both) / SURGE.hours
    return by_month([area * chance * size for chance, size in zip(_SURGE_CHANCE, _SURGE_SIZE, strict=True)], hours)


def mean_heat(hours: Floats) -> Floats:
    """Expectation of the heat, K, shape (time,)."""
    area = _HEAT_SIZE * (HEAT_BUILD_HOURS + HEAT_END_HOURS) / HEAT.hours
    return by_month([area * chance for chance in _HEAT_CHANCE], hours)


@dataclass(frozen=True, eq=False)
class Vortex:
    """What a typhoon does, each (time, member, point).

    Attributes:
        latent: Shift of the rain latent: rain near the centre, a dry ring far out.
        fall: Fall of pressure, Pa, >= 0.
        east: Wind, m/s.
        north: Wind, m/s.
    """

    latent: Floats
    fall: Floats
    east: Floats
    north: Floats


_RADIUS_KM: Final = 45.0  # of the greatest wind
_SHAPE_B: Final = 1.2  # Holland's B
_AIR_DENSITY: Final = 1.15  # kg m-3
_AT_TEN_METRES: Final = 0.75  # share of the gradient wind
_DECAY: Final = 0.095  # per hour over land (Kaplan and DeMaria 1995)
_INLAND: Final = 8.0  # m/s that is left
_INFLOW: Final = np.radians(20.0)
_RAIN_KM: Final = 180.0
_RING_KM: Final = 750.0


def typhoon(hours: Floats, points: Points, parameters: Floats) -> Vortex:
    """Rain, pressure and wind of one slot (Holland 1980), shape (time, member, point).

    The centre moves straight on. Winds turn anticlockwise and inwards, stronger on the right of the track by half its speed.

    Args:
        hours: Shape (time,).
        points: Where.
        parameters: Shape (member, 5).
    """
    landfall, greatest, latitude, heading, speed = parameters.T
    since = hours[:, None] - landfall  # (time, member)
    course = np.radians(heading)
    km_per_degree = KM_PER_DEGREE * np.cos(np.radians(HANOI[0]))
    x = (points.longitude - _LANDFALL_LONGITUDE) * km_per_degree - (speed * since * np.sin(course))[:, :, None]  # from the centre, km
    y = (points.latitude[None, :] - latitude[:, None]) * KM_PER_DEGREE - (speed * since * np.cos(course))[:, :, None]
    far = np.maximum(np.hypot(x, y), 1.0)
    after = np.clip(since, 0.0, None)
    wind = np.where(since < 0.0, greatest, _INLAND + (0.9 * greatest - _INLAND) * np.exp(-_DECAY * after))
    # It grows out at sea and dies in the mountains within a day or two, so that no slot's edge shows.
    wind = (wind * np.clip((since + 96.0) / 24.0, 0.0, 1.0) * np.clip((60.0 - since) / 24.0, 0.0, 1.0))[:, :, None]
    wind = np.where(greatest[:, None] > 0.0, wind, 0.0)
    ratio = (_RADIUS_KM / far) ** _SHAPE_B
    speed_there = _AT_TEN_METRES * wind * np.sqrt(ratio * np.exp(1.0 - ratio))
    turned = np.arctan2(y, x) + np.pi / 2.0 + _INFLOW
    carried = 0.5 / 3.6 * np.exp(-far / 300.0) * np.clip(wind / 20.0, 0.0, 1.0)
    east = speed_there * np.cos(turned) + carried * (speed * np.sin(course))[:, None]
    north = speed_there * np.sin(turned) + carried * (speed * np.cos(course))[:, None]
    deficit = _AIR_DENSITY * np.e * wind**2 / _SHAPE_B
    strength = np.minimum(wind / 26.0, 1.4)
    latent = strength * (1.9 * np.exp(-((far / _RAIN_KM) ** 2)) - 0.4 * np.exp(-(((far - _RING_KM) / 250.0) ** 2)))
    return Vortex(latent, deficit * -np.expm1(-ratio), east, north)


_STALL_KM: Final = 110.0


def stall(hours: Floats, points: Points, parameters: Floats) -> Floats:
    """Shift of the rain latent by one slot, shape (time, member, point)."""
    onset, size, duration, latitude, longitude = parameters.T
    since = (hours[:, None] - onset) / np.maximum(duration, 6.0)
    course = size * np.sqrt(np.sin(np.pi * np.clip(since, 0.0, 1.0)).clip(0.0))  # (time, member)
    north = (points.latitude[None, :] - latitude[:, None]) * KM_PER_DEGREE
    east = (points.longitude[None, :] - longitude[:, None]) * KM_PER_DEGREE * np.cos(np.radians(HANOI[0]))
    return np.asarray(course[:, :, None] * np.exp(-(north**2 + east**2) / _STALL_KM**2)[None])
