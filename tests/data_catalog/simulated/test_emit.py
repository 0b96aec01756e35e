from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_catalog.settings import load_settings
from data_catalog.simulated import emit
from data_catalog.simulated.emit import Product
from data_catalog.simulated.simulator import Simulator
from data_catalog.sources import registry
from data_catalog.sources.base import Span
from data_catalog.sources.ncep import parse_idx
from data_catalog.sources.transport import FolderTransport

eccodes = pytest.importorskip("eccodes")

INIT = np.datetime64("2025-07-10T12")
LEADS = (0, 3, 6, 9, 12, 18)
LATITUDE, LONGITUDE = np.array([21.5, 21.25, 21.0]), np.array([105.0, 105.25, 105.5, 105.75])
DATASETS = ("simulated-global-eps", "simulated-regional-eps")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    found = registry.simulator(load_settings(root=str(tmp_path_factory.mktemp("root")), profile="tiny"))
    assert all(found.emit(INIT).values())
    return found


def product(members: int = 2) -> Product:
    generator = np.random.Generator(np.random.Philox(5))
    shape = (len(LEADS), members, LATITUDE.size * LONGITUDE.size)
    rain, sun = generator.gamma(0.5, 4.0, shape), generator.uniform(0, 900, shape)
    rain[0] = sun[0] = np.nan
    rain[2] = 0.0  # a constant field
    temperature = generator.normal(25.0, 5.0, shape)
    fields = {"temperature_2m": temperature, "precipitation_amount": rain, "downward_short_wave_radiation_flux_surface": sun}
    return Product(INIT, LEADS, LATITUDE, LONGITUDE, fields)


def messages(path: Path) -> list[dict[str, object]]:
    found = []
    with path.open("rb") as stream:
        while (handle := eccodes.codes_grib_new_from_file(stream)) is not None:
            keys = ("shortName", "units", "stepRange", "level", "dataDate", "dataTime", "packingType", "productionStatusOfProcessedData")
            row = {key: eccodes.codes_get(handle, key) for key in keys}
            for key in ("perturbationNumber", "numberOfForecastsInEnsemble", "typeOfEnsembleForecast"):
                row[key] = eccodes.codes_get(handle, key) if eccodes.codes_is_defined(handle, key) else None
            row["precision"] = eccodes.codes_get(handle, "packingError")
            row["values"] = eccodes.codes_get_values(handle)
            found.append(row)
            eccodes.codes_release(handle)
    return found


def close(row: dict[str, object], expected: np.ndarray) -> bool:
    return bool(np.max(np.abs(row["values"] - expected)) <= 1.01 * row["precision"] + 1e-6 * np.max(np.abs(expected)))  # type: ignore[operator]


def test_a_decoder_reads_what_was_meant_in_gefs_layout(tmp_path: Path) -> None:
    given = product()
    emit.write_gefs(given, tmp_path)
    for position, lead in enumerate(LEADS):
        for member, name in ((0, "gec00"), (1, "gep01")):
            path = tmp_path / f"gefs.20250710/12/atmos/pgrb2ap5/{name}.t12z.pgrb2a.0p50.f{lead:03d}"
            rows = {str(row["shortName"]): row for row in messages(path)}
            assert rows["2t"]["units"] == "K"
            assert rows["2t"]["level"] == 2
            assert rows["2t"]["perturbationNumber"] == member
            assert rows["2t"]["numberOfForecastsInEnsemble"] == 2
            assert rows["2t"]["typeOfEnsembleForecast"] == (3 if member else 1)
            assert rows["2t"]["productionStatusOfProcessedData"] == 2
            assert (rows["2t"]["dataDate"], rows["2t"]["dataTime"]) == (20250710, 1200)
            assert close(rows["2t"], given.fields["temperature_2m"][position, member] + 273.15)
            if lead == 0:
                assert set(rows) == {"2t"}
                continue
            begin = (lead - 1) // 6 * 6
            steps = [at for at, end in enumerate(LEADS) if begin < end <= lead]
            assert rows["tp"]["stepRange"] == f"{begin}-{lead}"
            assert close(rows["tp"], given.fields["precipitation_amount"][steps, member].sum(axis=0))
            widths = np.array([LEADS[at] - LEADS[at - 1] for at in steps])[:, None]
            sun = given.fields["downward_short_wave_radiation_flux_surface"][steps, member]
            assert close(rows["sdswrf"], (sun * widths).sum(axis=0) / (lead - begin))


