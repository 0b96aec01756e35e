"""The static catalog holds against the official schemas, stays relative, and loses no item."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import xarray as xr

from data_catalog.errors import StoreError
from data_catalog.regions import load_region
from data_catalog.stac import PublishedCycle, publish_item
from data_catalog.store import Root

REGION = load_region("hanoi")


def publish(root: Root, init_time: str, revision: int) -> PublishedCycle:
    data = xr.Dataset({"temperature_2m": ((), np.float32(revision))}, {"init_time": np.datetime64(init_time, "ns")})
    name = f"{np.datetime64(init_time).item():%Y%m%dT%H}Z"
    ref = root.write_store("published", name, {"stations": data}, revision=f"r{revision}")
    cycle = PublishedCycle(
        init_time=np.datetime64(init_time),
        revision=revision,
        href=ref.path.removeprefix("published/"),
        content_hash=ref.content_hash,
        first_lead=np.timedelta64(0, "h"),
        last_lead=np.timedelta64(240, "h"),
        variables=("temperature_2m", "precipitation_surface"),
        simulated=True,
        sources={"present": ("gefs",), "lagged": ("ifs",), "missing": ()},
    )
    publish_item(root, cycle, REGION)
    return cycle


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(str(tmp_path / "var"))
    for init_time, revision in (("2025-01-01T12", 0), ("2025-01-02T00", 0), ("2025-01-01T12", 1), ("2025-01-01T12", 10)):
        publish(made, init_time, revision)
    return made


def documents(root: Root) -> dict[str, dict[str, Any]]:
    return {path: root.read_json(path) for path in root.list_files("published") if path.endswith(".json") and ".zarr/" not in path}


@pytest.fixture(params=["official", "bundled"])
def validate(request: pytest.FixtureRequest) -> Callable[[Mapping[str, Any]], None]:
    """A function that holds a STAC document against the schemas, without a network.

    ``official`` are the files of the real data (1.1.0-beta.1, with the version raised to the final one), ``bundled`` those of pystac.
    """
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    import referencing
    from referencing.jsonschema import DRAFT7

    bundled = resources.files("pystac.validation") / "jsonschemas"
    core = Path(str(bundled / "stac-spec" / "v1.1.0"))
    if request.param == "official":
        core = request.getfixturevalue("real_data") / "schemas" / "stac"
    # Two slips of the published files: common.json's own $id lacks the dot, and the beta names its own version.
    corrected = {"1.1.0-beta.1": "1.1.0", "json-schema/commonjson": "json-schema/common.json"}
    schemas = {}
    for path in core.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        for wrong, right in corrected.items():
            text = text.replace(wrong, right)
        schemas[path.stem] = json.loads(text)
    geojson = [json.loads((bundled / "geojson" / f"{name}.json").read_text()) for name in ("Feature", "Geometry")]
    draft = {"$id": "http://json-schema.org/draft-07/schema", **jsonschema.Draft7Validator.META_SCHEMA}
    resources_by_id = [(schema["$id"].rstrip("#"), DRAFT7.create_resource(schema)) for schema in (*schemas.values(), *geojson, draft)]
    registry = referencing.Registry().with_resources(resources_by_id)

    def check(document: Mapping[str, Any]) -> None:
        kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[document["type"]]
        jsonschema.Draft7Validator(schemas[kind], registry=registry).validate(document)
        if "forecast" in schemas and document["type"] == "Feature":
            assert document["stac_extensions"] == [schemas["forecast"]["$id"].rstrip("#")]
            jsonschema.Draft7Validator(schemas["forecast"], registry=registry).validate(document)

    return check


def test_every_document_holds_against_the_schemas(root: Root, validate: Any):
    import jsonschema

    found = documents(root)
    assert len(found) == 6
    for document in found.values():
        validate(document)
    broken = found["published/items/20250102T00Z.r0.json"]
    del broken["properties"]["datetime"]
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)


def test_pystac_walks_the_catalog_wherever_it_is_moved(root: Root, tmp_path: Path):
    (tmp_path / "var" / "published").rename(tmp_path / "elsewhere")
    catalog = pystac.Catalog.from_file(str(tmp_path / "elsewhere" / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert [item.id for item in items] == ["20250102T00Z.r0", "20250101T12Z.r10", "20250101T12Z.r1", "20250101T12Z.r0"]
    for item in items:
        href = item.assets["data"].get_absolute_href()
        opened = xr.open_zarr(href, group="stations")
        assert int(opened["temperature_2m"]) == item.properties["giomua:revision"]
        assert f".{item.properties['giomua:content_hash'][:12]}.zarr" in href
        assert item.get_parent().id == item.collection_id == "giomua-hanoi"
    for document in (path.read_text() for path in (tmp_path / "elsewhere").rglob("*.json") if ".zarr" not in str(path)):
        assert str(tmp_path) not in document


def test_an_item_says_what_was_published(root: Root):
    item = root.read_json("published/items/20250101T12Z.r1.json")
    assert item["bbox"] == [102.0, 18.5, 110.0, 23.0]
    properties = item["properties"]
    assert properties["datetime"] == properties["start_datetime"] == properties["forecast:reference_datetime"] == "2025-01-01T12:00:00Z"
    assert properties["end_datetime"] == "2025-01-11T12:00:00Z"
    assert (properties["forecast:horizon"], properties["forecast:duration"]) == ("PT0H", "PT240H")
    assert properties["giomua:sources"] == {"present": ["gefs"], "lagged": ["ifs"], "missing": []}
    assert properties["giomua:simulated"] is True
    assert item["assets"]["data"]["type"] == "application/vnd.zarr; version=3"


def test_publishing_again_changes_nothing(root: Root):
    before = documents(root)
    publish(root, "2025-01-01T12", 1)
    assert documents(root) == before


def test_publishers_at_once_lose_no_item(tmp_path: Path):
    root = Root(str(tmp_path))
    days = [f"2025-01-{day:02}T00" for day in range(1, 9)]
    threads = [threading.Thread(target=publish, args=(root, day, 0)) for day in days]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    links = [link["href"] for link in root.read_json("published/collection.json")["links"] if link["rel"] == "item"]
    assert links == [f"./items/202501{day:02}T00Z.r0.json" for day in range(8, 0, -1)]


def test_an_item_without_its_store_is_refused(root: Root):
    cycle = replace(publish(root, "2025-01-03T00", 0), href="20250103T00Z.r0.000000000000.zarr")
    with pytest.raises(StoreError, match="publish it before its item"):
        publish_item(root, cycle, REGION)
