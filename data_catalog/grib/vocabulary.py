"""From the numbers in GRIB headers to the names and units of the catalog, and to the names of datasets.

Numbers, not the names that a decoding library gives them: numbers are the standard and do not change between releases. WMO
numbers come from code tables 4.2 (GRIB 2) and 2 (GRIB 1), local ones from NCEP's and ECMWF's published tables (table 128 and its kin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from data_catalog.grib.messages import ACCUMULATION, AVERAGE, INSTANT, MAXIMUM, MINIMUM, UNSTATED, Header
from data_catalog.variables import VARIABLES

NCEP: Final = 7
ECMWF: Final = 98
_KELVIN: Final = -273.15
_GROUND: Final = (1,)
_SEA: Final = (101, 102)                # mean sea level in GRIB 2 and in GRIB 1
_COLUMN: Final = (1, 10, 200)           # the whole atmosphere; ECMWF files it under the surface, NCEP has a type of its own
_ABOVE: Final = (103, 105)              # metres above ground in GRIB 2 and in GRIB 1

_EXTREMES: Final[dict[int | None, str]] = {MAXIMUM: "maximum", MINIMUM: "minimum"}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a field is in the catalog.

    Attributes:
        variable: A name of :mod:`data_catalog.variables`.
        process: What the value is over its interval: instant, mean, sum, maximum or minimum. The sum of a variable whose kind is
            "mean" is its integral over seconds.
        scale: Catalog value = decoded value times ``scale`` plus ``offset``.
        offset: See ``scale``.
        hours: Length of the interval where the number itself states it and the header does not.
    """

    variable: str
    process: str
    scale: float = 1.0
    offset: float = 0.0
    hours: int = 0


@dataclass(frozen=True, slots=True)
class _Rule:
    surfaces: tuple[int, ...]
    level: float | None
    meanings: dict[int | None, Meaning]
    centre: int | None = None


def _rule(
    variable: str, surfaces: tuple[int, ...], level: float | None, *statistics: int | None,
    scale: float = 1.0, offset: float = 0.0, centre: int | None = None, hours: int = 0, process: str = "",
) -> _Rule:    # fmt: skip
    names: dict[int | None, str] = {INSTANT: "instant", AVERAGE: "mean", ACCUMULATION: "sum", **_EXTREMES}
    kind = VARIABLES[variable].kind
    meanings = {one: Meaning(variable, process or names.get(one, kind), scale, offset, hours) for one in statistics}
    return _Rule(surfaces, level, meanings, centre)


_MAX, _MIN = (MAXIMUM, UNSTATED), (MINIMUM, UNSTATED)

_WMO2: Final[dict[tuple[int, int, int], tuple[_Rule, ...]]] = {
    (0, 0, 0): (
        _rule("temperature_2m", _ABOVE, 2, INSTANT, offset=_KELVIN),
        _rule("temperature_2m_max", _ABOVE, 2, MAXIMUM, offset=_KELVIN),
        _rule("temperature_2m_min", _ABOVE, 2, MINIMUM, offset=_KELVIN),
    ),
    (0, 0, 4): (_rule("temperature_2m_max", _ABOVE, 2, *_MAX, offset=_KELVIN),),
    (0, 0, 5): (_rule("temperature_2m_min", _ABOVE, 2, *_MIN, offset=_KELVIN),),
    (0, 0, 6): (_rule("dew_point_temperature_2m", _ABOVE, 2, INSTANT, offset=_KELVIN),),
    (0, 1, 1): (_rule("relative_humidity_2m", _ABOVE, 2, INSTANT),),
    (0, 1, 3): (_rule("precipitable_water", _COLUMN, None, INSTANT),),
    (0, 1, 64): (_rule("precipitable_water", _COLUMN, None, INSTANT),),
    (0, 1, 7): (_rule("precipitation_surface", _GROUND, None, AVERAGE),),
    (0, 1, 8): (_rule("precipitation_amount", _GROUND, None, ACCUMULATION),),
    (0, 1, 52): (
        _rule("precipitation_surface", _GROUND, None, AVERAGE),
        _rule("precipitation_amount", _GROUND, None, ACCUMULATION),
    ),
    (0, 1, 193): (
        _rule("precipitation_surface", _GROUND, None, AVERAGE, scale=1000.0, centre=ECMWF),
        _rule("precipitation_amount", _GROUND, None, ACCUMULATION, scale=1000.0, centre=ECMWF),
    ),
    (0, 2, 1): (
        _rule("wind_speed_10m", _ABOVE, 10, INSTANT),
        _rule("wind_speed_100m", _ABOVE, 100, INSTANT),
    ),
    (0, 2, 2): (_rule("wind_u_10m", _ABOVE, 10, INSTANT),),
    (0, 2, 3): (_rule("wind_v_10m", _ABOVE, 10, INSTANT),),
    (0, 2, 22): (
        _rule("wind_gust_10m", _GROUND, None, INSTANT, MAXIMUM),
        _rule("wind_gust_10m", _ABOVE, 10, INSTANT, MAXIMUM),
    ),
    (0, 3, 0): (_rule("pressure_reduced_to_mean_sea_level", _SEA, None, INSTANT),),
    (0, 3, 1): (_rule("pressure_reduced_to_mean_sea_level", _SEA, None, INSTANT),),
    (0, 4, 7): (_rule("downward_short_wave_radiation_flux_surface", _GROUND, None, AVERAGE, ACCUMULATION),),
    (0, 4, 192): (_rule("downward_short_wave_radiation_flux_surface", _GROUND, None, AVERAGE, centre=NCEP),),
    (0, 6, 1): (_rule("total_cloud_cover_atmosphere", _COLUMN, None, INSTANT),),
    (0, 6, 192): (_rule("total_cloud_cover_atmosphere", _COLUMN, None, INSTANT, scale=100.0, centre=ECMWF),),
    (0, 7, 6): (_rule("convective_available_potential_energy", _GROUND, None, INSTANT),),
    (0, 19, 0): (_rule("visibility", _GROUND, None, INSTANT),),
}

