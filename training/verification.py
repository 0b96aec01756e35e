"""Verification of published cycles: sums that add up over days and cycles, and what they finish to.

A cycle's forecasts are compared with what was observed in :class:`Cases`; :func:`sums` keeps, per variable, forecaster, range of leads
and valid day, the sums of :data:`STATISTICS` over the cases that all forecasters have; :func:`add` joins the sums of cycles, in any order;
:func:`table`, :func:`skills`, :func:`pit_counts` and :func:`drifts` finish them. Nothing here reads or writes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import FORECASTER, INIT_TIME, LEAD_TIME, QUANTILE, STATION
from data_catalog.variables import VARIABLES
from models.base import LEVELS, quantiles_of_members
from models.scores import block_bootstrap, cdf_interval_quantiles, coverage, crps_quantiles
from training.pairs import verify_at

BLEND: Final = "blend"
RAW: Final = "raw_"
CLIMATOLOGY: Final = "climatology"
RAIN: Final = "precipitation_amount"

LEAD_EDGES: Final = (0.0, 24.0, 48.0, 72.0, 120.0, 168.0, 240.0)
"""Ranges of leads, hours: each without its lower end, but for the first."""
PIT_BINS: Final = 10
CHANCE_EDGES: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bins of forecast chances: finer where those of heavy rain lie."""
WET: Final = 0.1
"""mm: the least rain that a station reports; as much is an event."""

STATISTICS: Final = (
    "n", "events", "score", "blend_score", "absolute_error", "error", "covered_50", "covered_90", "pit", "pit_square",
    *(f"pit_{i}" for i in range(PIT_BINS)),
)    # fmt: skip
"""What is summed over the cases: their number, those with rain, CRPS (of a chance: Brier score), CRPS of the blend in the same cases,
absolute error and error of the median, coverage, PIT u and 12 (u - 1/2)^2 (a mean of one half and of one when calibrated), and the PIT's
probability in ten equal bins. A mass counts as spread evenly over its interval of u, not by chance; what a station reports of rain is
known to :data:`WET`, so that a dry report says only that there was less than half of it."""
RELIABILITY: Final = ("n", "forecast", "observed")

_LEAST_DAYS: Final = 4      # fewer have no interval
_BLOCK_DAYS: Final = 10     # longer than the memory of forecast errors, as in training.scoring
_RESAMPLES: Final = 1000
_DRIFT_DAYS: Final = 30
_DRIFT_BLOCK: Final = 5
DRIFT_BOUND: Final = 3.0
"""Passed by a Brownian motion on [0, 1] with a chance of 4 (1 - Phi(3)), one in 185 (reflection principle); by 90 simulated days without
drift in 1 % of series, in 2 % where a day's error keeps 0.4 of the day's before."""

_FIRST_AXES: Final = ("variable", FORECASTER, "lead", "day", "statistic")
_DAY: Final = np.timedelta64(1, "D")
_HOUR: Final = np.timedelta64(1, "h")


@dataclass(frozen=True, eq=False)
class Cases:
    """Forecasts of one variable with what was observed.

    Attributes:
        variable: Its name.
        forecasts: By forecaster: quantiles (cases, quantile) on LEVELS, or chances (cases,) of an event; NaN is missing.
        observed: (cases,), NaN is missing; 0 or 1 for an event.
        valid_time: (cases,) datetime64.
        lead_hours: (cases,).
    """

    variable: str
    forecasts: Mapping[str, np.ndarray]
    observed: np.ndarray
    valid_time: np.ndarray
    lead_hours: np.ndarray


# --- cases -------------------------------------------------------------------------------------------------------------------------


