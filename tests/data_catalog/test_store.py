"""Laws of the immutable store: whole or not there, the same content has the same hash, and it says what is wrong."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.errors import ConfigurationError, QualityError, StoreCorruptError, StoreError, StoreNotFoundError
from data_catalog.files import staging_folder
from data_catalog.settings import Settings
from data_catalog.store import Root, StoreRef, content_hash
from tests.s3 import make_bucket, serve_s3

REPOSITORY = Path(__file__).parents[2]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

Place = tuple[str, dict[str, str]]


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """Storage options of a real S3 server on the loopback interface."""
    yield from serve_s3()


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """URL and storage options of an empty root; what is staged for a remote one lies in ``tmp_path`` too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if request.param == "local":
        return str(tmp_path / "var"), {}
    options = request.getfixturevalue("s3")
    bucket = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    make_bucket(options, bucket)
    return f"s3://{bucket}/prefix", options


@pytest.fixture
def root(place: Place) -> Root:
    return Root(place[0], storage_options=place[1])


def left_behind(tmp_path: Path) -> list[Path]:
    """Whatever staging folders hold."""
    return [entry for parent in (tmp_path / "var" / ".staging", *tmp_path.glob("giomua-staging-*")) for entry in parent.glob("*")]


def forecast(number: int = 0, *, leads: int = 5, members: int = 4, latitudes: int = 9, longitudes: int = 10) -> xr.Dataset:
    """A small forecast whose every value says its number."""
    shape = (leads, members, latitudes, longitudes)
    noise = np.random.default_rng(number).standard_normal(shape)
    return xr.Dataset(
        {
            "temperature_2m": (("lead_time", "ensemble_member", "latitude", "longitude"), np.float32(noise + 20)),
            "number": (("lead_time", "latitude"), np.full((leads, latitudes), float(number))),
        },
        coords={
            "init_time": np.datetime64("2025-01-01T00", "ns"),
            "lead_time": np.arange(leads).astype("m8[h]").astype("m8[ns]"),
            "ensemble_member": np.arange(members),
            "latitude": 23 - 0.25 * np.arange(latitudes),
            "longitude": 102 + 0.25 * np.arange(longitudes),
        },
    )


# Children: functions that other processes run.


def write_numbers(place: Place, numbers: range, environment: Mapping[str, str], refs: Any = None) -> None:
    os.environ |= environment
    tempfile.tempdir = None
    root = Root(place[0], storage_options=place[1])
    made = [root.write_store("archive/gefs", f"n{number}", {"": forecast(number)}) for number in numbers]
    if refs is not None:
        refs.put(made)


def read_forecast(root: Root, path: str) -> None:
    assert_kept(forecast(), root.open_store(path))


def write_against_limit(place: Place, kind: str, messages: Any) -> None:
    Root("memory://").write_store("archive", "a", {"": forecast()})  # import everything first: the other user may not read libraries
    if kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    elif os.geteuid() == 0:
        os.setuid(65534)
    try:
        Root(place[0]).write_store("archive/gefs", "big", {"": forecast(1, leads=65, latitudes=19, longitudes=33)})
    except StoreError as error:
        messages.put(str(error))
    except BaseException as error:
        messages.put(repr(error))
        raise
    else:
        messages.put("written")


# Round trip


def _values(draw: st.DrawFn, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = rng.integers(-(10**9), 4 * 10**9, shape)
    holes = rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    if kind == "string":
        texts = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=4))
        return np.array(texts, dtype=np.dtypes.StringDType())[whole % len(texts)]
    if kind in ("float32", "float64"):
        return np.where(holes, np.nan, rng.standard_normal(shape) * 10.0 ** rng.integers(-5, 6)).astype(kind)
    if kind in ("M8[s]", "M8[ns]", "m8[s]", "m8[ns]"):
        times = whole.astype(f"{kind[0]}8[s]").astype(kind)
        times[holes] = "NaT"
        return times
    return (whole % 2).astype(kind)


