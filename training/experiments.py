"""MLflow: every training, search and backtest is a run, every version in the root a registered model version with its aliases.

The root is what counts and MLflow is told of it afterwards, out of the files that are there: when it cannot be reached nothing is lost, and
:func:`sync` tells it later. By default it is ``mlflow.db`` and ``mlartifacts/`` under the root, without any server; the setting
``mlflow_url`` names a server. Nothing is ever read back from it.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_catalog.errors import GiomuaError, TrackingError
from data_catalog.settings import Settings
from data_catalog.store import Root
from training.champions import FOLDER, MODEL, STATE, Roles, Version, read_champions, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from training.backtest import BacktestConfig, BacktestResult

RECORD, SCORES, HISTORY, CURVES, CARD = "record.json", "scores.json", "history.json", "curves.json", "card.md"
ASSESSMENT: Final = "assessment.md"
BACKTESTS: Final = "giomua/backtest"
TABLE: Final = "scores_table.json"
_TABLES: Final = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])}
_BATCH: Final = 900  # metrics a request; MLflow takes 1000
_CHARACTERS: Final = 5000  # of a tag; MLflow takes 8000 in its newest form, and a note is one
QUIET: Final[Mapping[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",      # a server that is not there is said at once: nothing depends on it
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def experiment_name(forecaster_id: str) -> str:
    """The experiment of a forecaster's trainings."""
    return f"giomua/{forecaster_id}"


def model_name(forecaster_id: str) -> str:
    """The registered model of a forecaster."""
    return f"giomua-{forecaster_id}"


def tracking_uri(settings: Settings) -> str:
    """Where MLflow is."""
    return settings.mlflow_url or f"sqlite:///{(settings.local_root / 'mlflow.db').absolute()}"


# --- what a run was made with ------------------------------------------------------------------------------------------------------


def code_version() -> str:
    """The commit that the code is of, marked where files were changed since, else the installed version."""
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return said.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        try:
            return f"giomua {version('giomua')}"
        except PackageNotFoundError:
            return "unknown"


def environment(device: str) -> dict[str, Any]:
    """Machine and packages, for a record."""
    return {
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "packages": dict(sorted({str(one.metadata["Name"]).lower(): one.version for one in distributions()}.items())),
    }


# --- the client --------------------------------------------------------------------------------------------------------------------


