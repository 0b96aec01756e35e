"""Special functions that PyTorch lacks, or has without the gradient or the far tail that is needed here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

SQRT_2: Final = math.sqrt(2.0)
SQRT_PI: Final = math.sqrt(math.pi)
LOG_SQRT_2PI: Final = 0.5 * math.log(2.0 * math.pi)


def mills_ratio(z: Tensor) -> Tensor:
    """Mills' ratio (1 - Phi(z)) / phi(z) of the standard normal distribution, for z >= 0 (it overflows at -37, in float32 at -13)."""
    ratio: Tensor = math.sqrt(0.5 * math.pi) * torch.special.erfcx(z / SQRT_2)
    return ratio


def log1p_ratio(w: Tensor) -> Tensor:
    """log(1 + w) / w with its limit 1 at w = 0, and the gradient of both."""
    return _by_series(w, lambda x: torch.log1p(x) / x, lambda n: (-1.0) ** n / (n + 1))


def expm1_ratio(w: Tensor) -> Tensor:
    """(exp(w) - 1) / w with its limit 1 at w = 0, and the gradient of both."""
    return _by_series(w, lambda x: torch.expm1(x) / x, lambda n: 1.0 / math.factorial(n + 1))


def log_remainder(w: Tensor) -> Tensor:
    """(-log(1 - w) - w) / w^2 = 1/2 + w/3 + w^2/4 + ... for 0 <= w < 1, without cancellation near zero."""
    return _by_series(w, lambda x: (-torch.log1p(-x) - x) / x**2, lambda n: 1.0 / (n + 2))


def _by_series(w: Tensor, direct: Callable[[Tensor], Tensor], coefficient: Callable[[int], float]) -> Tensor:
    """``direct(w)``, and for |w| < 0.05 the power series with the given coefficients; neither branch sees the other's arguments."""
    small = w.abs() < 0.05
    near = torch.where(small, w, torch.zeros_like(w))
    series = torch.zeros_like(w)
    for n in reversed(range(13)):  # 0.05**13 is below the resolution of float64
        series = series * near + coefficient(n)
    return torch.where(small, series, direct(torch.where(small, torch.full_like(w, 0.5), w)))


def five_point(function: Callable[[Tensor], Tensor], x: Tensor, step: Tensor) -> Tensor:
    """Derivative of an analytic function by the five-point rule; its error is of the order step^4 and of the rounding over step."""
    near = function(x + step) - function(x - step)
    far = function(x + 2.0 * step) - function(x - 2.0 * step)
    slope: Tensor = (8.0 * near - far) / (12.0 * step)
    return slope


class _GammaP(torch.autograd.Function):
    """Regularised lower incomplete gamma function P(a, x) with both derivatives; PyTorch has none in a."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(a, x)
        p: Tensor = torch.special.gammainc(a, x)
        return p

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, x = ctx.saved_tensors
        d_a = d_x = None
        if ctx.needs_input_grad[0]:
            wide = a.detach().double()
            log_a = torch.log(wide)
            at = x.detach().double()
            step = 1e-3 / torch.sqrt(1.0 + wide)  # P varies over a relative width 1 / sqrt(a) in a
            slope = five_point(lambda u: torch.special.gammainc(torch.exp(u), at), log_a, step) / wide
            d_a = grad * slope.to(grad.dtype)
        if ctx.needs_input_grad[1]:
            d_x = grad * torch.exp((a - 1.0) * torch.log(x) - x - torch.lgamma(a))
        return d_a, d_x


def gamma_p(a: Tensor, x: Tensor) -> Tensor:
    """Regularised lower incomplete gamma function P(a, x), x > 0, a > 0, broadcast, differentiable once in a and twice in x.

    The derivative in a is the five-point rule on log a in float64, right to about 1e-11.
    """
    a, x = torch.broadcast_tensors(a, x)  # type: ignore[no-untyped-call]
    found: Tensor = _GammaP.apply(a, x)  # type: ignore[no-untyped-call]
    return found


def _beta_fraction(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Continued fraction of the incomplete beta function, by Lentz's method (DLMF 8.17.22), for x < (a + 1) / (a + b + 2)."""
    tiny = torch.finfo(x.dtype).tiny * 1e10
    eps = torch.finfo(x.dtype).eps

    def away_from_zero(v: Tensor) -> Tensor:
        return torch.where(v.abs() < tiny, torch.full_like(v, tiny), v)

    c = torch.ones_like(x)
    d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    found = d
    for m in range(1, 100):  # 50 suffice from one to a million degrees of freedom
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 / away_from_zero(1.0 + even * d)
        c = away_from_zero(1.0 + even / c)
        found = found * d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 / away_from_zero(1.0 + odd * d)
        c = away_from_zero(1.0 + odd / c)
        found = found * d * c
        if m % 8 == 0 and not bool(((d * c - 1.0).abs() > 8.0 * eps).any()):  # NaN never converges
            break
    return found


