"""What a person reads at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_catalog.settings import Settings
from data_catalog.store import Root
from pipelines.cycle import CycleReport

if TYPE_CHECKING:
    from pipelines.verify import VerifyReport

HOUR = np.timedelta64(1, "h")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns of text, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in (header, *rows)
    ]
    return "\n".join(["  " + line.rstrip() for line in lines])


def render_observed(results: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]) -> str:
    """What a person wants to know of an observing run: how much came from where, what is not to be used, what is missing."""
    lines = []
    for network, result in results.items():
        counts = [f"{result['reports']} reports", *([f"{result['soundings']} soundings"] if result["soundings"] else [])]
        counts += [f"{count} {outcome}" for outcome, count in result["received"].items()]
        lines.append(f"{network}: {', '.join(counts)}" + (f"; {', '.join(result['months'])} renewed" if result["months"] else ""))
        if result["flagged"]:
            lines.append("  flagged: " + ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in result["flagged"].items()))
        for kind in ("missing", "quarantined"):
            rows = result[kind]
            lines += [f"  {kind}: {row['file']}{_part(row)}: {row['reason']}" for row in rows[:5]]
            if len(rows) > 5:
                lines.append(f"  {kind}: and {len(rows) - 5} more; --json lists them all")
    lines += [f"{network}: failed: {reason}" for network, reason in failed.items()]
    return "\n".join(lines)


def _part(row: Mapping[str, Any]) -> str:
    return f" part {row['part']}" if row.get("part") else ""


def render_cycle(settings: Settings, report: CycleReport) -> str:
    """What a person wants to know at the end of a run: where it is, what tomorrow brings, how good it is, what to type next."""
    parts = [
        f"{'Simulated data. ' if report.simulated else ''}"
        f"Published {report.init_time} r{report.revision}{' (there already)' if report.reused else ''}\n  {report.store}",
        _tomorrow(settings, report),
        _skill_table(report),
    ]
    if report.notes:
        parts.append("Missing or late:\n" + "\n".join(f"  - {note}" for note in report.notes))
    parts.append(
        "Next: giomua status, or read it in Python\n"
        f'  import xarray as xr; xr.open_zarr("{report.store}", group="stations_quantiles")'
    )
    return "\n\n".join(part for part in parts if part)


def _tomorrow(settings: Settings, report: CycleReport) -> str:
    """The next local day at the region's first station: temperature, rain and their chances."""
    root = Root.open(settings)
    region = settings.load_region()
    station = region.operating[0]
    if "daily" not in root.groups(report.href):
        return _what_there_is(root, report, station.id, station.name)
    days = root.open_store(report.href, "daily").sel(station=station.id).load()
    init = np.datetime64(report.init_time.rstrip("Z"), "ns")
    tomorrow = (init + 7 * HOUR).astype("datetime64[D]") + 1
    dates = days["day"].values.astype("datetime64[D]")
    if tomorrow not in dates:
        tomorrow = dates[0]
    day = days.isel(day=int(np.flatnonzero(dates == tomorrow)[0]))
    rows = []
    for name, label in (("temperature_2m_max", "highest temperature, °C"), ("temperature_2m_min", "lowest temperature, °C")):
        if name in day:
            rows.append([label, *_quantile_cells(day[name], "{:.1f}")])
    rains = [name for name in day.data_vars if str(name).startswith("precipitation_amount_day_ending")]
    for name in sorted(map(str, rains), reverse=True):
        clock = name.rpartition("_")[2]
        rows.append([f"rain of 24 h ending {clock[:2]}:{clock[2:]}, mm", *_quantile_cells(day[name], "{:.1f}")])
    text = f"{station.name}, {tomorrow} (local day):\n" + table(rows, ["", "10 %", "50 %", "90 %"])
    chances = _chances(day, rains, region.rain.thresholds_24h, region.rain.inclusive_24h)
    return f"{text}\n{chances}" if chances else text


def _quantile_cells(values: Any, form: str) -> list[str]:
    if not values.notnull().all():
        return ["-"] * 3
    return [form.format(float(values.sel(quantile=level, method="nearest"))) for level in (0.1, 0.5, 0.9)]


def _chances(day: Any, rains: Sequence[Any], thresholds: Sequence[float], inclusive: Sequence[bool]) -> str:
    """The chance that each rain day passes each threshold, from the quantiles."""
    rows = []
    for name in sorted(map(str, rains), reverse=True):
        if not bool(day[name].notnull().all()):
            continue
        levels, values = day["quantile"].values, day[name].values
        clock = name.rpartition("_")[2]
        cells = []
        for threshold, counts in zip(thresholds, inclusive, strict=True):
            below = np.searchsorted(values, threshold, side="left" if counts else "right")
            chance = 1.0 if below == 0 else 0.0 if below == values.size else 1.0 - float(levels[below - 1])
            cells.append(f"{100 * chance:.0f} %")
        rows.append([f"chance, 24 h ending {clock[:2]}:{clock[2:]}", *cells])
    header = ["", *(f"{'≥' if counts else '>'}{value:g} mm" for value, counts in zip(thresholds, inclusive, strict=True))]
    return table(rows, header) if rows else ""


