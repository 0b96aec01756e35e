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
from data_catalog.variables import VARIABLES


def sequence(start: str, count: int) -> np.ndarray:
    return hours_since_1970(np.datetime64(start)) + np.arange(float(count))


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
    assert (weather["temperature_2m_max"] >= weather["temperature_2m"]).all()
    assert (weather["temperature_2m_min"] <= weather["temperature_2m"]).all()
    for name, values in weather.items():
        known = VARIABLES[name]
        assert ((values >= known.minimum) & (values <= known.maximum)).all(), name
    assert set(weather) == set(VARIABLES), "every variable of the catalog"
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
