"""A root in an object store, served like a local one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_catalog.store import Root
from serving.api import stream
from tests.s3 import make_bucket, serve_s3
from tests.serving.served import INIT, Client, groups, publish, serving, settings_on
from tests.serving.test_app import events

BUCKET = "giomua-serve"
URL = f"s3://{BUCKET}/weather"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    yield from serve_s3()


@pytest.fixture(scope="module")
def remote(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    make_bucket(s3, BUCKET)
    options = {"storage_options": s3, "state_root": str(tmp_path_factory.mktemp("state"))}
    publish(URL, only=("stations",), **options)
    return options


@pytest.fixture
def client(remote: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(stream, "REMOTE_SECONDS", 0.05)
    with serving(URL, **remote) as found:
        yield found


def test_files_and_queries_come_from_the_bucket(client: Client, remote: dict[str, Any]) -> None:
    latest = client.ask("/published/latest.json").json()
    href = latest["href"]
    shard = f"published/{href}/stations/temperature_2m/c/0/0/0"
    content = Root.open(settings_on(URL, **remote)).read_bytes(shard)
    assert client.ask(f"/{shard}").body == content
    part = client.ask(f"/{shard}", Range="bytes=5-24")
    assert (part.status, part.body) == (206, content[5:25])
    assert client.ask(f"/{shard}", Range=f"bytes={len(content)}-").status == 416
    for path in ("published/nothing", "published/../manifest.db", f"published/{href}", f"published/{href}/../latest.json"):
        assert client.ask(f"/{path}").status == 404
    there = xr.open_zarr(f"{client.base}/published/{href}", group="stations", chunks=None)
    expected = groups(INIT, 0.0)["stations"].temperature_2m
    np.testing.assert_array_equal(there.temperature_2m.values, expected.values)
    answer = client.ask("/edr/collections/stations/locations/lang?realization=2&parameter-name=temperature_2m").json()
    found = np.array(answer["ranges"]["temperature_2m"]["values"], np.float32)
    np.testing.assert_array_equal(found, expected.sel(station="lang", ensemble_member=2).values)


def test_listeners_hear_of_a_publication_in_the_bucket(client: Client, remote: dict[str, Any]) -> None:
    heard = events(client)
    next(heard)
    ref = publish(URL, INIT + np.timedelta64(24, "h"), mark=1.0, only=("stations",), **remote)
    assert next(heard) == ("published", ref.content_hash)
    assert client.ask("/ready").json()["cycle"]["content_hash"] == ref.content_hash
    heard.close()


def test_an_object_store_that_does_not_answer_is_survived(remote: dict[str, Any], tmp_path: Path) -> None:
    """What was read stays; the rest is said to be unavailable, without the address of the bucket."""
    gone = {**remote["storage_options"], "endpoint": "http://127.0.0.1:9"}
    with serving(URL, storage_options=gone, state_root=str(tmp_path)) as client:
        assert client.ask("/health").status == 200
        ready = client.ask("/ready")
        assert ready.status == 503
        assert "127.0.0.1:9" not in ready.body.decode()
