"""Compact JSON for the forecasters' page, each answer from one published cycle.

These answers are the page's own and may change with it; programs read the published stores or OGC API - EDR. Numbers are rounded for
reading, missing ones are null. Nothing here forecasts: what is counted is counted in the published members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Response

from data_catalog.regions import Region
from data_catalog.settings import Settings
from data_catalog.stations import by_id
from serving.api.cycles import PublishedCycles
from serving.observed import Observations
from serving.page.days import comfort_of, observed_of, runs_of_cycles
from serving.page.maps import map_of
from serving.page.overview import index_of, record_of, status_of, verification_of
from serving.page.point import BLEND, members_of, models_of, point_of
from serving.page.risk import risk_of


def page_router(settings: Settings, store: PublishedCycles) -> APIRouter:
    """``/api/page/...``; see the functions for what each answers."""
    region = settings.load_region()
    observations = Observations(store.root, settings)
    router = APIRouter(prefix="/api/page", include_in_schema=False)
    _add_changing(router, store, region, observations)
    _add_of_a_cycle(router, store, region, observations)
    return router


def _add_changing(router: APIRouter, store: PublishedCycles, region: Region, observations: Observations) -> None:
    """What may change without a new cycle; made anew only when what it is made of changed."""

    @lru_cache(maxsize=2)
    def recorded(generation: int) -> Mapping[str, Any]:
        return record_of(store, observations)

    @lru_cache(maxsize=64)
    def seen(reports: tuple[str, ...], station: str) -> bytes:
        return packed(observed_of(observations, region, station))

    @router.get("/verification")
    def verification() -> Response:
        store.names()
        return answer(packed(verification_of(store.root, recorded(store.generation))), "no-store")

    @router.get("/observed/{place}")
    def observed(place: str) -> Response:
        return answer(seen(observations.hashes(), by_id(region.operating, place).id), "no-store")


def _add_of_a_cycle(router: APIRouter, store: PublishedCycles, region: Region, observations: Observations) -> None:
    """What stays the same until the next cycle is out."""

    @router.get("/index")
    def index() -> Response:
        return answer(packed(index_of(store, region)))

    @router.get("/runs/{place}")
    def runs(place: str) -> Response:
        return answer(packed(runs_of_cycles(store, region, observations, by_id(region.operating, place).id)))

    @router.get("/{cycle}/status")
    def status(cycle: str) -> Response:
        return answer(packed(status_of(store.cycle(cycle), observations)))

    @router.get("/{cycle}/risk/{place}")
    def risk(cycle: str, place: str) -> Response:
        return answer(packed(risk_of(store.cycle(cycle), region, observations, by_id(region.operating, place).id)))

    @router.get("/{cycle}/point/{place}")
    def point(cycle: str, place: str) -> Response:
        return answer(packed(point_of(store.cycle(cycle), region, place)))

    @router.get("/{cycle}/members/{place}/{variable}")
    def members(cycle: str, place: str, variable: str, forecaster: str = BLEND) -> Response:
        return answer(packed(members_of(store.cycle(cycle), region, place, variable, forecaster)))

    @router.get("/{cycle}/models/{variable}")
    def models(cycle: str, variable: str) -> Response:
        return answer(packed(models_of(store.cycle(cycle), variable)))

    @router.get("/{cycle}/comfort/{place}")
    def comforts(cycle: str, place: str) -> Response:
        return answer(packed(comfort_of(store.cycle(cycle), region, observations, by_id(region.operating, place).id)))

    @router.get("/{cycle}/map/{field}/{statistic}")
    def layer(cycle: str, field: str, statistic: str) -> Response:
        return answer(packed(map_of(store.cycle(cycle), region, field, statistic)))


def packed(content: Mapping[str, Any]) -> bytes:
    """JSON without spaces; NaN has no form in it and is an error."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def answer(body: bytes, caching: str = "no-cache") -> Response:
    """JSON as an answer: ``no-cache`` ones are kept by the server until the next cycle, ``no-store`` ones asked for every time."""
    return Response(body, media_type="application/json", headers={"Cache-Control": caching})
