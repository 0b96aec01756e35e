"""Bernstein quantile network: the whole quantile function from a network, by the pinball loss over the levels.

To the quantile function of the joint EMOS, in units of its scale, a Bernstein polynomial is added whose coefficients are the network's::

    Q(p) = mu + sigma (z(p) + sum over j of c_j B_jd(p))        with c_j+1 - c_j >= -min z' / d

A Bernstein polynomial rises nowhere more slowly than d times the least step between its coefficients, so that the bound on the steps
keeps the quantiles in order, and coefficients of zero leave the EMOS as it is.

References:
    Bremnes (2020), Ensemble postprocessing using quantile function regression based on neural networks and Bernstein polynomials, MWR 148.
    Schulz and Lerch (2022), Machine learning methods for postprocessing ensemble forecasts of wind gusts, MWR 150.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from scipy.special import comb
from torch import Tensor

from models.base import LEVELS
from models.neural.drn import LocationScale
from models.neural.station import Head, StationForecaster
from models.neural.trainer import Batch
from models.scores.crps import crps_quantiles
from models.statistical.emos import parent_quantiles, truncated_quantiles
from models.statistical.shared import Shape

DEGREE: Final = 8  # d
_TRAINED: Final = LEVELS[::4]  # levels of the loss, 27 of them with both ends
_SHIFT: Final = 3.0  # largest change of the centre, in scales of the EMOS
_STEEP: Final = 2.0  # largest change of the slope, on the scale of its logarithm where it is small
_LEAST: Final = 1e-3  # slope of z below which a case counts as one of this slope


def bernstein(levels: np.ndarray, degree: int = DEGREE) -> np.ndarray:
    """(Q, degree + 1) Bernstein polynomials at levels; rows sum to one."""
    j = np.arange(degree + 1)
    p = levels[:, None]
    found: np.ndarray = comb(degree, j) * p**j * (1.0 - p) ** (degree - j)
    return found


@dataclass(frozen=True)
class Bernstein:
    """Nine outputs: the centre of the coefficients, and their eight steps."""

    shape: Shape

    @property
    def outputs(self) -> int:
        """One more than the degree."""
        return DEGREE + 1

    def columns(self, y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """As of a location and scale; on a power scale also both themselves, in units in which a typical value is one."""
        found = LocationScale(self.shape).columns(y, location, scale)
        if self.shape.power != 1.0:
            one = np.abs(location).mean() + scale.mean()
            found |= {"location": (location / one).astype(np.float32), "scale": (scale / one).astype(np.float32)}
        return found

    def crps(self, outputs: Tensor, batch: Batch) -> Tensor:
        """In units of the variable, whatever its power scale; constant factors left out."""
        low, high = (batch[name].T if name in batch else None for name in ("low", "high"))
        q, z = self._standard(outputs, low, high, _TRAINED), batch["z"].T
        if self.shape.power == 1.0:
            if low is not None or high is not None:
                q = torch.clamp(q, None if low is None else low[..., None], None if high is None else high[..., None])
            return batch["unit"].T * crps_quantiles(q, z, _TRAINED)
        location, scale = batch["location"].T, batch["scale"].T
        back = 1.0 / self.shape.power
        values, observed = ((x.clamp(min=1e-6) ** back) for x in (location[..., None] + scale[..., None] * q, location + scale * z))
        return crps_quantiles(values, observed, _TRAINED)

    def quantiles(self, outputs: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """On every level, in order."""
        low, high = (None if bound is None else (bound - location) / scale for bound in self.shape.bounds())
        q = self._standard(outputs, low, high, LEVELS)
        found = self.shape.backward(location[:, None] + scale[:, None] * q)
        return torch.cummax(found, dim=-1).values  # rounding alone

    def _standard(self, outputs: Tensor, low: Tensor | None, high: Tensor | None, levels: np.ndarray) -> Tensor:
        """(M, N, Q) quantiles in scales about the location of the EMOS, before they are held within bounds."""
        p = torch.as_tensor(levels.copy(), dtype=outputs.dtype, device=outputs.device)
        if self.shape.form == "truncated" and (low is not None or high is not None):
            like = low if low is not None else high
            assert like is not None
            a = like.new_full((), -torch.inf) if low is None else low[..., None]
            b = like.new_full((), torch.inf) if high is None else high[..., None]
            z = truncated_quantiles(a, b, p, self.shape.family)  # (M, N, Q)
        else:
            z = parent_quantiles(p, self.shape.family)  # (Q,)
        least = (z.diff(dim=-1) / p.diff()).amin(dim=-1, keepdim=True).clamp(min=_LEAST)
        centre = _SHIFT * torch.tanh(outputs[..., :1] / _SHIFT)
        free = _STEEP * torch.tanh(outputs[..., 1:] / _STEEP) + torch.log(torch.expm1(least))
        steps = (torch.nn.functional.softplus(free) - least) / DEGREE
        coefficients = torch.nn.functional.pad(steps.cumsum(dim=-1), (1, 0))  # (M, N, d + 1)
        coefficients = centre + coefficients - coefficients.mean(dim=-1, keepdim=True)
        basis = torch.as_tensor(bernstein(levels), dtype=outputs.dtype, device=outputs.device)
        return z + coefficients @ basis.T


class Bqn(StationForecaster):
    """``bqn``."""

    id: ClassVar[str] = "bqn"
    version: ClassVar[str] = "1"

    def head(self, shape: Shape) -> Head:
        """Bernstein polynomials on the quantiles of the EMOS."""
        return Bernstein(shape)
