"""The application as a whole: what every answer carries, what it says of itself, and that it keeps to its own description."""

from __future__ import annotations

import gzip
import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from serving.api import stream
from serving.api.edge import SECURITY
from tests.serving.served import INIT, Client, publish, serving

PATHS = ("/health", "/ready", "/metrics", "/openapi.json", "/edr", "/edr/collections", "/published/latest.json", "/nothing", "/edr/nothing")


def test_every_answer_carries_the_headers(client: Client) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD", "POST"):
            headers = client.ask(path, method).headers
            for name, value in SECURITY.items():
                assert headers[name.lower()] == value, (path, method, name)
    policy = SECURITY["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_head_is_get_without_the_body(client: Client) -> None:
    for path in PATHS:
        if path == "/metrics":
            continue  # it counts the question
        got, asked = client.ask(path), client.ask(path, "HEAD")
        assert asked.body == b""
        assert asked.status == got.status
        varying = {"date"}
        assert {k: v for k, v in asked.headers.items() if k not in varying} == {k: v for k, v in got.headers.items() if k not in varying}


def test_answers_are_compressed_and_conditional(client: Client) -> None:
    path = f"/edr/collections/grid/position?coords={quote('POINT(105.5 21)')}"
    plain, packed = client.ask(path), client.ask(path, Accept_Encoding="br, gzip")
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["vary"] == "Accept, Accept-Encoding"
    for answer in (plain, packed):
        again = client.ask(path, If_None_Match=f'"x", {answer.headers["etag"]}', Accept_Encoding="gzip")
        assert (again.status, again.body) == (304, b"")


def test_links_carry_the_name_the_client_used(client: Client) -> None:
    """Kept answers must not leak one client's Host header into another's links."""
    assert client.ask("/edr", Host="evil.example").json()["links"][0]["href"].startswith("http://evil.example/")
    assert client.ask("/edr").json()["links"][0]["href"].startswith(client.base)


def test_health_readiness_and_metrics(client: Client) -> None:
    assert client.ask("/health").json() == {"status": "ok"}
    ready = client.ask("/ready").json()
    assert ready["cycle"]["id"] == "20250710T00Z.r0"
    assert ready["problem"] is None
    client.ask("/edr/collections/nothing")
    text = client.ask("/metrics").body.decode()
    (seconds,) = re.findall(r"^giomua_published_init_time_seconds (\S+)", text, flags=re.MULTILINE)
    assert float(seconds) == INIT.astype("datetime64[s]").astype(int)
    assert re.search(r'giomua_requests_total\{area="edr",method="GET",status="404"\} [1-9]', text)
    assert "giomua_request_seconds_bucket" in text
    paths = set(re.findall(r'area="([^"]*)"', text))
    client.ask("/a/b/c/d/e/f")
    assert set(re.findall(r'area="([^"]*)"', client.ask("/metrics").body.decode())) <= paths | {"other"}


def test_stac_is_served_with_relative_links_that_hold(client: Client, published_root: Path) -> None:
    import pystac

    catalog = client.ask("/published/catalog.json").json()
    assert catalog["stac_version"].startswith("1.")
    found = pystac.Catalog.from_file(f"{client.base}/published/catalog.json")
    assert client.ask("/published/items/20250710T00Z.r0.json").headers["content-type"] == "application/geo+json"
    (item,) = found.get_items(recursive=True)
    assert item.properties["forecast:reference_datetime"] == "2025-07-10T00:00:00Z"
    href = item.assets["data"].get_absolute_href()
    assert href is not None
    assert client.ask(f"{href.removeprefix(client.base)}/zarr.json").status == 200


def events(client: Client, **headers: str) -> Iterator[tuple[str, str]]:
    """Name and id of each event of the stream."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.request("GET", "/events", headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    name = ""
    try:
        while line := answer.readline().decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                yield name, value
    finally:
        connection.close()


def test_listeners_are_told_of_each_publication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOCAL_SECONDS", 0.02)
    first = publish(tmp_path, only=("stations",))
    with serving(tmp_path) as client:
        heard = events(client)
        assert next(heard) == ("published", first.content_hash)
        second = publish(tmp_path, INIT + np.timedelta64(12, "h"), mark=1.0, only=("stations",))
        assert next(heard) == ("published", second.content_hash)
        assert client.ask("/edr/collections/stations/locations").headers["giomua-cycle"] == "20250710T12Z.r0"
        late = events(client, Last_Event_ID=second.content_hash)
        third = publish(tmp_path, INIT + np.timedelta64(12, "h"), 1, mark=2.0, only=("stations",))
        assert next(late) == ("published", third.content_hash)
        assert next(heard) == ("published", third.content_hash)
        heard.close()
        late.close()


def test_the_first_publication_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOCAL_SECONDS", 0.02)
    with serving(tmp_path / "later") as client:
        missing = client.ask("/edr/collections")
        assert (missing.status, missing.headers["retry-after"]) == (503, "10")
        heard = events(client)
        ref = publish(tmp_path / "later", only=("grid",))
        assert next(heard) == ("published", ref.content_hash)
        assert [found["id"] for found in client.ask("/edr/collections").json()["collections"]] == ["grid"]
        heard.close()


def test_the_openapi_document_is_complete(client: Client) -> None:
    document = client.ask("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"/health", "/ready", "/metrics", "/events", "/published/{path}", "/edr/collections"} <= {*document["paths"]}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert "422" not in operation["responses"]
            for parameter in operation.get("parameters", []):
                assert parameter.get("description") or parameter["schema"].get("description"), (path, parameter["name"])
            for status, answer in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