@contextmanager
def tracking(settings: Settings, what: str, retry: str = "giomua models --sync") -> Iterator[MlflowClient]:
    """A client, and one clear sentence when MLflow cannot do what is asked.

    Args:
        settings: Where it is.
        what: Is being logged, and where it is safe: the start of a sentence.
        retry: The command that does it again.

    Raises:
        TrackingError: It cannot be reached, refuses, or has no space.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sqlalchemy.exc
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

    uri = tracking_uri(settings)
    try:
        if not settings.mlflow_url:
            settings.local_root.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")      # MLflow's own, about its own dependencies
            yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:     # requests' errors are OSErrors
        if isinstance(error, GiomuaError):
            raise
        cause = " ".join(str(error).split())
        cause = "it does not answer" if "Max retries exceeded" in cause or "Connection refused" in cause else cause[:300]
        raise TrackingError(f"{what}, but MLflow at {uri} could not be told ({cause}); when it is back: {retry}") from error


def experiment(client: MlflowClient, settings: Settings, name: str, note: str) -> str:
    """The id of an experiment, made with its artifacts under the root, or where the server keeps its own."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = None if settings.mlflow_url else (settings.local_root / "mlartifacts" / name).absolute().as_uri()
    tags = {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development", "project": "giomua"}
    return str(client.create_experiment(name, artifact_location=place, tags=tags))


def _log(
    client: MlflowClient, run_id: str, parameters: Mapping[str, Any], metrics: Sequence[tuple[str, float, int]], tags: Mapping[str, Any]
) -> None:
    """Parameters, (name, value, step) metrics and tags in few requests."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(1000 * time.time())
    client.log_batch(
        run_id,
        params=[Param(name, _short(value, 6000)) for name, value in parameters.items()],
        tags=[RunTag(name, _short(value, _CHARACTERS)) for name, value in tags.items()],
    )
    ready = [Metric(name, float(value), now, step) for name, value, step in metrics]
    for first in range(0, len(ready), _BATCH):
        client.log_batch(run_id, metrics=ready[first : first + _BATCH])


def _short(value: Any, length: int) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _artifacts(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Files by path, in one upload."""
    with tempfile.TemporaryDirectory(prefix="giomua-") as folder:
        for path, data in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        client.log_artifacts(run_id, folder)


# --- versions ----------------------------------------------------------------------------------------------------------------------


def sync(settings: Settings, root: Root) -> list[str]:
    """Tell MLflow of every version and backtest that it does not know, and who is champion and challenger.

    Returns:
        What was logged, by name.

    Raises:
        TrackingError: It cannot be reached; what was logged before stays.
    """
    logged = []
    roles = read_champions(root)
    waiting = [one for one in versions(root) if "mlflow" not in (root.read_json(f"{one.folder}/{RECORD}") or {})]
    with tracking(settings, f"Everything trained is safe in {root.location(FOLDER)}") as client:
        for one in waiting:
            log_version(client, settings, root, one)
            logged.append(f"{one.forecaster} {one.name}")
        for forecaster_id, own in roles.items():
            _set_aliases(client, root, forecaster_id, own)
        logged += _log_pending(client, settings, root)
    return logged


def log_version(client: MlflowClient, settings: Settings, root: Root, one: Version) -> None:
    """One training as a run and a registered model version, out of the files of the version; its record then names both."""
    files = _files(root, one)
    record = json.loads(files[RECORD])
    training = one.training
    card = files[CARD].decode()
    name, registered = experiment_name(one.forecaster), model_name(one.forecaster)
    about = f"Trainings of the forecaster {one.forecaster}; a run is a version in the folder `{FOLDER}/{one.forecaster}` of the root."
    where = experiment(client, settings, name, about)
    for unfinished in client.search_runs([where], f"tags.content_hash = '{one.content_hash}'"):
        client.delete_run(unfinished.info.run_id)
    started = int(1000 * float(record["started"]))
    run_id = str(client.create_run(where, start_time=started, run_name=f"{one.forecaster} {one.name}").info.run_id)
    parameters = {
        "forecaster": one.forecaster,
        **{name: training[name] for name in ("until", "first", "held_out_from", "days", "sources", "targets", "stations")},
        "device": record["environment"]["device"],
        **{f"parameter.{name}": value for name, value in training["parameters"].items()},
    }
    tags = {
        **_tags(one),
        **_TABLES,
        "code": record["code"],
        "mlflow.note.content": card,
        "mlflow.user": "giomua",
        "mlflow.source.name": f"giomua train {one.forecaster}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": str(record["code"]).removesuffix("-dirty"),
    }
    metrics = _score_metrics(one.forecaster, json.loads(files[SCORES]), json.loads(files[CURVES]), record)
    metrics += [
        (f"{variable}/epochs/{name}", row[name], int(row["epoch"]))
        for variable, rows in json.loads(files[HISTORY]).items()
        for row in rows
        for name in ("loss", "held_out")
        if row[name] is not None
    ]
    _log(client, run_id, parameters, metrics, tags)
    _input(client, run_id, one)
    shown = {path: data for path, data in files.items() if path not in (STATE, MODEL, SCORES)}
    packages = "".join(f"{name}=={number}\n" for name, number in record["environment"]["packages"].items())
    state = {f"model/{name}": files[name] for name in (STATE, MODEL)}
    _artifacts(client, run_id, {**shown, **state, TABLE: _table(json.loads(files[SCORES])), "environment.txt": packages.encode()})
    client.set_terminated(run_id, "FINISHED", end_time=started + int(1000 * record["seconds"]))
    number = _register(client, registered, one, run_id, card)
    record["mlflow"] = {"uri": tracking_uri(settings), "run_id": run_id, "model": registered, "model_version": number}
    root.write_json(f"{one.folder}/{RECORD}", record)


def _files(root: Root, one: Version) -> dict[str, bytes]:
    """Every file of a version by its path in it."""
    return {path.removeprefix(f"{one.folder}/"): root.read_bytes(path) for path in root.list_files(one.folder)}


def _tags(one: Version) -> dict[str, str]:
    """What ties a version to its data and its files in the root."""
    training = one.training
    return {
        "forecaster": one.forecaster,
        "version": one.name,
        "content_hash": one.content_hash,
        "snapshot": str(training["snapshot"]),
        "trained_until": str(training["until"]),
        "held_out_from": str(training["held_out_from"]),
        "sources": ", ".join(training["sources"]),
        "simulated": str(bool(training["simulated"])).lower(),
        "root_folder": one.folder,
    }


def _score_metrics(
    own: str, scores: Sequence[Mapping[str, Any]], curves: Mapping[str, Any], record: Mapping[str, Any]
) -> list[tuple[str, float, int]]:
    """Final scores at step 0, and curves whose step is the lead in hours."""
    found = [(f"skill/vs_{name}", value, 0) for name, value in record["skill"].items() if value is not None]
    found += [(f"cost/{name}", value, 0) for name, value in record["cost"].items()]
    for row in scores:
        if row["forecaster"] == own and row["cut"] in ("all", "season", "station"):
            place = row["variable"] if row["cut"] == "all" else f"{row['variable']}/{row['cut']}_{row['label']}"
            names = ("crps", "mae", "bias", "coverage_50", "coverage_90", "spread_error") if row["cut"] == "all" else ("crps",)
            found += [(f"{place}/{name}", row[name], 0) for name in names if row[name] is not None]
    for variable, curve in curves.items():
        for name in ("crps", "spread", "error"):
            steps = zip(curve["leads"], curve[name], strict=True)
            found += [(f"{variable}/by_lead_hours/{name}", value, int(lead)) for lead, value in steps]
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as MLflow shows them: a table to sort and filter."""
    names = list(rows[0]) if rows else []
    return json.dumps({"columns": names, "data": [[row[name] for name in names] for row in rows]}).encode()


def _input(client: MlflowClient, run_id: str, one: Version) -> None:
    """The data snapshot as the run's dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    training = one.training
    source = {"manifest_snapshot": training["snapshot"], "sources": training["sources"], "until": training["until"]}
    profile = {"days": training["days"], "stations": len(training["stations"]), "variables": len(training["targets"])}
    data = Dataset("pairs of the archive", str(training["snapshot"])[:32], "giomua snapshot", json.dumps(source), None, json.dumps(profile))
    client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])


