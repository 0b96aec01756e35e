"""What the past says: forecasts of past cycles by fits that did not see them, and the weights, recalibration and gate they lead to.

The backtest and the daily cycle call the same functions, so that what is published is what was tested; nothing is remembered between
calls. The training period is cut into blocks. Each is forecast by what was learned from the rest of it, without what shares its weather;
what the forecasters say there, out of fold, is what :func:`models.blend.learn_blend` learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, QUANTILE, STATION, TIME
from data_catalog.sources.base import Progress, silent
from models.base import LEVELS, Forecaster, ForecasterError, Inputs, Pairs, to_quantiles
from models.blend import BlendState, Evidence, bucket_of, evidence, join, learn_blend
from models.registry import build

DAY: Final = np.timedelta64(24, "h")
HISTORY_DAYS: Final = 75.0  # recent cycles that a forecaster which looks at verified errors is shown
GAP: Final = DAY  # on either side of a block, that nothing is learned from: weather lasts
FAILURES: Final = (ForecasterError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What a forecaster that cannot learn or forecast may raise: it is skipped with its reason and never stops the rest."""

_REMEMBERED: Final = 8000  # cases of the past that are kept once there are twice as many
_LEADS: Final = 24  # leads that weights of a cycle are learned from; more are thinned evenly, which leaves all hours of the day
_CYCLE_BLOCKS: Final = 3  # of a cycle's trailing window: a month each by default
_CYCLE_KEPT: Final = 300  # cases of each and a lead bucket: some ten a day


@dataclass(frozen=True, eq=False)
class Block:
    """Some init_times that share a fit.

    Attributes:
        rows: Indices of init_times.
        cutoff: Nothing verified later than this may be learned from.
        test: Whether it is scored. Otherwise the block lies in the training period, and what is near it in time is not learned from.
    """

    rows: np.ndarray
    cutoff: np.datetime64
    test: bool


@dataclass(frozen=True, eq=False)
class Trained:
    """A forecaster that was trained elsewhere, with what it said of the past: it takes part in a cycle like those fitted there.

    Attributes:
        forecaster: Fitted.
        past: ``VARIABLE(init_time, lead_time, station, quantile)`` of past cycles, each forecast without knowledge of its outcome; the
            weights are learned from it. Cycles, leads, stations and variables that it lacks count as not forecast.
    """

    forecaster: Forecaster
    past: xr.Dataset


# What may be seen ------------------------------------------------------------------------------------------------------------------


def valid_times(pairs: Pairs) -> np.ndarray:
    """(init_time, lead_time) datetime64[ns]."""
    found: np.ndarray = pairs.frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    return found


def available_times(pairs: Pairs) -> np.ndarray:
    """(init_time, lead_time) datetime64[ns] at which the observation of each valid time is at hand; valid_time where not stated."""
    valid = valid_times(pairs)
    if pairs.observations is None or "available_time" not in pairs.observations.coords:
        return valid
    clock = pairs.observations["available_time"].reindex({TIME: valid.ravel()}).values.reshape(valid.shape)
    return np.where(np.isnat(clock), valid, np.maximum(clock, valid))


def scorable(pairs: Pairs) -> np.ndarray:
    """(init_time, lead_time) whether some station has an observation of a variable, and some source a forecast of it."""
    found = np.zeros(valid_times(pairs).shape, dtype=bool)
    for name, observed in pairs.observed.data_vars.items():
        known = np.isfinite(observed.transpose(INIT_TIME, LEAD_TIME, STATION).values)
        forecast = np.zeros(known.shape, dtype=bool)
        for source in pairs.sources.values():
            if name in source:
                forecast |= np.isfinite(source[name].transpose(INIT_TIME, LEAD_TIME, STATION, ...).values).any(axis=-1)
        found |= (known & forecast).any(axis=-1)
    return found


def visible(pairs: Pairs, cutoff: np.datetime64, window: int | None = None) -> np.ndarray:
    """(init_time, lead_time) whether a fit with this cutoff may see the pair: verified and at hand, within the window of distinct days."""
    valid = valid_times(pairs)
    found = (valid <= cutoff) & (available_times(pairs) <= cutoff)
    if window is not None:
        days = np.unique(valid[found & scorable(pairs)].astype("datetime64[D]"))
        if len(days) > window:
            found &= valid >= days[-window].astype("datetime64[ns]")
    return found


def near(pairs: Pairs, block: Block) -> np.ndarray:
    """(init_time, lead_time) whether a pair shares weather with a block: it is valid during it, or within :data:`GAP` of it."""
    valid = valid_times(pairs)
    first, last = pairs.frame[INIT_TIME].values[block.rows[0]], valid[block.rows].max()
    found: np.ndarray = (valid >= first - GAP) & (valid <= last + GAP)
    return found


