"""Where a forecast leaves what was ever seen in training: corrections give way to the raw ensembles, and heavy rain is not argued away.

A correction learned from ordinary weather says little about a typhoon or a record. Beyond the range of the raw forecasts of the training
period, pooled over the region and a range of leads, the blend goes over to within a bounded distance of the raw quantiles, and the
outermost keep the raw members' extremes. And a chance of very heavy rain in 24 h is not let fall below half of the share of raw members
that has it, or it is said that it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, QUANTILE, STATION
from data_catalog.variables import VARIABLES
from models.base import LEVELS, Inputs, Pairs, quantiles_of_members
from models.blend import EDGES_HOURS, bucket_of
from models.couple import couple
from models.mixture import mixture
from training.learning import lead_hours

RAIN: Final = "precipitation_amount"
HEAVY: Final = 100.0  # kg m-2 in 24 h
HALF: Final = 0.5  # of the raw share of members, below which a calibrated chance of that is not let fall
_BIAS: Final = 2.0  # standard deviations of past errors that a correction may come to outside the range
_FACTOR: Final = 2.0  # likewise, as a factor, where zero bounds the variable and errors grow with it
_LIFTS: Final = (0.5, 1.0)  # shares of the raw ensembles in the mixture that are tried in turn


@dataclass(frozen=True, eq=False)
class Range:
    """What the raw ensembles were seen to say of one variable, pooled over sources and region; a row for each lead bucket.

    Attributes:
        members: (B, 2) lowest and highest member.
        mean: (B, 2) lowest and highest mean of all members.
        bias: (B,) what a correction may come to beyond.
    """

    members: np.ndarray
    mean: np.ndarray
    bias: np.ndarray


def ranges_of(pairs: Pairs | None) -> dict[str, Range]:
    """The range of every variable that was forecast and observed; buckets without a forecast take that of all."""
    if pairs is None:
        return {}
    bucket = bucket_of(lead_hours(pairs))
    found = {}
    for name in pairs.targets:
        members = pooled(pairs, name)
        if members is None:
            continue
        mean = _mean(members)
        error = pairs.observed[name].transpose(INIT_TIME, LEAD_TIME, STATION).values - mean
        rows = []
        for leads in [bucket == b for b in range(len(EDGES_HOURS) + 1)]:
            own = leads if np.isfinite(mean[:, leads]).any() else np.ones(len(bucket), dtype=bool)
            spread = error[:, own][np.isfinite(error[:, own])]
            bias = _BIAS * float(np.sqrt(np.mean(spread**2))) if spread.size else np.inf
            rows.append([f(a[:, own]) for a in (members, mean) for f in (np.nanmin, np.nanmax)] + [bias])
        table = np.array(rows)
        if np.isfinite(table).all():
            found[name] = Range(table[:, :2], table[:, 2:4], table[:, 4])
    return found


def pooled(inputs: Inputs, name: str) -> np.ndarray | None:
    """All members of all sources, (init_time, lead_time, place, member) float32, NaN where a source has none; None where none has any."""
    dims = (INIT_TIME, LEAD_TIME, *inputs.place_dims, ENSEMBLE_MEMBER)
    parts = [source[name].transpose(*dims).values for source in inputs.sources.values() if name in source]
    if not any(np.isfinite(part).any() for part in parts):
        return None
    return np.concatenate([p.reshape(*p.shape[:2], -1, p.shape[-1]).astype(np.float32) for p in parts], axis=-1)


def _mean(members: np.ndarray) -> np.ndarray:
    there = np.isfinite(members)
    count = there.sum(axis=-1)
    return np.where(count > 0, np.where(there, members, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def guarded(quantiles: xr.DataArray, members: np.ndarray, seen: Range) -> xr.DataArray:
    """Quantiles that give way to the raw ensembles where these leave the range of training.

    The way over is as long as the bias that is allowed, so that nothing jumps at the edge of the range.

    Args:
        quantiles: ``VARIABLE(init_time, lead_time, places, quantile)`` on LEVELS.
        members: From :func:`pooled`, at the same places.
        seen: In training.

    Returns:
        The same, ascending; untouched within the range and where there is no raw member.
    """
    name = str(quantiles.name)
    bucket = bucket_of(np.asarray(quantiles[LEAD_TIME].values / np.timedelta64(1, "h"), dtype=np.float64))
    bias = seen.bias[bucket][None, :, None, None]
    low, high, mean_low, mean_high = (a[bucket][None, :, None, None] for a in (*seen.members.T, *seen.mean.T))
    mean = _mean(members)[..., None]
    beyond = np.fmax(members.max(axis=-1, initial=-np.inf, where=np.isfinite(members))[..., None] - high, mean - mean_high)
    below = np.fmax(low - members.min(axis=-1, initial=np.inf, where=np.isfinite(members))[..., None], mean_low - mean)
    at = ((beyond > 0) | (below > 0))[..., 0]
    if not at.any():
        return quantiles
    values = quantiles.values.reshape(*at.shape, len(LEVELS)).copy()
    raw = quantiles_of_members(members[at])  # (n, Q)
    bias, low, high = (np.broadcast_to(a, (*at.shape, 1))[at] for a in (bias, low, high))
    outside = np.fmax(np.fmax(raw - high, low - raw), np.fmax(mean - mean_high, mean_low - mean)[at])
    share = np.clip(outside / np.maximum(bias, 1e-9), 0.0, 1.0)
    own = values[at]
    known = VARIABLES.get(name)
    if known is not None and known.lower_bound == 0.0 and known.upper_bound is None:
        target = np.clip(own, raw / _FACTOR, raw * _FACTOR)
    else:
        target = np.clip(own, raw - bias, raw + bias)
    target[:, -1] = np.fmax(target[:, -1], raw[:, -1])
    target[:, 0] = np.fmin(target[:, 0], raw[:, 0])
    made = np.maximum.accumulate(own + share * (target - own), axis=-1)
    values[at] = np.where(np.isfinite(made), made, own)
    return quantiles.copy(data=values.reshape(quantiles.shape))


def guard(blend: xr.Dataset, inputs: Inputs, seen: Mapping[str, Range]) -> xr.Dataset:
    """Every variable of a blend by :func:`guarded`, at the same places as the inputs."""
    changed = {}
    for name, quantiles in blend.data_vars.items():
        members = pooled(inputs, str(name)) if str(name) in seen else None
        if members is not None:
            places = [d for d in quantiles.dims if d not in (INIT_TIME, LEAD_TIME, QUANTILE)]
            changed[str(name)] = guarded(quantiles.transpose(INIT_TIME, LEAD_TIME, *places, QUANTILE), members, seen[str(name)])
    return blend.assign(changed)


# Heavy rain of a day -----------------------------------------------------------------------------------------------------------------


def day_sums(amounts: np.ndarray, leads: np.ndarray, intervals: np.ndarray) -> tuple[np.ndarray, list[slice]]:
    """Sums over every 24 h that whole intervals fill, and which leads they hold.

    Args:
        amounts: (lead_time, ...).
        leads: (L,) hours.
        intervals: (L,) length of the interval that ends at each lead, hours, NaN for none.

    Returns:
        ((window, ...), leads of each window).
    """
    windows = []
    for last in range(len(leads)):
        first = int(np.searchsorted(leads, leads[last] - 24.0, side="right"))
        if np.isclose(np.sum(intervals[first : last + 1]), 24.0) and np.isclose(leads[first] - intervals[first], leads[last] - 24.0):
            windows.append(slice(first, last + 1))
    sums = [amounts[window].sum(axis=0) for window in windows]
    return (np.stack(sums) if sums else np.zeros((0, *amounts.shape[1:]))), windows


def too_dry(members: np.ndarray, raw: np.ndarray, leads: np.ndarray, intervals: np.ndarray) -> tuple[np.ndarray, int]:
    """Where the calibrated chance of more than :data:`HEAVY` in 24 h is less than half the raw one.

    Differences smaller than one calibrated member cannot be told and do not count.

    Args:
        members: (lead_time, place, member) calibrated amounts.
        raw: (lead_time, place, member) of all sources; NaN for missing.
        leads: (L,) hours.
        intervals: (L,) hours.

    Returns:
        ((lead_time, place) whether the lead belongs to such a day, number of such days and places).
    """
    sums, windows = day_sums(members, leads, intervals)
    raw_sums, _ = day_sums(raw, leads, intervals)
    there = np.isfinite(raw_sums)
    share = (np.where(there, raw_sums, 0.0) > HEAVY).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    short = (sums > HEAVY).sum(axis=-1) < np.floor(HALF * share * sums.shape[-1] + 1e-9)  # (window, place)
    found = np.zeros(members.shape[:2], dtype=bool)
    for window, at in zip(windows, short, strict=True):
        found[window, at] = True
    return found, int(short.sum())


@dataclass(frozen=True, eq=False)
class Lift:
    """What was done for heavy rain.

    Attributes:
        quantiles: Of the blend.
        members: Its coupled members.
        reasons: What was done, and what was left, in words; empty when nothing had to be.
    """

    quantiles: xr.Dataset
    members: xr.Dataset
    reasons: tuple[str, ...]


def lift_heavy_rain(quantiles: xr.Dataset, members: xr.Dataset, inputs: Inputs, template: xr.Dataset) -> Lift:
    """Let raw ensembles into the mixture on days whose calibrated chance of heavy rain is less than half of theirs.

    Args:
        quantiles: Of the blend, one cycle.
        members: Coupled from them.
        inputs: The raw ensembles at the same places.
        template: Scenarios that the members took their order from.

    Returns:
        With the raw ensembles taking part half or, where that is not enough, wholly in the rain of those days and places.
    """
    raw = pooled(inputs, RAIN) if RAIN in quantiles and RAIN in members else None
    bounds = inputs.frame.coords.get("lead_time_bounds")
    if raw is None or bounds is None:
        return Lift(quantiles, members, ())
    places = [d for d in members[RAIN].dims if d not in (LEAD_TIME, ENSEMBLE_MEMBER)]
    leads = lead_hours(inputs)
    intervals = (bounds.values[:, 1] - bounds.values[:, 0]) / np.timedelta64(1, "h")
    plain = quantiles[RAIN].transpose(INIT_TIME, LEAD_TIME, *places, QUANTILE)
    own = plain.values.reshape(*raw.shape[:3], len(LEVELS))[0]  # (L, P, Q)
    share = np.zeros(own.shape[:2])
    reasons: list[str] = []
    for lift in (*_LIFTS, None):
        amounts = members[RAIN].transpose(LEAD_TIME, *places, ENSEMBLE_MEMBER).values.reshape(*own.shape[:2], -1)
        short, days = too_dry(amounts, raw[0], leads, intervals)
        if not days:
            break
        place = f"{days} {'day' if days == 1 else 'days'} of {int(short.any(axis=0).sum())} {places[0] if len(places) == 1 else 'cells'}"
        what = f"The chance of more than {HEAVY:g} mm in 24 h was below half the share of raw members that have it on {place}"
        if lift is None:
            reasons.append(f"{what} even with the raw ensembles alone: their heavy intervals fall to different members.")
            break
        reasons.append(f"{what}: the raw ensembles take part in its rain with a weight of {lift:g}.")
        share = np.where(short, lift, share)
        at = share > 0
        mixed = own.copy()
        mixed[at] = mixture([own[at], quantiles_of_members(raw[0][at])], np.stack([1.0 - share[at], share[at]], axis=-1))
        quantiles = quantiles.assign({RAIN: plain.copy(data=mixed.reshape(plain.shape))})
        again = couple(quantiles[[RAIN]].isel({INIT_TIME: 0}), template, template.sizes[ENSEMBLE_MEMBER])
        members = members.assign({RAIN: again[RAIN].clip(min=0.0, keep_attrs=True)})
    return Lift(quantiles, members, tuple(reasons))
