"""ECMWF's open-data layout: one GRIB2 file per step with all members, and an ``.index`` of one JSON object a line beside it.

A line has ``_offset`` and ``_length`` and MARS keywords, all of them text: ``param``, ``levtype``, ``step``, ``date``, ``time``, and
``number`` for perturbed members only. Read from real index files of 2025-03-01; directories as since 2024-02-29.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from data_catalog.errors import SourceError
from data_catalog.sources.base import FieldKey, GridSpec, Plan, Span, Transport, day_and_hour, expected_keys, read_indexes

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
    }
)
"""Surface parameters of ours; ``tp`` (m) and ``ssrd`` (J m-2) accumulate from the start of the forecast."""


@dataclass(frozen=True, slots=True)
class IndexLine:
    """One line of an ``.index`` file.

    Attributes:
        param: MARS short name.
        levtype: ``sfc`` for everything at the surface or near it.
        step_hours: End of the step.
        member: 0 for the control or the only member, then ``number``.
        start: First byte.
        stop: Byte after the last.
    """

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
        step = str(line["step"]).rpartition("-")[2]
        return IndexLine(line["param"], line["levtype"], int(step), int(line.get("number", 0)), start, start + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"Not a line of an .index file: {raw[:80]!r} ({error!r}); expected JSON with param, step, _offset and _length."
        ) from error


def ens_path(init_time: np.datetime64, lead_hours: int) -> str:
    """Path of an IFS ensemble file: ``YYYYMMDD/HHz/ifs/0p25/enfo/YYYYMMDDHH0000-{step}h-enfo-ef.grib2``."""
    day, hour = day_and_hour(init_time)
    return f"{day}/{hour}z/ifs/0p25/enfo/{day}{hour}0000-{lead_hours}h-enfo-ef.grib2"


@dataclass(frozen=True, slots=True)
class EcmwfSource:
    """A source in ECMWF's open-data layout.

    Attributes:
        spec: What it declares.
        path: Path of a file from init time and step in hours, relative to the transport's base.
        params: Our variable by ECMWF's short name; those not in ``spec.variables`` are ignored.
    """

    spec: GridSpec
    path: Callable[[np.datetime64, int], str] = ens_path
    params: Mapping[str, str] = field(default_factory=lambda: PARAMS)

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        """Every field a complete cycle has; interval variables have none at lead 0."""
        return expected_keys(self.spec)

    def plan(self, init_time: np.datetime64, transport: Transport) -> Plan:
        """Read the index files of a cycle and list what to fetch.

        Raises:
            NotAvailableError: No index of this cycle is there yet.
        """
        urls = {lead: self.path(init_time, lead) for lead in self.spec.lead_hours}
        texts = read_indexes({url: f"{url.removesuffix('.grib2')}.index" for url in urls.values()}, transport, self.spec.dataset, init_time)
        expected = expected_keys(self.spec)
        spans: dict[FieldKey, Span] = {}
        unread: dict[int, str] = {}
        for lead, url in urls.items():
            text = texts[url]
            if isinstance(text, SourceError):
                unread[lead] = str(text)
                continue
            for line in parse_index(text):
                key = FieldKey(self.params.get(line.param, ""), line.step_hours, line.member)
                if line.levtype == "sfc" and line.step_hours == lead and key in expected:
                    spans.setdefault(key, Span(key, url, line.start, line.stop))
        absent = sorted(expected - spans.keys())
        missing = tuple((key, unread.get(key.lead_hours, f"the index of step {key.lead_hours} h does not list it")) for key in absent)
        return Plan(init_time, tuple(spans.values()), missing)
