"""Quantiles on a grid of levels, as a distribution: what every forecaster returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.base import LEVELS
from models.distributions.base import Continuous
from models.distributions.pareto import GeneralizedPareto


@dataclass(frozen=True, eq=False)
class QuantileGrid(Continuous):
    """A CDF that is linear between the quantiles of a grid of levels.

    Below the first level all mass lies at the first quantile. Beyond the last it lies at the last quantile, or in a generalised
    Pareto tail that starts there. Equal quantiles make a mass, as at zero rain.

    Attributes:
        values: ``(..., Q)``, ascending along the last dimension, in the units of the variable.
        levels: ``(Q,)``, ascending in 0..1; :data:`models.base.LEVELS` where None.
        tail_scale: ``(...)``, positive scale of the tail, or None for no tail.
        tail_shape: ``(...)``, its shape, below one, given with the scale or not at all.

    Raises:
        ValueError: The levels do not fit the values, or only one tail parameter is given.
    """

    values: Tensor
    levels: Tensor | None = None
    tail_scale: Tensor | None = None
    tail_shape: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.shape[-1] != self.p.shape[-1]:
            raise ValueError(f"There are {self.values.shape[-1]} quantiles and {self.p.shape[-1]} levels; give one quantile a level.")
        if (self.tail_scale is None) != (self.tail_shape is None):
            raise ValueError("A tail has a scale and a shape, found only one of them; give both or neither.")

    @property
    def p(self) -> Tensor:
        """The levels, shape ``(Q,)``, in the type and on the device of the values."""
        levels = torch.from_numpy(LEVELS.copy()) if self.levels is None else self.levels
        return levels.to(self.values)

    @property
    def tail(self) -> GeneralizedPareto | None:
        """The distribution beyond the last quantile, given that it is exceeded."""
        if self.tail_scale is None or self.tail_shape is None:
            return None
        return GeneralizedPareto(self.values[..., -1], self.tail_scale, self.tail_shape)

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        p, q = self.p, self.values
        last = q[..., -1] if self.tail is None else self.tail.mean
        inner = (0.5 * (q[..., 1:] + q[..., :-1]) * p.diff()).sum(dim=-1)
        return p[0] * q[..., 0] + inner + (1.0 - p[-1]) * last

    def cdf(self, x: Tensor) -> Tensor:
        """F(x) = P(X <= x), a mass at x included."""
        return self._cdf(x, right=True)

    def cdf_before(self, x: Tensor) -> Tensor:
        """F(x-) = P(X < x), a mass at x left out."""
        return self._cdf(x, right=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density between the levels and in the tail; -inf outside, inf at a mass between two levels."""
        p, (index, x) = self.p, self._find(x, right=True)
        inside = (index > 0) & (index < p.shape[0])
        low, high = (index - 1).clamp(0, p.shape[0] - 2), index.clamp(1, p.shape[0] - 1)
        density = torch.log(p[high] - p[low]) - torch.log(self._at(high) - self._at(low))
        beyond = torch.full_like(density, -math.inf)
        if self.tail is not None:
            beyond = torch.where(index == p.shape[0], torch.log1p(-p[-1]) + self.tail.log_prob(x), beyond)
        return torch.where(inside, density, beyond)

    def quantile(self, p: Tensor) -> Tensor:
        """The quantile at level p, ``(...)`` that broadcasts with the batch, 0 < p < 1."""
        levels = self.p
        p = p.expand(torch.broadcast_shapes(p.shape, self.values.shape[:-1]))  # type: ignore[no-untyped-call]
        high = torch.searchsorted(levels, p.contiguous()).clamp(1, levels.shape[0] - 1)
        low = high - 1
        share = ((p - levels[low]) / (levels[high] - levels[low])).clamp(0.0, 1.0)
        found = self._at(low) + share * (self._at(high) - self._at(low))
        if self.tail is None:
            return found
        conditional = ((p - levels[-1]) / (1.0 - levels[-1])).clamp(min=0.0)
        return torch.where(p > levels[-1], self.tail.quantile(conditional), found)

    def below(self, x: Tensor) -> Tensor:
        """A(x): on a piece from p to f of length d the integral of F^2 is d (p^2 + p f + f^2) / 3."""
        p, q = self.p, self.values
        reach, f = self._reach(x)
        found = ((reach - q[..., :-1]) * (p[:-1] ** 2 + p[:-1] * f + f * f) / 3.0).sum(dim=-1)
        beyond = (x - q[..., -1]).clamp(min=0.0)
        if self.tail is None:
            return found + beyond
        rest, at = 1.0 - p[-1], q[..., -1] + beyond
        return found + beyond - 2.0 * rest * self.tail.sf_integral(at) + rest**2 * self.tail.square_sf_integral(at)

    def above(self, x: Tensor) -> Tensor:
        """B(x), likewise from x on; 1 - F is one before the first quantile."""
        p, q = self.p, self.values
        reach, f = self._reach(x)
        s, s_high = 1.0 - f, 1.0 - p[1:]
        found = ((q[..., 1:] - reach) * (s * s + s * s_high + s_high**2) / 3.0).sum(dim=-1) + (q[..., 0] - x).clamp(min=0.0)
        if self.tail is None:
            return found
        return found + (1.0 - p[-1]) ** 2 * self.tail.above(torch.maximum(x, q[..., -1]))

    def _reach(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The argument held within each piece between two quantiles, and F there: each ``(..., Q - 1)``."""
        p, q = self.p, self.values
        low, high = q[..., :-1], q[..., 1:]
        reach = torch.minimum(torch.maximum(x.unsqueeze(-1), low), high)
        length = high - low
        flat = length <= 0.0
        share = torch.where(flat, torch.zeros_like(length), (reach - low) / torch.where(flat, torch.ones_like(length), length))
        return reach, p[:-1] + share * p.diff()

    def _cdf(self, x: Tensor, right: bool) -> Tensor:
        p, (index, x) = self.p, self._find(x, right)
        size = p.shape[0]
        low, high = (index - 1).clamp(0, size - 2), index.clamp(1, size - 1)
        length = self._at(high) - self._at(low)
        inside = (index > 0) & (index < size)
        f = p[low] + (x - self._at(low)) / torch.where(inside, length, torch.ones_like(length)) * (p[high] - p[low])
        end = torch.ones_like(f)
        if self.tail is not None:
            end = 1.0 - (1.0 - p[-1]) * torch.exp(self.tail.log_sf(torch.maximum(x, self.values[..., -1])))
        f = torch.where(inside, f, torch.where(index == 0, torch.zeros_like(f), end))
        return torch.where(torch.isnan(x) | torch.isnan(self.values[..., 0]), torch.full_like(f, math.nan), f)

    def _find(self, x: Tensor, right: bool) -> tuple[Tensor, Tensor]:
        """How many quantiles are <= x (``right``) or < x, and x in the common shape."""
        shape = torch.broadcast_shapes(x.shape, self.values.shape[:-1])  # type: ignore[no-untyped-call]
        x = x.expand(shape)
        values = self.values.detach().expand(*shape, -1).contiguous()
        return torch.searchsorted(values, x.detach().unsqueeze(-1).contiguous(), right=right).squeeze(-1), x

    def _at(self, index: Tensor) -> Tensor:
        """The quantiles at the given positions."""
        return self.values.expand(*index.shape, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
