from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog import station_quality
from data_catalog.grids import station_coordinates
from data_catalog.regions import load_region
from data_catalog.station_quality import (
    CENSORED,
    GOOD,
    INCONSISTENT,
    INTERVAL,
    JUMP,
    MISPLACED,
    MISSING,
    RANGE,
    SPATIAL,
    flags,
    spikes,
    synoptic_share,
)
from tests.data_catalog.planted import Planted, planted, weather

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2025-06-30T18", "ns")
STATIONS = load_region().operating
MASSES = ("moved", "synoptic", "unknown interval")
"""Defects of hundreds of values, which would hide how the others fare."""


def bad(flag: np.ndarray) -> np.ndarray:
    return ~np.isin(flag, (GOOD, MISSING, CENSORED))


def reports(count: int = 3, hours: int = 48, **given_values: np.ndarray) -> xr.Dataset:
    """Reports of plain weather, with what is given in place of it."""
    times = START + np.arange(hours) * HOUR
    shape = (hours, count)
    clock = np.arange(hours)[:, None]
    data = {
        "temperature_2m": np.round(28 + 4 * np.sin(2 * np.pi * (clock - 3) / 24) + 0.1 * np.arange(count), 1) * np.ones(shape),
        "wind_speed_10m": np.round(3 + np.sin(clock + np.arange(count)), 1) * np.ones(shape),
        **given_values,
    }
    return xr.Dataset(
        {name: (("time", "station"), np.asarray(values, dtype=np.float32)) for name, values in data.items()},
        coords={"time": times, "available_time": ("time", times), **station_coordinates(STATIONS[:count])},
    )


def of(count: int, hours: int, value: float) -> np.ndarray:
    return np.full((hours, count), value)


# --- the planted record ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("2024-07-05", 11), ("2024-12-10", 12)], ids=["summer", "winter"])
def case(request: pytest.FixtureRequest) -> tuple[Planted, dict[str, np.ndarray]]:
    """Seeds that no threshold was chosen on: those were 1 to 5."""
    found = planted(request.param[0], 75, request.param[1])
    return found, flags(found.record)


def counts(found: Planted, flag: dict[str, np.ndarray], kinds: list[str]) -> tuple[int, int, int]:
    """True positives, false positives, false negatives; flags on defects of other kinds count neither way."""
    hit = false = missed = 0
    for name in flag:
        wanted, every = np.zeros(found.shape, dtype=bool), np.zeros(found.shape, dtype=bool)
        for kind, where in found.defects.items():
            every |= where.get(name, False)
            if kind in kinds:
                wanted |= where.get(name, False)
        flagged = bad(flag[name])
        hit += int((flagged & wanted).sum())
        missed += int((~flagged & wanted).sum())
        false += int((flagged & ~every).sum())
    return hit, false, missed


@pytest.mark.parametrize("without", [(), MASSES], ids=["all", "without those that are many"])
def test_defects_are_found_with_precision_and_recall(case: tuple[Planted, dict[str, np.ndarray]], without: tuple[str, ...]) -> None:
    found, flag = case
    hit, false, missed = counts(found, flag, [kind for kind in found.defects if kind not in without])
    assert hit > 800
    assert hit / (hit + false) > 0.95
    assert hit / (hit + missed) > 0.95


def test_every_kind_of_defect_is_found(case: tuple[Planted, dict[str, np.ndarray]]) -> None:
    found, flag = case
    assert len(found.defects) == 9
    for kind, where in found.defects.items():
        share = np.concatenate([bad(flag[name])[cells] for name, cells in where.items()]).mean()
        assert share > (0.7 if kind == "offset" else 0.95), kind


def test_true_extremes_survive(case: tuple[Planted, dict[str, np.ndarray]]) -> None:
    found, flag = case
    name = "pressure_reduced_to_mean_sea_level"
    assert float(found.record[name].values[flag[name] == GOOD].min()) < 98600
    for kind, where in found.extremes.items():
        for name, cells in where.items():
            assert not bad(flag[name])[cells].any(), (kind, name)


def test_sound_weather_raises_hardly_a_flag() -> None:
    record = weather("2025-03-20", 120, world=21)
    flag = flags(record)
    flagged = sum(int(bad(one).sum()) for one in flag.values())
    assert flagged / sum(one.size for one in flag.values()) < 1e-3


# --- each check ------------------------------------------------------------------------------------------------------------------------


