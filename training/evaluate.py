"""How fitted forecasters do on a part of the past that none of them learned from: by variable, lead, season, station and protected case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from data_catalog.dimensions import FORECASTER, INIT_TIME, LEAD_TIME, QUANTILE, STATION
from data_catalog.regions import Region
from models.base import LEVELS, Forecaster, ForecasterError, Inputs, Pairs, to_quantiles
from models.scores import crps_quantiles
from models.scores.calibration import pit_histogram
from training.scoring import Cases, daily_error, of_quantiles

HOUR = np.timedelta64(1, "h")
PIT_BINS: Final = 20
LEAD_RANGES: Final = ((0.0, 24.0), (24.0, 72.0), (72.0, 120.0), (120.0, 240.0))
"""Ranges of leads, hours, each without its lower end but for the first."""
SEASONS: Final = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}


@dataclass(frozen=True, slots=True)
class Protected:
    """An extreme that no promotion may make worse.

    Attributes:
        name: ``heavy rain``, ``heat``, ``cold``.
        variable: Of which.
        threshold: In its units.
        side: Which side of the threshold is the extreme.
    """

    name: str
    variable: str
    threshold: float
    side: Literal["above", "below"]

    def happened(self, observed: np.ndarray) -> np.ndarray:
        """Whether each observation is at the threshold or beyond."""
        found: np.ndarray = observed >= self.threshold if self.side == "above" else observed <= self.threshold
        return found

    def score(self, quantiles: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Threshold-weighted CRPS (n,): the part of the CRPS beyond the threshold (Gneiting and Ranjan 2011; Allen et al. 2023)."""
        clip = np.maximum if self.side == "above" else np.minimum
        return np.asarray(crps_quantiles(clip(quantiles, self.threshold), clip(observed, self.threshold)))


def protected_cases(region: Region) -> tuple[Protected, ...]:
    """Heavy rain, heat and cold as the region's rules have them.

    Rain: the moderate threshold of a whole day, here within one interval of 3 or 6 h. Heat: the lowest class of hot days. Cold: the
    second class (rét đậm).
    """
    cold = region.temperature.cold_mean
    return (
        Protected("heavy rain", "precipitation_amount", region.rain.thresholds_24h[min(1, len(region.rain.thresholds_24h) - 1)], "above"),
        Protected("heat", "temperature_2m", region.temperature.heat_maximum[0], "above"),
        Protected("cold", "temperature_2m", cold[min(1, len(cold) - 1)], "below"),
    )


def learned_until(pairs: Pairs, cut: np.datetime64) -> Pairs:
    """The pairs of forecasts started before ``cut``, with what had not verified by then unknown."""
    chosen = np.flatnonzero(pairs.frame[INIT_TIME].values < cut)
    observed = pairs.observed.isel({INIT_TIME: chosen})
    return replace(
        pairs,
        sources={name: source.isel({INIT_TIME: chosen}) for name, source in pairs.sources.items()},
        observations=pairs.known_at(cut),
        observed=observed.where(observed[INIT_TIME] + observed[LEAD_TIME] <= cut),
    )


def started_from(pairs: Pairs, since: np.datetime64) -> Pairs:
    """The pairs of forecasts started at ``since`` or later; observations are all there, and ``predict`` takes those it may."""
    chosen = np.flatnonzero(pairs.frame[INIT_TIME].values >= since)
    return replace(
        pairs,
        sources={name: source.isel({INIT_TIME: chosen}) for name, source in pairs.sources.items()},
        observed=pairs.observed.isel({INIT_TIME: chosen}),
    )


def evaluate(forecasters: Mapping[str, Forecaster], pairs: Pairs, protected: Sequence[Protected]) -> dict[str, Cases]:
    """Statistics of every case that all forecasters of a variable have.

    Args:
        forecasters: Fitted, by the name of their row. One that cannot forecast a variable is no row of it; a case that one of the others
            lacks is none.
        pairs: Of a time that none of them learned from, see :func:`started_from`.
        protected: Each adds a statistic of its name.

    Returns:
        By variable.

    Raises:
        ForecasterError: The first of the forecasters has no forecast at all.
    """
    said: dict[str, Any] = {}
    for number, (name, forecaster) in enumerate(forecasters.items()):
        try:
            said[name] = forecaster.predict(_inputs(pairs))
        except ForecasterError:
            if not number:
                raise
    found = {}
    for variable in pairs.targets or [str(name) for name in pairs.observed.data_vars]:
        rows = {name: _quantiles(one[variable]) for name, one in said.items() if variable in one}
        cases = _cases(variable, rows, pairs, [one for one in protected if one.variable == variable])
        if cases is not None:
            found[variable] = cases
    if not found:
        raise ForecasterError(f"{next(iter(forecasters))} has no forecast of anything that was observed; check its inputs and the archive.")
    return found


def _inputs(pairs: Pairs) -> Inputs:
    """Without what happened."""
    return Inputs(sources=pairs.sources, observations=pairs.observations, targets=pairs.targets, template=pairs.template)


