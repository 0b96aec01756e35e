"""Normal, logistic and Student's t: location-scale families symmetric about their location.

Each is described, in standardised units and in the upper tail, by the logarithm of its survival function S and two ratios that
stay of order one however small S becomes: the mean excess e(z) = (integral of S from z on) / S(z) and its square
counterpart g(z) = (integral of S^2 from z on) / S(z)^2. Everything else follows by symmetry, S(-z) = F(z).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from models.distributions.base import Continuous
from models.distributions.special import (
    LOG_SQRT_2PI,
    SQRT_2,
    SQRT_PI,
    log_remainder,
    mills_ratio,
    student_log_pdf,
    student_log_sf,
)


@dataclass(frozen=True, eq=False)
class Symmetric(Continuous):
    """A symmetric location-scale family.

    Attributes:
        location: Centre, in the units of the variable.
        scale: Positive scale, in the same units (of the logistic: the standard deviation is pi / sqrt(3) times it).
    """

    location: Tensor
    scale: Tensor

    @abstractmethod
    def standard_log_pdf(self, z: Tensor) -> Tensor:
        """Logarithm of the standard density."""

    @abstractmethod
    def standard_log_sf(self, z: Tensor) -> Tensor:
        """Logarithm of S(z), right in relative terms however far the tail."""

    @abstractmethod
    def standard_mean_excess(self, z: Tensor) -> Tensor:
        """e(z): the integral of S from z on, over S(z)."""

    @abstractmethod
    def standard_square_excess(self, z: Tensor) -> Tensor:
        """g(z): the integral of S^2 from z on, over S(z)^2."""

    @abstractmethod
    def standard_isf(self, log_q: Tensor) -> Tensor:
        """The z >= 0 with log S(z) = log_q <= log(1/2)."""

    def standardise(self, x: Tensor) -> Tensor:
        """(x - location) / scale."""
        return (x - self.location) / self.scale

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.location

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the density at x."""
        return self.standard_log_pdf(self.standardise(x)) - torch.log(self.scale)

    def log_cdf(self, x: Tensor) -> Tensor:
        """Logarithm of P(X <= x), right in relative terms in the lower tail."""
        return self.standard_log_sf(-self.standardise(x))

    def log_sf(self, x: Tensor) -> Tensor:
        """Logarithm of P(X > x), right in relative terms in the upper tail."""
        return self.standard_log_sf(self.standardise(x))

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x)."""
        return torch.exp(self.log_cdf(x))

    def quantile(self, p: Tensor) -> Tensor:
        """The x with P(X <= x) = p, for 0 < p < 1."""
        lower = p < 0.5  # the rarer side carries the accuracy
        z = self.standard_isf(torch.where(lower, torch.log(p), torch.log1p(-p)))
        return self.location + self.scale * torch.where(lower, -z, z)

    def standard_quantile_of_sf(self, log_q: Tensor) -> Tensor:
        """The z with log S(z) = log_q, on either side of the centre."""
        upper = log_q < math.log(0.5)
        common = torch.log(-torch.expm1(torch.where(upper, torch.full_like(log_q, math.log(0.5)), log_q)))
        z = self.standard_isf(torch.where(upper, log_q, common))
        return torch.where(upper, z, -z)

    def below(self, x: Tensor) -> Tensor:
        """A(x), the integral of F^2 up to x."""
        return self.scale * self._square_tail(-self.standardise(x))

    def above(self, x: Tensor) -> Tensor:
        """B(x), the integral of (1 - F)^2 from x on."""
        return self.scale * self._square_tail(self.standardise(x))

    def _square_tail(self, z: Tensor) -> Tensor:
        return torch.exp(2.0 * self.standard_log_sf(z)) * self.standard_square_excess(z)


class Normal(Symmetric):
    """Normal distribution; its CRPS is that of Gneiting et al. (2005), Monthly Weather Review 133, equation 5."""

    def standard_log_pdf(self, z: Tensor) -> Tensor:
        """Logarithm of phi(z)."""
        return -0.5 * z * z - LOG_SQRT_2PI

    def standard_log_sf(self, z: Tensor) -> Tensor:
        """log(1 - Phi(z))."""
        log_s: Tensor = torch.special.log_ndtr(-z)
        return log_s

    def standard_mean_excess(self, z: Tensor) -> Tensor:
        """1 / m(z) - z with Mills' ratio m."""
        return self._hazard(z) - z

    def standard_square_excess(self, z: Tensor) -> Tensor:
        """-z + 2 / m(z) - sqrt(2) m(sqrt(2) z) / m(z)^2, from integrating S^2 by parts twice."""
        upper, lower = z.clamp(min=0.0), z.clamp(max=0.0)
        tail = SQRT_2 * mills_ratio(SQRT_2 * upper) / mills_ratio(upper) ** 2
        body = torch.special.ndtr(-SQRT_2 * lower) / (SQRT_PI * torch.special.ndtr(-lower) ** 2)
        return 2.0 * self._hazard(z) - z - torch.where(z > 0, tail, body)

    def _hazard(self, z: Tensor) -> Tensor:
        """The hazard phi / S = 1 / m; each branch only where its parts are finite."""
        upper, lower = z.clamp(min=0.0), z.clamp(max=0.0)
        body = torch.exp(self.standard_log_pdf(lower)) / torch.special.ndtr(-lower)
        return torch.where(z > 0, 1.0 / mills_ratio(upper), body)

    def standard_isf(self, log_q: Tensor) -> Tensor:
        """By Newton's method on log S, from the tabulated inverse or, beyond its reach, from S(z) ~ phi(z) / z."""
        with torch.no_grad():
            reach = log_q > -60.0
            far = -2.0 * log_q.clamp(max=-50.0)
            near = -torch.special.ndtri(torch.exp(log_q.clamp(min=-60.0)))
            z = torch.where(reach, near, torch.sqrt(far - torch.log(2.0 * math.pi * far)))
            for _ in range(4):
                z = self._newton(z, log_q)
        return self._newton(z, log_q)  # the last step carries the gradient

    def _newton(self, z: Tensor, log_q: Tensor) -> Tensor:
        log_s = self.standard_log_sf(z)
        hazard = torch.exp(self.standard_log_pdf(z) - log_s)
        return z + (log_s - log_q) / hazard.detach()


