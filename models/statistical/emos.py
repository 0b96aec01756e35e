"""Ensemble model output statistics of one source (Gneiting et al. 2005), for every station and lead at once.

On the power scale of the variable, with x the mean and s the standard deviation of the members, all in units of the pooled
spread of the observations::

    location  = b0 + b1 x + b2 log s + season        log scale = c0 + c1 log s + season

The logarithm of the spread stands in the location too, because where the members disagree most their mean is often wrong in one
direction (measured: -0.015 K at Magdeburg, -0.05 K at Innsbruck); a source whose members never differ goes without it. The season
is one harmonic once there is most of a year, two after two years.

Coefficients are learned in three levels, each drawn towards the one above: all leads and stations together, one lead with all
stations, one lead at one station. Errors are alike at neighbouring stations, so that the strength of the upper two counts days,
not rows. How strongly a station is drawn to its lead is itself learned from how much stations differ (empirical Bayes).
Elsewhere the station coefficients are carried by a weight that decays with distance.

Beyond the values of x seen in training the slope is one, so that the correction of a record stays as large as that of the largest
forecast known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION
from models.base import LEVELS, ForecasterError, ForecasterSpec, Inputs, MissingInputError, NotFittedError, Pairs, check_state
from models.statistical.fisher import Fit, fit_location_scale
from models.statistical.shared import DAY, Shape, answer, array_of, device_of, members_of, observed_of, season, shape_of, wanted

SEASON_DAYS: Final = (300.0, 700.0)  # shortest histories from which one and two harmonics of the season are learned
RIDGE: Final = 10.0  # observations that a coarser level counts for, where stations cannot tell
_EXTRA: Final = 100.0  # the same for what stands in the location beside the constant and x
_TOLERANCE: Final = 1e-3  # log-likelihood that a further step must gain: a thirtieth of a standard error
_WEAK: Final = 0.1  # share of both while finding out how much stations differ
_STATIONS: Final = 5.0  # stations that RIDGE counts for in that
CARRY_KM: Final = 50.0  # e-folding distance of station coefficients
_POOL_ROWS: Final = 100_000  # rows of the pooled fits; more are thinned evenly
_MOMENT_ROWS: Final = 8192  # ensembles reduced at once on a CPU: they stay in the cache
_FLOOR: Final = 0.05  # smallest spread told apart, as a share of its median


@dataclass(frozen=True, eq=False)
class Learned:
    """What is learned of one variable; arrays on CPU, float64.

    Attributes:
        unit: (2,) centre and spread of the observations on the power scale.
        spread: (4,) floor of the members' standard deviation, and centre, smallest and largest of its logarithm, in units; NaN
            where the members never differ.
        harmonics: () order of the season, 0 for none.
        leads: (L,) lead times, nanoseconds.
        reach: (L, 2) smallest and largest x seen.
        location: (L, S, p) coefficients of each station.
        log_scale: (L, S, q).
        pool_location: (L, p) coefficients of all stations together.
        pool_log_scale: (L, q).
    """

    unit: np.ndarray
    spread: np.ndarray
    harmonics: np.ndarray
    leads: np.ndarray
    reach: np.ndarray
    location: np.ndarray
    log_scale: np.ndarray
    pool_location: np.ndarray
    pool_log_scale: np.ndarray


class Emos:
    """``emos_<source>``."""

    def __init__(self, source: str, device: str = "auto") -> None:
        self.source, self.device = source, device
        self.learned_: dict[str, Learned] = {}
        self.stations_: np.ndarray = np.array([], dtype=str)
        self.places_: np.ndarray = np.zeros((0, 2))

    @property
    def spec(self) -> ForecasterSpec:
        """Needs its source and ten days."""
        return ForecasterSpec(id=f"emos_{self.source}", version="2", required=(self.source,), minimum_history=10)

    def fit(self, pairs: Pairs) -> Self:
        """Learn every variable that both the source and the observations have.

        Raises:
            MissingInputError: The source is absent.
            ForecasterError: No variable has a single pair.
        """
        data = members_of(pairs, self.source)
        self.stations_ = pairs.frame[STATION].values.astype(str)
        self.places_ = _places(pairs.frame, (STATION,))
        self.learned_ = {}
        for name in wanted(pairs, [str(n) for n in data.data_vars if n in pairs.observed]):
            learned = self._learn(shape_of(name), array_of(data[name], (STATION,)), observed_of(pairs, name), pairs.frame)
            if learned is not None:
                self.learned_[name] = learned
        if not self.learned_:
            raise ForecasterError(f"{self.spec.id}: no pair of forecast and observation at any station; give more history.")
        return self

    def _learn(self, shape: Shape, members: np.ndarray, observed: np.ndarray, frame: xr.Dataset) -> Learned | None:
        device = device_of(self.device)
        x, s = moments(torch.as_tensor(members, device=device), shape)  # (T, L, S)
        y = shape.forward(torch.as_tensor(observed, device=device))
        both = torch.isfinite(x) & torch.isfinite(y)
        if not bool(both.any()):
            return None
        valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
        used = valid_time[both.any(dim=2).cpu().numpy()]
        harmonics = int(np.searchsorted(SEASON_DAYS, (used.max() - used.min()) / DAY, side="right"))
        unit = _unit(y[both])
        x, y, s = (x - unit[0]) / unit[1], (y - unit[0]) / unit[1], s / unit[1]
        spread = _spread_unit(s[both])
        reach = _reach(x.masked_fill(~both, torch.nan))
        X, Z = _predictors(x, s, valid_time, spread, harmonics)
        y, X, Z = (t.movedim(0, 2) for t in (y.masked_fill(~both, torch.nan), X, Z))  # (L, S, T), (L, S, T, p)
        bounds = [None if b is None else (b - float(unit[0])) / float(unit[1]) for b in shape.bounds()]
        options = {"family": shape.family, "form": shape.form, "lower": bounds[0], "upper": bounds[1], "tolerance": _TOLERANCE}
        pool, stations = _three_levels(y, X, Z, options)
        arrays = [unit, spread, torch.tensor(harmonics), torch.as_tensor(_nanoseconds(frame)), reach, *stations, *pool]
        return Learned(*(t.cpu().numpy() for t in arrays))

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Calibrated quantiles at stations seen in :meth:`fit`, at others, or on a grid.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: The source, or every variable asked for, is absent.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.spec.id} has not been fitted: call fit first.")
        data = members_of(inputs, self.source)
        names = wanted(inputs, [name for name in self.learned_ if name in data])
        if not names:
            raise MissingInputError(f"{self.source!r} has none of {', '.join(inputs.targets or tuple(self.learned_))}.")
        frame = inputs.frame
        carry = torch.as_tensor(self._carry(frame, inputs.place_dims))  # (place, station)
        values = {}
        for name in names:
            location, scale = self._parameters(name, array_of(data[name], inputs.place_dims), frame, carry)
            values[name] = location_scale_quantiles(location, scale, self.learned_[name].unit, shape_of(name)).cpu().numpy()
        return answer(inputs, values, {"coefficients": self._note(inputs.place_dims)})

    def _parameters(self, name: str, members: np.ndarray, frame: xr.Dataset, carry: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale (T, L, P) in units."""
        learned, device = self.learned_[name], device_of(self.device)
        x, s = moments(torch.as_tensor(members, device=device), shape_of(name))
        unit = learned.unit
        x, s = (x - unit[0]) / unit[1], s / unit[1]
        lead = np.abs(learned.leads[None, :] - _nanoseconds(frame)[:, None]).argmin(axis=1)  # nearest lead learned
        reach = torch.as_tensor(learned.reach[lead], device=device)[None, :, None]  # (1, L, 1, 2)
        inside = torch.clamp(x, reach[..., 0], reach[..., 1])
        inside = torch.where(torch.isnan(x), x, inside)
        valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
        X, Z = _predictors(inside, s, valid_time, torch.as_tensor(learned.spread, device=device), int(learned.harmonics))
        parts = []
        for own, pool, predictors in (
            (learned.location, learned.pool_location, X),
            (learned.log_scale, learned.pool_log_scale, Z),
        ):
            base = torch.as_tensor(pool[lead])[:, None]  # (L, 1, p)
            coefficients = base + carry.to(base) @ (torch.as_tensor(own[lead]) - base)  # (L, P, p)
            parts.append((predictors * coefficients.to(device)).sum(dim=-1))
        return parts[0] + (x - inside), torch.exp(parts[1].clamp(-12.0, 12.0))

    def _carry(self, frame: xr.Dataset, place_dims: tuple[str, ...]) -> np.ndarray:
        """(place, station): the share of each station's departure from the pool that a place takes.

        A station that was fitted takes its own; another place takes the simple-kriging mean of the departures under an
        exponential correlation of :data:`CARRY_KM` with a nugget of 0.1, which goes to none far from every station.
        """
        own = np.zeros((int(np.prod([frame.sizes[d] for d in place_dims])), len(self.stations_)))
        if place_dims == (STATION,):
            own = (frame[STATION].values.astype(str)[:, None] == self.stations_[None, :]).astype(float)
        known, asked = self.places_, _places(frame, place_dims)
        located = np.isfinite(known).all(axis=1)
        new = (own.sum(axis=1) == 0) & np.isfinite(asked).all(axis=1)
        if located.any() and new.any():
            between = np.exp(-_kilometres(known[located], known[located]) / CARRY_KM) + 0.1 * np.eye(int(located.sum()))
            towards = np.exp(-_kilometres(asked[new], known[located]) / CARRY_KM)
            own[np.ix_(new, located)] = np.linalg.solve(between, towards.T).T
        return own

    def _note(self, place_dims: tuple[str, ...]) -> str:
        if place_dims == (STATION,):
            return "fitted at each station, drawn to the pool of all; other stations by distance"
        decay = f"exp(-d / {CARRY_KM:g} km)"
        return f"fitted at {len(self.stations_)} stations; their weight decays with distance as {decay} towards the pool of all"

    def state(self) -> dict[str, np.ndarray]:
        """Coefficients, station ids and places.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.spec.id} has not been fitted: call fit first.")
        found = {f"{name}/{f.name}": getattr(learned, f.name) for name, learned in self.learned_.items() for f in fields(Learned)}
        return {"source": np.array(self.source), "stations": self.stations_, "places": self.places_, **found}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "source", "stations", "places")
        made = cls(str(state["source"]))
        made.stations_, made.places_ = state["stations"], state["places"]
        names = dict.fromkeys(key.partition("/")[0] for key in state if "/" in key)
        made.learned_ = {name: Learned(**{f.name: state[f"{name}/{f.name}"] for f in fields(Learned)}) for name in names}
        return made


def moments(members: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the members that are there, on the power scale; (..., M) to (...)."""
    rows = members.reshape(-1, members.shape[-1])
    blocks = torch.split(rows, max(len(rows), 1) if rows.is_cuda else _MOMENT_ROWS)
    mean, deviation = (torch.cat(parts).reshape(members.shape[:-1]) for parts in zip(*(_moments(b, shape) for b in blocks), strict=True))
    return mean, deviation


