"""How things stand: what is published and archived, and whether everything that a cycle needs is in order."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.errors import GiomuaError
from data_catalog.manifest import Manifest, Revision
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import FieldSource, GridSource, GridSpec, Transport
from data_catalog.sources.transport import FolderTransport, HttpTransport
from data_catalog.store import Root
from pipelines.cycle import cycle_datasets, is_forecast, newest_due, now
from pipelines.inputs import key_time
from pipelines.networks import network_status, reach_network, render_networks
from pipelines.publish import DATASET, latest
from pipelines.render import table
from training.clocks import VARIABLE, wrong_clocks
from training.pairs import read_past

HOUR = np.timedelta64(1, "h")
CLOCK_DAYS = 30
"""Days of observations whose hours are looked at."""


def status_command(settings: Settings) -> tuple[dict[str, Any], str]:
    """What is published and archived, how old it is, and what was missing or quarantined."""
    root = Root.open(settings)
    published = latest(root)
    known = registry.grid_sources(settings)
    with Manifest.open(settings.manifest) as manifest:
        archived = [name for name in manifest.datasets() if is_forecast(name)]
        sources = [
            _standing(name, known[name].spec if name in known else None, manifest.revisions(name, latest_only=True))
            for name in [*archived, *(name for name in settings.sources if name not in archived)]
        ]
        quarantined = [{"file": row.file, "message": row.message, "reason": row.reason, "path": row.path} for row in manifest.quarantined()]
        networks = network_status(settings, manifest, now())
    result = {"root": root.url, "published": published, "sources": sources, "networks": networks, "quarantined": quarantined}
    lines = [f"Root {root.url}"]
    if published:
        age = float((now() - np.datetime64(published["init_time"].rstrip("Z"), "ns")) / HOUR)
        lines.append(
            f"Published {published['init_time']} r{published['revision']}, {age:.0f} h old"
            f"{', simulated' if published['simulated'] else ''}\n  {root.location('published/' + published['href'])}"
        )
    else:
        lines.append("Nothing is published yet; run: giomua run")
    if sources:
        columns = ["source", "newest cycle", "revision", "age", "usual delay", "state", "fields", "cycles"]
        lines.append(table([_row(source) for source in sources], columns))
        lines += [f"  {source['dataset']}: {text}" for source in sources if (text := _lacking(source))]
    if networks:
        lines.append(render_networks(networks))
    if quarantined:
        lines.append(f"{len(quarantined)} in quarantine:")
        lines += [f"  {row['file']} message {row['message']}: {row['reason']}" for row in quarantined[:10]]
        if len(quarantined) > 10:
            lines.append(f"  and {len(quarantined) - 10} more; --json lists them all")
    return result, "\n".join(lines)


def _standing(name: str, spec: GridSpec | None, cycles: Sequence[Revision]) -> dict[str, Any]:
    """How a source stands: its newest cycle, whether a newer one is due, and what is missing of it."""
    newest = max(cycles, key=lambda revision: revision.key, default=None)
    due = None if spec is None else spec.newest_due(now())
    missing = [] if newest is None else newest.details.get("missing", [])
    return {
        "dataset": name,
        "newest": None if newest is None else newest.key,
        "revision": None if newest is None else newest.revision,
        "age_hours": None if newest is None else round(float((now() - key_time(newest.key)) / HOUR), 1),
        "usual_delay_hours": None if spec is None else spec.delay_hours,
        "due": None if due is None else cycle_key(due),
        "late": due is not None and (newest is None or bool(key_time(newest.key) < due)),
        "complete": newest is not None and newest.complete,
        "missing": missing,
        "missing_variables": dict(Counter(variable for variable, *_ in missing).most_common()),
        "missing_members": sorted({member for _, _, member, _ in missing}),
        "reasons": dict(Counter(reason for *_, reason in missing).most_common()),
        "cycles": len(cycles),
    }


def _row(source: Mapping[str, Any]) -> list[str]:
    if source["newest"] is None:
        return [source["dataset"], "none", "-", "-", f"{source['usual_delay_hours'] or 0:g} h", "late" if source["late"] else "-", "-", "0"]
    return [
        source["dataset"], source["newest"], f"r{source['revision']}", f"{source['age_hours']:.0f} h",
        "-" if source["usual_delay_hours"] is None else f"{source['usual_delay_hours']:g} h",
        f"late, {source['due']} is due" if source["late"] else "-" if source["due"] is None else "in time",
        "complete" if source["complete"] else f"{len(source['missing'])} missing", str(source["cycles"]),
    ]    # fmt: skip


def _lacking(source: Mapping[str, Any]) -> str:
    """What is missing of a source's newest cycle, and the commonest reason."""
    if not source["missing"]:
        return ""
    variables = ", ".join(f"{name} ({count})" for name, count in source["missing_variables"].items())
    members = source["missing_members"]
    whose = f"members {', '.join(map(str, members[:8]))}{' ...' if len(members) > 8 else ''}"
    return f"missing {variables} of {whose}: {next(iter(source['reasons']))}"


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
            _check_clocks(settings, root, manifest, check)
    except GiomuaError as error:
        check("root", "fail", str(error))
    known = registry.grid_sources(settings)
    for name in (name for name in settings.sources or known if name in settings.sources or known[name].spec.simulated):
        if name not in known:
            check(f"source {name}", "fail", f"there is none of this name; known are {', '.join(known)}")
            continue
        for where, outcome, detail in _reach(settings, known[name]):
            check(f"source {name}{where}", outcome, detail)
    for name in registry.chosen_networks(settings):
        check(f"stations {name}", *reach_network(settings, name, now()))
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


def _check_clocks(settings: Settings, root: Root, manifest: Manifest, check: Any) -> None:
    """Whether the observations of the last month fit the forecasts at the hours they claim."""
    newest = manifest.revisions(DATASET, latest_only=True)
    if not newest:
        return
    init_time = key_time(max(revision.key for revision in newest))
    stations = [station.id for station in settings.load_region().operating]
    past = read_past(root, manifest, cycle_datasets(settings, manifest), (VARIABLE,), stations, init_time, CLOCK_DAYS)
    if past.pairs is None or past.observations is None:
        return
    wrong = wrong_clocks(past.pairs.sources, past.observations)
    for shift in wrong:
        check(
            f"clock of {shift.station}", "warn",
            f"its observations fit the forecasts of {shift.days} days better with times {abs(shift.hours)} h "
            f"{'earlier' if shift.hours > 0 else 'later'}: local time filed as UTC, or another day; correct them and observe again",
        )    # fmt: skip
    if not wrong:
        check("station clocks", "ok", "observations fit the forecasts best at the hours they claim")


def _reach(settings: Settings, source: GridSource | FieldSource) -> Iterator[tuple[str, str, str]]:
    """Whether a source answers, at each place it is served from: where, ok or warn, and what was found."""
    if source.spec.simulated:
        yield "", "ok", "simulated, made here"
        return
    due, hosts = newest_due(source), registry.hosts_of(settings, source.spec.dataset)
    for host in hosts:
        folder = "://" not in host.url or host.url.startswith("file://")
        alone: Transport = FolderTransport(Path(host.url.removeprefix("file://"))) if folder else HttpTransport(host, attempts=1)
        where = f" at {host.url}" if len(hosts) > 1 else ""
        try:
            yield where, "ok", source.probe(due, alone)
        except GiomuaError as error:
            yield where, "warn", str(error)
