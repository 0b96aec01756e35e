"""The values an EDR query asks for, read from one cycle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from data_catalog.dimensions import LATITUDE, LONGITUDE, STATION
from serving.api.cycles import Index, NotKeptError
from serving.api.edr.ask import Area
from serving.api.edr.collection import Collection
from serving.api.problems import ProblemError

MOST_VALUES: Final[Mapping[str, int]] = {"CoverageJSON": 500_000, "GeoJSON": 100_000, "CSV": 100_000}
"""In one answer, by format: a few megabytes. Who needs more reads the store."""
QUICK_VALUES: Final = 4000
"""So many are written in less time than it takes to hand the work to a thread and back."""
NEAR_KM: Final = 25.0
"""A station speaks for no point further away."""
DEGREE_KM: Final = 111.195
"""Length of a degree on a sphere of 6371 km."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Values at one place, or on a part of the grid.

    Attributes:
        longitude: Of the place, shape (1,), or of the columns.
        latitude: Of the place, shape (1,), or of the rows.
        values: By parameter: (custom dimensions..., time) at a place, (custom..., time, row, column) on a grid; NaN outside an area.
        id: Of a station, else empty.
        name: For people.
        inside: Cells inside the area (row, column); None at a place.
    """

    longitude: np.ndarray
    latitude: np.ndarray
    values: Mapping[str, np.ndarray]
    id: str = ""
    name: str = ""
    inside: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What is asked for besides places.

    Attributes:
        collection: Of what.
        form: ``CoverageJSON``, ``GeoJSON`` or ``CSV``.
        parameters: Ids.
        times: Positions.
        custom: Positions by name of the custom dimension, all of the collection.
    """

    collection: Collection
    form: str
    parameters: Sequence[str]
    times: np.ndarray
    custom: Mapping[str, np.ndarray]

    def check_size(self, places: int) -> None:
        """Refuse more values than an answer may have.

        Raises:
            ProblemError: 413, with the count and what to narrow.
            NotKeptError: It is too much for a thread that must not be held up.
        """
        count = places * self.times.size * len(self.parameters) * math.prod(found.size for found in self.custom.values())
        most = MOST_VALUES[self.form]
        if count > QUICK_VALUES and self.collection.cycle.is_memory_only:
            raise NotKeptError
        if count > most:
            narrow = ", ".join(["datetime", "parameter-name", *self.custom])
            raise ProblemError(
                413, f"This is {count:,} values, more than the {most:,} of one {self.form} answer; narrow {narrow} or the place, or read "
                f"the group {self.collection.id} of /published/{self.collection.cycle.name.href} with any Zarr library.",
            )

    def read(self, parameter: str, **places: Index) -> np.ndarray:
        """Values of a parameter at places of the store: (custom..., time[, row, column])."""
        cycle, group = self.collection.cycle, self.collection.id
        custom = self.collection.custom
        where: dict[str, Index] = {custom[name].dim: found for name, found in self.custom.items() if found.size < len(custom[name].texts)}
        if self.times.size < self.collection.times.size:
            where[self.collection.time] = self.times
        values = cycle.read(group, parameter, **where, **places)
        left = [str(dim) for dim in cycle.dataset(group)[parameter].dims if not isinstance(places.get(str(dim)), int)]
        order = [*(found.dim for found in custom.values()), self.collection.time, LATITUDE, LONGITUDE]
        return np.asarray(values.transpose([left.index(dim) for dim in order if dim in left]), np.float32)


def at_points(wanted: Wanted, points: np.ndarray) -> list[Block]:
    """At the nearest cell or station of each point.

    Args:
        wanted: What.
        points: Longitude and latitude, shape (n, 2).

    Raises:
        ProblemError: 404, a point is off the grid or far from any station; 413, too much.
    """
    wanted.check_size(len(points))
    collection = wanted.collection
    if not collection.is_grid:
        return at_stations(wanted, [_nearest_station(collection, *map(float, point)) for point in points])
    found = []
    for longitude, latitude in points:
        row, column = _nearest_cell(collection, float(longitude), float(latitude))
        values = {name: wanted.read(name, **{LATITUDE: row, LONGITUDE: column}) for name in wanted.parameters}
        found.append(Block(collection.longitude[[column]], collection.latitude[[row]], values))
    return found


def at_stations(wanted: Wanted, positions: Sequence[int]) -> list[Block]:
    """At stations, by their position in the store."""
    wanted.check_size(len(positions))
    collection = wanted.collection
    return [
        Block(
            collection.longitude[[position]], collection.latitude[[position]],
            {name: wanted.read(name, **{STATION: position}) for name in wanted.parameters},
            id=collection.stations[position], name=collection.names[position],
        )
        for position in positions
    ]  # fmt: skip


def in_area(wanted: Wanted, area: Area) -> list[Block]:
    """At every station, or on the part of the grid, whose centres lie in an area.

    Raises:
        ProblemError: 404, there is none; 413, too much.
    """
    collection = wanted.collection
    if not collection.is_grid:
        inside = np.flatnonzero(area.contains(collection.longitude, collection.latitude))
        if not inside.size:
            raise ProblemError(404, f"No station of {collection.id} lies in the area; its locations are listed under /locations.")
        return at_stations(wanted, inside.tolist())
    cells = area.contains(*np.meshgrid(collection.longitude, collection.latitude))
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    if not rows.size:
        raise ProblemError(404, f"No cell of {collection.id} has its centre in the area; its box is {collection.bbox}. Try position.")
    part = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    inside = cells[part]
    wanted.check_size(inside.size)
    values = {}
    for name in wanted.parameters:
        found = wanted.read(name, **{LATITUDE: part[0], LONGITUDE: part[1]})
        values[name] = found if inside.all() else np.where(inside, found, np.float32(np.nan))
    return [Block(collection.longitude[part[1]], collection.latitude[part[0]], values, inside=inside)]


def _nearest_cell(collection: Collection, longitude: float, latitude: float) -> tuple[int, int]:
    west, south, east, north = collection.bbox
    if not (west <= longitude <= east and south <= latitude <= north):
        raise ProblemError(404, f"The point {longitude:g} {latitude:g} lies outside {collection.id}, whose box is {collection.bbox}.")
    return int(np.abs(collection.latitude - latitude).argmin()), int(np.abs(collection.longitude - longitude).argmin())


def _nearest_station(collection: Collection, longitude: float, latitude: float) -> int:
    east = (collection.longitude - longitude) * np.cos(np.radians(latitude))
    kilometres = DEGREE_KM * np.hypot(east, collection.latitude - latitude)
    nearest = int(kilometres.argmin())
    if kilometres[nearest] > NEAR_KM:
        raise ProblemError(
            404, f"The nearest station of {collection.id} is {collection.stations[nearest]}, {kilometres[nearest]:.0f} km from "
            f"{longitude:g} {latitude:g}, more than {NEAR_KM:g} km; ask a grid collection.",
        )
    return nearest
