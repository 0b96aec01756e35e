"""Batched maximum likelihood for location-scale regression, by damped Newton steps in the Fisher metric.

Thousands of small problems (one a station and lead) are solved side by side as tensors, on CPU or GPU. A row's distribution is
``F((y - mu) / sigma)`` with ``mu = X beta`` and ``log sigma = Z gamma``, as it is, censored at bounds (point masses there) or
truncated to them. Rows that are NaN or masked do not count, coefficients are drawn to a prior, and whatever the data the
answer is finite: with nothing to learn from it is the prior.

References:
    Gneiting, Raftery, Westveld and Goldman (2005), Calibrated probabilistic forecasting using ensemble model output statistics.
    Messner, Mayr, Wilks and Zeileis (2014), Extending extended logistic regression (censored and truncated forms).
"""

from __future__ import annotations

import copy
import math
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from models.base import ForecasterError

Family = Literal["normal", "logistic"]
Form = Literal["censored", "truncated"]

# Fisher information of one row for (location / sigma, log sigma).
_INFORMATION: Final[dict[str, tuple[float, float]]] = {"normal": (1.0, 2.0), "logistic": (1.0 / 3.0, (3.0 + math.pi**2) / 9.0)}
_DEVIATION: Final[dict[str, float]] = {"normal": 1.0, "logistic": math.pi / math.sqrt(3.0)}  # standard deviation at sigma = 1
_LOG_ABSOLUTE: Final[dict[str, float]] = {"normal": -0.635181, "logistic": 0.125}  # about E log|z|, only for the start
_HOPELESS: Final = 1e9  # damping at which a problem is given up where it stands
_USUAL: Final = 6  # steps that most problems take: no use in leaving out what is done before
_CHUNK_ROWS: Final = 65536  # rows worked on at once on a CPU: its temporaries stay in the cache


class Fit(NamedTuple):
    """Coefficients of every problem.

    Attributes:
        location: (batch, p).
        log_scale: (batch, q).
        curvature: (batch, p + q, p + q) second derivatives of the penalised negative log-likelihood there; its inverse is the
            covariance of the coefficients.
        information: (batch, p + q) what one average row tells about each coefficient, if the scale were the spread of ``y``: the unit
            of ``ridge``.
        loss: (batch,) negative log-likelihood without the penalty, summed over rows.
        converged: (batch,) bool.
    """

    location: Tensor
    log_scale: Tensor
    curvature: Tensor
    information: Tensor
    loss: Tensor
    converged: Tensor


