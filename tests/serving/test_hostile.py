"""Hostile clients beside honest ones: they are told no, they lose their own connections, and nobody else notices."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from serving.api import server
from serving.api.edge import LONGEST_TARGET
from tests.serving.served import Client, serving

WANTED = "/edr/collections/grid/position?coords=POINT(105.5%2021)&realization=0"


@contextmanager
def connected(client: Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as found:
        yield found


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def honest(client: Client, times: int = 20) -> None:
    """The page's data and a position query keep coming."""
    for _ in range(times):
        for path in ("/ready", WANTED, "/published/latest.json"):
            assert client.ask(path).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx", 413),
        (b"GET /ready HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 413),
        (b"POST /edr HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nslow", 405),
        (b"PUT /published/latest.json HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 405),
        (b"GET /" + b"a" * (LONGEST_TARGET + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /ready HTTP/1.1\r\nHost: x\r\n" + b"X-Pad: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /ready HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(9000)) + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
        (b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET //etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /assets/../index.html/../../api/app.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /published/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_bad_requests_get_a_clear_no_and_the_connection_ends(client: Client, request_: bytes, status: int) -> None:
    with connected(client) as connection:
        with suppress(ConnectionError):  # the answer may come, and the connection end, before all of it is sent
            connection.sendall(request_)
        answer = everything(connection)
    if answer:  # what was not read when the connection ended may take the answer with it
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
        assert b"application/problem+json" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == status
    else:
        assert len(request_) > 65536
    honest(client, 1)


def test_a_slow_head_is_cut_off(published_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with serving(published_root) as client, ExitStack() as stack:
        slow = [stack.enter_context(connected(client)) for _ in range(50)]
        silent = stack.enter_context(connected(client))
        begun = time.monotonic()
        for connection in slow:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        honest(client)
        for connection in slow:
            assert everything(connection).startswith(b"HTTP/1.1 408 ")
        assert everything(silent) == b""
        assert time.monotonic() - begun < 15
        honest(client)


def test_a_second_request_has_a_deadline_too(published_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with serving(published_root) as client, connected(client) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost:")
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answer


def test_who_does_not_read_is_cut_off(published_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READ_SECONDS", 0.5)
    with serving(published_root) as client, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)  # 100 MB of answers
        gone = select.poll()
        gone.register(connection, select.POLLRDHUP)
        honest(client)
        assert gone.poll(30_000), "it was still served after half a minute"
        honest(client)


def test_thousands_of_connections_take_nobody_down(published_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections than there is room for: the oldest silent ones go, and those that ask are answered."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 100)
    with serving(published_root) as client, ExitStack() as stack:
        kept = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        stack.callback(kept.close)
        kept.request("GET", "/ready")
        assert kept.getresponse().read()
        for number in range(2000):
            hostile = stack.enter_context(connected(client)) if number >= 1600 else socket.create_connection(("127.0.0.1", client.port))
            if number % 2:
                hostile.sendall(b"GET /ready HT")
            if number < 1600:
                hostile.close()
            if number % 400 == 0:
                honest(client, 3)
        honest(client)
        kept.request("GET", "/ready")  # it asked before, so it was not the first to go
        assert kept.getresponse().status == 200


def test_a_crowd_of_listeners_leaves_the_door_shut_for_newcomers_only(published_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody waits who could be sent away, whoever comes is, and those inside stay."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 16)
    with serving(published_root) as client, ExitStack() as stack:
        inside = [stack.enter_context(connected(client)) for _ in range(16)]
        for connection in inside:
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        with suppress(ConnectionResetError):  # at once, or after a moment
            assert everything(stack.enter_context(connected(client))) == b""
        inside[0].close()
        deadline, status = time.monotonic() + 20, 0
        while status != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
            with suppress(ConnectionResetError):  # until the server has seen that one left
                status = client.ask("/ready").status
        assert status == 200
        for connection in inside[1:]:
            assert b"retry" in connection.recv(100_000)


def test_huge_areas_are_refused_and_small_questions_still_answered(client: Client) -> None:
    for _ in range(30):
        corner = ",".join(f"{104 + 0.005 * n} {19 + (n % 2)}" for n in range(450))
        answer = client.ask(f"/edr/collections/grid/area?coords=POLYGON(({corner},104 19))".replace(" ", "%20"))
        assert answer.status in (200, 400, 404, 413, 414)
        assert client.ask("/edr/collections/models/cube?bbox=-180,-90,180,90&forecaster=").status in (200, 413)
        assert client.ask("/edr/collections/grid/instances?limit=100000").status == 400
    honest(client)


def test_too_many_listeners_are_sent_elsewhere(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.api import app

    monkeypatch.setattr(app, "LISTENERS", 0)
    answer = client.ask("/events")
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")


def test_too_many_waiting_queries_are_told_to_come_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.api.edr import service

    monkeypatch.setattr(service, "MOST_WAITING", {"small": 1000, "large": 0})
    answer = client.ask("/edr/collections/grid/cube?bbox=105,20,106,21&realization=1")
    assert (answer.status, answer.headers["retry-after"]) == (429, "2")
    assert client.ask(WANTED).status == 200


def test_a_connection_limit_leaves_room_for_files() -> None:
    assert 16 <= server.connection_limit() <= server.MOST_CONNECTIONS
