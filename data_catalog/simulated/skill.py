"""What a forecast knows of the truth, by scale and lead.

Per band the correlation of forecast and truth is rho(L) = R0 exp(-(L / T)^1.15); showers are known less well than warmth and flow of the
same scale, as convection is. Written with the odds s = rho / (1 - rho), what a centre
has seen of a wave's true amplitude Z is the path

    X(s) = s Z + B(s),        B a Brownian motion,

and its signal S = X / (1 + s) has E[Z | S] = S and correlation rho with Z (Liptser and Shiryaev, Statistics of Random Processes, ch. 7). As
the lead falls s grows and X goes on from where it was: the newest run knows all that older runs knew, and two successive runs agree as
much as they should. Most of the variance of B is shared by all centres, or the
pool of them would be far too good.

B is kept as independent increments, one for each day on which a forecast starts, so that any run can be had on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from data_catalog.simulated.noise import WET, Band, Floats, Latent, between_knots, normals


@dataclass(frozen=True, slots=True)
class Predictability:
    """How well the bands of a latent field can be known: R0 and T in hours, by band; nothing is known of bands beyond."""

    at_start: tuple[float, ...]
    hours: tuple[float, ...]


AIR_MASS: Final = Predictability((0.93, 0.83, 0.63, 0.34, 0.10), (240.0, 115.0, 48.0, 16.0, 6.0))
SHOWERS: Final = Predictability((0.60, 0.55, 0.42, 0.20, 0.06), (420.0, 80.0, 36.0, 14.0, 6.0))
HORIZON: Final = 384.0
"""Hours; nothing is known beyond."""

SHARED: Final = 0
"""Number of the errors that all centres have in common; a centre's own have its number."""

SHARED_VARIANCE: Final = 0.65
"""Share of the errors' variance that all centres have in common."""

_STREAM, _BRIDGE, _MEMBERS = 64, 128, 192  # streams of the generator; the owner's number is added
_MOST_SKILL: Final = 1.5  # factor on time scales that no centre passes
_NOTHING: Final = 1e-3  # odds that are not worth keeping


def correlation(latent: Latent, band: int, lead: Floats, skill: float = 1.0) -> Floats:
    """Correlation of forecast and truth in a band.

    Args:
        latent: Of which field.
        band: Number of the band; nothing is known of the sub-grid one.
        lead: Hours, shape (time,); below 0 as at 0.
        skill: Factor on the time scale.
    """
    known = SHOWERS if latent == WET else AIR_MASS
    if band >= len(known.hours):
        return np.zeros_like(lead)
    hours = np.clip(lead, 0.0, None)
    end = np.clip(1.0 - (hours / HORIZON) ** 4, 0.0, 1.0)
    return np.asarray(known.at_start[band] * np.exp(-((hours / (known.hours[band] * skill)) ** 1.15)) * end)


def odds(latent: Latent, band: int, lead: Floats, skill: float = 1.0) -> Floats:
    """Odds s = rho / (1 - rho), shape (time,); see :func:`correlation`."""
    rho = correlation(latent, band, lead, skill)
    return rho / (1.0 - rho)


@lru_cache(maxsize=64)
def _days_known(latent: Latent, band: int, skill: float) -> int:
    """How many days before a valid time the first run knows anything of a band."""
    lead = np.arange(0.0, HORIZON + 24.0, 24.0)
    return int(np.flatnonzero(odds(latent, band, lead, skill) > _NOTHING).max(initial=0)) + 1


