"""The verify flow: planted cycles whose right score is known, what is missing or broken, and one real cycle from end to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.store import Root
from models.base import LEVELS
from pipelines.cli import DEGRADED, DONE, app
from pipelines.cycle import is_forecast, run_cycle
from pipelines.products import daily, probabilities, rain_risk
from pipelines.publish import DATASET, VERIFICATION, publish
from pipelines.render import render_verified
from pipelines.simulate import simulate
from pipelines.verify import verify
from serving.verification import PATH, read_scorecard
from tests.tiny import INIT, tiny_settings

HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
START = np.datetime64("2026-06-01T00", "ns")
LATER = np.datetime64("2026-08-01T00", "ns")
LEADS = np.arange(0, 49, 3)
STATIONS = ("lang", "noi_bai", "ha_dong")


def temperature(times: np.ndarray) -> np.ndarray:
    """What the planted weather is: (time, station)."""
    hours = (times - START) / HOUR
    return 28 + 4 * np.sin(2 * np.pi * hours / 24)[:, None] + np.arange(3.0)


def hourly_rain(times: np.ndarray) -> np.ndarray:
    """2 mm each hour of every third day, at all stations."""
    wet = ((times - START - HOUR) / DAY).astype(int) % 3 == 0
    return np.repeat(np.where(wet, 2.0, 0.0)[:, None], 3, axis=1)


def observe(settings: Settings, days: int, *, gap: slice | None = None) -> None:
    """File ``days`` whole days of reports; those of ``gap`` (hours) are missing at the first station."""
    times = START + np.arange(1, 24 * days + 1) * HOUR
    t, r = temperature(times), hourly_rain(times)
    if gap is not None:
        t[gap, 0] = r[gap, 0] = np.nan
    reports = xr.Dataset(
        {"temperature_2m": (("time", "station"), t), "precipitation_amount": (("time", "station"), r)},
        coords={"time": times, "station": np.array(STATIONS, dtype=object), "available_time": ("time", times)},
    )
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        ref = root.write_store("archive/observations/planted", "202606", {"": reports}, {})
        manifest.add_revision("observations/planted", "202606", ref, available_time=START)


def plant(settings: Settings, day: int, *, warm: float = 2.0, blend_error: float = 0.0, simulated: bool = False) -> str:
    """Publish a cycle whose blend is perfect but for an error, beside a centre that is too warm and says it rains 1 mm an hour more."""
    init, region = START + day * DAY, settings.load_region()
    leads = LEADS * HOUR
    valid = init + leads
    truth = temperature(valid) + blend_error
    sums = np.stack([hourly_rain(v - np.arange(3) * HOUR).sum(axis=0) for v in valid])
    sums[0] = np.nan
    bounds = np.stack([leads - 3 * HOUR, leads], axis=1)
    bounds[0] = np.timedelta64("NaT")
    coords = {
        "init_time": init, "lead_time": leads, "station": np.array(STATIONS, dtype=object),
        "lead_time_bounds": (("lead_time", "bounds"), bounds),
    }    # fmt: skip

    def members(values: dict[str, np.ndarray], last: str, size: int) -> xr.Dataset:
        dims = ("lead_time", "station", last)
        wide = {name: (dims, np.repeat(v[:, :, None], size, axis=2).astype(np.float32)) for name, v in values.items()}
        extra = {"quantile": LEVELS} if last == "quantile" else {last: np.arange(size)}
        return xr.Dataset(wide, coords=coords | extra)

    right = {"temperature_2m": truth, "precipitation_amount": sums}
    wrong = {"temperature_2m": temperature(valid) + warm, "precipitation_amount": sums + 3}
    stations, raw = members(right, "ensemble_member", 4), members(wrong, "ensemble_member", 3)
    on_grid = raw.isel(station=0, drop=True).expand_dims(latitude=[21.0], longitude=[105.8]).transpose("lead_time", ...)
    models = members(wrong, "quantile", LEVELS.size).expand_dims(forecaster=np.array(["raw_centre"], dtype=object))
    groups = {
        "stations": stations, "stations_quantiles": members(right, "quantile", LEVELS.size), "models": models,
        "probabilities": probabilities(stations, region), "daily": daily(stations, region),
        "risk": rain_risk({"blend": stations, "raw_centre": raw}, {"blend": on_grid, "raw_centre": on_grid}, region),
    }    # fmt: skip
    details = {"sources": {"present": ["centre"]}, "simulated": simulated, "last_lead_hours": int(LEADS[-1])}
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        revision = publish(root, manifest, init, groups, {"simulated": simulated}, details)
        ref = root.write_store("archive/centre-stations", revision.key, {"": raw}, {})
        manifest.add_revision("centre-stations", revision.key, ref, available_time=init)
    return revision.path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty root."""
    return tiny_settings(tmp_path / "root")


