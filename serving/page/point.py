"""Views 3 and 5: the meteogram of a station or grid cell, its members, and the weights behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from data_catalog.errors import UnknownNameError
from data_catalog.regions import Region
from data_catalog.stations import by_id
from serving.api.cycles import Cycle
from serving.page.common import HOUR, VARIABLES, daily_of, intervals_of, leads_of, numbers, position_of, utc_offset, window_sums

BOX: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles of a box of the meteogram; ECMWF's convention adds the extreme members."""
ENDS: Final = (0.01, 0.99)
"""In place of extreme members where only quantiles are published."""
SUM_HOURS: Final = (12, 24)
"""Windows of rain that the meteogram offers beside the periods of the forecast."""


def place_of(cycle: Cycle, region: Region, place: str) -> tuple[dict[str, Any], str, dict[str, int]]:
    """A station by id, or the grid cell nearest to ``latitude,longitude``.

    Returns:
        (what it is, prefix of its groups: ``stations`` or ``grid``, its position).

    Raises:
        UnknownNameError: No such station, or the point lies outside the grid.
    """
    if "," not in place:
        station = by_id(region.operating, place)
        about = {"id": station.id, "name": station.name, "latitude": station.latitude, "longitude": station.longitude,
                 "elevation": station.elevation if np.isfinite(station.elevation) else None, "support": "point"}  # fmt: skip
        return about, "stations", {"station": position_of(cycle, "stations", place)}
    try:
        latitude, longitude = (float(part) for part in place.split(","))
    except ValueError:
        raise UnknownNameError(f"The place {place[:60]!r} is neither a station nor latitude,longitude in degrees.") from None
    grid = cycle.dataset("grid")
    rows, columns = grid["latitude"].values, grid["longitude"].values
    step = abs(rows[0] - rows[-1]) / max(rows.size - 1, 1)
    if not (rows.min() - step <= latitude <= rows.max() + step and columns.min() - step <= longitude <= columns.max() + step):
        raise UnknownNameError(
            f"The point {latitude:g}, {longitude:g} lies outside {rows.min():g} to {rows.max():g} N and "
            f"{columns.min():g} to {columns.max():g} E."
        )
    row, column = int(np.abs(rows - latitude).argmin()), int(np.abs(columns - longitude).argmin())
    about = {"id": f"{rows[row]:g},{columns[column]:g}", "name": None, "latitude": float(rows[row]), "longitude": float(columns[column]),
             "elevation": None, "support": "cell"}  # fmt: skip
    return about, "grid", {"latitude": row, "longitude": column}


def point_of(cycle: Cycle, region: Region, place: str) -> dict[str, Any]:
    """A meteogram: by variable the blend's boxes, those of every other forecaster (in a cell: of the raw centres), and control runs.

    Returns:
        ``leads`` and ``intervals`` in hours; ``variables``: {name: {``blend``: [min, 10, 25, 50, 75, 90 %, max] by lead,
        ``forecasters``: {id: [1, 10, 25, 50, 75, 90, 99 %] by lead}, and at stations ``control``: {id: value by lead}}}, rain also
        summed over :data:`SUM_HOURS` ending at each lead;
        ``daily``: {name: {days, quantiles [10, 50, 90 %]}}; ``chances``: {days, ends_local, above: {mm: chance by day}} of 24 h rain.
    """
    about, prefix, at = place_of(cycle, region, place)
    quantiles = cycle.dataset(f"{prefix}_quantiles")
    levels = quantiles["quantile"].values
    inner = [int(np.abs(levels - level).argmin()) for level in BOX]
    beside = "models" if prefix == "stations" else "grid_centres"
    shown: dict[str, dict[str, Any]] = {}
    for variable, (factor, decimals) in VARIABLES.items():
        if variable not in quantiles:
            continue
        boxes = cycle.read(f"{prefix}_quantiles", variable, **at)[:, inner]
        members = cycle.read(prefix, variable, **at)
        least = np.minimum(members.min(axis=1, keepdims=True), boxes[:, :1])
        most = np.maximum(members.max(axis=1, keepdims=True), boxes[:, -1:])
        shown[variable] = {"blend": numbers(np.hstack([least, boxes, most]) * factor, decimals)}
        if beside in cycle.groups and variable in cycle.dataset(beside):
            own = cycle.dataset(beside)["quantile"].values
            outer = [int(np.abs(own - level).argmin()) for level in (ENDS[0], *BOX, ENDS[1])]
            each = cycle.read(beside, variable, **at)[..., outer] * factor
            shown[variable]["forecasters"] = _known(cycle, beside, each, decimals)
        if prefix == "stations" and "centres" in cycle.groups and variable in cycle.dataset("centres"):
            raw = cycle.read("centres", variable, **at) * factor  # (forecaster, lead_time, ensemble_member)
            ensembles = np.any(np.isfinite(raw[..., 1:]), axis=(1, 2), keepdims=True)[..., 0]
            shown[variable]["control"] = _known(cycle, "centres", np.where(ensembles, raw[..., 0], np.nan), decimals)
    leads, intervals = leads_of(cycle, f"{prefix}_quantiles"), intervals_of(cycle, f"{prefix}_quantiles")
    if "precipitation_amount" in cycle.dataset(prefix):
        for hours in SUM_HOURS:
            sums = window_sums(cycle.read(prefix, "precipitation_amount", **at), leads, intervals, hours)
            shown[f"precipitation_amount_{hours}h"] = {"blend": numbers(np.quantile(sums, (0.0, *BOX, 1.0), axis=1).T, 1)}
    daily = "daily" if prefix == "stations" else "grid_daily"
    return {
        "place": about, "members": int(cycle.dataset(prefix).sizes["ensemble_member"]),
        "leads": numbers(leads, 0), "intervals": numbers(intervals, 0),
        "variables": shown, "daily": daily_of(cycle, daily, at), "chances": _day_chances(cycle, region, prefix, at),
    }  # fmt: skip


