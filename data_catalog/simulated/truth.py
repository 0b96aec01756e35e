"""The true state of the simulated atmosphere at any place and time. Forecasters never see it, only gauges and models of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_catalog.simulated.noise import BANDS, Floats, Latent, ride, truth_amplitudes
from data_catalog.simulated.slots import Kind
from data_catalog.simulated.view import View
from data_catalog.simulated.weather import Bases, Faults


@dataclass(frozen=True, eq=False)
class Truth(View):
    """What really happens."""

    @property
    def faults(self) -> Faults:
        """None."""
        return Faults()

    @property
    def members(self) -> int:
        """One."""
        return 1

    @property
    def spare_hours(self) -> float:
        """Events lie in their slots."""
        return 0.0

    def amplitudes(self, latent: Latent, hours: Floats, bands: int) -> list[Floats]:
        """Amplitudes of the waves on the ground by band, each (time, 1, 2 * modes)."""
        return [
            ride(truth_amplitudes(self.seed, latent, band, hours)[:, None, :], band, hours) for band in BANDS[: min(latent.bands, bands)]
        ]

    def event(self, kind: Kind, slot: int) -> Floats:
        """What happens in a slot, shape (1, parameter)."""
        return kind.true(self.seed, slot)[None, :]

    def weather(self, hours: Floats, bases: Bases) -> dict[str, Floats]:
        """Every variable by name, shape (time, point), float32.

        Interval variables are of the hour before; the extremes of temperature are those of its two ends and its middle.
        """
        hourly = self.hourly(hours, bases)
        found = self.instants(hours, bases, hourly)
        around = [found["temperature_2m"], *(self.temperature(hours - back, bases, hourly) for back in (0.5, 1.0))]
        found["temperature_2m_max"] = np.max(around, axis=0)
        found["temperature_2m_min"] = np.min(around, axis=0)
        found["precipitation_amount"] = hourly.rain
        found["precipitation_surface"] = hourly.rain / np.float32(3600.0)
        found["downward_short_wave_radiation_flux_surface"] = hourly.short_wave
        return {name: values[:, 0, :] for name, values in found.items()}
