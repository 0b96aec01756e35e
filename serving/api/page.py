"""Compact JSON for the forecasters' page, each answer from one published cycle.

These answers are the page's own and may change with it; programs read the published stores or OGC API - EDR. Numbers are rounded for
reading, missing ones are null. Nothing here forecasts: what is counted is counted in the published members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from fastapi import APIRouter, Response

from data_catalog.errors import GiomuaError, UnknownNameError
from data_catalog.regions import Region
from data_catalog.settings import Settings
from data_catalog.stations import by_id
from data_catalog.store import Root
from serving.api.cycles import Cycle, PublishedCycles
from serving.comfort import Weather, comfort, relative_humidity
from serving.observed import Observations, hourly, past_days, rain_frequency
from serving.verification import NEEDED_CYCLES, WARN_CHANCE, read_scorecard

HOUR = np.timedelta64(1, "h")
BOX: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles of a box of the meteogram; ECMWF's convention adds the extreme members."""
ENDS: Final = (0.01, 0.99)
"""In place of extreme members where only quantiles are published."""
RUNS: Final = 6
"""Cycles compared with each other."""
LISTED: Final = 40
OBSERVED_HOURS: Final = 72
SUM_HOURS: Final = (12, 24)
"""Windows of rain that the meteogram offers beside the periods of the forecast."""
CLUSTER_SHARE: Final = 0.1
CLUSTER_HOURS: Final = 72

VARIABLES: Final[Mapping[str, tuple[float, int]]] = {
    "temperature_2m": (1.0, 1),
    "precipitation_amount": (1.0, 1),
    "wind_speed_10m": (1.0, 1),
    "wind_gust_10m": (1.0, 1),
    "pressure_reduced_to_mean_sea_level": (0.01, 1),
    "dew_point_temperature_2m": (1.0, 1),
    "total_cloud_cover_atmosphere": (1.0, 0),
}
"""Shown variables: the factor to the page's units (hPa for Pa), and decimals."""

FIELDS: Final[Mapping[str, tuple[str, float, float]]] = {
    "rain24": ("precipitation_amount", 1.0, 0.1),
    "rain": ("precipitation_amount", 1.0, 0.1),
    "temperature": ("temperature_2m", 1.0, 0.1),
    "pressure": ("pressure_reduced_to_mean_sea_level", 0.01, 0.1),
    "wind": ("wind_speed_10m", 1.0, 0.1),
    "gust": ("wind_gust_10m", 1.0, 0.1),
    "u": ("wind_u_10m", 1.0, 0.1),
    "v": ("wind_v_10m", 1.0, 0.1),
}
"""Map fields: variable, factor to the page's units, step of the integers sent."""


def page_router(settings: Settings, store: PublishedCycles) -> APIRouter:
    """``/api/page/...``; see the functions for what each answers."""
    region = settings.load_region()
    observations = Observations(store.root, settings)
    router = APIRouter(prefix="/api/page", include_in_schema=False)

    @router.get("/index")
    def index() -> Response:
        return answer(index_of(store, region), "no-store")

    @router.get("/verification")
    def verification() -> Response:
        return answer(verification_of(store.root, store, observations), "no-store")

    @router.get("/observed/{place}")
    def observed(place: str) -> Response:
        return answer(observed_of(observations, region, by_id(region.operating, place).id), "no-store")

    @router.get("/runs/{place}")
    def runs(place: str) -> Response:
        return answer(runs_of_cycles(store, region, observations, by_id(region.operating, place).id))

    @router.get("/{cycle}/status")
    def status(cycle: str) -> Response:
        return answer(status_of(store.cycle(cycle), observations))

    @router.get("/{cycle}/risk/{place}")
    def risk(cycle: str, place: str) -> Response:
        return answer(risk_of(store.cycle(cycle), region, observations, by_id(region.operating, place).id))

    @router.get("/{cycle}/point/{place}")
    def point(cycle: str, place: str) -> Response:
        return answer(point_of(store.cycle(cycle), region, place))

    @router.get("/{cycle}/members/{place}/{variable}")
    def members(cycle: str, place: str, variable: str) -> Response:
        return answer(members_of(store.cycle(cycle), by_id(region.operating, place).id, variable))

    @router.get("/{cycle}/models/{variable}")
    def models(cycle: str, variable: str) -> Response:
        return answer(models_of(store.cycle(cycle), variable))

    @router.get("/{cycle}/comfort/{place}")
    def comforts(cycle: str, place: str) -> Response:
        return answer(comfort_of(store.cycle(cycle), region, observations, by_id(region.operating, place).id))

    @router.get("/{cycle}/map/{field}/{statistic}")
    def layer(cycle: str, field: str, statistic: str) -> Response:
        return answer(map_of(store.cycle(cycle), region, field, statistic))

    return router


