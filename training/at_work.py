"""Champions and challengers at work: their forecasts of a cycle and, out of sample, of its past."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from data_catalog.dimensions import INIT_TIME
from models.base import Inputs, Pairs
from training.champions import Loaded
from training.ensemble import Predictions, predict_all
from training.evaluate import started_from


def guarded(loaded: Mapping[str, Loaded], inputs: Inputs) -> Predictions:
    """What versions say for the inputs; whatever goes wrong in one is the reason why it is skipped.

    A version was made from another past, perhaps with other sources or stations: that it fails must not stop a cycle.
    """
    quantiles: dict[str, xr.Dataset] = {}
    skipped: dict[str, str] = {}
    for name, one in loaded.items():
        try:
            found = predict_all({name: one.forecaster}, inputs)
        except (ArithmeticError, LookupError, RuntimeError, ValueError, TypeError) as error:
            skipped[name] = f"its version {one.version.name} failed: {type(error).__name__}: {error}"
            continue
        quantiles |= found.quantiles
        skipped |= found.skipped
    return Predictions(quantiles, skipped)


def out_of_sample(loaded: Mapping[str, Loaded], pairs: Pairs) -> dict[str, xr.Dataset]:
    """What versions would have said in the past of a cycle, where nothing of it was learned from.

    Returns:
        ``VARIABLE(init_time, lead_time, station, quantile)`` by id, for the cycles since its own ``held_out_from``; without those that
        have none.
    """
    found: dict[str, xr.Dataset] = {}
    for name, one in loaded.items():
        later = started_from(pairs, one.held_out_from)
        if later.frame.sizes[INIT_TIME]:
            inputs = Inputs(sources=later.sources, observations=later.observations, targets=later.targets)
            found |= dict(guarded({name: one}, inputs).quantiles)
    return found
