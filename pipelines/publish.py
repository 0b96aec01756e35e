"""Publication: one immutable store a revision, its catalog item, and last of all the pointer that readers follow.

The order is store, manifest, catalog, ``latest.json``. A run that dies between two of them leaves the previous cycle in place, and the
next run finishes the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog import faults
from data_catalog.archive import cycle_key
from data_catalog.dimensions import INIT_TIME, LEAD_TIME
from data_catalog.errors import StoreCorruptError
from data_catalog.manifest import Manifest, Revision
from data_catalog.regions import Region
from data_catalog.stac import PublishedCycle, publish_item
from data_catalog.store import Root
from data_catalog.variables import VARIABLES
from pipelines.inputs import key_time

FOLDER: Final = "published"
LATEST: Final = "published/latest.json"
DATASET: Final = "published"
VERIFICATION: Final = "verification"
"""Dataset and folder of what became of the published cycles; see :mod:`pipelines.verify`."""

ABOUT: Final[Mapping[str, str]] = {
    "stations": "coupled members at stations; support: point",
    "grid": "coupled members on the grid; support: cell mean for smooth fields, nearest cell for rain",
    "stations_quantiles": "quantiles of the blend at stations",
    "grid_quantiles": "quantiles of the blend on the grid",
    "models": "every forecaster's quantiles at stations, and the weight each had in the blend",
    "centres": "every raw member of every centre at stations, before any calibration; member 0 is the control run where there is one",
    "grid_centres": "quantiles of every centre's raw members on the grid",
    "probabilities": "chance that rain over a window passes a threshold, at stations",
    "grid_probabilities": "the same on the grid",
    "daily": "values of local days, taken per member before any quantile, at stations",
    "grid_daily": "the same on the grid",
    "city": "the chances and the rain of local days anywhere in the city: of the greatest of its cell centres, taken per member",
    "risk": "chance that a rain day passes the duty thresholds, of the blend and of raw members, at stations and anywhere in the city",
}


def root_attributes(region: Region, init_time: np.datetime64, sources: Mapping[str, Any], simulated: bool) -> dict[str, Any]:
    """What the root of a published store says of itself, the same for the same inputs: no clock, no machine."""
    return {
        "Conventions": "CF-1.12",
        "title": f"Giómua ensemble forecast, {region.title}",
        "init_time": _stamp(init_time),
        "region": region.id,
        "time_zone": region.timezone,
        "simulated": simulated,
        "sources": json.dumps(sources, sort_keys=True),
        "disclaimer": "Not an official warning of the National Centre for Hydro-Meteorological Forecasting."
        + (" Simulated data: not the weather of any real day." if simulated else ""),
    }


def dressed(dataset: xr.Dataset, init_time: np.datetime64) -> xr.Dataset:
    """A group as it is published: scalar ``init_time``, ``valid_time`` along the leads, CF attributes on every variable."""
    plain = dataset.drop_vars(INIT_TIME, errors="ignore").assign_coords({INIT_TIME: init_time.astype("datetime64[ns]")})
    if LEAD_TIME in plain.dims:
        plain = plain.assign_coords(valid_time=(LEAD_TIME, init_time.astype("datetime64[ns]") + plain[LEAD_TIME].values))
    for name in plain.data_vars:
        known = VARIABLES.get(str(name))
        if known is not None:
            plain[name].attrs = known.attributes() | plain[name].attrs
    return plain


def finished(manifest: Manifest, init_time: np.datetime64, inputs_hash: str) -> Revision | None:
    """The published revision that was made from exactly these inputs, if there is one."""
    made = (r for r in manifest.revisions(DATASET, cycle_key(init_time)) if r.details.get("inputs_hash") == inputs_hash)
    return next(made, None)


def publish(
    root: Root,
    manifest: Manifest,
    init_time: np.datetime64,
    groups: Mapping[str, xr.Dataset],
    attributes: Mapping[str, Any],
    details: Mapping[str, Any],
) -> Revision:
    """Store a cycle and record it as the next revision. Nothing points to it yet: :func:`announce` does that.

    Args:
        root: Where to.
        manifest: Where it is recorded.
        init_time: Of the cycle.
        groups: By group name; see :data:`ABOUT`.
        attributes: Of the store's root.
        details: Kept in the manifest: ``inputs_hash``, ``sources``, ``simulated``, ...

    Returns:
        The recorded revision. The same content gives the revision that has it already.
    """
    key = cycle_key(init_time)
    stamped = {name: dressed(group, init_time) for name, group in groups.items()}
    top = xr.Dataset(coords={INIT_TIME: init_time.astype("datetime64[ns]")}, attrs=dict(attributes))
    top.attrs["groups"] = json.dumps({name: ABOUT.get(name, "") for name in sorted(stamped)}, ensure_ascii=False)
    number = len(manifest.revisions(DATASET, key))
    ref = root.write_store(FOLDER, key, {"": top, **stamped}, top.attrs, revision=f"r{number}")
    faults.at("publish.stored")
    recorded = manifest.add_revision(
        DATASET, key, ref, available_time=init_time.astype("datetime64[ns]"), complete=not details.get("degraded"), details=details
    )
    if recorded.path != ref.path:  # the content had a revision already
        root.delete_store(ref.path)
    return recorded


def announce(root: Root, manifest: Manifest, region: Region, revision: Revision) -> None:
    """Check the store, write its catalog item, then move ``latest.json`` to the newest revision there is. Safe to repeat.

    Raises:
        StoreCorruptError: The store is not what the manifest recorded; ``latest.json`` stays where it was.
    """
    root.verify(revision.path, revision.content_hash)
    init_time = key_time(revision.key)
    details = revision.details
    name = revision.path.removeprefix(f"{FOLDER}/")
    publish_item(
        root,
        PublishedCycle(
            init_time=init_time,
            revision=revision.revision,
            href=name,
            content_hash=revision.content_hash,
            first_lead=np.timedelta64(int(details["first_lead_hours"]), "h"),
            last_lead=np.timedelta64(int(details["last_lead_hours"]), "h"),
            sources=details["sources"],
            simulated=bool(details["simulated"]),
            variables=tuple(details["variables"]),
        ),
        region,
    )
    faults.at("publish.catalogued")
    current = root.read_json(LATEST)
    if current is not None and (current["init_time"], current["revision"]) > (_stamp(init_time), revision.revision):
        return
    root.write_json(
        LATEST,
        {
            "init_time": _stamp(init_time),
            "revision": revision.revision,
            "href": name,
            "content_hash": revision.content_hash,
            "sources": details["sources"],
            "simulated": bool(details["simulated"]),
        },
    )


def _stamp(init_time: np.datetime64) -> str:
    return f"{init_time.astype('datetime64[s]')}Z"


def latest(root: Root) -> dict[str, Any] | None:
    """What ``latest.json`` says, or None before the first publication.

    Raises:
        StoreCorruptError: It is there but lacks what readers rely on.
    """
    found = root.read_json(LATEST)
    if found is None:
        return None
    missing = {"init_time", "revision", "href", "content_hash"} - set(found)
    if missing:
        raise StoreCorruptError(f"{LATEST} lacks {', '.join(sorted(missing))}; run a cycle to write it anew.")
    return dict(found)
