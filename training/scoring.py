"""Statistics of single cases, and the scores they finish to: the rows of ``scores.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from data_catalog.dimensions import FORECASTER
from models.base import LEVELS
from models.scores import crps_ensemble, crps_quantiles
from models.scores.calibration import cdf_interval_ensemble, cdf_interval_quantiles, coverage
from models.scores.significance import block_standard_error

ALL: Final = "all"
_BLOCK_DAYS: Final = 10  # length of a block: longer than the memory of forecast errors
COVERAGES: Final = (50, 90)


@dataclass(frozen=True, eq=False)
class Cases:
    """Statistics of every test case that all rows have.

    Attributes:
        rows: Row names.
        statistics: By name, (rows, cases) float64.
        observed: (cases,).
        init_time: (cases,) datetime64[ns].
        lead_hours: (cases,).
        station: (cases,) ids.
        thresholds: Of the Brier scores.
    """

    rows: tuple[str, ...]
    statistics: Mapping[str, np.ndarray]
    observed: np.ndarray
    init_time: np.ndarray
    lead_hours: np.ndarray
    station: np.ndarray
    thresholds: tuple[float, ...]

    @property
    def valid_time(self) -> np.ndarray:
        """(cases,) datetime64[ns]."""
        found: np.ndarray = self.init_time + (self.lead_hours * 3600e9).round().astype("timedelta64[ns]")
        return found

    def daily(self, name: str, cut: np.ndarray | None = None) -> np.ndarray:
        """(days, rows) mean of a statistic on each valid day, of some cases: what intervals are made from."""
        cases = np.flatnonzero(np.ones(len(self.observed), dtype=bool) if cut is None else cut)
        day = self.valid_time[cases].astype("datetime64[D]")
        _, position, count = np.unique(day, return_inverse=True, return_counts=True)
        values = self.statistics[name][:, cases]
        return np.stack([np.bincount(position, weights=row, minlength=len(count)) for row in values], axis=1) / count[:, None]


def block_days(days: int) -> int:
    """Length of the blocks that so many days are cut into."""
    return max(1, min(_BLOCK_DAYS, days // 4))


def daily_error(values: np.ndarray) -> np.ndarray:
    """Block standard error of the mean of (days, ...) values, NaN for fewer than four days."""
    n = len(values)
    if n < 4:
        return np.full(values.shape[1:], np.nan)
    return block_standard_error(values, block=block_days(n))


def of_members(members: np.ndarray, y: np.ndarray, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Statistics (n,) of raw ensembles (n, M) against (n,) observations: the empirical distribution of the members there are."""
    there = np.isfinite(members)
    count = there.sum(axis=1)
    several = np.where(count > 1, 1.0, np.nan)
    held = np.where(there, members, 0.0)
    mean = np.where(count > 0, held.sum(axis=1) / np.maximum(count, 1), np.nan)
    variance = np.where(there, (members - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(count - 1, 1)
    ordered = np.sort(members, axis=1)  # NaN last
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, members.shape[1] - 1)], axis=1)
    below, upto = cdf_interval_ensemble(members, y)
    found = {
        "crps": crps_ensemble(members, y),
        "fair_crps": crps_ensemble(members, y, fair=True) if members.shape[1] > 1 else np.full(len(y), np.nan),
        "absolute_error": np.abs(np.take_along_axis(ordered, middle, axis=1).mean(axis=1) - y),
        "error": mean - y,
        "variance": variance * (count + 1.0) / np.maximum(count, 1) * several,  # of what the observation should be drawn from
        "below": below * several,
        "upto": upto * several,
    }
    for threshold in thresholds:
        above = ((members > threshold) & there).sum(axis=1) / np.maximum(count, 1)
        found[f"brier_gt_{threshold:g}"] = np.where(count > 0, (above - (y > threshold)) ** 2, np.nan)
    return _with_coverage(found)


def of_quantiles(q: np.ndarray, y: np.ndarray, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Statistics (n,) of forecasts by quantiles (n, Q) on LEVELS against (n,) observations."""
    share = np.diff(np.concatenate([[0.0], 0.5 * (LEVELS[1:] + LEVELS[:-1]), [1.0]]))  # probability that each quantile stands for
    mean = q @ share
    below, upto = cdf_interval_quantiles(q, y)
    found = {
        "crps": crps_quantiles(q, y),
        "fair_crps": np.full(len(y), np.nan),
        "absolute_error": np.abs(q[:, len(LEVELS) // 2] - y),
        "error": mean - y,
        "variance": ((q - mean[:, None]) ** 2) @ share,
        "below": below,
        "upto": upto,
    }
    for threshold in thresholds:
        above = 1.0 - cdf_interval_quantiles(q, np.full(len(q), threshold))[1]
        found[f"brier_gt_{threshold:g}"] = (above - (y > threshold)) ** 2
    return _with_coverage(found)


def _with_coverage(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {f"coverage_{p}": coverage(found["below"], found["upto"], p / 100.0) for p in COVERAGES}


def score_rows(cases: Cases) -> list[dict[str, Any]]:
    """Rows of ``scores.csv``: every forecaster over all leads, then lead by lead; a score that cannot be given is empty."""
    rows = []
    leads = np.unique(cases.lead_hours)
    for i, name in enumerate(cases.rows):
        for lead in [None, *leads]:
            cut = slice(None) if lead is None else cases.lead_hours == lead
            own = {key: values[i][cut] for key, values in cases.statistics.items()}
            rows.append(_finish(name, ALL if lead is None else f"{lead:g}", own, cases.thresholds))
    return rows


def _finish(name: str, lead: str, own: Mapping[str, np.ndarray], thresholds: Sequence[float]) -> dict[str, Any]:
    def mean(key: str) -> float | str:
        return float(own[key].mean()) if np.isfinite(own[key]).all() else ""

    variance, error = mean("variance"), float(np.sqrt(np.mean(own["error"] ** 2)))
    return {
        FORECASTER: name,
        "lead_time_hours": lead,
        "n": len(own["crps"]),
        "crps": mean("crps"),
        "fair_crps": mean("fair_crps"),
        "mae": mean("absolute_error"),
        "bias": mean("error"),
        **{f"coverage_{p}": mean(f"coverage_{p}") for p in COVERAGES},
        "spread_error": float(np.sqrt(variance)) / error if isinstance(variance, float) and error > 0 else "",
        **{f"brier_gt_{t:g}": mean(f"brier_gt_{t:g}") for t in thresholds},
    }
