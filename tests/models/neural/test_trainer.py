"""The trainer: it learns, stops, resumes to the same weights, fails in clear words, and streams."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.base import ForecasterError
from models.neural.trainer import Batch, Epoch, Hooks, Loader, Table, TrainingError, members_and_folds, state_arrays, train
from tests.models.neural.toy import TRAINING, Toy, table, toy


def weights(noise: float = 0.0, hooks: Hooks | None = None) -> dict[str, np.ndarray]:
    task = toy(noise)
    train(task, table(), TRAINING, hooks)
    return state_arrays(task.network, "")


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


def run(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "tests.models.neural.toy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=Path(__file__).parents[3])


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return dict(found)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_it_learns_and_keeps_the_best_epoch():
    seen: list[Epoch] = []
    task = toy()
    curve = train(task, table(), replace(TRAINING, epochs=40), Hooks(on_epoch=seen.append))
    assert curve == seen
    assert [e.number for e in curve] == list(range(len(curve)))
    best = min(curve, key=lambda e: e.held_out)
    assert curve[-1].best == best.number
    assert best.held_out < 0.2 * curve[0].held_out
    score, weight = task.held_out(Loader(table(), 10_000, torch.device("cpu")).whole or {})
    assert float(((score * weight).sum() / weight.sum()).detach()) == pytest.approx(best.held_out, rel=1e-5)


def test_what_cannot_be_learned_leaves_the_first_weights():
    rng = np.random.default_rng(0)
    columns = table().columns
    y = np.where(columns["fold"] == 0, 5.0, 0.0) + rng.normal(size=600)  # the one half teaches what is wrong for the other
    noise = Table({**columns, "y": y.astype(np.float32)})
    task = toy()
    first = {name: value.copy() for name, value in state_arrays(task.network, "").items()}
    curve = train(task, noise, replace(TRAINING, patience=2))
    assert curve[-1].best == 0
    assert len(curve) == 3  # the first, and as many as patience allows
    assert equal(state_arrays(task.network, ""), first)


def test_the_same_run_gives_the_same_weights():
    assert equal(weights(noise=0.1), weights(noise=0.1))


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path):
    died = run("--out", str(tmp_path / "a"), "--checkpoint", str(tmp_path / "kept"), "--noise", "0.1", "--die-in-epoch", "4")
    assert died.returncode == -9
    assert not list(tmp_path.glob("a.*"))
    resumed = run("--out", str(tmp_path / "b"), "--checkpoint", str(tmp_path / "kept"), "--noise", "0.1")
    assert resumed.returncode == 0, resumed.stderr
    assert equal(read(tmp_path / "b.0.npz"), weights(noise=0.1))


def test_two_processes_learn_what_one_learns(tmp_path: Path):
    done = run("--out", str(tmp_path / "two"), processes=2)
    assert done.returncode == 0, done.stderr
    first, second = (read(tmp_path / f"two.{rank}.npz") for rank in (0, 1))
    assert equal(first, second)
    alone = weights()
    for name, value in alone.items():
        np.testing.assert_allclose(first[name], value, rtol=2e-3, atol=2e-4)


def test_resuming_says_so_and_trains_no_finished_epoch_again(tmp_path: Path):
    said: list[str] = []
    hooks = Hooks(checkpoint=tmp_path, on_event=said.append)
    whole = weights(hooks=hooks)
    seen: list[Epoch] = []
    assert equal(weights(hooks=replace(hooks, on_epoch=seen.append)), whole)
    assert not seen
    assert said == [f"Resumed after epoch {TRAINING.epochs} from {tmp_path / 'checkpoint.pt'}."]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, damage: str):
    said: list[str] = []
    whole = weights(hooks=Hooks(checkpoint=tmp_path))
    newest = tmp_path / "checkpoint.pt"
    raw = newest.read_bytes()
    newest.write_bytes({"cut": raw[: len(raw) // 2], "flipped": raw[:900] + bytes([raw[900] ^ 1]) + raw[901:], "empty": b""}[damage])
    assert equal(weights(hooks=Hooks(checkpoint=tmp_path, on_event=said.append)), whole)
    assert len(said) == 2
    assert "damaged" in said[0]
    assert f"Resumed after epoch {TRAINING.epochs - 1} from" in said[1]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path):
    weights(hooks=Hooks(checkpoint=tmp_path))
    with pytest.raises(TrainingError, match="other numbers"):
        train(toy(), table(), replace(TRAINING, rate=0.5), Hooks(checkpoint=tmp_path))


def test_a_full_disk_is_one_clear_error_and_costs_no_finished_epoch(tmp_path: Path):
    train(toy(), table(), replace(TRAINING, epochs=6), Hooks(checkpoint=tmp_path))
    size = (tmp_path / "checkpoint.pt").stat().st_size
    kept = tmp_path / "more"

    def fill(epoch: Epoch) -> None:  # no file may grow beyond a third of a checkpoint from the fourth epoch on
        if epoch.number == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 3, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TrainingError, match=r"epoch 4 cannot be written .* Make room"):
            train(toy(), table(), TRAINING, Hooks(on_epoch=fill, checkpoint=kept))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(p.name for p in kept.iterdir()) == ["checkpoint.pt", "previous.pt"]
    said: list[str] = []
    assert equal(weights(hooks=Hooks(checkpoint=kept, on_event=said.append)), weights())
    assert "Resumed after epoch 3" in said[0]


class Bursting(Toy):
    """A loss that is no number from some step on."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return super().loss(batch, generator) * (torch.nan if float(batch["y"].sum()) > 8.0 else 1.0)


