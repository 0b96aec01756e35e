"""How sure is a difference between two forecasts, when one day's errors resemble the next day's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats


def automatic_lags(n: int) -> int:
    """Lags of a Bartlett window for n steps, floor(4 (n / 100)^(2/9)) (Newey and West 1994, Rev. Economic Studies 61)."""
    return int(4.0 * (n / 100.0) ** (2.0 / 9.0))


@dataclass(frozen=True, eq=False)
class DieboldMariano:
    """Test of equal expected scores.

    Attributes:
        mean: Mean difference; negative where the first forecast is better.
        standard_error: Of the mean, with the autocorrelation of the differences.
        statistic: Corrected for a small sample; compared with Student's t.
        p_value: Two-sided.
    """

    mean: np.ndarray
    standard_error: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray


def diebold_mariano(difference: np.ndarray, *, horizon: int = 1, lags: int | None = None) -> DieboldMariano:
    """Test whether two forecasts have the same expected score.

    The variance of the mean is that of Newey and West with a Bartlett window; the statistic is corrected as by Harvey, Leybourne and
    Newbold and compared with Student's t with n - 1 degrees of freedom. Missing steps keep their place and count as unknown.

    Args:
        difference: ``(..., n)``, score of the first less score of the second, at equal steps of time; NaN is missing.
        horizon: Steps a forecast reaches ahead, so that errors of ``horizon - 1`` steps overlap.
        lags: Lags of the window; the larger of ``horizon - 1`` and :func:`automatic_lags` if None.

    Returns:
        Arrays ``(...)``: NaN where fewer than two differences are known, p = 1 where all are zero.

    Raises:
        ValueError: ``horizon`` is below one or ``lags`` below zero.

    References:
        Diebold and Mariano (1995), J. Business and Economic Statistics 13; Harvey et al. (1997), Int. J. Forecasting 13.
    """
    d = np.asarray(difference, dtype=float)
    width = max(horizon - 1, automatic_lags(d.shape[-1])) if lags is None else lags
    if horizon < 1 or width < 0:
        raise ValueError(f"The horizon is {horizon} and the lags {lags}; they have to be at least 1 and 0.")
    known = ~np.isnan(d)
    n = known.sum(axis=-1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, d, 0.0).sum(axis=-1) / n
        e = np.where(known, d - mean[..., None], 0.0)
        variance = (e * e).sum(axis=-1) / n
        for lag in range(1, min(width, d.shape[-1] - 1) + 1):
            weight = 1.0 - lag / (width + 1.0)
            variance = variance + 2.0 * weight * (e[..., lag:] * e[..., :-lag]).sum(axis=-1) / n
        error = np.sqrt(np.maximum(variance, 0.0) / n)
        correction = np.sqrt(np.maximum(n + 1.0 - 2.0 * horizon + horizon * (horizon - 1.0) / n, 0.0) / n)
        statistic = np.where((mean == 0.0) & (error == 0.0), 0.0, correction * mean / error)
        enough = n >= 2
        p_value = 2.0 * scipy.stats.t.sf(np.abs(statistic), np.maximum(n - 1.0, 1.0))
    error, statistic, p_value = (np.where(enough, v, np.nan) for v in (error, statistic, p_value))
    return DieboldMariano(mean, error, statistic, p_value)


def block_bootstrap(
    values: np.ndarray, *, block: int, resamples: int, seed: int, kind: Literal["stationary", "moving"] = "stationary"
) -> np.ndarray:
    """Means of resampled series, whole blocks of neighbouring steps drawn together.

    Scores that are finished from several means (a ratio of spread to error) get an interval by finishing each resample.

    Args:
        values: ``(n, ...)``, one row a step of time; NaN is left out of the means.
        block: Length of a block in steps, its mean for ``stationary``; longer than the errors' memory.
        resamples: How many series to draw.
        seed: Makes them reproducible.
        kind: ``stationary``: lengths are geometric and the series is a circle (Politis and Romano 1994, JASA 89). ``moving``: all
            blocks have the same length (Kuensch 1989, Ann. Statistics 17).

    Returns:
        ``(resamples, ...)``; NaN where a resample has no known value.

    Raises:
        ValueError: The block is not between one and n.
    """
    x = np.asarray(values, dtype=float)
    n = x.shape[0]
    if not 1 <= block <= n:
        raise ValueError(f"The block is {block} steps of {n}; it has to be between 1 and {n}.")
    random = np.random.default_rng(seed)
    if kind == "stationary":
        starts = random.random((resamples, n)) < 1.0 / block
        starts[:, 0] = True
        begun = np.maximum.accumulate(np.where(starts, np.arange(n), 0), axis=1)  # step at which the block in force began
        index = (np.take_along_axis(random.integers(0, n, (resamples, n)), begun, axis=1) + np.arange(n) - begun) % n
    else:
        first = random.integers(0, n - block + 1, (resamples, -(-n // block)))
        index = (first[:, :, None] + np.arange(block)).reshape(resamples, -1)[:, :n]
    times = np.stack([np.bincount(row, minlength=n) for row in index]).astype(float)  # (resample, step)
    known = ~np.isnan(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.tensordot(times, np.where(known, x, 0.0), axes=1) / np.tensordot(times, known.astype(float), axes=1)
    return found


def block_standard_error(values: np.ndarray, *, block: int) -> np.ndarray:
    """Standard error of a mean over time, from the sums of overlapping blocks.

    Args:
        values: ``(n, ...)``, one row a step of time; NaN is missing.
        block: Length of a block in steps; one gives the error of independent steps.

    Returns:
        ``(...)``; NaN where nothing is known.

    Raises:
        ValueError: The block is not between one and n - 1.

    References:
        Meketon and Schmeiser (1984), overlapping batch means, Winter Simulation Conference.
    """
    x = np.asarray(values, dtype=float)
    n = x.shape[0]
    if not 1 <= block < n:
        raise ValueError(f"The block is {block} steps of {n}; it has to be between 1 and {n - 1}.")
    known = ~np.isnan(x)
    count = known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        e = np.where(known, x - np.where(known, x, 0.0).sum(axis=0) / count, 0.0)
        through = np.concatenate([np.zeros((1, *x.shape[1:])), e.cumsum(axis=0)])
        sums = through[block:] - through[:-block]
        variance = n * n / (block * (n - block + 1.0) * (n - block)) * (sums * sums).sum(axis=0)  # of the sum over all steps
        found: np.ndarray = np.sqrt(variance) / count
    return found


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted so that calling those below q significant keeps the expected share of false calls below q.

    Args:
        p_values: Any shape; NaN is left out and stays.

    Returns:
        Adjusted values in the same shape.

    References:
        Benjamini and Hochberg (1995), J. Royal Statistical Society B 57; Wilks (2016), BAMS 97, for its use on maps.
    """
    p = np.asarray(p_values, dtype=float)
    known = ~np.isnan(p)
    adjusted = np.full(p.shape, np.nan)
    adjusted[known] = scipy.stats.false_discovery_control(p[known]) if known.any() else 0.0
    return adjusted