def station_cases(blend: xr.Dataset, models: xr.Dataset, observations: xr.Dataset) -> Iterator[Cases]:
    """Every variable at every station and lead that was observed.

    Args:
        blend: ``VARIABLE(lead_time, station, quantile)`` with ``init_time`` and ``lead_time_bounds``: group ``stations_quantiles``.
        models: ``VARIABLE(forecaster, lead_time, station, quantile)``: group ``models``; may lack variables.
        observations: ``VARIABLE(time, station)`` at the same stations.
    """
    leads = blend[LEAD_TIME].values
    valid = started(blend) + leads
    hours = interval_hours(blend)
    for name in (str(v) for v in blend.data_vars if str(v) in VARIABLES and str(v) in observations):
        observed = verify_at(observations, name, valid, hours if VARIABLES[name].has_interval else np.full(leads.shape, np.nan))
        lead, place = np.nonzero(np.isfinite(observed))
        if not lead.size:
            continue
        forecasts = {BLEND: blend[name].transpose(LEAD_TIME, STATION, QUANTILE).values[lead, place]}
        if name in models:
            said = models[name].transpose(FORECASTER, LEAD_TIME, STATION, QUANTILE).values
            forecasts |= {str(who): said[i, lead, place] for i, who in enumerate(models[FORECASTER].values)}
        yield Cases(name, forecasts, observed[lead, place], valid[lead], leads[lead] / _HOUR)


def started(dataset: xr.Dataset) -> np.datetime64:
    """The scalar ``init_time`` of a group of a published store."""
    return np.datetime64(dataset[INIT_TIME].values.item(), "ns")


def interval_hours(dataset: xr.Dataset) -> np.ndarray:
    """Length in hours of the interval that ends at each lead, from ``lead_time_bounds``; NaN where there is none."""
    if "lead_time_bounds" not in dataset.variables:
        return np.full(dataset.sizes[LEAD_TIME], np.nan)
    bounds = dataset["lead_time_bounds"].values
    missing = np.isnat(bounds).any(axis=1)
    return np.where(missing, np.nan, (bounds[:, 1] - bounds[:, 0]) / _HOUR)


def basin_cases(
    members: Mapping[str, np.ndarray], observed: np.ndarray, valid_time: np.ndarray, lead_hours: np.ndarray, name: str
) -> Cases:
    """The mean over the stations, member by member before any quantile: rain of the basin as far as the stations show it.

    Args:
        members: By forecaster, (lead, station, member); NaN is missing.
        observed: (lead, station) over the same windows, NaN is missing. A lead counts when at least half of the stations were observed
            and forecast, and both means are over these stations: a missing report is never zero.
        valid_time: (lead,).
        lead_hours: (lead,).
        name: Of the variable.
    """
    forecasts = {who: np.full((len(observed), LEVELS.size), np.nan) for who in members}
    truth = np.full(len(observed), np.nan)
    for lead, row in enumerate(observed):
        here = {who: values[lead] for who, values in members.items() if np.isfinite(values[lead]).any()}
        common = np.isfinite(row)
        for values in here.values():
            common = common & np.isfinite(values).any(axis=-1)
        if not here or 2 * common.sum() < row.size:
            continue
        truth[lead] = row[common].mean(dtype=float)
        for who, values in here.items():
            forecasts[who][lead] = quantiles_of_members(values[common].mean(axis=0, dtype=float))
    return Cases(name, forecasts, truth, valid_time, lead_hours)


# --- sums --------------------------------------------------------------------------------------------------------------------------


def sums(cases: Sequence[Cases]) -> xr.DataArray:
    """Sums of :data:`STATISTICS` over the cases common to all forecasters that take part.

    In each range of leads those take part that have at least half of the cases of the one with most, so that a forecaster that stops
    early, or is nearly absent, takes no cases from the others. Nothing is scored where there is no blend.

    Args:
        cases: Of one cycle.

    Returns:
        ``(variable, forecaster, lead, day, statistic)`` float64: ``lead`` the upper end of the range in hours, ``day`` that of the valid
        time, UTC. Zero where a forecaster has no case.
    """
    return add([_sums_of(one) for one in cases])


