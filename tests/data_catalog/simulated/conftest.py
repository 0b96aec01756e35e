"""One region, one world and a few places, made once."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.regions import load_region
from data_catalog.simulated.climate import Climate
from data_catalog.simulated.places import Points
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases


@pytest.fixture(scope="session")
def climate() -> Climate:
    return Climate.of(load_region())


@pytest.fixture(scope="session")
def truth(climate: Climate) -> Truth:
    return Truth(climate, seed=1)


@pytest.fixture(scope="session")
def gauges(climate: Climate) -> Bases:
    """Láng and Thái Nguyên."""
    stations = [station for station in load_region().stations if station.id in ("lang", "thai_nguyen")]
    return Bases.at(climate, Points.stations(stations))


@pytest.fixture(scope="session")
def cells(climate: Climate) -> Bases:
    """The region's whole grid, 19 x 33."""
    region = load_region()
    return Bases.at(climate, Points.grid(region.latitude, region.longitude))


@pytest.fixture(scope="session")
def few_cells(climate: Climate) -> Bases:
    """Nine cells around Hanoi."""
    return Bases.at(climate, Points.grid(np.array([21.25, 21.0, 20.75]), np.array([105.5, 105.75, 106.0])))
