"""Pairs of forecast and observation at stations, from the archive: what a cycle learns from.

The archive keeps forecasts at stations in datasets named ``<dataset>-stations``: one store per month of history, or one per cycle as the
cycles run. Nothing is returned that was not known at the time asked for: forecasts and observations carry ``available_time``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, STATION, TIME
from data_catalog.manifest import Manifest, Revision
from data_catalog.store import Root
from data_catalog.variables import VARIABLES
from models.base import Pairs

HOUR = np.timedelta64(1, "h")
LONGEST_LEAD_DAYS = 11
"""Days before the first pair that its forecast may have started."""
_COORDINATES = frozenset(
    {INIT_TIME, LEAD_TIME, "lead_time_bounds", STATION, "latitude", "longitude", "elevation", ENSEMBLE_MEMBER, TIME, "available_time"}
)
_REDUCE: Mapping[str, Callable[..., np.ndarray]] = {"sum": np.sum, "mean": np.mean, "maximum": np.max, "minimum": np.min}
STATIONS_SUFFIX = "-stations"
OBSERVATIONS_PREFIX = "observations/"


def station_history(
    root: Root,
    manifest: Manifest,
    dataset: str,
    init_time: np.datetime64,
    days: int,
    stations: Sequence[str],
    *,
    available_before: np.datetime64 | None = None,
    lag_hours: int = 0,
) -> tuple[xr.Dataset | None, list[str]]:
    """Past forecasts of one dataset at stations, relabelled to the hour of ``init_time``.

    A run from another hour of the day stands in for one from this hour at the same valid time: its ``init_time`` is moved forward and
    its leads shortened by the same hours, so that a coefficient belongs to one hour of the day. A run as old as the cycle's own wins, so
    that a lagged source is calibrated and weighted by how it does at its own, longer leads.

    Args:
        root: Where the stores are.
        manifest: What there is.
        dataset: Grid dataset, without the suffix.
        init_time: The cycle that is to learn; only earlier runs are read.
        days: How many days back.
        stations: Ids, in the order wanted; a station the history lacks is NaN.
        available_before: Read nothing that came later than this.
        lag_hours: How much older than the cycle the run is that the cycle has of this dataset.

    Returns:
        (``VARIABLE(init_time, lead_time, station, ensemble_member)`` or None when there is no history, content hashes read).
    """
    since = init_time - np.timedelta64(days + LONGEST_LEAD_DAYS, "D")
    revisions = _newest(manifest, dataset + STATIONS_SUFFIX, since, init_time, available_before)
    pieces: list[xr.Dataset] = []
    hashes: list[str] = []
    for revision in revisions:
        piece = root.open_store(revision.path)
        times = piece[INIT_TIME].values if piece[INIT_TIME].ndim else piece[INIT_TIME].values[None]
        if not piece[INIT_TIME].ndim:
            piece = piece.expand_dims(INIT_TIME)
        keep = np.flatnonzero((times >= since) & (times < init_time))
        piece = piece.drop_vars("available_time", errors="ignore")
        if keep.size:
            pieces.append(_at(piece.isel({INIT_TIME: keep}).load(), stations))
            hashes.append(revision.content_hash)
    if not pieces:
        return None, []
    return _relabel(pieces, init_time, lag_hours), hashes


def _at(data: xr.Dataset, stations: Sequence[str]) -> xr.Dataset:
    """The data at these stations in this order, their ids as plain text; a station it lacks is NaN."""
    ids = np.asarray(stations, dtype=object)
    data = data.drop_vars([name for name in data.coords if name not in _COORDINATES])
    return data.assign_coords({STATION: data[STATION].values.astype(object)}).reindex({STATION: ids}).assign_coords({STATION: ids})


def _newest(
    manifest: Manifest, dataset: str, since: np.datetime64, until: np.datetime64, available_before: np.datetime64 | None
) -> list[Revision]:
    """Latest revision of every month or cycle of ``dataset`` that [since, until] touches; months first, so that cycles win over them."""
    found = manifest.revisions(dataset, latest_only=True, available_before=available_before)
    touched = [r for r in found if str(since)[:7].replace("-", "") <= r.key[:6] <= str(until)[:7].replace("-", "")]
    return sorted(touched, key=lambda r: (len(r.key), r.key))


def _relabel(pieces: list[xr.Dataset], init_time: np.datetime64, lag_hours: int) -> xr.Dataset:
    """One dataset of all pieces on the hour of ``init_time``, as nearly ``lag_hours`` late as there is one; later pieces win."""
    hour = int((init_time - init_time.astype("datetime64[D]")) / HOUR)
    members = max(piece.sizes.get(ENSEMBLE_MEMBER, 1) for piece in pieces)
    moved: list[tuple[int, int, xr.Dataset]] = []
    for order, piece in enumerate(pieces):
        hours = ((piece[INIT_TIME].values - piece[INIT_TIME].values.astype("datetime64[D]")) / HOUR).astype(int)
        for own in np.unique(hours):
            shift = int(hour - own) % 24
            shift += 24 * max(round((lag_hours - shift) / 24), 0)
            part = piece.isel({INIT_TIME: np.flatnonzero(hours == own)})
            part = part.assign_coords(
                {INIT_TIME: part[INIT_TIME].values + shift * HOUR, LEAD_TIME: part[LEAD_TIME].values - shift * HOUR}
            )
            part = part.isel({LEAD_TIME: np.flatnonzero(part[LEAD_TIME].values >= np.timedelta64(0))})
            if "lead_time_bounds" in part:
                part["lead_time_bounds"] = part["lead_time_bounds"] - shift * HOUR
            if ENSEMBLE_MEMBER in part.dims:
                part = part.reindex({ENSEMBLE_MEMBER: np.arange(members)})
            part = part.isel({INIT_TIME: np.flatnonzero(part[INIT_TIME].values < init_time)})
            if part.sizes[INIT_TIME]:
                moved.append((abs(shift - lag_hours), -order, part))
    leads = np.unique(np.concatenate([part[LEAD_TIME].values for _, _, part in moved]))
    taken: set[np.datetime64] = set()
    chosen = []
    for _, _, part in sorted(moved, key=lambda item: item[:2]):
        fresh = [i for i, t in enumerate(part[INIT_TIME].values) if t not in taken]
        taken |= {part[INIT_TIME].values[i] for i in fresh}
        if fresh:
            chosen.append(part.isel({INIT_TIME: fresh}).reindex({LEAD_TIME: leads}))
    bounds = next((part["lead_time_bounds"] for part in chosen if "lead_time_bounds" in part), None)
    plain = [part.drop_vars("lead_time_bounds", errors="ignore") for part in chosen]
    joined = xr.concat(plain, dim=INIT_TIME, data_vars="all", coords="minimal", compat="override", join="outer").sortby(INIT_TIME)
    return joined if bounds is None else joined.assign(lead_time_bounds=bounds)


def observation_history(
    root: Root,
    manifest: Manifest,
    until: np.datetime64,
    days: int,
    stations: Sequence[str],
    *,
    available_before: np.datetime64 | None = None,
) -> tuple[xr.Dataset | None, list[str]]:
    """What every network observed in the last days.

    Args:
        root: Where the stores are.
        manifest: What there is.
        until: Nothing observed or available after this.
        days: How many days back.
        stations: Ids, in the order wanted.
        available_before: Revisions recorded as available later than this are not read.

    Returns:
        (``VARIABLE(time, station)`` at whole hours with ``available_time(time)``, what is flagged or was not available left out, or None;
        content hashes read). Where two networks have a station, the first in alphabetical order that reports wins.
    """
    since = until - np.timedelta64(days, "D")
    hashes: list[str] = []
    joined: xr.Dataset | None = None
    for dataset in sorted(name for name in manifest.datasets() if name.startswith(OBSERVATIONS_PREFIX)):
        revisions = _newest(manifest, dataset, since, until, available_before)
        pieces = []
        for revision in revisions:
            piece = root.open_store(revision.path)
            keep = np.flatnonzero((piece[TIME].values > since) & (piece[TIME].values <= until))
            if keep.size:
                known = _available(_unflagged(piece.isel({TIME: keep}).load()), until)
                pieces.append(_at(on_hours(known), stations))
                hashes.append(revision.content_hash)
        if pieces:
            network = xr.concat(pieces, dim=TIME, data_vars="minimal", coords="minimal", compat="override", join="outer").sortby(TIME)
            joined = network if joined is None else joined.combine_first(network)
    if joined is None:
        return None, hashes
    return joined, hashes


def _unflagged(observations: xr.Dataset) -> xr.Dataset:
    """Values whose ``<VARIABLE>_quality`` is not zero become NaN; the flags themselves are dropped, and the places that reports state."""
    kept = {}
    for name, values in observations.data_vars.items():
        if str(name).endswith("_quality") or str(name).startswith("reported_"):
            continue
        flag = f"{name}_quality"
        kept[name] = values.where(observations[flag] == 0) if flag in observations else values
    return xr.Dataset(kept, coords=observations.coords, attrs=observations.attrs)


def _available(observations: xr.Dataset, until: np.datetime64) -> xr.Dataset:
    """What was available by ``until``; ``available_time`` of a row becomes that of the last of its reports that was."""
    if "available_time" not in observations.coords:
        return observations
    came = observations["available_time"]
    if came.ndim == 1:
        return observations.isel({TIME: np.flatnonzero(came.values <= until)})
    clock = came.transpose(TIME, STATION).values
    there = clock <= until                                  # NaT, no report, is not
    rows = np.flatnonzero(there.any(axis=1))
    last = np.where(there, clock, np.datetime64("NaT"))[rows]
    known = observations.drop_vars("available_time").where(xr.DataArray(there, dims=(TIME, STATION))).isel({TIME: rows})
    return known.assign_coords(available_time=(TIME, np.fmax.reduce(last, axis=1)))


def on_hours(observations: xr.Dataset) -> xr.Dataset:
    """Observations at whole hours; sums, means and extremes of shorter intervals that fill the hour before become hourly ones.

    Args:
        observations: ``VARIABLE(time, station)``, times ascending, see :func:`verify_at`.

    Returns:
        The same at the whole hours there are. An hour with a gap has no hourly value: a missing report is never zero.
    """
    times = observations[TIME].values
    whole = np.flatnonzero(times == times.astype("datetime64[h]"))
    if whole.size == times.size:
        return observations
    found = observations.isel({TIME: whole})
    for name in (str(name) for name in observations.data_vars if str(name) in VARIABLES and f"{name}_interval" in observations):
        values = observations[name].transpose(TIME, STATION).values.astype(np.float64)
        length = observations[f"{name}_interval"].transpose(TIME, STATION).values.astype(np.float64)
        own, hours = values[whole], length[whole]
        own[hours < 1], hours[hours < 1] = np.nan, np.nan
        for row, end in enumerate(whole):
            inside = slice(int(np.searchsorted(times, times[end] - HOUR, side="right")), int(end) + 1)
            made, filled = _fill_hour(values[inside], length[inside], VARIABLES[name].kind)
            own[row, filled], hours[row, filled] = made[filled], 1.0
        found = found.assign({name: ((TIME, STATION), own), f"{name}_interval": ((TIME, STATION), hours)})
    return found


def _fill_hour(values: np.ndarray, length: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One value of an hour from the shorter intervals in it, and where they fill it; (time, station) to (station,)."""
    short = np.isfinite(values) & (length < 1)
    filled = np.isclose(np.where(short, length, 0.0).sum(axis=0), 1.0, atol=1e-3)
    if kind == "mean":
        return np.where(short, values * length, 0.0).sum(axis=0), filled
    neutral = {"sum": 0.0, "maximum": -np.inf, "minimum": np.inf}[kind]
    return _REDUCE[kind](np.where(short, values, neutral), axis=0), filled


