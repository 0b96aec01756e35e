"""EMOS on all sources together: the location and log scale of one distribution are linear in everything the cycle knows.

The location is drawn to the pooled mean of the sources (coefficient one for ``pool``, zero for all else) and the strength of that
pull, the memory for old pairs and the power for rain differ between a few registered variants: which to believe is
left to the weights of the blend. All stations share coefficients; with enough days each station gets its own, drawn to the shared.

References:
    Gneiting, Raftery, Westveld and Goldman (2005), Calibrated probabilistic forecasting using EMOS.
    Messner, Mayr, Wilks and Zeileis (2014), Extending extended logistic regression.
    Dabernig, Mayr, Messner and Zeileis (2017), Spatial ensemble post-processing with standardized anomalies (seasonal interactions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from models.base import ForecasterError, ForecasterSpec, Inputs, NotFittedError, Pairs, check_state
from models.statistical.emos import location_scale_quantiles
from models.statistical.fisher import Family, fit_location_scale
from models.statistical.predictors import Design, Frame, Training, design_of, training_of
from models.statistical.shared import Shape, answer, device_of, shape_of, wanted

_POOL_ROWS: Final = 60_000  # rows of a shared fit; more are thinned evenly
_STATION_DAYS: Final = 90.0  # rows a station needs before it gets coefficients of its own
_STATION_ROWS: Final = 100.0  # rows that the shared coefficients count for there
_SCALE_ROWS: Final = 10.0  # rows that a constant scale counts for


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes one joint EMOS from another.

    Attributes:
        id: Of the forecaster.
        rows: Strength of the pull to the pooled mean, in rows.
        half_life: Days after which a pair counts half, None for never.
        family: Parent distribution where the variable has no preference of its own.
        power: Factor on the variable's own power (1 leaves it), where that is not one.
    """

    id: str
    rows: float
    half_life: float | None
    family: Family
    power: float = 1.0


VARIANTS: Final[Mapping[str, Variant]] = {
    variant.id: variant
    for variant in (
        Variant("emos", 1000.0, None, "logistic"),
        Variant("emos-recent", 1000.0, 730.0, "logistic"),
        Variant("emos-loose", 100.0, None, "normal", 1.4),
    )
}


@dataclass(frozen=True, eq=False)
class Learned:
    """Coefficients of one variable, float64: shared (L, p), (L, q); of stations (L, S, p), (L, S, q)."""

    frame: Frame
    location: np.ndarray
    log_scale: np.ndarray
    station_location: np.ndarray
    station_log_scale: np.ndarray


