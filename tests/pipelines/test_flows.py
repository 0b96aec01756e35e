"""A cycle as a Prefect flow, and the deployments of prefect.yaml on a work pool, on a real server started for the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from data_catalog.errors import ConfigurationError
from data_catalog.manifest import Manifest
from pipelines.deploy import read_plan
from tests.tiny import INIT, KEY, TRAINING_DAYS, clean_environment, giomua, tiny_settings

pytestmark = pytest.mark.slow

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
}


PLAN = Path(__file__).parents[2] / "prefect.yaml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect server of our own."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    environment = clean_environment(PREFECT_HOME=str(home), **QUIET)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        url = f"http://127.0.0.1:{port}/api"
        deadline = time.monotonic() + 120
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=2).close()
                    break
                except (urllib.error.URLError, OSError):
                    if server.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(f"the Prefect server did not start: {(home / 'log').read_text()[-2000:]}")
                    time.sleep(0.5)
            yield url
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=30)


def ask(url: str, path: str) -> list[dict[str, object]]:
    request = urllib.request.Request(f"{url}/{path}/filter", data=b"{}", headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: list[dict[str, object]] = json.load(answer)
    return found


@pytest.mark.timeout(400)
def test_the_server_shows_the_flow_run(prefect_url: str, fresh_root: Callable[[], Path], tmp_path: Path) -> None:
    root = fresh_root()
    made = giomua(
        "run", "--root", str(root), "--profile", "tiny", "--init-time", "2025-07-10T00Z", "--json",
        cwd=tmp_path,
        environment={"PREFECT_API_URL": prefect_url, "GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS), **QUIET},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert not json.loads(made.stdout)["degraded"]
    runs = {str(run["name"]): run for run in ask(prefect_url, "flow_runs")}
    assert runs["cycle 20250710T00Z"]["state_name"] == "Completed"
    tasks = {str(task["name"]) for task in ask(prefect_url, "task_runs")}
    assert {"ingest simulated-global-eps 20250710T00Z", "observe 20250710T00Z", "publish 20250710T00Z"} <= tasks
    artifacts = {str(artifact["key"]) for artifact in ask(prefect_url, "artifacts")}
    assert {"cycle", "skill", "forecast"} <= artifacts
    with Manifest.open(tiny_settings(root).manifest) as manifest:
        latest = manifest.latest("simulated-global-eps", KEY)
    assert latest is not None
    assert latest.available_time == INIT + np.timedelta64(4, "h"), "simulated runs are at hand after their usual delay, by flow as without"


@pytest.mark.parametrize(
    ("time", "cutoff", "key"),
    [
        ("2025-07-10T04:00", 4.0, "20250710T00Z"), ("2025-07-10T09:59", 4.0, "20250710T00Z"), ("2025-07-10T01:00", 7.0, "20250709T18Z"),
        ("2025-07-10T03:00:01", 9.0, "20250709T18Z"), ("2025-07-10T05:30", 0.0, "20250710T00Z"),
    ],
)  # fmt: skip
def test_a_scheduled_run_knows_its_cycle(time: str, cutoff: float, key: str) -> None:
    from pipelines.flows import scheduled_cycle

    assert scheduled_cycle(np.datetime64(time), cutoff) == key


def test_every_cut_off_is_scheduled_for_its_own_cycle() -> None:
    from pipelines.flows import scheduled_cycle

    found = {}
    for one in read_plan(PLAN)["deployments"]:
        for schedule in one.get("schedules", ()) if "cutoff_hours" in one.get("parameters", {}) else ():
            minute, hours = schedule["cron"].split()[:2]
            cutoff = one["parameters"]["cutoff_hours"]
            found[cutoff] = {
                scheduled_cycle(np.datetime64(f"2025-07-10T{int(hour):02d}:{int(minute):02d}"), cutoff)[9:] for hour in hours.split(",")
            }
    assert found == {cutoff: {"00Z", "06Z", "12Z", "18Z"} for cutoff in (4, 7, 9)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "cannot be read as YAML"), ("name: x", "has no deployments"),
        ("deployments: [{name: a, entrypoint: b, work_pool: {name: c}, cron: x}]", "The deployment a in .* has cron; understood are"),
        ("deployments: [{entrypoint: b}]", "The deployment number 1 in .* lacks name, work_pool"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_used_says_why(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_plan(path)


@pytest.mark.timeout(400)
def test_deployed_flows_run_on_a_work_pool(prefect_url: str, fresh_root: Callable[[], Path], tmp_path: Path) -> None:
    root = fresh_root()
    chosen = {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path / "home"), "GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS),
              "GIOMUA_DECODE_WORKERS": "1", **QUIET}  # fmt: skip
    for _ in range(2):  # again is no fault
        made = giomua("deploy", "--root", str(root), "--file", str(PLAN), "--json", cwd=tmp_path, environment=chosen)
        assert made.returncode == 0, made.stderr
    named = json.loads(made.stdout)["deployments"]
    known = {str(one["name"]): one for one in ask(prefect_url, "deployments")}
    assert len(named) == len(known) == 9
    schedules = cast("list[dict[str, dict[str, str]]]", known["r1"]["schedules"])
    assert [one["schedule"]["cron"] for one in schedules] == ["0 1,7,13,19 * * *"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "giomua", "--type", "process"],
        env=clean_environment(**chosen), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        asked = ("--profile", "tiny", "--from", "2025-07-10T00Z", "--to", "2025-07-10T00Z", "--on", "prefect", "--json")
        done = giomua("backfill", "--root", str(root), *asked, cwd=tmp_path, environment=chosen)
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(timeout=60)
        except subprocess.TimeoutExpired:  # how it ends is Prefect's
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"done": ["20250710T00Z"], "degraded": [], "failed": {}}
    assert json.loads((root / "published" / "latest.json").read_text())["init_time"] == "2025-07-10T00:00:00Z"


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/api"
    made = giomua("deploy", "--root", str(tmp_path), "--file", str(PLAN), cwd=tmp_path, environment={"PREFECT_API_URL": nowhere, **QUIET})
    assert made.returncode == 1
    assert f"No Prefect server answers at {nowhere}" in made.stderr
