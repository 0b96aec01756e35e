"""From GRIB to the archive: import files that are at hand, or ingest a cycle of a source. Plain functions; flows wrap them.

What is decoded and believed goes into one immutable store for each dataset and init_time; what is not believed goes to quarantine with the
reason, never deleted; every message is accounted for.
"""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog import faults, quality
from data_catalog.archive import Refused, assemble, cycle_key
from data_catalog.dimensions import ENSEMBLE_MEMBER, LATITUDE, LEAD_TIME, LONGITUDE
from data_catalog.errors import DecodeError, NotAvailableError, SourceError
from data_catalog.grib import DecodePool, Quarantined, Skipped, Source, Taken
from data_catalog.grib.grid import Edges, Mesh
from data_catalog.manifest import Manifest, MessageRow, QuarantineRow, Revision
from data_catalog.regions import Region
from data_catalog.sources.base import Coordinates, FieldKey, FieldSource, GridSource, Plan, Progress, Span, Transport, silent
from data_catalog.sources.transport import merge_ranges
from data_catalog.store import Root
from data_catalog.variables import VARIABLES

_HOUR: Final = np.timedelta64(1, "h")
_FETCHES: Final = 8             # downloads side by side, of which each host takes no more than it allows
_AHEAD: Final = 16              # downloads held in memory before they are decoded
_NEAR: Final = 1 << 18          # octets between two messages that are rather read than asked around: a twentieth of a second at 5 MB/s
_MOST: Final = 1 << 23          # octets of several messages read together
_REFUSED: Final = ("file", "message", "part", "reason", "kept")


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one field, as ``import --json`` says it.

    Attributes:
        file: As given.
        message: Its place in the file, from 1; 0 is the whole file.
        part: The field's place in its message, from 1; a message may hold several (NCEP keeps u and v together).
        reason: Why it was not taken, or "".
        dataset: Where it went.
        variable: Its name.
        init_time: ISO 8601, UTC.
        lead_time: Hours.
        member: 0 for the control or the only member.
        store: Path of the store, relative to the root.
        kept: Path of the copy in quarantine, relative to the root.
    """

    file: str
    message: int
    part: int
    reason: str = ""
    dataset: str = ""
    variable: str = ""
    init_time: str = ""
    lead_time: float | None = None
    member: int | None = None
    store: str = ""
    kept: str = ""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of every field of every file."""

    taken: tuple[Row, ...]
    skipped: tuple[Row, ...]
    quarantined: tuple[Row, ...]

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """The form of ``giomua import --json``."""
        columns = {
            "taken": ("file", "message", "part", "dataset", "variable", "init_time", "lead_time", "member", "store"),
            "skipped": ("file", "message", "part", "reason"),
            "quarantined": _REFUSED,
        }
        return {kind: [{name: getattr(row, name) for name in names} for row in getattr(self, kind)] for kind, names in columns.items()}


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of a cycle of a source.

    Attributes:
        dataset: Its name.
        init_time: Of the cycle, UTC.
        revision: The newest revision in the archive, None when nothing of the cycle is there.
        taken: Fields that came with this run.
        missing: Expected fields that the archive does not have, each with the reason.
        quarantined: Messages that were not believed.
    """

    dataset: str
    init_time: np.datetime64
    revision: Revision | None
    taken: tuple[FieldKey, ...]
    missing: tuple[tuple[FieldKey, str], ...]
    quarantined: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """The form of ``giomua ingest --json``."""
        return {
            "dataset": self.dataset,
            "init_time": cycle_key(self.init_time),
            "store": None if self.revision is None else self.revision.path,
            "revision": None if self.revision is None else self.revision.revision,
            "taken": [asdict(key) for key in self.taken],
            "missing": [{**asdict(key), "reason": reason} for key, reason in self.missing],
            "quarantined": [{name: getattr(row, name) for name in _REFUSED} for row in self.quarantined],
        }


def import_files(
    root: Root,
    manifest: Manifest,
    region: Region,
    files: Sequence[Path],
    *,
    dataset: str | None = None,
    keep_unknown: bool = False,
    workers: int = 2,
    timeout: float = 120.0,
    available_time: np.datetime64 | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Decode GRIB files and add what the region and the catalog want of them to the archive.

    Args:
        root: Where the archive is.
        manifest: Where it is recorded.
        region: The box to keep.
        files: GRIB 1 or 2, in any mixture of models, cycles and members.
        dataset: Name to file everything under; default: the name that the headers give.
        keep_unknown: Keep variables that the catalog has no word for, as decoded.
        workers: Decoding processes.
        timeout: Seconds one message may take.
        available_time: When the files were at hand, UTC; default: now.
        progress: Told of every file.

    Returns:
        What became of every field.

    Raises:
        ConfigurationError: Files of several grids were to go into the one ``dataset``.
        StoreError: The archive cannot be written.
    """
    book = _Book(root, manifest)
    found: list[Taken] = []
    sources = [Source(str(path), Path(path)) for path in files]
    place = {source.name: number for number, source in enumerate(sources, start=1)}
    with DecodePool(workers, timeout) as pool:
        for outcome in pool.decode(sources, _edges(region), keep_unknown=keep_unknown):
            progress("files", place[outcome.source.name], len(sources))
            if isinstance(outcome, Taken):
                found.append(outcome)
            else:
                book.add(outcome)
    cycles: dict[tuple[str, np.datetime64], list[Taken]] = defaultdict(list)
    for taken in _believed(found, book, dataset):
        cycles[dataset or taken.field.dataset, taken.field.init_time].append(taken)
    for (name, init_time), outcomes in sorted(cycles.items()):
        stored = _store(root, manifest, name, init_time, outcomes, available_time=available_time)
        book.take(outcomes, name, stored)
    book.write()
    return ImportReport(tuple(book.taken), tuple(book.skipped), tuple(book.quarantined))