def training_blocks(pairs: Pairs, usable: np.ndarray, cutoff: np.datetime64, count: int, window: int | None = None) -> list[Block]:
    """Some init_times in blocks, each to be forecast by what was learned from the others.

    Args:
        pairs: Of the training period.
        usable: Indices of init_times.
        cutoff: Of every block.
        count: Of blocks; fewer where there are fewer days.
        window: Only the newest days.
    """
    day = pairs.frame[INIT_TIME].values[usable].astype("datetime64[D]")
    days = np.unique(day)[-window if window is not None else 0 :]
    edges = np.unique(np.linspace(0, len(days), count + 1).round().astype(int))
    return [Block(usable[(day >= days[low]) & (day <= days[high - 1])], cutoff, test=False) for low, high in pairwise(edges)]


def select(pairs: Pairs, rows: np.ndarray, keep: np.ndarray, until: np.datetime64, since: np.datetime64 | None = None) -> Pairs:
    """Pairs of some init_times, with the observations that were at hand at a time.

    Args:
        pairs: All there are.
        rows: Indices of init_times.
        keep: (init_time, lead_time) of all: where the observation may be seen; NaN elsewhere.
        until: Nothing observed, or available, later than this is in the answer.
        since: Nothing observed before this either.
    """
    observed = pairs.observed.isel({INIT_TIME: rows}).where(xr.DataArray(keep[rows], dims=(INIT_TIME, LEAD_TIME)))
    seen = inputs_of(pairs, rows, until, since)
    return Pairs(seen.sources, seen.observations, seen.targets, None, observed)


def inputs_of(pairs: Pairs, rows: np.ndarray, until: np.datetime64, since: np.datetime64 | None = None) -> Inputs:
    """What was at hand at some init_times: their forecasts and what had been observed by ``until``, and not before ``since``."""
    known = pairs.known_at(until)
    if known is not None:
        times = known[TIME].values
        known = known.isel({TIME: np.flatnonzero((times <= until) & (times >= since if since is not None else True))})
    return Inputs({name: source.isel({INIT_TIME: rows}) for name, source in pairs.sources.items()}, known, pairs.targets)


# What the forecasters say ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Said:
    """What forecasters say of some cycles.

    Attributes:
        quantiles: (init_time, lead_time, station, quantile) float32 by variable, then forecaster id; only where one says something.
        skipped: Why one says nothing, by id.
    """

    quantiles: Mapping[str, Mapping[str, np.ndarray]]
    skipped: Mapping[str, str]


def forecast_block(
    pairs: Pairs,
    block: Block,
    keep: np.ndarray,
    ids: Sequence[str],
    since: np.datetime64 | None = None,
    make: Callable[[str], Forecaster] = build,
) -> Said:
    """What every forecaster says of a block, fitted on what may be seen.

    Args:
        pairs: All there are.
        block: The cycles to forecast.
        keep: (init_time, lead_time) what may be learned from.
        ids: Forecasters.
        since: Nothing before this may be looked at.
        make: A new forecaster of an id.
    """
    valid, inits = valid_times(pairs), pairs.frame[INIT_TIME].values
    learned = select(pairs, np.flatnonzero(keep.any(axis=1)), keep, block.cutoff, since)
    days = len(np.unique(valid[keep & scorable(pairs)].astype("datetime64[D]")))
    recent = np.flatnonzero((inits >= inits[block.rows[0]] - HISTORY_DAYS * DAY) & (inits < inits[block.rows[0]]))
    if since is not None:
        recent = recent[(valid[recent] >= since).all(axis=1)]
    plain = inputs_of(pairs, block.rows, inits[block.rows[-1]], since)
    informed = inputs_of(pairs, np.concatenate([recent, block.rows]), inits[block.rows[-1]], since)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in pairs.targets}
    skipped: dict[str, str] = {}
    for forecaster_id in ids:
        forecaster = make(forecaster_id)
        if forecaster.spec.minimum_history > days:
            skipped[forecaster_id] = f"{days} days of pairs, it needs {forecaster.spec.minimum_history}"
            continue
        try:
            said = predict_newest(forecaster.fit(learned), informed if forecaster.spec.needs_observations else plain, len(block.rows))
            wanted = [name for name in pairs.targets if name in said]
            if not wanted:
                raise ForecasterError(f"no forecast of {', '.join(pairs.targets)}")
            arrays = {name: _array(said[name]) for name in wanted}
        except FAILURES as error:
            skipped[forecaster_id] = reason_of(error)
            continue
        for name, values in arrays.items():
            found[name][forecaster_id] = values
    return Said(found, skipped)


