"""Members with realistic dependence from calibrated marginals (Schefzik, Thorarinsdottir and Gneiting 2013).

The M members of a product are the M equidistant quantiles of the calibrated distribution, (m + 0.5) / M, at every lead, place
and variable; which member gets which is taken from the ranks of a template of M scenarios, the same scenarios everywhere, so that
dependence in time, in space and between variables is the template's and every marginal stays exactly what it was.

Templates: :func:`members_template` takes members of the sources (ensemble copula coupling), :func:`dates_template` the observed
courses of similar past dates (Schaake shuffle, Clark et al. 2004, by similarity).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, GRID, INIT_TIME, LATITUDE, LEAD_TIME, LONGITUDE, QUANTILE, STATION, TIME
from data_catalog.variables import VARIABLES
from models.base import ForecasterError
from models.statistical.shared import DAY, fraction_of_year

MEMBERS: Final = 50  # of a product
RAIN: Final = "precipitation_amount"
CORRELATION_KM: Final = 100.0  # of the latent that breaks ties and of the jitter of re-used members
CORRELATION_HOURS: Final = 12.0
JITTER: Final = 0.5  # standard deviation of that jitter, in standard deviations of the template
LEAST_DATES: Final = 1000  # past dates from which similar ones can be chosen: about three years
SEASON_DAYS: Final = 30.0  # a difference of season that weighs like one standard deviation of the weather
_COLUMNS: Final = 8192  # columns ranked at once: they stay in the cache
_COMPARED: Final = 128  # up to as many members ranks are counted, beyond they are sorted


def ranks(keys: np.ndarray) -> np.ndarray:
    """Rank of each member in its column, 0..M-1; of equal keys the earlier member is lower.

    Args:
        keys: (M, N) of any ordered type, no NaN.

    Returns:
        (M, N) a permutation of 0..M-1 in each column.
    """
    members, columns = keys.shape
    if members > _COMPARED:
        order = np.argsort(keys, axis=0, kind="stable")
        found = np.empty(keys.shape, dtype=np.int32)
        np.put_along_axis(found, order, np.arange(members, dtype=np.int32)[:, None], axis=0)
        return found
    found = np.empty(keys.shape, dtype=np.uint8)
    for first in range(0, columns, _COLUMNS):
        block = np.ascontiguousarray(keys[:, first : first + _COLUMNS])
        rank = np.repeat(np.arange(members - 1, -1, -1, dtype=np.uint8)[:, None], block.shape[1], axis=1)
        for apart in range(1, members):  # every pair (i, i + apart) at once
            lower = (block[:-apart] <= block[apart:]).view(np.uint8)
            rank[apart:] += lower
            rank[:-apart] -= lower
        found[:, first : first + _COLUMNS] = rank
    return found


def reorder(values: np.ndarray, template: np.ndarray, latent: np.ndarray | None = None) -> np.ndarray:
    """Give sorted values the rank order of a template: ensemble copula coupling of one array.

    Args:
        values: (M, ...) ascending along the first axis.
        template: The same shape, without NaN; only its order counts.
        latent: The same shape: which of equal template values is the lower. Without it the earlier member is.

    Returns:
        (M, ...): in every column the values, in the order of the template.

    Raises:
        ForecasterError: The shapes differ.
    """
    if values.shape != template.shape or (latent is not None and latent.shape != values.shape):
        raise ForecasterError(f"Values, template and latent need one shape, found {values.shape} and {template.shape}.")
    members = len(values)
    keys = template.reshape(members, -1) if latent is None else _lexicographic(template, latent).reshape(members, -1)
    flat = values.reshape(members, -1)
    rank = ranks(keys)
    out = np.empty_like(flat)
    for first in range(0, flat.shape[1], _COLUMNS):
        block = np.ascontiguousarray(flat[:, first : first + _COLUMNS])
        place = rank[:, first : first + _COLUMNS].astype(np.intp)
        place *= block.shape[1]
        place += np.arange(block.shape[1])
        out[:, first : first + _COLUMNS] = np.take(block, place, mode="clip")
    return out.reshape(values.shape)


def couple(quantiles: xr.Dataset, template: xr.Dataset, size: int = MEMBERS) -> xr.Dataset:
    """Members of every variable, coupled jointly over variables, leads and places.

    Equal template values (dry members) are told apart by a latent that is correlated in space and time and is the same for all
    variables. A template member that has no value at some lead keeps the standing it had at the lead before. A variable without
    any template takes its order from the latent.

    Args:
        quantiles: ``VARIABLE([init_time,] lead_time, station | latitude, longitude, quantile)``.
        template: ``VARIABLE([init_time,] lead_time, places, ensemble_member)`` on the same coordinates, with ``size`` members.
        size: Number of members M.

    Returns:
        ``VARIABLE(..., ensemble_member)`` with the coordinates of ``quantiles``; NaN where they are NaN.

    Raises:
        ForecasterError: The template has another number of members, or other coordinates.
    """
    if template.sizes.get(ENSEMBLE_MEMBER) != size:
        raise ForecasterError(f"Expected a template of {size} members, found {template.sizes.get(ENSEMBLE_MEMBER, 0)}.")
    if INIT_TIME in quantiles.dims:
        parts = [
            couple(quantiles.isel({INIT_TIME: i}), template.isel({INIT_TIME: i}) if INIT_TIME in template.dims else template, size)
            for i in range(quantiles.sizes[INIT_TIME])
        ]
        return xr.concat(parts, dim=INIT_TIME, coords="minimal", compat="override", join="override")
    place_dims = (STATION,) if STATION in quantiles.dims else GRID
    latent = tie_latent(quantiles, size)  # (M, L, P)
    levels = (np.arange(size) + 0.5) / size
    arrays = {}
    for name, data in quantiles.data_vars.items():
        data = data.transpose(LEAD_TIME, *place_dims, QUANTILE)
        values = _at_levels(data.values, data[QUANTILE].values, levels)  # (M, L, ...)
        shape = values.shape
        order = latent
        if name in template:
            raw = template[name].transpose(ENSEMBLE_MEMBER, LEAD_TIME, *place_dims).values
            if raw.shape != shape:
                raise ForecasterError(f"{name}: the template has the shape {raw.shape}, the quantiles need {shape}.")
            order = _filled(raw.reshape(latent.shape), latent)
        coupled = reorder(values.reshape(latent.shape), order, latent).reshape(shape)
        dims = (LEAD_TIME, *place_dims, ENSEMBLE_MEMBER)
        arrays[name] = (dims, np.moveaxis(coupled, 0, -1), data.attrs)
    coords = {k: c for k, c in quantiles.coords.items() if QUANTILE not in c.dims and k != QUANTILE}
    return xr.Dataset(arrays, coords={**coords, ENSEMBLE_MEMBER: np.arange(size)}, attrs=quantiles.attrs)


def consistent(members: xr.Dataset) -> xr.Dataset:
    """Physical order between the variables of each member: gust >= wind, dew point <= temperature, rain >= 0.

    Args:
        members: ``VARIABLE(..., ensemble_member)``; variables that are absent are passed over.

    Returns:
        A new dataset.
    """
    changed = {}
    if "wind_gust_10m" in members and "wind_speed_10m" in members:
        gust, wind = members["wind_gust_10m"], members["wind_speed_10m"]
        changed["wind_gust_10m"] = gust.where(~(gust < wind), wind)
    if "dew_point_temperature_2m" in members and "temperature_2m" in members:
        dew, air = members["dew_point_temperature_2m"], members["temperature_2m"]
        changed["dew_point_temperature_2m"] = dew.where(~(dew > air), air)
    for name in (RAIN, "precipitation_surface"):
        if name in members:
            changed[name] = members[name].clip(min=0.0, keep_attrs=True)
    return members.assign(changed)


def members_template(sources: Mapping[str, xr.Dataset], size: int = MEMBERS, by: str = RAIN) -> xr.Dataset:
    """A template of ``size`` members taken from all sources in proportion to their members.

    Within a source they are spread evenly over its members ordered by basin amount (the mean of ``by`` over places and leads), so
    that wet and dry scenarios are there as often as the source has them. Where all sources together have fewer than ``size``
    members, some are used again: a copy is the member plus a jitter correlated in space and time, half a standard deviation of
    its source at each lead and place (a factor for variables bounded at zero, so that dry stays dry).

    Members of different centres are ranked together: a centre's constant error should have been taken off before.

    Args:
        sources: ``VARIABLE([init_time,] lead_time, places, ensemble_member)``, one cycle, the same coordinates in all.
        size: Number of members.
        by: Variable by whose amount members are ordered; the first variable of a source that lacks it.

    Returns:
        ``VARIABLE(lead_time, places, ensemble_member)`` with the coordinate ``centre(ensemble_member)``; NaN where a source has no value.

    Raises:
        ForecasterError: No source has a member with values.
    """
    cut = {name: _one_cycle(data) for name, data in sources.items()}
    whole = {name: data for name, data in cut.items() if data.data_vars and _present(data).any()}
    if not whole:
        raise ForecasterError(f"No member to take a template from in {', '.join(sources) or 'no source'}.")
    counts = {name: int(_present(data).sum()) for name, data in whole.items()}
    parts = []
    for name, take in _proportional(counts, size).items():
        if take == 0:
            continue
        data = whole[name].isel({ENSEMBLE_MEMBER: np.flatnonzero(_present(whole[name]))})
        amount = _basin_amount(data, by)
        chosen = np.argsort(amount, kind="stable")[((np.arange(take) + 0.5) * len(amount) / take).astype(int)]
        part = data.isel({ENSEMBLE_MEMBER: chosen}).drop_vars(ENSEMBLE_MEMBER, errors="ignore")
        again = np.concatenate([[False], chosen[1:] == chosen[:-1]])
        part = _jittered(part, data, again, name) if again.any() else part
        parts.append(part.assign_coords(centre=(ENSEMBLE_MEMBER, np.full(take, name))))
    found = xr.concat(parts, dim=ENSEMBLE_MEMBER, join="override", coords="minimal", compat="override", fill_value=np.nan)
    return found.assign_coords({ENSEMBLE_MEMBER: np.arange(size)}).transpose(..., ENSEMBLE_MEMBER)


def dates_template(quantiles: xr.Dataset, observations: xr.Dataset, size: int = MEMBERS, least: int = LEAST_DATES) -> xr.Dataset:
    """A template of observed courses: those of the past dates most like the forecast.

    A date is like the forecast when it has the same season and hour of day and when the course of each variable, averaged over the
    stations (rain as a square root), was like the course of the forecast's medians: the regime and the basin rain.

    Args:
        quantiles: One cycle, ``VARIABLE(lead_time, station, quantile)`` with the coordinate ``init_time``.
        observations: ``VARIABLE(time, station)``; only what lies before ``init_time`` is looked at.
        size: Number of dates.
        least: Fewest past dates to choose from.

    Returns:
        ``VARIABLE(lead_time, station, ensemble_member)`` with the coordinate ``date(ensemble_member)``.

    Raises:
        ForecasterError: There are fewer past dates, or no common variable.
    """
    quantiles = _one_cycle(quantiles)
    init = quantiles[INIT_TIME].values
    leads = quantiles[LEAD_TIME].values
    names = [str(n) for n in quantiles.data_vars if n in observations]
    clock = observations["available_time" if "available_time" in observations.coords else TIME]
    past = observations.isel({TIME: np.flatnonzero(clock.values <= init)}).sortby(TIME).reindex({STATION: quantiles[STATION].values})
    times = past[TIME].values
    starts = times[(times + leads.max() <= init) & ((init - times) % DAY == np.timedelta64(0, "ns"))] if len(times) else times
    place = np.searchsorted(times, starts[:, None] + leads[None, :])  # (D, L)
    there = (place < len(times)) & (times[np.minimum(place, len(times) - 1)] == starts[:, None] + leads[None, :]) if len(starts) else place
    distance = np.zeros(len(starts))
    courses = {}
    for name in names:
        values = past[name].transpose(TIME, STATION).values
        course = np.where(there[..., None], values[np.minimum(place, len(times) - 1)], np.nan)  # (D, L, S)
        middle = quantiles[name].transpose(LEAD_TIME, STATION, QUANTILE).sel({QUANTILE: 0.5}, method="nearest").values
        courses[name] = course
        distance = distance + _unlikeness(course, middle, name)
    apart = np.abs(fraction_of_year(starts) - fraction_of_year(np.asarray(init)))
    distance = distance + (np.minimum(apart, 1.0 - apart) * 365.2425 / SEASON_DAYS) ** 2
    usable = np.flatnonzero(np.isfinite(distance))
    if not names or len(usable) < max(least, size):
        raise ForecasterError(f"Similar dates need {max(least, size)} past dates with observations, found {len(usable)}; use members.")
    chosen = np.sort(usable[np.argsort(distance[usable], kind="stable")[:size]])
    arrays = {n: ((ENSEMBLE_MEMBER, LEAD_TIME, STATION), course[chosen]) for n, course in courses.items()}
    coords = {LEAD_TIME: leads, STATION: quantiles[STATION].values, ENSEMBLE_MEMBER: np.arange(size)}
    found = xr.Dataset(arrays, coords=coords).assign_coords(date=(ENSEMBLE_MEMBER, starts[chosen]))
    return found.transpose(LEAD_TIME, STATION, ENSEMBLE_MEMBER)


def tie_latent(frame: xr.Dataset, size: int, stream: int = 0) -> np.ndarray:
    """Standard normal fields with exponential correlation in space and time, seeded by the init_time of the frame.

    Args:
        frame: Coordinates ``init_time``, ``lead_time`` and places with latitude and longitude (without them places are independent).
        size: Number of fields M.
        stream: Another number gives other fields.

    Returns:
        (M, lead_time, place) float32.
    """
    seed = int(np.atleast_1d(frame[INIT_TIME].values)[0].astype("datetime64[s]").astype(np.int64)) if INIT_TIME in frame.coords else 0
    rng = np.random.default_rng([abs(seed), stream])
    hours = frame[LEAD_TIME].values.astype("timedelta64[ns]") / np.timedelta64(1, "h")
    factors = _space_factors(frame)
    fields = rng.standard_normal((size, len(hours), *(len(f) for f in factors)), dtype=np.float32)
    for axis, factor in enumerate(factors):
        fields = np.moveaxis(np.tensordot(fields, factor, axes=([axis + 2], [1])), -1, axis + 2)
    fields = fields.reshape(size, len(hours), -1)
    for step in range(1, len(hours)):
        memory = np.float32(np.exp(-abs(hours[step] - hours[step - 1]) / CORRELATION_HOURS))
        fields[:, step] = memory * fields[:, step - 1] + np.sqrt(1.0 - memory**2) * fields[:, step]
    return fields


def _space_factors(frame: xr.Dataset) -> list[np.ndarray]:
    """Cholesky factors of the spatial correlation: one for stations, one each for latitude and longitude of a grid."""
    if STATION in frame.dims:
        size = frame.sizes[STATION]
        if LATITUDE not in frame.coords or LONGITUDE not in frame.coords:
            return [np.eye(size, dtype=np.float32)]
        latitude, longitude = (np.broadcast_to(np.nan_to_num(frame[n].values.astype(float)), (size,)) for n in GRID)
        north = (latitude[:, None] - latitude) * 111.2
        east = (longitude[:, None] - longitude) * 111.2 * np.cos(np.deg2rad(latitude.mean()))
        return [_factor(np.hypot(north, east))]
    latitude, longitude = frame[LATITUDE].values.astype(float), frame[LONGITUDE].values.astype(float)
    squeeze = np.cos(np.deg2rad(latitude.mean()))
    return [_factor(np.abs(a[:, None] - a) * 111.2 * scale) for a, scale in ((latitude, 1.0), (longitude, squeeze))]


def _factor(kilometres: np.ndarray) -> np.ndarray:
    correlation = np.exp(-kilometres / CORRELATION_KM) + 1e-6 * np.eye(len(kilometres))
    factor: np.ndarray = np.linalg.cholesky(correlation).astype(np.float32)
    return factor


def _at_levels(values: np.ndarray, known: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(..., Q) quantiles at other levels, linear between, (M, ...)."""
    high = np.clip(np.searchsorted(known, levels - 1e-9), 1, len(known) - 1)
    share = np.clip((levels - known[high - 1]) / (known[high] - known[high - 1]), 0.0, 1.0).astype(values.dtype)
    exact = np.abs(share - 1.0) < 1e-6  # a level that is known is taken as it stands
    columns = np.moveaxis(values, -1, 0)
    shape = (-1,) + (1,) * (values.ndim - 1)
    low, top = columns[high - 1], columns[high]
    return np.where(exact.reshape(shape), top, low + share.reshape(shape) * (top - low))


