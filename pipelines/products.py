"""What is derived from coupled members: chances of rain over windows, and values of local days.

Every sum and extreme is taken per member first; only then is anything counted or sorted. Quantiles of parts do not add up to quantiles of
a whole, members do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, GRID, LATITUDE, LEAD_TIME, LONGITUDE, STATION, THRESHOLD, WINDOW
from data_catalog.regions import Region
from models.base import to_quantiles

HOUR = np.timedelta64(1, "h")
RAIN = "precipitation_amount"
TEMPERATURE = "temperature_2m"


def lead_hours(dataset: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Leads in hours, float64, shape (L,)."""
    return np.asarray(dataset[LEAD_TIME].values / HOUR, dtype=np.float64)


def interval_hours(dataset: xr.Dataset) -> np.ndarray:
    """Length in hours of the interval that ends at each lead, shape (L,), NaN where there is none.

    Read from ``lead_time_bounds(lead_time, bounds)``.
    """
    if "lead_time_bounds" not in dataset:
        return np.full(dataset.sizes[LEAD_TIME], np.nan)
    bounds = dataset["lead_time_bounds"].values
    missing = np.isnat(bounds).any(axis=1)
    return np.where(missing, np.nan, (bounds[:, 1] - bounds[:, 0]) / HOUR)


def window_sums(amounts: xr.DataArray, intervals: np.ndarray, hours: int) -> xr.DataArray:
    """Sums over windows that end at each lead.

    Args:
        amounts: ``(lead_time, ...)``, kg m-2 over the interval ending at the lead.
        intervals: Length of each lead's interval in hours, shape (L,), NaN where there is none.
        hours: Length of the window.

    Returns:
        Same shape as ``amounts``; NaN where whole intervals do not fill the window exactly (a 3 h window over 6 h steps), or where one
        of them is missing.
    """
    leads = lead_hours(amounts)
    starts = leads - intervals
    values = amounts.transpose(LEAD_TIME, ...).values
    sums = np.full(values.shape, np.nan, dtype=np.float32)
    for last in range(leads.size):
        first, covered = last, intervals[last]
        while covered < hours and first > 0 and leads[first - 1] == starts[first]:
            first -= 1
            covered += intervals[first]
        if covered == hours:
            sums[last] = values[first : last + 1].sum(axis=0)
    return amounts.transpose(LEAD_TIME, ...).copy(data=sums)


