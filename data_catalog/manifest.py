"""The manifest: which revision of what is stored where, what became of every message, and which revisions a training used.

One small database beside the stores: SQLite in write-ahead mode by default, PostgreSQL by URL. It is the only thing that says what is
done, so that re-runs are cheap; a store that was published but not recorded (a kill in between) is found by :func:`reconcile` and
recorded by the next run, which makes the same content again. Times are UTC and kept as ISO 8601 text.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self
from weakref import WeakSet

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from data_catalog import faults
from data_catalog.errors import ManifestError
from data_catalog.store import Root, StoreRef

SCHEMA_VERSION: Final = 1

Status = Literal["taken", "skipped", "quarantined"]

_BUSY_SECONDS: Final = 30.0
_ATTEMPTS: Final = 100  # each lost race is another writer's success, so this many writers at once on one key
_WHOLE_FILE: Final = 0


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded store of a dataset.

    Attributes:
        dataset: Its name in the archive, or the name of a product.
        key: What it is a revision of: ``20250101T00Z`` for a forecast, ``202501`` for a month of observations.
        revision: 0 for the first, then counted on.
        content_hash: 64 hex digits.
        path: Of the store, relative to the root.
        available_time: When we had it, UTC.
        recorded_time: When it was recorded, UTC.
        complete: Whether everything expected was in it.
        details: Anything worth keeping, as JSON.
    """

    dataset: str
    key: str
    revision: int
    content_hash: str
    path: str
    available_time: np.datetime64
    recorded_time: np.datetime64
    complete: bool = True
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def ref(self) -> StoreRef:
        """The store."""
        return StoreRef(self.path, self.content_hash)


@dataclass(frozen=True, slots=True)
class MessageRow:
    """What became of one message of one file.

    Attributes:
        file: Name of the file, as given.
        sha256: Of the file, 64 hex digits.
        message: Its number in the file from 1; 0 stands for the whole file.
        status: taken, skipped (outside the region or no vocabulary) or quarantined.
        dataset: Into which it went, ``""`` for none.
        variable: Name of the catalog, or as decoded.
        init_time: Start of the forecast, UTC.
        lead_time: Lead time.
        member: 0..M-1.
        reason: Why it was not taken.
        store: Path of the store it went into.
    """

    file: str
    sha256: str
    message: int
    status: Status
    dataset: str = ""
    variable: str = ""
    init_time: np.datetime64 | None = None
    lead_time: np.timedelta64 | None = None
    member: int | None = None
    reason: str = ""
    store: str = ""


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """A file, or one message of it, that nobody may read.

    Attributes:
        file: Name of the file, as given.
        sha256: Of the file, 64 hex digits.
        reason: One sentence.
        message: Number in the file from 1; 0 stands for the whole file.
        dataset: For which it was read, ``""`` for none.
        path: Where a copy is kept, relative to the root, ``""`` for nowhere.
    """

    file: str
    sha256: str
    reason: str
    message: int = _WHOLE_FILE
    dataset: str = ""
    path: str = ""


_tables = sa.MetaData()

_version = sa.Table(
    "schema_version",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, nullable=False),
)

_revisions = sa.Table(
    "revisions",
    _tables,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("content_hash", sa.Text, nullable=False, index=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("available_time", sa.Text, nullable=False),
    sa.Column("recorded_time", sa.Text, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.UniqueConstraint("dataset", "key", "content_hash"),
)

_messages = sa.Table(
    "messages",
    _tables,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("message", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("variable", sa.Text, nullable=False),
    sa.Column("init_time", sa.Text),
    sa.Column("lead_seconds", sa.BigInteger),
    sa.Column("member", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("store", sa.Text, nullable=False),
    sa.CheckConstraint("status IN ('taken', 'skipped', 'quarantined')", name="known_status"),
    sa.Index("messages_by_cycle", "dataset", "init_time"),
)

_quarantine = sa.Table(
    "quarantine",
    _tables,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("message", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("recorded_time", sa.Text, nullable=False),
)

_snapshots = sa.Table(
    "snapshots",
    _tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("recorded_time", sa.Text, nullable=False),
)

_snapshot_hashes = sa.Table(
    "snapshot_hashes",
    _tables,
    sa.Column("snapshot", sa.Text, sa.ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("content_hash", sa.Text, primary_key=True),
)


class Manifest:
    """An open manifest; also a context manager. It may be shared by threads and used by many processes at once.

    Args:
        engine: The database; :meth:`open` makes one from a URL.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.url = engine.url.render_as_string(hide_password=True)

    @classmethod
    def open(cls, url: str) -> Manifest:
        """Open a manifest, making its tables where there are none.

        Args:
            url: ``sqlite:///var/manifest.db`` or ``postgresql://user@host/database``.

        Raises:
            ManifestError: The database cannot be reached or read, or a newer Giómua has written it.
        """
        manifest = cls(_engine(url))
        try:
            with manifest._explained():
                manifest._prepare()
        except ManifestError:
            manifest.close()
            raise
        return manifest

    def close(self) -> None:
        """Give back what the database holds for us."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_revision(
        self,
        dataset: str,
        key: str,
        ref: StoreRef,
        *,
        available_time: np.datetime64,
        complete: bool = True,
        details: Mapping[str, Any] | None = None,
    ) -> Revision:
        """Record a store as the next revision of (dataset, key).

        The same content again is no new revision: the one there is comes back as it was recorded. Safe with other writers at once.

        Args:
            dataset: Its name in the archive, or the name of a product.
            key: What it is a revision of, e.g. ``20250101T00Z``.
            ref: The store.
            available_time: When we had it, UTC.
            complete: Whether everything expected was in it.
            details: Anything worth keeping, in JSON types.

        Returns:
            The revision as recorded.

        Raises:
            ManifestError: The database refused or could not be reached.
        """
        if np.isnat(available_time):
            raise ManifestError(f"The available_time of {dataset} {key} is NaT; give the time at which it was at hand.")
        try:
            json.dumps(kept := dict(details or {}), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ManifestError(f"The details of {dataset} {key} have no JSON form: {error}; give text and finite numbers.") from error
        here = (_revisions.c.dataset == dataset) & (_revisions.c.key == key)
        row = {
            "dataset": dataset,
            "key": key,
            "content_hash": ref.content_hash,
            "path": ref.path,
            "available_time": _text(available_time),
            "complete": complete,
            "details": kept,
        }
        with self._explained():
            for _ in range(_ATTEMPTS):
                with self._engine.connect() as connection:
                    known = connection.execute(sa.select(_revisions).where(here, _revisions.c.content_hash == ref.content_hash)).first()
                    highest = connection.scalar(sa.select(sa.func.max(_revisions.c.revision)).where(here))
                if known is not None:
                    faults.at("manifest.recorded")
                    return _revision(known)
                try:
                    with self._engine.begin() as connection:
                        number = 0 if highest is None else highest + 1
                        connection.execute(sa.insert(_revisions).values(**row, revision=number, recorded_time=_now()))
                except sa.exc.IntegrityError:
                    continue  # another writer was first: look again
        raise ManifestError(
            f"{_ATTEMPTS} other writers recorded revisions of {dataset} {key} first; find out what keeps writing it, then run again."
        )

    def amend(self, revision: Revision, details: Mapping[str, Any]) -> Revision:
        """Replace what is said of a recorded revision, whose content stays: what it lacks has got another reason since.

        Raises:
            ManifestError: The database refused or could not be reached.
        """
        here = tuple(_revisions.c[name] == getattr(revision, name) for name in ("dataset", "key", "revision"))
        with self._explained(), self._engine.begin() as connection:
            connection.execute(sa.update(_revisions).where(*here).values(details=dict(details)))
        return replace(revision, details=details)

    def latest(self, dataset: str, key: str, *, available_before: np.datetime64 | None = None) -> Revision | None:
        """The newest revision of (dataset, key) that was available at that time (its end included), None if there is none."""
        found = self.revisions(dataset, key, latest_only=True, available_before=available_before)
        return found[0] if found else None

    def revisions(
        self,
        dataset: str | None = None,
        key: str | None = None,
        *,
        key_from: str | None = None,
        key_to: str | None = None,
        latest_only: bool = False,
        available_before: np.datetime64 | None = None,
    ) -> list[Revision]:
        """Revisions in the order of dataset, key and number.

        Args:
            dataset: Only this one.
            key: Only this one.
            key_from: Keys from here on, in the order of their text.
            key_to: Keys up to here, this one included.
            latest_only: Of each (dataset, key) only the newest of those that the other arguments leave.
            available_before: Only what was available at this time, this time included.
        """
        columns = _revisions.c
        conditions = [
            compare(column, chosen)
            for column, compare, chosen in (
                (columns.dataset, operator.eq, dataset),
                (columns.key, operator.eq, key),
                (columns.key, operator.ge, key_from),
                (columns.key, operator.le, key_to),
                (columns.available_time, operator.le, _text(available_before)),
            )
            if chosen is not None
        ]
        query = sa.select(_revisions).where(*conditions)
        if latest_only:
            newest = (
                sa.select(columns.dataset, columns.key, sa.func.max(columns.revision).label("revision"))
                .where(*conditions)
                .group_by(columns.dataset, columns.key)
                .subquery()
            )
            query = query.join(
                newest,
                (newest.c.dataset == columns.dataset) & (newest.c.key == columns.key) & (newest.c.revision == columns.revision),
            )
        return [_revision(row) for row in self._rows(query.order_by(columns.dataset, columns.key, columns.revision))]

    def datasets(self) -> list[str]:
        """Names of all datasets that have a revision, sorted."""
        return sorted(row.dataset for row in self._rows(sa.select(_revisions.c.dataset).distinct()))

    def add_messages(self, rows: Iterable[MessageRow]) -> None:
        """Record what became of messages; for the same file, message and dataset the last word counts.

        Raises:
            ManifestError: The database refused or could not be reached.
        """
        values = []
        for row in rows:
            value = {one.name: getattr(row, one.name) for one in fields(row)}
            value["init_time"] = _text(row.init_time)
            lead = value.pop("lead_time")
            value["lead_seconds"] = None if lead is None or np.isnat(lead) else int(lead / np.timedelta64(1, "s"))
            values.append(value)
        self._upsert(_messages, values)

    def messages(
        self,
        dataset: str | None = None,
        *,
        sha256: str | None = None,
        status: Status | None = None,
        init_time: np.datetime64 | None = None,
    ) -> list[MessageRow]:
        """What became of messages, in the order of file and number; each argument keeps only its equals."""
        chosen = {"dataset": dataset, "sha256": sha256, "status": status, "init_time": _text(init_time)}
        found = self._rows(_select(_messages, chosen).order_by(_messages.c.file, _messages.c.sha256, _messages.c.message))
        return [
            MessageRow(
                file=row.file,
                sha256=row.sha256,
                message=row.message,
                status=row.status,
                dataset=row.dataset,
                variable=row.variable,
                init_time=None if row.init_time is None else np.datetime64(row.init_time, "us"),
                lead_time=None if row.lead_seconds is None else np.timedelta64(row.lead_seconds, "s"),
                member=row.member,
                reason=row.reason,
                store=row.store,
            )
            for row in found
        ]

    def add_quarantine(self, row: QuarantineRow) -> None:
        """Record a file or message that nobody may read; the same one again replaces what was said of it.

        Raises:
            ManifestError: The database refused or could not be reached.
        """
        self._upsert(_quarantine, [{**asdict(row), "recorded_time": _now()}])

    def quarantined(self, dataset: str | None = None, *, sha256: str | None = None) -> list[QuarantineRow]:
        """What is in quarantine, in the order it came."""
        query = _select(_quarantine, {"dataset": dataset, "sha256": sha256})
        found = self._rows(query.order_by(_quarantine.c.recorded_time, _quarantine.c.file, _quarantine.c.message))
        return [QuarantineRow(row.file, row.sha256, row.reason, row.message, row.dataset, row.path) for row in found]

    def add_snapshot(self, content_hashes: Iterable[str]) -> str:
        """Record the revisions that a training uses; they are kept from then on.

        Args:
            content_hashes: Of the revisions, in any order.

        Returns:
            The id of the snapshot: sha256 of its sorted hashes, one a line. The same revisions have the same id.

        Raises:
            ManifestError: The database refused or could not be reached.
        """
        hashes = sorted(set(content_hashes))
        snapshot = hashlib.sha256("".join(f"{one}\n" for one in hashes).encode()).hexdigest()
        with self._explained(), self._engine.begin() as connection:
            connection.execute(self._insert(_snapshots).on_conflict_do_nothing(), {"id": snapshot, "recorded_time": _now()})
            if hashes:
                connection.execute(
                    self._insert(_snapshot_hashes).on_conflict_do_nothing(),
                    [{"snapshot": snapshot, "content_hash": one} for one in hashes],
                )
        return snapshot

    def snapshot(self, snapshot: str) -> list[str]:
        """The sorted content hashes of a snapshot.

        Raises:
            ManifestError: There is no such snapshot.
        """
        if not self._rows(sa.select(_snapshots.c.id).where(_snapshots.c.id == snapshot)):
            raise ManifestError(f"The manifest {self.url} has no snapshot {snapshot!r}; it is that of another root, or the id is mistyped.")
        query = sa.select(_snapshot_hashes.c.content_hash).where(_snapshot_hashes.c.snapshot == snapshot)
        return sorted(row.content_hash for row in self._rows(query))

    def retained_hashes(self) -> set[str]:
        """Content hashes that some snapshot uses: retention may delete none of them."""
        return {row.content_hash for row in self._rows(sa.select(_snapshot_hashes.c.content_hash).distinct())}

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            is_new = not sa.inspect(connection).has_table(_version.name)
        if is_new:
            self._create()
        found = self._rows(sa.select(_version.c.version))[0].version
        if found != SCHEMA_VERSION:
            raise ManifestError(
                f"The manifest {self.url} has schema version {found}, this Giómua reads {SCHEMA_VERSION}; install a newer Giómua."
            )

    def _create(self) -> None:
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Two processes that make the same table at once would collide in PostgreSQL's own catalog; held until commit.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x67696F6D7561)))
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's sqlite3 begins none of its own before CREATE
            for table in _tables.sorted_tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                for index in sorted(table.indexes, key=lambda one: str(one.name)):
                    connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
            connection.execute(self._insert(_version).on_conflict_do_nothing(), {"id": 1, "version": SCHEMA_VERSION})

    def _rows(self, query: sa.Select) -> list[Any]:
        with self._explained(), self._engine.connect() as connection:
            return list(connection.execute(query))

    def _insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)

    def _upsert(self, table: sa.Table, values: list[dict[str, Any]]) -> None:
        keys = [column.name for column in table.primary_key]
        unique = {tuple(value[key] for key in keys): value for value in values}
        if not unique:
            return
        statement = self._insert(table)
        changed = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        with self._explained(), self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(unique.values()))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise ManifestError(f"The manifest {self.url} cannot be used: {cause}; {_advice(cause)}.") from error


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Where the stores and the manifest disagree.

    Attributes:
        unrecorded: Paths of stores that no revision names: a run was killed before recording them. The next run records them.
        gone: Revisions whose store is not there.
    """

    unrecorded: tuple[str, ...]
    gone: tuple[Revision, ...]

    def __bool__(self) -> bool:
        return bool(self.unrecorded or self.gone)


def reconcile(root: Root, manifest: Manifest, folders: Iterable[str] = ("archive", "published")) -> Reconciliation:
    """Compare the stores under some folders of a root with the manifest; changes nothing."""
    known = {revision.path: revision for revision in manifest.revisions()}
    present = {path for folder in folders for path in _stores_under(root, folder)}
    return Reconciliation(
        tuple(sorted(present - known.keys())),
        tuple(revision for path, revision in known.items() if path not in present and not root.exists(path)),
    )


def _stores_under(root: Root, folder: str) -> Iterator[str]:
    yield from root.list_stores(folder)
    for name in root.list_folders(folder):
        yield from _stores_under(root, f"{folder}/{name}")


def _engine(url: str) -> sa.Engine:
    try:
        address = sa.make_url(url)
        if address.drivername in ("postgres", "postgresql"):
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() not in ("sqlite", "postgresql"):
            shown = address.render_as_string(hide_password=True)
            raise ManifestError(f"The manifest URL {shown} is neither SQLite nor PostgreSQL; give sqlite:///FILE or postgresql://...")
        if address.get_backend_name() == "sqlite" and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        # Asked before use whether it still answers: a server that was restarted does no harm.
        engine = sa.create_engine(address, pool_pre_ping=True, json_serializer=partial(json.dumps, sort_keys=True, allow_nan=False))
    except sa.exc.ArgumentError as error:
        raise ManifestError("The manifest URL cannot be read as one; give sqlite:///FILE or postgresql://USER@HOST/DATABASE.") from error
    except ModuleNotFoundError as error:
        raise ManifestError(f"The manifest needs {error.name}, which is not installed; install giomua[postgresql].") from error
    except OSError as error:
        raise ManifestError(f"The folder of the manifest {address.database} cannot be made: {error.strerror}; choose another.") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
    _engines.add(engine)
    return engine


def _leave_connections_to_the_parent() -> None:
    """A forked child makes connections of its own; two processes on one would wait for each other's answers for ever."""
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


_engines: Final[WeakSet[sa.Engine]] = WeakSet()
_inherited: Final[list[sa.Pool]] = []  # kept, since to forget a connection is to close it
os.register_at_fork(after_in_child=_leave_connections_to_the_parent)


def _configure_sqlite(connection: Any, _: Any) -> None:
    for pragma in (f"busy_timeout = {_BUSY_SECONDS * 1000:.0f}", "journal_mode = WAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _select(table: sa.Table, chosen: Mapping[str, Any]) -> sa.Select:
    return sa.select(table).where(*(table.c[name] == value for name, value in chosen.items() if value is not None))


def _revision(row: Any) -> Revision:
    return Revision(
        dataset=row.dataset,
        key=row.key,
        revision=row.revision,
        content_hash=row.content_hash,
        path=row.path,
        available_time=np.datetime64(row.available_time, "us"),
        recorded_time=np.datetime64(row.recorded_time, "us"),
        complete=row.complete,
        details=row.details,
    )


def _text(moment: np.datetime64 | None) -> str | None:
    """UTC as ISO 8601 text of one length, so that its order is that of time."""
    return None if moment is None or np.isnat(moment) else str(moment.astype("datetime64[us]"))


def _now() -> str:
    return str(np.datetime64(time.time_ns() // 1000, "us"))


def _advice(cause: str) -> str:
    text = cause.lower()
    if "locked" in text or "busy" in text:
        return "another process has been writing for long, so run it again when that has ended"
    if "not a database" in text or "malformed" in text:
        return "the file is damaged: restore it, or move it away and import or backfill again"
    if "unable to open" in text or "readonly" in text or "disk" in text:
        return "check that its folder can be written and has space"
    return "check the URL and that the database answers"
