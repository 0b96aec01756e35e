"""The archive's form of a cycle: decoded fields in, one dataset out, merged with what was there before.

``VARIABLE(lead_time, ensemble_member, latitude, longitude)`` with scalar ``init_time``, NaN where a field is missing. Means, sums and
extremes carry their interval: ``lead_time_bounds(lead_time, bounds)``, NaT at leads that have none. A variable whose intervals differ from
those (a maximum over 6 h beside rain over 3 h) has its own ``<VARIABLE>_bounds``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog import dimensions, variables
from data_catalog.dimensions import BOUNDS, ENSEMBLE_MEMBER, INIT_TIME, LATITUDE, LEAD_TIME, LONGITUDE
from data_catalog.errors import ConfigurationError
from data_catalog.grib import Field
from data_catalog.grib.accumulation import Total, to_intervals

LEAD_TIME_BOUNDS: Final = "lead_time_bounds"
_SECOND: Final = np.timedelta64(1, "s")
_ROUNDING: Final = 2.0**-22         # of 32-bit numbers, where a header's reference value and a decoded one are rounded
_NOT_A_TIME: Final = np.timedelta64("NaT", "ns")


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One variable at one lead of one member; ``start`` and ``lead`` in seconds after init_time, ``start`` None for an instant."""

    lead: int
    member: int
    start: int | None
    values: np.ndarray
    step: float = 0.0
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that could not be kept, and why."""

    variable: str
    lead_hours: float
    member: int
    reason: str


def cycle_key(init_time: np.datetime64) -> str:
    """``20250101T00Z``, the key of a cycle in the manifest and the first part of its store's name; minutes only where there are any."""
    text = str(init_time.astype("datetime64[m]")).replace("-", "").replace(":", "")
    return f"{text[:11] if text.endswith('00') else text}Z"


def assemble(fields: Sequence[Field], present: xr.Dataset | None = None) -> tuple[xr.Dataset, list[Refused]]:
    """One dataset of the fields of one cycle and of what the archive has of it.

    A field that came again replaces the one that was there. Totals become amounts over consecutive leads
    (:func:`data_catalog.grib.accumulation.to_intervals`).

    Args:
        fields: Decoded and checked, all of one init_time and one lattice.
        present: The revision in the archive, loaded.

    Returns:
        The dataset, and what could not be kept of it.

    Raises:
        ConfigurationError: Fields, or the present revision, have another init_time or grid; they belong into another dataset.
    """
    init_time, grid = _agreed(fields, present)
    latitude = _joined([field.latitude for field in fields], present, LATITUDE)[::-1]
    longitude = _joined([field.longitude for field in fields], present, LONGITUDE)
    grouped: dict[str, list[_Layer]] = defaultdict(list)
    if present is not None:
        for name in _fields_of(present):
            grouped[name] = _present_layers(present, name, latitude, longitude)
    described: dict[str, dict[str, Any]] = {name: dict(present[name].attrs) for name in grouped} if present is not None else {}
    for field in fields:
        grouped[field.variable].append(_layer(field, latitude, longitude))
        described.setdefault(field.variable, {"units": field.units, "long_name": field.variable})
    kept: dict[str, list[_Layer]] = {}
    refused: list[Refused] = []
    for name in sorted(grouped):
        kept[name], reasons = _settle(name, grouped[name])
        refused += reasons
    data = _dataset({name: layers for name, layers in kept.items() if layers}, described, init_time, latitude, longitude)
    data.attrs = {"grid": grid} | {key: value for field in fields for key, value in field.attributes.items()}
    if present is not None:
        data.attrs = {**present.attrs, **data.attrs}
    return data, refused


def _fields_of(dataset: xr.Dataset) -> list[str]:
    return [str(name) for name in dataset.data_vars if ENSEMBLE_MEMBER in dataset[name].dims and LATITUDE in dataset[name].dims]


def _agreed(fields: Sequence[Field], present: xr.Dataset | None) -> tuple[np.datetime64, str]:
    times = {field.init_time.astype("datetime64[s]") for field in fields}
    grids = {str(field.attributes.get("grid", "")) for field in fields}
    if present is not None:
        times.add(present[INIT_TIME].values.astype("datetime64[s]"))
        grids.add(str(present.attrs.get("grid", "")))
    if len(times) != 1 or len(grids) != 1:
        raise ConfigurationError(
            f"One store holds one init_time and one grid, found {', '.join(sorted(map(str, times)))} on {', '.join(sorted(grids))}; "
            "import them under different dataset names."
        )
    return times.pop(), grids.pop()