def _lexicographic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One integer that orders by ``first`` and, where equal, by ``second``, both at float32."""
    key = _sortable(first).astype(np.int64)
    key <<= 32
    key |= (_sortable(second).astype(np.int64) + 2**31) & 0xFFFFFFFF
    return key


def _sortable(values: np.ndarray) -> np.ndarray:
    """Integers in the order of float32 values; both zeros are one."""
    bits = (values.astype(np.float32) + np.float32(0.0)).view(np.int32)
    ordered: np.ndarray = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return ordered


def _filled(template: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """(M, L, P) without NaN: a member without a value keeps its standing of the lead before, or after, or takes the latent's."""
    missing = np.isnan(template)
    if not missing.any():
        return template
    count = np.maximum((~missing).sum(axis=0), 1)
    mean = np.where(missing, 0.0, template).sum(axis=0) / count
    spread = np.sqrt(np.where(missing, 0.0, (template - mean) ** 2).sum(axis=0) / count)
    standing = np.where(missing, np.nan, (template - mean) / np.where(spread > 0, spread, 1.0))
    for onward in (standing, standing[:, ::-1]):  # the second is a view that runs backwards
        for step in range(1, onward.shape[1]):
            onward[:, step] = np.where(np.isnan(onward[:, step]), onward[:, step - 1], onward[:, step])
    return np.where(np.isnan(standing), latent, standing)


