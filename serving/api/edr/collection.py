"""What a published cycle offers as EDR collections: places, times, custom dimensions, parameters, and their descriptions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import xarray as xr

from data_catalog.dimensions import BOUNDS, ENSEMBLE_MEMBER, GRID, INIT_TIME, LATITUDE, LEAD_TIME, LONGITUDE, STATION, VALID_TIME
from data_catalog.variables import VARIABLES
from serving.api.cycles import Cycle

DAY: Final = "day"
CRS: Final = "CRS84"
WKT: Final = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],'
    'PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.01745329251994328,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)
TRS: Final = 'TIMECRS["DateTime",TDATUM["Gregorian Calendar"],CS[TemporalDateTime,1],AXIS["Time (T)",future]]'
FORMATS: Final = ("CoverageJSON", "GeoJSON", "CSV")

UCUM: Final[Mapping[str, str]] = {
    "degree_Celsius": "Cel", "percent": "%", "m s-1": "m/s", "Pa": "Pa", "kg m-2": "kg/m2", "kg m-2 s-1": "kg/(m2.s)", "W m-2": "W/m2",
    "J kg-1": "J/kg", "m": "m", "1": "1",
}  # fmt: skip
"""Codes of the Unified Code for Units of Measure by UDUNITS text."""

REFERENCES: Final[Mapping[str, str]] = {
    "realization": "http://vocab.nerc.ac.uk/standard_name/realization/",
    "quantile": "https://en.wikipedia.org/wiki/Quantile",
}
HERE: Final = "https://cfconventions.org/"


@dataclass(frozen=True, slots=True, eq=False)
class Custom:
    """A dimension beside place and time.

    Attributes:
        name: In the URL: ``realization``, ``quantile``, ``window`` (hours), ``threshold``, ``forecaster``, ...
        dim: In the store.
        texts: Its values as text, in the order of the store.
        numbers: The same as numbers, None where they are words.
        about: What it is.
    """

    name: str
    dim: str
    texts: tuple[str, ...]
    numbers: np.ndarray | None
    about: str


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A variable as a parameter of a collection.

    Attributes:
        id: Its name in the store.
        label: In English.
        vietnamese: In Vietnamese, empty where nobody wrote it.
        description: What an interval value covers, or empty.
        units: UDUNITS text.
        standard_name: Of CF, or None.
        method: ``instantaneous``, ``mean``, ``sum``, ``maximum`` or ``minimum`` over time.
    """

    id: str
    label: str
    vietnamese: str
    description: str
    units: str
    standard_name: str | None
    method: str

    @property
    def property_id(self) -> str:
        """URI of the observed property."""
        return f"http://vocab.nerc.ac.uk/standard_name/{self.standard_name}/" if self.standard_name else f"urn:giomua:{self.id}"

    @property
    def unit(self) -> dict[str, Any]:
        """As CoverageJSON and EDR write it."""
        code = UCUM.get(self.units)
        symbol = {"value": code, "type": "http://www.opengis.net/def/uom/UCUM/"} if code else self.units
        return {"label": {"en": self.units}, "symbol": symbol}


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """One group of one cycle.

    Attributes:
        cycle: Whose group it is.
        id: Name of the group.
        title: What it holds.
        time: Dimension of the time axis, ``lead_time`` or ``day``.
        times: Instants, ``datetime64[s]`` UTC; of a local day its start.
        time_texts: RFC 3339, with the local offset for local days.
        latitude: Of the grid rows (descending) or of the stations.
        longitude: Of the grid columns or of the stations.
        stations: Ids of the stations, () on a grid.
        names: Names of the stations.
        custom: By name.
        parameters: By id.
    """

    cycle: Cycle
    id: str
    title: str
    time: str
    times: np.ndarray
    time_texts: tuple[str, ...]
    latitude: np.ndarray
    longitude: np.ndarray
    stations: tuple[str, ...]
    names: tuple[str, ...]
    custom: Mapping[str, Custom]
    parameters: Mapping[str, Parameter]

    @property
    def is_grid(self) -> bool:
        """Whether its places are cells of a grid."""
        return not self.stations

    @property
    def bbox(self) -> list[float]:
        """West, south, east, north; of a grid with half a cell around the centres."""
        north, south = float(self.latitude.max()), float(self.latitude.min())
        west, east = float(self.longitude.min()), float(self.longitude.max())
        y, x = self.half_cell
        return [round(value, 6) for value in (west - x, south - y, east + x, north + y)]

    @property
    def half_cell(self) -> tuple[float, float]:
        """Half the spacing of a grid in latitude and longitude, degrees; 0 for stations and along one cell."""
        if not self.is_grid:
            return 0.0, 0.0
        steps = [np.abs(np.diff(axis)).max() / 2 if axis.size > 1 else 0.0 for axis in (self.latitude, self.longitude)]
        return float(steps[0]), float(steps[1])


