"""One forecast cycle as a plain function: gather, learn, forecast, blend, couple, derive, publish.

The manifest decides what is done. A cycle whose inputs were published already only makes sure that the pointer is right; a cycle with new
inputs is the next revision. Prefect flows wrap :func:`run_cycle` and its parts; nothing here knows of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.dimensions import INIT_TIME
from data_catalog.errors import CycleError, GiomuaError
from data_catalog.manifest import Manifest, Revision
from data_catalog.regions import Region
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import FieldSource, GridSource, Progress, silent
from data_catalog.store import Root
from pipelines.ingest import ingest_cycle
from pipelines.inputs import LEADS, CycleInputs, gather
from pipelines.observe import observe
from pipelines.publish import DATASET, VERIFICATION, announce, finished, publish
from pipelines.shadow import run_shadows
from training.champions import SHADOW, load_role, read_champions
from training.pairs import OBSERVATIONS_PREFIX, STATIONS_SUFFIX, Past, read_past

VERSION: Final = "6"
"""Changes whenever the same inputs would give another product."""

_LOG: Final = logging.getLogger(__name__)
HOUR = np.timedelta64(1, "h")
OBSERVED_DAYS: Final = 3
"""How far back a cycle asks the networks for late reports."""


def now() -> np.datetime64:
    """The time, UTC."""
    return np.datetime64("now", "ns")


def newest_due(source: GridSource | FieldSource) -> np.datetime64:
    """The newest cycle that a source has usually published by now."""
    return source.spec.newest_due(now())


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What a cycle did, in JSON types.

    Attributes:
        init_time: ``YYYY-MM-DDTHH:MM:SSZ``.
        revision: Its number.
        href: The store, relative to the root.
        store: The same as an absolute path or URL.
        content_hash: Its hash.
        reused: Whether exactly these inputs had been published before.
        degraded: Whether something was missing, late or quarantined.
        sources: ``{"present": [...], "lagged": [...], "missing": [...]}``.
        notes: What was missing and why, one sentence each.
        forecasters: Ids that forecast.
        skipped: Why one did not, by id.
        tail_guard: Where and why the raw ensembles were let into heavy rain, one sentence each.
        variables: Published variables.
        leads: Number of published leads.
        skill: Scores of the blend and of each raw ensemble over the held-out past, rows of ``training.skill``.
        simulated: Whether the data is simulated.
        shadow: The version of each challenger that forecast unseen, or why it did not, by id.
    """

    init_time: str
    revision: int
    href: str
    store: str
    content_hash: str
    reused: bool
    degraded: bool
    sources: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]
    forecasters: tuple[str, ...]
    skipped: Mapping[str, str]
    variables: tuple[str, ...]
    leads: int
    skill: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    simulated: bool = False
    tail_guard: tuple[str, ...] = ()
    shadow: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def run_cycle(
    settings: Settings,
    init_time: np.datetime64,
    *,
    cutoff_hours: float | None = None,
    gathered: Sequence[str] | None = None,
    progress: Progress = silent,
) -> CycleReport:
    """Run one cycle from the providers to the published store.

    Args:
        settings: Root, region, sources, members.
        init_time: Start of the forecast, UTC, a whole hour.
        cutoff_hours: Use only what was available this many hours after ``init_time``; None takes what there is.
        gathered: The sources and networks were read already, with these notes; None: :func:`read` does it here.
        progress: Called as work goes on.

    Returns:
        What was done; ``degraded`` says that something was missing.

    Raises:
        CycleError: No source has anything for this cycle; the last published cycle stays in place.
        GiomuaError: The root or the manifest cannot be used.
    """
    init_time = init_time.astype("datetime64[ns]")
    deadline = deadline_of(init_time, cutoff_hours)
    region = settings.load_region()
    root = Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        notes = read(settings, root, manifest, region, init_time, progress, deadline) if gathered is None else list(gathered)
        datasets = cycle_datasets(settings, manifest)
        inputs = gather(root, manifest, region, datasets, init_time, available_before=deadline)
        if inputs is None:
            wanted = ", ".join(datasets) or "no source at all"
            raise CycleError(
                f"No source has a forecast for {cycle_key(init_time)} (asked for: {wanted}); import or ingest one, "
                f"or choose another --init-time. The last published cycle stays as it is."
            )
        past = read_past(
            root, manifest, [state.dataset for state in inputs.states], inputs.variables,
            [station.id for station in region.operating], init_time, settings.training_days,
            available_before=deadline, lags={state.dataset: state.lag_hours for state in inputs.states},
        )
        identity = _identity(settings, inputs, past, champion_hashes(root))
        done = finished(manifest, init_time, identity)
        if done is None:
            from pipelines.make import make  # torch: not for a cycle that is done
            from training.at_work import out_of_sample
            from training.learning import Trained

            champions, unusable = load_role(root, "champion")
            leads = expected_leads(settings, datasets, init_time)
            said = out_of_sample(champions, past.pairs) if past.pairs is not None else {}
            trained = {name: Trained(champions[name].forecaster, before) for name, before in said.items()}
            made = make(settings, region, inputs, past, init_time, leads, progress, trained)
            keep_for_training(root, manifest, inputs, init_time)
            notes += [*made.notes, *unusable]
            details = {
                "inputs_hash": identity,
                "sources": _presence(inputs),
                "simulated": made.simulated,
                "variables": list(made.variables),
                "leads": int(made.leads),
                "first_lead_hours": made.first_lead_hours,
                "last_lead_hours": made.last_lead_hours,
                "forecasters": list(made.forecasters),
                "skipped": dict(made.skipped),
                "tail_guard": list(made.tail_guard),
                "champions": {name: one.version.name for name, one in champions.items()},
                "skill": list(made.skill),
                "notes": notes,
                "degraded": bool(notes),
            }
            progress("publishing", 0, 1)
            done = publish(root, manifest, init_time, made.groups, made.attributes, details)
            reused = False
        else:
            reused = True
        announce(root, manifest, region, done)
        progress("publishing", 1, 1)
        shadow = run_shadows(root, manifest, inputs, past, init_time, identity, progress)
        return _report(root, done, reused, shadow)


