"""A run killed with SIGKILL at any named point leaves the last cycle whole, and the next run ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_catalog import faults
from data_catalog.store import Root
from pipelines.cycle import run_cycle
from pipelines.simulate import simulate
from tests.tiny import HISTORY_DAYS, INIT, TRAINING_DAYS, giomua, tiny_settings

pytestmark = pytest.mark.slow

BEFORE = INIT - np.timedelta64(24, "h")


@pytest.fixture(scope="module")
def yesterday(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A root with yesterday's cycle published, and the hash that an undisturbed run of today gives on it."""
    import shutil

    root = tmp_path_factory.mktemp("yesterday") / "root"
    shutil.copytree(simulated_root, root)
    settings = tiny_settings(root)
    simulate(settings, BEFORE, history_days=HISTORY_DAYS)
    run_cycle(settings, BEFORE)
    simulate(settings, INIT, history_days=HISTORY_DAYS)
    undisturbed = root.parent / "undisturbed"
    shutil.copytree(root, undisturbed)
    return root, run_cycle(tiny_settings(undisturbed), INIT).content_hash


@pytest.mark.parametrize("point", faults.POINTS)
def test_a_kill_leaves_the_last_cycle_whole(point: str, yesterday: tuple[Path, str], tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "root"
    shutil.copytree(yesterday[0], root)
    before = json.loads((root / "published" / "latest.json").read_text())
    arguments = ("run", "--root", str(root), "--profile", "tiny", "--init-time", "2025-07-10T00Z", "--json")
    environment = {"GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS), "GIOMUA_DECODE_WORKERS": "1"}
    killed = giomua(*arguments, cwd=tmp_path, environment=environment | {"GIOMUA_FAULT": point})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = json.loads((root / "published" / "latest.json").read_text())
    assert after == before
    stores = Root(str(root))
    stores.verify(f"published/{after['href']}", after["content_hash"])
    again = run_cycle(tiny_settings(root), INIT)
    assert again.content_hash == yesterday[1]
    assert json.loads((root / "published" / "latest.json").read_text())["content_hash"] == yesterday[1]


def test_two_runs_of_one_cycle_at_once_both_end_well(yesterday: tuple[Path, str], fresh_root: Callable[[], Path], tmp_path: Path) -> None:
    import shutil
    from concurrent.futures import ThreadPoolExecutor

    root = tmp_path / "root"
    shutil.copytree(yesterday[0], root)
    arguments = ("run", "--root", str(root), "--profile", "tiny", "--init-time", "2025-07-10T00Z", "--json")
    environment = {"GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS), "GIOMUA_DECODE_WORKERS": "1"}
    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(lambda _: giomua(*arguments, cwd=tmp_path, environment=environment), range(2)))
    assert [run.returncode for run in runs] == [0, 0], [run.stderr[-500:] for run in runs]
    assert {json.loads(run.stdout)["content_hash"] for run in runs} == {yesterday[1]}
    assert {json.loads(run.stdout)["revision"] for run in runs} == {0}