def test_directions_beyond_360_degrees() -> None:
    direction = of(3, 48, 90.0) + 10 * (np.arange(48)[:, None] % 7)
    direction[5, 1], direction[6, 1] = 370.0, 360.0
    flag = flags(reports(wind_from_direction_10m=direction, wind_u_10m=of(3, 48, np.nan)))["wind_from_direction_10m"]
    assert np.argwhere(flag != GOOD).tolist() == [[5, 1]]
    assert flag[5, 1] == RANGE


@pytest.mark.parametrize(("hours", "amount", "expected"), [(1, 120.0, GOOD), (1, 430.0, RANGE), (24, 812.0, GOOD), (1 / 6, 190.0, RANGE)])
def test_rain_is_judged_over_its_interval(hours: float, amount: float, expected: int) -> None:
    rain = of(3, 48, 0.0)
    rain[10, 0] = amount
    found = reports(precipitation_amount=rain, precipitation_amount_interval=of(3, 48, hours))
    assert flags(found)["precipitation_amount"][10, 0] == expected


def test_a_report_from_another_place_is_not_the_stations() -> None:
    latitude = np.broadcast_to([station.latitude for station in STATIONS[:3]], (48, 3)).copy()
    longitude = np.broadcast_to([station.longitude for station in STATIONS[:3]], (48, 3)).copy()
    latitude[20:30, 0], longitude[20:30, 0] = 21.221, 105.807        # Nội Bài under the number of Láng
    latitude[:, 1] += 0.01                                           # rounding is no move
    flag = flags(reports(reported_latitude=latitude, reported_longitude=longitude))
    for name in ("temperature_2m", "wind_speed_10m"):
        assert (flag[name][20:30, 0] == MISPLACED).all()
        assert (np.delete(flag[name], slice(20, 30), axis=0) == GOOD).all()
        assert (flag[name][:, 1:] == GOOD).all()


def test_an_interval_that_is_not_known() -> None:
    interval = of(3, 48, 1.0)
    interval[7] = np.nan
    flag = flags(reports(precipitation_amount=of(3, 48, 0.2), precipitation_amount_interval=interval))["precipitation_amount"]
    assert (flag[7] == INTERVAL).all()
    assert (np.delete(flag, 7, axis=0) == GOOD).all()