def _joined(axes: Sequence[np.ndarray], present: xr.Dataset | None, name: str) -> np.ndarray:
    """Every coordinate that occurs, ascending; a lattice that was delivered in parts comes together again."""
    distinct = {axis.tobytes(): axis for axis in axes}
    if present is not None:
        distinct[b"present"] = present[name].values
    return np.unique(np.concatenate(list(distinct.values())))


def _spread(values: np.ndarray, own: tuple[np.ndarray, np.ndarray], latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Values on their own points, placed on all points; NaN elsewhere."""
    if values.shape == (latitude.size, longitude.size):
        return values
    placed = np.full((latitude.size, longitude.size), np.nan, np.float32)
    placed[np.ix_(np.searchsorted(-latitude, -own[0]), np.searchsorted(longitude, own[1]))] = values
    return placed


def _layer(field: Field, latitude: np.ndarray, longitude: np.ndarray) -> _Layer:
    start = None if field.interval_start is None else int(field.interval_start / _SECOND)
    values = _spread(field.values, (field.latitude, field.longitude), latitude, longitude)
    return _Layer(int(field.lead_time / _SECOND), field.member, start, values, field.step)


def _present_layers(present: xr.Dataset, name: str, latitude: np.ndarray, longitude: np.ndarray) -> list[_Layer]:
    array = present[name].transpose(LEAD_TIME, ENSEMBLE_MEMBER, LATITUDE, LONGITUDE)
    own = present[LATITUDE].values, present[LONGITUDE].values
    starts, leads = _starts(present, name), (present[LEAD_TIME].values / _SECOND).astype(int)
    step, values = float(array.attrs.get("packing_step", 0.0)), array.values
    there = ~np.isnan(values).all(axis=(2, 3))
    return [
        _Layer(int(leads[lead]), int(member), starts[lead], _spread(values[lead, place], own, latitude, longitude), step, rank=1)
        for lead in range(leads.size)
        for place, member in enumerate(present[ENSEMBLE_MEMBER].values)
        if there[lead, place]
    ]


def _starts(present: xr.Dataset, name: str) -> list[int | None]:
    """Start of the interval of each lead, seconds; None for an instant."""
    known = variables.VARIABLES.get(name)
    if f"{name}_bounds" in present.variables:
        bounds = present[f"{name}_bounds"].values[:, 0]
    elif known is not None and known.has_interval and LEAD_TIME_BOUNDS in present.variables:
        bounds = present[LEAD_TIME_BOUNDS].values[:, 0]
    else:
        return [None] * present.sizes[LEAD_TIME]
    return [None if np.isnat(bound) else int(bound / _SECOND) for bound in bounds]


def _settle(name: str, layers: list[_Layer]) -> tuple[list[_Layer], list[Refused]]:
    """One layer for each lead and member, all members of a lead over the same interval."""
    known = variables.VARIABLES.get(name)
    refused: list[Refused] = []
    if known is not None and known.kind in ("sum", "mean"):
        layers, refused = _intervals(name, layers, integrate=known.kind == "mean")
    best: dict[tuple[int, int], _Layer] = {}
    for layer in sorted(layers, key=lambda one: (-one.rank, -(one.lead - (one.start or 0)))):      # the last one stays: new, then short
        best[layer.lead, layer.member] = layer
    starts: dict[int, Counter[int | None]] = defaultdict(Counter)
    for layer in best.values():
        starts[layer.lead][layer.start] += 1
    usual = {lead: max(found, key=lambda start: (found[start], start or 0)) for lead, found in starts.items()}
    kept = [layer for layer in best.values() if layer.start == usual[layer.lead]]
    for layer in best.values():
        if layer.start != usual[layer.lead]:
            others = _interval(usual[layer.lead], layer.lead)
            reason = f"covers {_interval(layer.start, layer.lead)} where other members cover {others}"
            refused.append(Refused(name, layer.lead / 3600, layer.member, reason))
    return kept, refused


def _interval(start: int | None, end: int) -> str:
    return f"the instant {end / 3600:g} h" if start is None else f"{start / 3600:g}-{end / 3600:g} h"


def _intervals(name: str, layers: Iterable[_Layer], *, integrate: bool) -> tuple[list[_Layer], list[Refused]]:
    members: dict[int, list[_Layer]] = defaultdict(list)
    for layer in layers:
        members[layer.member].append(layer)
    kept, refused = [], []
    for member, own in sorted(members.items()):
        totals = []
        for layer in own:
            if layer.start is not None and layer.start < layer.lead:
                seconds = layer.lead - layer.start if integrate else 1
                values = layer.values.astype(np.float64) * seconds
                error = layer.step * seconds + _ROUNDING * float(np.nanmax(np.abs(values), initial=0.0))
                totals.append(Total(layer.start, layer.lead, values, error, layer.rank))
        amounts, reasons = to_intervals(totals)
        step = max((layer.step for layer in own), default=0.0)
        for amount in amounts:
            seconds = amount.end - amount.start if integrate else 1
            kept.append(_Layer(amount.end, member, amount.start, (amount.values / seconds).astype(np.float32), step))
        refused += [Refused(name, end / 3600, member, reason) for end, reason in reasons]
    return kept, refused


def _dataset(
    kept: Mapping[str, list[_Layer]], described: Mapping[str, Mapping[str, Any]], init_time: np.datetime64,
    latitude: np.ndarray, longitude: np.ndarray,
) -> xr.Dataset:    # fmt: skip
    leads = sorted({layer.lead for layers in kept.values() for layer in layers})
    members = sorted({layer.member for layers in kept.values() for layer in layers})
    lead_place, member_place = ({value: place for place, value in enumerate(axis)} for axis in (leads, members))
    data: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]] = {}
    bounds: dict[str, np.ndarray] = {}
    for name, layers in kept.items():
        values = np.full((len(leads), len(members), latitude.size, longitude.size), np.nan, np.float32)
        own = np.full((len(leads), 2), _NOT_A_TIME)
        for layer in layers:
            values[lead_place[layer.lead], member_place[layer.member]] = layer.values
            if layer.start is not None:
                own[lead_place[layer.lead]] = np.array([layer.start, layer.lead], "timedelta64[s]")
        attributes = {**described.get(name, {}), **variables.attributes(name), "packing_step": max(layer.step for layer in layers)}
        known = variables.VARIABLES.get(name)
        if not np.isnat(own).all():
            bounds[name] = own
            if known is not None and not known.has_interval:        # a gust delivered as the highest of an interval
                attributes["cell_methods"] = "time: maximum"
        data[name] = ((LEAD_TIME, ENSEMBLE_MEMBER, LATITUDE, LONGITUDE), values, attributes)
    shared = _shared(bounds)
    coordinates: dict[str, Any] = {
        INIT_TIME: ((), init_time.astype("datetime64[ns]"), dimensions.attributes(INIT_TIME)),
        LEAD_TIME: (LEAD_TIME, np.array(leads, "timedelta64[s]").astype("timedelta64[ns]"), dimensions.attributes(LEAD_TIME)),
        ENSEMBLE_MEMBER: (ENSEMBLE_MEMBER, np.array(members, np.int64), dimensions.attributes(ENSEMBLE_MEMBER)),
        LATITUDE: (LATITUDE, latitude, dimensions.attributes(LATITUDE)),
        LONGITUDE: (LONGITUDE, longitude, dimensions.attributes(LONGITUDE)),
    }
    if shared is not None:
        coordinates[LEAD_TIME_BOUNDS] = ((LEAD_TIME, BOUNDS), shared)
    for name, own in bounds.items():
        there = ~np.isnat(own).any(axis=1)
        if not _is_interval(name) or shared is None or not np.array_equal(own[there], shared[there]):
            coordinates[f"{name}_bounds"] = ((LEAD_TIME, BOUNDS), own)
    return xr.Dataset(data, coordinates)


def _is_interval(name: str) -> bool:
    known = variables.VARIABLES.get(name)
    return known is not None and known.has_interval


def _shared(bounds: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The interval of each lead: of rain, else of the first variable of the catalog that has one there."""
    shared: np.ndarray | None = None
    for name in ("precipitation_amount", *variables.VARIABLES):
        if name in bounds and _is_interval(name):
            shared = bounds[name].copy() if shared is None else np.where(np.isnat(shared), bounds[name], shared)
    return shared
