"""The README and CONTRIBUTING hold: what they show runs, what they name exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_catalog.dimensions import QUANTILE
from data_catalog.settings import Settings
from pipelines.publish import ABOUT
from tests.serving.served import serving
from tests.tiny import clean_environment, giomua

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def lines(language: str) -> list[list[str]]:
    """Commands of the README's blocks in a language, as words, without their comments."""
    return [words for block in blocks(language) for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def inline() -> list[list[str]]:
    """Commands that the README names in running text: ``giomua status``, ``make serve``."""
    return [text.split() for text in re.findall(r"`((?:giomua|make) [^`]+)`", README)]


@pytest.fixture(scope="module")
def folder(cycled_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose ``var`` has one published cycle."""
    place = tmp_path_factory.mktemp("readme")
    shutil.copytree(cycled_root, place / "var")
    return place


ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.parametrize("code", [code for code in blocks("python") if ADDRESS not in code])
def test_python_examples_run(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert QUANTILE in done.stdout


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where the published cycle is served."""
    with serving(folder / "var") as client:
        yield client.base


@pytest.mark.parametrize("code", [code for code in blocks("python") if ADDRESS in code])
def test_python_examples_over_http_run(code: str, address: str, folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", code.replace(ADDRESS, address)]
    done = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2025-07-10" in done.stdout


def test_curl_examples_run(address: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    asked = [words for words in lines("sh") if words[0] == "curl"]
    assert len(asked) >= 2
    for words in asked:
        command = [word.replace(ADDRESS, address) for word in words]
        done = subprocess.run([*command, "--fail-with-body"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "temperature_2m" in done.stdout or "precipitation_amount" in done.stdout


@pytest.mark.parametrize("code", blocks("js"))
def test_javascript_examples_run(code: str, address: str) -> None:
    """zarrita reads the store as served, and the same values as xarray."""
    readers = REPOSITORY / "tests" / "serving" / "javascript"
    if shutil.which("node") is None or not (readers / "node_modules" / "zarrita").is_dir():
        pytest.skip(f"node, or what npm ci installs in {readers.relative_to(REPOSITORY)}, is missing")
    assert ADDRESS in code
    code = code.replace(ADDRESS, address) + "console.log(JSON.stringify([...lang.data]));"
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", code], cwd=readers, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    with urllib.request.urlopen(f"{address}/published/latest.json") as answer:
        href = json.load(answer)["href"]
    stored = xr.open_zarr(f"{address}/published/{href}", group="stations").temperature_2m.isel(station=0)
    found = np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)
    np.testing.assert_array_equal(found, stored.values.ravel())


def test_what_may_be_run_anywhere_runs(folder: Path) -> None:
    status = giomua("status", cwd=folder)
    assert status.returncode == 0, status.stderr
    assert "Published 2025-07-10T00:00:00Z r0" in status.stdout
    assert "simulated" in status.stdout


@pytest.mark.real_data
def test_the_live_data_example_runs_on_real_files(real_data: Path, tmp_path: Path) -> None:
    """Import and run as the README writes them, with a real NCEP file and its init_time in place of those of the example."""
    (block,) = (block for block in blocks("sh") if "giomua import" in block)
    shutil.copy(real_data / "grib" / "ncep" / "gfs_20110110T12_f120_2p5deg.grib2", tmp_path)
    script = re.sub(r"gfs\.t\d\dz\.\S+", "gfs_*.grib2", block)
    script = re.sub(r"--init-time \S+", "--init-time 2011-01-10T12Z", script)
    assert script != block
    command = f"giomua() {{ {shlex.quote(sys.executable)} -m pipelines.cli \"$@\"; }}\n{script}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    assert "Missing or late" in done.stdout
    assert json.loads((tmp_path / "real" / "published" / "latest.json").read_text())["init_time"] == "2011-01-10T12:00:00Z"


def test_every_command_and_option_it_names_exists(tmp_path: Path) -> None:
    shown = giomua("--help", cwd=tmp_path).stdout
    known = set(re.findall(r"^[│|]?\s*([a-z]+)  ", shown, flags=re.MULTILINE))
    listed = next(text for text in re.findall(r"`giomua ([^`]+)`", README) if "|" in text)
    names = {part.split()[0] for part in listed.split("|")}
    assert names <= known
    assert known - names == set(), "commands that the README does not name"
    for words in [*lines("sh"), *inline()]:
        if words[0] == "giomua" and "|" not in words:
            assert words[1] in known
            usage = giomua(words[1], "--help", cwd=tmp_path).stdout
            for word in words[2:]:
                assert not word.startswith("--") or word in usage, f"{words[1]} has no {word}"


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    named = {words[1] for words in [*lines("sh"), *inline()] if words[0] == "make"}
    named |= set(re.findall(r"[`(]make ([a-z]+)[`)]", README + CONTRIBUTING))
    assert {"run", "test", "serve", "check", "bench"} <= named
    assert named <= targets


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_link_and_path_leads_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert path.startswith("https://") or (REPOSITORY / path).exists(), target
        if anchor:
            assert anchor in anchors((REPOSITORY / (path or page)).read_text(encoding="utf-8")), target
    for path in re.findall(r"`((?:[a-z_.]+/)+[\w./]*)`", text):
        assert path.startswith("published/") or (REPOSITORY / path).exists(), path
    for path in re.findall(r"^    ([a-z_]+/)  ", text, flags=re.MULTILINE):
        assert (REPOSITORY / path).is_dir(), path


def test_the_groups_are_those_that_are_published() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", README, flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(ABOUT)


def test_every_setting_it_names_exists() -> None:
    for name in re.findall(r"GIOMUA_([A-Z][A-Z_]*[A-Z])", README + CONTRIBUTING):
        assert name.lower() in Settings.model_fields, name