def answer(content: Mapping[str, Any], caching: str = "no-cache") -> Response:
    """JSON without spaces; ``no-cache`` answers are kept by the server until the next cycle, ``no-store`` ones made every time."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return Response(body, media_type="application/json", headers={"Cache-Control": caching})


def numbers(values: np.ndarray, decimals: int) -> Any:
    """Nested lists of rounded numbers, None where missing."""
    rounded = np.round(np.asarray(values, dtype=np.float64), decimals) + 0.0
    known = np.isfinite(rounded)
    plain = (np.where(known, rounded, 0).astype(np.int64) if decimals == 0 else rounded).astype(object)
    plain[~known] = None
    return plain.tolist()


def stamp(time: np.datetime64) -> str:
    """``2025-01-10T12:00Z``."""
    return f"{time.astype('datetime64[m]')}Z"


def utc_offset(region: Region, time: np.datetime64) -> int:
    """Local time minus UTC in whole hours."""
    moment = datetime.fromisoformat(f"{time.astype('datetime64[s]')}+00:00")
    offset = moment.astimezone(ZoneInfo(region.timezone)).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() / 3600)


# --- what there is ------------------------------------------------------------------------------------------------------------------


def index_of(store: PublishedCycles, region: Region) -> dict[str, Any]:
    """The region and its rules, the cycles there are (newest first), and what is wrong with the newest, if anything."""
    names = store.names()
    first_revisions: dict[str, str] = {}
    for name in names:
        first_revisions.setdefault(name.key, name.id)
    now = names[0].init_time if names else np.datetime64("2000-01-01", "ns")
    return {
        "cycles": [{"id": found, "init_time": stamp(_key_time(key))} for key, found in list(first_revisions.items())[:LISTED]],
        "problem": store.problem,
        "region": {
            "title": region.title, "title_vi": region.title_vi or region.title, "offset_hours": utc_offset(region, now),
            "city": region.city.model_dump(), "rain": region.rain.model_dump(), "temperature": region.temperature.model_dump(),
            "normals": region.normals,
            "stations": [
                station.model_dump(include={"id", "name", "latitude", "longitude", "elevation", "city", "citation"})
                for station in region.operating
            ],
        },
    }  # fmt: skip


def _key_time(key: str) -> np.datetime64:
    return np.datetime64(f"{key[:4]}-{key[4:6]}-{key[6:8]}T{key[9:11]}", "ns")


def status_of(cycle: Cycle, observations: Observations) -> dict[str, Any]:
    """Each centre's run and state, and what was missing."""
    sources = json.loads(str(cycle.attributes.get("sources", "{}")))
    details = _details(cycle, observations)
    return {
        "id": cycle.id, "init_time": stamp(cycle.init_time), "simulated": cycle.simulated, "content_hash": cycle.content_hash,
        "sources": [
            {
                "dataset": name, "status": state["status"], "lag_hours": state["lag_hours"],
                "run": None if state["status"] == "missing" else stamp(cycle.init_time - state["lag_hours"] * HOUR),
                "members": _members(cycle).get(f"raw_{name}"),
            }
            for name, state in sorted(sources.items())
        ],
        "members": int(cycle.dataset("stations").sizes["ensemble_member"]),
        "notes": details.get("notes", []), "skipped": details.get("skipped", {}), "forecasters": details.get("forecasters", []),
    }  # fmt: skip


