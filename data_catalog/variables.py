"""The variables of the catalog: names, units, CF attributes, kind of interval and believable range.

Names are dynamical.org's where it has one. Standard names and cell methods follow the CF standard-name table; a test holds
them against it. The believable range is wide on purpose: it is there to catch wrong units and broken decoding, and true extremes
(985 hPa and gusts of 89 km/h in Yagi 2024, 41.5 °C at Láng in April 2024) pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Kind = Literal["instant", "mean", "sum", "maximum", "minimum"]


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the catalog.

    Attributes:
        name: The one word used in every store.
        units: UDUNITS text, exactly as written to ``units``.
        standard_name: CF standard name, or None where the table has none.
        long_name: What a person reads.
        kind: What a value is over its interval: an instant, a mean, a sum, or an extreme.
        minimum: Smallest believable value, in ``units``.
        maximum: Largest believable value, in ``units``.
        lower_bound: A value the physics cannot pass (0 for rain and wind), or None.
        upper_bound: Likewise above (100 for a percentage), or None.
        vietnamese: The Vietnamese name shown on the page.
    """

    name: str
    units: str
    standard_name: str | None
    long_name: str
    kind: Kind
    minimum: float
    maximum: float
    lower_bound: float | None = None
    upper_bound: float | None = None
    vietnamese: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether a value belongs to an interval: then it is missing, never zero, at lead 0."""
        return self.kind != "instant"

    @property
    def cell_methods(self) -> str:
        """CF ``cell_methods`` over time."""
        return {"instant": "time: point"}.get(self.kind, f"time: {self.kind}")

    def attributes(self) -> dict[str, Any]:
        """CF attributes for a store, as a new dictionary."""
        found: dict[str, Any] = {"units": self.units, "long_name": self.long_name, "cell_methods": self.cell_methods}
        if self.standard_name:
            found["standard_name"] = self.standard_name
        return found


_ALL: Final = (
    Variable("temperature_2m", "degree_Celsius", "air_temperature", "air temperature at 2 m", "instant",
             -60.0, 60.0, vietnamese="Nhiệt độ"),
    Variable("temperature_2m_max", "degree_Celsius", "air_temperature", "highest air temperature at 2 m", "maximum",
             -60.0, 60.0, vietnamese="Nhiệt độ cao nhất"),
    Variable("temperature_2m_min", "degree_Celsius", "air_temperature", "lowest air temperature at 2 m", "minimum",
             -60.0, 60.0, vietnamese="Nhiệt độ thấp nhất"),
    Variable("dew_point_temperature_2m", "degree_Celsius", "dew_point_temperature", "dew point temperature at 2 m", "instant",
             -80.0, 40.0, vietnamese="Điểm sương"),
    Variable("relative_humidity_2m", "percent", "relative_humidity", "relative humidity at 2 m", "instant",
             0.0, 110.0, 0.0, 100.0, vietnamese="Độ ẩm tương đối"),
    Variable("wind_u_10m", "m s-1", "eastward_wind", "eastward wind at 10 m", "instant",
             -90.0, 90.0, vietnamese="Gió vĩ hướng"),
    Variable("wind_v_10m", "m s-1", "northward_wind", "northward wind at 10 m", "instant",
             -90.0, 90.0, vietnamese="Gió kinh hướng"),
    Variable("wind_speed_10m", "m s-1", "wind_speed", "wind speed at 10 m", "instant",
             0.0, 90.0, 0.0, vietnamese="Tốc độ gió"),
    Variable("wind_from_direction_10m", "degree", "wind_from_direction", "direction the wind at 10 m comes from, 0 for calm", "instant",
             0.0, 360.0, vietnamese="Hướng gió"),
    Variable("wind_speed_100m", "m s-1", "wind_speed", "wind speed at 100 m", "instant",
             0.0, 110.0, 0.0, vietnamese="Tốc độ gió ở 100 m"),
    Variable("wind_gust_10m", "m s-1", "wind_speed_of_gust", "wind gust at 10 m", "instant",
             0.0, 120.0, 0.0, vietnamese="Gió giật"),
    Variable("pressure_reduced_to_mean_sea_level", "Pa", "air_pressure_at_mean_sea_level", "pressure reduced to mean sea level",
             "instant", 85000.0, 110000.0, vietnamese="Khí áp mặt biển"),
    Variable("total_cloud_cover_atmosphere", "percent", "cloud_area_fraction", "total cloud cover", "instant",
             0.0, 100.5, 0.0, 100.0, vietnamese="Lượng mây"),
    Variable("precipitation_surface", "kg m-2 s-1", "precipitation_flux", "precipitation rate, mean over the interval", "mean",
             0.0, 0.15, 0.0, vietnamese="Cường độ mưa"),
    Variable("precipitation_amount", "kg m-2", "precipitation_amount", "precipitation over the interval", "sum",
             0.0, 2500.0, 0.0, vietnamese="Lượng mưa"),
    Variable("downward_short_wave_radiation_flux_surface", "W m-2", "surface_downwelling_shortwave_flux_in_air",
             "downward short-wave radiation at the surface, mean over the interval", "mean",
             0.0, 1500.0, 0.0, vietnamese="Bức xạ mặt trời"),
    Variable("convective_available_potential_energy", "J kg-1", "atmosphere_convective_available_potential_energy",
             "convective available potential energy", "instant", 0.0, 15000.0, 0.0, vietnamese="Năng lượng đối lưu"),
    Variable("precipitable_water", "kg m-2", "atmosphere_mass_content_of_water_vapor", "precipitable water", "instant",
             0.0, 120.0, 0.0, vietnamese="Lượng nước khả giáng"),
    Variable("visibility", "m", "visibility_in_air", "visibility", "instant", 0.0, 200000.0, 0.0, vietnamese="Tầm nhìn xa"),
)

VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType({variable.name: variable for variable in _ALL})
"""Every variable of the catalog by name, in the order people expect to see them."""

TRACE: Final = 0.025
"""kg m-2 kept for a trace: rain that is less than 0.05 and cannot be measured (WMO-No. 306, BUFR 0 13 011 note, and FM 12 RRR = 990)."""


def attributes(name: str) -> dict[str, Any]:
    """CF attributes of a variable by name, ``{}`` for one that the catalog does not have (kept as decoded, on request)."""
    variable = VARIABLES.get(name)
    return variable.attributes() if variable else {}
