"""How the blend did against each raw ensemble over the newest part of the past, held out of what it learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, QUANTILE
from data_catalog.sources.base import Progress, silent
from models.base import LEVELS, Inputs, Pairs
from models.scores import crps_quantiles
from training.ensemble import blend_equally, fit_forecasters, history_days, predict_all

HELD_OUT_DAYS: Final = 30
LEAST_TRAINING_DAYS: Final = 20
DAY = np.timedelta64(1, "D")


def held_out_scores(
    pairs: Pairs, sources: Sequence[str], init_time: np.datetime64, progress: Progress = silent
) -> list[Mapping[str, Any]]:
    """Continuous ranked probability scores on the last :data:`HELD_OUT_DAYS` days, learned from what had verified before them.

    Args:
        pairs: Everything known at ``init_time``.
        sources: Names of the sources.
        init_time: End of the past.
        progress: Called as work goes on.

    Returns:
        Rows {forecaster, variable, n, crps, held_out_from, held_out_to}, the same cases in every row of a variable; empty when the
        history is too short to hold anything out.
    """
    cut = init_time - HELD_OUT_DAYS * DAY
    inits = pairs.frame[INIT_TIME].values
    before, after = np.flatnonzero(inits < cut), np.flatnonzero(inits >= cut)
    learned = _until(pairs, before, cut)
    if not after.size or history_days(learned) < LEAST_TRAINING_DAYS:
        return []
    fitted, _ = fit_forecasters(sources, learned, lambda what, done, total: progress("scoring the past", done, 2 * total))
    wanted = {i: forecaster for i, forecaster in fitted.items() if i.startswith(("raw_", "emos_", "climatology"))}
    inputs = Inputs(
        sources={name: source.isel({INIT_TIME: after}) for name, source in pairs.sources.items()},
        observations=pairs.observations,
        targets=pairs.targets,
    )
    said = predict_all(wanted, inputs, lambda what, done, total: progress("scoring the past", total + done, 2 * total))
    blend = blend_equally(said, pairs.targets)
    rows: list[Mapping[str, Any]] = []
    for variable in pairs.targets:
        if variable not in blend.quantiles:
            continue
        shown = {"blend": blend.quantiles[variable]} | {
            i: q[variable] for i, q in said.quantiles.items() if i.startswith(("raw_", "climatology")) and variable in q
        }
        rows += _common_scores(variable, shown, pairs.observed[variable].isel({INIT_TIME: after}), cut, init_time)
    return rows


def _until(pairs: Pairs, chosen: np.ndarray, cut: np.datetime64) -> Pairs:
    """The pairs of some init times, with what had not verified by ``cut`` unknown."""
    observed = pairs.observed.isel({INIT_TIME: chosen})
    valid = observed[INIT_TIME] + observed[LEAD_TIME]
    observations = pairs.known_at(cut)
    return replace(
        pairs,
        sources={name: source.isel({INIT_TIME: chosen}) for name, source in pairs.sources.items()},
        observations=observations,
        observed=observed.where(valid <= cut),
    )


def _common_scores(
    variable: str, shown: Mapping[str, xr.DataArray], observed: xr.DataArray, since: np.datetime64, until: np.datetime64
) -> list[Mapping[str, Any]]:
    """One row a forecaster over the cases that all of them have."""
    dims = observed.dims
    truth = observed.values
    arrays = {name: q.transpose(*dims, QUANTILE).values for name, q in shown.items()}
    common = np.isfinite(truth)
    for values in arrays.values():
        common &= np.isfinite(values).all(axis=-1)
    if not common.any():
        return []
    return [
        {
            "forecaster": name,
            "variable": variable,
            "n": int(common.sum()),
            "crps": float(np.mean(np.asarray(crps_quantiles(values[common], truth[common], LEVELS)))),
            "held_out_from": str(since.astype("datetime64[D]")),
            "held_out_to": str(until.astype("datetime64[D]")),
        }
        for name, values in arrays.items()
    ]
