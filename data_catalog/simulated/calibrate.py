"""How the thresholds of rain in ``climate.py`` were found: ``python -m data_catalog.simulated.calibrate`` prints them again.

A fixed-point iteration on one gauge over some years brings the days of 1 mm or more, month by month, to those wanted; the scale of the
intensity follows from the monthly totals in closed form.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_catalog.regions import load_region
from data_catalog.simulated.climate import Climate, Points, hours_since_1970
from data_catalog.simulated.noise import YEAR_HOURS
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases, gauge_rain

WET_DAYS = (4.8, 5.0, 6.5, 8.5, 12.5, 13.5, 15.0, 15.5, 12.0, 8.5, 5.0, 3.7)
"""Days of 1 mm or more a month at Láng that are wanted, 110 a year; the record has 114 to 118."""


def thresholds(climate: Climate, seed: int, years: int, steps: int, wanted: Sequence[float] = WET_DAYS) -> tuple[float, ...]:
    """Monthly thresholds, in standard deviations of the rain latent, that give the wanted number of wet days.

    Args:
        climate: Where to begin.
        seed: The world.
        years: Length of the series.
        steps: Steps of the iteration.
        wanted: Days of 1 mm or more, January to December.
    """
    place = Points(np.array([climate.latitude]), np.array([climate.longitude]), np.array([climate.elevation]))
    bases = Bases.at(climate, place, gauges=True)
    hours = hours_since_1970(np.datetime64("1990-01-01")) + np.arange(float(int(YEAR_HOURS * years) // 24 * 24))
    wet = Truth(climate, seed).wet(hours - 0.5, bases)
    month = np.minimum(hours[::24] % YEAR_HOURS / (YEAR_HOURS / 12.0), 11).astype(int)
    threshold = np.array(climate.threshold)
    for _ in range(steps):
        tried = replace(climate, threshold=tuple(threshold))
        daily = gauge_rain(tried, place, hours - 0.5, wet).reshape(-1, 24).sum(axis=1)
        days = np.bincount(month, daily >= 1.0, 12) / years
        threshold = np.clip(threshold + 0.25 * (days - wanted) / wanted, 1.0, 2.6)
        # Light rain in few days leaves single months undetermined: neighbours keep them in bounds.
        threshold = 0.25 * np.roll(threshold, 1) + 0.5 * threshold + 0.25 * np.roll(threshold, -1)
    return tuple(round(float(value), 2) for value in threshold)


if __name__ == "__main__":
    sys.stdout.write(f"{thresholds(Climate.of(load_region()), seed=7, years=30, steps=15)}\n")
