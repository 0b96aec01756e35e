"""A tiny simulated root, made once for each worker, and copied for each test that changes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from data_catalog.settings import Settings, load_settings
from pipelines.simulate import simulate

INIT = np.datetime64("2025-07-10T00", "ns")
KEY = "20250710T00Z"
TRAINING_DAYS = 12
HISTORY_DAYS = TRAINING_DAYS + 12

GIOMUA = [sys.executable, "-m", "pipelines.cli"]


def clean_environment(**changed: str) -> dict[str, str]:
    """This process's environment without anything that would reach a server or set ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIOMUA_", "PREFECT_", "MLFLOW_"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]), **changed}


def giomua(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in another process."""
    return subprocess.run(
        [*GIOMUA, *arguments], cwd=cwd, env=clean_environment(**(environment or {})), capture_output=True, text=True, timeout=300
    )


def tiny_settings(root: Path, training_days: int = TRAINING_DAYS) -> Settings:
    """The profile ``tiny`` on a root."""
    return load_settings(root=str(root), profile="tiny", training_days=training_days, decode_workers=1)


@pytest.fixture(scope="session")
def simulated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one simulated cycle at its provider and the history before it; nothing published."""
    root = tmp_path_factory.mktemp("simulated") / "root"
    simulate(tiny_settings(root), INIT, history_days=HISTORY_DAYS)
    return root


@pytest.fixture
def fresh_root(simulated_root: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of :func:`simulated_root`."""
    count = iter(range(1000))

    def copy() -> Path:
        target = tmp_path / f"root{next(count)}"
        shutil.copytree(simulated_root, target)
        return target

    return copy
