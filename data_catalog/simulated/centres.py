"""Imperfect forecast centres: how much of the truth each sees, how its members scatter, and what it has wrong.

With the signal S and correlation rho of :mod:`data_catalog.simulated.skill`, a member's wave amplitude is

    (S + sqrt(d (1 - rho)) e_m) / sqrt(rho + d (1 - rho))

where d = 1 would be a perfect ensemble and smaller ones are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.simulated.climate import Climate, hours_since_1970
from data_catalog.simulated.noise import BANDS, Band, Floats, Latent, ride, truth_amplitudes
from data_catalog.simulated.skill import correlation, known_together, member_noise, odds, path
from data_catalog.simulated.slots import Kind, Sight
from data_catalog.simulated.view import View
from data_catalog.simulated.weather import Bases, Faults

_BLOCK: Final = 2_000_000
"""Values that are worked on at once: hours times members times points. A run of 51 members then needs half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Centre:
    """One forecast centre.

    Attributes:
        number: 1, 2, ..., below 64: part of the generator's key.
        members: How many it runs.
        spread: d of the error model, 0 to 1; 1 for a single member, which then looks like real weather.
        skill: Factor on the time scales of predictability.
        faults: What it has wrong every time.
        bands: How many bands of the rain latent it resolves.
    """

    number: int
    members: int
    spread: float
    skill: float
    faults: Faults
    bands: int = len(BANDS) - 1


def _signal_path(seed: int, centre: Centre, latent: Latent, band: Band, init: float, hours: Floats) -> tuple[Floats, Floats]:
    """What a centre has seen of a band: its path X, shape (time, 2 * modes), and the odds s, shape (time,)."""
    known = odds(latent, band.number, hours - init, centre.skill)
    noise = path(seed, centre.number, latent, band, init, hours, centre.skill)
    seen = known[:, None] * truth_amplitudes(seed, latent, band, hours) + noise
    return seen, known


