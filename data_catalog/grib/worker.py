"""The decoding process: it reads a message, lets ecCodes unpack it, keeps the points asked for, and answers.

Started by :class:`data_catalog.grib.pool.DecodePool` as a fresh interpreter that imports numpy and ecCodes, nothing heavier; ecCodes is C
and a hostile message may kill the process, which is why it is one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import numpy as np

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
        masked: Whether values may be missing.
        single: Whether to unpack to 32-bit floats.
        named: Whether to ask ecCodes for its names too (for what the catalog has no word for).
    """

    path: str
    offset: int
    length: int
    data: bytes
    index: np.ndarray
    points: int
    masked: bool
    single: bool
    named: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job.

    Attributes:
        values: As decoded, NaN where missing; None when it failed.
        sha256: Of the message's octets.
        reason: Why it failed, or "".
        names: ecCodes' shortName, typeOfLevel, level, units and stepType when asked for.
    """

    values: np.ndarray | None
    sha256: str
    reason: str = ""
    names: tuple[str, ...] = ()


def decode(job: Job) -> Answer:
    """Decode one message; every failure is an answer with a reason."""
    import eccodes

    data = job.data or _read(job)
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != job.length:
        return Answer(None, digest, f"{len(data)} of {job.length} octets could be read: the file changed meanwhile")
    handle = None
    try:
        handle = eccodes.codes_new_from_message(data)
        values = _values(handle, job)
        if values.size != job.points:
            return Answer(None, digest, f"{values.size} values decoded for a grid of {job.points} points")
        kept = np.take(values, job.index)
        if job.masked:
            kept = np.where(kept == _MISSING, np.nan, kept)
        names = tuple(str(eccodes.codes_get(handle, key)) for key in _NAMES) if job.named else ()
        return Answer(kept, digest, names=names)
    except eccodes.CodesInternalError as error:
        return Answer(None, digest, f"ecCodes cannot decode it: {error}")
    finally:
        if handle is not None:
            eccodes.codes_release(handle)


_NAMES: Final = ("shortName", "typeOfLevel", "level", "units", "stepType")


def _values(handle: int, job: Job) -> np.ndarray:
    import eccodes

    if job.masked:
        eccodes.codes_set(handle, "missingValue", _MISSING)
    kind = np.float32 if job.single and not job.masked else np.float64
    return np.asarray(eccodes.codes_get_array(handle, "values", kind))


def _read(job: Job) -> bytes:
    with open(job.path, "rb") as file:
        file.seek(job.offset)
        return file.read(job.length)


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
