"""Censoring gathers the mass beyond a bound at the bound; truncation discards it. Both keep every score in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.distributions.base import Bound, Continuous, Distribution, is_none, like, where_finite
from models.distributions.symmetric import Symmetric

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_NARROW: Final = 0.1
"""Share of the mass beyond the lower bound below which differences of closed forms lose digits and quadrature is exact."""


@dataclass(frozen=True, eq=False)
class Censored(Distribution):
    """max(lower, min(X, upper)) for X from any distribution: rain has its mass at zero, relative humidity at zero and one hundred.

    Attributes:
        base: Distribution of X.
        lower: Lower bound, -inf for none.
        upper: Upper bound, above ``lower``; inf for none.
    """

    base: Distribution
    lower: Bound = -math.inf
    upper: Bound = math.inf

    def cdf(self, x: Tensor) -> Tensor:
        """P(max(lower, min(X, upper)) <= x): the mass below is included from ``lower`` on."""
        low, high = like(self.lower, x), like(self.upper, x)
        inside = self.base.cdf(self._clip(x))
        return torch.where(x < low, torch.zeros_like(inside), torch.where(x >= high, torch.ones_like(inside), inside))

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density between the bounds, of the mass at a bound, -inf outside: the likelihood of a censored value.

        Raises:
            TypeError: The base is not symmetric, so that the logarithms of its tails are not at hand.
        """
        if not isinstance(self.base, Symmetric):
            raise TypeError(f"The likelihood of a censored {type(self.base).__name__} needs log_cdf and log_sf; use a symmetric family.")
        low, high = like(self.lower, x), like(self.upper, x)
        clipped = self._clip(x)
        density = self.base.log_prob(clipped)
        density = torch.where(x <= low, self.base.log_cdf(clipped), torch.where(x >= high, self.base.log_sf(clipped), density))
        return torch.where((x < low) | (x > high), torch.full_like(density, -math.inf), density)

    def quantile(self, p: Tensor) -> Tensor:
        """The quantile of X, held within the bounds."""
        return self._clip(self.base.quantile(p))

    def below(self, x: Tensor) -> Tensor:
        """A(x): F is zero up to ``lower`` and one from ``upper`` on."""
        inside = self._clip(x)
        score = self.base.below(inside)
        if not is_none(self.lower):
            finite, at = where_finite(like(self.lower, x), inside)
            score = score - torch.where(finite, self.base.below(at), torch.zeros_like(score))
        return score + (x - inside).clamp(min=0.0)

    def above(self, x: Tensor) -> Tensor:
        """B(x): 1 - F is one up to ``lower`` and zero from ``upper`` on."""
        inside = self._clip(x)
        score = self.base.above(inside)
        if not is_none(self.upper):
            finite, at = where_finite(like(self.upper, x), inside)
            score = score - torch.where(finite, self.base.above(at), torch.zeros_like(score))
        return score + (inside - x).clamp(min=0.0)

    @property
    def mean(self) -> Tensor:
        """The expectation.

        Raises:
            TypeError: The base is not symmetric.
        """
        if not isinstance(self.base, Symmetric):
            raise TypeError(f"The mean of a censored {type(self.base).__name__} is not at hand; use a symmetric family.")
        base = self.base
        mean = base.mean
        # E max(X, l) = mean + integral of F up to l; the upper bound likewise
        for bound, sign in ((self.lower, 1.0), (self.upper, -1.0)):
            if not is_none(bound):
                finite, at = where_finite(like(bound, mean), mean)
                z = -sign * base.standardise(at)
                part = base.scale * torch.exp(base.standard_log_sf(z)) * base.standard_mean_excess(z)
                mean = mean + sign * torch.where(finite, part, torch.zeros_like(part))
        return mean

    def _clip(self, x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, like(self.lower, x)), like(self.upper, x))