def verify_at(observations: xr.Dataset, variable: str, valid_time: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """What was observed for a variable at valid times.

    Args:
        observations: ``VARIABLE(time, station)``; an interval variable states its interval in hours in
            ``<VARIABLE>_interval(time, station)``, else it is hourly; longer ones that end at the same time stand in ``<VARIABLE>_<H>h``.
        variable: Name.
        valid_time: UTC, any shape (...).
        hours: Length of the interval that ends at each valid time, same shape, NaN for instants.

    Returns:
        (..., station) float32. An interval value is the reported one of exactly that length, else put together from hourly reports without
        a gap, else NaN: a missing report is never zero.
    """
    known = VARIABLES[variable]
    reports = observations[variable].transpose(TIME, STATION)
    times = reports[TIME].values
    values = reports.values.astype(np.float64)
    flat_time, flat_hours = valid_time.ravel(), np.broadcast_to(hours, valid_time.shape).ravel()
    position = np.clip(np.searchsorted(times, flat_time), 0, max(times.size - 1, 0))
    exact = times.size > 0
    hit = (times[position] == flat_time) if exact else np.zeros(flat_time.shape, dtype=bool)
    found = np.where(hit[:, None], values[position], np.nan) if exact else np.full((flat_time.size, reports.sizes[STATION]), np.nan)
    if known.has_interval and exact:
        name = f"{variable}_interval"
        length = observations[name].transpose(TIME, STATION).values if name in observations else np.ones_like(values)
        found = np.where(length[position] == flat_hours[:, None], found, np.nan)
        for hours_reported in np.unique(flat_hours[np.isfinite(flat_hours)]):
            if (longer := f"{variable}_{hours_reported:g}h") in observations:
                there = hit & (flat_hours == hours_reported)
                reported = observations[longer].transpose(TIME, STATION).values[position]
                found = np.where(np.isnan(found) & there[:, None], reported, found)
        hourly = np.where(length == 1, values, np.nan)
        built = _from_hours(times, hourly, flat_time, flat_hours, known.kind)
        found = np.where(np.isnan(found), built, found)
    return found.reshape(*valid_time.shape, reports.sizes[STATION]).astype(np.float32)


def _from_hours(times: np.ndarray, hourly: np.ndarray, ends: np.ndarray, hours: np.ndarray, kind: str) -> np.ndarray:
    """Sums, means or extremes of ``hourly`` (time, station) over intervals of whole hours that end at ``ends``; (n, station)."""
    first = times[0]
    slot = np.round((times - first) / HOUR).astype(int)
    on_hour = slot * HOUR + first == times
    grid = np.full((slot[-1] + 1, hourly.shape[1]), np.nan)
    grid[slot[on_hour]] = hourly[on_hour]
    stop = np.round((ends - first) / HOUR).astype(int) + 1
    found = np.full((ends.size, hourly.shape[1]), np.nan)
    for length in np.unique(hours[np.isfinite(hours)]).astype(int):
        windows = np.lib.stride_tricks.sliding_window_view(grid, length, axis=0) if 0 < length <= grid.shape[0] else None
        if windows is None:
            continue
        reduced = _REDUCE[kind](windows, axis=-1)
        start = stop - length
        rows = np.flatnonzero((hours == length) & (start >= 0) & (start < reduced.shape[0]) & (stop <= grid.shape[0]))
        found[rows] = reduced[start[rows]]
    return found


def on_interval(observations: xr.Dataset, hours: float) -> xr.Dataset:
    """The same observations with every interval variable over one length that ends at each report's time.

    Args:
        observations: ``VARIABLE(time, station)``, see :func:`verify_at`.
        hours: The length.
    """
    times = observations[TIME].values
    found = {}
    for name in (str(n) for n in observations.data_vars):
        if name not in VARIABLES:
            continue
        found[name] = observations[name]
        if VARIABLES[name].has_interval:
            values = verify_at(observations, name, times, np.full(times.shape, hours))
            found[name] = xr.DataArray(values, dims=(TIME, STATION), coords=observations.coords, attrs=observations[name].attrs)
    return xr.Dataset(found, coords=observations.coords, attrs=observations.attrs)


@dataclass(frozen=True, eq=False)
class Past:
    """What a cycle may learn from.

    Attributes:
        pairs: Past forecasts and what verified, or None where there is no history or no observation.
        observations: ``VARIABLE(time, station)`` known at init_time, or None.
        hashes: Content hashes of every store read.
    """

    pairs: Pairs | None
    observations: xr.Dataset | None
    hashes: tuple[str, ...]


def read_past(
    root: Root,
    manifest: Manifest,
    datasets: Sequence[str],
    targets: Sequence[str],
    stations: Sequence[str],
    init_time: np.datetime64,
    days: int,
    *,
    available_before: np.datetime64 | None = None,
    lags: Mapping[str, int] | None = None,
) -> Past:
    """Everything known at ``init_time`` that a forecaster may learn from.

    Args:
        root: Where the stores are.
        manifest: What there is.
        datasets: Sources of the cycle.
        targets: Its variables.
        stations: Ids in the order wanted.
        init_time: The cycle's start; nothing later is read.
        days: Days of pairs.
        available_before: Read no revision that came later than this.
        lags: Hours by which the run of a source is older than the cycle; 0 where not named.
    """
    sources: dict[str, xr.Dataset] = {}
    hashes: list[str] = []
    for dataset in datasets:
        history, read = station_history(
            root, manifest, dataset, init_time, days, stations,
            available_before=available_before, lag_hours=(lags or {}).get(dataset, 0),
        )    # fmt: skip
        hashes += read
        if history is not None:
            sources[dataset] = history
    observations, read = observation_history(
        root, manifest, init_time, days + LONGEST_LEAD_DAYS, stations, available_before=available_before
    )
    hashes += read
    pairs = make_pairs(sources, observations, targets, init_time) if sources and observations is not None else None
    return Past(pairs, observations, tuple(hashes))


def make_pairs(
    sources: Mapping[str, xr.Dataset], observations: xr.Dataset, targets: Sequence[str], until: np.datetime64
) -> Pairs:
    """Pairs of past forecasts with what was observed by ``until``.

    Args:
        sources: Past forecasts by name, ``VARIABLE(init_time, lead_time, station, ensemble_member)``.
        observations: ``VARIABLE(time, station)``.
        targets: Variables wanted; those that the observations lack are left out.
        until: A pair whose valid time is later has NaN as its observation.

    Returns:
        Pairs on the union of all init times and leads, with ``lead_time_bounds`` as a coordinate. The observations in them are over the
        interval that most leads have.
    """
    inits = np.unique(np.concatenate([source[INIT_TIME].values for source in sources.values()]))
    leads = np.unique(np.concatenate([source[LEAD_TIME].values for source in sources.values()]))
    aligned = {}
    lengths = np.full(leads.size, np.nan)
    for name, source in sources.items():
        aligned[name] = source.drop_vars("lead_time_bounds", errors="ignore").reindex({INIT_TIME: inits, LEAD_TIME: leads})
        if "lead_time_bounds" in source:
            bounds = source["lead_time_bounds"].reindex({LEAD_TIME: leads}).values
            own = np.where(np.isnat(bounds).any(axis=1), np.nan, (bounds[:, 1] - bounds[:, 0]) / HOUR)
            lengths = np.where(np.isnan(lengths), own, lengths)
    modal = float(np.median(lengths[np.isfinite(lengths)])) if np.isfinite(lengths).any() else 1.0
    ends = (lengths * 3600).astype("timedelta64[s]").astype("timedelta64[ns]")
    bounds = np.stack([leads - ends, np.where(np.isnat(ends), ends, leads)], axis=1)
    aligned = {
        name: source.assign_coords({"lead_time_bounds": ((LEAD_TIME, "bounds"), bounds)}) for name, source in aligned.items()
    }
    first = next(iter(aligned.values()))
    valid = inits[:, None] + leads[None, :]
    observed = {}
    for variable in targets:
        if variable not in observations:
            continue
        values = verify_at(observations, variable, valid, np.broadcast_to(lengths, valid.shape))
        values[valid > until] = np.nan
        observed[variable] = ((INIT_TIME, LEAD_TIME, STATION), values)
    coords = {name: first[name] for name in (INIT_TIME, LEAD_TIME, STATION, "latitude", "longitude", "elevation") if name in first.coords}
    return Pairs(
        sources=aligned,
        observations=on_interval(observations, modal),
        targets=tuple(observed),
        observed=xr.Dataset(observed, coords=coords),
    )
