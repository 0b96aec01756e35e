"""Two hundred readers at once, in a process of their own: every one of them is answered. How fast is the benchmark's business."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.serving.served import Client
from tests.tiny import clean_environment

CROWD = """
import asyncio, json, sys
from tests.benchmarks.bench_serve import load, paths
port = int(sys.argv[1])
wanted = paths(port, 200)
print(json.dumps(asyncio.run(load(port, wanted, 3.0, 1.0))))
"""


def test_two_hundred_readers_are_all_answered(client: Client) -> None:
    command = [sys.executable, "-c", CROWD, str(client.port)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["statuses"]) == ["200"]
    assert found["requests"] >= 200
