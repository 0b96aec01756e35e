"""From the grid section of a message to the points of a region: which octets of which grid, cut and oriented once, then reused.

Every scanning order, either edition, regular and reduced, comes down to one thing: for each point that is kept, its place in the
sequence of values. That index is computed once for a grid and a box, and applied to each message by one ``take``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from data_catalog.errors import DecodeError
from data_catalog.grib.messages import signed, unsigned

Edges = tuple[float, float, float, float]
"""North, south, west, east in degrees; longitudes -180..180."""

_DIGITS: Final = 6          # GRIB 2 counts in microdegrees; a tenth of a degree must not decode as 7.9999999
_REGULAR: Final = {(1, 0): "latlon", (1, 4): "gaussian", (2, 0): "latlon", (2, 40): "gaussian"}
_KINDS: Final = {
    (1, 1): "Mercator", (1, 3): "Lambert", (1, 5): "polar stereographic", (1, 10): "rotated", (1, 50): "spectral",
    (2, 1): "rotated", (2, 10): "Mercator", (2, 20): "polar stereographic", (2, 30): "Lambert", (2, 50): "spectral",
    (2, 90): "space view", (2, 101): "unstructured, without the coordinates of its cells",
}    # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The kept points of a grid.

    Attributes:
        name: ``0p25`` for a step of 0.25 degrees with points on whole steps, ``0p25c`` for points between them, ``n48`` Gaussian.
        latitude: Degrees north, descending. (latitude,)
        longitude: Degrees east, -180..180, ascending. (longitude,)
        index: Place of each point in the message's values. (latitude, longitude)
        points: Values the whole grid has.
        across: Points in a row when values lie row by row, else 0.
        note: What was done that a reader should know, or "".
    """

    name: str
    latitude: np.ndarray
    longitude: np.ndarray
    index: np.ndarray
    points: int
    across: int = 0
    note: str = ""

    @property
    def rows(self) -> tuple[int, int]:
        """First and last row that has kept points, in scanning order, where values lie row by row."""
        return int(self.index.min()) // self.across, int(self.index.max()) // self.across


@dataclass(frozen=True, slots=True)
class _Description:
    gaussian: bool
    across: int                     # 0: reduced
    down: int
    first: tuple[float, float]      # latitude, longitude
    last: tuple[float, float]
    parallels: int                  # between pole and equator, Gaussian grids
    scanning: int
    rows: tuple[int, ...]           # points in each row of a reduced grid


