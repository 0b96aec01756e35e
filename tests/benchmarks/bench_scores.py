"""Exact CRPS of 50 members and a million cases, ecdf and fair, against properscoring and xskillscore.

Each implementation runs in a process of its own, so that its peak memory (inputs and libraries included) is its own. Ratios compare the
same layout of the same array: members first, as archives have it, and members last, which properscoring prefers. Its fast path needs
numba; without it both peers build every pair of members, so they are then fed in blocks that fit the memory, and the figures say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

MEMBERS = 50
NUMBA = importlib.util.find_spec("numba") is not None


def inputs(cases: int) -> tuple[np.ndarray, np.ndarray]:
    """Members (member, case) and observations (case,) in float64, drawn in place."""
    rng = np.random.default_rng(0)
    members = np.empty((MEMBERS, cases))
    rng.standard_normal(out=members)
    return members, rng.standard_normal(cases)


def ours(cases: int, fair: bool, last: bool) -> Callable[[], np.ndarray]:
    """This project, members first or last."""
    from models.scores import crps_ensemble

    members, y = inputs(cases)
    if last:
        members = np.ascontiguousarray(members.T)
    return lambda: crps_ensemble(members, y, axis=-1 if last else 0, fair=fair)


def properscoring(cases: int, last: bool) -> Callable[[], np.ndarray]:
    """The ecdf form of properscoring; it has no fair form."""
    import properscoring as peer

    members, y = inputs(cases)
    if last:
        members = np.ascontiguousarray(members.T)
    axis = -1 if last else 0
    return in_blocks(lambda x, o: peer.crps_ensemble(o, x, axis=axis), members, y, case_axis=0 if last else 1)


def xskillscore(cases: int) -> Callable[[], np.ndarray]:
    """The ecdf form of xskillscore; it has no fair form."""
    import xarray as xr
    import xskillscore as peer

    members, y = inputs(cases)

    def score(x: np.ndarray, o: np.ndarray) -> np.ndarray:
        return peer.crps_ensemble(xr.DataArray(o, dims="case"), xr.DataArray(x, dims=("member", "case")), dim=[]).values

    return in_blocks(score, members, y, case_axis=1)


def in_blocks(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], members: np.ndarray, y: np.ndarray, case_axis: int
) -> Callable[[], np.ndarray]:
    """The whole at once with numba, else 10,000 cases at a time."""
    if NUMBA:
        return lambda: score(members, y)

    def work() -> np.ndarray:
        edges = range(0, y.size, 10_000)
        return np.concatenate([score(members.take(range(i, min(i + 10_000, y.size)), case_axis), y[i : i + 10_000]) for i in edges])

    return work


WORK = {
    "ours_ecdf_members_first": lambda n: ours(n, fair=False, last=False),
    "ours_fair_members_first": lambda n: ours(n, fair=True, last=False),
    "ours_ecdf_members_last": lambda n: ours(n, fair=False, last=True),
    "properscoring_members_first": lambda n: properscoring(n, last=False),
    "properscoring_members_last": lambda n: properscoring(n, last=True),
    "xskillscore": xskillscore,
}


def measure(name: str, cases: int, repeats: int) -> dict[str, float]:
    """Seconds by the clock and of the processors (medians) and peak memory of one implementation, in this process."""
    WORK[name](100)()  # compile and warm up
    work = WORK[name](cases)
    times, busy = [], []
    for _ in range(repeats):
        start, started = time.perf_counter(), time.process_time()
        score = work()
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds, cpu = statistics.median(times), statistics.median(busy)
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_gigabytes": peak / 1e9, "mean_score": float(np.mean(score))}


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=WORK, help="measure one implementation in this process and print its figures as JSON")
    chosen = parser.parse_args()
    cases, repeats = (20_000, 2) if chosen.quick else (1_000_000, 5)
    if chosen.only:
        print(json.dumps(measure(chosen.only, cases, repeats)))
        return
    figures: dict[str, dict[str, float]] = {}
    for name in WORK:
        command = [sys.executable, "-m", "tests.benchmarks.bench_scores", "--only", name, *(["--quick"] if chosen.quick else [])]
        figures[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        own = figures[name]
        clock, cpu, peak = own["seconds"], own["cpu_seconds"], own["peak_gigabytes"]
        print(f"{name:28s} {clock:7.3f} s ({cpu:.3f} s of processor)  peak {peak:.2f} GB", flush=True)
    ecdf = [values["mean_score"] for name, values in figures.items() if "fair" not in name]
    if not np.allclose(ecdf, ecdf[0], rtol=1e-9):
        raise SystemExit(f"The implementations disagree on the mean score: {ecdf}")
    seconds = {name: values["seconds"] for name, values in figures.items()}
    first = max(seconds["ours_ecdf_members_first"], seconds["ours_fair_members_first"])
    ratios = {
        "properscoring_members_first": seconds["properscoring_members_first"] / first,
        "properscoring_members_last": seconds["properscoring_members_last"] / seconds["ours_ecdf_members_last"],
        "xskillscore": seconds["xskillscore"] / first,
    }
    print(f"{MEMBERS} x {cases}, times as fast as " + ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items()))
    if not NUMBA:
        print("numba is not installed: the peers ran without their fast path, in blocks.")
    if chosen.json:
        found = {"members": MEMBERS, "cases": cases, "numba": NUMBA, "times_faster": ratios, "implementations": figures}
        chosen.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