def ingest_cycle(
    root: Root,
    manifest: Manifest,
    region: Region,
    source: GridSource | FieldSource,
    transport: Transport,
    init_time: np.datetime64,
    *,
    available_time: np.datetime64 | None = None,
    workers: int = 2,
    timeout: float = 120.0,
    pool: DecodePool | None = None,
    progress: Progress = silent,
) -> IngestReport:
    """Bring one cycle of a source into the archive as far as it is there.

    What the archive has already is not fetched again. A cycle that lacks fields is stored all the same, marked incomplete with what is
    missing and why; run again later, the rest becomes a new revision. Nothing new leaves the present revision as it is, but for the
    reasons: a cycle that its provider has withdrawn since stays in the archive, and says so.

    Args:
        root: Where the archive is.
        manifest: Where it is recorded.
        region: The box to keep.
        source: What to ingest.
        transport: Reads its bytes; an archive that is opened (:class:`FieldSource`) reads its own.
        init_time: Of the cycle, UTC.
        available_time: When the data was at hand, UTC; default: now.
        workers: Decoding processes.
        timeout: Seconds one message may take.
        pool: Decodes, in place of ``workers`` processes of this call's own.
        progress: Told of every field.

    Returns:
        What became of every expected field.

    Raises:
        NotAvailableError: Nothing of this cycle is there yet.
        StoreError: The archive cannot be written.
    """
    name, expected = source.spec.dataset, source.expected(init_time)
    latest = manifest.latest(name, cycle_key(init_time))
    if latest is not None and latest.complete and latest.details.get("expected") == _fingerprint(expected):
        return IngestReport(name, init_time, latest, (), (), ())
    there = frozenset() if latest is None else _keys(root.open_store(latest.path).load())
    book = _Book(root, manifest, name)
    found: list[Taken] = []
    notes: tuple[str, ...] = ()
    try:
        if isinstance(source, FieldSource):
            found = _opened(source, init_time, _edges(region), expected, progress)
        else:
            progress(f"{name} index", 0, 0)
            plan = source.plan(init_time, transport)
            notes = plan.notes
            with contextlib.nullcontext(pool) if pool else DecodePool(workers, timeout) as decoder:
                found = _decoded(source, plan, there, transport, decoder, _edges(region), book, progress)
    except SourceError as error:
        if latest is None:
            raise
        # What is there stays, whatever the provider says of it now.
        book.reasons |= dict.fromkeys(expected - there, str(error))
    faults.at("ingest.decoded")
    believed = _fresh(_believed(found, book, name), _before(root, manifest, name, init_time), book)
    revision = latest
    if believed:
        stored = _store(
            root, manifest, name, init_time, believed, available_time=available_time, expected=expected, reasons=book.reasons, notes=notes,
            attributes={"title": source.spec.title, "simulated": source.spec.simulated, "licence": source.spec.licence},
        )    # fmt: skip
        revision, there = stored.revision, stored.keys
        book.take(believed, name, stored)
    book.write()
    missing = _missing(expected, there, book.reasons)
    if revision is not None and revision == latest and not revision.complete:
        revision = manifest.amend(revision, _details(expected, missing, notes))
    taken = tuple(sorted({_key(outcome) for outcome in believed} & there))
    return IngestReport(name, init_time, revision, taken, missing, tuple(book.quarantined))


