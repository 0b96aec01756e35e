"""A small task for the trainer, and a process that trains it: ``python -m tests.models.neural.toy``."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.neural.trainer import Batch, Epoch, Hooks, Table, Training, state_arrays, train

TRAINING = Training(seed=7, batch=64, epochs=6, patience=10, least_steps=4, rate=1e-2)


def table(rows: int = 600) -> Table:
    """y = sin(2 x) + noise, in two blocks that members may not see in turn."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    y = (np.sin(2.0 * x[:, 0]) + 0.1 * rng.normal(size=rows)).astype(np.float32)
    return Table({"x": x, "y": y, "fold": np.arange(rows, dtype=np.int64) * 2 // rows})


@dataclass(frozen=True, eq=False)
class Toy:
    """Least squares by a small network, the second half of the rows held out, with noise on the inputs."""

    network: nn.Module
    noise: float = 0.0

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        x = batch["x"] + self.noise * torch.randn(batch["x"].shape, generator=generator)
        return (self.network(x)[:, 0] - batch["y"]).square() * (batch["fold"] == 0)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return (self.network(batch["x"])[:, 0] - batch["y"]).square(), (batch["fold"] == 1).float()


def toy(noise: float = 0.0) -> Toy:
    torch.manual_seed(1)
    return Toy(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)), noise)


def main() -> None:
    """Train, perhaps until death, and write the weights; every process of ``torchrun`` its own file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--die-in-epoch", type=int)
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == chosen.die_in_epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    task = toy(chosen.noise)
    train(task, table(), TRAINING, Hooks(on_epoch=on_epoch, checkpoint=chosen.checkpoint))
    np.savez(f"{chosen.out}.{os.environ.get('RANK', '0')}.npz", **state_arrays(task.network, ""))


if __name__ == "__main__":
    main()
