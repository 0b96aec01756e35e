"""A provider to test against: a cycle encoded with ecCodes in the layout of any registered source, behind an HTTP server with faults."""

from __future__ import annotations

import bz2
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote

import numpy as np
from scipy.spatial.distance import cdist

from data_catalog.sources import ecmwf, ncep, reforecast
from data_catalog.sources.base import FieldKey, day_and_hour
from data_catalog.sources.gribfiles import GribSource
from data_catalog.variables import VARIABLES
from tests.data_catalog import grib_maker

RAIN, SUN = "precipitation_amount", "downward_short_wave_radiation_flux_surface"
_ABOVE, _GROUND, _SEA, _COLUMN = 103, 1, 101, 200

NUMBERS = {
    # variable: category, number, surface, height, statistic (code tables 4.2, 4.5, 4.10)
    "temperature_2m": (0, 0, _ABOVE, 2, None),
    "dew_point_temperature_2m": (0, 6, _ABOVE, 2, None),
    "wind_u_10m": (2, 2, _ABOVE, 10, None),
    "wind_v_10m": (2, 3, _ABOVE, 10, None),
    "wind_gust_10m": (2, 22, _GROUND, 0, None),
    "pressure_reduced_to_mean_sea_level": (3, 1, _SEA, 0, None),
    "total_cloud_cover_atmosphere": (6, 1, _COLUMN, 0, None),
    "convective_available_potential_energy": (7, 6, _GROUND, 0, None),
    "precipitable_water": (1, 3, _COLUMN, 0, None),
    "visibility": (19, 0, _GROUND, 0, None),
    RAIN: (1, 8, _GROUND, 0, 1),
    SUN: (4, 192, _GROUND, 0, 0),
}
ECMWF_NUMBERS = NUMBERS | {
    "wind_gust_10m": (2, 22, _ABOVE, 10, None),
    "pressure_reduced_to_mean_sea_level": (3, 0, _SEA, 0, None),
    "total_cloud_cover_atmosphere": (6, 192, _GROUND, 0, None),
    "precipitable_water": (1, 64, _GROUND, 0, None),
    RAIN: (1, 193, _GROUND, 0, 1),
    SUN: (4, 7, _GROUND, 0, 1),
}
DWD_NUMBERS = NUMBERS | {
    "wind_gust_10m": (2, 22, _ABOVE, 10, 2),
    "total_cloud_cover_atmosphere": (6, 1, _GROUND, 0, None),
    RAIN: (1, 52, _GROUND, 0, 1),
}
USUAL = {  # mean and spread in catalog units
    "temperature_2m": (25.0, 4.0), "dew_point_temperature_2m": (18.0, 3.0), "wind_u_10m": (1.0, 4.0), "wind_v_10m": (-2.0, 4.0),
    "wind_gust_10m": (10.0, 3.0), "pressure_reduced_to_mean_sea_level": (100800.0, 400.0), "total_cloud_cover_atmosphere": (50.0, 20.0),
    "convective_available_potential_energy": (900.0, 300.0), "precipitable_water": (45.0, 8.0), "visibility": (15000.0, 4000.0),
    RAIN: (3.0, 1.5), SUN: (300.0, 120.0),
}    # fmt: skip
UUID = "a27b8de618c411e4820ab5b098c6a5c0"
MESH = tuple(
    (axis + np.random.default_rng(seed).uniform(-0.04, 0.04, axis.shape)).ravel()
    for seed, axis in enumerate(np.meshgrid(np.arange(26.0, 16.0, -0.12), np.arange(100.0, 112.0, 0.12), indexing="ij"))
)
"""Latitudes and longitudes of cells like those of an icosahedral grid, the smaller for tests. (cell,)"""


def cut(source: GribSource, leads: int = 3, members: int = 2, variables: tuple[str, ...] | None = None) -> GribSource:
    """A source with fewer leads, members and variables."""
    spec = source.spec
    names = spec.variables if variables is None else tuple(name for name in spec.variables if name in variables)
    return replace(
        source, spec=replace(spec, lead_hours=spec.lead_hours[:leads], members=min(members, spec.members), variables=names)
    )