@given(st.floats(0.0, 1.0), st.integers(0, 50))
def test_share_of_the_synoptic_hours(share: float, seed: int) -> None:
    """Of rain at hours drawn at random, some moved to the synoptic hours."""
    random = np.random.default_rng(seed)
    hours = random.permutation(24 * 60)[:300]
    moved = random.random(300) < share
    hours = np.where(moved, hours // 6 * 6, hours)
    found = synoptic_share(START + hours * HOUR, np.ones(300))
    assert found == pytest.approx(share + (1 - share) / 6, abs=0.09)


def test_too_little_rain_says_nothing_of_its_hours() -> None:
    assert np.isnan(synoptic_share(START + np.arange(19) * 6 * HOUR, np.ones(19)))
    assert synoptic_share(START + np.arange(20) * 6 * HOUR, np.ones(20)) == 1.0


def test_spikes_are_told_from_steps_and_slow_changes() -> None:
    times = START + np.arange(12) * HOUR
    spike, step, slow, storm = (np.full(12, 25.0) for _ in range(4))
    spike[5] = 45.0
    step[5:] = 16.0
    slow += 3 * np.arange(12)
    storm[5:] = [14.0, 14.5, 16.0, 18.0, 20.0, 22.0, 24.0]
    found = spikes(times, np.stack([spike, step, slow, storm], axis=1), (1, 3, 12), (4, 9, 25))
    assert np.argwhere(found).tolist() == [[5, 0]]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_spike_lasts_three_reports_at_most(length: int) -> None:
    values = np.full((20, 1), 25.0)
    values[8 : 8 + length] = 45.0
    found = spikes(START + np.arange(20) * HOUR, values, (1, 12), (4, 25))
    assert found.sum() == (length if length <= 3 else 0)


def test_a_jump_that_the_neighbours_share_is_weather() -> None:
    values = reports(count=6)["temperature_2m"].values
    values[20] -= 12.0
    assert (flags(reports(count=6, temperature_2m=values))["temperature_2m"] == GOOD).all()
    values[20, 1:] += 12.0
    assert flags(reports(count=6, temperature_2m=values))["temperature_2m"][20, 0] == JUMP


def test_other_networks_are_neighbours_too() -> None:
    values = reports(count=1, hours=192)["temperature_2m"].values
    values[24:72] += 9.0
    alone = reports(count=1, hours=192, temperature_2m=values)
    others = reports(count=6, hours=192).isel(station=slice(1, None))
    assert (flags(alone)["temperature_2m"] == GOOD).all()
    flag = flags(alone, [others])["temperature_2m"][:, 0]
    assert (flag[30:66] == SPATIAL).all()
    assert (flag[:20] == GOOD).all()


@pytest.mark.parametrize(("length", "found"), [(23, 0), (24, 24), (40, 40)])
def test_a_sensor_that_repeats_itself_for_a_day_is_stuck(length: int, found: int) -> None:
    values = reports(hours=96)["temperature_2m"].values
    values[30 : 30 + length, 2] = 27.3
    flag = flags(reports(hours=96, temperature_2m=values))["temperature_2m"]
    assert bad(flag[:, 2]).sum() == pytest.approx(found, abs=1)      # the report beside may happen to be 27.3 too
    assert not bad(flag[:, :2]).any()


def test_calms_and_dry_spells_are_not_stuck() -> None:
    found = reports(
        hours=96, wind_speed_10m=of(3, 96, 0.0), precipitation_amount=of(3, 96, 0.0), precipitation_amount_interval=of(3, 96, 1.0)
    )
    assert not any(bad(flag).any() for flag in flags(found).values())


def test_a_gauge_that_stays_dry_while_it_pours_around_it_is_blocked() -> None:
    rain = np.where(np.arange(48)[:, None] % 9 < 4, 3.0 + 0.1 * np.arange(48)[:, None], 0.0) * np.ones((48, 5))
    rain[:, 2] = 0.0
    flag = flags(reports(count=5, precipitation_amount=rain, precipitation_amount_interval=of(5, 48, 1.0)))["precipitation_amount"]
    assert bad(flag).any(axis=0).tolist() == [False, False, True, False, False]


def test_what_contradicts_itself() -> None:
    temperature = reports()["temperature_2m"].values
    dew_point = temperature - 3
    dew_point[4, 0] = temperature[4, 0] + 2
    gust = reports()["wind_speed_10m"].values + 2
    gust[5, 1] = 0.5
    day = of(3, 48, 5.0)
    day[6, 2] = 0.1
    flag = flags(
        reports(
            dew_point_temperature_2m=dew_point, wind_gust_10m=gust, precipitation_amount=of(3, 48, 0.4),
            precipitation_amount_interval=of(3, 48, 1.0), precipitation_amount_24h=day,
        )
    )    # fmt: skip
    for name, place in (("dew_point_temperature_2m", (4, 0)), ("wind_gust_10m", (5, 1)), ("precipitation_amount_24h", (6, 2))):
        assert flag[name][place] == INCONSISTENT
        assert bad(flag[name]).sum() == 1


def test_wind_components_are_as_good_as_speed_and_direction() -> None:
    speed = reports()["wind_speed_10m"].values
    speed[3, 0] = 99.0
    flag = flags(reports(wind_speed_10m=speed, wind_u_10m=speed / np.sqrt(2), wind_v_10m=speed / np.sqrt(2)))
    assert flag["wind_u_10m"][3, 0] == flag["wind_speed_10m"][3, 0] == RANGE
    assert bad(flag["wind_v_10m"]).sum() == 1


def test_a_gust_that_is_only_reported_when_strong_is_censored() -> None:
    gust = of(3, 48, np.nan)
    gust[10, 0] = 15.0
    flag = flags(reports(wind_gust_10m=gust))["wind_gust_10m"]
    assert flag[10, 0] == GOOD
    assert (np.delete(flag[:, 0], 10) == CENSORED).all()
    assert (flag[:, 1:] == MISSING).all()


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.permutations(range(5)))
def test_the_order_of_stations_does_not_matter_and_no_value_is_changed(seed: int, order: list[int]) -> None:
    random = np.random.default_rng(seed)
    values = np.where(random.random((48, 5)) < 0.1, random.uniform(-80, 80, (48, 5)), reports(count=5)["temperature_2m"].values)
    values[random.random((48, 5)) < 0.1] = np.nan
    found = reports(count=5, temperature_2m=values)
    before = found.copy(deep=True)
    flag = flags(found)["temperature_2m"]
    xr.testing.assert_identical(found, before)
    assert np.array_equal(flag == MISSING, np.isnan(found["temperature_2m"].values))
    assert np.array_equal(flags(found.isel(station=list(order)))["temperature_2m"], flag[:, order])


def test_no_reports_have_no_flags() -> None:
    assert {name: flag.shape for name, flag in flags(reports(hours=0)).items()} == {"temperature_2m": (0, 3), "wind_speed_10m": (0, 3)}


def test_flags_are_documented_as_cf_asks() -> None:
    about = station_quality.ATTRIBUTES
    assert about["standard_name"] == "quality_flag"
    assert len(about["flag_values"]) == len(str(about["flag_meanings"]).split()) == 10