def _moments(members: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    members = shape.forward(members)
    here = torch.isfinite(members)
    if bool(here.all()):
        share = members.new_full((members.shape[1],), 1.0 / members.shape[1])
        mean = members @ share
        off = members - mean[:, None]
        return mean, (off.square_() @ share * (members.shape[1] / max(members.shape[1] - 1, 1))).sqrt_()
    count = here.sum(dim=1)
    mean = torch.nanmean(members, dim=1)
    square = torch.nansum((members - mean[:, None]).square_(), dim=1)
    return mean, (square / (count - 1).clamp(min=1)).sqrt_()


def _unit(y: Tensor) -> Tensor:
    """Centre and spread of the observations; spread 1 where they do not vary."""
    spread = y.std() if len(y) > 1 else y.new_tensor(0.0)
    return torch.stack([y.mean(), spread if float(spread) > 0 else y.new_tensor(1.0)])


def _spread_unit(s: Tensor) -> Tensor:
    """Floor of the spread, and centre and range of its logarithm; NaN where the members never differ."""
    positive = s[s > 0]
    if len(positive) == 0:
        return s.new_full((4,), torch.nan)
    floor = _FLOOR * positive.median()
    logarithm = torch.log(s.clamp(min=floor))
    return torch.stack([floor, logarithm.mean(), logarithm.min(), logarithm.max()])


def _reach(x: Tensor) -> Tensor:
    """(L, 2) range of x over times and stations; of all leads for a lead without any."""
    low, high = (torch.nan_to_num(x, nan=sign * torch.inf) for sign in (1.0, -1.0))
    lead = torch.stack([low.amin(dim=(0, 2)), high.amax(dim=(0, 2))], dim=-1)
    return torch.where(torch.isfinite(lead), lead, torch.stack([low.amin(), high.amax()]))


def _predictors(x: Tensor, s: Tensor, valid_time: np.ndarray, spread: Tensor, harmonics: int) -> tuple[Tensor, Tensor]:
    """(T, L, P, p) and (T, L, P, q): the constant, x, log s and the season; the constant, log s and the season."""
    waves = torch.as_tensor(season(valid_time, harmonics), device=x.device, dtype=x.dtype)[:, :, None]  # (T, L, 1, 2 order)
    waves = waves.expand(*x.shape, waves.shape[-1])
    columns = [torch.ones_like(x), x]
    if bool(torch.isfinite(spread).all()):
        columns.append(torch.log(s.clamp(min=spread[0])).clamp(spread[2], spread[3]) - spread[1])
    X = torch.cat([torch.stack(columns, dim=-1), waves], dim=-1)
    Z = torch.cat([torch.stack(columns[:1] + columns[2:], dim=-1), waves], dim=-1)
    return X, Z


def _three_levels(y: Tensor, X: Tensor, Z: Tensor, options: dict) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Coefficients of each lead, and of each lead and station, from (L, S, T) rows."""
    leads, stations, times = y.shape
    p, q = X.shape[-1], Z.shape[-1]
    first = (y.new_zeros(1, p), y.new_zeros(1, q))
    first[0][:, 1] = 1.0  # the source's own mean
    first[1][:, 0] = -0.7  # half the spread of the observations
    rows = [t.reshape(1, leads * stations * times, *t.shape[3:]) for t in (y, X, Z)]
    days = y.new_full((p + q,), RIDGE)
    days[2:p] = _EXTRA
    top = fit_location_scale(*_thin(rows), ridge=days / RIDGE * stations * leads, prior=first, **options)
    pool = (top.location.expand(leads, p), top.log_scale.expand(leads, q))
    if leads > 1:
        rows = [t.reshape(leads, stations * times, *t.shape[3:]) for t in (y, X, Z)]
        lead = fit_location_scale(*_thin(rows), ridge=days * stations, prior=pool, **options)
        pool = (lead.location, lead.log_scale)
    if stations == 1:
        return pool, (pool[0][:, None], pool[1][:, None])
    prior = (pool[0].repeat_interleave(stations, dim=0), pool[1].repeat_interleave(stations, dim=0))
    rows = [t.reshape(leads * stations, times, *t.shape[3:]) for t in (y, X, Z)]
    free = fit_location_scale(*rows, ridge=_WEAK * days, prior=prior, **options)
    count = torch.isfinite(rows[0]).sum(dim=1)
    middle, ridge = _between(free, torch.cat(prior, dim=1), count, stations, days)
    own = fit_location_scale(*rows, ridge=ridge, prior=(middle[:, :p], middle[:, p:]), **options)
    log_scale = own.log_scale.clone()
    log_scale[:, 0] += _uncertainty(own, ridge, count)
    return pool, (own.location.reshape(leads, stations, p), log_scale.reshape(leads, stations, q))


def _uncertainty(fit: Fit, ridge: Tensor, count: Tensor) -> Tensor:
    """(problem,) what to add to the log scale for coefficients learned from ``count`` rows.

    With k coefficients of the location learned from n rows the residuals are too small by 1 - k / n in variance and a new case
    varies by 1 + k / n (as in ordinary regression); k counts a coefficient by the share of it that the rows told, not the prior.
    """
    covariance = _sampling_variance(fit)
    share = (1.0 - ridge * fit.information * covariance).clamp(0.0, 1.0).nan_to_num(0.0)
    told: Tensor = share[:, : fit.location.shape[1]].sum(dim=1)
    return told / count.clamp(min=1)


def _sampling_variance(fit: Fit) -> Tensor:
    """(problem, K) variance of each coefficient; NaN where the rows tell nothing at all of one of them (a predictor that never varies)."""
    inverse, info = torch.linalg.inv_ex(fit.curvature)
    variance: Tensor = torch.where((info == 0)[:, None], inverse.diagonal(dim1=1, dim2=2), torch.nan)
    return variance


def _between(free: Fit, pool: Tensor, count: Tensor, stations: int, days: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and strength of the stations' common prior, (problem, K) each, by empirical Bayes.

    The centre is the mean of the stations of a lead: the pooled fit's scale, which holds the differences between stations too,
    is too wide for one of them. The strength comes from the squared departures of the stations, less their sampling variance.
    Both are steadied by :data:`_STATIONS` further stations that agree with the pool and differ as ``days`` supposes.
    """
    sampling = _sampling_variance(free)
    supposed = 1.0 / (days * free.information).clamp(min=1e-12)
    known = (count > 2 * pool.shape[1])[:, None] & torch.isfinite(sampling)
    by_lead = torch.where(known, torch.cat([free.location, free.log_scale], dim=1) - pool, 0.0).reshape(-1, stations, pool.shape[1])
    told = known.reshape(by_lead.shape).sum(dim=1, keepdim=True)  # (L, 1, K) stations that tell
    centre = by_lead.sum(dim=1, keepdim=True) / told.clamp(min=1)
    excess = torch.where(known, ((by_lead - centre) ** 2).reshape(pool.shape) - sampling, 0.0).sum(dim=0)
    seen = known.sum(dim=0) / len(count) * stations
    variance = (seen * (excess / known.sum(dim=0).clamp(min=1)).clamp(min=0.0) + _STATIONS * supposed.mean(dim=0)) / (seen + _STATIONS)
    centre = (pool.reshape(by_lead.shape) + centre * told / (told + _STATIONS)).reshape(pool.shape)
    return centre, 1.0 / (variance * free.information).clamp(min=1e-12)


def _thin(rows: list[Tensor]) -> list[Tensor]:
    step = max(1, rows[0].shape[1] // _POOL_ROWS)
    return [t[:, ::step] for t in rows]


def location_scale_quantiles(location: Tensor, scale: Tensor, unit: np.ndarray, shape: Shape) -> Tensor:
    """(..., Q) quantiles in the variable's units from location and scale in units of the power scale."""
    levels = torch.tensor(LEVELS, device=location.device)
    location, scale = location[..., None] * unit[1] + unit[0], scale[..., None] * unit[1]
    if shape.form == "censored" or (shape.lower is None and shape.upper is None):
        return shape.backward(location + scale * parent_quantiles(levels, shape.family))
    lower, upper = shape.bounds()
    a = -torch.inf * torch.ones_like(location) if lower is None else (lower - location) / scale
    b = torch.inf * torch.ones_like(location) if upper is None else (upper - location) / scale
    return shape.backward(location + scale * truncated_quantiles(a, b, levels, shape.family))


def truncated_quantiles(a: Tensor, b: Tensor, levels: Tensor, family: str) -> Tensor:
    """Quantiles of a standard parent distribution between a and b, which broadcast against the levels; both may be infinite."""
    below, above = _parent_cdf(a, family), _parent_cdf(-b, family)
    inside = torch.where(a > 0, _parent_cdf(-a, family) - above, _parent_cdf(b, family) - below)
    low_tail, high_tail = below + levels * inside, above + (1.0 - levels) * inside
    small = low_tail < high_tail  # from the tail with the smaller probability, which keeps its digits
    z = parent_quantiles(torch.where(small, low_tail, high_tail).clamp(min=torch.finfo(levels.dtype).tiny), family)
    return torch.where(small, z, -z)


def _parent_cdf(z: Tensor, family: str) -> Tensor:
    return torch.exp(torch.special.log_ndtr(z)) if family == "normal" else torch.sigmoid(z)  # ndtr is 0 below -14


def parent_quantiles(level: Tensor, family: str) -> Tensor:
    """Quantiles of the standard parent distribution."""
    return torch.special.ndtri(level) if family == "normal" else torch.logit(level)


def _nanoseconds(frame: xr.Dataset) -> np.ndarray:
    leads = np.atleast_1d(frame[LEAD_TIME].values)
    return leads.astype("timedelta64[ns]").astype(np.int64)


def _places(frame: xr.Dataset, place_dims: tuple[str, ...]) -> np.ndarray:
    """(place, 2) latitude and longitude in degrees, NaN where unknown."""
    size = int(np.prod([frame.sizes[d] for d in place_dims]))
    if "latitude" not in frame.coords or "longitude" not in frame.coords:
        return np.full((size, 2), np.nan)
    if place_dims == (STATION,):
        pair = [np.broadcast_to(frame[n].values.astype(float), (size,)) for n in ("latitude", "longitude")]
    else:
        pair = [a.ravel() for a in np.meshgrid(frame["latitude"].values, frame["longitude"].values, indexing="ij")]
    return np.stack(pair, axis=1)


def _kilometres(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Great-circle distances (A, B) between places in degrees, on a sphere of 6371 km."""
    lat_a, lon_a, lat_b, lon_b = (np.deg2rad(v) for v in (a[:, None, 0], a[:, None, 1], b[None, :, 0], b[None, :, 1]))
    h = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    distance: np.ndarray = 2.0 * 6371.0 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))
    return distance
