"""What the statistical forecasters share: the shape of each variable's distribution, the season, and the form of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, QUANTILE, STATION
from data_catalog.variables import VARIABLES
from data_catalog.variables import attributes as variable_attributes
from models.base import LEVELS, Inputs, MissingInputError, Pairs
from models.statistical.fisher import Family, Form

DAYS_IN_YEAR: Final = 365.2425
HOUR: Final = np.timedelta64(1, "h")
DAY: Final = np.timedelta64(24, "h")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a variable is distributed about its location.

    Attributes:
        family: Parent distribution on the power scale.
        form: Whether bounds hold a point mass (``censored``) or bend the density (``truncated``).
        lower: Bound in the variable's units, or None.
        upper: Likewise.
        power: The variable is worked on as ``value ** power``; 0.5 is the square root used for rain since Sloughter et al. (2007).
    """

    family: Family = "normal"
    form: Form = "censored"
    lower: float | None = None
    upper: float | None = None
    power: float = 1.0

    def forward(self, values: Tensor) -> Tensor:
        """To the power scale, with what lies beyond a bound set to it."""
        if self.lower is not None or self.upper is not None:
            values = values.clamp(self.lower, self.upper)
        return values if self.power == 1.0 else values**self.power

    def backward(self, values: Tensor) -> Tensor:
        """From the power scale, within the bounds."""
        if self.power != 1.0:
            values = values.clamp(min=0.0) ** (1.0 / self.power)
        return values if self.lower is None and self.upper is None else values.clamp(self.lower, self.upper)

    def bounds(self) -> tuple[float | None, float | None]:
        """Bounds on the power scale."""
        return (
            None if self.lower is None else self.lower**self.power,
            None if self.upper is None else self.upper**self.power,
        )


_RAIN: Final = Shape("logistic", "censored", 0.0, None, 0.5)
_SHAPES: Final[Mapping[str, Shape]] = {
    "precipitation_amount": _RAIN,
    "precipitation_surface": _RAIN,
    "total_cloud_cover_atmosphere": Shape("normal", "censored", 0.0, 100.0),
    "downward_short_wave_radiation_flux_surface": Shape("normal", "censored", 0.0),
    "convective_available_potential_energy": Shape("normal", "censored", 0.0, None, 0.5),
    "visibility": Shape("normal", "truncated", 0.0, None, 0.5),
}


def shape_of(name: str) -> Shape:
    """The shape of a variable: point masses for rain, cloud, radiation and CAPE; else truncated where the physics has a bound."""
    if name in _SHAPES:
        return _SHAPES[name]
    variable = VARIABLES.get(name)
    if variable is None or (variable.lower_bound is None and variable.upper_bound is None):
        return Shape()
    return Shape("normal", "truncated", variable.lower_bound, variable.upper_bound)


def season(times: np.ndarray, order: int = 1) -> np.ndarray:
    """Sine and cosine of the day of the year up to an order, ``times.shape + (2 * order,)``."""
    angle = 2.0 * np.pi * fraction_of_year(times)[..., None] * np.arange(1, order + 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def fraction_of_year(times: np.ndarray) -> np.ndarray:
    """Place in the mean tropical year, 0..1, from datetime64."""
    days = (times - np.datetime64("2000-01-01", "ns")) / DAY
    fraction: np.ndarray = np.mod(days / DAYS_IN_YEAR, 1.0)
    return fraction


def members_of(inputs: Inputs, source: str) -> xr.Dataset:
    """The dataset of a source that is required.

    Raises:
        MissingInputError: It is not among the inputs.
    """
    if source not in inputs.sources:
        raise MissingInputError(f"The source {source!r} is required, found {', '.join(sorted(inputs.sources)) or 'none'}.")
    return inputs.sources[source]


def array_of(data: xr.DataArray, place_dims: Iterable[str]) -> np.ndarray:
    """(init_time, lead_time, place, member) float64, gridded places flattened, one member where there is no such dimension."""
    if ENSEMBLE_MEMBER not in data.dims:
        data = data.expand_dims(ENSEMBLE_MEMBER)
    for name in (INIT_TIME, LEAD_TIME):
        if name not in data.dims:
            data = data.expand_dims(name)
    values = data.transpose(INIT_TIME, LEAD_TIME, *place_dims, ENSEMBLE_MEMBER).values
    return values.reshape(*values.shape[:2], -1, values.shape[-1]).astype(np.float64, copy=False)


def observed_of(pairs: Pairs, name: str) -> np.ndarray:
    """(init_time, lead_time, station) float64 of what happened."""
    return pairs.observed[name].transpose(INIT_TIME, LEAD_TIME, STATION).values.astype(np.float64, copy=False)


def wanted(inputs: Inputs, available: Iterable[str]) -> list[str]:
    """The targets among what is available; all of it where no targets are named."""
    return [name for name in available if not inputs.targets or name in inputs.targets]


def answer(inputs: Inputs, values: Mapping[str, np.ndarray | Tensor], notes: Mapping[str, str] | None = None) -> xr.Dataset:
    """The dataset of quantiles from (init_time, lead_time, place, quantile) arrays, float32, on the coordinates of the inputs."""
    frame = inputs.frame
    dims = (INIT_TIME, LEAD_TIME, *inputs.place_dims, QUANTILE)
    shape = (frame.sizes[INIT_TIME], frame.sizes[LEAD_TIME], *(frame.sizes[d] for d in inputs.place_dims), len(LEVELS))
    arrays = {
        name: (dims, np.asarray(array, dtype=np.float32).reshape(shape), variable_attributes(name)) for name, array in values.items()
    }
    return xr.Dataset(arrays, coords={**frame.coords, QUANTILE: LEVELS}, attrs=dict(notes or {}))


def device_of(name: str) -> torch.device:
    """``cuda`` where it is there, when the name is ``auto``; else what is named."""
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)
