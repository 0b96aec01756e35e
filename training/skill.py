"""How the blend did against each raw ensemble over the newest part of the past, held out of what it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION
from data_catalog.variables import VARIABLES
from models.base import LEVELS
from models.blend import apply_blend
from models.scores import crps_quantiles
from training.learning import Lesson, lead_hours, valid_times


def held_out_scores(lesson: Lesson, now: np.datetime64) -> list[Mapping[str, Any]]:
    """Continuous ranked probability scores of the newest block, forecast and blended by what was learned from the time before it.

    Args:
        lesson: Of a cycle.
        now: Its init_time.

    Returns:
        Rows {forecaster, variable, n, crps, held_out_from, held_out_to}, the same cases in every row of a variable; empty when the
        history is too short to hold anything out.
    """
    if lesson.pairs is None or lesson.block is None:
        return []
    pairs, rows = lesson.pairs, lesson.block.rows
    since = pairs.frame[INIT_TIME].values[rows[0]]
    found: list[Mapping[str, Any]] = []
    for name, parts in lesson.newest.quantiles.items():
        truth = pairs.observed[name].transpose(INIT_TIME, LEAD_TIME, STATION).values[rows].astype(np.float64)
        truth = np.where((valid_times(pairs)[rows] <= now)[..., None], truth, np.nan)
        state = lesson.newest_states[name].only(list(parts))
        if not any(i in parts for i in state.prefer):
            continue
        known = VARIABLES[name]
        blended = apply_blend(state, list(parts.values()), lead_hours(pairs), known.lower_bound, known.upper_bound)
        shown = {"blend": blended} | {i: q for i, q in parts.items() if i.startswith("raw_") or i == "climatology"}
        common = np.isfinite(truth)
        for values in shown.values():
            common &= np.isfinite(values).all(axis=-1)
        if not common.any():
            continue
        found += [
            {
                "forecaster": who,
                "variable": name,
                "n": int(common.sum()),
                "crps": float(np.mean(np.asarray(crps_quantiles(values[common], truth[common], LEVELS)))),
                "held_out_from": str(since.astype("datetime64[D]")),
                "held_out_to": str(now.astype("datetime64[D]")),
            }
            for who, values in shown.items()
        ]
    return found
