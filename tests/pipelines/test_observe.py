from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog import bufr
from data_catalog.grids import station_coordinates
from data_catalog.manifest import Manifest
from data_catalog.observations import Flaw, Reports, merge, profiles
from data_catalog.regions import load_region
from data_catalog.sources.base import StationSpec, Transport
from data_catalog.sources.synop import Synop
from data_catalog.sources.transport import FolderTransport
from data_catalog.station_quality import GOOD, MISSING, RANGE
from data_catalog.store import Root
from pipelines.observe import observe

REGION = load_region().cut()
HOUR = np.timedelta64(1, "h")
START = np.datetime64("2025-06-30T22", "ns")
SPEC = StationSpec("test", "Test", "", 0.5, ("temperature_2m", "precipitation_amount"), licence="none")
HERE: Transport = FolderTransport(Path("."))


def reports(hours: list[int], temperature: np.ndarray, rain: np.ndarray | None = None) -> xr.Dataset:
    times = START + np.array(hours) * HOUR
    amounts = np.zeros_like(temperature) if rain is None else rain
    data = {
        "temperature_2m": (("time", "station"), temperature.astype(np.float32)),
        "precipitation_amount": (("time", "station"), amounts.astype(np.float32)),
        "precipitation_amount_interval": (("time", "station"), np.where(np.isnan(amounts), np.nan, 1.0).astype(np.float32)),
    }
    coords = {"time": times, "available_time": ("time", times + np.timedelta64(30, "m")), **station_coordinates(REGION.stations)}
    return xr.Dataset(data, coords=coords, attrs={"simulated": False, "network": "test"})


@dataclass
class Source:
    found: xr.Dataset
    spec: StationSpec = SPEC
    flaws: tuple[Flaw, ...] = ()
    soundings: xr.Dataset | None = None

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        times = self.found["time"].values
        return Reports(self.found.isel(time=np.flatnonzero((times > since) & (times <= until))), self.flaws, self.soundings)


@dataclass
class Archive:
    root: Root
    manifest: Manifest

    def observe(self, found: xr.Dataset, since: int = -1, until: int = 99) -> tuple[str, ...]:
        report = observe(self.root, self.manifest, REGION, Source(found), HERE, START + since * HOUR, START + until * HOUR)
        return report.months

    def stored(self, month: str) -> xr.Dataset:
        revision = self.manifest.latest("observations/test", month)
        assert revision is not None
        return self.root.open_store(revision.path).load()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as manifest:
        yield Archive(Root(str(tmp_path)), manifest)


def test_reports_go_into_the_store_of_their_month(archive: Archive) -> None:
    values = np.arange(12.0).reshape(4, 3)
    assert archive.observe(reports([0, 1, 2, 3], values)) == ("202506", "202507")
    assert archive.stored("202506")["temperature_2m"].values.tolist() == values[:2].tolist()
    july = archive.stored("202507")
    assert july["temperature_2m"].values.tolist() == values[2:].tolist()
    assert july["precipitation_amount_interval"].values.tolist() == [[1.0] * 3] * 2
    assert (july["available_time"].values[0] == np.datetime64("2025-07-01T00:30")).all()


def test_only_the_time_asked_for_is_read(archive: Archive) -> None:
    archive.observe(reports([0, 1, 2, 3], np.ones((4, 3))), since=1, until=2)
    assert archive.stored("202507").sizes["time"] == 1
    assert archive.manifest.latest("observations/test", "202506") is None


def test_the_same_reports_again_are_no_new_revision(archive: Archive) -> None:
    found = reports([2, 3], np.ones((2, 3)))
    assert archive.observe(found) == ("202507",)
    assert archive.observe(found) == ()
    assert len(archive.manifest.revisions("observations/test")) == 1


def test_nothing_is_lost_and_new_values_win(archive: Archive) -> None:
    nan = np.nan
    archive.observe(reports([2, 3], np.array([[1.0, nan, 3.0], [4.0, 5.0, 6.0]])))
    archive.observe(reports([3, 4], np.array([[7.0, nan, 6.0], [8.0, 9.0, nan]])))
    stored = archive.stored("202507")
    expected = np.array([[1.0, nan, 3.0], [7.0, 5.0, 6.0], [8.0, 9.0, nan]])
    assert np.array_equal(stored["temperature_2m"].values, expected, equal_nan=True)
    assert np.array_equal(stored["temperature_2m_quality"].values, np.where(np.isnan(expected), MISSING, GOOD))
    assert len(archive.manifest.revisions("observations/test", "202507")) == 2