def fit_location_scale(
    y: Tensor,
    X: Tensor,
    Z: Tensor,
    *,
    family: Family = "normal",
    form: Form = "censored",
    lower: float | None = None,
    upper: float | None = None,
    weights: Tensor | None = None,
    ridge: Tensor | float = 0.0,
    prior: tuple[Tensor, Tensor] | None = None,
    iterations: int = 50,
    tolerance: float = 1e-6,
) -> Fit:
    """Fit ``y ~ F((y - X beta) / exp(Z gamma))`` in every problem of the batch.

    Args:
        y: (batch, n) float32 or float64; NaN is missing.
        X: (batch, n, p) predictors of the location, broadcastable in batch; a row with NaN does not count.
        Z: (batch, n, q) predictors of the log scale, likewise. For short histories centre the columns.
        family: ``normal`` or ``logistic``.
        form: What the bounds do: ``censored`` puts the mass beyond a bound at it, ``truncated`` removes it.
        lower: Lower bound or None.
        upper: Upper bound or None.
        weights: (batch, n) non-negative row weights, default 1.
        ridge: Strength of the prior in observations: 10 counts as ten average rows speaking for it. A number or
            (batch, p + q) broadcastable.
        prior: Location (batch, p) and log-scale (batch, q) coefficients to be drawn to, broadcastable; default zero for the
            location and the logarithm of the spread of ``y`` for the first column of Z, which is taken to be the constant.
        iterations: Most steps.
        tolerance: A problem is done when a further step would gain less log-likelihood than this.

    Returns:
        The coefficients, always finite.

    Raises:
        ForecasterError: Shapes do not agree, or the family or form is unknown.
    """
    if family not in _INFORMATION or form not in ("censored", "truncated"):
        raise ForecasterError(f"Family {family!r}, form {form!r}: expected one of {sorted(_INFORMATION)} and censored or truncated.")
    if y.ndim != 2 or X.ndim != 3 or Z.ndim != 3 or X.shape[1] != y.shape[1] or Z.shape[1] != y.shape[1]:
        raise ForecasterError(f"Expected y (batch, n), X (batch, n, p), Z (batch, n, q); found {y.shape}, {X.shape}, {Z.shape}.")
    batch, n = y.shape
    p, q = X.shape[2], Z.shape[2]
    X, Z = X.expand(batch, n, p), Z.expand(batch, n, q)
    strength = torch.as_tensor(ridge, dtype=y.dtype, device=y.device).expand(batch, p + q)
    if prior is not None:
        prior = (prior[0].to(y).expand(batch, p), prior[1].to(y).expand(batch, q))
    size = batch if y.is_cuda else max(1, _CHUNK_ROWS // max(n, 1))
    parts = []
    for first in range(0, max(batch, 1), max(size, 1)):
        cut = slice(first, first + size)
        given = None if prior is None else (prior[0][cut], prior[1][cut])
        problem = _Problem(
            y[cut], X[cut], Z[cut], family, form, lower, upper, None if weights is None else weights[cut], strength[cut], given
        )
        parts.append(_solve(problem, iterations, tolerance))
    return Fit(*(torch.cat(column) for column in zip(*parts, strict=True)))


class _Problem:
    """Masked rows, prior and penalty of a chunk: (b, n) rows, (b, p, n) and (b, q, n) predictors."""

    def __init__(
        self,
        y: Tensor,
        X: Tensor,
        Z: Tensor,
        family: Family,
        form: Form,
        lower: float | None,
        upper: float | None,
        weights: Tensor | None,
        ridge: Tensor,
        prior: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.family, self.lower, self.upper = family, lower, upper
        self.truncated = form == "truncated" and (lower is not None or upper is not None)
        self.censored = form == "censored" and (lower is not None or upper is not None)
        X, Z = X.mT.contiguous(), Z.mT.contiguous()
        valid = torch.isfinite(y)
        finite_X, finite_Z = torch.isfinite(X), torch.isfinite(Z)
        if not bool(finite_X.all()) or not bool(finite_Z.all()):
            valid = valid & finite_X.all(dim=1) & finite_Z.all(dim=1)
            X, Z = X.masked_fill(~valid[:, None], 0.0), Z.masked_fill(~valid[:, None], 0.0)
        if weights is not None:
            valid = valid & (weights > 0)
        self.plain = weights is None and bool(valid.all())  # every row counts once
        self.y = y if self.plain else y.masked_fill(~valid, 0.0)
        self.X, self.Z = X, Z
        self.w = valid.to(y.dtype) if weights is None else torch.where(valid, weights, 0.0).to(y.dtype)
        self.p, self.q = X.shape[1], Z.shape[1]
        self.count = self.w.sum(dim=1)  # (b,)
        if self.censored:  # which rows sit at a bound; the bound itself is observed as such
            self.low = None if lower is None else (self.y <= lower) & valid
            self.high = None if upper is None else (self.y >= upper) & valid
        self._scale()
        self._prior(ridge, prior)

    def _scale(self) -> None:
        """Spread of y in each problem, one where it has none."""
        total = self.count.clamp(min=1.0)
        mean = (self.w * self.y).sum(dim=1) / total
        spread = ((self.w * (self.y - mean[:, None]) ** 2).sum(dim=1) / total).sqrt()
        self.spread = torch.where(spread > 0, spread, torch.ones_like(spread))

    def _prior(self, ridge: Tensor, prior: tuple[Tensor, Tensor] | None) -> None:
        """Prior mean and its precision, a number of average rows' information; a whisper of it even for ridge 0."""
        unit_location, unit_scale = _INFORMATION[self.family]
        if prior is None:
            gamma = self.y.new_zeros(len(self.y), self.q)
            gamma[:, 0] = self.spread.log()
            prior = (self.y.new_zeros(len(self.y), self.p), gamma)
        self.prior = torch.cat(prior, dim=1)  # (b, K)
        total = self.count.clamp(min=1.0)[:, None]
        sigma = self.y.new_tensor(_DEVIATION[self.family]) * self.spread
        in_location = unit_location * (self.X.square() * self.w[:, None]).sum(dim=-1) / total / (sigma**2)[:, None]
        in_scale = unit_scale * (self.Z.square() * self.w[:, None]).sum(dim=-1) / total
        information = torch.cat([in_location, in_scale], dim=1)  # (b, K), of one average row
        floor = torch.cat([(unit_location / sigma**2)[:, None].expand(-1, self.p), in_scale.new_full((len(self.y), self.q), unit_scale)], 1)
        self.metric = torch.where(information > 1e-12 * floor, information, floor)
        smallest = 1e-6 if self.y.dtype == torch.float64 else 1e-4
        self.precision = (ridge + smallest) * self.metric

    def take(self, index: Tensor) -> _Problem:
        """Some of the problems."""
        part = copy.copy(self)
        for name, found in vars(self).items():
            if isinstance(found, Tensor):
                setattr(part, name, found[index])
        return part

    def start(self) -> Tensor:
        """Least squares for the location, then of the logarithm of its residuals for the scale, both with the prior."""
        p = self.p
        XW = self.X * self.w[:, None]
        gram = XW @ self.X.mT + torch.diag_embed(self.precision[:, :p] * (self.spread**2)[:, None])
        right = (XW * self.y[:, None]).sum(dim=-1) + self.precision[:, :p] * (self.spread**2)[:, None] * self.prior[:, :p]
        beta = _solve_positive(gram, right, self.metric[:, :p] * (self.spread**2)[:, None])
        residual = (self.y - _linear(beta, self.X)).abs()
        rms = ((self.w * residual**2).sum(dim=1) / self.count.clamp(min=1.0)).sqrt()
        rms = torch.where(rms > 0, rms, 1e-3 * self.spread)
        log_residual = residual.clamp_(min=1e-3 * rms[:, None]).log_().sub_(_LOG_ABSOLUTE[self.family])
        ZW = self.Z * self.w[:, None]
        gram = ZW @ self.Z.mT + torch.diag_embed(self.precision[:, p:])
        right = (ZW * log_residual[:, None]).sum(dim=-1) + self.precision[:, p:] * self.prior[:, p:]
        gamma = _solve_positive(gram, right, self.metric[:, p:])
        return torch.where(self.count[:, None] > 0, torch.cat([beta, gamma], dim=1), self.prior)

    def derivatives(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Penalised loss (b,), its gradient (b, K) and second derivatives (b, K, K), and the loss without penalty (b,)."""
        p = self.p
        mu = _linear(theta[:, :p], self.X)  # (b, n)
        log_sigma = _linear(theta[:, p:], self.Z)
        middle = self.spread.log()[:, None]
        log_sigma = torch.clamp(log_sigma, middle - 12.0, middle + 12.0)
        value, g_mu, g_s, h_mm, h_ms, h_ss = self._rows(mu, log_sigma)
        if not self.plain:
            value, g_mu, g_s = value * self.w, g_mu * self.w, g_s * self.w
            h_mm, h_ms, h_ss = h_mm * self.w, h_ms * self.w, h_ss * self.w
        off = theta - self.prior
        loss = value.sum(dim=1)
        gradient = torch.cat([(self.X * g_mu[:, None]).sum(dim=-1), (self.Z * g_s[:, None]).sum(dim=-1)], dim=1) + self.precision * off
        hessian = theta.new_empty(len(theta), p + self.q, p + self.q)
        hessian[:, :p, :p] = (self.X * h_mm[:, None]) @ self.X.mT
        cross = (self.X * h_ms[:, None]) @ self.Z.mT
        hessian[:, :p, p:] = cross
        hessian[:, p:, :p] = cross.mT
        hessian[:, p:, p:] = (self.Z * h_ss[:, None]) @ self.Z.mT
        hessian.diagonal(dim1=1, dim2=2).add_(self.precision)
        return loss + 0.5 * (self.precision * off**2).sum(dim=1), gradient, hessian, loss

    def _rows(self, mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        """Loss of each row and its derivatives by mu and s = log sigma.

        With z = (y - mu) / sigma a row's loss is phi(z) + s, or phi(z) alone at a bound, so that dz = -1/sigma dmu - z ds gives
        all five from phi' and phi''.
        """
        inverse = torch.exp(-log_sigma)
        z = (self.y - mu) * inverse
        phi, first, second = _density(z, self.family)
        if self.censored:
            free = torch.ones_like(z)
            for at_bound, sign in ((self.low, 1.0), (self.high, -1.0)):
                if at_bound is not None:
                    tail, slope, bend = _tail(sign * z, self.family)
                    phi = torch.where(at_bound, tail, phi)
                    first = torch.where(at_bound, sign * slope, first)
                    second = torch.where(at_bound, bend, second)
                    free = torch.where(at_bound, 0.0, free)
            value, g_s = phi + free * log_sigma, free - z * first
        else:
            value, g_s = phi + log_sigma, 1.0 - z * first
        zs = z * second
        g_mu, h_mm, h_ms, h_ss = -first * inverse, second * inverse**2, (first + zs) * inverse, z * (first + zs)
        if self.truncated:
            a = None if self.lower is None else (self.lower - mu) * inverse
            b = None if self.upper is None else (self.upper - mu) * inverse
            log_D, c_m, c_s, c_mm, c_ms, c_ss = _log_mass(a, b, self.family)
            value, g_mu, g_s = value + log_D, g_mu + c_m * inverse, g_s + c_s
            h_mm, h_ms, h_ss = h_mm + c_mm * inverse**2, h_ms + c_ms * inverse, h_ss + c_ss
        return value, g_mu, g_s, h_mm, h_ms, h_ss


def _linear(coefficients: Tensor, predictors: Tensor) -> Tensor:
    """(b, p) times (b, p, n), summed over p; column by column, which for few columns is ten times faster than a batched product."""
    total = coefficients[:, :1] * predictors[:, 0]
    for column in range(1, predictors.shape[1]):
        total.addcmul_(coefficients[:, column : column + 1], predictors[:, column])
    return total


def _density(z: Tensor, family: Family) -> tuple[Tensor, Tensor, Tensor]:
    """-log f(z) and its first two derivatives."""
    if family == "normal":
        return 0.5 * z.square() + 0.5 * math.log(2.0 * math.pi), z, torch.ones_like(z)
    share = torch.sigmoid(z)
    return z - 2.0 * torch.nn.functional.logsigmoid(z), 2.0 * share - 1.0, 2.0 * share * (1.0 - share)


def _tail(z: Tensor, family: Family) -> tuple[Tensor, Tensor, Tensor]:
    """-log F(z) and its first two derivatives."""
    if family == "normal":
        log_cdf = torch.special.log_ndtr(z)
        mills = torch.exp(-0.5 * z.square() - 0.5 * math.log(2.0 * math.pi) - log_cdf)  # f / F
        return -log_cdf, -mills, mills * (z + mills)
    share = torch.sigmoid(z)
    return -torch.nn.functional.logsigmoid(z), share - 1.0, share * (1.0 - share)


def _log_cdf(z: Tensor, family: Family) -> Tensor:
    return torch.special.log_ndtr(z) if family == "normal" else torch.nn.functional.logsigmoid(z)


def _log_mass(a: Tensor | None, b: Tensor | None, family: Family) -> tuple[Tensor, ...]:
    """Log D, D = F(b) - F(a), for standardised bounds, and its derivatives by mu and s in units of sigma = 1."""
    if a is not None and b is not None:
        flip = a > 0  # work in the tail where F is small, so that the difference keeps its digits
        high = _log_cdf(torch.where(flip, -a, b), family)
        low = _log_cdf(torch.where(flip, -b, a), family)
        log_D = high + torch.log(-torch.expm1(torch.clamp(low - high, max=-1e-12)))
    else:
        log_D = _log_cdf(-a if a is not None else b, family)  # type: ignore[arg-type]
    zero = torch.zeros_like(log_D)

    def hazard(bound: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if bound is None:
            return zero, zero, zero
        phi, slope, _ = _density(bound, family)
        return bound, torch.exp(torch.clamp(-phi - log_D, max=60.0)), slope

    a, A, psi_a = hazard(a)
    b, B, psi_b = hazard(b)
    aa, bb, ab = psi_a * A - A**2, -psi_b * B - B**2, A * B
    return (
        log_D,
        A - B,
        a * A - b * B,
        aa + 2.0 * ab + bb,
        a * aa + (a + b) * ab + b * bb - A + B,
        a**2 * aa + 2.0 * a * b * ab + b**2 * bb - a * A + b * B,
    )


class _State(NamedTuple):
    """Where each problem stands: coefficients, penalised loss, gradient, second derivatives, loss, damping and whether it is done."""

    theta: Tensor
    value: Tensor
    gradient: Tensor
    hessian: Tensor
    loss: Tensor
    damping: Tensor
    done: Tensor


def _solve(problem: _Problem, iterations: int, tolerance: float) -> tuple[Tensor, ...]:
    """Damped Newton; after the usual number of steps, problems that are done are left out once they are half."""
    theta = problem.start()
    value, gradient, hessian, loss = problem.derivatives(theta)
    state = _State(theta, value, gradient, hessian, loss, torch.zeros_like(value), torch.zeros_like(value, dtype=torch.bool))
    metric, whole = problem.metric, None
    index = torch.arange(len(theta), device=theta.device)
    for step in range(iterations):
        state = _iterate(problem, state, tolerance)
        left = int((~state.done).sum())
        if left == 0:
            break
        if step >= _USUAL and 2 * left <= len(state.done):
            whole = _merged(whole, index, state)
            keep = torch.nonzero(~state.done)[:, 0]
            index, problem, state = index[keep], problem.take(keep), _State(*(t[keep] for t in state))
    whole = _merged(whole, index, state)
    theta = whole.theta
    return theta[:, : problem.p], theta[:, problem.p :], whole.hessian, metric, whole.loss, whole.done & (whole.damping <= _HOPELESS)


def _merged(whole: _State | None, index: Tensor, part: _State) -> _State:
    """All problems, with those that were worked on last where they now stand."""
    return part if whole is None else _State(*(old.index_copy(0, index, new) for old, new in zip(whole, part, strict=True)))


def _iterate(problem: _Problem, state: _State, tolerance: float) -> _State:
    """One step: full where the loss falls, else more damping in the Fisher metric."""
    scale = problem.metric * problem.count.clamp(min=1.0)[:, None]  # (b, K)
    step, damping = _step(state.hessian, state.gradient, scale, state.damping)
    gain = 0.5 * (state.gradient * step).sum(dim=1)
    done = state.done | (gain < tolerance)
    # No longer than two average standard deviations (or two in log sigma) at once.
    length = ((problem.metric * step**2).sum(dim=1)).sqrt()
    trial = state.theta - step * torch.clamp(2.0 / length.clamp(min=1e-30), max=1.0)[:, None]
    value, gradient, hessian, loss = problem.derivatives(trial)
    slack = 16.0 * torch.finfo(trial.dtype).eps
    better = value <= state.value + slack * (state.value.abs() + problem.count)
    damping = torch.where(better, torch.where(damping > 1e-3, 0.1 * damping, 0.0), torch.clamp(10.0 * damping, min=0.1))
    return _State(
        torch.where(better[:, None], trial, state.theta),
        torch.where(better, value, state.value),
        torch.where(better[:, None], gradient, state.gradient),
        torch.where(better[:, None, None], hessian, state.hessian),
        torch.where(better, loss, state.loss),
        damping,
        done | (damping > _HOPELESS),
    )


def _step(hessian: Tensor, gradient: Tensor, scale: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """(H + damping * scale)^-1 gradient, the damping raised until the matrix is positive definite."""
    identity = torch.eye(hessian.shape[1], dtype=hessian.dtype, device=hessian.device)
    for _ in range(12):
        factor, info = torch.linalg.cholesky_ex(hessian + torch.diag_embed(damping[:, None] * scale))
        failed = (info > 0) | ~torch.isfinite(factor).all(dim=(1, 2))
        if not bool(failed.any()):
            return torch.cholesky_solve(gradient[..., None], factor)[..., 0], damping
        damping = torch.where(failed, torch.clamp(10.0 * damping, min=0.1), damping)
    step = torch.cholesky_solve(gradient[..., None], torch.where(failed[:, None, None], identity, factor))[..., 0]
    return torch.where(failed[:, None], gradient / (scale * (1.0 + damping)[:, None]), step), damping


def _solve_positive(matrix: Tensor, right: Tensor, metric: Tensor) -> Tensor:
    """Solution of a system that is positive but for rounding."""
    step, _ = _step(matrix, right, metric, torch.zeros_like(right[:, 0]))
    return step
