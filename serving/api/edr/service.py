"""EDR queries answered from the published cycles, a few at a time and the rest in turn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response

from data_catalog.errors import GiomuaError, UnknownNameError
from serving.api.cycles import Cycle, NotKeptError, PublishedCycles
from serving.api.edr import ask
from serving.api.edr.collection import Collection, collections_of, describe
from serving.api.edr.encode import MEDIA_TYPES, encode, locations
from serving.api.edr.models import Dimensions, Places
from serving.api.edr.selection import Block, Wanted, at_points, at_stations, in_area
from serving.api.problems import ProblemError
from serving.api.static import FOREVER, FRESH

PREFIX: Final = "/edr"
AT_ONCE: Final = {"small": 4, "large": 2}
"""Queries computed at the same time: of single places, and of areas, so that the latter never keep the former waiting."""
MOST_WAITING: Final = {"small": 1000, "large": 32}

Size = Literal["small", "large"]


class Edr:
    """The queries over the published cycles.

    Args:
        store: What is read.
    """

    def __init__(self, store: PublishedCycles) -> None:
        self.store = store
        self._limiters = {size: CapacityLimiter(count) for size, count in AT_ONCE.items()}
        self._collections: WeakKeyDictionary[Cycle, dict[str, Collection]] = WeakKeyDictionary()

    async def values(
        self, request: Request, collection_id: str, instance_id: str | None, query: Dimensions, pick: Callable[[Wanted], list[Block]],
        size: Size,
    ) -> Response:
        """The values that a query asks for, at the places that ``pick`` reads.

        Raises:
            ProblemError: The query cannot be answered.
        """
        form = ask.output_format(query.f, request.headers.get("accept"))
        ask.check_crs(query.crs)
        base = base_url(request)
        given = dict(request.query_params)

        def make(cycle: Cycle) -> tuple[str, bytes]:
            collection = self.collection(cycle, collection_id)
            ask.check_known(collection, given)
            wanted = Wanted(
                collection=collection,
                form=form,
                parameters=ask.parameter_names(collection, query.parameter_name),
                times=ask.time_positions(collection, query.datetime),
                custom={name: ask.custom_positions(found, given.get(name)) for name, found in collection.custom.items()},
            )
            return cycle.id, encode(wanted, pick(wanted), base)

        answered, content = await self.run(size, instance_id, make)
        return Response(content, headers=headers(answered, instance_id) | {"Content-Type": MEDIA_TYPES[form]})

    async def run(self, size: Size, instance_id: str | None, make: Callable[[Cycle], Any]) -> Any:
        """Run ``make`` on the cycle that is meant: at once when all it needs is in memory, else in a thread when it is its turn.

        Raises:
            ProblemError: 429, too many wait already.
        """
        limiter = self._limiters[size]
        if limiter.statistics().tasks_waiting >= MOST_WAITING[size]:
            raise ProblemError(429, "Too many queries of this kind are waiting; ask again in a moment.", {"Retry-After": "2"})

        if size == "small" and instance_id is None:
            with suppress(NotKeptError), self.store.cache.memory_only():
                return make(self.store.current())

        def work() -> Any:
            if instance_id is None:
                return self.store.serve(make)
            return make(self.store.cycle(instance_id))

        return await to_thread.run_sync(work, limiter=limiter)

    def collections(self, cycle: Cycle) -> dict[str, Collection]:
        """The collections of a cycle, read once."""
        found = self._collections.get(cycle)
        if found is None:
            found = self._collections[cycle] = collections_of(cycle)
        return found

    def collection(self, cycle: Cycle, collection_id: str) -> Collection:
        """A collection of a cycle.

        Raises:
            UnknownNameError: It has none of this id.
        """
        found = self.collections(cycle)
        if collection_id not in found:
            raise UnknownNameError(f"There is no collection {collection_id[:80]!r} in {cycle.id}; there are {', '.join(found)}.")
        return found[collection_id]

    def instances(self, collection_id: str, base: str, limit: int) -> list[dict[str, Any]]:
        """Descriptions of the newest revisions that have the collection; one that cannot be read is left out."""
        described = []
        for name in self.store.names()[:limit]:
            try:
                cycle = self.store.outline(name)
                described.append(describe(self.collection(cycle, collection_id), base, name.id))
            except GiomuaError:
                continue
        return described

    async def at_points(self, request: Request, collection_id: str, instance_id: str | None, query: Dimensions, coords: str) -> Response:
        """Values at the nearest cells or stations of points."""
        points = ask.points(coords)
        return await self.values(request, collection_id, instance_id, query, lambda wanted: at_points(wanted, points), "small")

    async def inside(self, request: Request, collection_id: str, instance_id: str | None, query: Dimensions, area: ask.Area) -> Response:
        """Values of all cells or stations in an area."""
        return await self.values(request, collection_id, instance_id, query, lambda wanted: in_area(wanted, area), "large")

    async def at_station(
        self, request: Request, collection_id: str, instance_id: str | None, query: Dimensions, location_id: str
    ) -> Response:
        """Values at a station."""

        def pick(wanted: Wanted) -> list[Block]:
            known = stations(wanted.collection).stations
            if location_id not in known:
                raise UnknownNameError(f"There is no location {location_id[:80]!r}; there are {', '.join(known)}.")
            return at_stations(wanted, [known.index(location_id)])

        return await self.values(request, collection_id, instance_id, query, pick, "small")

    async def locations(self, request: Request, collection_id: str, instance_id: str | None, query: Places) -> Response:
        """The stations of a collection."""
        base = base_url(request)
        area = ask.box(query.bbox) if query.bbox else None

        def make(cycle: Cycle) -> tuple[str, bytes]:
            found = stations(self.collection(cycle, collection_id))
            ask.time_positions(found, query.datetime)
            known = range(len(found.stations))
            inside = known if area is None else area.contains(found.longitude, found.latitude).nonzero()[0].tolist()
            return cycle.id, locations(found, list(inside)[: query.limit], base, instance_id)

        answered, content = await self.run("small", instance_id, make)
        return Response(content, headers=headers(answered, instance_id) | {"Content-Type": MEDIA_TYPES["GeoJSON"]})


def stations(collection: Collection) -> Collection:
    """The collection when its places are stations.

    Raises:
        ProblemError: 404, they are cells of a grid.
    """
    if collection.is_grid:
        raise ProblemError(404, f"The collection {collection.id} is a grid and has no locations; ask position, area or cube.")
    return collection


def base_url(request: Request) -> str:
    """URL of the API as the client reached it."""
    return f"{str(request.base_url).rstrip('/')}{PREFIX}"


def headers(cycle_id: str, instance_id: str | None) -> dict[str, str]:
    """A revision never changes; what is newest is asked for anew."""
    return {"Cache-Control": FOREVER if instance_id == cycle_id else FRESH, "Giomua-Cycle": cycle_id}