def _members(cycle: Cycle) -> dict[str, int]:
    if "risk" not in cycle.groups:
        return {}
    names = [str(name) for name in cycle.dataset("risk")["forecaster"].values]
    return dict(zip(names, cycle.read("risk", "member_count").tolist(), strict=True))


def _details(cycle: Cycle, observations: Observations) -> dict[str, Any]:
    """What the manifest recorded of this revision, {} where there is no manifest."""
    opened = observations.manifest()
    if opened is None:
        return {}
    with opened as manifest:
        for revision in manifest.revisions("published", cycle.name.key):
            if revision.content_hash == cycle.content_hash:
                return dict(revision.details)
    return {}


# --- rain -----------------------------------------------------------------------------------------------------------------------


def risk_of(cycle: Cycle, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    """Chances that rain days pass the duty rules: raw, calibrated and observed frequency, at a station and anywhere in the city.

    Returns:
        ``rules`` [{hours, amount, inclusive}], ``day_ends`` UTC, and for ``point`` and ``city``: ``blend`` and ``raw`` as lists by rule
        and day, ``climatology`` by rule with ``days``, ``first``, ``last``, ``season``. Empty rules when the cycle has no such group.
    """
    if "risk" not in cycle.groups:
        return {"rules": [], "day_ends": []}
    group = cycle.dataset("risk")
    names = [str(name) for name in group["forecaster"].values]
    columns = (group[f"rule_{part}"].values for part in ("window", "threshold", "inclusive"))
    rules = [(int(hours), float(amount), bool(counts)) for hours, amount, counts in zip(*columns, strict=True)]
    counts = np.array([_members(cycle)[name] for name in names], dtype=np.float64)
    reports = observations.all()
    ends_utc = [(int(clock[:2]) - utc_offset(region, cycle.init_time)) % 24 for clock in region.rain.day_ends_local]
    in_city = [one.id for one in region.operating if one.city]
    found: dict[str, Any] = {
        "rules": [{"hours": hours, "amount": amount, "inclusive": inclusive} for hours, amount, inclusive in rules],
        "day_ends": [stamp(end) for end in group["day_end"].values],
        "members": {"blend": int(counts[names.index("blend")]), "raw": int(sum(counts) - counts[names.index("blend")])},
    }
    point = cycle.read("risk", "precipitation_risk", station=_position(cycle, "risk", station))
    for place, chances, stations in (("point", point, [station]), ("city", cycle.read("risk", "precipitation_risk_city"), in_city)):
        found[place] = {
            "blend": numbers(chances[names.index("blend")].T, 3),
            "raw": numbers(_pooled(chances, counts, [i for i, name in enumerate(names) if name != "blend"]).T, 3),
            "climatology": None if reports is None else asdict(rain_frequency(reports, stations, rules, cycle.init_time, ends_utc)),
        }
    return found


def _pooled(chances: np.ndarray, counts: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """The share of all raw members together, of those centres that reach that far; NaN where none does."""
    kept, weight = chances[chosen], counts[chosen, None, None]
    known = np.isfinite(kept)
    total = (weight * known).sum(axis=0)
    passed = (weight * np.where(known, kept, 0)).sum(axis=0)
    return np.asarray(np.divide(passed, total, out=np.full(total.shape, np.nan), where=total > 0))


def _position(cycle: Cycle, group: str, station: str) -> int:
    names = [str(name) for name in cycle.dataset(group)["station"].values]
    if station not in names:
        raise UnknownNameError(f"{cycle.id} has no station {station!r}; it has {', '.join(names)}.")
    return names.index(station)


# --- a point --------------------------------------------------------------------------------------------------------------------


def place_of(cycle: Cycle, region: Region, place: str) -> tuple[dict[str, Any], str, dict[str, int]]:
    """A station by id, or the grid cell nearest to ``latitude,longitude``.

    Returns:
        (what it is, prefix of its groups: ``stations`` or ``grid``, its position).

    Raises:
        UnknownNameError: No such station, or the point lies outside the grid.
    """
    if "," not in place:
        station = by_id(region.operating, place)
        about = {"id": station.id, "name": station.name, "latitude": station.latitude, "longitude": station.longitude,
                 "elevation": station.elevation if np.isfinite(station.elevation) else None, "support": "point"}  # fmt: skip
        return about, "stations", {"station": _position(cycle, "stations", place)}
    try:
        latitude, longitude = (float(part) for part in place.split(","))
    except ValueError:
        raise UnknownNameError(f"The place {place[:60]!r} is neither a station nor latitude,longitude in degrees.") from None
    grid = cycle.dataset("grid")
    rows, columns = grid["latitude"].values, grid["longitude"].values
    step = abs(rows[0] - rows[-1]) / max(rows.size - 1, 1)
    if not (rows.min() - step <= latitude <= rows.max() + step and columns.min() - step <= longitude <= columns.max() + step):
        raise UnknownNameError(
            f"The point {latitude:g}, {longitude:g} lies outside {rows.min():g} to {rows.max():g} N and "
            f"{columns.min():g} to {columns.max():g} E."
        )
    row, column = int(np.abs(rows - latitude).argmin()), int(np.abs(columns - longitude).argmin())
    about = {"id": f"{rows[row]:g},{columns[column]:g}", "name": None, "latitude": float(rows[row]), "longitude": float(columns[column]),
             "elevation": None, "support": "cell"}  # fmt: skip
    return about, "grid", {"latitude": row, "longitude": column}


def point_of(cycle: Cycle, region: Region, place: str) -> dict[str, Any]:
    """A meteogram: by variable the blend's boxes and, at stations, those of every other forecaster.

    Returns:
        ``leads`` and ``intervals`` in hours; ``variables``: {name: {``blend``: [min, 10, 25, 50, 75, 90 %, max] by lead, and
        ``forecasters``: {id: [1, 10, 25, 50, 75, 90, 99 %] by lead}}}, rain also summed over :data:`SUM_HOURS` ending at each lead;
        ``daily``: {name: {days, quantiles [10, 50, 90 %]}}; ``chances``: {days, ends_local, above: {mm: chance by day}} of 24 h rain.
    """
    about, prefix, at = place_of(cycle, region, place)
    quantiles = cycle.dataset(f"{prefix}_quantiles")
    levels = quantiles["quantile"].values
    inner = [int(np.abs(levels - level).argmin()) for level in BOX]
    outer = [int(np.abs(levels - level).argmin()) for level in (ENDS[0], *BOX, ENDS[1])]
    names = [str(name) for name in cycle.dataset("models")["forecaster"].values] if "models" in cycle.groups else []
    shown = {}
    for variable, (factor, decimals) in VARIABLES.items():
        if variable not in quantiles:
            continue
        boxes = cycle.read(f"{prefix}_quantiles", variable, **at)[:, inner]
        members = cycle.read(prefix, variable, **at)
        least = np.minimum(members.min(axis=1, keepdims=True), boxes[:, :1])
        most = np.maximum(members.max(axis=1, keepdims=True), boxes[:, -1:])
        shown[variable] = {"blend": numbers(np.hstack([least, boxes, most]) * factor, decimals)}
        if prefix == "stations" and names and variable in cycle.dataset("models"):
            each = cycle.read("models", variable, **at)[..., outer] * factor
            shown[variable]["forecasters"] = {
                name: numbers(each[i], decimals) for i, name in enumerate(names) if np.isfinite(each[i]).any()
            }
    leads, intervals = _leads(cycle, f"{prefix}_quantiles"), _intervals(cycle, f"{prefix}_quantiles")
    if "precipitation_amount" in cycle.dataset(prefix):
        for hours in SUM_HOURS:
            sums = _sums(cycle.read(prefix, "precipitation_amount", **at), leads, intervals, hours)
            shown[f"precipitation_amount_{hours}h"] = {"blend": numbers(np.quantile(sums, (0.0, *BOX, 1.0), axis=1).T, 1)}
    daily = "daily" if prefix == "stations" else "grid_daily"
    return {
        "place": about, "members": int(cycle.dataset(prefix).sizes["ensemble_member"]),
        "leads": numbers(leads, 0), "intervals": numbers(intervals, 0),
        "variables": shown, "daily": _daily(cycle, daily, at), "chances": _day_chances(cycle, region, prefix, at),
    }  # fmt: skip


def _daily(cycle: Cycle, group: str, at: Mapping[str, int]) -> dict[str, Any]:
    if group not in cycle.groups:
        return {}
    dataset = cycle.dataset(group)
    levels = dataset["quantile"].values
    picked = [int(np.abs(levels - level).argmin()) for level in (0.1, 0.5, 0.9)]
    days = [str(day)[:10] for day in dataset["day"].values]
    return {"days": days} | {str(name): numbers(cycle.read(group, str(name), **at)[:, picked], 1) for name in dataset.data_vars}


def _day_chances(cycle: Cycle, region: Region, prefix: str, at: Mapping[str, int]) -> dict[str, Any]:
    """The chance that the first of the region's rain days passes each published threshold, by local date of its end."""
    group = "probabilities" if prefix == "stations" else "grid_probabilities"
    if group not in cycle.groups:
        return {"days": [], "above": {}}
    dataset = cycle.dataset(group)
    clock = region.rain.day_ends_local[0]
    local = cycle.init_time + dataset["lead_time"].values + utc_offset(region, cycle.init_time) * HOUR
    ends = np.flatnonzero(local - local.astype("datetime64[D]") == np.timedelta64(int(clock[:2]), "h"))
    windows = np.flatnonzero(dataset["window"].values == np.timedelta64(24, "h"))
    if not windows.size or not ends.size:
        return {"days": [], "above": {}}
    chances = cycle.read(group, "precipitation_amount_above", window=int(windows[0]), **at)[ends]
    return {
        "days": [str(day)[:10] for day in local[ends]], "ends_local": clock,
        "above": {f"{amount:g}": numbers(chances[:, i], 3) for i, amount in enumerate(dataset["threshold"].values)},
    }  # fmt: skip


def _leads(cycle: Cycle, group: str) -> np.ndarray:
    return np.asarray(cycle.dataset(group)["lead_time"].values / HOUR, dtype=np.float64)


def _intervals(cycle: Cycle, group: str) -> np.ndarray:
    dataset = cycle.dataset(group)
    if "lead_time_bounds" not in dataset.coords:
        return np.full(dataset.sizes["lead_time"], np.nan)
    bounds = dataset["lead_time_bounds"].values
    return np.where(np.isnat(bounds).any(axis=1), np.nan, (bounds[:, 1] - bounds[:, 0]) / HOUR)


def members_of(cycle: Cycle, station: str, variable: str) -> dict[str, Any]:
    """Every coupled member of a variable at a station, by member and lead."""
    if variable not in VARIABLES:
        raise UnknownNameError(f"No variable {variable[:60]!r} on the page; known are {', '.join(VARIABLES)}.")
    factor, decimals = VARIABLES[variable]
    values = cycle.read("stations", variable, station=_position(cycle, "stations", station)) * factor
    return {"leads": numbers(_leads(cycle, "stations"), 0), "members": numbers(values.T, decimals)}


def models_of(cycle: Cycle, variable: str) -> dict[str, Any]:
    """The weight of every forecaster by lead, and the pairs it was learned from."""
    if "models" not in cycle.groups or f"weight_{variable}" not in cycle.dataset("models"):
        raise UnknownNameError(f"{cycle.id} has no weights for {variable[:60]!r}.")
    models = cycle.dataset("models")
    pairs = cycle.read("models", f"pairs_{variable}") if f"pairs_{variable}" in models else None
    return {
        "variable": variable, "leads": numbers(_leads(cycle, "models"), 0),
        "weights": {
            str(name): numbers(row, 3)
            for name, row in zip(models["forecaster"].values, cycle.read("models", f"weight_{variable}"), strict=True)
        },
        "pairs": None if pairs is None else pairs.tolist(),
        "training": {key: models.attrs.get(f"training_{key}") for key in ("from", "to")},
        "variables": [name for name in VARIABLES if f"weight_{name}" in models],
    }  # fmt: skip


# --- days, runs, comfort -----------------------------------------------------------------------------------------------------------


def observed_of(observations: Observations, region: Region, station: str) -> dict[str, Any]:
    """The last hours and days at a station."""
    reports = observations.all()
    if reports is None:
        return {"times": [], "variables": {}, "days": []}
    offset = utc_offset(region, reports["time"].values[-1])
    times: np.ndarray = np.array([], dtype="datetime64[h]")
    shown = {}
    for variable, (factor, decimals) in VARIABLES.items():
        grid, values = hourly(reports, variable, station)
        if values.size and np.isfinite(values[-OBSERVED_HOURS:]).any():
            times = grid[-OBSERVED_HOURS:]
            shown[variable] = numbers(values[-OBSERVED_HOURS:] * factor, decimals)
    ends = [int(clock[:2]) for clock in region.rain.day_ends_local]
    days = past_days(reports.isel(time=slice(-34 * 24, None)), station, offset, ends)[-31:]
    return {"times": [stamp(time) for time in times], "variables": shown, "days": days, "simulated": bool(reports.attrs.get("simulated"))}


def comfort_of(cycle: Cycle, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    """:func:`serving.comfort.comfort` at a station, with the two days observed before the cycle in front where there are reports."""
    at = {"station": _position(cycle, "stations", station)}
    needed = ("temperature_2m", "dew_point_temperature_2m", "precipitation_amount")
    if any(name not in cycle.dataset("stations") for name in needed):
        return {"days": [], "reason": f"The cycle lacks one of {', '.join(needed)}."}
    temperature, dew_point, rain = (cycle.read("stations", name, **at).astype(np.float64) for name in needed)
    leads, intervals = _leads(cycle, "stations"), _intervals(cycle, "stations")
    humidity = relative_humidity(temperature, np.minimum(dew_point, temperature))
    past = _before(observations, station, cycle.init_time, temperature.shape[1])
    if past is not None:
        start = int(leads[0] == past.hours[-1])     # what was observed at the start stands for the forecast of it
        leads = np.concatenate([past.hours, leads[start:]])
        temperature, dew_point, humidity, rain = (
            np.concatenate([before, now[start:]])
            for before, now in ((past.temperature, temperature), (past.dew_point, dew_point), (past.humidity, humidity), (past.rain, rain))
        )
        intervals = np.concatenate([past.interval, intervals[start:]])
    offset = utc_offset(region, cycle.init_time)
    midnight = float(-((cycle.init_time.astype("datetime64[h]").astype(int) + offset) % 24))
    weather = Weather(leads, temperature, dew_point, humidity, rain, intervals)
    found = comfort(weather, midnight, region.temperature.cold_mean, region.temperature.heat_maximum)
    local = [cycle.init_time + np.timedelta64(round(end) + offset - 24, "h") for end in found["end"]]
    return found | {
        "days": [str(day)[:10] for day in local], "observed_until": None if past is None else float(past.hours[-1]),
        "cold_mean": region.temperature.cold_mean, "heat_maximum": region.temperature.heat_maximum,
    }


def _before(observations: Observations, station: str, init_time: np.datetime64, members: int) -> Weather | None:
    """Three-hourly reports of the 72 h up to the cycle's start, the same in every member; None where there is none.

    A time without temperature and dew point is left out; rain that is not known in full is NaN.
    """
    reports = observations.all()
    if reports is None:
        return None
    wanted = init_time.astype("datetime64[h]") + np.arange(-72, 1, 3)
    temperature, dew_point = (_at(hourly(reports, name, station), wanted) for name in ("temperature_2m", "dew_point_temperature_2m"))
    rain = np.stack([_at(hourly(reports, "precipitation_amount", station), wanted - back) for back in range(3)]).sum(axis=0)
    known = np.isfinite(temperature) & np.isfinite(dew_point)
    if not known.any():
        return None
    temperature, dew_point, rain = (np.repeat(values[known, None], members, axis=1) for values in (temperature, dew_point, rain))
    hours = (wanted[known] - init_time.astype("datetime64[h]")).astype(float)
    humidity = relative_humidity(temperature, np.minimum(dew_point, temperature))
    return Weather(hours, temperature, dew_point, humidity, rain, np.full(hours.shape, 3.0))


def _at(series: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """Values of an hourly series at some hours, NaN outside it."""
    times, values = series
    if not times.size:
        return np.full(wanted.shape, np.nan)
    place = (wanted - times[0]).astype(int)
    inside = (place >= 0) & (place < times.size)
    return np.where(inside, values[np.where(inside, place, 0)], np.nan)


def runs_of_cycles(store: PublishedCycles, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    """The newest cycles beside each other for the same local days: highest temperature, 24 h rain, P(> 50 mm) and surge onset."""
    newest: dict[str, str] = {}
    for name in store.names():
        newest.setdefault(name.key, name.id)
    rows = []
    for cycle_id in list(newest.values())[:RUNS]:
        try:
            rows.append(_run(store.cycle(cycle_id), region, observations, station))
        except GiomuaError:         # an older cycle that is gone or damaged leaves its row out
            continue
    return {"runs": rows}


def _run(cycle: Cycle, region: Region, observations: Observations, station: str) -> dict[str, Any]:
    at = {"station": _position(cycle, "stations", station)}
    days = _daily(cycle, "daily", at)
    comforts = comfort_of(cycle, region, observations, station)
    surge = dict(zip(comforts["days"], comforts.get("surge", []), strict=False))
    chances: dict[str, Any] = {}
    if "risk" in cycle.groups:
        group = cycle.dataset("risk")
        place = [str(name) for name in group["forecaster"].values].index("blend")
        rule = np.flatnonzero((group["rule_window"].values == 24) & (group["rule_threshold"].values == 50.0))
        if rule.size:
            values = cycle.read("risk", "precipitation_risk", station=_position(cycle, "risk", station))[place, :, rule[0]]
            chances = {stamp(end): value for end, value in zip(group["day_end"].values, numbers(values, 3), strict=True)}
    return {
        "id": cycle.id, "init_time": stamp(cycle.init_time), "daily": days, "above_50": chances,
        "surge": {day: chance for day, chance in surge.items() if chance is not None},
    }


# --- the map --------------------------------------------------------------------------------------------------------------------


def map_of(cycle: Cycle, region: Region, field: str, statistic: str) -> dict[str, Any]:
    """One map layer for all leads, as integers in steps of ``scale``.

    Args:
        cycle: The cycle.
        region: Box of the city, by whose rain members are ranked.
        field: One of :data:`FIELDS`, or ``above<mm>`` (the chance that 24 h rain passes a published threshold; statistic ``chance``).
        statistic: ``q10``, ``q50``, ``q90`` (of coupled members), ``mean``, or the mean of the ``wet``, ``middle`` or ``dry`` tenth of
            members, ranked by city-mean rain of the first 72 h.

    Returns:
        ``latitude``, ``longitude``, ``leads``, ``shape`` (lead, latitude, longitude), ``scale``, ``values`` flat.
    """
    grid = cycle.dataset("grid")
    if field.startswith("above"):
        values, scale = _chance_map(cycle, field.removeprefix("above")), 0.01
    elif field in FIELDS:
        variable, factor, scale = FIELDS[field]
        if variable not in grid:
            raise UnknownNameError(f"{cycle.id} has no {variable} on the grid.")
        members = cycle.read("grid", variable) * factor                                     # (lead, latitude, longitude, member)
        if field == "rain24":
            members = _sums(members, _leads(cycle, "grid"), _intervals(cycle, "grid"), 24)
        values = _reduced(members, statistic, lambda: _ranked(cycle, region))
    else:
        raise UnknownNameError(f"No map field {field[:40]!r}; known are {', '.join(FIELDS)} and above<mm>.")
    whole = np.round(values / scale)
    return {
        "latitude": grid["latitude"].values.tolist(), "longitude": grid["longitude"].values.tolist(),
        "leads": numbers(_leads(cycle, "grid"), 0), "intervals": numbers(_intervals(cycle, "grid"), 0),
        "shape": list(values.shape), "scale": scale, "values": numbers(whole.ravel(), 0),
    }  # fmt: skip


def _chance_map(cycle: Cycle, threshold: str) -> np.ndarray:
    group = cycle.dataset("grid_probabilities")
    amounts = [f"{value:g}" for value in group["threshold"].values]
    windows = np.flatnonzero(group["window"].values == np.timedelta64(24, "h"))
    if threshold not in amounts or not windows.size:
        raise UnknownNameError(f"No chance of more than {threshold[:20]!r} mm; published are {', '.join(amounts)}.")
    return cycle.read("grid_probabilities", "precipitation_amount_above", window=int(windows[0]), threshold=amounts.index(threshold))


def _sums(amounts: np.ndarray, leads: np.ndarray, intervals: np.ndarray, hours: int) -> np.ndarray:
    """Sums over windows of whole intervals that end at each lead, NaN where they do not fill it; leads on axis 0."""
    found = np.full(amounts.shape, np.nan, dtype=np.float32)
    for last in range(leads.size):
        inside = (leads > leads[last] - hours) & (leads <= leads[last])
        if np.isfinite(intervals[inside]).all() and intervals[inside].sum() == hours:
            found[last] = amounts[inside].sum(axis=0)
    return found


def _reduced(members: np.ndarray, statistic: str, ranked: Any) -> np.ndarray:
    if statistic in ("q10", "q50", "q90"):
        return np.asarray(np.quantile(members, int(statistic[1:]) / 100, axis=-1))
    if statistic == "mean":
        return np.asarray(members.mean(axis=-1))
    if statistic not in ("wet", "middle", "dry"):
        raise UnknownNameError(f"No statistic {statistic[:40]!r}; known are q10, q50, q90, mean, wet, middle and dry.")
    order = ranked()
    size = max(1, round(order.size * CLUSTER_SHARE))
    first = {"dry": 0, "middle": (order.size - size) // 2, "wet": order.size - size}[statistic]
    return np.asarray(members[..., order[first : first + size]].mean(axis=-1))


def _ranked(cycle: Cycle, region: Region) -> np.ndarray:
    """Members from the driest to the wettest by city-mean rain of the first hours."""
    grid = cycle.dataset("grid")
    latitude, longitude = grid["latitude"].values, grid["longitude"].values
    rows = np.flatnonzero((latitude <= region.city.latitude_north) & (latitude >= region.city.latitude_south))
    columns = np.flatnonzero((longitude >= region.city.longitude_west) & (longitude <= region.city.longitude_east))
    rain = cycle.read("grid", "precipitation_amount")[:, rows][:, :, columns]
    total = np.nansum(rain[_leads(cycle, "grid") <= CLUSTER_HOURS], axis=(0, 1, 2))
    return np.argsort(total, kind="stable")


# --- how good it was ----------------------------------------------------------------------------------------------------------------


def verification_of(root: Root, store: PublishedCycles, observations: Observations) -> dict[str, Any]:
    """The scorecard if there is one, the scores over the past that the newest run held out, and how many live cycles there are."""
    scorecard, problem = None, None
    try:
        scorecard = read_scorecard(root)
    except GiomuaError as error:
        problem = str(error)
    opened = observations.manifest()
    live, held_out = 0, []
    if opened is not None:
        with opened as manifest:
            revisions = manifest.revisions("published", latest_only=True)
        live = sum(not revision.details.get("simulated") for revision in revisions)
        names = store.names()
        key = names[0].key if names else None
        held_out = next((list(revision.details.get("skill", [])) for revision in revisions if revision.key == key), [])
    return {
        "scorecard": None if scorecard is None else scorecard.model_dump(),
        "problem": problem, "held_out": held_out, "live_cycles": live,
        "needed_cycles": NEEDED_CYCLES if scorecard is None else scorecard.needed_cycles, "warn_chance": WARN_CHANCE,
    }
