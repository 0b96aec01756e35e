"""Observations as the page counts them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from serving.observed import hourly, past_days, rain_frequency, unflagged

START = np.datetime64("2025-03-01T00", "h")


def reports(rain: np.ndarray, interval: float = 1.0, **more: np.ndarray) -> xr.Dataset:
    """Hourly reports of stations a, b, ...; ``rain`` is (time, station)."""
    values = {"precipitation_amount": rain, "precipitation_amount_interval": np.full(rain.shape, interval)} | more
    times = (START + np.arange(rain.shape[0])).astype("datetime64[ns]")
    stations = np.array(list("abc")[: rain.shape[1]], dtype=object)
    return xr.Dataset({name: (("time", "station"), array) for name, array in values.items()}, {"time": times, "station": stations})


def test_a_flagged_report_is_missing() -> None:
    flagged = reports(np.ones((3, 1))).assign(precipitation_amount_quality=(("time", "station"), np.array([[0], [1], [0]], dtype=np.int8)))
    assert np.isnan(unflagged(flagged).precipitation_amount.values[:, 0]).tolist() == [False, True, False]


def test_a_six_hour_total_is_not_an_hour() -> None:
    assert np.isnan(hourly(reports(np.ones((12, 1)), interval=6.0), "precipitation_amount", "a")[1]).all()


def test_a_missing_hour_in_the_file_is_a_gap() -> None:
    times, values = hourly(reports(np.ones((6, 1))).isel(time=[0, 1, 4, 5]), "precipitation_amount", "a")
    assert times.size == 6
    assert np.isnan(values).tolist() == [False, False, True, True, False, False]


def test_frequency_counts_whole_rain_days_at_any_station() -> None:
    rain = np.zeros((24 * 4 + 1, 2))
    rain[30, 1] = 60.0                                   # in the second day, at the other station
    rain[31, 1] = 45.0
    rules = [(24, 50.0, False), (3, 100.0, False), (2, 50.0, False), (24, 105.0, True), (24, 105.0, False)]
    until = START + 24 * 4
    point = rain_frequency(reports(rain), ["a"], rules, until, [0])
    anywhere = rain_frequency(reports(rain), ["a", "b"], rules, until, [0])
    assert point.days == anywhere.days == 4
    assert point.shares == (0.0, 0.0, 0.0, 0.0, 0.0)
    assert anywhere.shares == (0.25, 0.25, 0.25, 0.25, 0.0)
    rain[50] = np.nan
    assert rain_frequency(reports(rain), ["a"], rules, until, [0]).days == 3


def test_no_reports_no_frequency() -> None:
    found = rain_frequency(reports(np.full((48, 1), np.nan)), ["a"], [(24, 50.0, False)], START + 48, [0])
    assert (found.shares, found.days) == ((None,), 0)


def test_past_days_are_local_and_whole() -> None:
    hours = 24 * 3 + 1
    temperature = (START + np.arange(hours)).astype(int)[:, None].astype(float)
    rain = np.zeros((hours, 1))
    rain[10, 0] = 12.0                                   # 10 UTC is 17:00 in Hanoi
    rain[13, 0] = 5.0                                    # 20:00: already the next rain day
    days = past_days(reports(rain, temperature_2m=temperature), "a", 7, [19, 7])
    by_date = {day["date"]: day for day in days}
    assert by_date["2025-03-01"]["tmax"] is None         # began before the record
    second = by_date["2025-03-02"]
    first_hour = float((np.datetime64("2025-03-01T18", "h")).astype(int))
    assert (second["tmin"], second["tmax"]) == (first_hour, first_hour + 23)
    assert second["tmean"] == pytest.approx(first_hour + 11.5)
    assert second["rain"] == {"19": 5.0, "07": 17.0}
    assert by_date["2025-03-01"]["rain"]["19"] is None