@st.composite
def datasets(draw: st.DrawFn) -> xr.Dataset:
    """Any dataset of our vocabulary: all kinds of values over all kinds of dimensions, down to none and to length zero."""
    names = ["lead_time", "ensemble_member", "latitude", "longitude", "station", "quantile", "time"]
    sizes = {name: draw(st.integers(0, 10)) for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=4))}
    kinds = st.sampled_from(["float32", "float64", "int32", "int64", "bool", "string", "M8[s]", "M8[ns]", "m8[s]", "m8[ns]"])
    data = {}
    for name in draw(st.lists(st.sampled_from(["temperature_2m", "visibility", "note", "x_interval"]), unique=True, max_size=3)):
        dims = draw(st.permutations(sorted(sizes)))[: draw(st.integers(0, len(sizes)))]
        data[name] = (dims, _values(draw, draw(kinds), tuple(sizes[dim] for dim in dims)))
    coordinates: dict[str, Any] = {"init_time": np.datetime64("2025-01-01T06", "ns")}
    if "lead_time" in sizes:
        coordinates["lead_time"] = (3 * np.arange(sizes["lead_time"])).astype("m8[h]").astype("m8[ns]")
        ends = coordinates["lead_time"]
        data["lead_time_bounds"] = (("lead_time", "bounds"), np.stack([ends - np.timedelta64(3, "h"), ends], axis=-1))
    if "time" in sizes:
        coordinates["time"] = np.datetime64("1999-12-31", "s") + np.arange(sizes["time"]).astype("m8[h]")
        data["time_bounds"] = (("time", "bounds"), np.stack([coordinates["time"]] * 2, axis=-1))
    if "station" in sizes:
        coordinates["station"] = [f"Trạm {number}" for number in range(sizes["station"])]
    if "latitude" in sizes:
        coordinates["latitude"] = 23 - 0.1 * np.arange(sizes["latitude"])
    return xr.Dataset(data, coordinates, {"title": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)), "n": [1, 2.5]})


def assert_kept(given: xr.Dataset, found: xr.Dataset) -> None:
    assert set(found.variables) == set(given.variables)
    assert set(found.coords) == set(given.coords)
    for name, variable in given.variables.items():
        expected, stored = variable.values, found[name].values
        assert found[name].dims == variable.dims, name
        if expected.dtype.kind in "OUT":
            assert stored.dtype == np.dtypes.StringDType(), name
            expected = expected.astype(np.dtypes.StringDType())
        elif expected.dtype.kind in "mM":
            assert stored.dtype == f"{expected.dtype.kind}8[ns]" or (stored.size == 0 and stored.dtype.kind == expected.dtype.kind), name
        else:
            narrowed = expected.dtype == np.float64 and name not in given.coords
            expected = expected.astype("float32") if narrowed else expected
            assert stored.dtype == expected.dtype, name
        assert np.array_equal(stored, expected, equal_nan=expected.dtype.kind in "fmM"), name
    assert {key: found.attrs[key] for key in given.attrs} == given.attrs


@settings(max_examples=15)
@given(first=datasets(), second=datasets())
def test_plain_xarray_reads_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, first: xr.Dataset, second: xr.Dataset):
    root = Root(str(tmp_path_factory.mktemp("var")))
    ref = root.write_store("archive/x", "20250101T00Z", {"": first, "stations": second}, {"simulated": True})
    path = root.location(ref.path)
    assert_kept(first, xr.open_zarr(path))
    assert_kept(second, xr.open_zarr(path, group="stations", chunks=None))
    assert root.attributes(ref.path)["simulated"] is True
    assert root.verify(ref.path, ref.content_hash) == ref.content_hash
    for file in Path(path).rglob("zarr.json"):
        kind = json.loads(file.read_text()).get("data_type")
        assert kind is None or kind in ("string", "bool", "int32", "int64", "float32", "float64"), file


def test_a_store_of_the_memory_root_reads_back():
    root = Root("memory://")
    ref = root.write_store("archive/x", "a", {"g": forecast()})
    assert_kept(forecast(), root.open_store(ref.path, "g"))
    assert root.list_stores("archive/x") == [ref.path]
    assert root.list_folders("") == ["archive"]


def test_values_are_read_when_asked_for_and_without_dask(root: Root):
    ref = root.write_store("archive/gefs", "20250101T00Z", {"": forecast()})
    opened = root.open_store(ref.path)
    assert opened.chunks == {}
    assert not opened["temperature_2m"].variable._in_memory
    assert_kept(forecast(), opened)


