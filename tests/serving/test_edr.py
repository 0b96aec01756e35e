"""OGC API - EDR: what is described, what is answered, what is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import xarray as xr
from covjson_pydantic.coverage import Coverage, CoverageCollection
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.edr import ask
from serving.api.edr.collection import UCUM
from serving.api.problems import ProblemError
from tests.serving.served import INIT, LATITUDE, LEADS, LONGITUDE, MEMBERS, QUANTILES, STATIONS, Answered, Client, groups, publish, serving

GROUPS = groups(INIT, 0.0)
TIMES = [f"{time}Z" for time in (INIT + LEADS * np.timedelta64(1, "h")).astype("datetime64[s]")]
POINT = "POINT(105.3 20.9)"


def query(client: Client, collection: str, kind: str = "position", instance: str | None = None, **parameters: str) -> Answered:
    """Ask a query; ``parameter_name`` stands for ``parameter-name``."""
    if kind == "position":
        parameters.setdefault("coords", POINT)
    text = "&".join(f"{name.replace('_', '-')}={quote(value)}" for name, value in parameters.items())
    place = f"/edr/collections/{collection}" + (f"/instances/{instance}" if instance else "")
    return client.ask(f"{place}/{kind}?{text}")


def coverages(answer: Answered) -> list[dict[str, Any]]:
    """The coverages of a checked CoverageJSON document."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/vnd.cov+json"
    document = answer.json()
    if document["type"] == "Coverage":
        Coverage.model_validate_json(answer.body)
        return [document]
    CoverageCollection.model_validate_json(answer.body)
    return list(document["coverages"])


def values(coverage: dict[str, Any], parameter: str) -> np.ndarray:
    """The range of a parameter, float32, NaN for null."""
    found = coverage["ranges"][parameter]
    return np.array([np.nan if value is None else value for value in found["values"]], np.float32).reshape(found["shape"])


# --- documents -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holds(real_data: Path) -> Callable[[str, Any], None]:
    """A function that holds a document against one of the official OGC EDR components."""
    import yaml
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    top = real_data / "schemas" / "edr" / "oas30" / "schemas"

    @cache
    def retrieve(uri: str) -> Any:
        text = Path(uri.removeprefix("file://")).read_text(encoding="utf-8")
        return DRAFT202012.create_resource(yaml.load(text, Loader=yaml.CSafeLoader))

    registry: Any = Registry(retrieve=retrieve)

    def check(name: str, document: Any) -> None:
        Draft202012Validator({"$ref": f"file://{top / name}.yaml"}, registry=registry).validate(document)

    return check


@pytest.mark.real_data
def test_every_document_holds_against_the_ogc_components(client: Client, holds: Callable[[str, Any], None]) -> None:
    import jsonschema

    holds("core/landingPage", client.ask("/edr").json())
    holds("core/confClasses", client.ask("/edr/conformance").json())
    listed = client.ask("/edr/collections").json()
    holds("collections/collections", listed)
    assert {found["id"] for found in listed["collections"]} == set(GROUPS)
    for found in listed["collections"]:
        single = client.ask(f"/edr/collections/{found['id']}").json()
        assert single == found
        holds("collections/collection", single)
        for parameter in single["parameter_names"].values():
            holds("collections/parameterNames", parameter)
        instances = client.ask(f"/edr/collections/{found['id']}/instances").json()
        holds("queries/instances", instances)
        (instance,) = instances["instances"]
        holds("collections/collection", client.ask(f"/edr/collections/{found['id']}/instances/{instance['id']}").json())
    holds("edr-geojson/edrFeatureCollectionGeoJSON", client.ask("/edr/collections/stations/locations").json())
    for collection in ("stations", "grid"):
        holds("edr-geojson/edrFeatureCollectionGeoJSON", query(client, collection, coords="POINT(105.8 21.0)", f="GeoJSON").json())
    holds("core/exception", query(client, "grid", coords="POINT(1").json())
    del listed["collections"][0]["extent"]
    with pytest.raises(jsonschema.ValidationError):
        holds("collections/collections", listed)


