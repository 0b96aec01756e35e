"""The training loop: one for every network, on one device or on many processes under ``torchrun``.

A *task* is a network with a loss; a *table* is columns of equal length, in memory or memory-mapped. Networks of an ensemble are
trained side by side as one module, each without blocks of time of its own, and stopped together when what they say of those
blocks no longer gets better: that says honestly how far to learn, and costs no data. The weights as they were before the first
step are a candidate like all others, so that what cannot be learned leaves the network as it was made.

The same table, task and :class:`Training` give the same weights. Every epoch draws its random numbers from the seed and its own
number, so that a run that was killed goes on from its checkpoint to the very weights it would have reached.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any, Final, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.base import ForecasterError

Batch = dict[str, Tensor]
_CHUNK: Final = 4096  # rows read together where a table does not fit into a window
_LARGEST_GRADIENT: Final = 1.0  # norm at which gradients are cut off
_MAGIC: Final = b"giomua-1"


class TrainingError(ForecasterError):
    """Training cannot go on: a loss that is no number, a checkpoint that cannot be written, or one of another training."""


@dataclass(frozen=True, slots=True)
class Training:
    """The numbers that describe a run.

    Attributes:
        seed: Of weights, order and dropout.
        batch: Rows a step, over all processes.
        epochs: At most.
        patience: Epochs without a better held-out score after which to stop.
        least_steps: A pass over fewer steps is repeated within the epoch.
        rate: Of AdamW.
        decay: Weight decay of AdamW.
        average: Decay of the running mean of the weights, which is what is scored and kept.
        window: Rows held at once; a table that fits is read once, a longer one is streamed.
        mixed: bfloat16 for the network (never for losses), on CUDA alone. What it gains is not measured (``bench_train --variants``).
        compiled: ``torch.compile`` of the loss. On one core of a CPU 1.7 times as many rows a second, after 10 to 23 s of compiling.
    """

    seed: int = 0
    batch: int = 1024
    epochs: int = 40
    patience: int = 5
    least_steps: int = 8
    rate: float = 5e-3
    decay: float = 1e-2
    average: float = 0.98
    window: int = 1 << 20
    mixed: bool = False
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch did, for a curve.

    Attributes:
        number: From 0, which is before the first step.
        of: Epochs at most.
        loss: Mean training loss, NaN before the first step.
        held_out: Mean score of the blocks that were held out, of the averaged weights.
        best: Number of the epoch with the best of those so far.
        rows: Trained on.
        seconds: Of training.
        waited: Seconds of them that the device waited for rows.
    """

    number: int
    of: int
    loss: float
    held_out: float
    best: int
    rows: int
    seconds: float
    waited: float


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the world has to do with a run; nothing here changes its answer.

    Attributes:
        on_epoch: Called after every epoch, by the first process alone: curves, progress.
        on_event: Called with a sentence when something is worth knowing (resumed, a checkpoint was damaged).
        checkpoint: Folder that a run is kept in and resumed from; none by default. It is left there at the end: whoever keeps the
            weights removes it.
    """

    on_epoch: Callable[[Epoch], None] | None = None
    on_event: Callable[[str], None] | None = None
    checkpoint: Path | None = None

    def under(self, name: str) -> Hooks:
        """The same with a folder of its own for the checkpoint."""
        return Hooks(self.on_epoch, self.on_event, None if self.checkpoint is None else self.checkpoint / name)


class Task(Protocol):
    """What is trained."""

    @property
    def network(self) -> nn.Module:
        """With its first weights."""
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(rows,) training loss of each row, float32; randomness from the generator alone."""
        ...

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(rows,) score of each row by the network that has not seen it, and (rows,) its weight."""
        ...


@dataclass(frozen=True)
class Table:
    """Columns with as many rows each: arrays, memory-mapped or not."""

    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        sizes = {name: len(column) for name, column in self.columns.items()}
        if len(set(sizes.values())) != 1:
            raise ForecasterError(f"The columns of a table need the same number of rows, found {sizes}.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def read(self, rows: slice) -> Batch:
        """Some rows as tensors of their own."""
        return {name: torch.from_numpy(np.array(column[rows])) for name, column in self.columns.items()}

    def spilled(self, folder: Path) -> Table:
        """The same, memory-mapped from files in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in self.columns.items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)
        return Table({name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.columns})


