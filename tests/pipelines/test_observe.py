from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.grids import station_coordinates
from data_catalog.manifest import Manifest
from data_catalog.regions import load_region
from data_catalog.sources.base import StationSpec, Transport
from data_catalog.sources.transport import FolderTransport
from data_catalog.store import Root
from pipelines.observe import GOOD, MISSING, WRONG, add_quality, merge, observe

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

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> xr.Dataset:
        times = self.found["time"].values
        return self.found.isel(time=np.flatnonzero((times > since) & (times <= until)))


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
    assert july["available_time"].values[0] == np.datetime64("2025-07-01T00:30")


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
    assert report.wrong == 3
    stored = archive.stored("202507")
    assert stored["temperature_2m_quality"].values.tolist() == [[GOOD, WRONG, WRONG]]
    assert stored["precipitation_amount_quality"].values.tolist() == [[WRONG, GOOD, MISSING]]
    assert stored["temperature_2m"].values.tolist() == [[25.0, 99.0, -80.0]]
    assert stored["temperature_2m_quality"].attrs["flag_meanings"] == "good wrong missing"


def test_no_reports_change_nothing(archive: Archive) -> None:
    assert archive.observe(reports([], np.ones((0, 3)))) == ()
    assert archive.manifest.datasets() == []


def test_stations_of_elsewhere_are_left_out(archive: Archive) -> None:
    found = reports([2], np.ones((1, 3))).assign_coords(station=["lang", "noi_bai", "elsewhere"])
    archive.observe(found)
    assert list(archive.stored("202507")["station"].values) == ["lang", "noi_bai"]


cells = st.one_of(st.just(np.nan), st.integers(-100, 400).map(lambda tenths: tenths / 10))
table = st.lists(cells, min_size=12, max_size=12).map(lambda values: np.array(values).reshape(4, 3))


@given(table, table, st.integers(0, 6))
def test_merging_laws(first: np.ndarray, second: np.ndarray, shift: int) -> None:
    old, new = add_quality(reports([2, 3, 4, 5], first)), add_quality(reports([2 + shift + n for n in range(4)], second))
    both = merge(old, new)
    assert set(both["time"].values) == set(old["time"].values) | set(new["time"].values)
    assert (np.diff(both["time"].values) > np.timedelta64(0)).all()
    for name in ("temperature_2m", "temperature_2m_quality"):
        missing = MISSING if name.endswith("quality") else np.nan
        late = new[name].drop_vars("available_time").reindex(time=both["time"], fill_value=missing).values
        early = old[name].drop_vars("available_time").reindex(time=both["time"], fill_value=missing).values
        gone = late == MISSING if name.endswith("quality") else np.isnan(late)
        assert np.array_equal(both[name].values, np.where(gone, early, late), equal_nan=not name.endswith("quality"))
    xr.testing.assert_equal(merge(both, new), both)  # once more changes nothing
    xr.testing.assert_equal(merge(old, old), old)