def _sums_of(cases: Cases) -> xr.DataArray:
    names = [BLEND, *sorted(set(cases.forecasts) - {BLEND})]
    days, day = np.unique(cases.valid_time.astype("datetime64[D]"), return_inverse=True)
    bucket = lead_bucket(cases.lead_hours)
    found = np.zeros((1, len(names), len(LEAD_EDGES) - 1, days.size, len(STATISTICS)))
    known = {who: _known(values) & np.isfinite(cases.observed) for who, values in cases.forecasts.items()}
    for lead in np.unique(bucket[bucket >= 0]) if BLEND in known else ():
        inside = bucket == lead
        count = {who: int((known[who] & inside).sum()) for who in names}
        taking = [who for who in names if count[who] and 2 * count[who] >= max(count.values())]
        if BLEND not in taking:
            continue
        kept = np.flatnonzero(inside & np.all([known[who] for who in taking], axis=0))
        blend_score = None
        for who in taking:
            values = _statistics(cases.variable, cases.forecasts[who][kept], cases.observed[kept], blend_score)
            blend_score = values[:, STATISTICS.index("score")] if who == BLEND else blend_score
            np.add.at(found[0, names.index(who), lead], day[kept], values)
    coordinates = {
        "variable": np.array([cases.variable], dtype=object), FORECASTER: np.array(names, dtype=object),
        "lead": np.array(LEAD_EDGES[1:]), "day": days.astype("datetime64[ns]"), "statistic": np.array(STATISTICS, dtype=object),
    }    # fmt: skip
    return xr.DataArray(found, dims=_FIRST_AXES, coords=coordinates)


def lead_bucket(lead_hours: np.ndarray) -> np.ndarray:
    """Which range of :data:`LEAD_EDGES` each lead is in, -1 beyond them."""
    bucket = np.maximum(np.searchsorted(LEAD_EDGES, lead_hours, side="left") - 1, 0)
    found: np.ndarray = np.where((lead_hours < LEAD_EDGES[0]) | (lead_hours > LEAD_EDGES[-1]), -1, bucket)
    return found


def _known(forecast: np.ndarray) -> np.ndarray:
    known: np.ndarray = np.isfinite(forecast) if forecast.ndim == 1 else np.isfinite(forecast).all(axis=-1)
    return known


