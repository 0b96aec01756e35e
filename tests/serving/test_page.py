"""The page's answers against plain xarray on the same stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_catalog.settings import Settings
from tests.serving.page_root import BEFORE, HOUR, INIT, MEMBERS, make_root
from tests.serving.served import Client, serving

CYCLE = "20250710T00Z.r0"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_root(tmp_path_factory.mktemp("page") / "root")


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with serving(settings.root) as found:
        yield found


def ask(client: Client, path: str) -> Any:
    answer = client.ask(f"/api/page/{path}")
    assert answer.status == 200, answer.body
    return answer.json()


def store(settings: Settings, group: str, key: str = "20250710T00Z") -> xr.Dataset:
    path = next(Path(settings.root, "published").glob(f"{key}.*.zarr"))
    return xr.open_zarr(path, group=group, chunks=None)


def test_the_index_lists_cycles_newest_first_and_the_rules_of_the_region(client: Client, settings: Settings) -> None:
    index = ask(client, "index")
    assert [one["init_time"] for one in index["cycles"]] == ["2025-07-10T00:00Z", "2025-07-09T12:00Z"]
    assert index["region"]["offset_hours"] == 7
    assert [station["id"] for station in index["region"]["stations"]] == [one.id for one in settings.load_region().operating]


def test_a_lagged_centre_shows_the_run_that_stands_in_and_a_missing_one_none(client: Client) -> None:
    status = ask(client, f"{CYCLE}/status")
    runs = {one["dataset"]: (one["status"], one["run"], one["members"]) for one in status["sources"]}
    assert runs["centre-a"] == ("present", "2025-07-10T00:00Z", MEMBERS)
    assert runs["centre-b"] == ("lagged", "2025-07-09T12:00Z", MEMBERS)
    assert runs["centre-c"] == ("missing", None, None)
    assert status["notes"] == ["centre-c is missing: no run is in the archive."]


def test_risk_is_the_share_of_members_of_the_rain_day(client: Client, settings: Settings) -> None:
    risk = ask(client, f"{CYCLE}/risk/noi_bai")
    members = store(settings, "stations").sel(station="noi_bai").load()
    rule = risk["rules"].index({"hours": 24, "amount": 50.0, "inclusive": False})
    for position, end in enumerate(risk["day_ends"]):
        lead = (np.datetime64(end.rstrip("Z")) - INIT) / HOUR
        hours = members.lead_time.values / HOUR
        inside = (hours > lead - 24) & (hours <= lead)
        expected = None if lead < 24 else float((members.precipitation_amount.values[inside].sum(axis=0) > 50).mean())
        assert risk["point"]["blend"][rule][position] == pytest.approx(expected, abs=1e-3) if expected is not None else True
        if expected is None:
            assert risk["point"]["blend"][rule][position] is None
        elif risk["city"]["blend"][rule][position] is not None:
            assert 0 <= risk["city"]["blend"][rule][position] <= 1
    raw = [store(settings, "risk").precipitation_risk.sel(forecaster=f"raw_centre-{c}", station="noi_bai").values[:, rule] for c in "ab"]
    pooled = [None if np.isnan(p) else float(p) for p in np.mean(raw, axis=0)]
    assert risk["point"]["raw"][rule] == [p if p is None else pytest.approx(p, abs=1e-3) for p in pooled]


def test_the_climatology_counts_observed_rain_days(client: Client) -> None:
    risk = ask(client, f"{CYCLE}/risk/lang")
    found = risk["point"]["climatology"]
    shares = {(rule["hours"], rule["amount"]): share for rule, share in zip(risk["rules"], found["shares"], strict=True)}
    assert found["season"] is True  # 45 days before the cycle, both ends of the rain day
    assert found["days"] == 91
    assert shares[24, 16.0] == pytest.approx(0.1, abs=0.02)
    assert shares[2, 50.0] == shares[24, 50.0] == 0


def test_boxes_are_the_published_quantiles_and_the_extreme_members(client: Client, settings: Settings) -> None:
    point = ask(client, f"{CYCLE}/point/lang")
    quantiles = store(settings, "stations_quantiles").sel(station="lang").temperature_2m
    members = store(settings, "stations").sel(station="lang").temperature_2m
    row = point["variables"]["temperature_2m"]["blend"][20]
    assert row[1:6] == pytest.approx(quantiles.isel(lead_time=20).sel(quantile=[0.1, 0.25, 0.5, 0.75, 0.9]).values, abs=0.051)
    assert (row[0], row[6]) == pytest.approx((members[20].min().item(), members[20].max().item()), abs=0.051)
    assert point["variables"]["precipitation_amount"]["blend"][0] == [None] * 7
    assert set(point["variables"]["temperature_2m"]["forecasters"]) == {"climatology", "raw_centre-a", "raw_centre-b", "emos_centre-a"}
    pressure = point["variables"]["pressure_reduced_to_mean_sea_level"]["blend"][0]
    assert 990 < pressure[3] < 1020


def test_rain_sums_are_sums_of_members(client: Client, settings: Settings) -> None:
    point = ask(client, f"{CYCLE}/point/lang")
    members = store(settings, "stations").sel(station="lang").precipitation_amount.values
    lead = point["leads"].index(48)
    found = point["variables"]["precipitation_amount_24h"]["blend"]
    assert found[lead][6] == pytest.approx(members[lead - 7 : lead + 1].sum(axis=0).max(), abs=0.051)
    assert found[3] == [None] * 7


def test_daily_chances_end_at_19_local(client: Client, settings: Settings) -> None:
    chances = ask(client, f"{CYCLE}/point/lang")["chances"]
    published = store(settings, "probabilities").precipitation_amount_above.sel(station="lang", threshold=16.0, window=24 * HOUR)
    at = chances["days"].index("2025-07-11")
    assert chances["above"]["16"][at] == pytest.approx(float(published.sel(lead_time=36 * HOUR)), abs=1e-3)


def test_a_clicked_point_is_its_nearest_cell(client: Client, settings: Settings) -> None:
    point = ask(client, f"{CYCLE}/point/21.1,105.9")
    assert (point["place"]["latitude"], point["place"]["longitude"], point["place"]["support"]) == (21.0, 106.0, "cell")
    median = store(settings, "grid_quantiles").temperature_2m.sel(latitude=21.0, longitude=106.0, quantile=0.5).values
    assert [row[3] for row in point["variables"]["temperature_2m"]["blend"]] == pytest.approx(median, abs=0.051)
    assert "control" not in point["variables"]["temperature_2m"]


MISSING = (
    "point/nowhere",
    "point/60,10",
    "point/a,b",
    "risk/nowhere",
    "members/lang/snow",
    "members/lang/temperature_2m?forecaster=raw_x",
    "members/21.0,105.8/temperature_2m?forecaster=raw_centre-a",
    "models/snow",
    "map/snow/q50",
    "map/rain/q33",
)


@pytest.mark.parametrize("path", MISSING)
def test_what_is_not_there_is_said(client: Client, path: str) -> None:
    answer = client.ask(f"/api/page/{CYCLE}/{path}")
    assert answer.status == 404
    assert any(word in answer.json()["detail"] for word in ("known", "neither", "outside", "has no"))


def test_an_unknown_cycle_is_not_found(client: Client) -> None:
    assert client.ask("/api/page/20200101T00Z.r0/status").status == 404


@pytest.mark.parametrize(
    ("field", "variable", "factor"), [("temperature", "temperature_2m", 1), ("pressure", "pressure_reduced_to_mean_sea_level", 0.01)]
)
def test_map_layers_are_statistics_of_members(client: Client, settings: Settings, field: str, variable: str, factor: float) -> None:
    layer = ask(client, f"{CYCLE}/map/{field}/q90")
    expected = np.quantile(store(settings, "grid")[variable].values * factor, 0.9, axis=-1)
    found = np.array(layer["values"]).reshape(layer["shape"]) * layer["scale"]
    np.testing.assert_allclose(found, expected, atol=0.051)


def test_clusters_go_from_the_wettest_to_the_driest(client: Client) -> None:
    city = {name: ask(client, f"{CYCLE}/map/rain24/{name}") for name in ("wet", "middle", "dry")}
    at = city["wet"]["leads"].index(48)
    size = city["wet"]["shape"][1] * city["wet"]["shape"][2]
    means = [float(np.mean(city[name]["values"][at * size : (at + 1) * size])) for name in ("wet", "middle", "dry")]
    assert means[0] > means[1] > means[2]
    assert city["wet"]["values"][0] is None


def test_chance_maps_are_the_published_ones(client: Client, settings: Settings) -> None:
    layer = ask(client, f"{CYCLE}/map/above50/chance")
    published = store(settings, "grid_probabilities").precipitation_amount_above.sel(window=24 * HOUR, threshold=50.0).values
    found = np.array([np.nan if value is None else value for value in layer["values"]]).reshape(layer["shape"]) * layer["scale"]
    np.testing.assert_allclose(found, published, atol=0.0051)


def test_runs_compare_the_same_local_days(client: Client, settings: Settings) -> None:
    runs = ask(client, "runs/lang")["runs"]
    assert [run["init_time"] for run in runs] == ["2025-07-10T00:00Z", "2025-07-09T12:00Z"]
    for run, key in zip(runs, ("20250710T00Z", "20250709T12Z"), strict=True):
        daily = store(settings, "daily", key).sel(station="lang").temperature_2m_max
        at = run["daily"]["days"].index("2025-07-12")
        assert run["daily"]["temperature_2m_max"][at][1] == pytest.approx(float(daily.sel(day="2025-07-12", quantile=0.5)), abs=0.051)
        assert any(chance > 0 for chance in run["above_50"].values() if chance is not None)
        assert max(run["surge"].values()) > 0.5  # the fall on the fifth day
    assert BEFORE < INIT


def test_comfort_starts_with_what_was_observed(client: Client) -> None:
    found = ask(client, f"{CYCLE}/comfort/lang")
    assert found["observed_until"] == 0
    today = found["days"].index("2025-07-10")
    assert found["end"][today] == 17  # midnight in Hanoi
    low, middle, high = found["mean"][today - 1]
    assert low == middle == high  # yesterday was observed
    assert found["surge"][today] is not None
    assert sum(found["surge"][today:]) <= 1 + 1e-9


def test_observed_days_and_hours(client: Client) -> None:
    found = ask(client, "observed/lang")
    assert len(found["times"]) == 72
    assert found["times"][-1] == "2025-07-10T00:00Z"
    by_date = {day["date"]: day for day in found["days"]}
    assert by_date["2025-07-09"]["tmax"] > by_date["2025-07-09"]["tmin"]
    assert {day["rain"]["19"] for day in found["days"] if day["rain"]["19"] is not None} == {0.0, 40.0}


def test_verification_says_how_little_there_is(client: Client) -> None:
    found = ask(client, "verification")
    assert found["scorecard"] is None
    assert found["live_cycles"] == 0
    assert {row["forecaster"] for row in found["held_out"]} == {"blend", "raw_centre-a", "climatology"}


def test_members_come_one_by_one(client: Client, settings: Settings) -> None:
    found = ask(client, f"{CYCLE}/members/lang/wind_speed_10m")
    expected = store(settings, "stations").wind_speed_10m.sel(station="lang").values.T
    np.testing.assert_allclose(np.array(found["members"]), expected, atol=0.051)


def test_raw_members_of_a_centre_and_its_control_run(client: Client, settings: Settings) -> None:
    raw = store(settings, "centres").temperature_2m.sel(station="lang")
    found = ask(client, f"{CYCLE}/members/lang/temperature_2m?forecaster=raw_centre-a")
    assert found["of"] == ["blend", "raw_centre-a", "raw_centre-b"]
    np.testing.assert_allclose(np.array(found["members"]), raw.sel(forecaster="raw_centre-a").values.T, atol=0.051)
    assert len(ask(client, f"{CYCLE}/members/lang/temperature_2m?forecaster=raw_centre-b")["members"]) == 1
    control = ask(client, f"{CYCLE}/point/lang")["variables"]["temperature_2m"]["control"]
    assert list(control) == ["raw_centre-a"], "a centre of one run has no control run beside it"
    np.testing.assert_allclose(control["raw_centre-a"], raw.sel(forecaster="raw_centre-a", ensemble_member=0).values, atol=0.051)


def test_a_cell_has_its_members_and_every_centre(client: Client, settings: Settings) -> None:
    here = {"latitude": 21.0, "longitude": 105.75}
    found = ask(client, f"{CYCLE}/members/21.04,105.8/temperature_2m")
    assert found["of"] == ["blend"]
    np.testing.assert_allclose(np.array(found["members"]), store(settings, "grid").temperature_2m.sel(here).values.T, atol=0.051)
    boxes = ask(client, f"{CYCLE}/point/21.04,105.8")["variables"]["temperature_2m"]["forecasters"]
    assert list(boxes) == ["raw_centre-a", "raw_centre-b"]
    expected = store(settings, "grid_centres").temperature_2m.sel(here).sel(forecaster="raw_centre-b")
    np.testing.assert_allclose(np.array(boxes["raw_centre-b"]), expected.values, atol=0.051)


def test_without_a_manifest_the_forecast_is_still_served(settings: Settings, tmp_path: Path) -> None:
    Path(tmp_path, "published").symlink_to(Path(settings.root, "published"))
    with serving(tmp_path) as bare:
        assert ask(bare, f"{CYCLE}/status")["notes"] == []
        assert ask(bare, f"{CYCLE}/risk/lang")["point"]["climatology"] is None
        assert ask(bare, "observed/lang")["times"] == []
        assert ask(bare, f"{CYCLE}/comfort/lang")["observed_until"] is None
    assert not Path(tmp_path, "manifest.db").exists()  # a server writes nothing
