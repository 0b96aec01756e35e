from __future__ import annotations

import csv
import math
import os
import signal
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from data_catalog import bufr
from data_catalog.bufr import Refusal, Report
from data_catalog.errors import TruncatedError, WorkerDiedError
from data_catalog.variables import TRACE
from data_catalog.workers import Worker
from tests.data_catalog.bufr_maker import report, synop, temp

TIME = "2025-08-26T12:00"


def decoded(data: bytes) -> list[Report]:
    found = bufr.read_message((data, None))
    assert isinstance(found, list), found
    return found


def values(one: Report) -> dict[tuple[str, float], float]:
    """Values by variable and hours, 0 for an instant."""
    return {(value.variable, 0.0 if math.isnan(value.hours) else value.hours): value.value for value in one.values}


WHOLE = report(
    "48820", TIME, latitude=21.0167, longitude=105.8, heightOfStationGroundAboveMeanSeaLevel=6.0, airTemperature=299.35,
    dewpointTemperature=297.15, pressureReducedToMeanSeaLevel=100120.0, horizontalVisibility=4000.0, cloudCoverTotal=88,
    totalPrecipitationPast24Hours=112.4,
    **{
        "#4#timePeriod": -6, "#1#totalPrecipitationOrTotalWaterEquivalent": 86.2, "#5#timePeriod": -1,
        "#2#totalPrecipitationOrTotalWaterEquivalent": 31.4, "#6#timePeriod": -12, "#7#timePeriod": 0,
        "#1#maximumTemperatureAtHeightAndOverPeriodSpecified": 306.15, "#8#timePeriod": -12, "#9#timePeriod": 0,
        "#1#minimumTemperatureAtHeightAndOverPeriodSpecified": 297.05, "#10#timePeriod": -10, "#1#windDirection": 120, "#1#windSpeed": 6.0,
        "#11#timePeriod": -10, "#1#maximumWindGustSpeed": 14.2, "#14#timePeriod": -1,
        "#1#globalSolarRadiationIntegratedOverPeriodSpecified": 720000.0,
    },
)    # fmt: skip
EXPECTED = {
    ("temperature_2m", 0.0): 26.2,
    ("dew_point_temperature_2m", 0.0): 24.0,
    ("pressure_reduced_to_mean_sea_level", 0.0): 100120.0,
    ("visibility", 0.0): 4000.0,
    ("total_cloud_cover_atmosphere", 0.0): 88.0,
    ("precipitation_amount", 24.0): 112.4,
    ("precipitation_amount", 6.0): 86.2,
    ("precipitation_amount", 1.0): 31.4,
    ("temperature_2m_max", 12.0): 33.0,
    ("temperature_2m_min", 12.0): 23.9,
    ("wind_from_direction_10m", 0.0): 120.0,
    ("wind_speed_10m", 0.0): 6.0,
    ("wind_gust_10m", 1 / 6): 14.2,
    ("downward_short_wave_radiation_flux_surface", 1.0): 200.0,
}


@pytest.mark.parametrize("template", [307080, 307086])
def test_every_value_of_a_synop_keeps_its_unit_and_interval(template: int) -> None:
    subset = dict(WHOLE)
    if template == 307086:      # the regional form has no period of evaporation before that of radiation
        subset.pop("#14#timePeriod"), subset.pop("#1#globalSolarRadiationIntegratedOverPeriodSpecified")
    (one,) = decoded(synop(subset, template=template))
    assert (one.wmo, one.time) == ("48820", np.datetime64(TIME))
    assert (one.latitude, one.longitude, one.elevation) == (pytest.approx(21.0167), pytest.approx(105.8), 6.0)
    wanted = {key: value for key, value in EXPECTED.items() if template == 307080 or "short_wave" not in key[0]}
    assert values(one) == pytest.approx(wanted, abs=0.05)


def test_a_blank_is_unknown_and_never_zero() -> None:
    (one,) = decoded(synop(report("48820", TIME, airTemperature=299.35, **{"#4#timePeriod": -6})))
    assert set(values(one)) == {("temperature_2m", 0.0)}


def test_no_rain_is_zero_and_a_trace_is_more() -> None:
    rain = {"#4#timePeriod": -6, "#1#totalPrecipitationOrTotalWaterEquivalent": 0.0}
    trace = {"#5#timePeriod": -1, "#2#totalPrecipitationOrTotalWaterEquivalent": -0.1}
    (one,) = decoded(synop(report("48820", TIME, **rain, **trace)))
    assert values(one) == {("precipitation_amount", 6.0): 0.0, ("precipitation_amount", 1.0): TRACE}


def test_an_amount_without_its_period_is_not_taken() -> None:
    (one,) = decoded(synop(report("48820", TIME, airTemperature=299.35, **{"#1#totalPrecipitationOrTotalWaterEquivalent": 4.0})))
    assert set(values(one)) == {("temperature_2m", 0.0)}