@lru_cache(maxsize=256)
def read_grid(section: bytes, edition: int, edges: Edges) -> Grid | str:
    """The points of a grid within a box and half a cell around it.

    Projected and rotated grids are not kept: their winds are relative to the grid, and no source of ours uses one. A reduced grid
    keeps its own latitudes; along each, the nearest point is taken at the longitudes of its densest kept row.

    Args:
        section: Section 3 of GRIB 2, section 2 of GRIB 1.
        edition: 1 or 2.
        edges: The box.

    Returns:
        The grid, or the reason in words why there is none.
    """
    found = _describe(section, edition)
    if isinstance(found, str):
        return found
    latitude = _latitudes(found)
    north, south, west, east = edges
    spacing = float(np.abs(np.diff(latitude)).max()) if latitude.size > 1 else 0.0
    rows = np.flatnonzero((latitude <= north + spacing / 2 + 1e-6) & (latitude >= south - spacing / 2 - 1e-6))
    if not rows.size:
        return "outside the region"
    rows = rows[np.argsort(-latitude[rows], kind="stable")]
    if found.across == 0:
        return _reduced(found, latitude, rows, (west, east))
    longitude = _longitudes(found)
    step = _span(found) / (found.across - 1) if found.across > 1 else 0.0
    columns, kept = _columns(longitude, west - step / 2, east + step / 2)
    if not columns.size:
        return "outside the region"
    return Grid(
        _name(found, latitude, spacing, longitude, step), latitude[rows], kept, _places(found, rows[:, None], columns[None, :]),
        found.across * found.down, 0 if found.scanning & 0x20 else found.across,
    )    # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """An unstructured grid within a region.

    Attributes:
        identity: Its reference and UUID, as section 3 of GRIB 2 has them.
        grid: A regular lattice over the region, and for each of its points the nearest cell.
    """

    identity: bytes
    grid: Grid

    def read(self, section: bytes) -> Grid | str:
        """The points of a field on this grid, or the reason in words why there are none."""
        if unsigned(section, 12, 2) != _UNSTRUCTURED:
            return "grid not read: not the unstructured grid that its source has"
        if _identity(section) != self.identity:
            return f"grid not read: the unstructured grid {_identity(section).hex()} is not that of the coordinates, {self.identity.hex()}"
        return self.grid


_MOST_PARALLELS: Final = 2560   # between equator and pole, 4 km apart: the roots of 2 N are found at once
_UNSTRUCTURED: Final = 101      # grid definition template


def _identity(section: bytes) -> bytes:
    return section[18:35]       # octets 19, number of the grid in its reference, and 20 to 35, UUID


def make_mesh(section: bytes, latitude: np.ndarray, longitude: np.ndarray, spacing: float, edges: Edges) -> Mesh:
    """Bring an unstructured grid to a regular lattice on whole steps of ``spacing`` in a box, by the nearest cell.

    Args:
        section: Section 3 of a field on the grid.
        latitude: Of the cell centres, degrees. (cell,)
        longitude: Likewise.
        spacing: Of the lattice in degrees.
        edges: The box.

    Raises:
        DecodeError: A point of the lattice has no cell within two steps of it.
    """
    from scipy.spatial import cKDTree

    north, south, west, east = edges
    rows = np.round(np.arange(np.floor(north / spacing + 1e-6), np.ceil(south / spacing - 1e-6) - 1, -1.0) * spacing, _DIGITS)
    columns = np.round(np.arange(np.ceil(west / spacing - 1e-6), np.floor(east / spacing + 1e-6) + 1) * spacing, _DIGITS)
    margin = 2.0 * spacing
    beside = (longitude - west + margin) % 360.0 <= east - west + 2.0 * margin
    near = np.flatnonzero((latitude <= north + margin) & (latitude >= south - margin) & beside)
    points = _unit(*(axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij")))
    if not near.size:
        raise DecodeError("the unstructured grid has no cell in the region")
    distance, nearest = cKDTree(_unit(latitude[near], longitude[near])).query(points)
    farthest = float(np.degrees(np.max(distance)))
    if farthest > margin:
        raise DecodeError(f"a point of the region is {farthest:.2f} degrees from the nearest cell of the unstructured grid")
    index = np.ascontiguousarray(near[nearest].reshape(rows.size, columns.size), dtype=np.int32)
    grid = Grid(_degrees(spacing), rows, columns, index, latitude.size, note="unstructured grid: nearest cell")
    return Mesh(_identity(section), grid)


def _unit(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Points on the unit sphere, (point, 3)."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _describe(section: bytes, edition: int) -> _Description | str:
    kind = (edition, section[5] if edition == 1 else unsigned(section, 12, 2))
    if kind not in _REGULAR:
        return f"grid not read: {_KINDS.get(kind, f'type {kind[1]} of GRIB {edition}')}"
    gaussian = _REGULAR[kind] == "gaussian"
    if edition == 1:
        across, down = unsigned(section, 6, 2), unsigned(section, 8, 2)
        first, last = ((signed(section, at, 3) / 1e3, signed(section, at + 3, 3) / 1e3) for at in (10, 17))
        rows: tuple[int, ...] = ()
        if across == 0xFFFF:
            start = section[4] - 1 + 4 * section[3]
            rows, across = tuple(unsigned(section, start + 2 * row, 2) for row in range(down)), 0
        return _sound(_Description(gaussian, across, down, first, last, unsigned(section, 25, 2) if gaussian else 0, section[27], rows))
    across, down = unsigned(section, 30, 4), unsigned(section, 34, 4)
    angle, divisions = unsigned(section, 38, 4), unsigned(section, 42, 4)
    unit = angle / divisions if angle not in (0, 0xFFFFFFFF) and divisions not in (0, 0xFFFFFFFF) else 1e-6
    first, last = ((signed(section, at, 4) * unit, signed(section, at + 4, 4) * unit) for at in (46, 55))
    width = section[10]
    rows = ()
    if width:
        rows, across = tuple(unsigned(section, 72 + width * row, width) for row in range(down)), 0
    points = unsigned(section, 6, 4)
    if points != (sum(rows) if rows else across * down):
        return f"grid not read: {points} points do not make {across} x {down}"
    return _sound(_Description(gaussian, across, down, first, last, unsigned(section, 67, 4) if gaussian else 0, section[71], rows))


def _sound(found: _Description) -> _Description | str:
    """The description, or in words why no grid is like it."""
    if min(found.rows or (found.across,)) < 1 or found.down < 1:
        return "grid not read: it has rows of no points, or no rows"
    if found.gaussian and not found.down <= 2 * found.parallels <= 2 * _MOST_PARALLELS:
        most = f"at most {_MOST_PARALLELS} expected"
        return f"grid not read: {found.down} rows of a Gaussian grid with {found.parallels} parallels to the pole, {most}"
    return found


def _latitudes(found: _Description) -> np.ndarray:
    """Latitudes in scanning order, (down,)."""
    if not found.gaussian:
        return np.round(np.linspace(found.first[0], found.last[0], found.down), _DIGITS)
    # Parallels of a Gaussian grid: arcsines of the roots of the Legendre polynomial of degree 2 N.
    parallels = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(2 * found.parallels)[0]))[::-1]
    start = int(np.argmin(np.abs(parallels - max(found.first[0], found.last[0]))))
    kept = np.round(parallels[start : start + found.down], _DIGITS)
    return kept if found.first[0] >= found.last[0] else kept[::-1]


def _span(found: _Description) -> float:
    """Degrees from the first to the last point of a row, along the scanning direction."""
    west, east = (found.last[1], found.first[1]) if found.scanning & 0x80 else (found.first[1], found.last[1])
    return (east - west) % 360.0 or (360.0 if found.across > 1 else 0.0)


def _longitudes(found: _Description) -> np.ndarray:
    """Longitudes in scanning order, not yet wrapped, (across,)."""
    step = _span(found) / max(found.across - 1, 1) * (-1 if found.scanning & 0x80 else 1)
    return np.round(found.first[1] + step * np.arange(found.across), _DIGITS)


def _columns(longitude: np.ndarray, west: float, east: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns within [west, east] in ascending order of the wrapped longitude, without repetition, and those longitudes."""
    wrapped = np.round((longitude + 180.0) % 360.0 - 180.0, _DIGITS)
    unique, first = np.unique(wrapped, return_index=True)
    inside = (unique >= west - 1e-6) & (unique <= east + 1e-6)
    return first[inside], unique[inside]


