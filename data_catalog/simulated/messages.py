"""Station reports as they are sent: SYNOP in BUFR, METAR as the Aviation Weather Center lists it, automatic gauges in CSV.

The inverse of :mod:`data_catalog.bufr`, :mod:`data_catalog.sources.metar` and :mod:`data_catalog.sources.gauges`, for the reports of one
hour. A value that is NaN is left out: a blank is unknown, never zero.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from data_catalog.observations import KELVIN, KNOT, MILE
from data_catalog.simulated.network import COVER, FAR_MILES, GUST_HOURS, METAR, by_hand, has_metar, has_synop
from data_catalog.stations import Station
from data_catalog.variables import VARIABLES

_TEMPLATE: Final = 307080  # synoptic reports from fixed land stations (WMO-No. 306, volume I.2, B/C1)
_TABLES: Final = 33
_AUTOMATIC, _MANNED = 0, 1  # code table 0 02 001
_TEMPORALLY_AVERAGED: Final = 2  # code table 0 08 021
_GUST_KNOTS: Final = 10  # above the mean wind, from which METAR states a gust (ICAO Annex 3, appendix 3, 4.1.5.2)
_FEET_PER_KELVIN: Final = 400.0  # of the cloud base above the ground, by the dew point depression

Values = Mapping[str, float]
"""What one station reports, by variable in catalog units, and the hours of its intervals as ``<VARIABLE>_interval``."""


def synop(stations: Sequence[Station], time: np.datetime64, values: Sequence[Values]) -> bytes:
    """The SYNOP of an hour, one BUFR message a station that has one.

    Args:
        stations: Who reports.
        time: UTC.
        values: What each says.
    """
    reporting = [(station, said) for station, said in zip(stations, values, strict=True) if has_synop(station) and said]
    return b"".join(_bufr(_synop_keys(station, time, said)) for station, said in reporting)


def _bufr(keys: Mapping[str, float | int]) -> bytes:
    """One message in edition 4."""
    import eccodes

    handle = eccodes.codes_bufr_new_from_samples("BUFR4")
    try:
        for key, number in (("masterTablesVersionNumber", _TABLES), ("dataCategory", 0), ("internationalDataSubCategory", 2)):
            eccodes.codes_set(handle, key, number)
        eccodes.codes_set_array(handle, "inputDelayedDescriptorReplicationFactor", [0, 0, 0])
        eccodes.codes_set(handle, "unexpandedDescriptors", _TEMPLATE)
        for key, value in keys.items():
            if np.isfinite(value):
                eccodes.codes_set(handle, key, value)
        eccodes.codes_set(handle, "pack", 1)
        return bytes(eccodes.codes_get_message(handle))
    finally:
        eccodes.codes_release(handle)


def _synop_keys(station: Station, time: np.datetime64, said: Values) -> dict[str, float | int]:
    """Keys of ecCodes and their values, in the units of BUFR; those of a period come after the period."""
    number, moment = station.aliases["synop"], time.astype("datetime64[m]").item()

    def get(name: str, factor: float = 1.0, offset: float = 0.0) -> float:
        return said.get(name, np.nan) * factor + offset

    def length(name: str) -> int:
        return -round(said.get(f"{name}_interval", 1.0))

    keys: dict[str, float | int] = {
        "blockNumber": int(number[:2]), "stationNumber": int(number[2:]), "stationType": _MANNED if by_hand(station) else _AUTOMATIC,
        "year": moment.year, "month": moment.month, "day": moment.day, "hour": moment.hour, "minute": moment.minute,
        "latitude": station.latitude, "longitude": station.longitude, "heightOfStationGroundAboveMeanSeaLevel": station.elevation,
        "pressureReducedToMeanSeaLevel": get("pressure_reduced_to_mean_sea_level"),
        "airTemperature": get("temperature_2m", offset=KELVIN), "dewpointTemperature": get("dew_point_temperature_2m", offset=KELVIN),
        "horizontalVisibility": get("visibility"), "#1#cloudCoverTotal": get("total_cloud_cover_atmosphere"),
        "#4#timePeriod": length("precipitation_amount"),
        "#1#totalPrecipitationOrTotalWaterEquivalent": get("precipitation_amount"),
        "#6#timePeriod": length("temperature_2m_max"), "#7#timePeriod": 0,
        "maximumTemperatureAtHeightAndOverPeriodSpecified": get("temperature_2m_max", offset=KELVIN),
        "#8#timePeriod": length("temperature_2m_min"), "#9#timePeriod": 0,
        "minimumTemperatureAtHeightAndOverPeriodSpecified": get("temperature_2m_min", offset=KELVIN),
        "#1#timeSignificance": _TEMPORALLY_AVERAGED, "#10#timePeriod": -10,
        "windDirection": get("wind_from_direction_10m"), "windSpeed": get("wind_speed_10m"),
        "#11#timePeriod": -round(60.0 * GUST_HOURS), "#1#maximumWindGustSpeed": get("wind_gust_10m"),
        "#14#timePeriod": -1,
        "#1#globalSolarRadiationIntegratedOverPeriodSpecified": get("downward_short_wave_radiation_flux_surface", 3600.0),
    }  # fmt: skip
    whole = ("windDirection", "#1#cloudCoverTotal")
    return {key: round(value) if key in whole and np.isfinite(value) else value for key, value in keys.items()}


def metar(stations: Sequence[Station], time: np.datetime64, available: np.datetime64, values: Sequence[Values]) -> bytes:
    """The METAR of an hour as the Aviation Weather Center's JSON, the report itself among them as ``rawOb``.

    Args:
        stations: Who reports; aerodromes are taken.
        time: UTC.
        available: When they were received, UTC.
        values: What each says.
    """
    reporting = [(station, said) for station, said in zip(stations, values, strict=True) if has_metar(station) and said]
    rows = [_metar_row(station, time, available, said) for station, said in reporting]
    return (json.dumps(rows, indent=1) + "\n").encode()


def _metar_row(station: Station, time: np.datetime64, available: np.datetime64, said: Values) -> dict[str, Any]:
    code = station.aliases["metar"]
    knots, gust = round(said["wind_speed_10m"] / KNOT), int(said["wind_gust_10m"] / KNOT)
    direction, gusts = round(said["wind_from_direction_10m"]), gust >= knots + _GUST_KNOTS
    warm, dew, pressure = (
        round(said[name] * factor)
        for name, factor in (("temperature_2m", 1), ("dew_point_temperature_2m", 1), ("pressure_reduced_to_mean_sea_level", 0.01))
    )
    miles = said["visibility"] / MILE
    cover = next(name for name, percent in COVER.items() if abs(percent - said["total_cloud_cover_atmosphere"]) < 0.01)
    base = 100 * round(max(_FEET_PER_KELVIN * (warm - dew), 200.0) / 100.0)
    metres = "9999" if miles > FAR_MILES - 0.01 else f"{50 * round(said['visibility'] / 50.0):04d}"
    weather = "RA " if said.get("precipitation_amount", 0.0) > 0 else "FG " if int(metres) < 1000 else "BR " if int(metres) < 5000 else ""
    sky = cover if cover == "NSC" else f"{cover}{base // 100:03d}"
    moment = time.astype("datetime64[m]").item()
    wind = f"{direction:03d}{knots:02d}{f'G{gust:02d}' * gusts}KT"
    degrees = f"{'M' * (warm < 0)}{abs(warm):02d}/{'M' * (dew < 0)}{abs(dew):02d}"
    raw = f"METAR {code} {moment:%d%H%M}Z {wind} {metres} {weather}{sky} {degrees} Q{pressure:04d} NOSIG"
    return {
        "icaoId": code, "receiptTime": f"{available.astype('datetime64[s]')}Z", "obsTime": int(time.astype("datetime64[s]").astype(int)),
        "metarType": "METAR", "rawOb": raw, "temp": warm, "dewp": dew, "wdir": direction, "wspd": knots,
        "wgst": gust if gusts else None, "visib": f"{FAR_MILES:g}+" if metres == "9999" else round(miles, 2), "altim": pressure,
        "lat": station.latitude, "lon": station.longitude, "elev": station.elevation,
        "clouds": [{"cover": cover, "base": None if cover == "NSC" else base}],
    }  # fmt: skip


def gauges(stations: Sequence[Station], time: np.datetime64, variables: Sequence[str], values: Sequence[Values]) -> bytes:
    """What automatic gauges log in an hour: all that a station without SYNOP measures and does not put into a METAR.

    Args:
        stations: Who reports.
        time: UTC.
        variables: Columns.
        values: What each says; intervals are of one hour.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    units = [f"{name} [{VARIABLES[name].units}{' in 1 h' * VARIABLES[name].has_interval}]" for name in variables]
    writer.writerow(["station", "time [UTC]", *units])
    for station, said in zip(stations, values, strict=True):
        if said and not has_synop(station):
            elsewhere = METAR if has_metar(station) else ()
            cells = [f"{said[name]:.6g}" if name in said and name not in elsewhere else "" for name in variables]
            writer.writerow([station.id, str(time.astype("datetime64[m]")).replace("T", " "), *cells])
    return text.getvalue().encode()