def _quantiles(said: Any) -> np.ndarray:
    """(init_time, lead_time, station, quantile)."""
    values = said if QUANTILE in said.dims else to_quantiles(said)
    found: np.ndarray = values.transpose(INIT_TIME, LEAD_TIME, STATION, QUANTILE).values
    return found


def _cases(variable: str, rows: Mapping[str, np.ndarray], pairs: Pairs, protected: Sequence[Protected]) -> Cases | None:
    observed = pairs.observed[variable].transpose(INIT_TIME, LEAD_TIME, STATION).values
    rows = {name: values for name, values in rows.items() if np.isfinite(values).any()}
    there = np.isfinite(observed)
    for values in rows.values():
        there = there & np.isfinite(values).all(axis=-1)
    init, lead, station = np.nonzero(there)
    if not init.size or not rows:
        return None
    y = observed[there].astype(np.float64)
    parts = []
    for values in rows.values():
        q = values[there].astype(np.float64)
        own = of_quantiles(q, y, ())
        parts.append(own | {"square": own["error"] ** 2} | {one.name: one.score(q, y) for one in protected})
    frame = pairs.frame
    return Cases(
        tuple(rows),
        {name: np.stack([part[name] for part in parts]) for name in parts[0]},
        y,
        frame[INIT_TIME].values[init],
        np.asarray(frame[LEAD_TIME].values[lead] / HOUR, dtype=np.float64),
        frame[STATION].values.astype(str)[station],
        (),
    )


# --- tables ------------------------------------------------------------------------------------------------------------------------


def cuts(cases: Cases) -> list[tuple[str, str, np.ndarray]]:
    """Ways to look at the cases: (kind, label, which), all of them first; what has no case is left out."""
    month = cases.valid_time.astype("datetime64[M]").astype(int) % 12 + 1
    found = [("all", "all", np.ones(len(cases.observed), dtype=bool))]
    found += [("lead", f"{low:g}-{high:g} h", in_range(cases.lead_hours, low, high)) for low, high in LEAD_RANGES]
    found += [("season", name, np.isin(month, months)) for name, months in SEASONS.items()]
    found += [("station", str(name), cases.station == name) for name in np.unique(cases.station)]
    return [(kind, label, cut) for kind, label, cut in found if cut.any()]


def in_range(lead_hours: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which leads are in a range of :data:`LEAD_RANGES`."""
    found: np.ndarray = (lead_hours <= high) & ((lead_hours > low) | (low == 0.0))
    return found


def score_table(found: Mapping[str, Cases]) -> list[dict[str, Any]]:
    """Rows {variable, forecaster, cut, label, n, crps, crps_error, mae, bias, coverage_50, coverage_90, spread_error}."""
    rows = []
    for variable, cases in found.items():
        for kind, label, cut in cuts(cases):
            error = daily_error(cases.daily("crps", cut))
            for i, name in enumerate(cases.rows):
                own = {key: values[i, cut] for key, values in cases.statistics.items()}
                deviation = float(np.sqrt(np.mean(own["error"] ** 2)))
                rows.append(
                    {
                        "variable": variable,
                        FORECASTER: name,
                        "cut": kind,
                        "label": label,
                        "n": int(cut.sum()),
                        "crps": _plain(own["crps"].mean()),
                        "crps_error": _plain(error[i]),
                        "mae": _plain(own["absolute_error"].mean()),
                        "bias": _plain(own["error"].mean()),
                        "coverage_50": _plain(own["coverage_50"].mean()),
                        "coverage_90": _plain(own["coverage_90"].mean()),
                        "spread_error": _plain(np.sqrt(own["variance"].mean()) / deviation) if deviation > 0 else None,
                    }
                )
    return rows


def _plain(value: Any) -> float | None:
    """Six digits, None for what is unknown: JSON has no NaN."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def by_lead(cases: Cases, row: int, statistic: str = "crps") -> tuple[np.ndarray, np.ndarray]:
    """(lead hours, mean of a statistic at each)."""
    leads, place = np.unique(cases.lead_hours, return_inverse=True)
    total = np.bincount(place, weights=cases.statistics[statistic][row])
    return leads, total / np.bincount(place)


def pit(cases: Cases, row: int) -> np.ndarray:
    """Shares (20,) of the probability integral transform, one twentieth each when calibrated."""
    return pit_histogram(cases.statistics["below"][row], cases.statistics["upto"][row], PIT_BINS)


def reliability(cases: Cases, row: int) -> tuple[np.ndarray, np.ndarray]:
    """(levels (Q,), share of observations below each quantile): on the diagonal when calibrated. A mass counts evenly over its interval."""
    below, upto = cases.statistics["below"][row], cases.statistics["upto"][row]
    levels = LEVELS[np.isclose(LEVELS * 20, np.round(LEVELS * 20))]
    width = np.maximum(upto - below, 1e-9)
    share = np.clip((levels[:, None] - below) / width, 0.0, 1.0).mean(axis=1)
    return levels, share
