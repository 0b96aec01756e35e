"""``giomua train`` and ``giomua models``: train on the archive, keep the version in the root, tell MLflow, list and compare."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.dimensions import TIME
from data_catalog.errors import ConfigurationError, GiomuaError, TrackingError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources.base import Progress, silent
from data_catalog.store import Root
from data_catalog.variables import VARIABLES
from models.base import ForecasterError
from pipelines.cycle import cycle_datasets
from pipelines.inputs import key_time
from pipelines.render import table
from training.card import card, pictures
from training.champions import Version, enter, read_champions, save_version, version_of, versions
from training.evaluate import by_lead, protected_cases
from training.experiments import CARD, CURVES, HISTORY, RECORD, SCORES, code_version, environment, sync, tracking_uri
from training.pairs import OBSERVATIONS_PREFIX, STATIONS_SUFFIX, Past, read_past
from training.search import Searched, log_search, search
from training.train import Trained, skill, split_time, train

TRAINED: Final = ("drn", "bqn")
"""What is trained when no id is given."""
FIRST: Final = ("drn",)
"""What a new root gets on the simulated atmosphere."""
SMALL: Final[Mapping[str, Any]] = MappingProxyType({"members": 2, "hidden": 16, "epochs": 4})
"""Its size: half a minute of training with the days below."""
FIRST_DAYS: Final = 45
CHECKPOINTS: Final = "training"
"""Folder of the local root in which a training that was killed goes on when it is started again."""
_DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training did, in JSON types.

    Attributes:
        trained: One row a forecaster: ``forecaster``, ``version``, ``role``, ``folder``, ``seconds``, ``skill`` by reference.
        failed: Why one could not be trained, by id.
        snapshot: Id of the data.
        until: End of the past, ``YYYYMMDDTHHZ``.
        logged: What MLflow was told of.
        tracking: Where MLflow is.
        untold: Why MLflow could not be told, ``""`` when it could.
        searched: The best parameters that a search found, its trials and score, by id.
    """

    trained: tuple[Mapping[str, Any], ...]
    failed: Mapping[str, str]
    snapshot: str
    until: str
    logged: tuple[str, ...] = ()
    tracking: str = ""
    untold: str = ""
    searched: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    Attributes:
        until: End of the past; None for the newest that the archive has.
        days: Days of pairs; None for all.
        held_out_days: See :func:`training.train.split_time`.
        parameters: By forecaster id, in place of its own.
        device: ``auto``, ``cpu`` or ``cuda``.
        search: Bring a search for the best parameters to so many trials first; 0 for none.
        log: Whether MLflow is told.
    """

    until: np.datetime64 | None = None
    days: int | None = None
    held_out_days: int | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    device: str = "auto"
    search: int = 0
    log: bool = True


def run_training(settings: Settings, ids: Sequence[str], options: TrainOptions | None = None, progress: Progress = silent) -> TrainReport:
    """Train forecasters on the archive; one that fails does not stop the others.

    Args:
        settings: Root, region and sources.
        ids: Of forecasters; empty for :data:`TRAINED`.
        options: How.
        progress: Called as it goes on.

    Raises:
        ConfigurationError: The archive has nothing to learn from.
        GiomuaError: The root or the manifest cannot be used.
    """
    options = options or TrainOptions()
    root = Root.open(settings)
    trained, failed, searched = [], {}, {}
    with Manifest.open(settings.manifest) as manifest:
        until = options.until if options.until is not None else newest_time(settings, root, manifest)
        past = read_training_past(settings, root, manifest, until, options.days, progress)
        snapshot = manifest.add_snapshot(past.hashes)
        simulated = past.pairs is not None and any(bool(one.attrs.get("simulated")) for one in past.pairs.sources.values())
    protected = protected_cases(settings.load_region())
    checkpoints = settings.local_root / CHECKPOINTS
    for forecaster_id in ids or TRAINED:
        started = time.time()
        try:
            parameters = dict(options.parameters.get(forecaster_id, {}))
            if options.search and past.pairs is not None:
                cut = split_time(past.pairs, until, options.held_out_days)
                found = search(settings, forecaster_id, past.pairs, cut, snapshot, options.search, fixed=parameters, progress=progress)
                parameters |= found.parameters
                searched[forecaster_id] = found
            made = train(
                forecaster_id, past, until, snapshot, protected, held_out_days=options.held_out_days, parameters=parameters,
                device=options.device, checkpoints=checkpoints, simulated=simulated, progress=progress,
            )    # fmt: skip
        except ForecasterError as error:
            failed[forecaster_id] = str(error)
            continue
        if int(os.environ.get("RANK", "0")):     # under torchrun the first process keeps what all of them made
            continue
        version, role = keep(settings, root, made, started)
        for done in checkpoints.glob(f"{forecaster_id}-*"):
            shutil.rmtree(done, ignore_errors=True)
        trained.append(_row(version, role, made))
    report = TrainReport(
        tuple(trained), failed, snapshot, cycle_key(until), tracking=tracking_uri(settings),
        searched={name: {"trials": one.trials, "score": one.score, **one.parameters} for name, one in searched.items()},
    )  # fmt: skip
    return tell(settings, root, report, searched) if options.log and trained else report


def train_first(settings: Settings, until: np.datetime64, progress: Progress = silent) -> None:
    """Train a small network where no version is there yet, so that a new root has a champion; what goes wrong stops nothing.

    Args:
        settings: Root, region and sources.
        until: The cycle that it will take part in; nothing later is learned from.
        progress: Called as it goes on.
    """
    try:
        if read_champions(Root.open(settings)):
            return
        options = TrainOptions(until=until, days=FIRST_DAYS, parameters=dict.fromkeys(FIRST, SMALL))
        said = run_training(settings, FIRST, options, progress)
        for why in (*said.failed.values(), said.untold):
            if why:
                progress(f"training: {why}", 1, 1)
    except (GiomuaError, ForecasterError) as error:
        progress(f"training: {error}", 1, 1)


def tell(settings: Settings, root: Root, report: TrainReport, searched: Mapping[str, Searched]) -> TrainReport:
    """Tell MLflow; when that fails, the report says so and nothing else changes."""
    try:
        for name, found in searched.items():
            log_search(settings, found, name)
        return replace(report, logged=tuple(sync(settings, root)))
    except TrackingError as error:
        return replace(report, untold=str(error))


def keep(settings: Settings, root: Root, made: Trained, started: float) -> tuple[Version, str]:
    """Write a trained forecaster with all that people want to know of it, and give it its role."""
    own = made.forecaster.spec.id
    now = utc_now()
    record = {
        "trained_at": now,
        "started": started,
        "seconds": time.time() - started,
        "code": code_version(),
        "environment": environment(made.device),
        "cost": dict(made.cost),
        "skill": _skill(made),
    }
    curves = {}
    for variable, cases in made.cases.items():
        if own == cases.rows[0]:
            leads, crps = by_lead(cases, 0)
            spread, error = (np.sqrt(by_lead(cases, 0, name)[1]) for name in ("variance", "square"))
            curves[variable] = {"leads": leads.tolist(), "crps": crps.tolist(), "spread": spread.tolist(), "error": error.tolist()}
    beside = {
        RECORD: _json(record),
        SCORES: _json(list(made.scores)),
        HISTORY: _json(dict(made.history)),
        CURVES: _json(curves),
        **pictures(made.cases, made.history),
    }
    name = version_of(made.forecaster, made.training).name
    beside[CARD] = card(name, made, record, protected_cases(settings.load_region())).encode()
    version = save_version(root, made.forecaster, made.training, beside)
    return version, enter(root, version, now=now)


def _json(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def utc_now() -> str:
    """The clock, as records keep it."""
    return str(np.datetime64("now", "s")) + "Z"


def _row(version: Version, role: str, made: Trained) -> dict[str, Any]:
    return {
        "forecaster": version.forecaster,
        "version": version.name,
        "role": role,
        "folder": version.folder,
        "seconds": round(made.cost["fit_seconds"], 2),
        "skill": _skill(made),
    }


def _skill(made: Trained) -> dict[str, float | None]:
    """Mean skill against each reference."""
    own = made.forecaster.spec.id
    rows = dict.fromkeys(name for cases in made.cases.values() for name in cases.rows)
    return {name: skill(made.cases, own, name) for name in rows if name != own}


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as people write them: numbers, true, false, or text.

    Raises:
        ConfigurationError: No ``=``.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"--set {text!r} is not NAME=VALUE; write for example --set epochs=20.")
        try:
            found[name] = json.loads(value.lower())
        except ValueError:
            found[name] = value
    return found


# --- the past ----------------------------------------------------------------------------------------------------------------------


def newest_time(settings: Settings, root: Root, manifest: Manifest) -> np.datetime64:
    """The end of the past: the newest run of a source in the archive, else midnight after the newest observation.

    Raises:
        ConfigurationError: There is neither.
    """
    runs = [r.key for name in cycle_datasets(settings, manifest) for r in manifest.revisions(name, latest_only=True)]
    if runs:
        return max(key_time(key) for key in runs)
    newest = [np.datetime64("NaT", "ns")]
    for dataset in (name for name in manifest.datasets() if name.startswith(OBSERVATIONS_PREFIX)):
        found = manifest.revisions(dataset, latest_only=True)
        newest.append(root.open_store(found[-1].path)[TIME].values.max())
    end = np.fmax.reduce(np.array(newest))
    if np.isnat(end):
        raise ConfigurationError(
            f"The archive under {root.url} has no forecast and no observation to learn from; run: giomua run, or giomua simulate --days 365"
        )
    found_end: np.datetime64 = end.astype("datetime64[D]").astype("datetime64[ns]")
    return found_end


def read_training_past(
    settings: Settings, root: Root, manifest: Manifest, until: np.datetime64, days: int | None, progress: Progress
) -> Past:
    """Every pair of the archive up to a time, of the sources that a cycle has and the stations that report today.

    Args:
        settings: Region and sources.
        root: Where the stores are.
        manifest: What there is.
        until: End of the past.
        days: How many; None for all there are.
        progress: Called before and after.
    """
    progress("reading the archive", 0, 1)
    datasets = cycle_datasets(settings, manifest)
    if days is None:
        keys = [r.key[:6] for name in datasets for r in manifest.revisions(name + STATIONS_SUFFIX, latest_only=True)]
        first = np.datetime64(f"{min(keys)[:4]}-{min(keys)[4:]}", "D") if keys else until.astype("datetime64[D]")
        days = max(int((until.astype("datetime64[D]") - first) / _DAY), 1)
    stations = [one.id for one in settings.load_region().operating]
    past = read_past(root, manifest, datasets, tuple(VARIABLES), stations, until, days)
    progress("reading the archive", 1, 1)
    return past


# --- giomua models -----------------------------------------------------------------------------------------------------------------


def list_versions(settings: Settings, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a version, the champion of each forecaster first, then the newest."""
    root = Root.open(settings)
    roles = read_champions(root)
    rows = []
    for one in versions(root):
        if ids and one.forecaster not in ids:
            continue
        record = root.read_json(f"{one.folder}/{RECORD}") or {}
        own = roles.get(one.forecaster)
        rows.append(
            {
                "forecaster": one.forecaster,
                "version": one.name,
                "role": own.role_of(one.name) if own else "",
                "trained_at": record.get("trained_at", ""),
                "learned_days": one.training["days"],
                "held_out_from": one.training["held_out_from"],
                "snapshot": one.training["snapshot"],
                "content_hash": one.content_hash,
                "skill": record.get("skill", {}),
                "crps": {
                    row["variable"]: row["crps"]
                    for row in root.read_json(f"{one.folder}/{SCORES}") or []
                    if row["cut"] == "all" and row["forecaster"] == one.forecaster
                },
                "mlflow": record.get("mlflow"),
                "code": record.get("code", ""),
            }
        )
    order = {"champion": 0, "challenger": 1, "previous": 2, "": 3}
    rows.sort(key=lambda row: str(row["trained_at"]), reverse=True)
    rows.sort(key=lambda row: (row["forecaster"], order[str(row["role"])]))
    return rows


