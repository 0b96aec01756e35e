"""Prefect flows around the plain functions: each body reads like the recipe, each task is an ordinary tested function.

Flows take settings as a dictionary, so that a deployment can set them as parameters; what it leaves out comes from the environment and
from ``giomua.toml`` where the worker runs. A flow that is given no cycle works on the one its schedule means. Results are not cached:
the manifest decides what is done, and a task that runs again is cheap. ``prefect.yaml`` says when which flow runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pipelines.cli import QUIET

for _name, _value in QUIET.items():  # before Prefect is imported: no analytics, no version check
    os.environ.setdefault(_name, _value)

import numpy as np  # noqa: E402
from prefect import flow, get_run_logger, runtime, task  # noqa: E402
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.states import Completed  # noqa: E402

from data_catalog.archive import cycle_key  # noqa: E402
from data_catalog.errors import CycleError  # noqa: E402
from data_catalog.manifest import Manifest  # noqa: E402
from data_catalog.settings import Settings, load_settings  # noqa: E402
from data_catalog.sources import registry  # noqa: E402
from data_catalog.sources.base import Progress  # noqa: E402
from data_catalog.store import Root  # noqa: E402
from pipelines.backfill import PREFECT, backfill, cycles_between  # noqa: E402
from pipelines.commands import simulate_where_asked  # noqa: E402
from pipelines.cycle import CycleReport, deadline_of, failure, fetch, fetched_datasets, run_cycle, watch  # noqa: E402
from pipelines.inputs import key_time  # noqa: E402
from pipelines.picture import as_url, cycle_picture  # noqa: E402
from pipelines.render import render_verified  # noqa: E402
from pipelines.train import render_trained, run_training  # noqa: E402
from pipelines.verify import DAYS, verify  # noqa: E402

CYCLE_HOURS: Final = 6
DEGRADED: Final = "Degraded"
"""Name of the final state of a run that is done although something was missing."""


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
def ingest_task(settings: Settings, dataset: str, key: str, cutoff_hours: float | None = None) -> list[str]:
    """Fetch one cycle of one source, for a revision with this cut-off; says what was not believed."""
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        deadline = deadline_of(key_time(key), cutoff_hours)
        return fetch(settings, root, manifest, settings.load_region(), dataset, key_time(key), _logged(), deadline)


@task(name="observe", task_run_name="observe {key}", retries=2, retry_delay_seconds=30, persist_result=False)
def observe_task(settings: Settings, key: str) -> list[str]:
    """Read the station reports up to a cycle; says which networks failed."""
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        return watch(settings, root, manifest, settings.load_region(), key_time(key), _logged())


@task(name="simulate", task_run_name="simulate {key}", persist_result=False)
def simulate_task(settings: Settings, key: str) -> None:
    """Make the simulated atmosphere of a cycle, where it is the source."""
    simulate_where_asked(settings, key_time(key), _logged())


@task(name="forecast and publish", task_run_name="publish {key}", persist_result=False)
def publish_task(settings: Settings, key: str, cutoff_hours: float | None, gathered: list[str]) -> CycleReport:
    """Forecast, blend, couple and publish one cycle, whose sources and networks were read with these notes."""
    return run_cycle(settings, key_time(key), cutoff_hours=cutoff_hours, gathered=gathered, progress=_logged())


@flow(name="ingest", flow_run_name=lambda: _named("ingest"), persist_result=False, validate_parameters=False)
def ingest_flow(dataset: str, key: str | None = None, settings: dict[str, Any] | None = None) -> object:
    """Fetch one cycle of one source: the newest that is due when none is given."""
    chosen = load_settings(**(settings or {}))
    due = registry.grid_source(chosen, dataset).spec.newest_due(_scheduled())
    notes = ingest_task(chosen, dataset, key or cycle_key(due))
    return _ended(notes, notes)


@flow(name="observe", flow_run_name=lambda: _named("observe"), persist_result=False, validate_parameters=False)
def observe_flow(key: str | None = None, settings: dict[str, Any] | None = None) -> object:
    """Read the station reports of the last days up to a time: now when none is given."""
    notes = observe_task(load_settings(**(settings or {})), key or cycle_key(_scheduled().astype("datetime64[h]")))
    return _ended(notes, notes)


@flow(name="cycle", flow_run_name=lambda: _named("cycle"), persist_result=False, validate_parameters=False)
def cycle_flow(settings: dict[str, Any] | None = None, key: str | None = None, cutoff_hours: float | None = None) -> object:
    """One cycle: every source side by side, the stations, then forecast and publish.

    Without a key it is the newest whose cut-off has passed at the scheduled time, so that a run that starts late is still its own.
    """
    logger = get_run_logger()
    chosen = load_settings(**(settings or {}))
    wanted = key or scheduled_cycle(_scheduled(), cutoff_hours or 0.0)
    simulate_task(chosen, wanted)
    with Manifest.open(chosen.manifest) as manifest:
        datasets = fetched_datasets(chosen, manifest)
    running: dict[str, PrefectFuture[list[str]]] = {
        dataset: ingest_task.submit(chosen, dataset, wanted, cutoff_hours) for dataset in datasets
    }
    running["observations"] = observe_task.submit(chosen, wanted)
    notes = []
    for name, future in running.items():
        future.wait()
        try:
            notes += future.result()
        except Exception as error:  # noqa: BLE001  # one source that fails never stops the rest
            notes.append(failure(name, error))
    for note in notes:
        logger.warning("%s", note)
    report = publish_task(chosen, wanted, cutoff_hours, notes)
    _artifacts(chosen, report)
    return _ended(report, report.notes)


@flow(name="verify", flow_run_name=lambda: _named("verify"), persist_result=False, validate_parameters=False)
def verify_flow(days: int = DAYS, settings: dict[str, Any] | None = None) -> object:
    """Compare the published cycles with what was observed since, and renew the scorecard."""
    report = verify(load_settings(**(settings or {})), days=days, progress=_logged())
    create_markdown_artifact(_pre(render_verified(report)), key="scorecard", description="How good the forecasts were")
    return _ended(report.as_json(), [f"{key} was not verified: {why}" for key, why in report.failed.items()])


@flow(name="train", flow_run_name=lambda: _named("train"), persist_result=False, validate_parameters=False)
def train_flow(ids: list[str] | None = None, settings: dict[str, Any] | None = None) -> object:
    """Train forecasters on the archive; each becomes a challenger, or the champion where there is none."""
    report = run_training(load_settings(**(settings or {})), ids or [], progress=_logged())
    create_markdown_artifact(_pre(render_trained(report)), key="trained", description="What was trained")
    lacking = [f"{one} was not trained: {why}" for one, why in report.failed.items()]
    if lacking and not report.trained:
        raise CycleError("; ".join(lacking))
    return _ended(report.as_json(), lacking)


@flow(name="backfill", flow_run_name=lambda: _named("backfill"), persist_result=False, validate_parameters=False)
def backfill_flow(start: str, stop: str, every: int = 24, on: str = PREFECT, settings: dict[str, Any] | None = None) -> object:
    """Run the cycles of a period (keys like 20250710T00Z), by default each as a run of its own on the work pool."""
    keys = cycles_between(key_time(start), key_time(stop), every)
    report = backfill(load_settings(**(settings or {})), keys, on, progress=_logged())
    if report.failed:
        raise CycleError(f"{len(report.failed)} of {len(keys)} cycles failed: {dict(report.failed)}")
    return _ended(report.as_json(), [f"{key} is degraded." for key in report.degraded])


def scheduled_cycle(time: np.datetime64, cutoff_hours: float) -> str:
    """The newest cycle whose cut-off has passed at a time."""
    last = time.astype("datetime64[s]") - np.timedelta64(round(cutoff_hours * 3600), "s")
    hours = int((last - last.astype("datetime64[D]")) / np.timedelta64(1, "h"))
    return cycle_key(last.astype("datetime64[D]") + np.timedelta64(hours - hours % CYCLE_HOURS, "h"))


def _scheduled() -> np.datetime64:
    """When this run was to start, UTC; now for one that nobody scheduled."""
    time = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "ns")


def _named(kind: str) -> str:
    """``cycle 20250710T00Z``: the kind of a run and what it works on."""
    given = runtime.flow_run.parameters
    named = [str(given[one]) for one in ("dataset", "key", "start", "stop") if given.get(one)]
    if kind == "cycle" and not given.get("key"):
        named = [scheduled_cycle(_scheduled(), given.get("cutoff_hours") or 0.0)]
    return " ".join([kind, *(named or [f"{_scheduled().astype('datetime64[m]')}Z"])])


def _ended(result: object, lacking: Sequence[str]) -> object:
    """What a flow returns: its result, in a final state named :data:`DEGRADED` that says what was missing or failed, where anything was."""
    return Completed(name=DEGRADED, message=" ".join(lacking), data=result) if lacking else result


def _pre(text: str) -> str:
    return f"```\n{text}\n```"


def _artifacts(settings: Settings, report: CycleReport) -> None:
    """What a person looks at in the Prefect page: where the store is, what was missing, the scores, and a picture."""
    lines = [f"# {report.init_time} r{report.revision}", f"`{report.store}`", *(f"- {note}" for note in report.notes)]
    create_markdown_artifact("\n\n".join(lines), key="cycle", description="The published cycle")
    if report.skill:
        create_table_artifact([dict(row) for row in report.skill], key="skill", description="CRPS over the held-out past")
    picture = cycle_picture(Root.open(settings), settings.load_region(), report.href)
    if picture:
        create_image_artifact(as_url(picture), key="forecast", description="Temperature and rain at the first station")
