"""Skill on the simulated atmosphere: a year to learn from, two to test, the blend beside its parts and beside what could be known at all.

At the gauge of the normals the centres forecast temperature and the rain of 24 h ending 24, 48 and 72 h ahead; the backtest's own walk
learns and blends. The ceiling is drawn from the law of the truth given all centres' signals, which no forecaster sees. Reported: the
attainable skill reached, 1 - CRPS / CRPS(climatology) over that of the ceiling; whether the blend is significantly worse or better than its
best part (Diebold-Mariano, false discoveries controlled at 10 %); PIT by season, and in the top 5 % of forecast rain. ``--networks`` adds
the networks: the blend with them beside the blend without, and each network beside the best statistical forecaster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_catalog.regions import load_region
from data_catalog.simulated import measure
from data_catalog.simulated.climate import Climate
from data_catalog.simulated.world import CENTRES
from models.scores.calibration import cdf_interval_quantiles
from models.scores.significance import benjamini_hochberg, diebold_mariano
from tests.benchmarks.bench_networks import NETWORKS, difference
from training.backtest import BacktestConfig, BacktestResult, run_backtest

START = date(2021, 1, 1)
YEARS = 3
LEADS = (24, 48, 72)
WORLD, MEMBERS = 1, 11
TARGET = {"temperature_2m": 0.6, "precipitation_amount": 0.4}  # share of the attainable skill
SEASONS = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}
FALSE_DISCOVERIES = 0.1


def write(found: measure.Hindcasts, inits: np.ndarray, variable: str, folder: Path) -> tuple[dict[str, Path], Path]:
    """The centres and the observations as files that the backtest reads."""
    folder.mkdir()
    rain = variable == "precipitation_amount"
    said, truth = (found.rain, found.observed_rain) if rain else (found.temperature, found.observed_temperature)
    leads = np.array(found.leads, dtype="timedelta64[h]").astype("timedelta64[ns]")
    place = {"station": ["one"], "latitude": ("station", [21.0]), "longitude": ("station", [105.8])}
    units = {"units": "kg m-2" if rain else "degree_Celsius"}
    dims = ("init_time", "lead_time", "station", "ensemble_member")
    paths = {}
    for name in CENTRES:
        paths[name] = folder / f"{name}.nc"
        coords = {"init_time": inits, "lead_time": leads, **place}
        data = xr.Dataset({variable: (dims, said[name][:, :, None].astype(np.float32), units)}, coords)
        data.to_netcdf(paths[name], engine="h5netcdf")
    times, first = np.unique(inits[:, None] + leads, return_index=True)
    observed = xr.Dataset({variable: (("time", "station"), truth.ravel()[first][:, None], units)}, {"time": times, **place})
    observed.to_netcdf(folder / "observations.nc", engine="h5netcdf")
    return paths, folder / "observations.nc"


def report(variable: str, result: BacktestResult, ceiling: np.ndarray, inits: np.ndarray) -> dict[str, Any]:
    """Scores of the blend against its parts, climatology and the ceiling; ``ceiling`` is its CRPS, (run, lead)."""
    cases = result.cases
    rows = {name: i for i, name in enumerate(cases.rows)}
    position = {(t, float(h)): ceiling[i, j] for i, t in enumerate(inits) for j, h in enumerate(LEADS)}
    best_possible = np.array([position[t, h] for t, h in zip(cases.init_time, cases.lead_hours, strict=True)])
    score = cases.statistics["crps"]
    parts = [name for name in rows if name not in ("blend", "equal_weight")]
    worse, better, by_lead = [], [], {}
    for lead in LEADS:
        cut = cases.lead_hours == lead
        mean = {name: float(score[i, cut].mean()) for name, i in rows.items()}
        usual, best = mean["climatology"], min(parts, key=mean.__getitem__)
        attainable, reached = 1.0 - float(best_possible[cut].mean()) / usual, 1.0 - mean["blend"] / usual
        difference = score[rows["blend"], cut] - score[rows[best], cut]
        p = float(diebold_mariano(difference).p_value)
        worse.append(p / 2 if difference.mean() > 0 else 1.0 - p / 2)
        over = diebold_mariano(score[rows["blend"], cut] - best_possible[cut])
        better.append(1.0 - worse[-1])
        by_lead[lead] = {
            "blend": mean["blend"], "best_part": best, "best": mean[best], "climatology": usual,
            "ceiling": float(best_possible[cut].mean()), "attainable_skill": attainable, "share_reached": reached / attainable,
            "above_ceiling": bool(over.mean < 0 and over.p_value < 0.05),
        }  # fmt: skip
    for lead, bad, good in zip(LEADS, *(benjamini_hochberg(np.array(p)) for p in (worse, better)), strict=True):
        by_lead[lead] |= {"worse": bool(bad <= FALSE_DISCOVERIES), "better": bool(good <= FALSE_DISCOVERIES)}
    return {"target": TARGET[variable], "by_lead": by_lead, "pit": pit(variable, result)}


def with_networks(result: BacktestResult, without: BacktestResult) -> dict[int, dict[str, dict[str, float]]]:
    """By lead: CRPS of the blend with networks less that of the blend without, and of each network less the best statistical forecaster's.

    Each with half the width of its 95 % interval (Diebold-Mariano), on the cases that both backtests scored.
    """
    found: dict[int, dict[str, dict[str, float]]] = {}
    for lead in LEADS:
        at = without.cases.lead_hours == lead
        mean = dict(zip(without.cases.rows, without.cases.statistics["crps"][:, at].mean(axis=1), strict=True))
        best = min((name for name in mean if name not in ("blend", "equal_weight")), key=mean.__getitem__)
        beside = {"blend": ("blend", "blend")} | {f"{n} less {best}": (n, best) for n in NETWORKS if n in result.cases.rows}
        gaps = {name: difference(result.cases, without.cases, *rows, lead)[1] for name, rows in beside.items()}
        tests = {name: diebold_mariano(gap) for name, gap in gaps.items()}
        found[lead] = {n: {"difference": float(t.mean), "half_width": 1.96 * float(t.standard_error)} for n, t in tests.items()}
    return found


def pit(variable: str, result: BacktestResult) -> dict[str, dict[str, float]]:
    """Mean and 12 times the variance of the blend's PIT, 0.5 and 1 when calibrated, by season and for the most rain forecast."""
    stored = xr.open_zarr(result.files["predictions"])
    q = stored[variable].sel(forecaster="blend").values.astype(float)[:, :, 0].reshape(-1, stored.sizes["quantile"])
    y = stored["observed"].values[:, :, 0].ravel()
    months = ((stored["init_time"] + stored["lead_time"]).dt.month.values).ravel()
    test = (stored["init_time"] + stored["lead_time"]).values.ravel() >= np.datetime64(f"{START.year + 1}-01-02")
    there = np.isfinite(y) & np.isfinite(q[:, 0]) & test
    low, high = cdf_interval_quantiles(q[there], y[there])
    u = low + np.random.default_rng(0).random(len(low)) * (high - low)
    groups = {name: np.isin(months[there], wanted) for name, wanted in SEASONS.items()} | {"all": np.ones(len(u), dtype=bool)}
    if variable == "precipitation_amount":
        expected = q[there].mean(axis=1)
        groups["top 5 % of forecast rain"] = expected >= np.quantile(expected, 0.95)
    parts = {name: u[at] for name, at in groups.items() if at.any()}
    return {name: {"n": len(own), "mean": float(own.mean()), "spread": float(12.0 * own.var())} for name, own in parts.items()}