class Loader:
    """Rows of a table in random order, the next window read by a thread while this one is used.

    Windows are made of chunks of neighbouring rows drawn at random, and mixed within: the order of a shuffled deck dealt in
    packs. A table that fits into one window is read once and stays on the device.
    """

    def __init__(self, table: Table, window: int, device: torch.device) -> None:
        self.table, self.device = table, device
        self.chunks = max(1, window // _CHUNK)
        self.whole = self._move([table.read(slice(None))]) if len(table) <= window else None
        self.waited = 0.0

    def batches(self, size: int, generator: torch.Generator | None) -> Iterator[Batch]:
        """Every row once, at random; in order without a generator."""
        for window in self._windows(generator):
            count = len(next(iter(window.values())))
            order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
            for rows in torch.split(order.to(self.device), size):
                yield {name: column[rows] for name, column in window.items()}

    def _windows(self, generator: torch.Generator | None) -> Iterator[Batch]:
        if self.whole is not None:
            yield self.whole
            return
        starts = torch.arange(0, len(self.table), _CHUNK)
        if generator is not None:
            starts = starts[torch.randperm(len(starts), generator=generator)]
        queue: Queue[list[Batch] | BaseException | None] = Queue(maxsize=1)
        stop = threading.Event()

        def read() -> None:
            try:
                for part in torch.split(starts, self.chunks):
                    if stop.is_set():
                        return
                    queue.put([self.table.read(slice(int(first), int(first) + _CHUNK)) for first in part])
                queue.put(None)
            except BaseException as error:  # noqa: BLE001 - handed to the reader
                queue.put(error)

        thread = threading.Thread(target=read, name="loader", daemon=True)
        thread.start()
        try:
            while True:
                began = time.perf_counter()
                found = queue.get()
                self.waited += time.perf_counter() - began
                if found is None:
                    return
                if isinstance(found, BaseException):
                    raise TrainingError(f"Rows of the training table cannot be read: {found}") from found
                yield self._move(found)
        finally:
            stop.set()
            while thread.is_alive():
                if not queue.empty():
                    queue.get()
                thread.join(timeout=0.01)

    def _move(self, parts: list[Batch]) -> Batch:
        joined = {name: torch.cat([part[name] for part in parts]) if len(parts) > 1 else parts[0][name] for name in parts[0]}
        return {name: column.to(self.device, non_blocking=True) for name, column in joined.items()}


@dataclass(eq=False)
class _Run:
    """All that changes while training; what a checkpoint holds."""

    epoch: int = 0
    step: int = 0
    best: int = 0
    history: list[Epoch] = field(default_factory=list)


def train(task: Task, table: Table, training: Training, hooks: Hooks | None = None, device: torch.device | str = "cpu") -> list[Epoch]:
    """Train a task's network in place and leave it with the weights of the best epoch.

    Args:
        task: Network and losses; ``network`` holds the first weights.
        table: What to learn from, all of it, blocks held out included.
        training: How.
        hooks: Curves, events and checkpoints.
        device: Where to. Under ``torchrun`` every process calls this with the same arguments.

    Returns:
        The curve, from epoch 0.

    Raises:
        TrainingError: The loss is no number, or a checkpoint cannot be written or belongs to another training. The last good
            checkpoint is left where it is.
    """
    hooks = hooks or Hooks()
    device = torch.device(device)
    with _processes(device) as (rank, world):
        network = task.network.to(device)
        average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        best = {name: value.clone() for name, value in average.items()}
        optimiser = torch.optim.AdamW(network.parameters(), lr=training.rate, weight_decay=training.decay, fused=True)
        loss_of = torch.compile(task.loss) if training.compiled else task.loss
        loader = Loader(table, training.window, device)
        run = _Run()
        parts = {"network": network, "optimiser": optimiser}
        if not _resume(hooks, training, run, parts, average, best):
            _finish(run, Epoch(0, training.epochs, math.nan, _held_out(task, loader, training, rank, world), 0, 0, 0.0, 0.0), hooks, rank)
        passes = max(1, math.ceil(training.least_steps * training.batch / len(table)))
        while run.epoch < training.epochs and run.epoch - run.best < training.patience:
            run.epoch += 1
            began, waited, total, rows = time.perf_counter(), loader.waited, torch.zeros((), device=device), 0
            order = torch.Generator().manual_seed(_seed(training.seed, run.epoch))
            noise = torch.Generator(device).manual_seed(_seed(training.seed, run.epoch, rank))
            for _ in range(passes):
                for batch in loader.batches(training.batch, order):
                    size = len(next(iter(batch.values())))
                    mine = {name: column[rank::world] for name, column in batch.items()} if world > 1 else batch
                    with torch.autocast(device.type, torch.bfloat16, enabled=training.mixed and device.type == "cuda"):
                        loss = loss_of(mine, noise).sum() / size
                    optimiser.zero_grad(set_to_none=False)
                    loss.backward()  # type: ignore[no-untyped-call]
                    _sum_over_processes(network, world)
                    nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
                    optimiser.step()
                    run.step += 1
                    _average(average, network, min(training.average, run.step / (run.step + 10.0)))
                    total += loss.detach() * size
                    rows += size
            mean = float(_total(total, world)) / rows
            if not math.isfinite(mean):
                where = f"; the checkpoint of epoch {run.epoch - 1} is kept in {hooks.checkpoint}" if hooks.checkpoint else ""
                raise TrainingError(
                    f"The training loss is {mean} in epoch {run.epoch} (learning rate {training.rate:g}): look for broken values among the "
                    f"predictors, or lower the rate{where}."
                )
            seconds = time.perf_counter() - began
            with _weights(network, average):
                score = _held_out(task, loader, training, rank, world)
            if score < run.history[run.best].held_out:
                run.best = run.epoch
                _copy(best, average)
            _finish(run, Epoch(run.epoch, training.epochs, mean, score, run.best, rows, seconds, loader.waited - waited), hooks, rank)
            if hooks.checkpoint is not None and rank == 0:
                _save(hooks.checkpoint, training, run, parts, average, best)
        network.load_state_dict(best)
    return run.history


def _finish(run: _Run, epoch: Epoch, hooks: Hooks, rank: int) -> None:
    run.history.append(epoch)
    if hooks.on_epoch is not None and rank == 0:
        hooks.on_epoch(epoch)


def _held_out(task: Task, loader: Loader, training: Training, rank: int, world: int) -> float:
    """Weighted mean score of the blocks that were held out."""
    total = torch.zeros(2, device=loader.device, dtype=torch.float64)
    with torch.no_grad():
        for batch in loader.batches(8 * training.batch, None):
            mine = {name: column[rank::world] for name, column in batch.items()}
            score, weight = task.held_out(mine)
            total += torch.stack([(score * weight).double().sum(), weight.double().sum()])
    total = _total(total, world)
    return float(total[0] / total[1].clamp(min=1e-12))


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "little")