def predict_newest(forecaster: Forecaster, inputs: Inputs, cycles: int) -> xr.Dataset:
    """What a forecaster says of the last cycles of its inputs, variable by variable: all of them at once would be gigabytes.

    Args:
        forecaster: Fitted.
        inputs: With the cycles before, where it looks at verified errors.
        cycles: How many are kept.

    Raises:
        ForecasterError: It has no forecast of any variable; the reason is that of the first.
    """
    found: list[xr.Dataset] = []
    refused: ForecasterError | None = None
    for name in inputs.targets:
        if forecaster.spec.targets and name not in forecaster.spec.targets:
            continue
        try:
            said = forecaster.predict(inputs.only(name))
        except ForecasterError as error:
            refused = refused or error
            continue
        found.append(said.isel({INIT_TIME: np.arange(-cycles, 0)}))  # by index: a copy, so that the rest is let go
    if not found:
        raise refused or ForecasterError(f"no forecast of {', '.join(inputs.targets)}")
    return found[0].assign({name: array.variable for said in found[1:] for name, array in said.data_vars.items()})


def reason_of(error: Exception) -> str:
    """Why a forecaster failed, without a full stop."""
    return (str(error) if isinstance(error, ForecasterError) else f"{type(error).__name__}: {error}").rstrip(".")


def _array(said: xr.DataArray) -> np.ndarray:
    """(init_time, lead_time, station, quantile) float32."""
    values = said if QUANTILE in said.dims else to_quantiles(said)
    return values.transpose(INIT_TIME, LEAD_TIME, STATION, QUANTILE).values.astype(np.float32, copy=False)


# What is remembered of it ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Memory:
    """Out-of-fold forecasts of one variable and their outcomes, each with the time from which it may be looked at.

    Attributes:
        ids: Forecasters, in the order of the weights.
        prefer: Those whose weights are equal where nothing has been verified.
        lead_hours: (L,) leads asked for.
        resolution: Of the instrument.
        kept: Cases of a block and lead bucket that join the past; more are thinned evenly.
    """

    ids: Sequence[str]
    prefer: Sequence[str]
    lead_hours: np.ndarray
    resolution: float
    kept: int = 1000
    _parts: list[tuple[np.ndarray, Evidence]] = field(default_factory=list)

    def add(self, pairs: Pairs, rows: np.ndarray, observed: np.ndarray, quantiles: Mapping[str, np.ndarray]) -> None:
        """What was said of some cycles joins the past.

        Args:
            pairs: They belong to.
            rows: Indices of their init_times.
            observed: (T, L, S) of these cycles, NaN for missing.
            quantiles: (T, L, S, Q) by id; ids that are absent said nothing.
        """
        if not any(i in quantiles for i in self.prefer):
            return
        nothing = np.full((*observed.shape, len(LEVELS)), np.nan, dtype=np.float32)
        stacked = np.stack([quantiles.get(i, nothing) for i in self.ids])  # (F, T, L, S, Q)
        hours = np.broadcast_to(lead_hours(pairs)[None, :, None], observed.shape).ravel()
        cases = np.flatnonzero(np.isfinite(observed).ravel() & np.isfinite(stacked[..., 0]).any(axis=0).ravel())
        cases = cases[_thinned(bucket_of(hours[cases]), self.kept)]
        if not len(cases):
            return
        q = stacked.reshape(len(self.ids), -1, len(LEVELS))[:, cases].transpose(1, 0, 2)
        valid, available = (
            np.broadcast_to(times[rows][..., None], observed.shape).ravel()[cases] for times in (valid_times(pairs), available_times(pairs))
        )
        made = evidence(self.ids, q, observed.ravel()[cases], days_since_1970(valid), hours[cases], self.resolution)
        self._parts.append((np.maximum(available, valid), made))
        if sum(len(times) for times, _ in self._parts) > 2 * _REMEMBERED:  # thin evenly in time, whatever the cases say
            times, whole = np.concatenate([t for t, _ in self._parts]), join([e for _, e in self._parts])
            kept = np.linspace(0, len(times) - 1, _REMEMBERED).round().astype(np.intp)
            self._parts = [(times[kept], whole.take(kept))]

    def state(self, cutoff: np.datetime64, since: np.datetime64 | None = None) -> BlendState:
        """What the past says at a cutoff, from what is valid since a time."""
        parts = []
        for available, part in self._parts:
            cases = available <= cutoff
            if since is not None:
                cases &= part.day >= days_since_1970(since)
            if cases.any():
                parts.append(part if cases.all() else part.take(np.flatnonzero(cases)))
        return learn_blend(join(parts) if parts else None, self.ids, days_since_1970(cutoff), self.prefer, self.lead_hours)


def lead_hours(pairs: Inputs) -> np.ndarray:
    """(L,) hours."""
    return np.asarray(np.atleast_1d(pairs.frame[LEAD_TIME].values) / np.timedelta64(1, "h"), dtype=np.float64)


def days_since_1970(time: np.ndarray | np.datetime64) -> Any:
    """Days, float."""
    return (time - np.datetime64("1970-01-01", "ns")) / DAY


