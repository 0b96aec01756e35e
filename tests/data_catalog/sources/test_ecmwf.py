from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import SourceError
from data_catalog.sources import ecmwf
from data_catalog.sources.base import FieldKey, GridSpec, Host
from data_catalog.sources.ecmwf import ens_path, find_fields, parse_index, path

INIT = np.datetime64("2025-03-01T00")


def test_the_path_is_the_public_one() -> None:
    assert ens_path(INIT, 6) == "20250301/00z/ifs/0p25/enfo/20250301000000-6h-enfo-ef.grib2"
    assert ens_path(np.datetime64("2025-03-01T12"), 150) == "20250301/12z/ifs/0p25/enfo/20250301120000-150h-enfo-ef.grib2"


@pytest.mark.parametrize(
    ("init_time", "folder"),
    [
        ("2024-02-28T12", "0p25/oper"),
        ("2024-02-29T00", "ifs/0p25/oper"),
    ],
)
def test_the_folder_of_ifs_came_in_2024(init_time: str, folder: str) -> None:
    assert f"z/{folder}/" in path(np.datetime64(init_time), 6, "ifs", "oper", "fc")


@pytest.mark.parametrize(
    ("init_time", "folder"),
    [
        ("2025-02-09T06", "aifs/0p25/oper"),
        ("2025-02-09T12", "aifs-single/0p25/experimental/oper"),
        ("2025-02-25T00", "aifs-single/0p25/experimental/oper"),
        ("2025-02-25T06", "aifs-single/0p25/oper"),
    ],
)
def test_the_folder_of_aifs_moved_twice(init_time: str, folder: str) -> None:
    assert f"z/{folder}/" in path(np.datetime64(init_time), 6, "aifs-single", "oper", "fc")


def file_names(dataset: str, init_time: str, members: tuple[int, ...] = (0,)) -> list[str]:
    """Names of the files with the temperature at 6 h."""
    source = next(source for source in ecmwf.SOURCES if source.spec.dataset == dataset)
    keys = [FieldKey("temperature_2m", 6, member) for member in members]
    return [source.places(np.datetime64(init_time), key)[0].rpartition("/")[2].partition("-6h-")[2] for key in keys]


def test_member_0_of_the_ensemble_is_the_high_resolution_forecast_since_cycle_50r1() -> None:
    assert file_names("ecmwf-ifs-ens", "2026-05-12T00", (0, 1, 50)) == ["enfo-ef.grib2"] * 3
    assert file_names("ecmwf-ifs-ens", "2026-05-12T06", (0, 1, 50)) == ["oper-fc.grib2", "enfo-ef.grib2", "enfo-ef.grib2"]


def test_short_cycles_were_called_scda_and_have_grown() -> None:
    for init_time, name, last in (
        ("2026-05-11T06", "scda-fc.grib2", 90), ("2026-05-11T12", "oper-fc.grib2", 240), ("2026-05-12T06", "oper-fc.grib2", 144),
    ):    # fmt: skip
        assert file_names("ecmwf-ifs-hres", init_time) == [name]
        source = next(source for source in ecmwf.SOURCES if source.spec.dataset == "ecmwf-ifs-hres")
        assert max(key.lead_hours for key in source.expected(np.datetime64(init_time))) == last


def test_aifs_has_control_and_members_in_files_of_their_own() -> None:
    assert file_names("ecmwf-aifs-ens", "2025-07-02T00", (0, 1, 50)) == ["enfo-cf.grib2", "enfo-pf.grib2", "enfo-pf.grib2"]


def test_lines_of_another_cycle_or_level_are_passed_over() -> None:
    line = '{"date": "20250301", "time": "0000", "step": "6", "levtype": "sfc", "param": "2t", "_offset": 7, "_length": 3}'
    key = FieldKey("temperature_2m", 6)
    assert find_fields(line, INIT, {key}) == {key: (7, 10)}
    assert not find_fields(line.replace("0000", "1200"), INIT, {key})
    assert not find_fields(line.replace("sfc", "pl"), INIT, {key})
    assert find_fields(line + "\n" + line.replace("7", "99"), INIT, {key}) == {key: (7, 10)}, "the first of two"


@pytest.mark.parametrize(
    "text", ["<html>", '{"param": "2t"}', "[1, 2]", '{"param": "2t", "levtype": "sfc", "step": "x", "_offset": 0, "_length": 1}']
)
def test_what_is_no_index_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match=r"Not a line of an \.index file"):
        parse_index(text)


def test_members_and_steps_are_read() -> None:
    text = (
        '{"type": "cf", "step": "6", "levtype": "sfc", "param": "tp", "_offset": 0, "_length": 10}\n'
        '{"type": "pf", "number": "31", "step": "0-6", "levtype": "sfc", "param": "tp", "_offset": 10, "_length": 5}\n'
    )
    assert [(line.step_hours, line.member, line.start, line.stop) for line in parse_index(text)] == [(6, 0, 0, 10), (6, 31, 10, 15)]


@pytest.mark.real_data
@pytest.mark.parametrize(("step", "count"), [(0, 106), (6, 102)])
def test_real_indexes_parse_whole_and_cover_the_file(real_data: Path, step: int, count: int) -> None:
    lines = parse_index((real_data / f"grib/index/aifs_single_20250301_00z_{step}h.index").read_text())
    assert len(lines) == count
    assert {line.step_hours for line in lines} == {step}
    places = sorted((line.start, line.stop) for line in lines)
    assert places[0][0] == 0
    assert all(stop == start for (_, stop), (start, _) in pairwise(places))


@pytest.mark.real_data
def test_a_real_step_is_planned(real_data: Path) -> None:
    text = (real_data / "grib/index/aifs_single_20250301_00z_6h.index").read_text()

    class Text:
        def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
            return text.encode()

    variables = ("temperature_2m", "precipitation_amount", "downward_short_wave_radiation_flux_surface", "wind_gust_10m")
    plan = ecmwf.ens(GridSpec("ecmwf-aifs-single", "AIFS", (Host(""),), (0,), 6.0, (6,), 1, variables)).plan(INIT, Text())
    spans = {span.key: span for span in plan.spans}
    assert spans[FieldKey("temperature_2m", 6)].start == next(line.start for line in parse_index(text) if line.param == "2t")
    assert set(spans) == {FieldKey(name, 6) for name in variables[:3]}
    assert [key for key, _ in plan.missing] == [FieldKey("wind_gust_10m", 6)]  # AIFS has no gust
