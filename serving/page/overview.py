"""Views 1 and 6: the cycles there are, what a cycle is made of, and how good the forecasts were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from data_catalog.errors import GiomuaError
from data_catalog.regions import Region
from data_catalog.store import Root
from serving.api.cycles import Cycle, PublishedCycles
from serving.observed import Observations
from serving.page.common import HOUR, member_counts, stamp, utc_offset
from serving.verification import NEEDED_CYCLES, WARN_CHANCE, read_scorecard

LISTED: Final = 40


def index_of(store: PublishedCycles, region: Region) -> dict[str, Any]:
    """The region and its rules, the cycles there are (newest first), and what is wrong with the newest, if anything."""
    names = store.names()
    first_revisions: dict[str, str] = {}
    for name in names:
        first_revisions.setdefault(name.key, name.id)
    now = names[0].init_time if names else np.datetime64("2000-01-01", "ns")
    return {
        "cycles": [{"id": found, "init_time": stamp(_key_time(key))} for key, found in list(first_revisions.items())[:LISTED]],
        "problem": store.problem,
        "region": {
            "title": region.title, "title_vi": region.title_vi or region.title, "offset_hours": utc_offset(region, now),
            "city": region.city.model_dump(), "rain": region.rain.model_dump(), "temperature": region.temperature.model_dump(),
            "normals": region.normals,
            "stations": [
                station.model_dump(include={"id", "name", "latitude", "longitude", "elevation", "city", "citation"})
                for station in region.operating
            ],
        },
    }  # fmt: skip


def status_of(cycle: Cycle, observations: Observations) -> dict[str, Any]:
    """Each centre's run and state, and what was missing."""
    sources = json.loads(str(cycle.attributes.get("sources", "{}")))
    details = _details(cycle, observations)
    return {
        "id": cycle.id, "init_time": stamp(cycle.init_time), "simulated": cycle.simulated, "content_hash": cycle.content_hash,
        "sources": [
            {
                "dataset": name, "status": state["status"], "lag_hours": state["lag_hours"],
                "run": None if state["status"] == "missing" else stamp(cycle.init_time - state["lag_hours"] * HOUR),
                "members": member_counts(cycle).get(f"raw_{name}"),
            }
            for name, state in sorted(sources.items())
        ],
        "members": int(cycle.dataset("stations").sizes["ensemble_member"]),
        "notes": details.get("notes", []), "skipped": details.get("skipped", {}), "forecasters": details.get("forecasters", []),
    }  # fmt: skip


def _details(cycle: Cycle, observations: Observations) -> dict[str, Any]:
    """What the manifest recorded of this revision, {} where there is no manifest."""
    opened = observations.manifest()
    if opened is None:
        return {}
    with opened as manifest:
        for revision in manifest.revisions("published", cycle.name.key):
            if revision.content_hash == cycle.content_hash:
                return dict(revision.details)
    return {}


def _key_time(key: str) -> np.datetime64:
    return np.datetime64(f"{key[:4]}-{key[4:6]}-{key[6:8]}T{key[9:11]}", "ns")


def record_of(store: PublishedCycles, observations: Observations) -> dict[str, Any]:
    """What the manifest says of the past: live cycles so far, and the scores over the past that the newest run held out."""
    opened = observations.manifest()
    if opened is None:
        return {"held_out": [], "live_cycles": 0}
    with opened as manifest:
        revisions = manifest.revisions("published", latest_only=True)
    names = store.names()
    key = names[0].key if names else None
    return {
        "held_out": next((list(revision.details.get("skill", [])) for revision in revisions if revision.key == key), []),
        "live_cycles": sum(not revision.details.get("simulated") for revision in revisions),
    }


def verification_of(root: Root, record: Mapping[str, Any]) -> dict[str, Any]:
    """The scorecard if there is one, beside what :func:`record_of` found."""
    scorecard, problem = None, None
    try:
        scorecard = read_scorecard(root)
    except GiomuaError as error:
        problem = str(error)
    return dict(record) | {
        "scorecard": None if scorecard is None else scorecard.model_dump(), "problem": problem,
        "needed_cycles": NEEDED_CYCLES if scorecard is None else scorecard.needed_cycles, "warn_chance": WARN_CHANCE,
    }