def copied(made: Path, to: Path) -> Settings:
    shutil.copytree(made, to)
    return tiny_settings(to)


@pytest.fixture(scope="module")
def one_cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one") / "root"
    plant(tiny_settings(root), 0)
    return root


@pytest.fixture
def one(one_cycle: Path, tmp_path: Path) -> Settings:
    """A root with the cycle of the first day, and no observation."""
    return copied(one_cycle, tmp_path / "one")


@pytest.fixture
def four(one_cycle: Path, tmp_path: Path) -> Settings:
    """The same with three more days of cycles."""
    found = copied(one_cycle, tmp_path / "four")
    for day in range(1, 4):
        plant(found, day)
    return found


def score(card: dict, variable: str, leads: tuple[float, float] = (0, 24), kind: str = "crps") -> dict:
    (found,) = (row for row in card["scores"] if (row["variable"], tuple(row["lead_hours"]), row["score"]) == (variable, leads, kind))
    return found


def files(settings: Settings) -> dict[str, bytes]:
    folder = Path(settings.root) / "verification"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_perfect_blend_and_a_biased_centre(four: Settings) -> None:
    observe(four, 8)
    report = verify(four, now=LATER)
    assert (len(report.verified), report.cycles, report.failed, report.waiting) == (4, 4, {}, ())
    card = dict(report.scorecard or {})
    warm = score(card, "temperature_2m")
    assert (warm["n"], warm["blend"], warm["best_centre"]) == (4 * 8 * 3, pytest.approx(0, abs=1e-4), "raw_centre")
    assert warm["best_centre_score"] == pytest.approx(2, rel=0.005)
    assert (warm["skill"], warm["skill_interval"]) == (pytest.approx(1, abs=1e-4), pytest.approx([1, 1], abs=1e-4))
    rows = {(r["forecaster"], r["variable"], tuple(r["lead_hours"])): r for r in card["forecasters"]}
    assert rows["raw_centre", "temperature_2m", (24, 48)]["bias"] == pytest.approx(2, abs=1e-3)
    assert rows["blend", "precipitation_amount", (0, 24)]["n"] == 4 * 8 * 3, "the lead at zero has no interval"
    assert rows["raw_centre", "precipitation_amount", (0, 24)]["bias"] == pytest.approx(3)
    assert rows["raw_centre", "precipitation_amount_basin_24h", (24, 48)]["bias"] == pytest.approx(24)
    assert rows["raw_centre", "precipitation_amount_basin_6h", (0, 24)]["bias"] == pytest.approx(6)
    chance = score(card, "precipitation_amount", (0, 24), "brier_24h_16")
    assert (chance["blend"], chance["skill"]) == (0, 1)
    assert 0 < chance["events"] < chance["n"]
    sixteen = next(one for one in card["reliability"] if one["threshold"] == 16 and one["lead_hours"] == [0, 72])
    assert [(b["forecast"], b["observed"]) for b in sixteen["bins"]] == [(0, 0), (1, 1)]
    assert {(d["quantiles"][1], d["observed"]) for d in card["days"]} <= {(x, x) for x in (0, 10, 14, 24, 34, 38, 48)}
    assert card["live"]
    assert card["period"] == ["2026-06-01", "2026-06-04"]
    assert verify(four, days=2, now=LATER).cycles == 3, "older ones than asked for are left out"
    plant(four, 4, blend_error=1.0)
    changes = verify(four, now=LATER).changes
    assert any("temperature_2m crps 0-24 h: skill +100 % -> +90 %" in change for change in changes), changes


