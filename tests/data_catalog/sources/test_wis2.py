"""WIS2 from a real broker: notifications over MQTT, the reports they point to from a local HTTP server, both into the archive."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from data_catalog.errors import DecodeError, SourceError
from data_catalog.manifest import Manifest
from data_catalog.regions import load_region
from data_catalog.sources.mqtt import Session, check_broker
from data_catalog.sources.transport import FolderTransport, HttpTransport
from data_catalog.sources.wis2 import LOG, TOPIC, Wis2
from data_catalog.sources.wis2_message import MAX_MESSAGE, check_integrity, inline, parse
from data_catalog.store import Root
from pipelines.observe import observe
from tests.data_catalog.bufr_maker import report, synop

STATIONS = load_region().operating
TIME = "2025-08-26T12:00"
SINCE, UNTIL = np.datetime64("2025-08-26T00"), np.datetime64("2025-08-27T00")
BUFR = synop(report("48825", TIME, latitude=20.97, longitude=105.77, airTemperature=299.35, dewpointTemperature=297.15))


def notification(data: bytes = BUFR, href: str = "http://127.0.0.1:1/a.bufr", **changes: Any) -> dict[str, Any]:
    """A valid notification; ``changes`` replace parts, with ``properties__pubtime`` for one inside another, None to leave it out."""
    message: dict[str, Any] = {
        "id": str(uuid.UUID(int=len(data) + 7)),
        "conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"],
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [105.77, 20.97, 8.0]},
        "properties": {
            "pubtime": "2025-08-26T12:05:00Z",
            "datetime": "2025-08-26T12:00:00Z",
            "data_id": "vn-test/data/core/weather/surface-based-observations/synop/48825_20250826T1200",
            "integrity": {"method": "sha512", "value": base64.b64encode(hashlib.sha512(data).digest()).decode()},
        },
        "links": [{"href": href, "rel": "canonical", "type": "application/bufr"}],
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = message
        for parent in parents:
            part = part[parent]
        if value is None:
            part.pop(last, None)
        else:
            part[last] = value
    return message


# --- the message -----------------------------------------------------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "no id": {"id": None},
    "id is no uuid": {"id": "1234"},
    "other type": {"type": "FeatureCollection"},
    "no conformance": {"conformsTo": None},
    "other conformance": {"conformsTo": ["http://example.org"]},
    "conformance and version": {"version": "v04"},
    "no geometry": {"geometry": None},
    "a line": {"geometry": {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}},
    "a point without latitude": {"geometry": {"type": "Point", "coordinates": [105.0]}},
    "no pubtime": {"properties__pubtime": None},
    "pubtime is no time": {"properties__pubtime": "yesterday"},
    "pubtime is no date": {"properties__pubtime": "2025-13-45T00:00:00Z"},
    "no data_id": {"properties__data_id": None},
    "no datetime": {"properties__datetime": None},
    "start without end": {"properties__datetime": None, "properties__start_datetime": "2025-08-26T12:00:00Z"},
    "datetime and span": {"properties__start_datetime": "2025-08-26T11:00:00Z", "properties__end_datetime": "2025-08-26T12:00:00Z"},
    "other checksum": {"properties__integrity": {"method": "md5", "value": "x"}},
    "checksum without value": {"properties__integrity": {"method": "sha256"}},
    "content without size": {"properties__content": {"encoding": "utf-8", "value": "x"}},
    "content too long": {"properties__content": {"encoding": "utf-8", "value": "x" * 4097, "size": 4097}},
    "other encoding": {"properties__content": {"encoding": "zip", "value": "x", "size": 1}},
    "no links": {"links": None},
    "links are none": {"links": []},
    "link without rel": {"links": [{"href": "http://a"}]},
}
BEYOND_THE_SCHEMA: dict[str, dict[str, Any]] = {
    "no link to data": {"links": [{"href": "http://a", "rel": "item"}]},
    "two links to data": {"links": [{"href": "http://a", "rel": "canonical"}, {"href": "http://a", "rel": "update"}]},
}
RIGHT: dict[str, dict[str, Any]] = {
    "as it is": {},
    "deprecated version": {"conformsTo": None, "version": "v04"},
    "a span": {
        "properties__datetime": None, "properties__start_datetime": "2025-08-26T11:00:00Z",
        "properties__end_datetime": "2025-08-26T12:00:00Z",
    },
    "fractions of a second and a zone": {"properties__pubtime": "2025-08-26T19:05:00.123456789+07:00"},
    "an area": {"geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [5, 6], [1, 2]]]}},
    "no checksum": {"properties__integrity": None},
    "content": {"properties__content": {"encoding": "base64", "value": "AAAA", "size": 3}},
    "update": {"links": [{"href": "http://a", "rel": "update"}, {"href": "http://b", "rel": "item"}]},
    "deletion": {"links": [{"href": "http://a", "rel": "deletion"}]},
}    # fmt: skip


@pytest.mark.parametrize("changes", [*RIGHT.values()], ids=[*RIGHT])
def test_what_follows_the_standard_is_taken(changes: dict[str, Any]) -> None:
    assert parse(json.dumps(notification(**changes)).encode()).data_id.startswith("vn-test/")


@pytest.mark.parametrize("changes", [*WRONG.values(), *BEYOND_THE_SCHEMA.values()], ids=[*WRONG, *BEYOND_THE_SCHEMA])
def test_what_does_not_is_refused_with_a_reason(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        parse(json.dumps(notification(**changes)).encode())


@pytest.mark.real_data
def test_the_official_schema_agrees(real_data: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((real_data / "schemas" / "wis2" / "wis2-notification-message-bundled.json").read_text())
    checker = jsonschema.FormatChecker()
    checker.checks("uuid")(lambda value: bool(uuid.UUID(value)))
    validator = jsonschema.Draft202012Validator(schema, format_checker=checker)

    def valid(changes: dict[str, Any]) -> bool:
        try:
            return bool(validator.is_valid(notification(**changes)))
        except ValueError:                 # the checker of the format itself
            return False

    assert [name for name, changes in RIGHT.items() if not valid(changes)] == []
    formats = {"id is no uuid", "pubtime is no time", "pubtime is no date"}     # date-time is checked only where rfc3339-validator is there
    assert {name for name, changes in WRONG.items() if valid(changes)} <= formats


def test_numbers_of_a_message() -> None:
    for payload, reason in ((b"x" * (MAX_MESSAGE + 1), "8193 bytes"), (b"{", "not JSON"), (b"[]", "no JSON object"), (b"\xff", "not JSON")):
        with pytest.raises(DecodeError, match=reason):
            parse(payload)


def test_the_order_of_pubtimes_is_that_of_time() -> None:
    times = ["2025-08-26T12:05:00Z", "2025-08-26T12:05:00.5Z", "2025-08-26T19:05:01+07:00"]
    found = [parse(json.dumps(notification(properties__pubtime=time)).encode()).pubtime for time in times]
    assert found == sorted(found)


@pytest.mark.parametrize("method", ["sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"])
def test_checksums(method: str) -> None:
    digest = base64.b64encode(hashlib.new(method.replace("-", "_"), BUFR).digest()).decode()
    check_integrity(BUFR, {"method": method, "value": digest})
    with pytest.raises(DecodeError, match=method):
        check_integrity(BUFR + b" ", {"method": method, "value": digest})


def test_content_inside_a_message() -> None:
    import gzip

    packed = gzip.compress(BUFR)
    assert inline({"encoding": "base64", "value": base64.b64encode(BUFR).decode(), "size": len(BUFR)}) == BUFR
    assert inline({"encoding": "gzip", "value": base64.b64encode(packed).decode(), "size": len(packed)}) == BUFR
    assert inline({"encoding": "utf-8", "value": "Hà Nội", "size": 9}) == "Hà Nội".encode()
    for wrong in (
        {"encoding": "base64", "value": "????", "size": 3},
        {"encoding": "base64", "value": "AAAA", "size": 4},
        {"encoding": "gzip", "value": base64.b64encode(packed[:-9]).decode(), "size": 1},
    ):
        with pytest.raises(DecodeError, match="content"):
            inline(wrong)


# --- from the broker to the archive ----------------------------------------------------------------------------------------------------


@dataclass
class Web:
    """An HTTP server of files."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    busy: int = 0
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    state: Web

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            data = state.files.get(self.path)
            if state.busy:
                state.busy -= 1
            self.send_response(503 if state.busy else 200 if data is not None else 404)
            self.send_header("Content-Length", str(0 if state.busy or data is None else len(data)))
            self.end_headers()
            if data is not None and not state.busy:
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Web(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("mosquitto is not installed: this test needs a broker")
    folder = tmp_path_factory.mktemp("broker")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "users").write_text("")
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {folder}/users", "max_queued_messages 10000"]
    if os.geteuid() == 0:
        lines.append("user root")                       # else it gives up the right to read our folder
    (folder / "conf").write_text("\n".join(lines) + "\n")
    passwords = Path(program).parent.parent / "bin" / "mosquitto_passwd"
    subprocess.run([str(passwords), "-b", str(folder / "users"), "everyone", "everyone"], check=True, capture_output=True)
    process = subprocess.Popen([program, "-c", str(folder / "conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield f"mqtt://everyone:everyone@127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@dataclass
class Site:
    """A source with its archive, and a publisher."""

    source: Wis2
    root: Root
    manifest: Manifest
    web: Web
    folder: Path

    def publish(self, *messages: dict[str, Any] | bytes) -> None:
        from paho.mqtt.publish import multiple

        address, _, port = self.source.broker.rpartition("@")[2].partition(":")
        topic = TOPIC.replace("+", "vn-test")
        payloads = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
        auth = {"username": "everyone", "password": "everyone"}
        multiple([(topic, payload, 1, False) for payload in payloads], hostname=address, port=int(port), auth=auth)

    def serve(self, name: str, data: bytes) -> str:
        self.web.files[f"/{name}"] = data
        return f"{self.web.url}/{name}"

    def collect(self) -> dict[str, int]:
        transport = HttpTransport(attempts=2, sleep=lambda seconds: None)
        return self.source.collect(transport, quiet=0.5, longest=30.0, clock=lambda: np.datetime64("2025-08-26T12:10"))

    def observe(self) -> Any:
        return observe(self.root, self.manifest, load_region(), self.source, FolderTransport(self.folder), SINCE, UNTIL)

    def temperature(self) -> np.ndarray:
        revision = self.manifest.latest("observations/wis2", "202508")
        assert revision is not None
        stored = self.root.open_store(revision.path).load()
        return stored["temperature_2m"].sel(station="ha_dong").values


@pytest.fixture
def site(broker: str, web: Web, tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "inbox"
    source = Wis2(STATIONS, broker, folder, client=f"test-{uuid.uuid4().hex[:12]}")
    with Session(broker, source.client, source.topics):
        pass                                            # from here on the broker keeps what comes for us
    with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as manifest:
        yield Site(source, Root(str(tmp_path)), manifest, web, folder)


def kelvin(value: float) -> bytes:
    return synop(report("48825", TIME, latitude=20.97, longitude=105.77, airTemperature=value))


def test_notifications_deliver_their_reports_into_the_archive(site: Site) -> None:
    inside = synop(report("48826", TIME, latitude=20.8, longitude=106.63, airTemperature=298.15))
    content = {"encoding": "base64", "value": base64.b64encode(inside).decode(), "size": len(inside)}
    site.publish(
        notification(href=site.serve("a.bufr", BUFR)),
        notification(inside, properties__data_id="other", properties__content=content),
    )
    assert site.collect() == {"taken": 2}
    report_ = site.observe()
    assert (report_.reports, report_.quarantined, report_.missing) == (2, (), ())
    revision = site.manifest.latest("observations/wis2", "202508")
    assert revision is not None
    stored = site.root.open_store(revision.path).load()
    assert stored["temperature_2m"].sel(station=["ha_dong", "phu_lien"]).values[0] == pytest.approx([26.2, 25.0], abs=0.01)
    assert stored["temperature_2m_quality"].sel(station="ha_dong").item() == 0
    assert stored["available_time"].sel(station="ha_dong").values[0] == np.datetime64("2025-08-26T12:10")
    assert site.web.asked == ["/a.bufr"]
    assert site.observe().months == ()                  # nothing new, nothing done


def test_what_came_while_we_were_away_is_there(site: Site) -> None:
    for number in range(30):
        data = synop(report("48825", f"2025-08-26T{number % 12:02d}:00", airTemperature=290.0 + number))
        site.publish(notification(data, href=site.serve(f"{number}.bufr", data), properties__data_id=f"d{number % 12}",
                                  properties__pubtime=f"2025-08-26T12:{number:02d}:00Z"))    # fmt: skip
    assert site.collect() == {"taken": 30}
    site.observe()
    newest = [290.0 + (number + 24 if number < 6 else number + 12) - 273.15 for number in range(1, 12)]
    assert site.temperature() == pytest.approx(newest, abs=0.06)


def test_duplicates_and_updates(site: Site) -> None:
    first = notification(kelvin(299.0), href=site.serve("a", kelvin(299.0)))
    other_cache = {**first, "id": str(uuid.UUID(int=99))}
    update = notification(kelvin(301.0), links=[{"href": site.serve("b", kelvin(301.0)), "rel": "update"}],
                          properties__pubtime="2025-08-26T12:30:00Z")    # fmt: skip
    site.publish(first, other_cache, update, first)
    assert site.collect() == {"taken": 2, "duplicate": 2}
    site.observe()
    assert site.temperature() == pytest.approx([27.85], abs=0.01)
    site.publish(other_cache)                           # in a later visit too
    assert site.collect() == {"duplicate": 1}


def test_a_deletion_withdraws_what_is_not_archived_yet(site: Site) -> None:
    deletion = notification(links=[{"href": "http://127.0.0.1:1/a", "rel": "deletion"}], properties__pubtime="2025-08-26T13:00:00Z")
    site.publish(notification(href=site.serve("a", BUFR)), deletion)
    assert site.collect() == {"taken": 1, "deletion": 1}
    found = site.observe()
    assert found.reports == 0
    (row,) = found.quarantined
    assert "withdrew" in row["reason"]
    assert site.root.read_bytes(row["kept"]) == BUFR


def test_what_is_wrong_is_kept_with_its_reason_and_the_rest_arrives(site: Site) -> None:
    good = notification(href=site.serve("good", BUFR))
    huge = site.serve("huge", b"BUFR" + bytes((16 << 20) + 1))
    cut = BUFR[:-30]
    site.publish(
        b'{"type": "Feature"}',
        notification(properties__data_id="x" * 9000),
        notification(properties__data_id="checksum", href=site.serve("bad", BUFR + b"!")),
        notification(properties__data_id="huge", href=huge, properties__integrity=None),
        notification(properties__data_id="promise", links=[{"href": "http://127.0.0.1:1/", "rel": "canonical", "length": 1 << 40}]),
        notification(properties__data_id="file", href="file:///etc/passwd"),
        notification(cut, properties__data_id="cut", href=site.serve("cut", cut)),
        notification(properties__data_id="far", geometry={"type": "Point", "coordinates": [2.3, 48.9]}),
        notification(properties__data_id="number", properties__wigos_station_identifier="0-20000-0-07156"),
        good,
    )
    assert site.collect() == {"refused": 6, "taken": 2, "elsewhere": 2}
    found = site.observe()
    assert found.reports == 1
    assert found.degraded
    reasons = [row["reason"] for row in found.quarantined]
    wanted = ("exactly one of conformsTo", "bytes, at most 8192", "sha512 of the data", "16777216", "promises", "not over HTTP", "cut off")
    assert [text for text in wanted if not any(text in reason for reason in reasons)] == []
    assert len(reasons) == 7
    assert len(site.manifest.quarantined("observations/wis2")) == 7
    assert not any("/etc/passwd" in path for path in site.web.asked)


def test_what_cannot_be_fetched_now_is_fetched_at_the_next_visit(site: Site) -> None:
    site.web.busy = 3                                   # the counter goes down before the answer: two attempts fail
    site.publish(notification(href=site.serve("late", BUFR)))
    assert site.collect() == {"pending": 1}
    found = site.observe()
    assert found.reports == 0
    assert "could not be fetched (yet)" in found.quarantined[0]["reason"]
    site.web.busy = 0
    assert site.collect() == {"taken": 1}
    assert site.observe().reports == 1
    assert site.collect() == {}


def test_a_visit_that_is_killed_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish(notification(href=site.serve("a", BUFR)))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "acknowledge", killed)
    with pytest.raises(KeyboardInterrupt):
        site.collect()
    monkeypatch.undo()
    with (next(site.folder.glob(f"*/{LOG}"))).open("a") as log:
        log.write('{"outcome": "tak')                   # and a line was cut off
    assert site.collect() == {"duplicate": 1}
    assert site.observe().reports == 1


def test_a_broker_that_is_not_there_or_refuses(broker: str, tmp_path: Path) -> None:
    check_broker(broker)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address, reason in (
        (f"mqtt://127.0.0.1:{port}", "cannot be reached"),
        (broker.replace("everyone:everyone", "everyone:wrong"), "refuses the connection"),
        ("http://127.0.0.1", "expected mqtts://"),
    ):
        with pytest.raises(SourceError, match=reason):
            check_broker(address)
    source = Wis2(STATIONS, f"mqtt://127.0.0.1:{port}", tmp_path / "inbox")
    with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as manifest:
        links = HttpTransport(attempts=1)
        found = observe(
            Root(str(tmp_path)), manifest, load_region(), source, FolderTransport(tmp_path / "inbox"), SINCE, UNTIL, links=links
        )
    assert found.degraded
    assert "cannot be reached" in found.missing[0]["reason"]