def collections_of(cycle: Cycle) -> dict[str, Collection]:
    """The collections of a cycle by id: every group whose variables have a place and a time.

    Raises:
        CycleGoneError: Its store is gone.
    """
    found = {}
    for group in cycle.groups:
        made = _collection(cycle, group, cycle.dataset(group))
        if made is not None:
            found[group] = made
    return found


def _collection(cycle: Cycle, group: str, dataset: xr.Dataset) -> Collection | None:
    time = next((dim for dim in (LEAD_TIME, DAY) if dim in dataset.dims), None)
    places = next((dims for dims in (GRID, (STATION,)) if set(dims) <= set(dataset.dims)), None)
    if time is None or places is None:
        return None
    needed = {time, *places}
    kept = {str(name): array for name, array in dataset.data_vars.items() if needed <= set(array.dims) and BOUNDS not in array.dims}
    if not kept or any(dataset.sizes[dim] == 0 for dim in needed):
        return None
    commonest = Counter(frozenset(map(str, array.dims)) for array in kept.values()).most_common(1)[0][0]
    kept = {name: array for name, array in kept.items() if set(array.dims) == commonest}
    order = next(iter(kept.values())).dims
    custom = [_custom(str(dim), dataset) for dim in order if dim not in needed]
    times, texts = _times(cycle, time, dataset)
    stations = () if places == GRID else tuple(map(str, dataset[STATION].values))
    names = tuple(map(str, dataset["station_name"].values)) if stations and "station_name" in dataset.coords else stations
    parameters = {name: _parameter(name, array, time) for name, array in kept.items() if array.dtype.kind in "fiub"}
    return Collection(
        cycle=cycle, id=group, title=_title(cycle, group), time=time, times=times, time_texts=texts,
        latitude=np.asarray(dataset[LATITUDE].values, float), longitude=np.asarray(dataset[LONGITUDE].values, float),
        stations=stations, names=names, custom={found.name: found for found in custom}, parameters=parameters,
    )  # fmt: skip


def _title(cycle: Cycle, group: str) -> str:
    try:
        about = json.loads(cycle.attributes.get("groups", "{}")).get(group) or group
    except ValueError:
        about = group
    return str(about)