_WMO1: Final[dict[int, tuple[_Rule, ...]]] = {
    2: (_rule("pressure_reduced_to_mean_sea_level", _SEA, None, INSTANT),),
    11: (_rule("temperature_2m", _ABOVE, 2, INSTANT, offset=_KELVIN),),
    15: (_rule("temperature_2m_max", _ABOVE, 2, UNSTATED, offset=_KELVIN),),
    16: (_rule("temperature_2m_min", _ABOVE, 2, UNSTATED, offset=_KELVIN),),
    17: (_rule("dew_point_temperature_2m", _ABOVE, 2, INSTANT, offset=_KELVIN),),
    20: (_rule("visibility", _GROUND, None, INSTANT),),
    33: (_rule("wind_u_10m", _ABOVE, 10, INSTANT),),
    34: (_rule("wind_v_10m", _ABOVE, 10, INSTANT),),
    52: (_rule("relative_humidity_2m", _ABOVE, 2, INSTANT),),
    54: (_rule("precipitable_water", _COLUMN, None, INSTANT),),
    59: (_rule("precipitation_surface", _GROUND, None, AVERAGE),),
    61: (_rule("precipitation_amount", _GROUND, None, ACCUMULATION),),
    71: (_rule("total_cloud_cover_atmosphere", _COLUMN, None, INSTANT),),
    157: (_rule("convective_available_potential_energy", _GROUND, None, INSTANT, centre=NCEP),),
    180: (_rule("wind_gust_10m", _GROUND, None, INSTANT, centre=NCEP),),
    204: (_rule("downward_short_wave_radiation_flux_surface", _GROUND, None, AVERAGE, centre=NCEP),),
}
"""Tables 1, 2 and 3, where numbers below 128 are international."""


def _extreme(variable: str, hours: int, offset: float = 0.0) -> tuple[_Rule, ...]:
    kind = VARIABLES[variable].kind
    return (_rule(variable, _GROUND, None, INSTANT, UNSTATED, offset=offset, hours=hours,
                  process="maximum" if kind == "instant" else kind),)    # fmt: skip


_ECMWF1: Final[dict[tuple[int, int], tuple[_Rule, ...]]] = {
    (128, 59): (_rule("convective_available_potential_energy", _GROUND, None, INSTANT),),
    (128, 121): _extreme("temperature_2m_max", 6, _KELVIN),
    (128, 122): _extreme("temperature_2m_min", 6, _KELVIN),
    (128, 123): _extreme("wind_gust_10m", 6),
    (128, 137): (_rule("precipitable_water", _GROUND, None, INSTANT),),
    (128, 151): (_rule("pressure_reduced_to_mean_sea_level", _GROUND, None, INSTANT),),
    (128, 164): (_rule("total_cloud_cover_atmosphere", _GROUND, None, INSTANT, scale=100.0),),
    (128, 165): (_rule("wind_u_10m", _GROUND, None, INSTANT),),
    (128, 166): (_rule("wind_v_10m", _GROUND, None, INSTANT),),
    (128, 167): (_rule("temperature_2m", _GROUND, None, INSTANT, offset=_KELVIN),),
    (128, 168): (_rule("dew_point_temperature_2m", _GROUND, None, INSTANT, offset=_KELVIN),),
    (128, 169): (_rule("downward_short_wave_radiation_flux_surface", _GROUND, None, INSTANT, ACCUMULATION, process="sum"),),
    (128, 207): (_rule("wind_speed_10m", _GROUND, None, INSTANT),),
    (128, 228): (_rule("precipitation_amount", _GROUND, None, INSTANT, ACCUMULATION, process="sum", scale=1000.0),),
    (228, 26): _extreme("temperature_2m_max", 3, _KELVIN),
    (228, 27): _extreme("temperature_2m_min", 3, _KELVIN),
    (228, 28): _extreme("wind_gust_10m", 3),
    (228, 249): (_rule("wind_speed_100m", _GROUND, None, INSTANT),),
}
"""ECMWF's tables: everything at the ground is filed under the surface, and accumulations run from the start of the forecast."""


