"""ECMWF open data: IFS and AIFS, single and ensemble; one GRIB2 file per step, and an ``.index`` of one JSON object a line beside it.

A line has ``_offset`` and ``_length`` and MARS keywords, all of them text: ``param``, ``levtype``, ``step``, ``date``, ``time``, and
``number`` for perturbed members only. Read from real index files of 2025-03-01; when files moved, from the projects that read them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from data_catalog.errors import SourceError
from data_catalog.sources.base import FieldKey, GridSpec, Host, day_and_hour, lead_steps
from data_catalog.sources.gribfiles import GribSource, Index, Range

PARAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2t": "temperature_2m",
        "2d": "dew_point_temperature_2m",
        "10u": "wind_u_10m",
        "10v": "wind_v_10m",
        "i10fg": "wind_gust_10m",
        "msl": "pressure_reduced_to_mean_sea_level",
        "tcc": "total_cloud_cover_atmosphere",
        "tp": "precipitation_amount",
        "ssrd": "downward_short_wave_radiation_flux_surface",
        "tcwv": "precipitable_water",
    }
)
"""Surface parameters of ours; ``tp`` (m or mm) and ``ssrd`` (J m-2) accumulate from the start of the forecast."""


@dataclass(frozen=True, slots=True)
class IndexLine:
    """One line of an ``.index`` file.

    Attributes:
        init: ``YYYYMMDDHHMM``, "" where the line does not say.
        param: MARS short name.
        levtype: ``sfc`` for everything at the surface or near it.
        step_hours: End of the step.
        member: 0 for the control or the only member, then ``number``.
        start: First byte.
        stop: Byte after the last.
    """

    init: str
    param: str
    levtype: str
    step_hours: int
    member: int
    start: int
    stop: int


def parse_index(text: str) -> list[IndexLine]:
    """Read an ``.index`` file.

    Args:
        text: The file.

    Returns:
        Its lines in order.

    Raises:
        SourceError: A line is no JSON object with the keywords of such an index.
    """
    return [_line(raw) for raw in text.splitlines() if raw.strip()]


def _line(raw: str) -> IndexLine:
    try:
        line: dict[str, Any] = json.loads(raw)
        start, length = int(line["_offset"]), int(line["_length"])
        step = int(str(line["step"]).rpartition("-")[2])
        init = f"{line.get('date', '')}{line.get('time', '')}"
        return IndexLine(init, line["param"], line["levtype"], step, int(line.get("number", 0)), start, start + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"Not a line of an .index file: {raw[:80]!r} ({error!r}); expected JSON with param, step, _offset and _length."
        ) from error


def find_fields(text: str, init_time: np.datetime64, wanted: Collection[FieldKey]) -> dict[FieldKey, Range]:
    """Find fields in an ``.index`` file; of two lines for one field the first is taken, lines of another cycle are passed over.

    Raises:
        SourceError: The text is no index.
    """
    init = "".join(day_and_hour(init_time)) + "00"
    found: dict[FieldKey, Range] = {}
    for line in parse_index(text):
        key = FieldKey(PARAMS.get(line.param, ""), line.step_hours, line.member)
        if key in wanted and line.levtype == "sfc" and line.init in (init, ""):
            found.setdefault(key, (line.start, line.stop))
    return found


INDEX: Final = Index(lambda url: f"{url.removesuffix('.grib2')}.index", find_fields)

_ONE_CONTROL: Final = np.datetime64("2026-05-12T06")
"""Cycle 50r1: the control of the ensemble is the high-resolution forecast, and that is called oper in all four cycles and goes to 144 h."""


def path(init_time: np.datetime64, lead_hours: int, model: str, stream: str, kind: str) -> str:
    """Path of a file: ``YYYYMMDD/HHz/{model}/0p25/{stream}/YYYYMMDDHH0000-{step}h-{stream}-{kind}.grib2``.

    Args:
        init_time: Start of the forecast, UTC, not before 2024-02-01 when the resolution became 0.25 degrees.
        lead_hours: Step.
        model: ``ifs``, ``aifs-single`` or ``aifs-ens``; the folder of AIFS changed its name twice in February 2025, that of IFS came on
            2024-02-29.
        stream: ``oper``, ``scda`` or ``enfo``.
        kind: ``fc``, ``ef``, ``cf`` or ``pf``.
    """
    day, hour = day_and_hour(init_time)
    folder = f"{model}/0p25/{stream}"
    if model == "ifs" and init_time < np.datetime64("2024-02-29"):
        folder = f"0p25/{stream}"
    elif model == "aifs-single" and init_time < np.datetime64("2025-02-09T12"):
        folder = f"aifs/0p25/{stream}"
    elif model == "aifs-single" and init_time < np.datetime64("2025-02-25T06"):
        folder = f"aifs-single/0p25/experimental/{stream}"
    return f"{day}/{hour}z/{folder}/{day}{hour}0000-{lead_hours}h-{stream}-{kind}.grib2"


def ens_path(init_time: np.datetime64, lead_hours: int) -> str:
    """Path of an IFS ensemble file."""
    return path(init_time, lead_hours, "ifs", "enfo", "ef")


def _is_short(init_time: np.datetime64) -> bool:
    return day_and_hour(init_time)[1] in ("06", "18")


def _hres_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    stream = "scda" if _is_short(init_time) and init_time < _ONE_CONTROL else "oper"
    return (path(init_time, key.lead_hours, "ifs", stream, "fc"),)


def _ens_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    if key.member == 0 and init_time >= _ONE_CONTROL:
        return (path(init_time, key.lead_hours, "ifs", "oper", "fc"),)
    return (ens_path(init_time, key.lead_hours),)


def _aifs_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return (path(init_time, key.lead_hours, "aifs-single", "oper", "fc"),)


def _aifs_ens_places(init_time: np.datetime64, key: FieldKey) -> tuple[str, ...]:
    return (path(init_time, key.lead_hours, "aifs-ens", "enfo", "pf" if key.member else "cf"),)


def _hres_last_lead(init_time: np.datetime64) -> int:
    return 240 if not _is_short(init_time) else 144 if init_time >= _ONE_CONTROL else 90


def _ens_last_lead(init_time: np.datetime64) -> int:
    return 144 if _is_short(init_time) else 240


def ens(spec: GridSpec) -> GribSource:
    """A source in the layout of the IFS ensemble before Cycle 50r1."""
    return GribSource(spec, lambda init_time, key: (ens_path(init_time, key.lead_hours),), INDEX)


_ENS: Final = GridSpec(
    dataset="ecmwf-ifs-ens",
    title="ECMWF IFS ensemble",
    hosts=(  # the portal serves all the world with 500 connections; the fourth copy, on Azure, needs a signature
        Host("https://ecmwf-forecasts.s3.eu-central-1.amazonaws.com", connections=16),
        Host("https://storage.googleapis.com/ecmwf-open-data", connections=16),
        Host("https://data.ecmwf.int/forecasts", connections=4),
    ),
    cycles=(0, 6, 12, 18),
    delay_hours=8.7,
    lead_hours=lead_steps((0, 144, 3), (150, 240, 6)),  # of those to 360 h
    members=51,
    variables=tuple(name for name in PARAMS.values() if name != "wind_gust_10m"),
    since=np.datetime64("2024-02-01T00"),
    licence="ECMWF open data, CC BY 4.0",
)
_HRES: Final = replace(_ENS, dataset="ecmwf-ifs-hres", title="ECMWF IFS high resolution", delay_hours=7.7, members=1)
_AIFS: Final = replace(
    _ENS,
    dataset="ecmwf-aifs-single",
    title="ECMWF AIFS",
    delay_hours=6.4,
    lead_hours=lead_steps((0, 240, 6)),
    members=1,
    variables=tuple(name for name in _ENS.variables if name != "precipitable_water"),
    since=np.datetime64("2025-02-25T06"),  # before, without radiation and cloud
)
_AIFS_ENS: Final = replace(
    _AIFS, dataset="ecmwf-aifs-ens", title="ECMWF AIFS ensemble", delay_hours=7.5, members=51, since=np.datetime64("2025-07-02T00")
)

SOURCES: Final = (
    GribSource(_HRES, _hres_places, INDEX, _hres_last_lead),
    GribSource(_ENS, _ens_places, INDEX, _ens_last_lead),
    GribSource(_AIFS, _aifs_places, INDEX),
    GribSource(_AIFS_ENS, _aifs_ens_places, INDEX),
)
