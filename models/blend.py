"""Many forecasts into one: what the past says about the weights of a mixture, its recalibration and when to trust one forecaster alone.

:func:`learn_blend` is the one pure function from past out-of-fold forecasts and their outcomes to weights, recalibration and gate; the
backtest and the daily run both call it, and nothing is remembered between calls.

References:
    Thorey, Mallet and Baudin (2017), Online learning with the CRPS for ensemble forecasting (weights).
    Gneiting and Ranjan (2013), Combining predictive distributions (why a mixture of calibrated forecasts needs recalibration).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from models.base import LEVELS, ForecasterError
from models.mixture import mixture

EDGES_HOURS: Final = (24.0, 48.0, 72.0, 120.0, 168.0)
"""Upper ends of the lead buckets in hours, inclusive; a last bucket holds longer leads."""

_COARSE: Final = np.unique(np.concatenate([[0, 1, 2, 3, 101, 102, 103, 104], np.arange(4, 101, 3)]))  # levels kept of each forecast
_KNOTS: Final = np.array([0, 7, 32, 52, 72, 97, len(LEVELS) - 1])  # levels of each forecast at which distributions are compared
_HALF_LIFE: Final = 1000.0  # days after which a verified forecast counts half
_RECENT: Final = 250.0  # likewise for the recalibration, which follows what drifts
_SHIFT: Final = 0.1  # width of the Cauchy prior of a recalibration's shift: small ones are doubted, plain ones are believed
_SLOPE: Final = 0.05  # likewise of the logarithm of its slope
_DOUBT: Final = 0.5  # prior weight falls by a factor e for every so many standard errors that a forecaster's past CRPS is behind the best,
_LEVEL: Final = 0.002  # and this much of the best CRPS, which nobody would call behind
_GOOD: Final = 1.25  # a past CRPS up to so many times the best
_PULL: Final = 1000.0  # strength of the prior weights: its product with the relative squared departure, over the days verified
_LEAST: Final = 0.02  # weights smaller than this are none
_CASES: Final = 4000  # most cases of a bucket that are looked at; more are thinned evenly in time
_FOLDS: Final = (0.4, 0.6, 0.8, 1.0)  # shares of the past: learn up to one, judge up to the next
_NEAR: Final = 3e-3  # of the best CRPS: candidates that are no farther behind it are told apart by their log score

Kind = Literal["mixture", "average"]


class Evidence(NamedTuple):
    """Past forecasts at cases whose outcome is known, in the form the weights are learned from; NaN for a forecast that was not made.

    Attributes:
        forecasters: F ids.
        cdf: (n, F, G) distribution functions on each case's own grid of the variable.
        step: (n, G) 1 where the grid point is at or above what was observed.
        width: (n, G) quadrature weights, units of the variable.
        pit: (n, F, 2) distribution functions half the gauge's resolution below and above what was observed.
        quantiles: (n, F, C) some of the quantiles.
        observed: (n,) what was observed.
        half: (n,) half the resolution of the instrument.
        day: (n,) valid time in days since 1970.
        bucket: (n,) lead bucket.
    """

    forecasters: tuple[str, ...]
    cdf: np.ndarray
    step: np.ndarray
    width: np.ndarray
    pit: np.ndarray
    quantiles: np.ndarray
    observed: np.ndarray
    half: np.ndarray
    day: np.ndarray
    bucket: np.ndarray

    def take(self, cases: np.ndarray) -> Evidence:
        """Some of the cases."""
        return Evidence(self.forecasters, *(array[cases] for array in self[1:]))


def bucket_of(lead_hours: np.ndarray) -> np.ndarray:
    """Lead bucket of leads in hours."""
    return np.asarray(np.searchsorted(EDGES_HOURS, np.asarray(lead_hours, dtype=np.float64)))


def evidence(
    forecasters: Sequence[str],
    quantiles: np.ndarray,
    observed: np.ndarray,
    day: np.ndarray,
    lead_hours: np.ndarray,
    resolution: float = 0.1,
) -> Evidence:
    """What out-of-fold forecasts and their outcomes say about each forecaster.

    Args:
        forecasters: F ids.
        quantiles: (n, F, Q) on LEVELS, each made without knowledge of its outcome; NaN where there was none.
        observed: (n,) finite.
        day: (n,) valid time in days since 1970.
        lead_hours: (n,).
        resolution: Of the instrument, in units of the variable: closer than half of it nothing is told apart.

    Raises:
        ForecasterError: Shapes do not agree or an observation is missing.
    """
    n, F = quantiles.shape[:2]
    if len(forecasters) != F or observed.shape != (n,) or not np.isfinite(observed).all():
        raise ForecasterError(f"Expected quantiles (n, {len(forecasters)}, {len(LEVELS)}) and n finite outcomes, found {quantiles.shape}.")
    q = quantiles.astype(np.float64, copy=False)
    knots = np.concatenate([q[:, :, _KNOTS].reshape(n, F * len(_KNOTS)), observed[:, None]], axis=1)
    knots = np.sort(np.where(np.isfinite(knots), knots, observed[:, None]), axis=1)  # (n, G')
    span = np.diff(knots, axis=1)
    middle = knots[:, :-1] + 0.5 * span
    offset = span / (2.0 * np.sqrt(3.0))  # two-point Gauss: exact for the square of a linear CDF
    points = np.concatenate([middle - offset, middle + offset], axis=1)
    width = np.concatenate([span, span], axis=1) / 2.0
    half = 0.5 * resolution
    asked = np.concatenate([points, observed[:, None] - half, observed[:, None] + half], axis=1)
    cdf = np.stack([_cdf(q[:, f], asked) for f in range(F)], axis=1) if F else np.zeros((n, 0, asked.shape[1]))
    return Evidence(
        tuple(forecasters),
        cdf[..., :-2].astype(np.float32),
        (points >= observed[:, None]).astype(np.float32),
        width.astype(np.float32),
        cdf[..., -2:].astype(np.float32),
        q[:, :, _COARSE].astype(np.float32),
        observed.astype(np.float64),
        np.full(n, half),
        day.astype(np.float64),
        bucket_of(lead_hours),
    )


def join(parts: Sequence[Evidence]) -> Evidence:
    """One evidence of several on the same forecasters."""
    if not parts or any(p.forecasters != parts[0].forecasters for p in parts):
        raise ForecasterError("Evidence can be joined only where there is some, on the same forecasters in the same order.")
    points = max(p.cdf.shape[-1] for p in parts)

    def padded(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, points - array.shape[-1])])

    grids = [(padded(p.cdf), padded(p.step), padded(p.width)) for p in parts]
    first = [np.concatenate(arrays) for arrays in zip(*grids, strict=True)]
    return Evidence(parts[0].forecasters, *first, *(np.concatenate([p[i] for p in parts]) for i in range(4, 10)))


def _cdf(q: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distribution functions (n, W) with quantiles (n, Q) at points (n, W).

    Linear between quantiles, 0 and 1 outside them, the upper value at a mass.
    """
    whole = np.isfinite(q).all(axis=1)
    held = np.where(whole[:, None], q, 0.0)
    low, high = np.minimum(held[:, :1], x.min(axis=1, keepdims=True)), np.maximum(held[:, -1:], x.max(axis=1, keepdims=True))
    extent = np.where(high > low, high - low, 1.0)
    row = 2.0 * np.arange(len(q))[:, None]
    flat = ((held - low) / extent + row).ravel()
    place = np.searchsorted(flat, ((x - low) / extent + row).ravel(), side="right").reshape(x.shape)
    place -= np.arange(len(q))[:, None] * q.shape[1]
    inner = np.clip(place, 1, q.shape[1] - 1)
    a, b = np.take_along_axis(held, inner - 1, axis=1), np.take_along_axis(held, inner, axis=1)
    share = np.clip((x - a) / np.where(b > a, b - a, 1.0), 0.0, 1.0)
    found = LEVELS[inner - 1] + np.where(b > a, share, 1.0) * (LEVELS[inner] - LEVELS[inner - 1])
    found = np.where(place <= 0, 0.0, np.where(x >= held[:, -1:], 1.0, found))
    return np.where(whole[:, None], found, np.nan)


