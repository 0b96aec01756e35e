"""200 readers of the page and of position queries, in a process of their own, beside a server in another one.

Each reader keeps a connection open and asks once a second, as a busy duty room and its programs do: the page's files and data, and position
queries at random points for random members. Then all readers ask as fast as they are answered, which says how far it is to the limit::

    python -m tests.benchmarks.bench_serve [--quick] [--json PATH] [--root ROOT]

Without ``--root`` a grid of the size of Hanoi's, with fifty members, is published for the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_catalog.store import Root

READERS = 200
TARGET_MS = 100.0
WEST, SOUTH, EAST, NORTH = 102.0, 18.5, 110.0, 23.0
PAGE_DATA = ("status", "risk/lang", "point/lang", "map/rain24/q50")
VARIABLES = ("temperature_2m", "precipitation_amount", "wind_speed_10m", "relative_humidity_2m")


def publish(folder: Path) -> None:
    """One cycle: 65 leads, 50 members, a quarter of a degree."""
    rng = np.random.default_rng(8)
    hours = np.concatenate([np.arange(0, 145, 3), np.arange(150, 241, 6)])
    leads = hours * np.timedelta64(1, "h").astype("timedelta64[ns]")
    init_time = np.datetime64("2025-07-10T00", "ns")
    coords = {
        "lead_time": ("lead_time", leads), "valid_time": ("lead_time", init_time + leads), "init_time": init_time,
        "latitude": np.arange(NORTH, SOUTH - 0.1, -0.25), "longitude": np.arange(WEST, EAST + 0.1, 0.25), "ensemble_member": np.arange(50),
    }  # fmt: skip
    dims = ("lead_time", "latitude", "longitude", "ensemble_member")
    shape = (leads.size, coords["latitude"].size, coords["longitude"].size, 50)
    data = {name: (dims, rng.normal(20, 5, size=shape).astype(np.float32)) for name in VARIABLES}
    root = Root(str(folder))
    ref = root.write_store("published", "20250710T00Z", {"grid": xr.Dataset(data, coords)}, {"simulated": True}, revision="r0")
    latest = {"href": ref.path.removeprefix("published/"), "init_time": "2025-07-10T00:00:00Z", "revision": 0}
    root.write_json("published/latest.json", latest)


def paths(port: int, readers: int) -> list[list[str]]:
    """What each reader asks for, in turn: files and data of the page, and positions all over the grid."""
    base = f"http://127.0.0.1:{port}"

    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(base + path) as answer:
            return bytes(answer.read())

    newest = json.loads(fetch("/published/latest.json"))
    grid = json.loads(fetch("/edr/collections/grid"))
    cycle = newest["href"].rsplit(".", 2)[0]
    linked = re.findall(r'(?:src|href)="\./([^"]+)"', fetch("/").decode())
    page = [f"/{path}" for path in linked] + [f"/api/page/{cycle}/{data}" for data in PAGE_DATA]
    fixed = ["/", "/published/latest.json", f"/published/{newest['href']}/zarr.json", "/api/page/index", "/edr/collections/grid"]
    for path in page:
        with contextlib.suppress(urllib.error.HTTPError):  # what a small root lacks is left out
            fetch(path)
            fixed.append(path)
    west, south, east, north = grid["extent"]["spatial"]["bbox"][0]
    members = grid["extent"]["custom"][0]["values"]
    rng = random.Random(1)
    found = []
    for _ in range(readers):
        mine = list(fixed)
        for _ in range(15):
            point = f"POINT({rng.uniform(west, east):.3f}%20{rng.uniform(south, north):.3f})"
            member = rng.choice(["", f"&realization={rng.choice(members)}"])
            parameter = rng.choice(list(grid["parameter_names"]))
            mine.append(f"/edr/collections/grid/position?coords={point}&parameter-name={parameter}{member}")
        rng.shuffle(mine)
        found.append(mine)
    return found


class Reader:
    """One connection that is kept open, and asks in HTTP/1.1."""

    def __init__(self, port: int, wanted: list[str]) -> None:
        self.port, self.wanted = port, wanted
        self.milliseconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.bytes = 0

    async def run(self, until: float, pause: float) -> None:
        """Ask until a time, with a pause of so many seconds from one question to the next."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        turn = 0
        due = time.perf_counter() + random.Random(self.wanted[-1]).random() * pause
        while time.perf_counter() < until:
            if pause:
                due += pause
                await asyncio.sleep(max(due - time.perf_counter(), 0))
            path = self.wanted[turn % len(self.wanted)]
            turn += 1
            begun = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
            self.bytes += len(await reader.readexactly(length))
            self.milliseconds.append(1000 * (time.perf_counter() - begun))
            self.statuses[int(head.split()[1])] += 1
        writer.close()


async def load(port: int, wanted: list[list[str]], seconds: float, pause: float) -> dict[str, Any]:
    """A reader for each list of paths, all at once.

    Args:
        port: Of the server.
        wanted: Paths by reader.
        seconds: For so long.
        pause: Seconds from one question of a reader to its next; 0 asks as soon as it is answered.
    """
    crowd = [Reader(port, mine) for mine in wanted]
    begun = time.perf_counter()
    await asyncio.gather(*(reader.run(begun + seconds, pause) for reader in crowd))
    taken = time.perf_counter() - begun
    times = sorted(value for reader in crowd for value in reader.milliseconds)
    statuses = sum((reader.statuses for reader in crowd), Counter())
    return {
        "requests": len(times), "per_second": len(times) / taken, "median_ms": statistics.median(times),
        "p99_ms": times[int(0.99 * len(times))], "slowest_ms": times[-1],
        "megabytes": sum(reader.bytes for reader in crowd) / 1e6, "statuses": {str(status): count for status, count in statuses.items()},
    }  # fmt: skip


def main() -> int:
    """Run it; the exit code says whether an answer was an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--root", type=Path)
    chosen = parser.parse_args()
    readers, seconds = (20, 2.0) if chosen.quick else (READERS, 20.0)
    with tempfile.TemporaryDirectory() as folder:
        root = chosen.root or Path(folder)
        if chosen.root is None:
            publish(root)
        command = [sys.executable, "-m", "pipelines.cli", "serve", "--root", str(root), "--port", "0", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            assert server.stdout is not None
            said = ""
            while not said.rstrip().endswith("}"):
                said += server.stdout.readline()
            port = int(json.loads(said)["url"].rpartition(":")[2])
            wanted = paths(port, readers)
            asyncio.run(load(port, wanted, seconds / 2, 0.5))
            results = {
                "once a second": asyncio.run(load(port, wanted, seconds, 1.0)),
                "as fast as answered": asyncio.run(load(port, wanted, seconds / 2, 0.0)),
            }
        finally:
            server.terminate()
            server.wait()
    for name, found in results.items():
        print(
            f"{readers} readers, {name}: {found['requests']} requests, {found['per_second']:.0f}/s, median {found['median_ms']:.1f} ms, "
            f"p99 {found['p99_ms']:.1f} ms, slowest {found['slowest_ms']:.0f} ms, {found['megabytes']:.0f} MB, {found['statuses']}"
        )
    met = results["once a second"]["p99_ms"] < TARGET_MS
    print(f"{'met' if met else 'MISSED'}: p99 below {TARGET_MS:g} ms with {readers} readers that ask once a second")
    if chosen.json:
        chosen.json.write_text(json.dumps({"target_p99_ms": TARGET_MS, "readers": readers, **results}, indent=2))
    return int(any(status[0] == "5" for found in results.values() for status in found["statuses"]))


if __name__ == "__main__":
    raise SystemExit(main())
