"""The scorecard that the page shows: the form of ``verification/scorecard.json`` under the root, and its reader.

Whoever verifies cycles writes this file; nothing else tells the page how good the forecasts were. Scores are means, lower is better, with a
95 % interval from a method that respects that neighbouring days are alike; every row says how many pairs and events stand behind it.
Example::

    {
      "format": 1, "live": false, "cycles": 34, "period": ["2026-10-20", "2026-11-22"], "needed_cycles": 90,
      "scores": [{"variable": "temperature_2m", "lead_hours": [24, 48], "score": "crps", "n": 1920, "events": null,
                  "blend": 0.71, "best_centre": "raw_gefs", "best_centre_score": 0.88, "climatology": 2.1,
                  "skill": 0.19, "skill_interval": [0.15, 0.23]}],
      "reliability": [{"variable": "precipitation_amount", "window_hours": 24, "threshold": 50.0, "lead_hours": [0, 72],
                       "bins": [{"forecast": 0.04, "observed": 0.03, "n": 812}]}],
      "pit": [{"variable": "temperature_2m", "lead_hours": [24, 48], "counts": [190, 200, 188, 195, 192, 189, 196, 201, 185, 184]}],
      "days": [{"date": "2026-11-20", "station": "lang", "variable": "precipitation_day_ending_1900", "lead_hours": 36,
                "quantiles": [0.0, 2.1, 14.0], "chance": 0.12, "threshold": 16.0, "observed": 3.4}],
      "forecasters": [{"forecaster": "blend", "variable": "temperature_2m", "lead_hours": [24, 48], "n": 1920, "score": 0.71,
                       "bias": -0.1, "coverage_50": 0.49, "coverage_90": 0.91}],
      "drifts": [{"variable": "temperature_2m", "kind": "too low", "since": "2026-11-10", "lead_hours": [0, 24], "size": 0.8}]
    }
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_catalog.errors import StoreCorruptError
from data_catalog.store import Root

PATH: Final = "verification/scorecard.json"
NEEDED_CYCLES: Final = 90
"""Live cycles before skill over Hanoi is claimed at all; a scorecard may ask for more."""
WARN_CHANCE: Final = 0.3
"""A day counts as forecast when its chance of the event was at least this."""


class Form(BaseModel):
    """Frozen; what is not known here is left out, so that a newer writer can say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Score(Form):
    """One variable and range of leads; ``skill`` is 1 - blend / best single centre, with its 95 % interval."""

    variable: str
    lead_hours: tuple[float, float]
    score: str = "crps"
    n: int
    events: int | None = None
    blend: float
    best_centre: str
    best_centre_score: float
    climatology: float | None = None
    skill: float
    skill_interval: tuple[float, float]


class Bin(Form):
    """Cases whose forecast chance was about the same."""

    forecast: float = Field(ge=0, le=1)
    observed: float = Field(ge=0, le=1)
    n: int


class Reliability(Form):
    """How often an event came when its chance was given as so much."""

    variable: str
    window_hours: int
    threshold: float
    lead_hours: tuple[float, float]
    bins: tuple[Bin, ...]


class Pit(Form):
    """Counts of the probability integral transform in equal bins over 0..1; a calibrated forecast has them alike."""

    variable: str
    lead_hours: tuple[float, float]
    counts: tuple[int, ...]


class Day(Form):
    """One day at one station: quantiles 10, 50 and 90 %, the chance of passing the threshold, and what came."""

    date: str
    station: str
    variable: str
    lead_hours: float
    quantiles: tuple[float, float, float]
    chance: float | None = None
    threshold: float | None = None
    observed: float | None = None


class Drift(Form):
    """The blend has left what it says of itself for some days: it is too high, too low, too wide or too narrow since a day."""

    variable: str
    kind: str
    since: str
    lead_hours: tuple[float, float]
    size: float


class Forecaster(Form):
    """One forecaster's mean score (CRPS), bias and the share of observations inside its middle 50 and 90 %."""

    forecaster: str
    variable: str
    lead_hours: tuple[float, float]
    n: int
    score: float | None = None
    bias: float | None = None
    coverage_50: float | None = None
    coverage_90: float | None = None


class Scorecard(Form):
    """The file; see the module."""

    format: int = Field(ge=1, le=1)
    live: bool
    cycles: int
    period: tuple[str, str]
    needed_cycles: int = NEEDED_CYCLES
    scores: tuple[Score, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    pit: tuple[Pit, ...] = ()
    days: tuple[Day, ...] = ()
    forecasters: tuple[Forecaster, ...] = ()
    drifts: tuple[Drift, ...] = ()


def read_scorecard(root: Root) -> Scorecard | None:
    """The scorecard under a root, None before there is one.

    Raises:
        StoreCorruptError: It is not of the form that :mod:`serving.verification` shows.
    """
    found = root.read_json(PATH)
    if found is None:
        return None
    try:
        return Scorecard.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreCorruptError(
            f"{PATH}: {where} is {first.get('input')!r:.80}: {first['msg']}; write it as serving/verification.py shows."
        ) from error
