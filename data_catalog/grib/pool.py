"""Decoding GRIB in worker processes: messages in, fields of the region out, in order, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from data_catalog.errors import DecodeError, WorkerDiedError
from data_catalog.grib.grid import Edges, Grid, Mesh, make_mesh, read_grid
from data_catalog.grib.messages import Flaw, Header, Piece, message_bytes, plan_cut, read_header, scan
from data_catalog.grib.vocabulary import Meaning, dataset_name, describe, meaning
from data_catalog.grib.worker import Answer, Job
from data_catalog.variables import VARIABLES

_BATCH: Final = 8           # messages handed over at once: enough to hide the hand-over, few enough to share a file among workers
_OPEN: Final = 512           # outcomes that may wait for an earlier one before no more is read
_START_SECONDS: Final = 60.0    # a process on a busy machine may take that long to import ecCodes
_TRIES: Final = 3           # processes in a row that may die before they are ready
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc hands large buffers back after each message and gets them anew, page by page; kept, they save a third of the CPU time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Something to decode: a file, or octets in memory with the name they go by in reports."""

    name: str
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One decoded field of the region, in catalog units.

    Attributes:
        dataset: ``provider-model-variant`` by :func:`data_catalog.grib.vocabulary.dataset_name`.
        variable: A name of the catalog; for what it has no word for, ``<shortName>_<typeOfLevel>_<level>`` on request.
        init_time: Start of the forecast, UTC.
        interval_start: Lead time at which the interval starts; None for an instant.
        lead_time: Lead time at which it ends, or of the instant.
        member: 0 for the control or the only member.
        units: Of the values.
        process: instant, mean, sum, maximum or minimum over the interval.
        values: float32, NaN where missing. (latitude, longitude)
        latitude: Degrees north, descending.
        longitude: Degrees east, -180..180, ascending.
        step: Distance of two neighbouring packed values, in ``units``: half of it is the packing's error.
        message: The message's place in its source, from 1.
        part: The field's place in the message, from 1.
        attributes: What else a reader should know: grid, how it was remapped.
    """

    dataset: str
    variable: str
    init_time: np.datetime64
    interval_start: np.timedelta64 | None
    lead_time: np.timedelta64
    member: int
    units: str
    process: str
    values: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    step: float
    message: int
    part: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """A field of the region."""

    source: Source
    field: Field

    @property
    def message(self) -> int:
        """The message's place in its source, from 1."""
        return self.field.message

    @property
    def part(self) -> int:
        """The field's place in the message, from 1."""
        return self.field.part