@dataclass(frozen=True, eq=False)
class Forecast(View):
    """One centre's forecast from one init time, of any of its hours, anywhere.

    Attributes:
        centre: Who forecasts.
        init: Hours since 1970, UTC.
    """

    centre: Centre
    init: float

    @classmethod
    def of(cls, climate: Climate, seed: int, centre: Centre, init_time: np.datetime64) -> Forecast:
        """The forecast that starts at a time."""
        return cls(climate, seed, centre, float(hours_since_1970(init_time)))

    @property
    def faults(self) -> Faults:
        """The centre's."""
        return self.centre.faults

    @property
    def members(self) -> int:
        """As many as the centre runs."""
        return self.centre.members

    @property
    def spare_hours(self) -> float:
        """Three standard deviations of the worst timing."""
        return 150.0

    def amplitudes(self, latent: Latent, hours: Floats, bands: int) -> list[Floats]:
        """Amplitudes of the members' waves on the ground by band, each (time, member, 2 * modes)."""
        return [self._band(latent, band, hours) for band in BANDS[: min(latent.bands, bands)]]

    def _band(self, latent: Latent, band: Band, hours: Floats) -> Floats:
        rho = correlation(latent, band.number, hours - self.init, self.centre.skill)[:, None]
        spread = self.centre.spread * (1.0 - rho)
        signal = _signal_path(self.seed, self.centre, latent, band, self.init, hours)[0] * (1.0 - rho)
        return _scattered(self, latent, band, hours, signal / np.sqrt(rho + spread), np.sqrt(spread / (rho + spread)), self.centre.number)

    def event(self, kind: Kind, slot: int) -> Floats:
        """What the members see in a slot, shape (member, parameter)."""
        number = self.centre.number
        return Sight(self.seed, number, (number,), self.init, self.members, self.centre.spread).events(kind, slot)

    def weather(self, lead_hours: tuple[int, ...], bases: Bases) -> dict[str, Floats]:
        """Every variable of a forecast.

        Args:
            lead_hours: Leads wanted, ascending.
            bases: Cells.

        Returns:
            By variable, shape (lead, member, point), float32. Rain is in mm and short wave in W m-2 over the hours since the lead before
            (the first lead's interval begins at 0); at lead 0 both are NaN.
        """
        leads = np.array(lead_hours)
        a_block = max(_BLOCK // (self.members * bases.points.size), 24)  # hours
        starts = np.flatnonzero(np.diff(np.maximum(leads - 1, 0) // a_block)) + 1
        pieces, before = [], 0
        for block in np.split(leads, starts):
            pieces.append(self._block(block, before, bases))
            before = int(block[-1])
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _block(self, leads: np.ndarray, before: int, bases: Bases) -> dict[str, Floats]:
        """The same of leads in a row; ``before`` is the lead before the first."""
        hourly = self.hourly(self.init + np.arange(before + 1.0, max(leads[-1], before + 1) + 1.0), bases)
        last = hourly.at(np.maximum(leads - before - 1, 0))
        found = self.instants(self.init + leads.astype(np.float64), bases, last)
        found["precipitation_amount"] = _over_steps(hourly.rain, leads, before)
        steps = np.diff(leads, prepend=before).astype(np.float64)[:, None, None]
        with np.errstate(invalid="ignore"):
            found["downward_short_wave_radiation_flux_surface"] = _over_steps(hourly.short_wave, leads, before) / steps
        return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


def _scattered(
    view: Forecast | Attainable, latent: Latent, band: Band, hours: Floats, mean: Floats, sd: Floats, owner: int
) -> Floats:
    """Members around a mean (time, 2 * modes) with a standard deviation (time, 1), carried to the ground."""
    noise = member_noise(view.seed, owner, latent, band, view.init, hours, view.members)
    return ride(mean.astype(np.float32)[:, None, :] + sd.astype(np.float32)[:, None, :] * noise, band, hours)


@dataclass(frozen=True, eq=False)
class Attainable(View):
    """What a perfect forecaster would say that had all centres' newest runs before it and knew their errors' law: the ceiling.

    Its members are draws from the distribution of the truth given the centres' signals, without any fault, at gauges with their
    sub-grid noise. It is for evaluation alone.

    Attributes:
        centres: Whose runs are known.
        init: Hours since 1970, UTC.
        count: How many members are drawn.
    """

    centres: tuple[Centre, ...]
    init: float
    count: int

    _OWNER = 60  # of the members' errors; centres are numbered below it

    @property
    def faults(self) -> Faults:
        """None."""
        return Faults()

    @property
    def members(self) -> int:
        """As many as asked for."""
        return self.count

    @property
    def spare_hours(self) -> float:
        """As for any forecast."""
        return 150.0

    def amplitudes(self, latent: Latent, hours: Floats, bands: int) -> list[Floats]:
        """Amplitudes of the members' waves on the ground by band, each (time, member, 2 * modes)."""
        return [self._band(latent, band, hours) for band in BANDS[: min(latent.bands, bands)]]

    def _band(self, latent: Latent, band: Band, hours: Floats) -> Floats:
        paths = [_signal_path(self.seed, centre, latent, band, self.init, hours) for centre in self.centres]
        seen, known = known_together(paths)
        rest = 1.0 / (1.0 + known)[:, None]
        return _scattered(self, latent, band, hours, seen * rest, np.sqrt(rest), self._OWNER)

    def event(self, kind: Kind, slot: int) -> Floats:
        """What the members see in a slot, shape (member, parameter)."""
        centres = tuple(centre.number for centre in self.centres)
        return Sight(self.seed, self._OWNER, centres, self.init, self.members, 1.0).events(kind, slot)


def _over_steps(hourly: Floats, leads: np.ndarray, before: int) -> Floats:
    """Sums from the lead before to each lead, shape (lead, member, point), of hours after ``before``; NaN at lead 0."""
    total = np.full((leads.size, *hourly.shape[1:]), np.nan)
    begins = np.concatenate([[before], leads[:-1]]) - before
    for number, (begin, end) in enumerate(zip(begins, leads - before, strict=True)):
        if end > begin:
            total[number] = hourly[begin:end].sum(axis=0)
    return total
