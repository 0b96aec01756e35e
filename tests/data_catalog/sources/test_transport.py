from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.sources.base import Transport
from data_catalog.sources.transport import FolderTransport, HttpTransport

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
