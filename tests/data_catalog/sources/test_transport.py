from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.sources.base import Host, Transport
from data_catalog.sources.transport import FolderTransport, HttpTransport, merge_ranges
from tests.data_catalog.sources.provider import Server, serving

DATA = bytes(range(256)) * 40


@dataclass
class Script:
    """What the server does: one entry a request, the last one for all that follow."""

    steps: list[str] = field(default_factory=lambda: ["ok"])
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def next(self) -> str:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


@pytest.fixture
def server() -> Iterator[tuple[str, Script]]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            script.requests.append((self.path, wanted))
            step = script.next()
            if step.isdigit():
                self.send_response(int(step))
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"busy")
                return
            start, stop = 0, len(DATA)
            if wanted and step != "whole":
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(int(last) + 1, len(DATA)) if last else len(DATA)
            body = DATA[start:stop]
            self.send_response(206 if wanted and step != "whole" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if step == "cut":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
            elif step == "slow":
                time.sleep(0.6)
                self.wfile.write(body)
            elif step == "drip":
                for byte in body[:40]:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.05)
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client left, as it should
                super().handle()

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}", script
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def http(server: tuple[str, Script]) -> Iterator[HttpTransport]:
    pauses: list[float] = []
    transport = HttpTransport(server[0] + "/base/", timeout=0.3, deadline=1.0, attempts=4, pause=0.5, sleep=pauses.append)
    object.__setattr__(transport, "pauses", pauses)
    yield transport
    transport.close()


def pauses(transport: HttpTransport) -> list[float]:
    return transport.pauses  # type: ignore[attr-defined, no-any-return]


def test_both_are_transports(tmp_path: Path) -> None:
    assert isinstance(FolderTransport(tmp_path), Transport)
    assert isinstance(HttpTransport("http://127.0.0.1"), Transport)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 300))
def test_a_folder_gives_exactly_the_range(tmp_path: Path, start: int, length: int) -> None:
    (tmp_path / "file").write_bytes(DATA)
    folder = FolderTransport(tmp_path)
    stop = min(start + length, len(DATA))
    assert folder.read("file", start, stop) == DATA[start:stop]
    assert folder.read("file", start) == DATA[start:]


def test_a_folder_says_what_is_not_there_cut_off_or_outside(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/file").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(b"secret")
    folder = FolderTransport(tmp_path / "base")
    with pytest.raises(NotAvailableError, match="There is no file"):
        folder.read("other")
    with pytest.raises(NotAvailableError):
        folder.read("file/inside")
    with pytest.raises(SourceError, match=r"gave 2 bytes of \[1, 9\), expected 8"):
        folder.read("file", 1, 9)
    with pytest.raises(SourceError, match="leads out of the folder"):
        folder.read("../secret")
    with pytest.raises(SourceError, match="could not be read"):
        folder.read(".")


def test_ranges_over_http(http: HttpTransport, server: tuple[str, Script]) -> None:
    assert http.read("file") == DATA
    assert http.read("file", 100, 300) == DATA[100:300]
    assert http.read("file", 10_000) == DATA[10_000:]
    assert server[1].requests == [("/base/file", None), ("/base/file", "bytes=100-299"), ("/base/file", "bytes=10000-")]


def test_an_absolute_url_is_taken_as_it_is(http: HttpTransport, server: tuple[str, Script]) -> None:
    http.read(f"{server[0]}/elsewhere", 0, 4)
    assert server[1].requests == [("/elsewhere", "bytes=0-3")]


def test_a_server_without_ranges_sends_everything_and_we_cut(http: HttpTransport, server: tuple[str, Script]) -> None:
    server[1].steps = ["whole"]
    assert http.read("file", 100, 300) == DATA[100:300]


@pytest.mark.parametrize("trouble", ["503", "429", "500", "cut", "slow", "drip"])
def test_what_may_pass_is_tried_again(http: HttpTransport, server: tuple[str, Script], trouble: str) -> None:
    server[1].steps = [trouble, "ok"]
    assert http.read("file", 50, 5000) == DATA[50:5000]
    assert len(server[1].requests) == 2


def test_pauses_grow_and_have_jitter(http: HttpTransport, server: tuple[str, Script]) -> None:
    server[1].steps = ["503"]
    with pytest.raises(SourceError, match="in 4 attempts: HTTP 503"):
        http.read("file")
    assert len(server[1].requests) == 4
    for number, pause in enumerate(pauses(http)):
        assert 0.25 * 2**number <= pause <= 0.5 * 2**number


def test_not_found_is_not_tried_again(http: HttpTransport, server: tuple[str, Script]) -> None:
    server[1].steps = ["404"]
    with pytest.raises(NotAvailableError, match=r"There is no object .*/base/file \(HTTP 404\)"):
        http.read("file")
    assert len(server[1].requests) == 1


def test_forbidden_is_an_error_that_says_what_to_do(http: HttpTransport, server: tuple[str, Script]) -> None:
    server[1].steps = ["403"]
    with pytest.raises(SourceError, match="refused with HTTP 403"):
        http.read("file")
    assert len(server[1].requests) == 1


def test_an_answer_always_cut_off_ends_as_an_error(http: HttpTransport, server: tuple[str, Script]) -> None:
    server[1].steps = ["cut"]
    with pytest.raises(SourceError, match="could not be read in 4 attempts"):
        http.read("file", 0, 1000)


def test_a_range_past_the_end_is_an_error(http: HttpTransport) -> None:
    with pytest.raises(SourceError, match=r"gave 50 bytes where \[10190, 10290\) is wanted"):
        http.read("file", len(DATA) - 50, len(DATA) + 50)


def test_nobody_listening_is_an_error() -> None:
    transport = HttpTransport("http://127.0.0.1:9", connect=0.2, timeout=0.2, attempts=2, sleep=lambda _: None)
    with pytest.raises(SourceError, match="in 2 attempts: ConnectError"):
        transport.read("file")
    transport.close()


RANGES = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)).map(lambda pair: (pair[0], sum(pair))), min_size=1, max_size=20)


