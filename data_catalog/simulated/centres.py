"""Imperfect forecast centres: what each knows of the truth by scale and lead, and what it has wrong.

Per band the correlation of forecast and truth is rho(L) = R0 exp(-(L / T)^1.15). The signal

    S = rho Z + sqrt(rho (1 - rho)) (sqrt(1/2) E_all + sqrt(1/2) E_centre)

is such that E[Z | S] = S, with half of the error variance shared between centres. A member is

    (S + sqrt(d (1 - rho)) e_m) / sqrt(rho + d (1 - rho))

where d = 1 would be a perfect ensemble and smaller ones are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.simulated import weather
from data_catalog.simulated.climate import hours_since_1970
from data_catalog.simulated.noise import (
    BANDS,
    FLOW,
    HEAT,
    RESOLVED,
    WET,
    Band,
    Floats,
    Latent,
    between_knots,
    normals,
    ride,
    truth_amplitudes,
)
from data_catalog.simulated.surges import surges, timing_normals
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.weather import Faults

_SKILL_AT_START: Final = (0.97, 0.92, 0.80, 0.50, 0.20)
_SKILL_HOURS: Final = (190.0, 90.0, 45.0, 18.0, 7.0)
_ERROR_STREAM: Final = 16  # and the centre's number on top of it
_SHARED: Final = 0  # the number of the errors that all centres have in common
_SPAN_HOURS: Final = 24.0 * 13  # errors of a day's forecasts reach from a day before it to 12 days after


@dataclass(frozen=True, slots=True)
class Centre:
    """One forecast centre.

    Attributes:
        number: 1, 2, ...: part of the generator's key.
        members: How many it runs.
        spread: d of the error model, 0 to 1; 1 for a single member, which then looks like real weather.
        skill: Factor on the time scales of predictability.
        faults: What it has wrong every time.
    """

    number: int
    members: int
    spread: float
    skill: float
    faults: Faults


def correlation(band: int, lead: Floats, skill: float = 1.0) -> Floats:
    """Correlation of forecast and truth in a band.

    Args:
        band: Number of the band, below :data:`~data_catalog.simulated.noise.RESOLVED`.
        lead: Hours, >= 0, shape (time,).
        skill: Factor on the time scale.
    """
    rho: Floats = _SKILL_AT_START[band] * np.exp(-((np.clip(lead, 0.0, None) / (_SKILL_HOURS[band] * skill)) ** 1.15))
    return rho


@dataclass(frozen=True, eq=False)
class Forecast:
    """One centre's forecast from one init time, of any of its hours, anywhere.

    Attributes:
        truth: What the centre tries to forecast.
        centre: Who forecasts.
        init: Hours since 1970, UTC.
    """

    truth: Truth
    centre: Centre
    init: float

    @classmethod
    def of(cls, truth: Truth, centre: Centre, init_time: np.datetime64) -> Forecast:
        """The forecast that starts at a time."""
        return cls(truth, centre, float(hours_since_1970(init_time)))

    def amplitudes(self, latent: Latent, hours: Floats, bands: int) -> list[Floats]:
        """Amplitudes of the members' waves on the ground by band, each (time, member, 2 * modes)."""
        return [self._band(latent, band, hours) for band in BANDS[: min(latent.bands, bands)]]

    def _band(self, latent: Latent, band: Band, hours: Floats) -> Floats:
        rho = correlation(band.number, hours - self.init, self.centre.skill)[:, None, None]
        spread = self.centre.spread * (1.0 - rho)
        true = truth_amplitudes(self.truth.seed, latent, band, hours)[:, None, :]
        shared = self._errors(_SHARED, latent, band, hours, 1)
        own = self._errors(self.centre.number, latent, band, hours, self.centre.members + 1)
        signal = rho * true + np.sqrt(0.5 * rho * (1.0 - rho)) * (shared + own[:, :1])
        members = (signal + np.sqrt(spread) * own[:, 1:]) / np.sqrt(rho + spread)
        return ride(members.astype(np.float32), band, hours)

    def _errors(self, owner: int, latent: Latent, band: Band, hours: Floats, count: int) -> Floats:
        """Unit-variance errors, shape (time, count, 2 * modes); forecasts less than a day apart share part of theirs."""
        day, share = divmod(self.init / 24.0, 1.0)
        angle = share * np.pi / 2.0
        errors: Floats = np.cos(angle) * self._day_errors(owner, latent, band, hours, count, int(day))
        if share > 0.0:
            errors = errors + np.sin(angle) * self._day_errors(owner, latent, band, hours, count, int(day) + 1)
        return errors

    def _day_errors(self, owner: int, latent: Latent, band: Band, hours: Floats, count: int, day: int) -> Floats:
        knots = int(np.ceil(_SPAN_HOURS / (band.knot_hours * latent.slow))) + 2
        stream = (_ERROR_STREAM + owner, latent.number, band.number)
        draws = normals(self.truth.seed, stream, day, (count, knots, 2 * band.modes))
        position = (hours - (day - 1) * 24.0) / (band.knot_hours * latent.slow)
        return between_knots(position, draws, 0).swapaxes(0, 1)

    def _surge_error(self, hours: Floats) -> Callable[[int], tuple[Floats, Floats]]:
        """Lateness of 2 h, and 1.6 h more a day, and size within a tenth; partly shared, and too alike among the members."""
        day = int(self.init // 24.0)
        lead_days = np.clip(hours - self.init, 0.0, None)[:, None] / 24.0
        members = self.centre.members

        def error(slot: int) -> tuple[Floats, Floats]:
            shared = timing_normals(self.truth.seed, _SHARED, day, slot, 1)
            own = timing_normals(self.truth.seed, self.centre.number, day, slot, members + 1)
            drawn = np.sqrt(0.3) * (shared + own[:1]) + np.sqrt(0.4 * self.centre.spread) * own[1:]  # (member, 2)
            return (2.0 + 1.6 * lead_days) * drawn[:, 0], 1.0 + 0.1 * np.clip(drawn[:, 1], -3.0, 3.0)

        return error

    def _wet(self, hours: Floats, bases: weather.Bases) -> Floats:
        return weather.project(self.amplitudes(WET, hours, RESOLVED), self.truth.climate.wet_weights(hours), bases.wet)

    def instants(self, hours: Floats, bases: weather.Bases, rain: Floats) -> dict[str, Floats]:
        """Weather at instants by variable, shape (time, member, point).

        Args:
            hours: Hours since 1970, shape (time,).
            bases: Cells.
            rain: Rain of the hour before, mm, shape (time, member, point).
        """
        climate, faults = self.truth.climate, self.centre.faults
        flow = self.amplitudes(FLOW, hours, len(bases.flow))
        cold, rush = surges(self.truth.seed, climate, hours, bases.points, self._surge_error(hours))
        drivers = weather.Drivers(
            wet=self._wet(hours, bases),
            heat=weather.project(self.amplitudes(HEAT, hours, len(bases.heat)), weather.HEAT_WEIGHTS, bases.heat),
            flow=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow),
            flow_east=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow_east),
            flow_north=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow_north),
            cold=cold,
            rush=rush,
            rain=rain,
        )
        return weather.instants(climate, bases.points, hours, drivers, faults)

    def weather(self, lead_hours: tuple[int, ...], bases: weather.Bases) -> dict[str, Floats]:
        """Every variable of a forecast.

        Args:
            lead_hours: Leads wanted, ascending.
            bases: Cells.

        Returns:
            By variable, shape (lead, member, point), float32. Rain is in mm and short wave in W m-2 over the hours since the lead before
            (the first lead's interval begins at 0); at lead 0 both are NaN.
        """
        climate, faults, points = self.truth.climate, self.centre.faults, bases.points
        leads = np.array(lead_hours)
        ends = self.init + np.arange(1.0, leads[-1] + 1.0)
        wet = self._wet(ends - 0.5, bases)
        rain = weather.cell_rain(climate, points, ends - 0.5, wet, faults)
        short_wave = weather.short_wave_hour(climate, points, ends, wet, faults)
        latest = rain[np.maximum(leads - 1, 0)]
        found = self.instants(self.init + leads.astype(np.float64), bases, latest)
        found["precipitation_amount"] = _over_steps(rain, leads)
        steps = np.diff(leads, prepend=0).astype(np.float64)[:, None, None]
        with np.errstate(invalid="ignore"):
            found["downward_short_wave_radiation_flux_surface"] = _over_steps(short_wave, leads) / steps
        return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


def _over_steps(hourly: Floats, leads: np.ndarray) -> Floats:
    """Sums from the lead before to each lead, shape (lead, member, point); NaN at lead 0."""
    total = np.full((leads.size, *hourly.shape[1:]), np.nan)
    before = 0
    for number, lead in enumerate(leads):
        if lead > before:
            total[number] = hourly[before:lead].sum(axis=0)
        before = lead
    return total
