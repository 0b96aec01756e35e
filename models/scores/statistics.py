"""Statistic, then mean, then finish: numbers of one case that add up over days, chunks and machines, and scores made of their means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Final, Self

import numpy as np

from models.base import LEVELS
from models.scores.calibration import cdf_interval_ensemble, cdf_interval_quantiles, coverage
from models.scores.crps import crps_ensemble, crps_quantiles

COVERAGES: Final = (50, 90)
"""Nominal coverages, per cent, that every forecast is checked for."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """A sum and how many cases are in it; adding two is merging them, in any order.

    Attributes:
        total: Sum over the known cases.
        count: How many they are, same shape.
    """

    total: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, axis: int | tuple[int, ...] | None = None) -> Self:
        """Sum numbers of single cases over ``axis``, all axes if None; NaN is a case that is not there."""
        known = ~np.isnan(values)
        return cls(np.sum(values, axis=axis, where=known, dtype=float), np.asarray(known.sum(axis=axis)))

    def __add__(self, other: Statistic) -> Statistic:
        return Statistic(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> np.ndarray:
        """Mean over the cases, NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.total / self.count)


Statistics = Mapping[str, Statistic]


def merge(parts: Sequence[Statistics]) -> dict[str, Statistic]:
    """Merge the statistics of chunks, name by name.

    Raises:
        ValueError: The chunks do not have the same names.
    """
    names = {frozenset(part) for part in parts}
    if len(names) > 1:
        common = frozenset.intersection(*names)
        other = sorted(frozenset.union(*names) - common)
        raise ValueError(f"Only some chunks have {', '.join(other)}; compute the same statistics for all of them.")
    return {name: reduce(Statistic.__add__, [part[name] for part in parts]) for name in parts[0]} if parts else {}


