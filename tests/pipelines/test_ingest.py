"""From GRIB to the archive: nothing lost, nothing twice, nothing believed that should not be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import ConfigurationError, NotAvailableError, SourceError
from data_catalog.manifest import Manifest
from data_catalog.regions import load_region
from data_catalog.sources.base import FieldKey, GridSource, GridSpec, Host, Plan, Span, Transport
from data_catalog.store import Root
from pipelines.ingest import import_files, ingest_cycle
from tests.data_catalog.grib_maker import APCP, ECMWF_TP, TEMPERATURE, message, weather, write

REGION = load_region()
INIT = np.datetime64("2025-08-01T00", "ns")
KEY = "20250801T00Z"
NOW = np.datetime64("2025-08-01T06", "ns")
RAIN = "precipitation_amount"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as opened:
        yield opened


@pytest.fixture
def bring(root: Root, manifest: Manifest) -> Callable:
    def run(*files: Path, **how):
        return import_files(root, manifest, REGION, files, workers=1, available_time=NOW, **how)

    return run


def hours(dataset) -> list[float]:
    return [float(lead / np.timedelta64(1, "h")) for lead in dataset.lead_time.values]


def bounds(dataset, name: str = "lead_time_bounds") -> list[list[float]]:
    return (dataset[name].values / np.timedelta64(1, "h")).tolist()


# --- import ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_two_complete_gfs_files(real_data, bring, root, manifest):
    report = bring(*sorted((real_data / "grib" / "ncep").glob("gfs_2011*.grib2")))
    assert (len(report.taken), len(report.skipped), len(report.quarantined)) == (26, 661, 0)
    assert {row.message for row in (*report.taken, *report.skipped) if "20110110" in row.file} == set(range(1, 308))
    revision = manifest.latest("noaa-gfs-2p50", "20110110T12Z")
    opened = root.open_store(revision.path)
    assert opened.temperature_2m.dims == ("lead_time", "ensemble_member", "latitude", "longitude")
    near = opened.temperature_2m.sel(latitude=20, longitude=105, lead_time=np.timedelta64(120, "h"), ensemble_member=0)
    assert float(near) + 273.15 == pytest.approx(284.48, abs=0.005)
    assert bounds(opened) == [[114.0, 120.0]]
    assert opened.init_time.values == np.datetime64("2011-01-10T12")
    plain = json.loads(json.dumps(report.as_json()))
    assert set(plain) == {"taken", "skipped", "quarantined"}
    row = next(row for row in plain["taken"] if row["variable"] == "temperature_2m" and "20110110" in row["file"])
    assert {name: row[name] for name in ("dataset", "init_time", "lead_time", "member", "store")} == {
        "dataset": "noaa-gfs-2p50", "init_time": "2011-01-10T12:00:00Z", "lead_time": 120.0, "member": 0, "store": revision.path,
    }    # fmt: skip
    assert all(row["reason"] and set(row) == {"file", "message", "part", "reason"} for row in plain["skipped"])


@pytest.mark.real_data
def test_every_real_file_ends_without_a_crash(real_data, bring, manifest):
    files = sorted(path for path in (real_data / "grib").rglob("*") if path.is_file())
    report = bring(*files)
    told = {row.file for row in (*report.taken, *report.skipped, *report.quarantined)}
    assert told == {str(path) for path in files}
    bad = {Path(row.file).name for row in report.quarantined}
    assert bad == {path.name for path in files if path.suffix in (".idx", ".index")} | {"era5-levels-corrupted.grib"}
    again = bring(*files)
    assert [row.store for row in again.taken] == [row.store for row in report.taken]
    assert all(revision.revision == 0 for revision in manifest.revisions()), "the same files again are no new revision"


def test_damaged_files_go_to_quarantine_and_the_good_messages_do_not(bring, root, manifest, tmp_path):
    good = [message(weather(seed), interval=lead, **TEMPERATURE) for seed, lead in enumerate((0, 6))]
    kelvin = message(weather(5, mean=700.0), interval=12, **TEMPERATURE)
    partly = write(tmp_path / "partly bad.grib2", good[0], good[1][:-4] + b"7778", kelvin)
    html = write(tmp_path / "error.grib2", b"<html>busy</html>")
    empty = write(tmp_path / "empty.grib2")
    cut = write(tmp_path / "cut.grib2", good[1][:200])
    report = bring(partly, html, empty, cut)
    assert [(row.message, row.lead_time) for row in report.taken] == [(1, 0.0)]
    reasons = {(Path(row.file).name, row.message): row.reason for row in report.quarantined}
    assert "7777" in reasons["partly bad.grib2", 2]
    assert "outside the believable" in reasons["partly bad.grib2", 3]
    assert "HTML" in reasons["error.grib2", 0]
    assert "empty" in reasons["empty.grib2", 0]
    assert "octets" in reasons["cut.grib2", 1]
    for row in report.quarantined:
        assert root.read_bytes(row.kept) == Path(row.file).read_bytes(), "kept whole"
    assert len(manifest.quarantined()) == 5
    recorded = manifest.messages(sha256=hashlib.sha256(partly.read_bytes()).hexdigest())
    assert {row.message: row.status for row in recorded} == {1: "taken", 2: "quarantined", 3: "quarantined"}


def test_a_later_file_of_the_same_cycle_is_merged(bring, root, manifest, tmp_path):
    first = write(tmp_path / "f006", *(message(weather(1 + number), interval=6, member=number, **TEMPERATURE) for number in (0, 1)))
    second = write(tmp_path / "f012", message(weather(3), interval=12, member=1, **TEMPERATURE))
    bring(first)
    bring(second)
    revision = manifest.latest("noaa-gefs-1p00", KEY)
    merged = root.open_store(revision.path).load()
    assert revision.revision == 1
    assert hours(merged) == [6.0, 12.0]
    assert merged.ensemble_member.values.tolist() == [0, 1]
    there = merged.temperature_2m.notnull().all(["latitude", "longitude"]).values
    assert there.tolist() == [[True, True], [False, True]], "nothing lost, nothing invented"
    other_order = Root(f"{root.url}-other")
    with Manifest.open("sqlite://") as book:
        import_files(other_order, book, REGION, [second, first], workers=1, available_time=NOW)
        assert book.latest("noaa-gefs-1p00", KEY).content_hash == revision.content_hash, "the order of arrival does not matter"


def test_totals_from_the_start_become_amounts(bring, root, manifest, tmp_path):
    by_step = [weather(seed, mean=0.004, spread=0.003) for seed in range(3)]
    running = np.cumsum(by_step, axis=0)
    totals = [message(running[at], interval=(0, lead), statistic=1, **ECMWF_TP) for at, lead in enumerate((3, 6, 12))]
    zero = message(np.zeros_like(by_step[0]), interval=(0, 0), statistic=1, **ECMWF_TP)
    report = bring(write(tmp_path / "tp", zero, *totals))
    assert [row.reason for row in report.skipped] == ["an interval of no length: precipitation_amount at the start of the forecast"]
    opened = root.open_store(manifest.latest("ecmwf-ifs-hres-1p00", KEY).path).load()
    assert bounds(opened) == [[0.0, 3.0], [3.0, 6.0], [6.0, 12.0]]
    expected = np.stack(by_step)[:, 3:9, 2:11] * 1000.0
    np.testing.assert_allclose(opened[RAIN].values[:, 0], expected, atol=2 * opened[RAIN].attrs["packing_step"])
    late = message(running[1] + 0.4 * by_step[2], interval=(0, 9), statistic=1, **ECMWF_TP)
    bring(write(tmp_path / "late", late))
    opened = root.open_store(manifest.latest("ecmwf-ifs-hres-1p00", KEY).path).load()
    assert bounds(opened) == [[0.0, 3.0], [3.0, 6.0], [6.0, 9.0], [9.0, 12.0]]
    np.testing.assert_allclose(opened[RAIN].values[2:].sum(axis=0)[0], expected[2], atol=4 * opened[RAIN].attrs["packing_step"])


def test_extremes_with_other_intervals_have_bounds_of_their_own(bring, root, manifest, tmp_path):
    rain = [message(weather(lead, mean=3.0, spread=1.0), interval=(lead - 3, lead), statistic=1, **APCP) for lead in (3, 6)]
    warmest = message(weather(9), interval=(0, 6), statistic=2, **TEMPERATURE)
    bring(write(tmp_path / "mixed", *rain, warmest))
    opened = root.open_store(manifest.latest("noaa-gfs-1p00", KEY).path).load()
    assert bounds(opened) == [[0.0, 3.0], [3.0, 6.0]]
    assert bounds(opened, "temperature_2m_max_bounds")[1] == [0.0, 6.0]
    assert opened.temperature_2m_max.attrs["cell_methods"] == "time: maximum"


def test_two_grids_are_two_datasets_and_cannot_be_forced_into_one(bring, manifest, tmp_path):
    coarse = write(tmp_path / "coarse", message(weather(1), **TEMPERATURE))
    fine = write(tmp_path / "fine", message(weather(1, step=0.5), step=0.5, **TEMPERATURE))
    bring(coarse, fine)
    assert manifest.datasets() == ["noaa-gfs-0p50", "noaa-gfs-1p00"]
    with pytest.raises(ConfigurationError, match="one grid, found 2025-08-01T00:00:00 on 0p50, 1p00"):
        bring(coarse, fine, dataset="mine")


def test_the_same_field_twice(bring, tmp_path):
    one, other = (message(weather(seed), **TEMPERATURE) for seed in (1, 2))
    report = bring(write(tmp_path / "a", one), write(tmp_path / "b", one), write(tmp_path / "c", other))
    assert [Path(row.file).name for row in report.taken] == ["a"]
    assert [Path(row.file).name for row in report.skipped] == ["b"]
    assert [Path(row.file).name for row in report.quarantined] == ["c"]
    assert "says it is the same one" in report.quarantined[0].reason


def test_unknown_variables_on_request(bring, root, manifest, tmp_path):
    aloft = TEMPERATURE | {"typeOfFirstFixedSurface": 100, "scaledValueOfFirstFixedSurface": 50000}
    path = write(tmp_path / "t500", message(weather(1, mean=268.0), interval=6, **aloft))
    assert bring(path).taken == ()
    bring(path, keep_unknown=True)
    opened = root.open_store(manifest.latest("noaa-gfs-1p00", KEY).path)
    assert opened["t_isobaricInhPa_500"].attrs["units"] == "K"


# --- ingest ------------------------------------------------------------------------------------------------------------------------


@dataclass
class Provider:
    """A provider of one cycle: what its index lists, and its octets; tests damage either."""

    leads: tuple[int, ...] = (3, 6, 9)
    members: int = 3
    files: dict[str, bytes] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    reads: int = 0
    listed: set[str] | None = None

    def __post_init__(self) -> None:
        for key in self.expected(INIT):
            self.files[self.url(key)] = self.encode(key)

    @staticmethod
    def url(key: FieldKey) -> str:
        return f"{key.variable}-{key.lead_hours:03d}-{key.member}"

    def encode(self, key: FieldKey) -> bytes:
        seed = 100 * key.member + key.lead_hours
        if key.variable == RAIN:
            total = sum(weather(100 * key.member + lead, mean=0.004, spread=0.003) for lead in self.leads if lead <= key.lead_hours)
            return message(total, interval=(0, key.lead_hours), statistic=1, member=key.member, **ECMWF_TP)
        return message(weather(seed), interval=key.lead_hours, member=key.member, centre=98, **TEMPERATURE)

    @property
    def spec(self) -> GridSpec:
        variables = ("temperature_2m", RAIN)
        return GridSpec(
            "test-model-1p00", "A test", (Host("memory"),), (0,), 4.0, self.leads, self.members, variables, grid="1p00", simulated=True
        )

    def expected(self, init_time: np.datetime64) -> frozenset[FieldKey]:
        variables = ("temperature_2m", RAIN)
        return frozenset(FieldKey(name, lead, member) for name in variables for lead in self.leads for member in range(self.members))

    def plan(self, init_time: np.datetime64, transport: Transport) -> Plan:
        if init_time != INIT:
            raise NotAvailableError("not yet")
        listed = [key for key in sorted(self.expected(init_time)) if self.listed is None or self.url(key) in self.listed]
        missing = tuple((key, "the index does not list it") for key in sorted(self.expected(init_time) - set(listed)))
        return Plan(init_time, tuple(Span(key, self.url(key), 0, len(self.files[self.url(key)])) for key in listed), missing)

    def probe(self, init_time: np.datetime64, transport: Transport) -> str:
        return "there"

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        self.reads += 1
        if url in self.broken:
            raise SourceError(f"{url} timed out five times")
        return self.files[url][start:stop]


@pytest.fixture
def ingest(root: Root, manifest: Manifest) -> Callable:
    def run(provider: Provider):
        return ingest_cycle(root, manifest, REGION, provider, provider, INIT, available_time=NOW, workers=1)

    return run


def test_a_complete_cycle_and_the_same_one_again(ingest, root, manifest):
    provider = Provider()
    assert isinstance(provider, GridSource)
    assert isinstance(provider, Transport)
    report = ingest(provider)
    assert report.revision.complete
    assert len(report.taken) == 18
    assert (report.missing, report.quarantined) == ((), ())
    opened = root.open_store(report.revision.path).load()
    assert bounds(opened) == [[0.0, 3.0], [3.0, 6.0], [6.0, 9.0]]
    assert opened.attrs["simulated"] is True
    reads = provider.reads
    again = ingest(provider)
    assert again.revision == report.revision
    assert provider.reads == reads, "nothing is fetched twice"
    assert {row.status for row in manifest.messages("test-model-1p00")} == {"taken"}


def test_a_partial_cycle_is_stored_and_completed_later(ingest):
    provider = Provider()
    late = {provider.url(key) for key in provider.expected(INIT) if key.lead_hours == 9}
    provider.listed = set(provider.files) - late
    broken = provider.url(FieldKey("temperature_2m", 6, 1))
    provider.broken = {broken}
    first = ingest(provider)
    assert not first.revision.complete
    assert len(first.missing) == 7
    assert dict(first.missing)[FieldKey("temperature_2m", 6, 1)] == f"{broken} timed out five times"
    assert dict(first.missing)[FieldKey(RAIN, 9, 0)] == "the index does not list it"
    assert len(first.revision.details["missing"]) == 7
    unchanged = ingest(provider)
    assert unchanged.revision == first.revision
    provider.listed, provider.broken = None, set()
    last = ingest(provider)
    assert last.revision.revision == 1
    assert last.revision.complete
    assert last.missing == ()


def test_late_fields_give_the_store_of_an_undisturbed_run(ingest, tmp_path):
    provider = Provider()
    provider.listed = {url for url in provider.files if "-006-" not in url}
    ingest(provider)
    provider.listed = None
    patched = ingest(provider)
    with Manifest.open("sqlite://") as book:
        whole = ingest_cycle(Root(str(tmp_path / "other")), book, REGION, Provider(), Provider(), INIT, available_time=NOW, workers=1)
    assert patched.revision.content_hash == whole.revision.content_hash


def test_bad_messages_are_quarantined_and_the_rest_is_taken(ingest, root):
    provider = Provider()
    places = {"cut": (3, 0), "other": (6, 1), "day": (9, 2)}
    keys = {name: FieldKey("temperature_2m", *place) for name, place in places.items()}
    url = {name: provider.url(key) for name, key in keys.items()}
    provider.files[url["cut"]] = provider.files[url["cut"]][:-20]
    provider.files[url["other"]] = provider.encode(FieldKey("temperature_2m", 6, 2))
    provider.files[url["day"]] = message(weather(7), interval=9, member=2, centre=98, date=20250731, **TEMPERATURE)
    report = ingest(provider)
    reasons = dict(report.missing)
    assert set(reasons) == {keys["cut"], keys["other"], keys["day"]}
    assert "only" in reasons[keys["cut"]]
    assert "the index says" in reasons[keys["other"]]
    assert "in the cycle of" in reasons[keys["day"]]
    assert len(report.quarantined) == 3
    assert all(root.exists(row.kept) for row in report.quarantined)
    assert len(report.taken) == 15
    plain = json.loads(json.dumps(report.as_json()))
    assert len(plain["missing"]) == 3


def test_a_total_that_falls_costs_its_neighbours_alone(ingest):
    provider = Provider(leads=(3, 6, 9, 12, 15, 18), members=1)
    url = provider.url(FieldKey(RAIN, 6, 0))
    provider.files[url] = message(weather(0, mean=0.5, spread=0.001), interval=(0, 6), statistic=1, member=0, **ECMWF_TP)
    report = ingest(provider)
    assert {key.lead_hours for key, _ in report.missing} == {6, 9, 12}
    assert "a running total falls by" in dict(report.missing)[FieldKey(RAIN, 9, 0)]
    assert ingest(provider).revision == report.revision, "the same again"


def test_nothing_at_all(ingest, root, manifest):
    provider = Provider()
    provider.broken = set(provider.files)
    report = ingest(provider)
    assert report.revision is None
    assert len(report.missing) == 18
    assert report.as_json()["store"] is None
    with pytest.raises(NotAvailableError):
        ingest_cycle(root, manifest, REGION, provider, provider, INIT + np.timedelta64(6, "h"), workers=1)