def test_links_lead_somewhere(client: Client) -> None:
    def links(document: Any) -> Iterator[str]:
        if isinstance(document, dict):
            yield from ([document["href"]] if "href" in document and document.get("rel") != "service-doc" else [])
            for part in document.values():
                yield from links(part)
        elif isinstance(document, list):
            for part in document:
                yield from links(part)

    polygon = "POLYGON((105%2020,107%2020,107%2022,105%2020))"
    wanted = {"position": "?coords=POINT(105.8%2021)", "area": f"?coords={polygon}", "cube": "?bbox=105,20,107,22"}
    documents = [client.ask(path).json() for path in ("/edr", "/edr/collections", "/edr/collections/stations/instances")]
    found = {href for document in documents for href in links(document)}
    assert len(found) > 30
    for href in found:
        path = href.removeprefix(client.base)
        if path.endswith(".zarr"):
            path += "/zarr.json"
        answer = client.ask(path + wanted.get(path.rpartition("/")[2], ""))
        assert answer.status in (200, 413), href


def test_a_collection_says_what_it_covers(client: Client) -> None:
    grid = client.ask("/edr/collections/grid").json()
    assert grid["extent"]["spatial"]["bbox"] == [[104.625, 19.125, 107.625, 21.625]]
    assert grid["extent"]["temporal"]["values"] == TIMES
    (member,) = grid["extent"]["custom"]
    assert (member["id"], member["values"]) == ("realization", ["0", "1", "2", "3", "4"])
    rain = grid["parameter_names"]["precipitation_amount"]
    assert rain["measurementType"] == {"method": "sum"}
    assert rain["unit"]["symbol"]["value"] == UCUM["kg m-2"]
    assert set(grid["data_queries"]) == {"position", "area", "cube", "instances"}
    assert "Simulated data" in grid["description"]
    quantiles = client.ask("/edr/collections/stations_quantiles").json()
    assert quantiles["extent"]["custom"][0]["values"] == ["0.1", "0.25", "0.5", "0.75", "0.9"]
    assert "locations" in quantiles["data_queries"]
    windows = client.ask("/edr/collections/probabilities").json()["extent"]["custom"]
    assert {found["id"]: found["values"] for found in windows} == {"window": ["3", "24"], "threshold": ["16", "50"]}
    assert list(client.ask("/edr/collections/models").json()["parameter_names"]) == ["temperature_2m"]


# --- values ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(published_root: Path) -> xr.Dataset:
    """The grid of the published store, by plain xarray."""
    href = json.loads((published_root / "published" / "latest.json").read_text())["href"]
    return xr.open_zarr(published_root / "published" / href, group="grid", chunks=None).load()


@settings(max_examples=60)
@given(
    st.floats(float(LONGITUDE[0]), float(LONGITUDE[-1])), st.floats(float(LATITUDE[-1]), float(LATITUDE[0])),
    st.lists(st.integers(0, LEADS.size - 1), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, MEMBERS - 1), min_size=1, max_size=3, unique=True), st.sampled_from(["temperature_2m", "precipitation_amount"]),
)
def test_position_agrees_with_xarray_on_the_store(
    client: Client, stored: xr.Dataset, longitude: float, latitude: float, times: list[int], members: list[int], parameter: str
) -> None:
    answer = query(
        client, "grid", coords=f"POINT({longitude:.9f} {latitude:.9f})", datetime=",".join(TIMES[at] for at in times),
        realization=",".join(map(str, members)), parameter_name=parameter,
    )
    cell = stored[parameter].sel(latitude=round(latitude, 9), longitude=round(longitude, 9), method="nearest")
    for member, coverage in zip(members, coverages(answer), strict=True):
        axes = coverage["domain"]["axes"]
        assert abs(axes["x"]["values"][0] - longitude) <= 0.125 + 1e-9
        assert abs(axes["y"]["values"][0] - latitude) <= 0.125 + 1e-9
        assert axes["t"]["values"] == [TIMES[at] for at in sorted(times)]
        here = stored[parameter].sel(latitude=axes["y"]["values"][0], longitude=axes["x"]["values"][0], ensemble_member=member)
        np.testing.assert_array_equal(values(coverage, parameter), here.isel(lead_time=sorted(times)).values)
        on_edge = min(abs((longitude - 104.625) % 0.25), abs((latitude - 19.125) % 0.25)) < 1e-6
        if not on_edge:
            np.testing.assert_array_equal(here.values, cell.sel(ensemble_member=member).values)


