"""The gamma distribution, shifted, and censored at zero for rain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.distributions.base import Continuous
from models.distributions.bounded import Censored
from models.distributions.special import SQRT_PI, gamma_p


@dataclass(frozen=True, eq=False)
class Gamma(Continuous):
    """shift + scale * G, with G from the gamma distribution of the given shape.

    The partial integrals follow from t f_k(t) = k f_{k+1}(t) and F_k - F_{k+1} = f_{k+1} for unit scale, with F_k the CDF of shape k:

        integral of F_k^2 up to z     = z F_k^2 - k F_{k+1}^2 - g F_{2k+1}(2 z),
        integral of (1 - F_k)^2 from z = -z S_k^2 + k S_{k+1}^2 - g S_{2k+1}(2 z),     g = k Gamma(k + 1/2) / (sqrt(pi) Gamma(k + 1)).

    Attributes:
        shape: Positive shape k.
        scale: Positive scale, in the units of the variable.
        shift: Lower end of the support, in the same units.

    References:
        Scheuerer and Hamill (2015), Monthly Weather Review 143, for the CRPS of the censored form.
    """

    shape: Tensor
    scale: Tensor
    shift: Tensor | float = 0.0

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        return self.shift + self.shape * self.scale

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density, -inf up to ``shift``."""
        z, inside = self._standardise(x)
        density = (self.shape - 1.0) * torch.log(z) - z - torch.lgamma(self.shape) - torch.log(self.scale)
        return torch.where(inside, density, torch.full_like(density, -math.inf))

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x)."""
        z, inside = self._standardise(x)
        f = gamma_p(self.shape, z)
        return torch.where(inside, f, torch.zeros_like(f))

    def quantile(self, p: Tensor) -> Tensor:
        """The x with P(X <= x) = p, for 0 < p < 1, by Newton's method on the logarithm of the rarer side against log z.

        log P and log Q are concave in log z, so the iterates approach the root from one side and never leave it.
        """
        shape, p = torch.broadcast_tensors(self.shape, p)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            spread = 1.0 / (9.0 * shape)
            hilferty = shape * (1.0 - spread + torch.special.ndtri(p) * torch.sqrt(spread)) ** 3  # Wilson and Hilferty (1931)
            start = (torch.log(p) + torch.lgamma(shape + 1.0)) / shape  # P ~ z^k / Gamma(k + 1) near zero, and never more
            smallest = math.log(torch.finfo(p.dtype).tiny)  # quantiles below it are zero to this type
            w = torch.where((p < 0.5) & (shape < 5.0), start, torch.maximum(torch.log(hilferty.clamp(min=1e-30)), start))
            w = w.clamp(min=smallest)
            for _ in range(30):
                step = self._newton(w, shape, p).clamp(min=smallest)
                done = bool(((step - w).abs() <= 4.0 * torch.finfo(w.dtype).eps * (1.0 + w.abs())).all())
                w = step
                if done:
                    break
        return self.shift + self.scale * torch.exp(self._newton(w, shape, p))  # the last step carries the gradient

    @staticmethod
    def _newton(w: Tensor, shape: Tensor, p: Tensor) -> Tensor:
        z = torch.exp(w)
        below = gamma_p(shape, z)
        above = torch.special.gammaincc(shape.detach(), z)
        with torch.no_grad():
            density = torch.exp(shape * w - z - torch.lgamma(shape))  # of log z
            lower = p < 0.5
            # d log P / dw = density / P; for the upper side log Q, whose relative accuracy PyTorch keeps
            excess = torch.where(lower, below * torch.log(below / p), -above * torch.log(above / (1.0 - p)))
            step = w - excess / density
        # value from the logarithms, gradient from P(shape, z) = p
        return step - ((below - p) - (below - p).detach()) / density

    def below(self, x: Tensor) -> Tensor:
        """A(x), the integral of F^2 up to x."""
        k = self.shape
        z, inside = self._standardise(x)
        f, f_next = self._pair(z)
        found = z * f * f - k * f_next * f_next - self._gini * gamma_p(2.0 * k + 1.0, 2.0 * z)
        return self.scale * torch.where(inside, found, torch.zeros_like(found))

    def above(self, x: Tensor) -> Tensor:
        """B(x), the integral of (1 - F)^2 from x on."""
        k = self.shape
        z, inside = self._standardise(x)
        f, f_next = self._pair(z)
        found = -z * (1.0 - f) ** 2 + k * (1.0 - f_next) ** 2 - self._gini * (1.0 - gamma_p(2.0 * k + 1.0, 2.0 * z))
        outside = k - self._gini + (self.shift - x) / self.scale
        return self.scale * torch.where(inside, found, outside)

    @property
    def _gini(self) -> Tensor:
        """Half the mean difference of two draws of unit scale, Gamma(k + 1/2) / (sqrt(pi) Gamma(k))."""
        return torch.exp(torch.lgamma(self.shape + 0.5) - torch.lgamma(self.shape)) / SQRT_PI

    def _pair(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """F_k and F_{k+1} = F_k - f_{k+1}."""
        f = gamma_p(self.shape, z)
        return f, f - torch.exp(self.shape * torch.log(z) - z - torch.lgamma(self.shape + 1.0))

    def _standardise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The argument in units of the scale, one outside the support, and where it is inside."""
        z = (x - self.shift) / self.scale
        inside = ~(z <= 0.0)  # NaN stays
        return torch.where(inside, z, torch.ones_like(z)), inside


def censored_shifted_gamma(mean: Tensor, deviation: Tensor, shift: Tensor) -> Censored:
    """The censored shifted gamma distribution of Scheuerer and Hamill (2015): max(0, G + shift).

    Args:
        mean: Expectation mu of the gamma variable G before the shift, positive, in the units of the variable.
        deviation: Standard deviation sigma of G, positive: shape mu^2 / sigma^2, scale sigma^2 / mu.
        shift: Negative shift delta; P(0) = F_G(-delta).

    Returns:
        The distribution, with a mass at zero.
    """
    return Censored(Gamma((mean / deviation) ** 2, deviation**2 / mean, shift), lower=0.0)
