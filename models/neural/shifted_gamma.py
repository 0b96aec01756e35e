"""A head for rain: a censored shifted gamma distribution near the joint EMOS, corrected by a network, by its CRPS in closed form.

The EMOS of rain is a logistic distribution of a power of the amount, censored at zero. The censored shifted gamma distribution nearest
to it depends, up to a scale, on the ratio of location and scale alone, and is so near that its expected CRPS is higher by less than one
in a thousand, with a lighter upper tail: where rain is likely, its 99.9 % quantile is lower by a tenth to a quarter. That is what outputs
of zero leave; others multiply its three parameters::

    mean = m exp(a)        deviation = d exp(b)        shift = s exp(c)        with a, b, c bounded outputs of the network

References:
    Scheuerer and Hamill (2015), Statistical postprocessing of ensemble precipitation forecasts by fitting censored, shifted gamma
    distributions, MWR 143.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.special import expit, gammainc, logit
from torch import Tensor

from models.distributions import censored_shifted_gamma
from models.neural.trainer import Batch
from models.statistical.csgd import csgd_quantiles
from models.statistical.shared import Shape

_LARGEST: Final = (3.0, 1.5, 1.5)  # changes of the logarithms of mean, deviation and shift: a correction of a record stays bounded
_RATIOS: Final = (-8.0, 40.0)  # of location and scale that are tabulated, from a chance of rain of 0.03 % to none of staying dry
_KNOTS: Final = 64  # evenly over asinh of the ratio
_POINTS: Final = 400  # of the integral that says how near two distributions are


@dataclass(frozen=True)
class ShiftedGamma:
    """Three outputs: what to add to the logarithms of mean, deviation and depth of the shift."""

    shape: Shape

    @property
    def outputs(self) -> int:
        """Three."""
        return 3

    def columns(self, y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Observed amount and the parameters of each member's gamma distribution, in units of their mean."""
        mean, deviation, depth = nearest(location, scale, self.shape.power)
        found = {"amount": y ** (1.0 / self.shape.power), "mean": mean, "deviation": deviation, "depth": depth}
        return {name: np.broadcast_to(column / mean.mean(), mean.shape).astype(np.float32) for name, column in found.items()}

    def crps(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Closed form in the variable's own units, as multiples of the mean forecast."""
        return censored_shifted_gamma(*_corrected(outputs, *(batch[name].T for name in _PARTS))).crps(batch["amount"].T)

    def quantiles(self, outputs: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """On every level, within half a per cent."""
        base = (torch.as_tensor(part, dtype=location.dtype) for part in nearest(location.numpy(), scale.numpy(), self.shape.power))
        return csgd_quantiles(*(part[..., None] for part in _corrected(outputs, *base)))


_PARTS: Final = ("mean", "deviation", "depth")


def _corrected(outputs: Tensor, mean: Tensor, deviation: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(M, N) mean, deviation and shift, from outputs (M, N, 3) and the parameters that they correct."""
    a, b, c = (most * torch.tanh(output / most) for most, output in zip(_LARGEST, outputs.unbind(dim=-1), strict=True))
    return mean * torch.exp(a), deviation * torch.exp(b), -depth * torch.exp(c)


def nearest(location: np.ndarray, scale: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The censored shifted gamma distribution nearest to max(0, X) ** (1 / power) for a logistic X: least integral of (F - G)^2.

    Args:
        location: Of X, any shape; NaN stays.
        scale: Of X, likewise; one below a fortieth of the location counts as that.
        power: Of the variable's scale, 0.5 for the square root.

    Returns:
        Mean and deviation of the gamma variable and depth of its shift (minus delta), all positive, in the variable's units.
    """
    scale = np.maximum(scale, location / _RATIOS[1])
    position, table = _nearest_of_unit_scale(power)
    at = np.arcsinh(location / scale)
    mean, deviation, depth = (scale ** (1.0 / power) * np.exp(np.interp(at, position, column)) for column in table.T)
    return mean, deviation, depth


@lru_cache(maxsize=4)
def _nearest_of_unit_scale(power: float) -> tuple[np.ndarray, np.ndarray]:
    """(K,) asinh of ratios, ascending, and (K, 3) logarithms of mean, deviation and depth at a scale of one."""
    position = np.linspace(np.arcsinh(_RATIOS[0]), np.arcsinh(_RATIOS[1]), _KNOTS)
    found = np.zeros((_KNOTS, 3))
    guess = np.log([_RATIOS[1] ** (1.0 / power), _RATIOS[1] ** (1.0 / power - 1.0), _RATIOS[1]])
    for k in reversed(range(_KNOTS)):  # from the wettest, where a gamma distribution is all but a normal one
        ratio = np.sinh(position[k])
        share = expit(ratio) * np.linspace(1.0, 0.0, _POINTS)[1:-1]  # of S, all of it above zero
        x = np.append(0.0, ratio - logit(share))
        y = np.maximum(x, 0.0) ** (1.0 / power)
        cdf, weight = expit(x - ratio), np.sqrt(np.gradient(y))

        def distance(parameters: np.ndarray, y: np.ndarray = y, cdf: np.ndarray = cdf, weight: np.ndarray = weight) -> np.ndarray:
            mean, deviation, depth = np.exp(parameters)
            gap: np.ndarray = weight * (gammainc((mean / deviation) ** 2, (y + depth) * mean / deviation**2) - cdf)
            return gap

        guess = found[k] = least_squares(distance, guess, xtol=1e-10, ftol=1e-12).x
    return position, found
