"""The command ``giomua``.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 degraded (done, but
something was missing or quarantined). Everything heavy is imported inside the command that needs it, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    import numpy as np

    from data_catalog.settings import Settings
    from data_catalog.sources.base import Progress

DONE, FAILED, USAGE, DEGRADED = 0, 1, 2, 3

app = typer.Typer(
    name="giomua",
    help="Giómua: several forecasts in, one calibrated ensemble for Hanoi out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RootOption = Annotated[
    str | None,
    typer.Option(
        "--root", envvar="GIOMUA_ROOT", help="Where everything is kept: a folder or an object-store URL.", show_default="./var"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="'tiny' runs a whole cycle in seconds, for fault tests.", show_default="default")
]
InitTimeOption = Annotated[
    str | None,
    typer.Option(
        "--init-time", metavar="T", help="Start of the forecast, UTC: 2025-01-10T12Z or 20250110T12Z.", show_default="the newest"
    ),
]
WorldOption = Annotated[
    int | None, typer.Option("--world", metavar="SEED", help="Another simulated atmosphere.", show_default="1")
]


def main() -> None:
    """Entry point: run a command, turn what goes wrong into one sentence and an exit code."""
    from data_catalog.errors import GiomuaError

    _quiet()
    try:
        app(standalone_mode=True)
    except GiomuaError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("Interrupted; what was published stays as it is, and running the same command again goes on from there.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None


def _quiet() -> None:
    """No telemetry from any library, and one thread each for its kernels; set before one of them is imported.

    The work is thousands of small problems: with more threads they wait for each other, and a shared machine suffers. OMP_NUM_THREADS
    says otherwise where a machine is ours alone.
    """
    for name, value in (*QUIET.items(), ("OMP_NUM_THREADS", "1")):
        os.environ.setdefault(name, value)


QUIET: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say one sentence on standard error and leave."""
    print(f"giomua: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


def emit(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    """The result: JSON, or text for a person."""
    typer.echo(json.dumps(result, ensure_ascii=False, indent=2, default=str) if as_json else text)


def settings_from(**chosen: Any) -> Settings:
    """Settings with the command line on top; PREFECT_HOME moves under the root."""
    from data_catalog.settings import load_settings

    settings = load_settings(**chosen)
    os.environ.setdefault("PREFECT_HOME", str((settings.local_root / "prefect").absolute()))
    return settings


def parse_time(text: str) -> np.datetime64:
    """A UTC time as people write it: ``2025-01-10T12Z``, ``20250110T12Z``, ``2025-01-10T12:00:00Z``, ``2025011012``.

    Raises:
        typer.BadParameter: It is none of these, or no whole hour.
    """
    import re

    import numpy as np

    match = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})[T ]?(\d{2})(?::?(\d{2})(?::?\d{2})?)?(?:Z|\+00:?00)?", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no UTC time; write it like 2025-01-10T12Z.")
    year, month, day, hour, minute = match.groups()
    if int(minute or 0):
        raise typer.BadParameter(f"{text!r} is not on the hour; cycles start on whole hours UTC.")
    try:
        return np.datetime64(f"{year}-{month}-{day}T{hour}", "ns")
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date: {error}.") from error


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """A progress callback that draws bars on standard error: live on a terminal, a line a step elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    if quiet:
        yield lambda what, done, total: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_progress()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            name = what.split(" ")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(what, total=total or None)
            bars.update(tasks[name], description=what, completed=done, total=total or None)

        yield show


def _line_progress() -> Progress:
    """A line when a step starts, and one at each further quarter of long ones."""
    from data_catalog.sources.base import Progress as ProgressCallback

    seen: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
        quarter = 4 * done // total if total else 0
        if seen.get(what, -1) < quarter:
            seen[what] = quarter
            print(f"{what}: {done} of {total}" if total else what, file=sys.stderr, flush=True)  # noqa: T201

    found: ProgressCallback = show
    return found


@app.callback()
def _about() -> None:
    """Giómua: several forecasts in, one calibrated ensemble for Hanoi out."""


@app.command()
def run(
    root: RootOption = None,
    init_time: InitTimeOption = None,
    cutoff: Annotated[
        float | None, typer.Option("--cutoff", metavar="HOURS", help="Use only what was there this long after the start.")
    ] = None,
    profile: ProfileOption = None,
    world: WorldOption = None,
    members: Annotated[
        int | None, typer.Option("--members", min=2, max=1000, help="Coupled members to publish.", show_default="50")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run one forecast cycle and publish the ensemble.

    Reads the sources of the settings, else what real data the archive holds, else the simulated atmosphere of Hanoi, which is made on the
    way. With PREFECT_API_URL set, the cycle runs as a Prefect flow and can be followed there.
    """
    from pipelines.commands import run_command
    from pipelines.render import render_cycle

    settings = settings_from(root=root, profile=profile, world=world, members=members)
    with progress_bar() as progress:
        report = run_command(settings, parse_time(init_time) if init_time else None, cutoff, progress)
    emit(report.as_json(), as_json, "" if as_json else render_cycle(settings, report))
    raise typer.Exit(DEGRADED if report.degraded else DONE)


