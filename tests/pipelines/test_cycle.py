"""The cycle from providers to a published store, on the tiny simulated atmosphere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_catalog.errors import CycleError
from data_catalog.manifest import Manifest
from data_catalog.regions import Region
from data_catalog.sources.base import GridSource, silent
from data_catalog.store import Root
from models.base import LEVELS
from pipelines import cycle
from pipelines.cycle import CycleReport, read, run_cycle
from pipelines.ingest import IngestReport
from pipelines.publish import DATASET
from pipelines.simulate import simulate
from serving.api.cycles import PublishedCycles
from serving.observed import Observations
from serving.page.days import comfort_of, runs_of_cycles
from serving.page.maps import map_of
from serving.page.overview import record_of, status_of, verification_of
from serving.page.point import models_of, point_of
from serving.page.risk import risk_of
from tests.tiny import HISTORY_DAYS, INIT, KEY, tiny_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(cycled_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CycleReport]:
    root = tmp_path_factory.mktemp("published") / "root"
    shutil.copytree(cycled_root, root)
    return root, run_cycle(tiny_settings(root), INIT)


def group(published: tuple[Path, CycleReport], name: str) -> xr.Dataset:
    """As a downstream service reads it: plain xarray, no code of ours."""
    return xr.open_zarr(published[1].store, group=name)


def test_a_complete_cycle_is_not_degraded(published: tuple[Path, CycleReport]) -> None:
    report = published[1]
    assert report.notes == ()
    assert not report.degraded
    assert report.simulated
    assert report.sources == {"present": ["simulated-global-eps", "simulated-regional-eps"], "lagged": [], "missing": []}
    assert {"climatology", "persistence", "raw_simulated-global-eps", "emos_simulated-regional-eps"} <= set(report.forecasters)


def test_the_root_says_what_it_is(published: tuple[Path, CycleReport]) -> None:
    attributes = xr.open_zarr(published[1].store).attrs
    assert attributes["simulated"]
    assert "Simulated data" in attributes["disclaimer"]
    groups = json.loads(attributes["groups"])
    for name in ("stations", "grid", "stations_quantiles", "grid_quantiles", "models", "probabilities", "daily"):
        assert groups[name]
        assert group(published, name).init_time.values == INIT


def test_the_page_can_show_what_a_cycle_published(published: tuple[Path, CycleReport]) -> None:
    settings = tiny_settings(published[0])
    region, root = settings.load_region(), Root.open(settings)
    store, observations = PublishedCycles(root), Observations(root, settings)
    cycle = store.current()
    sources = {one["dataset"]: one for one in status_of(cycle, observations)["sources"]}
    assert {one["status"] for one in sources.values()} == {"present"}
    assert all(one["members"] for one in sources.values())
    risk = risk_of(cycle, region, observations, "lang")
    assert risk["members"]["raw"] == sum(one["members"] for one in sources.values())
    assert risk["point"]["climatology"]["days"] > 0
    assert "raw_simulated-global-eps" in point_of(cycle, region, "lang")["variables"]["temperature_2m"]["forecasters"]
    models = models_of(cycle, "temperature_2m")
    assert sum(weights[3] for weights in models["weights"].values() if weights[3]) == pytest.approx(1.0, abs=0.01)
    assert max(models["pairs"]) > 0
    assert comfort_of(cycle, region, observations, "lang")["observed_until"] == 0
    assert map_of(cycle, region, "temperature", "q50")["shape"][1:] == [6, 6]
    assert len(runs_of_cycles(store, region, observations, "lang")["runs"]) == 1
    assert verification_of(root, record_of(store, observations))["live_cycles"] == 0


@pytest.mark.parametrize(("name", "places"), [("stations", {"station": 3}), ("grid", {"latitude": 6, "longitude": 6})])
def test_members(published: tuple[Path, CycleReport], name: str, places: dict[str, int]) -> None:
    members = group(published, name).load()
    assert dict(members.sizes) == {"lead_time": 8, **places, "ensemble_member": 50, "bounds": 2}
    assert members.lead_time.dtype == "timedelta64[ns]"
    assert (members.valid_time == members.init_time + members.lead_time).all()
    for variable in members.data_vars.values():
        assert variable.notnull().all(), variable.name
        assert variable.attrs["units"]
        assert variable.attrs["standard_name"]
    assert (members.precipitation_amount >= 0).all()
    assert (members.dew_point_temperature_2m <= members.temperature_2m).all()
    assert (members.wind_gust_10m >= members.wind_speed_10m - 1e-5).all()
    assert np.allclose(np.hypot(members.wind_u_10m, members.wind_v_10m), members.wind_speed_10m, atol=1e-3)
    bounds = members.lead_time_bounds.values
    assert (bounds[:, 1] == members.lead_time.values).all()


def test_members_carry_the_quantiles_of_the_blend(published: tuple[Path, CycleReport]) -> None:
    members, quantiles = group(published, "stations"), group(published, "stations_quantiles")
    assert np.allclose(quantiles["quantile"], LEVELS)
    expected = quantiles.temperature_2m.sel(quantile=[0.25, 0.75], method="nearest")
    found = members.temperature_2m.quantile([0.25, 0.75], dim="ensemble_member", method="hazen")
    assert float(abs(expected.transpose(*found.dims).values - found.values).max()) < 0.05
    assert (quantiles.temperature_2m.diff("quantile") >= 0).all()


def test_weights_sum_to_one_and_favour_the_calibrated_forecasters(published: tuple[Path, CycleReport]) -> None:
    models = group(published, "models").load()
    weights = models.weight_temperature_2m
    assert weights.dims == ("forecaster", "lead_time")
    assert np.allclose(weights.sum("forecaster"), 1)
    calibrated = [str(name).startswith("emos") for name in models.forecaster.values]
    assert (weights.isel(forecaster=calibrated).sum("forecaster") > 0.5).all()


def test_the_blend_beats_every_raw_ensemble_on_the_held_out_past(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "root", training_days=60)
    simulate(settings, INIT, history_days=72)
    scores: dict[str, dict[str, float]] = {}
    for row in run_cycle(settings, INIT).skill:
        scores.setdefault(str(row["variable"]), {})[str(row["forecaster"])] = float(row["crps"])
    assert scores["temperature_2m"]["blend"] < min(v for k, v in scores["temperature_2m"].items() if k != "blend")
    rain = scores["precipitation_amount"]  # of one month: a few events decide which single ensemble comes near
    assert rain["blend"] < rain["climatology"]
    assert rain["blend"] < 1.05 * np.mean([v for k, v in rain.items() if k.startswith("raw_")])


def test_latest_and_the_catalog_point_to_it(published: tuple[Path, CycleReport]) -> None:
    root, report = published
    latest = json.loads((root / "published" / "latest.json").read_text())
    assert latest["init_time"] == "2025-07-10T00:00:00Z"
    assert latest["content_hash"] == report.content_hash
    assert (root / "published" / latest["href"]).is_dir()
    catalog = json.loads((root / "published" / "catalog.json").read_text())
    assert catalog["type"] == "Catalog"
    items = [path for path in (root / "published").rglob("*.json") if '"Feature"' in path.read_text()]
    assert any(latest["href"] in path.read_text() for path in items)


def test_a_re_run_is_the_same_and_cheap(published: tuple[Path, CycleReport]) -> None:
    root, report = published
    again = run_cycle(tiny_settings(root), INIT)
    assert again.reused
    assert (again.content_hash, again.revision) == (report.content_hash, 0)


def test_the_same_inputs_in_another_root_give_the_same_hash_and_are_not_read_twice(
    published: tuple[Path, CycleReport], fresh_root: Callable[[], Path]
) -> None:
    root = fresh_root()
    settings = tiny_settings(root)
    with Manifest.open(settings.manifest) as manifest:
        assert read(settings, Root.open(settings), manifest, settings.load_region(), INIT, silent) == []
    shutil.rmtree(root / "simulated")
    report = run_cycle(settings, INIT, gathered=["Said when they were read."])
    assert report.content_hash == published[1].content_hash
    assert report.notes == ("Said when they were read.",)


def test_a_late_centre_is_missing_then_a_new_revision(fresh_root: Callable[[], Path]) -> None:
    root = fresh_root()
    provider = next((root / "simulated").glob("*/simulated-regional-eps"))
    aside = root.parent / "late"
    provider.rename(aside)
    first = run_cycle(tiny_settings(root), INIT)
    assert first.degraded
    assert first.sources["missing"] == ["simulated-regional-eps"]
    assert any("simulated-regional-eps" in note for note in first.notes)
    aside.rename(provider)
    second = run_cycle(tiny_settings(root), INIT)
    assert (second.revision, second.degraded) == (1, False)
    assert Path(first.store).is_dir(), "a published revision is never removed or renamed"
    latest = json.loads((root / "published" / "latest.json").read_text())
    assert latest["revision"] == 1


def test_a_source_that_fails_as_nobody_foresaw_does_not_stop_the_others(
    fresh_root: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = cycle.ingest_cycle

    def broken(root: Root, manifest: Manifest, region: Region, source: GridSource, *rest: Any, **named: Any) -> IngestReport:
        if source.spec.dataset == "simulated-regional-eps":
            raise ZeroDivisionError("float division by zero")
        return whole(root, manifest, region, source, *rest, **named)

    monkeypatch.setattr(cycle, "ingest_cycle", broken)
    report = run_cycle(tiny_settings(fresh_root()), INIT)
    assert report.degraded
    assert report.sources["missing"] == ["simulated-regional-eps"]
    assert any("simulated-regional-eps: ZeroDivisionError: float division by zero" in note for note in report.notes)
    assert "ZeroDivisionError" in caplog.text, "with its trace"
    monkeypatch.setattr(cycle, "ingest_cycle", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run_cycle(tiny_settings(fresh_root()), INIT)


def test_a_cut_off_leaves_out_what_came_later(published: tuple[Path, CycleReport], fresh_root: Callable[[], Path]) -> None:
    report = run_cycle(tiny_settings(fresh_root()), INIT, cutoff_hours=4.5)
    assert report.sources["present"] == ["simulated-global-eps"]
    assert report.degraded


def test_no_source_at_all_fails_and_leaves_the_last_cycle(published: tuple[Path, CycleReport], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(published[0], root)
    before = (root / "published" / "latest.json").read_bytes()
    with pytest.raises(CycleError, match="No source has a forecast for 20250801T00Z"):
        run_cycle(tiny_settings(root), np.datetime64("2025-08-01T00", "ns"))
    assert (root / "published" / "latest.json").read_bytes() == before


def test_an_older_cycle_does_not_move_latest_back(published: tuple[Path, CycleReport], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(published[0], root)
    settings = tiny_settings(root)
    earlier = INIT - np.timedelta64(24, "h")
    simulate(settings, earlier, history_days=HISTORY_DAYS)
    run_cycle(settings, earlier)
    latest = json.loads((root / "published" / "latest.json").read_text())
    assert latest["content_hash"] == published[1].content_hash


def test_a_corrupt_message_is_quarantined_and_the_rest_is_published(fresh_root: Callable[[], Path]) -> None:
    root = fresh_root()
    grib = max((root / "simulated").rglob("*gefs*/**/*f012*"), key=lambda p: p.stat().st_size if p.suffix != ".idx" else 0)
    data = bytearray(grib.read_bytes())
    data[-4:] = b"XXXX"
    grib.write_bytes(bytes(data))
    report = run_cycle(tiny_settings(root), INIT)
    assert report.degraded
    assert any("quarantined" in note for note in report.notes)
    assert list((root / "quarantine").iterdir())
    with Manifest.open(tiny_settings(root).manifest) as manifest:
        assert manifest.quarantined()
        assert manifest.latest(DATASET, KEY) is not None


def test_published_stores_verify(published: tuple[Path, CycleReport]) -> None:
    root = Root(str(published[0]))
    assert root.verify(published[1].href) == published[1].content_hash
