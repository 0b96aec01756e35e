"""The station networks on the simulated atmosphere: against the best statistical forecaster, and what each part of them is worth.

Pairs come from the archive of a root (``giomua simulate --days 400`` makes one). The newest fifth of the days is held out. Every figure
is the mean CRPS there, and its difference to the full ``drn`` with a 95 % interval over days (Newey and West). Ablations: each source of
predictors, the embeddings, the other variables, the verified errors, the number of members. ``--blend`` replays the archive's forecasts of
the first day with the networks and without: a minute for four months, far longer for three years.

``--pairs`` replays the real archives of GIOMUA_REAL_DATA instead, with the networks and without: the CRPS of the two blends, and of each
network beside ``emos``, over the test period, with differences and their 95 % intervals from the sums of 15-day blocks. ``--heads``
compares the heads that ``drn`` has for rain on folds of the training periods alone: what a default is chosen by.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_catalog.dimensions import INIT_TIME, LEAD_TIME
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.store import Root
from models.base import ForecasterError, Pairs
from models.neural.drn import HEADS
from models.registry import build
from models.scores import crps_quantiles
from models.scores.significance import block_standard_error, diebold_mariano
from pipelines.simulate import simulate
from pipelines.train import newest_time, read_training_past
from tests.benchmarks.bench_backtest import ARCHIVES
from training.archives import read_archive
from training.backtest import BacktestConfig, Refit, plan, run_backtest
from training.evaluate import evaluate, learned_until, started_from
from training.learning import forecast_block, near, visible
from training.scoring import Cases

STATISTICAL = ("climatology", "emos", "emos-recent", "emos-loose", "forest")
NETWORKS = ("drn", "bqn", "shortrange")
HELD_OUT = 0.2
RAIN = [name for name, (_, variable, _) in ARCHIVES.items() if variable == "precipitation_amount"]
SEEDS = (0, 1, 2)
BLOCK = 15  # valid days, over whose sums errors count as independent


def pairs_of(settings: Settings, leads: int, hours: float = np.inf) -> Pairs:
    """All pairs of the archive of a root, on some of the leads up to so many hours, and not the first."""
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        past = read_training_past(settings, root, manifest, newest_time(settings, root, manifest), None, lambda *_: None)
    assert past.pairs is not None
    last = int((past.pairs.observed[LEAD_TIME].values / np.timedelta64(1, "h") <= hours).sum()) - 1
    kept = np.unique(np.linspace(1, last, leads).round().astype(int))
    sources = {name: source.isel({LEAD_TIME: kept}) for name, source in past.pairs.sources.items()}
    return replace(past.pairs, sources=sources, observed=past.pairs.observed.isel({LEAD_TIME: kept}))


def ablations(pairs: Pairs, variable: str) -> dict[str, tuple[Pairs, Mapping[str, Any]]]:
    """Label to (what is seen, parameters of ``drn``)."""
    found: dict[str, tuple[Pairs, Mapping[str, Any]]] = {"drn": (pairs, {})}
    for name in pairs.sources:
        left = {other: source for other, source in pairs.sources.items() if other != name}
        if left:
            found[f"without {name}"] = (replace(pairs, sources=left), {})
    alone = {name: source[[variable]] for name, source in pairs.sources.items() if variable in source}
    found["without the other variables"] = (replace(pairs, sources=alone), {})
    found["without verified errors"] = (replace(pairs, observations=None), {})
    found["without embeddings"] = (pairs, {"embedding": 0})
    found["2 members"] = (pairs, {"members": 2})
    found["10 members"] = (pairs, {"members": 10})
    return found


def score(forecaster_id: str, pairs: Pairs, cut: np.datetime64, variable: str, parameters: Mapping[str, Any]) -> Cases:
    """Held-out cases of a forecaster."""
    learned = replace(learned_until(pairs, cut), targets=(variable,))
    forecaster = build(forecaster_id, **parameters).fit(learned)
    return evaluate({forecaster_id: forecaster}, replace(started_from(pairs, cut), targets=(variable,)), ())[variable]


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--root", type=Path, help="of an archive; a small one is simulated where none is given")
    parser.add_argument("--variables", nargs="+", default=["temperature_2m", "wind_speed_10m"])
    parser.add_argument("--leads", type=int, default=8, help="evenly spread over the forecast")
    parser.add_argument("--pairs", nargs="*", choices=list(ARCHIVES), help="replay these real archives instead; all without a name")
    parser.add_argument("--refit", choices=["never", "monthly", "daily"], default="monthly", help="of --pairs")
    parser.add_argument("--heads", nargs="*", choices=RAIN, help="compare heads on folds of these; all archives of rain without a name")
    parser.add_argument("--blend", action="store_true", help="replay the first day of the root's forecasts with the networks and without")
    chosen = parser.parse_args()
    if chosen.pairs is not None or chosen.heads is not None:
        if "GIOMUA_REAL_DATA" not in os.environ:
            parser.error("GIOMUA_REAL_DATA names no folder; the real archives are expected there")
        found: dict[str, Any] = {"refit": chosen.refit}
        for name in () if chosen.pairs is None else chosen.pairs or ARCHIVES:
            found[name] = blended(name, configured(name), chosen.refit)
        for name in () if chosen.heads is None else chosen.heads or RAIN:
            found[f"heads on folds of {name}"] = on_folds(name)
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(root=str(chosen.root or folder))
        if chosen.root is None:
            simulate(settings, np.datetime64("2025-07-10T00", "ns"), history_days=40 if chosen.quick else 400)
        pairs = pairs_of(settings, 2 if chosen.quick else chosen.leads, 24.0 if chosen.blend else np.inf)
    if chosen.blend:
        with tempfile.TemporaryDirectory() as folder:
            blends = {v: blended(v, written(pairs, v, Path(folder) / v), chosen.refit) for v in chosen.variables}
        if chosen.json:
            chosen.json.write_text(json.dumps(blends, indent=2))
        return
    inits = np.unique(pairs.frame[INIT_TIME].values)
    cut = inits[int(len(inits) * (1.0 - HELD_OUT))]
    figures: dict[str, Any] = {"cycles": len(inits), "held_out_from": str(cut)[:10], "sources": list(pairs.sources)}
    for variable in chosen.variables[: 1 if chosen.quick else None]:
        figures[variable] = measured(pairs, cut, variable, chosen.quick)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


def configured(archive: str) -> BacktestConfig:
    """The backtest of a real archive."""
    names, variable, until = ARCHIVES[archive]
    pairs = Path(os.environ["GIOMUA_REAL_DATA"]) / "pairs" / archive
    return BacktestConfig({name: pairs / f"{name}.nc" for name in names}, pairs / "observations.nc", variable, until, Path())


def written(pairs: Pairs, variable: str, folder: Path) -> BacktestConfig:
    """The backtest of pairs of an archive, written as files; the newest fifth of the days is the test."""
    folder.mkdir()
    assert pairs.observations is not None
    held = {name: source for name, source in pairs.sources.items() if variable in source}
    for name, data in {**held, "observations": pairs.observations}.items():
        plain = data[[variable]].drop_vars("available_time", errors="ignore").drop_attrs(deep=False)  # netCDF has no type for a truth value
        plain.to_netcdf(folder / f"{name}.nc", engine="h5netcdf")
    inits = np.unique(pairs.frame[INIT_TIME].values)
    until = inits[int(len(inits) * (1.0 - HELD_OUT))].astype("datetime64[D]").item()
    return BacktestConfig({name: folder / f"{name}.nc" for name in held}, folder / "observations.nc", variable, until, Path())


def blended(archive: str, config: BacktestConfig, refit: Refit) -> dict[str, Any]:
    """CRPS on an archive and its difference to what stands beside it: the blend without networks, and ``emos`` for each network."""
    start, cases = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        for asked in ("all", "statistical"):
            cases[asked] = run_backtest(replace(config, out=Path(folder) / asked, refit=refit, forecasters=(asked,))).cases
    found: dict[str, Any] = {"seconds": time.perf_counter() - start}
    beside = {"blend": ("statistical", "blend")} | {name: ("all", "emos") for name in NETWORKS if name in cases["all"].rows}
    print(f"{archive}, refitted {refit}, {found['seconds']:.0f} s:", flush=True)
    for row, (asked, other) in beside.items():
        day, gap = difference(cases["all"], cases[asked], row, other)
        crps = [float(c.statistics["crps"][c.rows.index(r)].mean()) for c, r in ((cases["all"], row), (cases[asked], other))]
        found[row] = {"crps": crps[0], "beside": crps[1], "difference": float(gap.mean()), "half_width": _half(gap), "days": len(day)}
        label = "the blend without networks" if row == "blend" else other
        print(f"  {row:10s} {crps[0]:.4f}, {label} {crps[1]:.4f}: {gap.mean():+.4f} ± {_half(gap):.4f}, {len(day)} days", flush=True)
    return found


def on_folds(archive: str) -> dict[str, dict[str, float]]:
    """CRPS of ``drn`` with each head, mean of some seeds, on the blocks of the training period, each forecast by a fit on the others."""
    config = configured(archive)
    real = read_archive(config.sources, config.observations, config.variable)
    blocks = [block for block in plan(real, config) if not block.test]
    makers = {"emos": lambda: build("emos")} | {f"{h} {s}": partial(build, "drn", head=h, seed=s) for h in HEADS for s in SEEDS}
    scores: dict[str, list[np.ndarray]] = {label: [] for label in makers}
    seconds = dict.fromkeys(makers, 0.0)
    for block in blocks:
        keep = visible(real.pairs, block.cutoff) & ~near(real.pairs, block)
        observed = real.observed[block.rows].ravel()
        for label in makers:
            start = time.process_time()
            said = forecast_block(real.pairs, block, keep, [label], make=lambda label: makers[label]()).quantiles[config.variable][label]
            seconds[label] += time.process_time() - start
            scores[label].append(crps_quantiles(said.reshape(len(observed), -1).astype(np.float64), observed))
    crps = {label: np.concatenate(parts) for label, parts in scores.items()}
    day = np.concatenate([real.valid_time[block.rows].ravel() for block in blocks])
    known = np.flatnonzero(np.isfinite(np.stack(list(crps.values()))).all(axis=0))
    order = known[np.argsort(day[known], kind="stable")]
    usual = float(crps["emos"][order].mean())
    print(f"{archive}, folds of the training period, emos {usual:.4f}:", flush=True)
    found: dict[str, dict[str, float]] = {"emos": {"crps": usual}}
    for head in HEADS:
        gap = np.mean([crps[f"{head} {seed}"] for seed in SEEDS], axis=0)[order] - crps["emos"][order]
        took = sum(seconds[f"{head} {seed}"] for seed in SEEDS) / len(SEEDS) / len(blocks)
        found[head] = {"difference": float(gap.mean()), "half_width": _half(gap), "seconds_a_fit": took}
        print(f"  drn, head {head:5s} minus emos {gap.mean():+.4f} ± {_half(gap):.4f}, {took:.1f} s a fit", flush=True)
    return found


def _half(gap: np.ndarray) -> float:
    """Half the width of the 95 % interval of the mean of (days,) differences."""
    return 1.96 * float(block_standard_error(gap, block=BLOCK))


def measured(pairs: Pairs, cut: np.datetime64, variable: str, quick: bool) -> dict[str, dict[str, float]]:
    """CRPS of every forecaster and ablation, and its difference to ``drn``."""
    print(f"{variable}:", flush=True)
    runs = ablations(pairs, variable)
    quickly: Mapping[str, Any] = {"epochs": 2} if quick else {}
    cases = {"drn": score("drn", *_run(runs["drn"], cut, variable, quickly))}
    for name in (*STATISTICAL, *NETWORKS[1:]):
        try:
            cases[name] = score(name, pairs, cut, variable, quickly if name in NETWORKS else {})
        except ForecasterError as error:
            print(f"  {name}: {error}")
    for label, run in runs.items():
        if label != "drn":
            cases[label] = score("drn", *_run(run, cut, variable, quickly))
    found = {}
    for label, one in cases.items():
        day, gap = difference(one, cases["drn"], one.rows[0], "drn")
        test = diebold_mariano(gap)
        half = 1.96 * float(test.standard_error)
        found[label] = {"crps": float(one.statistics["crps"].mean()), "minus_drn": float(test.mean), "half_width": half, "days": len(day)}
        print(f"  {label:32s} {found[label]['crps']:.4f}  minus drn {float(test.mean):+.4f} ± {half:.4f}", flush=True)
    return found


def _run(
    run: tuple[Pairs, Mapping[str, Any]], cut: np.datetime64, variable: str, more: Mapping[str, Any]
) -> tuple[Pairs, np.datetime64, str, Mapping[str, Any]]:
    return run[0], cut, variable, {**run[1], **more}


def difference(one: Cases, other: Cases, row: str, beside: str, lead: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Valid days, and on each the mean CRPS of a row of one less that of a row of the other, over the cases that both have.

    ``lead`` leaves those of one lead in hours.
    """
    keys = [list(zip(c.init_time, c.lead_hours, c.station, strict=True)) for c in (one, other)]
    place = {key: i for i, key in enumerate(keys[1])}
    both = [(i, place[key]) for i, key in enumerate(keys[0]) if key in place and lead in (None, key[1])]
    mine, theirs = np.array(both).T
    gap = one.statistics["crps"][one.rows.index(row), mine] - other.statistics["crps"][other.rows.index(beside), theirs]
    day, where = np.unique(one.valid_time[mine].astype("datetime64[D]"), return_inverse=True)
    return day, np.bincount(where, weights=gap) / np.bincount(where)


if __name__ == "__main__":
    main()
