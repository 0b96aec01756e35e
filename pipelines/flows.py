"""Prefect flows around the plain functions: each body reads like the recipe, each task is an ordinary tested function.

Flows take settings as a dictionary, so that a deployment can set them as parameters. Results are not cached: the manifest decides what is
done, and a task that runs again is cheap.
"""

from __future__ import annotations

import os
from typing import Any

from pipelines.cli import QUIET

for _name, _value in QUIET.items():  # before Prefect is imported: no analytics, no version check
    os.environ.setdefault(_name, _value)

from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402

from data_catalog.errors import GiomuaError, UnknownNameError  # noqa: E402
from data_catalog.manifest import Manifest  # noqa: E402
from data_catalog.settings import Settings, load_settings  # noqa: E402
from data_catalog.sources import registry  # noqa: E402
from data_catalog.sources.base import Progress  # noqa: E402
from data_catalog.store import Root  # noqa: E402
from pipelines.cycle import CycleReport, cycle_datasets, run_cycle, watch  # noqa: E402
from pipelines.ingest import ingest_cycle  # noqa: E402
from pipelines.inputs import key_time  # noqa: E402


def _logged() -> Progress:
    """A progress callback that logs where each step begins."""
    logger = get_run_logger()
    seen: set[str] = set()

    def show(what: str, done: int, total: int) -> None:
        if what not in seen:
            seen.add(what)
            logger.info("%s (%d of %d)", what, done, total)

    return show


@task(name="ingest", task_run_name="ingest {dataset} {key}", retries=2, retry_delay_seconds=30, persist_result=False)
def ingest_task(settings: Settings, dataset: str, key: str) -> str:
    """Fetch one cycle of one source; says what became of it."""
    known = registry.grid_sources(settings)
    if dataset not in known:
        return f"{dataset} has no provider; the archive is used as it is"
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        report = ingest_cycle(
            root, manifest, settings.load_region(), known[dataset], registry.transport_for(settings, dataset), key_time(key),
            workers=settings.decode_workers, timeout=settings.decode_timeout, progress=_logged(),
        )
    return f"{dataset}: {len(report.taken)} taken, {len(report.missing)} missing, {len(report.quarantined)} quarantined"


@task(name="observe", task_run_name="observe {key}", retries=2, retry_delay_seconds=30, persist_result=False)
def observe_task(settings: Settings, key: str) -> list[str]:
    """Read the station reports up to a cycle; says which networks failed."""
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        return watch(settings, root, manifest, settings.load_region(), key_time(key), _logged())


@task(name="forecast and publish", task_run_name="publish {key}", persist_result=False)
def publish_task(settings: Settings, key: str, cutoff_hours: float | None) -> CycleReport:
    """Forecast, blend, couple and publish one cycle."""
    return run_cycle(settings, key_time(key), cutoff_hours=cutoff_hours, progress=_logged())


@flow(name="ingest", flow_run_name="ingest {dataset} {key}", persist_result=False, validate_parameters=False)
def ingest_flow(settings: dict[str, Any], dataset: str, key: str) -> str:
    """Fetch one cycle of one source."""
    chosen = load_settings(**settings)
    if dataset not in registry.grid_sources(chosen):
        raise UnknownNameError(f"No source {dataset!r}; known are {', '.join(registry.grid_sources(chosen))}.")
    return ingest_task(chosen, dataset, key)


@flow(name="observe", flow_run_name="observe {key}", persist_result=False, validate_parameters=False)
def observe_flow(settings: dict[str, Any], key: str) -> list[str]:
    """Read the station reports up to a cycle."""
    return observe_task(load_settings(**settings), key)


@flow(name="cycle", flow_run_name="cycle {key}", persist_result=False, validate_parameters=False)
def cycle_flow(settings: dict[str, Any], key: str, cutoff_hours: float | None = None) -> CycleReport:
    """One cycle: every source side by side, the stations, then forecast and publish."""
    logger = get_run_logger()
    chosen = load_settings(**settings)
    with Manifest.open(chosen.manifest) as manifest:
        datasets = cycle_datasets(chosen, manifest)
    fetched: list[PrefectFuture[Any]] = [ingest_task.submit(chosen, dataset, key) for dataset in datasets]
    watched = observe_task.submit(chosen, key)
    for future in (*fetched, watched):
        future.wait()
        try:
            logger.info("%s", future.result())
        except GiomuaError as error:  # one source that fails never stops the rest
            logger.warning("%s", error)
    report = publish_task(chosen, key, cutoff_hours)
    _artifacts(report)
    return report


def _artifacts(report: CycleReport) -> None:
    """What a person looks at in the Prefect page: where the store is, what was missing, and the scores."""
    lines = [f"# {report.init_time} r{report.revision}", f"`{report.store}`", *(f"- {note}" for note in report.notes)]
    create_markdown_artifact("\n\n".join(lines), key="cycle", description="The published cycle")
    if report.skill:
        create_table_artifact([dict(row) for row in report.skill], key="skill", description="CRPS over the held-out past")
