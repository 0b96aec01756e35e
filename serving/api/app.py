"""The application behind one address: the page, the published files, OGC API - EDR, events, metrics and health.

It reads published stores and never runs a forecaster, never writes, and asks for nothing from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal

from anyio import to_thread
from fastapi import FastAPI, Header, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, StreamingResponse

from data_catalog.settings import Settings
from data_catalog.store import Root
from serving.api.answers import Answers
from serving.api.cycles import PublishedCycles
from serving.api.edge import Edge
from serving.api.edr.router import routes as edr_routes
from serving.api.edr.service import Edr
from serving.api.files import answer_file, published_folder
from serving.api.metrics import CONTENT_TYPE, Metrics
from serving.api.page import page_router
from serving.api.problems import ProblemError, install, responses
from serving.api.static import load_bundle
from serving.api.stream import LISTENERS, Watcher, summary

DESCRIPTION: Final = """Giómua's published ensemble forecasts, read-only. Every answer comes whole from one published cycle. Times are UTC.

Simulated data says so. Nothing here is an official warning of the National Centre for Hydro-Meteorological Forecasting."""


FILES: Final[dict[str, Any]] = {"application/json": {}, "application/geo+json": {}, "application/octet-stream": {}}
AT_ONCE: Final = 4
"""Answers of the page computed at the same time: more threads than cores would only keep the event loop from its turn."""


class Health(BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What can be served."""

    status: Literal["ready"] = "ready"
    cycle: dict[str, Any] = Field(description="the cycle that is served, as in the published event")
    problem: str | None = Field(description="why the newest cycle is not the one that is served")


def create_app(settings: Settings) -> FastAPI:
    """The application on the root that the settings name, a local folder or an object store; nothing has to be published yet.

    ``app.state.store`` is the :class:`PublishedCycles` that every interface reads.
    """
    root = Root.open(settings)
    store = PublishedCycles(root)
    watcher = Watcher(store)
    metrics = Metrics(store)
    folder = published_folder(root)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = AT_ONCE
        watching = asyncio.create_task(watcher.run())
        yield
        watching.cancel()

    app = FastAPI(
        title="Giómua", version="1.0", description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"}, redirect_slashes=False,
    )
    app.state.store = store
    app.state.edr = Edr(store)
    install(app)

    @app.get("/health", tags=["operations"], summary="Whether the process answers")
    async def health() -> Health:
        return Health()

    @app.get("/ready", tags=["operations"], summary="Whether a cycle can be served", responses=responses(503))
    async def ready() -> Readiness:
        return Readiness(cycle=summary(store.current()), problem=store.problem)

    @app.get("/metrics", tags=["operations"], summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def figures() -> Response:
        return Response(metrics.text(), headers={"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE})

    @app.get(
        "/events", tags=["published"], summary="Server-sent events: `published` whenever another cycle is out",
        response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}, **responses(429)},
    )
    async def events(last_event_id: Annotated[str | None, Header(description="hash of the last cycle heard of")] = None) -> Response:
        if watcher.listeners >= LISTENERS:
            raise ProblemError(429, f"{LISTENERS} listeners are connected already; read published/latest.json.", {"Retry-After": "60"})
        return StreamingResponse(watcher.events(last_event_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get(
        "/published/{path:path}", tags=["published"], summary="A published file: Zarr, STAC, latest.json; whole or by range",
        response_class=Response, responses=responses(404, 416) | {
            200: {"description": "The file", "content": FILES},
            206: {"description": "The bytes asked for", "content": FILES},
            304: {"description": "The client has it"},
        },
    )
    async def published(request: Request, path: Annotated[str, Path(description="relative to the published folder")]) -> Response:
        return await answer_file(folder, path, request.headers)

    app.include_router(edr_routes)
    app.include_router(page_router(settings, store))

    app.add_middleware(Answers, store=store, ready=load_bundle())
    app.add_middleware(Edge, metrics=metrics)
    return app