def test_every_member_and_parameter_comes_without_a_word(client: Client) -> None:
    found = coverages(query(client, "grid"))
    assert [coverage["giomua:dimensions"] for coverage in found] == [{"realization": member} for member in range(MEMBERS)]
    assert all(set(coverage["ranges"]) == {"temperature_2m", "precipitation_amount"} for coverage in found)
    assert np.isnan(values(found[0], "precipitation_amount")[0])
    document = query(client, "grid").json()
    assert document["giomua:cycle"] == "20250710T00Z.r0"
    assert document["giomua:simulated"] is True


def test_several_points_and_heights(client: Client) -> None:
    found = coverages(query(client, "grid", coords="MULTIPOINT((105 21 10),(106.5 20.5 2))", realization="0"))
    assert [coverage["domain"]["axes"]["x"]["values"] for coverage in found] == [[105.0], [106.5]]
    bare = coverages(query(client, "grid", coords="MULTIPOINT(105 21,106.5 20.5)", realization="0", z="10"))
    assert bare == found


def test_stations_by_id_and_by_nearest_point(client: Client) -> None:
    features = client.ask("/edr/collections/stations/locations").json()["features"]
    assert {feature["id"]: feature["properties"]["label"] for feature in features} == {name: place[2] for name, place in STATIONS.items()}
    by_id = coverages(query(client, "stations_quantiles", "locations/noi_bai", quantile="0.5"))
    by_point = coverages(query(client, "stations_quantiles", coords="POINT(105.82 21.25)", quantile="0.5"))
    assert by_id == by_point
    expected = GROUPS["stations_quantiles"].temperature_2m.sel(station="noi_bai", quantile=0.5)
    np.testing.assert_array_equal(values(by_id[0], "temperature_2m"), expected.values)
    assert by_id[0]["giomua:location"] == {"id": "noi_bai", "name": "Nội Bài"}
    few = client.ask("/edr/collections/stations/locations?bbox=106,20,107,21").json()["features"]
    assert [feature["id"] for feature in few] == ["hai_phong"]
    assert len(client.ask("/edr/collections/stations/locations?limit=2").json()["features"]) == 2


def test_custom_dimensions_of_every_kind(client: Client) -> None:
    chance = coverages(query(client, "grid_probabilities", window="24", threshold="50"))
    cell = GROUPS["grid_probabilities"].precipitation_amount_above.sel(window=np.timedelta64(24, "h"), threshold=50.0)
    cell = cell.sel(latitude=20.9, longitude=105.3, method="nearest")
    np.testing.assert_array_equal(values(chance[0], "precipitation_amount_above"), cell.values)
    some = coverages(query(client, "grid_quantiles", quantile="0.2/0.8"))
    assert [coverage["giomua:dimensions"]["quantile"] for coverage in some] == [0.25, 0.5, 0.75]
    models = coverages(query(client, "models", "locations/lang", forecaster="emos", quantile="0.9,0.1"))
    assert [coverage["id"] for coverage in models] == ["lang;forecaster=emos;quantile=0.9", "lang;forecaster=emos;quantile=0.1"]
    expected = GROUPS["models"].temperature_2m.sel(forecaster="emos", station="lang", quantile=0.9)
    np.testing.assert_array_equal(values(models[0], "temperature_2m"), expected.values)


