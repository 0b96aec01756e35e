"""What a client asks for, read from the parameters of the URL; everything that cannot be understood is said in one sentence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import numpy as np

from serving.api.edr.collection import Collection, Custom
from serving.api.problems import ProblemError

MOST_POINTS: Final = 50
MOST_VERTICES: Final = 500
PARAMETERS: Final = frozenset({"coords", "bbox", "datetime", "parameter-name", "z", "crs", "f", "limit"})

_NUMBER: Final = r"[+-]?(?:\d{1,12}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,2})?"
_POINT: Final = re.compile(rf"\s*({_NUMBER})\s+({_NUMBER})(?:\s+{_NUMBER})?\s*")
_TIME: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.\d{1,9})?)?)?\s*([Zz]|[ +-]\d{2}(?::?\d{2})?)?)?"
)
_CRS: Final = ("CRS84", "OGC:CRS84", "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "https://www.opengis.net/def/crs/OGC/1.3/CRS84")
_FORMATS: Final[Mapping[str, str]] = {
    "coveragejson": "CoverageJSON", "covjson": "CoverageJSON", "json": "CoverageJSON", "application/vnd.cov+json": "CoverageJSON",
    "application/prs.coverage+json": "CoverageJSON", "application/json": "CoverageJSON",
    "geojson": "GeoJSON", "application/geo+json": "GeoJSON", "csv": "CSV", "text/csv": "CSV",
}  # fmt: skip

Ring = np.ndarray
"""Vertices (n, 2), longitude and latitude."""


def refuse(name: str, value: object, expected: str) -> ProblemError:
    """The answer to a parameter that cannot be used."""
    return ProblemError(400, f"{name} is {str(value)[:120]!r}; expected {expected}.")


def output_format(f: str | None, accept: str | None) -> str:
    """``CoverageJSON``, ``GeoJSON`` or ``CSV``: what ``f`` says, else what the Accept header names first, else CoverageJSON."""
    if f is not None:
        found = _FORMATS.get(f.strip().lower().replace(" ", "+"))
        if found is None:
            raise refuse("f", f, "CoverageJSON, GeoJSON or CSV")
        return found
    kinds = (part.partition(";")[0].strip().lower() for part in (accept or "").split(","))
    return next((_FORMATS[kind] for kind in kinds if kind in _FORMATS), "CoverageJSON")


def check_crs(crs: str | None) -> None:
    """Coordinates are longitude and latitude of WGS 84 (CRS84), and nothing else."""
    if crs is not None and crs.strip() not in _CRS:
        raise refuse("crs", crs, "CRS84, longitude before latitude")


def check_known(collection: Collection, given: Iterable[str]) -> None:
    """Every parameter of the URL is one of the query or a custom dimension of the collection."""
    for name in given:
        if name not in PARAMETERS and name not in collection.custom:
            dimensions = ", ".join(collection.custom) or "no custom dimension"
            raise ProblemError(400, f"{name[:60]!r} is no parameter of the collection {collection.id}; it has {dimensions}.")


def parameter_names(collection: Collection, text: str | None) -> list[str]:
    """Ids of the parameters asked for, all of them without a word, in the order given."""
    if text is None or not text.strip():
        return list(collection.parameters)
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in collection.parameters]
    if unknown or not names:
        raise refuse("parameter-name", unknown[0] if unknown else text, f"one or more of {', '.join(collection.parameters)}")
    return names


def custom_positions(custom: Custom, text: str | None) -> np.ndarray:
    """Positions of the values asked for of a custom dimension: ``0.1,0.5,0.9``, ``0/9``, or all of them without a word."""
    everything = np.arange(len(custom.texts))
    if text is None or text.strip() in ("", "*"):
        return everything
    few = ", ".join(custom.texts[:6]) + (", ..." if len(custom.texts) > 6 else "")
    expected = f"values among {few}, with commas between them, or FIRST/LAST"
    if custom.numbers is not None and "/" in text:
        first, _, last = text.partition("/")
        low, high = _number(custom.name, first, expected), _number(custom.name, last, expected)
        found = np.flatnonzero((custom.numbers >= low - 1e-9) & (custom.numbers <= high + 1e-9))
        if not found.size:
            raise refuse(custom.name, text, expected)
        return found
    positions = []
    for part in dict.fromkeys(part.strip() for part in text.split(",")):
        if custom.numbers is None:
            hits = np.array([n for n, value in enumerate(custom.texts) if value == part])
        else:
            hits = np.flatnonzero(np.isclose(custom.numbers, _number(custom.name, part, expected), rtol=0, atol=1e-9))
        if not hits.size:
            raise refuse(custom.name, part, expected)
        positions.append(int(hits[0]))
    return np.array(positions)


def _number(name: str, text: str, expected: str) -> float:
    if not re.fullmatch(_NUMBER, text.strip()):
        raise refuse(name, text, expected)
    return float(text)


# --- times -----------------------------------------------------------------------------------------------------------------------


def time_positions(collection: Collection, text: str | None) -> np.ndarray:
    """Positions of the times asked for: an instant, a day, ``START/END``, ``../END``, ``START/..``, or instants with commas between.

    Raises:
        ProblemError: 400, it cannot be read; 404, there is no such time.
    """
    times = collection.times
    if text is None or not text.strip():
        return np.arange(times.size)
    chosen = np.zeros(times.size, bool)
    for part in text.split(","):
        first, slash, last = part.strip().partition("/")
        if slash:
            start = times[0] if first in ("..", "") else _moment(first)[0]
            end = times[-1] if last in ("..", "") else _moment(last)[1]
            if start > end:
                raise refuse("datetime", text, "a start before its end")
        else:
            start, end = _moment(first)
        chosen |= (times >= start) & (times <= end)
    if not chosen.any():
        texts = collection.time_texts
        raise ProblemError(404, f"There is nothing at {text[:80]!r}; {collection.id} has {texts[0]} to {texts[-1]}, {len(texts)} times.")
    return np.flatnonzero(chosen)


def _moment(text: str) -> tuple[np.datetime64, np.datetime64]:
    """First and last second that a time means: itself, or the whole UTC day of a date."""
    match = _TIME.fullmatch(text.strip())
    expected = "a time such as 2025-01-10T12:00:00Z, a date, or START/END with .. for an open end"
    if match is None:
        raise refuse("datetime", text, expected)
    year, month, day, hour, minute, second, offset = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
        if offset and offset not in "Zz":
            digits = offset[1:].replace(":", "")
            length = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
            moment -= -length if offset[0] == "-" else length  # a space is a plus that a URL decoder has eaten
    except (ValueError, OverflowError) as error:
        raise refuse("datetime", text, expected) from error
    start = np.datetime64(moment.replace(tzinfo=None), "s")
    return (start, start) if hour else (start, start + np.timedelta64(86399, "s"))


# --- places ----------------------------------------------------------------------------------------------------------------------


class Area(Protocol):
    """A part of the plane of longitude and latitude."""

    def contains(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """Whether points lie in it, edges included."""
        ...


@dataclass(frozen=True, slots=True)
class Box:
    """Degrees."""

    west: float
    south: float
    east: float
    north: float

    def contains(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """See :class:`Area`."""
        inside = (longitude >= self.west) & (longitude <= self.east) & (latitude >= self.south) & (latitude <= self.north)
        return np.asarray(inside)


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """Polygons in the order of WKT: each an outer ring and its holes; a point is inside by the even-odd rule."""

    polygons: tuple[tuple[Ring, ...], ...]

    def contains(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """See :class:`Area`."""
        inside = np.zeros(longitude.shape, bool)
        for rings in self.polygons:
            odd, edge = np.zeros(longitude.shape, bool), np.zeros(longitude.shape, bool)
            for start, end in itertools.chain.from_iterable(map(itertools.pairwise, rings)):
                odd ^= _crosses(start, end, longitude, latitude)
                edge |= _touches(start, end, longitude, latitude)
            inside |= odd | edge
        return inside


def _crosses(start: np.ndarray, end: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether a ray from each point eastwards crosses a segment."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        return np.zeros(x.shape, bool)
    return np.asarray(((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)))


def _touches(start: np.ndarray, end: np.ndarray, x: np.ndarray, y: np.ndarray, near: float = 1e-9) -> np.ndarray:
    """Whether each point lies on a segment."""
    (x0, y0), (x1, y1) = start, end
    across = np.abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) <= near * max(abs(x1 - x0) + abs(y1 - y0), near)
    within = (x >= min(x0, x1) - near) & (x <= max(x0, x1) + near) & (y >= min(y0, y1) - near) & (y <= max(y0, y1) + near)
    return np.asarray(across & within)


def points(text: str) -> np.ndarray:
    """Longitude and latitude of ``POINT(x y)`` or ``MULTIPOINT((x y),(x y))``, shape (n, 2); a height is ignored."""
    kind, body = _wkt(text, ("POINT", "MULTIPOINT"), "POINT(105.85 21.03) or MULTIPOINT((105.85 21.03),(106.6 20.8))")
    parts = [body] if kind == "POINT" else body.split(",")
    if len(parts) > MOST_POINTS:
        raise ProblemError(413, f"coords has {len(parts)} points; ask for {MOST_POINTS} at most, or for an area.")
    return np.array([_pair(re.sub(r"^\s*\((.*)\)\s*$", r"\1", part) if kind == "MULTIPOINT" else part, text) for part in parts])


def area(text: str) -> Polygons:
    """``POLYGON((x y,...))`` or ``MULTIPOLYGON(((x y,...)),...)``, closed rings of four vertices or more."""
    expected = "POLYGON((105 20.5,106.5 20.5,106.5 21.5,105 20.5)) with closed rings"
    kind, body = _wkt(text, ("POLYGON", "MULTIPOLYGON"), expected)
    polygons = _split(body, expected) if kind == "MULTIPOLYGON" else [body]
    rings = [[_split_ring(ring, expected) for ring in _split(polygon, expected)] for polygon in polygons]
    count = sum(len(ring) for polygon in rings for ring in polygon)
    if count > MOST_VERTICES:
        raise ProblemError(413, f"coords has {count} vertices; simplify the area to {MOST_VERTICES} at most.")
    return Polygons(tuple(map(tuple, rings)))


def box(text: str) -> Box:
    """``west,south,east,north``; with six numbers the heights are ignored."""
    expected = "west,south,east,north in degrees"
    numbers = [_number("bbox", part, expected) for part in text.split(",")]
    if len(numbers) not in (4, 6):
        raise refuse("bbox", text, expected)
    west, south, east, north = numbers if len(numbers) == 4 else (numbers[0], numbers[1], numbers[3], numbers[4])
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90 and west <= east):
        raise refuse("bbox", text, f"{expected}, west left of east and south below north")
    return Box(west, south, east, north)


def _wkt(text: str, kinds: tuple[str, ...], expected: str) -> tuple[str, str]:
    match = re.fullmatch(r"\s*([A-Za-z]+)\s*(?:Z\s*)?\((.*)\)\s*", text, flags=re.DOTALL)
    if match is None or match[1].upper() not in kinds:
        raise refuse("coords", text, expected)
    return match[1].upper(), match[2]


def _split(body: str, expected: str) -> list[str]:
    """The parenthesised parts of a WKT body."""
    depth, start, parts = 0, 0, []
    for position, letter in enumerate(body):
        if letter == "(":
            depth += 1
            start = position + 1 if depth == 1 else start
        elif letter == ")":
            depth -= 1
            if depth == 0:
                parts.append(body[start:position])
        elif depth == 0 and not (letter.isspace() or letter == ","):
            raise refuse("coords", body, expected)
        if depth < 0:
            raise refuse("coords", body, expected)
    if depth != 0 or not parts:
        raise refuse("coords", body, expected)
    return parts


def _split_ring(text: str, expected: str) -> Ring:
    ring = np.array([_pair(part, text) for part in text.split(",")])
    if len(ring) < 4 or not np.array_equal(ring[0], ring[-1]):
        raise refuse("coords", text, expected)
    return ring


def _pair(text: str, whole: str) -> tuple[float, float]:
    match = _POINT.fullmatch(text)
    if match is None:
        raise refuse("coords", whole, "pairs of longitude and latitude in degrees, such as 105.85 21.03")
    longitude, latitude = float(match[1]), float(match[2])
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise refuse("coords", whole, "longitudes within -180..180 and latitudes within -90..90, longitude first")
    return longitude, latitude
