"""View 2: chances of heavy rain, raw, calibrated and observed frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_catalog.regions import Region
from serving.api.cycles import Cycle
from serving.observed import Observations, rain_frequency
from serving.page.common import member_counts, numbers, position_of, stamp, utc_offset


def risk_of(cycle: Cycle, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    """Chances that rain days pass the duty rules: raw, calibrated and observed frequency, at a station and anywhere in the city.

    Returns:
        ``rules`` [{hours, amount, inclusive}], ``day_ends`` UTC, and for ``point`` and ``city``: ``blend`` and ``raw`` as lists by rule
        and day, ``climatology`` by rule with ``days``, ``first``, ``last``, ``season``. Empty rules when the cycle has no such group.
    """
    if "risk" not in cycle.groups:
        return {"rules": [], "day_ends": []}
    group = cycle.dataset("risk")
    names = [str(name) for name in group["forecaster"].values]
    columns = (group[f"rule_{part}"].values for part in ("window", "threshold", "inclusive"))
    rules = [(int(hours), float(amount), bool(counts)) for hours, amount, counts in zip(*columns, strict=True)]
    counts = np.array([member_counts(cycle)[name] for name in names], dtype=np.float64)
    reports = observations.all()
    ends_utc = [(int(clock[:2]) - utc_offset(region, cycle.init_time)) % 24 for clock in region.rain.day_ends_local]
    in_city = [one.id for one in region.operating if one.city]
    found: dict[str, Any] = {
        "rules": [{"hours": hours, "amount": amount, "inclusive": inclusive} for hours, amount, inclusive in rules],
        "day_ends": [stamp(end) for end in group["day_end"].values],
        "members": {"blend": int(counts[names.index("blend")]), "raw": int(sum(counts) - counts[names.index("blend")])},
    }
    point = cycle.read("risk", "precipitation_risk", station=position_of(cycle, "risk", station))
    for place, chances, stations in (("point", point, [station]), ("city", cycle.read("risk", "precipitation_risk_city"), in_city)):
        found[place] = {
            "blend": numbers(chances[names.index("blend")].T, 3),
            "raw": numbers(_pooled(chances, counts, [i for i, name in enumerate(names) if name != "blend"]).T, 3),
            "climatology": None if reports is None else asdict(rain_frequency(reports, stations, rules, cycle.init_time, ends_utc)),
        }
    return found


def _pooled(chances: np.ndarray, counts: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """The share of all raw members together, of those centres that reach that far; NaN where none does."""
    kept, weight = chances[chosen], counts[chosen, None, None]
    known = np.isfinite(kept)
    total = (weight * known).sum(axis=0)
    passed = (weight * np.where(known, kept, 0)).sum(axis=0)
    return np.asarray(np.divide(passed, total, out=np.full(total.shape, np.nan), where=total > 0))