def _times(cycle: Cycle, time: str, dataset: xr.Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    if time == LEAD_TIME:
        values = dataset[VALID_TIME].values if VALID_TIME in dataset.coords else dataset[INIT_TIME].values + dataset[LEAD_TIME].values
        seconds = values.astype("datetime64[s]")
        return seconds, tuple(f"{value}Z" for value in seconds)
    zone = ZoneInfo(str(cycle.attributes.get("time_zone", "Asia/Ho_Chi_Minh")))
    days = [datetime.fromisoformat(str(day)).replace(tzinfo=zone) for day in dataset[DAY].values.astype("datetime64[D]")]
    starts = [day.astimezone(UTC).replace(tzinfo=None) for day in days]
    return np.array(starts, dtype="datetime64[s]"), tuple(day.isoformat() for day in days)


def _custom(dim: str, dataset: xr.Dataset) -> Custom:
    name = "realization" if dim == ENSEMBLE_MEMBER else dim
    coordinate = dataset[dim] if dim in dataset.coords else xr.DataArray(np.arange(dataset.sizes[dim]))
    values = coordinate.values
    about = str(coordinate.attrs.get("long_name", name))
    if values.dtype.kind == "m":
        values, about = values / np.timedelta64(1, "h"), f"{about}, hours"
    if values.dtype.kind in "fiu":
        return Custom(name, dim, tuple(f"{value:.12g}" for value in values), np.asarray(values, float), about)
    return Custom(name, dim, tuple(map(str, values)), None, about)


def _parameter(name: str, array: xr.DataArray, time: str) -> Parameter:
    known = VARIABLES.get(name)
    method = known.kind if known else "instant"
    methods = str(array.attrs.get("cell_methods", ""))
    method = next((kind for kind in ("mean", "sum", "maximum", "minimum") if f"time: {kind}" in methods), method)
    description = ""
    if time == DAY:
        description = "of the local day that ends on the date, or of the calendar day; the name says which"
    elif method != "instant":
        description = "over the interval that ends at the time; lead_time_bounds of the store gives its start, the first lead has none"
    return Parameter(
        id=name, label=str(array.attrs.get("long_name", name)), vietnamese=known.vietnamese if known else "", description=description,
        units=str(array.attrs.get("units", "1")), standard_name=array.attrs.get("standard_name"),
        method="instantaneous" if method == "instant" else method,
    )  # fmt: skip


# --- descriptions ----------------------------------------------------------------------------------------------------------------


def describe(collection: Collection, base: str, instance: str | None = None) -> dict[str, Any]:
    """A collection, or one instance of it, as EDR describes it.

    Args:
        collection: What.
        base: URL of the API, without a closing slash.
        instance: Id of the instance that is described, None for the collection.
    """
    here = f"{base}/collections/{collection.id}"
    place = here if instance is None else f"{here}/instances/{instance}"
    cycle = collection.cycle
    note = "Simulated data. " if cycle.simulated else ""
    what = "cell" if collection.is_grid else "station"
    queries = {
        "position": _query(f"{place}/position", "position", f"The {what} nearest to a point"),
        "area": _query(f"{place}/area", "area", f"Every {what} inside a polygon"),
        "cube": _query(f"{place}/cube", "cube", f"Every {what} inside a box", height_units=[]),
    }
    links = [
        {"href": place, "rel": "self", "type": "application/json", "title": "this document"},
        {"href": f"{base.removesuffix('/edr')}/published/{cycle.name.href}", "rel": "alternate", "type": "application/vnd.zarr; version=3",
         "title": f"the store; group {collection.id}"},
    ]  # fmt: skip
    if not collection.is_grid:
        queries["locations"] = _query(f"{place}/locations", "locations", "Stations by id")
    if instance is None:
        about = {"title": "Instances", "query_type": "instances", "description": "Published revisions, newest first"}
        queries["instances"] = _link(f"{here}/instances", about)
        links.append({"href": f"{here}/instances", "rel": "instances", "type": "application/json", "title": "published revisions"})
    else:
        links.append({"href": here, "rel": "collection", "type": "application/json", "title": "the newest one"})
    return {
        "id": collection.id if instance is None else instance,
        "title": collection.title,
        "description": f"{note}Forecast started {cycle.init_time.astype('datetime64[s]')}Z, revision {cycle.name.revision}: "
        f"{collection.title}. Not an official warning of the National Centre for Hydro-Meteorological Forecasting.",
        "keywords": ["weather", "ensemble", "forecast", *(["simulated"] if cycle.simulated else [])],
        "links": links,
        "extent": _extent(collection),
        "data_queries": queries,
        "crs": [CRS],
        "output_formats": list(FORMATS),
        "parameter_names": {name: _described(parameter) for name, parameter in collection.parameters.items()},
    }


def _query(href: str, kind: str, title: str, **more: Any) -> dict[str, Any]:
    about = {
        "title": title, "description": title, "query_type": kind, "output_formats": list(FORMATS),
        "default_output_format": FORMATS[0], "crs_details": [{"crs": CRS, "wkt": WKT}], **more,
    }  # fmt: skip
    return _link(href, about)


def _link(href: str, about: Mapping[str, Any]) -> dict[str, Any]:
    return {"link": {"href": href, "rel": "data", "type": "application/json", "title": about["title"], "variables": dict(about)}}


def _described(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "Parameter",
        "id": parameter.id,
        "label": parameter.label,
        "unit": parameter.unit,
        "observedProperty": {"id": parameter.property_id, "label": {"en": parameter.label}},
        "measurementType": {"method": parameter.method},
    }
    return found | ({"description": parameter.description} if parameter.description else {})


def _extent(collection: Collection) -> dict[str, Any]:
    spatial: dict[str, Any] = {"bbox": [collection.bbox], "crs": WKT}
    if collection.is_grid:
        spatial["values"] = {"x": [f"{x:.6g}" for x in collection.longitude], "y": [f"{y:.6g}" for y in collection.latitude]}
    found: dict[str, Any] = {
        "spatial": spatial,
        "temporal": {
            "interval": [[collection.time_texts[0], collection.time_texts[-1]]], "values": list(collection.time_texts), "trs": TRS,
        },
    }  # fmt: skip
    if collection.custom:
        found["custom"] = [
            {
                "id": custom.name,
                "interval": [[custom.texts[0], custom.texts[-1]]],
                "values": list(custom.texts),
                "reference": REFERENCES.get(custom.name, HERE),
                "description": custom.about,
            }
            for custom in collection.custom.values()
        ]
    return found


