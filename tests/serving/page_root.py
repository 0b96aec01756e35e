"""A published root as the page reads it: two cycles of seeded members, derived by the real product functions, and station reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import xarray as xr

from data_catalog.manifest import Manifest
from data_catalog.regions import Region
from data_catalog.settings import Settings
from data_catalog.store import Root
from models.base import to_quantiles
from pipelines.centres import raw_members, raw_quantiles
from pipelines.inputs import LEADS
from pipelines.products import anywhere, daily, probabilities, rain_risk
from pipelines.publish import announce, publish, root_attributes
from tests.serving.served import settings_on

INIT: Final = np.datetime64("2025-07-10T00", "ns")
BEFORE: Final = INIT - np.timedelta64(12, "h")
HOUR = np.timedelta64(1, "h")
MEMBERS: Final = 12
LATITUDE: Final = 22.0 - 0.25 * np.arange(9)
LONGITUDE: Final = 105.0 + 0.25 * np.arange(9)
SOURCES: Final = ("centre-a", "centre-b")


def make_root(folder: Path) -> Settings:
    """Two cycles, the second with a lagged centre, and 120 days of hourly reports."""
    settings = settings_on(folder)
    region, root = settings.load_region(), Root.open(settings)
    with mock.patch("data_catalog.files._sync"), Manifest.open(settings.manifest) as manifest:
        for month, part in reports(region).groupby("time.month"):
            ref = root.write_store("archive/observations/test-network", f"2025{month:02d}", {"": part}, part.attrs)
            manifest.add_revision("observations/test-network", f"2025{month:02d}", ref, available_time=INIT)
        for init_time, lag in ((BEFORE, 0), (INIT, 12)):
            groups = cycle_groups(region, init_time)
            states = {name: {"status": "present", "lag_hours": 0, "content_hash": ""} for name in SOURCES}
            states["centre-b"] |= {"status": "lagged" if lag else "present", "lag_hours": lag}
            states["centre-c"] = {"status": "missing", "lag_hours": 0, "content_hash": ""}
            details = {
                "sources": {"present": ["centre-a"], "lagged": ["centre-b"], "missing": ["centre-c"]}, "simulated": True,
                "variables": ["temperature_2m"], "first_lead_hours": 0, "last_lead_hours": 240, "forecasters": ["climatology"],
                "skipped": {"persistence": "no observation"}, "notes": ["centre-c is missing: no run is in the archive."],
                "skill": [
                    {"forecaster": name, "variable": "temperature_2m", "n": 900, "crps": crps, "held_out_from": "2025-06-10",
                     "held_out_to": "2025-07-10"}
                    for name, crps in (("blend", 0.8), ("raw_centre-a", 1.0), ("climatology", 2.0))
                ],
            }  # fmt: skip
            made = publish(root, manifest, init_time, groups, root_attributes(region, init_time, states, True), details)
            announce(root, manifest, region, made)
    return settings


def weather(region: Region, init_time: np.datetime64, seed: int) -> dict[str, np.ndarray]:
    """Members by variable, (lead, place, member): a warm week, heavy rain on the second day, a fall of temperature on the fifth."""
    rng = np.random.default_rng(seed)
    places = len(region.operating) + LATITUDE.size * LONGITUDE.size
    hours = LEADS.astype(float)
    local = (hours + (init_time.astype("datetime64[h]").astype(int) + 7)) % 24
    mean = 30.0 - 9.0 * np.clip((hours - 112) / 6, 0, 1) + 4.0 * np.cos((local - 14) / 24 * 2 * np.pi)
    spread = 0.4 + hours / 120
    shape = (hours.size, places, MEMBERS)
    shared = rng.normal(size=(1, 1, MEMBERS)) * spread[:, None, None]
    temperature = mean[:, None, None] + shared + 0.3 * rng.normal(size=shape)
    wet = np.exp(-(((hours - 42) / 9) ** 2))[:, None, None] * rng.gamma(0.8, 30.0, size=(1, 1, MEMBERS))
    rain = wet * rng.gamma(2.0, 0.5, size=shape) + (rng.random(shape) < 0.08) * rng.gamma(0.7, 4.0, size=shape)
    rain[0] = np.nan
    u, v = -2.0 + rng.normal(size=shape), 3.0 * np.cos(hours / 40)[:, None, None] + rng.normal(size=shape)
    return {
        "temperature_2m": temperature, "precipitation_amount": rain,
        "dew_point_temperature_2m": temperature - 3.0 - rng.gamma(1.0, 1.0, size=shape), "wind_u_10m": u, "wind_v_10m": v,
        "wind_speed_10m": np.hypot(u, v), "wind_gust_10m": 1.6 * np.hypot(u, v),
        "pressure_reduced_to_mean_sea_level": 100400.0 + 300 * rng.normal(size=(1, places, 1)) + 4 * hours[:, None, None] + 50 * shared,
        "total_cloud_cover_atmosphere": np.clip(60 + 30 * rng.normal(size=shape), 0, 100),
    }  # fmt: skip


def cycle_groups(region: Region, init_time: np.datetime64) -> dict[str, xr.Dataset]:
    """Every group of a published cycle."""
    stations = members_of(region, init_time, 1, "stations")
    grid = members_of(region, init_time, 1, "grid")
    groups = {"stations": stations, "grid": grid}
    for prefix, members in (("", stations), ("grid_", grid)):
        name = prefix or "stations_"
        quantiles = {variable: to_quantiles(members[variable]) for variable in members.data_vars}
        groups[f"{name}quantiles"] = xr.Dataset(quantiles).assign_coords(lead_time_bounds=members.lead_time_bounds)
        groups[f"{prefix}probabilities"] = probabilities(members, region)
        groups[f"{prefix}daily"] = daily(members, region)
    groups["city"] = anywhere(grid, region)
    raw = {place: {f"raw_{name}": members_of(region, init_time, 2 + i, place) for i, name in enumerate(SOURCES)} for place in groups
           if place in ("stations", "grid")}  # fmt: skip
    groups["risk"] = rain_risk({"blend": stations} | raw["stations"], {"blend": grid} | raw["grid"], region)
    groups["models"] = models({"climatology": members_of(region, init_time, 9, "stations")} | raw["stations"]
                              | {"emos_centre-a": stations})  # fmt: skip
    sources = {
        place: {name.removeprefix("raw_"): members.expand_dims("init_time") for name, members in found.items()}
        for place, found in raw.items()
    }
    bounds = {"lead_time_bounds": stations.lead_time_bounds}
    sources["stations"]["centre-b"] = sources["stations"]["centre-b"].isel(ensemble_member=[0])
    groups["centres"] = raw_members(sources["stations"]).assign_coords(bounds)
    groups["grid_centres"] = raw_quantiles(sources["grid"]).assign_coords(bounds)
    return groups


def members_of(region: Region, init_time: np.datetime64, seed: int, place: str) -> xr.Dataset:
    values = weather(region, init_time, seed)
    count = len(region.operating)
    lead = (LEADS * HOUR).astype("timedelta64[ns]")
    bounds = np.stack([np.concatenate([[np.timedelta64("NaT", "ns")], lead[:-1]]), lead], axis=1)
    bounds[0] = np.timedelta64("NaT", "ns")
    data: Mapping[str, Any]
    coords: dict[str, Any]
    if place == "stations":
        data = {name: (("lead_time", "station", "ensemble_member"), array[:, :count].astype(np.float32)) for name, array in values.items()}
        coords = {"station": np.array([one.id for one in region.operating], dtype=object)}
    else:
        shape = (lead.size, LATITUDE.size, LONGITUDE.size, MEMBERS)
        dims = ("lead_time", "latitude", "longitude", "ensemble_member")
        data = {name: (dims, array[:, count:].reshape(shape).astype(np.float32)) for name, array in values.items()}
        coords = {"latitude": LATITUDE, "longitude": LONGITUDE}
    coords |= {"lead_time": lead, "init_time": init_time, "ensemble_member": np.arange(MEMBERS)}
    return xr.Dataset(data, coords | {"lead_time_bounds": (("lead_time", "bounds"), bounds)})


def models(forecasters: Mapping[str, xr.Dataset]) -> xr.Dataset:
    names = list(forecasters)
    parts = [xr.Dataset({name: to_quantiles(members[name]) for name in members.data_vars}) for members in forecasters.values()]
    joined = xr.concat(parts, dim="forecaster", coords="minimal", compat="override").assign_coords(forecaster=np.array(names, dtype=object))
    weights = np.full((len(names), LEADS.size), 1 / len(names), dtype=np.float32)
    found = {f"weight_{name}": (("forecaster", "lead_time"), weights) for name in forecasters["climatology"].data_vars}
    pairs = {"pairs_temperature_2m": ("lead_time", np.full(LEADS.size, 640, dtype=np.int32))}
    return joined.assign(found | pairs).assign_attrs(training_from="2025-04-01", training_to="2025-07-09")


def reports(region: Region) -> xr.Dataset:
    """Hourly reports of 120 days up to the newest cycle; a shower of 40 mm at 09 UTC every tenth day."""
    rng = np.random.default_rng(3)
    times = np.arange(INIT - np.timedelta64(120, "D"), INIT + HOUR, HOUR)
    hours = times.astype("datetime64[h]").astype(int)
    shape = (times.size, len(region.operating))
    temperature = (29 + 4 * np.cos((hours % 24 - 7) / 24 * 2 * np.pi))[:, None] + rng.normal(size=shape)
    rain = np.where((hours % 240 == 9)[:, None], 40.0, 0.0) * np.ones(shape)
    values = {
        "temperature_2m": temperature, "dew_point_temperature_2m": temperature - 4, "precipitation_amount": rain,
        "wind_speed_10m": 2 + rng.random(shape), "pressure_reduced_to_mean_sea_level": 100400 + 100 * rng.normal(size=shape),
        "total_cloud_cover_atmosphere": 50 + 0 * rain,
    }  # fmt: skip
    data = {name: (("time", "station"), array.astype(np.float32)) for name, array in values.items()}
    data["precipitation_amount_interval"] = (("time", "station"), np.ones(shape, dtype=np.float32))
    stations = np.array([one.id for one in region.operating], dtype=object)
    coords = {"time": times.astype("datetime64[ns]"), "station": stations, "available_time": ("time", times.astype("datetime64[ns]"))}
    return xr.Dataset(data, coords, {"simulated": True})