def _one_cycle(data: xr.Dataset) -> xr.Dataset:
    if INIT_TIME not in data.dims:
        return data
    if data.sizes[INIT_TIME] != 1:
        raise ForecasterError(f"A template belongs to one cycle, found {data.sizes[INIT_TIME]} init_times.")
    return data.isel({INIT_TIME: 0})


def _present(data: xr.Dataset) -> np.ndarray:
    """(M,) whether a member has any value."""
    some = np.zeros(data.sizes[ENSEMBLE_MEMBER], dtype=bool)
    for array in data.data_vars.values():
        some |= np.isfinite(array.transpose(ENSEMBLE_MEMBER, ...).values).reshape(len(some), -1).any(axis=1)
    return some


def _proportional(counts: Mapping[str, int], size: int) -> dict[str, int]:
    """Shares of ``size`` in proportion to the counts, by largest remainder, at least one each where there is room."""
    total = sum(counts.values())
    exact = {name: size * count / total for name, count in counts.items()}
    least = 1 if size >= len(counts) else 0
    shares = {name: max(least, int(share)) for name, share in exact.items()}
    while sum(shares.values()) != size:
        step = 1 if sum(shares.values()) < size else -1
        movable = [n for n in shares if step > 0 or shares[n] > least]
        name = max(movable, key=lambda n: step * (exact[n] - shares[n]))
        shares[name] += step
    return shares


