"""The whole backtest: one station with five ensembles over two years, and the real archives where GIOMUA_REAL_DATA names them.

The figures are seconds, and the CRPS of the blend beside the best raw forecast and climatology.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr

from training.backtest import BacktestConfig, run_backtest

ARCHIVES = {
    "magdeburg_t2m_24h": (("ens", "ctrl", "hres"), "temperature_2m", date(2010, 12, 31)),
    "innsbruck_tmin": (("gefs",), "temperature_2m", date(2010, 2, 28)),
    "frankfurt_rain_24h": (("ens", "ctrl", "hres"), "precipitation_amount", date(2012, 12, 31)),
    "innsbruck_rain_3day": (("gefs",), "precipitation_amount", date(2008, 12, 31)),
}


def simulated(folder: Path, days: int) -> tuple[dict[str, Path], Path]:
    """Five ensembles of ten members and the observations of one station, daily."""
    rng = np.random.default_rng(3)
    time_ = np.datetime64("2021-01-01", "ns") + np.arange(days + 1) * np.timedelta64(24, "h")
    weather = np.zeros(days + 1)
    for i in range(1, days + 1):
        weather[i] = 0.8 * weather[i - 1] + rng.normal()
    truth = 20.0 + 8.0 * np.sin(2 * np.pi * np.arange(days + 1) / 365.25) + 2.0 * weather
    place = {"station": ["one"], "latitude": ("station", [21.0]), "longitude": ("station", [105.8])}
    xr.Dataset({"temperature_2m": (("time", "station"), truth[:, None].round(1))}, coords={"time": time_, **place}).to_netcdf(
        folder / "observations.nc", engine="h5netcdf"
    )
    lead = np.array([24], dtype="timedelta64[h]").astype("timedelta64[ns]")
    sources = {}
    for k in range(5):
        centre = truth[1:] + k - 2.0 + (0.8 + 0.2 * k) * rng.normal(size=days)
        members = centre[:, None, None, None] + 0.7 * rng.normal(size=(days, 1, 1, 10))
        sources[f"e{k}"] = folder / f"e{k}.nc"
        xr.Dataset(
            {"temperature_2m": (("init_time", "lead_time", "station", "ensemble_member"), members.astype(np.float32))},
            coords={"init_time": time_[:-1], "lead_time": lead, **place},
        ).to_netcdf(sources[f"e{k}"], engine="h5netcdf")
    return sources, folder / "observations.nc"


def measured(config: BacktestConfig) -> dict[str, float]:
    """Seconds and scores of one backtest."""
    start = time.perf_counter()
    result = run_backtest(config)
    seconds = time.perf_counter() - start
    crps = {r["forecaster"]: float(r["crps"]) for r in result.rows if r["lead_time_hours"] == "all"}
    held = next(float(r["coverage_90"]) for r in result.rows if (r["forecaster"], r["lead_time_hours"]) == ("blend", "all"))
    raw = min(v for k, v in crps.items() if k.startswith("raw_"))
    return {"seconds": seconds, "blend": crps["blend"], "coverage_90": held, "best_raw": raw, "climatology": crps["climatology"]}


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources, observations = simulated(folder, 120 if chosen.quick else 730)
        split = date(2021, 3, 31) if chosen.quick else date(2021, 12, 31)
        asked = ("emos",) if chosen.quick else ("statistical",)
        figures["five_ensembles_two_years"] = measured(
            BacktestConfig(sources, observations, "temperature_2m", split, folder / "out", forecasters=asked)
        )
        real = os.environ.get("GIOMUA_REAL_DATA")
        for archive, (names, variable, until) in ARCHIVES.items() if real and not chosen.quick else ():
            pairs = Path(str(real)) / "pairs" / archive
            files = {n: pairs / f"{n}.nc" for n in names}
            figures[archive] = measured(BacktestConfig(files, pairs / "observations.nc", variable, until, folder / archive))
    for label, f in figures.items():
        beside = f"best raw {f['best_raw']:.4f}, climatology {f['climatology']:.4f}"
        print(f"{label}: {f['seconds']:.1f} s; blend {f['blend']:.4f}, {beside}, 90 % holds {f['coverage_90']:.1%}")
    print(f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
