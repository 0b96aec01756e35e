"""The station networks on the simulated atmosphere: against the best statistical forecaster, and what each part of them is worth.

Pairs come from the archive of a root (``giomua simulate --days 400`` makes one). The newest fifth of the days is held out. Every figure
is the mean CRPS there, and its difference to the full ``drn`` with a 95 % interval over days (Newey and West). Ablations: each source of
predictors, the embeddings, the other variables, the verified errors, the number of members.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_catalog.dimensions import INIT_TIME, LEAD_TIME
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.store import Root
from models.base import ForecasterError, Pairs
from models.registry import build
from models.scores.significance import diebold_mariano
from pipelines.simulate import simulate
from pipelines.train import newest_time, read_training_past
from training.evaluate import evaluate, learned_until, started_from
from training.scoring import Cases

STATISTICAL = ("climatology", "emos", "emos-recent", "emos-loose", "forest")
NETWORKS = ("drn", "bqn", "shortrange")
HELD_OUT = 0.2


def pairs_of(settings: Settings, leads: int) -> Pairs:
    """All pairs of the archive of a root, on some of the leads."""
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        past = read_training_past(settings, root, manifest, newest_time(settings, root, manifest), None, lambda *_: None)
    assert past.pairs is not None
    kept = np.unique(np.linspace(1, past.pairs.observed.sizes[LEAD_TIME] - 1, leads).round().astype(int))
    sources = {name: source.isel({LEAD_TIME: kept}) for name, source in past.pairs.sources.items()}
    return replace(past.pairs, sources=sources, observed=past.pairs.observed.isel({LEAD_TIME: kept}))


def ablations(pairs: Pairs, variable: str) -> dict[str, tuple[Pairs, Mapping[str, Any]]]:
    """Label to (what is seen, parameters of ``drn``)."""
    found: dict[str, tuple[Pairs, Mapping[str, Any]]] = {"drn": (pairs, {})}
    for name in pairs.sources:
        left = {other: source for other, source in pairs.sources.items() if other != name}
        if left:
            found[f"without {name}"] = (replace(pairs, sources=left), {})
    alone = {name: source[[variable]] for name, source in pairs.sources.items() if variable in source}
    found["without the other variables"] = (replace(pairs, sources=alone), {})
    found["without verified errors"] = (replace(pairs, observations=None), {})
    found["without embeddings"] = (pairs, {"embedding": 0})
    found["2 members"] = (pairs, {"members": 2})
    found["10 members"] = (pairs, {"members": 10})
    return found


def score(forecaster_id: str, pairs: Pairs, cut: np.datetime64, variable: str, parameters: Mapping[str, Any]) -> Cases:
    """Held-out cases of a forecaster."""
    learned = replace(learned_until(pairs, cut), targets=(variable,))
    forecaster = build(forecaster_id, **parameters).fit(learned)
    return evaluate({forecaster_id: forecaster}, replace(started_from(pairs, cut), targets=(variable,)), ())[variable]


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--root", type=Path, help="of an archive; a small one is simulated where none is given")
    parser.add_argument("--variables", nargs="+", default=["temperature_2m", "wind_speed_10m"])
    parser.add_argument("--leads", type=int, default=8, help="evenly spread over the forecast")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(root=str(chosen.root or folder))
        if chosen.root is None:
            simulate(settings, np.datetime64("2025-07-10T00", "ns"), history_days=40 if chosen.quick else 400)
        pairs = pairs_of(settings, 2 if chosen.quick else chosen.leads)
    inits = np.unique(pairs.frame[INIT_TIME].values)
    cut = inits[int(len(inits) * (1.0 - HELD_OUT))]
    figures: dict[str, Any] = {"cycles": len(inits), "held_out_from": str(cut)[:10], "sources": list(pairs.sources)}
    for variable in chosen.variables[: 1 if chosen.quick else None]:
        figures[variable] = measured(pairs, cut, variable, chosen.quick)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


def measured(pairs: Pairs, cut: np.datetime64, variable: str, quick: bool) -> dict[str, dict[str, float]]:
    """CRPS of every forecaster and ablation, and its difference to ``drn``."""
    print(f"{variable}:", flush=True)
    runs = ablations(pairs, variable)
    quickly: Mapping[str, Any] = {"epochs": 2} if quick else {}
    cases = {"drn": score("drn", *_run(runs["drn"], cut, variable, quickly))}
    for name in (*STATISTICAL, *NETWORKS[1:]):
        try:
            cases[name] = score(name, pairs, cut, variable, quickly if name in NETWORKS else {})
        except ForecasterError as error:
            print(f"  {name}: {error}")
    for label, run in runs.items():
        if label != "drn":
            cases[label] = score("drn", *_run(run, cut, variable, quickly))
    found = {}
    for label, one in cases.items():
        day, difference = _difference(one, cases["drn"])
        test = diebold_mariano(difference)
        half = 1.96 * float(test.standard_error)
        found[label] = {"crps": float(one.statistics["crps"].mean()), "minus_drn": float(test.mean), "half_width": half, "days": len(day)}
        print(f"  {label:32s} {found[label]['crps']:.4f}  minus drn {float(test.mean):+.4f} ± {half:.4f}", flush=True)
    return found


def _run(
    run: tuple[Pairs, Mapping[str, Any]], cut: np.datetime64, variable: str, more: Mapping[str, Any]
) -> tuple[Pairs, np.datetime64, str, Mapping[str, Any]]:
    return run[0], cut, variable, {**run[1], **more}


def _difference(one: Cases, other: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Days, and the mean difference of the CRPS on each, over the cases that both have."""
    keys = [list(zip(c.init_time, c.lead_hours, c.station, strict=True)) for c in (one, other)]
    place = {key: i for i, key in enumerate(keys[1])}
    both = [(i, place[key]) for i, key in enumerate(keys[0]) if key in place]
    mine, theirs = np.array(both).T
    gap = one.statistics["crps"][0, mine] - other.statistics["crps"][0, theirs]
    day, where = np.unique(one.init_time[mine].astype("datetime64[D]"), return_inverse=True)
    return day, np.bincount(where, weights=gap) / np.bincount(where)


if __name__ == "__main__":
    main()