def path(seed: int, centre: int, latent: Latent, band: Band, init: float, hours: Floats, skill: float) -> Floats:
    """B(s) of a centre's run, shape (time, 2 * modes): its variance is s, and most of it is that of all centres.

    Args:
        seed: The world.
        centre: Number of the centre, > 0.
        latent: Of which latent field.
        band: Of which band.
        init: Start of the run, hours since 1970.
        hours: Valid times >= init, shape (time,).
        skill: The centre's factor on time scales.
    """
    newest, share = divmod(init / 24.0, 1.0)
    day = int(newest)
    starts = np.arange(day - _days_known(latent, band.number, skill), day + 1)
    known = odds(latent, band.number, hours - 24.0 * np.append(starts[0] - 1, starts)[:, None], skill)  # (start, time)
    weights = np.sqrt(np.diff(known, axis=0)).astype(np.float32)
    found = np.zeros((hours.size, 2 * band.modes), dtype=np.float32)
    for start, weight in zip(starts, weights, strict=True):
        found += weight[:, None] * _at(_increment(seed, centre, latent, band, int(start)), band, latent, int(start), hours)
    if share > 0.0:  # between two days' runs: a Brownian bridge from one to the other
        whole = odds(latent, band.number, hours - 24.0 * (day + 1), skill) - known[-1]
        part = odds(latent, band.number, hours - init, skill) - known[-1]
        ratio = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0.0)
        ahead = _at(_increment(seed, centre, latent, band, day + 1), band, latent, day + 1, hours)
        aside = _at(_draws(seed, _BRIDGE + centre, latent, band, round(init)), band, latent, day, hours)
        found += (ratio * np.sqrt(whole)).astype(np.float32)[:, None] * ahead
        found += np.sqrt(np.clip(part * (1.0 - ratio), 0.0, None)).astype(np.float32)[:, None] * aside
    return found


@lru_cache(maxsize=2048)
def _increment(seed: int, centre: int, latent: Latent, band: Band, start: int) -> Floats:
    """What the runs of a day learn anew, at knots: unit variance, partly the same for all centres. Later runs ask for it again."""
    shared, own = (_draws(seed, _STREAM + owner, latent, band, start) for owner in (SHARED, centre))
    found = np.float32(np.sqrt(SHARED_VARIANCE)) * shared + np.float32(np.sqrt(1.0 - SHARED_VARIANCE)) * own
    found.setflags(write=False)
    return found


def _at(draws: Floats, band: Band, latent: Latent, start: int, hours: Floats) -> Floats:
    first = 24.0 * (start - 1)  # the run of the day after ``start`` asks for hours up to a day before its own
    position = np.clip((hours - first) / latent.knot_hours(band), 0.0, draws.shape[0] - 1.001)
    return between_knots(position, draws, 0)


def _draws(seed: int, stream: int, latent: Latent, band: Band, number: int) -> Floats:
    """Draws at knots over the time that a band is known, shape (knot, 2 * modes)."""
    span = min(HORIZON, 24.0 * _days_known(latent, band.number, _MOST_SKILL)) + 72.0
    knots = int(np.ceil(span / latent.knot_hours(band))) + 2
    return normals(seed, (stream, latent.number, band.number), number, (knots, 2 * band.modes))


def member_noise(seed: int, owner: int, latent: Latent, band: Band, init: float, hours: Floats, members: int) -> Floats:
    """The members' own errors, unit variance, shape (time, member, 2 * modes); runs less than a day apart share part of theirs."""
    day, share = divmod(init / 24.0, 1.0)
    angle = share * np.pi / 2.0
    step = latent.knot_hours(band)

    def of(start: int) -> Floats:
        knots = int(np.ceil((24.0 * 13.0) / step)) + 2
        draws = normals(seed, (_MEMBERS + owner, latent.number, band.number), start, (members, knots, 2 * band.modes))
        return between_knots((hours - 24.0 * (start - 1)) / step, draws, 0).swapaxes(0, 1)

    found: Floats = np.cos(angle) * of(int(day))
    return found if share == 0.0 else found + np.sin(angle) * of(int(day) + 1)


def known_together(known: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """What several centres' paths say together of the truth.

    The paths' noises have the correlation :data:`SHARED_VARIANCE`; the best linear combination of X_c / sqrt(s_c) follows in closed form.

    Args:
        known: For each centre its path X, shape (time, n), and its odds s, shape (time,).

    Returns:
        Path and odds that one centre would have that knew as much.
    """
    count = len(known)
    a = SHARED_VARIANCE
    root = [np.sqrt(s) for _, s in known]
    scaled = [x / np.maximum(r, 1e-9)[:, None] for (x, _), r in zip(known, root, strict=True)]
    # The inverse of (1 - a) I + a 1 1^T.
    shared = a / (1.0 + (count - 1) * a)
    together = sum(root)
    path_sum = sum(r[:, None] * y for r, y in zip(root, scaled, strict=True)) - shared * together[:, None] * sum(scaled)
    odds_sum = sum(s for _, s in known) - shared * together**2
    return np.asarray(path_sum / (1.0 - a)), np.asarray(odds_sum / (1.0 - a))


