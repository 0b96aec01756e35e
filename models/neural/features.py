"""What a station network sees of a case: about fifty numbers in units of their spread in training.

They are the predictors of the joint EMOS (:mod:`models.statistical.predictors`) as they stood at each row, without hinges and
products, which a network finds by itself; for every source apart its departure, spread and recent errors; the means of the other
variables; season, hour, lead and terrain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, NamedTuple, Self

import numpy as np
import torch

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION
from models.base import Inputs
from models.statistical.emos import moments
from models.statistical.predictors import HALF_LIVES, Design
from models.statistical.shared import DAY, Shape, array_of, season, shape_of

_LIMIT: Final = 5.0  # standard deviations at which a predictor is cut off: beyond it a correction stays as it is there
_AUXILIARY: Final = 12  # other variables at most
_GROUND: Final = ("latitude", "longitude", "elevation")
_RECENT: Final = ("newest", "tendency", "error_now", "error_size", *(f"error_{h:g}d" for h in HALF_LIVES))


class Cases(NamedTuple):
    """Rows of a network, N = T L P of them; predictors in any units before :meth:`Scaling.apply`, in standard deviations after.

    Attributes:
        common: (N, p).
        sources: (N, K, s) of every source.
        here: (N, K) 1 where the source has a forecast, else 0.
        lead: (N,) index of the nearest lead learned.
        station: (N,) index of the station, as many as there are where it is none of them.
    """

    common: np.ndarray
    sources: np.ndarray
    here: np.ndarray
    lead: np.ndarray
    station: np.ndarray


@dataclass(frozen=True, eq=False)
class Scaling:
    """What is learned about predictors before any weight; arrays only, for ``state``.

    Attributes:
        names: (p,) of the common predictors.
        recent: (p,) bool, which of them need observations that may be late.
        auxiliary: (V,) names of other variables.
        common: (2, p) centre and scale.
        sources: (2, K, s) centre and scale.
    """

    names: np.ndarray
    recent: np.ndarray
    auxiliary: np.ndarray
    common: np.ndarray
    sources: np.ndarray

    @classmethod
    def learn(cls, names: tuple[str, ...], auxiliary: tuple[str, ...], cases: Cases, rows: np.ndarray) -> Self:
        """Centres and scales over the rows that are learned from."""
        here = cases.here[rows][..., None] > 0
        parts = [_scale(cases.common[rows], np.ones_like(cases.common[rows], dtype=bool)), _scale(cases.sources[rows], here)]
        return cls(np.array(names), np.isin(names, _RECENT), np.array(auxiliary, dtype=str), *parts)

    def apply(self, cases: Cases) -> Cases:
        """In standard deviations, cut off, zero where missing; float32."""
        common, sources = (
            np.nan_to_num(np.clip((values - unit[0]) / unit[1], -_LIMIT, _LIMIT)).astype(np.float32)
            for values, unit in ((cases.common, self.common), (cases.sources, self.sources))
        )
        return cases._replace(common=common, sources=sources, here=cases.here.astype(np.float32))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Every array under a prefix."""
        return {f"{prefix}{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, state: Mapping[str, np.ndarray], prefix: str) -> Self:
        """The scaling that :meth:`arrays` gave."""
        return cls(**{f.name: state[f"{prefix}{f.name}"] for f in fields(cls)})


def auxiliary_of(inputs: Inputs, name: str) -> tuple[str, ...]:
    """Other variables that sources have, those of most sources first."""
    count: dict[str, int] = {}
    for data in inputs.sources.values():
        for other in data.data_vars:
            if other != name and INIT_TIME in data[other].dims and LEAD_TIME in data[other].dims:
                count[str(other)] = count.get(str(other), 0) + 1
    return tuple(sorted(count, key=lambda other: (-count[other], other))[:_AUXILIARY])


def cases_of(
    inputs: Inputs, name: str, design: Design, shape: Shape, leads: np.ndarray, stations: np.ndarray, sources: np.ndarray,
    auxiliary: tuple[str, ...],
) -> tuple[Cases, tuple[str, ...]]:  # fmt: skip
    """Predictors of every case of inputs, row after row of (T, L, P).

    Args:
        inputs: With the sources.
        name: Variable.
        design: Predictors of the joint EMOS there.
        shape: Of the variable under the EMOS.
        leads: (L',) nanoseconds that were learned.
        stations: (S,) ids that were learned.
        sources: (K,) names that were learned.
        auxiliary: Other variables, from :func:`auxiliary_of` the training.

    Returns:
        (cases, names of the common predictors).
    """
    frame, size = inputs.frame, design.pool.shape
    valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    of_location = dict(zip(design.names, np.moveaxis(design.location, -1, 0), strict=True))
    of_scale = dict(zip(design.scale_names, np.moveaxis(design.log_scale, -1, 0), strict=True))
    common = {"pool": of_scale["pool"]}
    common |= {n: c for n, c in of_location.items() if _plain(n) and not any(n.endswith(f"_{s}") for s in sources)}
    common |= {n: of_scale[n] for n in ("error_size", "between", "station_size") if n in of_scale}
    common["error_now"] = _error_now(inputs, name, design.pool, shape)
    waves = season(valid_time, 2)
    hour = 2.0 * np.pi * ((valid_time - valid_time.astype("datetime64[D]")) / DAY)
    clock = [f(m * hour) for m in (1, 2) for f in (np.sin, np.cos)]
    common |= {f"year_{i}": np.broadcast_to(waves[:, :, None, i], size) for i in range(4)}
    common |= {f"hour_{i}": np.broadcast_to(wave[:, :, None], size) for i, wave in enumerate(clock)}
    ahead = np.atleast_1d(frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)
    common["lead"] = np.broadcast_to((ahead / DAY.astype("timedelta64[ns]").astype(np.int64))[None, :, None], size)
    for coordinate in _GROUND:
        known = inputs.place_dims == (STATION,) and coordinate in frame.coords
        value = np.broadcast_to(frame[coordinate].values.astype(np.float64), size[2:]) if known else np.full(size[2:], np.nan)
        common[coordinate] = np.broadcast_to(value, size)
    for other in auxiliary:
        common[f"mean_{other}"] = _mean_over_sources(inputs, other, size)
    each, here = _each_source(inputs, name, of_location, [str(s) for s in sources], shape, size)
    position = {str(s): i for i, s in enumerate(stations)}
    ids = frame[STATION].values.astype(str) if inputs.place_dims == (STATION,) else [""] * size[2]
    station = np.array([position.get(str(s), len(stations)) for s in ids])
    lead = np.abs(leads[None] - ahead[:, None]).argmin(axis=1)
    count = design.pool.size
    table = np.stack([np.asarray(c, dtype=np.float64).reshape(count) for c in common.values()], axis=-1)
    return Cases(
        table, each.reshape(count, len(sources), -1), here.reshape(count, len(sources)),
        np.broadcast_to(lead[None, :, None], size).reshape(count).astype(np.int64),
        np.broadcast_to(station, size).reshape(count).astype(np.int64),
    ), tuple(common)  # fmt: skip


def _plain(name: str) -> bool:
    """Whether a predictor of the location is one for a network: no constant, hinge, season, product or second copy."""
    return not name.startswith(("constant", "pool", "hinge", "season", "source_", *_GROUND)) and not name.endswith("_pool")


def _error_now(inputs: Inputs, name: str, pool: np.ndarray, shape: Shape) -> np.ndarray:
    """(T, L, P) what is observed at each init_time less the newest pooled forecast of it, on the power scale; NaN where unknown."""
    frame, size = inputs.frame, pool.shape
    if inputs.place_dims != (STATION,) or inputs.observations is None or name not in inputs.observations:
        return np.full(size, np.nan)
    if f"{name}_interval" in inputs.observations:  # such a report need not be of the forecast's interval
        return np.full(size, np.nan)
    inits, leads = np.atleast_1d(frame[INIT_TIME].values), np.atleast_1d(frame[LEAD_TIME].values)
    seen = shape.forward(torch.as_tensor(inputs.observed_at(name, inits[:, None]))).numpy()[:, 0]  # (T, P)
    order = np.argsort(inits, kind="stable")
    said = np.full(seen.shape, np.nan)
    for column, lead in sorted(enumerate(leads), key=lambda pair: pair[1]):
        place = np.minimum(np.searchsorted(inits[order], inits - lead), len(inits) - 1)
        earlier = order[place]
        found = np.where((inits[earlier] == inits - lead)[:, None], pool[earlier, column], np.nan)
        said = np.where(np.isfinite(said), said, found)
    return np.broadcast_to((seen - said)[:, None], size)


def _mean_over_sources(inputs: Inputs, name: str, size: tuple[int, ...]) -> np.ndarray:
    """(T, L, P) mean of the sources' means of another variable on its power scale, NaN where none has it."""
    shape = shape_of(name)
    total, count = np.zeros(size), np.zeros(size)
    for data in inputs.sources.values():
        if name in data:
            mean = moments(torch.as_tensor(array_of(data[name], inputs.place_dims)), shape)[0].numpy()
            there = np.isfinite(mean)
            total, count = total + np.where(there, mean, 0.0), count + there
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _each_source(
    inputs: Inputs, name: str, design: Mapping[str, np.ndarray], sources: list[str], shape: Shape, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(T, L, P, K, s) departure, log spread and recent errors of each source, and (T, L, P, K) where it has a forecast."""
    nothing = np.zeros(size)
    columns, here = [], []
    for source in sources:
        held = source in inputs.sources and name in inputs.sources[source]
        values = torch.as_tensor(array_of(inputs.sources[source][name], inputs.place_dims)) if held else torch.full((*size, 1), torch.nan)
        mean, spread = (t.numpy() for t in moments(values, shape))
        spread = np.log(np.where(spread > 0, spread, np.nan))
        errors = [design.get(f"error_{h:g}d_{source}", nothing) for h in HALF_LIVES]
        columns.append(np.stack([design.get(f"source_{source}", nothing), spread, *errors], axis=-1))
        here.append(np.isfinite(mean))
    return np.stack(columns, axis=-2), np.stack(here, axis=-1)


def _scale(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(2, ...) mean and standard deviation over rows of what is finite and there; scale one where nothing varies."""
    there = there & np.isfinite(values)
    count = np.maximum(there.sum(axis=0), 1)
    held = np.where(there, values, 0.0)
    mean = held.sum(axis=0) / count
    deviation = np.sqrt(np.where(there, (held - mean) ** 2, 0.0).sum(axis=0) / count)
    return np.stack([mean, np.where(deviation > 1e-6 * (1.0 + np.abs(mean)), deviation, 1.0)])