def _decoded(
    source: GridSource, plan: Plan, there: frozenset[FieldKey], transport: Transport, pool: DecodePool,
    edges: Edges, book: _Book, progress: Progress,
) -> list[Taken]:    # fmt: skip
    """Fetch and decode what is planned and not there yet; what is not as promised goes to the book."""
    spec, expected = source.spec, source.expected(plan.init_time)
    wanted = _wanted(plan.spans, there)
    book.promised = {name: [span.key for span in spans] for name, spans in wanted.items()}
    book.reasons |= dict(plan.missing)
    mesh = None if plan.coordinates is None or not wanted else _mesh(plan.coordinates, transport, pool, edges)
    found, total, done = [], len(plan.spans) - sum(span.key in there for span in plan.spans), 0
    for outcome in pool.decode(_fetched(wanted, transport, book), edges, mesh=mesh):
        if not isinstance(outcome, Taken):
            book.add(outcome)
            continue
        outcome = replace(outcome, field=replace(outcome.field, member=outcome.field.member - spec.first_number))
        if reason := _contradiction(outcome, wanted[outcome.source.name], plan.init_time):
            book.refuse(outcome, reason)
        elif _key(outcome) in expected:
            found.append(outcome)
            progress(spec.dataset, done := min(done + 1, total), total)
        else:
            book.add(Skipped(outcome.source, outcome.message, outcome.part, f"not expected of {spec.dataset}"))
    return _on_one_grid(found, spec.grid, book)


def _on_one_grid(found: Sequence[Taken], name: str, book: _Book) -> list[Taken]:
    """What is on the grid of a name, or on the commonest; the rest goes to the book."""
    grids = Counter(outcome.field.attributes["grid"] for outcome in found)
    expected = name or (grids.most_common(1)[0][0] if grids else "")
    for outcome in found:
        if (grid := outcome.field.attributes["grid"]) != expected:
            book.refuse(outcome, f"{outcome.field.variable} is on the grid {grid}, expected {expected}: its coordinates have changed")
    return [outcome for outcome in found if outcome.field.attributes["grid"] == expected]


def _opened(
    source: FieldSource, init_time: np.datetime64, edges: Edges, wanted: frozenset[FieldKey], progress: Progress
) -> list[Taken]:
    """The fields of a cycle in an archive."""
    found = []
    for field in source.fields(init_time, edges, wanted):
        name = f"{source.spec.hosts[0].url}#{field.variable}"
        found.append(Taken(Source(name, data=np.ascontiguousarray(field.values).tobytes()), field))
        progress(source.spec.dataset, len(found), len(wanted))
    return found


def _mesh(coordinates: Coordinates, transport: Transport, pool: DecodePool, edges: Edges) -> Mesh:
    """The cells of an unstructured grid.

    Raises:
        SourceError: Its coordinates cannot be had.
    """
    files = [Source(url, data=_unpacked(url, transport.read(url))) for url in (coordinates.latitude, coordinates.longitude)]
    try:
        return pool.mesh(files[0], files[1], coordinates.spacing, edges)
    except DecodeError as error:
        raise SourceError(f"The coordinates of the cells cannot be used: {error}.") from error


