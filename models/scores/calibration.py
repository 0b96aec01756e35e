"""Is a forecast as often right as it says: PIT, rank histograms, coverage, and the ratio of spread to error.

Everything starts from the interval [F(y-), F(y)]: a point where F is continuous at the observation, the mass at the observation
otherwise, as for the dry half of a rain forecast. An instrument that reads to a resolution r says only that the value lay within r / 2 of
the reading, and the interval is [F(y - r/2), F(y + r/2)]: a gauge that shows nothing does not rule out a drizzle too small for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats

from models.base import LEVELS


def cdf_interval_ensemble(members: np.ndarray, observation: np.ndarray, *, resolution: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """F(y-) and F(y) of the empirical distribution of the members.

    Args:
        members: ``(..., M)``; NaN members are left out.
        observation: ``(...)``.
        resolution: Of the reading, in its units; 0 takes it as exact.

    Returns:
        The shares of members below, and not above, the observation, each ``(...)``; NaN where either is missing.
    """
    below, equal, count = _places(members, observation, resolution)
    with np.errstate(invalid="ignore", divide="ignore"):
        return below / count, (below + equal) / count


def cdf_interval_quantiles(
    quantiles: np.ndarray, observation: np.ndarray, levels: np.ndarray = LEVELS, *, resolution: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """F(y-) and F(y) of a forecast given by quantiles, linear between them and constant beyond.

    Args:
        quantiles: ``(..., Q)``, ascending; equal ones make a mass, and the first carries all that lies below the first level.
        observation: ``(...)``.
        levels: ``(Q,)``, ascending in 0..1.
        resolution: Of the reading, in its units; 0 takes it as exact.

    Returns:
        Two arrays ``(...)``, equal where F is continuous at the observation; NaN where anything is missing.

    Raises:
        ValueError: There is not one quantile for every level.
    """
    q, y = np.asarray(quantiles, dtype=float), np.asarray(observation, dtype=float)
    if q.shape[-1] != levels.shape[0]:
        raise ValueError(f"There are {q.shape[-1]} quantiles and {levels.shape[0]} levels; give one quantile a level.")
    missing = np.isnan(y) | np.isnan(q).any(axis=-1)
    ends = ((np.less, y - 0.5 * resolution), (np.less_equal, y + 0.5 * resolution))
    before, at = (
        np.where(missing, np.nan, _interpolate(q, end, levels, compare(q, end[..., None]).sum(axis=-1))) for compare, end in ends
    )
    return before, at


def _interpolate(q: np.ndarray, y: np.ndarray, levels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """F between the quantiles ``index - 1`` and ``index``, zero before the first and one after the last."""
    size = levels.shape[0]
    low, high = np.clip(index - 1, 0, size - 2), np.clip(index, 1, size - 1)
    q_low, q_high = (np.take_along_axis(q, i[..., None], axis=-1)[..., 0] for i in (low, high))
    inside = (index > 0) & (index < size)
    share = (y - q_low) / np.where(inside, q_high - q_low, 1.0)
    return np.where(inside, levels[low] + share * (levels[high] - levels[low]), np.where(index == 0, 0.0, 1.0))


def pit(lower: np.ndarray, upper: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Probability integral transform, uniform for a calibrated forecast.

    Args:
        lower: F(y-), ``(...)``.
        upper: F(y), ``(...)``.
        seed: Draws uniformly from [F(y-), F(y)], reproducibly; None takes the middle, which is uniform only without masses.

    Returns:
        ``(...)`` in 0..1; NaN stays.

    References:
        Gneiting and Ranjan (2013), Electronic J. Statistics 7, for the randomised transform.
    """
    share = 0.5 if seed is None else np.random.default_rng(seed).uniform(size=np.shape(lower))
    found: np.ndarray = lower + share * (upper - lower)
    return found


def pit_histogram(lower: np.ndarray, upper: np.ndarray, bins: int = 20) -> np.ndarray:
    """Share of probability in each of equal bins, every mass [F(y-), F(y)] spread evenly over its interval rather than by chance.

    Args:
        lower: F(y-), any shape; NaN is left out.
        upper: F(y), the same shape.
        bins: Number of bins.

    Returns:
        ``(bins,)``, summing to one; about 1 / bins each for a calibrated forecast.

    Raises:
        ValueError: No pair is known.

    References:
        Czado, Gneiting and Held (2009), Biometrics 65.
    """
    known = np.isfinite(lower) & np.isfinite(upper)
    if not known.any():
        raise ValueError("There is no known interval [F(y-), F(y)]; a histogram needs at least one.")
    low, high = lower[known], upper[known]
    edges = np.linspace(0.0, 1.0, bins + 1)
    inner = edges[1:-1]
    mass = high > low
    spread = np.clip((inner - low[mass][:, None]) / (high - low)[mass][:, None], 0.0, 1.0).sum(axis=0)
    reached = np.searchsorted(np.sort(low[~mass]), inner, side="right") + spread
    return np.diff(np.concatenate([[0.0], reached / known.sum(), [1.0]]))


