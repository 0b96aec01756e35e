"""Scores of forecasts of several values at once: stations, hours or variables that belong together."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def energy_score(members: Array, observation: Array, *, fair: bool = False) -> Array:
    """Energy score of an ensemble of vectors, the CRPS where they have one component.

    ES = mean |x_i - y| - sum |x_i - x_j| / (2 K) with the Euclidean norm, K = M^2, or M (M - 1) for the fair form. Components in
    different units have to be scaled by the caller.

    Args:
        members: ``(..., M, D)``.
        observation: ``(..., D)``.
        fair: Whether to use the form that is unbiased for an infinite ensemble.

    Returns:
        ``(...)``; NaN where any component is missing, for the fair form of one member too.

    Raises:
        ValueError: The shapes do not agree.

    References:
        Gneiting and Raftery (2007), JASA 102, eq. 22.
    """
    _check(members, observation)
    size = members.shape[-2]
    total = _norm(members - observation[..., None, :]).sum(-1) / size
    spread = 0.0 * total
    for shift in range(1, size):  # every pair once
        spread = spread + _norm(members[..., shift:, :] - members[..., :-shift, :]).sum(-1)
    pairs = size * (size - 1) if fair else size * size
    found: Array = total - spread / pairs if pairs else total + np.nan
    return found


def variogram_score(
    members: Array, observation: Array, *, order: float = 0.5, weights: Array | None = None, fair: bool = False
) -> Array:
    """Variogram score of an ensemble of vectors, sensitive to a wrong dependence between components.

    VS = sum_ij w_ij (|y_i - y_j|^p - mean_k |x_ki - x_kj|^p)^2; the fair form takes off the sampling variance of the mean, s^2 / M.

    Args:
        members: ``(..., M, D)``.
        observation: ``(..., D)``.
        order: p, one half by default.
        weights: ``(D, D)``, not negative; one everywhere if None. Falling with distance they keep the signal of close pairs.
        fair: Whether to use the form that is unbiased for an infinite ensemble.

    Returns:
        ``(...)``, in units to the power 2 p; NaN where any component is missing, for the fair form of one member too.

    Raises:
        ValueError: The shapes do not agree.

    References:
        Scheuerer and Hamill (2015), Monthly Weather Review 143, 1321-1334.
    """
    _check(members, observation)
    size = members.shape[-2]
    observed = _differences(observation) ** order  # (..., D, D)
    mean, square = 0.0 * observed, 0.0 * observed
    for k in range(size):
        part = _differences(members[..., k, :]) ** order
        mean, square = mean + part / size, square + part * part / size
    squared = (observed - mean) ** 2
    if fair:
        squared = squared - (square - mean * mean) / (size - 1) if size > 1 else squared + np.nan
    if weights is not None:
        squared = squared * weights
    found: Array = squared.sum(-1).sum(-1)
    return found


def _norm(difference: Array) -> Array:
    found: Array = (difference * difference).sum(-1) ** 0.5
    return found


def _differences(values: Array) -> Array:
    found: Array = abs(values[..., :, None] - values[..., None, :])
    return found


def _check(members: Array, observation: Array) -> None:
    expected = (*members.shape[:-2], *members.shape[-1:])
    if members.ndim < 2 or tuple(observation.shape) != expected:
        raise ValueError(
            f"The members have shape {tuple(members.shape)} and the observation {tuple(observation.shape)}; "
            "they have to be (..., M, D) and (..., D)."
        )
