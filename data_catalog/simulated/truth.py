"""The true state of the simulated atmosphere at any place and time. Forecasters never see it, only gauges and models of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_catalog.simulated import weather
from data_catalog.simulated.climate import Climate
from data_catalog.simulated.noise import BANDS, FLOW, HEAT, WET, Floats, Latent, ride, truth_amplitudes
from data_catalog.simulated.surges import surges


@dataclass(frozen=True, eq=False)
class Truth:
    """What really happens.

    Attributes:
        climate: Its averages.
        seed: The world.
    """

    climate: Climate
    seed: int

    def amplitudes(self, latent: Latent, hours: Floats, bands: int) -> list[Floats]:
        """Amplitudes of the waves on the ground by band, each (time, 1, 2 * modes)."""
        return [
            ride(truth_amplitudes(self.seed, latent, band, hours)[:, None, :], band, hours) for band in BANDS[: min(latent.bands, bands)]
        ]

    def wet(self, hours: Floats, bases: weather.Bases) -> Floats:
        """The rain latent, shape (time, 1, point)."""
        return weather.project(self.amplitudes(WET, hours, len(bases.wet)), self.climate.wet_weights(hours), bases.wet)

    def rain(self, hours: Floats, bases: weather.Bases, *, gauges: bool) -> Floats:
        """Rain of the hour ending at ``hours``, mm, shape (time, 1, point): at gauges, or the mean of cells."""
        rate = weather.gauge_rain if gauges else weather.cell_rain
        return rate(self.climate, bases.points, hours - 0.5, self.wet(hours - 0.5, bases))

    def short_wave(self, hours: Floats, bases: weather.Bases) -> Floats:
        """Mean downward short wave over the hour ending at ``hours``, W m-2, shape (time, 1, point)."""
        return weather.short_wave_hour(self.climate, bases.points, hours, self.wet(hours - 0.5, bases))

    def instants(self, hours: Floats, bases: weather.Bases, rain: Floats) -> dict[str, Floats]:
        """Weather at instants by variable, shape (time, 1, point).

        Args:
            hours: Shape (time,).
            bases: Where.
            rain: Rain of the hour before, mm, shape (time, 1, point).
        """
        flow = self.amplitudes(FLOW, hours, len(bases.flow))
        cold, rush = surges(self.seed, self.climate, hours, bases.points)
        drivers = weather.Drivers(
            wet=self.wet(hours, bases),
            heat=weather.project(self.amplitudes(HEAT, hours, len(bases.heat)), weather.HEAT_WEIGHTS, bases.heat),
            flow=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow),
            flow_east=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow_east),
            flow_north=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow_north),
            cold=cold,
            rush=rush,
            rain=rain,
        )
        return weather.instants(self.climate, bases.points, hours, drivers)

    def weather(self, hours: Floats, bases: weather.Bases, *, gauges: bool) -> dict[str, Floats]:
        """Every variable by name, shape (time, point), float32: instants, and rain and short wave of the hour before."""
        rain = self.rain(hours, bases, gauges=gauges)
        found = self.instants(hours, bases, rain)
        found["precipitation_amount"] = rain
        found["downward_short_wave_radiation_flux_surface"] = self.short_wave(hours, bases)
        return {name: np.asarray(values[:, 0, :], dtype=np.float32) for name, values in found.items()}
