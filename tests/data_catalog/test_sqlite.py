"""The SQLite of a process is Python's own, whatever is imported later."""

from __future__ import annotations

import subprocess
import sys


def test_eccodes_does_not_bring_its_own() -> None:
    own = subprocess.run(
        [sys.executable, "-c", "import sqlite3; print(sqlite3.sqlite_version)"], capture_output=True, text=True, check=True
    )
    late = "import data_catalog, eccodes, sqlite3; print(sqlite3.sqlite_version)"
    ours = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=True)
    assert ours.stdout == own.stdout
