"""Train one forecaster on the past of the archive, and find how good it is on the newest part, which it is not shown.

The version that is kept is the one that was judged: nothing is learned again from the held-out part. So every forecast it makes of a
cycle that started at ``held_out_from`` or later is out of its sample, there and in all the days to come.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.dimensions import INIT_TIME, STATION
from data_catalog.errors import ConfigurationError
from data_catalog.sources.base import Progress, silent
from models.base import Forecaster, ForecasterError, Inputs, Pairs
from models.registry import build
from training.ensemble import history_days
from training.evaluate import Protected, evaluate, learned_until, score_table, started_from
from training.pairs import Past
from training.scoring import Cases

HELD_OUT_DAYS: Final = 30
LEAST_DAYS: Final = 10
"""Fewest days that may be held out."""
REFERENCES: Final = ("climatology", "emos")
"""Forecasters, beside each raw ensemble, that a new one is shown with."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted forecaster and what is known of it.

    Attributes:
        forecaster: Fitted.
        training: What :func:`training.champions.save_version` keeps of where it was learned.
        cases: Held-out cases by variable; its own row is the first.
        scores: :func:`training.evaluate.score_table` of them.
        history: By variable one row an epoch, ``epoch``, ``loss`` and ``held_out``; empty for what has no epochs.
        cost: ``fit_seconds``, ``predict_seconds`` of one cycle, ``state_bytes``; of networks also ``rows_per_second`` and ``waited_share``.
        device: That it was trained on.
    """

    forecaster: Forecaster
    training: Mapping[str, Any]
    cases: Mapping[str, Cases]
    scores: Sequence[Mapping[str, Any]]
    history: Mapping[str, Sequence[Mapping[str, float | None]]]
    cost: Mapping[str, float]
    device: str


def split_time(pairs: Pairs, until: np.datetime64, held_out_days: int | None = None) -> np.datetime64:
    """Where the held-out part begins: 30 days before the end, a third of a shorter past.

    Raises:
        ConfigurationError: Too little would be held out or remain.
    """
    days = history_days(pairs)
    held = min(HELD_OUT_DAYS, days // 3) if held_out_days is None else held_out_days
    if held < LEAST_DAYS or days - held < LEAST_DAYS:
        raise ConfigurationError(
            f"The archive has {days} days of pairs up to {cycle_key(until)}, of which {held} would be held out; at least {LEAST_DAYS} "
            "have to be held out and as many to remain. Make more with giomua simulate --days, or let cycles run."
        )
    found: np.datetime64 = until - np.timedelta64(held, "D")
    return found


def train(
    forecaster_id: str,
    past: Past,
    until: np.datetime64,
    snapshot: str,
    protected: Sequence[Protected],
    *,
    held_out_days: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: str = "auto",
    checkpoints: Path | None = None,
    simulated: bool = False,
    progress: Progress = silent,
) -> Trained:
    """Learn from all but the newest days, and judge on these.

    Args:
        forecaster_id: As in :mod:`models.registry`.
        past: From :func:`training.pairs.read_past`.
        until: End of the past.
        snapshot: Id of the data, from :meth:`data_catalog.manifest.Manifest.add_snapshot`.
        protected: Extremes whose scores are kept beside.
        held_out_days: See :func:`split_time`.
        parameters: Of the forecaster, in place of its own.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoints: Folder in which a network keeps what it needs to go on after a kill; the same training goes on there.
        simulated: Whether the data is.
        progress: Called as it goes on.

    Raises:
        ConfigurationError: The past is too short, or there is none.
        ForecasterError: It cannot learn or forecast from what there is.
    """
    if past.pairs is None:
        raise ConfigurationError("The archive has no pairs of forecasts and observations; run giomua simulate, or import and observe.")
    cut = split_time(past.pairs, until, held_out_days)
    learned, held_out = learned_until(past.pairs, cut), started_from(past.pairs, cut)
    days = history_days(learned)
    parameters = dict(parameters or {})
    forecaster = build(forecaster_id, **parameters)
    if forecaster.spec.minimum_history > days:
        raise ForecasterError(
            f"{forecaster_id} needs {forecaster.spec.minimum_history} days of pairs, there are {days} without the held-out ones."
        )
    chosen = prepared(forecaster, device, _folder(checkpoints, forecaster_id, snapshot, cut, parameters), progress)
    progress(f"training {forecaster_id}", 0, 1)
    start = time.perf_counter()
    forecaster = forecaster.fit(learned)
    seconds = time.perf_counter() - start
    progress(f"training {forecaster_id}", 1, 1)

    progress(f"judging {forecaster_id}", 0, 1)
    cases = evaluate({forecaster_id: forecaster} | references(forecaster_id, learned), held_out, protected)
    progress(f"judging {forecaster_id}", 1, 1)
    training = {
        "until": cycle_key(until),
        "held_out_from": str(cut.astype("datetime64[m]")) + "Z",
        "first": str(learned.frame[INIT_TIME].values.min().astype("datetime64[m]")) + "Z",
        "days": days,
        "snapshot": snapshot,
        "sources": sorted(learned.sources),
        "targets": [name for name in past.pairs.targets if name in cases and forecaster_id in cases[name].rows],
        "stations": [str(one) for one in learned.frame[STATION].values],
        "parameters": _options(forecaster) | parameters,
        "simulated": simulated,
    }
    curves = curves_of(forecaster)
    cost = {"fit_seconds": seconds, **_cost(forecaster, held_out), **_speed(forecaster)}
    return Trained(forecaster, training, cases, score_table(cases), curves, cost, chosen)


def prepared(forecaster: Any, device: str, checkpoint: Path | None, progress: Progress) -> str:
    """Give a forecaster that asks for them its device, progress and checkpoints.

    Returns:
        The device it is trained on.

    Raises:
        ConfigurationError: There is no such device here.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"--device is {device!r}; expected auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("--device is cuda, and this machine has no CUDA device that PyTorch can use; take --device cpu.")
    found = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if hasattr(forecaster, "device"):
        forecaster.device = found
    if hasattr(forecaster, "hooks"):
        from models.neural.trainer import Epoch, Hooks

        name = forecaster.spec.id

        def follow(epoch: Epoch) -> None:
            progress(f"training {name}", epoch.number, epoch.of)

        forecaster.hooks = Hooks(follow, lambda said: progress(f"training {name}: {said}", 0, 1), checkpoint)
    return found if hasattr(forecaster, "device") else "cpu"


