"""What a cycle has to work with: this cycle's stores, cut to one frame of leads, on the region's grid and at its stations.

A centre that is late is replaced by its previous run at the same valid time and marked lagged; one whose last run is too old is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import xarray as xr

from data_catalog import dimensions
from data_catalog.archive import cycle_key
from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LATITUDE, LEAD_TIME, LONGITUDE
from data_catalog.grids import to_grid, to_stations
from data_catalog.manifest import Manifest, Revision
from data_catalog.regions import Region
from data_catalog.sources.base import lead_steps
from data_catalog.store import Root
from data_catalog.variables import VARIABLES
from models.base import Inputs
from training.pairs import Past

HOUR = np.timedelta64(1, "h")
OLDEST_LAG_HOURS: Final = 24
"""A run older than this no longer stands in for a late one."""

LEADS: Final = np.array(lead_steps((0, 144, 3), (150, 240, 6)))
"""The 65 published leads, hours."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """What became of one source in a cycle.

    Attributes:
        dataset: Its name.
        status: ``present``, ``lagged`` or ``missing``.
        lag_hours: How much older its run is than the cycle.
        content_hash: The store used, or "".
        simulated: Whether its data is simulated.
        reason: For a person: why it is lagged or missing, or what its run lacks; "" when all is there.
    """

    dataset: str
    status: str
    lag_hours: int = 0
    content_hash: str = ""
    simulated: bool = False
    reason: str = ""


@dataclass(frozen=True, eq=False)
class CycleInputs:
    """Everything a cycle's forecasters see of the present.

    Attributes:
        states: One for each source asked for.
        grid: Inputs on the region's grid.
        stations: The same at its operating stations.
        bounds: ``(lead_time, bounds)`` timedelta64, the interval each lead's sums and means cover; NaT where there is none.
        variables: What at least one source has, in the catalog's order.
    """

    states: tuple[SourceState, ...]
    grid: Inputs
    stations: Inputs
    bounds: xr.DataArray
    variables: tuple[str, ...]


def station_inputs(inputs: CycleInputs, past: Past) -> Inputs:
    """What a forecaster sees of a cycle at stations: the present, and what had been observed."""
    return replace(inputs.stations, observations=None if past.pairs is None else past.pairs.observations)


def gather(
    root: Root,
    manifest: Manifest,
    region: Region,
    datasets: Sequence[str],
    init_time: np.datetime64,
    *,
    available_before: np.datetime64 | None = None,
) -> CycleInputs | None:
    """Read what the sources have for a cycle.

    Args:
        root: Where the stores are.
        manifest: What there is.
        region: Grid and stations to bring it to.
        datasets: The sources of the cycle.
        init_time: Its start, UTC.
        available_before: Ignore what came later than this.

    Returns:
        The inputs, or None when no source has anything.
    """
    states: list[SourceState] = []
    found: dict[str, xr.Dataset] = {}
    for dataset in datasets:
        state, fields = _newest_run(root, manifest, dataset, init_time, available_before)
        states.append(state)
        if fields is not None:
            found[dataset] = fields
    if not found:
        return None
    leads = _leads(found)
    bounds = _agree_on_bounds(found, leads)
    on_grid: dict[str, xr.Dataset] = {}
    at_stations: dict[str, xr.Dataset] = {}
    axes = {
        name: (name, axis, dimensions.attributes(name))
        for name, axis in ((LATITUDE, region.latitude), (LONGITUDE, region.longitude))
    }
    intervals = {"lead_time_bounds": ((LEAD_TIME, "bounds"), bounds.values)}
    for dataset, fields in found.items():
        framed = _frame(fields, leads, bounds, init_time)
        at_stations[dataset] = to_stations(framed, region.operating).assign_coords(intervals)
        on_grid[dataset] = to_grid(framed, region.latitude, region.longitude).assign_coords(axes | intervals)
    variables = tuple(name for name in VARIABLES if any(name in fields for fields in at_stations.values()))
    return CycleInputs(
        states=tuple(states),
        grid=Inputs(sources=on_grid, targets=variables),
        stations=Inputs(sources=at_stations, targets=variables),
        bounds=bounds,
        variables=variables,
    )


def _newest_run(
    root: Root, manifest: Manifest, dataset: str, init_time: np.datetime64, available_before: np.datetime64 | None
) -> tuple[SourceState, xr.Dataset | None]:
    """The run of ``init_time``, else the newest one not older than :data:`OLDEST_LAG_HOURS`, moved to this cycle's leads."""
    oldest = init_time - OLDEST_LAG_HOURS * HOUR
    revisions = manifest.revisions(
        dataset, key_from=cycle_key(oldest), key_to=cycle_key(init_time), latest_only=True, available_before=available_before
    )
    if not revisions:
        reason = f"no run of {dataset} from {cycle_key(oldest)} to {cycle_key(init_time)} is in the archive"
        return SourceState(dataset, "missing", reason=reason), None
    newest = max(revisions, key=lambda revision: revision.key)
    lag = int((init_time - key_time(newest.key)) / HOUR)
    fields = derive(root.open_store(newest.path).load())
    fields = fields.assign_coords({LEAD_TIME: fields[LEAD_TIME] - lag * HOUR})
    for name in [v for v in fields.variables if str(v).endswith("_bounds")]:
        fields[name] = fields[name] - lag * HOUR
    reason = _why(newest, lag)
    simulated = bool(fields.attrs.get("simulated", False))
    return SourceState(dataset, "lagged" if lag else "present", lag, newest.content_hash, simulated, reason), fields


