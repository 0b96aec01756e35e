"""The EDR resources as routes."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request, Response

from serving.api.cycles import Cycle
from serving.api.edr import ask
from serving.api.edr.collection import describe
from serving.api.edr.models import (
    FEATURES,
    VALUES,
    CollectionId,
    Collections,
    Conformance,
    Cube,
    Described,
    Dimensions,
    InstanceId,
    Instances,
    Landing,
    LocationId,
    Places,
    Polygon,
    Position,
    asked,
    query_parameters,
)
from serving.api.edr.service import PREFIX, Edr, base_url
from serving.api.problems import responses
from serving.api.static import FRESH

CONFORMS_TO: Final = (
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections",
    *(
        f"http://www.opengis.net/spec/ogcapi-edr-1/1.1/conf/{name}"
        for name in ("core", "collections", "json", "geojson", "edr-geojson", "covjson", "queries", "instances")
    ),
)

PLACE: Final = "/collections/{collection_id}"
INSTANCE: Final = PLACE + "/instances/{instance_id}"

AT_POINTS: Final[dict[str, Any]] = {"response_class": Response, "responses": VALUES, "openapi_extra": query_parameters(Position)}
IN_POLYGON: Final[dict[str, Any]] = {**AT_POINTS, "openapi_extra": query_parameters(Polygon)}
IN_BOX: Final[dict[str, Any]] = {**AT_POINTS, "openapi_extra": query_parameters(Cube)}
AT_STATION: Final[dict[str, Any]] = {**AT_POINTS, "openapi_extra": query_parameters(Dimensions)}
AS_PLACES: Final[dict[str, Any]] = {"response_class": Response, "responses": FEATURES, "openapi_extra": query_parameters(Places)}

routes = APIRouter(prefix=PREFIX, tags=["OGC API - EDR"])


def edr(request: Request) -> Edr:
    """The service that the application keeps in its state."""
    found: Edr = request.app.state.edr
    return found


def document(content: Any, cycle_id: str | None = None) -> Response:
    """A JSON document about what is published."""
    headers = {"Cache-Control": FRESH, "Content-Type": "application/json"} | ({"Giomua-Cycle": cycle_id} if cycle_id else {})
    return Response(orjson.dumps(content), headers=headers)


@routes.get("/", include_in_schema=False)
@routes.get("", summary="Landing page", response_model=Landing)
async def landing(request: Request) -> Response:
    """What there is."""
    base = base_url(request)
    site = base.removesuffix(PREFIX)
    openapi = "application/vnd.oai.openapi+json;version=3.1"
    links = [
        {"href": base, "rel": "self", "type": "application/json", "title": "this document"},
        {"href": f"{site}/openapi.json", "rel": "service-desc", "type": openapi, "title": "the API definition"},
        {"href": f"{site}/", "rel": "service-doc", "type": "text/html", "title": "the page for people"},
        {"href": f"{base}/conformance", "rel": "conformance", "type": "application/json", "title": "conformance classes"},
        {"href": f"{base}/collections", "rel": "data", "type": "application/json", "title": "the collections"},
    ]
    description = "Calibrated ensemble forecasts, read from published Zarr stores. Not an official warning."
    return document({"title": "Giómua", "description": description, "links": links})


@routes.get("/conformance", summary="Conformance classes", response_model=Conformance)
async def conformance() -> Response:
    """What is conformed to."""
    return document({"conformsTo": CONFORMS_TO})


@routes.get("/collections", summary="All collections of the newest cycle", response_model=Collections, responses=responses(429, 503))
async def collections(request: Request) -> Response:
    """Every published group with a place and a time."""
    base, service = base_url(request), edr(request)

    def make(cycle: Cycle) -> tuple[str, list[dict[str, Any]]]:
        return cycle.id, [describe(found, base) for found in service.collections(cycle).values()]

    cycle_id, described = await service.run("small", None, make)
    links = [{"href": f"{base}/collections", "rel": "self", "type": "application/json", "title": "this document"}]
    return document({"links": links, "collections": described}, cycle_id)


@routes.get(PLACE, summary="A collection", response_model=Described, responses=responses(404, 429, 503))
async def collection(request: Request, collection_id: CollectionId) -> Response:
    """Places, times, custom dimensions and parameters of a group of the newest cycle."""
    base, service = base_url(request), edr(request)

    def make(cycle: Cycle) -> tuple[str, dict[str, Any]]:
        return cycle.id, describe(service.collection(cycle, collection_id), base)

    cycle_id, described = await service.run("small", None, make)
    return document(described, cycle_id)


@routes.get(PLACE + "/instances", summary="Published revisions, newest first", response_model=Instances, responses=responses(404, 429, 503))
async def instances(
    request: Request, collection_id: CollectionId, limit: Annotated[int, Query(ge=1, le=100, description="instances at most")] = 20
) -> Response:
    """The newest revisions that have the group."""
    base, service = base_url(request), edr(request)

    def make(cycle: Cycle) -> list[dict[str, Any]]:
        service.collection(cycle, collection_id)
        return service.instances(collection_id, base, limit)

    described = await service.run("large", None, make)
    here = f"{base}/collections/{collection_id}/instances"
    return document({"links": [{"href": here, "rel": "self", "type": "application/json"}], "instances": described})


@routes.get(INSTANCE, summary="A published revision", response_model=Described, responses=responses(404, 429, 503))
async def instance(request: Request, collection_id: CollectionId, instance_id: InstanceId) -> Response:
    """Places, times, custom dimensions and parameters of a group of one revision."""
    base, service = base_url(request), edr(request)

    def make(cycle: Cycle) -> tuple[str, dict[str, Any]]:
        return cycle.id, describe(service.collection(cycle, collection_id), base, cycle.id)

    cycle_id, described = await service.run("small", instance_id, make)
    return document(described, cycle_id)


@routes.get(PLACE + "/position", summary="Values at points", **AT_POINTS)
async def position(request: Request, collection_id: CollectionId) -> Response:
    """At the nearest cell, or at the nearest station within 25 km, of each point."""
    query = asked(Position, request)
    return await edr(request).at_points(request, collection_id, None, query, query.coords)


@routes.get(INSTANCE + "/position", summary="Values of a revision at points", **AT_POINTS)
async def instance_position(request: Request, collection_id: CollectionId, instance_id: InstanceId) -> Response:
    """At the nearest cell, or at the nearest station within 25 km, of each point."""
    query = asked(Position, request)
    return await edr(request).at_points(request, collection_id, instance_id, query, query.coords)


@routes.get(PLACE + "/area", summary="Values inside a polygon", **IN_POLYGON)
async def area(request: Request, collection_id: CollectionId) -> Response:
    """Of the cells whose centres, or the stations that, lie inside; cells of the enclosing box outside the polygon are null."""
    query = asked(Polygon, request)
    return await edr(request).inside(request, collection_id, None, query, ask.area(query.coords))


@routes.get(INSTANCE + "/area", summary="Values of a revision inside a polygon", **IN_POLYGON)
async def instance_area(request: Request, collection_id: CollectionId, instance_id: InstanceId) -> Response:
    """Of the cells whose centres, or the stations that, lie inside; cells of the enclosing box outside the polygon are null."""
    query = asked(Polygon, request)
    return await edr(request).inside(request, collection_id, instance_id, query, ask.area(query.coords))


@routes.get(PLACE + "/cube", summary="Values inside a box", **IN_BOX)
async def cube(request: Request, collection_id: CollectionId) -> Response:
    """Of the cells whose centres, or the stations that, lie inside."""
    query = asked(Cube, request)
    return await edr(request).inside(request, collection_id, None, query, ask.box(query.bbox))


@routes.get(INSTANCE + "/cube", summary="Values of a revision inside a box", **IN_BOX)
async def instance_cube(request: Request, collection_id: CollectionId, instance_id: InstanceId) -> Response:
    """Of the cells whose centres, or the stations that, lie inside."""
    query = asked(Cube, request)
    return await edr(request).inside(request, collection_id, instance_id, query, ask.box(query.bbox))


@routes.get(PLACE + "/locations", summary="Stations", **AS_PLACES)
async def locations(request: Request, collection_id: CollectionId) -> Response:
    """The stations of the group, as points."""
    query = asked(Places, request)
    return await edr(request).locations(request, collection_id, None, query)


@routes.get(INSTANCE + "/locations", summary="Stations of a revision", **AS_PLACES)
async def instance_locations(request: Request, collection_id: CollectionId, instance_id: InstanceId) -> Response:
    """The stations of the group, as points."""
    query = asked(Places, request)
    return await edr(request).locations(request, collection_id, instance_id, query)


@routes.get(PLACE + "/locations/{location_id}", summary="Values at a station", **AT_STATION)
async def location(request: Request, collection_id: CollectionId, location_id: LocationId) -> Response:
    """At a station by id."""
    query = asked(Dimensions, request)
    return await edr(request).at_station(request, collection_id, None, query, location_id)


@routes.get(INSTANCE + "/locations/{location_id}", summary="Values of a revision at a station", **AT_STATION)
async def instance_location(request: Request, collection_id: CollectionId, instance_id: InstanceId, location_id: LocationId) -> Response:
    """At a station by id."""
    query = asked(Dimensions, request)
    return await edr(request).at_station(request, collection_id, instance_id, query, location_id)
