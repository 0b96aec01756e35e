"""Observations whose clock is wrong are noticed, those whose clock is right are not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from training.clocks import wrong_clocks

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2025-06-01", "ns")
STATIONS = ["a", "b"]


def weather(days: int = 30) -> tuple[dict[str, xr.Dataset], xr.Dataset]:
    """Temperatures with a daily course and days that differ, and short forecasts of them every three hours."""
    rng = np.random.default_rng(5)
    hours = np.arange(-48, 24 * days + 48)
    day = np.repeat(np.convolve(rng.normal(size=days + 8), [0.5, 0.5])[: days + 4] * 2.0, 24)
    truth = 27.0 + 4.0 * np.sin(2 * np.pi * (hours - 2) / 24) + day[: len(hours)]
    at = dict(zip(hours.tolist(), truth, strict=True))
    observed = truth[:, None] + 0.5 * rng.normal(size=(len(hours), 2))
    observations = xr.Dataset({"temperature_2m": (("time", "station"), observed)}, {"time": START + hours * HOUR, "station": STATIONS})
    leads = np.arange(0, 27, 3)
    said = np.array([[at[24 * d + int(lead)] for lead in leads] for d in range(days)])
    members = said[..., None, None] + 1.0 + 0.8 * rng.normal(size=(days, len(leads), 2, 5))
    dims = ("init_time", "lead_time", "station", "ensemble_member")
    inits = START + np.arange(days) * 24 * HOUR
    eps = xr.Dataset({"temperature_2m": (dims, members)}, {"init_time": inits, "lead_time": leads * HOUR, "station": STATIONS})
    return {"eps": eps}, observations


def test_a_right_clock_is_believed():
    assert wrong_clocks(*weather()) == []


@pytest.mark.parametrize("hours", [1, 7, 24, -7])
def test_a_shift_is_noticed_at_its_station_alone(hours: int):
    sources, observations = weather()
    moved = observations.assign_coords(time=observations["time"] + hours * HOUR).sel(station=["a"])
    whole = xr.concat([moved, observations.sel(station=["b"])], dim="station", join="outer").sortby("time")
    (found,) = wrong_clocks(sources, whole)
    assert (found.station, found.hours) == ("a", hours)
    assert found.ratio < 0.8


def test_few_days_tell_nothing():
    assert wrong_clocks(*weather(days=10)) == []
    sources, observations = weather(days=18)
    assert wrong_clocks(sources, observations.assign_coords(time=observations["time"] + HOUR)) == []
    sources, observations = weather()
    assert wrong_clocks(sources, observations.drop_vars("temperature_2m")) == []
