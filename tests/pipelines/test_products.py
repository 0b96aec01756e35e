"""Products derived from members, on members whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.regions import load_region
from models.base import LEVELS
from pipelines.products import anywhere, daily, interval_hours, local_days, probabilities, rain_risk, rain_rules, window_sums

REGION = load_region()
INIT = np.datetime64("2025-07-01T00", "ns")


def members(leads: list[int], rain: np.ndarray | None = None, temperature: np.ndarray | None = None) -> xr.Dataset:
    """A dataset at one station; intervals run from lead to lead."""
    hours = np.array(leads, dtype="timedelta64[h]").astype("timedelta64[ns]")
    bounds = np.full((len(leads), 2), np.timedelta64("NaT", "ns"))
    bounds[1:] = np.stack([hours[:-1], hours[1:]], axis=1)
    found = xr.Dataset(coords={"lead_time": hours, "init_time": INIT, "lead_time_bounds": (("lead_time", "bounds"), bounds)})
    for name, values in (("precipitation_amount", rain), ("temperature_2m", temperature)):
        if values is not None:
            found[name] = (("lead_time", "station", "ensemble_member"), values[:, None, :].astype(np.float32))
    return found


def test_intervals_come_from_the_bounds() -> None:
    found = interval_hours(members([0, 3, 6, 12], rain=np.ones((4, 2))))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [3, 3, 6]


@given(st.lists(st.floats(0, 50), min_size=9, max_size=9), st.sampled_from([3, 6, 12, 24]))
def test_window_sums_are_the_sums_of_whole_intervals(amounts: list[float], hours: int) -> None:
    values = np.array([np.nan, *amounts[1:]])[:, None]
    found = window_sums(members([0, 3, 6, 9, 12, 15, 18, 21, 24], rain=values).precipitation_amount, np.array([np.nan] + [3.0] * 8), hours)
    steps = hours // 3
    for last in range(9):
        expected = np.nan if last < steps else values[last - steps + 1 : last + 1, 0].sum()
        np.testing.assert_allclose(found.values[last, 0, 0], expected, rtol=1e-5, atol=1e-5)


def test_a_window_that_the_spacing_cannot_resolve_is_missing_not_zero() -> None:
    found = probabilities(members([0, 6, 12, 18, 24], rain=np.full((5, 4), 30.0)), REGION)
    above = found.precipitation_amount_above.isel(station=0).sel(threshold=50.0)
    by_hours = {int(w / np.timedelta64(1, "h")): above.isel(window=i) for i, w in enumerate(found.window.values)}
    assert by_hours[3].isnull().all()
    assert by_hours[6].values[1:].tolist() == [0, 0, 0, 0]
    assert by_hours[12].values[2:].tolist() == [1, 1, 1]
    assert np.isnan(by_hours[24].values[:4]).all()
    assert by_hours[24].values[4] == 1
    assert by_hours[48].isnull().all()


def test_thresholds_are_half_open_as_the_duty_practice_has_them() -> None:
    values = np.zeros((9, 2))
    values[8] = [16.0, 50.0]
    found = probabilities(members(list(range(0, 27, 3)), rain=values), REGION)
    last = found.precipitation_amount_above.isel(lead_time=8, station=0).sel(window=np.timedelta64(24, "h"))
    assert last.sel(threshold=16.0) == 1.0
    assert last.sel(threshold=50.0) == 0.0
    inclusive = dict(zip(found.threshold.values, found.threshold_inclusive.values, strict=True))
    assert inclusive[16.0]
    assert not inclusive[50.0]


def test_sums_are_taken_per_member_before_anything_is_counted() -> None:
    """Each member rains 30 mm in one of two steps: no step passes 40 mm in the median of steps, every member passes it over the day."""
    values = np.zeros((9, 2))
    values[3, 0] = values[7, 1] = 30.0
    values[5] = 25.0
    found = probabilities(members(list(range(0, 27, 3)), rain=values), REGION)
    day = found.precipitation_amount_above.isel(lead_time=8, station=0).sel(window=np.timedelta64(24, "h"))
    assert day.sel(threshold=50.0) == 1.0


@pytest.mark.parametrize(("clock", "hours"), [("19:00", [12, 36, 60]), ("07:00", [24, 48, 72]), ("24:00", [17, 41, 65])])
def test_local_days_end_where_the_clock_in_hanoi_says(clock: str, hours: list[int]) -> None:
    days, ends = local_days(INIT, np.arange(0, 73, 3.0), REGION, clock)
    assert ends.tolist() == hours
    first = "2025-07-01" if clock != "07:00" else "2025-07-02"
    assert str(days[0]) == first


def test_daily_rain_belongs_to_the_day_that_ends() -> None:
    leads = list(range(0, 75, 3))
    rain = np.zeros((25, 3))
    rain[13] = [10.0, 20.0, 30.0]  # 36-39 h: after 19:00 on 2 July, before 07:00 on 3 July
    found = daily(members(leads, rain=rain), REGION)
    evening = found.precipitation_amount_day_ending_1900.isel(station=0).sel(quantile=0.5)
    morning = found.precipitation_amount_day_ending_0700.isel(station=0).sel(quantile=0.5)
    assert float(evening.sel(day="2025-07-03")) == pytest.approx(20)
    assert float(evening.sel(day="2025-07-02")) == 0
    assert float(morning.sel(day="2025-07-03")) == pytest.approx(20)
    assert found.sizes["quantile"] == LEVELS.size
    first_evening = evening.reindex(day=[np.datetime64("2025-07-01", "ns")])
    assert first_evening.isnull().all(), "twelve hours of forecast are no whole rain day"


def test_daily_temperature_needs_the_whole_day() -> None:
    leads = list(range(0, 75, 3))
    hours = np.array(leads)
    temperature = 25 + 5 * np.cos(2 * np.pi * (hours + 7 - 15) / 24)
    found = daily(members(leads, temperature=temperature[:, None] + np.array([0.0, 1.0])), REGION)
    assert [str(d)[:10] for d in found.day.values] == ["2025-07-02", "2025-07-03"]
    middle = found.sel(quantile=0.5, method="nearest").isel(station=0, day=0)
    assert float(middle.temperature_2m_max) == pytest.approx(temperature.max() + 0.5, abs=0.3)
    assert float(middle.temperature_2m_min) < float(middle.temperature_2m_mean) < float(middle.temperature_2m_max)


def test_a_chance_does_not_bear_the_name_of_the_amount() -> None:
    sums = members([0, 24], rain=np.ones((2, 4)))
    sums["precipitation_amount"].attrs = {"standard_name": "precipitation_amount", "cell_methods": "lead_time: sum", "support": "point"}
    found = probabilities(sums, REGION).precipitation_amount_above.attrs
    assert (found["units"], found["support"]) == ("1", "point")
    assert not {"standard_name", "cell_methods"} & set(found)


def test_a_missing_member_value_makes_the_chance_missing() -> None:
    rain = np.full((9, 3), 5.0)
    rain[8, 1] = np.nan
    found = probabilities(members(list(range(0, 27, 3)), rain=rain), REGION)
    assert found.precipitation_amount_above.isel(lead_time=8).isnull().all()
    assert found.precipitation_amount_above.isel(lead_time=7).sel(window=np.timedelta64(3, "h")).notnull().all()


def risk_world(leads: list[int], rain: np.ndarray) -> tuple[xr.Dataset, xr.Dataset]:
    """The same members at one station and, on four cells, in the one of them that lies in the city."""
    point = members(leads, rain=rain).assign_coords(station=["lang"])
    cells = np.zeros((len(leads), 2, 2, rain.shape[1]), dtype=np.float32)
    cells[:, 0, 0] = rain
    grid = point.drop_vars(["precipitation_amount", "station"]).assign(
        precipitation_amount=(("lead_time", "latitude", "longitude", "ensemble_member"), cells)
    )
    return point, grid.assign_coords(latitude=[21.0, 19.0], longitude=[105.75, 108.0])


def test_rain_risk_counts_members_whose_rain_day_passes_at_a_point_and_anywhere_in_the_city() -> None:
    leads = list(range(0, 39, 3))                       # the rain days ending at 12 UTC (36 h) and 00 UTC (24 h) are whole
    rain = np.zeros((len(leads), 4))
    rain[5, 0] = 120.0                                  # 15 h: one member passes 100 mm in 3 h, and in both 24 h days
    rain[10, 1] = 60.0                                  # 30 h: another passes 50 mm in the day ending at 36 h alone
    point, grid = risk_world(leads, rain)
    found = rain_risk({"blend": point, "raw_a": point.isel(ensemble_member=[0, 1])}, {"blend": grid, "raw_a": grid}, REGION)
    rules = [(int(w), float(t)) for w, t in zip(found.rule_window.values, found.rule_threshold.values, strict=True)]
    ends = [int((end - INIT) / np.timedelta64(1, "h")) for end in found.day_end.values]

    def at(hours: int, amount: float, end: int, forecaster: str = "blend") -> float:
        place = {"rule": rules.index((hours, amount)), "day_end": ends.index(end)}
        chance = found.precipitation_risk.sel(forecaster=forecaster).isel(station=0, **place)
        assert float(found.precipitation_risk_city.sel(forecaster=forecaster).isel(**place)) == pytest.approx(
            float(chance) if forecaster == "blend" else float(chance) / 2, nan_ok=True
        )
        return float(chance)

    assert at(24, 50.0, 24) == 0.25
    assert at(24, 50.0, 36) == 0.5
    assert at(3, 100.0, 24) == 0.25
    assert at(24, 100.0, 36, "raw_a") == 0.5
    assert np.isnan(at(2, 50.0, 24))                    # 3 h steps cannot resolve 2 h
    assert np.isnan(at(24, 50.0, 12))                   # the day began before the forecast
    assert found.member_count.values.tolist() == [4, 2]


def test_three_hour_rules_are_unknown_where_steps_are_six_hours() -> None:
    point, grid = risk_world([0, 6, 12, 18, 24], np.full((5, 2), 300.0))
    found = rain_risk({"blend": point}, {"blend": grid}, REGION).isel(forecaster=0, station=0)
    whole = found.sel(day_end=INIT + np.timedelta64(24, "h")).precipitation_risk.values
    assert [np.isnan(p) for p in whole] == [hours < 6 for hours, _, _ in rain_rules(REGION)]


def gridded(leads: list[int], rain: np.ndarray) -> xr.Dataset:
    """The first of :func:`members` on a grid of two cells in the city and one far from it; (lead_time, cell, member)."""
    found = members(leads, rain=rain[:, 0]).drop_vars("precipitation_amount")
    city = REGION.city
    middle = 0.5 * (city.latitude_north + city.latitude_south)
    places = {"latitude": [middle, middle - 3.0], "longitude": [city.longitude_west, city.longitude_east, 109.0]}
    values = np.repeat(rain[:, None].astype(np.float32), 2, axis=1)
    return found.assign_coords(places).assign(
        precipitation_amount=(("lead_time", "latitude", "longitude", "ensemble_member"), values)
    )


def test_anywhere_in_the_city_is_taken_member_by_member() -> None:
    rain = np.zeros((9, 3, 4))
    rain[1:, 0, 0], rain[1:, 1, 1], rain[1:, 2, 2] = 10.0, 10.0, 50.0  # 80 mm in 24 h in one cell each; the third is far away
    rain[0] = np.nan
    made = gridded([0, 3, 6, 9, 12, 15, 18, 21, 24], rain)
    day = {"window": np.timedelta64(24, "h"), "threshold": 50.0}
    assert probabilities(made, REGION)["precipitation_amount_above"].isel(lead_time=-1).sel(day).values[0].tolist() == [0.25, 0.25, 0.25]
    found = anywhere(made, REGION)["precipitation_amount_above_city"]
    assert float(found.isel(lead_time=-1).sel(day)) == 0.5
    assert found.isel(lead_time=0).isnull().all()
    days = anywhere(gridded(list(range(0, 51, 3)), np.where(np.arange(17)[:, None, None] > 0, rain[[-1]], np.nan)), REGION)
    assert float(days["precipitation_amount_day_ending_1900_city"].sel(quantile=0.5, method="nearest").max()) == pytest.approx(40.0)


def test_a_window_of_one_hour_is_there_where_the_leads_are() -> None:
    hourly = probabilities(members([0, 1, 2, 3], rain=np.array([[np.nan], [80.0], [0.0], [0.0]])), REGION)
    found = hourly["precipitation_amount_above"].sel(window=np.timedelta64(1, "h"), threshold=70.0)
    assert found.isel(station=0).values[1:].tolist() == [1.0, 0.0, 0.0]
    assert np.timedelta64(1, "h") not in probabilities(members([0, 3, 6], rain=np.zeros((3, 2))), REGION).window.values
