"""A small seeded archive in the backtest contract, written to files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr

from training.backtest import BacktestConfig

START = np.datetime64("2023-01-01", "ns")
DAY = np.timedelta64(24, "h").astype("timedelta64[ns]")
STATIONS = ("lang", "noi_bai")
LEADS = np.array([24, 48], dtype="timedelta64[h]").astype("timedelta64[ns]")
DAYS = 85
SPLIT = date(2023, 2, 20)
Edit = Callable[[dict[str, xr.Dataset]], dict[str, xr.Dataset]]


def make(variable: str = "temperature_2m", days: int = DAYS) -> dict[str, xr.Dataset]:
    """Two sources, ``ens`` with five members and ``one`` with one, and ``observations``."""
    rng = np.random.default_rng(11)
    times = START + np.arange(days + 3) * DAY
    walk = np.zeros(days + 3)
    for i in range(1, days + 3):
        walk[i] = 0.8 * walk[i - 1] + rng.normal()
    truth = 20.0 + 2.0 * walk[:, None] + np.array([0.0, 1.0]) + 0.3 * rng.normal(size=(days + 3, 2))
    if variable == "precipitation_amount":
        truth = np.maximum(truth - 21.0, 0.0) ** 1.5
    truth = np.round(truth, 1)
    place = {"latitude": ("station", [21.02, 21.22]), "longitude": ("station", [105.80, 105.81])}
    coords = {"time": times, "station": list(STATIONS), **place}
    made = {"observations": xr.Dataset({variable: (("time", "station"), truth)}, coords=coords)}
    verify = np.stack([truth[1 : days + 1], truth[2 : days + 2]], axis=1)  # (init, lead, station)
    for name, members, bias, noise in (("ens", 5, 1.0, 1.0), ("one", 1, -2.0, 1.4)):
        error = bias + noise * rng.normal(size=(*verify.shape, 1)) + 0.5 * rng.normal(size=(*verify.shape, members))
        values = verify[..., None] + error
        if variable == "precipitation_amount":
            values = np.maximum(values, 0.0)
        made[name] = xr.Dataset(
            {variable: (("init_time", "lead_time", "station", "ensemble_member"), values.astype(np.float32))},
            coords={"init_time": times[:days], "lead_time": LEADS, "station": list(STATIONS), **place},
        )
    for dataset in made.values():
        dataset[variable].attrs["units"] = "kg m-2" if variable == "precipitation_amount" else "degree_Celsius"
    return made


def write(folder: Path, made: dict[str, xr.Dataset]) -> dict[str, Path]:
    """NetCDF files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, dataset in made.items():
        paths[name] = folder / f"{name}.nc"
        dataset.to_netcdf(paths[name], engine="h5netcdf")
    return paths


def config(folder: Path, made: dict[str, xr.Dataset], **changes: object) -> BacktestConfig:
    """A backtest of them, with few forecasters."""
    paths = write(folder, made)
    options: dict[str, object] = {
        "sources": {n: p for n, p in paths.items() if n != "observations"},
        "observations": paths["observations"],
        "variable": str(next(iter(made["observations"].data_vars))),
        "train_until": SPLIT,
        "out": folder / "out",
        "forecasters": ("emos", "persistence", "emos_ens"),
    }
    return BacktestConfig(**{**options, **changes})  # type: ignore[arg-type]
