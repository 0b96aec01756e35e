"""Decoding GRIB: every message accounted for, values those of ecCodes and cfgrib, damage told, workers expendable."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import eccodes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import DecodeError, NotGribError, QualityError, TruncatedError, WorkerDiedError
from data_catalog.grib import DecodePool, Quarantined, Skipped, Source, Taken
from data_catalog.grib.accumulation import Total, deaccumulate, to_intervals
from data_catalog.grib.grid import Grid, make_mesh, read_grid
from data_catalog.grib.messages import Flaw, Piece, message_bytes, read_header, scan
from tests.data_catalog.grib_maker import APCP, ECMWF_TP, EDGES, SHORT_WAVE, TEMPERATURE, axes, message, weather, write
from tests.data_catalog.sources.provider import MESH, on_mesh

WORLD = (90.0, -90.0, -180.0, 180.0)
HOUR = np.timedelta64(1, "h")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(workers=1) as shared:
        yield shared


def decoded(pool: DecodePool, *data: bytes, edges: tuple[float, float, float, float] = EDGES, keep_unknown: bool = False):
    return list(pool.decode([Source(f"memory {n}", data=one) for n, one in enumerate(data)], edges, keep_unknown=keep_unknown))


def one_field(pool: DecodePool, data: bytes, **how):
    (outcome,) = decoded(pool, data, **how)
    assert isinstance(outcome, Taken), outcome
    return outcome.field


# --- real files --------------------------------------------------------------------------------------------------------------------


def messages_by_eccodes(path: Path) -> int:
    with path.open("rb") as file:
        count = 0
        while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
            eccodes.codes_release(handle)
            count += 1
    return count


@pytest.mark.real_data
def test_every_message_of_every_real_file_is_accounted_for_once(real_data, pool):
    files = sorted(path for path in (real_data / "grib").glob("*/*.grib*") if path.suffix != ".index")
    assert len(files) > 15
    for path in files:
        outcomes = list(pool.decode([path], EDGES))
        places = [(outcome.message, outcome.part) for outcome in outcomes]
        assert places == sorted(set(places)), path.name
        if path.name == "era5-levels-corrupted.grib":
            assert any(isinstance(outcome, Quarantined) for outcome in outcomes)
        else:
            assert {message for message, _ in places} == set(range(1, messages_by_eccodes(path) + 1)), path.name
            assert not any(isinstance(outcome, Quarantined) for outcome in outcomes), path.name


@pytest.mark.real_data
def test_complete_gfs_file_of_the_cold_surge(real_data, pool):
    outcomes = list(pool.decode([real_data / "grib" / "ncep" / "gfs_20110110T12_f120_2p5deg.grib2"], EDGES))
    fields = {outcome.field.variable: outcome.field for outcome in outcomes if isinstance(outcome, Taken)}
    assert sum(isinstance(outcome, Taken) for outcome in outcomes) == len(fields) == 13
    t2m = fields["temperature_2m"]
    assert t2m.dataset == "noaa-gfs-2p50"
    assert t2m.init_time == np.datetime64("2011-01-10T12")
    assert t2m.lead_time == 120 * HOUR
    assert t2m.interval_start is None
    place = list(t2m.latitude).index(20.0), list(t2m.longitude).index(105.0)
    assert t2m.values[place] + 273.15 == pytest.approx(284.48, abs=0.005)
    rain = fields["precipitation_amount"]
    assert (rain.interval_start, rain.lead_time, rain.process) == (114 * HOUR, 120 * HOUR, "sum")
    assert {"wind_u_10m", "wind_v_10m"} <= fields.keys(), "two fields of one message"
    assert fields["temperature_2m_max"].values.min() > fields["temperature_2m_min"].values.min()
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Skipped)}
    assert all(reason.startswith("no vocabulary: ") for reason in reasons)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "keys", "variable", "scale", "offset"),
    [
        ("ncep/gfs_20110110T12_f120_2p5deg.grib2", {"shortName": "2t"}, "temperature_2m", 1.0, -273.15),
        ("ncep/gfs_20110110T12_f120_2p5deg.grib2", {"shortName": "10v"}, "wind_v_10m", 1.0, 0.0),
        ("ncep/gfs_20111008T00_f072_2p5deg.grib2", {"shortName": "tp"}, "precipitation_amount", 1.0, 0.0),
        ("ncep/gfs_20111008T00_f072_2p5deg.grib2", {"shortName": "prmsl"}, "pressure_reduced_to_mean_sea_level", 1.0, 0.0),
        ("ecmwf/ecmwf-ifs-oper-surface.grib2", {"shortName": "tcc"}, "total_cloud_cover_atmosphere", 100.0, 0.0),
        ("ecmwf/ecmwf_2t_20210531T12.grib", {"shortName": "2t", "step": 6}, "temperature_2m", 1.0, -273.15),
        ("ecmwf/test.grib", {"shortName": "2t"}, "temperature_2m", 1.0, -273.15),
        ("edge/regular_ll_msl.grib", {"shortName": "prmsl"}, "pressure_reduced_to_mean_sea_level", 1.0, 0.0),
    ],
)
def test_values_are_those_of_cfgrib_by_coordinate(real_data, pool, name, keys, variable, scale, offset):
    import cfgrib

    opened = cfgrib.open_dataset(real_data / "grib" / name, filter_by_keys={k: v for k, v in keys.items() if k != "step"}, indexpath="")
    (array,) = opened.data_vars.values()
    if "step" in keys:
        array = array.sel(step=np.timedelta64(keys["step"], "h"))
    lead = np.timedelta64(int(array.step.values.astype("timedelta64[h]").astype(int)), "h")
    array = array.assign_coords(longitude=(array.longitude + 180) % 360 - 180).sortby("longitude")
    fields = [
        outcome.field
        for outcome in pool.decode([real_data / "grib" / name], EDGES)
        if isinstance(outcome, Taken) and outcome.field.variable == variable and outcome.field.lead_time == lead
    ]
    (field,) = fields
    expected = array.sel(latitude=field.latitude, longitude=field.longitude, method="nearest", tolerance=1e-4)
    np.testing.assert_allclose(field.values, expected.values * scale + offset, rtol=1e-6, atol=1e-4)


@pytest.mark.real_data
def test_alternating_rows_give_cfgribs_value_at_each_point(real_data, pool):
    import cfgrib

    path = real_data / "grib" / "edge" / "alternate-scanning.grib"
    opened = cfgrib.open_dataset(path, indexpath="").t2m
    opened = opened.assign_coords(longitude=(opened.longitude + 180) % 360 - 180).sortby("longitude")
    (outcome,) = pool.decode([path], WORLD)
    field = outcome.field
    np.testing.assert_allclose(field.longitude, opened.longitude, atol=1e-9)
    np.testing.assert_allclose(field.latitude, opened.latitude)
    np.testing.assert_allclose(field.values + 273.15, opened.values, atol=1e-4)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["scanning_mode_64.grib", "reduced_gg.grib", "fields_with_missing_values.grib"])
def test_every_scanning_order_gives_eccodes_value_at_each_point(real_data, name):
    """The places of the points, held against the latitude and longitude that ecCodes gives each value."""
    data = (real_data / "grib" / "edge" / name).read_bytes()
    piece = next(scan(data))
    assert isinstance(piece, Piece)
    grid = read_grid(read_header(data, piece).grid, piece.edition, WORLD)
    assert isinstance(grid, Grid)
    handle = eccodes.codes_new_from_message(message_bytes(data, piece))
    latitudes, longitudes = (eccodes.codes_get_array(handle, key) for key in ("latitudes", "longitudes"))
    eccodes.codes_release(handle)
    assert latitudes.size == grid.points
    assert (np.diff(grid.latitude) < 0).all()
    assert (np.diff(grid.longitude) > 0).all()
    np.testing.assert_allclose(latitudes[grid.index], np.broadcast_to(grid.latitude[:, None], grid.index.shape), atol=2e-3)
    away = np.abs((longitudes[grid.index] - grid.longitude[None, :] + 180.0) % 360.0 - 180.0)
    nearest = 360.0 / 18 / 2 if grid.note else 1e-3      # on the shortest row of a reduced grid, half its spacing
    assert away.max() <= nearest
    if grid.note:
        assert "nearest" in grid.note


@pytest.mark.real_data
def test_real_members_and_other_hemispheres(real_data, pool):
    europe = (75.0, 35.0, -20.0, 30.0)
    folder = real_data / "grib" / "ecmwf"
    storm = [outcome.field for outcome in pool.decode([folder / "ens_storm.grib"], europe) if isinstance(outcome, Taken)]
    assert sorted({field.member for field in storm}) == list(range(51)), "the control and fifty perturbed members in one file"
    assert {field.variable for field in storm} == {"wind_gust_10m"}
    assert all(field.lead_time - field.interval_start == 3 * HOUR for field in storm)
    gusts = [outcome.field for outcome in pool.decode([folder / "wgust_ens.grib"], europe) if isinstance(outcome, Taken)]
    assert sorted({field.member for field in gusts}) == list(range(1, 51))
    assert all(field.process == "maximum" and field.lead_time - field.interval_start == 6 * HOUR for field in gusts)


@pytest.mark.real_data
def test_a_bitmap_that_leaves_out_hanoi_leaves_nan_there(real_data, pool):
    path = real_data / "grib" / "ncep" / "gfs.t12z.pgrb2.0p25.f023-PV-TMP-missing.grib2"
    (unknown,) = pool.decode([path], EDGES)
    assert unknown.reason.startswith("no vocabulary")
    (outcome,) = pool.decode([path], EDGES, keep_unknown=True)
    field = outcome.field
    with path.open("rb") as file:
        handle = eccodes.codes_grib_new_from_file(file)
        eccodes.codes_set(handle, "missingValue", 9999.0)
        values = eccodes.codes_get_values(handle).reshape(721, 1440)[268:287, 408:441]
        eccodes.codes_release(handle)
    np.testing.assert_array_equal(np.isnan(field.values), values == 9999.0)
    assert np.isnan(field.values[list(field.latitude).index(21.0), list(field.longitude).index(105.75)])
    np.testing.assert_allclose(field.values[values != 9999.0], values[values != 9999.0], rtol=1e-6)


@pytest.mark.real_data
def test_unknown_variables_are_kept_as_decoded_on_request(real_data, pool):
    path = real_data / "grib" / "ecmwf" / "aifs-single-t500.grib2"
    (outcome,) = pool.decode([path], EDGES, keep_unknown=True)
    field = outcome.field
    assert (field.variable, field.units, field.dataset) == ("t_isobaricInhPa_500", "K", "ecmwf-aifs-single")
    assert field.longitude[0] == 102.0, "longitudes of the file start at 180"
    assert field.values.shape == (19, 33)
    assert 255 < field.values.mean() < 275


@pytest.mark.real_data
def test_the_corrupted_file_that_cfgrib_opens_without_complaint(real_data, pool):
    outcomes = list(pool.decode([real_data / "grib" / "edge" / "era5-levels-corrupted.grib"], EDGES))
    (bad,) = [outcome for outcome in outcomes if isinstance(outcome, Quarantined)]
    assert isinstance(bad.error, TruncatedError)
    assert "7777" in bad.reason


# --- damage ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>503 Slow Down</html>", "HTML"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "HTML or XML"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        (b"BZh91AY&SY" + bytes(40), "bzip2"),
        (b"1:0:d=2025080100:TMP:2 m above ground:anl:\n", "no GRIB message"),
    ],
)
def test_files_that_are_no_grib_say_what_they_are(pool, data, words):
    (outcome,) = decoded(pool, data)
    assert isinstance(outcome, Quarantined)
    assert isinstance(outcome.error, NotGribError)
    assert words in outcome.reason
    assert outcome.message == 0


def test_a_damaged_message_costs_itself_alone(pool):
    good = [message(weather(seed), interval=lead, **TEMPERATURE) for seed, lead in enumerate((0, 3, 6, 9))]
    no_trailer = good[1][:-4] + b"77x7"
    bad_length = good[2][:8] + (len(good[2]) + 40).to_bytes(8, "big") + good[2][16:]
    outcomes = decoded(pool, b"junk" + good[0] + b"\r\r\nTTAA00" + no_trailer + bad_length + good[3] + good[0][:120])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Taken", "Quarantined", "Quarantined", "Taken", "Quarantined"]
    assert [outcome.message for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert isinstance(outcomes[-1].error, TruncatedError)


def test_every_truncation_is_told(pool):
    whole = message(weather(), **TEMPERATURE)
    for length in (4, 7, 12, 30, 60, 150, len(whole) - 5, len(whole) - 1):
        (outcome,) = decoded(pool, whole[:length])
        assert isinstance(outcome, Quarantined), length
        assert isinstance(outcome.error, TruncatedError), (length, outcome.reason)


@pytest.mark.parametrize("octets", [b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\x7f\xff", b"\x80\x00", b"\xff\xff\xff\xff"])
def test_no_octets_in_a_header_stop_the_scan(octets):
    """Wherever they stand, scanning and reading the header end, and every message is told of."""
    for place in range(_PAYLOAD):
        _read_through(_HEADED[:place] + octets + _HEADED[place + len(octets) :])


@given(place=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_in_a_header_stops_the_scan(place, bit):
    data = bytearray(_HEADED)
    data[place % _PAYLOAD] ^= 1 << bit
    _read_through(bytes(data))


def _read_through(data: bytes) -> None:
    found = list(scan(data))
    assert found
    for one in found:
        if isinstance(one, Piece):
            try:
                header = read_header(data, one)
            except (DecodeError, IndexError):
                continue
            read_grid.__wrapped__(header.grid, one.edition, EDGES)
        else:
            assert isinstance(one, Flaw)


_HEADED = message(weather(step=2.0), step=2.0, **TEMPERATURE)
_PAYLOAD = next(scan(_HEADED)).sections[7][0]


@pytest.mark.real_data
@pytest.mark.parametrize("octets", [b"\x00\x00", b"\xff\xff", b"\x00\x01"])
def test_no_octets_in_a_gaussian_or_reduced_grid_stop_reading_it(real_data, octets):
    data = next((real_data / "grib").rglob("reduced_gg.grib")).read_bytes()
    start, stop = next(scan(data)).sections[3 if data[7] == 2 else 2]
    for place in range(start, stop - 1):
        _read_through(data[:place] + octets + data[place + 2 :])


def test_a_grid_and_its_data_must_agree(pool):
    whole = bytearray(message(weather(), **TEMPERATURE))
    piece = next(scan(bytes(whole)))
    start = piece.sections[5][0]
    whole[start + 5 : start + 9] = (100).to_bytes(4, "big")
    (outcome,) = decoded(pool, bytes(whole))
    assert isinstance(outcome, Quarantined)
    assert "100 packed values for a grid of 143 points" in outcome.reason


def test_unreadable_files_are_told(pool, tmp_path):
    (outcome,) = pool.decode([tmp_path / "absent.grib2"], EDGES)
    assert isinstance(outcome, Quarantined)
    assert "cannot be read" in outcome.reason


# --- our vocabulary ----------------------------------------------------------------------------------------------------------------


def test_two_millibars_are_not_two_metres(pool):
    at_2_mb = TEMPERATURE | {"typeOfFirstFixedSurface": 100, "scaledValueOfFirstFixedSurface": 200}
    daily = message(weather(), interval=(0, 24), statistic=0, **TEMPERATURE)
    sound, aloft, mean = decoded(pool, message(weather(), **TEMPERATURE), message(weather(), **at_2_mb), daily)
    assert sound.field.variable == "temperature_2m"
    assert aloft.reason.startswith("no vocabulary: parameter 0.0.0 on surface type 100")
    assert mean.reason.endswith("statistic 0"), "a daily mean is another quantity"


def test_units_and_intervals(pool):
    rain = one_field(pool, message(weather(mean=0.02, spread=0.01), interval=(0, 6), statistic=1, **ECMWF_TP))
    assert rain.variable == "precipitation_amount"
    assert rain.units == "kg m-2"
    assert 10 < rain.values.mean() < 30, "metres become kg m-2"
    sun = one_field(pool, message(weather(mean=7.2e6, spread=1e5), interval=(0, 6), statistic=1, **SHORT_WAVE))
    assert sun.units == "W m-2"
    assert sun.process == "mean"
    assert sun.values.mean() == pytest.approx(7.2e6 / 21600, rel=0.02)
    (nothing,) = decoded(pool, message(weather(mean=0.0, spread=0.0), interval=(0, 0), statistic=1, **ECMWF_TP))
    assert isinstance(nothing, Skipped)
    assert "no length" in nothing.reason


def test_members_and_dataset_names(pool):
    fields = [one_field(pool, message(weather(n), member=n, generatingProcessIdentifier=107, **TEMPERATURE)) for n in (0, 1, 20)]
    assert [field.member for field in fields] == [0, 1, 20]
    assert {field.dataset for field in fields} == {"noaa-gefs-1p00"}
    assert one_field(pool, message(weather(step=0.25), step=0.25, **TEMPERATURE)).dataset == "noaa-gfs-0p25"
    assert one_field(pool, message(weather(step=0.25), step=0.25, centre=98, **TEMPERATURE)).dataset == "ecmwf-ifs-hres"
    assert one_field(pool, message(weather(), centre=98, **TEMPERATURE)).dataset == "ecmwf-ifs-hres-1p00"


# --- grids -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["grid_simple", "grid_ccsds", "grid_complex", "grid_complex_spatial_differencing"])
@pytest.mark.parametrize("bits", [11, 16])
def test_the_region_with_half_a_cell_around_it(pool, packing, bits):
    values = weather(step=0.5)
    field = one_field(pool, message(values, step=0.5, packing=packing, bits=bits, **TEMPERATURE))
    latitude, longitude = axes(0.5)
    rows, columns = (latitude <= 23.25) & (latitude >= 18.25), (longitude >= 101.75) & (longitude <= 110.25)
    np.testing.assert_array_equal(field.latitude, latitude[rows])
    np.testing.assert_array_equal(field.longitude, longitude[columns])
    expected = values[np.ix_(rows, columns)] - 273.15
    assert np.abs(field.values - expected).max() <= field.step / 2 + 2e-5 if field.step else np.abs(field.values - expected).max() < 0.01


@pytest.mark.parametrize("scanning", [0x00, 0x40, 0x80, 0xC0, 0x20, 0x60, 0xA0, 0x10, 0x50, 0x30])
def test_a_field_is_the_same_in_every_scanning_order(pool, scanning):
    values = weather()
    latitude, longitude = axes()
    ordered = values[::-1] if scanning & 0x40 else values
    ordered = ordered[:, ::-1] if scanning & 0x80 else ordered
    if scanning & 0x20:
        ordered = ordered.T
    if scanning & 0x10:
        ordered = ordered.copy()
        ordered[1::2] = ordered[1::2, ::-1]
    ordered = np.ascontiguousarray(ordered)
    first, last = (latitude[-1], latitude[0]) if scanning & 0x40 else (latitude[0], latitude[-1])
    west, east = (longitude[-1], longitude[0]) if scanning & 0x80 else (longitude[0], longitude[-1])
    keys = {
        "iScansNegatively": scanning >> 7 & 1, "jScansPositively": scanning >> 6 & 1, "jPointsAreConsecutive": scanning >> 5 & 1,
        "alternativeRowScanning": scanning >> 4 & 1, "latitudeOfFirstGridPointInDegrees": first, "latitudeOfLastGridPointInDegrees": last,
        "longitudeOfFirstGridPointInDegrees": west, "longitudeOfLastGridPointInDegrees": east,
    }    # fmt: skip
    plain = one_field(pool, message(values, **TEMPERATURE))
    field = one_field(pool, message(ordered, **keys, **TEMPERATURE))
    np.testing.assert_array_equal(field.latitude, plain.latitude)
    np.testing.assert_array_equal(field.longitude, plain.longitude)
    np.testing.assert_allclose(field.values, plain.values, atol=1e-4)


def test_longitudes_that_start_at_180_and_tenths_of_a_degree():
    data = message(weather(step=0.1), step=0.1, **TEMPERATURE)
    grid = read_grid(read_header(data, next(scan(data))).grid, 2, EDGES)
    assert isinstance(grid, Grid)
    assert 19.9 in grid.latitude
    assert grid.name == "0p10"


def test_missing_values_are_missing_and_a_region_without_any_is_outside(pool):
    values = weather()
    latitude, longitude = axes()
    values[latitude == 21.0] = 9999.0
    field = one_field(pool, message(values, missing=9999.0, **TEMPERATURE))
    assert np.isnan(field.values[field.latitude == 21.0]).all()
    assert np.isfinite(field.values[field.latitude != 21.0]).all()
    values[:, (longitude > 101) & (longitude < 111)] = 9999.0
    (outcome,) = decoded(pool, message(values, missing=9999.0, **TEMPERATURE))
    assert isinstance(outcome, Skipped)
    (elsewhere,) = decoded(pool, message(weather(), **TEMPERATURE), edges=(-10.0, -20.0, 102.0, 110.0))
    assert elsewhere.reason == "outside the region"


def test_several_fields_in_one_message(pool):
    wind = TEMPERATURE | {"parameterCategory": 2, "scaledValueOfFirstFixedSurface": 10}
    u, v = (message(weather(number, mean=0.0), **(wind | {"parameterNumber": number})) for number in (2, 3))
    (first,), (second,) = list(scan(u)), list(scan(v))
    tail = v[second.sections[4][0] : second.sections[7][1]]
    body = u[16 : first.sections[7][1]] + tail
    both = u[:8] + (16 + len(body) + 4).to_bytes(8, "big") + body + b"7777"
    outcomes = decoded(pool, both)
    assert [(outcome.message, outcome.part, outcome.field.variable) for outcome in outcomes] == [(1, 1, "wind_u_10m"), (1, 2, "wind_v_10m")]
    np.testing.assert_array_equal(outcomes[1].field.values, one_field(pool, v).values)


# --- workers -----------------------------------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_the_message_it_had(tmp_path):
    messages = [message(weather(n), interval=n, **TEMPERATURE) for n in range(40)]
    path = write(tmp_path / "many.grib2", *messages)
    with DecodePool(workers=2) as pool:
        outcomes, killed = [], False
        for outcome in pool.decode([path], EDGES):
            outcomes.append(outcome)
            if not killed:
                os.kill(pool.pids[0], signal.SIGSTOP)       # so that it surely has a message when it dies
                os.kill(pool.pids[0], signal.SIGKILL)
                killed = True
    assert [outcome.message for outcome in outcomes] == list(range(1, 41))
    counts = Counter(type(outcome).__name__ for outcome in outcomes)
    assert counts["Quarantined"] <= 1
    assert counts["Taken"] >= 39
    for outcome in outcomes:
        if isinstance(outcome, Quarantined):
            assert isinstance(outcome.error, WorkerDiedError)
            assert "signal 9" in outcome.reason


def test_a_stuck_worker_is_replaced_after_the_time_out(tmp_path):
    path = write(tmp_path / "few.grib2", *[message(weather(n), interval=n, **TEMPERATURE) for n in range(20)])
    with DecodePool(workers=1, timeout=0.5) as pool:
        pool.start()
        os.kill(pool.pids[0], signal.SIGSTOP)
        begun = time.monotonic()
        outcomes = list(pool.decode([path], EDGES))
    assert time.monotonic() - begun < 30
    (bad,) = [outcome for outcome in outcomes if isinstance(outcome, Quarantined)]
    assert bad.message == 1
    assert "longer than 0.5 s" in bad.reason
    assert len(outcomes) == 20


def test_a_worker_that_dies_idle_costs_nothing(tmp_path):
    path = write(tmp_path / "few.grib2", *[message(weather(n), interval=n, **TEMPERATURE) for n in range(5)])
    with DecodePool(workers=1) as pool:
        pool.start()
        os.kill(pool.pids[0], signal.SIGKILL)
        time.sleep(0.2)
        assert all(isinstance(outcome, Taken) for outcome in pool.decode([path], EDGES))


def test_workers_import_no_heavy_library():
    with DecodePool(workers=1) as pool:
        pool.start()
        mapped = Path(f"/proc/{pool.pids[0]}/maps").read_text(encoding="ascii")
    assert "eccodes" in mapped
    assert "torch" not in mapped
    assert "pandas" not in mapped


# --- accumulations -----------------------------------------------------------------------------------------------------------------

TOTALS = hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(0.0, 50.0, width=32))


@given(amounts=TOTALS, noise=st.floats(0.0, 0.4))
def test_deaccumulated_amounts_are_never_negative_and_keep_the_total(amounts, noise):
    rng = np.random.default_rng(amounts.shape[0])
    totals = np.cumsum(amounts, axis=0) + rng.uniform(-noise, noise, amounts.shape)
    found = deaccumulate(totals, 2 * noise + 1e-9)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=0), np.maximum(totals[-1], 0.0), atol=1e-9)
    assert np.abs(np.cumsum(found, axis=0) - np.maximum(totals, 0)).max() <= 2 * noise * amounts.shape[0] + 1e-9


def test_a_total_that_really_falls_is_refused():
    with pytest.raises(QualityError, match=r"falls by 3 where packing explains 0\.1"):
        deaccumulate(np.array([[5.0], [2.0]]), 0.1)
    amounts, refused = to_intervals([Total(0, 3 * k, np.array([value])) for k, value in ((1, 1.0), (2, 9.0), (3, 3.0), (4, 4.0), (5, 5.0))])
    assert [(amount.start, amount.end) for amount in amounts] == [(0, 3), (12, 15)]
    assert [lead for lead, _ in refused] == [6, 9, 12]


@given(
    amounts=hnp.arrays(np.float64, st.integers(2, 12), elements=st.floats(0.0, 30.0, width=32)),
    bucket=st.sampled_from([1, 3, 6, 100]),
    extra=st.booleans(),
)
def test_any_buckets_give_the_amounts_of_consecutive_leads(amounts, bucket, extra):
    """Hourly amounts, told as NCEP (buckets), as ECMWF (from the start), or as both in one file."""
    running = np.concatenate([[0.0], np.cumsum(amounts)])
    starts = [(lead - 1) // bucket * bucket for lead in range(1, running.size)]
    totals = [Total(start, lead, np.array([running[lead] - running[start]])) for lead, start in enumerate(starts, start=1)]
    if extra:
        totals += [Total(0, lead, np.array([running[lead]])) for lead in range(1, running.size)]
    found, refused = to_intervals([Total(one.start, one.end, one.values, error=1e-6) for one in totals])
    assert not refused
    assert [(one.start, one.end) for one in found] == [(lead - 1, lead) for lead in range(1, running.size)]
    np.testing.assert_allclose([one.values[0] for one in found], amounts, atol=1e-9)


def test_a_missing_step_widens_the_interval_and_a_late_one_splits_it():
    def total(start: int, end: int, value: float, rank: int = 0) -> Total:
        return Total(start, end, np.array([value]), 1e-6, rank)

    wide, _ = to_intervals([total(0, 3, 1.0), total(0, 6, 3.0), total(0, 12, 8.0)])
    assert [(one.start, one.end, one.values[0]) for one in wide] == [(0, 3, 1.0), (3, 6, 2.0), (6, 12, 5.0)]
    late, _ = to_intervals([*(Total(one.start, one.end, one.values, 1e-6, 1) for one in wide), total(0, 9, 4.0)])
    assert [(one.start, one.end, one.values[0]) for one in late] == [(0, 3, 1.0), (3, 6, 2.0), (6, 9, 1.0), (9, 12, 4.0)]


def test_apcp_of_six_to_seven_hours_beside_that_of_nought_to_seven(pool):
    by_hour = [weather(hour, mean=2.0, spread=1.0) for hour in range(7)]
    six_seven = one_field(pool, message(by_hour[6], interval=(6, 7), statistic=1, **APCP))
    all_seven = one_field(pool, message(np.sum(by_hour, axis=0), interval=(0, 7), statistic=1, **APCP))
    assert (six_seven.interval_start, six_seven.lead_time) == (6 * HOUR, 7 * HOUR)
    found, _ = to_intervals(
        [Total(int(one.interval_start / HOUR), int(one.lead_time / HOUR), one.values, one.step) for one in (six_seven, all_seven)]
    )
    assert [(one.start, one.end) for one in found] == [(0, 6), (6, 7)]
    np.testing.assert_allclose(found[1].values, six_seven.values, atol=1e-9)
    np.testing.assert_allclose(found[0].values + found[1].values, all_seven.values, atol=1e-5)


# --- unstructured grids ------------------------------------------------------------------------------------------------------------


def on_cells(values: np.ndarray, uuid: str = "a27b8de618c411e4820ab5b098c6a5c0") -> bytes:
    return on_mesh(values, uuid=uuid, typeOfFirstFixedSurface=103, scaledValueOfFirstFixedSurface=2)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.5]))
def test_every_point_of_the_lattice_has_its_nearest_cell(seed: int, spacing: float):
    rng = np.random.default_rng(seed)
    latitude, longitude = rng.uniform(17, 25, 4000), rng.uniform(100, 112, 4000)
    mesh = make_mesh(bytes(35), latitude, longitude, spacing, EDGES)
    grid = mesh.grid
    assert grid.index.shape == (grid.latitude.size, grid.longitude.size)
    assert (np.diff(grid.latitude) < 0).all()
    assert grid.latitude[0] <= EDGES[0]
    assert np.allclose(grid.longitude / spacing, np.round(grid.longitude / spacing))
    row, column = rng.integers(grid.latitude.size), rng.integers(grid.longitude.size)
    phi, lam = np.radians(latitude), np.radians(longitude)
    here = np.radians(grid.latitude[row]), np.radians(grid.longitude[column])
    cosine = np.sin(phi) * np.sin(here[0]) + np.cos(phi) * np.cos(here[0]) * np.cos(lam - here[1])
    assert cosine[grid.index[row, column]] == pytest.approx(cosine.max(), abs=1e-12)


def test_a_mesh_that_does_not_cover_the_region_is_refused():
    for west in (104.0, 200.0):
        latitude, longitude = (axis.ravel() for axis in np.meshgrid(np.arange(17.0, 25.0, 0.1), np.arange(west, west + 10, 0.1)))
        with pytest.raises(DecodeError, match=r"from the nearest cell|no cell in the region"):
            make_mesh(bytes(35), latitude, longitude, 0.25, EDGES)


def test_fields_on_a_mesh_are_decoded_by_its_coordinates_and_others_are_not(pool):
    clat, clon = (Source(name, data=on_cells(values)) for name, values in zip(("clat", "clon"), MESH, strict=True))
    north = Source("north", data=on_cells(MESH[0] + 273.15))
    other = Source("other", data=on_cells(MESH[0] + 273.15, "0" * 32))
    mesh = pool.mesh(clat, clon, 0.25, EDGES)
    taken, strange = pool.decode([north, other], EDGES, mesh=mesh)
    (without,) = pool.decode([north], EDGES)
    with pytest.raises(DecodeError, match="of different grids"):
        pool.mesh(clat, other, 0.25, EDGES)
    with pytest.raises(DecodeError, match="octets"):
        pool.mesh(clat, Source("cut", data=clon.data[:-9]), 0.25, EDGES)
    assert isinstance(taken, Taken)
    assert taken.field.attributes == {"grid": "0p25", "remapping": "unstructured grid: nearest cell"}
    assert np.abs(taken.field.values - taken.field.latitude[:, None]).max() < 0.13
    assert isinstance(strange, Skipped)
    assert "is not that of the coordinates" in strange.reason
    assert isinstance(without, Skipped)
    assert "without the coordinates of its cells" in without.reason
