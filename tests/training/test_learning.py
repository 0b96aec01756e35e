"""What a cycle learns of its forecasters, from forecasts that did not see their outcomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from models.base import LEVELS, Pairs
from models.blend import apply_blend, bucket_of
from models.registry import build
from models.scores.calibration import cdf_interval_quantiles
from tests.training.archives_example import make
from training.learning import Trained, forecast_block, learn_weights, near, scorable, training_blocks, visible
from training.skill import held_out_scores

IDS = ["climatology", "persistence", "raw_ens", "raw_one", "emos_ens", "emos"]
PREFER = ["emos_ens", "emos"]
NAME = "temperature_2m"
BUCKET = int(bucket_of(np.array([24.0]))[0])


def pairs_of(made: dict[str, xr.Dataset]) -> tuple[Pairs, np.datetime64]:
    """The example as pairs, and the time at which all of it but the last two days is known."""
    sources = {n: d.transpose("init_time", "lead_time", "station", "ensemble_member") for n, d in made.items() if n != "observations"}
    inits = sources["ens"]["init_time"].values
    leads = sources["ens"]["lead_time"].values
    now = inits[-1]
    truth = made["observations"][NAME]
    values = np.stack([truth.sel(time=inits + lead).values for lead in leads], axis=1)
    values = np.where((inits[:, None] + leads > now)[..., None], np.nan, values)
    observed = xr.Dataset({NAME: (("init_time", "lead_time", "station"), values)}, coords=sources["ens"].drop_vars(NAME).coords)
    return Pairs(sources, made["observations"], (NAME,), None, observed), now


@pytest.fixture(scope="module")
def known() -> tuple[Pairs, np.datetime64]:
    return pairs_of(make(days=80))


def test_a_block_is_forecast_without_what_shares_its_weather(known: tuple[Pairs, np.datetime64]):
    pairs, now = known
    seen = visible(pairs, now)
    blocks = training_blocks(pairs, np.flatnonzero((seen & scorable(pairs)).any(axis=1)), now, 3)
    assert len(blocks) == 3
    rows = np.concatenate([b.rows for b in blocks])
    assert len(np.unique(rows)) == len(rows)
    inits = pairs.frame["init_time"].values
    block = blocks[1]
    keep = seen & ~near(pairs, block)
    valid = pairs.frame["valid_time"].transpose("init_time", "lead_time").values
    inside = (valid >= inits[block.rows[0]]) & (valid <= valid[block.rows].max())
    assert not keep[inside].any()
    changed = pairs.observed.copy(deep=True)
    changed[NAME].values[block.rows] += 30.0  # the outcomes of the block itself
    other = replace(pairs, observed=changed)
    one, two = (forecast_block(p, block, keep, ["emos_ens", "emos"]) for p in (pairs, other))
    for name, values in one.quantiles[NAME].items():
        assert np.array_equal(values, two.quantiles[NAME][name], equal_nan=True)


def test_weights_go_to_the_calibrated(known: tuple[Pairs, np.datetime64]):
    lesson = learn_weights(known[0], IDS, PREFER, (NAME,), known[1])
    weights = dict(zip(IDS, lesson.states[NAME].weights[BUCKET], strict=True))
    assert weights["emos_ens"] + weights["emos"] > 0.6
    assert weights["raw_one"] < 0.1
    again = learn_weights(known[0], IDS, PREFER, (NAME,), known[1])
    assert np.array_equal(again.states[NAME].weights, lesson.states[NAME].weights)


def test_observations_shuffled_in_time_give_no_skill_and_weights_towards_climatology():
    made = make(days=120)
    rng = np.random.default_rng(4)
    truth = made["observations"]
    shuffled = made | {"observations": truth.assign({NAME: (truth[NAME].dims, rng.permutation(truth[NAME].values))})}
    pairs, now = pairs_of(shuffled)
    lesson = learn_weights(pairs, IDS, PREFER, (NAME,), now)
    weights = dict(zip(IDS, lesson.states[NAME].weights[BUCKET], strict=True))
    scores = dict(zip(IDS, lesson.states[NAME].past_crps[BUCKET], strict=True))
    honest = learn_weights(pairs_of(make(days=120))[0], IDS, PREFER, (NAME,), now)
    assert weights["climatology"] > 0.3
    assert weights["climatology"] > honest.states[NAME].weights[BUCKET][0] + 0.25
    assert weights["raw_ens"] + weights["raw_one"] < 0.05
    assert scores["emos_ens"] > 0.98 * scores["climatology"]


def test_without_history_the_preferred_share_the_weight():
    lesson = learn_weights(None, IDS, PREFER, (NAME,), np.datetime64("2025-01-01", "ns"))
    assert lesson.states[NAME].weights[BUCKET].tolist() == [0, 0, 0, 0, 0.5, 0.5]


def test_a_trained_forecaster_takes_part_by_what_it_said_of_the_past(known: tuple[Pairs, np.datetime64]):
    pairs, now = known
    dims = ("init_time", "lead_time", "station", "quantile")
    truth = np.nan_to_num(pairs.observed[NAME].values, nan=20.0)
    coords = {n: pairs.observed[n] for n in dims[:-1]} | {"quantile": LEVELS}
    oracle = xr.Dataset({NAME: (dims, truth[..., None] + 0.1 * (LEVELS - 0.5))}, coords=coords)
    trained = {"oracle": Trained(build("climatology"), oracle)}
    lesson = learn_weights(pairs, [*IDS, "oracle"], [*PREFER, "oracle"], (NAME,), now, trained=trained)
    assert lesson.states[NAME].weights[BUCKET][-1] > 0.9
    unseen = {"oracle": Trained(build("climatology"), oracle.isel(init_time=slice(0, 5)))}
    lesson = learn_weights(pairs, [*IDS, "oracle"], [*PREFER, "oracle"], (NAME,), now, trained=unseen)
    assert lesson.states[NAME].weights[BUCKET][-1] == 0.0


def test_a_perfect_ensemble_loses_less_than_one_per_cent():
    """Where members and truth are drawn alike there is nothing to correct: what learning costs is small."""
    rng = np.random.default_rng(7)
    days, members = 240, 50
    inits = np.datetime64("2024-01-01", "ns") + np.arange(days) * np.timedelta64(1, "D")
    leads = np.array([24, 48], dtype="timedelta64[h]").astype("timedelta64[ns]")
    signal = 20.0 + 4.0 * rng.normal(size=(days, 2, 2, 1))
    drawn = np.round(signal + 1.5 * rng.normal(size=(days, 2, 2, members + 1)), 1)
    dims = ("init_time", "lead_time", "station", "ensemble_member")
    coords = {"init_time": inits, "lead_time": leads, "station": ["a", "b"]}
    ensemble = xr.Dataset({NAME: (dims, drawn[..., :members].astype(np.float32))}, coords=coords)
    observed = xr.Dataset({NAME: (dims[:-1], drawn[..., members])}, coords=coords)
    pairs = Pairs({"ens": ensemble}, None, (NAME,), None, observed)
    ids = ["climatology", "raw_ens", "emos_ens", "emos"]
    lesson = learn_weights(pairs, ids, ["emos_ens", "emos"], (NAME,), inits[-1] + np.timedelta64(10, "D"))
    rows = {r["forecaster"]: r["crps"] for r in held_out_scores(lesson, inits[-1] + np.timedelta64(10, "D"))}
    assert rows["blend"] < 1.01 * rows["raw_ens"]
    assert rows["blend"] < 0.6 * rows["climatology"]


def test_the_chance_of_heavy_rain_is_as_often_right_as_it_says():
    """Ensembles of cell means against gauges within the cells, which get more and less: the chance is the gauge's, and not more."""
    rng = np.random.default_rng(12)
    days, members, stations, rain = 240, 10, 6, "precipitation_amount"
    inits = np.datetime64("2024-01-01", "ns") + np.arange(days) * np.timedelta64(1, "D")
    leads = np.array([24, 48], dtype="timedelta64[h]").astype("timedelta64[ns]")
    weather = rng.normal(size=(days, 2, 1, 1))

    def cell(noise: float, size: int) -> np.ndarray:
        wet = 1.2 * weather + noise * rng.normal(size=(days, 2, 1, 1)) + 0.5 * rng.normal(size=(days, 2, stations, size))
        return np.maximum(6.0 * wet, 0.0) ** 1.3

    observed = np.round(cell(0.0, 1)[..., 0] * rng.gamma(1.0, 1.0, (days, 2, stations)), 1)
    dims = ("init_time", "lead_time", "station", "ensemble_member")
    bounds = (("lead_time", "bounds"), np.stack([leads - np.timedelta64(24, "h"), leads], axis=1))
    coords = {"init_time": inits, "lead_time": leads, "station": [f"s{i}" for i in range(stations)], "lead_time_bounds": bounds}
    raw = {name: cell(noise, members).astype(np.float32) for name, noise in (("a", 0.4), ("b", 0.6))}
    sources = {name: xr.Dataset({rain: (dims, values)}, coords) for name, values in raw.items()}
    pairs = Pairs(sources, None, (rain,), None, xr.Dataset({rain: (dims[:3], observed)}, coords))
    ids = ["climatology", "raw_a", "raw_b", "emos_a", "emos_b", "emos", "csgd"]
    lesson = learn_weights(pairs, ids, ids[3:], (rain,), inits[-1] + np.timedelta64(10, "D"))
    parts = lesson.newest.quantiles[rain]
    blended = apply_blend(lesson.newest_states[rain].only(list(parts)), list(parts.values()), np.array([24.0, 48.0]), 0.0)
    assert lesson.block is not None
    threshold = float(np.quantile(observed, 0.95))
    said = 1.0 - cdf_interval_quantiles(blended.reshape(-1, len(LEVELS)), np.full(blended[..., 0].size, threshold))[1]
    came = observed[lesson.block.rows] > threshold
    assert said.mean() == pytest.approx(came.mean(), rel=0.3)
    plain = 1.0 - cdf_interval_quantiles(parts["raw_a"].reshape(-1, len(LEVELS)), np.full(said.size, threshold))[1]
    assert abs(said.mean() - came.mean()) < abs(plain.mean() - came.mean())
