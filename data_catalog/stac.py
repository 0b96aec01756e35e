"""The published cycles as a static STAC 1.1 catalog, so that any STAC client finds them.

``published/catalog.json`` has one collection, ``published/collection.json``, and that one item a published revision,
``published/items/<YYYYMMDDTHH>Z.r<n>.json``, newest first. All links are relative: the folder can be moved, or served under any URL.

The fields of a forecast are those of the STAC forecast extension 0.2.0. An item covers a period, so its ``datetime`` is the start of
the period as the extension recommends, ``forecast:horizon`` the time from reference to start, and ``forecast:duration`` its length.
The media type of Zarr is the registered ``application/vnd.zarr`` (also :data:`pystac.MediaType.VND_ZARR`) with the version of the format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_catalog.errors import StoreError
from data_catalog.regions import Region
from data_catalog.store import Root

if TYPE_CHECKING:
    import pystac

FOLDER: Final = "published"
CATALOG: Final = f"{FOLDER}/catalog.json"
COLLECTION: Final = f"{FOLDER}/collection.json"
ITEMS: Final = f"{FOLDER}/items"
FORECAST_EXTENSION: Final = "https://stac-extensions.github.io/forecast/v0.2.0/schema.json"
ZARR: Final = "application/vnd.zarr; version=3"

_ITEM: Final = re.compile(rf"{ITEMS}/((\d{{8}}T\d{{2}})Z\.r(\d+))\.json")


@dataclass(frozen=True, slots=True)
class PublishedCycle:
    """One published revision of a cycle.

    Attributes:
        init_time: Start of the forecast, UTC, a whole hour.
        revision: 0, 1, 2, ... as later centres arrive.
        href: Of the store, relative to the published folder: ``20250101T00Z.r0.0123456789ab.zarr``.
        content_hash: Of the store, 64 hex digits.
        first_lead: First lead time in it.
        last_lead: Last lead time in it.
        variables: Names of the catalog.
        simulated: Whether any of it comes from the simulated atmosphere.
        sources: Dataset names under ``present``, ``lagged`` and ``missing``.
    """

    init_time: np.datetime64
    revision: int
    href: str
    content_hash: str
    first_lead: np.timedelta64
    last_lead: np.timedelta64
    variables: tuple[str, ...]
    simulated: bool
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        """``<YYYYMMDDTHH>Z.r<n>``."""
        return f"{_moment(self.init_time):%Y%m%dT%H}Z.r{self.revision}"


def publish_item(root: Root, cycle: PublishedCycle, region: Region) -> None:
    """Write the item of a published cycle, then the collection that lists all items, then the catalog; each is replaced atomically.

    Two processes that publish at once end with both items listed.

    Args:
        root: Its ``published`` folder holds the store already.
        cycle: What was published.
        region: The box it covers.

    Raises:
        StoreError: The store is not there, or a file cannot be written.
    """
    if not root.exists(f"{FOLDER}/{cycle.href}"):
        raise StoreError(f"There is no store {root.location(f'{FOLDER}/{cycle.href}')} to list; publish it before its item.")
    root.write_json(f"{ITEMS}/{cycle.id}.json", item(cycle, region))
    listed: list[str] = []
    while (known := _item_ids(root)) != listed:  # another process may have added an item after the last look
        listed = known
        root.write_json(COLLECTION, collection(listed, region))
    root.write_json(CATALOG, catalog(region))


def item(cycle: PublishedCycle, region: Region) -> dict[str, Any]:
    """The STAC item of a cycle, as JSON types."""
    import pystac

    reference = _moment(cycle.init_time)
    start, end = _moment(cycle.init_time + cycle.first_lead), _moment(cycle.init_time + cycle.last_lead)
    box = _box(region)
    made = pystac.Item(
        id=cycle.id,
        geometry=_polygon(box),
        bbox=box,
        datetime=start,
        start_datetime=start,
        end_datetime=end,
        properties={
            "title": f"{region.title}, {reference:%Y-%m-%d %H} UTC, revision {cycle.revision}",
            "forecast:reference_datetime": f"{reference:%Y-%m-%dT%H:%M:%SZ}",
            "forecast:horizon": _duration(cycle.first_lead),
            "forecast:duration": _duration(cycle.last_lead - cycle.first_lead),
            "giomua:revision": cycle.revision,
            "giomua:content_hash": cycle.content_hash,
            "giomua:simulated": cycle.simulated,
            "giomua:sources": {status: sorted(names) for status, names in sorted(cycle.sources.items())},
            "giomua:variables": sorted(cycle.variables),
        },
        stac_extensions=[FORECAST_EXTENSION],
        collection=_collection_id(region),
        assets={
            "data": pystac.Asset(
                href=f"../{cycle.href}", title="The published ensemble, one Zarr store", media_type=ZARR, roles=["data"]
            )
        },
    )
    return _linked(made, ("root", "../catalog.json"), ("parent", "../collection.json"), ("collection", "../collection.json"))


def collection(item_ids: Sequence[str], region: Region) -> dict[str, Any]:
    """The STAC collection of all items, in the order given, as JSON types."""
    import pystac

    first = min((_item_time(name) for name in item_ids), default=None)
    made = pystac.Collection(
        id=_collection_id(region),
        title=f"Ensemble forecasts, {region.title}",
        description=(
            "Every published revision of every cycle: calibrated, coupled members, quantiles, probabilities and daily values, each "
            "in one immutable Zarr store. The terms of use follow the sources that an item names; those marked simulated hold no "
            "real weather."
        ),
        extent=pystac.Extent(pystac.SpatialExtent([_box(region)]), pystac.TemporalExtent([[first, None]])),
        license="other",
    )
    items = (("item", f"./items/{name}.json") for name in item_ids)
    return _linked(made, ("root", "./catalog.json"), ("parent", "./catalog.json"), *items)


def catalog(region: Region) -> dict[str, Any]:
    """The STAC catalog above the collection, as JSON types."""
    import pystac

    made = pystac.Catalog(id="giomua", title="Giómua", description=f"Multi-model ensemble forecasts for {region.title}.")
    return _linked(made, ("root", "./catalog.json"), ("child", "./collection.json"))


def _item_ids(root: Root) -> list[str]:
    """Ids of all items, newest cycle and highest revision first."""
    found = [match for path in root.list_files(ITEMS) if (match := _ITEM.fullmatch(path))]
    return [match[1] for match in sorted(found, key=lambda match: (match[2], int(match[3])), reverse=True)]


def _item_time(name: str) -> datetime:
    return datetime.strptime(name.partition(".")[0], "%Y%m%dT%HZ").replace(tzinfo=UTC)


def _collection_id(region: Region) -> str:
    return f"giomua-{region.id}"


def _linked(made: pystac.STACObject, *links: tuple[str, str]) -> dict[str, Any]:
    """The object with these (relation, relative URL) and no other links, as JSON types."""
    import pystac

    made.clear_links()
    for relation, href in links:
        media_type = pystac.MediaType.GEOJSON if relation == "item" else pystac.MediaType.JSON
        made.add_link(pystac.Link(relation, href, media_type=media_type))
    found: dict[str, Any] = made.to_dict(include_self_link=False, transform_hrefs=False)
    return found


def _box(region: Region) -> list[float]:
    return [region.longitude_west, region.latitude_south, region.longitude_east, region.latitude_north]


def _polygon(box: Sequence[float]) -> dict[str, Any]:
    west, south, east, north = box
    return {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]]}


def _moment(time: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(time.astype("datetime64[s]").astype(np.int64)), UTC)


def _duration(length: np.timedelta64) -> str:
    """ISO 8601, in hours and minutes."""
    hours, minutes = divmod(int(length / np.timedelta64(1, "m")), 60)
    return f"PT{hours}H" + (f"{minutes}M" if minutes else "")