def _before(root: Root, manifest: Manifest, name: str, init_time: np.datetime64) -> xr.Dataset | None:
    """The newest cycle before this one, unread, None where there is none."""
    earlier = [one for one in manifest.revisions(name, key_to=cycle_key(init_time), latest_only=True) if one.key != cycle_key(init_time)]
    return root.open_store(earlier[-1].path) if earlier else None


def _fresh(found: Sequence[Taken], before: xr.Dataset | None, book: _Book) -> list[Taken]:
    """What is not the cycle before over again; the rest goes to the book."""
    if before is None:
        return list(found)
    leads = {lead: place for place, lead in enumerate(before[LEAD_TIME].values.astype("timedelta64[s]"))}
    members = {int(member): place for place, member in enumerate(before[ENSEMBLE_MEMBER].values)}
    names = {outcome.field.variable for outcome in found} & set(before.data_vars)
    values = {name: before[name].transpose(LEAD_TIME, ENSEMBLE_MEMBER, LATITUDE, LONGITUDE).values for name in names}
    kept = []
    for outcome in found:
        one = outcome.field
        lead, member = leads.get(one.lead_time.astype("timedelta64[s]")), members.get(one.member)
        reason = ""
        if lead is not None and member is not None and one.variable in values:
            reason = quality.repeated(one.variable, one.values, values[one.variable][lead, member])
        if reason:
            book.refuse(outcome, reason)
        else:
            kept.append(outcome)
    return kept


def _fingerprint(keys: frozenset[FieldKey]) -> str:
    """A short name for a set of fields, the same in every process."""
    text = "\n".join(f"{key.variable} {key.lead_hours} {key.member}" for key in sorted(keys))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _wanted(spans: Sequence[Span], there: frozenset[FieldKey]) -> dict[str, list[Span]]:
    """The spans to fetch by the name they go by; two fields of one message share one.

    Of a member's sums and means all leads are fetched again when one is new: amounts are differences of totals, and made from all of them
    they do not depend on the order in which those came.
    """
    new = {(span.key.variable, span.key.member) for span in spans if span.key not in there}
    found: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        known = VARIABLES.get(span.key.variable)
        again = known is not None and known.kind in ("sum", "mean") and (span.key.variable, span.key.member) in new
        if again or span.key not in there:
            found[f"{span.url}:{span.start}-{'' if span.stop is None else span.stop}"].append(span)
    return found


def _edges(region: Region) -> Edges:
    return region.latitude_north, region.latitude_south, region.longitude_west, region.longitude_east


@dataclass(frozen=True, slots=True)
class _Request:
    """One read: the bytes [start, stop) of a file, and the parts of it that are wanted, by name."""

    url: str
    start: int
    stop: int | None
    parts: Mapping[str, tuple[int, int | None]]


def _requests(wanted: Mapping[str, Sequence[Span]]) -> Iterator[_Request]:
    """What to read of each file: ranges that lie near each other in one."""
    files: dict[str, dict[str, tuple[int, int | None]]] = defaultdict(dict)
    for name, spans in wanted.items():
        files[spans[0].url][name] = spans[0].start, spans[0].stop
    for url, parts in files.items():
        bounded = {name: (start, stop) for name, (start, stop) in parts.items() if stop is not None}
        for start, stop in merge_ranges(list(bounded.values()), _NEAR, _MOST):
            yield _Request(url, start, stop, {name: part for name, part in bounded.items() if start <= part[0] and part[1] <= stop})
        for name, (start, _) in parts.items():
            if name not in bounded:
                yield _Request(url, start, None, {name: (start, None)})


