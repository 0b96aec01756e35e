"""The backtest: what it writes, what it refuses, and what its numbers mean."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_catalog.errors import ConfigurationError, UnknownNameError
from models.base import LEVELS
from models.scores import crps_ensemble, crps_quantiles
from tests.training.archives_example import SPLIT, config, make, write
from training.archives import read_archive
from training.backtest import BacktestResult, choose_forecasters, parse_day, parse_sources, plan, run_backtest


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> BacktestResult:
    return run_backtest(config(tmp_path_factory.mktemp("backtest"), make()))


def summary(result: BacktestResult) -> dict[str, dict[str, object]]:
    return {r["forecaster"]: r for r in result.rows if r["lead_time_hours"] == "all"}


def test_rows_and_columns(outcome: BacktestResult):
    with outcome.files["scores"].open() as file:
        rows = list(csv.DictReader(file))
    names = {r["forecaster"] for r in rows}
    assert names == {"raw_ens", "raw_one", "climatology", "persistence", "emos", "emos_ens", "equal_weight", "blend"}
    assert {r["lead_time_hours"] for r in rows} == {"24", "48", "all"}
    start = ["forecaster", "lead_time_hours", "n", "crps", "fair_crps", "mae", "bias", "coverage_50", "coverage_90", "spread_error"]
    assert list(rows[0])[: len(start)] == start
    assert all(name.startswith("brier_gt_") for name in list(rows[0])[len(start) :])
    assert len({r["n"] for r in rows if r["lead_time_hours"] == "all"}) == 1
    by_name = {(r["forecaster"], r["lead_time_hours"]): r for r in rows}
    assert by_name["raw_one", "all"]["coverage_90"] == ""
    assert by_name["raw_one", "all"]["fair_crps"] == ""
    assert by_name["raw_ens", "all"]["fair_crps"] != ""
    assert by_name["blend", "all"]["fair_crps"] == ""


def test_scores_are_those_of_the_predictions(outcome: BacktestResult):
    stored = xr.open_zarr(outcome.files["predictions"])
    assert stored["temperature_2m"].dims == ("forecaster", "init_time", "lead_time", "station", "quantile")
    assert np.array_equal(stored["quantile"].values, LEVELS)
    assert (np.diff(stored["init_time"].values) > np.timedelta64(0)).all()
    valid = (stored["init_time"] + stored["lead_time"]).values
    test = valid > np.datetime64(SPLIT) + np.timedelta64(1, "D") - np.timedelta64(1, "ns")
    y = stored["observed"].values
    everyone = np.isfinite(stored["temperature_2m"].values[..., 0]).all(axis=0) & np.isfinite(y) & test[..., None]
    for name in ("blend", "emos", "equal_weight", "climatology"):
        q = stored["temperature_2m"].sel(forecaster=name).values.astype(float)
        assert summary(outcome)[name]["crps"] == pytest.approx(crps_quantiles(q, y)[everyone].mean(), rel=1e-5)
        assert summary(outcome)[name]["n"] == everyone.sum()


def test_raw_scores_are_exact(outcome: BacktestResult):
    made = make()
    members = made["ens"]["temperature_2m"]
    truth = made["observations"]["temperature_2m"]
    y = np.stack([truth.sel(time=members["init_time"].values + lead).values for lead in members["lead_time"].values], axis=1)
    valid = (members["init_time"] + members["lead_time"]).values
    test = np.broadcast_to((valid >= np.datetime64(SPLIT) + np.timedelta64(1, "D"))[..., None], y.shape)
    expected = crps_ensemble(members.values.astype(float), y)[test].mean()
    assert summary(outcome)["raw_ens"]["crps"] == pytest.approx(expected, rel=1e-5)
    assert summary(outcome)["raw_ens"]["n"] == test.sum()


def test_calibration_pays(outcome: BacktestResult):
    rows = summary(outcome)
    assert rows["blend"]["crps"] < rows["raw_ens"]["crps"]
    assert rows["blend"]["crps"] < rows["climatology"]["crps"]
    assert 0.8 < float(rows["blend"]["coverage_90"]) < 0.98  # type: ignore[arg-type]


def test_weights_are_written(outcome: BacktestResult):
    with outcome.files["weights"].open() as file:
        rows = list(csv.DictReader(file))
    total: dict[tuple[str, str], float] = {}
    for row in rows:
        total[row["init_time"], row["lead_time_hours"]] = total.get((row["init_time"], row["lead_time_hours"]), 0.0) + float(row["weight"])
    assert len(total) == 2 * 2  # leads, and fits in February and March
    assert list(total.values()) == pytest.approx([1.0] * len(total), abs=1e-4)


def test_the_report_needs_no_network(outcome: BacktestResult):
    text = outcome.files["report"].read_text()
    assert "<svg" in text
    assert not re.search(r"""(src|href)\s*=|url\(|@import|<script""", text)
    for part in ("Scores", "Skill by lead time", "PIT of the blend", "Weights", "Worst days", "Events", "one: one member"):
        assert part in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text)


def test_a_second_run_gives_the_same(outcome: BacktestResult, tmp_path: Path):
    again = run_backtest(config(tmp_path, make()))
    assert again.files["scores"].read_text() == outcome.files["scores"].read_text()
    assert again.files["weights"].read_text() == outcome.files["weights"].read_text()


def test_a_file_in_zarr_and_kelvin_gives_the_same(outcome: BacktestResult, tmp_path: Path):
    made = make()
    given = config(tmp_path, made)
    kelvin = made["ens"] + 273.15
    kelvin["temperature_2m"].attrs["units"] = "K"
    kelvin = kelvin.assign_coords(station=kelvin["station"].values.astype(np.dtypes.StringDType()))
    kelvin.to_zarr(tmp_path / "ens.zarr", consolidated=False)
    found = run_backtest(replace(given, sources={**given.sources, "ens": tmp_path / "ens.zarr"}))
    assert any("converted from K" in f for f in found.findings)
    assert summary(found)["blend"]["crps"] == pytest.approx(summary(outcome)["blend"]["crps"], rel=1e-3)  # type: ignore[arg-type]


def test_rain_has_its_thresholds_and_stays_positive(tmp_path: Path):
    found = run_backtest(config(tmp_path, make("precipitation_amount"), forecasters=("emos",), refit="never"))
    assert "brier_gt_10" in found.rows[0]
    stored = xr.open_zarr(found.files["predictions"])
    assert np.nanmin(stored["precipitation_amount"].values) >= 0.0


def test_test_until_and_dates_are_whole_days(tmp_path: Path):
    given = config(tmp_path, make(), test_until=date(2023, 3, 3), forecasters=("emos",))
    archive = read_archive(given.sources, given.observations, given.variable)
    test = [b for b in plan(archive, given) if b.test]
    rows = np.concatenate([b.rows for b in test])
    valid = archive.valid_time[rows]
    inside = (valid >= np.datetime64("2023-02-21")) & (valid < np.datetime64("2023-03-04"))
    assert inside.any(axis=1).all()
    found = run_backtest(given)
    assert summary(found)["blend"]["n"] == inside.sum() * 2
    assert found.cases.valid_time.min() >= np.datetime64("2023-02-21")
    assert found.cases.valid_time.max() < np.datetime64("2023-03-04")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"variable": "wind_speed_10m"}, UnknownNameError, "no variable 'wind_speed_10m'; it has temperature_2m"),
        ({"train_until": date(2030, 1, 1)}, ConfigurationError, "test period is empty"),
        ({"train_until": date(2023, 1, 6)}, ConfigurationError, "distinct valid days of pairs up to 2023-01-06"),
        ({"forecasters": ("oracle",)}, UnknownNameError, "No forecaster is called 'oracle'"),
        ({"refit": "hourly"}, ConfigurationError, "expected never, monthly or daily"),
        ({"window": 3}, ConfigurationError, "at least 10"),
        ({"test_until": date(2023, 1, 1)}, ConfigurationError, "the test is empty"),
        ({"sources": {}}, ConfigurationError, "at least one NAME=FILE"),
        ({"sources": {"ens": Path("nowhere.nc")}}, ConfigurationError, "There is no file nowhere.nc"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, object], error: type[Exception], said: str):
    with pytest.raises(error, match=re.escape(said)):
        run_backtest(config(tmp_path, make(), **changes))


def test_data_that_do_not_fit_are_named(tmp_path: Path):
    made = make()
    elsewhere = made | {"observations": made["observations"].assign_coords(station=["x", "y"])}
    with pytest.raises(ConfigurationError, match="no station in common"):
        run_backtest(config(tmp_path / "a", elsewhere))
    later = made | {"observations": made["observations"].assign_coords(time=made["observations"]["time"] + np.timedelta64(999, "D"))}
    with pytest.raises(ConfigurationError, match="No observation falls on a valid time"):
        run_backtest(config(tmp_path / "b", later))
    twice = made | {"ens": xr.concat([made["ens"], made["ens"].isel(init_time=[3])], dim="init_time")}
    with pytest.raises(ConfigurationError, match="2 times; keep one"):
        run_backtest(config(tmp_path / "c", twice))
    wrong = made["ens"].copy()
    wrong["temperature_2m"].attrs["units"] = "furlong"
    with pytest.raises(ConfigurationError, match="'furlong', expected 'degree_Celsius'"):
        run_backtest(config(tmp_path / "d", made | {"ens": wrong}))
    given = config(tmp_path / "e", made)
    (tmp_path / "e" / "broken.nc").write_bytes(b"not a file of any kind")
    with pytest.raises(ConfigurationError, match="cannot be read as NetCDF"):
        run_backtest(replace(given, sources={"ens": tmp_path / "e" / "broken.nc"}))


def test_arguments_are_parsed():
    assert parse_sources(["a=x.nc", "b=y=z.nc"]) == {"a": Path("x.nc"), "b": Path("y=z.nc")}
    for wrong in (["a"], ["=x"], ["a="], ["a b=x"], ["a=x", "a=y"]):
        with pytest.raises(ConfigurationError):
            parse_sources(wrong)
    assert parse_day("2010-12-31", "--train-until") == date(2010, 12, 31)
    with pytest.raises(ConfigurationError, match=re.escape("--train-until is '31.12.2010'")):
        parse_day("31.12.2010", "--train-until")


def test_climatology_and_raw_are_always_in():
    assert choose_forecasters(("emos",), ["a"], "temperature_2m") == ["climatology", "emos", "raw_a"]
    statistical, everything = (set(choose_forecasters((kind,), ["a"], "temperature_2m")) for kind in ("statistical", "all"))
    assert statistical <= everything
    assert "csgd" not in statistical
    assert "csgd" in choose_forecasters(("statistical",), ["a"], "precipitation_amount")


def test_files_are_read_whatever_their_order(tmp_path: Path):
    made = make()
    paths = write(tmp_path / "a", made)
    mixed = write(tmp_path / "b", {n: d.isel(init_time=slice(None, None, -1)) if "init_time" in d.dims else d for n, d in made.items()})
    one = read_archive({"ens": paths["ens"]}, paths["observations"], "temperature_2m")
    other = read_archive({"ens": mixed["ens"]}, mixed["observations"], "temperature_2m")
    assert one.pairs.sources["ens"].identical(other.pairs.sources["ens"])
