"""From latent fields and events to weather: the closed forms, the same for the truth and for every model of it.

Arrays are (time, member, point); the truth has one member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import expit, ndtr

from data_catalog.simulated.climate import LAPSE_RATE, Climate, by_month, clear_sky_hour, day_curve, local_hour, seasonal, winter
from data_catalog.simulated.events import mean_cold, mean_heat
from data_catalog.simulated.noise import AIR, BANDS, DRIZZLE, FLOW, WET, Floats, Latent, basis
from data_catalog.simulated.places import Points

AIR_WEIGHTS: Final = np.sqrt([0.80, 0.15, 0.05])
FLOW_WEIGHTS: Final = np.sqrt([0.85, 0.15])
DRIZZLE_WEIGHTS: Final = np.sqrt([0.78, 0.16, 0.06])
_SOUTHERLY: Final = 0.40  # share of southerly flow in the warmth of the air, as a correlation
_SLOPE_SD: Final = float(
    np.sqrt(sum(w**2 * np.sum((band.amplitude * band.wave[0]) ** 2) for w, band in zip(FLOW_WEIGHTS, BANDS, strict=False)))
)  # standard deviation of the streamfunction's eastward slope, per km
_GEOSTROPHIC: Final = 500.0  # m/s per (latent unit per km): 3 hPa per unit, f at 21 N, and the friction of 10 m


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
        wet: By how much the rain latent is too high, in standard deviations: it rains too often, and a little too much.
        rain: Factor on rain.
        early: Hours by which convection comes too early.
        surge: Factor on the cold of surges.
        heat: Factor on heat: the dry wind from the western mountains that coarse models miss.
        city: Factor on the warmth of the city.
    """

    temperature: float = 0.0
    winter_temperature: float = 0.0
    day_range: float = 1.0
    dryness: float = 0.0
    wind: float = 1.0
    pressure: float = 0.0
    cloud: float = 0.0
    wet: float = 0.0
    rain: float = 1.0
    early: float = 0.0
    surge: float = 1.0
    heat: float = 1.0
    city: float = 1.0


@dataclass(frozen=True, eq=False)
class Bases:
    """What every wave is at some points, made once and used for every time.

    Attributes:
        points: The points.
        wet: By band, shape (2 * modes, point); all bands where gauges stand, fewer in cells.
        air: Likewise, of the bands that the latent has.
        drizzle: Likewise.
        flow: Likewise; then its gradients east and north, per km.
    """

    points: Points
    wet: tuple[Floats, ...]
    air: tuple[Floats, ...]
    drizzle: tuple[Floats, ...]
    flow: tuple[Floats, ...]
    flow_east: tuple[Floats, ...]
    flow_north: tuple[Floats, ...]

    @classmethod
    def at(cls, climate: Climate, points: Points, bands: int | None = None) -> Bases:
        """Bases at points.

        Args:
            climate: Gives the origin.
            points: Where.
            bands: How many bands of the rain latent are resolved; default: all at gauges, all but the last in cells.
        """
        east, north = points.kilometres(climate.latitude, climate.longitude)
        resolved = bands or (len(BANDS) if points.gauges else len(BANDS) - 1)

        def of(latent: Latent, derivative: str = "") -> tuple[Floats, ...]:
            return tuple(basis(band, east, north, derivative) for band in BANDS[: min(latent.bands, resolved)])

        return cls(points, of(WET), of(AIR), of(DRIZZLE), of(FLOW), of(FLOW, "east"), of(FLOW, "north"))


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


@dataclass(frozen=True, eq=False)
class Drivers:
    """Latent fields and events at instants, each (time, member, point).

    Attributes:
        wet: Resolved rain latent with what typhoons and stalled rain add, half an hour before.
        air: Warmth latent.
        flow: Streamfunction latent, then its gradients per km.
        drizzle: Drizzle latent above its threshold, half an hour before.
        cold: Cooling by surges, K.
        rush: Their wind, m/s.
        hot: Heat, K.
        fall: Fall of pressure in typhoons, Pa.
        vortex_east: Their wind, m/s.
        vortex_north: Likewise.
        rain: Rain rate in the hour before, mm per hour.
    """

    wet: Floats
    air: Floats
    flow: Floats
    flow_east: Floats
    flow_north: Floats
    drizzle: Floats
    cold: Floats
    rush: Floats
    hot: Floats
    fall: Floats
    vortex_east: Floats
    vortex_north: Floats
    rain: Floats