def test_a_loss_that_is_no_number_is_one_clear_error(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"training loss is nan in epoch 1 .*learning rate 0.01") as raised:
        train(Bursting(toy().network), table(), TRAINING, Hooks(checkpoint=tmp_path))
    assert "checkpoint" in str(raised.value)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_rows_are_streamed_from_files_each_once_an_epoch(tmp_path: Path):
    rows = 50_000
    columns = {"x": np.arange(rows, dtype=np.float32), "wide": np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)}
    spilled = Table(columns).spilled(tmp_path)
    assert all(isinstance(column, np.memmap) for column in spilled.columns.values())
    loader = Loader(spilled, window=12_000, device=torch.device("cpu"))
    assert loader.whole is None
    for seed in (1, 2):
        batches = list(loader.batches(500, torch.Generator().manual_seed(seed)))
        x = torch.cat([b["x"] for b in batches])
        assert torch.equal(x.sort().values, torch.arange(rows, dtype=torch.float32))
        assert not torch.equal(x, x.sort().values)
        assert all(torch.equal(b["wide"][:, 0], 3.0 * b["x"]) for b in batches)
    again = torch.cat([b["x"] for b in loader.batches(500, torch.Generator().manual_seed(2))])
    assert torch.equal(again, x)
    assert torch.equal(torch.cat([b["x"] for b in loader.batches(500, None)]), torch.arange(rows, dtype=torch.float32))


def test_a_loader_that_is_left_early_leaves_no_thread():
    loader = Loader(Table({"x": np.zeros(100_000, dtype=np.float32)}), window=5_000, device=torch.device("cpu"))
    for _ in loader.batches(100, None):
        break
    assert not [t for t in threading.enumerate() if t.name == "loader" and t.is_alive()]




def test_rows_that_cannot_be_read_are_an_error_of_the_run():
    class Broken(Table):
        def read(self, rows: slice) -> Batch:
            raise OSError("the file is gone")

    loader = Loader(Broken({"x": np.zeros(10_000, dtype=np.float32)}), window=5_000, device=torch.device("cpu"))
    with pytest.raises(TrainingError, match="the file is gone"):
        list(loader.batches(100, None))


def test_columns_of_different_length_are_refused():
    with pytest.raises(ForecasterError, match="same number of rows"):
        Table({"x": np.zeros(3), "y": np.zeros(4)})


def test_a_streamed_table_trains_as_well(tmp_path: Path):
    big = table(12_000).spilled(tmp_path)
    curve = train(toy(), big, replace(TRAINING, window=4096, epochs=3))
    assert curve[-1].held_out < 0.5 * curve[0].held_out
    assert all(e.rows == 12_000 for e in curve[1:])
    assert all(0.0 <= e.waited <= e.seconds for e in curve)


@settings(max_examples=40, deadline=None)
@given(days=st.lists(st.integers(0, 900), min_size=1, max_size=200), members=st.integers(2, 7), seed=st.integers(0, 5))
def test_nobody_learns_from_what_it_is_judged_on_nor_from_the_days_beside(days: list[int], members: int, seed: int):
    day = np.array(days)
    fold, learns = members_and_folds(day, members, seed)
    assert fold.min() >= 0
    assert fold.max() < members
    for member in range(members):
        held = day[fold == member]
        assert not learns[fold == member, member].any()
        if len(held):
            distance = np.abs(day[learns[:, member]][:, None] - held[None]).min(axis=1, initial=10**6)
            assert (distance >= 2).all()


def test_held_out_blocks_of_a_member_spread_over_the_seasons():
    fold, learns = members_and_folds(np.arange(4 * 365), 5, 0)
    month = np.arange(4 * 365) % 365 // 31
    assert all(len(np.unique(month[fold == member])) >= 8 for member in range(5))
    assert 0.7 < learns.mean() < 0.8


