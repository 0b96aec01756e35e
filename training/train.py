"""Train one forecaster on the past of the archive, and find how good it is on the newest part, which it is not shown.

The version that is kept is the one that was judged: nothing is learned again from the held-out part. So every forecast it makes of a
cycle that started at ``held_out_from`` or later is out of its sample, there and in all the days to come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        history: One row an epoch, for those that have epochs: ``epoch`` and losses.
        cost: ``fit_seconds``, ``predict_seconds`` of one cycle, ``state_bytes``.
    """

    forecaster: Forecaster
    training: Mapping[str, Any]
    cases: Mapping[str, Cases]
    scores: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, float]]
    cost: Mapping[str, float]


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
        parameters: Of the forecaster, in place of its own; those of a search.
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
    history: list[dict[str, float]] = []
    forecaster = build(forecaster_id, **(parameters or {}))
    if forecaster.spec.minimum_history > days:
        raise ForecasterError(
            f"{forecaster_id} needs {forecaster.spec.minimum_history} days of pairs, there are {days} without the held-out ones."
        )
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
        "parameters": dict(parameters or {}),
        "simulated": simulated,
    }
    cost = {"fit_seconds": seconds, **_cost(forecaster, held_out)}
    return Trained(forecaster, training, cases, score_table(cases), history, cost)


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