@dataclass(frozen=True, slots=True)
class Skipped:
    """A sound field that is not wanted: outside the region, or without a word in the catalog."""

    source: Source
    message: int
    part: int
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message, or a whole source (message 0), that cannot be used."""

    source: Source
    message: int
    part: int
    error: DecodeError

    @property
    def reason(self) -> str:
        """Why, in words."""
        return str(self.error)


Outcome = Taken | Skipped | Quarantined


@dataclass(slots=True)
class _Slot:
    """A place in the order of outcomes, empty while a worker has its message."""

    job: Job | None = None
    finish: Callable[[Answer], Outcome | Answer] | None = None
    fail: Callable[[DecodeError], Outcome | Answer] | None = None
    outcome: Outcome | Answer | None = None


class _Worker:
    """A decoding process and the connection to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # The folders to import from are handed over as they are here, so that a worker finds what its parent found.
            program = f"import sys; sys.path[:] = {sys.path!r}; from data_catalog.grib.worker import serve; serve({theirs.fileno()})"
            environment = {**os.environ, **_ENVIRONMENT}
            self.process = subprocess.Popen(
                [sys.executable, "-c", program], pass_fds=[theirs.fileno()], env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )    # fmt: skip
        self.connection = Connection(ours.detach())
        self.slots: deque[_Slot] = deque()
        self.since = time.monotonic()
        self.ready = False

    def give(self, slots: list[_Slot]) -> None:
        """Hand over a batch; the answers come one by one."""
        self.connection.send([slot.job for slot in slots])
        self.slots.extend(slots)
        self.since = time.monotonic()

    def stop(self) -> int:
        """End the process; its return code, negative for a signal."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()


class DecodePool:
    """Worker processes that decode GRIB; a context manager.

    A worker that dies, or has a message for longer than ``timeout``, is replaced; the message it had is quarantined with the reason,
    every other one is decoded as if nothing had happened.

    Args:
        workers: Number of processes.
        timeout: Seconds one message may take.
    """

    def __init__(self, workers: int = 2, timeout: float = 120.0) -> None:
        if workers < 1 or not timeout > 0:
            raise ValueError(f"workers is {workers} and timeout {timeout}; both must be above zero.")
        self._count, self._timeout = workers, timeout
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        while self._workers:
            self._workers.pop().stop()

    def start(self) -> None:
        """Start the workers now and wait until they are ready; otherwise they start with the first message."""
        while len(self._workers) < self._count or not all(worker.ready for worker in self._workers):
            self._workers += [_Worker() for _ in range(self._count - len(self._workers))]
            self._listen(deque())

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(worker.process.pid for worker in self._workers)

    def mesh(self, latitude: Source, longitude: Source, spacing: float, edges: Edges) -> Mesh:
        """The cells of an unstructured grid in a region, from the two files that have their coordinates.

        Args:
            latitude: Of the cells, degrees; one message.
            longitude: Likewise.
            spacing: Of the regular lattice to which the nearest cells are brought, degrees.
            edges: North, south, west, east of the region in degrees.

        Raises:
            DecodeError: The files are no coordinates of one grid that covers the region.
        """
        (first, north), (second, east) = self._whole(latitude), self._whole(longitude)
        if first != second or north.shape != east.shape:
            raise DecodeError(f"{latitude.name} and {longitude.name} are of different grids")
        return make_mesh(first, north, east, spacing, edges)

    def _whole(self, source: Source) -> tuple[bytes, np.ndarray]:
        """Section 3 and all values of the one message in a source's octets."""
        found = next(scan(source.data))
        if isinstance(found, Flaw):
            raise found.error
        header, octets = read_header(source.data, found), message_bytes(source.data, found)
        job = Job("", 0, len(octets), octets, np.arange(header.points), header.points, None, False, False)
        (answer,) = self._run(iter([_Slot(job, lambda answer: answer, lambda error: Answer(None, str(error)))]))
        if answer.values is None:
            raise DecodeError(f"{source.name}: {answer.reason}")
        return header.grid, answer.values

    def decode(
        self, sources: Iterable[Source | Path], edges: Edges, *, keep_unknown: bool = False, mesh: Mesh | None = None
    ) -> Iterator[Outcome]:
        """Decode what the region and the catalog want of each source.

        Sources are drawn as workers become free, so an iterator over thousands of downloads never holds more than a few of them.

        Args:
            sources: Files, or octets in memory.
            edges: North, south, west, east of the region in degrees.
            keep_unknown: Keep what the catalog has no word for, under ecCodes' name and in its own units.
            mesh: The unstructured grid that everything is on.

        Yields:
            One outcome for each field of each message, in the order of the sources and of the messages in them.
        """
        named = (source if isinstance(source, Source) else Source(str(source), source) for source in sources)
        return self._run(slot for source in named for slot in _slots(source, edges, keep_unknown, mesh))

    def _run(self, todo: Iterator[_Slot]) -> Iterator[Any]:
        """Outcomes of slots, in their order."""
        slots: deque[_Slot] = deque()
        waiting: deque[_Slot] = deque()
        more = True
        while more or slots:
            while more and len(waiting) < _BATCH * self._count and len(slots) < _OPEN:
                slot = next(todo, None)
                if slot is None:
                    more = False
                    break
                slots.append(slot)
                if slot.outcome is None:
                    waiting.append(slot)
            self._hand_over(waiting)
            while slots and slots[0].outcome is not None:
                yield slots.popleft().outcome
            if slots and self._workers:
                self._listen(waiting)

    def _hand_over(self, waiting: deque[_Slot]) -> None:
        while waiting and len(self._workers) < self._count:
            self._workers.append(_Worker())
        for worker in self._workers:
            if waiting and worker.ready and not worker.slots:
                batch = [waiting.popleft() for _ in range(min(_BATCH, len(waiting)))]
                try:
                    worker.give(batch)
                except OSError:         # it died while it had nothing to do, which is no message's fault; it is replaced when listening
                    waiting.extendleft(reversed(batch))

    def _listen(self, waiting: deque[_Slot]) -> None:
        deadlines = {worker: self._deadline(worker) for worker in self._workers}
        first = min(deadlines.values())
        patience = None if first == math.inf else max(first - time.monotonic(), 0.0)
        heard = wait([worker.connection for worker in self._workers], patience)
        for worker, deadline in deadlines.items():
            if worker.connection in heard:
                self._hear(worker, waiting)
            elif time.monotonic() > deadline:
                self._replace(worker, waiting, f"decoding took longer than {self._timeout:g} s")

    def _deadline(self, worker: _Worker) -> float:
        if not worker.ready:
            return worker.since + max(self._timeout, _START_SECONDS)
        return worker.since + self._timeout if worker.slots else math.inf

    def _hear(self, worker: _Worker, waiting: deque[_Slot]) -> None:
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, waiting, "")
            return
        worker.since = time.monotonic()
        if not worker.ready:
            worker.ready, self._failed_starts = True, 0
            return
        slot = worker.slots.popleft()
        assert slot.finish is not None
        slot.job, slot.outcome = None, slot.finish(answer)

    def _replace(self, worker: _Worker, waiting: deque[_Slot], reason: str) -> None:
        self._workers.remove(worker)
        code = worker.stop()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _TRIES:
                raise WorkerDiedError(f"Decoding processes end with status {code} before they are ready; try to import eccodes.")
        if worker.slots:
            slot = worker.slots.popleft()
            assert slot.fail is not None
            ended = f"died of signal {-code}" if code < 0 else f"ended with status {code}"
            how = reason or f"the decoding process {ended}"
            slot.job, slot.outcome = None, slot.fail(WorkerDiedError(how))
        waiting.extendleft(reversed(worker.slots))


