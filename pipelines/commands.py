"""What the commands of ``giomua`` do, as plain functions that return a result and the text a person reads."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_catalog.errors import ConfigurationError, CycleError, GiomuaError, UnknownNameError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import GridSource, Progress
from data_catalog.store import Root
from pipelines.cycle import CycleReport, cycle_datasets, is_forecast, run_cycle
from pipelines.inputs import cycle_key, key_time
from pipelines.publish import DATASET, latest

HOUR = np.timedelta64(1, "h")
SPARE_DAYS: Final = 35
"""Days of simulated history beyond those a cycle learns from, so that a month can be held out for scores."""


def now() -> np.datetime64:
    """The time, UTC."""
    return np.datetime64("now", "ns")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns of text, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in (header, *rows)
    ]
    return "\n".join(["  " + line.rstrip() for line in lines])


# --- run -------------------------------------------------------------------------------------------------------------------------


def default_init_time(settings: Settings) -> np.datetime64:
    """The cycle a plain ``giomua run`` means: the newest run in the archive of real sources, else today's simulated 00 UTC.

    Raises:
        CycleError: The sources named have nothing in the archive and no cycle hours.
    """
    with Manifest.open(settings.manifest) as manifest:
        datasets = cycle_datasets(settings, manifest)
        archived = [r.key for name in datasets for r in manifest.revisions(name, latest_only=True)]
    known = registry.grid_sources(settings)
    if all(name in known and known[name].spec.simulated for name in datasets):
        delay = max(known[name].spec.delay_hours for name in datasets)
        return np.datetime64(now() - np.timedelta64(round(delay * 60), "m"), "D").astype("datetime64[ns]")
    live = [newest_due(known[name]) for name in datasets if name in known]
    times = [*live, *(key_time(key) for key in archived)]
    if not times:
        raise CycleError(f"There is nothing of {', '.join(datasets)} in the archive; import or ingest it, or give --init-time.")
    return max(times)


def newest_due(source: GridSource) -> np.datetime64:
    """The newest cycle that a source has usually published by now."""
    spec = source.spec
    ready = now() - np.timedelta64(round(spec.delay_hours * 60), "m")
    day = ready.astype("datetime64[D]")
    starts = [np.datetime64(day - back, "ns") + hour * HOUR for back in (0, 1) for hour in spec.cycles]
    return max(start for start in starts if start <= ready)


def run_command(settings: Settings, init_time: np.datetime64 | None, cutoff: float | None, progress: Progress) -> CycleReport:
    """Make the simulated atmosphere where it is the source, then run the cycle: as a Prefect flow where a server is named."""
    chosen = default_init_time(settings) if init_time is None else init_time
    with Manifest.open(settings.manifest) as manifest:
        datasets = cycle_datasets(settings, manifest)
    known = registry.grid_sources(settings)
    if any(name in known and known[name].spec.simulated for name in datasets):
        from pipelines.simulate import simulate

        simulate(settings, chosen, history_days=settings.training_days + SPARE_DAYS, progress=progress)
    if os.environ.get("PREFECT_API_URL"):
        from pipelines.flows import cycle_flow

        return cycle_flow(settings.model_dump(mode="json"), cycle_key(chosen), cutoff)
    return run_cycle(settings, chosen, cutoff_hours=cutoff, progress=progress)


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
    station = next(s for s in region.stations if s.operating)
    if "daily" not in root.groups(report.href):
        return _what_there_is(root, report, station.id, station.name)
    days = root.open_store(report.href, "daily").sel(station=station.id).load()
    init = np.datetime64(report.init_time.rstrip("Z"), "ns")
    tomorrow = np.datetime64(init + 7 * HOUR, "D") + 1
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


# --- import, simulate, ingest, observe, backfill -----------------------------------------------------------------------------------


def import_command(
    settings: Settings, files: Sequence[Path], dataset: str | None, keep_unknown: bool, progress: Progress
) -> tuple[dict[str, Any], str]:
    """Import GRIB files into the archive."""
    from pipelines.ingest import import_files

    absent = [str(file) for file in files if not file.is_file()]
    if absent:
        raise ConfigurationError(f"There is no file {', '.join(absent)}; nothing was imported.")
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        report = import_files(
            root, manifest, settings.load_region(), files, dataset=dataset, keep_unknown=keep_unknown,
            workers=settings.decode_workers, timeout=settings.decode_timeout, progress=progress,
        )
    result = report.as_json()
    cycles = sorted({(str(row["dataset"]), str(row["init_time"])) for row in result["taken"]})
    lines = [f"{len(result['taken'])} fields taken, {len(result['skipped'])} skipped, {len(result['quarantined'])} quarantined"]
    lines += [f"  {name}  {init}" for name, init in cycles]
    lines += _reasons("Skipped", result["skipped"]) + _reasons("Quarantined", result["quarantined"])
    if cycles:
        lines.append(f"Next: giomua run --init-time {cycles[-1][1][:13]}Z")
    return result, "\n".join(lines)


def _reasons(title: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The reasons of some rows, the commonest first."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row["reason"])] = counts.get(str(row["reason"]), 0) + 1
    common = sorted(counts.items(), key=lambda item: -item[1])
    lines = [f"  {count:5d}  {reason}" for reason, count in common[:8]]
    if len(common) > 8:
        lines.append(f"         and {len(common) - 8} more reasons; --json lists them all")
    return [f"{title}:", *lines] if lines else []


def simulate_command(
    settings: Settings, init_time: np.datetime64 | None, days: int | None, progress: Progress
) -> tuple[dict[str, Any], str]:
    """Make a cycle of the simulated atmosphere and the history before it."""
    from pipelines.simulate import simulate

    chosen = init_time if init_time is not None else np.datetime64(now() - 6 * HOUR, "D").astype("datetime64[ns]")
    history = settings.training_days + SPARE_DAYS if days is None else days
    report = simulate(settings, chosen, history_days=history, progress=progress)
    result = report.as_json()
    key = cycle_key(chosen)
    text = f"Simulated {key} and {history} days before it under {settings.root}\nNext: giomua run --init-time {key}"
    return result, text


def ingest_command(
    settings: Settings, source: str, init_time: np.datetime64 | None, progress: Progress
) -> tuple[dict[str, Any], str, bool]:
    """Fetch one cycle of one source."""
    from pipelines.ingest import ingest_cycle

    known = registry.grid_sources(settings)
    if source not in known:
        raise UnknownNameError(f"No source {source!r}; known are {', '.join(known)}.")
    chosen = newest_due(known[source]) if init_time is None else init_time
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        report = ingest_cycle(
            root, manifest, settings.load_region(), known[source], registry.transport_for(settings, source), chosen,
            workers=settings.decode_workers, timeout=settings.decode_timeout, progress=progress,
        )
    result = report.as_json()
    text = (
        f"{source} {cycle_key(chosen)}: {len(report.taken)} fields taken, {len(report.missing)} missing, "
        f"{len(report.quarantined)} quarantined"
    )
    return result, text, bool(report.missing or report.quarantined)


def observe_command(
    settings: Settings, until: np.datetime64 | None, days: int, progress: Progress
) -> tuple[dict[str, Any], str, bool]:
    """Read the reports of every network; one that fails does not stop the others."""
    from pipelines.observe import observe

    last = np.datetime64(now(), "h").astype("datetime64[ns]") if until is None else until
    root = Root.open(settings)
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    with Manifest.open(settings.manifest) as manifest:
        for network, source in registry.station_sources(settings).items():
            try:
                report = observe(
                    root, manifest, settings.load_region(), source, registry.transport_for(settings, network),
                    last - np.timedelta64(days, "D"), last, progress=progress,
                )
                results[network] = report.as_json()
            except GiomuaError as error:
                failed[network] = str(error)
    lines = [f"{network}: {result.get('reports', 0)} reports" for network, result in results.items()]
    lines += [f"{network}: failed: {reason}" for network, reason in failed.items()]
    return {"networks": results, "failed": failed}, "\n".join(lines) or "No station network is set up.", bool(failed)


def backfill_command(
    settings: Settings, start: np.datetime64, stop: np.datetime64, every: int, progress: Progress
) -> tuple[dict[str, Any], str]:
    """Run every cycle of a period, each on its own."""
    if stop < start:
        raise ConfigurationError(f"--to {cycle_key(stop)} lies before --from {cycle_key(start)}; swap them.")
    cycles = np.arange(start, stop + 1, every * HOUR)
    result: dict[str, Any] = {"done": [], "degraded": [], "failed": {}}
    for number, init_time in enumerate(cycles):
        progress("backfill", number, cycles.size)
        try:
            report = run_command(settings, init_time, None, lambda what, done, total: None)
        except GiomuaError as error:
            result["failed"][cycle_key(init_time)] = str(error)
            continue
        result["degraded" if report.degraded else "done"].append(cycle_key(init_time))
    progress("backfill", cycles.size, cycles.size)
    text = f"{len(result['done'])} cycles done, {len(result['degraded'])} degraded, {len(result['failed'])} failed"
    text += "".join(f"\n  {key}: {reason}" for key, reason in result["failed"].items())
    return result, text


# --- status, doctor, serve ---------------------------------------------------------------------------------------------------------


def status_command(settings: Settings) -> tuple[dict[str, Any], str]:
    """What is published and archived, how old it is, and what was missing or quarantined."""
    root = Root.open(settings)
    published = latest(root)
    sources = []
    known = registry.grid_sources(settings)
    with Manifest.open(settings.manifest) as manifest:
        for name in [n for n in manifest.datasets() if is_forecast(n)]:
            newest = max(manifest.revisions(name, latest_only=True), key=lambda r: r.key)
            age = float((now() - key_time(newest.key)) / HOUR)
            missing = newest.details.get("missing", [])
            sources.append(
                {
                    "dataset": name,
                    "newest": newest.key,
                    "revision": newest.revision,
                    "age_hours": round(age, 1),
                    "usual_delay_hours": known[name].spec.delay_hours if name in known else None,
                    "complete": newest.complete,
                    "missing": missing,
                    "cycles": len(manifest.revisions(name, latest_only=True)),
                }
            )
        quarantined = [{"file": row.file, "message": row.message, "reason": row.reason, "path": row.path} for row in manifest.quarantined()]
    result = {"root": root.url, "published": published, "sources": sources, "quarantined": quarantined}
    lines = [f"Root {root.url}"]
    if published:
        age = float((now() - np.datetime64(published["init_time"].rstrip("Z"), "ns")) / HOUR)
        lines.append(
            f"Published {published['init_time']} r{published['revision']}, {age:.0f} h old"
            f"{', simulated' if published['simulated'] else ''}\n  {root.location('published/' + published['href'])}"
        )
    else:
        lines.append("Nothing is published yet; run: giomua run")
    rows = [
        [
            s["dataset"], s["newest"], f"r{s['revision']}", f"{s['age_hours']:.0f} h",
            "-" if s["usual_delay_hours"] is None else f"{s['usual_delay_hours']:g} h",
            "complete" if s["complete"] else f"{len(s['missing'])} missing", str(s["cycles"]),
        ]
        for s in sources
    ]
    if rows:
        lines.append(table(rows, ["source", "newest cycle", "revision", "age", "usual delay", "fields", "cycles"]))
    if quarantined:
        lines.append(f"{len(quarantined)} in quarantine:")
        lines += [f"  {row['file']} message {row['message']}: {row['reason']}" for row in quarantined[:10]]
        if len(quarantined) > 10:
            lines.append(f"  and {len(quarantined) - 10} more; --json lists them all")
    return result, "\n".join(lines)


def doctor_command(settings: Settings) -> tuple[dict[str, Any], str]:
    """Every check with its outcome: ok, warn or fail, and what to do."""
    checks: list[dict[str, str]] = []

    def check(name: str, outcome: str, detail: str) -> None:
        checks.append({"check": name, "outcome": outcome, "detail": detail})

    _check_versions(check)
    _check_space(settings, check)
    try:
        root = Root.open(settings)
        with Manifest.open(settings.manifest) as manifest:
            check("manifest", "ok", f"{settings.manifest}: {len(manifest.datasets())} datasets")
            _check_stores(root, manifest, check)
            _check_published(root, manifest, check)
    except GiomuaError as error:
        check("root", "fail", str(error))
    for name in registry.grid_sources(settings):
        check(f"source {name}", *_reach(settings, name))
    result = {
        "checks": checks,
        "failed": sum(c["outcome"] == "fail" for c in checks),
        "warned": sum(c["outcome"] == "warn" for c in checks),
    }
    mark = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}
    text = "\n".join(f"{mark[c['outcome']]}  {c['check']}: {c['detail']}" for c in checks)
    return result, text


def _check_versions(check: Any) -> None:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("torch", "xarray", "zarr", "prefect", "mlflow", "eccodes", "cfgrib", "scipy", "fastapi"):
        try:
            found = version(name)
        except PackageNotFoundError:
            check(name, "fail", "is not installed; run: make install")
            continue
        if name == "fastapi" and tuple(int(part) for part in found.split(".")[:2]) >= (0, 155):
            check(name, "fail", f"{found}: every Prefect 3.8 flow fails with 0.155 to 0.165; install fastapi<0.155")
        else:
            check(name, "ok", found)
    check("python", "ok" if sys.version_info >= (3, 11) else "fail", sys.version.split()[0])


def _check_space(settings: Settings, check: Any) -> None:
    folder = settings.local_root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    outcome = "ok" if free > 5 else "warn" if free > 1 else "fail"
    check("free space", outcome, f"{free:.1f} GiB at {folder.resolve()}" + ("" if free > 5 else "; a cycle needs about 1 GiB"))


def _check_stores(root: Root, manifest: Manifest, check: Any) -> None:
    from data_catalog.manifest import reconcile

    found = reconcile(root, manifest)
    lost, unlisted = found.gone, found.unrecorded
    if lost:
        check("stores", "fail", f"{len(lost)} stores of the manifest are gone, first {lost[0].path}; ingest or run them again")
    if unlisted:
        first = unlisted[0]
        check("stores", "warn", f"{len(unlisted)} stores are not in the manifest, first {first}: a killed run left them; delete them")
    if not lost and not unlisted:
        check("stores", "ok", "the manifest and the stores agree")


def _check_published(root: Root, manifest: Manifest, check: Any) -> None:
    current = latest(root)
    if current is None:
        check("published", "warn", "nothing yet; run: giomua run")
        return
    try:
        root.verify(f"published/{current['href']}", current["content_hash"])
        check("published", "ok", f"{current['href']} has the hash that latest.json says")
    except GiomuaError as error:
        check("published", "fail", str(error))
    newest = manifest.revisions(DATASET, latest_only=True)
    if newest and max(r.key for r in newest) > cycle_key(np.datetime64(current["init_time"].rstrip("Z"))):
        check("published", "warn", "latest.json is older than the newest published cycle; run that cycle again to repair it")


def _reach(settings: Settings, name: str) -> tuple[str, str]:
    source = registry.grid_sources(settings)[name]
    if source.spec.simulated:
        return "ok", "simulated, made here"
    init_time = newest_due(source)
    try:
        plan = source.plan(init_time, registry.transport_for(settings, name))
    except GiomuaError as error:
        return "warn", str(error)
    return "ok", f"{cycle_key(init_time)} lists {len(plan.spans)} fields"


def serve_command(settings: Settings, host: str, port: int) -> None:
    """Serve the published stores until interrupted."""
    import uvicorn

    from serving.api.files import published_app

    if settings.is_remote:
        raise ConfigurationError(f"The root {settings.root} is an object store, which serves itself; give a local --root.")
    folder = settings.local_root / "published"
    app = published_app(folder)
    print(f"Serving {folder} on http://{host}:{port} (Ctrl-C stops)", file=sys.stderr)  # noqa: T201
    uvicorn.run(app, host=host, port=port, log_level="warning")