def _register(client: MlflowClient, name: str, one: Version, run_id: str, card: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        about = (
            f"The forecaster `{one.forecaster}` of Giómua. `champion` is what the forecast cycles use, `challenger` runs in their shadow; "
            "both are set by `giomua train` and `giomua promote`, and read from `models/champions.json` of the root, never from here."
        )
        client.create_registered_model(name, {"forecaster": one.forecaster, "project": "giomua"}, about)
    for old in client.search_model_versions(f"name = '{name}'"):
        if old.tags.get("content_hash") == one.content_hash:
            client.delete_model_version(name, old.version)
    made = client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags=_tags(one), description=card)
    return str(made.version)


def _set_aliases(client: MlflowClient, root: Root, forecaster_id: str, roles: Roles) -> None:
    """Aliases of the registry and the tag ``role`` of every version as ``champions.json`` says; assessments beside their runs."""
    name = model_name(forecaster_id)
    for one in versions(root, forecaster_id):
        record = root.read_json(f"{one.folder}/{RECORD}") or {}
        if "mlflow" not in record:
            continue
        role = roles.role_of(one.name)
        client.set_tag(record["mlflow"]["run_id"], "role", role or "none")
        client.set_model_version_tag(name, record["mlflow"]["model_version"], "role", role or "none")
        if role in ("champion", "challenger"):
            client.set_registered_model_alias(name, role, record["mlflow"]["model_version"])
        if role == "champion" and roles.champion is not None:
            why = f"{roles.champion.since}: {roles.champion.reason}"
            client.set_model_version_tag(name, record["mlflow"]["model_version"], "promoted", why)
        assessed = {n: root.read_bytes(f"{one.folder}/{n}") for n in (ASSESSMENT, "assessment.json") if root.exists(f"{one.folder}/{n}")}
        if assessed:
            _artifacts(client, record["mlflow"]["run_id"], assessed)
    if roles.challenger is None and "challenger" in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, "challenger")


