"""Fixtures shared by every test."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3  # noqa: F401  # before eccodes; see data_catalog/__init__.py
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "giomua", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("giomua")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left with one of them when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of the session that the first worker to ask for it makes, for all of them; nobody may change it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            make(folder / "root")
            (folder / "made").touch()
    return folder / "root"


@pytest.fixture(scope="session")
def simulated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one simulated cycle at its provider and the history before it; nothing published. To be copied before a change."""
    from pipelines.simulate import simulate
    from tests.tiny import HISTORY_DAYS, INIT, tiny_settings

    return made_once(tmp_path_factory, "simulated", lambda root: simulate(tiny_settings(root), INIT, history_days=HISTORY_DAYS))


@pytest.fixture(scope="session")
def cycled_root(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:func:`simulated_root` with its cycle published. To be copied before a change."""
    from pipelines.cycle import run_cycle
    from tests.tiny import INIT, tiny_settings

    def make(root: Path) -> None:
        shutil.copytree(simulated_root, root)
        run_cycle(tiny_settings(root), INIT)

    return made_once(tmp_path_factory, "cycled", make)


@pytest.fixture
def fresh_root(simulated_root: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of :func:`simulated_root`."""
    count = iter(range(1000))

    def copy() -> Path:
        target = tmp_path / f"root{next(count)}"
        shutil.copytree(simulated_root, target)
        return target

    return copy