def _read(request: _Request, transport: Transport) -> list[tuple[str, bytes | SourceError]]:
    """The octets of each part; where they cannot be had together, each is asked for alone."""
    try:
        data = transport.read(request.url, request.start, request.stop)
    except SourceError as error:
        if len(request.parts) == 1 or isinstance(error, NotAvailableError):
            return [(name, error) for name in request.parts]
        alone = (_Request(request.url, start, stop, {name: (start, stop)}) for name, (start, stop) in request.parts.items())
        return [answer for one in alone for answer in _read(one, transport)]
    first = request.start
    return [(name, data[start - first : None if stop is None else stop - first]) for name, (start, stop) in request.parts.items()]


def _fetched(wanted: Mapping[str, Sequence[Span]], transport: Transport, book: _Book) -> Iterator[Source]:
    """The octets of each span, a few downloads at a time; what cannot be had is put down as missing."""
    waiting: deque[Future[list[tuple[str, bytes | SourceError]]]] = deque()
    todo = _requests(wanted)
    with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as threads:
        while True:
            while len(waiting) < _AHEAD and (request := next(todo, None)) is not None:
                waiting.append(threads.submit(_read, request, transport))
            if not waiting:
                return
            for name, data in waiting.popleft().result():
                if isinstance(data, SourceError):
                    book.blame(name, str(data))
                    continue
                faults.at("ingest.fetched")
                book.came(name, data)
                yield Source(name, data=_unpacked(wanted[name][0].url, data))


def _unpacked(url: str, data: bytes) -> bytes:
    """The file in a bzip2 file, as far as it goes; what is none stays as it is, for the decoder to say so."""
    if not url.endswith(".bz2"):
        return data
    try:
        return bz2.BZ2Decompressor().decompress(data)
    except OSError:
        return data


def _contradiction(outcome: Taken, spans: Sequence[Span], init_time: np.datetime64) -> str:
    """Why a message is not what was promised of it, or ""."""
    found, promised = outcome.field, [span.key for span in spans]
    whole_file = spans[0].start == 0 and spans[0].stop is None
    if not whole_file and (not outcome.source.data.startswith(b"GRIB") or outcome.message > 1):
        return "the octets that the index names do not hold one message from its start to its end"
    if found.init_time != init_time:
        return f"a message of {found.init_time} in the cycle of {init_time}"
    if _key(outcome) not in promised and outcome.part == 1:
        says = "the name of its file" if whole_file else "the index"
        return f"{says} says {_words(promised[0])}, the message holds {_words(_key(outcome))}"
    return ""


def _words(key: FieldKey) -> str:
    return f"{key.variable} of member {key.member} at {key.lead_hours} h"


def _key(outcome: Taken) -> FieldKey:
    return FieldKey(outcome.field.variable, int(outcome.field.lead_time / _HOUR), outcome.field.member)


def _keys(data: xr.Dataset) -> frozenset[FieldKey]:
    """The fields that a dataset of the archive has."""
    leads = [int(lead / _HOUR) for lead in data[LEAD_TIME].values]
    members = [int(member) for member in data[ENSEMBLE_MEMBER].values]
    found = set()
    for name, values in data.data_vars.items():
        there = values.notnull().any([LATITUDE, LONGITUDE]).transpose(LEAD_TIME, ENSEMBLE_MEMBER).values
        found |= {FieldKey(str(name), leads[lead], members[member]) for lead, member in np.argwhere(there)}
    return frozenset(found)


def _missing(
    expected: frozenset[FieldKey], there: frozenset[FieldKey], reasons: Mapping[FieldKey, str]
) -> tuple[tuple[FieldKey, str], ...]:
    return tuple((key, reasons.get(key, "the provider does not have it (yet)")) for key in sorted(expected - there))