class JointEmos:
    """``emos``, ``emos-recent``, ``emos-loose``."""

    def __init__(self, variant: str = "emos", device: str = "auto") -> None:
        if variant not in VARIANTS:
            raise ForecasterError(f"No joint EMOS is called {variant!r}; known are {', '.join(VARIANTS)}.")
        self.variant, self.device = VARIANTS[variant], device
        self.learned_: dict[str, Learned] = {}

    @property
    def spec(self) -> ForecasterSpec:
        """Needs at least one source and ten days."""
        return ForecasterSpec(id=self.variant.id, version="1", required=("*",), minimum_history=10, needs_observations=True)

    def shape(self, name: str) -> Shape:
        """The shape of a variable's distribution under this variant."""
        found = shape_of(name)
        power = found.power if found.power == 1.0 else found.power * self.variant.power
        family = self.variant.family if found.lower is None and found.upper is None else found.family
        return replace(found, power=power, family=family)

    def fit(self, pairs: Pairs) -> Self:
        """Learn every variable that a source and the observations have.

        Raises:
            MissingInputError: No source has any.
            ForecasterError: No variable has a single pair.
        """
        held = {str(n) for data in pairs.sources.values() for n in data.data_vars}
        self.learned_ = {}
        for name in wanted(pairs, [str(n) for n in pairs.observed.data_vars if n in held]):
            shape = self.shape(name)
            self.learned_[name] = self._learn(shape, training_of(pairs, name, shape.power, shape.lower))
        if not self.learned_:
            raise ForecasterError(f"{self.spec.id}: no variable has both forecasts and observations.")
        return self

    def _learn(self, shape: Shape, training: Training) -> Learned:
        device = device_of(self.device)
        frame, design = training.frame, training.design
        y, X, Z = (torch.as_tensor(a, device=device).movedim(0, 2) for a in (training.y, design.location, design.log_scale))
        L, S, T = y.shape
        weights = torch.ones_like(y)
        if self.variant.half_life is not None:
            weights = weights * torch.as_tensor(0.5 ** (training.age.T / self.variant.half_life), device=device)[:, None]
        bounds = [None if b is None else float(b) for b in shape.bounds()]
        options = {"family": shape.family, "form": shape.form, "lower": bounds[0], "upper": bounds[1], "iterations": 25, "tolerance": 1e-2}
        rows = [t.reshape(L, S * T, *t.shape[3:]) for t in (y, X, Z, weights)]
        step = max(1, S * T // _POOL_ROWS)
        first, ridge = _prior(rows[0], rows[1], rows[2], frame, self.variant.rows)
        yy, XX, ZZ, ww = (t[:, ::step] for t in rows)
        shared = fit_location_scale(yy, XX, ZZ, weights=ww * step, ridge=ridge, prior=first, **options)  # type: ignore[arg-type]
        location, log_scale = shared.location, shared.log_scale
        own = (location[:, None], log_scale[:, None])
        if S > 1:
            own = (location[:, None].expand(L, S, -1), log_scale[:, None].expand(L, S, -1))
            if T >= _STATION_DAYS:
                rows = [t.reshape(L * S, T, *t.shape[3:]) for t in (y, X, Z, weights)]
                prior = tuple(c.reshape(L * S, -1) for c in own)
                found = fit_location_scale(
                    rows[0], rows[1], rows[2], weights=rows[3], ridge=_STATION_ROWS, prior=prior, **options  # type: ignore[arg-type]
                )
                own = (found.location.reshape(L, S, -1), found.log_scale.reshape(L, S, -1))
        return Learned(frame, *(t.cpu().numpy() for t in (location, log_scale, *own)))

    def without(self, pairs: Pairs, name: str, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale of every pair on the power scale, by coefficients learned without some of the pairs.

        Args:
            pairs: What :meth:`fit` saw.
            name: Variable.
            held: (T, L, S) bool, pairs that are not learned from; all of them are where nothing else is left.

        Returns:
            (T, L, S) each.
        """
        shape = self.shape(name)
        training = training_of(pairs, name, shape.power, shape.lower)
        y = np.where(held, np.nan, training.y)
        learned = self._learn(shape, training._replace(y=y if np.isfinite(y).any() else training.y))
        return _apply(learned, training.design, np.arange(y.shape[1]), np.arange(y.shape[2]))

    def parameters(self, inputs: Inputs, name: str) -> tuple[np.ndarray, np.ndarray, Design]:
        """Location and scale (T, L, P) on the power scale, and the design they come from.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: No source of the training is there.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.spec.id} has not been fitted: call fit first.")
        learned = self.learned_[name]
        design = design_of(inputs, name, learned.frame, self.shape(name).lower)
        frame = learned.frame
        leads = np.atleast_1d(inputs.frame["lead_time"].values).astype("timedelta64[ns]").astype(np.int64)
        lead = np.abs(frame.leads[None] - leads[:, None]).argmin(axis=1)
        places = design.pool.shape[2]
        position = {s: i for i, s in enumerate(frame.stations)}
        ids = inputs.frame["station"].values.astype(str) if inputs.place_dims == ("station",) else [""] * places
        station = np.array([position.get(s, -1) for s in ids])
        return (*_apply(learned, design, lead, station), design)

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Calibrated quantiles; at a place that was not in training, with the shared coefficients.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: No source of the training is there.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.spec.id} has not been fitted: call fit first.")
        values = {}
        for name in wanted(inputs, self.learned_):
            location, scale, _ = self.parameters(inputs, name)
            unit = np.array([0.0, 1.0])
            values[name] = location_scale_quantiles(torch.as_tensor(location), torch.as_tensor(scale), unit, self.shape(name)).numpy()
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """The variant, frames and coefficients.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.spec.id} has not been fitted: call fit first.")
        found = {"variant": np.array(self.variant.id)}
        for name, learned in self.learned_.items():
            found |= learned.frame.arrays(f"{name}/frame/")
            found |= {f"{name}/{part}": getattr(learned, part) for part in _PARTS}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "variant")
        made = cls(str(state["variant"]))
        for name in dict.fromkeys(key.partition("/")[0] for key in state if "/" in key):
            made.learned_[name] = Learned(Frame.from_arrays(state, f"{name}/frame/"), *(state[f"{name}/{part}"] for part in _PARTS))
        return made


_PARTS: Final = ("location", "log_scale", "station_location", "station_log_scale")


def recent() -> JointEmos:
    """``emos-recent``."""
    return JointEmos("emos-recent")


def loose() -> JointEmos:
    """``emos-loose``."""
    return JointEmos("emos-loose")


def _prior(y: Tensor, X: Tensor, Z: Tensor, frame: Frame, rows: float) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Prior coefficients and the strength of each, (L, p + q) rows.

    The engine counts a row's information against the spread of y; what matters here is the spread of y about the pool, which
    is smaller by ``ratio``. The constant and the pool itself are free.
    """
    L, p, q = len(y), X.shape[-1], Z.shape[-1]
    location, log_scale = y.new_zeros(L, p), y.new_zeros(L, q)
    location[:, 1] = 1.0
    both = torch.isfinite(y) & torch.isfinite(X[..., 1])
    count = both.sum(dim=1).clamp(min=1)

    def variance(values: Tensor) -> Tensor:
        values = torch.where(both, values, 0.0)
        mean = values.sum(dim=1) / count
        return torch.where(both, (values - mean[:, None]) ** 2, 0.0).sum(dim=1) / count

    unit = torch.as_tensor(frame.size.min(axis=1), device=y.device)
    error = variance(y - X[..., 1]).clamp(min=1e-4 * unit**2)
    ratio = (variance(y) / error).clamp(min=1.0)
    log_scale[:, 0] = 0.5 * error.log()
    ridge = y.new_full((L, p + q), _SCALE_ROWS)
    ridge[:, :p] = rows * ratio[:, None]
    ridge[:, :2] = 1.0
    ridge[:, p] = 1.0
    return (location, log_scale), ridge


def _apply(learned: Learned, design: Design, lead: np.ndarray, station: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale (T, L, P)."""
    found = []
    for shared, own, predictors in (
        (learned.location, learned.station_location, design.location),
        (learned.log_scale, learned.station_log_scale, design.log_scale),
    ):
        coefficients = np.where((station >= 0)[None, :, None], own[lead][:, station], shared[lead][:, None])  # (L, P, p)
        found.append(np.einsum("tlpk,lpk->tlp", predictors, coefficients))
    return found[0] + design.beyond, np.exp(np.clip(found[1], -12.0, 12.0))
