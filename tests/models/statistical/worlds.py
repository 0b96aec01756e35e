"""Pairs made from a known truth, for the tests of the statistical forecasters."""

from __future__ import annotations

import numpy as np
import xarray as xr

from models.base import LEVELS, Pairs

HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
DAY = 24 * HOUR
START = np.datetime64("2023-01-01T00", "ns")


def coordinates(days: int, stations: int, leads: list[int], first: np.datetime64 = START) -> dict:
    return {
        "init_time": first + np.arange(days) * DAY,
        "lead_time": np.array(leads) * HOUR,
        "station": [f"s{i}" for i in range(stations)],
        "latitude": ("station", 21.0 + 0.3 * np.arange(stations)),
        "longitude": ("station", np.full(stations, 105.8)),
    }


def ensemble(
    days: int = 200, stations: int = 3, members: int = 10, leads: list[int] | None = None, seed: int = 0, name: str = "temperature_2m",
    bias: float | np.ndarray = 1.5,
) -> Pairs:  # fmt: skip
    """A source "x" that is ``bias`` too warm (one a station, if an array) with two thirds of the spread it should have."""
    rng = np.random.default_rng(seed)
    leads = leads or [24, 48]
    shape = (days, len(leads), stations)
    signal, spread = 20.0 + 4.0 * rng.normal(size=shape), np.exp(0.5 * rng.normal(size=shape))
    observed = signal + 1.5 * spread * rng.normal(size=shape)
    forecast = signal[..., None] + np.broadcast_to(bias, (stations,))[:, None] + spread[..., None] * rng.normal(size=(*shape, members))
    coords = coordinates(days, stations, leads)
    dims = ("init_time", "lead_time", "station")
    return Pairs(
        sources={"x": xr.Dataset({name: ((*dims, "ensemble_member"), forecast)}, coords=coords)},
        observed=xr.Dataset({name: (dims, observed)}, coords=coords),
    )


def part(pairs: Pairs, first: int, last: int) -> Pairs:
    cut = {name: data.isel(init_time=slice(first, last)) for name, data in pairs.sources.items()}
    return Pairs(sources=cut, observations=pairs.observations, observed=pairs.observed.isel(init_time=slice(first, last)))


def crps(quantiles: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Twice the trapezoid integral of the pinball loss over the levels."""
    off = observed[..., None] - quantiles
    found: np.ndarray = 2.0 * np.trapezoid(np.maximum(LEVELS * off, (LEVELS - 1.0) * off), LEVELS, axis=-1)
    return found


def share_inside(quantiles: np.ndarray, observed: np.ndarray, low: float, high: float) -> float:
    """How often the observation lies between two levels."""
    a, b = (quantiles[..., int(np.argmin(np.abs(LEVELS - level)))] for level in (low, high))
    return float(((observed > a) & (observed <= b)).mean())
