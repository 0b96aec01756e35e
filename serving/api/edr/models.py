"""The parameters and documents of the EDR resources, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.api.problems import responses

Text = Annotated[str | None, Field(max_length=4000)]


class Dimensions(BaseModel):
    """Parameters of every query for values."""

    model_config = ConfigDict(populate_by_name=True)

    datetime: Text = Field(None, description="an instant, a UTC date, START/END, ../END or START/..; several with commas between")
    parameter_name: Text = Field(None, alias="parameter-name", description="ids with commas between; all without it")
    z: Text = Field(None, description="ignored: everything is at the surface")
    crs: Text = Field(None, description="CRS84, longitude before latitude")
    f: Text = Field(None, description="CoverageJSON, GeoJSON or CSV")
    realization: Text = Field(None, description="ensemble members: 0,1,2 or 0/9; where the collection has them")
    quantile: Text = Field(None, description="levels in 0..1: 0.1,0.5,0.9; where the collection has them")
    window: Text = Field(None, description="hours ending at the time: 3,24; where the collection has them")
    threshold: Text = Field(None, description="mm: 50,100; where the collection has them")
    forecaster: Text = Field(None, description="ids: emos,blend; where the collection has them")


class Position(Dimensions):
    """Of a position query."""

    coords: str = Field(max_length=8000, description="POINT(105.85 21.03), or MULTIPOINT((105.85 21.03),(106.6 20.8))")


class Polygon(Dimensions):
    """Of an area query."""

    coords: str = Field(max_length=8000, description="POLYGON((105.5 20.8,106.2 20.8,106.2 21.3,105.5 21.3,105.5 20.8))")


class Cube(Dimensions):
    """Of a cube query."""

    bbox: str = Field(max_length=200, description="west,south,east,north in degrees")


class Places(BaseModel):
    """Of a query for locations."""

    bbox: Annotated[str | None, Field(max_length=200)] = Field(None, description="west,south,east,north in degrees")
    datetime: Text = Field(None, description="only locations with data at this time; all have the same times")
    limit: int = Field(100, ge=1, le=1000, description="locations at most")


Query = TypeVar("Query", bound=BaseModel)


def query_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model as query parameters of an OpenAPI operation, for ``openapi_extra``."""
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return {
        "parameters": [
            {
                "name": name, "in": "query", "required": name in required, "description": field["description"],
                "schema": {key: value for key, value in field.items() if key not in ("description", "title")},
            }
            for name, field in schema["properties"].items()
        ]
    }  # fmt: skip


def asked(model: type[Query], request: Request) -> Query:
    """What a request asks for. Straight from the model: the framework's own way costs as much as the answer.

    Raises:
        RequestValidationError: A parameter is missing or cannot be used.
    """
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError([{**first, "loc": ("query", *first["loc"])} for first in error.errors(include_url=False)]) from error


class Link(BaseModel):
    """A link."""

    model_config = ConfigDict(extra="allow")
    href: str
    rel: str


class Landing(BaseModel):
    """The landing page."""

    title: str
    description: str
    links: list[Link]


class Conformance(BaseModel):
    """Conformance classes."""

    conformsTo: list[str]  # noqa: N815, as OGC API - Common names it


class Described(BaseModel):
    """A collection, or an instance of one."""

    model_config = ConfigDict(extra="allow")
    id: str
    title: str
    description: str
    links: list[Link]
    extent: dict[str, Any]
    data_queries: dict[str, Any]
    crs: list[str]
    output_formats: list[Literal["CoverageJSON", "GeoJSON", "CSV"]]
    parameter_names: dict[str, Any]


class Collections(BaseModel):
    """All collections."""

    links: list[Link]
    collections: list[Described]


class Instances(BaseModel):
    """Instances of a collection."""

    links: list[Link]
    instances: list[Described]


CollectionId = Annotated[str, Path(max_length=200, description="a published group: stations, grid_quantiles, ...")]
InstanceId = Annotated[str, Path(max_length=200, description="20250101T00Z.r0, or 20250101T00Z for its newest revision")]
LocationId = Annotated[str, Path(max_length=200, description="a station")]

_OBJECT: Final = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
VALUES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The values",
        "content": {
            "application/vnd.cov+json": {"schema": _OBJECT}, "application/geo+json": {"schema": _OBJECT},
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    **responses(400, 404, 413, 429, 503),
}  # fmt: skip
FEATURES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The locations", "content": {"application/geo+json": {"schema": _OBJECT}}},
    **responses(400, 404, 413, 429, 503),
}
