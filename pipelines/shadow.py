"""Challengers in the shadow of a cycle: they forecast from the same inputs, are published nowhere, and are judged like the others.

What they say is kept as dataset ``shadow/<id>``, one store a cycle. It is made after publication, so that nothing a challenger does can
reach what is published; one that fails is a sentence in the report of the run, and does not degrade the cycle.
"""

from __future__ import annotations

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.errors import GiomuaError
from data_catalog.manifest import Manifest, Revision
from data_catalog.sources.base import Progress, silent
from data_catalog.store import Root
from pipelines.inputs import CycleInputs, station_inputs
from training.champions import SHADOW, load_role, read_champions
from training.pairs import Past


def run_shadows(
    root: Root, manifest: Manifest, inputs: CycleInputs, past: Past, init_time: np.datetime64, identity: str, progress: Progress = silent
) -> dict[str, str]:
    """Let every challenger forecast a cycle, once for the same inputs and version.

    Args:
        root: Where challengers are and where their forecasts go.
        manifest: Records them.
        inputs: Of the cycle.
        past: Of the cycle.
        init_time: Of the cycle.
        identity: Hash of all that decided what was published.
        progress: Called for each.

    Returns:
        By id of the forecaster, the version that forecast, or why it did not.
    """
    key = cycle_key(init_time)
    try:
        wanted = {name: roles.challenger for name, roles in read_champions(root).items() if roles.challenger is not None}
    except GiomuaError as error:
        return {"champions.json": str(error)}
    done = {name: shadow_of(manifest, name, key) for name in wanted}
    said = {
        name: entry.version
        for name, entry in wanted.items()
        if (own := done[name]) is not None and own.details == {"version": entry.version, "inputs_hash": identity}
    }
    if len(said) == len(wanted):
        return said
    from training.ensemble import predict_all, single  # torch: only where a challenger waits

    challengers, broken = load_role(root, "challenger")
    said |= {f"challenger {number}": reason for number, reason in enumerate(broken, start=1)}
    progress("challengers", 0, 1)
    waiting = {name: one for name, one in challengers.items() if name not in said}
    forecasts = predict_all({name: one.forecaster for name, one in waiting.items()}, station_inputs(inputs, past))
    for name, quantiles in forecasts.quantiles.items():
        version = waiting[name].version
        attributes = {"forecaster": name, "version": version.name, "state": version.content_hash, "published": "nowhere"}
        try:
            ref = root.write_store(f"archive/{SHADOW}{name}", key, {"": single(quantiles)}, attributes)
            details = {"version": version.name, "inputs_hash": identity}
            recorded = manifest.add_revision(SHADOW + name, key, ref, available_time=init_time, details=details)
            if recorded.details != details:
                manifest.amend(recorded, details)
            said[name] = version.name
        except GiomuaError as error:
            said[name] = str(error)
    progress("challengers", 1, 1)
    return said | dict(forecasts.skipped)


def shadow_of(manifest: Manifest, forecaster_id: str, key: str) -> Revision | None:
    """What a challenger last said of a cycle."""
    return manifest.latest(SHADOW + forecaster_id, key)
