"""What each centre says before any calibration, published beside the blend: a forecaster on duty asks which one is behind a chance.

At stations every raw member is kept, member 0 being a centre's control run where it has one; on the grid a few quantiles, which is what a
meteogram of a cell draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, INIT_TIME
from models.base import to_quantiles

BOX_LEVELS: Final = np.array([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
"""Whiskers, box and median of a meteogram."""


def raw_members(sources: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Every member of every centre at stations.

    Args:
        sources: By dataset, ``VARIABLE(init_time, lead_time, station, ensemble_member)`` of one cycle, at the same stations.

    Returns:
        ``VARIABLE(forecaster, lead_time, station, ensemble_member)``, ``forecaster`` being ``raw_<dataset>``; NaN where a centre has fewer
        members than the largest or does not have the variable.
    """
    return _joined(sources)


def raw_quantiles(sources: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Quantiles of every centre's members on the grid.

    Args:
        sources: By dataset, ``VARIABLE(init_time, lead_time, latitude, longitude, ensemble_member)`` of one cycle, on the same grid.

    Returns:
        ``VARIABLE(forecaster, lead_time, latitude, longitude, quantile)`` on :data:`BOX_LEVELS`.
    """
    return _joined({name: source.map(to_quantiles, levels=BOX_LEVELS, keep_attrs=True) for name, source in sources.items()})


def _joined(sources: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts = [source.isel({INIT_TIME: 0}, drop=True).drop_vars("lead_time_bounds", errors="ignore") for source in sources.values()]
    names = np.array([f"raw_{name}" for name in sources], dtype=object)
    joined = xr.concat(parts, dim=FORECASTER, data_vars="all", coords="minimal", compat="override", join="outer")
    places = [dim for dim in joined.dims if dim not in (FORECASTER, "lead_time", ENSEMBLE_MEMBER, "quantile")]
    return joined.assign_coords({FORECASTER: names}).transpose(FORECASTER, "lead_time", *places, ...)
