from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from data_catalog.regions import load_region
from data_catalog.simulated.climate import hours_since_1970
from data_catalog.simulated.places import Points
from data_catalog.simulated.simulator import Simulator
from data_catalog.simulated.weather import Bases, Faults
from data_catalog.simulated.world import CENTRES, PUBLISHED, World

STATIONS = load_region().stations
HIDDEN = World.of(7, STATIONS)


def test_the_published_world_has_the_centres_that_are_written_down() -> None:
    world = World.of(PUBLISHED, STATIONS)
    assert world.upgraded is None
    for dataset in CENTRES:
        assert world.centre(dataset, 480_000.0) == CENTRES[dataset]
    assert len({centre.number for centre in CENTRES.values()}) == len(CENTRES)


def test_a_hidden_world_has_other_faults_and_stays_what_it_is() -> None:
    assert World.of(7, STATIONS).centres == HIDDEN.centres
    assert World.of(8, STATIONS).centres != HIDDEN.centres
    for dataset, centre in HIDDEN.centres.items():
        assert centre.faults != CENTRES[dataset].faults
        for one in fields(Faults):
            usual = abs(getattr(CENTRES[dataset].faults, one.name) - one.default)
            assert abs(getattr(centre.faults, one.name) - one.default) <= 2 * usual + 1e-12


def test_one_centre_is_upgraded_within_the_record() -> None:
    assert HIDDEN.upgraded is not None
    dataset, when = HIDDEN.upgraded
    before, after = HIDDEN.centre(dataset, when - 1), HIDDEN.centre(dataset, when + 1)
    assert after.skill > before.skill
    assert abs(after.faults.temperature) < abs(before.faults.temperature)
    for other in set(CENTRES) - {dataset}:
        assert HIDDEN.centre(other, when + 1) == HIDDEN.centre(other, when - 1)
    start, end = hours_since_1970(np.array(["2023-01-01", "2026-01-01"], dtype="datetime64[h]"))
    assert start <= when <= end


def test_one_station_is_moved_and_reads_otherwise_from_then_on(tmp_path: Path) -> None:
    """Its error against the truth steps on that day, and no other station's does."""
    simulator = Simulator(load_region(), PUBLISHED, "default", tmp_path)
    moved, when = simulator.world.moved
    day = np.datetime64("1970-01-01T00", "h") + round(when)
    sides = []
    for first in (day - 20 * 24, day + 1):
        hours = first + np.arange(20 * 24)
        observed = simulator.observations(hours)["pressure_reduced_to_mean_sea_level"].values
        bases = Bases.at(simulator.climate, Points.stations(simulator.region.operating))
        truth = simulator.truth.weather(hours_since_1970(hours), bases)["pressure_reduced_to_mean_sea_level"]
        sides.append(np.nanmedian(observed - truth, axis=0))
    step = np.abs(sides[1] - sides[0])
    number = [station.id for station in simulator.region.operating].index(moved)
    assert step[number] > 3 * np.delete(step, number).max()


def test_another_world_is_published_in_another_folder_and_says_so(tmp_path: Path) -> None:
    one, other = (Simulator(load_region().cut(), seed, "tiny", tmp_path) for seed in (1, 7))
    times = np.datetime64("2024-05-01T00") + np.arange(6)
    assert other.observations(times).attrs["world"] == 7
    assert not np.array_equal(one.observations(times)["temperature_2m"].values, other.observations(times)["temperature_2m"].values)
    with pytest.raises(KeyError):
        other.forecast("nobody", times[0], np.array([21.0, 20.5]), np.array([105.0, 105.5]))