def test_what_is_not_believable_is_kept_and_flagged(archive: Archive) -> None:
    found = reports([2], np.array([[25.0, 99.0, -80.0]]), np.array([[-1.0, 3.0, np.nan]]))
    report = observe(archive.root, archive.manifest, REGION, Source(found), HERE, START, START + 9 * HOUR)
    assert report.flagged == {"out_of_range": 3}
    stored = archive.stored("202507")
    assert stored["temperature_2m_quality"].values.tolist() == [[GOOD, RANGE, RANGE]]
    assert stored["precipitation_amount_quality"].values.tolist() == [[RANGE, GOOD, MISSING]]
    assert stored["temperature_2m"].values.tolist() == [[25.0, 99.0, -80.0]]
    about = stored["temperature_2m_quality"].attrs
    assert dict(zip(about["flag_values"], about["flag_meanings"].split(), strict=True))[RANGE] == "out_of_range"


def test_no_reports_change_nothing(archive: Archive) -> None:
    assert archive.observe(reports([], np.ones((0, 3)))) == ()
    assert archive.manifest.datasets() == []


def test_stations_of_elsewhere_are_left_out(archive: Archive) -> None:
    found = reports([2], np.ones((1, 3))).assign_coords(station=["lang", "noi_bai", "elsewhere"])
    archive.observe(found)
    assert list(archive.stored("202507")["station"].values) == ["lang", "noi_bai"]


cells = st.one_of(st.just(np.nan), st.integers(0, 400).map(lambda tenths: tenths / 10))
table = st.lists(cells, min_size=12, max_size=12).map(lambda values: np.array(values).reshape(4, 3))


@settings(max_examples=40)
@given(table, table, st.integers(0, 6))
def test_merging_laws(first: np.ndarray, second: np.ndarray, shift: int) -> None:
    old, new = reports([2, 3, 4, 5], first), reports([2 + shift + n for n in range(4)], second)
    both = merge(old, new)
    assert set(both["time"].values) == set(old["time"].values) | set(new["time"].values)
    assert (np.diff(both["time"].values) > np.timedelta64(0)).all()
    late = new["temperature_2m"].drop_vars("available_time").reindex(time=both["time"]).values
    early = old["temperature_2m"].drop_vars("available_time").reindex(time=both["time"]).values
    assert np.array_equal(both["temperature_2m"].values, np.where(np.isnan(late), early, late), equal_nan=True)
    assert both["available_time"].notnull().all()
    xr.testing.assert_identical(merge(both, new), both)  # once more changes nothing
    xr.testing.assert_identical(merge(both, both), both)


hours = st.sampled_from([1 / 6, 1.0, 3.0, 6.0, 24.0])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), hours, st.integers(0, 400)), min_size=1, max_size=12))
def test_every_interval_of_a_time_is_kept_and_the_shortest_comes_first(given_values: list[tuple[int, int, float, int]]) -> None:
    """Whatever comes in whatever order, each (time, station, interval) ends with its last value."""
    expected: dict[tuple[int, int, float], float] = {}
    whole: xr.Dataset | None = None
    for time, station, length, tenths in given_values:
        amount = np.full((3, 3), np.nan)
        amount[time, station] = tenths / 10
        part = reports([0, 1, 2], np.full((3, 3), np.nan), amount)
        part["precipitation_amount_interval"] = part["precipitation_amount_interval"] * np.float32(length)
        whole = part if whole is None else merge(whole, part)
        expected[time, station, float(np.float32(length))] = np.float32(tenths / 10)
    assert whole is not None
    whole = merge(whole, whole)
    shortest = {(time, station): min(length for t, s, length in expected if (t, s) == (time, station)) for time, station, _ in expected}
    for (time, station, length), value in expected.items():
        name = "precipitation_amount" if shortest[time, station] == length else f"precipitation_amount_{length:g}h"
        assert whole[name].values[time, station] == value
        assert whole["precipitation_amount_interval"].values[time, station] == np.float32(shortest[time, station])


def test_a_correction_is_available_when_it_came_and_a_repetition_when_it_first_did(archive: Archive) -> None:
    first = reports([2, 3], np.ones((2, 3)))
    again = first.assign_coords(available_time=first["available_time"] + 5 * HOUR)
    archive.observe(first)
    assert archive.observe(again) == ()
    corrected = again.copy(deep=True)
    corrected["temperature_2m"].values[0, 1] = 7.0
    archive.observe(corrected)
    came = archive.stored("202507")["available_time"].values
    expected = np.repeat(first["available_time"].values[:, None], 3, axis=1)
    expected[0, 1] += 5 * HOUR
    assert np.array_equal(came, expected)


