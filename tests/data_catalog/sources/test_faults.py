"""What goes wrong with files and servers, one thing at a time, for a layout with a text index, one with a JSON index, and one without."""

from __future__ import annotations

import pytest

from data_catalog.settings import load_settings
from data_catalog.sources import registry
from data_catalog.sources.gribfiles import GribSource
from tests.data_catalog.sources.grid_contract import FaultContract, init_time, pool, server

__all__ = ["init_time", "pool", "server"]


class TestEveryFault(FaultContract):
    @pytest.fixture(params=["noaa-gefs-0p25", "ecmwf-ifs-ens", "dwd-icon-eps"])
    def source(self, request: pytest.FixtureRequest) -> GribSource:
        found = registry.grid_source(load_settings(), request.param)
        assert isinstance(found, GribSource)
        return found
