"""Worlds: the published one, and hidden ones with other centres, drawn by ``--world SEED``.

In a hidden world every fault of every centre is another one of the same kind, one centre is upgraded in the middle of the record, and one
station is moved. What was tuned on the published world has to hold there too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from data_catalog.simulated.centres import Centre
from data_catalog.simulated.climate import hours_since_1970
from data_catalog.simulated.noise import normals
from data_catalog.simulated.weather import Faults
from data_catalog.sources import simulated
from data_catalog.stations import Station

PUBLISHED: Final = 1
"""The seed of the world that everybody knows."""

CENTRES: Final[Mapping[str, Centre]] = MappingProxyType(
    {
        # A large ensemble on a coarse grid, with the members of GEFS: no small showers, rain too often and too light, convection early,
        # mountains and city unseen.
        simulated.GLOBAL_EPS: Centre(
            1, 31, 0.45, 1.0,
            Faults(temperature=-0.3, winter_temperature=0.5, day_range=0.85, dryness=0.6, wind=1.10, pressure=40.0, cloud=-0.10, wet=0.34,
                   rain=0.72, early=3.0, surge=0.90, heat=0.60, city=0.0),
            bands=4,
        ),
        # A small one on a fine grid: sharper, warmer, too sure of itself.
        simulated.REGIONAL_EPS: Centre(
            2, 10, 0.30, 1.1,
            Faults(temperature=0.5, winter_temperature=-0.3, day_range=1.10, dryness=-0.5, wind=0.95, pressure=-60.0, cloud=0.15, wet=0.18,
                   rain=1.00, early=1.0, surge=1.05, heat=0.85, city=0.4),
        ),
        # One run of the global model: everything too wet and too windy.
        simulated.GLOBAL_DET: Centre(
            3, 1, 1.0, 0.9,
            Faults(temperature=-0.5, winter_temperature=0.4, day_range=0.90, dryness=0.2, wind=1.20, pressure=20.0, wet=0.28, rain=0.80,
                   early=2.0, surge=0.95, heat=0.70, city=0.0),
        ),
        # A large learned ensemble, with the members of AIFS ENS: skilful and the best spread, but smooth, with weak rain too often.
        simulated.AI_EPS: Centre(
            4, 51, 0.75, 1.3,
            Faults(temperature=0.2, winter_temperature=0.2, day_range=0.92, dryness=0.3, wind=0.85, pressure=-10.0, cloud=0.05, wet=0.19,
                   rain=0.80, early=0.5, surge=0.92, heat=0.80, city=0.2),
            bands=4,
        ),
    }
)  # fmt: skip
"""The centres of the published world by dataset."""

_UPGRADED_SKILL: Final = 1.15
_STREAM: Final = 8
_FIRST_CHANGE: Final = float(hours_since_1970(np.datetime64("2023-01-01")))
_CHANGES_WITHIN: Final = 3.0 * 8766.0  # hours; changes fall into 2023 to 2025
_PUBLISHED_MOVE: Final = ("nam_dinh", float(hours_since_1970(np.datetime64("2024-04-15"))))


@dataclass(frozen=True, eq=False)
class World:
    """What differs from one world to another, beside the weather itself.

    Attributes:
        seed: The world.
        centres: By dataset, as they were at first.
        upgraded: Which dataset was upgraded, and from which hour since 1970 its runs are better; None for none.
        moved: Which station was moved, and at which hour.
    """

    seed: int
    centres: Mapping[str, Centre]
    upgraded: tuple[str, float] | None
    moved: tuple[str, float]

    @classmethod
    def of(cls, seed: int, stations: Sequence[Station]) -> World:
        """The world of a seed."""
        if seed == PUBLISHED:
            return cls(seed, CENTRES, None, _PUBLISHED_MOVE)
        centres = {name: replace(centre, faults=_other_faults(seed, centre)) for name, centre in CENTRES.items()}
        drawn = np.random.Generator(np.random.Philox(key=np.array([seed, _STREAM << 32], dtype=np.uint64))).random(4)
        upgraded = list(centres)[int(drawn[0] * len(centres))]
        station = stations[int(drawn[1] * len(stations))].id
        when = _FIRST_CHANGE + drawn[2:] * _CHANGES_WITHIN
        return cls(seed, centres, (upgraded, float(when[0])), (station, float(when[1])))

    def centre(self, dataset: str, init: float) -> Centre:
        """A centre as it was when a run started, hours since 1970."""
        centre = self.centres[dataset]
        if self.upgraded is None or dataset != self.upgraded[0] or init < self.upgraded[1]:
            return centre
        halved = {
            one.name: one.default + 0.5 * (getattr(centre.faults, one.name) - one.default) for one in fields(Faults)
        }
        return replace(centre, skill=centre.skill * _UPGRADED_SKILL, faults=Faults(**halved))


def _other_faults(seed: int, centre: Centre) -> Faults:
    """Faults of the same size with other values: each fault's distance from none is multiplied by a normal of mean one half."""
    draws = normals(seed, (_STREAM, centre.number, 0), 0, (len(fields(Faults)),))
    factors = np.clip(0.5 + draws, -1.0, 2.0)
    changed = {
        one.name: one.default + float(factor) * (getattr(centre.faults, one.name) - one.default)
        for one, factor in zip(fields(Faults), factors, strict=True)
    }
    return Faults(**changed)
