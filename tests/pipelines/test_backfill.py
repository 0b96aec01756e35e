"""Past cycles as independent runs: in this process, on a Dask cluster; on a work pool in test_flows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import ConfigurationError
from data_catalog.manifest import Manifest
from data_catalog.store import Root
from pipelines.backfill import backfill, cycles_between
from tests.tiny import INIT, KEY, tiny_settings

pytestmark = pytest.mark.slow


def test_the_cycles_of_a_period_include_both_ends() -> None:
    day = np.timedelta64(24, "h")
    assert cycles_between(INIT - day, INIT, 12) == ("20250709T00Z", "20250709T12Z", "20250710T00Z")
    assert cycles_between(INIT, INIT, 6) == (KEY,)
    with pytest.raises(ConfigurationError, match="--to 20250709T00Z lies before --from 20250710T00Z; swap them"):
        cycles_between(INIT, INIT - day, 6)


def test_an_unknown_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--on is 'moon'; expected here, dask, prefect or the address"):
        backfill(tiny_settings(tmp_path), (KEY,), "moon")


def test_a_scheduler_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.backfill.ANSWER_SECONDS", 1.0)
    with pytest.raises(ConfigurationError, match="No Dask scheduler answers"):
        backfill(tiny_settings(tmp_path), (KEY,), "tcp://127.0.0.1:9")


def test_a_cycle_that_cannot_be_run_is_a_line_and_the_next_goes_on(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "root").model_copy(update={"sources": ("nowhere-model-variant",)})
    report = backfill(settings, ("20250709T00Z", KEY))
    assert report.done == report.degraded == ()
    assert list(report.failed) == ["20250709T00Z", KEY]
    assert "nowhere-model-variant" in report.failed[KEY]


@pytest.mark.timeout(600)
def test_a_dask_cluster_publishes_every_cycle_whole(fresh_root: Callable[[], Path]) -> None:
    settings = tiny_settings(fresh_root())
    shown: list[tuple[int, int]] = []
    report = backfill(settings, ("20250709T12Z", KEY), "dask", 2, lambda what, done, total: shown.append((done, total)))
    assert report.failed == {}
    assert set(report.done) | set(report.degraded) == {"20250709T12Z", KEY}
    assert shown[-1] == (2, 2)
    with Manifest.open(settings.manifest) as manifest:
        for key in ("20250709T12Z", KEY):
            latest = manifest.latest("published", key)
            assert latest is not None
            Root.open(settings).verify(latest.path, latest.content_hash)
