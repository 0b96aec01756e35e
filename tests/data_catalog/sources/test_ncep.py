from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import SourceError
from data_catalog.sources.base import FieldKey, GridSpec, Host
from data_catalog.sources.gribfiles import GribSource
from data_catalog.sources.ncep import FIELDS, IDX, find_fields, gefs_path, gfs_path, parse_idx

INIT = np.datetime64("2025-08-01T00")


def source(lead: int) -> GribSource:
    variables = tuple(field.variable for field in FIELDS)
    return GribSource(GridSpec("noaa-test", "test", (Host(""),), (0,), 5.0, (lead,), 1, variables), lambda init, key: ("file",), IDX)


class Text:
    """A transport that has one index."""

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        assert url == "file.idx"
        return self.text.encode()


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_messages_end_where_the_next_begins(lengths: list[int]) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    text = "".join(f"{n + 1}:{start}:d=2025080100:TMP:{n} mb:3 hour fcst:\n" for n, start in enumerate(starts))
    lines = parse_idx(text)
    assert [line.start for line in lines] == list(starts)
    assert [line.stop for line in lines] == [*starts[1:], None]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("anl", (0, 0, "")),
        ("9 hour fcst", (9, 9, "")),
        ("2 day fcst", (48, 48, "")),
        ("6-7 hour acc fcst", (6, 7, "acc")),
        ("0-1 day acc fcst", (0, 24, "acc")),
        ("12-15 hour ave fcst", (12, 15, "ave")),
        ("12-15 hour max fcst", (12, 15, "max")),
    ],
)
def test_windows_are_hours(window: str, expected: tuple[int, int, str]) -> None:
    (line,) = parse_idx(f"1:0:d=2025080106:APCP:surface:{window}:ENS=+1")
    assert (line.begin_hours, line.end_hours, line.statistic) == expected
    assert line.member == "ENS=+1"
    assert line.init_time == np.datetime64("2025-08-01T06")


def test_two_fields_of_one_message_share_its_bytes() -> None:
    text = "1.1:0:d=2025080100:UGRD:10 mb:anl:\n1.2:0:d=2025080100:VGRD:10 mb:anl:\n2:500:d=2025080100:TMP:10 mb:anl:\n"
    assert [(line.number, line.start, line.stop) for line in parse_idx(text)] == [("1.1", 0, 500), ("1.2", 0, 500), ("2", 500, None)]


@pytest.mark.parametrize("text", ["<html>busy</html>", "1:0:TMP:2 m", "1:x:d=2025080100:TMP:2 mb:anl:", "a:0:d=20250801:TMP:2 mb:anl:"])
def test_what_is_no_index_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match=r"Not a line of an \.idx file"):
        parse_idx(text)


def test_offsets_that_go_back_are_refused() -> None:
    with pytest.raises(SourceError, match="go back"):
        parse_idx("1:10:d=2025080100:TMP:2 mb:anl:\n2:5:d=2025080100:TMP:3 mb:anl:\n")


def test_probabilities_are_left_out() -> None:
    assert parse_idx("1:0:d=2025080100:APCP:surface:6-7 hour acc fcst prob >25.4:prob fcst 3/30\n") == []


def test_the_shortest_window_that_ends_at_the_lead_is_taken() -> None:
    text = "1:0:d=2025080100:APCP:surface:0-7 hour acc fcst:\n2:9:d=2025080100:APCP:surface:6-7 hour acc fcst:\n"
    plan = source(7).plan(INIT, Text(text))
    assert [(span.key, span.start) for span in plan.spans] == [(FieldKey("precipitation_amount", 7), 9)]


def test_an_index_of_another_cycle_gives_nothing() -> None:
    plan = source(7).plan(INIT, Text("1:0:d=2025073118:TMP:2 m above ground:7 hour fcst:\n"))
    assert not plan.spans
    assert dict(plan.missing)[FieldKey("temperature_2m", 7)] == "file.idx does not list it"


