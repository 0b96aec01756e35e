"""Totals as providers give them, to amounts over consecutive intervals.

ECMWF's totals run from the start of the forecast, NCEP's in buckets of six hours that each step reaches further into, and one file may
hold both. All of them say how much a running total rises between two leads; where they connect leads, the running total is known there,
and its differences are the amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_catalog.errors import QualityError


@dataclass(frozen=True, slots=True, eq=False)
class Total:
    """An amount over an interval.

    Attributes:
        start: Seconds after the reference time.
        end: Likewise, later than ``start``.
        values: Amount. (latitude, longitude)
        error: What ``values`` may be off by: their packing step, and the rounding of 32-bit numbers.
        rank: Where totals contradict each other, the lower rank is believed: 0 for what just came, 1 for what was there before.
    """

    start: int
    end: int
    values: np.ndarray
    error: float = 0.0
    rank: int = 0


def deaccumulate(totals: np.ndarray, tolerance: Sequence[float] | float) -> np.ndarray:
    """Amounts between the ends of growing totals that start together.

    Packing rounds each total on its own, so that one may fall below the one before it. The running totals are made monotone by the
    smallest change that keeps the last one: T'_k = min(max(T_1..T_k), T_n). So no amount is negative and the amounts of the window add up
    to its last total.

    Args:
        totals: From the common start to each end, ends ascending; a missing value makes those behind it missing. (step, ...)
        tolerance: How far a total may fall below the one before by packing alone, one for all or one for each step.

    Returns:
        The amount of each step, float64, not negative. (step, ...)

    Raises:
        QualityError: A total falls by more than packing explains; ``step`` of the error is the first such step.
    """
    running = np.asarray(totals, dtype=np.float64)
    allowed = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), running.shape[:1])
    steps = np.diff(running, axis=0, prepend=np.zeros_like(running[:1]))
    for step, (rise, limit) in enumerate(zip(steps, allowed, strict=True)):
        fall = -float(np.nanmin(rise, initial=0.0))
        if fall > limit:
            raise _FallingError(step, fall, float(limit))
    monotone = np.minimum(np.maximum.accumulate(np.maximum(running, 0.0), axis=0), np.maximum(running[-1:], 0.0))
    return np.diff(monotone, axis=0, prepend=np.zeros_like(running[:1]))


class _FallingError(QualityError):
    """A running total that falls by more than packing explains."""

    def __init__(self, step: int, fall: float, limit: float) -> None:
        super().__init__(f"a running total falls by {fall:.4g} where packing explains {limit:.4g}")
        self.step = step


def to_intervals(totals: Sequence[Total]) -> tuple[list[Total], list[tuple[int, str]]]:
    """Amounts over consecutive intervals from any totals, overlapping or not.

    Each total joins two leads. Leads that are joined, directly or over others, share one running total; its rises between neighbouring
    leads are the amounts. Of totals that say the same twice the newer, then the shorter is believed: it was packed more finely.

    Args:
        totals: Of one variable and member.

    Returns:
        The amounts in the order of their end, and (end, reason) for those that had to be left out because totals contradict each other.
    """
    amounts: list[Total] = []
    refused: list[tuple[int, str]] = []
    for leads, running, errors in _running_totals(totals):
        first = 0
        while first < len(leads) - 1:
            try:
                rises = deaccumulate(running[first + 1 :] - running[first], errors[first + 1 :])
            except _FallingError as error:
                bad = first + 1 + error.step
                # Which of the two totals is wrong cannot be told: the intervals that end and start at either are left out.
                amounts += _amounts(leads, running, errors, first, bad - 2)
                refused += [(lead, str(error)) for lead in leads[max(first + 1, bad - 1) : bad + 2]]
                first = bad + 1
            else:
                amounts += [
                    Total(leads[first + step], leads[first + step + 1], rise, errors[first + step + 1]) for step, rise in enumerate(rises)
                ]
                break
    return sorted(amounts, key=lambda amount: (amount.end, amount.start)), sorted(refused)


def _amounts(leads: list[int], running: np.ndarray, errors: list[float], first: int, last: int) -> list[Total]:
    """Amounts between the leads ``first`` and ``last`` (places in ``leads``), which are known not to fall."""
    if last <= first:
        return []
    rises = deaccumulate(running[first + 1 : last + 1] - running[first], errors[first + 1 : last + 1])
    return [Total(leads[first + step], leads[first + step + 1], rise, errors[first + step + 1]) for step, rise in enumerate(rises)]


def _running_totals(totals: Sequence[Total]) -> list[tuple[list[int], np.ndarray, list[float]]]:
    """For each group of joined leads: the leads, the running total at each from the first on, and the packing error of each rise."""
    group: dict[int, int] = {}          # lead -> group
    at: dict[int, np.ndarray] = {}      # lead -> running total within its group, up to a constant
    error: dict[int, float] = {}
    for total in sorted(totals, key=lambda one: (one.rank, one.end - one.start, one.end)):
        for lead in (total.start, total.end):
            if lead not in group:
                group[lead], at[lead], error[lead] = lead, np.zeros(total.values.shape), 0.0
        kept, moved = group[total.start], group[total.end]
        if kept == moved:
            continue                    # says nothing that is not known
        shift = at[total.start] + total.values - at[total.end]
        for lead in [lead for lead, own in group.items() if own == moved]:
            group[lead], at[lead] = kept, at[lead] + shift
        error[total.end] = max(error[total.end], total.error)
        error[total.start] = max(error[total.start], total.error if total.start else 0.0)
    found = []
    for own in sorted(set(group.values())):
        leads = sorted(lead for lead, other in group.items() if other == own)
        errors = [0.0, *(error[before] + error[after] for before, after in pairwise(leads))]
        found.append((leads, np.stack([at[lead] - at[leads[0]] for lead in leads]), errors))
    return found
