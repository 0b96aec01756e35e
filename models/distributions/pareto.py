"""The generalised Pareto distribution: the law of excesses over a high threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.distributions.base import Continuous
from models.distributions.special import expm1_ratio, log1p_ratio


@dataclass(frozen=True, eq=False)
class GeneralizedPareto(Continuous):
    """S(x) = (1 + xi z)^(-1 / xi) for z = (x - location) / scale >= 0, exponential for xi = 0, ending at z = -1 / xi for xi < 0.

    Attributes:
        location: Threshold from which on the distribution has mass, in the units of the variable.
        scale: Positive scale, in the same units.
        shape: xi, below one (at one the CRPS is infinite); continuous through zero, with its gradient.

    References:
        Friederichs and Thorarinsdottir (2012), Environmetrics 23, for the CRPS.
    """

    location: Tensor
    scale: Tensor
    shape: Tensor

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        return self.location + self.scale / (1.0 - self.shape)

    def log_sf(self, x: Tensor) -> Tensor:
        """Logarithm of P(X > x), -inf beyond the end of the support."""
        z, _, end = self._standardise(x)
        log_s = -z * log1p_ratio(self.shape * z)
        return torch.where(end, torch.full_like(log_s, -math.inf), log_s)

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x)."""
        return -torch.expm1(self.log_sf(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density, -inf outside the support."""
        z, start, end = self._standardise(x)
        w = self.shape * z
        density = -(z + w) * log1p_ratio(w) - torch.log(self.scale)  # S^(1 + xi) / scale
        return torch.where(start | end, torch.full_like(density, -math.inf), density)

    def quantile(self, p: Tensor) -> Tensor:
        """The value location + scale ((1 - p)^(-xi) - 1) / xi."""
        rarity = -torch.log1p(-p)
        return self.location + self.scale * rarity * expm1_ratio(self.shape * rarity)

    def below(self, x: Tensor) -> Tensor:
        """A(x), the integral of F^2 up to x."""
        return (x - self.location).clamp(min=0.0) - 2.0 * self.sf_integral(x) + self.square_sf_integral(x)

    def above(self, x: Tensor) -> Tensor:
        """B(x), the integral of S^2 from x on; S is one before the threshold."""
        z, _, end = self._standardise(x)
        w = self.shape * z
        inner = self.scale * torch.exp(-2.0 * z * log1p_ratio(w)) * (1.0 + w) / (2.0 - self.shape)
        return torch.where(end, torch.zeros_like(inner), inner) + (self.location - x).clamp(min=0.0)

    def sf_integral(self, x: Tensor) -> Tensor:
        """The integral of S from the threshold to x: (1 - S^(1 - xi)) scale / (1 - xi)."""
        return self._power_integral(x, 1)

    def square_sf_integral(self, x: Tensor) -> Tensor:
        """The integral of S^2 from the threshold to x: (1 - S^(2 - xi)) scale / (2 - xi)."""
        return self._power_integral(x, 2)

    def _power_integral(self, x: Tensor, power: int) -> Tensor:
        z, _, end = self._standardise(x)
        w = self.shape * z
        rest = torch.expm1((w - power * z) * log1p_ratio(w))  # S^(power - xi) - 1
        return -torch.where(end, -torch.ones_like(rest), rest) * self.scale / (power - self.shape)

    def _standardise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The argument in units of the scale, held inside the support, and where it was before its start or beyond its end."""
        z = (x - self.location) / self.scale
        start = z < 0.0
        end = self.shape * z <= -1.0
        return torch.where(start | end, torch.zeros_like(z), z), start, end


def fit_generalized_pareto(excesses: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scale and shape from excesses over a threshold, by probability-weighted moments.

    With a0 the mean excess and a1 the mean of excess times the share of excesses above it, shape = 2 - a0 / (a0 - 2 a1) and
    scale = 2 a0 a1 / (a0 - 2 a1). The shape is held in [-0.5, 0.5]: beyond it the moments say little, and one wild gauge must not make
    a tail without a mean.

    Args:
        excesses: ``(..., n)``, positive amounts over the threshold.
        known: ``(..., n)``, which of them count; all where None.

    Returns:
        Scale and shape, each ``(...)``; NaN where fewer than two excesses are known.

    References:
        Hosking and Wallis (1987), Technometrics 29, eq. 5 and plotting positions (i - 0.35) / n.
    """
    known = torch.ones_like(excesses, dtype=torch.bool) if known is None else known
    ordered = torch.where(known, excesses, torch.full_like(excesses, math.inf)).sort(dim=-1).values
    counted = torch.isfinite(ordered)
    n = counted.sum(dim=-1, keepdim=True).to(excesses.dtype)
    value = torch.where(counted, ordered, torch.zeros_like(ordered))
    position = (torch.arange(1, excesses.shape[-1] + 1, dtype=excesses.dtype, device=excesses.device) - 0.35) / n
    a0 = value.sum(dim=-1) / n.squeeze(-1)
    a1 = torch.where(counted, value * (1.0 - position), torch.zeros_like(value)).sum(dim=-1) / n.squeeze(-1)
    shape = (2.0 - a0 / (a0 - 2.0 * a1)).clamp(-0.5, 0.5)
    enough = n.squeeze(-1) >= 2
    missing = torch.full_like(a0, math.nan)
    return torch.where(enough, a0 * (1.0 - shape), missing), torch.where(enough, shape, missing)  # mean = scale / (1 - shape)
