"""Errors as RFC 9457 problem documents: one sentence for people, one shape for programs."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from data_catalog.errors import StoreError, UnknownNameError
from serving.api.cycles import NotPublishedError

MEDIA_TYPE: Final = "application/problem+json"

_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem document (RFC 9457); ``code`` and ``description`` repeat it as OGC API - EDR names them."""

    type: str = "about:blank"
    title: str = Field(description="the meaning of the status code")
    status: int
    detail: str = Field(description="what was found, what was expected, what to do")
    code: str = Field(description="the status code, as text")
    description: str = Field(description="the same as detail")


class ProblemError(Exception):
    """Raised by a handler: becomes an answer.

    Args:
        status: HTTP status, 4xx or 503.
        detail: One sentence: the value found, the value expected, what to do.
        headers: More headers, such as Retry-After.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A problem document as an answer; never cached."""
    found = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=str(status), description=detail)
    content = json.dumps(found.model_dump(), ensure_ascii=False)
    return Response(content, status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer beside its result, for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""

    async def raised(request: Request, error: ProblemError) -> Response:
        return problem(error.status, error.detail, error.headers)

    async def refused(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, _sentence(request, error), dict(error.headers or {}))

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return problem(400, f"The parameter {name} is {first.get('input')!r:.100}: {first['msg']}.")

    async def unknown(request: Request, error: UnknownNameError) -> Response:
        return problem(404, str(error))

    async def unpublished(request: Request, error: NotPublishedError) -> Response:
        return problem(503, str(error), {"Retry-After": "10"})

    async def unavailable(request: Request, error: StoreError) -> Response:
        _log.error("%s: %s", request.url.path, error)
        return problem(503, "The published store cannot be read at the moment; ask again.", {"Retry-After": "10"})

    handlers: dict[Any, Any] = {
        ProblemError: raised, HTTPException: refused, RequestValidationError: invalid,
        UnknownNameError: unknown, NotPublishedError: unpublished, StoreError: unavailable,
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document with the problem schema, without the validation errors of another shape that FastAPI adds by itself.

    A URL that is too long is refused everywhere.
    """
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, license_info=app.license_info, routes=app.routes
        )
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in found["paths"].values():
            for operation in path.values():
                anywhere = (400, 414) if operation["responses"].pop("422", None) else (414,)
                operation["responses"] |= {str(status): answer for status, answer in responses(*anywhere).items()}
        app.openapi_schema = found
    return app.openapi_schema


def _sentence(request: Request, error: HTTPException) -> str:
    path = request.url.path[:200]
    if error.status_code == 404:
        return f"There is nothing at {path}; /openapi.json lists what there is."
    if error.status_code == 405:
        return f"{request.method} is not allowed on {path}; everything here is read with GET."
    return str(error.detail)