@dataclass(frozen=True, eq=False)
class BlendState:
    """What the past says about how to blend; one row a lead bucket.

    Attributes:
        forecasters: F ids.
        weights: (B, F) on the simplex.
        kind: (B,) whether distributions or quantiles are averaged.
        recalibration: (B, 2) shift and slope on the logit scale of probability; (0, 1) is none.
        note: (B,) why, in words.
        past_crps: (B, F) mean CRPS of each forecaster in the past looked at, NaN where unknown.
        prefer: Forecasters that share the weight where nobody who has one speaks; all of them where none of these does either.
    """

    forecasters: tuple[str, ...]
    weights: np.ndarray
    kind: tuple[str, ...]
    recalibration: np.ndarray
    note: tuple[str, ...]
    past_crps: np.ndarray
    prefer: tuple[str, ...] = ()

    def only(self, forecasters: Sequence[str]) -> BlendState:
        """The state for some of the forecasters, in this order; without a recalibration that was learned mostly from others."""
        column = [self.forecasters.index(f) for f in forecasters]
        weights = self.weights[:, column]
        kept = weights.sum(axis=1, keepdims=True) >= 0.5
        recalibration = np.where(kept, self.recalibration, [0.0, 1.0])
        prefer = tuple(f for f in self.prefer if f in forecasters)
        return BlendState(tuple(forecasters), weights, self.kind, recalibration, self.note, self.past_crps[:, column], prefer)


