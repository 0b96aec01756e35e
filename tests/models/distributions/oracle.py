"""Scores by quadrature of the density alone, independent of every closed form under test."""

from __future__ import annotations

import math

import numpy as np
import scipy.stats
from numpy.polynomial import legendre

_NODES, _WEIGHTS = legendre.leggauss(16)
_TO_COEFFICIENTS = np.linalg.inv(legendre.legvander(_NODES, 15))
_INTEGRAL = np.stack([legendre.legval(_NODES, legendre.legint(column, lbnd=-1)) for column in _TO_COEFFICIENTS.T], axis=1)
"""Maps the values of a function at the nodes to its integral from -1 to each node."""


def frozen(name, location, scale, df=None):
    if name == "normal":
        return scipy.stats.norm(location, scale)
    if name == "logistic":
        return scipy.stats.logistic(location, scale)
    return scipy.stats.t(df, location, scale)


def edges_between(start, stop, centre, scale, *points):
    """Panel edges: finest around the centre and around every point, where the integrand bends."""
    grid = np.concatenate([np.logspace(-14, -4, 20), np.sinh(np.linspace(0.0, 18.0, 72)) * 1e-3])
    around = [p + sign * scale * grid for p in (centre, *points) for sign in (-1, 1)]
    edges = np.concatenate([[start, stop], *around])
    return np.unique(edges[(edges >= start) & (edges <= stop)])


def crps(log_pdf, y, start, stop, centre, scale, masses=None, window=(-math.inf, math.inf)):
    """The integrals of (F - 1{y <= x})^2 over the window for observations y (n,), for a density between start and stop.

    With masses at the two ends the density is taken as it is; without it is normalised, as that of a truncated distribution.
    """
    y = np.asarray(y, dtype=float)
    inside = np.clip(y, start, stop)
    shown = [p for p in (*window, start, stop) if math.isfinite(p) and start <= p <= stop]
    edges = edges_between(start, stop, centre, scale, *inside, *shown)
    half = 0.5 * np.diff(edges)[:, None]
    x = edges[:-1, None] + half * (1.0 + _NODES)
    log_f = log_pdf(x)
    f = np.exp(log_f - (0.0 if masses else log_f.max()))
    piece = (f * half) @ _WEIGHTS
    mass_start, mass_stop = masses or (0.0, 0.0)
    norm = 1.0 if masses else piece.sum()
    before = np.concatenate([[0.0], np.cumsum(piece)[:-1]])[:, None]
    after = np.concatenate([np.cumsum(piece[::-1])[::-1][1:], [0.0]])[:, None]
    within = (f @ _INTEGRAL.T) * half
    cdf = mass_start + (before + within) / norm
    sf = mass_stop + (after + piece[:, None] - within) / norm
    low, high = window
    kept = (edges[:-1, None] >= low) & (edges[1:, None] <= high)
    below, above = (((side**2 * kept * half) @ _WEIGHTS) for side in (cdf, sf))
    left = edges[:-1] < inside[:, None]  # (observation, panel)
    outside = np.maximum(0.0, np.minimum(start, high) - np.maximum(y, low)) + np.maximum(0.0, np.minimum(y, high) - np.maximum(stop, low))
    return np.where(left, below, above).sum(axis=1) + np.where((y < start) | (y > stop), outside, 0.0)
