"""Every registered source of GRIB files, delivered by a server in its provider's layout: whole, and with everything wrong at once."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import NotAvailableError
from data_catalog.settings import load_settings
from data_catalog.sources import registry
from data_catalog.sources.base import GridSource
from data_catalog.sources.gribfiles import GribSource
from data_catalog.variables import VARIABLES
from tests.data_catalog.sources.grid_contract import DeliveryContract, init_time, pool, server

__all__ = ["init_time", "pool", "server"]
SOURCES = {name: source for name, source in registry.grid_sources(load_settings()).items() if isinstance(source, GribSource)}


class TestEverySource(DeliveryContract):
    @pytest.fixture(params=SOURCES)
    def source(self, request: pytest.FixtureRequest) -> GribSource:
        return SOURCES[request.param]


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_declares_what_can_be_held_against_it(name: str) -> None:
    source, spec = SOURCES[name], SOURCES[name].spec
    assert isinstance(source, GridSource)
    assert spec.dataset == name == name.lower()
    assert spec.simulated == name.startswith("simulated-")
    assert spec.licence
    assert list(spec.lead_hours) == sorted(set(spec.lead_hours))
    assert set(spec.not_at_start) <= set(spec.variables) <= set(VARIABLES)
    assert all(host.connections >= 1 and (spec.simulated or host.url.startswith("https://")) for host in spec.hosts)
    for hour in spec.cycles:
        init_time = np.datetime64("2019-03-01" if spec.until else "2026-08-01", "ns") + np.timedelta64(hour, "h")
        spec.check(init_time)
        keys = source.expected(init_time)
        assert {key.member for key in keys} == set(range(spec.members))
        assert {key.lead_hours for key in keys} <= set(spec.lead_hours)
        assert not any(VARIABLES[key.variable].has_interval for key in keys if key.lead_hours == 0)
        assert all(len(set(source.places(init_time, key))) >= 1 for key in keys)
        assert spec.newest_due(init_time + np.timedelta64(round(spec.delay_hours * 60), "m")) == init_time
    with pytest.raises(NotAvailableError, match="its cycles are at"):
        spec.check(np.datetime64("2026-08-01T01:30", "ns"))


def test_what_contributing_shows_is_a_real_source_of_under_80_lines() -> None:
    root = Path(__file__).parents[3]
    real = (root / "data_catalog" / "sources" / "reforecast.py").read_text(encoding="utf-8")
    section = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a source")[2].partition("\n### ")[0]
    shown = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    assert all(block in real for block in shown)
    assert len(real.splitlines()) < 80


def test_the_readme_names_every_live_source() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:noaa|ecmwf|dwd|dynamical)-[a-z0-9-]+)`", text.partition("## Live sources")[2].partition("\n## ")[0]))
    assert {name for name in registry.grid_sources(load_settings()) if not name.startswith("simulated-")} == named
