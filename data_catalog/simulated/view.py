"""One picture of the atmosphere: what really happens, or what somebody forecasts. All weather is made of latents and events here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.simulated import events, rain, weather
from data_catalog.simulated.climate import Climate
from data_catalog.simulated.noise import AIR, DRIZZLE, FLOW, WET, Floats, Latent
from data_catalog.simulated.places import Points
from data_catalog.simulated.slots import ONSET, SIZE, Kind
from data_catalog.simulated.weather import Bases, Faults

_NO_DRIZZLE: Final = -9.0


@dataclass(frozen=True, eq=False)
class Hourly:
    """What belongs to hours, each (time, member, point): rain in mm, mean short wave in W m-2, and the latents in their middle.

    Attributes:
        rain: mm.
        short_wave: W m-2.
        wet: Rain latent with what typhoons and stalled rain add.
        drizzle: Drizzle latent above its threshold.
    """

    rain: Floats
    short_wave: Floats
    wet: Floats
    drizzle: Floats

    def at(self, chosen: np.ndarray) -> Hourly:
        """Some of the hours."""
        return Hourly(self.rain[chosen], self.short_wave[chosen], self.wet[chosen], self.drizzle[chosen])


@dataclass(frozen=True, eq=False)
class View(ABC):
    """A picture of the atmosphere.

    Attributes:
        climate: Its averages.
        seed: The world.
    """

    climate: Climate
    seed: int

    @property
    @abstractmethod
    def faults(self) -> Faults:
        """What is wrong every time."""

    @property
    @abstractmethod
    def members(self) -> int:
        """How many members it has; the truth has one."""

    @abstractmethod
    def amplitudes(self, latent: Latent, hours: Floats, bands: int) -> list[Floats]:
        """Amplitudes of the waves on the ground by band, each (time, member, 2 * modes)."""

    @abstractmethod
    def event(self, kind: Kind, slot: int) -> Floats:
        """Parameters of a slot's event, shape (member, parameter)."""

    @property
    @abstractmethod
    def spare_hours(self) -> float:
        """By how much an event may lie outside its slot."""

    def _active(self, kind: Kind, hours: Floats) -> Iterator[tuple[np.ndarray, Floats]]:
        """For each event that matters at some of the hours: which ones, and its parameters."""
        for slot in kind.slots(hours, self.spare_hours):
            parameters = self.event(kind, slot)
            there = parameters[parameters[:, SIZE] > 0.0]
            if there.size:
                since = hours[:, None] - there[:, ONSET]
                active = np.flatnonzero(((since > -kind.before) & (since < kind.after)).any(axis=1))
                if active.size:
                    yield active, parameters

    def _empty(self, hours: Floats, points: Points) -> Floats:
        return np.zeros((hours.size, self.members, points.size))

    def shower_latent(self, hours: Floats, bases: Bases) -> Floats:
        """The rain latent with what typhoons and stalled rain add, shape (time, member, point)."""
        bands = len(bases.wet)
        weights = np.sqrt(rain.band_variance(hours))
        latent = weather.project(self.amplitudes(WET, hours, bands), weights, bases.wet)
        for active, parameters in self._active(events.STALL, hours):
            latent[active] += events.stall(hours[active], bases.points, parameters)
        for active, parameters in self._active(events.TYPHOON, hours):
            latent[active] += events.typhoon(hours[active], bases.points, parameters).latent
        return latent

    def drizzle_excess(self, hours: Floats, bases: Bases) -> Floats:
        """The drizzle latent above its threshold, shape (time, member, point); far below zero outside its season."""
        found = np.full((hours.size, self.members, bases.points.size), _NO_DRIZZLE, dtype=np.float32)
        season = np.flatnonzero(rain.drizzle_season(hours))
        if season.size:
            at = hours[season]
            latent = weather.project(self.amplitudes(DRIZZLE, at, len(bases.drizzle)), weather.DRIZZLE_WEIGHTS, bases.drizzle)
            found[season] = rain.drizzle_excess(at, bases.points, latent)
        return found

    def hourly(self, ends: Floats, bases: Bases) -> Hourly:
        """What belongs to the hours that end at ``ends``."""
        middle, points, faults = ends - 0.5, bases.points, self.faults
        latent, excess = self.shower_latent(middle, bases), self.drizzle_excess(middle, bases)
        shifted = latent + (rain.diurnal(middle, points, faults.early) + faults.wet)[:, None, :].astype(np.float32)
        amount = faults.rain * rain.rate(self.climate, middle, shifted, len(bases.wet)) + rain.drizzle(excess)
        cloud = weather.cloud_fraction(middle, latent, excess, faults)
        return Hourly(amount.astype(np.float32), weather.short_wave_hour(points, ends, cloud).astype(np.float32), latent, excess)

    def drivers(self, hours: Floats, bases: Bases, before: Hourly) -> weather.Drivers:
        """Everything that the weather of instants is made of.

        Args:
            hours: Shape (time,).
            bases: Where.
            before: Of the hours that end at ``hours``, or nearly so.
        """
        points = bases.points
        flow = self.amplitudes(FLOW, hours, len(bases.flow))
        cold, rush, hot = (self._empty(hours, points) for _ in range(3))
        for active, parameters in self._active(events.SURGE, hours):
            colder, harder = events.surge(hours[active], points, parameters)
            cold[active] += colder
            rush[active] += harder
        for active, parameters in self._active(events.HEAT, hours):
            hot[active] += events.heat(hours[active], points, parameters)
        fall, east, north = (self._empty(hours, points) for _ in range(3))
        for active, parameters in self._active(events.TYPHOON, hours):
            vortex = events.typhoon(hours[active], points, parameters)
            fall[active] += vortex.fall
            east[active] += vortex.east
            north[active] += vortex.north
        return weather.Drivers(
            wet=before.wet,
            air=weather.project(self.amplitudes(AIR, hours, len(bases.air)), weather.AIR_WEIGHTS, bases.air),
            flow=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow),
            flow_east=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow_east),
            flow_north=weather.project(flow, weather.FLOW_WEIGHTS, bases.flow_north),
            drizzle=before.drizzle,
            cold=cold,
            rush=rush,
            hot=hot,
            fall=fall,
            vortex_east=east,
            vortex_north=north,
            rain=before.rain,
        )

    def instants(self, hours: Floats, bases: Bases, before: Hourly) -> dict[str, Floats]:
        """Weather at instants by variable, shape (time, member, point); see :meth:`drivers`."""
        return weather.instants(self.climate, bases.points, hours, self.drivers(hours, bases, before), self.faults)

    def temperature(self, hours: Floats, bases: Bases, before: Hourly) -> Floats:
        """Temperature at instants alone, shape (time, member, point): what daily extremes are taken from."""
        return weather.temperature(self.climate, bases.points, hours, self.drivers(hours, bases, before), self.faults)
