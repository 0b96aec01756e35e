"""The mixture of distributions given by their quantiles: the weighted mean of the CDFs, inverted exactly."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from models.base import LEVELS, ForecasterError

_ROWS: Final = 128  # distributions worked on at once: their temporaries stay in the cache
_POINT: Final = 1e-9  # a quantile step narrower than this share of the range is a point mass


def mixture(quantiles: Sequence[np.ndarray], weights: np.ndarray, levels: np.ndarray = LEVELS) -> np.ndarray:
    """Quantiles of the mixture: the weighted mean of the CDFs, inverted exactly.

    Each CDF is linear between its quantiles, jumps where several levels share a value (a mass at zero rain), and holds the mass
    below the first and above the last level at the first and last quantile. A forecast with a NaN does not take part at that
    place and the other weights are scaled up.

    Args:
        quantiles: K arrays (..., Q), each ascending along the last axis, of any float dtype.
        weights: (K,) or (..., K), non-negative; they need not sum to one.
        levels: (Q,) ascending, in (0, 1).

    Returns:
        (..., Q) in the dtype of the first array, ascending; NaN where no forecast with a weight is whole.

    Raises:
        ForecasterError: No forecast, another number of levels, or a negative weight.
    """
    if not len(quantiles) or quantiles[0].shape[-1] != len(levels):
        found = quantiles[0].shape if len(quantiles) else "no array"
        raise ForecasterError(f"Expected arrays (..., {len(levels)}), found {found}.")
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape[-1] != len(quantiles) or (weights < 0).any():
        raise ForecasterError(f"Expected {len(quantiles)} non-negative weights along the last axis, found shape {weights.shape}.")
    shape = np.broadcast_shapes(*(q.shape for q in quantiles))
    rows = [np.broadcast_to(q, shape).reshape(-1, shape[-1]) for q in quantiles]
    shares = np.broadcast_to(weights, (*shape[:-1], len(rows))).reshape(-1, len(rows))
    out = np.empty((len(shares), shape[-1]), dtype=quantiles[0].dtype)

    def work(first: int) -> None:
        cut = slice(first, first + _ROWS)
        out[cut] = _mix(np.stack([r[cut] for r in rows], axis=1), shares[cut], levels)

    starts = range(0, len(out), _ROWS)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if len(starts) == 1 or threads == 1:
        for first in starts:
            work(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, starts))
    return out.reshape(shape)


def _mix(q: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(n, K, Q) quantiles and (n, K) weights to (n, Q), at the resolution of float32.

    The mixture's CDF is the integral of a density that changes only at the K Q breakpoints, plus jumps there: sort the
    breakpoints, sum up, and look the levels up.
    """
    n, K, Q = q.shape
    whole = np.isfinite(q).all(axis=-1)
    weights = np.where(whole, weights, 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1.0)
    anchor = np.take_along_axis(q, weights.argmax(axis=-1)[:, None, None], axis=1)  # a forecast that takes part
    q = np.where((weights > 0)[..., None], q, anchor).astype(np.float32).astype(np.float64)  # absent ones lie inside the range with no mass
    origin = q[:, :, :1].min(axis=1, keepdims=True)
    extent = np.maximum((q[:, :, -1:] - origin).max(axis=1, keepdims=True), 1e-300)
    step, mass = np.diff(q, axis=-1), np.diff(levels) * weights[..., None]  # (n, K, Q - 1)
    point = step <= _POINT * extent
    slope = np.where(point, 0.0, mass / np.where(point, 1.0, step))
    bend = np.zeros_like(q)  # change of the density at each breakpoint
    bend[..., :-1] = slope
    bend[..., 1:] -= slope
    jump = np.zeros_like(q)
    jump[..., 1:] = np.where(point, mass, 0.0)
    jump[..., 0] += levels[0] * weights
    jump[..., -1] += (1.0 - levels[-1]) * weights
    order = _order(q.reshape(n, K * Q))
    order += np.arange(n)[:, None] * (K * Q)  # into the flat arrays
    x, jump = np.take(q, order), np.take(jump, order)
    density = np.cumsum(np.take(bend, order), axis=-1)
    after = jump.copy()  # F at each breakpoint, its jump included
    rise = np.subtract(x[:, 1:], x[:, :-1])
    rise *= density[:, :-1]
    after[:, 1:] += np.maximum(rise, 0.0, out=rise)
    np.cumsum(after, axis=-1, out=after)
    offset = 2.0 * np.arange(n)[:, None]  # one search over all rows: F is in 0..1
    high = np.searchsorted((after + offset).ravel(), (levels - 1e-12 + offset).ravel()).reshape(n, -1)
    high = np.clip(high - np.arange(n)[:, None] * (K * Q), 0, K * Q - 1)
    low = np.maximum(high - 1, 0)
    end = np.take_along_axis(after, high, axis=-1) - np.take_along_axis(jump, high, axis=-1)
    start = np.take_along_axis(after, low, axis=-1)
    share = np.clip((levels - start) / np.where(end > start, end - start, 1.0), 0.0, 1.0)
    share = np.where(end > start, share, 1.0)
    below = np.take_along_axis(x, low, axis=-1)
    found = below + share * (np.take_along_axis(x, high, axis=-1) - below)
    return np.where(total > 0, np.maximum.accumulate(found, axis=-1), np.nan)


def _order(values: np.ndarray) -> np.ndarray:
    """Indices that sort (n, W) values along the last axis; float32 values and their places sorted as one integer, twice as fast."""
    bits = values.astype(np.float32).view(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # integers in the order of the floats
    key = bits.astype(np.int64)
    key <<= 32
    key |= np.arange(values.shape[-1])
    key.sort(axis=-1)
    key &= 0xFFFFFFFF
    return key
