"""The raw centres in a published cycle."""

from __future__ import annotations

import numpy as np
import xarray as xr

from models.base import to_quantiles
from pipelines.centres import BOX_LEVELS, raw_members, raw_quantiles

LEADS = np.arange(0, 12, 3) * np.timedelta64(1, "h").astype("timedelta64[ns]")


def centre(members: int, *variables: str, seed: int, **places: list[float]) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    shape = (1, LEADS.size, *(len(axis) for axis in places.values()), members)
    coords = {"init_time": [np.datetime64("2025-07-01T00", "ns")], "lead_time": LEADS, **places, "ensemble_member": np.arange(members)}
    dims = ("init_time", "lead_time", *places, "ensemble_member")
    return xr.Dataset({name: (dims, rng.gamma(2, size=shape).astype(np.float32)) for name in variables}, coords)


def test_every_raw_member_at_stations_keeps_its_number() -> None:
    large = centre(5, "temperature_2m", "wind_speed_10m", seed=1, station=[1.0, 2.0])
    single = centre(1, "temperature_2m", seed=2, station=[1.0, 2.0])
    found = raw_members({"a": large, "b": single})
    assert list(found["forecaster"].values) == ["raw_a", "raw_b"]
    assert found["temperature_2m"].dims == ("forecaster", "lead_time", "station", "ensemble_member")
    np.testing.assert_array_equal(found["temperature_2m"].sel(forecaster="raw_a").values, large["temperature_2m"].values[0])
    np.testing.assert_array_equal(
        found["temperature_2m"].sel(forecaster="raw_b", ensemble_member=0).values, single["temperature_2m"].values[0, ..., 0]
    )
    assert found["temperature_2m"].sel(forecaster="raw_b", ensemble_member=slice(1, None)).isnull().all()
    assert found["wind_speed_10m"].sel(forecaster="raw_b").isnull().all()


def test_quantiles_on_the_grid_are_those_of_the_members() -> None:
    places = {"latitude": [21.0, 20.75, 20.5], "longitude": [105.0, 105.25]}
    sources = {"a": centre(7, "temperature_2m", seed=3, **places), "b": centre(4, "temperature_2m", seed=4, **places)}
    found = raw_quantiles(sources)["temperature_2m"]
    assert found.dims == ("forecaster", "lead_time", "latitude", "longitude", "quantile")
    for name, source in sources.items():
        expected = to_quantiles(source["temperature_2m"], BOX_LEVELS).isel(init_time=0)
        np.testing.assert_array_equal(found.sel(forecaster=f"raw_{name}").values, expected.transpose(..., "quantile").values)
