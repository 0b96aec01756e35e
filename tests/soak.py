"""Long runs of what can go wrong, with a report: ``make soak``, or ``python -m tests.soak [--kills N] [--cycles N] [--seed N]``.

First a cycle is killed with SIGKILL at random moments while a reader checks every publication against its hash; then many small cycles run
one after the other with late, missing, corrupt, cut and repeated inputs, a clock that is wrong and a disk that is full. After every one of
them the published state has to be whole, never older than before, and honest about what was missing.

A kill is fair at any moment, so nothing here knows where a cycle is when it is killed. ``--seed`` draws other moments and damages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_catalog.archive import cycle_key
from data_catalog.errors import GiomuaError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings, load_settings
from data_catalog.sources import registry
from data_catalog.store import Root
from pipelines.cycle import run_cycle
from pipelines.simulate import simulate
from tests.warm import Running

START = np.datetime64("2025-07-10T00", "ns")
STEP = np.timedelta64(6, "h")
TRAINING_DAYS = 12
HISTORY_DAYS = TRAINING_DAYS + 12
KILLS_A_CYCLE = 5
DISK_BYTES = 1_500_000
"""Room that a full disk leaves, less than a cycle writes."""


@dataclass
class Report:
    """What happened and what should not have."""

    kills: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    cycles: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    out: Path | None = None

    def text(self) -> str:
        """For a person."""
        lines = ["# Soak", "", f"{sum(self.kills.values())} kills, {self.reads} readings of the published state beside them:", ""]
        lines += ["| killed in | times |", "|---|---|", *(f"| {name} | {count} |" for name, count in self.kills.most_common())]
        lines += [
            "",
            f"{sum(self.cycles.values())} cycles with damaged inputs:",
            "",
            "| damage, and what came of it | cycles |",
            "|---|---|",
        ]
        lines += [f"| {name} | {count} |" for name, count in sorted(self.cycles.items())]
        lines += ["", f"Violations: {len(self.violations)}", *(f"- {one}" for one in self.violations)]
        return "\n".join([*lines, "", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())])

    def note(self, what: str) -> None:
        """Tell what has just happened, and write the report up to here."""
        print(what, file=sys.stderr, flush=True)
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "soak.md").write_text(self.text() + "\n")
            (self.out / "soak.json").write_text(json.dumps(vars(self) | {"out": str(self.out)}, indent=2))


def settings_on(root: Path) -> Settings:
    """The profile ``tiny``."""
    return load_settings(root=str(root), profile="tiny", training_days=TRAINING_DAYS, decode_workers=1)


def newest(root: Path) -> dict[str, Any] | None:
    """What ``latest.json`` says, None when there is none."""
    path = root / "published" / "latest.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def check_published(root: Path) -> dict[str, Any] | None:
    """The newest publication, verified against its hash: a torn one raises."""
    latest = newest(root)
    if latest is not None:
        Root(str(root)).verify(f"published/{latest['href']}", latest["content_hash"])
    return latest


def start(root: Path, init_time: np.datetime64) -> Running:
    """The command in a process of its own, with its outputs in files beside the root: a kill meets work, not imports."""
    return Running(command(root, init_time), environment(), root.parent, beside(root, "out"), beside(root, "err"))


def beside(root: Path, what: str) -> Path:
    """The file that a command's output goes to."""
    return root.parent / f"{root.name}.{what}"


# --- kills -----------------------------------------------------------------------------------------------------------------------


