"""Every registered source of GRIB files, delivered by a server in its provider's layout, whole and with everything that goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.settings import load_settings
from data_catalog.sources import registry
from data_catalog.sources.gribfiles import GribSource
from tests.data_catalog.sources.grid_contract import DeliveryContract, FaultContract, pool, server

__all__ = ["pool", "server"]
SOURCES = {name: source for name, source in registry.grid_sources(load_settings()).items() if isinstance(source, GribSource)}


@pytest.fixture
def init_time(source: GribSource) -> np.datetime64:
    until = source.spec.until
    return np.datetime64("2026-08-01T00" if until is None else until, "ns")


class TestEverySource(DeliveryContract):
    @pytest.fixture(params=SOURCES)
    def source(self, request: pytest.FixtureRequest) -> GribSource:
        return SOURCES[request.param]


class TestEveryFault(FaultContract):
    """A text index, a JSON index, and none."""

    @pytest.fixture(params=["noaa-gefs-0p25", "ecmwf-ifs-ens", "dwd-icon-eps"])
    def source(self, request: pytest.FixtureRequest) -> GribSource:
        return SOURCES[request.param]
