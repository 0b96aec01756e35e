"""The last value observed at the same hour of day, with the errors that such a forecast has made at each lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import numpy as np
import torch
import xarray as xr

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION
from models.base import (
    ForecasterError,
    ForecasterSpec,
    Inputs,
    MissingInputError,
    NotFittedError,
    Pairs,
    check_state,
    quantiles_of_members,
)
from models.statistical.shared import DAY, answer, observed_of, shape_of, wanted

DAYS_BACK: Final = 3  # how many days a value may be old beyond the first possible one
POOL: Final = 60  # errors of all stations count for as many of one station's own


class Persistence:
    """``persistence``."""

    def __init__(self) -> None:
        self.stations_: np.ndarray = np.array([], dtype=str)
        self.leads_: np.ndarray = np.array([], dtype=np.int64)
        self.errors_: dict[str, np.ndarray] = {}

    @property
    def spec(self) -> ForecasterSpec:
        """Needs the latest observations, and ten days to learn its errors."""
        return ForecasterSpec(id="persistence", version="1", minimum_history=10, needs_observations=True)

    def fit(self, pairs: Pairs) -> Self:
        """Learn the quantiles of the errors, on the power scale, by lead and station.

        Raises:
            MissingInputError: The pairs come without the series of observations.
            ForecasterError: No value could be persisted to any pair.
        """
        if pairs.observations is None:
            raise MissingInputError("persistence needs the series of observations, and the pairs come without.")
        frame = pairs.frame
        self.stations_, self.leads_, self.errors_ = frame[STATION].values.astype(str), _leads(frame), {}
        for name in wanted(pairs, [str(n) for n in pairs.observed.data_vars if n in pairs.observations]):
            last = _last(pairs, name)
            error = _scaled(name, observed_of(pairs, name)) - _scaled(name, last)  # (T, L, S)
            if np.isfinite(error).any():
                self.errors_[name] = _error_quantiles(error)
        if not self.errors_:
            raise ForecasterError("persistence: no observation lies a whole number of days before any pair; give more history.")
        return self

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles at stations; NaN where nothing recent was known at init_time.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: Asked for a grid, for variables never observed, or without observations.
        """
        if not self.errors_:
            raise NotFittedError("persistence has not been fitted: call fit first.")
        if inputs.place_dims != (STATION,) or inputs.observations is None:
            raise MissingInputError("persistence needs stations and their observations; a grid, or no observations, was given.")
        frame = inputs.frame
        names = [n for n in wanted(inputs, self.errors_) if n in inputs.observations]
        if not names:
            raise MissingInputError(f"persistence has observations of none of {', '.join(inputs.targets)}.")
        lead = np.abs(self.leads_[None, :] - _leads(frame)[:, None]).argmin(axis=1)
        index = {station: i for i, station in enumerate(self.stations_)}
        place = np.array([index.get(str(s), len(self.stations_)) for s in frame[STATION].values])  # the pool for a new one
        values = {}
        for name in names:
            last = _last(inputs, name)
            value = _scaled(name, last)[..., None] + self.errors_[name][lead][:, place]
            values[name] = shape_of(name).backward(torch.as_tensor(value)).numpy()
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """Error quantiles by variable.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.errors_:
            raise NotFittedError("persistence has not been fitted: call fit first.")
        return {"stations": self.stations_, "leads": self.leads_} | {f"{n}/errors": a for n, a in self.errors_.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "stations", "leads")
        made = cls()
        made.stations_, made.leads_ = state["stations"], state["leads"]
        made.errors_ = {key.partition("/")[0]: a for key, a in state.items() if key.endswith("/errors")}
        return made


def _leads(frame: xr.Dataset) -> np.ndarray:
    return np.atleast_1d(frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)


def _last(inputs: Inputs, name: str) -> np.ndarray:
    """(T, L, S) the newest value known at init_time among those whole days before valid_time."""
    frame = inputs.frame
    valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    ahead = valid_time - np.atleast_1d(frame[INIT_TIME].values)[:, None]
    days = np.maximum(np.ceil(ahead / DAY), 1).astype(np.int64)
    back = np.arange(DAYS_BACK + 1)[:, None, None]
    known = inputs.observed_at(name, valid_time - (days + back) * DAY)
    newest = np.isfinite(known).argmax(axis=0, keepdims=True)
    found: np.ndarray = np.take_along_axis(known, newest, axis=0)[0]
    return found


def _scaled(name: str, values: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = shape_of(name).forward(torch.as_tensor(values)).numpy()
    return scaled


def _error_quantiles(error: np.ndarray) -> np.ndarray:
    """(L, S + 1, Q): each station's quantiles, averaged with those of all stations by counts; last the pool itself."""
    by_lead = np.moveaxis(error, 0, -1)  # (L, S, T)
    own = quantiles_of_members(by_lead)
    pool = quantiles_of_members(by_lead.reshape(len(by_lead), -1))[:, None]  # (L, 1, Q)
    every = quantiles_of_members(by_lead.reshape(-1))
    pool = np.where(np.isfinite(pool), pool, every)
    count = np.isfinite(by_lead).sum(axis=-1)[..., None]
    share = count / (count + POOL) if by_lead.shape[1] > 1 else (count > 0).astype(float)
    mixed = np.where(count > 0, share * np.nan_to_num(own) + (1.0 - share) * pool, pool)
    return np.concatenate([mixed, pool], axis=1)
