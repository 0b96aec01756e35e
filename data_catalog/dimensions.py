"""The words for dimensions and coordinates, once, with their CF attributes.

Names follow dynamical.org's public archives, so that their stores open here without renaming; the formal word stands in
``standard_name`` (CF conventions 1.12, appendix of standard names).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

Dimension = Literal[
    "init_time", "lead_time", "time", "ensemble_member", "latitude", "longitude", "station", "quantile", "forecaster",
    "window", "threshold", "source", "variable", "bounds",
]

INIT_TIME: Final = "init_time"
LEAD_TIME: Final = "lead_time"
VALID_TIME: Final = "valid_time"
TIME: Final = "time"
AVAILABLE_TIME: Final = "available_time"
ENSEMBLE_MEMBER: Final = "ensemble_member"
LATITUDE: Final = "latitude"
LONGITUDE: Final = "longitude"
STATION: Final = "station"
QUANTILE: Final = "quantile"
FORECASTER: Final = "forecaster"
WINDOW: Final = "window"
THRESHOLD: Final = "threshold"
BOUNDS: Final = "bounds"

GRID: Final = (LATITUDE, LONGITUDE)
"""The two dimensions of a gridded place; the other kind of place is :data:`STATION`."""

_ATTRIBUTES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        INIT_TIME: {"standard_name": "forecast_reference_time", "long_name": "start of the forecast, UTC"},
        LEAD_TIME: {"standard_name": "forecast_period", "long_name": "valid time minus init time"},
        VALID_TIME: {"standard_name": "time", "long_name": "time the forecast applies to, UTC"},
        TIME: {"standard_name": "time", "long_name": "time of the observation or analysis, UTC", "axis": "T"},
        AVAILABLE_TIME: {"long_name": "time at which the data was at hand, UTC"},
        ENSEMBLE_MEMBER: {"standard_name": "realization", "long_name": "equally likely scenario", "units": "1", "axis": "E"},
        LATITUDE: {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
        LONGITUDE: {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
        STATION: {"long_name": "observing place", "cf_role": "timeseries_id"},
        QUANTILE: {"long_name": "quantile level of the predictive distribution, 0 to 1", "units": "1"},
        FORECASTER: {"long_name": "forecaster that issued the distribution"},
        WINDOW: {"long_name": "length of the window ending at valid time"},
        THRESHOLD: {"long_name": "threshold that the value has to exceed"},
        "elevation": {"standard_name": "surface_altitude", "long_name": "height of the ground above sea level", "units": "m"},
    }
)


def attributes(name: str) -> dict[str, Any]:
    """CF attributes of a dimension or coordinate, ``{}`` for one that has none.

    Args:
        name: A name of this module.

    Returns:
        A new dictionary that the caller may change.
    """
    return dict(_ATTRIBUTES.get(name, {}))