def _slots(source: Source, edges: Edges, keep_unknown: bool, mesh: Mesh | None) -> Iterator[_Slot]:
    """A slot for each field of a source, already filled where the header decides."""
    try:
        with _opened(source) as data:
            for found in scan(data):
                yield _slot(source, data, found, edges, keep_unknown, mesh)
    except OSError as error:
        yield _Slot(outcome=Quarantined(source, 0, 0, DecodeError(f"the file cannot be read: {error}")))


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[bytes | mmap.mmap]:
    if source.path is None:
        yield source.data
        return
    with source.path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def _slot(source: Source, data: Any, found: Piece | Flaw, edges: Edges, keep_unknown: bool, mesh: Mesh | None) -> _Slot:
    if isinstance(found, Flaw):
        return _Slot(outcome=Quarantined(source, found.message, 0, found.error))
    message, part = found.message, found.part
    try:
        header = read_header(data, found)
    except (DecodeError, IndexError) as error:
        reason = error if isinstance(error, DecodeError) else DecodeError("a section is too short for what it says it holds")
        return _Slot(outcome=Quarantined(source, message, part, reason))
    known = meaning(header)
    if known is None and not keep_unknown:
        return _Slot(outcome=Skipped(source, message, part, f"no vocabulary: {describe(header)}"))
    if known is not None and known.process != "instant" and header.end <= 0:
        return _Slot(outcome=Skipped(source, message, part, f"an interval of no length: {known.variable} at the start of the forecast"))
    grid = read_grid(header.grid, found.edition, edges) if mesh is None else mesh.read(header.grid)
    if isinstance(grid, str):
        return _Slot(outcome=Skipped(source, message, part, grid))
    whole = source.path is not None and found.parts == 1
    octets = b"" if whole else message_bytes(data, found)
    job = Job(
        str(source.path) if whole else "", found.offset, found.length if whole else len(octets), octets,
        grid.index, grid.points, plan_cut(found, header, grid.rows, grid.across) if grid.across else None, header.masked, known is None,
    )    # fmt: skip
    return _Slot(
        job,
        lambda answer: _outcome(source, found, header, known, grid, answer),
        lambda error: Quarantined(source, message, part, error),
    )


def _outcome(source: Source, piece: Piece, header: Header, known: Meaning | None, grid: Grid, answer: Answer) -> Outcome:
    if answer.values is None:
        return Quarantined(source, piece.message, piece.part, DecodeError(answer.reason))
    scale, offset = (known.scale, known.offset) if known else (1.0, 0.0)
    start, process = _interval(header, known)
    if start is not None and start < 0:
        return Quarantined(source, piece.message, piece.part, DecodeError(f"its interval starts {-start} s before the forecast does"))
    if np.isnan(answer.values).all():
        return Skipped(source, piece.message, piece.part, "outside the region: every value there is missing")
    if known is not None and process == "sum" and VARIABLES[known.variable].kind == "mean" and start is not None:
        scale, process = scale / (header.end - start), "mean"       # joules since then, where ours is a mean in watts
    with np.errstate(over="ignore"):                # infinite: the quality checks refuse it
        values = (answer.values.astype(np.float64) * scale + offset).astype(np.float32)
    reference = np.datetime64(header.reference.replace(tzinfo=None), "s")
    return Taken(source, Field(
        dataset=dataset_name(header, grid.name),
        variable=known.variable if known else _decoded_name(answer.names),
        init_time=reference, interval_start=None if start is None else np.timedelta64(start, "s"),
        lead_time=np.timedelta64(header.end, "s"), member=header.member,
        units=VARIABLES[known.variable].units if known else answer.names[3], process=process,
        values=values, latitude=grid.latitude, longitude=grid.longitude, step=header.step * abs(scale),
        message=piece.message, part=piece.part,
        attributes={"grid": grid.name} | ({"remapping": grid.note} if grid.note else {}),
    ))    # fmt: skip


def _interval(header: Header, known: Meaning | None) -> tuple[int | None, str]:
    """Start of the interval in seconds after the reference time (None for an instant), and what the value is over it."""
    if known is None:
        instant = header.statistic is None
        return (None if instant else header.start), "instant" if instant else "interval"
    if known.process == "instant":
        return None, "instant"
    if header.statistic is not None and header.start != header.end:
        return header.start, known.process
    if known.hours:
        return header.end - known.hours * 3600, known.process
    return (0 if header.statistic is None else header.start), known.process      # ECMWF's GRIB 1: from the start of the forecast


def _decoded_name(names: tuple[str, ...]) -> str:
    short, kind, level = ("".join(letter if letter.isalnum() else "_" for letter in name) for name in names[:3])
    return f"{short}_{kind}_{level}"