def learn_blend(
    past: Evidence | None, forecasters: Sequence[str], now: float, prefer: Sequence[str] = (), lead_hours: np.ndarray | None = None
) -> BlendState:
    """Weights, recalibration and gate of a cycle: a pure function of what had been verified by then.

    In every lead bucket: CRPS-optimal weights on the simplex of the mixture and of the quantile average, drawn to past skill the
    more the fewer days there are; a recalibration and a conformal widening; and, as gate, each forecaster alone and the equal mixture.
    All of them are learned up to some date and judged after it, several times over, and one departs from the plain mixture
    only where it would have paid.

    Args:
        past: Evidence verified by ``now``; None for none.
        forecasters: F ids in the order of the weights; those not in ``past`` have no weight.
        now: Days since 1970.
        prefer: Forecasters among which weights are equal where nothing has been verified; default all.
        lead_hours: Leads that will be asked for; the buckets of others keep equal weights. Default all.

    Returns:
        The state. Where a bucket has too little evidence, that of all buckets, else equal weights.
    """
    B, F = len(EDGES_HOURS) + 1, len(forecasters)
    default = np.array([f in prefer if prefer else True for f in forecasters], dtype=np.float64)
    default = default / default.sum() if default.sum() else np.full(F, 1.0 / max(F, 1))
    weights, kinds, notes = np.tile(default, (B, 1)), ["mixture"] * B, ["nothing verified yet: equal weights"] * B
    recalibration = np.tile([0.0, 1.0], (B, 1))
    scores = np.full((B, F), np.nan)
    if past is None or not len(past.observed):
        return BlendState(tuple(forecasters), weights, tuple(kinds), recalibration, tuple(notes), scores, tuple(prefer))
    column = np.array([forecasters.index(f) if f in forecasters else -1 for f in past.forecasters])
    everything: _Choice | None = None
    for bucket in range(B) if lead_hours is None else np.unique(bucket_of(lead_hours)).tolist():
        cases = np.flatnonzero(past.bucket == bucket)
        if len(np.unique(np.floor(past.day[cases]))) >= _FEWEST_DAYS:
            choice = _choose(past.take(_thin(cases, past.day)), now)
        else:
            everything = everything or _choose(past.take(_thin(np.arange(len(past.day)), past.day)), now)
            choice = everything
        if choice is None:
            continue
        held = column >= 0
        weights[bucket] = 0.0
        weights[bucket, column[held]] = choice.weights[held]
        scores[bucket, column[held]] = choice.crps[held]
        total = weights[bucket].sum()
        weights[bucket] = weights[bucket] / total if total > 0 else default
        kinds[bucket], notes[bucket] = choice.kind, choice.note
        recalibration[bucket] = choice.recalibration
    return BlendState(tuple(forecasters), weights, tuple(kinds), recalibration, tuple(notes), scores, tuple(prefer))