def _folder(checkpoints: Path | None, forecaster_id: str, snapshot: str, cut: np.datetime64, parameters: Mapping[str, Any]) -> Path | None:
    """One folder for one training: another past, or other parameters, never go on from it."""
    if checkpoints is None:
        return None
    said = json.dumps([forecaster_id, snapshot, str(cut), dict(parameters)], sort_keys=True, default=str)
    return checkpoints / f"{forecaster_id}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _options(forecaster: Any) -> dict[str, Any]:
    """The numbers that describe a network and its training; nothing for the others."""
    return dict(forecaster.options()) if hasattr(forecaster, "options") else {}


def curves_of(forecaster: Any) -> dict[str, list[dict[str, float | None]]]:
    """Losses by variable and epoch, of a forecaster that has them."""
    learned = getattr(forecaster, "learned_", {})
    return {
        name: [{"epoch": epoch.number, "loss": _known(epoch.loss), "held_out": _known(epoch.held_out)} for epoch in one.curve]
        for name, one in learned.items()
        if getattr(one, "curve", ())
    }


def _known(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _speed(forecaster: Any) -> dict[str, float]:
    """Rows a second of training, and the share of it that the device waited for rows."""
    epochs = [epoch for one in getattr(forecaster, "learned_", {}).values() for epoch in getattr(one, "curve", ())]
    seconds = sum(epoch.seconds for epoch in epochs)
    if not seconds > 0:
        return {}
    return {"rows_per_second": sum(epoch.rows for epoch in epochs) / seconds, "waited_share": sum(e.waited for e in epochs) / seconds}


def references(forecaster_id: str, learned: Pairs) -> dict[str, Forecaster]:
    """Fitted forecasters to show a new one with: climatology, the joint EMOS and every raw ensemble; what cannot be fitted is left out."""
    found: dict[str, Forecaster] = {}
    for name in (*REFERENCES, *(f"raw_{source}" for source in learned.sources)):
        if name != forecaster_id:
            try:
                found[name] = build(name).fit(learned)
            except ForecasterError:
                continue
    return found


def one_cycle(pairs: Pairs) -> Inputs:
    """The last cycle of some pairs, as a forecaster sees it."""
    return Inputs(
        sources={name: source.isel({INIT_TIME: [-1]}) for name, source in pairs.sources.items()},
        observations=pairs.observations,
        targets=pairs.targets,
    )


def _cost(forecaster: Forecaster, pairs: Pairs) -> dict[str, float]:
    start = time.perf_counter()
    forecaster.predict(one_cycle(pairs))
    seconds = time.perf_counter() - start
    return {"predict_seconds": seconds, "state_bytes": float(sum(np.asarray(a).nbytes for a in forecaster.state().values()))}


def skill(cases: Mapping[str, Cases], row: str, reference: str) -> float | None:
    """Mean over the variables of 1 - CRPS / CRPS of the reference, None where none has both."""
    found = []
    for one in cases.values():
        if {row, reference} <= set(one.rows):
            mean = one.statistics["crps"].mean(axis=1)
            if mean[one.rows.index(reference)] > 0:
                found.append(1.0 - mean[one.rows.index(row)] / mean[one.rows.index(reference)])
    return float(np.mean(found)) if found else None
