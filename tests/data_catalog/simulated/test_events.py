"""Events: functions of their slots, seen by forecasts as well as can be, and of the right shape."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.simulated import events
from data_catalog.simulated.climate import hours_since_1970
from data_catalog.simulated.events import HEAT, STALL, SURGE, TYPHOON
from data_catalog.simulated.places import Points
from data_catalog.simulated.slots import ONSET, SIZE, Kind, Sight

KINDS = (SURGE, HEAT, TYPHOON, STALL)
HANOI = Points(np.array([21.03]), np.array([105.84]), np.array([6.0]))
BIG = np.array([[480_000.0, 40.0, 20.3, 288.0, 18.0]])


def hours(count: float) -> np.ndarray:
    return BIG[0, ONSET] + np.arange(-count, count)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_an_event_is_a_function_of_world_and_slot(kind: Kind) -> None:
    for slot in range(2000, 2020):
        assert np.array_equal(kind.true(1, slot), type(kind)().true(1, slot))
        assert kind.hours * slot <= kind.true(1, slot)[ONSET] < kind.hours * (slot + 1)
    drawn = [kind.true(1, slot)[ONSET] for slot in range(2000, 2020)]
    assert drawn != [kind.true(2, slot)[ONSET] for slot in range(2000, 2020)]
    assert drawn != [kind.other(1, 5, 0, slot)[ONSET] for slot in range(2000, 2020)]


def test_typhoons_come_in_their_season_as_often_as_they_do() -> None:
    slots = range(int(50 * 8766 / TYPHOON.hours))
    drawn = np.array([TYPHOON.true(1, slot)[:2] for slot in slots])
    landfalls = drawn[drawn[:, SIZE] > 0, ONSET]
    assert landfalls.size / 50 == pytest.approx(1.33, abs=0.4)
    month = (landfalls % 8766 / 730.5).astype(int)
    assert set(month) <= {5, 6, 7, 8, 9, 10}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_a_forecast_at_short_range_sees_what_comes_and_at_long_range_something_else(kind: Kind) -> None:
    slots = [slot for slot in range(1500, 3500) if kind.true(1, slot)[SIZE] > 0][:60]

    def seen(lead: float) -> float:
        found = []
        for slot in slots:
            init = np.floor((kind.true(1, slot)[ONSET] - lead) / 24.0) * 24.0
            members = Sight(1, 1, (1,), float(init), 8, 0.5).events(kind, slot)
            found.append(np.mean(np.abs(members[:, ONSET] - kind.true(1, slot)[ONSET]) < 24.0) * np.mean(members[:, SIZE] > 0))
        return float(np.mean(found))

    assert seen(12.0) > 0.6
    assert seen(480.0) < 0.5 * seen(12.0)


def test_false_alarms_are_as_likely_as_the_climate_has_events() -> None:
    slots = range(1500, 2300)
    sizes = [Sight(1, 1, (1,), TYPHOON.hours * slot - 2000.0, 1, 1.0).events(TYPHOON, slot)[0, SIZE] for slot in slots]
    true = [TYPHOON.true(1, slot)[SIZE] for slot in slots]
    assert np.mean(np.array(sizes) > 0) == pytest.approx(np.mean(np.array(true) > 0), abs=0.025)


def test_more_centres_know_more() -> None:
    slot = next(slot for slot in range(2400, 2600) if SURGE.true(1, slot)[SIZE] > 2)
    onset = float(SURGE.true(1, slot)[ONSET])
    spreads = []
    for centres in ((1,), (1, 2, 3, 4)):
        sights = [Sight(1, 60, centres, float(np.floor((onset - lead) / 24) * 24), 60, 1.0) for lead in (30, 54, 78, 102)]
        spreads.append(np.mean([np.std(sight.events(SURGE, slot)[:, ONSET]) for sight in sights]))
    assert spreads[1] < spreads[0]


def test_a_surge_falls_within_hours_and_comes_from_the_north_east() -> None:
    parameters = np.array([[480_000.0, 6.0]])
    cold, rush = events.surge(480_000.0 + np.arange(0.0, 200.0), HANOI, parameters)
    peak = int(cold[:, 0, 0].argmax())
    assert 12 < peak < 30
    assert cold[:, 0, 0].max() == pytest.approx(4.9, abs=1.3)
    assert rush[150, 0, 0] < 0.05 * rush.max()
    lang_son = Points(np.array([21.85]), np.array([106.76]), np.array([250.0]))
    assert events.surge(np.array([480_000.0]), lang_son, parameters)[0] > events.surge(np.array([480_000.0]), HANOI, parameters)[0]


def test_heat_builds_up_slowly_and_ends_sharply() -> None:
    course = events.heat(480_000.0 + np.array([-100.0, -50.0, -1.0, 1.0, 12.0]), HANOI, np.array([[480_000.0, 4.0]]))[:, 0, 0]
    assert (np.diff(course[:3]) > 0).all()
    assert course[4] < 0.25 * course[2]


def test_a_typhoon_is_a_vortex() -> None:
    """Lowest pressure in the centre, winds anticlockwise around it, rain near it and a dry ring far out."""
    latitude, longitude = np.arange(24.0, 16.0, -0.25), np.arange(102.0, 111.0, 0.25)
    around = Points.grid(latitude, longitude)
    vortex = events.typhoon(np.array([480_000.0]), around, BIG)
    fall, east, north, latent = (part[0, 0] for part in (vortex.fall, vortex.east, vortex.north, vortex.latent))
    centre = int(fall.argmax())
    assert around.latitude[centre] == pytest.approx(20.3, abs=0.3)
    assert around.longitude[centre] == pytest.approx(106.6, abs=0.3)
    x, y = (around.longitude - 106.6), (around.latitude - 20.3)
    near = (np.hypot(x, y) > 0.5) & (np.hypot(x, y) < 3)
    assert np.mean((x * north - y * east)[near] > 0) > 0.95
    assert 25 < np.hypot(east, north).max() < 45
    assert latent[centre] > 1
    assert latent.min() < -0.2


def test_a_typhoon_dies_inland_and_begins_and_ends_smoothly() -> None:
    vortex = events.typhoon(hours(100), HANOI, BIG)
    fall = vortex.fall[:, 0, 0]
    assert fall[0] == 0
    assert fall[-1] == 0
    assert np.abs(np.diff(vortex.latent[:, 0, 0])).max() < 0.25
    assert 500 < fall.max() < 6000


def test_stalled_rain_stays_where_it_is() -> None:
    parameters = np.array([[480_000.0, 1.6, 36.0, 21.0, 105.8]])
    far = Points(np.array([21.0, 21.0]), np.array([105.8, 108.8]), np.zeros(2))
    latent = events.stall(480_000.0 + np.arange(-10.0, 50.0), far, parameters)[:, 0]
    assert latent[:10].max() == 0
    assert latent[46:].max() < 1e-6
    assert latent[28, 0] == pytest.approx(1.6, rel=0.01)
    assert latent[28, 1] < 0.01


def test_mean_cold_and_heat_are_what_years_of_events_give() -> None:
    time = hours_since_1970(np.datetime64("1980-01-01")) + np.arange(0.0, 30 * 8766.0, 6.0)
    cold, warm = np.zeros(time.size), np.zeros(time.size)
    for kind, total in ((SURGE, cold), (HEAT, warm)):
        for slot in kind.slots(time):
            parameters = kind.true(1, slot)[None]
            if parameters[0, SIZE] > 0:
                since = time - parameters[0, ONSET]
                at = np.flatnonzero((since > -kind.before) & (since < kind.after))
                pulse = events.surge(time[at], HANOI, parameters)[0] if kind is SURGE else events.heat(time[at], HANOI, parameters)
                total[at] += pulse[:, 0, 0]
    winter = np.isin((time % 8766 / 730.5).astype(int), (11, 0, 1))
    summer = np.isin((time % 8766 / 730.5).astype(int), (4, 5, 6, 7))
    assert cold[winter].mean() == pytest.approx(events.mean_cold(time)[winter].mean(), rel=0.1)
    assert warm[summer].mean() == pytest.approx(events.mean_heat(time)[summer].mean(), rel=0.2)
