"""Archives of dynamical.org: in Zarr over HTTP, in a folder, as Icechunk; what comes out is what went in, in our words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_catalog.errors import NotAvailableError, SourceError
from data_catalog.manifest import Manifest
from data_catalog.regions import load_region
from data_catalog.settings import load_settings
from data_catalog.sources import registry
from data_catalog.sources.base import FieldKey, FieldSource, Host
from data_catalog.sources.dynamical import ARCHIVES, RATE, ZarrArchive
from data_catalog.sources.transport import FolderTransport
from data_catalog.store import Root
from pipelines.ingest import ingest_cycle
from tests.data_catalog.sources.provider import serving

REGION = load_region()
EDGES = REGION.latitude_north, REGION.latitude_south, REGION.longitude_west, REGION.longitude_east
INIT = np.datetime64("2025-01-01T00", "ns")
HOURS = (0, 1, 2, 3, 6)
SUN = "downward_short_wave_radiation_flux_surface"


def archive(members: int | None = 2) -> xr.Dataset:
    """Two cycles, hourly to 3 h, the second complete to 3 h only."""
    rng = np.random.default_rng(3)
    latitude, longitude = np.arange(25.0, 15.0, -0.25), np.arange(100.0, 112.0, 0.25)
    shape = (2, len(HOURS), *([] if members is None else [members]), latitude.size, longitude.size)
    dims = ("init_time", "lead_time", *([] if members is None else ["ensemble_member"]), "latitude", "longitude")
    smooth = np.sin(latitude / 2)[:, None] * np.cos(longitude / 3)[None, :] + rng.normal(0, 1, shape[:-2])[..., None, None]
    rain = rng.gamma(0.5, 2e-4, shape)
    sun = rng.uniform(0, 800, shape)
    for interval in (rain, sun):
        interval[:, 0] = np.nan
    data = {
        "temperature_2m": (dims, (20.0 + 3.0 * smooth).astype(np.float32), {"units": "degree_Celsius"}),
        RATE: (dims, rain.astype(np.float32), {"units": "kg m-2 s-1"}),
        SUN: (dims, sun.astype(np.float32), {"units": "W m-2"}),
        "geopotential_height_500hpa": (dims, smooth.astype(np.float32), {"units": "m"}),
    }
    for _, values, _ in data.values():
        values[1, -1] = np.nan
    times = np.array(["2025-01-01T00", "2025-01-02T00"], "datetime64[ns]")
    coords = {
        "init_time": times, "lead_time": np.array(HOURS, "timedelta64[h]").astype("timedelta64[ns]"),
        "latitude": latitude, "longitude": longitude, **({} if members is None else {"ensemble_member": np.arange(members)}),
    }    # fmt: skip
    return xr.Dataset(data, coords)


def source(url: str, members: int = 2) -> ZarrArchive:
    spec = replace(
        ARCHIVES[1].spec, dataset="dynamical-test", hosts=(Host(url),), lead_hours=(0, 3, 6), members=members,
        variables=("temperature_2m", "precipitation_amount", SUN),
    )    # fmt: skip
    return ZarrArchive(spec)


def test_registered_archives_are_sources_whose_address_can_be_chosen(tmp_path: Path) -> None:
    settings = load_settings(root=str(tmp_path), source_urls={"dynamical-noaa-gfs": str(tmp_path / "here")})
    known = registry.grid_sources(settings)
    for one in ARCHIVES:
        found = known[one.spec.dataset]
        assert isinstance(found, FieldSource)
        assert found.spec.licence
        assert found.spec.hosts[0].url.startswith(str(tmp_path) if one.spec.dataset == "dynamical-noaa-gfs" else "https://data.dynamical.org/")


@pytest.mark.parametrize("how", ["folder", "http", "icechunk"])
def test_a_cycle_arrives_in_our_words(how: str, tmp_path: Path) -> None:
    truth, folder = archive(), tmp_path / "archive.zarr"
    if how == "icechunk":
        icechunk = pytest.importorskip("icechunk")
        session = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder))).writable_session("main")
        truth.to_zarr(session.store, zarr_format=3, consolidated=False)
        session.commit("an archive")
    else:
        truth.to_zarr(folder, zarr_format=3, consolidated=True)
    with serving() as server, Manifest.open("sqlite://") as manifest:
        server.files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        url = {"folder": str(folder), "http": f"{server.url}/archive.zarr", "icechunk": f"icechunk+file://{folder}"}[how]
        root = Root(str(tmp_path / "root"))
        report = ingest_cycle(root, manifest, REGION, source(url), FolderTransport(tmp_path), INIT)
        assert report.missing == ()
        assert report.revision is not None
        assert report.revision.complete
        found = root.open_store(report.revision.path).load()
    box = truth.sel(init_time=INIT, latitude=found.latitude, longitude=found.longitude)
    three, six = (np.timedelta64(hours, "h") for hours in (3, 6))
    np.testing.assert_array_equal(found.temperature_2m.sel(lead_time=six), box.temperature_2m.sel(lead_time=six))
    rain, sun = box[RATE].values, box[SUN].values
    amounts = found.precipitation_amount.transpose("lead_time", "ensemble_member", "latitude", "longitude")
    np.testing.assert_allclose(amounts.sel(lead_time=three), 3600.0 * rain[1:4].sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(amounts.sel(lead_time=six), 3 * 3600.0 * rain[4], rtol=1e-5)
    np.testing.assert_allclose(found[SUN].sel(lead_time=three), sun[1:4].mean(axis=0), rtol=1e-5)
    assert (found.lead_time_bounds.values[1:] / np.timedelta64(1, "h")).tolist() == [[0.0, 3.0], [3.0, 6.0]]
    assert "geopotential_height_500hpa" not in found


def test_leads_that_are_not_there_yet_are_missing_and_one_member_needs_no_dimension(tmp_path: Path) -> None:
    truth = archive(members=None)
    truth.to_zarr(tmp_path / "archive.zarr", zarr_format=3, consolidated=True)
    later = INIT + np.timedelta64(1, "D")
    with Manifest.open("sqlite://") as manifest:
        root, one = Root(str(tmp_path / "root")), source(str(tmp_path / "archive.zarr"), members=1)
        report = ingest_cycle(root, manifest, REGION, one, FolderTransport(tmp_path), later)
        assert {key for key, _ in report.missing} == {FieldKey(name, 6) for name in one.spec.variables}
        assert all("(yet)" in reason for _, reason in report.missing)
        truth.isel(init_time=[0, 0]).assign_coords(init_time=truth.init_time).to_zarr(
            tmp_path / "archive.zarr", mode="w", zarr_format=3, consolidated=True
        )
        again = ingest_cycle(root, manifest, REGION, one, FolderTransport(tmp_path), later)
        assert again.missing == ()
        assert again.revision is not None
        assert again.revision.revision == 1


def test_what_is_not_as_declared_is_refused(tmp_path: Path) -> None:
    wanted = source("x").expected(INIT)
    for name, change, words in (
        ("units", lambda data: data.assign(temperature_2m=data.temperature_2m.assign_attrs(units="K")), "is in 'K'"),
        ("grid", lambda data: data.assign_coords(latitude=data.latitude + 0.1), "coordinates have changed"),
    ):
        change(archive()).to_zarr(tmp_path / name, zarr_format=3, consolidated=True)
        with pytest.raises(SourceError, match=words):
            list(source(str(tmp_path / name)).fields(INIT, EDGES, wanted))
    with pytest.raises(NotAvailableError, match="has no cycle 2025-01-05T00Z yet"):
        list(source(str(tmp_path / "units")).fields(np.datetime64("2025-01-05T00", "ns"), EDGES, wanted))
    with pytest.raises(NotAvailableError, match="its cycles are at 00 UTC"):
        list(source(str(tmp_path / "units")).fields(np.datetime64("2025-01-05T06", "ns"), EDGES, wanted))
    with pytest.raises(SourceError, match="cannot be read"):
        list(source("http://127.0.0.1:9/none.zarr").fields(INIT, EDGES, wanted))
