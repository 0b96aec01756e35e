"""What every distribution shares: its scores are sums of two partial integrals of its CDF.

With A(x) the integral of F^2 up to x and B(x) that of (1 - F)^2 from x on, the continuous ranked probability score is
CRPS(F, y) = A(y) + B(y), and every interval weight, censoring bound and mass follows by taking differences. A distribution
therefore states A and B in closed form (``below`` and ``above``) and inherits the scores.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

Bound = float | Tensor
"""A bound in the units of the variable: a number, or a tensor that broadcasts; infinite where there is none."""


def is_none(bound: Bound) -> bool:
    """Whether a bound is known, without looking into a tensor, to be infinite everywhere."""
    return not isinstance(bound, Tensor) and math.isinf(bound)


def like(bound: Bound, reference: Tensor) -> Tensor:
    """The bound as a tensor of the reference's type and device."""
    return torch.as_tensor(bound, dtype=reference.dtype, device=reference.device)


def where_finite(bound: Tensor, otherwise: Tensor) -> tuple[Tensor, Tensor]:
    """Where the bound is finite, and the bound with ``otherwise`` in the other places, so that no gradient meets an infinity."""
    finite = torch.isfinite(bound)
    return finite, torch.where(finite, bound, otherwise)


class Distribution(ABC):
    """A predictive distribution for every element of a batch.

    Parameters are tensors that broadcast against each other and against the arguments; every method is elementwise in that
    sense and differentiable in parameters and arguments. Values are in the units of the variable.
    """

    @abstractmethod
    def cdf(self, x: Tensor) -> Tensor:
        """F(x) = P(X <= x)."""

    @abstractmethod
    def quantile(self, p: Tensor) -> Tensor:
        """The smallest x with F(x) >= p, for 0 < p < 1."""

    @abstractmethod
    def below(self, x: Tensor) -> Tensor:
        """A(x), the integral of F(t)^2 over t <= x, for finite x."""

    @abstractmethod
    def above(self, x: Tensor) -> Tensor:
        """B(x), the integral of (1 - F(t))^2 over t >= x, for finite x."""

    def crps(self, y: Tensor) -> Tensor:
        """Continuous ranked probability score, the integral of (F(t) - 1{y <= t})^2 dt, in closed form.

        Args:
            y: Observations, in the units of the variable; NaN gives NaN.

        Returns:
            The score in the units of the variable, zero for a perfect forecast.

        References:
            Matheson and Winkler (1976), Management Science 22; Jordan, Krueger and Lerch (2019), J. Stat. Software 90(12).
        """
        return self.below(y) + self.above(y)

    def twcrps(self, y: Tensor, lower: Bound = -math.inf, upper: Bound = math.inf) -> Tensor:
        """Threshold-weighted CRPS with weight one between two thresholds, the integral of (F(t) - 1{y <= t})^2 over them.

        Args:
            y: Observations.
            lower: Threshold from which on errors count.
            upper: Threshold up to which errors count.

        Returns:
            The score in the units of the variable; with both thresholds infinite it is :meth:`crps`.

        References:
            Gneiting and Ranjan (2011), J. Business and Economic Statistics 29.
        """
        low, high = like(lower, y), like(upper, y)
        inside = torch.maximum(torch.minimum(y, high), low)
        score = self.below(inside) + self.above(inside)
        if not is_none(lower):
            finite, at = where_finite(low, inside)
            score = score - torch.where(finite, self.below(at), torch.zeros_like(score))
        if not is_none(upper):
            finite, at = where_finite(high, inside)
            score = score - torch.where(finite, self.above(at), torch.zeros_like(score))
        return score


class Continuous(Distribution):
    """A distribution with a density."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density at x, -inf outside the support."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The expectation."""