def _thinned(bucket: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most so many cases of each bucket, evenly spread."""
    kept = []
    for b in np.unique(bucket):
        own = np.flatnonzero(bucket == b)
        kept.append(own if len(own) <= most else own[np.linspace(0, len(own) - 1, most).round().astype(np.intp)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.intp)


def resolution_of(observed: np.ndarray) -> float:
    """The instrument's resolution: the largest of 1, 0.5, 0.25, 0.2 that nearly all observations are multiples of, else 0.1."""
    values = observed[np.isfinite(observed)][:20000]
    for step in (1.0, 0.5, 0.25, 0.2):
        if (np.abs(values / step - np.round(values / step)) < 1e-3).mean() > 0.98:
            return step
    return 0.1


# A cycle's lesson ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a cycle learns of its forecasters from its trailing window.

    Attributes:
        states: How to blend, by variable.
        newest: What was said of the newest block, out of fold, on the leads of ``pairs``.
        newest_states: How to blend it, learned from the blocks before it alone.
        pairs: The window, on the leads that were looked at.
        block: The newest one, or None where there was nothing to learn from.
    """

    states: Mapping[str, BlendState]
    newest: Said
    newest_states: Mapping[str, BlendState]
    pairs: Pairs | None
    block: Block | None


def learn_weights(
    pairs: Pairs | None,
    ids: Sequence[str],
    prefer: Sequence[str],
    targets: Sequence[str],
    now: np.datetime64,
    *,
    trained: Mapping[str, Trained] | None = None,
    progress: Progress = silent,
) -> Lesson:
    """Weights, recalibration and gate of a cycle by leave-block-out over its trailing window: a pure function of the past.

    Args:
        pairs: The window, or None without history.
        ids: Forecasters of the cycle, those of ``trained`` included.
        prefer: Those that share the weight where nothing was verified, and one of which must have spoken for a case to count.
        targets: Variables of the cycle.
        now: Its init_time.
        trained: Forecasters that come with what they said of the past.
        progress: Called as work goes on.
    """
    nothing = {name: learn_blend(None, ids, days_since_1970(now), prefer) for name in targets}
    if pairs is None or not pairs.targets:
        return Lesson(nothing, Said({}, {}), nothing, None, None)
    thin = _at_leads(pairs, slice(None, None, -(-len(lead_hours(pairs)) // _LEADS)))
    seen = visible(thin, now)
    usable = np.flatnonzero((seen & scorable(thin)).any(axis=1))
    if not len(usable):
        return Lesson(nothing, Said({}, {}), nothing, None, None)
    blocks = training_blocks(thin, usable, now, _CYCLE_BLOCKS)
    observed = {name: thin.observed[name].transpose(INIT_TIME, LEAD_TIME, STATION).values.astype(np.float64) for name in thin.targets}
    memory = {name: Memory(ids, prefer, lead_hours(pairs), resolution_of(values), _CYCLE_KEPT) for name, values in observed.items()}
    here = [i for i in ids if i not in (trained or {})]
    said, before = Said({}, {}), nothing
    for number, block in enumerate(blocks):
        progress("forecasting the past", number, len(blocks))
        said = forecast_block(thin, block, seen & ~near(thin, block), here)
        said = replace(said, quantiles=_with_trained(said.quantiles, thin, block, trained or {}))
        if number == len(blocks) - 1:
            before = {name: memory[name].state(now) for name in thin.targets}
        for name, one in memory.items():
            one.add(thin, block.rows, observed[name][block.rows], said.quantiles[name])
    progress("forecasting the past", len(blocks), len(blocks))
    states = {name: memory[name].state(now) if name in memory else nothing[name] for name in targets}
    return Lesson(states, said, before, thin, blocks[-1])


def _at_leads(pairs: Pairs, leads: slice) -> Pairs:
    sources = {name: source.isel({LEAD_TIME: leads}) for name, source in pairs.sources.items()}
    return replace(pairs, sources=sources, observed=pairs.observed.isel({LEAD_TIME: leads}))


def _with_trained(
    quantiles: Mapping[str, Mapping[str, np.ndarray]], pairs: Pairs, block: Block, trained: Mapping[str, Trained]
) -> dict[str, dict[str, np.ndarray]]:
    """With what the trained forecasters said of the block."""
    frame = pairs.frame
    asked = {INIT_TIME: frame[INIT_TIME].values[block.rows], LEAD_TIME: frame[LEAD_TIME].values, STATION: frame[STATION].values}
    found = {name: dict(parts) for name, parts in quantiles.items()}
    for forecaster_id, one in trained.items():
        for name in found:
            if name in one.past:
                values = _array(one.past[name].reindex(asked))
                if np.isfinite(values).any():
                    found[name][forecaster_id] = values
    return found
