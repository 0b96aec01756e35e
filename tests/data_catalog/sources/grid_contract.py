"""What every source of GRIB files is tested on, against a server in its provider's layout: subclass, and give ``source``.

Whatever goes wrong at the provider, the rest of the cycle arrives, the reason is in the manifest, and the next attempt completes it as a
new revision that is, to the byte, the store of a cycle in which nothing went wrong.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.grib import DecodePool
from data_catalog.manifest import Manifest
from data_catalog.regions import load_region
from data_catalog.sources.base import FieldKey
from data_catalog.sources.gribfiles import GribSource
from data_catalog.sources.transport import HttpTransport
from data_catalog.store import Root
from pipelines.ingest import IngestReport, ingest_cycle
from tests.data_catalog.sources.provider import RAIN, UUID, Cycle, Server, cut, serving

REGION = load_region()
VARYING = ("temperature_2m", "dew_point_temperature_2m", "wind_u_10m", "wind_v_10m", "pressure_reduced_to_mean_sea_level")
NOW = np.datetime64("2030-01-01T00", "ns")


@lru_cache(maxsize=64)
def _cycle(source: GribSource, init_time: np.datetime64) -> Cycle:
    return Cycle(source, init_time)


def a_cycle(source: GribSource, init_time: np.datetime64) -> Cycle:
    """A cycle that a test may change; encoded once for all tests."""
    made = _cycle(source, init_time)
    return replace_messages(made, {url: list(messages) for url, messages in made.messages.items()})


def replace_messages(cycle: Cycle, messages: dict[str, list[tuple[FieldKey | None, bytes]]]) -> Cycle:
    """The same cycle with other messages, none of them encoded anew."""
    other = object.__new__(Cycle)
    other.__dict__ = cycle.__dict__ | {"messages": messages}
    return other


@dataclass
class Stage:
    """A provider, the root that its cycle goes to, and the field at which things go wrong: the last temperature."""

    cycle: Cycle
    server: Server
    root: Root
    manifest: Manifest
    pool: DecodePool

    @property
    def victim(self) -> FieldKey:
        """The last temperature of the last member."""
        return max(key for key in self.cycle.values if key.variable == "temperature_2m")

    @property
    def file(self) -> str:
        """Where it lies."""
        return self.cycle.place_of(self.victim)[0]

    @property
    def together(self) -> set[FieldKey]:
        """Everything in its file."""
        return {key for key, _ in self.cycle.messages[self.file] if key is not None}

    def ingest(self) -> IngestReport:
        """One attempt; patient where nothing is to go wrong, however busy the machine."""
        timeout = 0.25 if any("slow" in kind for kind in self.server.faults.values()) else 60.0
        transport = HttpTransport(self.server.url, timeout=timeout, attempts=2, sleep=lambda _: None)
        source = self.cycle.source
        report = ingest_cycle(self.root, self.manifest, REGION, source, transport, self.cycle.init_time, available_time=NOW, pool=self.pool)
        transport.close()
        return report

    def change(self, key: FieldKey, change: Callable[[Cycle, FieldKey, bytes], bytes]) -> None:
        """Another message in the place of a field's."""
        url, at = self.cycle.place_of(key)
        own, octets = self.cycle.messages[url][at]
        self.cycle.messages[url][at] = own, change(self.cycle, key, octets)

    def heal(self) -> None:
        """Let the provider be as it should."""
        self.cycle = a_cycle(self.cycle.source, self.cycle.init_time)
        self.server.files, self.server.faults = self.cycle.files(), {}


Change = tuple[Callable[[Cycle, FieldKey, bytes], bytes], str]
"""What becomes of one message, and what the reason then says."""


def _before(cycle: Cycle, key: FieldKey) -> FieldKey:
    return replace(key, lead_hours=cycle.before(key.lead_hours))


def _moved(cycle: Cycle, key: FieldKey) -> bytes:
    """The message on a grid that is not the one it was."""
    shifted = {"latitudeOfFirstGridPointInDegrees": 26.1, "latitudeOfLastGridPointInDegrees": 16.1}
    return cycle.message(key, **({"uuid": UUID[::-1]} if cycle.is_mesh else shifted))