def main() -> None:
    """Simulate, test, print."""
    parser = argparse.ArgumentParser(description="Skill on the simulated atmosphere.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="every sixth day")
    parser.add_argument("--every", type=int, default=1, help="days between forecasts")
    parser.add_argument("--networks", action="store_true", help="also blend with the networks, which takes several times as long")
    chosen = parser.parse_args()
    step = 6 if chosen.quick else chosen.every
    end = np.datetime64(f"{START.year + YEARS}-01-01")
    inits = np.arange(np.datetime64(START), end, np.timedelta64(step, "D")).astype("datetime64[ns]")
    begin = time.perf_counter()
    found = measure.hindcasts(Climate.of(load_region()), WORLD, CENTRES, inits, LEADS, members=MEMBERS)
    figures: dict[str, Any] = {"runs": len(inits), "simulating_seconds": time.perf_counter() - begin}
    print(f"{len(inits)} runs simulated in {figures['simulating_seconds']:.0f} s", flush=True)
    for variable in TARGET:
        members, truth = (
            (found.rain, found.observed_rain) if variable == "precipitation_amount" else (found.temperature, found.observed_temperature)
        )
        with tempfile.TemporaryDirectory() as folder:
            sources, observations = write(found, inits, variable, Path(folder) / "files")
            until = date(START.year, 12, 31)
            config = BacktestConfig(sources, observations, variable, until, Path(folder) / "out")
            result = run_backtest(config)
            figures[variable] = report(variable, result, measure.crps(members[measure.CEILING], truth), inits)
            if chosen.networks:
                everybody = run_backtest(replace(config, out=Path(folder) / "all", forecasters=("all",)))
                figures[variable]["networks"] = with_networks(everybody, result)
        for lead, row in figures[variable]["by_lead"].items():
            verdict = "significantly worse than" if row["worse"] else "significantly better than" if row["better"] else "level with"
            print(
                f"{variable} {lead:3d} h: blend {row['blend']:.3f}, {verdict} {row['best_part']} {row['best']:.3f}; climatology "
                f"{row['climatology']:.3f}, ceiling {row['ceiling']:.3f}; {row['share_reached']:.0%} of the attainable skill "
                f"{row['attainable_skill']:.2f} (target {TARGET[variable]:.0%}){'; ABOVE THE CEILING' if row['above_ceiling'] else ''}",
                flush=True,
            )
        for lead, gaps in figures[variable].get("networks", {}).items():
            said = ", ".join(f"{name} {gap['difference']:+.4f} ± {gap['half_width']:.4f}" for name, gap in gaps.items())
            print(f"{variable} {lead:3d} h, CRPS with networks less that without: {said}", flush=True)
        for name, row in figures[variable]["pit"].items():
            print(f"    PIT {name}: mean {row['mean']:.2f}, spread {row['spread']:.2f}, {row['n']} cases", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
