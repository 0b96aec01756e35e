"""What every forecaster shares: levels, the inputs and pairs it sees, the protocol it follows, and the one converter.

Arrays at this seam are labelled (xarray); inside a forecaster they are tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, Protocol, Self, runtime_checkable

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, QUANTILE, STATION, TIME

LEVELS: Final[np.ndarray] = np.concatenate(
    [[0.001, 0.002, 0.005], np.arange(1, 100) / 100.0, [0.995, 0.998, 0.999]]
)
"""Quantile levels of every predictive distribution, shape (105,), in 0..1."""
LEVELS.setflags(write=False)


class ForecasterError(ValueError):
    """Root of the errors of ``models``."""


class NotFittedError(ForecasterError, AttributeError):
    """``predict`` or ``state`` before ``fit``."""


class MissingInputError(ForecasterError):
    """A required input is absent: the caller skips this forecaster, visibly, and re-weights the others."""


@dataclass(frozen=True, slots=True)
class ForecasterSpec:
    """What a forecaster is and needs.

    Attributes:
        id: The id of DESIGN.md section 4: ``climatology``, ``emos_<source>``, ...
        version: Changes whenever the same pairs would give another answer.
        targets: Variables it can forecast; empty means any.
        required: Sources without which it cannot run; ``("*",)`` means at least one of any.
        optional: Sources it uses when present.
        minimum_history: Smallest number of distinct valid days of pairs that ``fit`` accepts.
        returns: Whether ``predict`` gives quantiles or members.
        needs_observations: Whether ``predict`` looks at past observations.
        longest_lead: Hours, beyond which it has no forecast (NaN).
    """

    id: str
    version: str
    targets: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    minimum_history: int = 0
    returns: Literal["quantile", "ensemble_member"] = "quantile"
    needs_observations: bool = False
    longest_lead: float = np.inf


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was at hand at one or more cycles.

    Attributes:
        sources: By source name, ``VARIABLE(init_time, lead_time, station | latitude, longitude, ensemble_member)``.
            NaN is missing and normal. Sources may differ in members, and need not have every variable; ``init_time``,
            ``lead_time`` and places are the same in all of them (:func:`align` makes them so).
        observations: ``VARIABLE(time, station)``: everything observed, with NaN for missing. A forecast from ``init_time`` t may
            use only what was available at t, which :meth:`known_at` gives; nothing else reads this field.
        targets: The variables asked for.
        template: Coordinates of the answer where there is no source at all (climatology): ``init_time``, ``lead_time`` and places.
    """

    sources: Mapping[str, xr.Dataset]
    observations: xr.Dataset | None = None
    targets: tuple[str, ...] = ()
    template: xr.Dataset | None = None

    def known_at(self, init_time: np.datetime64) -> xr.Dataset | None:
        """Observations available at ``init_time``: those with ``available_time`` (where it is a coordinate), else ``time``, <= it."""
        if self.observations is None:
            return None
        clock = "available_time" if "available_time" in self.observations.coords else TIME
        return self.observations.isel({TIME: np.flatnonzero(self.observations[clock].values <= init_time)})

    def observed_at(self, name: str, times: np.ndarray) -> np.ndarray:
        """What was known at each ``init_time`` about ``name`` at given times: :meth:`known_at` for many cycles at once.

        Args:
            name: Variable.
            times: (..., init_time, lead_time) datetime64: the times asked for of each case of :attr:`frame`.

        Returns:
            (..., init_time, lead_time, station) on the stations of :attr:`frame`, NaN where there is no observation at that time or
            it was not available at the init_time.

        Raises:
            MissingInputError: The variable is not observed, or the places are not stations.
        """
        if self.observations is None or name not in self.observations or STATION not in self.frame.dims:
            raise MissingInputError(f"Observations of {name!r} at stations are needed, and there are none.")
        series = self.observations[name].transpose(TIME, STATION).reindex({STATION: self.frame[STATION].values})
        clock = series["available_time"].values if "available_time" in series.coords else series[TIME].values
        order = np.argsort(series[TIME].values, kind="stable")
        known = series[TIME].values[order]
        asked = np.asarray(times, dtype=known.dtype)
        if not len(known):
            return np.full((*asked.shape, series.sizes[STATION]), np.nan)
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        inits = np.atleast_1d(self.frame[INIT_TIME].values)[:, None]
        found = (known[place] == asked) & (clock[order][place] <= inits)
        values: np.ndarray = np.where(found[..., None], series.values[order][place], np.nan)
        return values

    @cached_property
    def frame(self) -> xr.Dataset:
        """Coordinates of the answer: ``init_time``, ``lead_time``, ``valid_time(init_time, lead_time)`` and places.

        Raises:
            MissingInputError: There is neither a source nor a template.
        """
        if self.template is not None:
            found = self.template
        elif self.sources:
            found = next(iter(self.sources.values()))
        else:
            raise MissingInputError("There is no source and no template, so the shape of the forecast is unknown; pass one.")
        keep = [name for name in found.coords if ENSEMBLE_MEMBER not in found[name].dims and name != ENSEMBLE_MEMBER]
        frame = found.coords.to_dataset()[keep]
        return frame.assign_coords(valid_time=frame[INIT_TIME].variable + frame[LEAD_TIME].variable)

    def only(self, *targets: str) -> Self:
        """The same inputs, asked for other variables."""
        other = replace(self, targets=targets)
        other.__dict__["frame"] = self.frame  # it does not depend on the targets, and is made often
        return other

    @property
    def place_dims(self) -> tuple[str, ...]:
        """``("station",)`` or ``("latitude", "longitude")``."""
        return (STATION,) if STATION in self.frame.dims else ("latitude", "longitude")


