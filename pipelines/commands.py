"""What the commands of ``giomua`` do, as plain functions that return a result and the text a person reads."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.errors import ConfigurationError, CycleError, GiomuaError, UnknownNameError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import Progress
from data_catalog.store import Root
from pipelines.cycle import CycleReport, cycle_datasets, newest_due, now, run_cycle
from pipelines.inputs import key_time
from pipelines.render import table

SPARE_DAYS: Final = 12
"""Days of simulated history before those a cycle learns from: the forecasts that verify on the first of them."""


# --- run -------------------------------------------------------------------------------------------------------------------------


def default_init_time(settings: Settings) -> np.datetime64:
    """The cycle a plain ``giomua run`` means: the newest in the archive of real sources, else the newest all simulated centres have.

    Raises:
        CycleError: The sources named have nothing in the archive and no cycle hours.
    """
    with Manifest.open(settings.manifest) as manifest:
        datasets = cycle_datasets(settings, manifest)
        archived = [r.key for name in datasets for r in manifest.revisions(name, latest_only=True)]
    known = registry.grid_sources(settings)
    if all(name in known and known[name].spec.simulated for name in datasets):
        return min(newest_due(known[name]) for name in datasets)
    live = [newest_due(known[name]) for name in datasets if name in known]
    times = [*live, *(key_time(key) for key in archived)]
    if not times:
        raise CycleError(f"There is nothing of {', '.join(datasets)} in the archive; import or ingest it, or give --init-time.")
    return max(times)


def run_command(settings: Settings, init_time: np.datetime64 | None, cutoff: float | None, progress: Progress) -> CycleReport:
    """Run a cycle: as a Prefect flow where a server is named, else here."""
    chosen = default_init_time(settings) if init_time is None else init_time
    if os.environ.get("PREFECT_API_URL"):
        from pipelines.flows import cycle_flow

        return cast("CycleReport", cycle_flow(settings.model_dump(mode="json"), cycle_key(chosen), cutoff))
    return run_here(settings, chosen, cutoff, progress)


def run_here(settings: Settings, init_time: np.datetime64, cutoff: float | None, progress: Progress) -> CycleReport:
    """Make the simulated atmosphere where it is the source and a first network learn from it, then run the cycle."""
    if simulate_where_asked(settings, init_time, progress) and settings.train_first and settings.profile == "default":
        from pipelines.train import train_first

        train_first(settings, init_time, progress)
    return run_cycle(settings, init_time, cutoff_hours=cutoff, progress=progress)


def simulate_where_asked(settings: Settings, init_time: np.datetime64, progress: Progress) -> bool:
    """Make a cycle of the simulated atmosphere and what it learns from, where a cycle reads that: whether it does."""
    with Manifest.open(settings.manifest) as manifest:
        datasets = cycle_datasets(settings, manifest)
    known = registry.grid_sources(settings)
    simulated = any(name in known and known[name].spec.simulated for name in datasets)
    if simulated:
        from pipelines.simulate import simulate

        simulate(settings, init_time, history_days=settings.training_days + SPARE_DAYS, progress=progress)
    return simulated


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
    """The kinds of reason of some rows (what stands before the first colon), the commonest first."""
    counts: dict[str, int] = {}
    for row in rows:
        kind = str(row["reason"]).partition(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    common = sorted(counts.items(), key=lambda item: -item[1])
    lines = [f"  {count:5d}  {reason}" for reason, count in common[:8]]
    if len(common) > 8:
        lines.append(f"         and {len(common) - 8} more kinds; --json lists every message")
    return [f"{title}:", *lines] if lines else []


def simulate_command(
    settings: Settings, init_time: np.datetime64 | None, days: int | None, grid: bool, progress: Progress
) -> tuple[dict[str, Any], str]:
    """Make a cycle of the simulated atmosphere and the history before it."""
    from pipelines.simulate import simulate

    centres = [source for source in registry.grid_sources(settings).values() if source.spec.simulated]
    chosen = init_time if init_time is not None else min(map(newest_due, centres))
    history = settings.training_days + SPARE_DAYS if days is None else days
    report = simulate(settings, chosen, history_days=history, grid=grid, progress=progress)
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
    reasons = Counter(reason for _, reason in report.missing).most_common()
    text += "".join(f"\n  {count:5d}  {reason}" for reason, count in reasons[:5])
    if len(reasons) > 5:
        text += f"\n         and {len(reasons) - 5} more reasons; --json lists every field"
    return result, text, bool(report.missing or report.quarantined)


def observe_command(
    settings: Settings, networks: Sequence[str], until: np.datetime64 | None, days: int, listen: float, progress: Progress
) -> tuple[dict[str, Any], str, bool]:
    """Read the reports of these networks, or of those that are set up; one that fails does not stop the others."""
    from pipelines.observe import observe
    from pipelines.render import render_observed

    wanted = {name: registry.station_source(settings, name) for name in networks} or registry.chosen_networks(settings)

    last = now().astype("datetime64[h]").astype("datetime64[ns]") if until is None else until
    root = Root.open(settings)
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    degraded = False
    with Manifest.open(settings.manifest) as manifest:
        for network, source in wanted.items():
            try:
                report = observe(
                    root, manifest, settings.load_region(), source, registry.transport_for(settings, network),
                    last - np.timedelta64(days, "D"), last, links=registry.links(), listen=60.0 * listen, progress=progress,
                )    # fmt: skip
                results[network] = report.as_json()
                degraded |= report.degraded
            except GiomuaError as error:
                failed[network] = str(error)
    return {"networks": results, "failed": failed}, render_observed(results, failed), bool(failed) or degraded


def backfill_command(
    settings: Settings, start: np.datetime64, stop: np.datetime64, every: int, on: str, workers: int, progress: Progress
) -> tuple[dict[str, Any], str]:
    """Run every cycle of a period, each on its own."""
    from pipelines.backfill import backfill, cycles_between

    report = backfill(settings, cycles_between(start, stop, every), on, workers, progress)
    text = f"{len(report.done)} cycles done, {len(report.degraded)} degraded, {len(report.failed)} failed"
    text += "".join(f"\n  {key}: {reason}" for key, reason in report.failed.items())
    return report.as_json(), text


def backtest_command(
    settings: Settings,
    sources: Sequence[str],
    observations: Path,
    variable: str,
    train_until: str,
    test_until: str | None,
    refit: str,
    window: int | None,
    forecasters: str,
    strict: bool,
    thresholds: Sequence[float],
    out: Path,
    log: bool,
    progress: Progress,
) -> tuple[dict[str, Any], str]:
    """Replay an archive, see :mod:`training.backtest`, and tell MLflow; ``untold`` of the result says why it could not be told."""
    from training.backtest import BacktestConfig, parse_day, parse_sources, run_backtest

    if refit not in ("never", "monthly", "daily"):
        raise ConfigurationError(f"--refit is {refit!r}; expected never, monthly or daily.")
    config = BacktestConfig(
        sources=parse_sources(sources),
        observations=observations,
        variable=variable,
        train_until=parse_day(train_until, "--train-until"),
        test_until=None if test_until is None else parse_day(test_until, "--test-until"),
        refit=cast("Literal['never', 'monthly', 'daily']", refit),
        window=window,
        forecasters=tuple(name.strip() for name in forecasters.split(",") if name.strip()),
        strict=strict,
        thresholds=tuple(thresholds),
        out=out,
    )
    start = time.monotonic()
    found = run_backtest(config, progress)
    untold = _log_backtest(settings, config, found, time.monotonic() - start) if log else ""
    summary = [row for row in found.rows if str(row["lead_time_hours"]) == "all"]
    result = {"rows": found.rows, "findings": list(found.findings), "files": {kind: str(path) for kind, path in found.files.items()}}
    result["untold"] = untold
    columns = ("n", "crps", "mae", "bias", "coverage_90")
    rows = [[str(row["forecaster"]), *(_cell(row.get(column)) for column in columns)] for row in summary]
    text = table(rows, ["forecaster", *columns])
    if found.findings:
        text += "\n\n" + "\n".join(f"  - {finding}" for finding in found.findings)
    return result, "\n\n".join(part for part in (text, f"Report: {found.files['report']}", untold) if part)


def _log_backtest(settings: Settings, config: Any, found: Any, seconds: float) -> str:
    """Tell MLflow of a backtest; why that was not possible, in one sentence."""
    from training.experiments import log_backtest

    try:
        log_backtest(settings, config, found, seconds)
    except GiomuaError as error:
        return str(error)
    return ""


def _cell(value: Any) -> str:
    if value is None or value == "" or value != value:  # NaN: a one-member model has no coverage
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def verify_command(settings: Settings, days: int, progress: Progress) -> tuple[dict[str, Any], str, bool]:
    """Verify the published cycles of the last days; whether one could not be."""
    from pipelines.render import render_verified
    from pipelines.verify import verify

    report = verify(settings, days=days, progress=progress)
    return report.as_json(), render_verified(report), bool(report.failed)


def serve_command(settings: Settings, host: str, port: int, say: Callable[[Mapping[str, Any], str], None]) -> None:
    """Serve the page and the interfaces until interrupted; what is published later is served as well."""
    from serving.api.app import create_app
    from serving.api.cycles import NotPublishedError
    from serving.api.server import serve

    app = create_app(settings)
    place = app.state.store.root.location("published")
    try:
        shown = f"{app.state.store.current().id} of {place}"
    except NotPublishedError as error:
        shown = f"{place}, where nothing can be served yet ({error})"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host.") from error
    with listener:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        say({"url": url, "published": place}, f"Serving {shown} on {url} (Ctrl-C stops)")
        serve(app, listener)