def _why(revision: Revision, lag: int) -> str:
    parts = []
    if lag:
        parts.append(f"the run of {revision.key}, {lag} h older, stands in")
    if not revision.complete:
        missing = revision.details.get("missing", [])
        parts.append(f"{len(missing)} fields are missing" if missing else "the run is incomplete")
    return "; ".join(parts)


def key_time(key: str) -> np.datetime64:
    """The init_time that :func:`data_catalog.archive.cycle_key` wrote."""
    clock = key[9:].rstrip("Z")
    return np.datetime64(f"{key[:4]}-{key[4:6]}-{key[6:8]}T{clock[:2]}:{clock[2:] or '00'}", "ns")


def derive(fields: xr.Dataset) -> xr.Dataset:
    """Add what follows from the fields themselves: wind speed from its components, amounts from rates."""
    added = {}
    if {"wind_u_10m", "wind_v_10m"} <= set(fields) and "wind_speed_10m" not in fields:
        added["wind_speed_10m"] = xr.apply_ufunc(np.hypot, fields["wind_u_10m"], fields["wind_v_10m"])
    if "precipitation_surface" in fields and "precipitation_amount" not in fields and "lead_time_bounds" in fields.variables:
        bounds = fields["lead_time_bounds"]
        seconds = (bounds.isel(bounds=1) - bounds.isel(bounds=0)) / np.timedelta64(1, "s")
        added["precipitation_amount"] = (fields["precipitation_surface"] * seconds).astype(np.float32)
    return fields.assign({name: values.assign_attrs(VARIABLES[name].attributes()) for name, values in added.items()})


def _leads(found: dict[str, xr.Dataset]) -> np.ndarray:
    """Leads of the cycle: the published ones that a source has; when none fits them, those of the sources."""
    offered = np.unique(np.concatenate([fields[LEAD_TIME].values for fields in found.values()]))
    offered = offered[offered >= np.timedelta64(0)]
    published = np.intersect1d(offered, (LEADS * HOUR).astype(offered.dtype))
    return published if published.size else offered


def _agree_on_bounds(found: dict[str, xr.Dataset], leads: np.ndarray) -> xr.DataArray:
    """One interval for each lead: of the first source whose interval starts at another lead, else of the first that has one."""
    agreed = np.full((leads.size, 2), np.timedelta64("NaT", "ns"))
    starts = {int(lead.astype("timedelta64[ns]").astype(np.int64)) for lead in leads}
    for strict in (True, False):
        for fields in found.values():
            if "lead_time_bounds" not in fields.variables:
                continue
            own = fields["lead_time_bounds"].reindex({LEAD_TIME: leads}).values.astype("timedelta64[ns]")
            fits = np.array([int(begin.astype(np.int64)) in starts for begin in own[:, 0]]) | (not strict)
            take = np.isnat(agreed).any(axis=1) & ~np.isnat(own).any(axis=1) & fits
            agreed[take] = own[take]
    return xr.DataArray(agreed, dims=(LEAD_TIME, "bounds"), coords={LEAD_TIME: leads}, name="lead_time_bounds")


def _frame(fields: xr.Dataset, leads: np.ndarray, bounds: xr.DataArray, init_time: np.datetime64) -> xr.Dataset:
    """A run on the cycle's leads and init_time; values over another interval than the agreed one are missing."""
    framed = fields.reindex({LEAD_TIME: leads})
    for name in framed.data_vars:
        own = next((framed[b] for b in (f"{name}_bounds", "lead_time_bounds") if b in framed.variables), None)
        if str(name) in VARIABLES and VARIABLES[str(name)].has_interval and own is not None:
            same = (own.values.astype("timedelta64[ns]") == bounds.values).all(axis=1)
            framed[name] = framed[name].where(xr.DataArray(same, dims=(LEAD_TIME,), coords={LEAD_TIME: leads}))
    framed = framed.drop_vars([v for v in framed.variables if str(v).endswith("_bounds") or v == INIT_TIME])
    framed = framed.assign_coords({INIT_TIME: init_time.astype("datetime64[ns]")}).expand_dims(INIT_TIME)
    wanted = [name for name in framed.data_vars if str(name) in VARIABLES and framed[name].notnull().any()]
    order = (INIT_TIME, LEAD_TIME, ..., ENSEMBLE_MEMBER) if ENSEMBLE_MEMBER in framed.dims else (INIT_TIME, LEAD_TIME, ...)
    framed = framed[wanted].transpose(*order)
    return framed if ENSEMBLE_MEMBER in framed.dims else framed.expand_dims({ENSEMBLE_MEMBER: [0]}, axis=-1)
