"""The decoding process: it reads a message, lets ecCodes unpack it, keeps the points asked for, and answers.

Started by :class:`data_catalog.grib.pool.DecodePool` as a fresh interpreter that imports numpy and ecCodes, nothing heavier; ecCodes is C
and a hostile message may kill the process, which is why it is one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import numpy as np

from data_catalog.grib.messages import Cut, cut_rows

_MISSING: Final = 1e20          # far from any value of the weather, and exact enough in double precision to compare with


@dataclass(frozen=True, slots=True)
class Job:
    """One message to decode.

    Attributes:
        path: File to read it from; "" when ``data`` has the octets.
        offset: First octet in the file.
        length: Octets.
        data: The message itself.
        index: Places of the kept points among the values. (latitude, longitude)
        points: Values the message must have.
        cut: Rows to unpack, None for all.
        masked: Whether values may be missing.
        named: Whether to ask ecCodes for its names too (for what the catalog has no word for).
    """

    path: str
    offset: int
    length: int
    data: bytes
    index: np.ndarray
    points: int
    cut: Cut | None
    masked: bool
    named: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job.

    Attributes:
        values: As decoded, NaN where missing; None when it failed.
        reason: Why it failed, or "".
        names: ecCodes' shortName, typeOfLevel, level, units and stepType when asked for.
    """

    values: np.ndarray | None
    reason: str = ""
    names: tuple[str, ...] = ()


def decode(job: Job) -> Answer:
    """Decode one message; every failure is an answer with a reason."""
    import eccodes

    handle = None
    try:
        with _reader(job) as read:
            data = read(0, job.length) if job.cut is None else cut_rows(read, job.length, job.cut)
        first, points = (0, job.points) if job.cut is None else (job.cut.first * job.cut.across, job.cut.points)
        handle = eccodes.codes_new_from_message(data)
        if job.masked:
            eccodes.codes_set(handle, "missingValue", _MISSING)
        values = eccodes.codes_get_values(handle)
        if values.size != points:
            return Answer(None, f"{values.size} values decoded where the header promises {points}")
        kept = np.take(values, job.index - first)
        if job.masked:
            kept = np.where(kept == _MISSING, np.nan, kept)
        names = tuple(str(eccodes.codes_get(handle, key)) for key in _NAMES) if job.named else ()
        return Answer(kept, names=names)
    except eccodes.CodesInternalError as error:
        return Answer(None, f"ecCodes cannot decode it: {error}")
    except OSError as error:
        return Answer(None, f"it cannot be read (any more): {error}")
    finally:
        if handle is not None:
            eccodes.codes_release(handle)


_NAMES: Final = ("shortName", "typeOfLevel", "level", "units", "stepType")


@contextlib.contextmanager
def _reader(job: Job) -> Iterator[Callable[[int, int], bytes]]:
    """Reads octets [start, stop) of the message, wherever it is."""
    if not job.path:
        yield lambda start, stop: job.data[start:stop]
        return
    with open(job.path, "rb", buffering=0) as file:

        def read(start: int, stop: int) -> bytes:
            data = os.pread(file.fileno(), stop - start, job.offset + start)
            if len(data) != stop - start:
                raise OSError(f"the file ends {stop - start - len(data)} octets too early")
            return data

        yield read


def serve(descriptor: int) -> None:
    """Answer batches of jobs, one answer a job, until the other end closes the connection."""
    import eccodes

    eccodes.codes_get_api_version()             # load the library before the clock of the first message runs
    connection = Connection(descriptor)
    connection.send(os.getpid())
    with contextlib.suppress(EOFError, OSError):
        while True:
            for job in connection.recv():
                connection.send(decode(job))
    os._exit(0)                                 # no exit handlers: a C library that aborts there would look like a crash
