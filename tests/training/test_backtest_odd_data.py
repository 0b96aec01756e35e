"""Broken and strange data: nothing crashes, nothing poisons the rest, and the report says what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.training.archives_example import config, make
from training.backtest import BacktestResult, run_backtest

SAID = {
    "missing rows": "ens is missing in 10 of",
    "no spread": "All members of ens are equal",
    "sea of -9999": "elevation -9999 of station lang is not believable",
    "a hot January": "is far from every forecast",
    "a cold source": "ens is typically 3",
    "a gap": "a gap of 33 days",
    "beyond belief": "observations lie outside -60 to 60",
    "all missing": "one has no value at all",
}


def edited(what: str) -> dict[str, xr.Dataset]:
    made = make()
    ens, truth = made["ens"].copy(deep=True), made["observations"].copy(deep=True)
    if what == "missing rows":
        ens["temperature_2m"][{"init_time": slice(60, 65), "lead_time": 0}] = np.nan
    elif what == "no spread":
        ens["temperature_2m"] = ens["temperature_2m"] * 0 + ens["temperature_2m"].isel(ensemble_member=0)
    elif what == "sea of -9999":
        truth = truth.assign_coords(elevation=("station", [-9999.0, 12.0]))
    elif what == "a hot January":
        truth["temperature_2m"][{"time": 20, "station": 0}] = 56.7
    elif what == "a cold source":
        ens["temperature_2m"] = ens["temperature_2m"] - 32.0
    elif what == "a gap":
        made["ens"] = ens = ens.isel(init_time=[i for i in range(ens.sizes["init_time"]) if not 10 <= i < 42])
        made["one"] = made["one"].isel(init_time=[i for i in range(made["one"].sizes["init_time"]) if not 10 <= i < 42])
    elif what == "beyond belief":
        truth["temperature_2m"][{"time": slice(5, 8), "station": 0}] = 999.9
    elif what == "all missing":
        made["one"] = made["one"] * np.nan
    return made | {"ens": ens, "observations": truth}


def summary(result: BacktestResult) -> dict[str, float]:
    return {r["forecaster"]: r["crps"] for r in result.rows if r["lead_time_hours"] == "all"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> BacktestResult:
    return run_backtest(config(tmp_path_factory.mktemp("plain"), make(), forecasters=("emos", "emos_ens"), refit="never"))


@pytest.mark.parametrize("what", SAID)
def test_strange_data_is_survived_and_said(plain: BacktestResult, tmp_path: Path, what: str):
    found = run_backtest(config(tmp_path, edited(what), forecasters=("emos", "emos_ens"), refit="never"))
    assert any(SAID[what] in sentence for sentence in found.findings), found.findings
    assert SAID[what] in found.files["report"].read_text()
    lost = what in ("no spread", "all missing")  # these take information away
    assert summary(found)["blend"] < (1.3 if lost else 1.12) * summary(plain)["blend"]
    assert np.isfinite([v for v in summary(found).values() if v != ""]).all()


def test_missing_rows_touch_no_other_source(plain: BacktestResult, tmp_path: Path):
    found = run_backtest(config(tmp_path, edited("missing rows"), forecasters=("emos", "emos_ens"), refit="never"))
    a, b = plain.cases, found.cases
    keys = [{k: i for i, k in enumerate(zip(c.init_time, c.lead_hours, c.station, strict=True))} for c in (a, b)]
    common = [k for k in keys[1] if k in keys[0]]
    assert len(common) == len(keys[1]) == len(keys[0]) - 10
    one = a.statistics["crps"][a.rows.index("raw_one")][[keys[0][k] for k in common]]
    other = b.statistics["crps"][b.rows.index("raw_one")][[keys[1][k] for k in common]]
    assert np.array_equal(one, other)


def test_rain_that_never_falls(tmp_path: Path):
    made = make("precipitation_amount")
    dry = {n: d * 0.0 for n, d in made.items()}
    for dataset in dry.values():
        dataset["precipitation_amount"].attrs["units"] = "kg m-2"
    found = run_backtest(config(tmp_path, dry, forecasters=("emos", "emos_ens"), refit="never"))
    assert any("ens is zero everywhere" in s for s in found.findings)
    assert summary(found)["blend"] < 0.2


@pytest.mark.parametrize(("variable", "edit"), [("temperature_2m", lambda x: x + 3.0), ("precipitation_amount", lambda x: x * 2.0)])
def test_a_copy_that_is_off_does_little_harm(tmp_path: Path, variable: str, edit):  # type: ignore[no-untyped-def]
    made = make(variable)
    copy = edit(made["ens"])
    copy[variable].attrs["units"] = made["ens"][variable].attrs["units"]
    one = run_backtest(config(tmp_path / "one", made, forecasters=("emos", "emos_ens"), refit="never"))
    two = run_backtest(config(tmp_path / "two", made | {"copy": copy}, forecasters=("emos", "emos_ens", "emos_copy"), refit="never"))
    assert summary(two)["blend"] < 1.05 * summary(one)["blend"]