def test_local_days_keep_their_offset(client: Client) -> None:
    (day,) = coverages(query(client, "daily", "locations/lang", quantile="0.5"))
    assert day["domain"]["axes"]["t"]["values"] == ["2025-07-11T00:00:00+07:00"]
    assert query(client, "daily", "locations/lang", datetime="2025-07-10T17:00:00Z").status == 200
    assert query(client, "daily", "locations/lang", datetime="2025-07-11T00:00:00+07:00").status == 200


def test_a_cube_is_the_part_of_the_grid(client: Client) -> None:
    box = {"bbox": "105,20,106,21", "realization": "3", "parameter_name": "temperature_2m"}
    (found,) = coverages(query(client, "grid", "cube", **box))
    part = GROUPS["grid"].temperature_2m.sel(ensemble_member=3, latitude=slice(21, 20), longitude=slice(105, 106))
    np.testing.assert_array_equal(values(found, "temperature_2m"), part.values)
    assert found["domain"]["axes"]["y"]["values"] == part.latitude.values.tolist()
    assert found["ranges"]["temperature_2m"]["axisNames"] == ["t", "y", "x"]
    stations = coverages(query(client, "stations", "cube", bbox="105,20,106,22", realization="0"))
    assert [coverage["giomua:location"]["id"] for coverage in stations] == ["lang", "noi_bai"]


def test_an_area_leaves_out_what_is_not_inside(client: Client) -> None:
    (found,) = coverages(query(client, "grid", "area", coords="POLYGON((105 20,106 20,105 21,105 20))", realization="3"))
    inside = ~np.isnan(values(found, "temperature_2m")[0])
    np.testing.assert_array_equal(inside, np.tril(np.ones((5, 5), bool)))
    hole = "MULTIPOLYGON(((104 19,108 19,108 22,104 22,104 19),(104.9 19.9,106.1 19.9,106.1 21.1,104.9 21.1,104.9 19.9)))"
    (ring,) = coverages(query(client, "grid", "area", coords=hole, realization="0", parameter_name="temperature_2m"))
    assert np.isnan(values(ring, "temperature_2m")[0]).sum() == 25


@given(st.lists(st.tuples(st.floats(104, 108), st.floats(19, 22)), min_size=3, max_size=3))
def test_inside_a_triangle_by_signs(corners: list[tuple[float, float]]) -> None:
    """The even-odd rule agrees with the sign of the three cross products, away from the edges."""
    area = ask.Polygons(((np.array([*corners, corners[0]]),),))
    x, y = np.meshgrid(LONGITUDE, LATITUDE)
    signs = []
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        signs.append((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0))
    stacked = np.stack(signs)
    clear = (np.abs(stacked) > 1e-6).all(axis=0)
    expected = (stacked > 0).all(axis=0) | (stacked < 0).all(axis=0)
    np.testing.assert_array_equal(area.contains(x, y)[clear], expected[clear])


def test_csv_and_geojson_hold_the_same_numbers(client: Client) -> None:
    wanted = {"realization": "0,4", "parameter_name": "precipitation_amount,temperature_2m", "datetime": f"{TIMES[0]}/{TIMES[2]}"}
    found = coverages(query(client, "grid", **wanted))
    table = query(client, "grid", f="CSV", **wanted)
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    assert [row["time"] for row in rows] == TIMES[:3] * 2
    assert [row["realization"] for row in rows] == ["0"] * 3 + ["4"] * 3
    features = query(client, "grid", f="GeoJSON", **wanted).json()["features"]
    for parameter in ("precipitation_amount", "temperature_2m"):
        expected = np.concatenate([values(coverage, parameter) for coverage in found])
        np.testing.assert_array_equal(np.array([row[parameter] or "nan" for row in rows], np.float32), expected)
        series = [value for feature in features for value in feature["properties"]["values"][parameter]]
        np.testing.assert_array_equal(np.array([np.nan if value is None else value for value in series], np.float32), expected)
    stations = list(csv.DictReader(io.StringIO(query(client, "models", "locations/lang", f="csv").body.decode())))
    assert len(stations) == LEADS.size * QUANTILES.size * 2
    assert list(stations[0]) == ["location", "longitude", "latitude", "time", "forecaster", "quantile", "temperature_2m"]


