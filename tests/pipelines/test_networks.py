from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data_catalog.manifest import Manifest
from data_catalog.settings import load_settings
from pipelines.cli import app
from pipelines.cycle import is_forecast
from pipelines.networks import network_status, reach_network, render_networks

NOW = np.datetime64("2025-08-26T12:00")
HEADER = "station,time [UTC+07:00],precipitation_amount [mm in 10 min],temperature_2m [°C]\n"


def drop(root: Path, name: str, *lines: str) -> None:
    folder = root / "inbox" / "gauges"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def observe(root: Path, *arguments: str, code: int) -> dict[str, object]:
    found = CliRunner().invoke(app, ["observe", "--root", str(root), "--json", "--until", "2025-08-26T12Z", *arguments])
    assert found.exit_code == code, found.output
    return dict(json.loads(found.stdout))


def test_observe_reads_the_networks_it_is_told_and_says_what_was_wrong(tmp_path: Path) -> None:
    """Exit code 3 with a damaged line, 0 once it was seen, and the rain is in the archive."""
    drop(tmp_path, "a.csv", "lang,2025-08-26 10:10,4.2,26.3", "lang,2025-08-26 10:20,,99.0", "lang,2025-08-26,1,2")
    drop(tmp_path, "b.csv", "ha_dong,2025-08-26 10:10,1,27")
    first = observe(tmp_path, "gauges", code=3)
    gauges = first["networks"]["gauges"]  # type: ignore[index]
    assert gauges["reports"] == 3
    assert gauges["flagged"] == {"out_of_range": 1}
    assert [(row["part"], Path(row["file"]).name) for row in gauges["quarantined"]] == [(4, "a.csv")]
    assert (tmp_path / gauges["quarantined"][0]["kept"]).is_file()
    again = observe(tmp_path, "gauges", code=0)
    assert again["networks"]["gauges"]["months"] == []  # type: ignore[index]


def test_a_network_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    drop(tmp_path, "a.csv", "lang,2025-08-26 10:10,4.2,26.3")
    found = observe(tmp_path, "gauges", "synop", code=3)
    assert found["networks"]["gauges"]["reports"] == 1  # type: ignore[index]
    assert "make it" in found["failed"]["synop"]  # type: ignore[index]


def test_an_unknown_network_is_wrong_usage_of_a_name(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["observe", "nowhere", "--root", str(tmp_path)])
    assert found.exit_code == 1
    assert "gauges" in str(found.exception)


def test_the_text_for_people(tmp_path: Path) -> None:
    drop(tmp_path, "a.csv", "lang,2025-08-26 10:10,4.2,26.3", "lang,2025-08-26 10:20,1,warm")
    found = CliRunner().invoke(app, ["observe", "gauges", "--root", str(tmp_path), "--until", "2025-08-26T12Z"])
    assert "gauges: 1 reports; 202508 renewed" in found.stdout
    assert "quarantined: a.csv part 3" in found.stdout


def test_status_of_the_networks(tmp_path: Path) -> None:
    drop(tmp_path, "a.csv", "lang,2025-08-26 16:10,4.2,26.3", "lang,2025-08-26 16:20,,99.0")
    observe(tmp_path, "gauges", code=0)
    settings = load_settings(root=str(tmp_path), networks=("gauges", "metar"))
    with Manifest.open(settings.manifest) as manifest:
        rows = network_status(settings, manifest, NOW)
        assert not any(is_forecast(name) for name in [*manifest.datasets(), "soundings/synop"])
    gauges, metar = rows
    assert (gauges["network"], gauges["newest"], gauges["age_hours"]) == ("gauges", "2025-08-26T09:20Z", 2.7)
    stations = len(settings.load_region().operating)
    assert gauges["flagged"] == pytest.approx(1 / (4 * stations), abs=1e-4)
    assert gauges["missing"] == pytest.approx(1 - 3 / (4 * stations), abs=1e-4)
    assert (metar["newest"], metar["missing"], metar["months"]) == (None, None, 0)
    text = render_networks(rows)
    assert "2.7 h" in text
    assert render_networks([]) == ""
    status = CliRunner().invoke(app, ["status", "--root", str(tmp_path), "--json"])
    assert [row["network"] for row in json.loads(status.stdout)["networks"]] == ["gauges"]


def test_whether_a_network_can_be_reached(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = load_settings(root=str(tmp_path), source_urls={"wis2": f"mqtt://127.0.0.1:{port}"})
    assert reach_network(settings, "simulated-stations", NOW)[0] == "ok"
    outcome, detail = reach_network(settings, "wis2", NOW)
    assert (outcome, "cannot be reached" in detail) == ("warn", True)
    outcome, detail = reach_network(settings, "gauges", NOW)
    assert (outcome, "make it" in detail) == ("warn", True)
    drop(tmp_path, "a.csv", "lang,2025-08-26 16:10,4.2,26.3")
    assert reach_network(settings, "gauges", NOW) == ("ok", f"reports of 1 times in the last 6 h in {tmp_path / 'inbox' / 'gauges'}")
    drop(tmp_path, "b.csv", "moon,2025-08-26 16:10,4.2,26.3")
    outcome, detail = reach_network(settings, "gauges", NOW)
    assert (outcome, "moon" in detail) == ("warn", True)
