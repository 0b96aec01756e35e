"""Is a challenger better than the champion? The impact assessment that a promotion rests on.

Both forecast the same cycles, of which neither has learned anything, and are compared case by case. Differences are means over valid
days with intervals from blocks of days (:func:`training.scoring.daily_error`) and Student's t with as many facts as blocks, so that
stations, leads and neighbouring days that err together do not count as many, and a few days prove little. Protected extremes are judged
by the threshold-weighted CRPS of all cases, not by the cases in which the extreme came, in which a forecast that always cries wolf would
win (Lerch et al. 2017, Forecaster's dilemma, Statistical Science 32).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.stats

from data_catalog.dimensions import INIT_TIME
from data_catalog.errors import ConfigurationError
from data_catalog.variables import VARIABLES
from models.base import Forecaster, ForecasterError, Pairs
from training.champions import Loaded
from training.evaluate import Protected, cuts, evaluate, started_from
from training.scoring import Cases, block_days, daily_error

CHAMPION, CHALLENGER = "champion", "challenger"
GREATEST_LOSS: Final = 0.05
"""Of the score of a protected extreme, at which it is hurt whatever the interval says."""
LEAST_EVENTS: Final = 20
"""Cases of an extreme below which only a significant loss counts."""
LEAST_DAYS: Final = 20
"""Valid days below which nothing is called significant."""
FAILURE_CYCLES: Final = 5
"""Newest held-out cycles that the failure behaviour is tried on."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The challenger against the champion in some cases.

    Attributes:
        kind: ``overall``, ``variable``, ``lead``, ``season`` or ``protected``.
        name: What of: ``temperature_2m``, ``temperature_2m 0-24 h``, ``heavy rain``...
        n: Cases.
        days: Valid days.
        events: Cases of the extreme, None where there is none.
        champion: Mean score.
        challenger: Mean score.
        change: (challenger - champion) / champion: negative is better.
        interval: 95 % interval of it; None for fewer than :data:`LEAST_DAYS`.
        verdict: ``better``, ``worse``, ``no difference`` or ``too few days``.
    """

    kind: str
    name: str
    n: int
    days: int
    events: int | None
    champion: float
    challenger: float
    change: float
    interval: tuple[float, float] | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What a forecaster does when something is missing.

    Attributes:
        missing: What is.
        champion: Share of its usual forecasts that it still makes and its CRPS against the usual one, in words.
        challenger: The same.
    """

    missing: str
    champion: str
    challenger: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a promotion would change.

    Attributes:
        forecaster: Id.
        champion: Version.
        challenger: Version.
        since: First cycle compared.
        until: Last cycle compared.
        comparisons: The overall one first.
        failures: One a thing that can be missing.
        cost: ``champion`` and ``challenger`` by what is counted.
        live: What the cycles' shadow says: see :func:`pipelines.promote.live_record`; empty before a cycle was verified.
        refusals: Why it should not be promoted; empty when it should.
        forced: The reason given for promoting it all the same.
    """

    forecaster: str
    champion: str
    challenger: str
    since: str
    until: str
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failure, ...]
    cost: Mapping[str, Mapping[str, float]]
    live: tuple[Mapping[str, Any], ...] = ()
    refusals: tuple[str, ...] = ()
    forced: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json`` and ``assessment.json``."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def assess(champion: Loaded, challenger: Loaded, pairs: Pairs, protected: Sequence[Protected]) -> Assessment:
    """Compare two versions on the cycles of which neither has learned anything.

    Args:
        champion: In use.
        challenger: That wants to be.
        pairs: Everything known now.
        protected: Extremes that may not get worse.

    Raises:
        ConfigurationError: There is no such cycle.
        ForecasterError: The challenger cannot forecast.
    """
    since = max(champion.held_out_from, challenger.held_out_from)
    later = started_from(pairs, since)
    inits = later.frame[INIT_TIME].values
    if not inits.size:
        raise ConfigurationError(
            f"There is no cycle since {since} on which both versions of {challenger.version.forecaster} can be judged; let cycles run, or "
            "train the challenger with more days held out (giomua train --held-out)."
        )
    cases = evaluate({CHALLENGER: challenger.forecaster, CHAMPION: champion.forecaster}, later, protected)
    comparisons = tuple(compare(cases, protected))
    found = Assessment(
        forecaster=challenger.version.forecaster,
        champion=champion.version.name,
        challenger=challenger.version.name,
        since=str(inits.min().astype("datetime64[m]")) + "Z",
        until=str(inits.max().astype("datetime64[m]")) + "Z",
        comparisons=comparisons,
        failures=tuple(failures(champion.forecaster, challenger.forecaster, later)),
        cost={name: cost(one.forecaster, later) for name, one in ((CHAMPION, champion), (CHALLENGER, challenger))},
    )
    return replace(found, refusals=tuple(refusals(found)))


# --- differences -------------------------------------------------------------------------------------------------------------------


def compare(cases: Mapping[str, Cases], protected: Sequence[Protected]) -> Iterator[Comparison]:
    """Every comparison of the two rows ``champion`` and ``challenger``."""
    both = {name: one for name, one in cases.items() if {CHAMPION, CHALLENGER} <= set(one.rows)}
    if both:
        yield _overall(both)
    for variable, one in both.items():
        for kind, label, cut in cuts(one):
            if kind in ("all", "lead", "season"):
                name = variable if kind == "all" else f"{variable} {label}"
                yield _compare("variable" if kind == "all" else kind, name, one, "crps", cut)
    for extreme in protected:
        if extreme.variable in both:
            one = both[extreme.variable]
            events = int(extreme.happened(one.observed).sum())
            yield _compare("protected", extreme.name, one, extreme.name, np.ones(len(one.observed), dtype=bool), events)


def _overall(cases: Mapping[str, Cases]) -> Comparison:
    """Mean over the variables of the relative change, day by day."""
    changes: dict[np.datetime64, list[float]] = {}
    ratios, n = [], 0
    for one in cases.values():
        first, second = (one.rows.index(name) for name in (CHAMPION, CHALLENGER))
        mean = one.statistics["crps"].mean(axis=1)
        if not mean[first] > 0:
            continue
        ratios.append(mean[second] / mean[first])
        n += len(one.observed)
        daily = one.daily("crps")
        for day, change in zip(np.unique(one.valid_time.astype("datetime64[D]")), daily[:, second] - daily[:, first], strict=True):
            changes.setdefault(day, []).append(change / mean[first])
    by_day = np.array([np.mean(changes[day]) for day in sorted(changes)])
    change = float(np.mean(ratios)) - 1.0 if ratios else 0.0
    return _judged("overall", "mean relative CRPS of all variables", n, by_day, None, 1.0, 1.0 + change, change)


def _compare(kind: str, name: str, cases: Cases, statistic: str, cut: np.ndarray, events: int | None = None) -> Comparison:
    first, second = (cases.rows.index(row) for row in (CHAMPION, CHALLENGER))
    values = cases.statistics[statistic]
    old, new = float(values[first, cut].mean()), float(values[second, cut].mean())
    daily = cases.daily(statistic, cut)
    scale = old if old > 0 else 1.0
    return _judged(kind, name, int(cut.sum()), (daily[:, second] - daily[:, first]) / scale, events, old, new, (new - old) / scale)


def _judged(
    kind: str, name: str, n: int, by_day: np.ndarray, events: int | None, champion: float, challenger: float, change: float
) -> Comparison:
    error = float(daily_error(by_day))
    half = error * float(scipy.stats.t.ppf(0.975, max(len(by_day) / block_days(len(by_day)) - 1.0, 1.0)))  # as many facts as blocks
    interval = None if np.isnan(error) or len(by_day) < LEAST_DAYS else (change - half, change + half)
    verdict = "no difference"
    if interval is None:
        verdict = "too few days"
    elif interval[1] < 0:
        verdict = "better"
    elif interval[0] > 0:
        verdict = "worse"
    return Comparison(kind, name, n, len(by_day), events, champion, challenger, change, interval, verdict)


def refusals(found: Assessment) -> Iterator[str]:
    """Why a challenger should not be promoted: it is not significantly better, or hurts a protected extreme."""
    overall = next((one for one in found.comparisons if one.kind == "overall"), None)
    if overall is None:
        yield "The two have no case in common, so nothing says that it is better."
    elif overall.verdict != "better":
        why = "there are too few days for an interval" if overall.interval is None else f"95 % interval {_interval(overall)}"
        yield f"It is not significantly better: its CRPS changes by {100 * overall.change:+.1f} % over {overall.days} days ({why})."
    for one in found.comparisons:
        if one.kind != "protected":
            continue
        large = one.change > GREATEST_LOSS and (one.events or 0) >= LEAST_EVENTS
        if one.verdict == "worse" or large:
            yield (
                f"It hurts {one.name}: the CRPS beyond the threshold changes by {100 * one.change:+.1f} % ({_interval(one)}) with "
                f"{one.events} events in {one.n} cases."
            )


def _interval(one: Comparison) -> str:
    return "no interval" if one.interval is None else f"{100 * one.interval[0]:+.1f} to {100 * one.interval[1]:+.1f} %"


# --- what it costs, and what it does without -----------------------------------------------------------------------------------------


def cost(forecaster: Forecaster, pairs: Pairs) -> dict[str, float]:
    """Seconds that a cycle takes, and megabytes of state."""
    one = _newest(pairs, 1)
    start = time.perf_counter()
    forecaster.predict(one)
    seconds = time.perf_counter() - start
    return {"seconds a cycle": seconds, "megabytes": sum(np.asarray(a).nbytes for a in forecaster.state().values()) / 1e6}


def _newest(pairs: Pairs, cycles: int) -> Pairs:
    chosen = slice(-cycles, None)
    return replace(
        pairs,
        sources={name: source.isel({INIT_TIME: chosen}) for name, source in pairs.sources.items()},
        observed=pairs.observed.isel({INIT_TIME: chosen}),
    )


def failures(champion: Forecaster, challenger: Forecaster, pairs: Pairs) -> Iterator[Failure]:
    """What both do without each source, with each source alone, and without observations, on the newest cycles."""
    newest = _newest(pairs, FAILURE_CYCLES)
    for missing, left in _worlds(newest):
        yield Failure(missing, _without(champion, newest, left), _without(challenger, newest, left))


def _worlds(pairs: Pairs) -> Iterator[tuple[str, Pairs]]:
    """What is missing, and the pairs without it."""
    sources = pairs.sources
    if len(sources) > 1:
        for name in sources:
            yield name, replace(pairs, sources={other: one for other, one in sources.items() if other != name})
    if len(sources) > 2:
        for name, one in sources.items():
            yield f"all but {name}", replace(pairs, sources={name: one})
    yield "observations", replace(pairs, observations=None)


def _without(forecaster: Forecaster, pairs: Pairs, fewer: Pairs) -> str:
    usual = evaluate({"usual": forecaster}, pairs, ())
    try:
        left = evaluate({"without": forecaster}, fewer, ())
    except (ForecasterError, ArithmeticError, LookupError, RuntimeError, ValueError, TypeError) as error:
        kind = "is skipped" if isinstance(error, ForecasterError) else f"fails with {type(error).__name__}"
        return f"{kind}: {' '.join(str(error).split())[:160]}"
    share = sum(len(one.observed) for one in left.values()) / max(sum(len(one.observed) for one in usual.values()), 1)
    ratios = [
        left[name].statistics["crps"][0].mean() / usual[name].statistics["crps"][0].mean()
        for name in left
        if name in usual and usual[name].statistics["crps"][0].mean() > 0
    ]
    return f"forecasts {100 * share:.0f} %, CRPS {100 * (float(np.mean(ratios)) - 1.0):+.1f} %" if ratios else "forecasts nothing"


# --- for people --------------------------------------------------------------------------------------------------------------------


def markdown(found: Assessment) -> str:
    """The assessment as a person reads it."""
    verdict = "**Should be promoted.**" if not found.refusals else "**Should not be promoted.** " + " ".join(found.refusals)
    if found.forced:
        verdict += f"\n\n**Promoted all the same:** {found.forced}"
    lines = [
        f"# {found.forecaster}: {found.challenger} in place of {found.champion}?",
        "",
        verdict,
        "",
        f"Both forecast the cycles from {found.since} to {found.until}, of which neither has learned anything. Change is that of the "
        "mean CRPS in the cases both have, negative is better, with its 95 % interval from blocks of days.",
    ]
    titles = {
        "overall": "Overall", "protected": "Protected extremes (threshold-weighted CRPS)", "variable": "By variable",
        "lead": "By lead time", "season": "By season",
    }  # fmt: skip
    for kind, title in titles.items():
        rows = [one for one in found.comparisons if one.kind == kind]
        if not rows:
            continue
        lines += ["", f"## {title}", "", "| | cases | days | events | champion | challenger | change | 95 % | |", "|---|" + "---|" * 8]
        for one in rows:
            events = "" if one.events is None else str(one.events)
            unit = VARIABLES[one.name].units if one.name in VARIABLES else ""
            lines.append(
                f"| {one.name}{f' ({unit})' if unit else ''} | {one.n} | {one.days} | {events} | {one.champion:.4g} | "
                f"{one.challenger:.4g} | {100 * one.change:+.1f} % | {_interval(one)} | {one.verdict} |"
            )
    lines += ["", "## In the shadow of the cycles", ""]
    if found.live:
        lines += ["| | cases | days | champion | challenger | blend | change |", "|---|" + "---|" * 6]
        lines += [
            f"| {row['variable']} | {row['n']} | {row['days']} | {row['champion']:.4g} | {row['challenger']:.4g} | {row['blend']:.4g} | "
            f"{100 * row['change']:+.1f} % |"
            for row in found.live
        ]
    else:
        lines.append("No cycle with both has been verified yet; `giomua verify` does so.")
    lines += ["", "## When something is missing", "", "| missing | champion | challenger |", "|---|---|---|"]
    lines += [f"| {one.missing} | {one.champion} | {one.challenger} |" for one in found.failures]
    lines += ["", "## Cost", "", "| | champion | challenger |", "|---|---|---|"]
    lines += [f"| {name} | {found.cost[CHAMPION][name]:.3g} | {found.cost[CHALLENGER][name]:.3g} |" for name in found.cost[CHAMPION]]
    return "\n".join([*lines, ""])
