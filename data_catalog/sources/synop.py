"""SYNOP and TEMP reports in BUFR files: every file below a folder, as the telecommunication system or a colleague leaves them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog import bufr
from data_catalog.observations import Gathered, Reports, fetch
from data_catalog.sources.base import StationSpec, Transport
from data_catalog.sources.gauges import folder_files
from data_catalog.stations import Station, by_code
from data_catalog.workers import Worker

SPEC: Final = StationSpec(
    network="synop",
    title="SYNOP and TEMP, BUFR files",
    url="inbox/synop",
    delay_hours=0.5,
    variables=(
        "temperature_2m", "temperature_2m_max", "temperature_2m_min", "dew_point_temperature_2m", "relative_humidity_2m",
        "wind_u_10m", "wind_v_10m", "wind_speed_10m", "wind_from_direction_10m", "wind_gust_10m", "pressure_reduced_to_mean_sea_level",
        "total_cloud_cover_atmosphere", "precipitation_amount", "downward_short_wave_radiation_flux_surface", "visibility",
    ),
    licence="WMO Unified Data Policy, Resolution 1 (Cg-Ext 2021)",
)    # fmt: skip


@dataclass(frozen=True, slots=True)
class Synop:
    """Reports of the stations with a ``synop`` alias: a WMO number or a WIGOS identifier.

    Attributes:
        stations: Stations of the region.
        timeout: Seconds one message may take to decode.
        spec: What it declares.
    """

    stations: tuple[Station, ...]
    timeout: float = 120.0
    spec: StationSpec = SPEC

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        gathered = Gathered(self.spec, known_by_number(self.stations).values(), since, until)
        with bufr.worker(self.timeout) as worker:
            for url, data in fetch(gathered, transport, folder_files(transport, "*")):
                take(gathered, url, data, known_by_number(self.stations), worker)
        return gathered.reports()


def known_by_number(stations: Iterable[Station]) -> dict[str, Station]:
    """Stations by their number in the SYNOP list, and by their WIGOS identifier."""
    return by_code(stations, "synop") | by_code(stations, "wigos")


def take(
    gathered: Gathered,
    url: str,
    data: bytes,
    known: Mapping[str, Station],
    worker: Worker,
    available: np.datetime64 | None = None,
) -> None:
    """Every report of a BUFR file; what cannot be decoded is put down.

    Args:
        gathered: Where to.
        url: Name of the file.
        data: Its content.
        known: Stations by number.
        worker: Decodes.
        available: When the file was at hand; default: the usual delay after each report.
    """
    for number, found in enumerate(bufr.decode(data, worker, known), 1):
        if isinstance(found, bufr.Refusal):
            gathered.flaw(url, str(found.error), found.message, data)
            continue
        station = next((known[name] for name in found.numbers if name in known), None)
        if station is None:
            continue
        with gathered.part(url, number, data):
            if found.levels is not None:
                gathered.add_sounding(station, found.time, found.levels, available)
            for one in found.values:
                end = found.time - np.timedelta64(round(one.ago * 3600), "s")
                gathered.add(station, end, one.variable, one.value, one.hours, available)
            if found.values:
                gathered.add(station, found.time, "reported_latitude", found.latitude, available=available)
                gathered.add(station, found.time, "reported_longitude", found.longitude, available=available)