def cloud_fraction(hours: Floats, wet: Floats, drizzle: Floats, faults: Faults = Faults()) -> Floats:
    """Cloud cover, 0 to 1: the rank of the rain latent, shifted by season; overcast where it drizzles or nearly so."""
    half = seasonal("cloud", hours)[:, None, None]
    return ndtr((wet * 1.1 + faults.cloud) / 0.75 + (half - 0.5) * 2.5 + 1.5 * np.clip(drizzle + 0.7, 0.0, 1.5))


def short_wave_hour(points: Points, hours: Floats, cloud: Floats) -> Floats:
    """Mean downward short wave over the hour ending at ``hours``, W m-2: clear sky times 1 - 0.75 n^3.4 (Kasten and Czeplak 1980).

    Args:
        points: Where.
        hours: Ends of the hours, shape (time,).
        cloud: Cover in the middle of the hours, 0 to 1, shape (time, member, point).
    """
    return clear_sky_hour(hours, points)[:, None, :] * (1.0 - 0.75 * cloud**3.4)


def magnus(temperature: Floats) -> Floats:
    """Saturation vapour pressure over water, hPa, of degree_Celsius (Alduchov and Eskridge 1996)."""
    return np.asarray(6.1094 * np.exp(17.625 * temperature / (243.04 + temperature)))


def _temperature(climate: Climate, points: Points, hours: Floats, drivers: Drivers, faults: Faults) -> tuple[Floats, Floats, Floats]:
    """Temperature in degree_Celsius, its course over the day and the cooling by rain, K, each (time, member, point)."""
    curve = day_curve(local_hour(hours, points.longitude))[:, None, :]
    exposed = ((1.0 - 0.7 * points.sea) * (1.0 + 0.15 * points.relief))[None, None, :]
    # The mean daily maximum and minimum differ by more than the mean day does: changing weather adds to a small range most.
    size = np.clip(1.3 * by_month(climate.range, hours) - 3.9, 1.0, None)[:, None, None] * exposed * faults.day_range
    stratus = 1.0 - 0.35 * np.clip(drivers.drizzle + 0.5, 0.0, 1.0)
    swing = curve * size * stratus * np.clip(1.05 - 0.30 * drivers.wet, 0.35, 1.7)
    cooling = 2.2 * np.tanh(drivers.rain / 3.0)
    cold = faults.surge * drivers.cold - mean_cold(hours)[:, None, None]
    hot = faults.heat * drivers.hot * (0.75 + 0.5 * curve) - 0.75 * mean_heat(hours)[:, None, None]
    northward = -seasonal("northward", hours)[:, None] * (points.latitude - climate.latitude)
    maritime = 1.5 * winter(hours)[:, None] * points.sea
    island = faults.city * points.city(climate.latitude, climate.longitude) - 1.0  # the normals are those of the city
    night = 0.6 - 0.8 * curve
    city = seasonal("heat_island", hours)[:, None, None] * (island * night) * np.clip(1.0 - 0.25 * drivers.wet, 0.3, 1.5)
    southerly = drivers.flow_east / _SLOPE_SD
    air = np.sqrt(1.0 - _SOUTHERLY**2) * drivers.air + _SOUTHERLY * southerly
    place = (northward + maritime - LAPSE_RATE * (points.elevation - climate.elevation))[:, None, :]
    bias = faults.temperature + faults.winter_temperature * winter(hours)
    mean = (climate.mean_temperature(hours) + seasonal("taken", hours) + bias)[:, None, None]
    found = mean + place + city + swing + seasonal("temperature_sd", hours)[:, None, None] * air - cold + hot - cooling
    return found, swing, cooling


def _visibility(points: Points, hours: Floats, humidity: Floats, depression: Floats, speed: Floats, rain: Floats) -> Floats:
    """Visibility, m, from the extinction by haze, fog and rain (Koschmieder 1924; rain after Atlas 1953).

    Haze swells with humidity and is thickest in winter; fog needs saturated calm air.
    """
    haze = 0.22 + 0.12 * (1.0 + winter(hours)[:, None, None]) * (1.0 - 0.6 * points.relief)
    haze = haze * (0.7 + 2.0 * np.clip((humidity - 70.0) / 30.0, 0.0, 1.0) ** 3)  # per km
    fog = 8.0 * np.clip(0.4 + winter(hours), 0.0, 1.0)[:, None, None] * expit((0.75 - depression) / 0.10) * expit((2.2 - speed) / 0.4)
    falling = 0.34 * rain**0.63
    return np.asarray(1000.0 * np.clip(3.912 / (haze + fog + falling), 0.05, 40.0))


def temperature(climate: Climate, points: Points, hours: Floats, drivers: Drivers, faults: Faults = Faults()) -> Floats:
    """Temperature at 2 m at instants, degree_Celsius, shape (time, member, point), float32."""
    return np.asarray(_temperature(climate, points, hours, drivers, faults)[0], dtype=np.float32)


