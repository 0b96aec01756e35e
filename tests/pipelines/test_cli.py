"""The command line as a user types it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
import xarray as xr

from pipelines.cli import parse_time
from tests.tiny import TRAINING_DAYS, giomua

pytestmark = pytest.mark.slow

GFS = ("gfs_20110110T12_f120_2p5deg.grib2", "gfs_20111008T00_f072_2p5deg.grib2")


@pytest.mark.parametrize("text", ["2011-01-10T12Z", "20110110T12Z", "2011-01-10T12:00:00Z", "2011011012", "2011-01-10 12:00"])
def test_times_as_people_write_them(text: str) -> None:
    assert parse_time(text) == np.datetime64("2011-01-10T12", "ns")


@pytest.mark.parametrize("text", ["yesterday", "2011-01-10", "2011-13-10T12Z", "2011-01-10T12:30Z", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_time(text)


def test_help_is_instant_and_lists_every_command(tmp_path: Path) -> None:
    start = time.process_time()
    shown = giomua("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for command in ("run", "import", "simulate", "ingest", "observe", "backfill", "status", "doctor", "serve", "backtest"):
        assert command in shown.stdout
        assert "--help" in giomua(command, "--help", cwd=tmp_path).stdout
    assert time.process_time() - start < 5


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.tiny import clean_environment

    code = (
        "import sys\nfrom pipelines.cli import main\nsys.argv = ['giomua', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'xarray', 'mlflow', 'prefect', 'sklearn', 'zarr', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], env=clean_environment(), cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    "arguments",
    [("fly",), ("run", "--init-time", "noon"), ("run", "--members", "1"), ("import",), ("backfill", "--from", "2025-01-01T00Z")],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert giomua(*arguments, cwd=tmp_path).returncode == 2


def test_failures_are_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    cases = {
        ("import", "absent.grib"): "There is no file absent.grib",
        ("ingest", "nobody", "--root", "r"): "nobody",
        ("run", "--root", "r", "--init-time", "2025-01-01T00Z"): "atlantis",
    }
    for arguments, expected in cases.items():
        environment = {"GIOMUA_REGION": "atlantis"} if arguments[0] == "run" else {}
        failed = giomua(*arguments, cwd=tmp_path, environment=environment)
        assert failed.returncode == 1
        last = failed.stderr.strip().splitlines()[-1]
        assert last.startswith("giomua: ")
        assert expected in last
        assert "Traceback" not in failed.stderr


def test_status_and_doctor_of_an_empty_root_say_what_to_do(tmp_path: Path) -> None:
    status = giomua("status", "--root", "empty", cwd=tmp_path)
    assert status.returncode == 0
    assert "giomua run" in status.stdout
    doctor = giomua("doctor", "--root", "empty", "--json", cwd=tmp_path)
    assert doctor.returncode == 3
    checks = {check["check"]: check["outcome"] for check in json.loads(doctor.stdout)["checks"]}
    assert checks["torch"] == "ok"
    assert checks["published"] == "warn"


def test_run_prints_json_alone_on_standard_output(fresh_root: Callable[[], Path], tmp_path: Path) -> None:
    root = fresh_root()
    environment = {"GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS)}
    made = giomua(
        "run", "--root", str(root), "--profile", "tiny", "--init-time", "2025-07-10T00Z", "--json", cwd=tmp_path, environment=environment
    )
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["simulated"]
    assert not report["degraded"]
    assert "publishing" in made.stderr
    shown = giomua(
        "run", "--root", str(root), "--profile", "tiny", "--init-time", "2025-07-10T00Z", cwd=tmp_path, environment=environment
    )
    assert "Láng" in shown.stdout
    assert "(there already)" in shown.stdout
    status = json.loads(giomua("status", "--root", str(root), "--profile", "tiny", "--json", cwd=tmp_path).stdout)
    assert status["published"]["content_hash"] == report["content_hash"]
    assert all(source["complete"] for source in status["sources"])
    doctor = giomua("doctor", "--root", str(root), "--profile", "tiny", cwd=tmp_path)
    assert doctor.returncode == 0, doctor.stdout


@pytest.mark.real_data
def test_a_real_gfs_file_becomes_a_degraded_cycle(real_data: Path, tmp_path: Path) -> None:
    """The January 2011 cold surge: 284.48 K at 20N 105E in the file, and in what is published from it alone."""
    files = [str(real_data / "grib" / "ncep" / name) for name in GFS]
    taken = giomua("import", "--root", "root", "--json", *files, cwd=tmp_path)
    assert taken.returncode == 0, taken.stderr
    rows = json.loads(taken.stdout)
    assert {row["dataset"] for row in rows["taken"]} == {"noaa-gfs-2p50"}
    assert {"file", "message", "dataset", "variable", "init_time", "lead_time", "member", "store"} <= set(rows["taken"][0])
    assert all(row["reason"] for row in rows["skipped"])
    made = giomua("run", "--root", "root", "--init-time", "2011-01-10T12Z", "--json", cwd=tmp_path)
    assert made.returncode == 3, made.stderr
    report = json.loads(made.stdout)
    assert report["leads"] == 1
    assert not report["simulated"]
    assert any("64 of the 65" in note for note in report["notes"])
    grid = xr.open_zarr(report["store"], group="grid")
    assert (grid.lead_time.values == np.array([120], "timedelta64[h]")).all()
    kelvin = grid.temperature_2m.sel(latitude=20, longitude=105).values + 273.15
    assert kelvin == pytest.approx(284.48, abs=0.01)
    assert (grid.lead_time_bounds.values == np.array([[114, 120]], "timedelta64[h]")).all()


def test_backfill_runs_each_cycle_on_its_own(fresh_root: Callable[[], Path], tmp_path: Path) -> None:
    root = fresh_root()
    done = giomua(
        "backfill", "--from", "2025-07-09T00Z", "--to", "2025-07-10T00Z", "--root", str(root), "--profile", "tiny", "--json",
        cwd=tmp_path, environment={"GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == ["20250709T00Z", "20250710T00Z"]
    assert json.loads((root / "published" / "latest.json").read_text())["init_time"] == "2025-07-10T00:00:00Z"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace")
def test_without_a_server_no_connection_is_attempted(fresh_root: Callable[[], Path], tmp_path: Path) -> None:
    """Every connect(2) of a whole cycle and all its processes, as the kernel saw them: none to an internet address."""
    import subprocess
    import sys

    from tests.tiny import clean_environment

    log = tmp_path / "connects"
    arguments = ["run", "--root", str(fresh_root()), "--profile", "tiny", "--init-time", "2025-07-10T00Z"]
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    environment = clean_environment(GIOMUA_TRAINING_DAYS=str(TRAINING_DAYS))
    traced = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(log), *command],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    if "ptrace" in traced.stderr and "not permitted" in traced.stderr:
        pytest.skip("this machine does not allow tracing")
    assert traced.returncode == 0, traced.stderr
    reached = [line for line in log.read_text().splitlines() if "AF_INET" in line]
    assert reached == []