def rain_thresholds(region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds in mm and whether each counts its own value (>=) or not (>), of the 24 h and 3 h classes together."""
    rules = dict(zip(region.rain.thresholds_24h, region.rain.inclusive_24h, strict=True))
    for value in region.rain.thresholds_3h:
        rules.setdefault(value, False)
    values = np.array(sorted(rules))
    return values, np.array([rules[value] for value in values])


def probabilities(members: xr.Dataset, region: Region) -> xr.Dataset:
    """The chance that rain over a window passes a threshold.

    Args:
        members: ``precipitation_amount(lead_time, places, ensemble_member)`` with ``lead_time_bounds``.
        region: Windows and thresholds.

    Returns:
        ``precipitation_amount_above(lead_time, window, threshold, places)`` in 0..1, the share of members; NaN where the spacing of the
        leads cannot resolve the window. ``threshold_inclusive(threshold)`` says whether the threshold itself counts. A window of one hour
        is there where an interval of one hour is.
    """
    return _chances(members, region, f"{RAIN}_above", lambda sums: sums)


def _chances(members: xr.Dataset, region: Region, name: str, of: Callable[[xr.DataArray], xr.DataArray], **about: str) -> xr.Dataset:
    """``name(lead_time, window, threshold, ...)``: the share of members in which what ``of`` makes of the sums over a window passes."""
    if RAIN not in members:
        return xr.Dataset()
    thresholds, inclusive = rain_thresholds(region)
    amounts = members[RAIN].drop_vars([c for c in ("lead_time_bounds",) if c in members.coords], errors="ignore")
    intervals = interval_hours(members)
    lengths = sorted({*region.rain.windows_hours, *([1] if (intervals == 1).any() else [])})
    shares = []
    for hours in lengths:
        values = of(window_sums(amounts, intervals, hours))
        known = values.notnull().all(ENSEMBLE_MEMBER)
        passed = [
            ((values >= value) if counts else (values > value)).mean(ENSEMBLE_MEMBER).where(known)
            for value, counts in zip(thresholds, inclusive, strict=True)
        ]
        shares.append(xr.concat(passed, dim=THRESHOLD))
    found = xr.concat(shares, dim=WINDOW).transpose(LEAD_TIME, WINDOW, THRESHOLD, ...).astype(np.float32).assign_attrs(
        long_name="chance that precipitation over the window ending at valid time passes the threshold", units="1",
        comment="share of coupled members; missing where the spacing of lead times cannot resolve the window", **about,
    )    # fmt: skip
    for of_amounts in ("standard_name", "cell_methods"):
        found.attrs.pop(of_amounts, None)
    windows = np.array(lengths, dtype="timedelta64[h]").astype("timedelta64[ns]")
    coords = {
        WINDOW: (WINDOW, windows, {"long_name": "length of the window ending at valid time"}),
        THRESHOLD: (THRESHOLD, thresholds, {"long_name": "amount to pass", "units": "kg m-2"}),
        "threshold_inclusive": (THRESHOLD, inclusive, {"long_name": "whether the threshold itself counts"}),
    }
    return xr.Dataset({name: found}).assign_coords(coords).assign_attrs(citation=region.rain.citation)


def anywhere(members: xr.Dataset, region: Region) -> xr.Dataset:
    """Rain anywhere in the city: of the greatest sum at any cell centre in its box, taken member by member.

    Args:
        members: ``precipitation_amount(lead_time, latitude, longitude, ensemble_member)`` with scalar ``init_time`` and
            ``lead_time_bounds``.
        region: The city's box; windows, thresholds, time zone and ends of the rain day.

    Returns:
        ``precipitation_amount_above_city(lead_time, window, threshold)`` as :func:`probabilities` has it at places, and
        ``precipitation_amount_day_ending_HHMM_city(day, quantile)`` as :func:`daily` does; NaN where a cell is missing. Empty without rain.
    """
    inside = members.sel(city_box(region)).drop_vars(GRID, errors="ignore")
    chances = _chances(inside, region, f"{RAIN}_above_city", _greatest, support="any cell centre in the city")
    days = {
        f"{name}_city": to_quantiles(_greatest(sums)).assign_attrs(sums.attrs, support="greatest of the cell centres in the city")
        for name, sums in _rain_days(inside, region).items()
    }
    return xr.merge([chances, _of_days(days, region)], compat="override", combine_attrs="drop_conflicts")


def _greatest(sums: xr.DataArray) -> xr.DataArray:
    """The greatest of the cells, NaN where one is missing."""
    return sums.max([LATITUDE, LONGITUDE], skipna=False)


def city_box(region: Region) -> dict[str, slice]:
    """Selects the cell centres in the city's box."""
    city = region.city
    return {LATITUDE: slice(city.latitude_north, city.latitude_south), LONGITUDE: slice(city.longitude_west, city.longitude_east)}


def local_days(init_time: np.datetime64, leads: np.ndarray, region: Region, ends_at: str) -> tuple[np.ndarray, np.ndarray]:
    """Local days that the leads touch, and their ends in hours after init_time.

    Args:
        init_time: UTC.
        leads: Hours, ascending.
        region: Its time zone.
        ends_at: ``HH:MM`` local time at which the day ends; ``24:00`` for the calendar day.

    Returns:
        (dates ``datetime64[D]`` of the local day in which the day ends, or of the calendar day; end of each day in hours after init_time).
    """
    zone = ZoneInfo(region.timezone)
    hour, minute = (int(part) for part in ends_at.split(":"))
    start = init_time.astype("datetime64[s]")
    first = start.astype("datetime64[D]") - 1
    count = int(leads[-1] // 24) + 4
    dates, ends = [], []
    for date in first + np.arange(count):
        year, month, day = (int(part) for part in str(date).split("-"))
        local_midnight = np.datetime64(_utc(year, month, day, zone)).astype("datetime64[s]")
        end = (local_midnight + np.timedelta64(hour * 60 + minute, "m") - start) / HOUR
        if leads[0] < end <= leads[-1] + 1e-9:
            dates.append(date)
            ends.append(float(end))
    return np.array(dates, dtype="datetime64[D]"), np.array(ends)


def _utc(year: int, month: int, day: int, zone: ZoneInfo) -> str:
    moment = datetime(year, month, day, tzinfo=zone).astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat()


def daily(members: xr.Dataset, region: Region) -> xr.Dataset:
    """Values of local days, per member, then as quantiles.

    Args:
        members: ``VARIABLE(lead_time, places, ensemble_member)`` with scalar ``init_time`` and ``lead_time_bounds``.
        region: Time zone and ends of the rain day.

    Returns:
        ``<VARIABLE>(day, places, quantile)``: ``precipitation_amount_day_ending_HHMM`` for the rain days, and ``temperature_2m_max``,
        ``temperature_2m_min``, ``temperature_2m_mean`` of the calendar day, from the instants there are (at least one each six hours).
        ``day`` is the local date on which the day ends. NaN where the leads do not cover the whole day.
    """
    found = {name: to_quantiles(sums).assign_attrs(sums.attrs) for name, sums in _rain_days(members, region).items()}
    if TEMPERATURE in members:
        found |= _daily_temperature(members[TEMPERATURE], _started(members), lead_hours(members), region)
    return _of_days(found, region)


def _rain_days(members: xr.Dataset, region: Region) -> dict[str, xr.DataArray]:
    """``precipitation_amount_day_ending_HHMM(day, places, ensemble_member)`` of the rain days that the leads cover; empty without rain."""
    if RAIN not in members:
        return {}
    leads, sums = lead_hours(members), window_sums(members[RAIN], interval_hours(members), 24)
    found = {}
    for clock in region.rain.day_ends_local:
        picked = _at_leads(sums, leads, *local_days(_started(members), leads, region, clock))
        if picked is not None:
            found[f"{RAIN}_day_ending_{clock.replace(':', '')}"] = picked.assign_attrs(
                units="kg m-2", standard_name=RAIN, cell_methods="time: sum (interval: 24 hours)",
                long_name=f"precipitation of the local day ending {clock}",
            )    # fmt: skip
    return found


def _started(members: xr.Dataset) -> np.datetime64:
    return np.datetime64(members["init_time"].values.item(), "ns")


def _of_days(found: Mapping[str, xr.DataArray], region: Region) -> xr.Dataset:
    """Variables over the days that any of them has."""
    named = [array.rename(name) for name, array in found.items()]
    merged = xr.merge(named, join="outer", compat="override", combine_attrs="drop") if named else xr.Dataset()
    if "day" in merged.coords:
        merged["day"].attrs = {"long_name": f"local date on which the day ends, {region.timezone}"}
    return merged


def _at_leads(sums: xr.DataArray, leads: np.ndarray, days: np.ndarray, ends: np.ndarray) -> xr.DataArray | None:
    """The sums whose lead is a day's end, on a ``day`` dimension."""
    index = [int(np.flatnonzero(leads == end)[0]) if (leads == end).any() else -1 for end in ends]
    kept = [position for position, i in enumerate(index) if i >= 0]
    if not kept:
        return None
    picked = sums.isel({LEAD_TIME: [index[position] for position in kept]})
    return _on_days(picked, days[kept])


def _on_days(picked: xr.DataArray, days: np.ndarray) -> xr.DataArray:
    """Replace the lead dimension of ``picked`` by local dates."""
    drop = [name for name in picked.coords if LEAD_TIME in picked[name].dims]
    return picked.drop_vars(drop).rename({LEAD_TIME: "day"}).assign_coords(day=days.astype("datetime64[ns]"))


def _daily_temperature(
    temperature: xr.DataArray, init_time: np.datetime64, leads: np.ndarray, region: Region
) -> dict[str, xr.DataArray]:
    """Highest, lowest and mean temperature of each calendar day that the leads cover with gaps of six hours at most."""
    days, ends = local_days(init_time, leads, region, "24:00")
    parts: dict[str, list[xr.DataArray]] = {"max": [], "min": [], "mean": []}
    kept = []
    for day, end in zip(days, ends, strict=True):
        inside = np.flatnonzero((leads > end - 24) & (leads <= end))
        edges = np.concatenate([[end - 24], leads[inside], [end]])
        if inside.size < 4 or np.diff(edges).max() > 6:
            continue
        kept.append(day)
        values = temperature.isel({LEAD_TIME: inside})
        parts["max"].append(values.max(LEAD_TIME, skipna=False))
        parts["min"].append(values.min(LEAD_TIME, skipna=False))
        parts["mean"].append(values.mean(LEAD_TIME, skipna=False))
    if not kept:
        return {}
    words = {"max": ("highest", "maximum"), "min": ("lowest", "minimum"), "mean": ("mean", "mean")}
    found = {}
    for part, arrays in parts.items():
        stacked = xr.concat(arrays, dim="day").assign_coords(day=np.array(kept).astype("datetime64[ns]"))
        found[f"{TEMPERATURE}_{part}"] = to_quantiles(stacked).assign_attrs(
            units="degree_Celsius", standard_name="air_temperature", cell_methods=f"time: {words[part][1]} (interval: 24 hours)",
            long_name=f"{words[part][0]} 2 m temperature of the local calendar day, from the published lead times",
        )
    return found


def rain_rules(region: Region) -> list[tuple[int, float, bool]]:
    """What duty practice asks of a rain day: (window in hours, amount in mm, whether the amount itself counts)."""
    rules = [(24, value, counts) for value, counts in zip(region.rain.thresholds_24h, region.rain.inclusive_24h, strict=True)]
    rules += [(3, value, False) for value in region.rain.thresholds_3h]
    return rules + [(2, value, False) for value in region.rain.thresholds_2h]


def rain_risk(at_stations: Mapping[str, xr.Dataset], on_grid: Mapping[str, xr.Dataset], region: Region) -> xr.Dataset:
    """The chance that a rain day brings rain that passes a rule, at stations and anywhere in the city, for blend and raw members alike.

    Args:
        at_stations: By name (``blend``, ``raw_<dataset>``): ``precipitation_amount(lead_time, station, ensemble_member)`` with
            ``lead_time_bounds`` and scalar ``init_time``.
        on_grid: The same names on latitude and longitude.
        region: Rules, ends of the rain day, box of the city.

    Returns:
        ``precipitation_risk(forecaster, day_end, rule, station)`` in 0..1: the share of members in which a window of the rule's length that
        ends within the 24 h up to ``day_end`` passes the rule's threshold; for a rule of 24 h that is the rain day itself.
        ``precipitation_risk_city(forecaster, day_end, rule)``: likewise for any cell centre of the grid in the city's box.
        NaN where the spacing of the leads cannot resolve the window, or a forecaster does not reach that far.
        ``member_count(forecaster)``. Empty when no member has rain.
    """
    places = {name: members for name, members in at_stations.items() if RAIN in members}
    if not places:
        return xr.Dataset()
    rules = rain_rules(region)
    first = next(iter(places.values()))
    init_time = np.datetime64(np.ravel(first["init_time"].values)[0], "ns")
    leads = lead_hours(first)
    ends = np.unique(np.concatenate([local_days(init_time, leads, region, clock)[1] for clock in region.rain.day_ends_local]))
    city = city_box(region)
    shares, city_shares, counts = [], [], []
    for name, members in places.items():
        passed, known = _passed(members, ends, rules)
        shares.append(_share(passed, np.all(known, axis=-1)))
        counts.append(passed.shape[-1])
        cells, cells_known = _passed(on_grid[name].sel(city).stack(cell=(LATITUDE, LONGITUDE)), ends, rules)
        city_shares.append(_share(np.any(cells, axis=2), np.all(cells_known, axis=(2, 3))))
    dims = (FORECASTER, "day_end", "rule")
    about = {
        "long_name": "chance that rain in the rain day passes the rule", "units": "1",
        "comment": "share of members with a window of the rule's length, ending within the 24 h up to day_end, that passes its threshold",
    }
    return xr.Dataset(
        {
            f"{RAIN.removesuffix('_amount')}_risk": ((*dims, STATION), np.stack(shares), about),
            f"{RAIN.removesuffix('_amount')}_risk_city": (dims, np.stack(city_shares), about | {"support": "any cell centre in the city"}),
            "member_count": (FORECASTER, np.array(counts, dtype=np.int32), {"long_name": "members counted"}),
        },
        coords={
            FORECASTER: np.array(list(places), dtype=object),
            "day_end": ("day_end", init_time + (ends * HOUR).astype("timedelta64[ns]"), {"long_name": "end of the rain day, UTC"}),
            "rule_window": ("rule", np.array([w for w, _, _ in rules], dtype=np.int32), {"units": "hours"}),
            "rule_threshold": ("rule", np.array([t for _, t, _ in rules]), {"units": "kg m-2"}),
            "rule_inclusive": ("rule", np.array([c for _, _, c in rules])),
            STATION: first[STATION],
        },
        attrs={"citation": region.rain.citation},
    )


def _passed(members: xr.Dataset, ends: np.ndarray, rules: list[tuple[int, float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each member passes each rule in each rain day, and whether that can be known; both (day_end, rule, place, member)."""
    amounts = members[RAIN].squeeze("init_time", drop=True) if "init_time" in members[RAIN].dims else members[RAIN]
    amounts = amounts.transpose(LEAD_TIME, ..., ENSEMBLE_MEMBER)
    leads, intervals = lead_hours(amounts), interval_hours(members)
    shape = (ends.size, len(rules), *amounts.shape[1:])
    passed, known = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    whole = [np.nansum(intervals[(leads > end - 24) & (leads <= end)]) >= 24 for end in ends]
    sums = {hours: window_sums(amounts, intervals, hours).values for hours in {hours for hours, _, _ in rules}}
    for day, end in enumerate(ends):
        for rule, (hours, threshold, counts) in enumerate(rules):
            inside = (leads == end) if hours >= 24 else (leads - hours >= end - 24) & (leads <= end)
            values = sums[hours][inside]
            if not inside.any():
                continue
            known[day, rule] = np.isfinite(values).all(axis=0) & whole[day]
            passed[day, rule] = ((values >= threshold) if counts else (values > threshold)).any(axis=0)
    return passed, known


def _share(passed: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share of members (last axis) where it is known, NaN elsewhere; float32."""
    return np.where(known, passed.mean(axis=-1), np.nan).astype(np.float32)
