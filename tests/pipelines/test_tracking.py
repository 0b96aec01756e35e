"""MLflow is told of everything that was trained, and nothing depends on it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_catalog.settings import Settings
from data_catalog.store import Root
from pipelines.promote import promote
from pipelines.train import TrainOptions, list_versions, run_training
from tests.tiny import GIOMUA, INIT, clean_environment, tiny_settings
from tests.training.archives_example import config as example
from tests.training.archives_example import make
from training.backtest import run_backtest
from training.champions import read_champions
from training.experiments import log_backtest, sync, tracking, tracking_uri

OPTIONS = TrainOptions(until=INIT, held_out_days=10)


@pytest.fixture(scope="module")
def told(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose champion and challenger MLflow knows."""
    root = tmp_path_factory.mktemp("told") / "root"
    shutil.copytree(simulated_root, root)
    settings = tiny_settings(root)
    for held_out in (10, 11):
        report = run_training(settings, ["emos"], TrainOptions(until=INIT, held_out_days=held_out))
        assert report.untold == ""
        assert report.logged == (f"emos {report.trained[0]['version']}",)
    return root


def client_of(settings: Settings) -> Any:
    with tracking(settings, "A test") as client:
        return client


def test_a_training_is_a_run(told: Path) -> None:
    settings = tiny_settings(told)
    client = client_of(settings)
    found = client.get_experiment_by_name("giomua/emos")
    assert found.artifact_location.startswith((told / "mlartifacts").as_uri())
    runs = client.search_runs([found.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    rows = {row["version"]: row for row in list_versions(settings)}
    for run in runs:
        row = rows[run.data.tags["version"]]
        assert run.info.run_name == f"emos {row['version']}"
        assert run.data.tags["snapshot"] == row["snapshot"]
        assert run.data.tags["role"] == row["role"]
        assert run.data.tags["mlflow.note.content"].startswith(f"# emos {row['version']}")
        assert run.data.params["sources"] == "simulated-global-eps, simulated-regional-eps"
        assert run.data.metrics["temperature_2m/crps"] == pytest.approx(row["crps"]["temperature_2m"])
        cuts = {"temperature_2m/station_lang/crps", "temperature_2m/season_Jun-Aug/crps"}
        assert {"skill/vs_climatology", "cost/fit_seconds", *cuts} <= set(run.data.metrics)
        assert run.inputs.dataset_inputs[0].dataset.digest == row["snapshot"][:32]
        curve = client.get_metric_history(run.info.run_id, "temperature_2m/by_lead_hours/crps")
        assert len({point.step for point in curve}) == len(curve) > 4
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"card.md", "figures", "model", "environment.txt", "scores_table.json"} <= files
        pictures = {item.path for item in client.list_artifacts(run.info.run_id, "figures/temperature_2m")}
        assert {f"figures/temperature_2m/{name}.svg" for name in ("crps_by_lead", "pit", "reliability", "spread_error")} <= pictures


def test_versions_are_registered_with_their_aliases(told: Path) -> None:
    settings = tiny_settings(told)
    client = client_of(settings)
    roles = read_champions(Root(str(told)))["emos"]
    for role, entry in (("champion", roles.champion), ("challenger", roles.challenger)):
        assert entry is not None
        version = client.get_model_version_by_alias("giomua-emos", role)
        assert version.tags["content_hash"] == entry.content_hash
        assert version.tags["snapshot"] == entry.snapshot
        assert version.description.startswith("# emos")


def test_what_is_known_is_not_told_twice(told: Path) -> None:
    assert sync(tiny_settings(told), Root(str(told))) == []


def test_promotion_moves_the_alias_and_shows_the_assessment(told: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(told, root)
    settings = tiny_settings(root)
    report = promote(settings, "emos", "challenger", force="a test of aliases")
    assert report.untold == ""
    client = client_of(settings)
    champion = client.get_model_version_by_alias("giomua-emos", "champion")
    assert champion.tags["version"] == report.champion
    assert champion.tags["promoted"].endswith("forced: a test of aliases")
    assert "challenger" not in client.get_registered_model("giomua-emos").aliases
    assert "assessment.md" in {item.path for item in client.list_artifacts(champion.run_id)}


def test_a_server_that_does_not_answer_loses_nothing(told: Path, simulated_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(simulated_root, root)
    shutil.copy(told / "mlflow.db", root / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = tiny_settings(root).model_copy(update={"mlflow_url": f"http://127.0.0.1:{port}"})
    report = run_training(away, ["emos"], OPTIONS)
    assert report.logged == ()
    assert f"MLflow at http://127.0.0.1:{port} could not be told (it does not answer)" in report.untold
    assert report.untold.endswith("when it is back: giomua models --sync")
    assert [row["mlflow"] for row in list_versions(away)] == [None]
    assert read_champions(Root(str(root)))["emos"].champion is not None
    assert len(sync(tiny_settings(root), Root(str(root)))) == 1
    assert list_versions(away)[0]["mlflow"]["model_version"]


def test_a_full_disk_is_one_sentence_and_told_later(told: Path, tmp_path: Path) -> None:
    """Files of this process may not grow beyond 64 kB: MLflow's database does not fit."""
    root = tmp_path / "root"
    shutil.copytree(told, root)
    (root / "mlflow.db").unlink()
    shutil.rmtree(root / "mlartifacts")
    for record in root.glob("models/emos/*/record.json"):
        kept = json.loads(record.read_text())
        kept.pop("mlflow")
        record.write_text(json.dumps(kept))

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    command = [*GIOMUA, "models", "--sync", "--root", str(root), "--profile", "tiny"]
    full = subprocess.run(command, env=clean_environment(), cwd=tmp_path, capture_output=True, text=True, preexec_fn=small, timeout=300)
    assert full.returncode == 1
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("giomua: Everything trained is safe in")
    assert "giomua models --sync" in last
    assert "Traceback" not in full.stderr
    (root / "mlflow.db").unlink(missing_ok=True)
    shutil.copy(told / "mlflow.db", root / "mlflow.db")
    assert len(sync(tiny_settings(root), Root(str(root)))) == 2


def test_a_backtest_is_a_run(told: Path, tmp_path: Path) -> None:
    config = example(tmp_path, make(), forecasters=("emos_ens",), refit="never")
    settings = tiny_settings(tmp_path / "root")
    settings.local_root.mkdir()
    shutil.copy(told / "mlflow.db", settings.local_root / "mlflow.db")
    log_backtest(settings, config, run_backtest(config), 1.0)
    client = client_of(settings)
    (run,) = client.search_runs([client.get_experiment_by_name("giomua/backtest").experiment_id])
    assert run.data.metrics["blend/crps"] > 0
    assert run.data.params["variable"] == "temperature_2m"
    assert {"report.html", "scores.csv", "weights.csv"} <= {item.path for item in client.list_artifacts(run.info.run_id)}


@pytest.fixture(scope="module")
def server(told: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server that keeps its artifacts itself."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(told / "mlflow.db", folder / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = clean_environment(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1")
    with (folder / "log").open("wb") as log, subprocess.Popen(
        command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.5)
        yield url
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_server_by_url(server: str, told: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(told, root)
    for record in root.glob("models/emos/*/record.json"):
        kept = json.loads(record.read_text())
        kept.pop("mlflow")
        record.write_text(json.dumps(kept))
    settings = tiny_settings(root).model_copy(update={"mlflow_url": server})
    assert tracking_uri(settings) == server
    assert len(sync(settings, Root(str(root)))) == 2
    client = client_of(settings)
    champion = client.get_model_version_by_alias("giomua-emos", "champion")
    entry = read_champions(Root(str(root)))["emos"].champion
    assert entry is not None
    assert champion.tags["content_hash"] == entry.content_hash
    assert "model/state.safetensors" in {item.path for item in client.list_artifacts(champion.run_id, "model")}
