"""A cycle at the size of the real thing: from a filled archive to the published store, by step, with its memory.

The archive holds one cycle of five centres on the default region, ten variables, 65 leads: 31 members (as GEFS), twice 51 (as IFS ENS and
AIFS ENS) and two single runs, and 90 days of their past at stations. They come from the simulated atmosphere: its centres, decoded from
GRIB2 as ever, and copies of two of them with errors of their own. The cycle runs in a process of its own, whose peak memory is what the
kernel says. Ingest is not part of it; its time is the number of messages times the rate at which this run decoded its own, and is marked as
extrapolated::

    python -m tests.benchmarks.bench_cycle [--quick] [--json PATH] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_catalog.archive import cycle_key
from data_catalog.manifest import Manifest, Revision
from data_catalog.settings import Settings, load_settings
from data_catalog.sources import registry
from data_catalog.sources.base import silent
from data_catalog.store import Root
from pipelines.cycle import fetch, fetched_datasets
from pipelines.simulate import simulate

INIT = np.datetime64("2025-07-10T00", "ns")
SPARE_DAYS = 12
TARGET_SECONDS, TARGET_GIB = 240.0, 3.0
LIKE = {
    "full-gefs": "simulated-global-eps", "full-aifs-ens": "simulated-ai-eps", "full-ifs-ens": "simulated-ai-eps",
    "full-gfs": "simulated-global-det", "full-ifs-hres": "simulated-global-det",
}  # fmt: skip
"""Datasets of the bench, and the simulated centre each is made of; the second of a kind gets errors of its own."""
OWN_ERROR = 0.3
"""Of the copies: share of a variable's spread in space and time."""


def settings_on(root: Path, quick: bool) -> Settings:
    """The default profile reading the datasets of the bench, which no provider has."""
    more: dict[str, Any] = {"profile": "tiny", "training_days": 12} if quick else {}
    return load_settings(root=str(root), decode_workers=2, **more)


def fill(root: Path, quick: bool) -> dict[str, float]:
    """Fill the archive; how many messages were decoded, and seconds for it."""
    settings = settings_on(root, quick)
    simulate(settings, INIT, history_days=settings.training_days + SPARE_DAYS)
    stores = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        begun = time.perf_counter()
        for dataset in fetched_datasets(settings, manifest):
            fetch(settings, stores, manifest, settings.load_region(), dataset, INIT, silent)
        taken = time.perf_counter() - begun
        messages = sum(len(one.expected(INIT)) for one in registry.grid_sources(settings).values() if one.spec.simulated)
        for name, model in copies(settings).items():
            for dataset, keys in ((model, (cycle_key(INIT),)), (f"{model}-stations", None)):
                for revision in manifest.revisions(dataset, latest_only=True):
                    if keys is None or revision.key in keys:
                        _copy(stores, manifest, revision, dataset.replace(model, name), own_error=name not in firsts(settings))
    return {"messages": float(messages), "seconds": taken}


def copies(settings: Settings) -> dict[str, str]:
    """Datasets of the bench that can be made from the centres of this profile."""
    known = registry.grid_sources(settings)
    return {name: model for name, model in LIKE.items() if model in known}


def firsts(settings: Settings) -> set[str]:
    """Of each model the first copy, which is the centre itself."""
    return set({model: name for name, model in reversed(copies(settings).items())}.values())


def _unpublish(root: Path) -> None:
    """What an earlier run of the bench on this root published is forgotten, or the cycle would find itself done."""
    shutil.rmtree(root / "published", ignore_errors=True)
    with contextlib.closing(sqlite3.connect(root / "manifest.db")) as manifest, manifest:
        manifest.execute("DELETE FROM revisions WHERE dataset = 'published'")