def _places(found: _Description, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Place in the sequence of values of each (row, column), both counted in scanning order."""
    alternating = bool(found.scanning & 0x10)
    if found.scanning & 0x20:           # points of one column are consecutive
        if alternating:
            rows = np.where(columns % 2 == 1, found.down - 1 - rows, rows)
        places = columns * found.down + rows
    else:
        if alternating:
            columns = np.where(rows % 2 == 1, found.across - 1 - columns, columns)
        places = rows * found.across + columns
    return np.ascontiguousarray(places, dtype=np.int32)


def _reduced(found: _Description, latitude: np.ndarray, rows: np.ndarray, box: tuple[float, float]) -> Grid | str:
    counts = np.asarray(found.rows)
    if _span(found) < 360.0 - 1.5 * 360.0 / counts.max():
        return "grid not read: a reduced grid over a part of the globe"
    if found.scanning & 0xB0:
        return f"grid not read: a reduced grid with scanning mode {found.scanning}"
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    densest = int(counts[rows].max())
    step = 360.0 / densest
    columns, kept = _columns(found.first[1] + step * np.arange(densest), box[0] - step / 2, box[1] + step / 2)
    if not columns.size:
        return "outside the region"
    nearest = np.rint(columns[None, :] / densest * counts[rows, None]).astype(np.int64) % counts[rows, None]
    index = np.ascontiguousarray(starts[rows, None] + nearest, dtype=np.int32)
    name = f"n{found.parallels}" if found.gaussian else f"reduced{found.down}"
    return Grid(name, latitude[rows], kept, index, int(counts.sum()), note="reduced grid: nearest point along each latitude")


def _name(found: _Description, latitude: np.ndarray, spacing: float, longitude: np.ndarray, step: float) -> str:
    if found.gaussian:
        return f"n{found.parallels}"

    def between(first: float, width: float) -> bool:
        return width > 0 and abs(first / width - round(first / width)) > 1e-3

    name = _degrees(spacing) if abs(spacing - step) < 1e-4 else f"{_degrees(spacing)}x{_degrees(step)}"
    return f"{name}c" if between(float(latitude[0]), spacing) or between(float(longitude[0]), step) else name


def _degrees(width: float) -> str:
    """``0p25``, ``1p00``, ``0p125``."""
    return f"{width:.4f}".rstrip("0").ljust(len(f"{width:.0f}") + 3, "0").replace(".", "p")