def test_the_page_reads_what_is_written_and_forecasts_are_told_from_it(one: Settings) -> None:
    observe(one, 4)
    verify(one, now=LATER)
    card = read_scorecard(Root.open(one))
    assert card is not None
    assert (card.cycles, card.period) == (1, ("2026-06-01", "2026-06-01"))
    assert not card.scores, "one cycle has no interval, so there is no skill to show"
    assert card.pit
    assert not is_forecast(VERIFICATION)
    with Manifest.open(one.manifest) as manifest:
        (kept,) = manifest.revisions(VERIFICATION)
    assert Root.open(one).verify(kept.path, kept.content_hash)


def test_the_same_again_rewrites_nothing_and_a_new_day_renews_only_what_it_touches(one: Settings) -> None:
    plant(one, 3)
    observe(one, 3)
    first = verify(one, now=LATER)
    assert (first.verified, first.waiting) == (("20260601T00Z",), ("20260604T00Z",))
    before = files(one)
    again = verify(one, now=LATER)
    assert (again.verified, again.changes) == ((), ())
    assert files(one) == before
    observe(one, 8)
    later = verify(one, now=LATER)
    assert later.verified == ("20260604T00Z",), "the first cycle had verified to its end"
    assert any("20260604T00Z" in change for change in later.changes)


def test_the_same_inputs_elsewhere_give_the_same_hash(tmp_path: Path) -> None:
    kept = []
    for name in ("one", "other"):
        settings = tiny_settings(tmp_path / name)
        plant(settings, 0)
        observe(settings, 3)
        verify(settings, now=LATER)
        kept.append(files(settings))
    assert kept[0] == kept[1]


def test_a_missing_report_is_no_case_and_never_zero(one: Settings) -> None:
    observe(one, 4, gap=slice(0, 12))
    card = verify(one, now=LATER).scorecard or {}
    rows = {(r["variable"], tuple(r["lead_hours"])): r for r in card["forecasters"] if r["forecaster"] == "raw_centre"}
    assert rows["temperature_2m", (0, 24)]["n"] == 8 * 3 - 4
    rain = rows["precipitation_amount", (0, 24)]
    assert (rain["n"], rain["bias"]) == (8 * 3 - 4, pytest.approx(3))
    assert rows["precipitation_amount_basin_24h", (0, 24)]["bias"] == pytest.approx(24), "the mean of the two stations that reported"
    assert not [d for d in card["days"] if d["station"] == "lang" and d["date"] == "2026-06-02" and d["variable"].endswith("0700")]


def test_late_reports_renew_the_sums(one: Settings) -> None:
    observe(one, 4, gap=slice(0, 12))
    first = verify(one, now=LATER)
    observe(one, 4)
    later = verify(one, now=LATER)
    assert later.verified == first.verified == ("20260601T00Z",)
    with Manifest.open(one.manifest) as manifest:
        assert [r.revision for r in manifest.revisions(VERIFICATION, "20260601T00Z")] == [0, 1]
    shutil.rmtree(Path(one.root) / "verification")
    assert verify(one, now=LATER).scorecard == later.scorecard, "lost sums are made again, the same"


