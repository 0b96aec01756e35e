"""Analogs: what the pooled forecast's errors were on the past days most like this one.

Likeness is Euclidean distance in standardised predictors: the pooled forecast, the spread of the ensembles, the season, the recent errors
and the sources' departures from the pool. The errors of the nearest cases, weighted by a kernel, are put on today's pooled forecast
on the power scale, so that no forecast is bound to the values of the archive.

References:
    Hamill and Whitaker (2006), Probabilistic quantitative precipitation forecasts based on reforecast analogs, MWR 134.
    Delle Monache et al. (2013), Probabilistic weather prediction with an analog ensemble, MWR 141.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
import xarray as xr

from data_catalog.dimensions import INIT_TIME, LEAD_TIME
from models.base import LEVELS, ForecasterError, ForecasterSpec, Inputs, NotFittedError, Pairs, check_state
from models.statistical.predictors import Design, Frame, design_of, training_of
from models.statistical.shared import answer, season, shape_of, wanted

_ROWS: Final = 20_000  # cases kept; more are thinned evenly
_FEWEST, _MOST, _SHARE = 30, 150, 0.04  # analogs: at least, at most, and as a share of the cases
_LEAD_WEIGHT: Final = 0.5  # a day of lead counts as half a standard deviation
_FEATURES: Final = ("log_spread", "error_1d", "error_5d", "error_20d", "tendency")


@dataclass(frozen=True, eq=False)
class Library:
    """Past cases of one variable.

    Attributes:
        frame: How to make predictors.
        centre: (p,) mean of the features.
        scale: (p,) their standard deviation.
        features: (n, p) standardised.
        error: (n,) observation minus pool on the power scale.
    """

    frame: Frame
    centre: np.ndarray
    scale: np.ndarray
    features: np.ndarray
    error: np.ndarray


class Analog:
    """``analog``."""

    def __init__(self) -> None:
        self.library_: dict[str, Library] = {}

    @property
    def spec(self) -> ForecasterSpec:
        """Needs at least one source and forty days."""
        return ForecasterSpec(id="analog", version="1", required=("*",), minimum_history=40, needs_observations=True)

    def fit(self, pairs: Pairs) -> Self:
        """Keep the cases of every variable that a source and the observations have.

        Raises:
            MissingInputError: No source has any.
            ForecasterError: No variable has enough pairs.
        """
        held = {str(n) for data in pairs.sources.values() for n in data.data_vars}
        self.library_ = {}
        for name in wanted(pairs, [str(n) for n in pairs.observed.data_vars if n in held]):
            shape = shape_of(name)
            training = training_of(pairs, name, shape.power, shape.lower)
            features = _features(training.design, pairs)
            error = (training.y - training.design.pool).ravel()
            known = np.flatnonzero(np.isfinite(error) & np.isfinite(features).all(axis=1))
            if len(known) < _FEWEST:
                raise ForecasterError(f"analog: {len(known)} pairs of {name}, expected at least {_FEWEST}; give more history.")
            known = known[:: max(1, len(known) // _ROWS)]
            centre = features[known].mean(axis=0)
            scale = np.maximum(features[known].std(axis=0), 1e-9)
            self.library_[name] = Library(training.frame, centre, scale, (features[known] - centre) / scale, error[known])
        if not self.library_:
            raise ForecasterError("analog: no variable has both forecasts and observations.")
        return self

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles of the pooled forecast plus the errors of its analogs.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: No source of the training is there.
        """
        if not self.library_:
            raise NotFittedError("analog has not been fitted: call fit first.")
        values = {}
        for name in wanted(inputs, self.library_):
            library, shape = self.library_[name], shape_of(name)
            design = design_of(inputs, name, library.frame, shape.lower)
            features = _features(design, inputs)
            there = np.flatnonzero(np.isfinite(features).all(axis=1))
            q = np.full((len(features), len(LEVELS)), np.nan)
            q[there] = design.pool.ravel()[there, None] + _errors(library, (features[there] - library.centre) / library.scale)
            values[name] = shape.backward(torch.as_tensor(q)).numpy()
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """The cases.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.library_:
            raise NotFittedError("analog has not been fitted: call fit first.")
        found: dict[str, np.ndarray] = {}
        for name, library in self.library_.items():
            found |= library.frame.arrays(f"{name}/frame/")
            found |= {f"{name}/{part}": getattr(library, part) for part in _PARTS}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        names = list(dict.fromkeys(key.partition("/")[0] for key in state if "/" in key))
        check_state(state, *(f"{name}/features" for name in names or ["VARIABLE"]))
        made = cls()
        for name in names:
            made.library_[name] = Library(Frame.from_arrays(state, f"{name}/frame/"), *(state[f"{name}/{part}"] for part in _PARTS))
        return made


_PARTS: Final = ("centre", "scale", "features", "error")


def _features(design: Design, inputs: Inputs) -> np.ndarray:
    """(cases, p) what likeness is judged by."""
    valid_time = inputs.frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    waves = np.broadcast_to(season(valid_time)[:, :, None], (*design.pool.shape, 2))
    days = np.atleast_1d(inputs.frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64) / 86400e9
    lead = np.broadcast_to(_LEAD_WEIGHT * days[None, :, None], design.pool.shape)
    plain = [i for i, n in enumerate(design.names) if n in _FEATURES or n.startswith("source_")]
    found = np.concatenate([np.stack([design.location[..., 1], lead], axis=-1), waves, design.location[..., plain]], axis=-1)
    return found.reshape(-1, found.shape[-1])


def _errors(library: Library, features: np.ndarray) -> np.ndarray:
    """(n, Q) weighted quantiles of the errors of the nearest cases, with a tricube kernel that ends at the first one left out."""
    k = int(np.clip(_SHARE * len(library.error), _FEWEST, _MOST))
    k = min(k, len(library.error) - 1)
    out = np.empty((len(features), len(LEVELS)))
    own = (library.features**2).sum(axis=1)
    for first in range(0, len(features), 512):
        rows = features[first : first + 512]
        distance = np.maximum(own[None] + (rows**2).sum(axis=1)[:, None] - 2.0 * rows @ library.features.T, 0.0)
        near = np.argpartition(distance, k, axis=1)[:, : k + 1]
        apart = np.sqrt(np.take_along_axis(distance, near, axis=1))
        weight = (1.0 - (apart / np.maximum(apart.max(axis=1, keepdims=True), 1e-12)) ** 3) ** 3 + 1e-6
        error = library.error[near]
        order = np.argsort(error, axis=1, kind="stable")
        error, weight = np.take_along_axis(error, order, axis=1), np.take_along_axis(weight, order, axis=1)
        position = (np.cumsum(weight, axis=1) - 0.5 * weight) / weight.sum(axis=1, keepdims=True)
        for i in range(len(rows)):
            out[first + i] = np.interp(LEVELS, position[i], error[i])
    return out