def _rules(header: Header) -> tuple[_Rule, ...]:
    discipline, table, number = header.parameter
    if discipline >= 0:
        return _WMO2.get(header.parameter, ())
    if header.centre == ECMWF and table >= 128:
        return _ECMWF1.get((table, number), ())
    return _WMO1.get(number, ()) if table <= 3 else ()


def meaning(header: Header) -> Meaning | None:
    """What a field is in the catalog, or None when the catalog has no word for it.

    The level decides as much as the number: TMP at 2 mb is not the temperature at 2 m. A mean over a day of a variable that the
    catalog knows as an instant is another quantity, and has no word either.
    """
    for rule in _rules(header):
        if rule.centre in (None, header.centre) and header.surface in rule.surfaces and rule.level in (None, header.level):
            found = rule.meanings.get(header.statistic)
            if found is not None:
                return found
    return None


def describe(header: Header) -> str:
    """A field in words, for reasons: its numbers, surface, level and statistical process."""
    discipline, category, number = header.parameter
    what = f"parameter {discipline}.{category}.{number}" if discipline >= 0 else f"parameter {number} of table {category}"
    level = "" if header.level is None else f" {header.level:g}"
    statistic = "" if header.statistic is None else f", statistic {header.statistic}" if header.statistic >= 0 else ", derived product"
    return f"{what} on surface type {header.surface}{level}{statistic}"


_PROVIDERS: Final = {
    7: "noaa", 98: "ecmwf", 78: "dwd", 34: "jma", 54: "cmc", 74: "ukmo", 84: "meteofrance", 85: "meteofrance", 38: "cma", 40: "kma",
}    # fmt: skip
_AI_CLASSES: Final = frozenset({51})
_CLASSES: Final = {23: "era5", 30: "cams", 103: "s2s"}
_ENSEMBLE_STREAMS: Final = frozenset({1035, 1081, 1122, 1030})
_ANALYSIS: Final = 2


def dataset_name(header: Header, grid: str) -> str:
    """``provider-model-variant`` of a field.

    =======  ====================================================  ===============================================
    centre   what the header says                                  name
    =======  ====================================================  ===============================================
    NCEP     an ensemble member                                    noaa-gefs-<grid>
    NCEP     generating process 81 or 96                           noaa-gfs-<grid>
    ECMWF    class ai (AIFS)                                       ecmwf-aifs-single, ecmwf-aifs-ens
    ECMWF    production status or class S2S                        ecmwf-s2s-ens
    ECMWF    class ea                                              ecmwf-era5-reanalysis, ecmwf-era5-ens
    ECMWF    type an                                               ecmwf-ifs-analysis
    ECMWF    an ensemble stream or member                          ecmwf-ifs-ens
    ECMWF    anything else                                         ecmwf-ifs-hres
    others   anything                                              <provider or centre number>-model<process>-<grid>
    =======  ====================================================  ===============================================

    NCEP's names always end in the grid (``0p25``); ECMWF's do where it is not the 0.25 degrees of its open data. So two grids of one
    model in one cycle are two datasets and cannot collide.

    Args:
        header: Of the field.
        grid: Name of its grid, as :func:`data_catalog.grib.grid.read_grid` gives it.
    """
    provider = _PROVIDERS.get(header.centre, f"centre{header.centre}")
    if header.centre == NCEP:
        model = "gefs" if header.ensemble else "gfs" if header.process in (81, 96) else f"model{header.process}"
        return f"{provider}-{model}-{grid}"
    if header.centre != ECMWF:
        return f"{provider}-model{header.process}{'ens' if header.ensemble else ''}-{grid}"
    name = f"{provider}-{_ecmwf_model(header)}"
    return name if grid == "0p25" else f"{name}-{grid}"


def _ecmwf_model(header: Header) -> str:
    kind, type_, stream = header.mars or (0, 0, 0)
    ensemble = header.ensemble or stream in _ENSEMBLE_STREAMS
    if kind in _AI_CLASSES:
        return "aifs-ens" if ensemble else "aifs-single"
    if header.status in (6, 7):
        return "s2s-ens"
    if kind in _CLASSES:
        return f"{_CLASSES[kind]}-{'ens' if ensemble else 'reanalysis'}"
    if type_ == _ANALYSIS:
        return "ifs-analysis"
    return "ifs-ens" if ensemble else "ifs-hres"
