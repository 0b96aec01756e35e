"""Station observations as the page shows them: the last hours, values of past local days, and how often each rain rule was passed.

A missing report is never zero: a sum or a mean of a day needs all its hours (rain) or a report at least each six hours (temperature).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.store import Root

PREFIX: Final = "observations/"
LOOK_SECONDS: Final = 30.0
"""The manifest is asked for newer reports at most this often."""
SEASON_DAYS: Final = 45
LEAST_SEASON: Final = 30
"""Fewer observed days than this within the season: all days are counted, and the answer says so."""
HOUR = np.timedelta64(1, "h")

RAIN: Final = "precipitation_amount"


class Observations:
    """What the archive has of every network, flagged values left out; safe to share between threads. Never writes.

    Args:
        root: Where the stores are.
        settings: Name the manifest.
    """

    def __init__(self, root: Root, settings: Settings) -> None:
        self._root = root
        self._url = settings.manifest
        self._file = None if settings.manifest_url else Path(settings.local_root) / "manifest.db"
        self._lock = threading.Lock()
        self._looked = -LOOK_SECONDS
        self._hashes: tuple[str, ...] = ()
        self._kept: xr.Dataset | None = None

    def manifest(self) -> Manifest | None:
        """The manifest opened for reading, or None where there is none yet."""
        if self._file is not None and not self._file.is_file():
            return None
        return Manifest.open(self._url)

    def hashes(self) -> tuple[str, ...]:
        """Content hashes of the months that :meth:`all` stands for."""
        self.all()
        return self._hashes

    def all(self) -> xr.Dataset | None:
        """``VARIABLE(time, station)`` of every network, or None. Where two networks have a station, the first by name wins."""
        with self._lock:
            if time.monotonic() - self._looked < LOOK_SECONDS:
                return self._kept
            self._looked = time.monotonic()
            found = self.manifest()
            if found is None:
                return None
            with found as manifest:
                networks = sorted(name for name in manifest.datasets() if name.startswith(PREFIX))
                revisions = {name: manifest.revisions(name, latest_only=True) for name in networks}
            hashes = tuple(revision.content_hash for name in networks for revision in revisions[name])
            if hashes != self._hashes:
                self._kept = self._read({name: [revision.path for revision in revisions[name]] for name in networks})
                self._hashes = hashes
            return self._kept

    def _read(self, paths: dict[str, list[str]]) -> xr.Dataset | None:
        joined: xr.Dataset | None = None
        for months in paths.values():
            pieces = [unflagged(self._root.open_store(path).load()) for path in months]
            if pieces:
                network = xr.concat(pieces, dim="time", data_vars="minimal", coords="minimal", compat="override", join="outer")
                network = network.sortby("time")
                joined = network if joined is None else joined.combine_first(network)
        return joined


def unflagged(reports: xr.Dataset) -> xr.Dataset:
    """Reports whose quality flag is not zero become NaN; flags and intervals that are not rain's are dropped."""
    kept = {
        name: values.where(reports[f"{name}_quality"] == 0) if f"{name}_quality" in reports else values
        for name, values in reports.data_vars.items()
        if not str(name).endswith("_quality") and (not str(name).endswith("_interval") or name == f"{RAIN}_interval")
    }
    return xr.Dataset(kept, coords={name: reports[name] for name in ("time", "station")}, attrs=reports.attrs)


def hourly(reports: xr.Dataset, variable: str, station: str) -> tuple[np.ndarray, np.ndarray]:
    """One station's series on whole hours.

    Returns:
        (times ``datetime64[h]`` without a gap, values float64 with NaN where there is no report). For rain only reports that state an
        interval of one hour count. Both are empty where the station or the variable is unknown.
    """
    empty = np.array([], dtype="datetime64[h]"), np.array([])
    if variable not in reports or station not in reports["station"].values or not reports.sizes["time"]:
        return empty
    values = reports[variable].sel(station=station).values.astype(np.float64)
    if f"{variable}_interval" in reports:
        values = np.where(reports[f"{variable}_interval"].sel(station=station).values == 1, values, np.nan)
    times = reports["time"].values
    whole = times.astype("datetime64[h]")
    on_hour = whole == times
    grid = np.arange(whole[0], whole[-1] + 1)
    found = np.full(grid.size, np.nan)
    found[(whole[on_hour] - grid[0]).astype(int)] = values[on_hour]
    return grid, found