def test_ecmwf_accumulates_from_the_start_in_metres_and_joules(tmp_path: Path) -> None:
    given = product()
    emit.write_ens(given, tmp_path)
    rows = messages(tmp_path / "20250710/12z/ifs/0p25/enfo/20250710120000-12h-enfo-ef.grib2")
    assert [(row["shortName"], row["perturbationNumber"]) for row in rows] == [(n, m) for m in (0, 1) for n in ("2t", "tp", "ssrd")]
    steps = [at for at, end in enumerate(LEADS) if 0 < end <= 12]
    for row in rows:
        member = row["perturbationNumber"]
        assert row["packingType"] in ("grid_ccsds", "grid_simple")  # a constant field is never compressed
        if row["shortName"] == "tp":
            assert (row["units"], row["stepRange"]) == ("m", "0-12")
            assert close(row, given.fields["precipitation_amount"][steps, member].sum(axis=0) / 1000.0)
        if row["shortName"] == "ssrd":
            sun = given.fields["downward_short_wave_radiation_flux_surface"][steps, member] * 3.0 * 3600.0
            assert (row["units"], row["stepRange"]) == ("J m**-2", "0-12")
            assert close(row, sun.sum(axis=0))


def test_aifs_has_its_control_in_a_file_of_its_own_and_rain_in_millimetres(tmp_path: Path) -> None:
    given = product(members=3)
    emit.write_aifs_ens(given, tmp_path)
    folder = tmp_path / "20250710/12z/aifs-ens/0p25/enfo"
    for kind, members in (("cf", [0]), ("pf", [1, 2])):
        rows = [row for row in messages(folder / f"20250710120000-9h-enfo-{kind}.grib2") if row["shortName"] in ("tp", "tprate", "unknown")]
        assert [row["perturbationNumber"] for row in rows] == members
        for row in rows:
            assert row["stepRange"] == "0-9"
            assert close(row, given.fields["precipitation_amount"][1:4, row["perturbationNumber"]].sum(axis=0))
        lines = (folder / f"20250710120000-9h-enfo-{kind}.index").read_text().splitlines()
        assert all('"class": "ai"' in line for line in lines)


def test_a_gfs_file_has_rain_over_two_windows(tmp_path: Path) -> None:
    given = product(members=1)
    emit.write_gfs(given, tmp_path)
    path = tmp_path / "gfs.20250710/12/atmos/gfs.t12z.pgrb2.0p25.f009"
    assert [row["stepRange"] for row in messages(path) if row["shortName"] == "tp"] == ["6-9", "0-9"]
    lines = parse_idx(path.with_name(f"{path.name}.idx").read_text())
    windows = [(line.begin_hours, line.end_hours) for line in lines if line.element == "APCP"]
    assert windows == [(6, 9), (0, 9)]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_index_entry_is_exactly_one_message(simulator: Simulator, dataset: str) -> None:
    settings = load_settings(root=str(simulator.folder.parents[1]), profile="tiny")
    source, transport = registry.grid_source(settings, dataset), registry.transport_for(settings, dataset)
    plan = source.plan(INIT, transport)
    assert {span.key for span in plan.spans} == source.expected(INIT)
    for span in plan.spans[::7]:
        data = transport.read(span.url, span.start, span.stop)
        assert data[:4] == b"GRIB"
        assert data[-4:] == b"7777"
        assert int.from_bytes(data[8:16], "big") == len(data)


@pytest.mark.parametrize("dataset", DATASETS)
def test_values_come_back_within_packing_precision(simulator: Simulator, dataset: str) -> None:
    settings = load_settings(root=str(simulator.folder.parents[1]), profile="tiny")
    source, transport = registry.grid_source(settings, dataset), registry.transport_for(settings, dataset)
    latitude, longitude = simulator.axes(dataset)
    fields = simulator.forecast(dataset, INIT, latitude, longitude)
    leads = source.spec.lead_hours
    spans = {span.key: span for span in source.plan(INIT, transport).spans}
    for key, span in spans.items():
        if key.variable != "temperature_2m" or key.member != 3:
            continue
        handle = eccodes.codes_new_from_message(transport.read(span.url, span.start, span.stop))
        decoded, precision = eccodes.codes_get_values(handle), eccodes.codes_get(handle, "packingError")
        assert (eccodes.codes_get(handle, "Ni"), eccodes.codes_get(handle, "Nj")) == (longitude.size, latitude.size)
        eccodes.codes_release(handle)
        truth = fields["temperature_2m"][leads.index(key.lead_hours), key.member] + 273.15
        assert np.max(np.abs(decoded - truth)) <= 1.01 * precision + 1e-4
        assert precision < 0.001