def test_the_catalog_attributes_are_added_and_never_override(tmp_path: Path):
    root = Root(str(tmp_path))
    data = forecast()
    data["temperature_2m"].attrs = {"units": "K", "note": np.float32(1.5), "when": np.datetime64("2025-01-01")}
    data = data.assign(lead_time_bounds=(("lead_time", "bounds"), np.zeros((5, 2), "m8[ns]")))
    ref = root.write_store("archive/x", "a", {"": data})
    found = root.open_store(ref.path)
    attributes = found["temperature_2m"].attrs
    assert (attributes["units"], attributes["standard_name"], attributes["note"]) == ("K", "air_temperature", 1.5)
    assert attributes["when"] == "2025-01-01"
    assert found["latitude"].attrs["units"] == "degrees_north"
    assert found["lead_time"].attrs["bounds"] == "lead_time_bounds"
    assert found.attrs["Conventions"].startswith("CF-")
    raw = xr.open_zarr(root.location(ref.path), decode_times=False, decode_timedelta=False)
    assert raw["init_time"].attrs["units"] == "seconds since 1970-01-01"
    assert raw["init_time"].dtype == raw["lead_time"].dtype == np.int64


def test_chunks_are_small_in_space_whole_in_time_and_one_shard_a_variable(tmp_path: Path):
    root = Root(str(tmp_path))
    ref = root.write_store("archive/x", "a", {"": forecast(leads=65, latitudes=19, longitudes=33)})
    encoding = root.open_store(ref.path)["temperature_2m"].encoding
    assert encoding["chunks"] == (65, 4, 8, 8)
    assert encoding["shards"] == (65, 4, 24, 40)
    files = [path for path in root.list_files(ref.path) if "/temperature_2m/" in path]
    assert len(files) == 2, files
    other = root.write_store("archive/x", "b", {"": forecast(leads=65)}, chunks={"lead_time": 10}, shards={"lead_time": 25})
    encoding = root.open_store(other.path)["temperature_2m"].encoding
    assert encoding["chunks"] == (10, 4, 8, 8)
    assert encoding["shards"] == (30, 4, 16, 16)
    assert_kept(forecast(leads=65), root.open_store(other.path))


# Hash


def test_the_hash_depends_on_content_alone(root: Root):
    groups = {"grid": forecast(1), "stations": forecast(2)}
    ref = root.write_store("archive/x", "a", groups, {"simulated": True, "b": 1}, revision="r0")
    assert ref.path == f"archive/x/a.r0.{ref.content_hash[:12]}.zarr"
    backwards = {
        group: dataset[list(dataset)[::-1]].assign_attrs(dict(reversed(dataset.attrs.items())))
        for group, dataset in reversed(groups.items())
    }
    assert root.write_store("archive/x", "a", backwards, {"b": 1, "simulated": True}, revision="r0") == ref
    through = {group: root.open_store(ref.path, group) for group in groups}
    assert root.write_store("archive/x", "a", through, {"b": 1, "simulated": True}, revision="r0") == ref
    assert root.list_stores("archive/x") == [ref.path]


@given(change=st.sampled_from(["value", "nan", "attribute", "name", "coordinate", "dtype", "root"]), at=st.integers(0, 44))
@settings(max_examples=8)
def test_another_content_has_another_hash(tmp_path_factory: pytest.TempPathFactory, change: str, at: int):
    root = Root(str(tmp_path_factory.mktemp("var")))
    given, other = forecast(), forecast()
    if change in ("value", "nan"):
        other["number"].values.flat[at] = 1e-9 if change == "value" else np.nan
    elif change == "attribute":
        other["number"].attrs["units"] = "1"
    elif change == "name":
        other = other.rename(number="numbers")
    elif change == "coordinate":
        other["longitude"] = other["longitude"] + 1e-9
    elif change == "dtype":
        other["number"] = other["number"].astype("int32")
    attributes = {"simulated": True} if change == "root" else {}
    first = root.write_store("archive/x", "a", {"": given})
    assert root.write_store("archive/x", "a", {"": other}, attributes).content_hash != first.content_hash


