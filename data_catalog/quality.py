"""Checks before anyone believes a field: what is wrong with it in words, or "" when nothing is.

Limits are wide on purpose: they are there for wrong units, broken decoding and stuck production, and a true extreme passes. What they can
not see is damage that leaves a field as smooth, as variable and as large as weather is; the sha256 of every message is kept so that a
known message that has changed can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.variables import VARIABLES

_VARYING: Final = frozenset(
    {
        "temperature_2m", "temperature_2m_max", "temperature_2m_min", "dew_point_temperature_2m", "wind_u_10m", "wind_v_10m",
        "pressure_reduced_to_mean_sea_level",
    }
)    # fmt: skip
"""Never the same everywhere in a region, nor twice in a row: no rain, a full cover of cloud or night can be."""


def check_field(variable: str, values: np.ndarray, step: float = 0.0) -> str:
    """What is wrong with one field on its own.

    Args:
        variable: A name of the catalog; of others only finiteness is checked.
        values: In catalog units, NaN where missing. (latitude, longitude)
        step: Distance of two neighbouring packed values: coarse packing makes fields constant without anything being wrong.

    Returns:
        The reason in words, or "".
    """
    if np.isinf(values).any():
        return "some values are infinite"
    known = VARIABLES.get(variable)
    present = values[~np.isnan(values)]
    if known is None or not present.size:
        return ""
    low, high = float(present.min()), float(present.max())
    for value, beyond in ((low, low < known.minimum - step), (high, high > known.maximum + step)):
        if beyond:
            return f"{variable} is {value:.6g} {known.units}, outside the believable {known.minimum:g} to {known.maximum:g}"
    if variable in _VARYING and present.size >= 4 and low == high and step < 0.01 * (known.maximum - known.minimum):
        return f"{variable} is {low:.6g} {known.units} everywhere in the region"
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A field among others of its variable and cycle: ``values`` (latitude, longitude), lead in seconds, member, packing step."""

    values: np.ndarray
    lead: int
    member: int
    step: float = 0.0


def check_group(variable: str, fields: Sequence[Placed]) -> dict[int, str]:
    """What is wrong with fields of one variable and cycle beside each other.

    Args:
        variable: A name of the catalog.
        fields: Each on its own plausible (:func:`check_field`).

    Returns:
        The reason in words by place in ``fields``, of those that are not believed.
    """
    return frozen(variable, fields)


def frozen(variable: str, fields: Sequence[Placed]) -> dict[int, str]:
    """Fields that repeat another one bit by bit: the member's step before, or a member with a lower number at the same lead."""
    if variable not in _VARYING:
        return {}
    found: dict[int, str] = {}
    order = sorted(range(len(fields)), key=lambda place: (fields[place].lead, fields[place].member))
    before: dict[int, int] = {}
    seen: dict[tuple[int, bytes], int] = {}
    for place in order:
        one = fields[place]
        if one.values.size < 4 or one.values.min() == one.values.max():
            continue
        last, same = before.get(one.member), seen.setdefault((one.lead, one.values.tobytes()), place)
        if last is not None and np.array_equal(fields[last].values, one.values, equal_nan=True):
            found[place] = f"{variable} is the same at {one.lead / 3600:g} h as at {fields[last].lead / 3600:g} h: production is stuck"
        elif same != place and one.lead > 0:
            found[place] = f"{variable} of member {one.member} is that of member {fields[same].member} at {one.lead / 3600:g} h"
        before[one.member] = place
    return found
