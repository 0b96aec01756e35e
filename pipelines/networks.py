"""How the station networks stand: newest report, age, what is missing and flagged, and whether they can be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from data_catalog.errors import GiomuaError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources import registry
from data_catalog.sources.base import Subscribed
from data_catalog.sources.mqtt import check_broker
from data_catalog.sources.transport import FolderTransport
from pipelines.observe import OBSERVATIONS
from pipelines.render import table

HOUR: Final = np.timedelta64(1, "h")
_LOOKED_BACK: Final = 6.0           # hours, or twice a network's usual delay


def network_status(settings: Settings, manifest: Manifest, now: np.datetime64) -> list[dict[str, Any]]:
    """A row for each network in the archive, and each that the settings name.

    Returns:
        ``network``, ``newest`` (UTC, None where there is nothing), ``age_hours``, ``usual_delay_hours``, shares of the values of its newest
        month that are ``missing`` and ``flagged`` (None where not known), ``months``.
    """
    known = registry.station_sources(settings)
    archived = [name.removeprefix(f"{OBSERVATIONS}/") for name in manifest.datasets() if name.startswith(f"{OBSERVATIONS}/")]
    rows = []
    for network in [*archived, *(name for name in settings.networks if name not in archived)]:
        revisions = manifest.revisions(f"{OBSERVATIONS}/{network}", latest_only=True)
        newest = revisions[-1].details if revisions else {}
        values = newest.get("values", {})
        total = sum(values.values())
        age = (now - np.datetime64(str(newest["newest"]).rstrip("Z"), "m")) / HOUR if "newest" in newest else None
        rows.append(
            {
                "network": network,
                "newest": newest.get("newest"),
                "age_hours": None if age is None else round(float(age), 1),
                "usual_delay_hours": known[network].spec.delay_hours if network in known else None,
                "missing": round(values["missing"] / total, 4) if total else None,
                "flagged": round(values["flagged"] / total, 4) if total else None,
                "months": len(revisions),
            }
        )
    return rows


def render_networks(rows: Sequence[dict[str, Any]]) -> str:
    """The same as a table, "" for none."""

    def cell(value: Any, shown: str) -> str:
        return "-" if value is None else shown.format(value)

    lines = [
        [
            row["network"], cell(row["newest"], "{}"), cell(row["age_hours"], "{:.1f} h"), cell(row["usual_delay_hours"], "{:.1f} h"),
            cell(row["missing"], "{:.1%}"), cell(row["flagged"], "{:.2%}"), str(row["months"]),
        ]
        for row in rows
    ]    # fmt: skip
    return table(lines, ["stations", "newest report", "age", "usual delay", "missing", "flagged", "months"]) if lines else ""


def reach_network(settings: Settings, network: str, now: np.datetime64) -> tuple[str, str]:
    """Whether a network can be read now: ``ok`` or ``warn``, and what was found."""
    source = registry.station_source(settings, network)
    if source.spec.simulated:
        return "ok", "simulated, made here"
    try:
        if isinstance(source, Subscribed):
            check_broker(settings.source_urls.get(network, source.spec.url))
            return "ok", "the broker answers"
        hours = max(_LOOKED_BACK, 2 * source.spec.delay_hours)
        transport = registry.transport_for(settings, network)
        found = source.read(now - np.timedelta64(round(hours * 3600), "s"), now, transport)
    except GiomuaError as error:
        return "warn", str(error)
    times = found.data["time"].size
    where = f"in {transport.base}" if isinstance(transport, FolderTransport) else "there"
    if times and not found.flaws:
        return "ok", f"reports of {times} times in the last {hours:g} h {where}"
    said = f"reports of {times} times in the last {hours:g} h {where}"
    if found.flaws:
        said += f"; {len(found.flaws)} files or lines cannot be used, first {found.flaws[0].file}: {found.flaws[0].reason}"
    return "warn", said