def test_what_cannot_be_read_goes_to_quarantine_once(archive: Archive) -> None:
    flaws = (Flaw("a/line.csv", "no number", 7, b"whole file"), Flaw("b.csv", "the provider does not have it (yet)"))
    source = Source(reports([2], np.ones((1, 3))), flaws=flaws)
    report = observe(archive.root, archive.manifest, REGION, source, HERE, START, START + 9 * HOUR)
    assert report.degraded
    assert report.missing == ({"file": "b.csv", "reason": "the provider does not have it (yet)"},)
    (kept,) = report.quarantined
    assert archive.root.read_bytes(kept["kept"]) == b"whole file"
    assert (kept["file"], kept["part"], kept["reason"]) == ("a/line.csv", 7, "no number")
    (row,) = archive.manifest.quarantined("observations/test")
    assert (row.message, row.reason) == (7, "no number")
    again = observe(archive.root, archive.manifest, REGION, Source(source.found, flaws=flaws[:1]), HERE, START, START + 9 * HOUR)
    assert again.known == 1
    assert not again.degraded


def test_soundings_have_a_dataset_of_their_own(archive: Archive) -> None:
    lang = next(station for station in REGION.stations if station.id == "lang")

    def sounding(levels: int, hour: int) -> xr.Dataset:
        values = np.stack([1e5 - 1e4 * np.arange(levels), *(np.full(levels, float(hour)) for _ in range(5))], axis=1)
        time = START + hour * HOUR
        return profiles({(lang.id, time): (time + HOUR, values)}, [lang])

    for levels, hour in ((3, 2), (5, 14), (4, 2)):
        source = Source(reports([2], np.ones((1, 3))), soundings=sounding(levels, hour))
        assert observe(archive.root, archive.manifest, REGION, source, HERE, START, START + 9 * HOUR).soundings == 1
    revision = archive.manifest.latest("soundings/test", "202507")
    assert revision is not None
    stored = archive.root.open_store(revision.path).load()
    assert dict(stored.sizes) == {"profile": 2, "level": 5}
    assert np.isfinite(stored["pressure"].values).sum(axis=1).tolist() == [4, 5]  # the second one of 00 UTC replaced the first
    assert stored["time"].values.tolist() == [(START + hour * HOUR).astype(int) for hour in (2, 14)]


@pytest.mark.real_data
def test_real_reports_of_the_region_and_a_sounding_are_archived_once(real_data: Path, archive: Archive, tmp_path: Path) -> None:
    """Hà Đông, Nam Định and Phù Liễn of 2 November 2018, Hà Nội's sounding of 8 December 2008; every report is there twice or in pieces."""
    region, folder = load_region(), tmp_path / "bufr"
    folder.mkdir()
    pieces = [piece for piece in bufr.split((real_data / "bufr" / "perf_synop.bufr").read_bytes()) if b"488" in piece[26:90]]
    (folder / "surface.bufr").write_bytes(b"".join([*pieces, *pieces]))
    (folder / "upper.bufr").write_bytes(
        b"".join(piece for piece in bufr.split((real_data / "bufr" / "temp.bufr").read_bytes()) if b"488" in piece[26:90])
    )
    source = Synop(region.operating)
    span = np.datetime64("2008-01-01", "ns"), np.datetime64("2019-01-01", "ns")
    for months in (("201811", "200812"), ()):
        found = observe(archive.root, archive.manifest, region, source, FolderTransport(folder), *span)
        assert (found.reports, found.soundings, found.missing, found.quarantined, found.flagged) == (3, 1, (), (), {})
        assert found.months == months
    surface, upper = (
        archive.root.open_store(revision.path).load()
        for revision in (archive.manifest.latest("observations/synop", "201811"), archive.manifest.latest("soundings/synop", "200812"))
        if revision is not None
    )
    assert surface["time"].values.tolist() == [np.datetime64("2018-11-02T12", "ns").astype(int)]
    expected = {"ha_dong": (23.45, 13.25, 101560.0), "nam_dinh": (23.95, 14.25, 101550.0), "phu_lien": (23.05, 18.05, 101600.0)}
    for station, values in expected.items():
        here = surface.sel(station=station).isel(time=0)
        names = ("temperature_2m", "dew_point_temperature_2m", "pressure_reduced_to_mean_sea_level")
        assert [here[name].item() for name in names] == pytest.approx(values, rel=1e-5)
        assert [here[f"{name}_quality"].item() for name in names] == [GOOD] * 3
        assert (here["precipitation_amount"].item(), here["precipitation_amount_interval"].item()) == (0.0, 12.0)
    assert upper["station"].values.tolist() == ["lang"]
    assert np.isfinite(upper["pressure"].values).sum() == 47
    assert upper["temperature"].values[0, 1] == pytest.approx(18.05)
