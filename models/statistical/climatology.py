"""What usually happens at this place, hour and time of year, from past observations alone.

The predictive distribution at a valid time is the weighted empirical distribution of the past observations of the same hour of
day (and, for sums, means and extremes, the same length of interval), with Gaussian weights in the circular distance of the day
of the year. Variables without bounds are taken as departures from two harmonics of the season once there is most of a year, so
that spring does not look uncertain for being on the way from winter to summer. Where the record is short the kernel widens until
some thirty observations count, so that 25 days give the distribution of those 25 days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Self

import numpy as np
import torch
import xarray as xr

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION, TIME
from data_catalog.variables import VARIABLES
from models.base import LEVELS, ForecasterError, ForecasterSpec, Inputs, MissingInputError, NotFittedError, Pairs, check_state
from models.statistical.shared import DAY, DAYS_IN_YEAR, HOUR, answer, fraction_of_year, observed_of, season, wanted

KERNEL_DAYS: Final = 20.0  # standard deviation of the seasonal kernel
LEAST: Final = 30  # observations within one kernel width, or the kernel is wider
SEASON_DAYS: Final = 300.0  # shortest record from which the harmonics are learned
_HARMONICS: Final = 2
_INSTANT: Final = -1  # interval key of values that belong to a moment
_BLOCK: Final = 4_000_000  # weights held at once


class Climatology:
    """``climatology``."""

    def __init__(self) -> None:
        self.stations_: np.ndarray = np.array([], dtype=str)
        self.record_: dict[str, dict[str, np.ndarray]] = {}

    @property
    def spec(self) -> ForecasterSpec:
        """Needs past observations only, and ten days of them."""
        return ForecasterSpec(id="climatology", version="1", minimum_history=10)

    def fit(self, pairs: Pairs) -> Self:
        """Take up the observations of the pairs and, for instantaneous variables, all those known at the last init_time.

        Raises:
            ForecasterError: Nothing has been observed.
        """
        frame = pairs.frame
        self.stations_ = frame[STATION].values.astype(str)
        valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
        self.record_ = {}
        for name in wanted(pairs, [str(n) for n in pairs.observed.data_vars]):
            keys = np.broadcast_to(_intervals(name, frame), valid_time.shape)
            times, key, values = valid_time.ravel(), keys.ravel(), observed_of(pairs, name).reshape(valid_time.size, -1)
            known = pairs.known_at(frame[INIT_TIME].values.max()) if _is_instant(name) else None
            if known is not None and name in known:
                series = known[name].transpose(TIME, STATION).reindex({STATION: frame[STATION].values})
                times = np.concatenate([times, series[TIME].values])
                key = np.concatenate([key, np.full(series.sizes[TIME], _INSTANT)])
                values = np.concatenate([values, series.values.astype(float)])
            record = _unique(times, key, values)
            if np.isfinite(record["values"]).any():
                self.record_[name] = record
        if not self.record_:
            raise ForecasterError("climatology: nothing has been observed yet; give more history.")
        return self

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles at stations seen in :meth:`fit`; NaN at others and at hours never observed.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: Asked for a grid, or for variables never observed.
        """
        if not self.record_:
            raise NotFittedError("climatology has not been fitted: call fit first.")
        if inputs.place_dims != (STATION,):
            raise MissingInputError("climatology knows stations only, and a grid was asked for.")
        frame = inputs.frame
        names = wanted(inputs, self.record_)
        if not names:
            raise MissingInputError(f"climatology has observations of none of {', '.join(inputs.targets)}.")
        valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
        index = {station: i for i, station in enumerate(self.stations_)}
        place = np.array([index.get(str(s), -1) for s in frame[STATION].values])
        values = {}
        for name in names:
            intervals = np.broadcast_to(_intervals(name, frame), valid_time.shape).ravel()
            cases = np.stack([valid_time.ravel().astype("datetime64[ns]").astype(np.int64), intervals], axis=1)
            distinct, back = np.unique(cases, axis=0, return_inverse=True)
            when, seasonal = distinct[:, 0].astype("datetime64[ns]"), _is_free(name)
            found = _weighted_quantiles(self.record_[name], when, distinct[:, 1], seasonal)  # (case, S, Q)
            found = np.concatenate([found, np.full_like(found[:, :1], np.nan)], axis=1)[:, place]
            values[name] = found[back.ravel()].reshape(*valid_time.shape, len(place), len(LEVELS))
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """The record: times, interval keys and values by variable.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.record_:
            raise NotFittedError("climatology has not been fitted: call fit first.")
        return {"stations": self.stations_} | {f"{n}/{k}": a for n, record in self.record_.items() for k, a in record.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "stations")
        made = cls()
        made.stations_ = state["stations"]
        for path, array in state.items():
            name, _, key = path.partition("/")
            if key:
                made.record_.setdefault(name, {})[key] = array
        return made


def _is_instant(name: str) -> bool:
    variable = VARIABLES.get(name)
    return variable is None or not variable.has_interval


def _is_free(name: str) -> bool:
    variable = VARIABLES.get(name)
    return variable is None or (variable.lower_bound is None and variable.upper_bound is None)


def _intervals(name: str, frame: xr.Dataset) -> np.ndarray:
    """(lead_time,) length of the interval that a value stands for, ns: by ``lead_time_bounds``, else by the spacing of leads."""
    leads = np.atleast_1d(frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)
    if _is_instant(name):
        return np.full(len(leads), _INSTANT)
    if "lead_time_bounds" in frame.coords:
        bounds = frame["lead_time_bounds"].transpose(LEAD_TIME, ...).values.astype("timedelta64[ns]").astype(np.int64)
        length: np.ndarray = bounds[:, 1] - bounds[:, 0]
        return length
    return np.zeros(1, np.int64) if len(leads) < 2 else np.concatenate([np.diff(leads[:2]), np.diff(leads)])


def _unique(times: np.ndarray, key: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """One row for each (interval, time), ascending, the last finite value of each station kept; rows without any left out."""
    nanoseconds = times.astype("datetime64[ns]").astype(np.int64)
    rows, back = np.unique(np.stack([key, nanoseconds], axis=1), axis=0, return_inverse=True)
    merged = np.full((len(rows), values.shape[1]), np.nan)
    row, station = np.nonzero(np.isfinite(values))
    merged[back.ravel()[row], station] = values[row, station]
    some = np.isfinite(merged).any(axis=1)
    return {"times": rows[some, 1], "intervals": rows[some, 0], "values": merged[some]}


def _weighted_quantiles(record: Mapping[str, np.ndarray], times: np.ndarray, intervals: np.ndarray, seasonal: bool) -> np.ndarray:
    """(case, station, Q) for distinct valid times and intervals, as departures from the season if ``seasonal``."""
    past = record["times"].astype("datetime64[ns]")
    found = np.full((len(times), record["values"].shape[1], len(LEVELS)), np.nan)
    clock_past, clock = (t.astype(np.int64) % (DAY // HOUR * 3_600_000_000_000) for t in (past, times))
    groups, member = np.unique(np.stack([clock, intervals], axis=1), axis=0, return_inverse=True)
    for number, (hour, interval) in enumerate(groups):
        rows = (clock_past == hour) & (record["intervals"] == interval)
        cases = np.flatnonzero(member.ravel() == number)
        if not rows.any():
            continue
        values, cycle = _departures(record["values"][rows], past[rows], seasonal)  # (n, S)
        order = np.argsort(values, axis=0, kind="stable")  # NaN last
        ordered = np.take_along_axis(values, order, axis=0).T  # (S, n)
        size = max(1, _BLOCK // ordered.size)
        for first in range(0, len(cases), size):
            some = cases[first : first + size]
            weight = _season_weight(past[rows], times[some])  # (case, n)
            by_station = np.where(np.isfinite(ordered), weight[:, order.T], 0.0)  # (case, S, n)
            found[some] = _invert(by_station, ordered) + cycle(times[some])[..., None]
    return found


def _departures(values: np.ndarray, past: np.ndarray, seasonal: bool) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Values (n, S) less their season, and the season at other times (case,) as (case, S); no season where it cannot be learned."""
    coefficients = np.zeros((1 + 2 * _HARMONICS, values.shape[1]))
    for station, known in enumerate(np.isfinite(values).T):
        enough = seasonal and known.sum() >= 10 * len(coefficients)
        if enough and (past[known].max() - past[known].min()) / DAY >= SEASON_DAYS:
            coefficients[:, station] = np.linalg.lstsq(_waves(past[known]), values[known, station], rcond=None)[0]
    return values - _waves(past) @ coefficients, lambda times: _waves(times) @ coefficients


