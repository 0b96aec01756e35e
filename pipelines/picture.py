"""A picture of a published cycle for places that show images only: the artifacts of a flow run."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np

from data_catalog.dimensions import LEAD_TIME, QUANTILE, STATION
from data_catalog.regions import Region
from data_catalog.store import Root
from training.svg import HEIGHT, WIDTH, Series, lines

SHOWN: Final = (("temperature_2m", "2 m temperature, °C", False), ("precipitation_amount", "rain, mm in 3 or 6 h", True))
STYLE: Final = (
    "text{font:12px sans-serif;fill:#33404c}.grid{stroke:#dfe5ea}.line{fill:none;stroke:#0b5394;stroke-width:2}"
    ".bar{stroke:#0b5394;stroke-opacity:.45;stroke-width:3}.dot{fill:#0b5394}"
)

HOUR = np.timedelta64(1, "h")


def cycle_picture(root: Root, region: Region, href: str) -> str:
    """Temperature and rain at the region's first station by lead: median and 10-90 %, as SVG.

    Args:
        root: Where the store is.
        region: Names the station.
        href: Of a published store, relative to the root.

    Returns:
        The picture, "" when the store has neither.
    """
    station = region.operating[0]
    group = root.open_store(href, "stations_quantiles").sel({STATION: station.id})
    hours = np.asarray(group[LEAD_TIME].values / HOUR, dtype=float)
    charts = []
    for name, label, zero in SHOWN:
        if name not in group:
            continue
        low, middle, high = (group[name].sel({QUANTILE: level}, method="nearest").values for level in (0.1, 0.5, 0.9))
        charts.append(lines(
            hours, [Series("median, 10-90 %", middle, low, high)], title=f"{station.name}: {label}", x_label=f"{station.name}: hours ahead",
            y_label=label, zero=zero,
        ))  # fmt: skip
    if not charts:
        return ""
    placed = "".join(chart.replace("<svg ", f'<svg y="{place * HEIGHT:g}" height="{HEIGHT:g}" ', 1) for place, chart in enumerate(charts))
    size = f'width="{WIDTH:g}" height="{len(charts) * HEIGHT:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style><rect {size} fill="#fff"/>{placed}</svg>'


def as_url(svg: str) -> str:
    """The picture as a ``data:`` URL."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
