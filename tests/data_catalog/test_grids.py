"""Remapping between grids and stations."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import QualityError
from data_catalog.grids import axis_weights, method_for, to_grid, to_points, to_stations
from data_catalog.regions import load_region

REGION = load_region()


def plane(latitude: np.ndarray, longitude: np.ndarray) -> xr.DataArray:
    values = 2.0 * latitude[:, None] - 3.0 * longitude[None, :]
    return xr.DataArray(values, dims=("latitude", "longitude"), coords={"latitude": latitude, "longitude": longitude})


def test_rain_keeps_its_distribution_and_smooth_fields_are_interpolated() -> None:
    assert method_for("precipitation_amount") == "nearest"
    assert method_for("temperature_2m") == "bilinear"


@given(st.floats(18.5, 23.0), st.floats(102.0, 110.0))
def test_bilinear_is_exact_for_a_plane(latitude: float, longitude: float) -> None:
    field = plane(REGION.latitude, REGION.longitude)
    found = to_points(field, np.array([latitude]), np.array([longitude]), "bilinear")
    assert found[0] == pytest.approx(2 * latitude - 3 * longitude, abs=1e-4)


@given(st.floats(18.5, 23.0), st.floats(102.0, 110.0))
def test_nearest_is_a_value_of_the_field_within_half_a_cell(latitude: float, longitude: float) -> None:
    field = plane(REGION.latitude, REGION.longitude)
    found = to_points(field, np.array([latitude]), np.array([longitude]), "nearest")[0]
    row = np.abs(REGION.latitude - latitude).argmin()
    column = np.abs(REGION.longitude - longitude).argmin()
    near = field.values[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert np.isclose(near, found, atol=1e-4).any()
    assert abs(found - (2 * latitude - 3 * longitude)) <= 0.125 * 5 + 1e-4


def test_outside_by_more_than_half_a_cell_is_missing() -> None:
    low, high, weight = axis_weights(np.array([23.0, 22.0, 21.0]), np.array([23.4, 23.6, 21.0, 20.4]), "bilinear")
    assert np.isnan(weight).tolist() == [False, True, False, True]
    axis = np.array([23.0, 22.0, 21.0])
    assert axis[high[0]] == 23.0
    assert weight[0] == 1.0
    assert (low != high).all()


def test_a_missing_cell_does_not_touch_its_neighbours_at_grid_points() -> None:
    field = plane(REGION.latitude, REGION.longitude)
    field[4, 4] = np.nan
    found = to_points(field, REGION.latitude[[4, 3]], REGION.longitude[[4, 4]], "bilinear")
    assert np.isnan(found).tolist() == [True, False]


def test_stations_carry_their_coordinates() -> None:
    fields = plane(REGION.latitude, REGION.longitude).expand_dims(lead_time=2).to_dataset(name="temperature_2m")
    found = to_stations(fields, REGION.stations)
    assert found.temperature_2m.dims == ("lead_time", "station")
    lang = found.sel(station="lang")
    assert float(lang.temperature_2m[0]) == pytest.approx(2 * 21.0167 - 3 * 105.80, abs=1e-3)
    assert float(lang.elevation) == 6.0


def test_the_same_grid_is_untouched_and_a_coarser_one_is_filled() -> None:
    fine = plane(REGION.latitude, REGION.longitude).to_dataset(name="temperature_2m")
    assert to_grid(fine, REGION.latitude, REGION.longitude) is fine
    coarse = plane(np.arange(25.0, 17.0, -2.5), np.arange(100.0, 113.0, 2.5)).to_dataset(name="temperature_2m")
    found = to_grid(coarse, REGION.latitude, REGION.longitude)
    assert found.temperature_2m.shape == (19, 33)
    assert np.allclose(found.temperature_2m, fine.temperature_2m, atol=1e-3)


def test_a_field_without_a_grid_is_refused() -> None:
    fields = plane(REGION.latitude[:4], REGION.longitude[:4]).to_dataset(name="t").assign(one=xr.DataArray(1.0))
    with pytest.raises(QualityError, match="one has dimensions"):
        to_grid(fields, REGION.latitude, REGION.longitude)
