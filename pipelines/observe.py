"""Station reports into the archive: one store a month and network, each merge a new revision, nothing lost, every value with its flag."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog import station_quality
from data_catalog.dimensions import AVAILABLE_TIME, STATION, TIME
from data_catalog.errors import SourceError
from data_catalog.manifest import Manifest, MessageRow, QuarantineRow, Revision
from data_catalog.observations import Flaw, merge
from data_catalog.regions import Region
from data_catalog.sources.base import Progress, StationSource, Subscribed, Transport, silent
from data_catalog.station_quality import GOOD, MEANINGS, MISSING
from data_catalog.store import Root
from data_catalog.variables import VARIABLES

OBSERVATIONS: Final = "observations"
SOUNDINGS: Final = "soundings"
CONTEXT_MONTHS: Final = 3
"""Months before one whose reports say what is usual at a station, for the quality control."""


@dataclass(frozen=True, slots=True)
class ObserveReport:
    """What an observing run did.

    Attributes:
        network: Of which source.
        received: What came by itself, by what became of it; empty where reports are fetched.
        reports: Reports read: a station and time with at least one value.
        flagged: Values read that are not to be used, by reason; they are kept.
        soundings: Soundings read.
        missing: Files that the provider did not have or did not give, with the reason.
        quarantined: Files and lines that could not be used: file, part (line or message), reason, and path of the copy.
        known: How many of the quarantined were in quarantine before.
        months: Keys of the months that got a new revision.
        stores: Paths of their stores, relative to the root.
    """

    network: str
    received: Mapping[str, int]
    reports: int
    flagged: Mapping[str, int]
    soundings: int
    missing: tuple[dict[str, Any], ...]
    quarantined: tuple[dict[str, Any], ...]
    known: int
    months: tuple[str, ...]
    stores: tuple[str, ...]

    @property
    def degraded(self) -> bool:
        """Whether something was missing or newly quarantined."""
        return bool(self.missing) or len(self.quarantined) > self.known

    def as_json(self) -> dict[str, Any]:
        """The same in JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


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
    links: Transport | None = None,
    listen: float = 0.0,
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
        links: Reads what a subscribed source's notifications point to; without it only what was collected before is read.
        listen: Seconds to stay and listen to a subscribed source; 0: until nothing has come for some seconds.
        progress: Called as it goes on.

    Raises:
        SourceError: The provider cannot be read at all.
        StoreError: A month could not be written.
    """
    network = source.spec.network
    received: dict[str, int] = {}
    unheard: list[dict[str, Any]] = []
    if isinstance(source, Subscribed) and links is not None:
        try:
            received = source.collect(links, **({"quiet": listen, "longest": listen} if listen else {}), progress=progress)
        except SourceError as error:
            unheard = [{"file": network, "reason": str(error)}]
    progress(f"reports of {network}", 0, 0)
    found = source.read(since, until, transport)
    kept = [station.id for station in region.stations if station.id in found.data[STATION].values]
    data = found.data.sel({STATION: kept})
    revisions = file_months(root, manifest, network, data, available_time=available_time, progress=progress)
    if found.soundings is not None:
        revisions += _file_soundings(root, manifest, network, found.soundings, available_time)
    missing, quarantined, known = _quarantine(root, manifest, f"{OBSERVATIONS}/{network}", found.flaws)
    return ObserveReport(
        network,
        received,
        _count(data),
        _flagged(root, manifest, network, data),
        0 if found.soundings is None else found.soundings.sizes["profile"],
        (*unheard, *missing),
        tuple(quarantined),
        known,
        tuple(revision.key for revision in revisions),
        tuple(revision.path for revision in revisions),
    )


def _count(data: xr.Dataset) -> int:
    """Stations and times with a value."""
    values = [data[name].transpose(TIME, STATION).values for name in data.data_vars if str(name) in VARIABLES]
    return int(np.any([np.isfinite(array) for array in values], axis=0).sum()) if values else 0


def _flagged(root: Root, manifest: Manifest, network: str, data: xr.Dataset) -> dict[str, int]:
    """Values of these reports by why they are not to be used, as they stand in the archive now."""
    counts: dict[str, int] = {}
    for key, part in months_of(data):
        revision = manifest.latest(f"{OBSERVATIONS}/{network}", key)
        if revision is None:
            continue
        stored = root.open_store(revision.path)
        stored = stored.isel({TIME: np.flatnonzero(np.isin(stored[TIME].values, part[TIME].values))})
        for name in (str(name) for name in stored.data_vars if str(name).endswith("_quality")):
            for flag, count in zip(*np.unique(stored[name].values, return_counts=True), strict=True):
                if MEANINGS[int(flag)] not in _USUAL:
                    counts[MEANINGS[int(flag)]] = counts.get(MEANINGS[int(flag)], 0) + int(count)
    return dict(sorted(counts.items()))


_USUAL: Final = frozenset({MEANINGS[GOOD], MEANINGS[MISSING], MEANINGS[station_quality.CENSORED]})


def _quarantine(
    root: Root, manifest: Manifest, dataset: str, flaws: Sequence[Flaw]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Put what could not be used aside and on record: what was missing, what is in quarantine, and how much of that was there before."""
    missing: list[dict[str, Any]] = []
    quarantined: list[dict[str, Any]] = []
    before = {(row.sha256, row.message) for row in manifest.quarantined(dataset)}
    rows: list[MessageRow] = []
    known = 0
    for flaw in flaws:
        if not flaw.data:
            missing.append({"file": flaw.file, "reason": flaw.reason})
            continue
        digest = hashlib.sha256(flaw.data).hexdigest()
        path = f"quarantine/{digest[:12]}-{re.sub(r'[^A-Za-z0-9._+-]', '_', PurePosixPath(flaw.file).name) or 'file'}"
        if not root.exists(path):
            root.write_bytes(path, flaw.data)
        known += (digest, flaw.part) in before
        manifest.add_quarantine(QuarantineRow(flaw.file, digest, flaw.reason, flaw.part, dataset, path))
        rows.append(MessageRow(flaw.file, digest, flaw.part, "quarantined", dataset, reason=flaw.reason))
        quarantined.append({"file": flaw.file, "part": flaw.part, "reason": flaw.reason, "kept": path})
    manifest.add_messages(rows)
    return missing, quarantined, known


