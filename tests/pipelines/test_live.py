"""The commands on a live source: a whole cycle from a server in its provider's layout, late, broken and complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from data_catalog.manifest import Manifest
from data_catalog.settings import load_settings
from data_catalog.sources import registry
from data_catalog.sources.gribfiles import GribSource
from data_catalog.store import Root
from pipelines import cycle, doctor
from pipelines.cli import app
from pipelines.inputs import gather
from tests.data_catalog.sources.provider import Cycle, Server, serving

AIFS = "ecmwf-aifs-single"
INIT = np.datetime64("2026-08-01T06", "ns")
NOW = np.datetime64("2026-08-01T13", "ns")
LAST = "20260801/06z/aifs-single/0p25/oper/20260801060000-240h-oper-fc.grib2"


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[Server, Cycle]]:
    source = registry.grid_source(load_settings(), AIFS)
    assert isinstance(source, GribSource)
    with serving() as server:
        yield server, Cycle(source, INIT)


@pytest.fixture
def server(provider: tuple[Server, Cycle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A whole cycle of AIFS, whose address and mirror the settings name; it is seven hours old."""
    found, made = provider
    found.files, found.faults = made.files(), {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIOMUA_SOURCE_URLS", json.dumps({AIFS: f"{found.url},{found.url}/mirror"}))
    monkeypatch.setenv("GIOMUA_SOURCES", json.dumps([AIFS]))
    for module in (cycle, doctor):
        monkeypatch.setattr(module, "now", lambda: NOW)
    return found


def giomua(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*words, "--json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout else done.stderr


def standing() -> dict[str, Any]:
    code, report = giomua("status")
    assert code == 0
    (source,) = report["sources"]
    return source


def test_a_cycle_comes_late_and_broken_and_is_completed(server: Server) -> None:
    assert standing() | {"newest": None, "late": True, "due": "20260801T06Z", "cycles": 0} == standing()
    whole = dict(server.files)
    del server.files[LAST]
    code, first = giomua("ingest", AIFS)
    assert code == 3, "degraded"
    assert first["init_time"] == "20260801T06Z", "the newest that is usually there by now"
    assert {field["lead_hours"] for field in first["missing"]} == {240}
    assert all("There is no object" in field["reason"] for field in first["missing"])
    shown = CliRunner().invoke(app, ["ingest", AIFS]).stdout
    assert ", 8 missing, 0 quarantined" in shown
    assert "240h-oper-fc" in shown
    source = standing()
    assert (source["newest"], source["late"], source["complete"], source["usual_delay_hours"]) == ("20260801T06Z", False, False, 6.4)
    assert source["missing_variables"] == dict.fromkeys(source["missing_variables"], 1)
    assert (len(source["missing_variables"]), source["missing_members"]) == (8, [0])
    text = CliRunner().invoke(app, ["status"]).stdout
    assert "in time" in text
    assert "missing dew_point_temperature_2m (1)" in text
    server.files = whole
    code, last = giomua("ingest", AIFS)
    assert code == 0
    assert (last["revision"], last["missing"], last["quarantined"]) == (1, [], [])
    assert len(first["taken"]) + len(first["missing"]) == 8 * 41 - 2
    assert standing()["complete"]
    assert giomua("ingest", AIFS)[1]["taken"] == [], "nothing twice"


@pytest.mark.parametrize(("late", "used"), [(0, True), (40, True), (61, False)])
def test_a_revision_that_starts_at_its_cut_off_uses_what_it_finds(
    server: Server, monkeypatch: pytest.MonkeyPatch, late: int, used: bool
) -> None:
    deadline = cycle.deadline_of(INIT, 7.0)
    assert deadline == NOW
    monkeypatch.setattr(cycle, "now", lambda: NOW + np.timedelta64(late, "m"))
    settings = load_settings()
    root, region = Root.open(settings), settings.load_region()
    with Manifest.open(settings.manifest) as manifest:
        assert cycle.fetch(settings, root, manifest, region, AIFS, INIT, cycle.silent, deadline) == []
        found = gather(root, manifest, region, (AIFS,), INIT, available_before=deadline)
        assert (found is not None) is used
        assert gather(root, manifest, region, (AIFS,), INIT) is not None, "for a later revision it is there"


def test_the_next_cycle_is_due_later(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    giomua("ingest", AIFS)
    monkeypatch.setattr(doctor, "now", lambda: NOW + np.timedelta64(6, "h"))
    assert {name: standing()[name] for name in ("newest", "due", "late")} == {"newest": "20260801T06Z", "due": "20260801T12Z", "late": True}
    assert "late, 20260801T12Z is due" in CliRunner().invoke(app, ["status"]).stdout


def test_a_cycle_that_is_not_there_is_one_sentence(server: Server) -> None:
    server.files = {}
    done = CliRunner().invoke(app, ["ingest", AIFS, "--init-time", "2026-08-01T06"])
    assert done.exit_code == 1
    assert "has no cycle 2026-08-01T06Z yet" in str(done.exception)
    done = CliRunner().invoke(app, ["ingest", AIFS, "--init-time", "2026-08-01T07"])
    assert done.exit_code == 1
    assert "its cycles are at 00, 06, 12, 18 UTC, from 2025-02-25T06Z to now" in str(done.exception)


def test_doctor_asks_every_place_for_the_cycle_that_is_due(server: Server) -> None:
    code, report = giomua("doctor")
    checks = {check["check"]: check for check in report["checks"] if check["check"].startswith("source")}
    first, mirror = (f"source {AIFS} at {server.url}{folder}" for folder in ("", "/mirror"))
    assert (checks[first]["outcome"], checks[first]["detail"]) == ("ok", "has 2026-08-01T06Z")
    assert checks[mirror]["outcome"] == "warn"
    assert "There is no object" in checks[mirror]["detail"]
    assert code == 3
    assert len(server.requests) < 700, "a probe is one request"