@app.command(name="import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="GRIB1 or GRIB2 files.", show_default=False)],
    root: RootOption = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Name to file them under, in place of the one in the messages.")] = None,
    keep_unknown: Annotated[bool, typer.Option("--keep-unknown", help="Keep variables the catalog has no name for, as decoded.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import GRIB files into the archive, cut to the region; what cannot be believed is quarantined with its reason."""
    from pipelines.commands import import_command

    settings = settings_from(root=root)
    with progress_bar() as progress:
        report, text = import_command(settings, files, dataset, keep_unknown, progress)
    emit(report, as_json, text)
    raise typer.Exit(DEGRADED if report["quarantined"] else DONE)


@app.command()
def simulate(
    root: RootOption = None,
    init_time: InitTimeOption = None,
    days: Annotated[
        int | None,
        typer.Option("--days", min=0, help="Days of history before the cycle.", show_default="what a cycle learns from"),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="The gridded atmosphere of those days too, every 6 h.")] = False,
    profile: ProfileOption = None,
    world: WorldOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one cycle of the simulated atmosphere: GRIB2 and index files, station reports, and the history before it."""
    from pipelines.commands import simulate_command

    settings = settings_from(root=root, profile=profile, world=world)
    with progress_bar() as progress:
        report, text = simulate_command(settings, parse_time(init_time) if init_time else None, days, grid, progress)
    emit(report, as_json, text)


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Dataset to ingest; giomua status lists them.", show_default=False)],
    root: RootOption = None,
    init_time: InitTimeOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch one cycle of one source into the archive."""
    from pipelines.commands import ingest_command

    settings = settings_from(root=root, profile=profile)
    with progress_bar() as progress:
        report, text, degraded = ingest_command(settings, source, parse_time(init_time) if init_time else None, progress)
    emit(report, as_json, text)
    raise typer.Exit(DEGRADED if degraded else DONE)


@app.command(name="observe")
def observe_(
    networks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NETWORK]...", help="E.g. synop, wis2, metar, gauges.", show_default="those of the settings"),
    ] = None,
    root: RootOption = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Last report to read, UTC.", show_default="now")] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="How far back to look.")] = 3,
    listen: Annotated[
        float, typer.Option("--listen", metavar="MINUTES", min=0, help="Stay so long with a broker that sends by itself.")
    ] = 0.0,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read station reports into the archive, judge every value, and quarantine what cannot be read.

    Without a name, the networks of the setting "networks" are read, else the simulated one. Live providers are contacted only when named.
    """
    from pipelines.commands import observe_command

    settings = settings_from(root=root, profile=profile)
    with progress_bar() as progress:
        report, text, degraded = observe_command(settings, networks or [], parse_time(until) if until else None, days, listen, progress)
    emit(report, as_json, text)
    raise typer.Exit(DEGRADED if degraded else DONE)


@app.command()
def backfill(
    start: Annotated[str, typer.Option("--from", metavar="T", help="First cycle, UTC.", show_default=False)],
    stop: Annotated[str, typer.Option("--to", metavar="T", help="Last cycle, UTC.", show_default=False)],
    every: Annotated[int, typer.Option("--every", min=1, max=24, help="Hours between cycles.")] = 24,
    on: Annotated[
        str,
        typer.Option("--on", metavar="PLACE", help="here, dask (on this machine), tcp://HOST:PORT (a scheduler) or prefect (a work pool)."),
    ] = "here",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes of --on dask.")] = 2,
    root: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every cycle of a period, each on its own; one that fails does not stop the rest."""
    from pipelines.commands import backfill_command

    settings = settings_from(root=root, profile=profile)
    with progress_bar() as progress:
        report, text = backfill_command(settings, parse_time(start), parse_time(stop), every, on, workers, progress)
    emit(report, as_json, text)
    raise typer.Exit(FAILED if report["failed"] else DEGRADED if report["degraded"] else DONE)


@app.command()
def deploy(
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="What runs when.")] = Path("prefect.yaml"),
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a Prefect server (PREFECT_API_URL) which flows run when, with their work pool and queues."""
    settings_from(root=root)
    from pipelines.deploy import deploy as apply

    made = apply(file)
    text = "\n  ".join([f"{len(made['deployments'])} deployments at {made['server']}:", *made["deployments"]])
    emit(made, as_json, f"{text}\nNext: prefect worker start --pool {made['pools'][0]}")


@app.command()
def backtest(
    sources: Annotated[
        list[str], typer.Argument(metavar="NAME=FILE...", help="Forecasts: CF NetCDF or Zarr, one each model.", show_default=False)
    ],
    observations: Annotated[Path, typer.Option("--observations", metavar="FILE", help="What was observed.", show_default=False)],
    variable: Annotated[str, typer.Option("--variable", help="One variable, e.g. temperature_2m.", show_default=False)],
    train_until: Annotated[
        str, typer.Option("--train-until", metavar="DATE", help="Last valid day of the training period.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for scores, weights, predictions and report.", show_default=False)
    ],
    test_until: Annotated[
        str | None, typer.Option("--test-until", metavar="DATE", help="Last valid day of the test period.", show_default="all there is")
    ] = None,
    refit: Annotated[str, typer.Option("--refit", metavar="never|monthly|daily", help="When everything is learned anew.")] = "monthly",
    window: Annotated[
        int | None, typer.Option("--window", metavar="DAYS", help="Learn from so many of the newest valid days.", show_default="all")
    ] = None,
    forecasters: Annotated[
        str, typer.Option("--forecasters", metavar="ID,ID|statistical|all", help="Which forecasters take part.")
    ] = "statistical",
    strict: Annotated[
        bool, typer.Option("--strict", help="The first fit too uses only what was verified by its start, not the whole training period.")
    ] = False,
    threshold: Annotated[
        list[float] | None, typer.Option("--threshold", help="For the Brier score; may be repeated.", show_default="by variable")
    ] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Tell MLflow, under the root.")] = True,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay an archive of forecasts with only what was known then, and score every forecaster and the blend.

    Days are valid days, whole UTC days, both ends inclusive; the test period begins the day after --train-until.
    """
    from pipelines.commands import backtest_command

    settings = settings_from(root=root)
    with progress_bar() as progress:
        report, text = backtest_command(
            settings, sources, observations, variable, train_until, test_until, refit, window, forecasters, strict, threshold or [], out,
            log, progress,
        )  # fmt: skip
    emit(report, as_json, text)
    raise typer.Exit(DEGRADED if report["untold"] else DONE)


@app.command()
def train(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Forecasters, e.g. drn, emos.", show_default="those that are networks")
    ] = None,
    root: RootOption = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="T", help="End of the past, UTC.", show_default="the newest in the archive")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=20, help="Days of pairs to read.", show_default="all")] = None,
    held_out: Annotated[
        int | None, typer.Option("--held-out", min=10, metavar="DAYS", help="Newest days, to judge on.", show_default="30, or a third")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of a network, e.g. epochs=20; may be repeated.", show_default=False),
    ] = None,
    search: Annotated[
        int, typer.Option("--search", metavar="N", min=0, help="First bring a search for the best parameters to so many trials.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to train.")] = "auto",
    log: Annotated[bool, typer.Option("--log/--no-log", help="Tell MLflow.")] = True,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train forecasters on the archive; a version becomes the challenger, or the champion where there is none.

    Nothing is learned from the newest days, on which the version is judged. Versions are kept under models/ in the root, and MLflow is told
    of each; when it cannot be reached the training is complete all the same, and giomua models --sync tells it later.
    """
    from pipelines.train import TRAINED, TrainOptions, parse_parameters, render_trained, run_training

    settings = settings_from(root=root, profile=profile)
    chosen = ids or list(TRAINED)
    options = TrainOptions(
        until=parse_time(until) if until else None, days=days, held_out_days=held_out, device=device, search=search, log=log,
        parameters=dict.fromkeys(chosen, parse_parameters(set_ or [])),
    )  # fmt: skip
    with progress_bar() as progress:
        report = run_training(settings, chosen, options, progress)
    emit(report.as_json(), as_json, render_trained(report))
    raise typer.Exit(FAILED if not report.trained else DEGRADED if report.failed or report.untold else DONE)


@app.command()
def models(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Only these forecasters.", show_default="all")] = None,
    root: RootOption = None,
    sync: Annotated[bool, typer.Option("--sync", help="Tell MLflow of what it does not know yet.")] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List and compare trained versions: which is champion and which challenger, what they learned from, how good they are."""
    from pipelines.train import list_versions, render_versions
    from training.experiments import tracking_uri

    settings = settings_from(root=root, profile=profile)
    logged = []
    if sync:
        from data_catalog.store import Root
        from training.experiments import sync as tell

        logged = tell(settings, Root.open(settings))
    rows = list_versions(settings, ids or [])
    text = render_versions(rows, tracking_uri(settings))
    emit({"versions": rows, "logged": logged}, as_json, "\n".join([*(f"Logged {one}" for one in logged), text]))


