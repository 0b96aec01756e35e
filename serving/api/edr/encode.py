"""Values as CoverageJSON, GeoJSON or CSV, each as bytes.

CoverageJSON knows x, y, z and t; a custom dimension therefore becomes one coverage a value, named in ``giomua:dimensions``. Numbers are
written with the fewest digits that give the same float32 back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson
from covjson_pydantic.parameter import Parameter as CoverageParameter

from serving.api.edr.collection import Collection
from serving.api.edr.selection import Block, Wanted

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "CoverageJSON": "application/vnd.cov+json", "GeoJSON": "application/geo+json", "CSV": "text/csv; charset=utf-8",
}  # fmt: skip
REFERENCING: Final = [
    {"coordinates": ["x", "y"], "system": {"type": "GeographicCRS", "id": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}},
    {"coordinates": ["t"], "system": {"type": "TemporalRS", "calendar": "Gregorian"}},
]


def encode(wanted: Wanted, blocks: Sequence[Block], base: str) -> bytes:
    """The answer in the format that is wanted.

    Args:
        wanted: What was asked for.
        blocks: What was read.
        base: URL of the API, for links to queries.
    """
    if wanted.form == "CSV":
        return csv(wanted, blocks)
    return geojson(wanted, blocks, base) if wanted.form == "GeoJSON" else coveragejson(wanted, blocks)


def combinations(wanted: Wanted) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
    """Every combination of values of the custom dimensions: positions in the arrays, and values by name."""
    custom = wanted.collection.custom
    ranges = [[(n, _value(custom[name].numbers, custom[name].texts, int(at))) for n, at in enumerate(found)]
              for name, found in wanted.custom.items()]  # fmt: skip
    for chosen in itertools.product(*ranges):
        yield tuple(n for n, _ in chosen), dict(zip(wanted.custom, (value for _, value in chosen), strict=True))


def count(wanted: Wanted) -> int:
    """How many combinations there are."""
    return math.prod(found.size for found in wanted.custom.values())


def _value(numbers: np.ndarray | None, texts: Sequence[str], at: int) -> Any:
    if numbers is None:
        return texts[at]
    number = float(numbers[at])
    return int(number) if number.is_integer() else number


def about(collection: Collection) -> dict[str, Any]:
    """What every answer says of the cycle it comes from."""
    cycle = collection.cycle
    return {
        "giomua:cycle": cycle.id,
        "giomua:init_time": f"{cycle.init_time.astype('datetime64[s]')}Z",
        "giomua:simulated": cycle.simulated,
        "giomua:disclaimer": str(cycle.attributes.get("disclaimer", "")),
    }


# --- CoverageJSON ----------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def coverage_parameters(collection: Collection) -> dict[str, orjson.Fragment]:
    """The parameters of a collection as CoverageJSON, by id."""
    found = {}
    for name, parameter in collection.parameters.items():
        label = {"en": parameter.label} | ({"vi": parameter.vietnamese} if parameter.vietnamese else {})
        made = CoverageParameter.model_validate(
            {
                "id": name,
                "label": label,
                "description": {"en": parameter.description} if parameter.description else None,
                "observedProperty": {"id": parameter.property_id, "label": label},
                "unit": parameter.unit,
                "measurementType": {"method": parameter.method},
            }
        )
        found[name] = orjson.Fragment(made.model_dump_json(exclude_none=True))
    return found


def coveragejson(wanted: Wanted, blocks: Sequence[Block]) -> bytes:
    """A Coverage, or a CoverageCollection of several: PointSeries at places, Grid on a part of the grid."""
    collection = wanted.collection
    parameters = {name: coverage_parameters(collection)[name] for name in wanted.parameters}
    kind = "Grid" if blocks[0].inside is not None else "PointSeries"
    times = [collection.time_texts[at] for at in wanted.times]
    alone = {"referencing": REFERENCING} if len(blocks) * count(wanted) == 1 else {}
    coverages = []
    for block in blocks:
        axes = {"x": {"values": block.longitude.tolist()}, "y": {"values": block.latitude.tolist()}, "t": {"values": times}}
        domain = orjson.Fragment(orjson.dumps({"type": "Domain", "domainType": kind, "axes": axes, **alone}))
        names = ["t"] if block.inside is None else ["t", "y", "x"]
        head = orjson.Fragment(orjson.dumps(names))
        for position, custom in combinations(wanted):
            made: dict[str, Any] = {"type": "Coverage", "domain": domain}
            if block.id or custom:
                made["id"] = ";".join([block.id] * bool(block.id) + [f"{name}={value}" for name, value in custom.items()])
            if block.id:
                made["giomua:location"] = {"id": block.id, "name": block.name}
            if custom:
                made["giomua:dimensions"] = custom
            made["ranges"] = {name: _range(values[position], head) for name, values in block.values.items()}
            coverages.append(made)
    if alone:
        return orjson.dumps(coverages[0] | {"parameters": parameters} | about(collection))
    whole = {"type": "CoverageCollection", "domainType": kind, "parameters": parameters, "referencing": REFERENCING, **about(collection)}
    return orjson.dumps(whole | {"coverages": [orjson.Fragment(orjson.dumps(made)) for made in coverages]})


def _range(values: np.ndarray, axis_names: orjson.Fragment) -> dict[str, Any]:
    return {
        "type": "NdArray",
        "dataType": "float",
        "axisNames": axis_names,
        "shape": list(values.shape),
        "values": orjson.Fragment(_numbers(values)),
    }


def _numbers(values: np.ndarray) -> bytes:
    """A JSON array of all values in row-major order, null for NaN."""
    return orjson.dumps(np.ascontiguousarray(values).ravel(), option=orjson.OPT_SERIALIZE_NUMPY)


# --- GeoJSON ---------------------------------------------------------------------------------------------------------------------


def geojson(wanted: Wanted, blocks: Sequence[Block], base: str) -> bytes:
    """A feature for each place and combination of custom values: the series of every parameter among its properties."""
    collection = wanted.collection
    times = orjson.Fragment(orjson.dumps([collection.time_texts[at] for at in wanted.times]))
    period = f"{collection.time_texts[wanted.times[0]]}/{collection.time_texts[wanted.times[-1]]}"
    endpoint = f"{base}/collections/{collection.id}/instances/{collection.cycle.id}"
    features = []
    for block in blocks:
        for longitude, latitude, pick in _places(block):
            label = block.name or f"{latitude:g} N, {longitude:g} E"
            query = f"{endpoint}/locations/{block.id}" if block.id else f"{endpoint}/position?coords=POINT({longitude:g}%20{latitude:g})"
            geometry = orjson.Fragment(orjson.dumps({"type": "Point", "coordinates": [longitude, latitude]}))
            for position, custom in combinations(wanted):
                properties = {"label": label, "datetime": period, "parameter-name": list(wanted.parameters), "edrqueryendpoint": query}
                properties |= {**custom, "times": times}
                series = {name: orjson.Fragment(_numbers(_series(values, position, pick))) for name, values in block.values.items()}
                features.append({"type": "Feature", "geometry": geometry, "properties": properties | {"values": series}})
    whole = {"type": "FeatureCollection", "numberReturned": len(features), **about(collection)}
    whole["parameters"] = [coverage_parameters(collection)[name] for name in wanted.parameters]
    return orjson.dumps(whole | {"features": [orjson.Fragment(orjson.dumps(feature)) for feature in features]})


def _series(values: np.ndarray, custom: tuple[int, ...], place: tuple[int, ...]) -> np.ndarray:
    """Over time, for one combination of custom values at one place of a block."""
    index: tuple[Any, ...] = (*custom, slice(None), *place)
    return np.asarray(values[index])


def _places(block: Block) -> Iterator[tuple[float, float, tuple[int, ...]]]:
    """Longitude, latitude and position in the arrays of each place of a block."""
    if block.inside is None:
        yield float(block.longitude[0]), float(block.latitude[0]), ()
        return
    for row, column in np.argwhere(block.inside).tolist():
        yield float(block.longitude[column]), float(block.latitude[row]), (row, column)


def locations(collection: Collection, positions: Sequence[int], base: str, instance: str | None) -> bytes:
    """The stations of a collection as EDR locations.

    Args:
        collection: Of stations.
        positions: Which.
        base: URL of the API.
        instance: Whose, None for the newest.
    """
    place = f"{base}/collections/{collection.id}" + (f"/instances/{instance}" if instance else "")
    features = [
        {
            "type": "Feature",
            "id": collection.stations[at],
            "geometry": {"type": "Point", "coordinates": [float(collection.longitude[at]), float(collection.latitude[at])]},
            "properties": {
                "label": collection.names[at],
                "datetime": f"{collection.time_texts[0]}/{collection.time_texts[-1]}",
                "parameter-name": list(collection.parameters),
                "edrqueryendpoint": f"{place}/locations/{collection.stations[at]}",
            },
        }
        for at in positions
    ]
    whole = {"type": "FeatureCollection", "numberReturned": len(features), "numberMatched": len(features), **about(collection)}
    return orjson.dumps(whole | {"features": features})


# --- CSV -------------------------------------------------------------------------------------------------------------------------


def csv(wanted: Wanted, blocks: Sequence[Block]) -> bytes:
    """A row for each place, combination of custom values and time (RFC 4180); an empty field is a missing value."""
    collection = wanted.collection
    times = [collection.time_texts[at] for at in wanted.times]
    stations = ["location"] if not collection.is_grid else []
    lines = [",".join([*stations, "longitude", "latitude", "time", *wanted.custom, *wanted.parameters])]
    for block in blocks:
        for longitude, latitude, pick in _places(block):
            place = [block.id] * bool(stations) + [f"{longitude:g}", f"{latitude:g}"]
            for position, custom in combinations(wanted):
                columns = [_texts(_series(values, position, pick)) for values in block.values.values()]
                before, between = ",".join(place), "".join(f",{_quoted(value)}" for value in custom.values())
                lines += [f"{before},{time}{between},{','.join(row)}" for time, *row in zip(times, *columns, strict=True)]
    return ("\r\n".join(lines) + "\r\n").encode()


def _texts(values: np.ndarray) -> list[str]:
    """Each value as text, empty for NaN."""
    return ["" if text == "null" else text for text in _numbers(values)[1:-1].decode().split(",")]


def _quoted(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(letter in text for letter in ',"\r\n') else text
