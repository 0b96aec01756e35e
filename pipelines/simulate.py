"""The simulated atmosphere into a root: a cycle as its centres publish it, and the past that a cycle learns from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import AVAILABLE_TIME, INIT_TIME, TIME
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import Progress, silent
from data_catalog.sources.simulated import SimulatedAtmosphere
from data_catalog.store import Root
from pipelines.observe import OBSERVATIONS, file_months

REPORTED_DAYS: Final = 3
"""Days before the cycle whose station reports are published as files; older ones go straight into the archive."""

REACH_DAYS: Final = 11
"""Days of observations before the first forecast of the history, for those who look back from it."""

_DAY: Final = np.timedelta64(1, "D")
_HOUR: Final = np.timedelta64(1, "h")


@dataclass(frozen=True, slots=True)
class SimulateReport:
    """What a simulation wrote; all of it is empty when everything was there.

    Attributes:
        init_time: The cycle, UTC.
        published: Datasets whose GRIB2 and index files were written.
        reports: Hours of station reports written as files.
        forecasts: Past forecasts added to the archive, by dataset.
        observations: Hours of observations added to the archive.
        stores: Paths of the stores written, relative to the root.
    """

    init_time: np.datetime64
    published: tuple[str, ...]
    reports: int
    forecasts: dict[str, int]
    observations: int
    stores: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same in JSON types."""
        time = f"{self.init_time.astype('datetime64[s]')}Z"
        return {**asdict(self), "init_time": time, "published": list(self.published), "stores": list(self.stores)}


def simulate(
    settings: Settings, init_time: np.datetime64, *, history_days: int | None = None, progress: Progress = silent
) -> SimulateReport:
    """Publish one simulated cycle and put the history before it into the archive. What is there already costs a look.

    Args:
        settings: Region, world, profile and root.
        init_time: Start of the cycle, UTC, a whole hour.
        history_days: Days of past 00 UTC forecasts and of observations; default: ``training_days`` and 30 more.
        progress: Called as it goes on.

    Raises:
        StoreError: The root could not be written.
    """
    simulator = registry.simulator(settings)
    init_time = init_time.astype("datetime64[h]")
    days = settings.training_days + 30 if history_days is None else history_days
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        published = simulator.emit(init_time, progress)
        reports = simulator.reports(init_time - REPORTED_DAYS * _DAY, init_time, progress)
        today = init_time.astype("datetime64[D]")
        last = (init_time - _HOUR).astype("datetime64[D]")  # the newest 00 UTC before the cycle
        runs = np.arange(today - days * _DAY, last + _DAY, _DAY)
        forecasts, stores = {}, []
        for dataset in simulator.specs:
            forecasts[dataset], written = _history(root, manifest, simulator, dataset, runs, progress)
            stores += written
        since = today - (days + REACH_DAYS if days else 0) * _DAY
        hours = np.arange(since.astype("datetime64[h]"), init_time + _HOUR, _HOUR)
        observations, written = _observations(root, manifest, simulator, hours, progress)
    return SimulateReport(
        init_time,
        tuple(name for name, now in published.items() if now),
        reports,
        forecasts,
        observations,
        tuple(stores + written),
    )


def _history(
    root: Root, manifest: Manifest, simulator: SimulatedAtmosphere, dataset: str, runs: np.ndarray, progress: Progress
) -> tuple[int, list[str]]:
    """Past forecasts at stations, one store a month: how many were added, and the stores written."""
    name, added, stores = f"{dataset}-stations", 0, []
    for month in np.unique(runs.astype("datetime64[M]")):
        wanted = runs[runs.astype("datetime64[M]") == month]
        there = _there(root, manifest, name, month, simulator)
        missing = wanted if there is None else np.setdiff1d(wanted, there[INIT_TIME].values.astype(wanted.dtype))
        if not missing.size:
            continue
        made = simulator.history(dataset, missing, progress)
        whole = made if there is None else _joined(there, made, INIT_TIME)
        ref = root.write_store(f"archive/{name}", _key(month), {"": whole}, simulator.attributes)
        details = {**simulator.attributes, "runs": whole.sizes[INIT_TIME]}
        manifest.add_revision(name, _key(month), ref, available_time=whole[AVAILABLE_TIME].values.max(), details=details)
        added += missing.size
        stores.append(ref.path)
    return added, stores


def _observations(
    root: Root, manifest: Manifest, simulator: SimulatedAtmosphere, hours: np.ndarray, progress: Progress
) -> tuple[int, list[str]]:
    """Observations, one store a month: how many hours were added, and the stores written."""
    network = next(iter(simulator.networks))
    added, stores = 0, []
    for month in np.unique(hours.astype("datetime64[M]")):
        wanted = hours[hours.astype("datetime64[M]") == month]
        there = _there(root, manifest, f"{OBSERVATIONS}/{network}", month, simulator)
        missing = wanted if there is None else np.setdiff1d(wanted, there[TIME].values.astype(wanted.dtype))
        if missing.size:
            made = file_months(root, manifest, network, simulator.observations(missing), progress=progress)
            stores += [revision.path for revision in made]
            added += missing.size
    return added, stores


def _there(root: Root, manifest: Manifest, dataset: str, month: np.datetime64, simulator: SimulatedAtmosphere) -> xr.Dataset | None:
    """What the archive has of a month of this very world and version, or None."""
    revision = manifest.latest(dataset, _key(month))
    if revision is None:
        return None
    found = root.open_store(revision.path)
    return found if all(found.attrs.get(name) == value for name, value in simulator.attributes.items()) else None


def _joined(old: xr.Dataset, new: xr.Dataset, along: str) -> xr.Dataset:
    return xr.concat([old.load(), new], dim=along, data_vars="minimal", coords="minimal", compat="override", join="outer").sortby(along)


def _key(month: np.datetime64) -> str:
    return str(month).replace("-", "")
