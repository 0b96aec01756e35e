"""A cycle as a Prefect flow, on a real server started for the test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipelines.conftest import TRAINING_DAYS, clean_environment, giomua

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
}


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
    assert "cycle" in artifacts