def student_log_pdf(z: Tensor, df: Tensor) -> Tensor:
    """Logarithm of the density of Student's t with ``df`` degrees of freedom."""
    constant = torch.lgamma(0.5 * (df + 1.0)) - torch.lgamma(0.5 * df) - 0.5 * torch.log(math.pi * df)
    return constant - 0.5 * (df + 1.0) * torch.log1p(z * z / df)


def _student_log_sf(z: Tensor, df: Tensor) -> Tensor:
    """Logarithm of P(T > z): by the tail fraction for z > 1.7 or so, else from the centre, which reaches the lower tail by symmetry."""
    far = z * z > 3.0 * df / (df + 2.0)
    t = z.abs()
    half = torch.full_like(z, 0.5)
    share = df / (df + t * t)
    log_beta = torch.lgamma(0.5 * df) + torch.lgamma(half) - torch.lgamma(0.5 * df + 0.5)
    fraction = _beta_fraction(
        torch.where(far, 0.5 * df, half), torch.where(far, half, 0.5 * df), torch.where(far, share, t * t / (df + t * t))
    )
    log_share = -torch.log1p(t * t / df)
    power = 0.5 * df * log_share - log_beta + torch.log(fraction)
    log_tail = power + 0.5 * torch.log(1.0 - share) - torch.log(df)  # log of I_share(df/2, 1/2) / 2
    centre = torch.exp(power + 0.5 * torch.log(t * t / (df + t * t)))  # P(|T| < t) / 2, zero at zero
    below = torch.exp(log_tail)
    return torch.where(
        far,
        torch.where(z > 0, log_tail, torch.log1p(-below)),
        torch.log(0.5 - torch.sign(z) * centre),
    )


class _StudentLogSf(torch.autograd.Function):
    """Logarithm of the survival function of Student's t, with both derivatives."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, df: Tensor) -> Tensor:
        ctx.save_for_backward(z, df)
        return _student_log_sf(z, df)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        z, df = ctx.saved_tensors
        d_z = d_df = None
        if ctx.needs_input_grad[0]:
            d_z = -grad * torch.exp(student_log_pdf(z, df) - student_log_sf(z, df))
        if ctx.needs_input_grad[1]:
            wide, at = df.detach().double(), z.detach().double()
            slope = five_point(lambda u: _student_log_sf(at, u), wide, 1e-3 * wide)
            d_df = grad * slope.to(grad.dtype)
        return d_z, d_df


def student_log_sf(z: Tensor, df: Tensor) -> Tensor:
    """Logarithm of P(T > z) of Student's t, broadcast, right in relative terms in both tails; differentiable twice in z and once in df."""
    z, df = torch.broadcast_tensors(z, df)  # type: ignore[no-untyped-call]
    found: Tensor = _StudentLogSf.apply(z, df)  # type: ignore[no-untyped-call]
    return found
