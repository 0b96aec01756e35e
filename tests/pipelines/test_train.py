"""Training on the archive of a root, champions in the cycle, challengers in its shadow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_catalog.errors import ConfigurationError, UnknownNameError
from data_catalog.manifest import Manifest
from data_catalog.store import Root
from pipelines.cycle import CycleReport, champion_hashes, cycle_datasets, run_cycle
from pipelines.promote import live_record, promote, roll_back
from pipelines.simulate import simulate
from pipelines.train import TrainOptions, TrainReport, list_versions, render_versions, run_training
from pipelines.verify import verify
from tests.tiny import HISTORY_DAYS, INIT, KEY, tiny_settings
from training.champions import STATE, load_role, read_champions

OPTIONS = TrainOptions(until=INIT, held_out_days=10, log=False)


@pytest.fixture(scope="module")
def trained(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainReport]]:
    """A root with a champion and a challenger of ``emos``, and nothing published."""
    root = tmp_path_factory.mktemp("trained") / "root"
    shutil.copytree(simulated_root, root)
    settings = tiny_settings(root)
    first = run_training(settings, ["emos", "climatology"], OPTIONS)
    second = run_training(settings, ["emos", "analog"], TrainOptions(until=INIT, held_out_days=11, log=False))
    return root, [first, second]


@pytest.fixture(scope="module")
def cycled(trained: tuple[Path, list[TrainReport]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CycleReport]:
    """A cycle with a champion, a challenger, and a second champion whose state was damaged."""
    root = tmp_path_factory.mktemp("cycled") / "root"
    shutil.copytree(trained[0], root)
    (damaged,) = (root / "models" / "climatology").glob("*/" + STATE)
    damaged.write_bytes(b"nothing")
    return root, run_cycle(tiny_settings(root), INIT)


def test_a_training_is_kept_with_all_that_people_want_to_know(trained: tuple[Path, list[TrainReport]]) -> None:
    root, (first, _) = trained
    row = first.trained[0]
    assert [one["role"] for one in first.trained] == ["champion", "champion"]
    assert row["skill"]["climatology"] > 0
    folder = root / row["folder"]
    card = (folder / "card.md").read_text(encoding="utf-8")
    for text in ("# emos 20250710T00Z", "simulated data", "Held-out scores", "temperature_2m", "heavy rain", first.snapshot):
        assert text in card
    record = json.loads((folder / "record.json").read_text())
    assert record["environment"]["packages"]["torch"]
    assert record["cost"]["predict_seconds"] > 0
    cuts = {row["cut"] for row in json.loads((folder / "scores.json").read_text())}
    assert cuts == {"all", "lead", "season", "station"}
    for name in ("crps_by_lead", "pit", "reliability", "spread_error"):
        assert (folder / f"figures/temperature_2m/{name}.svg").read_text().startswith("<svg xmlns")


def test_nothing_is_learned_from_the_held_out_days(trained: tuple[Path, list[TrainReport]]) -> None:
    root = Root(str(trained[0]))
    champion = load_role(root, "champion")[0]["emos"]
    assert champion.held_out_from == INIT - np.timedelta64(10, "D")
    assert champion.version.training["days"] == 15, "valid days from the first forecast to the first held-out one"
    assert champion.version.training["first"] < champion.version.training["held_out_from"]


def test_the_snapshot_is_known_to_retention(trained: tuple[Path, list[TrainReport]]) -> None:
    settings = tiny_settings(trained[0])
    with Manifest.open(settings.manifest) as manifest:
        hashes = manifest.snapshot(trained[1][0].snapshot)
        assert set(hashes) <= manifest.retained_hashes()
        kinds = {revision.dataset for revision in manifest.revisions() if revision.content_hash in hashes}
    assert {"simulated-global-eps-stations", "simulated-regional-eps-stations", "observations/simulated-stations"} == kinds


def test_one_that_cannot_be_trained_does_not_stop_the_others(trained: tuple[Path, list[TrainReport]]) -> None:
    second = trained[1][1]
    assert [row["forecaster"] for row in second.trained] == ["emos"]
    assert "analog" in second.failed
    assert "days of pairs" in second.failed["analog"]


def test_versions_are_listed_and_compared(trained: tuple[Path, list[TrainReport]]) -> None:
    settings = tiny_settings(trained[0])
    rows = list_versions(settings, ["emos"])
    assert [row["role"] for row in rows] == ["champion", "challenger"]
    assert all(row["crps"]["temperature_2m"] > 0 for row in rows)
    text = render_versions(rows, "sqlite:///x")
    assert f"giomua promote emos {rows[1]['version']}" in text
    assert list_versions(settings, ["drn"]) == []


def test_an_archive_too_short_says_so(trained: tuple[Path, list[TrainReport]]) -> None:
    with pytest.raises(ConfigurationError, match="days of pairs up to 20250710T00Z"):
        run_training(tiny_settings(trained[0]), ["emos"], TrainOptions(until=INIT, days=3, log=False))


def test_the_champion_forecasts_like_the_others(cycled: tuple[Path, CycleReport]) -> None:
    report = cycled[1]
    assert "emos" in report.forecasters
    models = xr.open_zarr(report.store, group="models")
    assert np.isfinite(models.temperature_2m.sel(forecaster="emos").values).all()


def test_the_challenger_forecasts_unseen(cycled: tuple[Path, CycleReport], trained: tuple[Path, list[TrainReport]]) -> None:
    root, report = cycled
    version = trained[1][1].trained[0]["version"]
    assert report.shadow == {"emos": version}
    settings = tiny_settings(root)
    with Manifest.open(settings.manifest) as manifest:
        kept = manifest.latest("shadow/emos", KEY)
        assert cycle_datasets(settings, manifest) == ("simulated-global-eps", "simulated-regional-eps")
    assert kept is not None
    said = Root(str(root)).open_store(kept.path)
    assert said.attrs["version"] == version
    assert not said.temperature_2m.isnull().all()
    published = "".join(path.read_text(errors="ignore") for path in (root / "published").rglob("*.json"))
    assert version not in published
    assert "shadow" not in published


def test_a_re_run_makes_nothing_anew(cycled: tuple[Path, CycleReport]) -> None:
    root, report = cycled
    again = run_cycle(tiny_settings(root), INIT)
    assert again.reused
    assert again.content_hash == report.content_hash
    assert again.shadow == report.shadow
    assert len(list((root / "archive/shadow/emos").iterdir())) == 1


def test_a_damaged_champion_is_a_note_and_the_cycle_goes_on(cycled: tuple[Path, CycleReport]) -> None:
    report = cycled[1]
    assert report.degraded
    (note,) = report.notes
    assert note.startswith("The champion of climatology cannot be used: The file")
    assert STATE in note


def test_the_champions_decide_what_is_published(trained: tuple[Path, list[TrainReport]]) -> None:
    (name, digest), (other, _) = champion_hashes(Root(str(trained[0])))
    assert (name, other) == ("climatology", "emos")
    assert len(digest) == 64


def test_a_challenger_that_is_not_better_is_refused_with_its_reasons(trained: tuple[Path, list[TrainReport]], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(trained[0], root)
    settings = tiny_settings(root)
    before = read_champions(Root(str(root)))
    report = promote(settings, "emos", "challenger", log=False)
    assert not report.promoted
    assert any("not significantly better" in reason and "too few days" in reason for reason in report.refusals)
    assert read_champions(Root(str(root))) == before
    version = trained[1][1].trained[0]["version"]
    folder = root / "models" / "emos" / version
    written = json.loads((folder / "assessment.json").read_text())
    kinds = {one["kind"] for one in written["comparisons"]}
    assert kinds >= {"overall", "variable", "lead", "season", "protected"}
    assert {one["name"] for one in written["comparisons"] if one["kind"] == "protected"} == {"heavy rain", "heat", "cold"}
    assert {one["missing"] for one in written["failures"]} == {"simulated-global-eps", "simulated-regional-eps", "observations"}
    assert written["cost"]["challenger"]["seconds a cycle"] > 0
    text = (folder / "assessment.md").read_text()
    assert "Should not be promoted" in text
    assert "When something is missing" in text

    with pytest.raises(UnknownNameError, match="champion already"):
        promote(settings, "emos", "champion", log=False)

    forced = promote(settings, "emos", version, force="the old one is blind to sea breezes", log=False)
    assert forced.promoted
    champion = read_champions(Root(str(root)))["emos"].champion
    assert champion is not None
    assert (champion.version, champion.reason) == (version, "forced: the old one is blind to sea breezes")
    assert "blind to sea breezes" in (folder / "assessment.md").read_text()

    back = roll_back(settings, "emos", log=False)
    assert back.champion == trained[1][0].trained[0]["version"]


def test_a_challenger_is_verified_like_the_others(cycled: tuple[Path, CycleReport], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(cycled[0], root)
    settings = tiny_settings(root)
    simulate(settings, INIT + np.timedelta64(2, "D"), history_days=HISTORY_DAYS)
    report = verify(settings, now=INIT + np.timedelta64(2, "D"))
    assert report.cycles == 1, report.failed
    roles = read_champions(Root(str(root)))["emos"]
    versions = [entry.version for entry in (roles.champion, roles.challenger) if entry]
    with Manifest.open(settings.manifest) as manifest:
        rows = live_record(Root(str(root)), manifest, "emos", *versions)
    assert {row["variable"] for row in rows} >= {"temperature_2m", "precipitation_amount"}
    assert all(row["n"] > 0 and row["champion"] > 0 and row["challenger"] > 0 and row["blend"] > 0 for row in rows)
    assert report.scorecard is not None
    assert "emos" in {row["forecaster"] for row in report.scorecard["forecasters"]}
    assert not any("challenger" in row["forecaster"] for row in report.scorecard["forecasters"])
