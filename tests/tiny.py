"""Settings of the tiny simulated roots that tests run on, and the command on them; the roots are in ``tests/conftest.py``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_catalog.settings import Settings, load_settings
from tests.warm import Running

INIT = np.datetime64("2025-07-10T00", "ns")
KEY = "20250710T00Z"
TRAINING_DAYS = 12
HISTORY_DAYS = TRAINING_DAYS + 12

GIOMUA = [sys.executable, "-m", "pipelines.cli"]


def clean_environment(**changed: str) -> dict[str, str]:
    """This process's environment without anything that would reach a server or set ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIOMUA_", "PREFECT_", "MLFLOW_"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1]), **changed}


def giomua(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in another process."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        running = Running(arguments, clean_environment(**(environment or {})), cwd, out, err)
        code = running.ended(300)
        if code is None:
            running.kill()
            raise subprocess.TimeoutExpired(arguments, 300, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def tiny_settings(root: Path, training_days: int = TRAINING_DAYS) -> Settings:
    """The profile ``tiny`` on a root."""
    return load_settings(root=str(root), profile="tiny", training_days=training_days, decode_workers=1)