def test_another_process_with_another_hash_seed_makes_the_same_bytes(tmp_path: Path):
    script = (
        "import sys\nfrom data_catalog.store import Root\nfrom tests.data_catalog.test_store import forecast\n"
        "big = forecast(3, leads=65, members=10, latitudes=19, longitudes=33).assign_coords(name=('ensemble_member', list('abcdefghij')))\n"
        "ref = Root(sys.argv[1]).write_store('archive/x', 'a', {'': big, 'g': big[['number']]}, {'b': 1, 'a': {'y': 1, 'x': 2}})\n"
        "print(ref.content_hash)"
    )
    found = []
    for seed, workers in (("1", "1"), ("77", "8")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "ZARR_THREADING__MAX_WORKERS": workers, "BLOSC_NTHREADS": workers}
        command = [sys.executable, "-c", script, str(tmp_path / seed)]
        found.append(subprocess.run(command, env=environment, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout)
    assert found[0] == found[1] != ""


def test_anyone_can_recompute_the_hash(tmp_path: Path):
    root = Root(str(tmp_path))
    ref = root.write_store("archive/x", "a", {"": forecast()})
    store = Path(root.location(ref.path))
    digests = {p.relative_to(store).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in store.rglob("*") if p.is_file()}
    assert content_hash(digests) == ref.content_hash
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not on this machine")
    documented = next(line for line in sys.modules["data_catalog.store"].__doc__.splitlines() if "sha256sum | sha256sum" in line)
    printed = subprocess.run(["bash", "-c", documented], cwd=store, check=True, capture_output=True, text=True).stdout
    assert printed.split()[0] == ref.content_hash


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Root, StoreRef]:
    root = Root(str(tmp_path_factory.mktemp("var")))
    return root, root.write_store("archive/x", "a", {"": forecast()})


@given(data=st.data())
@settings(max_examples=30)
def test_any_flipped_bit_is_found(published: tuple[Root, StoreRef], data: st.DataObject):
    root, ref = published
    file = Path(root.location(data.draw(st.sampled_from(root.list_files(ref.path)))))
    before = file.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(before) - 1))
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
    try:
        for expected in (None, ref.content_hash):
            with pytest.raises(StoreCorruptError, match=ref.content_hash[:12]):
                root.verify(ref.path, expected)
    finally:
        file.write_bytes(before)
    assert root.verify(ref.path) == ref.content_hash


@given(data=st.data())
@settings(max_examples=30)
def test_a_flipped_bit_of_data_is_an_error_and_never_a_value(published: tuple[Root, StoreRef], data: st.DataObject):
    root, ref = published
    before = root.open_store(ref.path).load()
    file = Path(root.location(data.draw(st.sampled_from([path for path in root.list_files(ref.path) if "/c" in path]))))
    content = file.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
    try:
        found = root.open_store(ref.path).load()
    except (ValueError, RuntimeError):
        return
    finally:
        file.write_bytes(content)
    assert found.identical(before)


def test_a_missing_or_added_file_is_found(root: Root):
    ref = root.write_store("archive/x", "a", {"": forecast()})
    root.write_bytes(f"{ref.path}/extra", b"")
    with pytest.raises(StoreCorruptError, match="delete it and make it again"):
        root.verify(ref.path)
    with pytest.raises(StoreCorruptError):
        root.write_store("archive/x", "a", {"": forecast()})


# Whole or not there


def test_a_reader_never_sees_a_part(place: Place):
    """While another process writes one store after the other, everything that can be listed can be read, whole."""
    root = Root(place[0], storage_options=place[1])
    numbers = range(6)
    writer = PROCESSES.Process(target=write_numbers, args=(place, numbers, {}))
    writer.start()
    seen: set[str] = set()
    while writer.is_alive() or len(seen) < len(numbers):
        found = root.list_stores("archive/gefs")
        assert writer.is_alive() or writer.exitcode == 0
        for path in sorted(set(found) - seen) or found[-1:]:
            number = int(Path(path).name.partition(".")[0].removeprefix("n"))
            assert_kept(forecast(number), root.open_store(path))
            root.verify(path)
        seen |= set(found)
    writer.join()
    assert len(seen) == len(numbers)


