"""How the monthly tables of rain in ``rain.py`` were found: ``python -m data_catalog.simulated.calibrate`` prints them again.

A fixed-point iteration on one gauge over fifty years of the published world: the thresholds bring the days of 1 mm or more, the scales the
monthly totals, and the thresholds of drizzle the days of 0.1 mm or more of January to April to those wanted. It is the record of this very
world that then has the normals; other worlds scatter about them as fifty years do. Light rain and drizzle leave January to March
undetermined, so the iteration ends early, before drizzle has taken all of February.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.regions import load_region
from data_catalog.simulated import rain
from data_catalog.simulated.climate import Climate, by_month
from data_catalog.simulated.noise import YEAR_HOURS, Floats
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases

WET_DAYS: Final = np.array([5.0, 5.2, 6.8, 8.9, 13.1, 14.5, 16.0, 16.7, 12.5, 8.9, 5.2, 3.9])
"""Days of 1 mm or more a month at Láng, January to December: 117 a year, where the record has 114 to 118."""

DAMP_DAYS: Final = np.array([10.0, 11.0, 12.5, 13.0])
"""Days of 0.1 mm or more in January to April, for the drizzle."""

_FIRST_YEAR: Final = 6.0  # 1976, in years since 1970
_NEIGHBOURS: Final = 0.012  # pull of each neighbouring month on a threshold


@dataclass(frozen=True, slots=True)
class Tables:
    """Monthly tables, January to December: thresholds of showers, scales of their intensity, thresholds of drizzle."""

    threshold: tuple[float, ...]
    scale: tuple[float, ...]
    drizzle: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Series:
    """Latents at one gauge, hourly: showers with everything added, drizzle with its threshold taken away."""

    hours: Floats
    shower: Floats
    drizzle: Floats

    @property
    def years(self) -> float:
        return self.hours.size / YEAR_HOURS


def _series(climate: Climate, seed: int, years: int) -> _Series:
    bases, truth = Bases.at(climate, climate.place), Truth(climate, seed)
    pieces = []
    for year in range(years):
        hours = (_FIRST_YEAR + year) * YEAR_HOURS + np.arange(YEAR_HOURS) - 0.5
        shower = truth.shower_latent(hours, bases)[:, 0, 0] + rain.diurnal(hours, climate.place)[:, 0]
        free = truth.drizzle_excess(hours, bases)[:, 0, 0] + by_month(rain.DRIZZLE_THRESHOLD, hours)
        pieces.append((hours, shower, free))
    return _Series(*(np.concatenate(part) for part in zip(*pieces, strict=True)))


def tables(climate: Climate, seeds: tuple[int, ...], years: int, steps: int) -> Tables:
    """Monthly tables that give the wanted days and totals.

    Args:
        climate: Its monthly totals are what is wanted.
        seeds: Worlds over which is averaged.
        years: Years of each.
        steps: Steps of the iteration, from the tables as they are.
    """
    worlds = [_series(climate, seed, years) for seed in seeds]
    found = [np.array(values) for values in (rain.SHOWER_THRESHOLD, rain.SHOWER_SCALE, rain.DRIZZLE_THRESHOLD)]
    wanted = np.array(climate.rain)
    for _ in range(steps):
        counts = np.mean([_counts(climate, world, found) for world in worlds], axis=0)  # (total and days, month)
        found[0] = np.clip(found[0] + 0.35 * (counts[1] - WET_DAYS) / WET_DAYS, 1.0, 2.05)
        around = np.roll(found[0], 1) + np.roll(found[0], -1)
        found[0] = (1.0 - 2.0 * _NEIGHBOURS) * found[0] + _NEIGHBOURS * around
        found[1] = found[1] * np.clip(wanted / counts[0], 0.5, 2.0) ** 0.8
        found[2][: DAMP_DAYS.size] += 0.1 * np.clip((counts[2, : DAMP_DAYS.size] - DAMP_DAYS) / DAMP_DAYS, -1.0, 1.0)
    return Tables(*(tuple(np.round(values, digits).tolist()) for values, digits in zip(found, (3, 4, 2), strict=True)))


def _counts(climate: Climate, series: _Series, found: list[Floats]) -> Floats:
    """Per month: total, days >= 1 mm, days >= 0.1 mm, shape (3, 12)."""
    threshold, scale, drizzle = found
    hours = series.hours
    size = by_month(tuple(scale * np.array(climate.rain)), hours)
    amount = rain.intensity(series.shower, by_month(tuple(threshold), hours), size, rain.shape(hours))
    amount += rain.drizzle(series.drizzle - by_month(tuple(drizzle), hours))
    month = (np.datetime64(0, "s") + (3600.0 * (hours + 7.0)).astype("timedelta64[s]")).astype("datetime64[M]").astype(int) % 12  # local
    _, day = np.unique(np.floor((hours + 7.5) / 24.0), return_inverse=True)
    daily = np.bincount(day, amount)
    of_day = np.zeros(daily.size, dtype=int)
    of_day[day] = month
    rows = [np.bincount(month, amount, 12), np.bincount(of_day, daily >= 1.0, 12), np.bincount(of_day, daily >= 0.1, 12)]
    return np.stack(rows) / series.years


if __name__ == "__main__":
    sys.stdout.write(f"{tables(Climate.of(load_region()), seeds=(1,), years=50, steps=14)}\n")