def _details(expected: frozenset[FieldKey], missing: Sequence[tuple[FieldKey, str]], notes: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of a revision."""
    lacking = [[key.variable, key.lead_hours, key.member, reason] for key, reason in missing]
    return {"missing": lacking, "notes": list(notes), "expected": _fingerprint(expected)}


def _believed(found: Sequence[Taken], book: _Book, dataset: str | None) -> list[Taken]:
    """What passes every check; the rest goes to the book with its reason."""
    believed = _distinct(_plausible(found, book), book, dataset)
    groups: dict[tuple[str, str, str], list[Taken]] = defaultdict(list)
    for outcome in believed:
        groups[dataset or outcome.field.dataset, str(outcome.field.init_time), outcome.field.variable].append(outcome)
    refused: dict[int, str] = {}
    for (_, _, variable), group in groups.items():
        fields = [quality.Placed(one.field.values, int(one.field.lead_time / np.timedelta64(1, "s")), one.field.member, one.field.step)
                  for one in group]    # fmt: skip
        refused |= {id(group[place]): reason for place, reason in quality.check_group(variable, fields).items()}
    for outcome in believed:
        if id(outcome) in refused:
            book.refuse(outcome, refused[id(outcome)])
    return [outcome for outcome in believed if id(outcome) not in refused]


def _plausible(found: Sequence[Taken], book: _Book) -> list[Taken]:
    kept = []
    for outcome in found:
        reason = quality.check_field(outcome.field.variable, outcome.field.values, outcome.field.step)
        if reason:
            book.refuse(outcome, reason)
        else:
            kept.append(outcome)
    return kept


def _distinct(found: Sequence[Taken], book: _Book, dataset: str | None) -> list[Taken]:
    """One message for each field: the same one again is skipped, a different one cannot be told from the right one."""
    first: dict[tuple[Any, ...], Taken] = {}
    for outcome in found:
        one = outcome.field
        key = (dataset or one.dataset, one.init_time, one.variable, one.interval_start, one.lead_time, one.member, one.latitude.tobytes())
        known = first.setdefault(key, outcome)
        if known is outcome:
            continue
        if np.array_equal(known.field.values, one.values, equal_nan=True):
            reason = f"the same field as message {known.message} of {known.source.name}"
            book.add(Skipped(outcome.source, outcome.message, outcome.part, reason))
        else:
            book.refuse(outcome, f"another field than message {known.message} of {known.source.name}, which says it is the same one")
    return list(first.values())


@dataclass(frozen=True, slots=True)
class _Stored:
    revision: Revision
    keys: frozenset[FieldKey]
    refused: tuple[Refused, ...]


def _store(
    root: Root,
    manifest: Manifest,
    name: str,
    init_time: np.datetime64,
    outcomes: Sequence[Taken],
    *,
    available_time: np.datetime64 | None,
    expected: frozenset[FieldKey] = frozenset(),
    reasons: Mapping[FieldKey, str] | None = None,
    notes: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
) -> _Stored:
    """Merge fields with the present revision of a cycle, store and record the result."""
    key = cycle_key(init_time)
    while True:
        latest = manifest.latest(name, key)
        present = None if latest is None else root.open_store(latest.path).load()
        data, refused = assemble([outcome.field for outcome in outcomes], present)
        there = _keys(data)
        explained = dict(reasons or {}) | {
            FieldKey(one.variable, int(one.lead_hours), one.member): one.reason for one in refused
        }
        ref = root.write_store(f"archive/{name}", key, {"": data}, {"dataset": name, **(attributes or {})})
        if latest is not None and ref.content_hash == latest.content_hash:
            return _Stored(latest, there, tuple(refused))
        revision = manifest.add_revision(
            name, key, ref, available_time=np.datetime64("now") if available_time is None else available_time,
            complete=expected <= there, details=_details(expected, _missing(expected, there, explained), notes),
        )    # fmt: skip
        if revision.revision <= (0 if latest is None else latest.revision + 1):
            return _Stored(revision, there, tuple(refused))
        # Another writer recorded a revision meanwhile, which ours does not hold: merge with that one too.


class _Book:
    """What became of every field, for the report and the manifest; refused messages are copied to quarantine."""

    def __init__(self, root: Root, manifest: Manifest, dataset: str = "") -> None:
        self._root, self._manifest, self._dataset = root, manifest, dataset
        self.promised: Mapping[str, Sequence[FieldKey]] = {}
        self._hashes: dict[str, str] = {}
        self._copies: dict[str, str] = {}
        self._rows: list[MessageRow] = []
        self.taken: list[Row] = []
        self.skipped: list[Row] = []
        self.quarantined: list[Row] = []
        self.reasons: dict[FieldKey, str] = {}

    def came(self, source: str, data: bytes) -> None:
        """Put down the hash of what the provider sent."""
        self._hashes[source] = hashlib.sha256(data).hexdigest()

    def blame(self, source: str, reason: str) -> None:
        """Put a reason down for every field that was promised there and has none."""
        self.reasons = dict.fromkeys(self.promised.get(source, ()), reason) | self.reasons

    def add(self, outcome: Skipped | Quarantined) -> None:
        """Account for a field that was not decoded or is not wanted."""
        self.blame(outcome.source.name, outcome.reason)
        if isinstance(outcome, Quarantined):
            self._quarantine(outcome.source, outcome.message, outcome.part, outcome.reason)
        else:
            self.skipped.append(Row(outcome.source.name, outcome.message, outcome.part, outcome.reason))
            self._record(outcome.source, outcome.message, "skipped", reason=outcome.reason)

    def refuse(self, outcome: Taken, reason: str) -> None:
        """Account for a decoded field that is not believed."""
        key = _key(outcome)
        if key not in self.promised.get(outcome.source.name, (key,)):
            self.blame(outcome.source.name, reason)
        else:
            self.reasons[key] = reason
        self._quarantine(outcome.source, outcome.message, outcome.part, reason)

    def take(self, outcomes: Sequence[Taken], dataset: str, stored: _Stored) -> None:
        """Account for fields in a store, and for those that the store could not hold."""
        refused = {(one.variable, one.lead_hours, one.member): one.reason for one in stored.refused}
        for outcome in outcomes:
            one, path = outcome.field, stored.revision.path
            lead = float(one.lead_time / _HOUR)
            if reason := refused.get((one.variable, lead, one.member)):
                self.refuse(outcome, reason)
                continue
            self.taken.append(Row(
                outcome.source.name, outcome.message, outcome.part, dataset=dataset, variable=one.variable,
                init_time=f"{one.init_time}Z", lead_time=lead, member=one.member, store=path,
            ))    # fmt: skip
            about = (dataset, one.variable, one.init_time, one.lead_time, one.member)
            self._record(outcome.source, outcome.message, "taken", *about, store=path)

    def write(self) -> None:
        """Record everything in the manifest, one row a message; one with several fields names them all."""
        merged: dict[tuple[str, int, str], MessageRow] = {}
        for row in self._rows:
            known = merged.get((row.sha256, row.message, row.dataset))
            if known is not None:
                both = sorted({*known.variable.split(), *row.variable.split()})
                row = replace(known, variable=" ".join(both), reason=known.reason or row.reason)
            merged[row.sha256, row.message, row.dataset] = row
        self._manifest.add_messages(merged.values())

    def _record(self, source: Source, message: int, status: Any, *rest: Any, **more: Any) -> None:
        self._rows.append(MessageRow(source.name, self._sha256(source), message, status, *rest, **more))

    def _quarantine(self, source: Source, message: int, part: int, reason: str) -> None:
        digest = self._sha256(source)
        if digest not in self._copies:
            name = re.sub(r"[^A-Za-z0-9._+-]", "_", Path(source.name).name)
            self._copies[digest] = f"quarantine/{digest[:12]}-{name}"
            self._root.write_bytes(self._copies[digest], source.data if source.path is None else source.path.read_bytes())
        kept = self._copies[digest]
        self.quarantined.append(Row(source.name, message, part, reason, kept=kept))
        self._manifest.add_quarantine(QuarantineRow(source.name, digest, reason, message, self._dataset, kept))
        self._record(source, message, "quarantined", self._dataset, reason=reason)

    def _sha256(self, source: Source) -> str:
        if source.name not in self._hashes:
            if source.path is None:
                self._hashes[source.name] = hashlib.sha256(source.data).hexdigest()
            else:
                with source.path.open("rb") as file:
                    self._hashes[source.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._hashes[source.name]