def test_the_accept_header_chooses_where_f_does_not(client: Client) -> None:
    path = f"/edr/collections/grid/position?coords={quote(POINT)}"
    assert client.ask(path, Accept="text/csv").headers["content-type"].startswith("text/csv")
    assert client.ask(path, Accept="text/html, application/geo+json;q=0.9").headers["content-type"] == "application/geo+json"
    assert client.ask(f"{path}&f=CoverageJSON", Accept="text/csv").headers["content-type"] == "application/vnd.cov+json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TIMES[3], [3]),
        ("2025-07-10T09:00Z", [3]),
        ("2025-07-10T16:00:00+07:00", [3]),
        ("2025-07-10", [0, 1, 2, 3, 4, 5]),
        (f"{TIMES[2]}/{TIMES[4]}", [2, 3, 4]),
        (f"../{TIMES[1]}", [0, 1]),
        (f"{TIMES[5]}/..", [5, 6]),
        ("../..", [0, 1, 2, 3, 4, 5, 6]),
        (f"{TIMES[6]},{TIMES[0]}", [0, 6]),
        ("2025-07-10T07:00Z/2025-07-10T13:00Z", [3, 4]),
    ],
)
def test_times(client: Client, text: str, expected: list[int]) -> None:
    (found,) = coverages(query(client, "grid", datetime=text, realization="0"))
    assert found["domain"]["axes"]["t"]["values"] == [TIMES[at] for at in expected]


@pytest.mark.parametrize(
    ("collection", "kind", "parameters", "status", "says"),
    [
        ("grid", "position", {"coords": "POINT(105.8)"}, 400, "longitude and latitude"),
        ("grid", "position", {"coords": "POINT(21 105)"}, 400, "longitude first"),
        ("grid", "position", {"coords": "LINESTRING(105 21,106 21)"}, 400, "POINT"),
        ("grid", "position", {"coords": "POINT(nan nan)"}, 400, "pairs"),
        ("grid", "position", {"coords": "POINT(1e99 2)"}, 400, "within"),
        ("grid", "position", {"coords": "MULTIPOINT(" + ",".join(["(105 21)"] * 51) + ")"}, 413, "50 at most"),
        ("grid", "position", {"coords": "POINT(0 51.5)"}, 404, "outside grid"),
        ("stations", "position", {"coords": "POINT(107.5 19.5)"}, 404, "grid collection"),
        ("grid", "position", {"datetime": "yesterday"}, 400, "2025-01-10T12:00:00Z"),
        ("grid", "position", {"datetime": "2025-13-01"}, 400, "datetime"),
        ("grid", "position", {"datetime": f"{TIMES[4]}/{TIMES[2]}"}, 400, "before its end"),
        ("grid", "position", {"datetime": "1999-01-01/2000-01-01"}, 404, "7 times"),
        ("grid", "position", {"parameter-name": "temperatur"}, 400, "temperature_2m"),
        ("grid", "position", {"realization": "7"}, 400, "realization"),
        ("grid", "position", {"realization": "a/b"}, 400, "FIRST/LAST"),
        ("grid", "position", {"quantile": "0.5"}, 400, "no parameter"),
        ("grid", "position", {"colour": "blue"}, 400, "realization"),
        ("grid_quantiles", "position", {"quantile": "0.51"}, 400, "quantile"),
        ("models", "locations/lang", {"forecaster": "oracle"}, 400, "climatology"),
        ("grid", "position", {"f": "netcdf"}, 400, "GeoJSON"),
        ("grid", "position", {"crs": "EPSG:3857"}, 400, "CRS84"),
        ("grid", "area", {"coords": "POLYGON((105 20,106 20,106 21))"}, 400, "closed"),
        ("grid", "area", {"coords": "POLYGON((105 20,106 20,106 21,105 20)"}, 400, "closed"),
        ("grid", "area", {"coords": "POLYGON((105.01 20.01,105.02 20.01,105.02 20.02,105.01 20.01))"}, 404, "Try position"),
        ("grid", "area", {"coords": "POLYGON((" + ",".join(["105 20"] * 501) + "))"}, 413, "simplify"),
        ("grid", "area", {"coords": "POLYGON" + "(" * 300 + ")" * 300}, 400, "pairs"),
        ("grid", "cube", {"bbox": "105,20,106"}, 400, "west,south,east,north"),
        ("grid", "cube", {"bbox": "106,20,105,21"}, 400, "left of"),
        ("grid", "cube", {"bbox": "1,2,3,4"}, 404, "centre"),
        ("stations", "cube", {"bbox": "1,2,3,4"}, 404, "station"),
        ("grid", "locations", {}, 404, "position, area or cube"),
        ("stations", "locations/nowhere", {}, 404, "lang"),
        ("nothing", "position", {}, 404, "grid_quantiles"),
    ],
)
def test_what_cannot_be_answered_is_said(
    client: Client, collection: str, kind: str, parameters: dict[str, str], status: int, says: str
) -> None:
    answer = query(client, collection, kind, **parameters)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert says in problem["detail"]
    assert (problem["status"], problem["code"], problem["description"]) == (status, str(status), problem["detail"])


