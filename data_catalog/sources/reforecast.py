"""The GEFSv12 reforecast, 2000 to 2019: what today's NOAA GEFS would have forecast, for statistics that need years.

One file a variable and member with all leads, and an ``.idx`` beside it as NCEP writes them. Of the 16 days the first ten are in
0.25 degrees; two-metre moisture is specific humidity, for which the catalog has no word.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import numpy as np

from data_catalog.sources.base import FieldKey, GridSpec, Host, day_and_hour, lead_steps
from data_catalog.sources.gribfiles import GribSource, Index
from data_catalog.sources.ncep import NcepField, find_fields

FIELDS: Final = (
    NcepField("temperature_2m", "TMP", "2 m above ground"),
    NcepField("wind_u_10m", "UGRD", "10 m above ground"),
    NcepField("wind_v_10m", "VGRD", "10 m above ground"),
    NcepField("pressure_reduced_to_mean_sea_level", "PRES", "mean sea level"),
    NcepField("precipitation_amount", "APCP", "surface", "acc"),
    NcepField("downward_short_wave_radiation_flux_surface", "DSWRF", "surface", "ave"),
    NcepField("convective_available_potential_energy", "CAPE", "surface"),
    NcepField("precipitable_water", "PWAT", "entire atmosphere (considered as a single layer)"),
)
_STEMS: Final = MappingProxyType(
    dict(zip((field.variable for field in FIELDS),
             ("tmp_2m", "ugrd_hgt", "vgrd_hgt", "pres_msl", "apcp_sfc", "dswrf_sfc", "cape_sfc", "pwat_eatm"), strict=True))
)    # fmt: skip


def _places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    day, hour = day_and_hour(init_time)
    member = f"p{key.member:02d}" if key.member else "c00"
    folder = f"GEFSv12/reforecast/{day[:4]}/{day}{hour}/{member}/Days%3A1-10"
    return (f"{folder}/{_STEMS[key.variable]}_{day}{hour}_{member}.grib2",)


REFORECAST: Final = GribSource(
    GridSpec(
        dataset="noaa-gefs-reforecast",
        title="NOAA GEFSv12 reforecast",
        hosts=(Host("https://noaa-gefs-retrospective.s3.amazonaws.com", connections=16),),
        cycles=(0,),
        delay_hours=0.0,
        lead_hours=lead_steps((3, 240, 3)),
        members=5,
        variables=tuple(_STEMS),
        since=np.datetime64("2000-01-01T00"),
        until=np.datetime64("2019-12-31T00"),
        licence="NOAA public domain",
    ),
    _places,
    Index(lambda url: f"{url}.idx", lambda text, init_time, wanted: find_fields(text, init_time, wanted, FIELDS)),
)