def _basin_amount(data: xr.Dataset, by: str) -> np.ndarray:
    """(M,) mean of a variable over leads and places."""
    array = data[by if by in data else next(iter(data.data_vars))].transpose(ENSEMBLE_MEMBER, ...).values
    flat = array.reshape(len(array), -1)
    known = np.isfinite(flat)
    mean: np.ndarray = np.where(known, flat, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return mean


def _jittered(part: xr.Dataset, data: xr.Dataset, again: np.ndarray, source: str) -> xr.Dataset:
    """The part with its repeated members moved by a correlated jitter."""
    size, place_dims = len(again), (STATION,) if STATION in data.dims else GRID
    latent = tie_latent(data, size, stream=1 + sum(source.encode()))
    latent[~again] = 0.0
    moved = {}
    for name, array in part.data_vars.items():
        values = array.transpose(ENSEMBLE_MEMBER, LEAD_TIME, *place_dims).values
        jitter = JITTER * latent.reshape(values.shape)
        variable = VARIABLES.get(str(name))
        if variable is not None and variable.lower_bound == 0.0:
            values = values * np.exp(jitter)
        else:
            values = values + jitter * data[name].std(ENSEMBLE_MEMBER).transpose(LEAD_TIME, *place_dims).values
        moved[name] = ((ENSEMBLE_MEMBER, LEAD_TIME, *place_dims), values.astype(array.dtype))
    return part.assign(moved)


def _unlikeness(course: np.ndarray, middle: np.ndarray, name: str) -> np.ndarray:
    """(D,) mean squared difference of basin means, in standard deviations over dates; infinite for a date without observations."""
    if name in (RAIN, "precipitation_surface"):
        course, middle = np.sqrt(np.maximum(course, 0.0)), np.sqrt(np.maximum(middle, 0.0))
    known = np.isfinite(course) & np.isfinite(middle)[None]
    count = known.sum(axis=2)  # (D, L)
    off = np.where(known, course - middle, 0.0).sum(axis=2) / np.maximum(count, 1)
    basin = np.where(known, course, 0.0).sum(axis=2) / np.maximum(count, 1)
    spread = basin[count > 0].std() if (count > 0).any() else 0.0
    leads = (count > 0).sum(axis=1)
    total = np.where(count > 0, off**2, 0.0).sum(axis=1) / np.maximum(leads, 1) / (spread**2 if spread > 0 else 1.0)
    found: np.ndarray = np.where(2 * leads >= course.shape[1] - 1, total, np.inf)
    return found