def test_a_day_is_verified_when_it_is_over(one: Settings) -> None:
    observe(one, 3)
    card = verify(one, now=START + 36 * HOUR).scorecard or {}
    assert card["verified_to"] == "2026-06-01"
    assert max(row["lead_hours"][1] for row in card["forecasters"]) == 24
    assert verify(one, now=LATER).scorecard["verified_to"] == "2026-06-03"


def test_nothing_published_and_nothing_verified_are_said(settings: Settings) -> None:
    assert "Nothing is published yet" in verify(settings).message
    plant(settings, 0)
    waiting = verify(settings, now=LATER)
    assert "Nothing has verified yet" in waiting.message
    assert waiting.waiting == ("20260601T00Z",)
    assert not files(settings)


def test_a_broken_cycle_is_said_and_the_others_are_verified(one: Settings) -> None:
    with Manifest.open(one.manifest) as manifest:
        broken = manifest.revisions(DATASET)[0].path
    plant(one, 1)
    observe(one, 5)
    shutil.rmtree(Path(one.root) / broken / "stations_quantiles" / "temperature_2m")
    report = verify(one, now=LATER)
    assert set(report.failed) == {"20260601T00Z"}
    assert report.verified == ("20260602T00Z",)
    assert "20260601T00Z" in render_verified(report)
    shutil.rmtree(Path(one.root) / broken)
    assert "no store" in verify(one, now=LATER).failed["20260601T00Z"]


def test_live_cycles_are_never_mixed_with_simulated_ones(settings: Settings) -> None:
    plant(settings, 0, simulated=True)
    observe(settings, 6)
    assert (verify(settings, now=LATER).scorecard or {})["live"] is False
    plant(settings, 2)
    card = verify(settings, now=LATER).scorecard or {}
    assert (card["live"], card["cycles"], card["period"]) == (True, 1, ["2026-06-03", "2026-06-03"])


def test_a_revision_takes_the_place_of_the_one_before(settings: Settings) -> None:
    plant(settings, 0, blend_error=1.0)
    observe(settings, 4)
    verify(settings, now=LATER)
    plant(settings, 0)
    report = verify(settings, now=LATER)
    assert report.verified == ("20260601T00Z",)
    blend = next(r for r in (report.scorecard or {})["forecasters"] if r["forecaster"] == "blend" and r["variable"] == "temperature_2m")
    assert blend["bias"] == pytest.approx(0, abs=1e-4)


def test_a_real_cycle_from_end_to_end(fresh_root: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, published and verified by the command; exit codes and JSON as an operator's script sees them."""
    settings = tiny_settings(fresh_root())
    monkeypatch.setenv("PREFECT_HOME", str(Path(settings.root) / "prefect"))     # else the command sets it for all that follows
    command = ["verify", "--root", settings.root, "--profile", "tiny"]
    nothing = CliRunner().invoke(app, command)
    assert (nothing.exit_code, "Nothing is published yet" in nothing.stdout) == (DONE, True)
    cycle = run_cycle(settings, INIT)
    simulate(settings, INIT + 2 * DAY, history_days=3)
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == DONE, done.stderr
    result = json.loads(done.stdout)
    assert result["verified"] == ["20250710T00Z"]
    rows = {(r["forecaster"], r["variable"]): r for r in result["scorecard"]["forecasters"]}
    assert {"blend", "climatology", "persistence", "raw_simulated-global-eps"} <= {who for who, _ in rows}
    published = xr.open_zarr(cycle.store, group="stations_quantiles")
    assert rows["blend", "temperature_2m"]["n"] == published.sizes["lead_time"] * published.sizes["station"]
    assert json.loads((Path(settings.root) / PATH).read_text())["live"] is False
    shutil.rmtree(Path(cycle.store))
    assert CliRunner().invoke(app, command).exit_code == DONE, "what had verified stays verified"
    shutil.rmtree(Path(settings.root) / "verification")
    lost = CliRunner().invoke(app, command)
    assert (lost.exit_code, "No cycle could be verified" in lost.stdout) == (DEGRADED, True)
