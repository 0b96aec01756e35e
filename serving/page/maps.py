"""View 4: one layer of the map for all leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from data_catalog.errors import UnknownNameError
from data_catalog.regions import Region
from serving.api.cycles import Cycle
from serving.page.common import intervals_of, leads_of, numbers, window_sums

CLUSTER_SHARE: Final = 0.1
CLUSTER_HOURS: Final = 72
FIELDS: Final[Mapping[str, tuple[str, float, float]]] = {
    "rain24": ("precipitation_amount", 1.0, 0.1),
    "rain": ("precipitation_amount", 1.0, 0.1),
    "temperature": ("temperature_2m", 1.0, 0.1),
    "pressure": ("pressure_reduced_to_mean_sea_level", 0.01, 0.1),
    "wind": ("wind_speed_10m", 1.0, 0.1),
    "gust": ("wind_gust_10m", 1.0, 0.1),
    "u": ("wind_u_10m", 1.0, 0.1),
    "v": ("wind_v_10m", 1.0, 0.1),
}
"""Map fields: variable, factor to the page's units, step of the integers sent."""


def map_of(cycle: Cycle, region: Region, field: str, statistic: str) -> dict[str, Any]:
    """One map layer for all leads, as integers in steps of ``scale``.

    Args:
        cycle: The cycle.
        region: Box of the city, by whose rain members are ranked.
        field: One of :data:`FIELDS`, or ``above<mm>`` (the chance that 24 h rain passes a published threshold; statistic ``chance``).
        statistic: ``q10``, ``q50``, ``q90`` (of coupled members), ``mean``, or the mean of the ``wet``, ``middle`` or ``dry`` tenth of
            members, ranked by city-mean rain of the first 72 h.

    Returns:
        ``latitude``, ``longitude``, ``leads``, ``shape`` (lead, latitude, longitude), ``scale``, ``values`` flat.
    """
    grid = cycle.dataset("grid")
    if field.startswith("above"):
        values, scale = _chance_map(cycle, field.removeprefix("above")), 0.01
    elif field in FIELDS:
        variable, factor, scale = FIELDS[field]
        if variable not in grid:
            raise UnknownNameError(f"{cycle.id} has no {variable} on the grid.")
        members = cycle.read("grid", variable) * factor                                     # (lead, latitude, longitude, member)
        if field == "rain24":
            members = window_sums(members, leads_of(cycle, "grid"), intervals_of(cycle, "grid"), 24)
        values = _reduced(members, statistic, lambda: _ranked(cycle, region))
    else:
        raise UnknownNameError(f"No map field {field[:40]!r}; known are {', '.join(FIELDS)} and above<mm>.")
    whole = np.round(values / scale)
    return {
        "latitude": grid["latitude"].values.tolist(), "longitude": grid["longitude"].values.tolist(),
        "leads": numbers(leads_of(cycle, "grid"), 0), "intervals": numbers(intervals_of(cycle, "grid"), 0),
        "shape": list(values.shape), "scale": scale, "values": numbers(whole.ravel(), 0),
    }  # fmt: skip


def _chance_map(cycle: Cycle, threshold: str) -> np.ndarray:
    group = cycle.dataset("grid_probabilities")
    amounts = [f"{value:g}" for value in group["threshold"].values]
    windows = np.flatnonzero(group["window"].values == np.timedelta64(24, "h"))
    if threshold not in amounts or not windows.size:
        raise UnknownNameError(f"No chance of more than {threshold[:20]!r} mm; published are {', '.join(amounts)}.")
    return cycle.read("grid_probabilities", "precipitation_amount_above", window=int(windows[0]), threshold=amounts.index(threshold))


def _reduced(members: np.ndarray, statistic: str, ranked: Callable[[], np.ndarray]) -> np.ndarray:
    if statistic in ("q10", "q50", "q90"):
        return np.asarray(np.quantile(members, int(statistic[1:]) / 100, axis=-1))
    if statistic == "mean":
        return np.asarray(members.mean(axis=-1))
    if statistic not in ("wet", "middle", "dry"):
        raise UnknownNameError(f"No statistic {statistic[:40]!r}; known are q10, q50, q90, mean, wet, middle and dry.")
    order = ranked()
    size = max(1, round(order.size * CLUSTER_SHARE))
    first = {"dry": 0, "middle": (order.size - size) // 2, "wet": order.size - size}[statistic]
    return np.asarray(members[..., order[first : first + size]].mean(axis=-1))


def _ranked(cycle: Cycle, region: Region) -> np.ndarray:
    """Members from the driest to the wettest by city-mean rain of the first hours."""
    grid = cycle.dataset("grid")
    latitude, longitude = grid["latitude"].values, grid["longitude"].values
    rows = np.flatnonzero((latitude <= region.city.latitude_north) & (latitude >= region.city.latitude_south))
    columns = np.flatnonzero((longitude >= region.city.longitude_west) & (longitude <= region.city.longitude_east))
    rain = cycle.read("grid", "precipitation_amount")[:, rows][:, :, columns]
    total = np.nansum(rain[leads_of(cycle, "grid") <= CLUSTER_HOURS], axis=(0, 1, 2))
    return np.argsort(total, kind="stable")
