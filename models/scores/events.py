"""Forecasts of events: Brier score and its decompositions, reliability, ROC and economic value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize


def brier_score(probability: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Brier score (p - o)^2 of every case.

    Args:
        probability: Forecast probabilities in 0..1.
        event: Whether it happened, 0 or 1, same shape; NaN stays.

    References:
        Brier (1950), Monthly Weather Review 78.
    """
    found: np.ndarray = (probability - event) ** 2
    return found


def brier_score_ensemble(count: np.ndarray, size: np.ndarray | int, event: np.ndarray, *, fair: bool = False) -> np.ndarray:
    """Brier score of the share of members that have the event.

    The fair form (i / M - o)^2 - i (M - i) / (M^2 (M - 1)) is unbiased for an infinite ensemble.

    Args:
        count: Members i with the event.
        size: Members M that are there.
        event: Whether it happened, 0 or 1.
        fair: Whether to use the fair form; NaN for one member.

    References:
        Ferro (2014), QJRMS 140.
    """
    m = np.asarray(size, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = (count / m - event) ** 2
        return found - count * (m - count) / (m * m * (m - 1.0)) if fair else found


@dataclass(frozen=True)
class Decomposition:
    """score = miscalibration - discrimination + uncertainty + within.

    Attributes:
        score: Mean Brier score.
        miscalibration: What recalibrating the probabilities would gain (reliability); zero is best.
        discrimination: What the recalibrated probabilities gain over climatology (resolution); larger is better.
        uncertainty: Score of the observed frequency.
        within: What binning leaves unexplained; zero for isotonic recalibration.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float
    within: float = 0.0


def brier_decomposition(probability: np.ndarray, event: np.ndarray) -> Decomposition:
    """Decompose the Brier score by isotonic recalibration (CORP): reproducible, without bins.

    Args:
        probability: ``(n,)`` in 0..1.
        event: ``(n,)`` of 0 and 1.

    Raises:
        ValueError: The shapes differ, there is no case, or a value is missing or outside 0..1.

    References:
        Dimitriadis, Gneiting and Jordan (2021), PNAS 118(8).
    """
    p, o = _check(probability, event)
    score, base = float(np.mean((p - o) ** 2)), float(np.mean((o - o.mean()) ** 2))
    _, position, calibrated = _isotonic(p, o)
    best = float(np.mean((calibrated[position] - o) ** 2))
    return Decomposition(score, score - best, base - best, base)


def brier_decomposition_binned(probability: np.ndarray, event: np.ndarray, bins: int = 10) -> Decomposition:
    """Murphy's decomposition over equal bins of probability, with what varies within a bin stated.

    Args:
        probability: ``(n,)`` in 0..1.
        event: ``(n,)`` of 0 and 1.
        bins: Number of equal bins of 0..1.

    Raises:
        ValueError: As :func:`brier_decomposition`.

    References:
        Murphy (1973), J. Applied Meteorology 12; Stephenson, Coelho and Jolliffe (2008), Weather and Forecasting 23, for ``within``.
    """
    p, o = _check(probability, event)
    which = np.minimum((p * bins).astype(int), bins - 1)
    n = np.bincount(which, minlength=bins)
    used = n > 0
    p_bin, o_bin = (np.bincount(which, weights=v, minlength=bins)[used] / n[used] for v in (p, o))
    share = n[used] / p.size
    score, base = float(np.mean((p - o) ** 2)), float(o.mean() * (1.0 - o.mean()))
    reliability = float(share @ (p_bin - o_bin) ** 2)
    resolution = float(share @ (o_bin - o.mean()) ** 2)
    return Decomposition(score, reliability, resolution, base, score - reliability + resolution - base)


@dataclass(frozen=True, eq=False)
class ReliabilityDiagram:
    """Observed frequency against forecast probability.

    Attributes:
        probability: The distinct forecast probabilities, ``(k,)``, ascending.
        count: How often each was given.
        frequency: Isotonic estimate of the observed frequency.
        lower: Consistency band: where ``frequency`` would lie by chance if the forecast were calibrated.
        upper: Its upper end.
    """

    probability: np.ndarray
    count: np.ndarray
    frequency: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def reliability_diagram(
    probability: np.ndarray, event: np.ndarray, *, seed: int, level: float = 0.9, resamples: int = 200
) -> ReliabilityDiagram:
    """CORP reliability diagram with consistency bands.

    The bands come from events drawn with the forecast probabilities, the forecasts held, each recalibrated like the observations.

    Args:
        probability: ``(n,)`` in 0..1.
        event: ``(n,)`` of 0 and 1.
        seed: Makes the bands reproducible.
        level: Share of chance outcomes inside the band, at each probability.
        resamples: How many outcomes to draw.

    Raises:
        ValueError: As :func:`brier_decomposition`.

    References:
        Dimitriadis, Gneiting and Jordan (2021), PNAS 118(8).
    """
    p, o = _check(probability, event)
    values, position, frequency = _isotonic(p, o)
    count = np.bincount(position)
    drawn = np.random.default_rng(seed).binomial(count, values, size=(resamples, values.size)) / count
    chance = np.stack([scipy.optimize.isotonic_regression(row, weights=count).x for row in drawn])
    lower, upper = np.quantile(chance, [0.5 * (1.0 - level), 0.5 * (1.0 + level)], axis=0)
    return ReliabilityDiagram(values, count, frequency, lower, upper)


@dataclass(frozen=True, eq=False)
class Roc:
    """Relative operating characteristic.

    Attributes:
        threshold: Warn from this probability on, ``(k + 1,)``, descending from inf (never).
        false_alarm_rate: Share of non-events with a warning.
        hit_rate: Share of events with a warning.
        area: Under the curve: the chance that an event had the higher probability than a non-event, ties counting half.
    """

    threshold: np.ndarray
    false_alarm_rate: np.ndarray
    hit_rate: np.ndarray
    area: float


def roc(probability: np.ndarray, event: np.ndarray) -> Roc:
    """Relative operating characteristic and the area under it.

    Args:
        probability: ``(n,)``; any score that rises with the chance of the event, within 0..1.
        event: ``(n,)`` of 0 and 1.

    Returns:
        The curve; rates are NaN where there is no event, or nothing but events.

    Raises:
        ValueError: As :func:`brier_decomposition`.

    References:
        Mason (1982), Australian Meteorological Magazine 30.
    """
    p, o = _check(probability, event)
    values, position = np.unique(p, return_inverse=True)
    events = np.bincount(position, weights=o)[::-1].cumsum()
    others = np.bincount(position, weights=1.0 - o)[::-1].cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.insert(events, 0, 0.0) / events[-1]
        false = np.insert(others, 0, 0.0) / others[-1]
    return Roc(np.insert(values[::-1], 0, np.inf), false, hit, float(np.trapezoid(hit, false)))


def relative_economic_value(probability: np.ndarray, event: np.ndarray, cost_loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value of a forecast to users who can protect at a cost C against a loss L: 1 for perfect knowledge, 0 for climatology alone.

    With base rate s, hit rate H and false alarm rate F, V = (min(a, s) - F a (1 - s) + H s (1 - a) - s) / (min(a, s) - s a), a = C / L.

    Args:
        probability: ``(n,)`` in 0..1.
        event: ``(n,)`` of 0 and 1.
        cost_loss: ``(k,)``, ratios a between 0 and 1.

    Returns:
        The value to users who act when the probability reaches their own ratio, and that to users who know the best threshold (the
        potential value), each ``(k,)``. NaN where there is no event, or nothing but events.

    Raises:
        ValueError: As :func:`brier_decomposition`.

    References:
        Richardson (2000), QJRMS 126.
    """
    p, o = _check(probability, event)
    curve, s, a = roc(p, o), float(o.mean()), np.asarray(cost_loss, dtype=float)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = np.minimum(a, s) - curve.false_alarm_rate * a * (1.0 - s) + curve.hit_rate * s * (1.0 - a) - s
        value = saved / (np.minimum(a, s) - s * a)  # (cost-loss ratio, threshold)
    own = (curve.threshold >= a).sum(axis=1) - 1
    return np.take_along_axis(value, own[:, None], axis=1)[:, 0], value.max(axis=1)


def _isotonic(p: np.ndarray, o: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct probabilities, where each case's is among them, and the pool-adjacent-violators estimate of the frequency at each."""
    values, position = np.unique(p, return_inverse=True)
    count = np.bincount(position)
    frequency = np.bincount(position, weights=o) / count
    return values, position, scipy.optimize.isotonic_regression(frequency, weights=count).x


def _check(probability: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, o = np.asarray(probability, dtype=float), np.asarray(event, dtype=float)
    if p.ndim != 1 or p.shape != o.shape or p.size == 0:
        raise ValueError(f"Probabilities have shape {p.shape} and events {o.shape}; both have to be (n,) with n > 0.")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"Probabilities span {p.min()} to {p.max()}; they have to lie in 0..1, missing ones left out.")
    if not np.isin(o, (0.0, 1.0)).all():
        raise ValueError("Events have to be 0 or 1, missing ones left out.")
    return p, o
