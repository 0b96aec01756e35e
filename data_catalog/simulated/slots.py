"""Events of the atmosphere: at most one in each slot of time, a pure function of the slot's number.

An event is a vector of parameters, among them its onset. A forecast sees the true event, or another one drawn in its place, and it sees
the parameters with errors:

- *Known or not.* Each slot has one number u. What all centres see is the true slot where u < exp(-(L / T)^1.5), L being the lead of the
  true onset, and otherwise an independent slot of the same season. So false alarms are as likely as misses, the switch happens once as the
  event draws near, and all centres make it together.
- *Errors.* A centre's parameters are off by sigma(L) (sqrt(1/2) n_all + sqrt(1/2) n_centre). Members scatter about that by sqrt(d) sigma(L)
  and follow it with the probability exp(-(L / T)^1.5)^d; d < 1 is too narrow and too sure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import ndtr

from data_catalog.simulated.noise import YEAR_HOURS, Floats, normals

ONSET: Final = 0
"""Place of the onset, hours since 1970, among the parameters of every event."""

SIZE: Final = 1
"""Place of the size, 0 where a slot has no event."""

_DRAW, _SURPRISE, _ERROR, _OTHER = 2, 32, 33, 34  # streams of the generator; the kind's number is the second part
SHARED: Final = 0
"""Number of the errors that all centres have in common, where others have the centre's."""


class Kind(ABC):
    """A kind of event.

    Attributes:
        number: Part of the generator's key.
        hours: Length of a slot.
        before: Hours before its onset from which an event matters.
        after: Hours after its onset until which it does.
        known_hours: T of the chance that a forecast knows of it.
    """

    number: int
    hours: float
    before: float
    after: float
    known_hours: float

    @abstractmethod
    def draw(self, generator: np.random.Generator, slot: int) -> Floats:
        """Parameters of a slot's event, shape (parameter,): onset, size (0: none) and what else there is."""

    @abstractmethod
    def error(self, lead_days: float, parameters: Floats) -> Floats:
        """Standard deviation of a forecast's parameters, shape (parameter,)."""

    def true(self, seed: int, slot: int) -> Floats:
        """What really happens in a slot, shape (parameter,)."""
        return _drawn(self, seed, 0, 0, slot)

    def other(self, seed: int, owner: int, run: int, slot: int) -> Floats:
        """What could have happened instead; ``owner`` and ``run`` tell one alternative from another."""
        return _drawn(self, seed, owner + 1, run, slot)

    def slots(self, hours: Floats, spare: float = 0.0) -> range:
        """Numbers of the slots whose event may matter at any of these hours."""
        first = int((hours.min() - self.after - spare) // self.hours)
        last = int((hours.max() + self.before + spare) // self.hours)
        return range(max(first, 0), last + 1)


@lru_cache(maxsize=4096)
def _drawn(kind: Kind, seed: int, owner: int, run: int, slot: int) -> Floats:
    stream = _DRAW if owner == 0 else _OTHER
    key = np.array([seed, (stream << 32) | (kind.number << 24) | owner], dtype=np.uint64)
    counter = np.array([0, 0, run, slot], dtype=np.uint64)
    parameters = kind.draw(np.random.Generator(np.random.Philox(key=key, counter=counter)), slot)
    parameters.setflags(write=False)
    return parameters


def month_of(hour: float) -> int:
    """Month of an hour since 1970, 0 to 11, of a year of twelve equal months."""
    return min(int(hour % YEAR_HOURS / (YEAR_HOURS / 12.0)), 11)


@dataclass(frozen=True, slots=True)
class Sight:
    """How one forecast sees events.

    Attributes:
        seed: The world.
        owner: Number by which its members' own errors are drawn, below 64.
        centres: Numbers of the centres whose errors it has: one, or all of them where what they know together is wanted.
        init: Start of the forecast, hours since 1970.
        members: How many members it has.
        spread: d, 0 to 1.
    """

    seed: int
    owner: int
    centres: tuple[int, ...]
    init: float
    members: int
    spread: float

    def known(self, kind: Kind, slot: int) -> float:
        """Chance that the true event of a slot is seen at this lead."""
        return float(np.exp(-((self._lead(kind, slot) / kind.known_hours) ** 1.5)))

    def _lead(self, kind: Kind, slot: int) -> float:
        return max(float(kind.true(self.seed, slot)[ONSET]) - self.init, 0.0)

    def events(self, kind: Kind, slot: int) -> Floats:
        """Parameters as each member sees them, shape (member, parameter)."""
        seed, known, run = self.seed, self.known(kind, slot), int(self.init // 24.0)
        surprise = float(ndtr(normals(seed, (_SURPRISE, kind.number, 0), slot, (1,))[0]))
        seen = kind.true(seed, slot) if surprise < known else kind.other(seed, SHARED, 0, slot)
        chances = ndtr(self._normals(kind, slot, run, self.owner, (self.members, 1))[:, 0])
        follows = chances < known**self.spread
        parameters = np.tile(seen, (self.members, 1))
        for member in np.flatnonzero(~follows):
            parameters[member] = kind.other(seed, self.owner * 256 + int(member) + 1, run % 65536, slot)
        if not parameters[:, SIZE].any():
            return parameters
        lead_days = self._lead(kind, slot) / 24.0
        common = self._normals(kind, slot, 0, SHARED, (1, 1, seen.size))[0]
        own = np.mean([self._normals(kind, slot, run, 128 + centre, (1, 1, seen.size))[0] for centre in self.centres], axis=0)
        scatter = self._normals(kind, slot, run, 64 + self.owner, (self.members, 1, seen.size))[:, 0]
        shown = np.sqrt(0.5) * (common + own)
        # What several centres know together is closer to the truth, and their members scatter less.
        narrow = np.sqrt(0.5 + 0.5 / len(self.centres))
        sd = np.stack([kind.error(lead_days, row) for row in parameters])
        moved = parameters + sd * (np.where(follows[:, None], shown, 0.0) + np.sqrt(self.spread) * narrow * scatter)
        moved[:, SIZE] = np.where(parameters[:, SIZE] > 0.0, np.maximum(moved[:, SIZE], 0.0), 0.0)
        return np.asarray(moved)

    def _normals(self, kind: Kind, slot: int, run: int, owner: int, shape: tuple[int, ...]) -> Floats:
        return normals(self.seed, (_ERROR * 64 + kind.number, owner, run % 65536), slot, shape)