def _copy(stores: Root, manifest: Manifest, revision: Revision, dataset: str, own_error: bool) -> None:
    """A store again under another name, with errors of its own where asked for."""
    data = stores.open_store(revision.path).load()
    if own_error:
        rng = np.random.default_rng([ord(letter) for letter in f"{dataset}{revision.key}"])
        for name, values in data.data_vars.items():
            if not np.issubdtype(values.dtype, np.floating) or "ensemble_member" not in values.dims:
                continue
            places = [dim for dim in values.dims if dim in ("latitude", "longitude", "station")]
            shape = [1 if dim in places else size for dim, size in values.sizes.items()]
            own = OWN_ERROR * float(values.std()) * rng.normal(size=shape)
            least = float(values.min())
            data[name] = (
                (values + own.astype(np.float32)).clip(min=least, max=float(values.max()))
                if least >= 0
                else values + own.astype(np.float32)
            )
    ref = stores.write_store(f"archive/{dataset}", revision.key, {"": data}, data.attrs)
    manifest.add_revision(dataset, revision.key, ref, available_time=np.datetime64(str(revision.available_time)), details=revision.details)


def cycle(root: Path, quick: bool) -> int:
    """The part that is measured, in a process of its own: prints its figures as JSON."""
    from pipelines.cycle import run_cycle

    settings = settings_on(root, quick)
    settings = settings.model_copy(update={"sources": tuple(copies(settings))})
    marks: list[tuple[str, float]] = []

    def note(what: str, done: int, total: int) -> None:
        step = what.partition(":")[0]
        step = step if step.startswith("forecasting the") else step.partition(" ")[0]
        if not marks or marks[-1][0] != step:
            marks.append((step, time.perf_counter()))

    note("reading", 0, 1)
    begun = time.perf_counter()
    report = run_cycle(settings, INIT, progress=note)
    ended = time.perf_counter()
    steps: dict[str, float] = {}
    for (step, start), (_, stop) in zip(marks, [*marks[1:], ("", ended)], strict=True):
        steps[step] = steps.get(step, 0.0) + stop - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({
        "seconds": ended - begun, "cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used), "peak_gib": used[0].ru_maxrss / 2**20,
        "steps": steps, "leads": report.leads, "variables": len(report.variables), "degraded": report.degraded,
        "forecasters": list(report.forecasters), "notes": list(report.notes), "store": report.store,
    }))  # fmt: skip
    return 0


def main() -> int:
    """Fill an archive, run the cycle on it, say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for the root; one that is filled already is used as it is")
    parser.add_argument("--cycle", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.cycle:
        return cycle(chosen.cycle, chosen.quick)
    with tempfile.TemporaryDirectory() as folder:
        root = chosen.keep or Path(folder) / "root"
        ingest = json.loads((root / "ingest.json").read_text()) if (root / "ingest.json").is_file() else fill(root, chosen.quick)
        (root / "ingest.json").write_text(json.dumps(ingest))
        _unpublish(root)
        command = [sys.executable, "-m", "tests.benchmarks.bench_cycle", "--cycle", str(root), *(["--quick"] if chosen.quick else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        with xr.open_zarr(found["store"], group="stations") as published:
            found["published_members"] = published.sizes["ensemble_member"]
        store_mib = sum(path.stat().st_size for path in Path(found["store"]).rglob("*") if path.is_file()) / 2**20
        settings = settings_on(root, chosen.quick)
        known = registry.grid_sources(settings)
        wanted = sum(len(known[model].expected(INIT)) for model in copies(settings).values())
    rate = ingest["messages"] / ingest["seconds"]
    taken = f"{found['seconds']:.0f} s, {found['cpu_seconds']:.0f} CPU s"
    print(f"archive to published: {taken}, peak {found['peak_gib']:.2f} GiB, store {store_mib:.0f} MiB")
    for step, seconds in sorted(found["steps"].items(), key=lambda item: -item[1]):
        print(f"  {step:42s} {seconds:7.1f} s")
    print(f"forecasters: {', '.join(found['forecasters'])}")
    print(f"ingest, extrapolated: {wanted} messages at {rate:.0f} a second (measured on {ingest['messages']:.0f}): {wanted / rate:.0f} s")
    if not chosen.quick:
        for name, value, target in (("seconds", found["seconds"], TARGET_SECONDS), ("GiB", found["peak_gib"], TARGET_GIB)):
            print(f"{'met' if value < target else 'MISSED'}: {value:.3g} {name}, under {target:g} asked")
    if chosen.json:
        figures = found | {
            "store_mib": store_mib,
            "ingest_messages": wanted,
            "ingest_rate": rate,
            "ingest_seconds_extrapolated": wanted / rate,
        }
        chosen.json.write_text(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