class Reader(threading.Thread):
    """Reads the published state over and over, and reports what was not whole."""

    def __init__(self, root: Path, report: Report) -> None:
        super().__init__(daemon=True)
        self.root, self.report = root, report
        self.done = threading.Event()

    def run(self) -> None:
        """Until told to stop. What is published is read whole when it is new, and once a second."""
        last, verified, seen = "", 0.0, None
        while not self.done.is_set():
            try:
                latest = newest(self.root)
                if latest != seen or time.monotonic() > verified + 1.0:
                    latest = seen = check_published(self.root)
                    verified = time.monotonic()
                    self.report.reads += 1
            except Exception as error:  # noqa: BLE001  # whatever a reader meets is a finding
                self.report.violations.append(f"a reader found {error}")
                latest = None
            if latest is not None and latest["init_time"] < last:
                self.report.violations.append(f"the published cycle went back from {last} to {latest['init_time']}")
            last = max(last, "" if latest is None else latest["init_time"])
            time.sleep(0.05)


def command(root: Path, init_time: np.datetime64) -> list[str]:
    """A cycle as an operator runs it, after the name of the program."""
    return ["run", "--root", str(root), "--profile", "tiny", "--init-time", cycle_key(init_time), "--json"]


def environment(**more: str) -> dict[str, str]:
    """Of a cycle in another process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIOMUA_", "PREFECT_"))}
    return kept | {"GIOMUA_TRAINING_DAYS": str(TRAINING_DAYS), "GIOMUA_DECODE_WORKERS": "1", "OMP_NUM_THREADS": "1", **more}


def kill_at_random(folder: Path, kills: int, rng: random.Random, report: Report) -> None:
    """Kill cycles; each runs to its end after a few kills, or when it was done before one, and is compared with a root left alone."""
    root, calm = folder / "killed", folder / "calm"
    simulate(settings_on(root), START, history_days=HISTORY_DAYS)
    run_cycle(settings_on(root), START)
    shutil.copytree(root, calm)
    reader = Reader(root, report)
    reader.start()
    init_time, left, usual = START, kills, 0.0
    while left > 0:
        init_time = init_time + STEP
        begun = time.monotonic()
        undisturbed = _finish(calm, init_time, report)
        usual = max(usual, time.monotonic() - begun)
        for _ in range(min(KILLS_A_CYCLE, left)):
            running = start(root, init_time)
            if running.ended(rng.uniform(0.0, usual)) is not None:
                break
            running.kill()
            stage = _stage(beside(root, "err"))
            report.kills[stage] += 1
            left -= 1
            try:
                check_published(root)
            except GiomuaError as error:
                report.violations.append(f"after a kill in {stage}: {error}")
            report.note(f"kill {kills - left} of {kills}: {stage}")
        if _finish(root, init_time, report) != undisturbed:
            report.violations.append(f"{cycle_key(init_time)} after kills is not the cycle of an undisturbed root")
    reader.done.set()
    reader.join()
    _check_manifest(root, report)


def _finish(root: Path, init_time: np.datetime64, report: Report) -> str:
    """Run a cycle in which nothing is wrong to its end: its hash."""
    code = start(root, init_time).ended()
    if code not in (0, 3):
        report.violations.append(f"{cycle_key(init_time)} in {root.name} ended with {code}: {beside(root, 'err').read_text()[-300:]}")
        return ""
    found = json.loads(beside(root, "out").read_text())
    if found["degraded"]:
        report.violations.append(f"{cycle_key(init_time)} in {root.name} is degraded: {' '.join(found['notes'])}")
    return str(found["content_hash"])


def _stage(log: Path) -> str:
    lines = [line.partition(":")[0] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].partition(" simulated-")[0] if lines else "starting"


# --- damaged inputs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A root in which one cycle's inputs lie at their providers, before they are damaged."""

    settings: Settings
    init_time: np.datetime64
    rng: random.Random

    @property
    def root(self) -> Path:
        """Its folder."""
        return Path(self.settings.root)

    def files(self) -> list[Path]:
        """GRIB files of one centre's cycle."""
        known = {name: source for name, source in registry.grid_sources(self.settings).items() if source.spec.simulated}
        name = self.rng.choice(sorted(known))
        base = next(self.root.glob(f"simulated/*/{name}"))
        urls = {span.url for span in known[name].plan(self.init_time, registry.transport_for(self.settings, name)).spans}
        return sorted(base / url for url in urls)

    def victim(self) -> Path:
        """One of them."""
        return self.rng.choice(self.files())

    def run(self) -> str:
        """Run it here: ``complete`` or ``degraded``."""
        return "degraded" if run_cycle(self.settings, self.init_time).degraded else "complete"

    def run_apart(self, *prefix: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run it in another process."""
        program = [*prefix, sys.executable, "-m", "pipelines.cli", *command(self.root, self.init_time)]
        return subprocess.run(program, env=environment(), capture_output=True, text=True, **more)


def sound(stage: Stage) -> str:
    """Nothing is wrong."""
    report = run_cycle(stage.settings, stage.init_time)
    return f"VIOLATION: degraded although nothing was wrong: {' '.join(report.notes)}" if report.degraded else "complete"


def repeated(stage: Stage) -> str:
    """The same cycle twice: the second finds it done."""
    stage.run()
    again = run_cycle(stage.settings, stage.init_time)
    return "reused" if again.reused else "VIOLATION: made anew from the same inputs"


def late(stage: Stage) -> str:
    """A centre's files come after the first revision."""
    files = stage.files()
    for path in files:
        path.rename(path.with_name(path.name + ".later"))
    first = stage.run()
    for path in files:
        path.with_name(path.name + ".later").rename(path)
    second = run_cycle(stage.settings, stage.init_time)
    if first != "degraded" or second.degraded or second.revision != 1:
        return f"VIOLATION: {first}, then degraded={second.degraded} as r{second.revision}"
    return "degraded, then complete as r1"


def missing(stage: Stage) -> str:
    """A file never comes."""
    stage.victim().unlink()
    return _must_degrade(stage)


def corrupt(stage: Stage) -> str:
    """Octets of a file are others."""
    path = stage.victim()
    octets = bytearray(path.read_bytes())
    for _ in range(40):
        octets[stage.rng.randrange(len(octets))] ^= stage.rng.randrange(1, 256)
    path.write_bytes(octets)
    return stage.run()  # a flipped bit may stay within what can be believed: the checks say which


def cut(stage: Stage) -> str:
    """A file ends early."""
    path = stage.victim()
    path.write_bytes(path.read_bytes()[: stage.rng.randrange(path.stat().st_size // 2)])
    return _must_degrade(stage)


def duplicated(stage: Stage) -> str:
    """Every message of a file stands in it twice."""
    path = stage.victim()
    path.write_bytes(path.read_bytes() * 2)
    return stage.run()


def nonsense(stage: Stage) -> str:
    """A file is an error page."""
    stage.victim().write_bytes(b"<html><body>503 Service Unavailable</body></html>")
    return _must_degrade(stage)


def skewed(stage: Stage) -> str:
    """The clock of the machine is days off."""
    if shutil.which("faketime") is None:
        return "left out: faketime is not installed"
    days = stage.rng.choice([-400, -3, 3, 400])
    done = stage.run_apart("faketime", "-f", f"{days:+d}d")
    if done.returncode == 0:
        return "complete"
    why = json.loads(done.stdout)["notes"] if done.returncode == 3 else done.stderr[-300:]
    return f"VIOLATION: a clock {days} days off ended with {done.returncode}: {why}"


def full(stage: Stage) -> str:
    """The disk has no room left; once it has, the same command finishes."""
    before = newest(stage.root)
    with tempfile.TemporaryDirectory() as folder:
        held = sum(path.stat().st_blocks * 512 for path in stage.root.rglob("*") if path.is_file())
        size = f"size={2 * held + 2**26}"  # the root grows by every cycle
        if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True).returncode:
            return "left out: no permission to mount a small disk"
        try:
            small = Path(folder) / "root"
            shutil.copytree(stage.root, small, ignore=shutil.ignore_patterns("quarantine"))
            filler = Path(folder) / "filler"
            room = shutil.disk_usage(folder).free - DISK_BYTES
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(room, 1))
            there = Stage(load_settings(**stage.settings.model_dump() | {"root": str(small)}), stage.init_time, stage.rng)
            failed = there.run_apart()
            if failed.returncode == 0:
                return "VIOLATION: a full disk was not noticed"
            if newest(small) != before:
                return "VIOLATION: a full disk changed what is published"
            check_published(small)
            if "No space left" not in failed.stderr:
                return f"VIOLATION: a full disk is not named: {failed.stderr[-300:]}"
            filler.unlink()
            done = there.run_apart()
            if done.returncode:
                return f"VIOLATION: with room again it ended with {done.returncode}: {done.stderr[-300:]}"
            check_published(small)
        finally:
            subprocess.run(["umount", folder], check=True)
    return "refused, then complete"


def _must_degrade(stage: Stage) -> str:
    found = stage.run()
    return found if found == "degraded" else f"VIOLATION: {found} although an input was damaged"


DAMAGES: tuple[tuple[Callable[[Stage], str], int], ...] = (
    (sound, 2), (repeated, 2), (late, 4), (missing, 4), (corrupt, 4), (cut, 3), (duplicated, 3), (nonsense, 2), (skewed, 1), (full, 1),
)  # fmt: skip
"""What is done to a cycle, and how often among the others."""


def damage(folder: Path, cycles: int, rng: random.Random, report: Report) -> None:
    """Cycle after cycle, each with one damage."""
    root = folder / "damaged"
    settings = settings_on(root)
    simulate(settings, START, history_days=HISTORY_DAYS)
    run_cycle(settings, START)
    order = [kind for kind, times in DAMAGES for _ in range(times)]
    before = check_published(root)
    for number in range(cycles):
        if number % len(order) == 0:
            rng.shuffle(order)
        kind = order[number % len(order)]
        init_time = START + (number + 1) * STEP
        simulate(settings, init_time, history_days=HISTORY_DAYS)
        try:
            found = kind(Stage(settings, init_time, rng))
        except Exception as error:  # noqa: BLE001  # whatever stops a cycle is a finding, and the next one has to run all the same
            found = f"VIOLATION: {'refused' if isinstance(error, GiomuaError) else 'stopped by ' + type(error).__name__}: {error}"
        try:
            after = check_published(root)
        except GiomuaError as error:
            after, found = before, f"VIOLATION: {error}"
        if before is not None and (after is None or after["init_time"] < before["init_time"]):
            found = f"VIOLATION: the published cycle went back to {after}"
        before = after
        if found.startswith("VIOLATION"):
            report.violations.append(f"{cycle_key(init_time)}, {kind.__name__}: {found.removeprefix('VIOLATION: ')}")
            found = "VIOLATION"
        report.cycles[f"{kind.__name__}: {found}"] += 1
        report.note(f"cycle {number + 1} of {cycles}: {kind.__name__}: {found}")
    _check_manifest(root, report)


def _check_manifest(root: Path, report: Report) -> None:
    """Every store that the manifest names is there and whole."""
    stores = Root(str(root))
    with Manifest.open(settings_on(root).manifest) as manifest:
        for name in manifest.datasets():
            for revision in manifest.revisions(name, latest_only=True):
                try:
                    stores.verify(revision.path, revision.content_hash)
                except GiomuaError as error:
                    report.violations.append(f"{name} {revision.key}: {error}")


def main() -> int:
    """Run it; exit code 1 when something that must not be was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for soak.md and soak.json")
    chosen = parser.parse_args()
    report, rng = Report(out=chosen.out), random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, part, count in (("kills", kill_at_random, chosen.kills), ("cycles", damage, chosen.cycles)):
            begun = time.monotonic()
            if count:
                part(Path(folder), count, rng, report)
            report.seconds[name] = time.monotonic() - begun
    report.note(report.text())
    return int(bool(report.violations))


if __name__ == "__main__":
    raise SystemExit(main())