def _known(cycle: Cycle, group: str, values: np.ndarray, decimals: int) -> dict[str, Any]:
    """``values[i]`` of every forecaster of a group that has any."""
    names = cycle.dataset(group)["forecaster"].values
    return {str(name): numbers(values[i], decimals) for i, name in enumerate(names) if np.isfinite(values[i]).any()}


def _day_chances(cycle: Cycle, region: Region, prefix: str, at: Mapping[str, int]) -> dict[str, Any]:
    """The chance that the first of the region's rain days passes each published threshold, by local date of its end."""
    group = "probabilities" if prefix == "stations" else "grid_probabilities"
    if group not in cycle.groups:
        return {"days": [], "above": {}}
    dataset = cycle.dataset(group)
    clock = region.rain.day_ends_local[0]
    local = cycle.init_time + dataset["lead_time"].values + utc_offset(region, cycle.init_time) * HOUR
    ends = np.flatnonzero(local - local.astype("datetime64[D]") == np.timedelta64(int(clock[:2]), "h"))
    windows = np.flatnonzero(dataset["window"].values == np.timedelta64(24, "h"))
    if not windows.size or not ends.size:
        return {"days": [], "above": {}}
    chances = cycle.read(group, "precipitation_amount_above", window=int(windows[0]), **at)[ends]
    return {
        "days": [str(day)[:10] for day in local[ends]], "ends_local": clock,
        "above": {f"{amount:g}": numbers(chances[:, i], 3) for i, amount in enumerate(dataset["threshold"].values)},
    }  # fmt: skip


BLEND: Final = "blend"


def members_of(cycle: Cycle, region: Region, place: str, variable: str, forecaster: str = BLEND) -> dict[str, Any]:
    """Every member of a variable at a station or in a cell: coupled ones of the blend, or at stations the raw ones of a centre.

    Returns:
        ``leads`` in hours, ``members``: values by member and lead, and ``of``: whose members there are to choose from here.

    Raises:
        UnknownNameError: No such place, variable or forecaster.
    """
    if variable not in VARIABLES:
        raise UnknownNameError(f"No variable {variable[:60]!r} on the page; known are {', '.join(VARIABLES)}.")
    factor, decimals = VARIABLES[variable]
    about, prefix, at = place_of(cycle, region, place)
    of = [BLEND]
    if prefix == "stations" and "centres" in cycle.groups and variable in cycle.dataset("centres"):
        raw = cycle.read("centres", variable, **at)  # (forecaster, lead_time, ensemble_member)
        known = np.isfinite(raw).any(axis=(1, 2))
        of += [str(name) for name in cycle.dataset("centres")["forecaster"].values[known]]
    if forecaster not in of:
        raise UnknownNameError(f"{about['id']} has no members of {forecaster[:60]!r}; known are {', '.join(of)}.")
    if forecaster == BLEND:
        values = cycle.read(prefix, variable, **at)
    else:
        values = raw[np.flatnonzero(known)[of.index(forecaster) - 1]]
        values = values[:, np.isfinite(values).any(axis=0)]
    return {"leads": numbers(leads_of(cycle, prefix), 0), "members": numbers(values.T * factor, decimals), "of": of}


def models_of(cycle: Cycle, variable: str) -> dict[str, Any]:
    """The weight of every forecaster by lead, and the pairs it was learned from."""
    if "models" not in cycle.groups or f"weight_{variable}" not in cycle.dataset("models"):
        raise UnknownNameError(f"{cycle.id} has no weights for {variable[:60]!r}.")
    models = cycle.dataset("models")
    pairs = cycle.read("models", f"pairs_{variable}") if f"pairs_{variable}" in models else None
    return {
        "variable": variable, "leads": numbers(leads_of(cycle, "models"), 0),
        "weights": {
            str(name): numbers(row, 3)
            for name, row in zip(models["forecaster"].values, cycle.read("models", f"weight_{variable}"), strict=True)
        },
        "pairs": None if pairs is None else pairs.tolist(),
        "training": {key: models.attrs.get(f"training_{key}") for key in ("from", "to")},
        "variables": [name for name in VARIABLES if f"weight_{name}" in models],
    }  # fmt: skip