def _statistics(variable: str, forecast: np.ndarray, observed: np.ndarray, blend_score: np.ndarray | None) -> np.ndarray:
    """(cases, statistic) of quantiles (cases, quantile) or chances (cases,); ``blend_score`` None for the blend itself."""
    y = observed.astype(float)
    found = dict.fromkeys(STATISTICS, np.zeros(y.shape))
    found["n"] = np.ones(y.shape)
    if forecast.ndim == 1:
        error = forecast.astype(float) - y
        found |= {"events": y, "score": error**2, "absolute_error": np.abs(error), "error": error}
    else:
        q = forecast.astype(float)
        lower, upper = cdf_interval_quantiles(q, y, resolution=WET if variable.startswith(RAIN) else 0.0)
        error = q[:, LEVELS.size // 2] - y
        found |= {"score": np.asarray(crps_quantiles(q, y)), "absolute_error": np.abs(error), "error": error}
        found |= {f"covered_{p}": coverage(lower, upper, p / 100.0) for p in (50, 90)}
        found |= {"pit": 0.5 * (lower + upper), "pit_square": pit_square(lower, upper)}
        found |= {f"pit_{i}": share for i, share in enumerate(_pit_bins(lower, upper).T)}
        if variable.startswith(RAIN):
            found["events"] = (y >= WET).astype(float)
    found["blend_score"] = found["score"] if blend_score is None else blend_score
    return np.stack([found[name] for name in STATISTICS], axis=1)


def pit_square(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Mean of 12 (u - 1/2)^2 for u uniform on [lower, upper], arrays of one shape: one when calibrated."""
    a, b = lower - 0.5, upper - 0.5
    found: np.ndarray = 4.0 * (a * a + a * b + b * b)
    return found


def _pit_bins(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(cases, bin): each case's probability in each bin, evenly over [lower, upper]; rows sum to one."""
    edges = np.linspace(0.0, 1.0, PIT_BINS + 1)
    width = (upper - lower)[:, None]
    mass = width > 1e-12
    reached = np.clip((edges - lower[:, None]) / np.where(mass, width, 1.0), 0.0, 1.0)
    point = np.minimum((lower * PIT_BINS).astype(int), PIT_BINS - 1)[:, None] == np.arange(PIT_BINS)
    found: np.ndarray = np.where(mass, np.diff(reached, axis=1), point)
    return found


def reliability(chance: np.ndarray, event: np.ndarray, valid_time: np.ndarray, lead_hours: np.ndarray, threshold: float) -> xr.DataArray:
    """Sums of :data:`RELIABILITY` by bins of the forecast chance.

    Args:
        chance: (cases,) in 0..1, NaN is missing.
        event: (cases,) 0 or 1, NaN is missing.
        valid_time: (cases,).
        lead_hours: (cases,).
        threshold: Of the event.

    Returns:
        ``(threshold, lead, day, bin, part)``.
    """
    kept = np.flatnonzero(np.isfinite(chance) & np.isfinite(event) & (lead_bucket(lead_hours) >= 0))
    p, o = chance[kept].astype(float), event[kept].astype(float)
    days, day = np.unique(valid_time[kept].astype("datetime64[D]"), return_inverse=True)
    place = np.clip(np.searchsorted(CHANCE_EDGES, p, side="right") - 1, 0, len(CHANCE_EDGES) - 2)
    found = np.zeros((1, len(LEAD_EDGES) - 1, days.size, len(CHANCE_EDGES) - 1, len(RELIABILITY)))
    np.add.at(found[0], (lead_bucket(lead_hours[kept]), day, place), np.stack([np.ones(p.shape), p, o], axis=1))
    coordinates = {
        "threshold": np.array([threshold]), "lead": np.array(LEAD_EDGES[1:]), "day": days.astype("datetime64[ns]"),
        "bin": np.arange(len(CHANCE_EDGES) - 1), "part": np.array(RELIABILITY, dtype=object),
    }    # fmt: skip
    return xr.DataArray(found, dims=("threshold", "lead", "day", "bin", "part"), coords=coordinates)


def add(parts: Sequence[xr.DataArray]) -> xr.DataArray:
    """Sums of several sets of cases, on all coordinates that any has: statistics of halves add up to those of the whole.

    Raises:
        ValueError: There is nothing to add.
    """
    if not parts:
        raise ValueError("There are no sums to add; give those of at least one set of cases.")
    dims = tuple(str(dim) for dim in parts[0].dims)
    kept = {dim: list(dict.fromkeys(parts[0][dim].values)) for dim in dims if dim in ("statistic", "part")}  # their order has a meaning
    axes = {dim: np.unique(np.concatenate([part[dim].values for part in parts])) for dim in dims if dim not in kept}
    axes |= {dim: np.array(values, dtype=object) for dim, values in kept.items()}
    total = np.zeros([axes[dim].size for dim in dims])
    for part in parts:
        place = [_positions(axes[dim], part[dim].values, dim in kept) for dim in dims]
        total[np.ix_(*place)] += part.values
    return xr.DataArray(total, dims=dims, coords=axes)


def _positions(axis: np.ndarray, values: np.ndarray, plain: bool) -> np.ndarray:
    if not plain:
        return np.searchsorted(axis, values)
    return np.array([list(axis).index(value) for value in values], dtype=int)


# --- scores ------------------------------------------------------------------------------------------------------------------------


def table(total: xr.DataArray) -> list[dict[str, Any]]:
    """Means of every forecaster by variable and range of leads; None where a score cannot be given.

    Returns:
        Rows {variable, lead_hours, forecaster, n, events, score, blend_score, mae, bias, coverage_50, coverage_90}; ``blend_score`` is
        that of the blend in the same cases.
    """
    over_days = total.sum("day")
    rows = []
    for variable, lead, who, own in _each(over_days):
        if own["n"] == 0:
            continue
        scored = {key: own[key] / own["n"] for key in ("score", "blend_score", "absolute_error", "error")}
        mass = sum(own[f"pit_{i}"] for i in range(PIT_BINS))     # none for chances
        rows.append(
            {
                "variable": variable, "lead_hours": lead_range(lead), FORECASTER: who, "n": round(own["n"]), "events": round(own["events"]),
                "score": scored["score"], "blend_score": scored["blend_score"], "mae": scored["absolute_error"], "bias": scored["error"],
                **{f"coverage_{p}": own[f"covered_{p}"] / mass if mass > 0 else None for p in (50, 90)},
            }
        )
    return rows


def _each(total: xr.DataArray) -> Iterator[tuple[str, float, str, dict[str, float]]]:
    """Variable by variable, range by range, forecaster by forecaster: the sums by name."""
    values = total.transpose("variable", "lead", FORECASTER, "statistic").values
    names = [str(name) for name in total["statistic"].values]
    for v, variable in enumerate(total["variable"].values):
        for i, lead in enumerate(total["lead"].values):
            for f, who in enumerate(total[FORECASTER].values):
                yield str(variable), float(lead), str(who), dict(zip(names, map(float, values[v, i, f]), strict=True))


def lead_range(lead: float) -> tuple[float, float]:
    """The range of leads, hours, whose upper end this is."""
    return LEAD_EDGES[LEAD_EDGES.index(lead) - 1], lead


@dataclass(frozen=True, slots=True)
class Skill:
    """The blend against the best single centre, in the same cases.

    Attributes:
        variable: Its name.
        lead_hours: Range of leads.
        n: Cases.
        events: Of them with an event; 0 for a variable that has none.
        days: Valid days.
        blend: Mean score of the blend.
        best_centre: The raw ensemble that leaves the blend least skill, of those with at least half of the cases of the fullest.
        best_centre_score: Its mean score.
        climatology: Mean score of climatology, None without one.
        skill: 1 - blend / best centre.
        interval: 95 % interval of it from blocks of days drawn together; NaN for fewer than four days.
    """

    variable: str
    lead_hours: tuple[float, float]
    n: int
    events: int
    days: int
    blend: float
    best_centre: str
    best_centre_score: float
    climatology: float | None
    skill: float
    interval: tuple[float, float]


def skills(total: xr.DataArray) -> list[Skill]:
    """Skill by variable and range of leads, where there is a raw centre to compare with.

    Args:
        total: From :func:`sums` and :func:`add`. A centre that was missing in some cycles is compared with the blend in the others.
    """
    own: dict[tuple[str, float], dict[str, dict[str, float]]] = {}
    for variable, lead, who, row in _each(total.sum("day")):
        own.setdefault((variable, lead), {})[who] = row
    found = []
    for (variable, lead), rows in own.items():
        centres = {who: row for who, row in sorted(rows.items()) if who.startswith(RAW) and row["score"] > 0}
        most = max((row["n"] for row in centres.values()), default=0.0)
        whole = {who: row["blend_score"] / row["score"] for who, row in centres.items() if 2 * row["n"] >= most}
        if not whole:
            continue
        best = max(whole, key=whole.__getitem__)
        row, usual = centres[best], rows.get(CLIMATOLOGY)
        n = row["n"]
        daily = total.sel({"variable": variable, "lead": lead, FORECASTER: best}).transpose("day", "statistic")
        days, interval = _interval(daily, f"{variable} {lead:g}")
        found.append(
            Skill(
                variable, lead_range(lead), round(n), round(row["events"]), days, row["blend_score"] / n, best, row["score"] / n,
                usual["score"] / usual["n"] if usual and usual["n"] else None, 1.0 - whole[best], interval,
            )
        )
    return found


def _interval(daily: xr.DataArray, name: str) -> tuple[int, tuple[float, float]]:
    """Number of days, and the 95 % interval of the skill from their sums; days without a case keep their place."""
    pairs = _calendar(daily.sel(statistic=["n", "blend_score", "score"]))
    known = pairs[:, 0] > 0
    if known.sum() < _LEAST_DAYS:
        return int(known.sum()), (np.nan, np.nan)
    values = np.where(known[:, None], pairs[:, 1:], np.nan)
    block = max(1, min(_BLOCK_DAYS, int(known.sum()) // 4))
    blend, centre = block_bootstrap(values, block=block, resamples=_RESAMPLES, seed=zlib.crc32(name.encode())).T
    drawn = centre > 0
    low, high = np.quantile(1.0 - blend[drawn] / centre[drawn], [0.025, 0.975])
    return int(known.sum()), (float(low), float(high))


def _calendar(daily: xr.DataArray) -> np.ndarray:
    """(day, statistic) on every day from the first with a case to the last; zero on days without one. The first statistic is ``n``."""
    days = daily["day"].values.astype("datetime64[D]")
    there = np.flatnonzero(daily.values[:, 0] > 0)
    found = np.zeros((int((days[there[-1]] - days[there[0]]) / _DAY) + 1 if there.size else 0, daily.sizes["statistic"]))
    found[((days[there] - days[there[:1]]) / _DAY).astype(int)] = daily.values[there]
    return found


def pit_counts(total: xr.DataArray) -> list[dict[str, Any]]:
    """PIT of the blend in ten equal bins: rows {variable, lead_hours, counts}."""
    rows = []
    for variable, lead, who, own in _each(total.sum("day")):
        counts = [own[f"pit_{i}"] for i in range(PIT_BINS)]
        if who == BLEND and sum(counts) > 0:
            rows.append({"variable": variable, "lead_hours": lead_range(lead), "counts": [round(count) for count in counts]})
    return rows


@dataclass(frozen=True, slots=True)
class Drift:
    """A lasting departure of the blend from what it says of itself.

    Attributes:
        variable: Its name.
        kind: ``too low``, ``too high`` (the forecast, against what came), ``too narrow`` or ``too wide`` (its spread).
        since: The valid day on which it began.
        lead_hours: Range of leads it was looked for in.
        size: The CUSUM's largest excursion; above :data:`DRIFT_BOUND`.
    """

    variable: str
    kind: str
    since: str
    lead_hours: tuple[float, float]
    size: float


def drifts(total: xr.DataArray) -> list[Drift]:
    """CUSUM of the blend's daily PIT, variable by variable, at the shortest leads with enough days.

    The sums of u - 1/2 (level) and of 12 (u - 1/2)^2 - 1 (spread) over the days, each day's mean over its long-run standard deviation
    (so that alike neighbouring days do not count twice), are about a Brownian motion while the blend is calibrated.

    Args:
        total: From :func:`sums` and :func:`add`.

    References:
        Ploberger and Kraemer (1992), Econometrica 60; Page (1954), Biometrika 41.
    """
    found = []
    for variable in total["variable"].values:
        for lead in total["lead"].values if BLEND in total[FORECASTER].values else ():
            daily = total.sel({"variable": variable, "lead": lead, FORECASTER: BLEND}).transpose("day", "statistic")
            if int((daily.sel(statistic="pit_square").values > 0).sum()) < _DRIFT_DAYS:
                continue
            sums_, days = daily.sel(statistic=["n", "pit", "pit_square"]).values, daily["day"].values.astype("datetime64[D]")
            there = sums_[:, 0] > 0
            n = sums_[there, 0]
            level, spread = sums_[there, 1] / n - 0.5, sums_[there, 2] / n - 1.0
            for series, kinds in ((level, ("too high", "too low")), (spread, ("too wide", "too narrow"))):
                size, began = excursion(series)
                if abs(size) > DRIFT_BOUND:
                    kind = kinds[0] if size < 0 else kinds[1]        # u is small where the forecast lies above what came
                    found.append(Drift(str(variable), kind, str(days[there][began]), lead_range(float(lead)), abs(size)))
            break
    return found


def excursion(series: np.ndarray) -> tuple[float, int]:
    """The largest excursion from zero of a series' sum, over its long-run standard deviation and the root of n, and where it began.

    The deviation comes from differences of neighbouring sums of five days, which a lasting shift leaves alone but for one.

    Args:
        series: (n,), n >= 30, of mean zero while nothing is wrong.

    Returns:
        The excursion with its sign, and the step at which it began.

    References:
        Wu and Zhao (2007), J. Royal Statistical Society B 69, for the deviation.
    """
    walk = np.concatenate([[0.0], np.cumsum(series)])
    blocks = walk[_DRIFT_BLOCK:] - walk[:-_DRIFT_BLOCK]
    step = blocks[_DRIFT_BLOCK:] - blocks[:-_DRIFT_BLOCK]
    deviation = float(np.sqrt(np.mean(step * step) / (2.0 * _DRIFT_BLOCK)))
    top = int(np.argmax(np.abs(walk)))
    if not top:
        return 0.0, 0
    began = int(np.argmax((walk[top] - walk[:top]) ** 2 / (top - np.arange(top))))      # least squares for a step up to the top
    size = float(walk[top]) / (deviation * np.sqrt(series.size)) if deviation > 0 else float(np.sign(walk[top])) * np.inf
    return size, began