def instants(climate: Climate, points: Points, hours: Floats, drivers: Drivers, faults: Faults = Faults()) -> dict[str, Floats]:
    """Weather at instants, in catalog names and units.

    Dew point never passes temperature and gust never falls below wind, by construction.

    Args:
        climate: The climate.
        points: Where.
        hours: Shape (time,).
        drivers: Latent fields and events there and then.
        faults: What is wrong.

    Returns:
        By variable, shape (time, member, point), float32.
    """
    def monthly(name: str) -> Floats:
        return seasonal(name, hours)[:, None, None]

    warmth, swing, cooling = _temperature(climate, points, hours, drivers, faults)
    # The depression follows the day's swing, is small where it is wet or drizzles, and is positive by the softplus.
    depression = (
        climate.depression(hours)[:, None, None] + 0.75 * swing - 1.1 * drivers.wet - cooling + faults.dryness
        + monthly("surge_drying") * (drivers.cold - mean_cold(hours)[:, None, None])
        + 0.7 * faults.heat * (drivers.hot - mean_heat(hours)[:, None, None])
        - 1.5 * np.clip(drivers.drizzle + 0.5, 0.0, 1.5)
    )  # fmt: skip
    depression = np.logaddexp(0.0, depression / 1.2) * 1.2
    dew_point = warmth - depression
    vapour = magnus(dew_point)
    humidity = 100.0 * vapour / magnus(warmth)

    hour = local_hour(hours, points.longitude)
    curve = day_curve(hour)[:, None, :]
    tide = 110.0 * np.cos(2.0 * np.pi * (hour - 9.8) / 12.0)[:, None, :]  # Pa, semidiurnal
    pressure = (
        100.0 * (monthly("pressure") + monthly("pressure_sd") * drivers.flow)
        + 110.0 * (drivers.cold - mean_cold(hours)[:, None, None]) - 40.0 * (drivers.hot - mean_heat(hours)[:, None, None])
        - drivers.fall + tide + faults.pressure
    )  # fmt: skip

    built = 0.35 * faults.city * points.city(climate.latitude, climate.longitude)
    ground = ((1.0 + 0.5 * points.sea - 0.3 * points.relief) * (1.0 - built))[None, None, :] * faults.wind
    strength = (0.85 + 0.35 * curve * (1.0 - points.sea)) * ground
    breeze = 1.8 * points.shore * curve * np.clip(1.0 - winter(hours), 0.0, 1.0)[:, None, None]  # from the sea by day, south-easterly
    exposed = ground * np.where(points.sea > 0.5, 1.0, 0.8)
    east = strength * (monthly("monsoon_east") - _GEOSTROPHIC * drivers.flow_north - 0.45 * drivers.rush) - 0.8 * breeze
    north = strength * (monthly("monsoon_north") + _GEOSTROPHIC * drivers.flow_east - 0.70 * drivers.rush) + 0.6 * breeze
    east, north = east + exposed * drivers.vortex_east, north + exposed * drivers.vortex_north
    speed = np.hypot(east, north)
    shear = 0.12 + (0.12 - 0.10 * curve) * (1.0 - points.sea)  # exponent of the wind profile: weak shear by day, strong at night

    unstable = np.clip(120.0 * (dew_point - 19.0) + 60.0 * (warmth - 27.0) + 250.0 * drivers.wet, 0.0, 5500.0)
    # Water in the column from that at the ground: deeper where it is wet, less above high ground.
    column = np.clip((1.65 + 0.12 * np.clip(drivers.wet, -2.0, 2.0)) * vapour * np.exp(-points.elevation / 2200.0), 2.0, 78.0)
    found = {
        "temperature_2m": warmth,
        "dew_point_temperature_2m": dew_point,
        "relative_humidity_2m": humidity,
        "wind_u_10m": east,
        "wind_v_10m": north,
        "wind_speed_10m": speed,
        "wind_from_direction_10m": np.degrees(np.arctan2(-east, -north)) % 360.0,
        "wind_speed_100m": speed * 10.0**shear,
        "wind_gust_10m": 1.4 * speed + 1.2 + 2.0 * np.sqrt(drivers.rain),
        "pressure_reduced_to_mean_sea_level": pressure,
        "total_cloud_cover_atmosphere": 100.0 * cloud_fraction(hours, drivers.wet, drivers.drizzle, faults),
        "convective_available_potential_energy": unstable * (1.0 - 0.4 * np.tanh(drivers.rain / 5.0)),
        "precipitable_water": column,
        "visibility": _visibility(points, hours, humidity, depression, speed, drivers.rain),
    }
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}
