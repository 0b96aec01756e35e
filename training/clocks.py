"""Whether a station's clock is right: its observations against short forecasts, moved hour by hour.

Local time filed as UTC, or a day too late, costs every forecaster its skill and looks like bad weather. Temperature has a daily course and
changes from day to day, which the short forecasts of any centre follow closely: the differences vary least where the clock is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, STATION, TIME

VARIABLE: Final = "temperature_2m"
REACH: Final = 26  # hours of shift looked at, either way: a whole day and a little
LONGEST: Final = np.timedelta64(24, "h")  # lead of a short forecast
FEWEST_DAYS: Final = 21  # in fewer, showers that models have an hour early pass for a clock
RATIO: Final = 0.8  # of the variance of differences, below which another clock is believed


@dataclass(frozen=True, slots=True)
class Shift:
    """A station whose observations fit another clock better.

    Attributes:
        station: Its id.
        hours: By how much its times are too late; negative for too early.
        ratio: Variance of the differences from short forecasts with the clock put right, over that as it is.
        days: Valid days looked at.
    """

    station: str
    hours: int
    ratio: float
    days: int


def wrong_clocks(sources: Mapping[str, xr.Dataset], observations: xr.Dataset) -> list[Shift]:
    """Stations whose temperatures follow the forecasts much better at another hour.

    Args:
        sources: Past forecasts, ``temperature_2m(init_time, lead_time, station, ensemble_member)``, the same stations in all.
        observations: ``temperature_2m(time, station)``, hourly.

    Returns:
        One entry for each such station; none for stations with fewer than :data:`FEWEST_DAYS` days of pairs.
    """
    held = [source[VARIABLE] for source in sources.values() if VARIABLE in source]
    if not held or VARIABLE not in observations:
        return []
    series = observations[VARIABLE].transpose(TIME, STATION).reindex({STATION: held[0][STATION].values})
    valid, reference = _short_forecasts(held)
    times = series[TIME].values.astype("datetime64[h]")
    steps = np.arange(-REACH, REACH + 1)
    asked = valid[None, :].astype("datetime64[h]") + steps[:, None].astype("timedelta64[h]")  # (shift, case)
    place = np.clip(np.searchsorted(times, asked), 0, len(times) - 1)
    found = np.where((times[place] == asked)[..., None], series.values[place], np.nan)  # (shift, case, station)
    off = found - reference
    off = np.where(np.isfinite(off).all(axis=0), off, np.nan)  # the same cases at every shift
    shifts = []
    for i, station in enumerate(series[STATION].values):
        known = np.isfinite(off[0, :, i])
        days = len(np.unique(valid[known].astype("datetime64[D]")))
        if days < FEWEST_DAYS:
            continue
        variance = off[:, known, i].var(axis=1)
        best = int(variance.argmin())
        ratio = float(variance[best] / variance[REACH]) if variance[REACH] > 0 else 1.0
        if best != REACH and ratio < RATIO:
            shifts.append(Shift(str(station), int(steps[best]), ratio, days))
    return shifts


def _short_forecasts(held: list[xr.DataArray]) -> tuple[np.ndarray, np.ndarray]:
    """Valid times (n,) and the mean over sources of the ensemble means there, (n, station)."""
    total: dict[np.datetime64, list[np.ndarray]] = {}
    for data in held:
        short = data.isel({LEAD_TIME: np.flatnonzero(data[LEAD_TIME].values <= LONGEST)})
        mean = (short.mean(ENSEMBLE_MEMBER) if ENSEMBLE_MEMBER in short.dims else short).transpose(INIT_TIME, LEAD_TIME, STATION)
        valid = (mean[INIT_TIME].values[:, None] + mean[LEAD_TIME].values[None, :]).ravel()
        for time, values in zip(valid, mean.values.reshape(valid.size, -1), strict=True):
            if np.isfinite(values).any():
                total.setdefault(time, []).append(values)
    times = np.array(sorted(total))
    return times, np.array([np.mean(total[time], axis=0) for time in times])