def _report(root: Root, revision: Revision, reused: bool, shadow: Mapping[str, str]) -> CycleReport:
    details = revision.details
    text = f"{revision.key[:4]}-{revision.key[4:6]}-{revision.key[6:11]}:00:00Z"
    return CycleReport(
        init_time=text,
        revision=revision.revision,
        href=revision.path,
        store=root.location(revision.path),
        content_hash=revision.content_hash,
        reused=reused,
        degraded=bool(details["degraded"]),
        sources=details["sources"],
        notes=tuple(details["notes"]),
        forecasters=tuple(details["forecasters"]),
        skipped=details["skipped"],
        variables=tuple(details["variables"]),
        leads=int(details["leads"]),
        skill=tuple(details["skill"]),
        simulated=bool(details["simulated"]),
        tail_guard=tuple(details.get("tail_guard", ())),
        shadow=shadow,
    )


def is_forecast(dataset: str) -> bool:
    """Whether a dataset of the manifest is a gridded forecast: not observations, analyses, soundings, history at stations or a product."""
    other = (OBSERVATIONS_PREFIX, "analyses/", "soundings/", "twins/", SHADOW)
    return not (dataset.startswith(other) or dataset.endswith(STATIONS_SUFFIX) or dataset in (DATASET, VERIFICATION))


def cycle_datasets(settings: Settings, manifest: Manifest) -> tuple[str, ...]:
    """The sources of a cycle: those of the settings, else what real data the archive holds, else the simulated atmosphere.

    Simulated and real data are never mixed unless the settings name both.
    """
    if settings.sources:
        return settings.sources
    known = registry.grid_sources(settings)
    real = [
        name for name in manifest.datasets() if is_forecast(name) and not (name in known and known[name].spec.simulated)
    ]
    return tuple(real) if real else tuple(name for name, source in known.items() if source.spec.simulated)


def deadline_of(init_time: np.datetime64, cutoff_hours: float | None) -> np.datetime64 | None:
    """When a cycle's cut-off is, UTC; None without one."""
    return None if cutoff_hours is None else init_time + np.timedelta64(round(cutoff_hours * 3600), "s")


def read(
    settings: Settings, root: Root, manifest: Manifest, region: Region, init_time: np.datetime64, progress: Progress,
    deadline: np.datetime64 | None = None,
) -> list[str]:
    """Read every source and network of a cycle; one that fails is a note and the others go on."""
    notes = []
    for dataset in fetched_datasets(settings, manifest):
        try:
            notes += fetch(settings, root, manifest, region, dataset, init_time, progress, deadline)
        except Exception as error:  # noqa: BLE001  # one source that fails never stops the rest
            notes.append(failure(dataset, error))
    return notes + watch(settings, root, manifest, region, init_time, progress)


def failure(name: str, error: Exception) -> str:
    """What the failure of a source or network is called among a cycle's notes; one that nobody foresaw is logged with its trace.

    Raises:
        OSError: The disk or the machine failed, not the source.
        MemoryError: Likewise.
    """
    if isinstance(error, GiomuaError):
        return f"{name}: {error}"
    if isinstance(error, OSError | MemoryError):
        raise error
    _LOG.error("%s failed in a way that nobody foresaw.", name, exc_info=error)
    return f"{name}: {type(error).__name__}: {error} (nobody foresaw this; please report it with the trace in the log)"


def fetched_datasets(settings: Settings, manifest: Manifest) -> tuple[str, ...]:
    """Those of a cycle's sources that it ingests: the simulated centres and what the settings name; others come by ``giomua import``."""
    known = registry.grid_sources(settings)
    chosen = cycle_datasets(settings, manifest)
    return tuple(name for name in chosen if name in known and (known[name].spec.simulated or name in settings.sources))