def test_paths_are_the_public_ones() -> None:
    assert gfs_path(INIT, 6) == "gfs.20250801/00/atmos/gfs.t00z.pgrb2.0p25.f006"
    assert gfs_path(np.datetime64("2021-03-22T18"), 384) == "gfs.20210322/18/gfs.t18z.pgrb2.0p25.f384"
    assert gefs_path(INIT, 240, 0) == "gefs.20250801/00/atmos/pgrb2sp25/gec00.t00z.pgrb2s.0p25.f240"
    assert gefs_path(np.datetime64("2025-08-01T18"), 3, 30) == "gefs.20250801/18/atmos/pgrb2sp25/gep30.t18z.pgrb2s.0p25.f003"
    assert gefs_path(INIT, 246, 1, "a", "0p50") == "gefs.20250801/00/atmos/pgrb2ap5/gep01.t00z.pgrb2a.0p50.f246"
    assert gefs_path(INIT, 246, 0, "b", "0p50") == "gefs.20250801/00/atmos/pgrb2bp5/gec00.t00z.pgrb2b.0p50.f246"


@pytest.mark.parametrize(("words", "member"), [("ENS=+2", 2), ("ENS=low-res ctl", 0), ("ENS=hi-res ctl", 0), ("", 2)])
def test_an_index_of_another_member_gives_nothing(words: str, member: int) -> None:
    text = f"1:0:d=2025080100:TMP:2 m above ground:6 hour fcst:{words}\n"
    asked = [FieldKey("temperature_2m", 6, number) for number in (0, 1, 2)]
    found = [key for key in asked if find_fields(text, INIT, {key})]
    assert found == ([FieldKey("temperature_2m", 6, member)] if words else asked)
    assert not find_fields(text.rstrip().removesuffix(words) + "ens mean", INIT, set(asked))


@pytest.mark.real_data
def test_a_real_gfs_analysis_has_no_interval_and_two_mb_is_not_two_metres(real_data: Path) -> None:
    text = (real_data / "grib/index/gfs.t00z.pgrb2.0p25.f000.idx").read_text()
    lines = parse_idx(text)
    assert len(lines) == len(text.splitlines()) == 696
    assert all(line.statistic == "" and line.end_hours == 0 for line in lines)
    plan = source(0).plan(INIT, Text(text))
    spans = {span.key.variable: span for span in plan.spans}
    assert spans["temperature_2m"].start == 414591098
    assert spans["temperature_2m"].start != next(line.start for line in lines if (line.element, line.level) == ("TMP", "2 mb"))
    assert not plan.missing
    assert "precipitation_amount" not in spans


@pytest.mark.real_data
def test_a_real_gfs_forecast_tells_six_to_seven_from_zero_to_seven(real_data: Path) -> None:
    text = (real_data / "grib/index/gfs.t00z.pgrb2.0p25.f007.idx").read_text()
    rain = [line for line in parse_idx(text) if line.element == "APCP" and line.level == "surface"]
    assert [(line.begin_hours, line.end_hours, line.start) for line in rain] == [(6, 7, 428200066), (0, 7, 428448703)]
    plan = source(7).plan(INIT, Text(text))
    spans = {span.key.variable: span for span in plan.spans}
    assert (spans["precipitation_amount"].start, spans["precipitation_amount"].stop) == (428200066, 428448703)
    assert spans["total_cloud_cover_atmosphere"].start == 446359275  # at 7 h, not the mean over 6-7 h
    assert spans["downward_short_wave_radiation_flux_surface"].start == 461714428
    assert spans["temperature_2m"].start == 418201888
    assert not plan.missing


@pytest.mark.real_data
def test_a_real_gefs_member_has_all_but_the_cloud_cover(real_data: Path) -> None:
    text = (real_data / "grib/index/gep01.t00z.pgrb2s.0p25.f015.idx").read_text()
    lines = parse_idx(text)
    assert {line.member for line in lines} == {"ENS=+1"}
    wanted = {FieldKey(field.variable, 15, 1) for field in FIELDS}
    missing = {key.variable for key in wanted - find_fields(text, INIT, wanted).keys()}
    assert missing == {"total_cloud_cover_atmosphere"}  # only a mean over 12-15 h is there
    rain = next(line for line in lines if line.element == "APCP")
    assert (rain.begin_hours, rain.end_hours) == (12, 15)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "member", "count"),
    [("gec00.t00z.pgrb2b.0p50.f003.idx", "ENS=low-res ctl", 505), ("geavg.t00z.pgrb2s.0p25.f009.idx", "ens mean", 38)],
)
def test_other_real_gefs_indexes_parse_whole(real_data: Path, name: str, member: str, count: int) -> None:
    lines = parse_idx((real_data / "grib/index" / name).read_text())
    assert len(lines) == count
    assert {line.member for line in lines} == {member}
