"""Station reports into the archive: one store a month and network, each merge a new revision, nothing lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import AVAILABLE_TIME, STATION, TIME
from data_catalog.manifest import Manifest, Revision
from data_catalog.regions import Region
from data_catalog.sources.base import Progress, StationSource, Transport, silent
from data_catalog.store import Root
from data_catalog.variables import VARIABLES

OBSERVATIONS: Final = "observations"

GOOD, WRONG, MISSING = 0, 3, 7
"""Quality of a value, from WMO BUFR code table 0 33 020."""

_QUALITY_ATTRIBUTES: Final = {
    "long_name": "quality of the value, WMO BUFR code table 0 33 020",
    "standard_name": "quality_flag",
    "flag_values": [GOOD, WRONG, MISSING],
    "flag_meanings": "good wrong missing",
}


@dataclass(frozen=True, slots=True)
class ObserveReport:
    """What an observing run did.

    Attributes:
        network: Of which source.
        reports: Reports read: hours with at least one value, over all stations.
        wrong: Values outside their believable range; kept, and flagged.
        months: Keys of the months that got a new revision.
        stores: Paths of their stores, relative to the root.
    """

    network: str
    reports: int
    wrong: int
    months: tuple[str, ...]
    stores: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same in JSON types."""
        return {**asdict(self), "months": list(self.months), "stores": list(self.stores)}


def observe(
    root: Root,
    manifest: Manifest,
    region: Region,
    source: StationSource,
    transport: Transport,
    since: np.datetime64,
    until: np.datetime64,
    *,
    available_time: np.datetime64 | None = None,
    progress: Progress = silent,
) -> ObserveReport:
    """Read the reports of a network and merge them into its months.

    Reading the same reports again changes nothing. A later report of the same hour and station replaces the earlier one value by value; a
    value that is no longer reported stays.

    Args:
        root: Where the stores are.
        manifest: What there is.
        region: Its stations are kept.
        source: The network.
        transport: How its bytes are reached.
        since: Reports after this, UTC.
        until: Reports up to this, UTC.
        available_time: When we had them; default: when the last of them became available.
        progress: Called as it goes on.

    Raises:
        SourceError: The provider could not be read.
        StoreError: A month could not be written.
    """
    progress(f"reports of {source.spec.network}", 0, 0)
    found = source.read(since, until, transport)
    kept = [station.id for station in region.stations if station.id in found[STATION].values]
    found = found.sel({STATION: kept})
    flagged = add_quality(found)
    revisions = file_months(root, manifest, source.spec.network, flagged, available_time=available_time, progress=progress)
    values = [found[name].values for name in found.data_vars if str(name) in VARIABLES]
    wrong = sum(int((flagged[name] == WRONG).sum()) for name in flagged.data_vars if str(name).endswith("_quality"))
    reports = int(np.any([np.isfinite(array) for array in values], axis=0).sum()) if values else 0
    return ObserveReport(
        source.spec.network, reports, wrong, tuple(revision.key for revision in revisions), tuple(revision.path for revision in revisions)
    )


def add_quality(reports: xr.Dataset) -> xr.Dataset:
    """Reports with ``<VARIABLE>_quality`` beside each variable: good, wrong where not believable, missing where there is no value."""
    flags = {}
    for name, values in reports.data_vars.items():
        known = VARIABLES.get(str(name))
        if known is not None:
            believable = (values >= known.minimum) & (values <= known.maximum)
            flag = np.where(np.isnan(values), MISSING, np.where(believable, GOOD, WRONG)).astype(np.int8)
            flags[f"{name}_quality"] = (values.dims, flag, _QUALITY_ATTRIBUTES)
    return reports.assign(flags)


def file_months(
    root: Root,
    manifest: Manifest,
    network: str,
    reports: xr.Dataset,
    *,
    available_time: np.datetime64 | None = None,
    progress: Progress = silent,
) -> list[Revision]:
    """Merge reports into the stores of their months.

    Args:
        root: Where the stores are.
        manifest: What there is.
        network: Name of the network.
        reports: ``VARIABLE(time, station)`` with quality and ``available_time(time)``.
        available_time: When we had them; default: when the last of a month became available.
        progress: Called as it goes on.

    Returns:
        Revisions of the months that changed; a month that already has all of it has none.
    """
    dataset = f"{OBSERVATIONS}/{network}"
    months = reports[TIME].values.astype("datetime64[M]")
    made = []
    for number, month in enumerate(np.unique(months)):
        part = reports.isel({TIME: np.flatnonzero(months == month)})
        key = str(month).replace("-", "")
        before = manifest.latest(dataset, key)
        whole = part if before is None else merge(root.open_store(before.path).load(), part)
        ref = root.write_store(f"archive/{dataset}", key, {"": whole}, whole.attrs)
        if before is None or ref.content_hash != before.content_hash:
            known = available_time if available_time is not None else whole[AVAILABLE_TIME].values.max()
            details = {"simulated": bool(whole.attrs.get("simulated", False)), "hours": int(whole.sizes[TIME])}
            made.append(manifest.add_revision(dataset, key, ref, available_time=known, details=details))
        progress(f"observations of {network}", number + 1, np.unique(months).size)
    return made


def merge(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """Old and new reports in one: new values win where there is one, and nothing that was there is lost.

    Flags follow their values; ``available_time`` of an hour is that of its first report.

    Args:
        old: ``VARIABLE(time, station)``, ``VARIABLE_quality(time, station)`` and ``available_time(time)``, times ascending.
        new: Likewise.

    Returns:
        The same on the union of times and stations.
    """
    times = np.union1d(old[TIME].values, new[TIME].values)
    ids = [str(station) for station in old[STATION].values]
    ids += [str(station) for station in new[STATION].values if str(station) not in ids]
    data: dict[str, Any] = {}
    available = np.empty(times.size, dtype=times.dtype)
    places: dict[str, np.ndarray] = {}
    for part in (new, old):  # the first report of an hour says when it was available
        available[np.searchsorted(times, part[TIME].values)] = part[AVAILABLE_TIME].values
    for part in (old, new):
        columns = np.array([ids.index(str(station)) for station in part[STATION].values], dtype=np.intp)
        cells = np.ix_(np.searchsorted(times, part[TIME].values), columns)
        for name, values in part.data_vars.items():
            given = values.transpose(TIME, STATION).values
            flag = str(name).endswith("_quality")
            if name not in data:
                data[str(name)] = np.full((times.size, len(ids)), MISSING if flag else np.nan, dtype=given.dtype)
            data[str(name)][cells] = np.where(given != MISSING if flag else np.isfinite(given), given, data[str(name)][cells])
        for name, values in part.coords.items():
            if values.dims == (STATION,) and name != STATION:
                kept = places.setdefault(str(name), np.empty(len(ids), dtype=object if values.dtype.kind not in "fiu" else values.dtype))
                kept[columns] = values.values
    return xr.Dataset(
        {name: ((TIME, STATION), values, _QUALITY_ATTRIBUTES if name.endswith("_quality") else {}) for name, values in data.items()},
        coords={
            TIME: times,
            STATION: np.array(ids, dtype=object),
            AVAILABLE_TIME: (TIME, available),
            **{name: (STATION, values) for name, values in places.items()},
        },
        attrs={**old.attrs, **new.attrs},
    )