def test_a_huge_area_is_refused_before_it_is_read(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.api.edr import selection

    monkeypatch.setattr(selection, "MOST_VALUES", {"CoverageJSON": 1000, "GeoJSON": 10, "CSV": 10})
    monkeypatch.setattr(selection.Wanted, "read", lambda *_, **__: pytest.fail("it was read"))
    answer = query(client, "grid", "cube", bbox="100,10,120,30")
    assert answer.status == 413
    assert "8,400 values" in answer.json()["detail"]
    assert "Zarr" in answer.json()["detail"]


@given(st.text(max_size=60))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (ask.points, ask.area, ask.box):
        try:
            parse(text)
        except ProblemError as error:
            assert error.status in (400, 413)  # noqa: PT017


NESTED = st.recursive(
    st.sampled_from(["105 21", "105 21,106 21,106 22,105 21", "x", ""]), lambda inner: inner.map(lambda text: f"({text})"), max_leaves=20
)


@given(NESTED)
def test_no_nesting_breaks_a_parser(body: str) -> None:
    for kind, parse in (("POINT", ask.points), ("MULTIPOINT", ask.points), ("POLYGON", ask.area), ("MULTIPOLYGON", ask.area)):
        try:
            found = parse(f"{kind}({body})")
        except ProblemError as error:
            assert error.status == 400  # noqa: PT017
        else:
            assert found is not None


def test_an_instance_is_one_revision(tmp_path: Path) -> None:
    day = np.timedelta64(24, "h")
    for number in range(3):
        publish(tmp_path, INIT + (number // 2) * day, number % 2, mark=100.0 * number)
    with serving(tmp_path) as client:
        listed = client.ask("/edr/collections/grid/instances").json()["instances"]
        assert [found["id"] for found in listed] == ["20250711T00Z.r0", "20250710T00Z.r1", "20250710T00Z.r0"]
        for instance, mark in (("20250710T00Z.r0", 0), ("20250710T00Z.r1", 100), ("20250710T00Z", 100), ("20250711T00Z.r0", 200)):
            answer = query(client, "grid", instance=instance, realization="0", parameter_name="temperature_2m")
            (found,) = coverages(answer)
            assert np.allclose(values(found, "temperature_2m"), mark, atol=10)
            assert ("immutable" in answer.headers["cache-control"]) == ("." in instance)
            assert answer.headers["giomua-cycle"].startswith(instance)
        newest = query(client, "grid", realization="0")
        assert newest.headers["cache-control"] == "no-cache"
        assert newest.headers["giomua-cycle"] == "20250711T00Z.r0"
        assert query(client, "grid", instance="20240101T00Z.r0").status == 404
        assert query(client, "stations", "locations", instance="20250710T00Z.r1").status == 200