@dataclass
class Cycle:
    """A cycle of a source as its provider would serve it.

    Attributes:
        source: The source, cut.
        init_time: Start of the forecast.
        values: By key in catalog units over the grid; rain in mm and short wave in W m-2 since the lead before. (point,)
        messages: By file the messages in it: what its index says of each (None where it is none of ours), and the octets.
        totals: Messages with rain since the start of the forecast in a provider of buckets.
    """

    source: GribSource
    init_time: np.datetime64
    values: dict[FieldKey, np.ndarray] = field(default_factory=dict)
    messages: dict[str, list[tuple[FieldKey | None, bytes]]] = field(default_factory=dict)
    totals: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        keys = sorted(self.source.expected(self.init_time), key=lambda key: (key.lead_hours, key.member, key.variable))
        for number, key in enumerate(keys):
            self.values[key] = self.weather(number, key.variable)
        for key in keys:
            urls = self.source.places(self.init_time, key)
            found = self.messages.setdefault(urls[self.source.spec.variables.index(key.variable) % len(urls)], [])
            if self.source.index is not None and not found:
                found.append((None, self.message(FieldKey("temperature_2m", key.lead_hours, key.member), aloft=True)))
            if key.variable == RAIN and self.source.spec.dataset == "noaa-gfs-0p25":
                total = self.message(key, begin=0)      # since the start, beside the bucket
                self.totals.add(total)
                found.append((key, total))
            found.append((key, self.message(key)))

    @property
    def is_mesh(self) -> bool:
        """Whether the grid is unstructured."""
        return self.source.coordinates is not None

    @property
    def step(self) -> float:
        """Of the grid in degrees."""
        return 0.5 if self.source.spec.grid == "0p50" else 0.25

    def weather(self, seed: int, variable: str) -> np.ndarray:
        """A smooth field, different for each seed. (point,)"""
        mean, spread = USUAL[variable]
        if not self.is_mesh:
            return grib_maker.weather(seed, self.step, mean, spread).ravel()
        phase = np.random.default_rng(seed).uniform(0, 6, 2)
        return mean + spread * np.sin(MESH[0] / 3 + phase[0]) * np.cos(MESH[1] / 4 + phase[1])

    def before(self, lead: int) -> int:
        """The lead before one, or where its bucket begins."""
        earlier = [one for one in self.source.spec.lead_hours if one < lead]
        return earlier[-1] if earlier else (lead - 1) // 6 * 6

    def begin(self, key: FieldKey) -> int:
        """Where the interval begins that the provider gives."""
        return (key.lead_hours - 1) // 6 * 6 if self.source.index in (ncep.IDX, reforecast.REFORECAST.index) else 0

    def window(self, key: FieldKey, begin: int) -> np.ndarray:
        """The sum, or the mean, from ``begin`` to the lead. (point,)"""
        leads = [lead for lead in self.source.spec.lead_hours if begin < lead <= key.lead_hours]
        parts = [self.values[replace(key, lead_hours=lead)] * (1 if key.variable == RAIN else lead - self.before(lead)) for lead in leads]
        return np.sum(parts, axis=0) / (1 if key.variable == RAIN else key.lead_hours - begin)

    def message(
        self, key: FieldKey, *, begin: int | None = None, values: np.ndarray | None = None, aloft: bool = False, **keys: object
    ) -> bytes:
        """One field as the provider encodes it."""
        numbers = {".idx": NUMBERS, ".index": ECMWF_NUMBERS}.get(self.suffix, DWD_NUMBERS)
        category, number, surface, height, statistic = numbers[key.variable]
        if aloft:
            surface, height = 100, 200         # 2 hPa
        interval: tuple[int, int] | int = key.lead_hours
        if VARIABLES[key.variable].has_interval:
            begin = self.begin(key) if begin is None else begin
            interval = begin, key.lead_hours
            values = self.window(key, begin) if values is None else values
            values = values * (1e-3 if number == 193 else 3600.0 * (key.lead_hours - begin) if number == 7 else 1.0)
        elif statistic is not None:
            interval = self.before(key.lead_hours) if key.lead_hours else 0, key.lead_hours
        values = self.values[key] if values is None else values
        values = values + 273.15 if key.variable in ("temperature_2m", "dew_point_temperature_2m") else values
        values = values / 100.0 if (category, number) == (6, 192) else values
        day, hour = day_and_hour(self.init_time)
        ensemble = self.source.spec.members > 1
        about = {
            "date": int(day), "dataTime": int(hour) * 100, "interval": interval, "statistic": statistic,
            "member": key.member + self.source.spec.first_number if ensemble else None,
            "centre": {".idx": 7, ".index": 98}.get(self.suffix, 78), "localTablesVersion": 1 if number > 191 else 0,
            "discipline": 0, "parameterCategory": category, "parameterNumber": number, "typeOfFirstFixedSurface": surface,
            "scaledValueOfFirstFixedSurface": height,
        }    # fmt: skip
        if self.is_mesh:
            return on_mesh(values, **{"uuid": UUID, **about, **keys})
        return grib_maker.message(values, **{"step": self.step, **about, **keys})

    @property
    def suffix(self) -> str:
        """Of an index file."""
        return "" if self.source.index is None else self.source.index.address("x.grib2").removeprefix("x").removeprefix(".grib2")

    def files(self) -> dict[str, bytes]:
        """Everything the provider serves, by path."""
        found: dict[str, bytes] = {}
        for url, messages in self.messages.items():
            data = b"".join(octets for _, octets in messages)
            found[url] = _packed(data) if url.endswith(".bz2") else data
            if self.source.index is not None:
                found[self.source.index.address(url)] = self.index(url).encode()
        if self.source.coordinates is not None:
            where = self.source.coordinates(self.init_time)
            for url, number in ((where.latitude, 1), (where.longitude, 2)):
                found[url] = _axis(number)
        return {unquote(url): data for url, data in found.items()}

    def index(self, url: str) -> str:
        """The text of a file's index."""
        lines, place = [], 0
        for number, (key, octets) in enumerate(self.messages[url], start=1):
            write = self._idx_line if self.suffix == ".idx" else self._index_line
            lines.append(write(number, key, place, octets))
            place += len(octets)
        return "\n".join(lines) + "\n"

    def _idx_line(self, number: int, key: FieldKey | None, place: int, octets: bytes) -> str:
        fields = reforecast.FIELDS if self.source.index == reforecast.REFORECAST.index else ncep.FIELDS
        words = "TMP:2 mb:3 hour fcst"
        if key is not None:
            named = next(one for one in fields if one.variable == key.variable)
            begin = 0 if octets in self.totals else self.begin(key)
            window = f"{begin}-{key.lead_hours} hour {named.statistic}" if named.statistic else f"{key.lead_hours} hour"
            words = f"{named.element}:{named.level}:{'anl' if not key.lead_hours else f'{window} fcst'}"
        member = 0 if key is None else key.member
        ending = "" if self.source.spec.members == 1 else f"ENS=+{member}" if member else "ENS=low-res ctl"
        return f"{number}:{place}:d={''.join(day_and_hour(self.init_time))}:{words}:{ending}"

    def _index_line(self, number: int, key: FieldKey | None, place: int, octets: bytes) -> str:
        day, hour = day_and_hour(self.init_time)
        line = {"date": day, "time": f"{hour}00", "levtype": "sfc", "_offset": place, "_length": len(octets)}
        if key is None:
            return json.dumps(line | {"levtype": "pl", "param": "t", "levelist": "2", "step": "3"})
        param = next(param for param, variable in ecmwf.PARAMS.items() if variable == key.variable)
        return json.dumps(line | {"param": param, "step": str(key.lead_hours)} | ({"number": str(key.member)} if key.member else {}))

    def place_of(self, key: FieldKey) -> tuple[str, int]:
        """The file that holds a field, and the place of the message in it; of several the one that is to be taken."""
        found = [(url, at) for url, messages in self.messages.items() for at, (own, _) in enumerate(messages) if own == key]
        return found[-1]

    def expected(self, key: FieldKey, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        """What is to be found in the archive. (latitude, longitude)"""
        if self.is_mesh:
            return self.values[key][_nearest(tuple(latitude), tuple(longitude))]
        rows, columns = grib_maker.axes(self.step)
        grid = self.values[key].reshape(rows.size, columns.size)
        return grid[np.ix_(np.searchsorted(-rows, -latitude - 1e-6), np.searchsorted(columns, longitude - 1e-6))]


@cache
def _axis(number: int) -> bytes:
    """The file with the latitude (1) or longitude (2) of every cell."""
    return bz2.compress(on_mesh(MESH[number - 1], bits=24, uuid=UUID, parameterCategory=191, parameterNumber=number))


@cache
def _packed(data: bytes) -> bytes:
    return bz2.compress(data)


@cache
def _nearest(latitude: tuple[float, ...], longitude: tuple[float, ...]) -> np.ndarray:
    """Number of the nearest cell. (latitude, longitude)"""
    wanted = np.meshgrid(latitude, longitude, indexing="ij")
    return cdist(_sphere(wanted[0].ravel(), wanted[1].ravel()), _sphere(*MESH)).argmin(axis=1).reshape(wanted[0].shape)


def _sphere(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    phi, lam = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def on_mesh(
    values: np.ndarray, *, uuid: str, interval: tuple[int, int] | int = 0, statistic: int | None = None, member: int | None = None,
    date: int = 20250801, bits: int = 16, **keys: object,
) -> bytes:    # fmt: skip
    """One GRIB2 message on an unstructured grid."""
    import eccodes

    handle = eccodes.codes_grib_new_from_samples("GRIB2")
    template = (0 if statistic is None else 8) + (0 if member is None else 1 if statistic is None else 3)
    chosen = {"centre": 78, "gridDefinitionTemplateNumber": 101, "numberOfGridUsed": 26, "numberOfGridInReference": 1, "uuidOfHGrid": uuid,
              "numberOfDataPoints": values.size, "productDefinitionTemplateNumber": template, "dataDate": date, "dataTime": 0,
              "scaleFactorOfFirstFixedSurface": 0, **({} if statistic is None else {"typeOfStatisticalProcessing": statistic}),
              **({} if member is None else {"typeOfEnsembleForecast": 192, "perturbationNumber": member}), **keys}    # fmt: skip
    for key, value in chosen.items():
        eccodes.codes_set(handle, key, value)
    eccodes.codes_set(handle, "stepRange", f"{interval[0]}-{interval[1]}" if isinstance(interval, tuple) else str(interval))
    eccodes.codes_set(handle, "bitsPerValue", bits)
    eccodes.codes_set_values(handle, np.asarray(values, dtype=np.float64))
    found: bytes = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return found


@dataclass
class Server:
    """What a provider's server has and how it behaves.

    Attributes:
        url: Its base.
        files: By path.
        faults: By path what happens there, ``*`` for everywhere: a status, ``wall`` or ``moved`` (redirects), ``short`` (less than is
            promised), ``slow``, ``dead`` or ``page`` (HTML). A number behind a colon says how often, then all is well.
        headers: Sent with a status.
        requests: Paths asked for, with their ranges.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def fault(self, path: str) -> str:
        """What happens to this request."""
        with self.lock:
            name = path if path in self.faults else "*"
            kind, _, times = self.faults.get(name, "").partition(":")
            if times:
                left = int(times) - 1
                if left:
                    self.faults[name] = f"{kind}:{left}"
                else:
                    del self.faults[name]
            return kind


def _handler(state: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path).lstrip("/")
            state.requests.append((path, self.headers.get("Range", "")))
            elsewhere = path.startswith("elsewhere/")
            kind, data = "" if elsewhere else state.fault(path), state.files.get(path.removeprefix("elsewhere/"))
            time.sleep(0.5 if kind == "slow" else 0.0)
            if kind == "dead":
                self.close_connection = True
            elif kind in ("wall", "moved"):
                self.answer(302, b"", {"Location": "/blocked.html" if kind == "wall" else f"/elsewhere/{self.path.lstrip('/')}"})
            elif kind.isdigit():
                self.answer(int(kind), b"no", state.headers)
            elif kind == "page":
                self.answer(200, b"<html>busy</html>", {"Content-Type": "text/html"})
            elif data is None:
                self.answer(404, b"none")
            else:
                self.give(data, short=kind == "short")

        def give(self, data: bytes, *, short: bool) -> None:
            tag = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"'}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if not asked or self.headers.get("If-Range", tag["ETag"]) != tag["ETag"]:
                self.answer(200, data, tag, short=short)
                return
            start, stop = int(asked[1]), min(int(asked[2] or len(data) - 1) + 1, len(data))
            if start >= len(data):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            else:
                self.answer(206, data[start:stop], tag | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, short=short)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, short: bool = False) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if short else body)
            self.close_connection = self.close_connection or short

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client left
                super().handle()

    return Handler


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port while the context lasts."""
    state = Server()
    running = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    running.daemon_threads = True
    thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_address[1]}"
    try:
        yield state
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