def test_two_writers_of_the_same_cycles_both_end_well(place: Place, tmp_path: Path):
    numbers = range(4)
    refs = PROCESSES.Queue()
    writers = [PROCESSES.Process(target=write_numbers, args=(place, numbers, {"TMPDIR": str(tmp_path)}, refs)) for _ in range(2)]
    for writer in writers:
        writer.start()
    first, second = refs.get(timeout=60), refs.get(timeout=60)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    root = Root(place[0], storage_options=place[1])
    assert first == second
    assert root.list_stores("archive/gefs") == sorted(ref.path for ref in first)
    for ref in first:
        root.verify(ref.path, ref.content_hash)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("point", ["store.staged", "store.checked", "store.published"])
def test_a_kill_leaves_a_whole_store_or_none(place: Place, tmp_path: Path, point: str):
    writer = PROCESSES.Process(target=write_numbers, args=(place, range(1), {"GIOMUA_FAULT": point, "TMPDIR": str(tmp_path)}))
    writer.start()
    writer.join()
    assert writer.exitcode == -9
    root = Root(place[0], storage_options=place[1])
    found = root.list_stores("archive/gefs")
    assert len(found) == (point == "store.published")
    if point != "store.published":
        assert left_behind(tmp_path) != []
    ref = root.write_store("archive/gefs", "n0", {"": forecast(0)})
    assert root.list_stores("archive/gefs") == [ref.path]
    assert not found or found == [ref.path]
    root.verify(ref.path, ref.content_hash)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_part_of_an_upload_is_not_seen_and_the_next_write_completes_it(place: Place):
    root = Root(place[0], storage_options=place[1])
    ref = root.write_store("archive/x", "a", {"": forecast()})
    files = {path: root.read_bytes(path) for path in root.list_files(ref.path)}
    root.delete_store(ref.path)
    for path, data in list(files.items())[:-3]:
        if path != f"{ref.path}/zarr.json":
            root.write_bytes(path, data)
    assert root.list_stores("archive/x") == []
    assert not root.exists(ref.path)
    with pytest.raises(StoreNotFoundError):
        root.open_store(ref.path)
    assert root.write_store("archive/x", "a", {"": forecast()}) == ref
    root.verify(ref.path, ref.content_hash)


def test_staging_of_the_living_is_left_alone(tmp_path: Path):
    with staging_folder(tmp_path) as mine:
        (mine / "half").write_text("written")
        with staging_folder(tmp_path) as other:
            assert other != mine
        assert (mine / "half").read_text() == "written"
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_while_a_file_is_replaced_is_the_old_or_the_new(root: Root):
    values = [{"n": number, "pad": "x" * 20_000} for number in range(30)]
    root.write_json("published/latest.json", values[0])
    done = threading.Event()

    def write() -> None:
        try:
            for value in values:
                root.write_json("published/latest.json", value)
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        assert root.read_json("published/latest.json") in values
    thread.join()
    assert root.read_json("published/latest.json") == values[-1]


# Refusals


def test_a_check_that_refuses_leaves_nothing(root: Root, tmp_path: Path):
    def refuse(groups: Mapping[str, xr.Dataset]) -> None:
        assert_kept(forecast(), groups["grid"])
        raise QualityError("The fields are not believable.")

    with pytest.raises(QualityError, match="not believable"):
        root.write_store("archive/x", "a", {"grid": forecast()}, check=refuse)
    assert root.list_stores("archive/x") == []
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(("kind", "advice"), [("full", "free some space"), ("forbidden", "the right to write")])
def test_a_disk_that_refuses_says_where_how_much_is_free_and_what_to_do(tmp_path: Path, kind: str, advice: str):
    folder = tmp_path / "var"
    folder.mkdir()
    if kind == "forbidden":
        folder.chmod(0o555)
    messages = PROCESSES.Queue()
    child = PROCESSES.Process(target=write_against_limit, args=((str(folder), {}), kind, messages))
    child.start()
    message = messages.get(timeout=60)
    child.join()
    assert str(folder) in message
    assert advice in message
    assert kind != "full" or "MB free" in message
    assert left_behind(tmp_path) == []
    assert Root(str(folder)).list_stores("archive/gefs") == []


