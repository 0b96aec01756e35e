"""Centres that are there, late or missing, in every combination of four: what is published says which."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_catalog.errors import CycleError
from data_catalog.settings import Settings, load_settings
from pipelines.cycle import CycleReport, run_cycle
from tests.pipelines.test_inputs import INIT, Archive, run

pytestmark = pytest.mark.slow

CENTRES = ("a-eps", "b-eps", "c-det", "d-ai")
SUBSETS = [chosen for size in range(1, 5) for chosen in combinations(CENTRES, size)]
DAY = np.timedelta64(24, "h")
DELAY = {"a-eps": 3, "b-eps": 6, "c-det": 6, "d-ai": 8}  # hours after init_time


def settings_of(folder: Path) -> Settings:
    return load_settings(root=str(folder), profile="tiny", sources=CENTRES, training_days=10, members=10)


def fields(centre: str, init_time: np.datetime64) -> xr.Dataset:
    rng = np.random.default_rng(CENTRES.index(centre))
    wet = float(rng.uniform(0, 5))
    return run([0, 6, 12, 18], init_time=init_time, step=6, temperature_2m=25.0 + wet, precipitation_amount=wet)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, ...], CycleReport]]:
    folder = tmp_path_factory.mktemp("subsets")
    archive, found = Archive(folder), {}
    for number, chosen in enumerate(SUBSETS):
        init_time = INIT + 2 * number * DAY  # so far apart that no run stands in for a later one
        for centre in chosen:
            archive.add(centre, fields(centre, init_time), init_time)
        found[chosen] = run_cycle(settings_of(folder), init_time)
    archive.manifest.close()
    return folder, found


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
def test_every_subset_publishes_and_says_what_was_missing(
    published: tuple[Path, dict[tuple[str, ...], CycleReport]], chosen: tuple[str, ...]
) -> None:
    report = published[1][chosen]
    missing = [centre for centre in CENTRES if centre not in chosen]
    assert report.sources == {"present": list(chosen), "lagged": [], "missing": missing}
    for centre in missing:
        assert any(centre in note and "missing" in note for note in report.notes)
    members = xr.open_zarr(report.store, group="stations")
    assert members.temperature_2m.notnull().all()
    weights = xr.open_zarr(report.store, group="models").weight_temperature_2m
    assert weights.sum("forecaster").values == pytest.approx(1.0)
    assert {str(name).removeprefix("raw_") for name in weights.forecaster.values} == set(chosen)


def test_none_fails_clearly_and_leaves_the_last_cycle(published: tuple[Path, dict[tuple[str, ...], CycleReport]]) -> None:
    folder, found = published
    latest = json.loads((folder / "published" / "latest.json").read_text())
    assert latest["content_hash"] == found[SUBSETS[-1]].content_hash
    with pytest.raises(CycleError, match="No source has a forecast"):
        run_cycle(settings_of(folder), INIT + 100 * DAY)
    assert json.loads((folder / "published" / "latest.json").read_text()) == latest


def test_cut_offs_are_revisions_each_with_what_had_come(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for centre in CENTRES:
        for init_time in (INIT - DAY // 4, INIT):
            archive.add(centre, fields(centre, init_time), init_time, available=init_time + DELAY[centre] * DAY // 24)
    archive.manifest.close()
    reports = [run_cycle(settings_of(tmp_path), INIT, cutoff_hours=hours) for hours in (4, 7, 9)]
    assert [r.revision for r in reports] == [0, 1, 2]
    assert reports[0].sources["present"] == ["a-eps"]
    assert reports[0].sources["lagged"] == ["b-eps", "c-det", "d-ai"]
    assert reports[1].sources["lagged"] == ["d-ai"]
    assert reports[2].sources == {"present": list(CENTRES), "lagged": [], "missing": []}
    assert any("6 h older" in note for note in reports[0].notes)
    again = run_cycle(settings_of(tmp_path), INIT, cutoff_hours=7)
    assert (again.reused, again.content_hash) == (True, reports[1].content_hash)
