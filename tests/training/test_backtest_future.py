"""A planted future: what was not known at a forecast's start must not reach it, at any seam. A leak need not improve a score."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.training.archives_example import LEADS, SPLIT, config, make
from training.archives import read_archive
from training.backtest import plan, run_backtest
from training.learning import select, visible

NOW = np.datetime64("2023-03-08", "ns")
FORECASTERS = ("emos", "persistence", "emos_ens")


def predictions(folder: Path, made: dict[str, xr.Dataset], **options: object) -> xr.DataArray:
    given = config(folder, made, **{"forecasters": FORECASTERS, "test_until": date(2023, 3, 13), **options})
    found = run_backtest(given)
    with xr.open_zarr(found.files["predictions"]) as stored:
        return stored["temperature_2m"].load()


def same(one: xr.DataArray, other: xr.DataArray, until: np.datetime64) -> bool:
    """Whether all forecasts that start by a time are equal, bit by bit."""
    a, b = (x.sel(init_time=x["init_time"] <= until) for x in (one, other))
    assert a.sizes["init_time"] > 5
    return np.array_equal(a.values, b.values, equal_nan=True)


@pytest.fixture(scope="module", params=["monthly", "daily"])
def refit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plain(refit: str, tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    return predictions(tmp_path_factory.mktemp("plain"), make(), refit=refit)


def planted(observations: xr.Dataset, after: np.datetime64) -> xr.Dataset:
    """Everything observed later than a time is 30 K off."""
    return observations.assign(temperature_2m=observations["temperature_2m"] + 30.0 * (observations["time"] > after))


def test_observations_to_come(plain: xr.DataArray, refit: str, tmp_path: Path):
    made = make()
    found = predictions(tmp_path, made | {"observations": planted(made["observations"], NOW)}, refit=refit)
    assert same(plain, found, NOW)
    assert not np.array_equal(plain.values, found.values, equal_nan=True)  # the plant was seen once it had happened


def test_forecasts_to_come(plain: xr.DataArray, refit: str, tmp_path: Path):
    made = make()
    later = made["ens"].assign(temperature_2m=made["ens"]["temperature_2m"] + 30.0 * (made["ens"]["init_time"] > NOW))
    assert same(plain, predictions(tmp_path, made | {"ens": later}, refit=refit), NOW)


def test_observations_that_arrive_late(tmp_path: Path):
    """With everything two days late, what was observed up to two days before the start is all that is known."""
    made = make()
    late = made["observations"].assign_coords(available_time=("time", made["observations"]["time"].values + np.timedelta64(2, "D")))
    one = predictions(tmp_path / "one", made | {"observations": late})
    other = predictions(tmp_path / "other", made | {"observations": planted(late, NOW - np.timedelta64(2, "D"))})
    assert same(one, other, NOW)


def test_the_first_fit_may_look_to_the_split_but_not_when_strict(tmp_path: Path):
    made = make()
    first = np.datetime64(SPLIT, "ns") - np.timedelta64(1, "D")  # start of the first test forecast, at 48 h
    changed = made | {"observations": planted(made["observations"], first)}
    strict = [predictions(tmp_path / n, m, refit="never", strict=True) for n, m in (("a", made), ("b", changed))]
    with_past = [s.sel(forecaster=["emos", "emos_ens", "climatology", "blend"]).sel(init_time=s["init_time"] == first) for s in strict]
    assert with_past[0].sizes["init_time"] == 1
    assert np.array_equal(with_past[0].values, with_past[1].values, equal_nan=True)


def test_nothing_before_the_window_is_seen(tmp_path: Path):
    made = make()
    before = np.datetime64(SPLIT, "ns") - np.timedelta64(32, "D")
    long_ago = made["observations"]["time"] < before
    old = made["observations"].assign(temperature_2m=made["observations"]["temperature_2m"] - 30.0 * long_ago)
    one, other = (predictions(tmp_path / n, made | {"observations": o}, window=20) for n, o in (("a", made["observations"]), ("b", old)))
    names = [n for n in one["forecaster"].values if n != "blend"]  # it rests on forecasts of the window, which had windows of their own
    assert np.array_equal(one.sel(forecaster=names).values, other.sel(forecaster=names).values, equal_nan=True)


def test_what_a_fit_may_see(tmp_path: Path):
    given = config(tmp_path, make(), window=15)
    archive = read_archive(given.sources, given.observations, given.variable)
    for block in plan(archive, given):
        keep = visible(archive.pairs, block.cutoff, given.window)
        assert (archive.valid_time[keep] <= block.cutoff).all()
        assert len(np.unique(archive.valid_time[keep].astype("datetime64[D]"))) <= 15
        inits = archive.pairs.frame["init_time"].values
        if block.test and block.rows[0] != plan(archive, given)[6].rows[0]:
            assert block.cutoff == inits[block.rows[0]]
        pairs = select(archive.pairs, np.flatnonzero(keep.any(axis=1)), keep, block.cutoff)
        assert pairs.observations is not None
        assert pairs.observations["time"].values.max() <= block.cutoff
        seen = np.isfinite(pairs.observed["temperature_2m"].values)
        valid = pairs.observed["init_time"].values[:, None] + LEADS
        assert (valid[seen.any(axis=2)] <= block.cutoff).all()