def coverage(lower: np.ndarray, upper: np.ndarray, probability: float) -> np.ndarray:
    """Share of [F(y-), F(y)] inside the central interval [(1 - p) / 2, (1 + p) / 2], case by case; its mean is the coverage.

    A mass at the observation counts by the part of it that lies inside, so that dry forecasts on dry days are not over-covered.

    Args:
        lower: F(y-), ``(...)``.
        upper: F(y), ``(...)``.
        probability: Nominal coverage p in 0..1.

    Returns:
        ``(...)`` in 0..1; the mean is p for a calibrated forecast. NaN stays.

    Raises:
        ValueError: p is not between 0 and 1.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"The nominal coverage is {probability}; it has to lie between 0 and 1 (not in per cent).")
    low, high = 0.5 * (1.0 - probability) - 1e-12, 0.5 * (1.0 + probability) + 1e-12  # a share such as 1 / 20 may be an end itself
    width = upper - lower
    mass = width > 0.0
    inside = np.clip(np.minimum(upper, high) - np.maximum(lower, low), 0.0, None) / np.where(mass, width, 1.0)
    point = (upper >= low) & (upper <= high)
    return np.where(np.isnan(width), np.nan, np.where(mass, inside, point))


def rank(members: np.ndarray, observation: np.ndarray, seed: int) -> np.ndarray:
    """Rank of the observation among the members, 0..M, ties broken by chance.

    Args:
        members: ``(..., M)``, all present; a case with a missing member has no rank.
        observation: ``(...)``.
        seed: Makes the chance reproducible.

    Returns:
        ``(...)`` as float, NaN where anything is missing.

    References:
        Hamill (2001), Monthly Weather Review 129.
    """
    below, equal, count = _places(members, observation)
    drawn = np.floor(np.random.default_rng(seed).uniform(size=below.shape) * (equal + 1.0))
    return np.where(count == members.shape[-1], below + drawn, np.nan)


def rank_histogram(ranks: np.ndarray, size: int) -> np.ndarray:
    """How often each rank 0..size occurs, ``(size + 1,)``.

    Args:
        ranks: From :func:`rank`; NaN is left out.
        size: Number of members.
    """
    return np.bincount(ranks[np.isfinite(ranks)].astype(int), minlength=size + 1)


@dataclass(frozen=True)
class Flatness:
    """Tests of a histogram against the uniform: each has about a chi-square distribution if the forecast is calibrated.

    Attributes:
        chi_square: Pearson's statistic, with as many degrees of freedom as bins less one.
        p_value: Chance of one as large.
        slope: Part of it, one degree of freedom, that a straight slope explains (a bias).
        slope_p_value: Chance of one as large.
        bend: Part of it, one degree of freedom, of a U or a hump (wrong spread).
        bend_p_value: Chance of one as large.
        bias: Mean of the ranks scaled to 0..1, less one half; positive where the forecast is too low.
        dispersion: Variance of the scaled ranks over that of the uniform; above one where the spread is too small.
    """

    chi_square: float
    p_value: float
    slope: float
    slope_p_value: float
    bend: float
    bend_p_value: float
    bias: float
    dispersion: float


def flatness(counts: np.ndarray) -> Flatness:
    """Test a rank or PIT histogram for flatness.

    Pearson's statistic sum (n_i - e)^2 / e splits over orthonormal contrasts of the bins; the linear and the quadratic one show a
    bias and a wrong spread that the whole would dilute. Cases are taken to be independent: pass counts of thinned cases otherwise.

    Args:
        counts: ``(k,)``, k >= 3 bins.

    Raises:
        ValueError: Fewer than three bins, or no case.

    References:
        Jolliffe and Primo (2008), Monthly Weather Review 136.
    """
    counts = np.asarray(counts, dtype=float)
    bins, total = counts.size, counts.sum()
    if bins < 3 or total <= 0.0:
        raise ValueError(f"The histogram has {bins} bins and {total:g} cases; a test of flatness needs three bins and one case.")
    expected = total / bins
    deviation = (counts - expected) / np.sqrt(expected)
    place = (np.arange(bins) + 0.5) / bins
    contrasts = np.linalg.qr(np.vander(place - 0.5, 3, increasing=True))[0][:, 1:]
    slope, bend = (float(part) for part in (contrasts.T @ deviation) ** 2)
    chi_square = float(deviation @ deviation)
    bias = float(counts @ place / total - 0.5)
    variance = float(counts @ (place - 0.5 - bias) ** 2 / total)
    chi2 = scipy.stats.chi2
    return Flatness(
        chi_square=chi_square,
        p_value=float(chi2.sf(chi_square, bins - 1)),
        slope=slope,
        slope_p_value=float(chi2.sf(slope, 1)),
        bend=bend,
        bend_p_value=float(chi2.sf(bend, 1)),
        bias=bias,
        dispersion=variance / (float(np.mean((place - 0.5) ** 2))),
    )


def spread_error(variance: np.ndarray, squared_error: np.ndarray, size: int | np.ndarray) -> float:
    """Ratio of spread to error, one for a calibrated ensemble: sqrt((M + 1) / M mean variance / mean squared error of the mean).

    Args:
        variance: Sample variances of the members (divisor M - 1), any shape; NaN is left out.
        squared_error: Squared errors of the ensemble mean, the same shape.
        size: Number of members M, one for all or one a case.

    Returns:
        The ratio; NaN without a case, inf for a forecast without error.

    References:
        Fortin, Abaza, Anctil and Turcotte (2014), J. Hydrometeorology 15.
    """
    known = np.isfinite(variance) & np.isfinite(squared_error)
    if not known.any():
        return float("nan")
    count = np.broadcast_to(np.asarray(size, dtype=float), known.shape)[known]
    with np.errstate(divide="ignore"):
        return float(np.sqrt(np.mean((count + 1.0) / count * variance[known]) / np.mean(squared_error[known])))


def _places(members: np.ndarray, observation: np.ndarray, resolution: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many members are below the observation, read as it, and there at all; NaN where the observation or all are missing."""
    y, half = np.asarray(observation)[..., None], 0.5 * resolution
    count = (~np.isnan(members)).sum(axis=-1).astype(float)
    count = np.where(np.isnan(y[..., 0]) | (count == 0.0), np.nan, count)
    below = members < y - half
    return below.sum(axis=-1) + 0.0 * count, (~below & (members <= y + half)).sum(axis=-1) + 0.0 * count, count
