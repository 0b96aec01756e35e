"""From one horizontal support to another: the nearest cell, or bilinear between cells, along plain latitude-longitude axes.

Rain keeps its distribution only under ``nearest``: averaging four cells makes drizzle of showers. Smooth fields are interpolated.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from data_catalog.dimensions import LATITUDE, LONGITUDE, STATION, attributes
from data_catalog.errors import QualityError
from data_catalog.stations import Station
from data_catalog.variables import VARIABLES

Method = Literal["nearest", "bilinear"]


def method_for(variable: str) -> Method:
    """``nearest`` for sums, means and extremes over an interval, ``bilinear`` for the smooth fields of an instant."""
    known = VARIABLES.get(variable)
    return "nearest" if known is not None and known.has_interval else "bilinear"


def axis_weights(axis: np.ndarray, wanted: np.ndarray, method: Method) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices and weights that take values on ``axis`` to ``wanted``.

    Args:
        axis: Monotone coordinate values, degrees, shape (n,).
        wanted: Target values, degrees, shape (m,).
        method: ``nearest`` or ``bilinear``.

    Returns:
        (lower index, upper index, weight of the upper), each of shape (m,). The weight is NaN where the target lies more than half a
        cell outside the axis; inside that half cell the edge value holds.
    """
    order = np.argsort(axis)
    sorted_axis = axis[order].astype(np.float64)
    if axis.size == 1:
        zero = np.zeros(wanted.size, dtype=np.intp)
        return zero, zero, np.zeros(wanted.size)
    high = np.clip(np.searchsorted(sorted_axis, wanted), 1, axis.size - 1)
    low = high - 1
    share = (wanted - sorted_axis[low]) / (sorted_axis[high] - sorted_axis[low])
    half = 0.5 + 1e-6
    outside = (share < -half) | (share > 1 + half)
    share = np.clip(share, 0.0, 1.0)
    if method == "nearest":
        share = np.round(share)
    share[np.abs(share) < 1e-9] = 0.0
    share[np.abs(share - 1) < 1e-9] = 1.0
    return order[low], order[high], np.where(outside, np.nan, share)


def _mix(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``low (1 - weight) + high weight`` in which a weight of zero also silences a NaN."""
    mixed = np.where(weight == 0, low, np.where(weight == 1, high, low + weight * (high - low)))
    return np.asarray(np.where(np.isnan(weight), np.nan, mixed), dtype=np.float32)


def to_points(field: xr.DataArray, latitude: np.ndarray, longitude: np.ndarray, method: Method) -> np.ndarray:
    """Values at points.

    Args:
        field: ``(..., latitude, longitude)``.
        latitude: degrees_north, shape (P,).
        longitude: degrees_east, shape (P,).
        method: ``nearest`` or ``bilinear``.

    Returns:
        ``(..., P)`` float32, NaN more than half a cell outside the field.
    """
    values = field.transpose(..., LATITUDE, LONGITUDE).values
    south, north, up = axis_weights(field[LATITUDE].values, np.asarray(latitude, dtype=np.float64), method)
    west, east, right = axis_weights(field[LONGITUDE].values, np.asarray(longitude, dtype=np.float64), method)
    lower = _mix(values[..., south, west], values[..., south, east], right)
    upper = _mix(values[..., north, west], values[..., north, east], right)
    return _mix(lower, upper, up)


def to_stations(fields: xr.Dataset, stations: tuple[Station, ...]) -> xr.Dataset:
    """Every variable of a gridded dataset at stations, by :func:`method_for` each.

    Args:
        fields: ``VARIABLE(..., latitude, longitude)``; variables without both are passed on.
        stations: Where to.

    Returns:
        The same with ``station`` in the place of latitude and longitude; latitude, longitude and elevation are station coordinates.
    """
    latitude = np.array([s.latitude for s in stations])
    longitude = np.array([s.longitude for s in stations])
    moved: dict[str, xr.DataArray] = {}
    for name, field in fields.data_vars.items():
        if not {LATITUDE, LONGITUDE} <= set(field.dims):
            moved[str(name)] = field
            continue
        dims = [d for d in field.dims if d not in (LATITUDE, LONGITUDE)]
        values = to_points(field, latitude, longitude, method_for(str(name)))
        coords = {k: c for k, c in field.coords.items() if not {LATITUDE, LONGITUDE} & set(c.dims)}
        there = xr.DataArray(values, dims=(*dims, STATION), coords=coords, attrs=field.attrs)
        moved[str(name)] = there.transpose(*(STATION if d == LATITUDE else d for d in field.dims if d != LONGITUDE))
    return xr.Dataset(moved, attrs=fields.attrs).assign_coords(station_coordinates(stations))


def to_grid(fields: xr.Dataset, latitude: np.ndarray, longitude: np.ndarray) -> xr.Dataset:
    """Every variable of a gridded dataset on another latitude-longitude grid, by :func:`method_for` each.

    Args:
        fields: ``VARIABLE(..., latitude, longitude)``.
        latitude: Target axis, degrees_north, descending, shape (Y,).
        longitude: Target axis, degrees_east, ascending, shape (X,).

    Returns:
        The same dimensions on the target axes, NaN outside the source.

    Raises:
        QualityError: A variable has no latitude or longitude.
    """
    same = np.array_equal(fields[LATITUDE].values, latitude) and np.array_equal(fields[LONGITUDE].values, longitude)
    if same:
        return fields
    mesh_latitude, mesh_longitude = (axis.ravel() for axis in np.meshgrid(latitude, longitude, indexing="ij"))
    moved: dict[str, xr.DataArray] = {}
    for name, field in fields.data_vars.items():
        if not {LATITUDE, LONGITUDE} <= set(field.dims):
            raise QualityError(f"{name} has dimensions {field.dims}; a gridded field needs latitude and longitude.")
        dims = [d for d in field.dims if d not in (LATITUDE, LONGITUDE)]
        values = to_points(field, mesh_latitude, mesh_longitude, method_for(str(name)))
        values = values.reshape(*values.shape[:-1], latitude.size, longitude.size)
        coords = {k: c for k, c in field.coords.items() if not {LATITUDE, LONGITUDE} & set(c.dims)}
        there = xr.DataArray(values, dims=(*dims, LATITUDE, LONGITUDE), coords=coords, attrs=field.attrs)
        moved[str(name)] = there.transpose(*field.dims)
    return xr.Dataset(moved, attrs=fields.attrs).assign_coords({LATITUDE: latitude, LONGITUDE: longitude})


def station_coordinates(stations: tuple[Station, ...]) -> dict[str, xr.DataArray]:
    """The coordinates every dataset at stations carries: station, its name, latitude, longitude and elevation."""
    table = {
        STATION: np.array([s.id for s in stations], dtype=object),
        "station_name": np.array([s.name for s in stations], dtype=object),
        LATITUDE: np.array([s.latitude for s in stations]),
        LONGITUDE: np.array([s.longitude for s in stations]),
        "elevation": np.array([s.elevation for s in stations]),
    }
    return {name: xr.DataArray(values, dims=(STATION,), attrs=attributes(name)) for name, values in table.items()}