# --- backtests ---------------------------------------------------------------------------------------------------------------------

_PENDING: Final = f"{FOLDER}/unlogged_backtests.json"


def log_backtest(settings: Settings, config: BacktestConfig, result: BacktestResult, seconds: float) -> None:
    """A backtest as a run: configuration, scores by forecaster and lead, tables and report.

    Raises:
        TrackingError: MLflow cannot be reached; the backtest waits for :func:`sync`.
    """
    entry = {
        "out": str(config.out.absolute()),
        "started": time.time() - seconds,
        "seconds": seconds,
        "code": code_version(),
        "parameters": {
            "variable": config.variable,
            "sources": {name: str(path) for name, path in config.sources.items()},
            "observations": str(config.observations),
            "train_until": str(config.train_until),
            "test_until": str(config.test_until or ""),
            "refit": config.refit,
            "window": config.window or "",
            "forecasters": list(config.forecasters),
            "strict": config.strict,
        },
        "scores": [{name: row[name] for name in row} for row in result.rows],
        "findings": list(result.findings),
    }
    root = Root.open(settings)
    waiting = root.read_json(_PENDING) or []
    root.write_json(_PENDING, [*waiting, entry])
    with tracking(settings, f"The backtest is safe in {config.out}") as client:
        _log_pending(client, settings, root)


def _log_pending(client: MlflowClient, settings: Settings, root: Root) -> list[str]:
    """Log what waits, and forget it one by one."""
    waiting = root.read_json(_PENDING) or []
    logged = []
    while waiting:
        _log_backtest(client, settings, waiting[0])
        logged.append(f"backtest {waiting[0]['parameters']['variable']} in {waiting[0]['out']}")
        waiting = waiting[1:]
        root.write_json(_PENDING, waiting)
    return logged


def _log_backtest(client: MlflowClient, settings: Settings, entry: Mapping[str, Any]) -> None:
    parameters = entry["parameters"]
    where = experiment(client, settings, BACKTESTS, "Replays of archives with what was known then; metrics are `<forecaster>/<score>`.")
    name = f"{parameters['variable']} after {parameters['train_until']}: {', '.join(parameters['sources'])}"
    started = int(1000 * entry["started"])
    run_id = str(client.create_run(where, start_time=started, run_name=name[:250]).info.run_id)
    metrics = []
    for row in entry["scores"]:
        summary = str(row["lead_time_hours"]) == "all"
        for score in ("crps", "mae", "bias", "coverage_50", "coverage_90", "spread_error"):
            if isinstance(row.get(score), float) and (summary or score == "crps"):
                place = score if summary else f"by_lead_hours/{score}"
                metrics.append((f"{row['forecaster']}/{place}", row[score], 0 if summary else int(float(row["lead_time_hours"]))))
    tags = {
        **_TABLES,
        "code": entry["code"],
        "kind": "backtest",
        "out": entry["out"],
        "mlflow.user": "giomua",
        "mlflow.source.name": "giomua backtest",
        "mlflow.note.content": "\n".join(f"- {finding}" for finding in entry["findings"]) or "Nothing odd was found in the data.",
    }
    _log(client, run_id, parameters, metrics, tags)
    out = Path(entry["out"])
    written = {name: (out / name).read_bytes() for name in ("report.html", "scores.csv", "weights.csv") if (out / name).is_file()}
    _artifacts(client, run_id, {**written, TABLE: _table(entry["scores"])})
    client.set_terminated(run_id, "FINISHED", end_time=started + int(1000 * entry["seconds"]))
