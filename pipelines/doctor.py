"""How things stand: what is published and archived, and whether everything that a cycle needs is in order."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.errors import GiomuaError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.store import Root
from pipelines.cycle import is_forecast, newest_due, now
from pipelines.inputs import key_time
from pipelines.networks import network_status, reach_network, render_networks
from pipelines.publish import DATASET, latest
from pipelines.render import table

HOUR = np.timedelta64(1, "h")


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
    if networks:
        lines.append(render_networks(networks))
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
    known = registry.grid_sources(settings)
    for name in (name for name in settings.sources or known if name in settings.sources or known[name].spec.simulated):
        check(f"source {name}", *_reach(settings, name))
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


def _reach(settings: Settings, name: str) -> tuple[str, str]:
    source = registry.grid_source(settings, name)
    if source.spec.simulated:
        return "ok", "simulated, made here"
    init_time = newest_due(source)
    try:
        plan = source.plan(init_time, registry.transport_for(settings, name))
    except GiomuaError as error:
        return "warn", str(error)
    return "ok", f"{cycle_key(init_time)} lists {len(plan.spans)} fields"
