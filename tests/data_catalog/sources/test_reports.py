from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import NotAvailableError
from data_catalog.regions import load_region
from data_catalog.sources.base import StationSpec
from data_catalog.sources.reports import CsvReports, columns, path, render

HOUR = np.datetime64("2025-07-10T03")
STATIONS = tuple(station for station in load_region().stations if station.id in ("lang", "noi_bai"))
VARIABLES = ("temperature_2m", "precipitation_amount")
SOURCE = CsvReports(StationSpec("test", "Test", "", 0.5, VARIABLES, licence="none"), STATIONS)


class Files:
    def __init__(self, **files: str) -> None:
        self.files = {name.replace("_", "/") + ".csv": text for name, text in files.items()}

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        if url not in self.files:
            raise NotAvailableError(f"There is no {url}.")
        return self.files[url].encode()


value = st.one_of(st.just(float("nan")), st.integers(-400, 9999).map(lambda tenths: tenths / 10))


@given(st.lists(value, min_size=4, max_size=4))
def test_what_is_written_is_what_is_read(values: list[float]) -> None:
    given_values = {"temperature_2m": np.array(values[:2]), "precipitation_amount": np.abs(np.array(values[2:]))}
    text = render([station.id for station in STATIONS], HOUR, given_values, {"precipitation_amount": np.array([3.0, 3.0])})
    found = SOURCE.read(HOUR - np.timedelta64(1, "h"), HOUR, Files(**{"20250710_03": text})).data
    if not np.isfinite(list(given_values.values())).any():
        assert found.sizes["time"] == 0
        return
    for name, expected in given_values.items():
        assert found[name].values[0] == pytest.approx(expected, rel=1e-5, nan_ok=True)
    interval = found["precipitation_amount_interval"].values[0]
    assert np.array_equal(np.isfinite(interval), np.isfinite(given_values["precipitation_amount"]))
    assert np.all(interval[np.isfinite(interval)] == 3)


def test_the_layout_is_as_documented() -> None:
    text = (
        "station,time,temperature_2m,precipitation_amount,precipitation_amount_interval\n"
        "lang,2025-07-10T03:00Z,28.4,0.2,1\n"
        "gia_lam,2025-07-10T03:00Z,99,,\n"
    )
    assert path(HOUR) == "20250710/03.csv"
    assert columns(VARIABLES) == text.splitlines()[0].split(",")
    found = SOURCE.read(HOUR - np.timedelta64(3, "h"), HOUR + np.timedelta64(3, "h"), Files(**{"20250710_03": text})).data
    assert found["time"].values.tolist() == [HOUR.astype("datetime64[ns]").astype(int)]  # hours without a file are not there
    assert found["temperature_2m"].sel(station="lang").item() == pytest.approx(28.4)
    assert np.isnan(found["temperature_2m"].sel(station="noi_bai").item())
    assert found["available_time"].values[0, 0] == np.datetime64("2025-07-10T03:30")


def test_no_reports_at_all_is_an_empty_dataset() -> None:
    found = SOURCE.read(HOUR - np.timedelta64(3, "h"), HOUR, Files()).data
    assert dict(found.sizes) == {"time": 0, "station": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>busy</html>\n", "expected the columns station,time"),
        ("", "expected the columns station,time"),
        ("station,time,temperature_2m\nlang,2025-07-10T03:00Z,warm\n", "could not convert string to float: 'warm'"),
        ("station,time,temperature_2m\nlang,2025-07-10T03:00Z\n", "not as many fields"),
    ],
)
def test_what_is_no_report_is_put_aside_with_its_reason(text: str, message: str) -> None:
    good = "station,time,temperature_2m\nlang,2025-07-10T02:00Z,28.4\n"
    found = SOURCE.read(HOUR - np.timedelta64(2, "h"), HOUR, Files(**{"20250710_03": text, "20250710_02": good}))
    (flaw,) = found.flaws
    assert message in flaw.reason
    assert flaw.data == text.encode()
    assert found.data["temperature_2m"].values.tolist() == [[pytest.approx(28.4), pytest.approx(np.nan, nan_ok=True)]]
