"""The published folder over HTTP: what is served, and what never is."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
import xarray as xr

from data_catalog.store import Root
from serving.api.files import locate, published_app


@pytest.fixture
def published(tmp_path: Path) -> Path:
    root = Root(str(tmp_path / "root"))
    data = xr.Dataset({"temperature_2m": (("lead_time",), np.arange(4, dtype=np.float32))})
    ref = root.write_store("published", "20250101T00Z", {"": xr.Dataset(attrs={"title": "t"}), "stations": data}, revision="r0")
    name = ref.path.removeprefix("published/")
    root.write_json("published/latest.json", {"init_time": "2025-01-01T00:00:00Z", "revision": 0, "href": name, "simulated": True})
    (tmp_path / "root" / "manifest.db").write_text("secret")
    (tmp_path / "root" / "published" / "link").symlink_to(tmp_path / "root" / "manifest.db")
    return tmp_path / "root" / "published"


class Client:
    """A plain HTTP client that sends paths exactly as they are."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found


@contextmanager
def served(folder: Path) -> Iterator[Client]:
    """A real server on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(published_app(folder), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Client(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def client(published: Path) -> Iterator[Client]:
    with served(published) as found:
        yield found


def test_files_come_whole_and_in_ranges(client: Client, published: Path) -> None:
    href = json.loads((published / "latest.json").read_text())["href"]
    status, headers, whole = client.ask(f"/published/{href}/zarr.json")
    assert status == 200
    assert "immutable" in headers["cache-control"]
    status, _, part = client.ask(f"/published/{href}/zarr.json", Range="bytes=0-9")
    assert status == 206
    assert part == whole[:10]
    _, headers, _ = client.ask("/published/latest.json", Origin="http://elsewhere")
    assert headers["cache-control"] == "no-cache"
    assert headers["access-control-allow-origin"] == "*"


def test_plain_xarray_reads_it_over_http(client: Client, published: Path) -> None:
    href = json.loads((published / "latest.json").read_text())["href"]
    found = xr.open_zarr(f"http://127.0.0.1:{client.port}/published/{href}", group="stations")
    assert found.temperature_2m.values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "path",
    [
        "../manifest.db", "%2e%2e/manifest.db", "..%2fmanifest.db", "link", "/etc/passwd", "%2Fetc%2Fpasswd", "", ".staging/x", "a%00b",
        "nothing",
    ],
)
def test_nothing_else_can_be_reached(client: Client, path: str) -> None:
    status, _, body = client.ask(f"/published/{path}")
    assert status == 404
    assert b"secret" not in body


def test_only_reading_is_allowed(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.ask("/published/latest.json", method)[0] == 405


def test_the_front_page_says_simulated_or_empty(client: Client, tmp_path: Path) -> None:
    assert b"Simulated data" in client.ask("/")[2]
    with served(tmp_path / "nothing") as empty:
        assert b"giomua run" in empty.ask("/")[2]
        assert empty.ask("/published/latest.json")[0] == 404


def test_locate_stays_inside(published: Path) -> None:
    assert locate(published.resolve(), "latest.json") is not None
    assert locate(published.resolve(), "..") is None
    assert locate(published.resolve(), "") is None
