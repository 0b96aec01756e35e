from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import SourceError
from data_catalog.sources.base import FieldKey, GridSpec
from data_catalog.sources.ecmwf import EcmwfSource, ens_path, parse_index

INIT = np.datetime64("2025-03-01T00")


def test_the_path_is_the_public_one() -> None:
    assert ens_path(INIT, 6) == "20250301/00z/ifs/0p25/enfo/20250301000000-6h-enfo-ef.grib2"
    assert ens_path(np.datetime64("2025-03-01T12"), 150) == "20250301/12z/ifs/0p25/enfo/20250301120000-150h-enfo-ef.grib2"


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
    plan = EcmwfSource(GridSpec("ecmwf-aifs-single", "AIFS", "", (0,), 6.0, (6,), 1, variables)).plan(INIT, Text())
    spans = {span.key: span for span in plan.spans}
    assert spans[FieldKey("temperature_2m", 6)].start == next(line.start for line in parse_index(text) if line.param == "2t")
    assert set(spans) == {FieldKey(name, 6) for name in variables[:3]}
    assert [key for key, _ in plan.missing] == [FieldKey("wind_gust_10m", 6)]  # AIFS has no gust