def test_an_extreme_of_a_period_that_ended_before_the_report() -> None:
    period = {"#6#timePeriod": -18, "#7#timePeriod": -6, "#1#maximumTemperatureAtHeightAndOverPeriodSpecified": 306.15}
    (one,) = decoded(synop(report("48820", TIME, **period)))
    (value,) = one.values
    assert (value.variable, value.hours, value.ago) == ("temperature_2m_max", 12.0, 6.0)


def test_a_report_without_values_is_none() -> None:
    assert decoded(synop(report("48820", TIME, latitude=21.0167, longitude=105.8))) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_each_subset_is_a_report(compressed: bool) -> None:
    stations = [report(number, TIME, airTemperature=290.0 + step) for step, number in enumerate(["48820", "48825", "48826"])]
    found = decoded(synop(*stations, compressed=compressed))
    assert [one.wmo for one in found] == ["48820", "48825", "48826"]
    assert [one.values[0].value for one in found] == pytest.approx([16.85, 17.85, 18.85], abs=0.06)


def test_levels_of_a_sounding() -> None:
    given = [
        {"pressure": 85000.0, "nonCoordinateGeopotentialHeight": 1500.0, "airTemperature": 290.15, "dewpointTemperature": 285.15},
        {"pressure": 100000.0, "airTemperature": 300.15, "windDirection": 90, "windSpeed": 3.0},
        {"pressure": 70000.0},
    ]
    (one,) = decoded(temp(given, **report("48820", TIME)))
    nan = np.nan
    expected = [[100000.0, nan, 27.0, nan, 90.0, 3.0], [85000.0, 1500.0, 17.0, 12.0, nan, nan]]
    assert one.levels is not None
    assert one.levels == pytest.approx(np.array(expected), abs=0.06, nan_ok=True)


def test_a_wanted_number_decides_what_is_decoded() -> None:
    data = synop(WHOLE)
    assert bufr.read_message((data, frozenset({"48825"}))) == []
    assert len(bufr.read_message((data, frozenset({"48820"})))) == 1


def test_what_is_cut_off_is_refused_and_the_rest_is_read() -> None:
    whole = synop(WHOLE)
    data = b"SIVS01 VNNN 261200\r\r\n" + whole + whole[:-20] + b"\r\r\n" + whole
    pieces = list(bufr.split(data))
    assert [type(piece) for piece in pieces] == [bytes, Refusal, bytes]
    with bufr.worker() as process:
        found = list(bufr.decode(data, process))
    assert [type(one) for one in found] == [Report, Refusal, Report]
    assert isinstance(found[1], Refusal)
    assert isinstance(found[1].error, TruncatedError)
    assert found[1].message == 2
    (nothing,) = bufr.split(b"<html>busy</html>")
    assert isinstance(nothing, Refusal)


def test_flipped_octets_never_stop_the_rest() -> None:
    """Whatever a damaged message does to ecCodes, the messages around it are read."""
    whole = synop(WHOLE)
    random = np.random.default_rng(5)
    damaged = []
    for _ in range(12):
        data = bytearray(whole)
        for place in random.integers(8, len(data) - 4, 4):
            data[place] = random.integers(0, 256)
        damaged.append(bytes(data))
    with bufr.worker() as process:
        found = list(bufr.decode(b"".join([whole, *(piece + whole for piece in damaged)]), process))
    assert sum(isinstance(one, Report) and values(one) == pytest.approx(EXPECTED, abs=0.05) for one in found) >= 13


def killed(argument: int) -> int:
    """In the worker: die over 2, answer over anything else."""
    if argument == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return argument


def test_a_worker_that_dies_costs_one_call() -> None:
    with Worker("tests.data_catalog.test_bufr:killed") as worker:
        assert worker.call(1) == 1
        with pytest.raises(WorkerDiedError, match="died of signal 11"):
            worker.call(2)
        assert worker.call(3) == 3


def slow(seconds: float) -> float:
    """In the worker."""
    import time

    time.sleep(seconds)
    return seconds


def test_a_worker_that_hangs_costs_one_call() -> None:
    with Worker("tests.data_catalog.test_bufr:slow", timeout=0.5) as worker:
        with pytest.raises(WorkerDiedError, match=r"longer than 0\.5 s"):
            worker.call(60.0)
        assert worker.call(0.0) == 0.0


# --- real data -------------------------------------------------------------------------------------------------------------------------


def vietnamese(data: bytes) -> bytes:
    """Messages that ECMWF's local section files under 48xxx: Vietnam, Laos and their neighbours."""
    return b"".join(piece for piece in bufr.split(data) if isinstance(piece, bytes) and b"48" in piece[26:90])


@pytest.fixture(scope="module")
def surface(real_data: Path) -> dict[str, list[Report]]:
    found = defaultdict(list)
    with bufr.worker() as process:
        for one in bufr.decode(vietnamese((real_data / "bufr" / "perf_synop.bufr").read_bytes()), process):
            assert isinstance(one, Report)
            found[one.wmo].append(one)
    return found