@app.command(name="promote")
def promote_(
    forecaster: Annotated[str, typer.Argument(metavar="ID", help="The forecaster.", show_default=False)],
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Its name, the start of it, or 'challenger'.", show_default="challenger")
    ] = "challenger",
    root: RootOption = None,
    force: Annotated[
        str | None, typer.Option("--force", metavar="REASON", help="Promote it although it is refused; the reason is kept.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Make the champion before the champion again.")] = False,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Tell MLflow.")] = True,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Assess a version against the champion, and make it the champion if it is significantly better and hurts no protected extreme.

    The impact assessment is written beside the version, as markdown and JSON. A version that is refused is exit code 1.
    """
    from pipelines.promote import promote, roll_back

    settings = settings_from(root=root, profile=profile)
    if force is not None and not force.strip():
        raise typer.BadParameter("give a reason; it is kept with the champion.", param_hint="--force")
    with progress_bar() as progress:
        if rollback:
            report = roll_back(settings, forecaster, reason=force or "", log=log)
        else:
            report = promote(settings, forecaster, version, force=force or "", log=log, progress=progress)
    emit(report.as_json(), as_json, report.text)
    raise typer.Exit(FAILED if not report.promoted else DEGRADED if report.untold else DONE)


@app.command()
def verify(
    root: RootOption = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Cycles from so many days before the newest on.")] = 90,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the published cycles with what was observed since, and print the scorecard and what changed in it."""
    from pipelines.commands import verify_command

    settings = settings_from(root=root, profile=profile)
    with progress_bar() as progress:
        report, text, degraded = verify_command(settings, days, progress)
    emit(report, as_json, text)
    raise typer.Exit(DEGRADED if degraded else DONE)


@app.command()
def status(root: RootOption = None, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """What is published, and for each source its newest cycle, age and what is missing or quarantined."""
    from pipelines.doctor import status_command

    report, text = status_command(settings_from(root=root, profile=profile))
    emit(report, as_json, text)


@app.command()
def doctor(root: RootOption = None, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Check versions, the root, free space, the manifest against the stores, the published cycle and the sources."""
    from pipelines.doctor import doctor_command

    report, text = doctor_command(settings_from(root=root, profile=profile))
    emit(report, as_json, text)
    raise typer.Exit(FAILED if report["failed"] else DEGRADED if report["warned"] else DONE)


@app.command()
def serve(
    root: RootOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8080,
    as_json: JsonOption = False,
) -> None:
    """Serve the page, the published stores and OGC API - EDR over HTTP, read-only; nothing outside published/ can be reached."""
    from pipelines.commands import serve_command

    serve_command(settings_from(root=root), host, port, lambda result, text: emit(result, as_json, text))


if __name__ == "__main__":
    main()