# --- months ----------------------------------------------------------------------------------------------------------------------------


def months_of(reports: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """The reports of each month with its key, ``202509``."""
    months = reports[TIME].values.astype("datetime64[M]")
    for month in np.unique(months):
        yield str(month).replace("-", ""), reports.isel({TIME: np.flatnonzero(months == month)})


def file_months(
    root: Root,
    manifest: Manifest,
    network: str,
    reports: xr.Dataset,
    *,
    available_time: np.datetime64 | None = None,
    progress: Progress = silent,
) -> list[Revision]:
    """Merge reports into the stores of their months, and judge every value of those months anew.

    Args:
        root: Where the stores are.
        manifest: What there is.
        network: Name of the network.
        reports: See :mod:`data_catalog.observations`; ``available_time`` may also be one a time.
        available_time: When we had them; default: when the last of a month became available.
        progress: Called as it goes on.

    Returns:
        Revisions of the months that changed; a month that already has all of it has none.
    """
    dataset = f"{OBSERVATIONS}/{network}"
    parts = list(months_of(without_quality(reports)))
    made = []
    for number, (key, part) in enumerate(parts):
        before = manifest.latest(dataset, key)
        old = None if before is None else without_quality(root.open_store(before.path).load())
        whole = merge(part, part) if old is None else merge(old, part)
        if old is None or not whole.identical(merge(old, old)):
            judged = add_quality(whole, *_around(root, manifest, dataset, key, bool(whole.attrs.get("simulated", False))))
            ref = root.write_store(f"archive/{dataset}", key, {"": judged}, judged.attrs)
            known = available_time if available_time is not None else np.nanmax(whole[AVAILABLE_TIME].values)
            details = {
                "simulated": bool(whole.attrs.get("simulated", False)),
                "hours": int(whole.sizes[TIME]),
                "newest": f"{whole[TIME].values.max().astype('datetime64[m]')}Z",
                "values": _values(judged),
            }
            if before is None or ref.content_hash != before.content_hash:
                made.append(manifest.add_revision(dataset, key, ref, available_time=known, details=details))
        progress(f"observations of {network}", number + 1, len(parts))
    return made


def _values(judged: xr.Dataset) -> dict[str, int]:
    """How many values are good, flagged and missing, of variables that are reported at all; the shortest intervals only."""
    flags = [judged[f"{name}_quality"].values for name in VARIABLES if f"{name}_quality" in judged]
    flags = [flag for flag in flags if not (flag == MISSING).all()]
    good = sum(int((flag == GOOD).sum()) for flag in flags)
    missing = sum(int(np.isin(flag, (MISSING, station_quality.CENSORED)).sum()) for flag in flags)
    return {"good": good, "flagged": sum(flag.size for flag in flags) - good - missing, "missing": missing}


def _around(
    root: Root, manifest: Manifest, dataset: str, key: str, simulated: bool
) -> tuple[xr.Dataset | None, list[xr.Dataset]]:
    """The months before this one of the same network, and this month of the others."""
    month = np.datetime64(f"{key[:4]}-{key[4:]}", "M")
    first = str(month - CONTEXT_MONTHS).replace("-", "")
    earlier = [r for r in manifest.revisions(dataset, latest_only=True, key_from=first, key_to=key) if r.key < key]
    context = None
    for revision in earlier:
        piece = without_quality(root.open_store(revision.path).load())
        context = piece if context is None else merge(context, piece)
    others = [
        root.open_store(revision.path).load()
        for revision in manifest.revisions(key=key, latest_only=True)
        if revision.dataset.startswith(f"{OBSERVATIONS}/") and revision.dataset != dataset
        and bool(revision.details.get("simulated", False)) == simulated
    ]    # fmt: skip
    return context, others


def add_quality(reports: xr.Dataset, context: xr.Dataset | None = None, others: Sequence[xr.Dataset] = ()) -> xr.Dataset:
    """Reports with ``<VARIABLE>_quality`` beside each variable (:mod:`data_catalog.station_quality`).

    Args:
        reports: To be judged.
        context: Earlier reports of the same network, which say what is usual.
        others: Reports of other networks at the same time.
    """
    whole = reports if context is None else merge(context, reports)
    rows = np.searchsorted(whole[TIME].values, reports[TIME].values)
    ids = [str(station) for station in whole[STATION].values]
    columns = np.array([ids.index(str(station)) for station in reports[STATION].values], dtype=np.intp)
    found = station_quality.flags(whole, others)
    return reports.assign(
        {
            f"{name}_quality": ((TIME, STATION), flag[np.ix_(rows, columns)], station_quality.ATTRIBUTES)
            for name, flag in found.items()
            if name in reports
        }
    )


def without_quality(reports: xr.Dataset) -> xr.Dataset:
    """Reports without their flags."""
    return reports.drop_vars([name for name in reports.data_vars if str(name).endswith("_quality")])


# --- soundings -------------------------------------------------------------------------------------------------------------------------


def _file_soundings(
    root: Root, manifest: Manifest, network: str, soundings: xr.Dataset, available_time: np.datetime64 | None
) -> list[Revision]:
    """Soundings into the stores of their months; the same station and time again replaces the one that was there."""
    dataset = f"{SOUNDINGS}/{network}"
    months = soundings[TIME].values.astype("datetime64[M]")
    made = []
    for month in np.unique(months):
        key = str(month).replace("-", "")
        part = soundings.isel(profile=np.flatnonzero(months == month))
        before = manifest.latest(dataset, key)
        whole = part if before is None else _merged_profiles(root.open_store(before.path).load(), part)
        ref = root.write_store(f"archive/{dataset}", key, {"": whole}, whole.attrs)
        if before is None or ref.content_hash != before.content_hash:
            known = available_time if available_time is not None else whole[AVAILABLE_TIME].values.max()
            details = {"simulated": bool(whole.attrs.get("simulated", False)), "soundings": int(whole.sizes["profile"])}
            made.append(manifest.add_revision(dataset, key, ref, available_time=known, details=details))
    return made


def _merged_profiles(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    fresh = set(zip(new[STATION].values.astype(object), new[TIME].values, strict=True))
    stay = [
        number for number, key in enumerate(zip(old[STATION].values.astype(object), old[TIME].values, strict=True)) if key not in fresh
    ]
    levels = max(old.sizes["level"], new.sizes["level"])
    parts = [part.pad(level=(0, levels - part.sizes["level"])) for part in (old.isel(profile=stay), new)]
    whole = xr.concat(parts, dim="profile", join="override", combine_attrs="override")
    order = np.lexsort((whole[STATION].values.astype(object).astype(str), whole[TIME].values))
    return whole.isel(profile=order)
