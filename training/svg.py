"""Small charts as inline SVG: enough for a report that needs no network and no plotting library.

Colours come from CSS classes of the page (``c0`` to ``c9`` and ``muted``), so that a chart follows its light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

Ticks = Sequence[tuple[float, str]]
WIDTH, HEIGHT = 640.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 12.0, 44.0


@dataclass(frozen=True, eq=False)
class Series:
    """One line, or one layer of a stack.

    Attributes:
        label: Shown in the legend and as tooltip.
        y: Values, NaN for none.
        low: Lower ends of intervals, or None.
        high: Upper ends.
        style: CSS class.
    """

    label: str
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    style: str = "c0"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span an interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    span = max(high - low, 1e-9 * max(abs(low), abs(high), 1.0))
    step = 10.0 ** math.floor(math.log10(span / count))
    step *= next(m for m in (1.0, 2.0, 5.0, 10.0) if span / (step * m) <= count)
    first = math.floor(low / step)
    return [round(step * k, 12) for k in range(first, math.ceil(high / step - 1e-9) + 1)]


class _Plane:
    """Axes: maps data to pixels and draws frame, ticks and labels."""

    def __init__(self, x: tuple[float, float], y: Sequence[float], x_label: str, y_label: str, x_ticks: Ticks) -> None:
        self.x0, self.x1 = x
        self.y0, self.y1 = float(y[0]), float(y[-1])
        self.parts: list[str] = []
        for value in y:
            at = self.py(value)
            self.parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            self.parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value, label in x_ticks:
            at = self.px(value)
            self.parts.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(label)}</text>')
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        self.parts.append(f'<text class="label" x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
        height = (_TOP + HEIGHT - _BOTTOM) / 2
        self.parts.append(
            f'<text class="label" transform="translate(13 {height:.1f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )

    def px(self, x: float) -> float:
        return _LEFT + (x - self.x0) / max(self.x1 - self.x0, 1e-12) * (WIDTH - _LEFT - _RIGHT)

    def py(self, y: float) -> float:
        return HEIGHT - _BOTTOM - (y - self.y0) / max(self.y1 - self.y0, 1e-12) * (HEIGHT - _TOP - _BOTTOM)

    def path(self, xs: np.ndarray, ys: np.ndarray) -> str:
        """A path through the finite points."""
        finite = np.isfinite(ys)
        points = [f"{self.px(x):.1f} {self.py(y):.1f}" for x, y in zip(xs[finite], ys[finite], strict=True)]
        return "M" + " L".join(points) if points else ""

    def svg(self, title: str) -> str:
        """The finished chart."""
        body = "".join(self.parts)
        return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{body}</svg>'


def lines(
    x: np.ndarray, series: Sequence[Series], *, title: str, x_label: str, y_label: str, x_ticks: Ticks = (), zero: bool = True
) -> str:
    """Lines with interval bars.

    Args:
        x: (n,) ascending.
        series: Each of n values.
        title: For readers that cannot see it.
        x_label: Axis label.
        y_label: Axis label.
        x_ticks: Places and labels; default round numbers.
        zero: Whether the axis starts at zero.
    """
    everything = np.concatenate([v[np.isfinite(v)] for s in series for v in (s.y, s.low, s.high) if v is not None] + [np.zeros(int(zero))])
    if not len(everything):
        return ""
    pad = 0.03 * (x[-1] - x[0]) if len(x) > 1 else 1.0
    ticks = x_ticks or [(t, f"{t:g}") for t in nice_ticks(float(x[0]), float(x[-1]), 8) if x[0] - pad <= t <= x[-1] + pad]
    plane = _Plane((x[0] - pad, x[-1] + pad), nice_ticks(float(everything.min()), float(everything.max())), x_label, y_label, ticks)
    for number, one in enumerate(series):
        shift = (number - len(series) / 2) * 1.5
        if one.low is not None and one.high is not None:
            for place, low, high in zip(x, one.low, one.high, strict=True):
                if math.isfinite(low) and math.isfinite(high):
                    plane.parts.append(_bar(one.style, (plane.px(place) + shift, plane.py(low)), (plane.px(place) + shift, plane.py(high))))
        plane.parts.append(f'<path class="line {one.style}" d="{plane.path(x, one.y)}"><title>{escape(one.label)}</title></path>')
        if len(x) <= 40:
            plane.parts += [
                _dot(one.style, plane.px(a), plane.py(b), f"{one.label}: {b:.4g}")
                for a, b in zip(x, one.y, strict=True)
                if math.isfinite(b)
            ]
    return plane.svg(title)


def _bar(style: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line class="bar {style}" x1="{start[0]:.1f}" x2="{end[0]:.1f}" y1="{start[1]:.1f}" y2="{end[1]:.1f}"/>'


def _dot(style: str, x: float, y: float, said: str) -> str:
    return f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(said)}</title></circle>'


def intervals(
    labels: Sequence[str], values: np.ndarray, errors: np.ndarray, *, title: str, x_label: str, marked: Sequence[str] = ()
) -> str:
    """A row for each label: a dot with its interval, the best first if sorted so.

    Args:
        labels: n names.
        values: (n,).
        errors: (n,) half-widths, NaN for none.
        title: For readers that cannot see it.
        x_label: Axis label.
        marked: Labels drawn in the first colour.
    """
    wide = np.nan_to_num(errors)
    ticks = nice_ticks(float((values - wide).min()), float((values + wide).max()), 6)
    row, left = 20.0, 150.0
    height = row * len(labels) + 48.0

    def px(value: float) -> float:
        return left + (value - ticks[0]) / max(ticks[-1] - ticks[0], 1e-12) * (WIDTH - left - 20.0)

    parts = [
        f'<line class="grid" x1="{px(t):.1f}" x2="{px(t):.1f}" y1="4" y2="{height - 40:.1f}"/>'
        f'<text class="tick" x="{px(t):.1f}" y="{height - 26:.1f}" text-anchor="middle">{t:g}</text>'
        for t in ticks
    ]
    for number, (label, value, error) in enumerate(zip(labels, values, wide, strict=True)):
        at = 4.0 + row * (number + 0.5)
        style = "c0" if label in marked else "c1"
        parts.append(f'<text class="tick" x="{left - 10}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        parts.append(_bar(style, (px(value - error), at), (px(value + error), at)))
        parts.append(_dot(style, px(value), at, f"{label}: {value:.4g}"))
    parts.append(f'<text class="label" x="{(left + WIDTH) / 2:.0f}" y="{height - 6:.1f}" text-anchor="middle">{escape(x_label)}</text>')
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{body}</svg>'


def histogram(share: np.ndarray, *, title: str, x_label: str, expected: float, band: float) -> str:
    """Bars over 0..1 with the share expected and a band for chance.

    Args:
        share: (bins,) summing to one.
        title: For readers that cannot see it.
        x_label: Axis label.
        expected: Drawn as a line.
        band: Half-width of what chance allows.
    """
    ticks = nice_ticks(0.0, float(max(share.max(), expected + band)))
    plane = _Plane((0.0, 1.0), ticks, x_label, "share of cases", [(t, f"{t:g}") for t in (0.0, 0.25, 0.5, 0.75, 1.0)])
    n = len(share)
    top, low = plane.py(expected + band), plane.py(max(expected - band, 0.0))
    wide = plane.px(1) - plane.px(0)
    plane.parts.append(f'<rect class="band" x="{plane.px(0):.1f}" y="{top:.1f}" width="{wide:.1f}" height="{low - top:.1f}"/>')
    for i, value in enumerate(share):
        left, right, at = plane.px(i / n) + 1, plane.px((i + 1) / n) - 1, plane.py(float(value))
        plane.parts.append(
            f'<rect class="column" x="{left:.1f}" y="{at:.1f}" width="{right - left:.1f}" height="{plane.py(0) - at:.1f}">'
            f"<title>{i / n:.2f} to {(i + 1) / n:.2f}: {value:.3f}</title></rect>"
        )
    at = plane.py(expected)
    plane.parts.append(f'<line class="expected" x1="{plane.px(0):.1f}" x2="{plane.px(1):.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
    return plane.svg(title)


def stack(x: np.ndarray, series: Sequence[Series], *, title: str, x_ticks: Sequence[tuple[float, str]], y_label: str) -> str:
    """Layers that sum to one, each value held until the next."""
    plane = _Plane((float(x[0]), float(x[-1])), [0.0, 0.25, 0.5, 0.75, 1.0], "", y_label, x_ticks)
    base = np.zeros(len(x))
    steps = np.repeat(x, 2)[1:]
    for one in series:
        top = base + np.nan_to_num(one.y)
        upper, lower = np.repeat(top, 2)[:-1], np.repeat(base, 2)[:-1]
        outline = np.concatenate([upper, lower[::-1]])
        path = plane.path(np.concatenate([steps, steps[::-1]]), outline)
        plane.parts.append(f'<path class="layer {one.style}" d="{path} Z"><title>{escape(one.label)}</title></path>')
        base = top
    return plane.svg(title)


def legend(series: Sequence[Series]) -> str:
    """Names and colours of a chart, as HTML."""
    return "".join(f'<span class="key"><i class="{s.style}"></i>{escape(s.label)}</span>' for s in series)
