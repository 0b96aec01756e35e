"""What a forecast of many sources can be made from: the predictors of the joint forecasters.

Each source is first put on the scale of the observations (a line per lead, and a bias per station drawn to zero as strongly as
stations are alike; in training as it stood at each row, so that scales are honest). ``pool`` is their mean, weighted by past
accuracy; a source that is missing leaves the mean to the others. Beside it stand the sources' departures from it, the season and its
interaction with the forecast, hinges, the shape and spread of the largest ensemble, and what has been verified by the time
the forecast starts: decayed means of each source's errors, the newest observation and the forecast tendency since.

Nothing here looks at an observation that was not at hand at the ``init_time`` of its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION, TIME
from models.base import ForecasterError, Inputs, MissingInputError, Pairs
from models.statistical.shared import DAY, array_of, observed_of, season

HALF_LIVES: Final = (1.0, 5.0, 20.0)  # days over which verified errors are forgotten
_SPREAD_HALF_LIFE: Final = 10.0  # days, for their size
_SEASON_DAYS: Final = 300.0  # shortest history from which a season is learned
_HINGES: Final = (-1.2, -0.4, 0.4, 1.2)  # standard deviations of the pool
_LIMIT: Final = 6.0  # robust standard deviations at which a verified error is cut off
_OUTLIER: Final = 12.0  # robust standard deviations beyond which a pair is not believed
_QUANTILES: Final = (0.0, 0.1, 0.9, 1.0)  # of the largest ensemble, as departures from its mean
_HALF: Final = 0.5  # pseudo-count of the decayed means, drawing them to zero


@dataclass(frozen=True, eq=False)
class Frame:
    """What is learned before any coefficient: how to make predictors. Arrays only, for ``state``.

    Attributes:
        sources: (K,) names.
        leads: (L,) lead times in nanoseconds.
        stations: (S,) ids.
        power: () power at which everything is worked on.
        line: (L, K, 2) intercept and slope putting a source on the observations' scale.
        bias: (L, S, K) what a station adds to it.
        weight: (L, K) share in the pool, summing to one.
        size: (L, K) typical error, and the unit of errors.
        size_station: (L, S) logarithm of a station's typical error over that of its lead.
        unit: (L, 2) centre and spread of the pool.
        reach: (L, 2) smallest and largest pool seen.
        spread: (2,) floor and centre of the logarithm of the ensemble spread; NaN where there is none.
        between: () centre of the logarithm of the spread between sources.
        largest: () index of the ensemble whose shape is used, -1 for none.
        harmonics: () order of the season.
        ground: (3, 2) centre and scale of latitude, longitude, elevation; scale 0 where not used.
    """

    sources: np.ndarray
    leads: np.ndarray
    stations: np.ndarray
    power: np.ndarray
    line: np.ndarray
    bias: np.ndarray
    weight: np.ndarray
    size: np.ndarray
    size_station: np.ndarray
    unit: np.ndarray
    reach: np.ndarray
    spread: np.ndarray
    between: np.ndarray
    largest: np.ndarray
    harmonics: np.ndarray
    ground: np.ndarray

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Every array under a prefix."""
        return {f"{prefix}{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, state: Mapping[str, np.ndarray], prefix: str) -> Self:
        """The frame that :meth:`arrays` gave."""
        return cls(**{f.name: state[f"{prefix}{f.name}"] for f in fields(cls)})


class Design(NamedTuple):
    """Predictors of every case (T, L, P), P places; NaN where no source has a forecast.

    Attributes:
        pool: (T, L, P) pooled mean on the power scale.
        location: (T, L, P, p): the constant, the pool (cut off at what training saw), and the rest.
        log_scale: (T, L, P, q): the constant and the rest.
        beyond: (T, L, P) pool minus its cut-off value, to be added to the location as it is.
        names: Of the location's predictors.
        scale_names: Of the log scale's.
    """

    pool: np.ndarray
    location: np.ndarray
    log_scale: np.ndarray
    beyond: np.ndarray
    names: tuple[str, ...]
    scale_names: tuple[str, ...]


class Training(NamedTuple):
    """Frame, design and observations of pairs: y (T, L, S) on the power scale, NaN where not believed or missing; age (T, L) days."""

    frame: Frame
    design: Design
    y: np.ndarray
    age: np.ndarray


_MEMO: WeakKeyDictionary[Pairs, dict[tuple[str, float], Training]] = WeakKeyDictionary()


def training_of(pairs: Pairs, name: str, power: float, lower: float | None) -> Training:
    """Frame, design and observations of pairs, made once however many forecasters ask.

    Args:
        pairs: At least one source with ``name`` and one observation.
        name: Variable.
        power: Everything is worked on as ``value ** power``.
        lower: Lower bound of the variable, or None.

    Raises:
        MissingInputError: No source has the variable.
        ForecasterError: There is no pair.
    """
    known = _MEMO.setdefault(pairs, {})
    if (name, power) not in known:
        known[name, power] = _training(pairs, name, power, lower)
    return known[name, power]


def _training(pairs: Pairs, name: str, power: float, lower: float | None) -> Training:
    sources = [s for s, data in pairs.sources.items() if name in data and bool(np.isfinite(data[name].values).any())]
    if not sources:
        raise MissingInputError(f"No source has {name!r}; there are {', '.join(pairs.sources) or 'none'}.")
    cases = _cases(pairs, name, sources, power, lower)
    y = _forward(observed_of(pairs, name), power, lower)
    if not (np.isfinite(cases.mean).any(axis=-1) & np.isfinite(y)).any():
        raise ForecasterError(f"No pair of forecast and observation of {name!r}; give more history.")
    frame, y, stood = _learn(cases, y, power, lower, pairs, sources)
    design = _design(frame, cases, stood)
    newest = cases.valid_time[np.isfinite(y).any(axis=2)].max()
    return Training(frame, design, y, (newest - cases.valid_time) / DAY)


def design_of(inputs: Inputs, name: str, frame: Frame, lower: float | None) -> Design:
    """Predictors for the cases of inputs, with what training learned.

    Rows before the one of interest, where there are any, serve as its recent past: with them, errors verified by its
    ``init_time`` are among the predictors; without, those count as zero.

    Raises:
        MissingInputError: None of the sources of the training is there.
    """
    names = [str(s) for s in frame.sources]
    if not any(s in inputs.sources and name in inputs.sources[s] for s in names):
        had = ", ".join(inputs.sources) or "none"
        raise MissingInputError(f"At least one of {', '.join(names)} is required for {name!r}, found {had}.")
    cases = _cases(inputs, name, names, float(frame.power), lower)
    lead = np.abs(frame.leads[None] - cases.leads[:, None]).argmin(axis=1)
    position = {s: i for i, s in enumerate(frame.stations)}
    station = np.array([position.get(s, -1) for s in cases.stations])
    seen = station >= 0
    local = replace(
        frame,
        leads=cases.leads,
        stations=cases.stations,
        line=frame.line[lead],
        weight=frame.weight[lead],
        size=frame.size[lead],
        unit=frame.unit[lead],
        reach=frame.reach[lead],
        bias=np.where(seen[None, :, None], frame.bias[lead][:, station], 0.0),
        size_station=np.where(seen[None], frame.size_station[lead][:, station], 0.0),
    )
    return _design(local, cases, None)


class _Cases(NamedTuple):
    """Numbers of the inputs: mean and spread (T, L, P, K) of the sources, members of each, what was observed when."""

    mean: np.ndarray
    spread: np.ndarray
    members: list[np.ndarray]
    init_time: np.ndarray  # (T,)
    valid_time: np.ndarray  # (T, L)
    leads: np.ndarray  # (L,) nanoseconds
    stations: np.ndarray  # (P,)
    ground: np.ndarray  # (P, 3)
    truth: np.ndarray  # (T, L, P) as observed, whenever that was known
    clock: np.ndarray  # (T, L) when it was known


def _forward(values: np.ndarray, power: float, lower: float | None) -> np.ndarray:
    values = values.astype(np.float64, copy=False)
    if lower is not None:
        values = np.maximum(values, lower)
    return values if power == 1.0 else np.asarray(values**power)


def _cases(inputs: Inputs, name: str, sources: list[str], power: float, lower: float | None) -> _Cases:
    frame = inputs.frame
    places = inputs.place_dims
    valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    count = int(np.prod([frame.sizes[d] for d in places]))
    means, spreads, members = [], [], []
    for source in sources:
        held = source in inputs.sources and name in inputs.sources[source]
        empty = np.full((*valid_time.shape, count, 1), np.nan)
        values = _forward(array_of(inputs.sources[source][name], places), power, lower) if held else empty
        mean, spread = _moments(values)
        means.append(mean)
        spreads.append(spread)
        members.append(values)
    stations = frame[STATION].values.astype(str) if places == (STATION,) else np.array([f"#{i}" for i in range(count)])
    ground = np.full((count, 3), np.nan)
    if places == (STATION,):
        for i, coordinate in enumerate(("latitude", "longitude", "elevation")):
            if coordinate in frame.coords:
                ground[:, i] = np.broadcast_to(frame[coordinate].values.astype(float), (count,))
    truth, clock = _truth(inputs, name, valid_time, count, power, lower)
    leads = np.atleast_1d(frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)
    return _Cases(
        np.stack(means, -1), np.stack(spreads, -1), members, np.atleast_1d(frame[INIT_TIME].values), valid_time, leads, stations, ground,
        truth, clock,
    )


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the members there are; NaN spread where there are fewer than two."""
    there = np.isfinite(values)
    count = there.sum(axis=-1)
    held = np.where(there, values, 0.0)
    mean = np.where(count > 0, held.sum(axis=-1) / np.maximum(count, 1), np.nan)
    square = np.where(there, (values - np.nan_to_num(mean)[..., None]) ** 2, 0.0).sum(axis=-1)
    return mean, np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)), np.nan)


def _truth(
    inputs: Inputs, name: str, valid_time: np.ndarray, places: int, power: float, lower: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """What was observed at the valid times, (T, L, P), and when it was known, (T, L).

    Nothing where reports carry their own intervals: such a report need not be of the forecast's interval.
    """
    nothing = np.full((*valid_time.shape, places), np.nan), valid_time
    observations = inputs.observations
    if observations is None or name not in observations or f"{name}_interval" in observations or inputs.place_dims != (STATION,):
        return nothing
    series = observations[name].transpose(TIME, STATION).reindex({STATION: inputs.frame[STATION].values}).sortby(TIME)
    times = series[TIME].values.astype(valid_time.dtype)
    if not len(times):
        return nothing
    place = np.clip(np.searchsorted(times, valid_time), 0, len(times) - 1)
    hit = times[place] == valid_time
    truth = np.where(hit[..., None], _forward(series.values, power, lower)[place], np.nan)
    clock = valid_time
    if "available_time" in series.coords:
        clock = np.where(hit, np.maximum(series["available_time"].values[place], valid_time), valid_time)
    return truth, clock


def _learn(
    cases: _Cases, y: np.ndarray, power: float, lower: float | None, pairs: Pairs, sources: list[str]
) -> tuple[Frame, np.ndarray, np.ndarray]:
    """The frame; y with what is not believed taken out; the bias as it stood at each row, (T, L, S, K)."""
    line = _lines(cases.mean, y)  # (L, K, 2)
    own = line[None, :, None, :, 0] + line[None, :, None, :, 1] * cases.mean
    error = y[..., None] - own
    if lower is None:
        y = np.where(_strange(error), np.nan, y)
        line = _lines(cases.mean, y)
        own = line[None, :, None, :, 0] + line[None, :, None, :, 1] * cases.mean
        error = y[..., None] - own
    bias, stood = _station_bias(error, cases)
    error = y[..., None] - own - stood
    size = _fill(np.sqrt(_nanmean(error**2)))
    size = np.maximum(size, 1e-3 * max(float(np.nanstd(y)), 1e-6))
    there = np.isfinite(cases.mean).mean(axis=(0, 2))
    weight = there / size**2
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    used = cases.valid_time[np.isfinite(y).any(axis=2)]
    harmonics = 2 if (used.max() - used.min()) / DAY >= _SEASON_DAYS else 0
    counts = [m.shape[-1] for m in cases.members]
    largest = int(np.argmax(counts)) if max(counts) >= 5 else -1
    nothing = np.zeros((len(cases.leads), len(cases.stations)))
    frame = Frame(
        sources=np.array(sources), leads=cases.leads, stations=cases.stations, power=np.array(power), line=line, bias=bias, weight=weight,
        size=size, size_station=nothing, unit=np.zeros((len(cases.leads), 2)), reach=np.zeros((len(cases.leads), 2)),
        spread=np.zeros(2), between=np.array(0.0), largest=np.array(largest), harmonics=np.array(harmonics),
        ground=_ground(cases.ground),
    )  # fmt: skip
    pool, _ = _pool(frame, cases, stood)
    pair = np.where(np.isfinite(y), pool, np.nan)
    low, high = (_fill(f(np.where(np.isfinite(pair), pair, s * np.inf), axis=(0, 2))) for f, s in ((np.min, 1.0), (np.max, -1.0)))
    deviation = np.where(np.isfinite(pair).sum(axis=(0, 2)) > 1, _nanstd(pair), np.nan)
    centre = _fill(_nanmean(pair))
    unit = np.stack([centre, np.maximum(_fill(deviation), 1e-6 + 0.1 * size.min(axis=1))], axis=-1)
    spread = _pooled_spread(frame, cases)
    positive = spread[np.isfinite(spread) & (spread > 0)]
    log_spread = np.full(2, np.nan)
    if len(positive):
        floor = 0.05 * float(np.median(positive))
        log_spread = np.array([floor, np.log(np.maximum(spread[np.isfinite(spread)], floor)).mean()])
    between = _between(frame, cases)
    return (
        replace(
            frame, unit=unit, reach=np.stack([low, high], axis=-1), spread=log_spread, size_station=_station_size(y - pool, size),
            between=np.array(float(np.nanmean(between)) if np.isfinite(between).any() else 0.0),
        ),
        y,
        stood,
    )  # fmt: skip


def _lines(mean: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(L, K, 2) least squares of y on each source, the slope drawn to one by ten rows and kept within 0.2 to 3.

    The slope is that within stations: what stations differ by is their bias, not the source's slope.
    """
    both = np.isfinite(mean) & np.isfinite(y)[..., None]
    n = both.sum(axis=0)  # (L, S, K)
    x0, y0 = np.where(both, mean, 0.0), np.where(both, y[..., None], 0.0)
    mx, my = x0.sum(axis=0) / np.maximum(n, 1), y0.sum(axis=0) / np.maximum(n, 1)
    dx, dy = np.where(both, mean - mx, 0.0), np.where(both, y[..., None] - my, 0.0)
    sxx, sxy = (dx * dx).sum(axis=(0, 2)), (dx * dy).sum(axis=(0, 2))
    total = n.sum(axis=1)  # (L, K)
    pull = 10.0 * sxx / np.maximum(total, 1) + 1e-9
    slope = np.clip((sxy + pull) / (sxx + pull), 0.2, 3.0)
    offset = (y0.sum(axis=(0, 2)) - slope * x0.sum(axis=(0, 2))) / np.maximum(total, 1)
    lines: np.ndarray = np.stack([offset, slope], axis=-1)
    lines[total == 0] = [0.0, 1.0]
    return lines


def _strange(error: np.ndarray) -> np.ndarray:
    """(T, L, S) cases that every source contradicts by more than :data:`_OUTLIER` robust standard deviations."""
    flat = np.moveaxis(error, 1, 0)  # (L, T, S, K)
    flat = flat.reshape(flat.shape[0], -1, flat.shape[-1])
    centre = _nanmedian(flat, 1)
    scale = 1.4826 * _nanmedian(np.abs(flat - centre[:, None]), 1)
    distance = np.abs(error - centre[None, :, None]) / np.maximum(scale, 1e-6)[None, :, None]
    nearest = np.min(np.where(np.isfinite(distance), distance, np.inf), axis=-1)
    return np.asarray(np.isfinite(nearest) & (nearest > _OUTLIER))


def _station_bias(error: np.ndarray, cases: _Cases) -> tuple[np.ndarray, np.ndarray]:
    """Mean error of each station drawn to zero by how alike stations are, (L, S, K); and the same as it stood at each row, (T, L, S, K).

    The pull is the ratio of the variance within a station to that between stations (method of moments), in observations. A row of
    the training sees only what had been verified by its init_time, so that what is learned beside it, coefficients of
    recent errors and scales, holds for a forecast too.
    """
    _, L, S, K = error.shape
    if S == 1:
        return np.zeros((L, S, K)), np.zeros((1, L, S, K))
    there = np.isfinite(error)
    n = there.sum(axis=0)  # (L, S, K)
    total = np.where(there, error, 0.0).sum(axis=0)
    mean = total / np.maximum(n, 1)
    within = np.where(there, (error - mean) ** 2, 0.0).sum(axis=(0, 2)) / np.maximum((n - 1).clip(min=0).sum(axis=1), 1)  # (L, K)
    held = n > 0
    between = np.where(held, mean**2, 0.0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    noise = within * np.where(held, 1.0 / np.maximum(n, 1), 0.0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    pull = (within / np.maximum(between - noise, 1e-3 * within + 1e-12) + 1e-9)[:, None]  # (L, 1, K), positive also without any error
    order, newest = _verified(cases)
    totals, counts = (np.cumsum(a[order], axis=0) for a in (np.where(there, error, 0.0), there.astype(np.float64)))
    lead, at, known = np.arange(L)[None], np.maximum(newest, 0), (newest >= 0)[..., None, None]
    stood = np.where(known, totals[at, lead] / (counts[at, lead] + pull), 0.0)
    return total / (n + pull), stood[np.argsort(order, kind="stable")]


def _verified(cases: _Cases) -> tuple[np.ndarray, np.ndarray]:
    """Order of the rows by init_time, and in that order (T, L) the newest row verified by each init_time, -1 for none."""
    order = np.argsort(cases.init_time, kind="stable")
    clock = np.maximum.accumulate(cases.clock[order], axis=0)
    start = cases.init_time[order]
    return order, np.stack([np.searchsorted(clock[:, j], start, side="right") - 1 for j in range(clock.shape[1])], axis=1)


def _station_size(error: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(L, S) logarithm of a station's mean absolute error over its lead's, drawn to zero by ten observations."""
    if error.shape[2] == 1:
        return np.zeros(error.shape[1:])
    there = np.isfinite(error)
    total, n = np.where(there, np.abs(error), 0.0).sum(axis=0), there.sum(axis=0)
    lead = np.maximum(total.sum(axis=1) / np.maximum(n.sum(axis=1), 1), 1e-3 * size.min(axis=1))[:, None]
    return np.asarray(np.log((total + 10.0 * lead) / (n + 10.0) / lead + 1e-6))


def _ground(ground: np.ndarray) -> np.ndarray:
    """(3, 2) centre and scale of coordinates that are known and differ, where there are enough stations to tell."""
    found = np.zeros((3, 2))
    for i in range(3):
        known = ground[np.isfinite(ground[:, i]), i]
        if len(known) >= 20 and known.std() > 0:
            found[i] = known.mean(), known.std()
    return found


def _calibrated(frame: Frame, cases: _Cases, stood: np.ndarray | None) -> np.ndarray:
    """(T, L, P, K) each source's mean on the scale of the observations."""
    bias = frame.bias[None] if stood is None else stood
    return np.asarray(frame.line[None, :, None, :, 0] + frame.line[None, :, None, :, 1] * cases.mean + bias)


def _pool(frame: Frame, cases: _Cases, stood: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The pooled mean (T, L, P) and the calibrated sources (T, L, P, K)."""
    each = _calibrated(frame, cases, stood)
    share = np.where(np.isfinite(each), frame.weight[None, :, None], 0.0)
    total = share.sum(axis=-1)
    pool = np.where(total > 0, (share * np.nan_to_num(each)).sum(axis=-1) / np.where(total > 0, total, 1.0), np.nan)
    return pool, each


def _pooled_spread(frame: Frame, cases: _Cases) -> np.ndarray:
    """(T, L, P) mean spread over sources that have one, on the scale of the observations."""
    scaled = cases.spread * frame.line[None, :, None, :, 1]
    there = np.isfinite(scaled)
    count = there.sum(axis=-1)
    return np.where(count > 0, np.where(there, scaled, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def _between(frame: Frame, cases: _Cases) -> np.ndarray:
    """(T, L, P) logarithm of how far calibrated sources are apart, in units of their typical error; NaN for a lonely source."""
    each = _calibrated(frame, cases, None)
    there = np.isfinite(each)
    count = there.sum(axis=-1)
    mean = np.where(there, each, 0.0).sum(axis=-1) / np.maximum(count, 1)
    square = np.where(there, (each - mean[..., None]) ** 2, 0.0).sum(axis=-1) / np.maximum(count, 1)
    unit = frame.size.min(axis=1)[None, :, None]
    return np.where(count > 1, np.log(np.sqrt(square) / unit + 0.1), np.nan)


def _design(frame: Frame, cases: _Cases, stood: np.ndarray | None) -> Design:
    pool, each = _pool(frame, cases, stood)
    low, high = frame.reach[None, :, None, 0], frame.reach[None, :, None, 1]
    inside = np.clip(pool, low, high)
    x = (inside - frame.unit[None, :, None, 0]) / frame.unit[None, :, None, 1]
    unit = frame.size.min(axis=1)[None, :, None]  # (1, L, 1)
    K = len(frame.sources)
    columns: list[tuple[str, np.ndarray]] = [("constant", np.ones_like(pool)), ("pool", inside)]
    if K > 1:
        apart = np.clip((each - pool[..., None]) / unit[..., None], -_LIMIT, _LIMIT)
        columns += [(f"source_{s}", np.nan_to_num(apart[..., k])) for k, s in enumerate(frame.sources)]
    waves = season(cases.valid_time, int(frame.harmonics))[:, :, None]  # (T, L, 1, 2 order)
    columns += [(f"season_{i}", np.broadcast_to(waves[..., i], pool.shape)) for i in range(waves.shape[-1])]
    columns += [(f"season_{i}_pool", waves[..., i] * x) for i in range(waves.shape[-1])]
    columns += [(f"hinge_{h}", np.maximum(x - h, 0.0)) for h in _HINGES]
    log_spread = _log_spread(frame, cases)
    columns += [("log_spread", log_spread)] if np.isfinite(frame.spread).all() else []
    columns += _shape_of_largest(frame, cases, unit)
    columns += _ground_columns(frame, cases, pool.shape, x)
    recent, size = _recent(frame, cases, pool, stood, unit)
    columns += recent
    scale = [("constant", np.ones_like(pool)), ("log_spread", log_spread), ("pool", x), ("error_size", size)]
    scale += [(f"season_{i}", np.broadcast_to(waves[..., i], pool.shape)) for i in range(min(2, waves.shape[-1]))]
    if K > 1:
        scale.append(("between", np.nan_to_num(_between(frame, cases) - float(frame.between))))
    if len(frame.stations) > 1:
        scale.append(("station_size", np.broadcast_to(frame.size_station[None], pool.shape)))
    lost = np.isnan(pool)
    location = np.stack([np.where(lost, np.nan, c) for _, c in columns], axis=-1)
    log_scale = np.stack([c for _, c in scale], axis=-1)
    return Design(pool, location, log_scale, pool - inside, tuple(n for n, _ in columns), tuple(n for n, _ in scale))


def _log_spread(frame: Frame, cases: _Cases) -> np.ndarray:
    spread = _pooled_spread(frame, cases)
    if not np.isfinite(frame.spread).all():
        return np.zeros_like(spread)
    return np.where(np.isfinite(spread), np.log(np.maximum(np.nan_to_num(spread), frame.spread[0])) - frame.spread[1], 0.0)


def _shape_of_largest(frame: Frame, cases: _Cases, unit: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Outer members of the largest ensemble about its mean."""
    k = int(frame.largest)
    if k < 0:
        return []
    members = np.sort(cases.members[k], axis=-1)
    whole = np.isfinite(members).all(axis=-1)
    M = members.shape[-1]
    mean = cases.mean[..., k]
    return [
        (f"member_{q:g}", np.where(whole, np.clip(np.nan_to_num(members[..., round(q * (M - 1))] - mean) / unit, -9.0, 9.0), 0.0))
        for q in _QUANTILES
    ]


def _ground_columns(frame: Frame, cases: _Cases, shape: tuple[int, ...], x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    found = []
    for i, name in enumerate(("latitude", "longitude", "elevation")):
        centre, scale = frame.ground[i]
        if scale > 0:
            z = np.clip(np.nan_to_num((cases.ground[:, i] - centre) / scale), -4.0, 4.0)[None, None]
            found += [(name, np.broadcast_to(z, shape)), (f"{name}_pool", z * x)]
    return found


def _recent(
    frame: Frame, cases: _Cases, pool: np.ndarray, stood: np.ndarray | None, unit: np.ndarray
) -> tuple[list[tuple[str, np.ndarray]], np.ndarray]:
    """Predictors from what was verified by the init_time of each row, and the recent size of errors for the scale.

    Errors are in units of the typical error and cut off at :data:`_LIMIT`, so that one broken report does not last.
    """
    L = cases.valid_time.shape[1]
    truth = cases.truth
    if not np.isfinite(truth).any():
        names = [f"error_{h:g}d" for h in HALF_LIVES] + ["newest", "tendency"]
        names += [f"error_{h:g}d_{s}" for h in HALF_LIVES for s in frame.sources] if len(frame.sources) > 1 else []
        return [(n, np.zeros_like(pool)) for n in names], np.zeros_like(pool)
    # Errors without the bias of the station, from whose mean the bias as it stands at each row is taken: what is left says how far
    # the recent past departs from what was known of the station. Only the cutting off looks at the bias of the whole training.
    whole = np.concatenate([(frame.bias * frame.weight[:, None]).sum(axis=-1, keepdims=True), frame.bias], axis=-1)[None]
    now = whole if stood is None else np.concatenate([(stood * frame.weight[None, :, None]).sum(axis=-1, keepdims=True), stood], axis=-1)
    whole, now = whole / unit[..., None], now / unit[..., None]
    base, plain = _pool(frame, cases, np.zeros((1, *frame.bias.shape)))
    order, newest = _verified(cases)
    raw = (truth[..., None] - np.concatenate([base[..., None], plain], axis=-1)) / unit[..., None]
    error = np.clip(raw - whole, -_LIMIT, _LIMIT) + whole
    back = np.argsort(order, kind="stable")

    def decayed(values: np.ndarray, half_life: float) -> np.ndarray:
        return _decayed(values[order], cases.valid_time[order], cases.init_time[order], newest, half_life)[back]

    columns: list[tuple[str, np.ndarray]] = []
    for half_life in HALF_LIVES:
        mean = decayed(error, half_life) - now * decayed(np.where(np.isfinite(error), 1.0, np.nan), half_life)
        columns.append((f"error_{half_life:g}d", mean[..., 0]))
        if len(frame.sources) > 1:
            columns += [(f"error_{half_life:g}d_{s}", mean[..., 1 + k] - mean[..., 0]) for k, s in enumerate(frame.sources)]
    lead = np.arange(L)[None]
    held = np.maximum(newest, 0)
    last, then = truth[order][held, lead], base[order][held, lead]
    seen = (newest >= 0)[..., None] & np.isfinite(last)
    columns.append(("newest", np.where(seen, np.clip((last - pool[order]) / unit, -9.0, 9.0), 0.0)[back]))
    moved = (newest >= 0)[..., None] & np.isfinite(then)
    columns.append(("tendency", np.where(moved, np.clip((base[order] - then) / unit, -9.0, 9.0), 0.0)[back]))
    usual = 0.8  # mean absolute value of a standard normal
    size = decayed(np.abs(error[..., :1] - whole[..., :1]) - usual, _SPREAD_HALF_LIFE)[..., 0]
    return [(n, np.nan_to_num(c)) for n, c in columns], np.nan_to_num(size)


def _decayed(values: np.ndarray, valid: np.ndarray, init: np.ndarray, newest: np.ndarray, half_life: float) -> np.ndarray:
    """Exponentially decayed mean of what was verified by each init_time, drawn to zero by half an observation.

    Args:
        values: (T, L, P, V), NaN for missing, in order of init_time.
        valid: (T, L).
        init: (T,).
        newest: (T, L) index of the last row verified by then, -1 for none.
        half_life: Days.
    """
    there = np.isfinite(values)
    held = np.where(there, values, 0.0)
    total, count = np.zeros_like(held), np.zeros_like(held)
    step = np.concatenate([[0.0], np.diff(init) / DAY])
    total[0], count[0] = held[0], there[0]
    for i in range(1, len(init)):
        keep = 0.5 ** (step[i] / half_life)
        total[i] = keep * total[i - 1] + held[i]
        count[i] = keep * count[i - 1] + there[i]
    lead = np.arange(valid.shape[1])[None]
    at = np.maximum(newest, 0)
    age = (init[:, None] - valid[at, lead]) / DAY
    keep = np.where(newest >= 0, 0.5 ** (np.maximum(age, 0.0) / half_life), 0.0)[..., None, None]
    return np.asarray(keep * total[at, lead] / (keep * count[at, lead] + _HALF))


def _fill(values: np.ndarray) -> np.ndarray:
    """NaN replaced by the mean of what is finite along the first axis (leads without a pair)."""
    finite = np.isfinite(values)
    if finite.all():
        return values
    if not finite.any():
        return np.zeros_like(values)
    mean = np.where(finite, values, 0.0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    return np.where(finite, values, mean)


def _nanmean(values: np.ndarray) -> np.ndarray:
    there = np.isfinite(values)
    count = there.sum(axis=(0, 2))
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=(0, 2)) / np.maximum(count, 1), np.nan)


def _nanstd(values: np.ndarray) -> np.ndarray:
    centred = values - _nanmean(values)[None, :, None]
    return np.asarray(np.sqrt(_nanmean(centred**2)))


def _nanmedian(values: np.ndarray, axis: int) -> np.ndarray:
    """Median of what is finite; zero where nothing is."""
    ordered = np.sort(values, axis=axis)  # NaN last
    count = np.isfinite(ordered).sum(axis=axis, keepdims=True)
    middle = np.take_along_axis(ordered, np.maximum(count // 2, 0).clip(max=ordered.shape[axis] - 1), axis=axis)
    return np.where(count > 0, middle, 0.0).squeeze(axis)