@given(RANGES, st.integers(0, 40), st.integers(20, 200))
def test_merged_ranges_cover_what_was_asked_and_little_more(ranges: list[tuple[int, int]], near: int, most: int) -> None:
    merged = merge_ranges(ranges, near, most)
    assert all(any(first <= start and stop <= last for first, last in merged) for start, stop in ranges), "each lies in one of them"
    assert all(stop - start <= max(most, *(b - a for a, b in ranges)) for start, stop in merged)
    wanted = {byte for start, stop in ranges for byte in range(start, stop)}
    for start, stop in merged:
        run = 0
        for byte in range(start, stop):
            run = 0 if byte in wanted else run + 1
            assert run <= near
        assert {start, stop - 1} <= wanted
    assert len(merged) <= len(ranges)


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    with serving() as first, serving() as second:
        first.files["file"] = second.files["file"] = DATA
        yield first, second


def from_both(servers: tuple[Server, Server], **how: float) -> HttpTransport:
    waits: list[float] = []
    transport = HttpTransport(*(one.url for one in servers), timeout=0.3, pause=0.5, sleep=waits.append, **{"attempts": 3, **how})
    transport.waits = waits  # type: ignore[attr-defined]
    return transport


@pytest.mark.parametrize("trouble", ["503", "404", "403", "dead", "short", "wall", "page", "slow"])
def test_the_mirror_gives_what_the_first_does_not(servers: tuple[Server, Server], trouble: str) -> None:
    servers[0].faults["*"] = trouble
    transport = from_both(servers)
    assert transport.read("file", 10, 500) == DATA[10:500]
    assert [len(one.requests) for one in servers] == [1, 1]
    assert not transport.waits, "no pause before another mirror"  # type: ignore[attr-defined]


def test_the_first_host_is_preferred(servers: tuple[Server, Server]) -> None:
    assert from_both(servers).read("file") == DATA
    assert not servers[1].requests


def test_absent_is_what_no_mirror_has(servers: tuple[Server, Server]) -> None:
    with pytest.raises(NotAvailableError):
        from_both(servers).read("other")
    servers[1].faults["*"] = "503"
    with pytest.raises(SourceError, match="in 3 attempts: HTTP 503") as caught:
        from_both(servers).read("other")
    assert not isinstance(caught.value, NotAvailableError), "the mirror may have it"


def test_a_download_goes_on_where_it_broke_off(servers: tuple[Server, Server]) -> None:
    servers[0].faults["file"] = "short:1"
    assert from_both(servers[:1]).read("file", 100, 9000) == DATA[100:9000]  # type: ignore[arg-type]
    assert [asked for _, asked in servers[0].requests] == ["bytes=100-8999", "bytes=4550-8999"]


