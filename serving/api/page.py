"""Compact JSON for the forecasters' page, each answer from one published cycle.

These answers are the page's own and may change with it; programs read the published stores or OGC API - EDR. Numbers are rounded for
reading, missing ones are null. Nothing here forecasts: what is counted is counted in the published members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from data_catalog.settings import Settings
from data_catalog.stations import by_id
from serving.api.cycles import PublishedCycles
from serving.observed import Observations
from serving.page.days import comfort_of, observed_of, runs_of_cycles
from serving.page.maps import map_of
from serving.page.overview import index_of, status_of, verification_of
from serving.page.point import members_of, models_of, point_of
from serving.page.risk import risk_of


def page_router(settings: Settings, store: PublishedCycles) -> APIRouter:
    """``/api/page/...``; see the functions for what each answers."""
    region = settings.load_region()
    observations = Observations(store.root, settings)
    router = APIRouter(prefix="/api/page", include_in_schema=False)

    @router.get("/index")
    def index() -> Response:
        return answer(index_of(store, region), "no-store")

    @router.get("/verification")
    def verification() -> Response:
        return answer(verification_of(store.root, store, observations), "no-store")

    @router.get("/observed/{place}")
    def observed(place: str) -> Response:
        return answer(observed_of(observations, region, by_id(region.operating, place).id), "no-store")

    @router.get("/runs/{place}")
    def runs(place: str) -> Response:
        return answer(runs_of_cycles(store, region, observations, by_id(region.operating, place).id))

    @router.get("/{cycle}/status")
    def status(cycle: str) -> Response:
        return answer(status_of(store.cycle(cycle), observations))

    @router.get("/{cycle}/risk/{place}")
    def risk(cycle: str, place: str) -> Response:
        return answer(risk_of(store.cycle(cycle), region, observations, by_id(region.operating, place).id))

    @router.get("/{cycle}/point/{place}")
    def point(cycle: str, place: str) -> Response:
        return answer(point_of(store.cycle(cycle), region, place))

    @router.get("/{cycle}/members/{place}/{variable}")
    def members(cycle: str, place: str, variable: str) -> Response:
        return answer(members_of(store.cycle(cycle), by_id(region.operating, place).id, variable))

    @router.get("/{cycle}/models/{variable}")
    def models(cycle: str, variable: str) -> Response:
        return answer(models_of(store.cycle(cycle), variable))

    @router.get("/{cycle}/comfort/{place}")
    def comforts(cycle: str, place: str) -> Response:
        return answer(comfort_of(store.cycle(cycle), region, observations, by_id(region.operating, place).id))

    @router.get("/{cycle}/map/{field}/{statistic}")
    def layer(cycle: str, field: str, statistic: str) -> Response:
        return answer(map_of(store.cycle(cycle), region, field, statistic))

    return router


def answer(content: Mapping[str, Any], caching: str = "no-cache") -> Response:
    """JSON without spaces; ``no-cache`` answers are kept by the server until the next cycle, ``no-store`` ones made every time."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return Response(body, media_type="application/json", headers={"Cache-Control": caching})
