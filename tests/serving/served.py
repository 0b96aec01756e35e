"""A small published root, and a real server on it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr

from data_catalog.settings import Settings, load_settings
from data_catalog.stac import PublishedCycle, publish_item
from data_catalog.store import Root, StoreRef
from serving.api.app import create_app
from serving.api.server import server

INIT = np.datetime64("2025-07-10T00", "ns")
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
LEADS = np.array([0, 3, 6, 9, 12, 18, 24])
LATITUDE = np.round(21.5 - 0.25 * np.arange(10), 6)
LONGITUDE = np.round(104.75 + 0.25 * np.arange(12), 6)
QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
STATIONS = {"lang": (21.0167, 105.8, "Láng"), "noi_bai": (21.2167, 105.8, "Nội Bài"), "hai_phong": (20.8, 106.6, "Hải Phòng")}
MEMBERS = 5


def settings_on(folder: Path | str, **more: Any) -> Settings:
    return load_settings(root=str(folder), profile="tiny", **more)


def groups(init_time: np.datetime64, mark: float) -> dict[str, xr.Dataset]:
    """Groups as they are published; every value is a seeded one plus ``mark``, so that an answer tells its cycle."""
    rng = np.random.default_rng(5)
    lead = {"lead_time": ("lead_time", LEADS * HOUR), "valid_time": ("lead_time", init_time + LEADS * HOUR), "init_time": init_time}
    stations = {
        "station": np.array(list(STATIONS), dtype=object),
        "latitude": ("station", np.array([place[0] for place in STATIONS.values()])),
        "longitude": ("station", np.array([place[1] for place in STATIONS.values()])),
        "station_name": ("station", np.array([place[2] for place in STATIONS.values()], dtype=object)),
    }
    grid = {"latitude": LATITUDE, "longitude": LONGITUDE}
    sizes = {
        "lead_time": LEADS.size, "station": len(STATIONS), "latitude": LATITUDE.size, "longitude": LONGITUDE.size,
        "ensemble_member": MEMBERS, "quantile": QUANTILES.size, "forecaster": 2, "window": 2, "threshold": 2, "day": 1,
    }

    def values(*dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        made = rng.normal(size=tuple(sizes[dim] for dim in dims)).astype(np.float32)
        if "quantile" in dims:
            made = np.sort(made, axis=dims.index("quantile"))
        return dims, made + np.float32(mark)

    found: dict[str, xr.Dataset] = {}
    for prefix, dims, place in (("stations", ("station",), stations), ("grid", ("latitude", "longitude"), grid)):
        member = {"ensemble_member": np.arange(MEMBERS)}
        rain = values("lead_time", *dims, "ensemble_member")
        rain[1][0] = np.nan
        found[prefix] = xr.Dataset(
            {"temperature_2m": values("lead_time", *dims, "ensemble_member"), "precipitation_amount": rain}, lead | place | member
        )
        quantile = {"quantile": QUANTILES}
        found[f"{prefix}_quantiles"] = xr.Dataset({"temperature_2m": values("lead_time", *dims, "quantile")}, lead | place | quantile)
        extra = {"window": np.array([3, 24]) * HOUR, "threshold": np.array([16.0, 50.0])}
        name = "probabilities" if prefix == "stations" else "grid_probabilities"
        found[name] = xr.Dataset(
            {"precipitation_amount_above": values("lead_time", "window", "threshold", *dims)}, lead | place | extra
        )
        name = "daily" if prefix == "stations" else "grid_daily"
        day = {"day": np.array(["2025-07-11"], dtype="datetime64[ns]"), "init_time": init_time}
        found[name] = xr.Dataset({"temperature_2m_max": values("day", *dims, "quantile")}, day | place | quantile)
    found["models"] = xr.Dataset(
        {
            "temperature_2m": values("forecaster", "lead_time", "station", "quantile"),
            "weight_temperature_2m": values("forecaster", "lead_time"),
        },
        lead | stations | {"quantile": QUANTILES, "forecaster": np.array(["climatology", "emos"], dtype=object)},
    )
    return found


def publish(
    folder: Path | str, init_time: np.datetime64 = INIT, revision: int = 0, mark: float = 0.0, whole: bool = True,
    only: tuple[str, ...] | None = None, **options: Any,
) -> StoreRef:
    """Publish one cycle as the pipeline does: store, catalog, then ``latest.json``.

    ``whole=False`` stops before the pointer moves, ``only`` names the groups it has.
    """
    settings = settings_on(folder, **options)
    root = Root.open(settings)
    key = f"{init_time.astype('datetime64[s]').item():%Y%m%dT%H}Z"
    attributes = {"simulated": True, "title": "a test", "sources": "{}", "init_time": f"{init_time.astype('datetime64[s]')}Z"}
    kept = {name: group for name, group in groups(init_time, mark).items() if only is None or name in only}
    with mock.patch("data_catalog.files._sync"):  # what a power cut leaves is tested where stores are
        ref = root.write_store("published", key, kept, attributes, revision=f"r{revision}")
    href = ref.path.removeprefix("published/")
    hours = [np.timedelta64(int(hour), "h") for hour in (LEADS[0], LEADS[-1])]
    cycle = PublishedCycle(init_time, revision, href, ref.content_hash, *hours, variables=("temperature_2m",), simulated=True)
    if whole:
        with mock.patch("data_catalog.files._sync"):
            publish_item(root, cycle, settings.load_region())
            announce(root, init_time, revision, href, ref.content_hash)
    return ref


def announce(root: Root, init_time: np.datetime64, revision: int, href: str, content_hash: str) -> None:
    latest = {"init_time": f"{init_time.astype('datetime64[s]')}Z", "revision": revision, "href": href, "content_hash": content_hash}
    root.write_json("published/latest.json", latest | {"sources": {}, "simulated": True})


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A plain HTTP client that sends paths exactly as they are."""

    port: int
    base: str = field(init=False)

    def __post_init__(self) -> None:
        self.base = f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answered:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(folder: Path | str, **options: Any) -> Iterator[Client]:
    """A real server on a port of its own."""
    running = server(create_app(settings_on(folder, **options)), host="127.0.0.1", port=0)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not running.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield Client(running.servers[0].sockets[0].getsockname()[1])
    finally:
        running.should_exit = True
        thread.join(timeout=30)
