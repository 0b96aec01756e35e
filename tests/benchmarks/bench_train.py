"""Training of ``drn`` against a plain PyTorch loop over the same network, loss and rows, all in memory; and what streaming rows costs.

The plain loop is what one would write in a notebook: shuffle, slice, forward, backward, step. Ours also keeps a running mean of the
weights, cuts off gradients and watches for broken losses. Both are timed in turns, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.neural.drn import LocationScale
from models.neural.network import Dropout, Sizes, StationNetwork
from models.neural.station import CorrectionTask
from models.neural.trainer import Table, Training, train
from models.statistical.shared import Shape

PREDICTORS, SOURCES, OF_SOURCE, LEADS, STATIONS = 50, 4, 5, 20, 30
SIZES = Sizes()
VARIANTS = ("compiled", "mixed")


def table(rows: int) -> Table:
    """Random rows in the shape of a training: leads and stations of a city, four sources."""
    rng = np.random.default_rng(1)
    head = LocationScale(Shape("logistic"))
    location, scale = np.zeros((rows, SIZES.members)), np.exp(0.3 * rng.normal(size=(rows, SIZES.members)))
    fold = rng.integers(0, SIZES.members, rows)
    return Table(
        {
            "common": rng.normal(size=(rows, PREDICTORS)).astype(np.float32),
            "sources": rng.normal(size=(rows, SOURCES, OF_SOURCE)).astype(np.float32),
            "here": np.ones((rows, SOURCES), dtype=np.float32),
            "lead": rng.integers(0, LEADS, rows),
            "station": rng.integers(0, STATIONS, rows),
            **head.columns(rng.normal(size=(rows, 1)), location, scale),
            "fold": fold,
            "learns": fold[:, None] != np.arange(SIZES.members),
        }
    )


def task(device: torch.device) -> CorrectionTask:
    """Of ``drn``, with a network of its default size."""
    head = LocationScale(Shape("logistic"))
    network = StationNetwork(PREDICTORS, (SOURCES, OF_SOURCE), LEADS, STATIONS, head.outputs, SIZES, seed=1).to(device)
    return CorrectionTask(network, head, torch.zeros(PREDICTORS, device=device), STATIONS, SIZES, Dropout())


def plain(work: CorrectionTask, data: Table, training: Training, device: torch.device) -> float:
    """Rows a second of one epoch of a plain loop."""
    columns = {name: torch.from_numpy(column.copy()).to(device) for name, column in data.columns.items()}
    optimiser = torch.optim.AdamW(work.network.parameters(), lr=training.rate, weight_decay=training.decay, fused=True)
    generator = torch.Generator(device).manual_seed(1)
    _wait(device)
    start = time.perf_counter()
    for rows in torch.split(torch.randperm(len(data)).to(device), training.batch):
        loss = work.loss({name: column[rows] for name, column in columns.items()}, generator).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    _wait(device)
    return len(data) / (time.perf_counter() - start)


def ours(work: CorrectionTask, data: Table, training: Training, device: torch.device) -> tuple[float, float]:
    """Rows a second and share of the time waited for rows, of one epoch of the trainer."""
    epoch = train(work, data, replace(training, epochs=1, least_steps=1), device=device)[1]
    return epoch.rows / epoch.seconds, epoch.waited / epoch.seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--variants", action="store_true", help="also torch.compile, and bfloat16 on CUDA")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, repeats = (20_000, 1) if chosen.quick else (120_000, 5)
    data, work, training = table(rows), task(device), Training()
    first = copy.deepcopy(work.network.state_dict())

    def timed(what: Callable[[], float]) -> float:
        work.network.load_state_dict(first)
        return what()

    timed(lambda: plain(work, data, training, device))  # unmeasured
    pairs, streamed, waits = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        files = data.spilled(Path(folder))
        for _ in range(repeats):
            pairs.append((timed(lambda: ours(work, data, training, device)[0]), timed(lambda: plain(work, data, training, device))))
            work.network.load_state_dict(first)
            rate, waited = ours(work, files, replace(training, window=max(rows // 8, 4096)), device)
            streamed.append(rate)
            waits.append(waited)
        figures = {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "rows": rows, "batch": training.batch, "members": SIZES.members, "threads": torch.get_num_threads(),
            "ours_rows_per_second": statistics.median(a for a, _ in pairs),
            "plain_rows_per_second": statistics.median(b for _, b in pairs),
            "ours_over_plain": statistics.median(a / b for a, b in pairs),
            "streamed_rows_per_second": statistics.median(streamed),
            "streamed_waiting_share": statistics.median(waits),
        }  # fmt: skip
        for name in VARIANTS if chosen.variants else ():
            if name == "compiled" or device.type == "cuda":
                changed = replace(training, **{name: True})
                begin = time.perf_counter()
                timed(lambda c=changed: ours(work, data, c, device)[0])
                first_seconds = time.perf_counter() - begin
                turns = [
                    (timed(lambda c=changed: ours(work, data, c, device)[0]), timed(lambda: ours(work, data, training, device)[0]))
                    for _ in range(repeats)
                ]
                figures[f"{name}_over_ours"] = statistics.median(a / b for a, b in turns)
                figures[f"{name}_first_seconds"] = first_seconds
                figures[f"{name}_later_seconds"] = statistics.median(rows / a for a, _ in turns)
    print(f"drn on {figures['device']}: {figures['ours_rows_per_second']:.0f} rows/s, {figures['ours_over_plain']:.3f} of a plain loop")
    waiting = f"waiting {figures['streamed_waiting_share']:.1%} of the time"
    print(f"Streamed from files: {figures['streamed_rows_per_second']:.0f} rows/s, {waiting}")
    for name in VARIANTS:
        if f"{name}_over_ours" in figures:
            first_run = f"the first run {figures[f'{name}_first_seconds']:.0f} s, later ones {figures[f'{name}_later_seconds']:.1f} s"
            print(f"{name}: {figures[f'{name}_over_ours']:.2f} of ours without; {first_run}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
