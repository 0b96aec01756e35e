"""Fixtures shared by every test."""

from __future__ import annotations

import os
import sqlite3  # noqa: F401  # before eccodes; see data_catalog/__init__.py
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "giomua", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("giomua")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real GRIB, BUFR and pairs that GIOMUA_REAL_DATA names; the test is skipped without it."""
    named = os.environ.get("GIOMUA_REAL_DATA")
    if not named:
        pytest.skip("GIOMUA_REAL_DATA is not set: this test needs the folder of real data files")
    path = Path(named)
    if not path.is_dir():
        pytest.skip(f"GIOMUA_REAL_DATA names {named}, which is not a folder")
    return path.resolve()
