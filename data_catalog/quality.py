"""Checks before anyone believes a field: what is wrong with it in words, or "" when nothing is.

Limits are wide on purpose: they are there for wrong units, broken decoding and stuck production, and a true extreme passes.

A flipped bit in a packed payload is caught where it leaves a trace. Two in five make a CCSDS stream undecodable; one in the rest of it
moves up to three global rows by one constant, caught from about 2 K, 0.5 m s-1 or 10 Pa on (:func:`shifted_rows`); one in simple or
complex packing changes one point, caught when it stands far out (:func:`check_field`). What stays below cannot be told from weather by
looking at it: the sha256 of every file is kept in the manifest, so that a known file that has changed can be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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


_FAR: Final[Mapping[str, float]] = {
    "temperature_2m": 12.0,
    "temperature_2m_max": 15.0,
    "temperature_2m_min": 15.0,
    "dew_point_temperature_2m": 18.0,
    "relative_humidity_2m": 60.0,
    "wind_u_10m": 25.0,
    "wind_v_10m": 25.0,
    "pressure_reduced_to_mean_sea_level": 2500.0,
    "precipitable_water": 40.0,
}
"""How far one point never lies from those around it, nor the mean over a region from that of the other members, or of the steps around."""

_SLACK: Final = 0.05            # of the believable range, how far coarse packing may carry a value beyond it
_SPIKES: Final = 5.0            # a point may stand out this many times the usual, however far that is
_SPREADS: Final = 12.0          # a member may be this many robust standard deviations away, however far that is


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
    slack = min(step, _SLACK * (known.maximum - known.minimum))    # a damaged header may say that values lie any distance apart
    for value, beyond in ((low, low < known.minimum - slack), (high, high > known.maximum + slack)):
        if beyond:
            return f"{variable} is {value:.6g} {known.units}, outside the believable {known.minimum:g} to {known.maximum:g}"
    if variable in _VARYING and present.size >= 4 and low == high and step < 0.01 * (known.maximum - known.minimum):
        return f"{variable} is {low:.6g} {known.units} everywhere in the region"
    if variable in _FAR:
        spikes = np.abs(values - _neighbours(values))
        spikes = spikes[np.isfinite(spikes)]
        spike = float(spikes.max(initial=0.0))
        if spike > _FAR[variable] and spike > _SPIKES * float(np.median(spikes)):
            return f"{variable} differs at one point by {spike:.4g} {known.units} from the points around it"
    return ""


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Median of the eight points around each point, fewer at the edges, shape (latitude, longitude)."""
    padded = np.pad(values.astype(np.float64), 1, constant_values=np.nan)
    down, across = values.shape
    around = [padded[row : row + down, column : column + across] for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    stacked = np.sort(np.stack(around), axis=0)         # NaN last
    count = np.isfinite(stacked).sum(axis=0)
    places = np.clip(np.stack([(count - 1) // 2, count // 2]), 0, 7)
    median: np.ndarray = np.take_along_axis(stacked, places, axis=0).mean(axis=0)
    return median


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
    return outlying(variable, fields) | shifted_rows(variable, fields) | frozen(variable, fields)


_ENOUGH: Final = 5              # fields that say together what is usual


def outlying(variable: str, fields: Sequence[Placed]) -> dict[int, str]:
    """Fields whose mean lies far from all other members at their lead, or for one step alone from the member's steps before and after."""
    if variable not in _FAR:
        return {}
    far, units = _FAR[variable], VARIABLES[variable].units
    means = np.array([np.nanmean(one.values) for one in fields])
    found: dict[int, str] = {}
    for lead, places in _grouped(one.lead for one in fields).items():
        away = np.abs(means[places] - np.median(means[places]))
        limit = max(far, _SPREADS * 1.4826 * float(np.median(away)))
        if len(places) >= _ENOUGH:
            found |= {
                places[at]: f"{variable} lies {away[at]:.4g} {units} from the other members at {lead / 3600:g} h"
                for at in np.flatnonzero(away > limit)
            }
    for member, places in _grouped(one.member for one in fields).items():
        steps = sorted(places, key=lambda place: fields[place].lead)
        for before, place, after in zip(steps, steps[1:], steps[2:], strict=False):
            up, down = means[place] - means[before], means[after] - means[place]
            if min(abs(up), abs(down)) > far and up * down < 0:
                found[place] = f"{variable} of member {member} jumps by {up:.4g} {units} at {fields[place].lead / 3600:g} h and back"
    return found


_SMOOTH: Final = frozenset(_FAR) - {"relative_humidity_2m"}
_ROWS: Final = 12.0          # robust standard deviations; simulated weather reaches ten in thirteen thousand fields
_LONG: Final = 8              # points in a row from which one height along all of it is unusual; of fewer, weather bends alike
_FLAT: Final = 0.004         # of the farthest that a point may stand out: a step below 0.05 K or 10 Pa does no harm


def shifted_rows(variable: str, fields: Sequence[Placed]) -> dict[int, str]:
    """Fields in which neighbouring rows stand apart by one constant along their whole length: a damaged packed stream, not weather.

    The step between two rows is compared with the steps beside it, and with what is usual there in the other members at the lead, or in
    all fields (coasts and mountains are the same in all). Weather has steps too, but not of one height from end to end of a row.

    Args:
        variable: A name of the catalog; only smooth ones are checked.
        fields: Five or more, of eight rows and columns or more, else nothing is usual.

    Returns:
        The reason by place in ``fields``.
    """
    shapes = {one.values.shape for one in fields}
    if variable not in _SMOOTH or len(fields) < _ENOUGH or len(shapes) != 1 or min(next(iter(shapes))) < _LONG:
        return {}
    values = np.stack([one.values for one in fields]).astype(np.float64)      # (field, row, column)
    steps = np.diff(values, axis=1)
    bends = steps.copy()
    bends[:, 1:-1] -= (steps[:, :-2] + steps[:, 2:]) / 2
    bends[:, 0] -= steps[:, 1]
    bends[:, -1] -= steps[:, -2]
    leads = _grouped(one.lead for one in fields).values()
    for places in leads if min(map(len, leads)) >= _ENOUGH else [list(range(len(fields)))]:
        bends[places] -= np.median(bends[places], axis=0)
    height, unevenness = bends.mean(axis=2), bends.std(axis=2)
    usual = 1.4826 * np.median(np.abs(height), axis=0)
    packing = np.array([one.step for one in fields])[:, None]
    odd = (np.abs(height) > _ROWS * usual + 2 * packing + _FLAT * _FAR[variable]) & (np.abs(height) > 2 * unevenness)
    units = VARIABLES[variable].units
    return {
        int(place): f"{variable}: rows stand apart by {np.abs(height[place]).max():.3g} {units} along their whole length: damaged packing"
        for place in np.flatnonzero(odd.any(axis=1))
    }


def _grouped(keys: Iterable[int]) -> dict[int, list[int]]:
    """Places by key."""
    found: dict[int, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        found[key].append(place)
    return found


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


def repeated(variable: str, values: np.ndarray, before: np.ndarray) -> str:
    """Why a field is not believed that is, bit by bit, the one at the same lead of another cycle; "" where it is another one.

    Args:
        variable: A name of the catalog.
        values: The field. (latitude, longitude)
        before: That of the cycle before, NaN where it has none. (latitude, longitude)
    """
    if variable not in _VARYING or values.size < 4 or not np.array_equal(values, before):
        return ""
    return f"{variable} is that of the cycle before: production is stuck"