@dataclass(frozen=True, eq=False)
class Pairs(Inputs):
    """Inputs and what then happened.

    Attributes:
        observed: ``VARIABLE(init_time, lead_time, station)``, the observation at valid_time on the same coordinates as the
            sources; NaN where it was missing or not yet made.
    """

    observed: xr.Dataset = field(default_factory=xr.Dataset)


@runtime_checkable
class Forecaster(Protocol):
    """Maps what was available at a cycle to a predictive distribution. ``predict`` is pure."""

    @property
    def spec(self) -> ForecasterSpec:
        """What this forecaster is and needs."""
        ...

    def fit(self, pairs: Pairs) -> Self:
        """Learn from pairs and return self."""
        ...

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """``VARIABLE(init_time, lead_time, places, quantile)`` monotone on :data:`LEVELS`, or with ``ensemble_member``.

        NaN where the inputs do not allow a forecast.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: A required source is absent.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Arrays and small text arrays from which :meth:`from_state` rebuilds an equal forecaster; no pickles."""
        ...

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        ...


def to_quantiles(members: xr.DataArray, levels: np.ndarray = LEVELS) -> xr.DataArray:
    """The quantile form of an ensemble: the one converter between members and quantiles.

    Hazen's plotting positions, (i - 0.5) / M, piecewise linear between them and constant beyond (Hyndman and Fan 1996, type 5), NaN
    members left out. One member gives the same value at every level.

    Args:
        members: ``(..., ensemble_member)``, any units.
        levels: Levels in 0..1, ascending, shape (Q,).

    Returns:
        ``(..., quantile)``, monotone, same units; NaN where every member is missing.

    Raises:
        ForecasterError: ``members`` has no dimension ``ensemble_member``.
    """
    if ENSEMBLE_MEMBER not in members.dims:
        raise ForecasterError(f"Members need the dimension {ENSEMBLE_MEMBER!r}, found {members.dims}.")
    array = members.transpose(..., ENSEMBLE_MEMBER)
    values = quantiles_of_members(array.values, levels)
    dims = (*array.dims[:-1], QUANTILE)
    coords = {name: c for name, c in array.coords.items() if ENSEMBLE_MEMBER not in c.dims and name != ENSEMBLE_MEMBER}
    return xr.DataArray(values, dims=dims, coords={**coords, QUANTILE: levels}, name=members.name, attrs=members.attrs)


def quantiles_of_members(values: np.ndarray, levels: np.ndarray = LEVELS) -> np.ndarray:
    """Core of :func:`to_quantiles`: ``(..., M)`` to ``(..., Q)``."""
    ordered = np.sort(np.asarray(values, dtype=np.result_type(values, np.float32)), axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1)[..., None]  # (..., 1)
    position = np.clip(levels * count - 0.5, 0.0, np.maximum(count - 1, 0))  # (..., Q)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    share = (position - low).astype(ordered.dtype)
    below = np.take_along_axis(ordered, low, axis=-1)
    found: np.ndarray = below + share * (np.take_along_axis(ordered, high, axis=-1) - below)
    return np.where(count > 0, found, np.nan).astype(ordered.dtype)


def check_state(state: Mapping[str, Any], *needed: str) -> None:
    """Raise :class:`ForecasterError` unless ``state`` has every key that is needed."""
    missing = [key for key in needed if key not in state]
    if missing:
        raise ForecasterError(f"The state lacks {', '.join(missing)}; it has {', '.join(sorted(state))}.")
