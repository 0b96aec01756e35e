"""The command ``giomua serve``."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.tiny import GIOMUA, clean_environment, giomua


def test_it_says_where_it_is_what_it_lacks_and_why_it_cannot(tmp_path: Path) -> None:
    command = [*GIOMUA, "serve", "--root", "var", "--port", "0"]
    running = subprocess.Popen(command, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        said = running.stdout.readline()
        assert "nothing can be served yet" in said
        assert "run giomua run" in said
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", said)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{address}/ready")
        again = giomua("serve", "--root", "var", "--port", address.rpartition(":")[2], cwd=tmp_path)
        assert again.returncode == 1
        assert "choose another --port" in again.stderr
        assert again.stdout == ""
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 0
    finally:
        running.kill()
        running.stdout.close()