def test_an_object_that_changed_meanwhile_is_read_anew(servers: tuple[Server, Server]) -> None:
    server, newer = servers[0], DATA[::-1]
    server.faults["file"] = "short:1"
    transport = HttpTransport(server.url, timeout=0.3, attempts=3, sleep=lambda _: server.files.update(file=newer))
    assert transport.read("file", 100, 9000) == newer[100:9000]


@pytest.mark.parametrize(("header", "least"), [("7", 7.0), ("0", 0.0), ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0), ("soon", 0.0)])
def test_what_a_server_asks_us_to_wait_is_waited(servers: tuple[Server, Server], header: str, least: float) -> None:
    servers[0].faults["file"], servers[0].headers = "429:1", {"Retry-After": header}
    transport = from_both(servers[:1])  # type: ignore[arg-type]
    assert transport.read("file") == DATA
    (wait,) = transport.waits  # type: ignore[attr-defined]
    assert least <= wait <= max(least, 0.5)


def test_a_server_that_wants_us_to_wait_for_hours_is_left(servers: tuple[Server, Server]) -> None:
    servers[0].faults["file"], servers[0].headers = "503", {"Retry-After": "7200"}
    with pytest.raises(SourceError, match="asks to wait 7200 s"):
        from_both(servers[:1]).read("file")  # type: ignore[arg-type]
    assert len(servers[0].requests) == 1


def test_a_redirect_to_the_same_object_is_followed_and_another_is_a_wall(servers: tuple[Server, Server]) -> None:
    servers[0].faults["file"] = "moved"
    assert from_both(servers[:1]).read("file", 5, 9) == DATA[5:9]  # type: ignore[arg-type]
    assert servers[0].requests[-1] == ("elsewhere/file", "bytes=5-8")
    servers[0].faults["file"] = "wall:2"
    assert from_both(servers[:1]).read("file", 5, 9) == DATA[5:9]  # type: ignore[arg-type]
    servers[0].faults["file"] = "wall"
    with pytest.raises(SourceError, match="a wall against too many requests"):
        from_both(servers[:1]).read("file")  # type: ignore[arg-type]


def test_a_file_that_is_shorter_than_its_index_says_is_not_tried_again(servers: tuple[Server, Server]) -> None:
    with pytest.raises(SourceError, match=f"it has {len(DATA)} bytes"):
        from_both(servers[:1]).read("file", 10, len(DATA) + 1)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="has no bytes from"):
        from_both(servers[:1]).read("file", len(DATA) + 10, len(DATA) + 20)  # type: ignore[arg-type]
    assert len(servers[0].requests) == 2


def test_what_failed_is_not_asked_for_again_nor_a_host_that_fails_with_everything(servers: tuple[Server, Server]) -> None:
    servers[0].faults["*"] = "503"
    transport = from_both(servers[:1], attempts=2)  # type: ignore[arg-type]
    for name in ("a", "a", "b", "c", "d", "e"):
        with pytest.raises(SourceError):
            transport.read(name)
    assert [path for path, _ in servers[0].requests] == ["a", "a", "b", "b", "c", "c"]
    with pytest.raises(SourceError, match="was given up"):
        transport.read("file")


def test_no_more_requests_in_a_minute_than_a_host_allows(servers: tuple[Server, Server]) -> None:
    waits: list[float] = []
    transport = HttpTransport(Host(servers[0].url, per_minute=60), timeout=0.5, sleep=waits.append)
    for _ in range(3):
        transport.read("file", 0, 4)
    assert len(waits) == 2
    assert 0.5 < waits[0] <= 1.0
    assert 1.0 < waits[1] <= 2.0, "a second more for each, as long as nobody really waits"


def test_no_more_connections_at_once_than_a_host_allows(servers: tuple[Server, Server]) -> None:
    servers[0].faults["*"] = "slow"
    transport = HttpTransport(Host(servers[0].url, connections=2), timeout=2.0)
    begun = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda start: transport.read("file", start, start + 3), range(4)))
    assert found == [DATA[start : start + 3] for start in range(4)]
    assert time.monotonic() - begun >= 1.0, "two by two, half a second each"
