"""DWD ICON and ICON-EPS: one bzip2 file per variable and lead (with all members), no index, on an icosahedral grid.

Only the grid of triangles covers the globe, so the nearest cell is taken at the points of a regular lattice of about its spacing; the
files CLAT and CLON of a cycle say where its cells are. Totals and means run from the start of the forecast. Files stay for about a day.
The members of the ensemble have the numbers 1 to 40, none is a control.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np

from data_catalog.sources.base import Coordinates, GridSpec, Host, day_and_hour, lead_steps
from data_catalog.sources.gribfiles import GribSource

NAMES: Final = MappingProxyType(
    {
        "temperature_2m": "t_2m",
        "dew_point_temperature_2m": "td_2m",
        "wind_u_10m": "u_10m",
        "wind_v_10m": "v_10m",
        "wind_gust_10m": "vmax_10m",
        "pressure_reduced_to_mean_sea_level": "pmsl",
        "total_cloud_cover_atmosphere": "clct",
        "precipitation_amount": "tot_prec",
    }
)
"""Our variables in DWD's words. Short wave comes in parts, and of the ensemble net of what is reflected: not ours."""


def icon_path(init_time: np.datetime64, name: str, lead_hours: int | None = None) -> str:
    """Path of a file of ICON; without a lead that of a field which is the same for all."""
    stamp, hour = "".join(day_and_hour(init_time)), day_and_hour(init_time)[1]
    kind = f"time-invariant_{stamp}" if lead_hours is None else f"single-level_{stamp}_{lead_hours:03d}"
    return f"icon/grib/{hour}/{name}/icon_global_icosahedral_{kind}_{name.upper()}.grib2.bz2"


def eps_path(init_time: np.datetime64, name: str, lead_hours: int | None = None) -> str:
    """Path of a file of ICON-EPS, whose names are in small letters to the end."""
    stamp, hour = "".join(day_and_hour(init_time)), day_and_hour(init_time)[1]
    kind = f"time-invariant_{stamp}" if lead_hours is None else f"single-level_{stamp}_{lead_hours:03d}"
    return f"icon-eps/grib/{hour}/{name}/icon-eps_global_icosahedral_{kind}_{name}.grib2.bz2"


def _last_lead(init_time: np.datetime64) -> int:
    return 120 if day_and_hour(init_time)[1] in ("06", "18") else 180


_ICON: Final = GridSpec(
    dataset="dwd-icon-global",
    title="DWD ICON",
    hosts=(Host("https://opendata.dwd.de/weather/nwp", connections=4),),
    cycles=(0, 6, 12, 18),
    delay_hours=4.0,
    lead_hours=lead_steps((0, 180, 3)),  # of hourly to 78 h and 3-hourly after
    members=1,
    variables=tuple(NAMES),
    not_at_start=("wind_gust_10m",),
    grid="0p125",  # of cells 13 km across
    licence="Deutscher Wetterdienst, CC BY 4.0",
)
_EPS: Final = replace(
    _ICON,
    dataset="dwd-icon-eps",
    title="DWD ICON ensemble",
    delay_hours=5.0,
    lead_hours=lead_steps((0, 72, 3), (78, 120, 6), (132, 180, 12)),
    members=40,
    first_number=1,
    variables=tuple(name for name in NAMES if name != "pressure_reduced_to_mean_sea_level"),
    grid="0p25",  # of cells 26 km across
)

SOURCES: Final = (
    GribSource(
        _ICON,
        lambda init_time, key: (icon_path(init_time, NAMES[key.variable], key.lead_hours),),
        None,
        _last_lead,
        lambda init_time: Coordinates(icon_path(init_time, "clat"), icon_path(init_time, "clon"), 0.125),
    ),
    GribSource(
        _EPS,
        lambda init_time, key: (eps_path(init_time, NAMES[key.variable], key.lead_hours),),
        None,
        _last_lead,
        lambda init_time: Coordinates(eps_path(init_time, "clat"), eps_path(init_time, "clon"), 0.25),
    ),
)