@pytest.mark.real_data
def test_vietnamese_stations_have_their_decoded_values(surface: dict[str, list[Report]], real_data: Path) -> None:
    with (real_data / "bufr" / "vietnam_synop_2018110212.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 39
    for row in rows:
        found = [value for one in surface[row["wmo"]] for value in values(one).items()]
        assert len({key for key, _ in found}) == len(found)       # nothing twice
        have = dict(found)
        expected = {
            ("temperature_2m", 0.0): float(row["t2m_K"]) - 273.15,
            ("dew_point_temperature_2m", 0.0): float(row["td_K"]) - 273.15,
            ("wind_speed_10m", 0.0): float(row["wind_ms"]),
            ("wind_from_direction_10m", 0.0): float(row["wdir"]),
        }
        if row["slp_pa"]:
            expected["pressure_reduced_to_mean_sea_level", 0.0] = float(row["slp_pa"])
        if row["rain24"]:
            expected["precipitation_amount", 24.0] = float(row["rain24"])
        assert {key: have.get(key) for key in expected} == pytest.approx(expected)
        assert ("pressure_reduced_to_mean_sea_level", 0.0) in have or not row["slp_pa"]
        assert all(one.time == np.datetime64("2018-11-02T12:00") for one in surface[row["wmo"]])


@pytest.mark.real_data
def test_ha_dong(surface: dict[str, list[Report]]) -> None:
    """One report in two pieces: the second has the maximum temperature."""
    pieces = surface["48825"]
    assert len(pieces) == 2
    together = {key: value for one in pieces for key, value in values(one).items()}
    assert together["temperature_2m", 0.0] == pytest.approx(23.45)
    assert together["temperature_2m_max", 12.0] == pytest.approx(29.75)
    assert together["precipitation_amount", 12.0] == 0.0
    assert together["pressure_reduced_to_mean_sea_level", 0.0] == 101560.0


@pytest.mark.real_data
def test_the_soundings_have_their_levels(real_data: Path) -> None:
    with (real_data / "bufr" / "vietnam_soundings_2008120812.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected: dict[str, list[list[float]]] = defaultdict(list)
    names = ("pressure", "nonCoordinateGeopotential", "airTemperature", "dewpointTemperature", "windDirection", "windSpeed")
    scale = np.array([1.0, 1 / 9.80665, 1.0, 1.0, 1.0, 1.0])
    offset = np.array([0.0, 0.0, -273.15, -273.15, 0.0, 0.0])
    for row in rows:
        expected[row["wmo"]].append(np.array([float(row[name] or "nan") for name in names]) * scale + offset)
    with bufr.worker() as process:
        data = (real_data / "bufr" / "temp.bufr").read_bytes()
        found = [one for one in bufr.decode(data, process, expected) if isinstance(one, Report)]
    assert sorted(one.wmo for one in found) == sorted(expected)
    for one in found:
        have = np.array([level for level in expected[one.wmo] if np.isfinite(level[1:]).any()])
        assert one.levels is not None
        assert one.levels == pytest.approx(have[np.argsort(-have[:, 0], kind="stable")], nan_ok=True)
    assert next(one for one in found if one.wmo == "48820").levels.shape == (47, 6)


@pytest.mark.real_data
def test_a_station_is_known_by_its_wigos_identifier(real_data: Path) -> None:
    found = [one for one in bufr.read_file(real_data / "bufr" / "synop_wigos.bufr") if isinstance(one, Report)]
    assert [one.wigos for one in found] == ["0-705-0-1931", "0-705-0-1932", "0-705-0-1933"]
    assert values(found[0])["precipitation_amount", 1 / 6] == 0.0


@pytest.mark.real_data
def test_pdbufr_reads_the_same(real_data: Path, tmp_path: Path) -> None:
    pdbufr = pytest.importorskip("pdbufr")
    data = b"".join(list(filter(lambda piece: b"488" in piece[26:90], bufr.split((real_data / "bufr" / "perf_synop.bufr").read_bytes()))))
    (tmp_path / "vietnam.bufr").write_bytes(data)
    columns = ("blockNumber", "stationNumber", "airTemperatureAt2M", "dewpointTemperatureAt2M", "pressureReducedToMeanSeaLevel")
    theirs = pdbufr.read_bufr(str(tmp_path / "vietnam.bufr"), columns=columns).dropna(subset=["airTemperatureAt2M"])
    with bufr.worker() as process:
        reports = [one for one in bufr.decode(data, process) if isinstance(one, Report)]
    ours: dict[str, dict[tuple[str, float], float]] = defaultdict(dict)
    for one in reports:
        ours[one.wmo] |= values(one)
    assert len(theirs) > 20
    for row in theirs.itertuples():
        mine = ours[f"{int(row.blockNumber):02d}{int(row.stationNumber):03d}"]
        assert mine["temperature_2m", 0.0] == pytest.approx(row.airTemperatureAt2M - 273.15)
        assert mine["dew_point_temperature_2m", 0.0] == pytest.approx(row.dewpointTemperatureAt2M - 273.15)
