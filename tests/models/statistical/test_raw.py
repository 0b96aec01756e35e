"""Raw: the members as they are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from models.base import Inputs, MissingInputError, to_quantiles
from models.statistical.raw import Raw
from tests.models.statistical.worlds import ensemble


def test_is_the_converter_at_stations_and_on_a_grid():
    data = ensemble(days=3).sources["x"]
    found = Raw("x").predict(Inputs(sources={"x": data}))["temperature_2m"]
    np.testing.assert_allclose(found, to_quantiles(data["temperature_2m"]), rtol=1e-5)
    field = np.random.default_rng(1).normal(size=(1, 1, 3, 2, 4))
    grid = xr.Dataset(
        {"temperature_2m": (("init_time", "lead_time", "latitude", "longitude", "ensemble_member"), field)},
        coords={"latitude": [3.0, 2.0, 1.0], "longitude": [5.0, 6.0]},
    ).assign_coords(init_time=data["init_time"][:1], lead_time=data["lead_time"][:1])
    found = Raw("x").predict(Inputs(sources={"x": grid}))["temperature_2m"]
    assert found.dims == ("init_time", "lead_time", "latitude", "longitude", "quantile")
    np.testing.assert_allclose(found, to_quantiles(grid["temperature_2m"]), rtol=1e-5)
    assert found.attrs["units"] == "degree_Celsius"


def test_missing_members_and_leads_stay_missing():
    data = ensemble(days=2).sources["x"].copy(deep=True)
    data["temperature_2m"][0, 1] = np.nan
    data["temperature_2m"][1, 0, 0, :5] = np.nan
    found = Raw("x").predict(Inputs(sources={"x": data}))["temperature_2m"].values
    assert np.isnan(found[0, 1]).all()
    assert np.isfinite(found[1]).all()


def test_what_is_missing_is_said():
    data = ensemble(days=2).sources["x"]
    with pytest.raises(MissingInputError, match="'y' is required"):
        Raw("y").predict(Inputs(sources={"x": data}))
    with pytest.raises(MissingInputError, match="wind_speed_10m"):
        Raw("x").predict(Inputs(sources={"x": data}, targets=("wind_speed_10m",)))