def statistics_of_members(members: np.ndarray, observation: np.ndarray, thresholds: Sequence[float] = ()) -> dict[str, np.ndarray]:
    """Everything that is scored about an ensemble, case by case.

    Args:
        members: ``(..., M)``; NaN members are left out.
        observation: ``(...)``.
        thresholds: Of the events ``value > threshold``, in the units of the variable.

    Returns:
        Arrays ``(...)`` by name, NaN where unknown: ``crps`` (ecdf), ``fair_crps``, ``absolute_error`` (of the median), ``error`` and
        ``squared_error`` (of the mean), ``variance`` (sample variance times (M + 1) / M: the squared error to be expected), ``pit``
        (middle of [F(y-), F(y)]), ``coverage_50`` and ``coverage_90`` (NaN for one member), ``brier_gt_<threshold>``.
    """
    known = ~np.isnan(members)
    count = known.sum(axis=-1).astype(float)
    held = np.where(known, members, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = held.sum(axis=-1) / count
        variance = (np.where(known, held - mean[..., None], 0.0) ** 2).sum(axis=-1) / (count - 1.0) * (count + 1.0) / count
        shares = {t: (held > t).sum(axis=-1, where=known) / count for t in thresholds}
    several = np.where(count > 1.0, 1.0, np.nan)
    lower, upper = cdf_interval_ensemble(members, observation)
    found = {
        "crps": crps_ensemble(members, observation),
        "fair_crps": crps_ensemble(members, observation, fair=True),
        "absolute_error": np.abs(_median(members, known) - observation),
        **_rest(mean, variance, lower, upper, observation),
        **_brier(shares, observation),
    }
    return found | {name: found[name] * several for name in ("variance", *(f"coverage_{c}" for c in COVERAGES))}


def statistics_of_quantiles(
    quantiles: np.ndarray, observation: np.ndarray, thresholds: Sequence[float] = (), levels: np.ndarray = LEVELS
) -> dict[str, np.ndarray]:
    """Everything that is scored about a forecast given by quantiles, case by case.

    Args:
        quantiles: ``(..., Q)``, ascending.
        observation: ``(...)``.
        thresholds: Of the events ``value > threshold``.
        levels: ``(Q,)``.

    Returns:
        As :func:`statistics_of_members`, with ``fair_crps`` NaN: mean and variance are those of the distribution that is linear between
        the quantiles and constant beyond.
    """
    first, last = quantiles[..., 0], quantiles[..., -1]
    a, b, gap = quantiles[..., :-1], quantiles[..., 1:], np.diff(levels)
    centre = quantiles[..., levels.shape[0] // 2]
    ends = ((first, levels[0]), (last, 1.0 - levels[-1]))
    mean = 0.5 * (a + b) @ gap + sum(q * p for q, p in ends)
    a, b = a - mean[..., None], b - mean[..., None]
    variance = (a * a + a * b + b * b) @ gap / 3.0 + sum((q - mean) ** 2 * p for q, p in ends)
    lower, upper = cdf_interval_quantiles(quantiles, observation, levels)
    shares = {t: 1.0 - cdf_interval_quantiles(quantiles, np.full(observation.shape, t), levels)[1] for t in thresholds}
    return {
        "crps": crps_quantiles(quantiles, observation, levels),
        "fair_crps": np.full(observation.shape, np.nan),
        "absolute_error": np.abs(centre - observation),
        **_rest(mean, variance, lower, upper, observation),
        **_brier(shares, observation),
    }


def _rest(mean: np.ndarray, variance: np.ndarray, lower: np.ndarray, upper: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "error": mean - y,
        "squared_error": (mean - y) ** 2,
        "variance": np.where(np.isnan(y), np.nan, variance),
        "pit": 0.5 * (lower + upper),
        **{f"coverage_{c}": coverage(lower, upper, c / 100.0) for c in COVERAGES},
    }


def _brier(shares: Mapping[float, np.ndarray], y: np.ndarray) -> dict[str, np.ndarray]:
    return {f"brier_gt_{t:g}": (p - np.where(np.isnan(y), np.nan, y > t)) ** 2 for t, p in shares.items()}


def _median(members: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Median of the members that are there, NaN where none is."""
    ordered = np.sort(members, axis=-1)  # NaN last
    last = np.maximum(known.sum(axis=-1) - 1, 0)
    middle = np.stack([last // 2, (last + 1) // 2], axis=-1)
    found: np.ndarray = np.take_along_axis(ordered, middle, axis=-1).mean(axis=-1)
    return found


Means = Mapping[str, np.ndarray]

FINISHED: Final[Mapping[str, Callable[[Means], np.ndarray]]] = MappingProxyType(
    {
        "mae": lambda m: m["absolute_error"],
        "bias": lambda m: m["error"],
        "rmse": lambda m: np.sqrt(m["squared_error"]),
        "spread_error": lambda m: np.sqrt(m["variance"] / m["squared_error"]),
    }
)
"""Scores that go by another name than their statistic, or are made of several."""

_PARTS: Final = frozenset({"absolute_error", "error", "squared_error", "variance", "pit"})


def finish(statistics: Statistics) -> dict[str, np.ndarray]:
    """Scores from merged statistics.

    Args:
        statistics: By the names of :func:`statistics_of_members`.

    Returns:
        ``crps``, ``fair_crps``, ``mae``, ``bias``, ``rmse``, ``coverage_50``, ``coverage_90``, ``spread_error`` and every ``brier_gt_``
        score, in the shape of the statistics; NaN where no case counts. Lower is better, but for bias (0), coverage (nominal) and
        spread_error (1).

    Raises:
        KeyError: A statistic is missing.
    """
    means = {name: statistic.mean for name, statistic in statistics.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        made = {name: score(means) for name, score in FINISHED.items()}
    return {name: mean for name, mean in means.items() if name not in _PARTS} | made


def skill(score: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """1 - score / reference: one for a perfect forecast, zero for one as good as the reference."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1.0 - np.asarray(score) / np.asarray(reference))