def test_opening_says_what_there_is(root: Root):
    ref = root.write_store("archive/x", "a", {"grid": forecast(), "stations": xr.Dataset()}, {"simulated": True})
    assert root.groups(ref.path) == ["grid", "stations"]
    with pytest.raises(StoreError, match=r"no data in group 'members'; its groups are 'grid', 'stations'"):
        root.open_store(ref.path, "members")
    with pytest.raises(StoreError, match=r"no data in group ''; .* Root\.attributes"):
        root.open_store(ref.path)
    assert dict(root.open_store(ref.path, "stations").variables) == {}
    with pytest.raises(StoreNotFoundError, match=f"the folder has {Path(ref.path).name}"):
        root.open_store("archive/x/b.zarr")
    with pytest.raises(StoreNotFoundError, match="empty or not there"):
        root.verify("archive/y/b.zarr")
    root.delete_store(ref.path)
    assert not root.exists(ref.path)
    assert root.list_files("archive") == []
    with pytest.raises(StoreNotFoundError):
        root.delete_store(ref.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.assign(number=data["number"].astype(object)), "among its strings"),
        (lambda data: data.assign(number=data["number"] + 1j), "complex128"),
        (lambda data: data.assign(number=data["number"] + 1e300), "beyond float32"),
        (lambda data: data.assign_coords(lead_time=data["lead_time"] + np.timedelta64(1, "ms")), "whole seconds"),
        (lambda data: data.assign_attrs(limit=np.nan), "attribute 'limit'"),
        (lambda data: data.assign_attrs(limit=object()), "no JSON form"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(tmp_path: Path, change: Callable[[xr.Dataset], xr.Dataset], message: str):
    with pytest.raises(StoreError, match=message):
        Root(str(tmp_path)).write_store("archive/x", "a", {"": change(forecast())})


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "", "a/../b", "a/./b", ".staging/x", "a/.b", "a\nb", "a b"])
def test_paths_stay_inside_the_root(tmp_path: Path, path: str):
    root = Root(str(tmp_path))
    for use in (root.exists, root.open_store, root.read_bytes, root.list_stores, root.delete_store, root.location):
        with pytest.raises(StoreError, match="relative to the root"):
            use(path)
    with pytest.raises(StoreError, match="relative to the root"):
        root.write_bytes(path, b"")
    with pytest.raises(StoreError, match=r"relative to the root|without a slash"):
        root.write_store("archive", "a", {"": forecast(), path or "a/b": forecast()})


def test_json_is_stable_and_strict(root: Root):
    assert root.read_json("published/latest.json") is None
    root.write_json("published/latest.json", {"b": "Láng", "a": [1, None]})
    assert root.read_bytes("published/latest.json").decode() == '{\n  "a": [\n    1,\n    null\n  ],\n  "b": "Láng"\n}\n'
    with pytest.raises(StoreError, match="no JSON form"):
        root.write_json("published/latest.json", {"a": float("nan")})
    root.write_bytes("published/latest.json", b"{")
    with pytest.raises(StoreCorruptError, match="is not JSON"):
        root.read_json("published/latest.json")


def test_a_root_is_opened_by_every_kind_of_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Root("./var").url == Root(f"file://{tmp_path}/var").url == Root(str(tmp_path / "var")).url == str(tmp_path / "var")
    assert not Root("./var").is_remote
    assert Root.open(Settings(root="s3://bucket/prefix/", storage_options={"region": "us-east-1"})).url == "s3://bucket/prefix"
    assert Root("s3://bucket", storage_options={"region": "us-east-1"}).is_remote
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Root("nosuch://x")
    with pytest.raises(ConfigurationError, match="storage options"):
        Root("s3://bucket", storage_options={"no_such_option": "1"})
    assert not (tmp_path / "var").exists()


def test_a_bucket_that_is_not_there_is_an_error_in_one_sentence(s3: dict[str, str]):
    root = Root("s3://no-such-bucket/x", storage_options=s3)
    with pytest.raises(StoreError, match="check that the object store answers"):
        root.write_bytes("published/latest.json", b"{}")


def test_a_root_travels_to_another_process(root: Root):
    ref = root.write_store("archive/x", "a", {"": forecast()})
    child = PROCESSES.Process(target=read_forecast, args=(root, ref.path))
    child.start()
    child.join()
    assert child.exitcode == 0