def render_versions(rows: Sequence[Mapping[str, Any]], uri: str) -> str:
    """The list as a person reads it."""
    if not rows:
        return "Nothing is trained yet; run: giomua train"
    shown = [
        [
            f"{row['forecaster']} {row['version']}", str(row["role"]) or "-", str(row["trained_at"])[:16], f"{row['learned_days']}",
            str(row["snapshot"])[:8], *(_percent(row["skill"].get(name)) for name in ("climatology", "emos")),
            _percent(_best_raw(row["skill"])), "yes" if row["mlflow"] else "no",
        ]
        for row in rows
    ]    # fmt: skip
    header = ["version", "role", "trained (UTC)", "days", "snapshot", "skill vs climatology", "vs emos", "vs best raw", "in MLflow"]
    text = table(shown, header)
    challenged = [row for row in rows if row["role"] == "challenger"]
    if challenged:
        one = challenged[0]
        text += "\n\nA challenger runs in the shadow of every cycle. To assess and promote it:"
        text += f"\n  giomua promote {one['forecaster']} {one['version']}"
    return f"{text}\n\nExperiments: mlflow ui --backend-store-uri {uri}"


def _best_raw(found: Mapping[str, float | None]) -> float | None:
    """Skill against the raw ensemble that is hardest to beat."""
    values = [value for name, value in found.items() if name.startswith("raw_") and value is not None]
    return min(values) if values else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"


def render_trained(report: TrainReport) -> str:
    """What a person wants to know of a training."""
    lines = []
    for row in report.trained:
        gains = ", ".join(f"{_percent(value)} against {name}" for name, value in row["skill"].items() if value is not None)
        lines.append(f"{row['forecaster']} {row['version']} is the {row['role']} ({row['seconds']:.1f} s)")
        lines.append(f"  held-out skill: {gains or 'none could be given'}")
        lines.append(f"  {row['folder']}")
    lines += [
        f"{name}: best of {found['trials']} trials, CRPS {100 * (found['score'] - 1):+.1f} % against emos before the held-out days"
        for name, found in report.searched.items()
    ]
    lines += [f"{name} could not be trained: {reason}" for name, reason in report.failed.items()]
    if report.untold:
        lines.append(report.untold)
    elif report.logged:
        lines.append(f"Logged; see: mlflow ui --backend-store-uri {report.tracking}")
    lines.append("Next: giomua models")
    return "\n".join(lines)