def _what_there_is(root: Root, report: CycleReport, station: str, name: str) -> str:
    """For a cycle too short for a day: the median of every variable at its last lead."""
    point = root.open_store(report.href, "stations_quantiles").sel(station=station).isel(lead_time=-1).sel(quantile=0.5).load()
    lead = int(point["lead_time"].values / HOUR)
    rows = [[str(v), f"{float(a):.2f}", str(a.attrs.get("units", ""))] for v, a in point.data_vars.items() if a.notnull().all()]
    return f"{name}, {lead} h after the start:\n" + table(rows, ["", "median", "units"])


def _skill_table(report: CycleReport) -> str:
    """Mean score of the blend beside every raw ensemble and climatology, over the held-out past."""
    if not report.skill:
        return "No score yet: the archive has too little past to hold any of it out."
    variables = list(dict.fromkeys(str(row["variable"]) for row in report.skill))
    names = sorted({str(row["forecaster"]) for row in report.skill}, key=lambda n: (n != "blend", n))
    score = {(row["forecaster"], row["variable"]): float(row["crps"]) for row in report.skill}
    rows = [[name, *(f"{score[name, v]:.3f}" if (name, v) in score else "-" for v in variables)] for name in names]
    first = report.skill[0]
    where = "simulated past" if report.simulated else "past"
    return (
        f"Score over the held-out {where}, {first['held_out_from']} to {first['held_out_to']} "
        f"(CRPS, lower is better, all leads and stations):\n" + table(rows, ["", *(SHORT.get(v, v) for v in variables)])
    )


def render_verified(report: VerifyReport) -> str:
    """The scorecard, drifts, what changed, and which cycles could not be verified."""
    parts = [report.message]
    card = report.scorecard
    if card is not None:
        judged = {(row["variable"], row["score"], tuple(row["lead_hours"])): row for row in card["scores"]}
        rows = [_judged(row) for row in card["scores"]]
        blends = [row for row in card["forecasters"] if row["forecaster"] == "blend"]
        young = [
            row for row in blends if (row["variable"], "crps", tuple(row["lead_hours"])) not in judged and row["coverage_90"] is not None
        ]
        if rows:
            header = ["score (lower is better)", "leads, h", "n", "events", "blend", "best centre", "score", "climatology", "skill", "95 %"]
            parts.append(table(rows, header))
        if young:
            header = ["too few days for a skill", "leads, h", "n", "CRPS", "bias", "coverage 50", "90"]
            parts.append(table([_young(row) for row in young], header))
        parts += [f"Drift: {one['variable']} is {one['kind']} since {one['since']} (CUSUM {one['size']:.1f})." for one in card["drifts"]]
        news = report.changes or ("Nothing changed since the last scorecard.",)
        parts.append("Since the last scorecard:\n" + "\n".join(f"  - {change}" for change in news))
    if report.failed:
        parts.append("Not verified:\n" + "\n".join(f"  - {key}: {reason}" for key, reason in report.failed.items()))
    return "\n\n".join(parts)


def _judged(row: Mapping[str, Any]) -> list[str]:
    low, high = row["skill_interval"]
    name = SHORT.get(row["variable"], row["variable"]) + ("" if row["score"] == "crps" else f" {row['score'].replace('_', ' ')} mm")
    return [
        name, "{:g}-{:g}".format(*row["lead_hours"]), str(row["n"]), "-" if row["events"] is None else str(row["events"]),
        f"{row['blend']:.3f}", row["best_centre"].removeprefix("raw_"), f"{row['best_centre_score']:.3f}",
        "-" if row["climatology"] is None else f"{row['climatology']:.3f}", f"{100 * row['skill']:+.0f} %",
        f"{100 * low:+.0f} to {100 * high:+.0f}",
    ]    # fmt: skip


def _young(row: Mapping[str, Any]) -> list[str]:
    return [
        SHORT.get(row["variable"], row["variable"]), "{:g}-{:g}".format(*row["lead_hours"]), str(row["n"]), f"{row['score']:.3f}",
        f"{row['bias']:+.3f}", f"{100 * row['coverage_50']:.0f} %", f"{100 * row['coverage_90']:.0f} %",
    ]


SHORT: Final[Mapping[str, str]] = {
    "temperature_2m": "T2m °C",
    "dew_point_temperature_2m": "Td2m °C",
    "wind_speed_10m": "wind m/s",
    "wind_gust_10m": "gust m/s",
    "precipitation_amount": "rain mm",
    "pressure_reduced_to_mean_sea_level": "pressure Pa",
    "relative_humidity_2m": "RH %",
    "total_cloud_cover_atmosphere": "cloud %",
    "downward_short_wave_radiation_flux_surface": "sun W/m2",
    "wind_u_10m": "u m/s",
    "wind_v_10m": "v m/s",
}