def test_cfgrib_opens_the_files_and_sees_the_same_values(simulator: Simulator, tmp_path: Path) -> None:
    cfgrib = pytest.importorskip("cfgrib")
    expectations = {
        "simulated-global-eps": ("gefs.20250710/12/atmos/pgrb2ap5/gep03.t12z.pgrb2a.0p50.f012", "t2m", "tp", 1.0),
        "simulated-regional-eps": ("20250710/12z/ifs/0p25/enfo/20250710120000-12h-enfo-ef.grib2", "t2m", "tp", 1000.0),
    }
    for dataset, (name, temperature, rain, scale) in expectations.items():
        opened = cfgrib.open_datasets(str(simulator.folder / dataset / name), indexpath=str(tmp_path / "{short_hash}.idx"))
        found = {str(variable): piece[variable] for piece in opened for variable in piece.data_vars}
        latitude, longitude = simulator.axes(dataset)
        fields = simulator.forecast(dataset, INIT, latitude, longitude)
        values = found[temperature].values.reshape(-1, latitude.size, longitude.size)
        member = 3 if values.shape[0] > 1 else 0
        expected = fields["temperature_2m"][3, 3].reshape(latitude.size, longitude.size) + 273.15  # lead 12 h
        assert values[member] == pytest.approx(expected, abs=2e-3)
        assert found[temperature]["latitude"].values == pytest.approx(latitude)
        assert found[temperature]["longitude"].values == pytest.approx(longitude)
        total = found[rain].values.reshape(-1, latitude.size * longitude.size)[member] * scale
        first = 0 if dataset == "simulated-regional-eps" else 2  # from the start, or since 6 h
        assert total == pytest.approx(fields["precipitation_amount"][first:4, 3].sum(axis=0), abs=5e-3)
        for piece in opened:
            piece.close()


def test_a_cycle_there_already_is_left_as_it_is(simulator: Simulator) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in simulator.folder.rglob("*") if path.is_file())
    assert not any(simulator.emit(INIT).values())
    assert before == sorted((path, path.stat().st_mtime_ns) for path in simulator.folder.rglob("*") if path.is_file())


def test_the_same_cycle_again_is_the_same_bytes(simulator: Simulator, tmp_path: Path) -> None:
    again = Simulator(simulator.region, simulator.seed, simulator.profile, tmp_path)
    again.emit(INIT)
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 * (8 * 5 + 8)
    assert all((simulator.folder / path).read_bytes() == (tmp_path / path).read_bytes() for path in files)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        (aside / "a/b").mkdir(parents=True)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        emit.write_aside(fail, tmp_path, Path("a/b"))
    assert not (tmp_path / "a/b").exists()
    assert not list(tmp_path.glob(".aside-*"))


def test_the_slower_of_two_writers_changes_nothing(tmp_path: Path) -> None:
    def write(aside: Path, text: str = "first") -> None:
        (aside / "a/b").mkdir(parents=True)
        (aside / "a/b/file").write_text(text)

    def overtaken(aside: Path) -> None:
        write(aside, "second")
        emit.write_aside(write, tmp_path, Path("a/b"))

    assert not emit.write_aside(overtaken, tmp_path, Path("a/b"))
    assert (tmp_path / "a/b/file").read_text() == "first"


def test_a_span_reads_through_a_folder_transport(simulator: Simulator) -> None:
    transport = FolderTransport(simulator.folder / "simulated-global-eps")
    settings = load_settings(root=str(simulator.folder.parents[1]), profile="tiny")
    span: Span = registry.grid_source(settings, "simulated-global-eps").plan(INIT, transport).spans[0]
    assert transport.read(span.url, span.start, span.stop).startswith(b"GRIB")