def apply_blend(
    state: BlendState, quantiles: Sequence[np.ndarray], lead_hours: np.ndarray, lower: float | None = None, upper: float | None = None
) -> np.ndarray:
    """The blended forecast.

    Args:
        state: From :func:`learn_blend`.
        quantiles: F arrays (..., L, P, Q) in the order of the state; NaN where a forecaster says nothing, whose weight the others take.
        lead_hours: (L,).
        lower: Bound of the variable that recalibration may not pass, or None.
        upper: Likewise.

    Returns:
        (..., L, P, Q) ascending; NaN where nobody with a weight says anything.
    """
    out = np.full(np.broadcast_shapes(*(q.shape for q in quantiles)), np.nan, dtype=np.float32)
    bucket = bucket_of(lead_hours)
    for b in np.unique(bucket):
        at = np.flatnonzero(bucket == b)
        used = np.flatnonzero(state.weights[b] > 0).tolist()
        parts = [np.asarray(quantiles[f])[..., at, :, :] for f in used]
        w = state.weights[b][used]
        made = np.full((*out.shape[:-3], len(at), *out.shape[-2:]), np.nan, dtype=np.float32)
        if used:
            made = mixture(parts, w) if state.kind[b] == "mixture" else _average(parts, w)
        made = _recalibrate(made, state.recalibration[b])
        if lower is not None or upper is not None:
            made = np.clip(made, lower, upper)
        for others in (state.prefer, state.forecasters):  # where nobody with a weight has spoken
            rest = [np.asarray(q)[..., at, :, :] for f, q in zip(state.forecasters, quantiles, strict=True) if f in others]
            spare = np.isnan(made[..., 0])
            if rest and spare.any():
                made = np.where(spare[..., None], mixture(rest, np.ones(len(rest))), made)
        out[..., at, :, :] = made
    return out