MESSAGES: dict[str, Change] = {
    "frozen": (lambda cycle, key, _: cycle.message(key, values=cycle.values[_before(cycle, key)]), "production is stuck"),
    "no end mark": (lambda cycle, key, octets: octets[:-4] + b"7x77", "7777"),
    "other lengths": (lambda cycle, key, octets: octets[:20] + bytes(8) + octets[28:], "section|add up|is no time"),
    "another lead": (lambda cycle, key, _: cycle.message(_before(cycle, key)), "the message holds"),
    "another cycle": (lambda cycle, key, _: cycle.message(key, date=20140101), "a message of 2014-01-01"),
    "other coordinates": (lambda cycle, key, _: _moved(cycle, key), "coordinates"),
    "another unit": (lambda cycle, key, _: cycle.message(key, values=cycle.values[key] * 9.0 + 2e5), "outside the believable"),
}

Expectation = tuple[set[FieldKey], str]
"""Which fields are then missing, and what the reason says."""


def late(stage: Stage) -> Expectation:
    """The last lead has not come yet."""
    last = {key for key in stage.cycle.values if key.lead_hours == stage.victim.lead_hours}
    messages = {url: [one for one in found if one[0] not in last] for url, found in stage.cycle.messages.items()}
    there = {url: found for url, found in messages.items() if any(key is not None for key, _ in found)}
    stage.server.files = replace_messages(stage.cycle, there).files()
    return last, "There is no object|does not list it"


def unlisted(stage: Stage) -> Expectation:
    """The file lacks a message, and so does its index."""
    url, at = stage.cycle.place_of(stage.victim)
    stage.cycle.messages[url].pop(at)
    stage.server.files = stage.cycle.files()
    return {stage.victim}, "does not list it|not have it"


def truncated(stage: Stage) -> Expectation:
    """The file ends within a message, though its index is whole."""
    url, at = stage.cycle.place_of(stage.victim)
    messages = stage.cycle.messages[url]
    end = sum(len(octets) for _, octets in messages[:at]) + len(messages[at][1]) // 2
    path = unquote(url)
    plain = stage.server.files[path][:end] if stage.cycle.suffix else b"".join(octets for _, octets in messages)[:end]
    stage.server.files[path] = plain if stage.cycle.suffix else bz2.compress(plain)
    return {key for key, _ in messages[at:] if key is not None}, "cut off|are left"


