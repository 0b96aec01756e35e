"""Numbers, times and axes as the page has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from data_catalog.errors import UnknownNameError
from data_catalog.regions import Region
from serving.api.cycles import Cycle

HOUR = np.timedelta64(1, "h")
VARIABLES: Final[Mapping[str, tuple[float, int]]] = {
    "temperature_2m": (1.0, 1),
    "precipitation_amount": (1.0, 1),
    "wind_speed_10m": (1.0, 1),
    "wind_gust_10m": (1.0, 1),
    "pressure_reduced_to_mean_sea_level": (0.01, 1),
    "dew_point_temperature_2m": (1.0, 1),
    "total_cloud_cover_atmosphere": (1.0, 0),
}
"""Shown variables: the factor to the page's units (hPa for Pa), and decimals."""


def numbers(values: np.ndarray, decimals: int) -> Any:
    """Nested lists of rounded numbers, None where missing."""
    rounded = np.round(np.asarray(values, dtype=np.float64), decimals) + 0.0
    known = np.isfinite(rounded)
    plain = (np.where(known, rounded, 0).astype(np.int64) if decimals == 0 else rounded).astype(object)
    plain[~known] = None
    return plain.tolist()


def stamp(time: np.datetime64) -> str:
    """``2025-01-10T12:00Z``."""
    return f"{time.astype('datetime64[m]')}Z"


def utc_offset(region: Region, time: np.datetime64) -> int:
    """Local time minus UTC in whole hours."""
    moment = datetime.fromisoformat(f"{time.astype('datetime64[s]')}+00:00")
    offset = moment.astimezone(ZoneInfo(region.timezone)).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() / 3600)


def position_of(cycle: Cycle, group: str, station: str) -> int:
    """Where a station stands in a group.

    Raises:
        UnknownNameError: The cycle has no such station.
    """
    names = [str(name) for name in cycle.dataset(group)["station"].values]
    if station not in names:
        raise UnknownNameError(f"{cycle.id} has no station {station!r}; it has {', '.join(names)}.")
    return names.index(station)


def leads_of(cycle: Cycle, group: str) -> np.ndarray:
    """Leads of a group in hours, shape (L,)."""
    return np.asarray(cycle.dataset(group)["lead_time"].values / HOUR, dtype=np.float64)


def intervals_of(cycle: Cycle, group: str) -> np.ndarray:
    """Hours of the interval that ends at each lead, shape (L,), NaN where there is none."""
    dataset = cycle.dataset(group)
    if "lead_time_bounds" not in dataset.coords:
        return np.full(dataset.sizes["lead_time"], np.nan)
    bounds = dataset["lead_time_bounds"].values
    return np.where(np.isnat(bounds).any(axis=1), np.nan, (bounds[:, 1] - bounds[:, 0]) / HOUR)


def daily_of(cycle: Cycle, group: str, at: Mapping[str, int]) -> dict[str, Any]:
    """Every daily variable at a place as [10, 50, 90 %] by day, and ``days``; {} where the cycle has no such group."""
    if group not in cycle.groups:
        return {}
    dataset = cycle.dataset(group)
    levels = dataset["quantile"].values
    picked = [int(np.abs(levels - level).argmin()) for level in (0.1, 0.5, 0.9)]
    days = [str(day)[:10] for day in dataset["day"].values]
    return {"days": days} | {str(name): numbers(cycle.read(group, str(name), **at)[:, picked], 1) for name in dataset.data_vars}


def window_sums(amounts: np.ndarray, leads: np.ndarray, intervals: np.ndarray, hours: int) -> np.ndarray:
    """Sums over windows of whole intervals that end at each lead, NaN where they do not fill it; leads on axis 0."""
    found = np.full(amounts.shape, np.nan, dtype=np.float32)
    for last in range(leads.size):
        inside = (leads > leads[last] - hours) & (leads <= leads[last])
        if np.isfinite(intervals[inside]).all() and intervals[inside].sum() == hours:
            found[last] = amounts[inside].sum(axis=0)
    return found


def member_counts(cycle: Cycle) -> dict[str, int]:
    """Members by ``blend`` and ``raw_<dataset>``, {} where the cycle does not say."""
    if "risk" not in cycle.groups:
        return {}
    names = [str(name) for name in cycle.dataset("risk")["forecaster"].values]
    return dict(zip(names, cycle.read("risk", "member_count").tolist(), strict=True))
