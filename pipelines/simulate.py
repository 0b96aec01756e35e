"""The simulated atmosphere into a root: a cycle as its centres publish it, and the past that a cycle learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import AVAILABLE_TIME, INIT_TIME, TIME
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import Progress, silent
from data_catalog.sources.simulated import ANALYSIS_HOURS, SimulatedAtmosphere
from data_catalog.store import Root
from pipelines.observe import OBSERVATIONS, file_months

REPORTED_DAYS: Final = 3
"""Days before the cycle whose station reports are published as files; older ones go straight into the archive."""

REACH_DAYS: Final = 11
"""Days of observations before the first forecast of the history, for those who look back from it."""

_AT_STATIONS: Final = "-stations"
_ANALYSES: Final = "analyses/simulated"
_MANY_RUNS: Final = 120
"""Past forecasts from which on worker processes pay for their start."""

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
    settings: Settings,
    init_time: np.datetime64,
    *,
    history_days: int | None = None,
    grid: bool = False,
    progress: Progress = silent,
) -> SimulateReport:
    """Publish one simulated cycle and put the history before it into the archive. What is there already costs a look.

    Args:
        settings: Region, world, profile and root.
        init_time: Start of the cycle, UTC, a whole hour.
        history_days: Days of past 00 UTC forecasts and of observations; default: ``training_days`` and 30 more.
        grid: Whether the gridded nature run of those days is wanted too, every 6 h, as ``analyses/simulated``.
        progress: Called as it goes on.

    Raises:
        StoreError: The root could not be written.
    """
    simulator = registry.simulator(settings)
    init_time = init_time.astype("datetime64[h]")
    days = settings.training_days + 30 if history_days is None else history_days
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        today = init_time.astype("datetime64[D]")
        last = (init_time - _HOUR).astype("datetime64[D]")  # the newest 00 UTC before the cycle
        runs = np.arange(today - days * _DAY, last + _DAY, _DAY)
        there = _histories(root, manifest, simulator, runs)
        lacking = {place: rest for place, old in there.items() if (rest := _without(runs, place, old)).size}
        with _making(settings, lacking) as histories:
            published = simulator.emit(init_time, progress)
            reports = simulator.reports(init_time - REPORTED_DAYS * _DAY, init_time, progress)
            forecasts, stores = _file_histories(root, manifest, simulator, there, list(lacking), histories, progress)
        since = today - (days + REACH_DAYS if days else 0) * _DAY
        hours = np.arange(since.astype("datetime64[h]"), init_time + _HOUR, _HOUR)
        observations, written = _observations(root, manifest, simulator, hours, progress)
        if grid:
            synoptic = hours[(hours - hours.astype("datetime64[D]")).astype(int) % ANALYSIS_HOURS == 0]
            written += _analyses(root, manifest, simulator, synoptic, progress)
    return SimulateReport(
        init_time,
        tuple(name for name, now in published.items() if now),
        reports,
        forecasts,
        observations,
        tuple(stores + written),
    )


_Month = tuple[str, np.datetime64]
"""A dataset and a month of it."""


def _histories(root: Root, manifest: Manifest, simulator: SimulatedAtmosphere, runs: np.ndarray) -> dict[_Month, xr.Dataset | None]:
    """What the archive has of past forecasts at stations, one store a centre and month."""
    return {
        (dataset, month): _there(root, manifest, f"{dataset}{_AT_STATIONS}", month, simulator)
        for dataset in simulator.specs
        for month in np.unique(runs.astype("datetime64[M]"))
    }


def _without(runs: np.ndarray, place: _Month, there: xr.Dataset | None) -> np.ndarray:
    """The runs of a month that are not there."""
    wanted = runs[runs.astype("datetime64[M]") == place[1]]
    return wanted if there is None else np.setdiff1d(wanted, there[INIT_TIME].values.astype(runs.dtype))


@contextmanager
def _making(settings: Settings, lacking: Mapping[_Month, np.ndarray]) -> Iterator[Iterator[xr.Dataset]]:
    """Past forecasts by dataset and month, in order; much of it is begun at once, in worker processes side by side."""
    jobs = [(settings, dataset, runs) for (dataset, _), runs in lacking.items()]
    if sum(runs.size for runs in lacking.values()) < _MANY_RUNS:
        yield (_make(*job) for job in jobs)
        return
    with ProcessPoolExecutor(settings.decode_workers, mp_context=get_context("spawn")) as pool:
        yield pool.map(_make, *zip(*jobs, strict=True))


def _file_histories(
    root: Root,
    manifest: Manifest,
    simulator: SimulatedAtmosphere,
    there: Mapping[_Month, xr.Dataset | None],
    lacking: Sequence[_Month],
    histories: Iterator[xr.Dataset],
    progress: Progress,
) -> tuple[dict[str, int], list[str]]:
    """How many past forecasts were added by dataset, and the stores written."""
    added, stores = dict.fromkeys(simulator.specs, 0), []
    for number, ((dataset, month), made) in enumerate(zip(lacking, histories, strict=True)):
        old = there[dataset, month]
        whole = made if old is None else _joined(old, made, INIT_TIME)
        name = f"{dataset}{_AT_STATIONS}"
        ref = root.write_store(f"archive/{name}", _key(month), {"": whole}, simulator.attributes)
        details = {**simulator.attributes, "runs": whole.sizes[INIT_TIME]}
        manifest.add_revision(name, _key(month), ref, available_time=whole[AVAILABLE_TIME].values.max(), details=details)
        added[dataset] += made.sizes[INIT_TIME]
        stores.append(ref.path)
        progress("history of the simulated centres", number + 1, len(lacking))
    return added, stores


def _make(settings: Settings, dataset: str, runs: np.ndarray) -> xr.Dataset:
    """Past forecasts of one dataset."""
    return registry.simulator(settings).history(dataset, runs)


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


def _analyses(root: Root, manifest: Manifest, simulator: SimulatedAtmosphere, times: np.ndarray, progress: Progress) -> list[str]:
    """The gridded nature run, one store a month: the stores written. What is not of a whole month is written anew when the month grows."""
    stores = []
    months = times.astype("datetime64[M]")
    for number, month in enumerate(np.unique(months)):
        wanted = times[months == month]
        there = _there(root, manifest, _ANALYSES, month, simulator)
        if there is None or np.setdiff1d(wanted, there[TIME].values.astype(wanted.dtype)).size:
            made = simulator.analyses(wanted)
            ref = root.write_store(f"archive/{_ANALYSES}", _key(month), {"": made}, simulator.attributes)
            manifest.add_revision(_ANALYSES, _key(month), ref, available_time=made[TIME].values.max(), details=simulator.attributes)
            stores.append(ref.path)
        progress("analyses", number + 1, np.unique(months).size)
    return stores


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
