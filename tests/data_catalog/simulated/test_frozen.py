"""The published world is frozen: whatever changes a field is a new version.

Fields are kept as fingerprints, not bytes: other processors round the last digit of a matrix product differently. Each is projected on
three fixed random directions, which no change of a field survives. ``python -m tests.data_catalog.simulated.test_frozen`` writes them anew;
raise ``VERSION`` when you do.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from data_catalog.regions import load_region
from data_catalog.simulated.climate import Climate, hours_since_1970
from data_catalog.simulated.noise import normals
from data_catalog.simulated.places import Points
from data_catalog.simulated.simulator import VERSION, Simulator
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Bases

REFERENCE = Path(__file__).with_name("reference.json")
TIMES = np.array(["2024-01-22T03", "2024-03-10T20", "2024-07-14T10", "2024-09-07T08"], dtype="datetime64[h]")
INIT = np.datetime64("2024-07-13T00")


def fingerprint(values: np.ndarray) -> list[float]:
    """Projections on three fixed directions of random signs, over the root of the size."""
    signs = np.random.Generator(np.random.Philox(7)).integers(0, 2, (3, values.size)) * 2.0 - 1.0
    return [float(f"{value:.7g}") for value in signs @ np.nan_to_num(values.astype(np.float64).ravel()) / np.sqrt(values.size)]


def fields() -> dict[str, np.ndarray]:
    """Truth on a grid, reports of the stations, and a forecast of every centre."""
    region = load_region()
    climate = Climate.of(region)
    bases = Bases.at(climate, Points.grid(region.latitude[::2], region.longitude[::2]))
    found = {f"truth {name}": values for name, values in Truth(climate, 1).weather(hours_since_1970(TIMES), bases).items()}
    simulator = Simulator(region, 1, "default", Path("nowhere"))
    observed = simulator.observations(TIMES[2] + np.arange(12))
    found |= {f"observed {name}": values.values for name, values in observed.data_vars.items()}
    for dataset in simulator.specs:
        history = simulator.history(dataset, np.array([INIT]))
        found |= {f"{dataset} {name}": values.values for name, values in history.data_vars.items() if values.dtype.kind == "f"}
    return found


def reference() -> dict[str, object]:
    draws = hashlib.sha256(normals(1, (2, 3, 4), 5, (1000,)).tobytes()).hexdigest()
    return {"version": VERSION, "draws": draws, "fields": {name: fingerprint(values) for name, values in fields().items()}}


def test_the_generator_draws_the_same_bits() -> None:
    assert json.loads(REFERENCE.read_text())["draws"] == hashlib.sha256(normals(1, (2, 3, 4), 5, (1000,)).tobytes()).hexdigest()


def test_the_published_world_is_the_one_of_its_version() -> None:
    kept = json.loads(REFERENCE.read_text())
    assert kept["version"] == VERSION, "write the reference anew"
    found = fields()
    assert set(found) == set(kept["fields"])
    changed = [name for name, values in found.items() if fingerprint(values) != pytest.approx(kept["fields"][name], rel=1e-3, abs=2e-3)]
    assert not changed, f"these fields are no longer those of version {VERSION}; a change is a new version"


if __name__ == "__main__":
    REFERENCE.write_text(json.dumps(reference(), indent=1) + "\n")
    sys.stdout.write(f"{REFERENCE}\n")
