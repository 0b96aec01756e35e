"""The published folder over HTTP: what is served, and what never is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from serving.api.files import LocalFolder, byte_range, is_plain
from serving.api.problems import ProblemError
from tests.serving.served import INIT, Client, groups, serving


@pytest.fixture(scope="session")
def href(published_root: Path) -> str:
    return str(json.loads((published_root / "published" / "latest.json").read_text())["href"])


def test_files_come_whole_and_in_ranges(client: Client, published_root: Path, href: str) -> None:
    shard = f"{href}/grid/temperature_2m/c/0/0/0/0"
    content = (published_root / "published" / shard).read_bytes()
    whole = client.ask(f"/published/{shard}")
    assert (whole.status, whole.body) == (200, content)
    assert "immutable" in whole.headers["cache-control"]
    assert whole.headers["accept-ranges"] == "bytes"
    part = client.ask(f"/published/{shard}", Range="bytes=10-19")
    assert (part.status, part.body) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    tail = client.ask(f"/published/{shard}", Range="bytes=-16")
    assert (tail.status, tail.body) == (206, content[-16:])
    head = client.ask(f"/published/{shard}", "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(content)), b"")


def test_conditional_requests_are_spared_the_body(client: Client, href: str) -> None:
    for path in (f"{href}/zarr.json", f"{href}/grid/temperature_2m/c/0/0/0/0", "latest.json"):
        etag = client.ask(f"/published/{path}").headers["etag"]
        again = client.ask(f"/published/{path}", If_None_Match=etag)
        assert (again.status, again.body) == (304, b"")
        assert client.ask(f"/published/{path}", If_None_Match='"other"').status == 200
    part = client.ask(f"/published/{href}/grid/temperature_2m/c/0/0/0/0", Range="bytes=0-9", If_Range='"other"')
    assert part.status == 200


def test_metadata_is_compressed_where_it_pays(client: Client, published_root: Path, href: str) -> None:
    content = (published_root / "published" / href / "zarr.json").read_bytes()
    packed = client.ask(f"/published/{href}/zarr.json", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == content
    assert len(packed.body) < len(content) / 5
    assert "content-encoding" not in client.ask(f"/published/{href}/grid/temperature_2m/c/0/0/0/0", Accept_Encoding="gzip").headers


def test_latest_is_asked_for_anew_and_anyone_may_read(client: Client) -> None:
    answer = client.ask("/published/latest.json", Origin="http://elsewhere")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["access-control-allow-origin"] == "*"
    preflight = client.ask("/published/latest.json", "OPTIONS", Origin="http://elsewhere", Access_Control_Request_Method="GET")
    assert preflight.status == 204
    assert "GET" in preflight.headers["access-control-allow-methods"]


def test_plain_xarray_reads_it_over_http(client: Client, href: str) -> None:
    there = xr.open_zarr(f"{client.base}/published/{href}", group="grid", chunks=None)
    given_ = groups(INIT, 0.0)["grid"]
    assert there.equals(there)
    np.testing.assert_array_equal(there.temperature_2m.values, given_.temperature_2m.values)
    np.testing.assert_array_equal(there.valid_time.values, given_.valid_time.values)


@pytest.mark.parametrize(
    "path",
    [
        "../manifest.db", "%2e%2e/manifest.db", "..%2fmanifest.db", "link", "again.json", "up/manifest.db", "up/published/latest.json",
        "/etc/passwd", "%2Fetc%2Fpasswd", "", ".", "..", ".staging/x", "a%00b", "nothing", "latest.json/", "items", "items/", "%ff%fe",
        "....//manifest.db", "latest.json%00", "latest.json::$DATA", "published/../../manifest.db", "..\\manifest.db",
    ],
)
def test_nothing_else_can_be_reached(client: Client, path: str) -> None:
    answer = client.ask(f"/published/{path}")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"secret" not in answer.body


PARTS = st.lists(st.sampled_from(["..", ".", "", "up", "link", "items", "latest.json", "\0", "~", "published"]), max_size=5)


@given(st.text(st.characters(codec="utf-8"), max_size=30) | PARTS.map("/".join))
def test_no_path_leads_outside(published_root: Path, path: str) -> None:
    folder = LocalFolder(published_root / "published")
    if is_plain(path) and folder.size(path) is not None:
        assert (published_root / "published" / path).resolve().is_relative_to((published_root / "published").resolve())
        assert not any(part.is_symlink() for part in (published_root / "published" / path).parents)


BAD_RANGES = ["bytes=9-5", "bytes=99999999999-", "bytes=-0", "bytes=a-b", "bytes", "bytes=--1", "bytes=0x1-2", "bytes=-"]


@pytest.mark.parametrize("header", BAD_RANGES)
def test_ranges_that_cannot_be_had_are_refused(client: Client, href: str, header: str) -> None:
    answer = client.ask(f"/published/{href}/grid/temperature_2m/c/0/0/0/0", Range=header)
    assert answer.status == 416
    assert answer.headers["content-range"].startswith("bytes */")
    assert "ask for" in answer.json()["detail"]


@given(st.integers(1, 1000), st.integers(0, 1200), st.integers(0, 1200), st.sampled_from(["{}-{}", "{}-", "-{}"]))
def test_a_range_lies_inside_the_file(size: int, first: int, second: int, form: str) -> None:
    text = form.format(first, second)
    outside = first > second if form == "{}-{}" else False
    if outside or (form == "-{}" and first == 0) or (form != "-{}" and first >= size):
        with pytest.raises(ProblemError):
            byte_range(f"bytes={text}", size)
        return
    found = byte_range(f"bytes={text}", size)
    assert found is not None
    start, stop = found
    assert 0 <= start < stop <= size
    content = bytes(number % 251 for number in range(size))
    expected = content[-first:] if form == "-{}" else content[first:] if form == "{}-" else content[first : second + 1]
    assert content[start:stop] == expected


def test_several_ranges_and_other_units_mean_the_whole_file() -> None:
    assert byte_range("bytes=0-1,5-6", 10) is None
    assert byte_range("lines=0-1", 10) is None
    assert byte_range(None, 10) is None


def test_only_reading_is_allowed(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        answer = client.ask("/published/latest.json", method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_an_empty_root_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path / "nothing") as empty:
        assert empty.ask("/published/latest.json").status == 404
        assert empty.ask("/health").status == 200
        ready = empty.ask("/ready")
        assert ready.status == 503
        assert "giomua run" in ready.json()["detail"]