def _waves(times: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(times), 1)), season(times, _HARMONICS)], axis=1)


def _season_weight(past: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(case, n) Gaussian weights in the circular distance of the season, the kernel widened to hold :data:`LEAST` observations."""
    apart = np.abs(fraction_of_year(times)[:, None] - fraction_of_year(past)[None, :])
    apart = np.minimum(apart, 1.0 - apart) * DAYS_IN_YEAR
    rank = min(LEAST, apart.shape[1]) - 1
    width = np.maximum(KERNEL_DAYS, np.partition(apart, rank, axis=1)[:, rank])
    weight: np.ndarray = np.exp(-0.5 * (apart / width[:, None]) ** 2)
    return weight


def _invert(weight: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Quantiles (case, station, Q) of values (station, n), ascending, with weights (case, station, n); zero weight is absent.

    Between the middles of neighbouring weights the distribution is linear: for equal weights the converter of
    ``models.base.to_quantiles``.
    """
    total = weight.sum(axis=-1, keepdims=True)
    middle = (np.cumsum(weight, axis=-1) - 0.5 * weight) / np.where(total > 0, total, 1.0)  # (case, S, n)
    levels = torch.tensor(LEVELS).expand(*weight.shape[:2], -1).contiguous()
    high = torch.searchsorted(torch.as_tensor(np.ascontiguousarray(middle)), levels).numpy()
    last = np.where(np.isfinite(ordered), np.arange(ordered.shape[1]), 0).max(axis=1)[None, :, None]
    high = np.minimum(high, last)
    low = np.maximum(high - 1, 0)
    at_low, at_high = np.take_along_axis(middle, low, axis=-1), np.take_along_axis(middle, high, axis=-1)
    share = np.clip((LEVELS - at_low) / np.where(at_high > at_low, at_high - at_low, 1.0), 0.0, 1.0)
    station = np.arange(len(ordered))[None, :, None]
    below, above = ordered[station, low], ordered[station, high]
    return np.where(total > 0, below + np.where(high > low, share, 1.0) * (above - below), np.nan)
