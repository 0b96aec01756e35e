"""Censored shifted gamma regression for rain (Scheuerer and Hamill 2015), on the pooled forecast of all sources.

With mu, sigma, delta the climatological distribution, f the pooled forecast over its mean and s the ensembles' spread in
units of its mean, both in millimetres::

    mean      = mu / a1 log(1 + (e^a1 - 1) (a2 + a3 f))
    deviation = a4 sigma sqrt(mean / mu) + a5 sigma s        shift = delta

fitted by minimising the CRPS, leads side by side, all stations together.

References:
    Scheuerer and Hamill (2015), Statistical postprocessing of ensemble precipitation forecasts by fitting censored, shifted gamma
    distributions, MWR 143.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_catalog.dimensions import LEAD_TIME
from models.base import LEVELS, ForecasterError, ForecasterSpec, Inputs, NotFittedError, Pairs, check_state
from models.distributions.gamma import Gamma, censored_shifted_gamma
from models.statistical.predictors import Design, Frame, design_of, training_of
from models.statistical.shared import answer, wanted

_TARGETS: Final = ("precipitation_amount", "precipitation_surface")
_ROWS: Final = 400  # cases of a lead that are fitted to; more are thinned evenly
_STEPS: Final = 15  # of L-BFGS
_START: Final = (-2.0, -3.0, -0.3, -0.7, -2.0)  # logarithms of a1 to a5
_SHAPES: Final = (-12.0, 8.0)  # logarithms of shapes that quantiles are tabulated for; one beyond counts as the last
_KNOTS: Final = 32  # in a unit of the logarithm
_PULL: Final = 0.002  # of the coefficients to their start, in units of the mean CRPS


@dataclass(frozen=True, eq=False)
class Learned:
    """Of one variable: how to make predictors; climate (L, 3): log mean, log deviation, log of minus shift; coefficients (L, 5)."""

    frame: Frame
    climate: np.ndarray
    coefficients: np.ndarray
    unit: np.ndarray


class Csgd:
    """``csgd``."""

    def __init__(self) -> None:
        self.learned_: dict[str, Learned] = {}

    @property
    def spec(self) -> ForecasterSpec:
        """Rain, from at least one source and forty days."""
        return ForecasterSpec(id="csgd", version="1", targets=_TARGETS, required=("*",), minimum_history=40)

    def fit(self, pairs: Pairs) -> Self:
        """Learn rain.

        Raises:
            MissingInputError: No source has it.
            ForecasterError: There is no rain among the variables, or no pair.
        """
        self.learned_ = {}
        for name in wanted(pairs, [n for n in _TARGETS if n in pairs.observed]):
            training = training_of(pairs, name, 1.0, 0.0)
            rows = [np.moveaxis(a, 0, 1).reshape(a.shape[1], -1) for a in (training.y, *_predictors(training.design))]  # (L, cases)
            self.learned_[name] = _fit(training.frame, *(_thin(rows)))
        if not self.learned_:
            raise ForecasterError("csgd forecasts rain alone, and no rain is among the variables.")
        return self

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles of rain.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: No source of the training is there.
        """
        if not self.learned_:
            raise NotFittedError("csgd has not been fitted: call fit first.")
        values = {}
        for name in wanted(inputs, self.learned_):
            learned = self.learned_[name]
            design = design_of(inputs, name, learned.frame, 0.0)
            leads = np.atleast_1d(inputs.frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)
            lead = np.abs(learned.frame.leads[None] - leads[:, None]).argmin(axis=1)
            f, s = (torch.as_tensor(a) for a in _predictors(design))
            climate, coefficients, unit = (torch.as_tensor(a[lead])[None] for a in (learned.climate, learned.coefficients, learned.unit))
            lost = torch.isnan(f)
            parts = _parameters(climate[:, :, None], coefficients[:, :, None], torch.nan_to_num(f) / unit, s / unit)
            mean, deviation, shift = (torch.broadcast_to(p, f.shape)[..., None] for p in parts)
            values[name] = torch.where(lost[..., None], torch.nan, csgd_quantiles(mean, deviation, shift)).numpy()
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """Climate and coefficients.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.learned_:
            raise NotFittedError("csgd has not been fitted: call fit first.")
        found: dict[str, np.ndarray] = {}
        for name, learned in self.learned_.items():
            found |= learned.frame.arrays(f"{name}/frame/")
            found |= {f"{name}/{part}": getattr(learned, part) for part in _PARTS}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        names = list(dict.fromkeys(key.partition("/")[0] for key in state if "/" in key))
        check_state(state, *(f"{name}/climate" for name in names or ["VARIABLE"]))
        made = cls()
        for name in names:
            made.learned_[name] = Learned(Frame.from_arrays(state, f"{name}/frame/"), *(state[f"{name}/{part}"] for part in _PARTS))
        return made


_PARTS: Final = ("climate", "coefficients", "unit")


def _predictors(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """(T, L, P) pooled forecast, not below zero, and spread, both in units of the variable."""
    spread = np.exp(design.location[..., design.names.index("log_spread")]) if "log_spread" in design.names else np.ones_like(design.pool)
    return np.maximum(design.pool, 0.0), np.nan_to_num(spread, nan=1.0)


def csgd_quantiles(mean: Tensor, deviation: Tensor, shift: Tensor) -> Tensor:
    """Quantiles of the censored shifted gamma distribution by a table over its shape.

    Before the shift they are within half a per cent, or half a thousandth of the mean, of the exact ones.

    Args:
        mean: (..., 1) of the gamma variable before the shift, positive, in the variable's units.
        deviation: (..., 1) of it, positive.
        shift: (..., 1), negative.

    Returns:
        (..., Q) on LEVELS; NaN where a parameter is.
    """
    low, high = _SHAPES
    log_shape = (2.0 * torch.log(mean / deviation)).clamp(low, high)
    position = (torch.nan_to_num(log_shape[..., 0]) - low) * _KNOTS
    before = position.floor().clamp(max=(high - low) * _KNOTS - 1).long()
    share = (position - before)[..., None]
    table = _gamma_quantiles().to(mean.dtype)
    found = table[before] * (1.0 - share) + table[before + 1] * share
    return (found * mean * torch.exp(-log_shape) + shift).clamp(min=0.0)


@lru_cache(maxsize=1)
def _gamma_quantiles() -> Tensor:
    """(knot, Q) quantiles of gamma distributions of unit scale, float64."""
    low, high = _SHAPES
    shapes = torch.exp(torch.linspace(low, high, int((high - low) * _KNOTS) + 1, dtype=torch.float64))[:, None]
    return Gamma(shapes, torch.ones_like(shapes)).quantile(torch.tensor(LEVELS, dtype=torch.float64))


def _thin(rows: list[np.ndarray]) -> list[np.ndarray]:
    """The same cases of every array: those in which some lead is whole, evenly thinned."""
    whole = np.flatnonzero(np.isfinite(np.stack(rows)).all(axis=0).any(axis=0))
    kept = whole[:: max(1, len(whole) // _ROWS)]
    return [row[:, kept] for row in rows]


def _fit(frame: Frame, y: np.ndarray, f: np.ndarray, s: np.ndarray) -> Learned:
    """Climate, then coefficients, of every lead."""
    known = torch.as_tensor(np.isfinite(y) & np.isfinite(f))
    count = known.sum(dim=1, keepdim=True).clamp(min=1)
    yy, ff, ss = (torch.where(known, torch.as_tensor(a), 0.0) for a in (y, f, s))
    unit = (ff.sum(dim=1, keepdim=True) / count).clamp(min=1e-3)  # mean forecast
    mean = (yy.sum(dim=1) / count[:, 0]).clamp(min=0.05)
    start = torch.stack([(1.3 * mean).log(), (1.8 * mean).log(), (0.3 * mean).log()], dim=1)
    size = mean[:, None]

    def score(parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        crps = censored_shifted_gamma(*(torch.broadcast_to(p, yy.shape) for p in parts)).crps(yy)
        return (torch.where(known, crps, 0.0) / size / count).sum()

    def of_climate(c: Tensor) -> Tensor:
        return score((c[:, :1].exp(), c[:, 1:2].exp(), -c[:, 2:].exp()))

    climate = _minimise(of_climate, start, start)
    first = torch.tensor([_START], dtype=yy.dtype).expand(len(yy), -1)
    coefficients = _minimise(lambda a: score(_parameters(climate[:, None], a[:, None], ff / unit, ss / unit)), first, first)
    return Learned(frame, climate.numpy(), coefficients.numpy(), unit.numpy())


def _parameters(climate: Tensor, coefficients: Tensor, f: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation and shift from climate (..., 3), logarithms of coefficients (..., 5), and predictors (...)."""
    mu, sigma, delta = climate[..., 0].exp(), climate[..., 1].exp(), -climate[..., 2].exp()
    a1, a2, a3, a4, a5 = coefficients.clamp(-8.0, 2.0).exp().unbind(dim=-1)
    mean = (mu / a1 * torch.log1p(torch.expm1(a1) * (a2 + a3 * f))).clamp(min=1e-3)
    return mean, (a4 * sigma * torch.sqrt(mean / mu) + a5 * sigma * s).clamp(min=1e-3), delta


def _minimise(loss: Callable[[Tensor], Tensor], start: Tensor, centre: Tensor) -> Tensor:
    """The parameters (L, k) of the least loss that was met, drawn a little to their centre."""
    parameters = start.clone().requires_grad_()
    best: list[tuple[float, Tensor]] = [(float("inf"), start)]
    optimiser = torch.optim.LBFGS([parameters], max_iter=_STEPS, max_eval=2 * _STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(parameters) + _PULL * ((parameters - centre) ** 2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        if parameters.grad is not None:
            parameters.grad.nan_to_num_(0.0, 0.0, 0.0)
        reached = float(value.detach())
        if math.isfinite(reached) and reached < best[-1][0]:
            best.append((reached, parameters.detach().clone()))
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return best[-1][1]
