"""Statistics of the simulated atmosphere with their sampling intervals: what notebook 01 shows and what the tests hold.

Everything is reduced to numbers a year first, so that an interval is a bootstrap over years. A year is 365 local days of 24 h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.simulated.centres import Attainable, Centre, Forecast
from data_catalog.simulated.climate import Climate, hours_since_1970
from data_catalog.simulated.events import TYPHOON
from data_catalog.simulated.noise import Floats
from data_catalog.simulated.places import Points
from data_catalog.simulated.slots import ONSET, SIZE
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases

_DAYS_BEFORE: Final = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
MONTH: Final = np.repeat(np.arange(12), np.diff(_DAYS_BEFORE))
"""Month of each day of a year, 0 to 11, shape (365,)."""

SUMMER, WINTER = (5, 6, 7), (11, 0, 1)
_UTC_OF_LOCAL_MIDNIGHT: Final = -7.0  # hours, at Hanoi
_DRAWS: Final = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and the 95 % interval of its sampling, each of one shape."""

    value: Floats
    low: Floats
    high: Floats

    def holds(self, low: float, high: float) -> bool:
        """Whether the interval meets [low, high] everywhere."""
        return bool(np.all((self.low <= high) & (self.high >= low)))


def estimate(statistic: Callable[..., Floats], *yearly: Floats) -> Estimate:
    """A statistic of numbers a year, with a bootstrap over years.

    Args:
        statistic: Of arrays (year, ...), reducing the years.
        *yearly: What it is given.
    """
    generator = np.random.Generator(np.random.Philox(0))
    count = yearly[0].shape[0]
    draws = [statistic(*(part[chosen] for part in yearly)) for chosen in generator.integers(0, count, (_DRAWS, count))]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Estimate(np.asarray(statistic(*yearly)), low, high)


def mean(yearly: Floats) -> Estimate:
    """The mean over years."""
    return estimate(lambda values: np.asarray(values.mean(axis=0)), yearly)


def share(part: Floats, whole: Floats) -> Estimate:
    """The ratio of two sums over years."""
    return estimate(lambda above, below: np.asarray(above.sum(axis=0) / below.sum(axis=0)), part, whole)


def record(truth: Truth, years: Sequence[int], place: Points | None = None) -> dict[str, Floats]:
    """Hourly truth at one gauge.

    Args:
        truth: Of which world.
        years: Calendar years.
        place: One gauge; default: the place of the normals.

    Returns:
        By variable, shape (year, day, hour), local days.
    """
    bases = Bases.at(truth.climate, place or truth.climate.place)
    pieces = []
    for year in years:
        hours = hours_since_1970(np.datetime64(f"{year}-01-01")) + _UTC_OF_LOCAL_MIDNIGHT + np.arange(1.0, 365 * 24 + 1.0)
        pieces.append({name: values[:, 0].reshape(365, 24) for name, values in truth.weather(hours, bases).items()})
    return {name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]}


def by_month(daily: Floats, reduce: Callable[..., Floats] = np.sum) -> Floats:
    """Reduce days (year, day) to months, shape (year, 12)."""
    return np.stack([reduce(daily[:, month == MONTH], axis=1) for month in range(12)], axis=1)


def wet_after(daily: Floats, months: Sequence[int], wet: bool) -> Estimate:
    """Chance of a day of 1 mm or more after a day that was, or was not, wet.

    Args:
        daily: mm, shape (year, day).
        months: Of the first day.
        wet: Whether it was wet.
    """
    rainy = daily >= 1.0
    before = (rainy[:, :-1] == wet) & np.isin(MONTH[:-1], months)
    return share((rainy[:, 1:] & before).sum(axis=1), before.sum(axis=1))


