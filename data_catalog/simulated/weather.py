"""From latent fields to weather: the closed forms, the same for the truth and for every model of it.

Arrays are (time, member, point); the truth has one member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr

from data_catalog.simulated.climate import (
    LAPSE_RATE,
    Climate,
    Points,
    by_month,
    clear_sky_hour,
    day_curve,
    local_hour,
    unit_intensity,
)
from data_catalog.simulated.noise import BANDS, FLOW, HEAT, RESOLVED, WET, Floats, Latent, basis
from data_catalog.simulated.surges import mean_cold

HEAT_WEIGHTS: Final = np.sqrt([0.80, 0.15, 0.05])
FLOW_WEIGHTS: Final = np.sqrt([0.85, 0.15])
_GEOSTROPHIC: Final = 500.0  # m/s per (latent unit per km): 3 hPa per unit, f at 21 N, and the friction of 10 m
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()


@dataclass(frozen=True, slots=True)
class Faults:
    """What a model has wrong in every forecast. The truth has none.

    Attributes:
        temperature: Bias, K.
        winter_temperature: Further bias in January, K, fading to its opposite in July.
        day_range: Factor on the daily range of temperature.
        dryness: Bias of the dew point depression, K.
        wind: Factor on wind.
        pressure: Bias, Pa.
        cloud: Shift of the cloud latent.
        drizzle: By how much the rain latent is too high, in standard deviations: it rains too often, and a little too much.
        rain: Factor on rain.
        early: Hours by which convection comes too early.
    """

    temperature: float = 0.0
    winter_temperature: float = 0.0
    day_range: float = 1.0
    dryness: float = 0.0
    wind: float = 1.0
    pressure: float = 0.0
    cloud: float = 0.0
    drizzle: float = 0.0
    rain: float = 1.0
    early: float = 0.0


@dataclass(frozen=True, eq=False)
class Bases:
    """What every wave is at some points, made once and used for every time.

    Attributes:
        points: The points.
        wet: By band, shape (2 * modes, point); the sub-grid band only where gauges stand.
        heat: Likewise.
        flow: Likewise; then its gradients east and north, per km.
    """

    points: Points
    wet: tuple[Floats, ...]
    heat: tuple[Floats, ...]
    flow: tuple[Floats, ...]
    flow_east: tuple[Floats, ...]
    flow_north: tuple[Floats, ...]

    @classmethod
    def at(cls, climate: Climate, points: Points, *, gauges: bool) -> Bases:
        """Bases at points, with the sub-grid band where they are gauges and not cells."""
        east, north = points.kilometres(climate.latitude, climate.longitude)

        def of(latent: Latent, derivative: str = "") -> tuple[Floats, ...]:
            used = BANDS[: min(latent.bands, len(BANDS) if gauges else RESOLVED)]
            return tuple(basis(band, east, north, derivative) for band in used)

        return cls(points, of(WET), of(HEAT), of(FLOW), of(FLOW, "east"), of(FLOW, "north"))


def project(amplitudes: list[Floats], weights: Floats, bases: tuple[Floats, ...]) -> Floats:
    """Add the bands up at the points.

    Args:
        amplitudes: By band, shape (time, member, 2 * modes).
        weights: Shape (time, band) or (band,).
        bases: By band, shape (2 * modes, point).

    Returns:
        Shape (time, member, point), float32. Each time is its own product of two matrices, so that no time depends on which others
        were asked for with it.
    """
    weights = np.broadcast_to(weights, (amplitudes[0].shape[0], np.shape(weights)[-1])).astype(np.float32)
    weighted = [part * weights[:, band, None, None] for band, part in enumerate(amplitudes[: len(bases)])]
    return np.asarray(np.matmul(np.concatenate(weighted, axis=-1), np.concatenate(bases)))


def gauge_rain(climate: Climate, points: Points, middle: Floats, wet: Floats, faults: Faults = Faults()) -> Floats:
    """Rain rate where a gauge stands.

    Args:
        climate: The climate.
        points: Where.
        middle: Middle of the hours, hours since 1970, shape (time,).
        wet: Full latent, all bands, shape (time, member, point).
        faults: What is wrong.

    Returns:
        mm per hour, >= 0, same shape.
    """
    return _rain(climate, points, middle, wet, faults, np.zeros(1), np.ones(1))


def cell_rain(climate: Climate, points: Points, middle: Floats, wet: Floats, faults: Faults = Faults()) -> Floats:
    """Mean rain rate of a grid cell: the expectation of :func:`gauge_rain` over the sub-grid scales, by Gauss-Hermite quadrature.

    Args:
        climate: The climate.
        points: Cells.
        middle: Middle of the hours, shape (time,).
        wet: Resolved latent, shape (time, member, point).
        faults: What is wrong.

    Returns:
        mm per hour, >= 0, same shape.
    """
    return _rain(climate, points, middle, wet, faults, _NODES, _NODE_WEIGHTS)


def _rain(
    climate: Climate, points: Points, middle: Floats, wet: Floats, faults: Faults, nodes: Floats, weights: Floats
) -> Floats:
    """Weighted sum of rates at the latent plus each node times the sub-grid standard deviation."""
    latent = wet + (climate.wet_shift(middle, points, faults.early) + faults.drizzle)[:, None, :]
    spread = climate.wet_weights(middle)[:, -1][:, None, None]
    threshold = by_month(climate.threshold, middle)[:, None, None]
    shape = climate.shape(middle)[:, None, None]
    unit = np.zeros(wet.shape)
    for node, weight in zip(nodes, weights, strict=True):
        unit += weight * unit_intensity(latent + spread * node, threshold, shape)
    return by_month(climate.rain_scale, middle)[:, None, None] * faults.rain * unit


def cloud_fraction(climate: Climate, hours: Floats, wet: Floats, faults: Faults = Faults()) -> Floats:
    """Cloud cover, 0 to 1: the rank of the rain latent, shifted by season."""
    half = climate.seasonal("cloud", hours)[:, None, None]
    return ndtr((wet * 1.1 + faults.cloud) / 0.75 + (half - 0.5) * 2.5)


def short_wave_hour(climate: Climate, points: Points, hours: Floats, wet: Floats, faults: Faults = Faults()) -> Floats:
    """Mean downward short wave over the hour ending at ``hours``, W m-2: clear sky times 1 - 0.75 n^3.4 (Kasten and Czeplak 1980).

    Args:
        climate: The climate.
        points: Where.
        hours: Ends of the hours, shape (time,).
        wet: Latent at the middle of the hours, shape (time, member, point).
        faults: What is wrong.
    """
    cloud = cloud_fraction(climate, hours - 0.5, wet, faults)
    return clear_sky_hour(hours, points)[:, None, :] * (1.0 - 0.75 * cloud**3.4)


@dataclass(frozen=True, eq=False)
class Drivers:
    """Latent fields and surges at instants, each (time, member, point).

    Attributes:
        wet: Resolved rain latent.
        heat: Temperature latent.
        flow: Pressure latent, then its gradients per km.
        cold: Cooling by surges, K.
        rush: Their wind, m/s.
        rain: Rain rate in the hour before, mm per hour.
    """

    wet: Floats
    heat: Floats
    flow: Floats
    flow_east: Floats
    flow_north: Floats
    cold: Floats
    rush: Floats
    rain: Floats


def instants(climate: Climate, points: Points, hours: Floats, drivers: Drivers, faults: Faults = Faults()) -> dict[str, Floats]:
    """Weather at instants, in catalog names and units.

    Dew point never passes temperature and gust never falls below wind, by construction.

    Args:
        climate: The climate.
        points: Where.
        hours: Shape (time,).
        drivers: Latent fields there and then.
        faults: What is wrong.

    Returns:
        By variable, shape (time, member, point), float32.
    """
    def season(name: str) -> Floats:
        return climate.seasonal(name, hours)[:, None, None]

    def monthly(values: Floats) -> Floats:
        return values[:, None, None]

    winter = np.cos(2.0 * np.pi * (hours / 8766.0 - 15.0 / 365.25))[:, None, None]
    curve = day_curve(local_hour(hours, points.longitude))[:, None, :]
    exposed = np.where(points.sea, 0.3, 1.0 + 0.15 * points.relief)[None, None, :]
    # The mean daily maximum and minimum differ by more than the mean day does: weather adds a twelfth.
    size = 0.92 * monthly(by_month(climate.range, hours)) * exposed * faults.day_range
    swing = curve * size * np.clip(1.05 - 0.30 * drivers.wet, 0.35, 1.7)
    cooling = 2.2 * np.tanh(drivers.rain / 3.0)
    cold = drivers.cold - monthly(mean_cold(hours))
    place = -0.35 * (points.latitude - climate.latitude) - LAPSE_RATE * (points.elevation - climate.elevation)
    temperature = (
        monthly(by_month(climate.temperature, hours)) + place[None, None, :] + swing + season("temperature_sd") * drivers.heat
        - cold - cooling + faults.temperature + faults.winter_temperature * winter
    )  # fmt: skip
    # The depression follows the day's swing, is small where it is wet, and is positive by the softplus.
    depression = monthly(climate.depression(hours)) + 0.75 * swing - 1.1 * drivers.wet + 0.15 * cold - cooling + faults.dryness
    depression = np.logaddexp(0.0, depression / 1.2) * 1.2
    cloud = 100.0 * cloud_fraction(climate, hours, drivers.wet, faults)

    tide = 110.0 * np.cos(2.0 * np.pi * (local_hour(hours, points.longitude) - 9.8) / 12.0)[:, None, :]  # Pa, semidiurnal
    pressure = 100.0 * (season("pressure") + season("pressure_sd") * drivers.flow + 1.1 * cold) + tide + faults.pressure

    strength = (0.85 + 0.35 * curve) * np.where(points.sea, 1.5, 1.0 - 0.3 * points.relief)[None, None, :] * faults.wind
    east = strength * (season("monsoon_east") - _GEOSTROPHIC * drivers.flow_north - 0.45 * drivers.rush)
    north = strength * (season("monsoon_north") + _GEOSTROPHIC * drivers.flow_east - 0.70 * drivers.rush)
    gust = 1.4 * np.hypot(east, north) + 1.2 + 2.0 * np.sqrt(drivers.rain)
    found = {
        "temperature_2m": temperature,
        "dew_point_temperature_2m": temperature - depression,
        "wind_u_10m": east,
        "wind_v_10m": north,
        "wind_gust_10m": gust,
        "pressure_reduced_to_mean_sea_level": pressure,
        "total_cloud_cover_atmosphere": cloud,
    }
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}
