"""Skill on the simulated atmosphere: a year to learn from, two to test, the blend beside its parts and beside what could be known at all.

At the gauge of the normals the centres forecast temperature and the rain of 24 h ending 24, 48 and 72 h ahead, read to 0.1; the backtest's
own walk learns and blends. The ceiling is drawn from the law of the truth given all centres' signals, which no forecaster sees. Reported:
the attainable skill reached, 1 - CRPS / CRPS(climatology) over that of the ceiling; whether the blend is significantly worse or better
than its best part (Diebold-Mariano, false discoveries controlled at 10 %); PIT by season, and in the top 5 % of forecast rain, with 95 %
intervals from 15-day blocks, beside the PIT of the ceiling, which is calibrated by its making: what it is off is chance.

One learning year is wet, another dry, and what is learned from it is off by as much: ``--starts`` pools several triples of years.
``--networks`` adds the networks: the blend with them beside the blend without, and each network beside the best statistical forecaster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_catalog.regions import load_region
from data_catalog.simulated import measure
from data_catalog.simulated.climate import Climate
from data_catalog.simulated.world import CENTRES
from models.scores.calibration import cdf_interval_ensemble, cdf_interval_quantiles, pit
from models.scores.significance import benjamini_hochberg, diebold_mariano
from tests.benchmarks.bench_networks import NETWORKS, difference
from training.backtest import BacktestConfig, run_backtest
from training.scoring import Cases, daily_error
from training.verification import pit_square

START, YEARS = 2021, 3
LEADS = (24, 48, 72)
WORLD, MEMBERS = 1, 11
TARGET = {"temperature_2m": 0.6, "precipitation_amount": 0.4}  # share of the attainable skill
SEASONS = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}
FALSE_DISCOVERIES = 0.1
READ_TO = 0.1  # mm and degrees


@dataclass(frozen=True, eq=False)
class Period:
    """Three years forecast: by the centres and by the ceiling, as it was, and what the backtest made of two of them.

    Attributes:
        cases: Of the backtest's test.
        blend: F below and F above the reading's resolution, and the mean of the blend, for each of them, (3, cases).
        ceiling: Likewise of the ceiling, with its CRPS for the mean.
    """

    cases: Cases
    blend: np.ndarray
    ceiling: np.ndarray


def join(periods: Sequence[Period]) -> Period:
    """All cases of several, one after the other."""
    each = [period.cases for period in periods]
    common = [name for name in each[0].statistics if all(name in one.statistics for one in each)]  # events are those of the first year
    statistics = {name: np.concatenate([one.statistics[name] for one in each], axis=1) for name in common}
    fields = {name: np.concatenate([getattr(one, name) for one in each]) for name in ("observed", "init_time", "lead_hours", "station")}
    known = (np.concatenate([getattr(period, name) for period in periods], axis=1) for name in ("blend", "ceiling"))
    return Period(replace(each[0], statistics=statistics, **fields), *known)


def of_variable(found: measure.Hindcasts, variable: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Members (run, lead, member) by forecaster, and readings (run, lead)."""
    rain = variable == "precipitation_amount"
    said, truth = (found.rain, found.observed_rain) if rain else (found.temperature, found.observed_temperature)
    return dict(said), (truth / READ_TO).round() * READ_TO


def write(found: measure.Hindcasts, inits: np.ndarray, variable: str, folder: Path) -> tuple[dict[str, Path], Path]:
    """The centres and the observations as files that the backtest reads."""
    folder.mkdir()
    said, truth = of_variable(found, variable)
    leads = np.array(found.leads, dtype="timedelta64[h]").astype("timedelta64[ns]")
    place = {"station": ["one"], "latitude": ("station", [21.0]), "longitude": ("station", [105.8])}
    units = {"units": "kg m-2" if variable == "precipitation_amount" else "degree_Celsius"}
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


def replay(found: measure.Hindcasts, inits: np.ndarray, variable: str, folder: Path, networks: bool) -> tuple[Period, Cases | None]:
    """Learn from the first year and test on the others: what was found without networks, and with them where they are asked for."""
    sources, observations = write(found, inits, variable, folder / "files")
    year = int(str(inits[0])[:4])
    config = BacktestConfig(sources, observations, variable, date(year, 12, 31), folder / "out")
    result = run_backtest(config)
    cases = result.cases
    said, truth = of_variable(found, variable)
    members = said[measure.CEILING]
    ceiling = np.stack([*cdf_interval_ensemble(members, truth, resolution=READ_TO), measure.crps(members, truth)])
    stored = xr.open_zarr(result.files["predictions"])
    q = stored[variable].sel(forecaster="blend").values[:, :, 0].astype(float)
    blend = np.stack([*cdf_interval_quantiles(q, stored["observed"].values[:, :, 0], resolution=READ_TO), q.mean(axis=-1)])
    lead = np.searchsorted(found.leads, cases.lead_hours)
    everybody = run_backtest(replace(config, out=folder / "all", forecasters=("all",))).cases if networks else None
    blend = blend[:, np.searchsorted(stored["init_time"].values, cases.init_time), lead]
    return Period(cases, blend, ceiling[:, np.searchsorted(inits, cases.init_time), lead]), everybody


def report(variable: str, period: Period) -> dict[str, Any]:
    """Scores of the blend against its parts, climatology and the ceiling."""
    cases, best_possible = period.cases, period.ceiling[2]
    rows = {name: i for i, name in enumerate(cases.rows)}
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
    return {"target": TARGET[variable], "by_lead": by_lead, "pit": uniformity(variable, period)}