def cut_compressed(stage: Stage) -> Expectation:
    """The file ends early: nothing of a short compressed file can be read, of an open one what lies before."""
    if stage.cycle.suffix:
        return truncated(stage)
    path = unquote(stage.file)
    stage.server.files[path] = stage.server.files[path][: len(stage.server.files[path]) // 2]
    return stage.together, "empty|GRIB"


def at_file(kind: str, reason: str) -> Callable[[Stage], Expectation]:
    """Something that happens whenever the file is asked for."""

    def inject(stage: Stage) -> Expectation:
        stage.server.faults[unquote(stage.file)] = kind
        return stage.together, reason

    return inject


def broken_index(stage: Stage) -> Expectation:
    """An index, or a file that has none, is a page of another kind."""
    index = stage.cycle.source.index
    stage.server.files[unquote(stage.file if index is None else index.address(stage.file))] = b"<html>busy</html>"
    return stage.together, "Not a line of an|HTML"


LASTING: dict[str, Callable[[Stage], Expectation]] = {
    "late": late, "unlisted": unlisted, "truncated": truncated, "cut": cut_compressed, "index": broken_index,
    **{kind: at_file(kind, reason) for kind, reason in {
        "404": "There is no object", "403": "refused with HTTP 403", "429": "HTTP 429", "503": "HTTP 503", "short": "in 2 attempts",
        "slow": "ReadTimeout", "dead": "RemoteProtocolError", "wall": "another object", "page": "HTML page",
    }.items()},
}    # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """One decoding process for all tests of a module."""
    with DecodePool(1) as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for all tests of a module."""
    with serving() as opened:
        yield opened


@pytest.fixture
def init_time(source: GribSource) -> np.datetime64:
    """A cycle of the source."""
    until = source.spec.until
    return np.datetime64("2026-08-01T00" if until is None else until, "ns")


class Delivered:
    """A source's cycle at a provider, and what is asked of every delivery."""

    leads: int = 4
    variables: tuple[str, ...] | None = None

    @pytest.fixture
    def stage(
        self, source: GribSource, init_time: np.datetime64, server: Server, pool: DecodePool, tmp_path: Path
    ) -> Iterator[Stage]:
        """A few leads and two members, complete at the provider."""
        server.requests.clear()
        server.headers = {"Retry-After": "1"}
        with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as manifest:
            few = cut(source, self.leads, 2, self.variables)
            stage = Stage(a_cycle(few, init_time), server, Root(str(tmp_path / "root")), manifest, pool)
            stage.heal()
            yield stage

    @pytest.fixture
    def undisturbed(self, stage: Stage, tmp_path: Path) -> str:
        """Hash of the store of a cycle in which nothing goes wrong."""
        source = stage.cycle.source
        if source not in _UNDISTURBED:
            with Manifest.open("sqlite://") as manifest:
                revision = replace(stage, root=Root(str(tmp_path / "calm")), manifest=manifest).ingest().revision
            assert revision is not None
            assert revision.complete
            _UNDISTURBED[source] = revision.content_hash
            stage.server.requests.clear()
        return _UNDISTURBED[source]

    def recorded(self, stage: Stage, report: IngestReport) -> dict[FieldKey, str]:
        """What the manifest says is missing, and why."""
        assert report.revision is not None
        found = stage.manifest.latest(report.dataset, report.revision.key)
        assert found is not None
        assert found.complete == (not found.details["missing"])
        return {FieldKey(*entry[:3]): entry[3] for entry in found.details["missing"]}

    def completes(self, stage: Stage, before: IngestReport, undisturbed: str) -> None:
        """The provider is well again, and the next attempt brings what was missing."""
        stage.heal()
        report = stage.ingest()
        assert report.missing == ()
        assert report.revision is not None
        assert report.revision.complete
        assert report.revision.revision == (0 if before.revision is None else before.revision.revision + 1)
        assert report.revision.content_hash == undisturbed


class DeliveryContract(Delivered):
    """Laws of a source of GRIB files and its provider."""

    def test_a_complete_cycle_arrives_equal_to_what_was_encoded(self, stage: Stage) -> None:
        report = stage.ingest()
        assert (report.missing, report.quarantined) == ((), ())
        assert report.revision is not None
        assert report.revision.complete
        assert set(report.taken) == set(stage.cycle.values)
        opened = stage.root.open_store(report.revision.path).load()
        for key, values in stage.cycle.values.items():
            array = opened[key.variable]
            found = array.sel(lead_time=np.timedelta64(key.lead_hours, "h"), ensemble_member=key.member).transpose("latitude", "longitude")
            precision = 4 * array.attrs["packing_step"] + 1e-6 * float(np.abs(values).max())
            expected = stage.cycle.expected(key, opened.latitude.values, opened.longitude.values)
            np.testing.assert_allclose(found.values, expected, rtol=0, atol=precision, err_msg=str(key))
            assert precision < 0.01 * float(np.ptp(values))
        asked = len(stage.server.requests)
        stage.ingest()
        assert len(stage.server.requests) == asked, "nothing comes twice"
        rows = stage.manifest.messages(report.dataset)
        assert all(re.fullmatch("[0-9a-f]{64}", row.sha256) for row in rows)

    def test_everything_goes_wrong_at_once(self, stage: Stage, undisturbed: str) -> None:
        lost, why = LASTING["503"](stage)
        expected = dict.fromkeys(lost, why)
        leads = sorted({key.lead_hours for key in stage.cycle.values})[1:3]
        sound = sorted(key for key in stage.cycle.values if key.variable in VARYING and key.lead_hours in leads and key not in lost)
        for key, change in zip(sorted(sound, key=lambda key: key.lead_hours), MESSAGES.values(), strict=False):
            stage.change(key, change[0])
            expected[key] = change[1]
        stage.server.files = stage.cycle.files()
        if not stage.cycle.suffix:     # of several messages of one file that cannot be read, which is which cannot be told
            expected |= dict.fromkeys(expected.keys() - lost, "|".join(reason for _, reason in MESSAGES.values()))
        assert len(expected) >= len(MESSAGES) + 1
        report = stage.ingest()
        found = dict(report.missing)
        assert found.keys() == expected.keys(), {key: found.get(key, "missed") for key in found.keys() ^ expected.keys()}
        assert all(re.search(expected[key], reason) for key, reason in found.items()), found
        assert self.recorded(stage, report) == found
        self.completes(stage, report, undisturbed)

    def test_a_cycle_that_is_not_there_or_a_provider_that_is_down(self, stage: Stage) -> None:
        stage.server.files = {}
        with pytest.raises(NotAvailableError, match="has no cycle"):
            stage.ingest()
        stage.server.faults["*"] = "dead"
        with pytest.raises(SourceError, match="could not be read in 2 attempts"):
            stage.ingest()


class FaultContract(Delivered):
    """Each fault of files and servers alone, on temperature and rain; for one source of each layout."""

    leads, variables = 3, ("temperature_2m", RAIN)

    @pytest.mark.parametrize("fault", LASTING)
    def test_the_rest_arrives_with_the_reason_and_the_next_attempt_completes(self, fault: str, stage: Stage, undisturbed: str) -> None:
        missing, reason = LASTING[fault](stage)
        report = stage.ingest()
        assert missing
        assert missing < set(stage.cycle.values)
        assert {key for key, _ in report.missing} == missing
        assert all(re.search(reason, why) for _, why in report.missing), report.missing
        assert self.recorded(stage, report) == dict(report.missing)
        self.completes(stage, report, undisturbed)

    def test_a_retracted_cycle_stays_and_says_so(self, stage: Stage, undisturbed: str) -> None:
        missing, _ = late(stage)
        first = stage.ingest()
        stage.server.files = {}
        report = stage.ingest()
        assert report.revision is not None
        assert first.revision is not None
        assert report.revision.content_hash == first.revision.content_hash
        assert {key for key, _ in report.missing} == missing
        assert all("has no cycle" in reason for reason in self.recorded(stage, report).values())
        self.completes(stage, report, undisturbed)

    @pytest.mark.parametrize("kind", ["503:1", "429:1", "short:1", "dead:1", "wall:1", "slow:1", "moved"])
    def test_what_passes_leaves_no_trace(self, kind: str, stage: Stage, undisturbed: str) -> None:
        stage.server.faults["*"] = kind
        report = stage.ingest()
        assert report.missing == ()
        assert report.revision is not None
        assert report.revision.content_hash == undisturbed

    def test_a_message_that_is_there_twice_counts_once(self, stage: Stage, undisturbed: str) -> None:
        url, at = stage.cycle.place_of(stage.victim)
        stage.cycle.messages[url].insert(at, stage.cycle.messages[url][at])
        stage.server.files = stage.cycle.files()
        report = stage.ingest()
        assert (report.missing, report.quarantined) == ((), ())
        assert report.revision is not None
        assert report.revision.content_hash == undisturbed

    def test_a_provider_that_is_stuck_sends_the_cycle_before_over_again(self, stage: Stage) -> None:
        stage.ingest()
        stage.cycle = Cycle(stage.cycle.source, stage.cycle.init_time + np.timedelta64(1, "D"))     # the same values under another date
        stage.server.files = stage.cycle.files()
        report = stage.ingest()
        assert {key.variable for key in report.taken} == {RAIN}
        assert {key.variable for key, _ in report.missing} == {"temperature_2m"}
        assert all("is that of the cycle before: production is stuck" in reason for _, reason in report.missing)
        assert self.recorded(stage, report) == dict(report.missing)

    def test_a_server_that_dies_midway_is_left_alone(self, stage: Stage) -> None:
        data = [unquote(url) for url in stage.cycle.messages]
        stage.server.faults = dict.fromkeys(data if stage.cycle.suffix else data[1:], "dead")
        report = stage.ingest()
        assert report.missing
        assert all("attempts" in why or "given up" in why for _, why in report.missing)


_UNDISTURBED: dict[GribSource, str] = {}