def fetch(
    settings: Settings, root: Root, manifest: Manifest, region: Region, dataset: str, init_time: np.datetime64, progress: Progress,
    deadline: np.datetime64 | None = None,
) -> list[str]:
    """Ingest a source of a cycle, for a revision with this cut-off; what was not believed is a note.

    Raises:
        GiomuaError: The source has nothing of the cycle, cannot be reached, or the archive cannot be written.
    """
    source = registry.grid_source(settings, dataset)
    report = ingest_cycle(
        root, manifest, region, source, registry.transport_for(settings, dataset), init_time,
        available_time=at_hand(source, init_time, deadline), workers=settings.decode_workers, timeout=settings.decode_timeout,
        progress=progress,
    )    # fmt: skip
    refused = len(report.quarantined)
    return [f"{dataset}: {refused} messages were quarantined; giomua status lists them."] if refused else []


_ON_TIME: Final = np.timedelta64(1, "h")
"""A revision that reads its sources within this after its cut-off finds what was there at it."""


def at_hand(source: GridSource | FieldSource, init_time: np.datetime64, deadline: np.datetime64 | None = None) -> np.datetime64 | None:
    """When a run counts as available: a simulated one after its usual delay, a real one now, which None says.

    Runs start when their cut-off has come and read for minutes; a real run that one of them finds counts as there at the cut-off. Of one
    read much later, for a past cycle or by a worker that was down, nobody knows that: it counts from now, for the next revision.
    """
    if source.spec.simulated:
        return init_time + np.timedelta64(round(source.spec.delay_hours * 3600), "s")
    return deadline if deadline is not None and deadline <= now() <= deadline + _ON_TIME else None


def watch(
    settings: Settings, root: Root, manifest: Manifest, region: Region, init_time: np.datetime64, progress: Progress
) -> list[str]:
    """Read the station reports of the last days; a network that fails is a note."""
    datasets = cycle_datasets(settings, manifest)
    simulated = {name for name, source in registry.grid_sources(settings).items() if source.spec.simulated}
    notes = []
    for network, source in registry.chosen_networks(settings).items():
        if source.spec.simulated and not simulated & set(datasets):
            continue
        try:
            report = observe(
                root, manifest, region, source, registry.transport_for(settings, network),
                init_time - np.timedelta64(OBSERVED_DAYS, "D"), init_time, links=registry.links(), progress=progress,
            )    # fmt: skip
        except Exception as error:  # noqa: BLE001
            notes.append(failure(network, error))
            continue
        if report.degraded:
            notes.append(
                f"{network}: {len(report.missing)} files are missing, {len(report.quarantined) - report.known} reports newly quarantined; "
                "giomua observe lists them."
            )
    return notes


def expected_leads(settings: Settings, datasets: Sequence[str], init_time: np.datetime64) -> np.ndarray:
    """The published leads, hours, that these sources offer together in a cycle; all of them when a source is not known."""
    known = registry.grid_sources(settings)
    if any(name not in known for name in datasets):
        return LEADS
    return np.intersect1d(LEADS, sorted({key.lead_hours for name in datasets for key in known[name].expected(init_time)}))


def keep_for_training(root: Root, manifest: Manifest, inputs: CycleInputs, init_time: np.datetime64) -> None:
    """File this cycle's forecasts at stations, so that later cycles learn from them; lagged ones were filed by their own cycle."""
    for state in inputs.states:
        if state.status != "present":
            continue
        fields = inputs.stations.sources[state.dataset].isel({INIT_TIME: 0})
        name = state.dataset + STATIONS_SUFFIX
        fields.attrs = {"simulated": state.simulated, "from": state.content_hash}
        ref = root.write_store(f"archive/{name}", cycle_key(init_time), {"": fields}, fields.attrs)
        made = manifest.latest(state.dataset, cycle_key(init_time))
        manifest.add_revision(name, cycle_key(init_time), ref, available_time=made.available_time if made else init_time)


def _presence(inputs: CycleInputs) -> dict[str, list[str]]:
    return {
        status: [state.dataset for state in inputs.states if state.status == status] for status in ("present", "lagged", "missing")
    }


def champion_hashes(root: Root) -> list[tuple[str, str]]:
    """Which trained versions take part; none where the pointer to them cannot be read, which the cycle then says."""
    try:
        return sorted((name, roles.champion.content_hash) for name, roles in read_champions(root).items() if roles.champion is not None)
    except GiomuaError:
        return []


def _identity(settings: Settings, inputs: CycleInputs, past: Past, champions: Sequence[tuple[str, str]]) -> str:
    """A hash of all that decides what is published: the stores read, the settings that matter, and this code's version."""
    parts = {
        "version": VERSION,
        "members": settings.members,
        "region": settings.load_region().model_dump(mode="json"),
        "training_days": settings.training_days,
        "sources": sorted((state.dataset, state.lag_hours, state.content_hash) for state in inputs.states),
        "past": sorted(past.hashes),
        "champions": list(champions),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