class Logistic(Symmetric):
    """Logistic distribution; the integral of its F^2 is log(1 + exp(z)) - F(z) (Jordan, Krueger and Lerch 2019, appendix A)."""

    def standard_log_pdf(self, z: Tensor) -> Tensor:
        """Logarithm of S(z) plus log F(z)."""
        return torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)

    def standard_log_sf(self, z: Tensor) -> Tensor:
        """log(1 / (1 + exp(z)))."""
        return torch.nn.functional.logsigmoid(-z)

    def standard_mean_excess(self, z: Tensor) -> Tensor:
        """-log(1 - S) / S = 1 + S g."""
        return 1.0 + torch.sigmoid(-z) * self.standard_square_excess(z)

    def standard_square_excess(self, z: Tensor) -> Tensor:
        """(-log(1 - S) - S) / S^2."""
        upper, lower = z.clamp(min=0.0), z.clamp(max=0.0)
        s = torch.sigmoid(-lower)
        body = (torch.nn.functional.softplus(-lower) - s) / (s * s)
        return torch.where(z > 0, log_remainder(torch.sigmoid(-upper)), body)

    def standard_isf(self, log_q: Tensor) -> Tensor:
        """log((1 - q) / q)."""
        return torch.log(-torch.expm1(log_q)) - log_q


@dataclass(frozen=True, eq=False)
class StudentT(Symmetric):
    """Student's t; its partial integrals are those behind the CRPS of Jordan, Krueger and Lerch (2019), appendix A.

    Attributes:
        df: Degrees of freedom, above one (the CRPS is infinite at one).
    """

    df: Tensor

    def standard_log_pdf(self, z: Tensor) -> Tensor:
        """Logarithm of the density."""
        return student_log_pdf(z, self.df)

    def standard_log_sf(self, z: Tensor) -> Tensor:
        """Logarithm of the survival function."""
        return student_log_sf(z, self.df)

    def standard_mean_excess(self, z: Tensor) -> Tensor:
        """(df + z^2) / (df - 1) f(z) / S(z) - z."""
        hazard = torch.exp(self.standard_log_pdf(z) - self.standard_log_sf(z))
        return (self.df + z * z) / (self.df - 1.0) * hazard - z

    def standard_square_excess(self, z: Tensor) -> Tensor:
        """From integrating S^2 by parts; (df + x^2) f(x)^2 is in proportion to a t density with 2 df - 1 degrees of freedom."""
        df = self.df
        log_s = self.standard_log_sf(z)
        hazard = torch.exp(self.standard_log_pdf(z) - log_s)
        twin = 2.0 * df - 1.0
        stretch = torch.sqrt(twin / df)
        zero = torch.zeros_like(df)
        log_ratio = torch.log(df) + 2.0 * student_log_pdf(zero, df) - student_log_pdf(zero, twin) - torch.log(stretch)
        spread = torch.exp(log_ratio + student_log_sf(z * stretch, twin) - 2.0 * log_s)
        return -z + 2.0 / (df - 1.0) * ((df + z * z) * hazard - spread)

    def standard_isf(self, log_q: Tensor) -> Tensor:
        """By Newton's method on log S as a function of w = asinh(z / sqrt(df)), where it is concave and ends as a straight line.

        Both its tangent at the median and its asymptote lie above it, so the nearer of their roots starts a monotone descent.
        """
        root = torch.sqrt(self.df)
        with torch.no_grad():
            log_f0 = student_log_pdf(torch.zeros_like(self.df), self.df)
            tangent = (math.log(0.5) - log_q) / (2.0 * torch.exp(log_f0) * root)
            asymptote = (log_f0 - 0.5 * torch.log(self.df) + self.df * math.log(2.0) - log_q) / self.df
            w = torch.minimum(tangent, asymptote)
            for _ in range(12):
                w = self._newton(w, log_q, root)
        z = root * torch.sinh(self._newton(w, log_q, root))  # the last step carries the gradient
        return z

    def _newton(self, w: Tensor, log_q: Tensor, root: Tensor) -> Tensor:
        z = root * torch.sinh(w)
        log_s = self.standard_log_sf(z)
        slope = torch.exp(self.standard_log_pdf(z) - log_s) * root * torch.cosh(w)
        return w + (log_s - log_q) / slope.detach()