# The running mean of the weights ---------------------------------------------------------------------------------------------


def _average(average: Mapping[str, Tensor], network: nn.Module, keep: float) -> None:
    with torch.no_grad():
        pairs = [(average[name], value) for name, value in network.state_dict().items()]
        torch._foreach_lerp_([a for a, _ in pairs], [v for _, v in pairs], 1.0 - keep)


def _copy(target: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        target[name].copy_(value)


class _weights:  # noqa: N801 - used like a function
    """Other weights for the time of a ``with``."""

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self.network, self.other = network, weights

    def __enter__(self) -> None:
        self.own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(dict(self.other))

    def __exit__(self, *_: object) -> None:
        self.network.load_state_dict(self.own)


# Processes -------------------------------------------------------------------------------------------------------------------


class _processes:  # noqa: N801 - used like a function
    """(rank, how many), joined for the time of a ``with`` where ``torchrun`` started several."""

    def __init__(self, device: torch.device) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.backend = "nccl" if device.type == "cuda" else "gloo"
        self.started = False

    def __enter__(self) -> tuple[int, int]:
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group(self.backend)
            self.started = True
        return (dist.get_rank(), self.world) if self.world > 1 else (0, 1)

    def __exit__(self, *_: object) -> None:
        if self.started:
            dist.destroy_process_group()


def _sum_over_processes(network: nn.Module, world: int) -> None:
    if world > 1:
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _total(value: Tensor, world: int) -> Tensor:
    if world > 1:
        dist.all_reduce(value)
    return value


# Checkpoints -----------------------------------------------------------------------------------------------------------------


def _save(folder: Path, training: Training, run: _Run, parts: Mapping[str, Any], average: Batch, best: Batch) -> None:
    """Write aside, then rename; the one before stays as ``previous``."""
    buffer = io.BytesIO()
    history = [asdict(epoch) for epoch in run.history]
    state = {name: part.state_dict() for name, part in parts.items()}
    fields = {"epoch": run.epoch, "step": run.step, "best": run.best, "history": history, "training": asdict(training)}
    torch.save({**fields, **state, "average": average, "best_weights": best}, buffer)
    payload = buffer.getvalue()
    newest, aside = folder / "checkpoint.pt", folder / "checkpoint.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
            file.flush()
            os.fsync(file.fileno())
        if newest.exists():
            newest.replace(folder / "previous.pt")
        aside.replace(newest)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise TrainingError(
            f"The checkpoint of epoch {run.epoch} cannot be written to {folder}: {error}. Make room or choose another folder; started "
            "again, training goes on from the checkpoint before, which is kept."
        ) from error


def _load(path: Path) -> dict[str, Any]:
    """What :func:`_save` wrote.

    Raises:
        TrainingError: The file is cut short or changed.
    """
    raw = path.read_bytes()
    head = len(_MAGIC)
    digest, payload = raw[head : head + 32], raw[head + 32 :]
    if raw[:head] != _MAGIC or hashlib.sha256(payload).digest() != digest:
        raise TrainingError(f"{path} is damaged ({len(raw)} bytes, its checksum does not hold)")
    found: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return found


def _resume(hooks: Hooks, training: Training, run: _Run, parts: Mapping[str, Any], average: Batch, best: Batch) -> bool:
    """Take up the newest good checkpoint; False where there is none."""
    if hooks.checkpoint is None:
        return False
    say = hooks.on_event or (lambda _: None)
    for path in (hooks.checkpoint / "checkpoint.pt", hooks.checkpoint / "previous.pt"):
        if not path.exists():
            continue
        try:
            found = _load(path)
        except TrainingError as error:
            say(f"{error}; the checkpoint before it is used, or training starts anew.")
            continue
        if found["training"] != asdict(training) or {n: v.shape for n, v in found["best_weights"].items()} != {
            n: v.shape for n, v in best.items()
        }:
            raise TrainingError(f"{path} is of a training with other numbers or another network; remove the folder or choose another.")
        for name, part in parts.items():
            part.load_state_dict(found[name])
        _copy(average, found["average"])
        _copy(best, found["best_weights"])
        run.epoch, run.step, run.best = found["epoch"], found["step"], found["best"]
        run.history = [Epoch(**epoch) for epoch in found["history"]]
        say(f"Resumed after epoch {run.epoch} from {path}.")
        return True
    return False


def members_and_folds(days: np.ndarray, members: int, seed: int, longest: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Which block of time each row is in, and which members of an ensemble may learn from it.

    Time is cut into blocks of at most ``longest`` days; each run of ``members`` blocks is dealt to the members at random, so that every
    member's held-out blocks spread over the seasons. A day on either side of one is not learned from either: weather lasts.

    Args:
        days: (N,) valid day of each row, whole numbers.
        members: M.
        seed: Of the deal.
        longest: Days.

    Returns:
        (N,) int64 member that does not see the row, and (N, M) bool who may learn from it.
    """
    day = days - days.min()
    span = int(day.max()) + 1
    length = max(1, min(longest, span // members))
    rounds = -(-span // (length * members)) + 1
    rng = np.random.default_rng(seed)
    owner = np.concatenate([rng.permutation(members) for _ in range(rounds)])

    def block(d: np.ndarray) -> np.ndarray:
        found: np.ndarray = owner[np.clip(d, 0, None) // length]
        return found

    near = [block(day + shift) for shift in (-1, 0, 1)]
    learns = np.all([n[:, None] != np.arange(members)[None] for n in near], axis=0)
    return near[1].astype(np.int64), learns


def state_arrays(network: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """The weights as arrays under a prefix, for ``Forecaster.state``."""
    return {f"{prefix}{name}": value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def load_arrays(network: nn.Module, state: Mapping[str, np.ndarray], prefix: str) -> None:
    """The weights that :func:`state_arrays` gave."""
    network.load_state_dict({name: torch.from_numpy(np.array(state[f"{prefix}{name}"])) for name in network.state_dict()})