def with_networks(result: Cases, without: Cases) -> dict[int, dict[str, dict[str, float]]]:
    """By lead: CRPS of the blend with networks less that of the blend without, and of each network less the best statistical forecaster's.

    Each with half the width of its 95 % interval (Diebold-Mariano), on the cases that both backtests scored.
    """
    found: dict[int, dict[str, dict[str, float]]] = {}
    for lead in LEADS:
        at = without.lead_hours == lead
        mean = dict(zip(without.rows, without.statistics["crps"][:, at].mean(axis=1), strict=True))
        best = min((name for name in mean if name not in ("blend", "equal_weight")), key=mean.__getitem__)
        beside = {"blend": ("blend", "blend")} | {f"{n} less {best}": (n, best) for n in NETWORKS if n in result.rows}
        gaps = {name: difference(result, without, *rows, lead)[1] for name, rows in beside.items()}
        tests = {name: diebold_mariano(gap) for name, gap in gaps.items()}
        found[lead] = {n: {"difference": float(t.mean), "half_width": 1.96 * float(t.standard_error)} for n, t in tests.items()}
    return found


def uniformity(variable: str, period: Period) -> dict[str, dict[str, Any]]:
    """Mean, and 12 times the mean square about a half, of the PIT of the blend and the ceiling, with half widths of 95 % intervals.

    They are 0.5 and 1 when calibrated; by season, and for the most rain forecast. A reading is spread over its interval.
    """
    cases = period.cases
    months = cases.valid_time.astype("datetime64[M]").astype(int) % 12 + 1
    groups = {name: np.isin(months, wanted) for name, wanted in SEASONS.items()} | {"all": np.ones(len(months), dtype=bool)}
    if variable == "precipitation_amount":
        groups["top 5 % of forecast rain"] = period.blend[2] >= np.quantile(period.blend[2], 0.95)
    found: dict[str, dict[str, Any]] = {}
    for name, cut in groups.items():
        found[name] = {"n": int(cut.sum())}
        for who, (low, high, _) in {"blend": period.blend, "ceiling": period.ceiling}.items():
            values = np.stack([pit(low, high), pit_square(low, high)])
            own = replace(cases, statistics={"pit": values})
            half = 1.96 * daily_error(own.daily("pit", cut))
            (mean, spread), (mean_half, spread_half) = values[:, cut].mean(axis=1), half
            found[name][who] = {
                "mean": float(mean), "mean_half_width": float(mean_half), "spread": float(spread), "spread_half_width": float(spread_half),
            }  # fmt: skip
    return found


def main() -> None:
    """Simulate, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="every sixth day")
    parser.add_argument("--every", type=int, default=1, help="days between forecasts")
    parser.add_argument("--starts", type=int, nargs="+", default=[START], help="first years of three, pooled")
    parser.add_argument("--networks", action="store_true", help="also blend with the networks, which takes several times as long")
    chosen = parser.parse_args()
    step = 6 if chosen.quick else chosen.every
    figures: dict[str, Any] = {"starts": chosen.starts, "runs": 0, "simulating_seconds": 0.0}
    periods: dict[str, list[Period]] = {variable: [] for variable in TARGET}
    everybody: dict[str, list[Cases]] = {variable: [] for variable in TARGET}
    for year in chosen.starts:
        begin = time.perf_counter()
        bounds = (np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + YEARS}-01-01"))
        inits = np.arange(*bounds, np.timedelta64(step, "D")).astype("datetime64[ns]")
        found = measure.hindcasts(Climate.of(load_region()), WORLD, CENTRES, inits, LEADS, members=MEMBERS)
        figures["runs"] += len(inits)
        figures["simulating_seconds"] += time.perf_counter() - begin
        print(f"{len(inits)} runs from {year} on simulated in {time.perf_counter() - begin:.0f} s", flush=True)
        for variable in TARGET:
            with tempfile.TemporaryDirectory() as folder:
                period, all_of_them = replay(found, inits, variable, Path(folder), chosen.networks)
            periods[variable].append(period)
            everybody[variable] += [] if all_of_them is None else [all_of_them]
    for variable in TARGET:
        figures[variable] = report(variable, join(periods[variable]))
        if everybody[variable]:
            nothing = np.empty((3, 0))
            pooled = join([Period(cases, nothing, nothing) for cases in everybody[variable]]).cases
            figures[variable]["networks"] = with_networks(pooled, join(periods[variable]).cases)
        show(variable, figures[variable])
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


def show(variable: str, figures: dict[str, Any]) -> None:
    """Print what was found of a variable."""
    for lead, row in figures["by_lead"].items():
        verdict = "significantly worse than" if row["worse"] else "significantly better than" if row["better"] else "level with"
        print(
            f"{variable} {lead:3d} h: blend {row['blend']:.3f}, {verdict} {row['best_part']} {row['best']:.3f}; climatology "
            f"{row['climatology']:.3f}, ceiling {row['ceiling']:.3f}; {row['share_reached']:.0%} of the attainable skill "
            f"{row['attainable_skill']:.2f} (target {figures['target']:.0%}){'; ABOVE THE CEILING' if row['above_ceiling'] else ''}",
            flush=True,
        )
    for lead, gaps in figures.get("networks", {}).items():
        said = ", ".join(f"{name} {gap['difference']:+.4f} ± {gap['half_width']:.4f}" for name, gap in gaps.items())
        print(f"{variable} {lead:3d} h, CRPS with networks less that without: {said}", flush=True)
    for name, row in figures["pit"].items():
        said = "; ".join(
            f"{who} mean {own['mean']:.3f} ± {own['mean_half_width']:.3f}, spread {own['spread']:.2f} ± {own['spread_half_width']:.2f}"
            for who, own in ((who, row[who]) for who in ("blend", "ceiling"))
        )
        print(f"    PIT {name}: {said}; {row['n']} cases", flush=True)


if __name__ == "__main__":
    main()
