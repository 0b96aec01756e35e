"""What people read of a trained version: pictures of its held-out scores and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_catalog.variables import VARIABLES
from training.evaluate import PIT_BINS, Protected, by_lead, pit, reliability
from training.scoring import Cases
from training.svg import HEIGHT, WIDTH, Series, histogram, lines
from training.train import skill

if TYPE_CHECKING:
    from training.train import Trained

_COLOURS: Final = ("#b4341f", "#3f6f9f", "#4b8f5a", "#9467a8", "#b98a1e", "#3c9aa3", "#9a5b3c", "#7a828c", "#c56b97", "#6a8a1f")
_STYLE: Final = (
    "svg{background:#fff;font-family:system-ui,sans-serif}.tick{font-size:11px;fill:#5b6570}.label{font-size:12px;fill:#5b6570}"
    ".name{font-size:14px;font-weight:600;fill:#1b1f24}.key{font-size:11px;fill:#1b1f24}.grid{stroke:#dfe3e8}.line{fill:none;stroke-width:2}"
    ".bar{stroke-width:1.5}.band{fill:#dfe3e8}.column{fill:#3f6f9f}.expected{stroke:#b4341f;stroke-dasharray:4 3}"
    + "".join(f".line.c{i},.bar.c{i}{{stroke:{c}}}.dot.c{i}{{fill:{c}}}" for i, c in enumerate(_COLOURS))
)


def standalone(chart: str, title: str, series: Sequence[Series] = ()) -> bytes:
    """A chart of :mod:`training.svg` as a file of its own: with title, legend and colours."""
    inner = chart[chart.index(">") + 1 :]
    head = f'<text class="name" x="12" y="20">{escape(title)}</text>'
    at = 12.0
    for one in series:
        colour = _COLOURS[int(one.style.removeprefix("c"))]
        head += f'<rect x="{at:.0f}" y="30" width="10" height="10" fill="{colour}"/>'
        head += f'<text class="key" x="{at + 14:.0f}" y="39">{escape(one.label)}</text>'
        at += 30 + 6.2 * len(one.label)
    size = f'viewBox="0 -50 {WIDTH:g} {HEIGHT + 50:g}" width="{WIDTH:g}" height="{HEIGHT + 50:g}"'
    text = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style><g transform="translate(0 -50)">{head}</g>{inner}'
    return text.encode()


def pictures(cases: Mapping[str, Cases], history: Mapping[str, Sequence[Mapping[str, float | None]]]) -> dict[str, bytes]:
    """SVG files by path: for every variable its losses, CRPS and spread/error by lead, PIT and reliability of the first row."""
    found: dict[str, bytes] = {}
    for variable, rows in history.items():
        epochs = np.array([row["epoch"] for row in rows], dtype=float)
        names = ("loss", "held_out")
        series = [Series(name, np.array([row[name] for row in rows], dtype=float), style=f"c{i}") for i, name in enumerate(names)]
        chart = lines(epochs, series, title="Losses", x_label="epoch", y_label="loss", zero=False)
        found[f"figures/{variable}/losses.svg"] = standalone(chart, f"Losses of {variable}", series)
    for variable, one in cases.items():
        name = VARIABLES[variable].long_name if variable in VARIABLES else variable
        unit = VARIABLES[variable].units if variable in VARIABLES else ""
        own = one.rows[0]
        series = [Series(row, by_lead(one, i)[1], style=f"c{i % len(_COLOURS)}") for i, row in enumerate(one.rows[: len(_COLOURS)])]
        leads = by_lead(one, 0)[0]
        chart = lines(leads, series, title=f"CRPS of {name}", x_label="lead time, hours", y_label=f"CRPS, {unit}")
        found[f"figures/{variable}/crps_by_lead.svg"] = standalone(chart, f"CRPS of {name}, held out", series)
        spread = np.sqrt(by_lead(one, 0, "variance")[1])
        error = np.sqrt(by_lead(one, 0, "square")[1])
        both = [Series("spread", spread, style="c0"), Series("error of the mean", error, style="c1")]
        chart = lines(leads, both, title=f"Spread and error of {name}", x_label="lead time, hours", y_label=unit)
        found[f"figures/{variable}/spread_error.svg"] = standalone(chart, f"{own}: spread and error of {name}", both)
        days = len(np.unique(one.valid_time.astype("datetime64[D]")))
        band = 2.0 * float(np.sqrt((1 - 1 / PIT_BINS) / PIT_BINS / days))
        chart = histogram(pit(one, 0), title="PIT", x_label="probability at what was observed", expected=1 / PIT_BINS, band=band)
        found[f"figures/{variable}/pit.svg"] = standalone(chart, f"{own}: PIT of {name} (flat is calibrated)")
        levels, seen = reliability(one, 0)
        pair = [Series("calibrated", levels, style="c7"), Series(own, seen, style="c0")]
        chart = lines(levels, pair, title="Reliability", x_label="forecast probability of not more", y_label="observed frequency")
        found[f"figures/{variable}/reliability.svg"] = standalone(chart, f"Reliability of {name}", pair)
    return found


def card(version: str, trained: Trained, record: Mapping[str, Any], protected: Sequence[Protected]) -> str:
    """The model card, markdown: what it is, what it learned from, how good it is, what it must not be used for.

    Args:
        version: Name of the version.
        trained: What :func:`training.train.train` found.
        record: ``trained_at``, ``code`` and ``environment``.
        protected: Extremes to count.
    """
    training, forecaster = trained.training, trained.forecaster
    own = forecaster.spec.id
    lines_ = [
        f"# {own} {version}",
        "",
        f"{_about(forecaster)} Version {forecaster.spec.version} of the method."
        + (" **Learned from simulated data: it knows no real weather.**" if training["simulated"] else ""),
        "",
        "| | |",
        "|---|---|",
        f"| trained | {record['trained_at']}, {trained.cost['fit_seconds']:.1f} s on {trained.device} |",
        f"| code | {record['code']} |",
        f"| learned from | {training['days']} days of pairs, forecasts from {training['first'][:10]} to {training['held_out_from'][:10]} |",
        f"| judged on | forecasts from {training['held_out_from'][:10]} to {training['until']}, which it was not shown |",
        f"| data snapshot | {training['snapshot']} |",
        f"| sources | {', '.join(training['sources'])} |",
        f"| stations | {', '.join(training['stations'])} |",
        f"| parameters | {', '.join(f'{k}={v}' for k, v in training['parameters'].items()) or 'its own'} |",
        f"| cost | {trained.cost['predict_seconds']:.2f} s a cycle, {trained.cost['state_bytes'] / 1e6:.2f} MB |",
        "",
        "## Held-out scores",
        "",
        "CRPS, lower is better, over the cases that every row has; ± one standard error from blocks of days.",
        "",
        f"| variable | n | {own} | " + " | ".join(_rows(trained)[1:]) + " | bias | 90 % holds | spread/error |",
        "|---|---|---|" + "---|" * (len(_rows(trained)) + 2),
    ]
    table = {(row["variable"], row["forecaster"]): row for row in trained.scores if row["cut"] == "all"}
    for variable, cases in trained.cases.items():
        row = table.get((variable, own))
        if row is None:
            continue
        others = [_cell(table.get((variable, name), {}).get("crps")) for name in _rows(trained)[1:]]
        mine = f"{_cell(row['crps'])} ± {_cell(row['crps_error'])}"
        tail = [_cell(row["bias"]), f"{100 * row['coverage_90']:.0f} %", _cell(row["spread_error"])]
        lines_.append(f"| {variable} ({_units(variable)}) | {len(cases.observed)} | {mine} | {' | '.join([*others, *tail])} |")
    gains = {name: skill(trained.cases, own, name) for name in _rows(trained)[1:]}
    said = ", ".join(f"{100 * value:+.1f} % against {name}" for name, value in gains.items() if value is not None)
    lines_ += ["", f"Mean skill: {said}." if said else "", "", "## Protected cases", ""]
    lines_ += [f"- {one.name}: {text}" for one in protected if (text := _events(one, trained.cases, own))]
    lines_ += [
        "",
        "## Limits",
        "",
        "- Made for these stations and sources; at others it falls back to what its method does for the unknown.",
        "- Skill above is on the held-out days alone; `giomua verify` says how it does in the cycles since.",
        "- Never an official warning.",
        "",
    ]
    return "\n".join(lines_)


def _rows(trained: Trained) -> list[str]:
    """Every row of any variable, its own first."""
    return list(dict.fromkeys(name for cases in trained.cases.values() for name in cases.rows))


def _about(forecaster: Any) -> str:
    """The first sentence of the module that the forecaster is in."""
    import sys

    said = (sys.modules[type(forecaster).__module__].__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    return said.partition(". ")[0].rstrip(".") + "."


def _events(one: Protected, cases: Mapping[str, Cases], own: str) -> str:
    found = cases.get(one.variable)
    if found is None or own not in found.rows:
        return ""
    events = int(one.happened(found.observed).sum())
    scores = found.statistics[one.name].mean(axis=1)
    beyond = "at least" if one.side == "above" else "at most"
    shown = ", ".join(f"{name} {value:.4f}" for name, value in zip(found.rows, scores, strict=True))
    return f"{events} cases of {beyond} {one.threshold:g} {_units(one.variable)}; CRPS beyond the threshold: {shown}"


def _units(variable: str) -> str:
    units = VARIABLES[variable].units if variable in VARIABLES else ""
    return {"degree_Celsius": "°C", "kg m-2": "mm"}.get(units, units)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
