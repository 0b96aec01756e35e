from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import ConfigurationError
from data_catalog.regions import load_region
from data_catalog.simulated.climate import Climate, day_curve, hours_since_1970, sun_elevation_sine
from data_catalog.simulated.places import Points
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases

MONTH_HOURS = 8766.0 / 12.0
YEARS = 12


def sequence(start: str, count: int) -> np.ndarray:
    return hours_since_1970(np.datetime64(start)) + np.arange(float(count))


@pytest.fixture(scope="module")
def record(truth: Truth, gauges: Bases) -> dict[str, np.ndarray]:
    """Twelve years of hourly truth at two places, (time, station), in pieces so that little memory is needed."""
    hours = sequence("2001-01-01", 24 * int(365.25 * YEARS))
    pieces = [truth.weather(hours[first : first + 24 * 61], gauges) for first in range(0, hours.size, 24 * 61)]
    found = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    found["month"] = np.minimum(hours % 8766.0 / MONTH_HOURS, 11).astype(int)
    return found


def monthly(record: dict[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    return np.array([values[record["month"] == month].mean(axis=0) for month in range(12)])


@given(st.integers(0, 3 * 8766), st.integers(1, 5))
def test_a_field_alone_is_bit_for_bit_the_field_in_a_sequence(truth: Truth, cells: Bases, offset: int, count: int) -> None:
    hours = sequence("2020-01-01", count) + offset
    together = truth.weather(hours, cells)
    alone = truth.weather(hours[-1:], cells)
    for name, values in alone.items():
        assert np.array_equal(values[0], together[name][-1]), name


def test_another_process_computes_the_same_bits() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from data_catalog.regions import load_region\n"
        "from data_catalog.simulated.climate import Climate\n"
        "from data_catalog.simulated.places import Points\n"
        "from data_catalog.simulated.truth import Truth\n"
        "from data_catalog.simulated.weather import Bases\n"
        "region = load_region(); climate = Climate.of(region)\n"
        "bases = Bases.at(climate, Points.grid(region.latitude, region.longitude))\n"
        "weather = Truth(climate, 1).weather(np.array([480000.0]), bases)\n"
        "print(hashlib.sha256(b''.join(weather[name].tobytes() for name in sorted(weather))).hexdigest())\n"
    )
    region = load_region()
    climate = Climate.of(region)
    bases = Bases.at(climate, Points.grid(region.latitude, region.longitude))
    weather = Truth(climate, 1).weather(sequence("1970-01-01", 1) + 480_000.0, bases)
    digest = hashlib.sha256(b"".join(weather[name].tobytes() for name in sorted(weather))).hexdigest()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == digest


@given(st.integers(0, 50 * 8766))
def test_weather_is_physical(truth: Truth, cells: Bases, offset: int) -> None:
    hours = np.array([200_000.0 + offset])
    weather = truth.weather(hours, cells)
    assert all(np.isfinite(values).all() for values in weather.values())
    assert (weather["dew_point_temperature_2m"] <= weather["temperature_2m"]).all()
    assert (weather["wind_gust_10m"] >= np.hypot(weather["wind_u_10m"], weather["wind_v_10m"])).all()
    assert (weather["precipitation_amount"] >= 0).all()
    cloud = weather["total_cloud_cover_atmosphere"]
    assert ((cloud >= 0) & (cloud <= 100)).all()
    sun, before = (sun_elevation_sine(hour, cells.points) for hour in (hours, hours - 1.0))
    night = (sun < 0) & (before < 0)
    radiation = weather["downward_short_wave_radiation_flux_surface"]
    assert (radiation[night] == 0).all()
    assert (radiation >= 0).all()
    assert (radiation < 900).all()


def test_another_world_has_other_weather(climate: Climate, truth: Truth, cells: Bases) -> None:
    hours = sequence("2020-01-01", 3)
    other = Truth(climate, seed=2).weather(hours, cells)
    for name, values in truth.weather(hours, cells).items():
        if name != "downward_short_wave_radiation_flux_surface":  # night is night in every world
            assert not np.array_equal(values, other[name]), name


@pytest.mark.slow
def test_monthly_temperature_and_rain_are_near_the_normals(climate: Climate, record: dict[str, np.ndarray]) -> None:
    temperature = monthly(record, record["temperature_2m"])[:, 0]
    assert temperature == pytest.approx(np.array(climate.temperature), abs=0.9)
    totals = monthly(record, record["precipitation_amount"]).mean(axis=1) * MONTH_HOURS
    # Twelve years of convective rain leave a single month uncertain by a third; seasons and the year are known better.
    assert totals == pytest.approx(np.array(climate.rain), rel=0.35, abs=14)
    for months, tolerance in (((11, 0, 1, 2, 3), 0.25), ((4, 5, 6, 7, 8), 0.15), (tuple(range(12)), 0.10)):
        wanted = sum(climate.rain[month] for month in months)
        assert totals[list(months)].sum() == pytest.approx(wanted, rel=tolerance)


@pytest.mark.slow
def test_rain_comes_in_some_days_and_some_of_them_are_heavy(record: dict[str, np.ndarray]) -> None:
    daily = record["precipitation_amount"].reshape(-1, 24, 2).sum(axis=1)
    wet = (daily >= 1).sum(axis=0).mean() / YEARS
    assert 95 < wet < 125  # the record: 114 to 118
    assert 20 < (daily >= 16).sum(axis=0).mean() / YEARS < 38  # 33
    assert 3 < (daily >= 50).sum(axis=0).mean() / YEARS < 10  # 8.8
    month = record["month"][::24]
    days = (daily >= 1).mean(axis=1)
    assert days[np.isin(month, (5, 6, 7))].mean() > 2 * days[np.isin(month, (11, 0, 1))].mean()
    wet_days = daily[:, 0] >= 1
    assert wet_days[1:][wet_days[:-1]].mean() > wet_days[1:][~wet_days[:-1]].mean() + 0.05
    amounts = np.sort(daily[daily[:, 0] >= 1, 0])
    assert amounts.mean() > 1.8 * np.median(amounts)  # skewed
    hourly = record["precipitation_amount"][:, 0]
    assert 0.02 < (hourly >= 0.1).mean() < 0.15


@pytest.mark.slow
def test_seasons_and_hours_are_those_of_hanoi(climate: Climate, record: dict[str, np.ndarray]) -> None:
    temperature = record["temperature_2m"][:, 0].reshape(-1, 24)
    month = record["month"][::24]
    means = temperature.mean(axis=1)
    spread = {name: means[month == number].std() for name, number in (("january", 0), ("july", 6))}
    assert 2.0 < spread["january"] < 3.6  # the record: 3.3
    assert 0.9 < spread["july"] < 2.0  # 1.8
    for number, wanted in enumerate(climate.range):
        swing = temperature[month == number].max(axis=1).mean() - temperature[month == number].min(axis=1).mean()
        assert swing == pytest.approx(wanted, abs=2.4)
    summer = record["precipitation_amount"][:, 0].reshape(-1, 24)[np.isin(month, (5, 6, 7))].mean(axis=0)
    afternoon, morning = summer[[7, 8, 9, 10, 11, 12]].mean(), summer[[0, 1, 2, 3, 4, 5]].mean()  # 14-20 and 7-13 ICT
    assert afternoon > 1.3 * morning
    dew, warm = record["dew_point_temperature_2m"], record["temperature_2m"]
    humidity = 100.0 * np.exp(17.625 * dew / (243.04 + dew) - 17.625 * warm / (243.04 + warm))
    assert monthly(record, humidity)[:, 0] == pytest.approx(np.array(climate.humidity), abs=4.0)
    pressure = monthly(record, record["pressure_reduced_to_mean_sea_level"])[:, 0] / 100.0
    assert pressure[0] - pressure[6] == pytest.approx(17.0, abs=3.0)
    falls = np.diff(means)
    winter = np.isin(month[1:], (10, 11, 0, 1, 2))
    assert (falls[winter] <= -4).sum() / YEARS > 3  # cold surges
    assert (falls[np.isin(month[1:], (5, 6, 7))] <= -4).sum() / YEARS < 2


@pytest.mark.slow
def test_neighbours_agree_more_than_distant_places(truth: Truth, cells: Bases) -> None:
    rain = truth.hourly(sequence("2021-07-01", 24 * 20), cells).rain[:, 0].reshape(-1, 24, 19, 33).sum(axis=1)
    near = np.corrcoef(rain[:, :, :-1].ravel(), rain[:, :, 1:].ravel())[0, 1]
    far = np.corrcoef(rain[:, :, :-8].ravel(), rain[:, :, 8:].ravel())[0, 1]
    assert near > 0.75
    assert far < 0.6
    assert near > far + 0.2


def test_the_day_curve_has_zero_mean_and_unit_range() -> None:
    curve = day_curve(np.arange(0.0, 24.0, 0.05))
    assert curve.mean() == pytest.approx(0.0, abs=1e-9)
    assert np.ptp(curve) == pytest.approx(1.0)
    assert np.argmax(curve) * 0.05 == pytest.approx(14.5, abs=0.1)


def test_hanoi_is_a_plain_and_the_gulf_is_sea() -> None:
    places = Points.grid(np.array([20.0]), np.array([107.5]))
    assert (places.sea > 0.9).all()
    stations = Points.stations(load_region().stations)
    assert (stations.sea < 0.2).all()
    assert (Points.grid(np.array([21.0]), np.array([105.75])).elevation < 20).all()
    assert (Points.grid(np.array([22.5]), np.array([103.5])).elevation > 600).all()


def test_a_region_without_normals_is_refused() -> None:
    bare = load_region().model_copy(update={"normals": {}})
    with pytest.raises(ConfigurationError, match="normals"):
        Climate.of(bare)