def yearly_maximum(hourly: Floats, hours: int) -> Floats:
    """Greatest sum over a window of hours in each year, mm, shape (year,).

    Args:
        hourly: mm, shape (year, day, hour).
        hours: Length of the window.
    """
    running = np.cumsum(np.pad(hourly.reshape(hourly.shape[0], -1), ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    return np.asarray((running[:, hours:] - running[:, :-hours]).max(axis=1))


def anomaly_sd(daily: Floats, month: int) -> Estimate:
    """Standard deviation of daily means about the month's mean, shape ()."""
    days = daily[:, month == MONTH]
    return estimate(lambda values: np.asarray(values.std()), days)


def lag_one(daily: Floats, month: int) -> Estimate:
    """Correlation of a day's anomaly with the next day's, shape ()."""
    days = daily[:, month == MONTH]
    return estimate(lambda values: np.asarray(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]), days)


def typhoons(truth: Truth, years: Sequence[int]) -> Floats:
    """Typhoons that make landfall in each year, shape (year,)."""
    found = []
    for year in years:
        first, last = (float(hours_since_1970(np.datetime64(f"{number}-01-01"))) for number in (year, year + 1))
        drawn = [truth.event(TYPHOON, slot)[0] for slot in TYPHOON.slots(np.array([first, last]))]
        found.append(sum(first <= one[ONSET] < last and one[SIZE] > 0 for one in drawn))
    return np.array(found, dtype=np.float64)


def cell_correlations(truth: Truth, years: Sequence[int], steps: Sequence[int], bases: Bases, width: int) -> tuple[Estimate, Estimate]:
    """Correlation of rain in cells some columns apart, of 1 h and of 24 h, in June to August; each of shape (step,).

    Args:
        truth: Of which world.
        years: Calendar years.
        steps: Columns apart.
        bases: Cells of a grid.
        width: Columns of the grid.
    """
    hourly, daily = [], []
    for year in years:
        start = float(hours_since_1970(np.datetime64(f"{year}-06-01"))) + _UTC_OF_LOCAL_MIDNIGHT
        pieces = [truth.hourly(start + 240.0 * piece + np.arange(1.0, 241.0), bases).rain[:, 0] for piece in range(9)]
        rain = np.concatenate(pieces).reshape(9 * 240, -1, width)
        hourly.append([np.corrcoef(rain[..., :-step].ravel(), rain[..., step:].ravel())[0, 1] for step in steps])
        sums = rain.reshape(90, 24, *rain.shape[1:]).sum(axis=1)
        daily.append([np.corrcoef(sums[..., :-step].ravel(), sums[..., step:].ravel())[0, 1] for step in steps])
    return mean(np.array(hourly)), mean(np.array(daily))


def crps(members: Floats, observed: Floats) -> Floats:
    """Continuous ranked probability score of members (..., member), of the shape of ``observed`` (Hersbach 2000, as E|X-y| - E|X-X'|/2)."""
    ordered = np.sort(members, axis=-1)
    count = ordered.shape[-1]
    weights = 2.0 * np.arange(1, count + 1) - count - 1
    return np.asarray(np.abs(ordered - observed[..., None]).mean(axis=-1) - (ordered * weights).sum(axis=-1) / count**2)


@dataclass(frozen=True, eq=False)
class Hindcasts:
    """Rain of 24 h and temperature at one gauge as it was and as it was forecast.

    Attributes:
        leads: Ends of the days, hours.
        rain: mm, by forecaster, shape (run, lead, member).
        temperature: degree_Celsius, likewise.
        observed_rain: Shape (run, lead).
        observed_temperature: Likewise.
    """

    leads: tuple[int, ...]
    rain: Mapping[str, Floats]
    temperature: Mapping[str, Floats]
    observed_rain: Floats
    observed_temperature: Floats


CEILING: Final = "ceiling"
POOL: Final = "pool"


def hindcasts(
    climate: Climate, seed: int, centres: Mapping[str, Centre], inits: np.ndarray, leads: tuple[int, ...], members: int
) -> Hindcasts:
    """Forecasts of every centre, of them all together, and of the ceiling, for the place of the normals.

    Args:
        climate: The climate.
        seed: The world.
        centres: By name.
        inits: Starts, UTC, shape (run,).
        leads: Ends of the days of rain, hours, >= 24.
        members: At most so many of each centre; the ceiling has four times as many.
    """
    place, truth = climate.place, Truth(climate, seed)
    gauge, cell = Bases.at(climate, place), Points(place.latitude, place.longitude, place.elevation)
    few = {name: Centre(c.number, min(c.members, members), c.spread, c.skill, c.faults, c.bands) for name, c in centres.items()}
    cells = {name: Bases.at(climate, cell, centre.bands) for name, centre in few.items()}
    rain: dict[str, list[Floats]] = {name: [] for name in [*few, CEILING, ""]}
    warmth: dict[str, list[Floats]] = {name: [] for name in rain}
    for init_time in inits:
        init = float(hours_since_1970(init_time))
        views = {name: (Forecast(climate, seed, centre, init), cells[name]) for name, centre in few.items()}
        views[CEILING] = (Attainable(climate, seed, tuple(few.values()), init, 4 * members), gauge)  # type: ignore[assignment]
        views[""] = (truth, gauge)  # type: ignore[assignment]
        ends = np.concatenate([init + lead + np.arange(-23.0, 1.0) for lead in leads])
        for name, (view, bases) in views.items():
            hourly = view.hourly(ends, bases)
            rain[name].append(hourly.rain[..., 0].reshape(len(leads), 24, -1).sum(axis=1))
            last = np.arange(len(leads)) * 24 + 23
            warmth[name].append(view.temperature(ends[last], bases, hourly.at(last))[..., 0])
    amounts = {name: np.stack(values) for name, values in rain.items()}
    degrees = {name: np.stack(values) for name, values in warmth.items()}
    for found in (amounts, degrees):
        found[POOL] = np.concatenate([found[name] for name in few], axis=-1)
    return Hindcasts(leads, amounts, degrees, amounts.pop("")[..., 0], degrees.pop("")[..., 0])


def skill(members: Floats, observed: Floats, climatology: Floats) -> Estimate:
    """1 - CRPS / CRPS of climatology, shape (lead,), with a bootstrap over runs.

    Args:
        members: Shape (run, lead, member).
        observed: Shape (run, lead).
        climatology: What usually happens, shape (draw,).
    """
    usual = crps(np.broadcast_to(climatology, (*observed.shape, climatology.size)), observed)
    return estimate(lambda ours, theirs: np.asarray(1.0 - ours.mean(axis=0) / theirs.mean(axis=0)), crps(members, observed), usual)


def spread_error(members: Floats, observed: Floats) -> Floats:
    """Spread over error of the ensemble mean, shape (lead,): one for a perfect ensemble (Fortin et al. 2014)."""
    count = members.shape[-1]
    spread = members.var(axis=-1, ddof=1).mean(axis=0) * (1.0 + 1.0 / count)
    return np.asarray(np.sqrt(spread / ((members.mean(axis=-1) - observed) ** 2).mean(axis=0)))


def ranks(members: Floats, observed: Floats) -> Floats:
    """How often the observation has each rank among the members, ties shared evenly, shape (member + 1,)."""
    below, equal = (members < observed[..., None]).sum(axis=-1), (members == observed[..., None]).sum(axis=-1)
    count = members.shape[-1]
    found: Floats = np.zeros(count + 1)
    for first, ties in zip(below.ravel(), equal.ravel(), strict=True):
        found[first : first + ties + 1] += 1.0 / (ties + 1)
    return np.asarray(found / found.sum())