@dataclass(frozen=True, slots=True)
class Frequency:
    """How often each rule was passed.

    Attributes:
        shares: By rule, 0..1; None where no day could tell.
        days: Rain days counted.
        first: The first of them.
        last: The last.
        season: Whether only days near this time of the year were counted.
    """

    shares: tuple[float | None, ...]
    days: int
    first: str
    last: str
    season: bool


def rain_frequency(
    reports: xr.Dataset, stations: Sequence[str], rules: Sequence[tuple[int, float, bool]], until: np.datetime64, ends_utc: Sequence[int]
) -> Frequency:
    """The share of past rain days on which rain at any of some stations passed each rule.

    Args:
        reports: Hourly rain.
        stations: One for a point; several for "anywhere".
        rules: (window in hours, amount in mm, whether the amount itself counts); windows end within the rain day.
        until: Days that ended later do not count.
        ends_utc: Hours of the day, UTC, at which rain days end.

    Returns:
        The frequencies; a day counts when every station that reports at all in the record has all its 24 hours that day.
    """
    series = [hourly(reports, RAIN, station) for station in stations]
    rains = [values for _, values in series if np.isfinite(values).any()]
    if not rains:
        return Frequency(tuple(None for _ in rules), 0, "", "", False)
    times = series[0][0]
    hours = times.astype("datetime64[h]").astype(int) % 24
    stops = np.flatnonzero(np.isin(hours, ends_utc) & (np.arange(times.size) >= 23) & (times <= until))
    known = np.array([all(np.isfinite(rain[stop - 23 : stop + 1]).all() for rain in rains) for stop in stops], dtype=bool)
    stops = stops[known]
    day_of_year = (times[stops].astype("datetime64[D]") - times[stops].astype("datetime64[Y]")).astype(int)
    this_day = int((until.astype("datetime64[D]") - until.astype("datetime64[Y]")).astype(int))
    apart = np.abs(day_of_year - this_day)
    near = np.minimum(apart, 365 - apart) <= SEASON_DAYS
    season = bool(near.sum() >= LEAST_SEASON * len(ends_utc))
    stops = stops[near] if season else stops
    if not stops.size:
        return Frequency(tuple(None for _ in rules), 0, "", "", False)
    shares = []
    for window, amount, counts in rules:
        passed = np.zeros(stops.size, dtype=bool)
        for rain in rains:
            sums = np.convolve(rain, np.ones(window))[: rain.size]
            first = stops - 24 + window
            most = np.array([sums[a : b + 1].max() for a, b in zip(first, stops, strict=True)])
            passed |= (most >= amount - 1e-6) if counts else (most > amount + 1e-6)
        shares.append(float(passed.mean()))
    return Frequency(tuple(shares), int(stops.size), str(times[stops[0]])[:10], str(times[stops[-1]])[:10], season)


def past_days(reports: xr.Dataset, station: str, offset_hours: int, day_ends_local: Sequence[int]) -> list[dict[str, Any]]:
    """Highest, lowest and mean temperature of past calendar days and rain of past rain days, local time.

    Args:
        reports: Of all stations.
        station: Its id.
        offset_hours: Local time minus UTC.
        day_ends_local: Local hours at which rain days end.

    Returns:
        ``{date, tmax, tmin, tmean, rain: {hour: mm}}`` by day, oldest first; None where reports are missing.
    """
    times, temperature = hourly(reports, "temperature_2m", station)
    _, rain = hourly(reports, RAIN, station)
    if not times.size:
        return []
    local = times + offset_hours
    rows = []
    for date in np.unique((local - np.timedelta64(1, "h")).astype("datetime64[D]")):
        row: dict[str, Any] = {"date": str(date), "tmax": None, "tmin": None, "tmean": None, "rain": {}}
        inside = temperature[(local > date) & (local <= date + np.timedelta64(1, "D"))]
        if inside.size == 24 and np.isfinite(inside).sum() >= 20:
            row |= {"tmax": float(np.nanmax(inside)), "tmin": float(np.nanmin(inside)), "tmean": float(np.nanmean(inside))}
        for end in day_ends_local:
            stop = date + end * HOUR
            amounts = rain[(local > stop - 24 * HOUR) & (local <= stop)] if rain.size else rain
            row["rain"][f"{end:02d}"] = float(amounts.sum()) if amounts.size == 24 and np.isfinite(amounts).all() else None
        rows.append(row)
    return rows
