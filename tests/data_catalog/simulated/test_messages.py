"""What the stations send is what the readers of real stations read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog import bufr
from data_catalog.observations import merge
from data_catalog.settings import Settings, load_settings
from data_catalog.simulated import messages
from data_catalog.simulated.simulator import Simulator
from data_catalog.sources import registry
from data_catalog.sources.simulated import NETWORK, report_paths

UNTIL = np.datetime64("2024-09-08T00")  # after a typhoon
SINCE = UNTIL - np.timedelta64(24, "h")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(root=str(tmp_path_factory.mktemp("root")))


@pytest.fixture(scope="module")
def simulator(settings: Settings) -> Simulator:
    found = registry.simulator(settings)
    assert found.reports(SINCE, UNTIL) == 24
    assert isinstance(found, Simulator)
    return found


def test_what_is_read_is_what_goes_straight_into_the_archive(settings: Settings, simulator: Simulator) -> None:
    """Bit for bit: the last days come through the decoders, the past does not, and no one can tell."""
    found = registry.station_source(settings, NETWORK).read(SINCE, UNTIL, registry.transport_for(settings, NETWORK))
    assert found.flaws == ()
    straight = simulator.observations(SINCE + np.timedelta64(1, "h") * np.arange(1, 25))
    decoded, expected = (merge(one, one) for one in (found.data, straight))
    expected = expected.sel(station=decoded["station"])
    assert set(decoded.data_vars) == set(expected.data_vars)
    for name in expected.data_vars:
        assert np.array_equal(decoded[name].values, expected[name].values, equal_nan=True), name
    np.testing.assert_array_equal(decoded["available_time"].values, expected["available_time"].values)
    assert decoded.attrs["simulated"] is True


def test_each_station_reports_in_its_own_form(simulator: Simulator) -> None:
    base = simulator.folder / NETWORK
    synop, metar, gauges = (base / path for path in report_paths(UNTIL - np.timedelta64(6, "h")))
    with bufr.worker() as worker:
        reports = list(bufr.decode(synop.read_bytes(), worker))
    numbers = {station.aliases["synop"] for station in simulator.region.operating if "synop" in station.aliases}
    assert {report.wmo for report in reports if isinstance(report, bufr.Report)} == numbers
    (row,) = json.loads(metar.read_text())
    form = r"METAR VVNB 071800Z \d{5}(G\d\d)?KT \d{4} (\w\w )?(NSC|(FEW|SCT|BKN|OVC)\d{3}) M?\d\d/M?\d\d Q\d{4} NOSIG"
    assert re.fullmatch(form, row["rawOb"]), row["rawOb"]
    lines = gauges.read_text().splitlines()
    assert lines[0].startswith("station,time [UTC],temperature_2m [degree_Celsius],")
    assert [line.split(",")[0] for line in lines[1:]] == ["noi_bai", "ba_vi"]


def test_a_report_says_only_what_was_measured(simulator: Simulator) -> None:
    stations = simulator.region.operating
    nothing: list[messages.Values] = [{} for _ in stations]
    assert messages.synop(stations, UNTIL, nothing) == b""
    assert json.loads(messages.metar(stations, UNTIL, UNTIL, nothing)) == []
    assert messages.gauges(stations, UNTIL, ["visibility"], nothing) == b"station,time [UTC],visibility [m]\n"
    one = [{"temperature_2m": 31.3} if station.id == "lang" else {} for station in stations]
    (report,) = bufr.read_message((messages.synop(stations, UNTIL, one), None))
    assert isinstance(report, bufr.Report)
    assert [(value.variable, round(value.value, 3)) for value in report.values] == [("temperature_2m", 31.3)]


def steps(least: float, greatest: float, step: float) -> st.SearchStrategy[float]:
    return st.integers(round(least / step), round(greatest / step)).map(lambda number: number * step)


SAID = st.fixed_dictionaries(
    {},
    optional={
        "temperature_2m": steps(-5, 45, 0.1), "dew_point_temperature_2m": steps(-15, 30, 0.1),
        "pressure_reduced_to_mean_sea_level": steps(94000, 104000, 10), "visibility": steps(0, 40000, 100),
        "total_cloud_cover_atmosphere": steps(0, 100, 1), "wind_speed_10m": steps(0, 60, 0.1), "wind_gust_10m": steps(0, 80, 0.1),
        "wind_from_direction_10m": steps(0, 360, 1), "precipitation_amount": steps(0, 400, 0.1),
        "downward_short_wave_radiation_flux_surface": steps(0, 1000, 1), "temperature_2m_max": steps(-5, 45, 0.1),
    },
)  # fmt: skip


@given(SAID, st.sampled_from([1.0, 3.0, 6.0]))
def test_what_synop_says_is_what_was_meant(simulator: Simulator, said: dict[str, float], length: float) -> None:
    station = next(station for station in simulator.region.operating if station.id == "lang")
    data = messages.synop([station], UNTIL, [{**said, "precipitation_amount_interval": length}])
    found = bufr.read_message((data, None))
    assert not isinstance(found, str), found
    read = {value.variable: value for report in found for value in report.values}
    assert set(read) == set(said)
    for name, value in said.items():
        assert read[name].value == pytest.approx(value, abs=1e-6), name
    if "precipitation_amount" in said:
        assert read["precipitation_amount"].hours == length


def test_hours_that_are_there_are_left_as_they_are(simulator: Simulator) -> None:
    path = simulator.folder / NETWORK / report_paths(UNTIL)[0]
    before = path.stat().st_mtime_ns
    assert simulator.reports(SINCE, UNTIL) == 0
    assert path.stat().st_mtime_ns == before
    assert not [left for left in Path(simulator.folder).rglob(".*") if left.is_file()]
