"""Cold, heat and comfort on members whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.comfort import Weather, comfort, relative_humidity, runs_of, wet_bulb, whole_days

COLD, HEAT = (20.0, 15.0, 13.0), (35.0, 37.0, 39.0)


def days_of(means: list[list[float]], dew_point: float = 5.0, rain: float = 0.0, humidity: float = 50.0, swing: float = 0.0) -> Weather:
    """Members with these daily means (day, member), three-hourly, from a local midnight at hour 0."""
    daily = np.array(means)
    hours = np.arange(0, 24 * daily.shape[0] + 1, 3).astype(float)
    day = np.clip(np.ceil(hours / 24).astype(int) - 1, 0, None)
    temperature = daily[day] + swing * np.sin(hours / 24 * 2 * np.pi)[:, None]
    full = np.ones_like(temperature)
    return Weather(hours, temperature, full * dew_point, full * humidity, full * rain, np.full(hours.shape, 3.0))


def test_a_surge_is_the_first_fall_of_five_kelvin() -> None:
    found = comfort(days_of([[25, 25, 25], [20, 21, 25], [14, 16, 25], [14, 16, 19.9]]), 0.0, COLD, HEAT)
    assert found["surge"] == [None, pytest.approx(1 / 3, abs=1e-3), pytest.approx(1 / 3, abs=1e-3), pytest.approx(1 / 3, abs=1e-3)]
    assert found["surge_before_end"][-1] == 1.0


def test_a_spell_needs_three_days_in_the_same_member() -> None:
    means = [[14.0, 15.0], [14.0, 16.0], [14.0, 15.0], [16.0, 15.0]]
    found = comfort(days_of(means), 0.0, COLD, HEAT)
    assert found["cold"][1] == [1.0, 0.5, 1.0, 0.5]
    assert found["spell"][0] == [0.5, 0.5, 0.5, 0.0]
    assert found["cold"][2] == [0.0] * 4
    assert found["cold"][0] == [1.0] * 4


def test_drizzle_is_light_rain_in_damp_air() -> None:
    for rain, humidity, expected in ((0.3, 95.0, 1.0), (0.3, 90.0, 0.0), (0.0, 95.0, 0.0), (0.6, 95.0, 0.0)):
        assert comfort(days_of([[18.0, 18.0]], rain=rain, humidity=humidity), 0.0, COLD, HEAT)["drizzle"] == [expected]


def test_nom_compares_with_the_two_days_before() -> None:
    found = comfort(days_of([[18.0], [18.0], [22.0]], dew_point=19.0), 0.0, COLD, HEAT)
    assert found["nom"] == [None, None, 1.0]
    assert comfort(days_of([[18.0], [20.5], [22.0]], dew_point=19.0), 0.0, COLD, HEAT)["nom"] == [None, None, 0.0]


def test_heat_reaches_its_thresholds() -> None:
    found = comfort(days_of([[35.0, 39.0, 34.9, 37.0]]), 0.0, COLD, HEAT)
    assert found["heat"] == [[0.75], [0.5], [0.25]]


def test_a_day_with_a_gap_is_no_day() -> None:
    hours = np.array([0.0, 6, 12, 18, 24, 27, 36, 42, 48])
    assert [end for end, _ in whole_days(hours, 0.0)] == [24.0]


def test_wet_bulb_of_stulls_example() -> None:
    """Stull (2011): 20 degree_Celsius and 50 % give 13.7."""
    assert wet_bulb(np.array(20.0), np.array(50.0)) == pytest.approx(13.7, abs=0.05)


@given(st.floats(-5, 45), st.floats(0, 25))
def test_wet_bulb_lies_between_dew_point_and_temperature(temperature: float, depression: float) -> None:
    humidity = relative_humidity(np.array(temperature), np.array(temperature - depression))
    assert 0 <= humidity <= 100
    if 10 <= humidity <= 99:
        assert temperature - depression - 1.5 <= wet_bulb(np.array(temperature), humidity) <= temperature + 1.0


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4))
def test_runs_are_those_of_the_text(days: list[bool], length: int) -> None:
    found = runs_of(np.array(days)[:, None], length)[:, 0]
    text = "".join("x" if day else " " for day in days)
    expected = "".join(part if len(part) >= length else " " * len(part) for part in _pieces(text))
    assert "".join("x" if day else " " for day in found) == expected


def _pieces(text: str) -> list[str]:
    pieces = [text[0]]
    for letter in text[1:]:
        if letter == pieces[-1][-1]:
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces
