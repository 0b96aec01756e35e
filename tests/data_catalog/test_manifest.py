"""Laws of the manifest, the same on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from data_catalog import manifest as module
from data_catalog.errors import ManifestError
from data_catalog.manifest import Manifest, MessageRow, QuarantineRow, Revision, reconcile
from data_catalog.store import Root, StoreRef

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

NOON = np.datetime64("2025-01-01T12:00", "us")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a private PostgreSQL server on a Unix socket, without a database name at its end."""
    candidates = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    found = next((Path(path).resolve().parent for path in candidates if path), None)
    if found is None:
        pytest.skip("no initdb on this machine: PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="giomua-pg-"))
    other: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        other = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def run(program: str, *arguments: str) -> None:
        command = [str(found / program), "-D", str(folder / "data"), *arguments]
        with (folder.parent / f"{folder.name}.log").open("ab") as log:
            subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=log, env={"PATH": os.defpath, "LC_ALL": "C"}, **other)

    try:
        run("initdb", "-A", "trust", "-U", "giomua", "-E", "UTF8", "--no-sync")
        server = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", server, "start")
        try:
            yield f"postgresql://giomua@/{{}}?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
        (folder.parent / f"{folder.name}.log").unlink()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'manifest.db'}"
    server = request.getfixturevalue("postgresql")
    name = f"d{os.urandom(6).hex()}"
    engine = sa.create_engine(server.format("postgres").replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.format(name)


@pytest.fixture
def manifest(url: str) -> Iterator[Manifest]:
    with Manifest.open(url) as opened:
        yield opened


def ref(content: int) -> StoreRef:
    digest = f"{content:064x}"
    return StoreRef(f"archive/x/k.{digest[-12:]}.zarr", digest)


def add_many(url: str, contents: range, environment: dict[str, str]) -> None:
    os.environ |= environment
    with Manifest.open(url) as opened:
        for content in contents:
            opened.add_revision("gefs", "20250101T00Z", ref(content), available_time=NOON)


def run_together(*calls: tuple[Any, ...]) -> list[int | None]:
    children = [PROCESSES.Process(target=add_many, args=call) for call in calls]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


# The contract


class ManifestMachine(RuleBasedStateMachine):
    """The manifest does what a few dictionaries do, through closing and opening again."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.manifest = Manifest.open(self.url)
        with self.manifest._engine.begin() as connection:
            for table in ("revisions", "messages", "quarantine", "snapshot_hashes", "snapshots"):
                connection.execute(sa.text(f"DELETE FROM {table}"))
        self.revisions: dict[tuple[str, str], list[Revision]] = {}
        self.messages: dict[tuple[str, int, str], MessageRow] = {}
        self.quarantine: dict[tuple[str, int, str], QuarantineRow] = {}
        self.snapshots: dict[str, list[str]] = {}

    def teardown(self) -> None:
        self.manifest.close()

    datasets = st.sampled_from(["gefs", "ifs"])
    keys = st.sampled_from(["20250101T00Z", "20250101T12Z", "202501"])
    contents = st.integers(0, 4)
    times = st.integers(0, 3).map(lambda hour: NOON + np.timedelta64(hour, "h"))

    @rule(
        dataset=datasets, key=keys, content=contents, time=times, complete=st.booleans(), details=st.dictionaries(st.text("ab"), st.text())
    )
    def add_revision(self, dataset: str, key: str, content: int, time: np.datetime64, complete: bool, details: dict[str, str]) -> None:
        details = {name: text.replace("\0", "") for name, text in details.items()}
        made = self.manifest.add_revision(dataset, key, ref(content), available_time=time, complete=complete, details=details)
        known = self.revisions.setdefault((dataset, key), [])
        same = [one for one in known if one.content_hash == made.content_hash]
        if same:
            assert made == same[0]
            return
        assert (made.dataset, made.key, made.revision, made.ref) == (dataset, key, len(known), ref(content))
        assert (made.available_time, made.complete, made.details) == (time, complete, details)
        known.append(made)

    @rule(dataset=datasets, key=keys, time=st.none() | times)
    def look_up_latest(self, dataset: str, key: str, time: np.datetime64 | None) -> None:
        known = [one for one in self.revisions.get((dataset, key), []) if time is None or one.available_time <= time]
        assert self.manifest.latest(dataset, key, available_before=time) == (known[-1] if known else None)

    @rule(dataset=st.none() | datasets, start=st.none() | keys, end=st.none() | keys, latest=st.booleans(), time=st.none() | times)
    def look_up_many(self, dataset: str | None, start: str | None, end: str | None, latest: bool, time: np.datetime64 | None) -> None:
        expected = []
        for (name, key), known in sorted(self.revisions.items()):
            if dataset in (None, name) and (start is None or key >= start) and (end is None or key <= end):
                available = [one for one in known if time is None or one.available_time <= time]
                expected += available[-1:] if latest else available
        found = self.manifest.revisions(dataset, key_from=start, key_to=end, latest_only=latest, available_before=time)
        assert found == expected

    @rule(
        rows=st.lists(
            st.builds(
                MessageRow,
                file=st.sampled_from(["a.grib2", "b.grib2"]),
                sha256=st.sampled_from(["a" * 64, "b" * 64]),
                message=st.integers(0, 3),
                status=st.sampled_from(["taken", "skipped", "quarantined"]),
                dataset=datasets | st.just(""),
                variable=st.sampled_from(["temperature_2m", ""]),
                init_time=st.none() | times,
                lead_time=st.none() | st.integers(0, 240).map(lambda hour: np.timedelta64(3600 * hour, "s")),
                member=st.none() | st.integers(0, 50),
                reason=st.sampled_from(["", "Ngoài vùng"]),
            ),
            max_size=5,
        )
    )
    def add_messages(self, rows: list[MessageRow]) -> None:
        self.manifest.add_messages(iter(rows))
        self.messages |= {(row.sha256, row.message, row.dataset): row for row in rows}

    @rule(dataset=st.none() | datasets, status=st.sampled_from([None, "taken", "skipped"]), time=st.none() | times)
    def look_up_messages(self, dataset: str | None, status: Any, time: np.datetime64 | None) -> None:
        found = self.manifest.messages(dataset, status=status, init_time=time)
        expected = {
            row
            for row in self.messages.values()
            if dataset in (None, row.dataset) and status in (None, row.status) and (time is None or row.init_time == time)
        }
        assert set(found) == expected
        assert len(found) == len(expected)

    @rule(message=st.integers(0, 2), dataset=datasets, reason=st.sampled_from(["truncated", "not GRIB"]))
    def add_quarantine(self, message: int, dataset: str, reason: str) -> None:
        row = QuarantineRow("f.grib2", "c" * 64, reason, message, dataset, "quarantine/f.grib2")
        self.manifest.add_quarantine(row)
        self.quarantine[(row.sha256, message, dataset)] = row

    @rule(contents=st.lists(contents))
    def add_snapshot(self, contents: list[int]) -> None:
        hashes = [ref(content).content_hash for content in contents]
        snapshot = self.manifest.add_snapshot(hashes)
        assert self.manifest.add_snapshot(reversed(hashes)) == snapshot
        assert self.snapshots.setdefault(snapshot, sorted(set(hashes))) == sorted(set(hashes))

    @rule()
    def open_again(self) -> None:
        self.manifest.close()
        self.manifest = Manifest.open(self.url)

    @invariant()
    def agree(self) -> None:
        assert self.manifest.datasets() == sorted({dataset for dataset, _ in self.revisions})
        assert set(self.manifest.quarantined()) == set(self.quarantine.values())
        assert self.manifest.retained_hashes() == {one for hashes in self.snapshots.values() for one in hashes}
        for snapshot, hashes in self.snapshots.items():
            assert self.manifest.snapshot(snapshot) == hashes


def test_the_manifest_is_a_few_dictionaries_that_last(url: str):
    machine = type("Machine", (ManifestMachine,), {"url": url})
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=20, deadline=None))


# Many writers


def test_writers_at_once_number_without_gap_or_double(url: str):
    """Each content once, numbered 0, 1, 2, ..., in an empty database that all of them make at the same time."""
    assert run_together((url, range(12), {}), (url, range(6, 18), {}), (url, range(17, -1, -1), {})) == [0, 0, 0]
    with Manifest.open(url) as opened:
        found = opened.revisions("gefs", "20250101T00Z")
    assert [one.revision for one in found] == list(range(18))
    assert {one.content_hash for one in found} == {ref(content).content_hash for content in range(18)}


def test_a_kill_after_recording_leaves_the_revision(url: str):
    assert run_together((url, range(3), {"GIOMUA_FAULT": "manifest.recorded:2"})) == [-9]
    with Manifest.open(url) as opened:
        assert [one.ref for one in opened.revisions()] == [ref(0), ref(1)]
        again = opened.add_revision("gefs", "20250101T00Z", ref(1), available_time=NOON)
    assert again.revision == 1


def fork_with_a_connection(url: str) -> None:
    manifest = Manifest.open(url)
    manifest.add_revision("gefs", "k", ref(0), available_time=NOON)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            manifest.add_revision("gefs", "k", ref(1), available_time=NOON)
            status = 0
        finally:
            os._exit(status)
    for content in range(2, 10):
        manifest.add_revision("gefs", "k", ref(content), available_time=NOON)
    assert os.waitpid(child, 0)[1] == 0
    assert {one.content_hash for one in manifest.revisions()} == {ref(content).content_hash for content in range(10)}


def test_a_forked_child_makes_its_own_connections(url: str):
    child = PROCESSES.Process(target=fork_with_a_connection, args=(url,))  # it has one thread, so that it may fork
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0


# Reconciliation


def test_what_was_published_but_not_recorded_is_found_and_so_is_what_is_gone(manifest: Manifest, tmp_path: Path):
    root = Root(str(tmp_path / "var"))
    data = {"": xr.Dataset({"temperature_2m": ((), np.float32(1.5))})}
    assert not reconcile(root, manifest)
    kept = root.write_store("archive/gefs", "20250101T00Z", data)
    lost = root.write_store("archive/observations/synop", "202501", data)
    unknown = root.write_store("published", "20250101T00Z", data, revision="r0")
    manifest.add_revision("gefs", "20250101T00Z", kept, available_time=NOON)
    gone = manifest.add_revision("synop", "202501", lost, available_time=NOON)
    root.delete_store(lost.path)
    found = reconcile(root, manifest)
    assert found
    assert found.unrecorded == (unknown.path,)
    assert found.gone == (gone,)


# Refusals


def test_what_is_said_of_a_revision_can_be_amended_and_nothing_else(manifest: Manifest):
    first = manifest.add_revision("d", "k", StoreRef("p0", "0" * 64), available_time=NOON, complete=False, details={"missing": ["a"]})
    other = manifest.add_revision("d", "k", StoreRef("p1", "1" * 64), available_time=NOON, details={"missing": []})
    amended = manifest.amend(first, {"missing": ["a", "withdrawn"]})
    assert manifest.revisions("d") == [amended, other]
    assert amended.details == {"missing": ["a", "withdrawn"]}
    assert (amended.content_hash, amended.complete, amended.revision) == (first.content_hash, False, 0)


def test_details_and_times_that_cannot_be_kept_are_refused(manifest: Manifest):
    for details in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(ManifestError, match="no JSON form"):
            manifest.add_revision("gefs", "k", ref(1), available_time=NOON, details=details)
    with pytest.raises(ManifestError, match="available_time of gefs k is NaT"):
        manifest.add_revision("gefs", "k", ref(1), available_time=np.datetime64("NaT"))
    with pytest.raises(ManifestError, match="no snapshot 'abc'"):
        manifest.snapshot("abc")
    assert manifest.revisions() == []


def test_a_newer_schema_is_refused(url: str):
    with Manifest.open(url) as opened, opened._engine.begin() as connection:
        connection.execute(sa.text("UPDATE schema_version SET version = 99"))
    with pytest.raises(ManifestError, match=r"schema version 99, this Giómua reads 1; install a newer"):
        Manifest.open(url)


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path):
    (tmp_path / "manifest.db").write_bytes(b"<html>" * 1000)
    with pytest.raises(ManifestError, match="the file is damaged"):
        Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}")
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="cannot be made"):
        Manifest.open(f"sqlite:///{tmp_path / 'file' / 'state' / 'manifest.db'}")


def test_a_locked_database_is_said_to_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "manifest.db"
    with Manifest.open(f"sqlite:///{path}") as opened:
        holder = sqlite3.connect(path)
        holder.execute("BEGIN IMMEDIATE")
        assert opened.revisions() == []
        with pytest.raises(ManifestError, match="database is locked; another process has been writing"):
            opened.add_revision("gefs", "k", ref(1), available_time=NOON)
        holder.rollback()
        holder.close()
        assert opened.add_revision("gefs", "k", ref(1), available_time=NOON).revision == 0


def test_a_server_that_does_not_answer_is_said_without_its_password(tmp_path: Path):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(ManifestError, match="check the URL and that the database answers") as raised:
        Manifest.open(f"postgresql://giomua:secret@/x?host={tmp_path}")
    assert "secret" not in str(raised.value)
    for url in ("mysql://giomua:secret@host/x", "no url: secret"):
        with pytest.raises(ManifestError, match="give sqlite:///FILE or postgresql") as raised:
            Manifest.open(url)
        assert "secret" not in str(raised.value)
