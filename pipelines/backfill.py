"""Past cycles, each on its own: in this process, on a Dask cluster, or as runs of a Prefect deployment on a work pool.

A cycle reads and writes nothing but the root, so any number of them may run at once, on any machine that reaches the root and the
manifest. One that fails, or whose worker dies, is a line in the report and the others go on; run the same command again for those.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.errors import ConfigurationError, GiomuaError
from data_catalog.settings import Settings, load_settings
from data_catalog.sources.base import Progress, silent
from pipelines.inputs import key_time

HERE: Final = "here"
DASK: Final = "dask"
PREFECT: Final = "prefect"
DEPLOYMENT: Final = "cycle/past"
"""The deployment of ``prefect.yaml`` whose runs are past cycles."""
RETRIES: Final = 2
"""How often a cycle whose Dask worker died is tried elsewhere."""
ANSWER_SECONDS: Final = 30.0
"""How long a Dask scheduler is waited for."""
POLL_SECONDS: Final = 2.0

HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one cycle: published, degraded, or a problem in one sentence."""

    key: str
    degraded: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill did, in JSON types.

    Attributes:
        done: Cycles published with all their inputs.
        degraded: Cycles published although something was missing.
        failed: Why one was not, by cycle.
    """

    done: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"done": list(self.done), "degraded": list(self.degraded), "failed": dict(self.failed)}


def cycles_between(start: np.datetime64, stop: np.datetime64, every: int) -> tuple[str, ...]:
    """Keys of the cycles of a period, both ends included.

    Raises:
        ConfigurationError: The period ends before it begins.
    """
    if stop < start:
        raise ConfigurationError(f"--to {cycle_key(stop)} lies before --from {cycle_key(start)}; swap them.")
    return tuple(cycle_key(time) for time in np.arange(start, stop + 1, every * HOUR))


def backfill(settings: Settings, keys: Sequence[str], on: str = HERE, workers: int = 1, progress: Progress = silent) -> BackfillReport:
    """Run past cycles.

    Args:
        settings: Of every one of them; workers on other machines need a root and a manifest that they reach too.
        keys: Of the cycles.
        on: ``here``, one after the other; ``dask``, a cluster of this machine; ``tcp://HOST:PORT`` or ``tls://...``, a Dask scheduler;
            ``prefect``, runs of the deployment :data:`DEPLOYMENT` on its work pool.
        workers: Processes of the cluster of this machine.
        progress: Called as cycles end.

    Raises:
        ConfigurationError: The place is not known, or what it needs is not there.
    """
    places: dict[str, Callable[[], Iterator[Outcome]]] = {
        HERE: lambda: (run_one(settings.model_dump(mode="json"), key) for key in keys),
        DASK: lambda: _on_dask(settings, keys, None, workers),
        PREFECT: lambda: _on_prefect(settings, keys),
    }
    if on.startswith(("tcp://", "tls://")):
        outcomes = _on_dask(settings, keys, on, workers)
    elif on in places:
        outcomes = places[on]()
    else:
        raise ConfigurationError(f"--on is {on!r}; expected {', '.join(places)} or the address of a Dask scheduler, tcp://HOST:PORT.")
    progress("backfill", 0, len(keys))
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        found[outcome.key] = outcome
        progress("backfill", len(found), len(keys))
    ordered = [found[key] for key in keys]
    return BackfillReport(
        tuple(one.key for one in ordered if not one.problem and not one.degraded),
        tuple(one.key for one in ordered if not one.problem and one.degraded),
        {one.key: one.problem for one in ordered if one.problem},
    )


def run_one(settings: Mapping[str, Any], key: str) -> Outcome:
    """One cycle, in whatever process this is called."""
    from pipelines.commands import run_here

    try:
        report = run_here(load_settings(**settings), key_time(key), None, silent)
    except GiomuaError as error:
        return Outcome(key, problem=str(error))
    return Outcome(key, degraded=report.degraded)


def _anywhere(settings: Settings) -> dict[str, Any]:
    """Settings for another process, whatever folder it works in."""
    state_root = str(settings.local_root.absolute())
    root = settings.root if settings.is_remote else state_root
    return settings.model_dump(mode="json") | {"root": root, "state_root": settings.state_root and state_root}


def _on_dask(settings: Settings, keys: Sequence[str], address: str | None, workers: int) -> Iterator[Outcome]:
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise ConfigurationError("A backfill on Dask needs the package distributed; install giomua[dask].") from None
    chosen = _anywhere(settings)
    with ExitStack() as opened:
        if address is None:
            place: Any = opened.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None))
        else:
            place = address
        try:
            client = opened.enter_context(Client(place, timeout=ANSWER_SECONDS))
        except OSError as error:
            raise ConfigurationError(f"No Dask scheduler answers at {address}: {error}; start one, or give its address to --on.") from error
        futures = {client.submit(run_one, chosen, key, key=f"cycle-{key}", pure=False, retries=RETRIES): key for key in keys}
        for future in as_completed(futures):
            trouble = future.exception()
            yield future.result() if trouble is None else Outcome(futures[future], problem=f"{type(trouble).__name__}: {trouble}")


def _on_prefect(settings: Settings, keys: Sequence[str]) -> Iterator[Outcome]:
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    chosen = _anywhere(settings)
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise ConfigurationError(
                f"The Prefect server at {client.api_url} has no deployment {DEPLOYMENT!r}; run: prefect deploy --all"
            ) from None
        waiting = {}
        for key in keys:
            run = run_deployment(DEPLOYMENT, parameters={"settings": chosen, "key": key}, timeout=0, as_subflow=False)
            waiting[run.id] = key  # type: ignore[union-attr]
        while waiting:
            time.sleep(POLL_SECONDS)
            for run_id, key in list(waiting.items()):
                state = client.read_flow_run(run_id).state
                if state is None or not state.is_final():
                    continue
                del waiting[run_id]
                if state.is_completed():
                    yield Outcome(key, degraded=state.name == "Degraded")
                else:
                    yield Outcome(key, problem=f"{state.name}: {state.message or 'see its logs in Prefect'}")
