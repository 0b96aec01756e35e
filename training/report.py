"""The report of a backtest: one self-contained HTML file for a person, with no request to anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from markupsafe import Markup

from data_catalog.variables import VARIABLES
from models.blend import bucket_of
from models.scores.calibration import pit_histogram
from training.scoring import ALL, Cases, daily_error
from training.svg import Series, histogram, intervals, legend, lines, stack

if TYPE_CHECKING:
    from training.backtest import BacktestConfig, BacktestResult

BLEND, EQUAL, CLIMATOLOGY = "blend", "equal_weight", "climatology"
_PIT_BINS: Final = 20
_EVENTS: Final = 20  # fewest events, and non-events, of a reliability diagram
_SEASONS: Final = (("Dec-Feb", (12, 1, 2)), ("Mar-May", (3, 4, 5)), ("Jun-Aug", (6, 7, 8)), ("Sep-Nov", (9, 10, 11)))


def write_report(path: Path, config: BacktestConfig, result: BacktestResult) -> None:
    """Write the report of a backtest.

    Args:
        path: HTML file.
        config: What was asked for.
        result: What was found.
    """
    from jinja2 import Environment, StrictUndefined

    template = files("training").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    path.write_text(environment.from_string(template).render(**_context(config, result)), encoding="utf-8")


def _context(config: BacktestConfig, result: BacktestResult) -> dict[str, Any]:
    cases = result.cases
    known = VARIABLES.get(config.variable)
    days = np.unique(cases.valid_time.astype("datetime64[D]"))
    leads = np.unique(cases.lead_hours)
    return {
        "variable": config.variable,
        "long_name": known.long_name if known else config.variable,
        "units": _units(config.variable),
        "period": f"Valid {days[0]} to {days[-1]}, learned up to {config.train_until}, refitted {_REFIT[config.refit]}.",
        "sentence": _extent({"source": len(config.sources), "station": len(np.unique(cases.station)), "lead time": len(leads)}),
        "verdict": _verdict(cases, _units(config.variable)),
        "n": f"{len(cases.observed):,}",
        "days": len(days),
        "table": _table(result),
        "by_lead": len(leads) > 1,
        **_skill(cases, leads),
        "pit_chart": _pit(cases),
        **_reliability(cases, _level_units(config.variable)),
        "seasons": _seasons(cases),
        **_weights(result, leads),
        **_worst(cases),
        "events": _events(cases, _level_units(config.variable)),
        "findings": result.findings,
        "method": _method(config),
    }


_REFIT: Final = {"never": "never", "monthly": "every month", "daily": "every day"}


def _units(variable: str) -> str:
    """Of differences and scores."""
    units = VARIABLES[variable].units if variable in VARIABLES else "units"
    return {"degree_Celsius": "K", "kg m-2": "mm"}.get(units, units)


def _level_units(variable: str) -> str:
    """Of values."""
    return "°C" if variable in VARIABLES and VARIABLES[variable].units == "degree_Celsius" else _units(variable)


def _extent(counts: Mapping[str, int]) -> str:
    return ", ".join(_count(n, word) for word, n in counts.items()) + "."


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _index(cases: Cases, name: str) -> int | None:
    return cases.rows.index(name) if name in cases.rows else None


def _verdict(cases: Cases, units: str) -> str:
    """One sentence or two that say how the blend did."""
    blend = _index(cases, BLEND)
    if blend is None:
        return "The blend has no score."
    mean = cases.statistics["crps"].mean(axis=1)
    raw = [i for i, n in enumerate(cases.rows) if n.startswith("raw_")]
    parts = [i for i, n in enumerate(cases.rows) if n not in (BLEND, EQUAL)]
    best = min(parts, key=lambda i: mean[i])
    daily = cases.daily("crps")
    error = float(daily_error(daily[:, blend] - daily[:, best]))
    difference = mean[blend] - mean[best]
    said = f"The blend scores {mean[blend]:.3f} {units}"
    if raw:
        first = min(raw, key=lambda i: mean[i])
        gain = f"{1.0 - mean[blend] / mean[first]:.0%} below" if mean[first] > 0 else "beside"
        said += f", {gain} the best raw forecast ({cases.rows[first]}, {mean[first]:.3f})"
    relation = "about as good as" if not abs(difference) > 2.0 * error else ("better than" if difference < 0 else "worse than")
    coverage = cases.statistics["coverage_90"][blend].mean()
    said += f"; it is {relation} its best part, {cases.rows[best]} ({mean[best]:.3f})."
    return f"{said} Its 90 % interval held {coverage:.1%} of the observations."


def _table(result: BacktestResult) -> list[dict[str, Any]]:
    cases = result.cases
    rows = {r["forecaster"]: r for r in result.rows if r["lead_time_hours"] == ALL}
    daily = cases.daily("crps")
    blend, climatology = _index(cases, BLEND), _index(cases, CLIMATOLOGY)
    error = daily_error(daily)
    against = daily_error(daily - daily[:, [blend]]) if blend is not None else np.full(len(cases.rows), np.nan)
    reference = (rows[CLIMATOLOGY]["crps"] if climatology is not None else 0.0) or float("nan")  # no skill against a perfect reference
    own = rows[BLEND]["crps"] if blend is not None else float("nan")
    order = sorted(range(len(cases.rows)), key=lambda i: rows[cases.rows[i]]["crps"])
    return [
        {
            "name": cases.rows[i],
            "marked": cases.rows[i] == BLEND,
            "crps": _number(rows[cases.rows[i]]["crps"], 4),
            "error": _number(error[i], 4),
            "skill": _number(1.0 - rows[cases.rows[i]]["crps"] / reference, 3),
            "against": "" if i == blend else f"{rows[cases.rows[i]]['crps'] - own:+.4f} ± {against[i]:.4f}",
            "mae": _number(rows[cases.rows[i]]["mae"], 3),
            "bias": _number(rows[cases.rows[i]]["bias"], 3, sign=True),
            "half": _percent(rows[cases.rows[i]]["coverage_50"]),
            "ninety": _percent(rows[cases.rows[i]]["coverage_90"]),
            "ratio": _number(rows[cases.rows[i]]["spread_error"], 2),
        }
        for i in order
    ]


def _number(value: float | str, digits: int, *, sign: bool = False) -> str:
    if isinstance(value, str) or not np.isfinite(value):
        return ""
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _percent(value: float | str) -> str:
    return "" if isinstance(value, str) or not np.isfinite(value) else f"{value:.1%}"


def _skill(cases: Cases, leads: np.ndarray) -> dict[str, Any]:
    """Skill against climatology with intervals of two standard errors: by lead, or one row a forecaster."""
    reference = _index(cases, CLIMATOLOGY)
    mean = cases.statistics["crps"].mean(axis=1)
    if reference is None or not mean[reference] > 0:
        return {"skill_chart": "", "skill_legend": "", "skill_note": "There is no climatology to compare with."}
    note = "1 − CRPS / CRPS of climatology; bars are two standard errors from blocks of days."
    if len(leads) == 1:
        daily = cases.daily("crps")
        error = 2.0 * daily_error(daily - (mean / mean[reference]) * daily[:, [reference]]) / mean[reference]
        skill = 1.0 - mean / mean[reference]
        order = [i for i in np.argsort(-skill) if i != reference and skill[i] > -1.0]
        hidden = [cases.rows[i] for i in np.flatnonzero(skill <= -1.0)]
        chart = intervals(
            [cases.rows[i] for i in order], skill[order], error[order], title="Skill by forecaster", x_label="skill", marked=(BLEND,)
        )
        note += f" Not drawn, below −1: {', '.join(hidden)}." if hidden else ""
        return {"skill_chart": Markup(chart), "skill_legend": "", "skill_note": note}
    raw = [i for i, n in enumerate(cases.rows) if n.startswith("raw_")]
    rest = [i for i, n in enumerate(cases.rows) if n not in (BLEND, EQUAL, CLIMATOLOGY) and not n.startswith("raw_")]
    chosen = [cases.rows.index(BLEND), cases.rows.index(EQUAL)]
    chosen += sorted(raw, key=lambda i: mean[i])[:2] + sorted(rest, key=lambda i: mean[i])[:3]
    values = np.full((3, len(chosen), len(leads)), np.nan)
    for j, lead in enumerate(leads):
        daily = cases.daily("crps", cases.lead_hours == lead)
        own = daily.mean(axis=0)
        error = 2.0 * daily_error(daily - (own / own[reference]) * daily[:, [reference]]) / own[reference]
        skill = 1.0 - own / own[reference]
        values[:, :, j] = np.stack([skill, skill - error, skill + error])[:, chosen]
    series = [
        Series(cases.rows[i], values[0, k], np.maximum(values[1, k], -1.0), values[2, k], f"c{k}")
        for k, i in enumerate(chosen)
        if np.nanmin(values[0, k]) > -1.0
    ]
    chart = lines(leads, series, title="Skill by lead time", x_label="lead time, hours", y_label="skill")
    return {"skill_chart": Markup(chart), "skill_legend": Markup(legend(series)), "skill_note": note}


def _pit(cases: Cases) -> Markup:
    blend = _index(cases, BLEND)
    if blend is None:
        return Markup("")
    share = pit_histogram(cases.statistics["below"][blend], cases.statistics["upto"][blend], _PIT_BINS)
    days = len(np.unique(cases.valid_time.astype("datetime64[D]")))
    expected = 1.0 / _PIT_BINS
    band = 2.0 * float(np.sqrt(expected * (1.0 - expected) / days))  # a day counts once: stations and leads err together
    return Markup(histogram(share, title="PIT of the blend", x_label="probability at what was observed", expected=expected, band=band))


def _reliability(cases: Cases, units: str) -> dict[str, Any]:
    """Observed frequency by forecast probability at the threshold nearest to an even chance."""
    blend = _index(cases, BLEND)
    nothing = {"reliability_chart": "", "reliability_legend": "", "event": ""}
    counts = {t: int((cases.observed > t).sum()) for t in cases.thresholds}
    usable = [t for t, c in counts.items() if min(c, len(cases.observed) - c) >= _EVENTS]
    if blend is None or not usable:
        return nothing
    threshold = min(usable, key=lambda t: abs(counts[t] / len(cases.observed) - 0.25))
    event = cases.observed > threshold
    root = np.sqrt(cases.statistics[f"brier_gt_{threshold:g}"][blend])
    probability = np.where(event, 1.0 - root, root)  # the Brier score of one case gives the probability back
    edges = np.linspace(0.0, 1.0, 11)
    position = np.clip(np.digitize(probability, edges) - 1, 0, 9)
    count = np.bincount(position, minlength=10)
    filled = np.flatnonzero(count >= 5)
    forecast = np.bincount(position, weights=probability, minlength=10)[filled] / count[filled]
    seen = np.bincount(position, weights=event, minlength=10)[filled] / count[filled]
    chance = 2.0 * np.sqrt(forecast * (1.0 - forecast) / count[filled])
    series = [
        Series("calibrated", forecast, np.clip(forecast - chance, 0.0, 1.0), np.clip(forecast + chance, 0.0, 1.0), "c7"),
        Series(BLEND, seen, style="c0"),
    ]
    chart = lines(
        forecast, series, title="Reliability of the blend", x_label="forecast probability", y_label="observed frequency",
        x_ticks=[(t, f"{t:g}") for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if forecast[0] - 0.05 <= t <= forecast[-1] + 0.05],
    )  # fmt: skip
    return {"reliability_chart": Markup(chart), "reliability_legend": Markup(legend(series)), "event": f"more than {threshold:g} {units}"}


def _seasons(cases: Cases) -> dict[str, Any]:
    month = cases.valid_time.astype("datetime64[M]").astype(int) % 12 + 1
    cuts = [(name, np.isin(month, months)) for name, months in _SEASONS]
    cuts = [(name, cut) for name, cut in cuts if cut.any()]
    crps = cases.statistics["crps"]
    order = np.argsort(crps.mean(axis=1))
    return {
        "names": [name for name, _ in cuts],
        "counts": [int(cut.sum()) for _, cut in cuts],
        "rows": [
            {"name": cases.rows[i], "marked": cases.rows[i] == BLEND, "cells": [f"{crps[i, cut].mean():.3f}" for _, cut in cuts]}
            for i in order
        ],
    }


def _weights(result: BacktestResult, leads: np.ndarray) -> dict[str, Any]:
    """Weights of the first lead bucket over time; what is small is put together."""
    bucket = int(bucket_of(leads[:1])[0])
    times = np.array([t for t, _ in result.weights])
    states = [s for _, s in result.weights]
    table = np.array([s.weights[bucket] for s in states])  # (fit, forecaster)
    names = states[0].forecasters
    order = np.argsort(-table.mean(axis=0))
    large = [i for i in order if table[:, i].mean() > 0.02][:9]
    series = [Series(names[i], table[:, i], style=f"c{k}") for k, i in enumerate(large)]
    rest = 1.0 - table[:, large].sum(axis=1)
    if rest.max() > 0.005:
        series.append(Series("others", rest, style="c9"))
    day = (times - times[0]) / np.timedelta64(1, "D")
    end = float((result.cases.init_time.max() - times[0]) / np.timedelta64(1, "D")) + 1.0
    day = np.append(day, max(end, day[-1] + 1.0))
    series = [Series(s.label, np.append(s.y, s.y[-1]), style=s.style) for s in series]
    labelled = np.unique(np.linspace(0, len(times) - 1, 6).round().astype(int))
    ticks = [(float(day[i]), str(times[i].astype("datetime64[D]"))) for i in labelled]
    said = Counter(s.note[bucket].split(";")[0] for s in states)
    note = f"Of every fit, at leads up to {leads[0]:g} hours and the like. The past has said: "
    note += ", ".join(f"{text} ({_count(count, 'time')})" for text, count in said.most_common()) + "."
    chart = stack(day, series, title="Weights over time", x_ticks=ticks, y_label="weight")
    return {"weights_chart": Markup(chart), "weights_legend": Markup(legend(series)), "weights_note": note}


def _worst(cases: Cases) -> dict[str, Any]:
    blend = _index(cases, BLEND)
    if blend is None:
        return {"worst": [], "reference": ""}
    crps = cases.statistics["crps"]
    raw = [i for i, n in enumerate(cases.rows) if n.startswith("raw_")] or [blend]
    other = min(raw, key=lambda i: crps[i].mean())
    day = cases.valid_time.astype("datetime64[D]")
    days, position, count = np.unique(day, return_inverse=True, return_counts=True)
    mean = np.bincount(position, weights=crps[blend]) / count
    rows = []
    for k in np.argsort(-mean)[:10]:
        own = position == k
        low, high = cases.observed[own].min(), cases.observed[own].max()
        rows.append(
            {
                "day": str(days[k]),
                "blend": f"{mean[k]:.2f}",
                "other": f"{crps[other, own].mean():.2f}",
                "observed": f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}",
                "cases": int(count[k]),
            }
        )
    return {"worst": rows, "reference": cases.rows[other]}


def _events(cases: Cases, units: str) -> list[dict[str, Any]]:
    blend, climatology = _index(cases, BLEND), _index(cases, CLIMATOLOGY)
    rows = []
    for threshold in cases.thresholds:
        event = cases.observed > threshold
        brier = cases.statistics[f"brier_gt_{threshold:g}"]
        rows.append(
            {
                "threshold": f"{threshold:g} {units}",
                "count": int(event.sum()),
                "share": f"{event.mean():.1%}",
                "blend": "" if blend is None else f"{brier[blend].mean():.4f}",
                "climatology": "" if climatology is None else f"{brier[climatology].mean():.4f}",
            }
        )
    return rows


def _method(config: BacktestConfig) -> str:
    said = "Walk-forward: each fit sees only pairs verified by the start of the first forecast it serves"
    said += "." if config.strict else ", but for the first, which sees all pairs up to the split, as published splits do."
    if config.window is not None:
        said += f" Learning looks at the newest {config.window} distinct valid days."
    return said + (
        " Weights, recalibration and gate are learned from out-of-fold forecasts whose outcome was known. The CRPS of a raw ensemble is "
        "that of its empirical distribution, of quantile forecasts twice the integral of the pinball loss. Coverage counts the part of "
        "the probability on the observed value that lies inside."
    )
