"""Published cycles as a server reads them: always a whole one, whatever is published, broken or deleted meanwhile."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import StoreCorruptError, UnknownNameError
from data_catalog.store import Root, content_hash
from serving.api import cycles, stream
from serving.api.cycles import ArrayCache, Cycle, CycleGoneError, CycleName, NotKeptError, NotPublishedError, PublishedCycles
from tests.serving.served import INIT, LATITUDE, LEADS, LONGITUDE, MEMBERS, announce, groups, publish, serving
from tests.tiny import clean_environment

DAY = np.timedelta64(24, "h")
LIGHT = ("stations",)
GROUPS = groups(INIT, 0.0)


def store_of(folder: Path) -> PublishedCycles:
    return PublishedCycles(Root(str(folder)))


# --- one cycle -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cycle(published_root: Path) -> Cycle:
    return store_of(published_root).current()


def index(length: int) -> st.SearchStrategy[Any]:
    several = st.lists(st.integers(0, length - 1), max_size=4).map(lambda found: np.array(found, int))
    return st.one_of(st.integers(0, length - 1), st.slices(length), several)


@given(index(LEADS.size), index(LATITUDE.size), index(LONGITUDE.size), index(MEMBERS))
def test_a_read_is_what_xarray_reads(cycle: Cycle, lead: Any, row: Any, column: Any, member: Any) -> None:
    given_values = GROUPS["grid"].temperature_2m.variable
    expected = given_values.isel(lead_time=lead, latitude=row, longitude=column, ensemble_member=member)
    found = cycle.read("grid", "temperature_2m", lead_time=lead, latitude=row, longitude=column, ensemble_member=member)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected.values)


def test_a_cycle_says_what_it_is(cycle: Cycle) -> None:
    assert (cycle.id, cycle.init_time, cycle.simulated, len(cycle.content_hash)) == ("20250710T00Z.r0", INIT, True, 64)
    assert set(cycle.groups) == set(GROUPS)
    with pytest.raises(UnknownNameError, match="it has daily, grid"):
        cycle.dataset("nothing")
    with pytest.raises(UnknownNameError, match="precipitation_amount"):
        cycle.read("grid", "nothing")
    with pytest.raises(ValueError, match="read-only"):
        cycle.read("grid", "temperature_2m", latitude=0, longitude=0)[0, 0] = 1


@pytest.mark.parametrize("href", ["20250101T00Z.r0.zarr", "x", "20250101T00Z.r0.0123456789AB.zarr", "a/20250101T00Z.r0.0123456789ab.zarr"])
def test_a_name_is_a_name(href: str) -> None:
    with pytest.raises(StoreCorruptError, match="expected 20250101T00Z"):
        CycleName.parse(href)


def test_names_are_ordered_by_time_then_revision() -> None:
    ids = ("20250102T00Z.r0", "20250101T12Z.r10", "20250101T12Z.r9")
    names = [CycleName.parse(f"{cycle_id}.0123456789ab.zarr") for cycle_id in ids]
    assert sorted(names, reverse=True) == names


def test_the_cache_is_bounded_and_loads_once() -> None:
    cache = ArrayCache(1000)
    for number in range(20):
        cache.get(number, lambda: np.zeros(50))
        assert cache.bytes <= 1000
    assert cache.peek(0) is None
    assert cache.peek(19) is not None
    loads = []

    def load() -> np.ndarray:
        loads.append(1)
        time.sleep(0.05)
        return np.ones(3)

    threads = [threading.Thread(target=cache.get, args=("slow", load)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    with pytest.raises(ZeroDivisionError):
        cache.get("broken", lambda: np.array(1 // 0))
    assert cache.get("broken", lambda: np.ones(1))[0] == 1


# --- the newest one --------------------------------------------------------------------------------------------------------------


def test_nothing_published_says_what_to_do(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    with pytest.raises(NotPublishedError, match="giomua run"):
        store.current()
    publish(tmp_path, whole=False, only=LIGHT)
    store.refresh()
    with pytest.raises(NotPublishedError):
        store.current()
    assert store.names() == ()


def test_it_moves_on_when_latest_does_and_not_before(tmp_path: Path) -> None:
    publish(tmp_path, only=LIGHT)
    store = store_of(tmp_path)
    held = store.current()
    generation = store.generation
    publish(tmp_path, INIT + DAY, mark=1.0, only=LIGHT, whole=False)
    assert not store.refresh()
    assert [name.id for name in store.names()] == ["20250710T00Z.r0"]
    publish(tmp_path, INIT + DAY, mark=1.0, only=LIGHT)
    assert store.refresh()
    assert store.generation > generation
    assert store.current().id == "20250711T00Z.r0"
    assert [name.id for name in store.names()] == ["20250711T00Z.r0", "20250710T00Z.r0"]
    assert store.cycle("20250710T00Z").id == held.id
    np.testing.assert_allclose(held.read("stations", "temperature_2m").mean(), 0, atol=1)
    with pytest.raises(UnknownNameError):
        store.cycle("20250712T00Z.r0")


def chunks(folder: Path, href: str) -> list[Path]:
    """Files of values of temperature."""
    found = (folder / "published" / href / "stations" / "temperature_2m" / "c").rglob("*")
    return [path for path in found if path.is_file()]


def test_what_was_read_of_the_last_cycle_is_ready_in_the_next(tmp_path: Path) -> None:
    publish(tmp_path, only=LIGHT)
    store = store_of(tmp_path)
    store.current().read("stations", "temperature_2m", station=1)
    publish(tmp_path, INIT + DAY, mark=1.0, only=LIGHT)
    store.refresh()
    with store.cache.memory_only():
        assert store.current().read("stations", "temperature_2m", station=1).shape == (LEADS.size, MEMBERS)
        with pytest.raises(NotKeptError):
            store.current().read("stations", "precipitation_amount", station=1)
    assert store.current().read("stations", "precipitation_amount", station=1).shape == (LEADS.size, MEMBERS)


def flip(folder: Path, href: str) -> None:
    (file,) = chunks(folder, href)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove_chunk(folder: Path, href: str) -> None:
    chunks(folder, href)[0].unlink()


def empty_metadata(folder: Path, href: str) -> None:
    (folder / "published" / href / "zarr.json").write_text("{}")


def remove_store(folder: Path, href: str) -> None:
    shutil.rmtree(folder / "published" / href)


def latest(text: str) -> Callable[[Path, str], None]:
    return lambda folder, href: (folder / "published" / "latest.json").write_text(text) and None


BREAKS = [
    flip, remove_chunk, empty_metadata, remove_store, latest("{"), latest("[]"), latest('{"href": "../../etc"}'),
    latest('{"href": "20990101T00Z.r0.0123456789ab.zarr"}'),
]


@pytest.mark.parametrize("broken", BREAKS, ids=["bit", "chunk", "metadata", "store", "half", "list", "elsewhere", "dangling"])
def test_a_broken_newest_cycle_is_survived_and_so_is_a_restart(tmp_path: Path, broken: Callable[[Path, str], None]) -> None:
    publish(tmp_path, only=LIGHT)
    running = store_of(tmp_path)
    good = running.current()
    ref = publish(tmp_path, INIT + DAY, mark=100.0, only=LIGHT)
    href = ref.path.removeprefix("published/")
    kept = json.loads((tmp_path / "published" / "latest.json").read_text())
    shutil.copytree(tmp_path / ref.path, tmp_path / "kept")
    broken(tmp_path, href)
    running.refresh()
    assert running.current() is good
    assert running.problem
    assert str(tmp_path) not in running.problem
    restarted = store_of(tmp_path)
    whole = restarted.current()
    assert restarted.problem
    if "latest" in broken.__qualname__:
        assert whole.id in ("20250710T00Z.r0", "20250711T00Z.r0")  # without a pointer, the newest store that is whole
    else:
        assert whole.id == "20250710T00Z.r0"
        assert [name.id for name in restarted.names()] == ["20250710T00Z.r0"]
    shutil.rmtree(tmp_path / ref.path, ignore_errors=True)  # the operator restores it
    shutil.move(tmp_path / "kept", tmp_path / ref.path)
    (tmp_path / "published" / "latest.json").write_text(json.dumps(kept))
    running._failed.clear()  # a minute later
    running.refresh()
    assert running.current().id == "20250711T00Z.r0"
    assert running.problem is None


def test_a_store_that_goes_while_it_is_read_is_never_read_as_missing_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, only=LIGHT)
    ref = publish(tmp_path, INIT + DAY, mark=100.0, only=LIGHT)
    store = store_of(tmp_path)
    newest = store.current()
    shutil.rmtree(tmp_path / ref.path)
    with pytest.raises(CycleGoneError):
        newest.read("stations", "temperature_2m")
    assert abs(store.serve(lambda cycle: float(cycle.read("stations", "temperature_2m").mean()))) < 10
    assert store.current().id == "20250710T00Z.r0"


def test_damage_after_the_check_falls_back(tmp_path: Path) -> None:
    publish(tmp_path, only=LIGHT)
    ref = publish(tmp_path, INIT + DAY, mark=100.0, only=LIGHT)
    store = store_of(tmp_path)
    assert store.current().id == "20250711T00Z.r0"
    flip(tmp_path, ref.path.removeprefix("published/"))
    for variable in ("temperature_2m", "precipitation_amount"):
        assert abs(store.serve(lambda cycle, name=variable: float(np.nanmean(cycle.read("stations", name))))) % 100 < 10
    assert store.problem or store.current().id == "20250711T00Z.r0"


def test_an_operator_can_turn_back(tmp_path: Path) -> None:
    publish(tmp_path, only=LIGHT)
    first = (tmp_path / "published" / "latest.json").read_text()
    publish(tmp_path, INIT + DAY, mark=1.0, only=LIGHT)
    store = store_of(tmp_path)
    assert store.current().id == "20250711T00Z.r0"
    (tmp_path / "published" / "latest.json").write_text(first)
    assert store.refresh()
    assert store.current().id == "20250710T00Z.r0"


# --- many readers, many publications ---------------------------------------------------------------------------------------------


def another(folder: Path, template: Path, number: int) -> str:
    """Publish a copy of a store for a later day with other values, far faster than it is written anew; its href."""
    staged = folder / f"staged{number}"
    shutil.copytree(template, staged)
    days = number * 86400
    group = zarr.open_group(staged / "stations", mode="r+")
    for name, shift in (("temperature_2m", 100.0 * number), ("valid_time", days), ("init_time", days)):
        array: Any = group[name]
        array[...] = array[...] + shift
    digests = {
        path.relative_to(staged).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in staged.rglob("*") if path.is_file()
    }
    digest = content_hash(digests)
    init_time = INIT + number * DAY
    href = f"{np.datetime_as_string(init_time, 'D').replace('-', '')}T00Z.r0.{digest[:12]}.zarr"
    staged.rename(folder / "published" / href)
    with mock.patch("data_catalog.files._sync"):
        announce(Root(str(folder)), init_time, 0, href, digest)
    return href


def test_every_answer_of_thousands_comes_whole_from_one_of_a_hundred_cycles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cycle's values lie around its own mark, so an answer that mixes two is seen; old cycles are deleted meanwhile."""
    monkeypatch.setattr(stream, "LOCAL_SECONDS", 0.01)
    monkeypatch.setattr(cycles, "RELIST_SECONDS", 0.0)
    publications = 100
    marks = {f"{np.datetime_as_string(INIT + n * DAY, 'D').replace('-', '')}T00Z.r0": 100.0 * n for n in range(publications)}
    first = publish(tmp_path, INIT, mark=0.0, only=LIGHT)
    template = shutil.copytree(tmp_path / first.path, tmp_path / "template")
    hrefs = [first.path.removeprefix("published/")]
    root = Root(str(tmp_path))
    reads: list[str] = []
    wrong: list[str] = []
    done = threading.Event()

    def read(port: int, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        turn = 0
        while not done.is_set():
            turn += 1
            member = (turn + number) % MEMBERS
            form = ("CoverageJSON", "CSV")[turn % 2]
            path = ("position?coords=POINT(105.8%2021.02)&", "locations/hai_phong?", "cube?bbox=105,20,107,22&")[turn % 3]
            connection.request("GET", f"/edr/collections/stations/{path}parameter-name=temperature_2m&realization={member}&f={form}")
            answer = connection.getresponse()
            body = answer.read().decode()
            came = answer.headers.get("giomua-cycle", "")
            if answer.status != 200:
                wrong.append(f"{answer.status} {body[:200]}")
                continue
            if form == "CSV":
                found = [float(line.rpartition(",")[2]) for line in body.splitlines()[1:]]
            else:
                document = json.loads(body)
                parts = document.get("coverages", [document])
                found = [value for part in parts for value in part["ranges"]["temperature_2m"]["values"]]
                if document["giomua:cycle"] != came:
                    wrong.append(f"{came} says it is {document['giomua:cycle']}")
            if not all(abs(value - marks[came]) < 20 for value in found):
                wrong.append(f"{came}: {found[:5]}")
            reads.append(came)
        connection.close()

    with serving(tmp_path) as client:
        readers = [threading.Thread(target=read, args=(client.port, number)) for number in range(4)]
        for reader in readers:
            reader.start()
        for number in range(1, publications):
            hrefs.append(another(tmp_path, template, number))
            if number >= 5:
                root.delete_store(f"published/{hrefs[number - 5]}")
            until = len(reads) + 10
            while len(reads) < until and not wrong:
                time.sleep(0.001)
        deadline = time.monotonic() + 60
        while len(reads) < 2000 or reads[-1] != max(marks):
            assert time.monotonic() < deadline, (len(reads), reads[-1:])
            time.sleep(0.01)
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert len(reads) >= 2000
    assert len(set(reads)) > publications / 3


FULL = """
import resource, sys
import numpy as np
from data_catalog.errors import StoreError
from tests.serving.served import INIT, publish
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    publish(sys.argv[1], INIT + np.timedelta64(24, "h"), mark=1.0, only=("stations",))
except StoreError as error:
    print(error)
    raise SystemExit(3)
"""


def test_a_full_disk_leaves_the_readers_what_they_had(tmp_path: Path) -> None:
    publish(tmp_path, only=LIGHT)
    with serving(tmp_path) as client:
        command = [sys.executable, "-c", FULL, str(tmp_path)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 3, done.stderr
        assert "space" in done.stdout
        assert client.ask("/ready").json()["cycle"]["id"] == "20250710T00Z.r0"
        assert client.ask("/edr/collections/stations/locations/lang").status == 200


def test_a_killed_server_comes_back_to_the_same_cycle(tmp_path: Path) -> None:
    publish(tmp_path, only=LIGHT)
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--root", str(tmp_path), "--port", "0", "--json"]
    answers = []
    for _ in range(2):
        running = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        try:
            text = ""
            while not text.rstrip().endswith("}"):
                line = running.stdout.readline()
                assert line, "the server ended before it said where it is"
                text += line
            port = int(json.loads(text)["url"].rpartition(":")[2])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/edr/collections/stations/locations/lang?realization=0")
            answers.append(connection.getresponse().read())
            connection.close()
        finally:
            os.kill(running.pid, 9)
            running.wait()
            running.stdout.close()
    assert answers[0] == answers[1]
    assert b"20250710T00Z.r0" in answers[0]


def test_the_root_in_an_object_store_is_served_alike(tmp_path: Path) -> None:
    """Without a network: the same code on obstore's memory store, which only this process sees."""
    root = Root("memory://")
    data = GROUPS["stations"]
    ref = root.write_store("published", "20250710T00Z", {"stations": data}, {"simulated": True}, revision="r0")
    root.write_json("published/latest.json", {"href": ref.path.removeprefix("published/")})
    store = PublishedCycles(root)
    np.testing.assert_array_equal(store.current().read("stations", "temperature_2m", station=1), data.temperature_2m[:, 1].values)
    root.delete_store(ref.path)
    store.refresh()
    with pytest.raises(NotPublishedError):
        store.current()
    assert isinstance(data, xr.Dataset)