@dataclass(frozen=True, eq=False)
class _Turned:
    """An argument and the bounds in standardised units, turned so that ``low`` is finite and nearer to the centre than ``high``.

    The survival function is taken relative to its value at ``low``: s(z) = S(z) / S(low), F(z) = (1 - s(z)) / Z, Z = 1 - s(high).
    """

    base: Symmetric
    z: Tensor
    low: Tensor
    high: Tensor  # low + 1 where there is no upper bound
    bounded: Tensor  # where there is one
    turned: Tensor  # where the signs are reversed

    def log_s(self, z: Tensor) -> Tensor:
        return self.base.standard_log_sf(z) - self.log_sf_low

    @cached_property
    def log_sf_low(self) -> Tensor:
        return self.base.standard_log_sf(self.low)

    @cached_property
    def mass(self) -> Tensor:
        """Z."""
        mass = -torch.expm1(self.log_s_high)
        return torch.where(self.bounded, mass, torch.ones_like(mass))

    @cached_property
    def log_s_high(self) -> Tensor:
        return self.log_s(self.high)

    @property
    def s_high(self) -> Tensor:
        s = torch.exp(self.log_s_high)
        return torch.where(self.bounded, s, torch.zeros_like(s))

    def cdf(self) -> Tensor:
        return -torch.expm1(self.log_s(self.z)) / self.mass

    def integral_below(self) -> Tensor:
        """The integral of F^2 from ``low`` to ``z``."""
        (c_low, b_low), (c_z, b_z) = self._partial(self.low), self.partial_z
        found = (self.z - self.low - 2.0 * (c_low - c_z) + b_low - b_z) / self.mass**2
        return self._or_quadrature(found, self.low, self.z, lambda f: f * f)

    def integral_above(self, power: int) -> Tensor:
        """The integral of (1 - F)^power from ``z`` to ``high``, for power one or two."""
        c_high, b_high = (torch.where(self.bounded, part, torch.zeros_like(part)) for part in self._partial(self.high))
        c_z, b_z = self.partial_z
        s_high, width = self.s_high, self.high - self.z
        if power == 1:
            found = (c_z - c_high - s_high * width) / self.mass
        else:
            found = (b_z - b_high - 2.0 * s_high * (c_z - c_high) + s_high**2 * width) / self.mass**2
        return self._or_quadrature(found, self.z, self.high, lambda f: (1.0 - f) ** power)

    @cached_property
    def partial_z(self) -> tuple[Tensor, Tensor]:
        return self._partial(self.z)

    def _partial(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The integrals of s and of s^2 from z on."""
        s = torch.exp(self.log_s(z))
        return self.base.standard_mean_excess(z) * s, self.base.standard_square_excess(z) * s * s

    def _or_quadrature(self, found: Tensor, start: Tensor, stop: Tensor, integrand: Callable[[Tensor], Tensor]) -> Tensor:
        """``found``, and by Gauss-Legendre quadrature where the bounds hold so little mass that F is all but a straight line."""
        narrow = self.bounded & (self.mass < _NARROW)
        if not bool(narrow.any()):
            return found
        shape = found.shape
        width = (stop - start).expand(shape)
        nodes = torch.as_tensor(0.5 + 0.5 * _NODES, dtype=found.dtype, device=found.device).reshape(-1, *[1] * len(shape))
        weights = torch.as_tensor(0.5 * _WEIGHTS, dtype=found.dtype, device=found.device).reshape(-1, *[1] * len(shape))
        f = torch.expm1(self.log_s(start + nodes * width)) / torch.expm1(self.log_s_high)
        return torch.where(narrow, (weights * integrand(f)).sum(dim=0) * width, found)


@dataclass(frozen=True, eq=False)
class Truncated(Continuous):
    """X given lower < X < upper, for a symmetric family; right however far in a tail of X the bounds lie.

    Attributes:
        base: Distribution of X.
        lower: Lower bound, -inf for none.
        upper: Upper bound, above ``lower``; inf for none. Every element has at least one finite bound.

    Raises:
        ValueError: Neither bound is finite; use ``base`` itself.
    """

    base: Symmetric
    lower: Bound = -math.inf
    upper: Bound = math.inf

    def __post_init__(self) -> None:
        if is_none(self.lower) and is_none(self.upper):
            raise ValueError(f"A truncated distribution needs a finite bound, found [{self.lower}, {self.upper}]; use its base.")

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x | lower < X < upper)."""
        at = self._turn(x)
        f = at.cdf()
        f = torch.where(at.turned, 1.0 - f, f)
        low, high = like(self.lower, x), like(self.upper, x)
        return torch.where(x < low, torch.zeros_like(f), torch.where(x > high, torch.ones_like(f), f))

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density, -inf outside the bounds."""
        at = self._turn(x)
        log_mass = at.log_sf_low + torch.log(at.mass)
        density = self.base.standard_log_pdf(at.z) - torch.log(self.base.scale) - log_mass
        outside = (x < like(self.lower, x)) | (x > like(self.upper, x))
        return torch.where(outside, torch.full_like(density, -math.inf), density)

    def quantile(self, p: Tensor) -> Tensor:
        """The x with P(X <= x) = p, for 0 < p < 1."""
        at = self._turn(self.base.location)
        s = torch.where(at.turned, at.s_high + p * at.mass, 1.0 - p * at.mass)
        z = self.base.standard_quantile_of_sf(at.log_sf_low + torch.log(s))
        return self._clip(self.base.location + self.base.scale * torch.where(at.turned, -z, z))

    def below(self, x: Tensor) -> Tensor:
        """A(x), the integral of F^2 up to x."""
        return self._sides(x)[0]

    def above(self, x: Tensor) -> Tensor:
        """B(x), the integral of (1 - F)^2 from x on."""
        return self._sides(x)[1]

    def crps(self, y: Tensor) -> Tensor:
        """As for every distribution; the two sides share most of their work."""
        below, above = self._sides(y)
        return below + above

    def _sides(self, x: Tensor) -> tuple[Tensor, Tensor]:
        at = self._turn(x)
        near, far = at.integral_below(), at.integral_above(2)
        beyond = x - self._clip(x)
        below = self.base.scale * torch.where(at.turned, far, near) + beyond.clamp(min=0.0)
        above = self.base.scale * torch.where(at.turned, near, far) + (-beyond).clamp(min=0.0)
        return below, above

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        at = self._turn(self.base.location)
        at = replace(at, z=at.low)
        z = at.low + at.integral_above(1)
        return self.base.location + self.base.scale * torch.where(at.turned, -z, z)

    def _clip(self, x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, like(self.lower, x)), like(self.upper, x))

    def _turn(self, x: Tensor) -> _Turned:
        base = self.base
        has_low, low = where_finite(like(self.lower, x), base.location)
        has_high, high = where_finite(like(self.upper, x), base.location)
        a, b, z = base.standardise(low), base.standardise(high), base.standardise(self._clip(x))
        turned = ~has_low | (has_high & (a + b < 0.0))
        near = torch.where(turned, -b, a)
        bounded = has_low & has_high
        far = torch.where(bounded, torch.where(turned, -a, b), near + 1.0)
        return _Turned(base, torch.where(turned, -z, z), near, far, bounded, turned)
