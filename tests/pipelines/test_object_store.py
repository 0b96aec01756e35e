"""A whole cycle on a root in an object store: only the stores live there, what has to be a file stays in the state root."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import obstore
import pytest
import xarray as xr
from obstore.store import S3Store
from zarr.storage import ObjectStore

from data_catalog.settings import Settings, load_settings
from data_catalog.store import Root
from pipelines.cycle import CycleReport, run_cycle
from pipelines.doctor import doctor_command, status_command
from pipelines.publish import ABOUT
from pipelines.render import render_cycle
from pipelines.simulate import simulate
from tests.s3 import make_bucket, serve_s3
from tests.tiny import HISTORY_DAYS, INIT, TRAINING_DAYS

pytestmark = pytest.mark.slow

BUCKET, PREFIX = "giomua-test", "weather/hanoi"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    yield from serve_s3()


def settings_on(root: str, **more: object) -> Settings:
    """The profile ``tiny``."""
    return load_settings(root=root, profile="tiny", training_days=TRAINING_DAYS, decode_workers=1, **more)


@dataclass(frozen=True)
class Published:
    settings: Settings
    report: CycleReport

    @property
    def root(self) -> Root:
        return Root.open(self.settings)


@pytest.fixture(scope="module")
def remote(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Published:
    make_bucket(s3, BUCKET)
    state = tmp_path_factory.mktemp("remote") / "state"
    settings = settings_on(f"s3://{BUCKET}/{PREFIX}", state_root=str(state), storage_options=s3)
    simulate(settings, INIT, history_days=HISTORY_DAYS)
    return Published(settings, run_cycle(settings, INIT))


@pytest.fixture(scope="module")
def local(cycled_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("local") / "root"
    shutil.copytree(cycled_root, root)
    return Published(settings_on(str(root)), run_cycle(settings_on(str(root)), INIT))


def test_the_cycle_is_whole(remote: Published) -> None:
    report = remote.report
    assert (report.notes, report.degraded, report.simulated) == ((), False, True)
    assert report.store == f"s3://{BUCKET}/{PREFIX}/{report.href}"
    assert set(remote.root.groups(report.href)) - {""} == set(ABOUT)
    assert remote.root.verify(report.href) == report.content_hash


def test_it_is_the_cycle_of_a_local_root(remote: Published, local: Published) -> None:
    assert remote.report.content_hash == local.report.content_hash
    assert remote.report.href == local.report.href


def bucket(options: dict[str, str], prefix: str) -> S3Store:
    """The bucket as another program reaches it."""
    return S3Store(BUCKET, prefix=f"{PREFIX}/{prefix}", client_options={"allow_http": True}, **options)


def test_latest_and_the_catalog_are_in_the_bucket(remote: Published, s3: dict[str, str]) -> None:
    published = bucket(s3, "published")
    latest = json.loads(bytes(obstore.get(published, "latest.json").bytes()))
    assert latest["content_hash"] == remote.report.content_hash
    names = {item["path"] for page in obstore.list(published) for item in page}
    assert {f"{latest['href']}/zarr.json", "catalog.json"} <= names


def test_plain_xarray_reads_it(remote: Published, local: Published) -> None:
    for group in sorted(ABOUT):
        there = remote.root.open_store(remote.report.href, group).load()
        here = xr.open_zarr(local.report.store, group=group).load()
        assert there.equals(here), group


def test_xarray_reads_it_without_any_code_of_ours(remote: Published, s3: dict[str, str]) -> None:
    store = ObjectStore(bucket(s3, remote.report.href), read_only=True)
    point = xr.open_zarr(store, group="stations_quantiles")
    warm = point.temperature_2m.sel(station="lang", quantile=[0.1, 0.5, 0.9])
    assert warm.notnull().all()
    assert (np.diff(warm.transpose("lead_time", "quantile").values, axis=1) >= 0).all()


def test_only_what_has_to_be_a_file_is_local(remote: Published) -> None:
    state = Path(remote.settings.state_root)
    assert (state / "manifest.db").is_file()
    assert not list(state.rglob("*.zarr"))
    assert {entry.name for entry in state.iterdir() if entry.is_dir()} == {"simulated"}


def test_a_re_run_is_the_same_and_cheap(remote: Published) -> None:
    again = run_cycle(remote.settings, INIT)
    assert again.reused
    assert (again.content_hash, again.revision) == (remote.report.content_hash, 0)


def test_status_doctor_and_the_summary_read_it(remote: Published) -> None:
    status, text = status_command(remote.settings)
    assert status["published"]["content_hash"] == remote.report.content_hash
    assert f"s3://{BUCKET}/{PREFIX}/published/" in text
    doctor, text = doctor_command(remote.settings)
    outcome = {check["check"]: check["outcome"] for check in doctor["checks"]}
    assert (outcome["stores"], outcome["published"]) == ("ok", "ok"), text
    assert "Láng" in render_cycle(remote.settings, remote.report)
