"""Champions at work: what they would have said, out of sample, of the past of a cycle."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from data_catalog.dimensions import INIT_TIME
from models.base import Inputs, Pairs
from training.champions import Loaded
from training.ensemble import predict_all
from training.evaluate import started_from


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
            found |= dict(predict_all({name: one.forecaster}, inputs).quantiles)
    return found