def _average(parts: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Weighted mean of quantiles over the forecasts that are there."""
    total, share = np.zeros(parts[0].shape), np.zeros(parts[0].shape[:-1])
    for part, weight in zip(parts, weights, strict=True):
        whole = np.isfinite(part).all(axis=-1)
        total += np.where(whole[..., None], weight * np.nan_to_num(part), 0.0)
        share += weight * whole
    return np.where(share[..., None] > 0, total / np.where(share > 0, share, 1.0)[..., None], np.nan)


def _recalibrate(q: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Quantiles at the levels that the past has shown to be meant; beyond the outermost the last slope on the logit scale goes on."""
    if line[0] == 0.0 and line[1] == 1.0:
        return q
    return _at_logits(q, (_logit(LEVELS) - line[0]) / line[1])


def _at_logits(q: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Quantiles (..., Q) interpolated, and extrapolated, linearly in the logit of the level."""
    known = _logit(LEVELS)
    high = np.clip(np.searchsorted(known, logits), 1, len(known) - 1)
    share = (logits - known[high - 1]) / (known[high] - known[high - 1])
    found: np.ndarray = q[..., high - 1] + share * (q[..., high] - q[..., high - 1])
    return np.maximum.accumulate(found, axis=-1)


def _logit(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(p) - np.log1p(-p))


class _Choice(NamedTuple):
    weights: np.ndarray  # (F,)
    kind: Kind
    recalibration: np.ndarray  # (2,)
    note: str
    crps: np.ndarray  # (F,)


_FEWEST_DAYS: Final = 5  # verified days below which a bucket borrows from all


def _thin(cases: np.ndarray, day: np.ndarray) -> np.ndarray:
    """At most :data:`_CASES` of the cases, evenly spread in time order."""
    order = cases[np.argsort(day[cases], kind="stable")]
    return order if len(order) <= _CASES else order[np.linspace(0, len(order) - 1, _CASES).round().astype(np.intp)]


def _choose(past: Evidence, now: float) -> _Choice | None:
    """The best way to blend one bucket's past."""
    kept, cases = _common(np.isfinite(past.pit[..., 0]))
    if not len(kept) or not len(cases):
        return None
    data = past.take(cases)
    data = data._replace(cdf=data.cdf[:, kept], pit=data.pit[:, kept], quantiles=data.quantiles[:, kept])
    age = 0.5 ** ((now - data.day) / _HALF_LIFE)
    each = _crps_of(data.cdf - data.step[:, None], data.width)  # (n, k)
    days = len(np.unique(np.floor(data.day)))
    found = _judge(data, age, each) if days >= 2 * _FEWEST_DAYS else "mixture"
    weights, kind, line = _rules(data, age, each)[found]
    note = f"{_WORDS[found]}; {days} days verified"
    F = past.cdf.shape[1]
    full, scores = np.zeros(F), np.full(F, np.nan)
    full[kept] = weights
    scores[kept] = np.average(each, axis=0, weights=age)
    return _Choice(full, kind, line, note, scores)


_WORDS: Final = {
    "mixture": "weighted mixture",
    "mixture recalibrated": "weighted mixture, recalibrated",
    "average": "weighted average of quantiles",
    "average recalibrated": "weighted average of quantiles, recalibrated",
    "equal": "equal mixture of the good: learned weights have not paid",
    "equal recalibrated": "equal mixture of the good, recalibrated: learned weights have not paid",
    "half": "half-way between learned and equal weights",
    "half recalibrated": "half-way between learned and equal weights, recalibrated",
    "alone": "gate: one forecaster alone has been better",
    "alone recalibrated": "gate: one forecaster alone has been better, recalibrated",
}


def _common(there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forecasters (indices) and cases (indices) such that all of them are there: the rarest are left out until most cases remain."""
    kept = np.flatnonzero(there.any(axis=0))
    while len(kept):
        whole = there[:, kept].all(axis=1)
        if whole.mean() >= 0.6 * there[:, kept].any(axis=1).mean() and whole.any():
            return kept, np.flatnonzero(whole)
        kept = np.delete(kept, there[:, kept].mean(axis=0).argmin())
    return kept, np.zeros(0, dtype=np.intp)


def _judge(data: Evidence, age: np.ndarray, each: np.ndarray) -> str:
    """The candidate that did best on days after those it was learned from: by CRPS, and among those next to the best by the log score.

    CRPS is decided by the few cases with most at stake, heavy rain, and hardly sees whether light rain and none are as frequent as they are
    said to be. The log score counts every case alike; alone it would leave out whoever is overconfident, however near.
    """
    _, place = np.unique(np.floor(data.day), return_inverse=True)
    position = place / max(place.max(), 1)
    crps, surprise = dict.fromkeys(_WORDS, 0.0), dict.fromkeys(_WORDS, 0.0)
    for begin, end in pairwise(_FOLDS):
        known, later = np.flatnonzero(position <= begin), np.flatnonzero((position > begin) & (position <= end))
        if not len(later):
            continue
        judged = data.take(later)
        for name, rule in _rules(data.take(known), age[known], each[known]).items():
            crps[name] += float((age[later] * _score(rule, judged)).sum())
            surprise[name] -= float((age[later] * np.log(_likelihood(rule, judged))).sum())
    least = min(crps.values())
    return min((name for name in crps if crps[name] <= least * (1.0 + _NEAR)), key=lambda name: surprise[name])


_Rule = tuple[np.ndarray, Kind, np.ndarray]
"""Weights (k,), what is averaged, and the recalibration: shift and slope on the logit scale."""


def _score(rule: _Rule, data: Evidence) -> np.ndarray:
    """CRPS (n,) of a candidate on its cases."""
    weights, kind, line = rule
    if kind == "mixture":
        cdf = np.einsum("nkg,k->ng", data.cdf, weights)
        if line[0] != 0.0 or line[1] != 1.0:
            cdf = _shifted(cdf, line)
        return _crps_of(cdf - data.step, data.width)
    q = np.apply_along_axis(lambda row: np.interp(LEVELS, LEVELS[_COARSE], row), 1, _blended(data, weights))
    error = data.observed[:, None] - _recalibrate(q, line)
    return np.asarray(2.0 * np.trapezoid(np.maximum(LEVELS * error, (LEVELS - 1.0) * error), LEVELS, axis=1))


def _shifted(p: np.ndarray, line: np.ndarray) -> np.ndarray:
    """expit(a + b logit p), which keeps 0 and 1."""
    found = expit(line[0] + line[1] * _logit(np.clip(p, 1e-12, 1.0 - 1e-12)))
    return np.where(p <= 0.0, 0.0, np.where(p >= 1.0, 1.0, found))


def _rules(data: Evidence, age: np.ndarray, each: np.ndarray) -> dict[str, _Rule]:
    """Every candidate, learned from these cases: weights (k,), kind and recalibration."""
    none = np.array([0.0, 1.0])
    score = np.average(each, axis=0, weights=age)
    days = len(np.unique(np.floor(data.day)))
    prior = _prior(each, age, data.day)
    mixed = _mixture_weights(data, age, prior, _PULL / days)
    averaged = _average_weights(data, age, prior, _PULL / days)
    good = score <= _GOOD * score.min()
    equal = good / good.sum()
    best = np.eye(len(score))[score.argmin()]
    found: dict[str, _Rule] = {}
    for name, weights in {"mixture": mixed, "average": averaged, "equal": equal, "half": 0.5 * (mixed + equal), "alone": best}.items():
        kind: Kind = "average" if name == "average" else "mixture"
        found[name] = (weights, kind, none)
        found[f"{name} recalibrated"] = (weights, kind, _fit_line(_pit(data, weights, kind), age, days))
    return found


def _prior(each: np.ndarray, age: np.ndarray, day: np.ndarray) -> np.ndarray:
    """(k,) weights by past skill: equal while nobody can tell the forecasters apart, one alone once it is clearly ahead.

    A day's cases share its weather, so the standard error of a difference is that of its daily means.
    """
    score = np.average(each, axis=0, weights=age)
    best, least = int(score.argmin()), max(float(score.min()), 1e-12)
    _, place = np.unique(np.floor(day), return_inverse=True)
    total = np.bincount(place, age)
    behind = each - each[:, [best]]
    daily = np.stack([np.bincount(place, age * column) for column in behind.T], axis=1) / total[:, None]
    share = (total / total.sum())[:, None]
    error = np.sqrt((share**2 * (daily - (share * daily).sum(axis=0)) ** 2).sum(axis=0))
    prior = np.exp(-(score - least) / (_LEVEL * least + _DOUBT * error))
    return np.asarray(prior / prior.sum())


def _crps_of(difference: np.ndarray, width: np.ndarray) -> np.ndarray:
    """CRPS (n, ...) from F - H (n, ..., G) by quadrature."""
    return np.asarray(np.einsum("n...g,ng->n...", np.square(difference, dtype=np.float64), width))


def _mixture_weights(data: Evidence, age: np.ndarray, prior: np.ndarray, pull: float) -> np.ndarray:
    """CRPS is a quadratic form in the weights of a mixture: minimise w' A w + pull |w - prior|^2 on the simplex, A in units of the best."""
    difference = (data.cdf - data.step[:, None]) * np.sqrt(np.maximum(data.width * (age / age.sum())[:, None], 0.0))[:, None]
    k = difference.shape[1]
    flat = np.ascontiguousarray(difference.transpose(1, 0, 2)).reshape(k, -1)
    gram = (flat @ flat.T).astype(np.float64)
    gram /= max(float(np.diag(gram).min()), 1e-12)
    curvature = 2.0 * (gram + pull * np.eye(k))
    return _simplex(lambda w: curvature @ w - 2.0 * pull * prior, prior, float(np.linalg.eigvalsh(curvature)[-1]))


def _average_weights(data: Evidence, age: np.ndarray, prior: np.ndarray, pull: float) -> np.ndarray:
    """Minimise the pinball loss of the weighted mean of quantiles, smoothed, on the simplex."""
    levels, q = LEVELS[_COARSE], data.quantiles  # (n, k, C)
    step = max(1, len(q) // 1000)
    q, y, a = q[::step].astype(np.float64), data.observed[::step], age[::step] / age[::step].sum()
    share = np.gradient(levels)
    error = y[:, None, None] - q
    best = float((a[:, None] * 2.0 * (share * np.maximum(levels * error, (levels - 1.0) * error)).sum(axis=-1)).sum(axis=0).min())
    soft = 0.1 * best + 1e-9  # half-width over which the kink of the pinball loss is rounded
    flat = np.ascontiguousarray(q.transpose(1, 0, 2)).reshape(q.shape[1], -1)
    weight = (a[:, None] * share * 2.0 / max(best, 1e-12)).ravel()
    spread = flat - (prior @ flat)

    def gradient(w: np.ndarray) -> np.ndarray:
        z = (y[:, None] - (w @ flat).reshape(len(y), -1)) / soft
        slope = levels - 0.5 + 0.5 * np.clip(z, -1.0, 1.0)
        return np.asarray(-flat @ (weight * slope.ravel()) + 2.0 * pull * (w - prior))

    bound = float((weight * (spread**2).sum(axis=0)).sum()) / (2.0 * soft) + 2.0 * pull
    return _simplex(gradient, prior, bound, 80)


def _simplex(gradient: Callable[[np.ndarray], np.ndarray], start: np.ndarray, bound: float, steps: int = 400) -> np.ndarray:
    """Minimum of a convex function on the simplex by accelerated projected gradient (Beck and Teboulle 2009); tiny weights become zero."""
    w = previous = start.copy()
    momentum = 1.0
    for _ in range(steps):
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = w + (momentum - 1.0) / following * (w - previous)
        previous, w = w, _project(ahead - gradient(ahead) / bound)
        if (w - previous) @ (ahead - w) > 0:  # overshot: forget the momentum
            following = 1.0
        momentum = following
        if np.abs(w - previous).max() < 1e-7:
            break
    w = np.where(w < min(_LEAST, 0.5 / len(w)), 0.0, w)
    return np.asarray(w / w.sum())


def _project(v: np.ndarray) -> np.ndarray:
    """Nearest point of the simplex (Duchi et al. 2008)."""
    u = np.sort(v)[::-1]
    above = np.cumsum(u) - 1.0
    rho = np.flatnonzero(u - above / np.arange(1, len(v) + 1) > 0)[-1]
    return np.asarray(np.maximum(v - above[rho] / (rho + 1.0), 0.0))


def _blended(data: Evidence, weights: np.ndarray) -> np.ndarray:
    """(n, C) weighted mean of the coarse quantiles."""
    return np.asarray(np.einsum("nkc,k->nc", data.quantiles, weights))


def _pit(data: Evidence, weights: np.ndarray, kind: Kind) -> np.ndarray:
    """(n, 2) blended probability below and up to what was observed, at the resolution of the instrument."""
    if kind == "mixture":
        return np.asarray(np.einsum("nkb,k->nb", data.pit, weights))
    q = _blended(data, weights)
    return np.stack([_coarse_cdf(q, data.observed - data.half), _coarse_cdf(q, data.observed + data.half)], axis=1)


def _coarse_cdf(q: np.ndarray, x: np.ndarray) -> np.ndarray:
    levels = LEVELS[_COARSE]
    place = (q <= x[:, None]).sum(axis=1)
    inner = np.clip(place, 1, q.shape[1] - 1)
    rows = np.arange(len(q))
    a, b = q[rows, inner - 1], q[rows, inner]
    share = np.where(b > a, np.clip((x - a) / np.where(b > a, b - a, 1.0), 0.0, 1.0), 1.0)
    return np.where(place == 0, 0.0, np.where(place == q.shape[1], 1.0, levels[inner - 1] + share * (levels[inner] - levels[inner - 1])))


def _fit_line(pit: np.ndarray, age: np.ndarray, days: int) -> np.ndarray:
    """Shift and slope on the logit scale that make the recent PIT uniform: G(p) = expit(a + b logit p), by interval likelihood.

    A case is known to lie between two probabilities, half the gauge's resolution apart: a dry day says only "at most this".
    """
    age = age ** (_HALF_LIFE / _RECENT)
    age = age * (days / age.sum())  # a day counts once, however many stations it has
    low, high = _interval(pit)

    def cost(line: np.ndarray) -> float:
        inside = _between(low, high, np.array([line[0], np.exp(line[1])]))
        return float(-(age * np.log(inside)).sum() + np.log1p((line[0] / _SHIFT) ** 2) + np.log1p((line[1] / _SLOPE) ** 2))

    found = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-4, "maxiter": 120})
    return np.array([found.x[0], float(np.exp(found.x[1]))])


def _likelihood(rule: _Rule, data: Evidence) -> np.ndarray:
    """(n,) probability that a candidate gave to what was observed, as closely as the instrument tells."""
    weights, kind, line = rule
    return _between(*_interval(_pit(data, weights, kind)), line)


def _interval(pit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n,) of the two ends, none of them narrower than can be told; an end at 0 or 1 is infinite."""
    ends = np.clip(pit.astype(np.float64), 2e-4, 1.0 - 2e-4)
    low = np.where(pit[:, 0] <= 0.0, -np.inf, _logit(np.minimum(ends[:, 0], ends[:, 1] - 1e-5)))
    return low, np.where(pit[:, 1] >= 1.0, np.inf, _logit(ends[:, 1]))


def _between(low: np.ndarray, high: np.ndarray, line: np.ndarray) -> np.ndarray:
    """(n,) recalibrated probability between two logits, never nothing."""
    return np.asarray(np.maximum(expit(line[0] + line[1] * high) - expit(line[0] + line[1] * low), 1e-9))
