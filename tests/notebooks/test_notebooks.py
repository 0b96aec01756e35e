"""Every notebook runs from top to bottom on a small root or a short span, and asks one question; the first keeps its figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from pipelines.cycle import run_cycle
from pipelines.simulate import simulate
from tests.tiny import INIT, clean_environment, tiny_settings

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

Run = Callable[[str], nbformat.NotebookNode]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Executes a notebook by its number in its own folder, on a tiny root with one published cycle."""
    root = tmp_path_factory.mktemp("notebooks") / "root"
    simulate(tiny_settings(root), INIT, history_days=72)
    run_cycle(tiny_settings(root), INIT)

    def execute(number: str) -> nbformat.NotebookNode:
        scratch = str(tmp_path_factory.mktemp("jupyter"))
        (path,) = (path for path in NOTEBOOKS if path.name.startswith(number))
        book = nbformat.read(path, as_version=4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JUPYTER_RUNTIME_DIR", scratch)
            client = NotebookClient(book, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(FOLDER)}})
            chosen = {"GIOMUA_ROOT": str(root), "GIOMUA_SIMULATION_YEARS": "2"}
            client.execute(env=clean_environment(**chosen, IPYTHONDIR=scratch, MPLCONFIGDIR=scratch, TMPDIR=scratch))
        return book

    return execute


def shown(book: nbformat.NotebookNode, kind: str) -> list[str]:
    """Everything that the cells of a notebook gave back in one form."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    found = [output["data"][kind] for output in outputs if kind in output.get("data", {})]
    return found + [output["text"] for output in outputs if output.output_type == "stream" and kind == "text/plain"]


@pytest.mark.slow
def test_the_simulated_atmosphere_is_measured(run: Run) -> None:
    book = run("01")
    text = "\n".join(shown(book, "text/plain"))
    assert "World 1: 2 years at Láng" in text
    for name in ("days >= 50 mm a year", "typhoons a year", "cells 26, 52, 104, 208 km apart", "ceiling", "simulated-ai-eps", "nồm"):
        assert re.search(rf"^{re.escape(name)}.*\d", text, flags=re.MULTILINE), name
    assert re.search(r"runs  6 h apart correlate by 0\.9", text)
    assert len(shown(book, "image/png")) == 12


def test_the_forecast_is_read(run: Run) -> None:
    book = run("02")
    text = "\n".join(shown(book, "text/plain"))
    assert "Thursday 10 July 2025, 07:00" in text, "the start, on a clock in Hanoi"
    assert "Simulated data: not the weather of any real day." in text
    assert "simulated-global-eps" in text
    assert "rain of 24 h to 07:00" in text
    assert re.search(r"Fri 11 Jul +\d+\.\d \(\d+\.\d to \d+\.\d\) +\d+ %", text)
    assert len(shown(book, "image/png")) == 3


def test_the_archive_is_scored(run: Run) -> None:
    book = run("03")
    text = "\n".join(shown(book, "text/plain"))
    assert "simulated past: 72 forecasts x 3 lead times x 3 stations" in text
    crps = {name: float(score) for name, score in re.findall(r"^(\S+) +\d+ +(\d+\.\d+) ", text, flags=re.MULTILINE)}
    assert crps["blend"] < min(score for name, score in crps.items() if name.startswith("raw_") or name == "climatology")
    assert len(shown(book, "image/png")) == 3


def test_a_network_is_trained_on_the_archive(run: Run) -> None:
    book = run("04")
    text = "\n".join(shown(book, "text/plain"))
    assert re.search(r"drn \d{8}T\d\dZ\.[0-9a-f]{12} is the champion", text)
    assert "# drn 2025" in text
    assert re.search(r"^temperature_2m +\d", text, flags=re.MULTILINE)
    assert len(shown(book, "image/png")) == 2


def test_experiments_are_compared(run: Run) -> None:
    book = run("05")
    text = "\n".join(shown(book, "text/plain"))
    assert re.search(r"^ *emos 2025\S+ +champion", text, flags=re.MULTILINE)
    assert "It is not significantly better" in text or "It should be promoted." in text
    assert "observations" in text
    assert len(shown(book, "image/png")) == 2


def test_what_moved_a_forecast_is_said(run: Run) -> None:
    book = run("06")
    text = "\n".join(shown(book, "text/plain"))
    moved = dict(re.findall(r"^(simulated-\S+) +(\d+\.\d+)$", text.split("Largest move")[1].split("CRPS")[0], flags=re.MULTILINE))
    assert len(moved) >= 2
    assert max(map(float, moved.values())) > 0
    assert len(shown(book, "image/png")) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_asks_one_question(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert re.fullmatch(r"# .*\?", book.cells[0].source.splitlines()[0])
    assert sum(line.startswith("# ") for cell in book.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()) == 1
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    if path.name.startswith("01_"):
        assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
        assert path.stat().st_size < 2_000_000
    else:
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    for cell in book.cells:
        assert not re.search(r"(?<![\w.`\"])/(home|root|work|tmp|Users)/", cell.source), "a path of one machine"
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source if cell.cell_type == "markdown" else ""):
            assert target.startswith("https://") or (FOLDER / target).exists()


def test_they_are_numbered_from_one() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(1, len(NOTEBOOKS) + 1)]
