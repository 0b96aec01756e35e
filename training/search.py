"""Search for the parameters of a network: Optuna's tree-structured Parzen estimator, kept in the root and gone on with when asked again.

A trial learns from the past without its newest part and is judged there by the mean CRPS relative to the joint EMOS; the days that a
version is held to later are never looked at. A study belongs to one snapshot of data: with other data another one begins.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from data_catalog.errors import ConfigurationError
from data_catalog.settings import Settings
from data_catalog.sources.base import Progress, silent
from models.base import ForecasterError, Pairs
from models.registry import build
from training.evaluate import evaluate, learned_until, started_from
from training.experiments import experiment, tracking
from training.train import split_time

SPACE: Final[Mapping[str, tuple[Any, ...]]] = {
    "hidden": ("int", 16, 96, True),
    "embedding": ("int", 2, 8, False),
    "rate": ("float", 1e-3, 3e-2, True),
    "decay": ("float", 1e-4, 1e-1, True),
    "drop_hidden": ("float", 0.0, 0.6, False),
    "drop_source": ("float", 0.0, 0.3, False),
}
"""What is searched, of every station network: kind, ends, whether on a log scale."""
CHEAP: Final[Mapping[str, Any]] = {"members": 2}
"""In a trial in place of a version's own: the size of an ensemble changes the score, and hardly the order of the other parameters."""
FILE: Final = "optuna.db"


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found.

    Attributes:
        parameters: The best.
        score: Their mean CRPS relative to the joint EMOS; below one is better.
        trials: Finished in all.
        fresh: Of them in this call.
        study: Its name.
    """

    parameters: Mapping[str, Any]
    score: float
    trials: int
    fresh: int
    study: str


def search(
    settings: Settings,
    forecaster_id: str,
    pairs: Pairs,
    cut: np.datetime64,
    snapshot: str,
    trials: int,
    *,
    fixed: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Searched:
    """Bring a study to so many finished trials, counting those of before.

    Args:
        settings: Where the study is kept: ``optuna.db`` in the local root.
        forecaster_id: A station network.
        pairs: All.
        cut: Nothing of it or later is looked at.
        snapshot: Of the data.
        trials: How many.
        fixed: Parameters that are not searched.
        progress: Called for each trial.

    Raises:
        ConfigurationError: The forecaster has none of these parameters, or the past is too short.
    """
    import optuna

    fixed = dict(fixed or {})
    space = {name: one for name, one in SPACE.items() if name not in fixed}
    try:
        build(forecaster_id, **{name: one[1] for name, one in space.items()})
    except ForecasterError as error:
        raise ConfigurationError(f"{forecaster_id} cannot be searched: {error} Search a network: drn or bqn.") from error
    past = learned_until(pairs, cut)
    inner = split_time(past, cut)
    learned, judged = learned_until(past, inner), started_from(past, inner)
    base = evaluate({"emos": build("emos").fit(learned)}, judged, ())

    def objective(trial: Any) -> float:
        chosen = {name: _suggest(trial, name, one) for name, one in space.items()}
        start = time.perf_counter()
        forecaster = build(forecaster_id, **{**CHEAP, **fixed, **chosen}).fit(learned)
        found = evaluate({forecaster_id: forecaster}, judged, ())
        score = {name: one.statistics["crps"][0].mean() for name, one in found.items() if name in base}
        ratios = {name: float(own / base[name].statistics["crps"][0].mean()) for name, own in score.items()}
        trial.set_user_attr("ratios", ratios)
        trial.set_user_attr("seconds", time.perf_counter() - start)
        return float(np.mean(list(ratios.values())))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings.local_root.mkdir(parents=True, exist_ok=True)
    name = f"{forecaster_id} {snapshot[:12]} {str(cut)[:13]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            storage=f"sqlite:///{(settings.local_root / FILE).absolute()}", study_name=name, load_if_exists=True, direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=int(snapshot[:8], 16) + _finished(name, settings)),
        )  # fmt: skip
        done = len(_completed(study))
        for number in range(done, trials):
            progress(f"searching {forecaster_id}", number, trials)
            study.optimize(objective, n_trials=1, catch=(ForecasterError,))
        progress(f"searching {forecaster_id}", trials, trials)
    if not _completed(study):
        raise ConfigurationError(f"No trial of {forecaster_id} came to an end; train it once without --search to see why.")
    return Searched({**fixed, **study.best_params}, float(study.best_value), len(_completed(study)), len(_completed(study)) - done, name)


def _suggest(trial: Any, name: str, one: tuple[Any, ...]) -> Any:
    kind, low, high, log = one
    return trial.suggest_int(name, low, high, log=log) if kind == "int" else trial.suggest_float(name, low, high, log=log)


def _completed(study: Any) -> list[Any]:
    import optuna

    found: list[Any] = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return found


def _finished(name: str, settings: Settings) -> int:
    """Trials there are, so that a study gone on with does not draw the same numbers again."""
    import optuna

    known = {one.study_name: one.n_trials for one in optuna.get_all_study_summaries(f"sqlite:///{(settings.local_root / FILE).absolute()}")}
    return int(known.get(name, 0))


def log_search(settings: Settings, found: Searched, forecaster_id: str) -> None:
    """Every trial that MLflow does not know as a run of the experiment ``giomua/<id> search``.

    Raises:
        TrackingError: It cannot be reached; the study keeps the trials, and the next search logs them.
    """
    import optuna
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.load_study(study_name=found.study, storage=f"sqlite:///{(settings.local_root / FILE).absolute()}")
    logged = list(study.user_attrs.get("logged", []))
    said = f"The study {found.study} is safe in {settings.local_root / FILE}"
    with tracking(settings, said, f"giomua train {forecaster_id} --search {found.trials}") as client:
        about = f"Trials of {forecaster_id}: `score` is the mean CRPS relative to the joint EMOS on days before the held-out ones."
        where = experiment(client, settings, f"giomua/{forecaster_id} search", about)
        for trial in study.get_trials(states=(TrialState.COMPLETE,)):
            if trial.number in logged:
                continue
            started = int(1000 * trial.datetime_start.timestamp()) if trial.datetime_start else None
            run = client.create_run(where, start_time=started, run_name=f"trial {trial.number}", tags={"study": found.study})
            for name, value in trial.params.items():
                client.log_param(run.info.run_id, name, value)
            client.log_metric(run.info.run_id, "score", float(trial.value or np.nan))
            client.log_metric(run.info.run_id, "seconds", float(trial.user_attrs["seconds"]))
            for name, value in trial.user_attrs["ratios"].items():
                client.log_metric(run.info.run_id, f"{name}/crps_relative_to_emos", value)
            client.set_tag(run.info.run_id, "best", str(trial.number == study.best_trial.number).lower())
            client.set_terminated(run.info.run_id, "FINISHED", end_time=started and started + int(1000 * trial.user_attrs["seconds"]))
            logged.append(trial.number)
            study.set_user_attr("logged", logged)
