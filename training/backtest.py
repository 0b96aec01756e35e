"""Replay of past cycles with only what was available then: every forecaster, the equal mixture and the blend, scored on common cases.

The plan of a backtest is a list of blocks. A block is some init_times that share a fit; the fit of a test block uses pairs verified by
the first of them. Blocks of the training period come first, each forecast by a fit on the rest of it: what the forecasters say there,
out of fold, is what the weights of the first test block are learned from. From then on every block's forecasts join that past as their
outcomes become known.
"""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
import zarr

from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, INIT_TIME, LEAD_TIME, QUANTILE, STATION
from data_catalog.dimensions import attributes as coordinate_attributes
from data_catalog.errors import ConfigurationError, UnknownNameError
from data_catalog.variables import VARIABLES
from data_catalog.variables import attributes as variable_attributes
from models.base import LEVELS
from models.blend import BlendState, apply_blend, bucket_of, learn_blend
from models.registry import build, forecaster_ids
from training.archives import DAY, Archive, read_archive
from training.learning import Block, Memory, forecast_block, lead_hours, near, resolution_of, scorable, training_blocks, visible
from training.scoring import Cases, of_members, of_quantiles, score_rows

Refit = Literal["never", "monthly", "daily"]
Progress = Callable[[str, int, int], None]

EQUAL, BLEND = "equal_weight", "blend"
_TRAINING_BLOCKS: Final = 6  # out-of-fold blocks in the training period
_FEWEST_DAYS: Final = 10  # distinct valid days of pairs below which nothing can be learned
_RAW_SHARE: Final = 0.5  # of the test cases, below which a source is not scored
_CHUNK: Final = 32  # init_times in a chunk of predictions.zarr


@dataclass(frozen=True)
class BacktestConfig:
    """What to replay.

    Attributes:
        sources: File or Zarr store of each source.
        observations: File or Zarr store.
        variable: One variable.
        train_until: Last valid day of the training period, inclusive.
        out: Folder for the results; made where missing.
        test_until: Last valid day of the test period, inclusive; default all there is.
        refit: When forecasters and weights are learned anew.
        window: Learn from this many distinct valid days, the newest; default all.
        forecasters: Ids, or ``statistical`` or ``all``.
        strict: The first fit too uses only what was verified by its init_time.
        thresholds: For Brier scores, in units of the variable; default by variable, or from the training observations.
    """

    sources: Mapping[str, Path]
    observations: Path
    variable: str
    train_until: date
    out: Path
    test_until: date | None = None
    refit: Refit = "monthly"
    window: int | None = None
    forecasters: tuple[str, ...] = ("statistical",)
    strict: bool = False
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.refit not in ("never", "monthly", "daily"):
            raise ConfigurationError(f"--refit is {self.refit!r}; expected never, monthly or daily.")
        if self.window is not None and self.window < _FEWEST_DAYS:
            raise ConfigurationError(f"--window is {self.window} days; expected at least {_FEWEST_DAYS}.")
        if self.test_until is not None and self.test_until <= self.train_until:
            raise ConfigurationError(f"--test-until {self.test_until} is not after --train-until {self.train_until}: the test is empty.")


@dataclass(eq=False)
class Record:
    """What is kept of the walk for scores and report: one entry a test case (init, lead, station), in blocks.

    Attributes:
        rows: Row names, in the order of the scores.
        statistics: By name, (rows, cases) arrays, NaN where a row has no forecast.
        observed: (cases,).
        init_time: (cases,).
        lead_hours: (cases,).
        station: (cases,) index.
        weights: (init_time of the fit, lead bucket, state) of every fit.
        skipped: Forecaster id to reason.
    """

    rows: list[str]
    statistics: dict[str, list[np.ndarray]] = field(default_factory=dict)
    observed: list[np.ndarray] = field(default_factory=list)
    init_time: list[np.ndarray] = field(default_factory=list)
    lead_hours: list[np.ndarray] = field(default_factory=list)
    station: list[np.ndarray] = field(default_factory=list)
    weights: list[tuple[np.datetime64, BlendState]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What was found.

    Attributes:
        rows: Of ``scores.csv``, as dictionaries.
        findings: What is odd about the data and what was left out, one sentence each.
        files: Written, by kind.
        cases: Statistics of every scored case.
        weights: (init_time of the fit, state) of every fit.
    """

    rows: list[dict[str, Any]]
    findings: tuple[str, ...]
    files: Mapping[str, Path]
    cases: Cases
    weights: list[tuple[np.datetime64, BlendState]]


def parse_sources(pairs: Sequence[str]) -> dict[str, Path]:
    """``NAME=FILE`` arguments as a dictionary.

    Raises:
        ConfigurationError: No ``=``, an empty or repeated name, or one that cannot be part of an id.
    """
    found: dict[str, Path] = {}
    for text in pairs:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise ConfigurationError(f"{text!r} is not NAME=FILE; write for example ens=ens.nc.")
        if not name.replace("-", "").replace(".", "").replace("_", "").isalnum():
            raise ConfigurationError(f"The source name {name!r} holds more than letters, digits, '-', '_' and '.'.")
        if name in found:
            raise ConfigurationError(f"The source name {name!r} is given twice, for {found[name]} and {path}.")
        found[name] = Path(path)
    return found


def parse_day(text: str, option: str) -> date:
    """An ISO date.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} is {text!r}; expected a date such as 2010-12-31.") from error


def choose_forecasters(asked: Sequence[str], sources: Sequence[str], variable: str) -> list[str]:
    """Ids to run: what is asked for and can forecast the variable, and always climatology and each raw ensemble.

    Raises:
        ConfigurationError: There is no source.
        UnknownNameError: An id is not known.
    """
    if not sources:
        raise ConfigurationError("There is no forecast to test; give at least one NAME=FILE.")
    known = forecaster_ids(sources)
    chosen: list[str] = []
    for name in asked:
        if name == "all":
            chosen += known
        elif name == "statistical":
            chosen += [i for i in known if type(build(i)).__module__.startswith("models.statistical")]
        elif name in known:
            chosen.append(name)
        elif name not in (BLEND, EQUAL):
            raise UnknownNameError(f"No forecaster is called {name!r}; known here are {', '.join(known)}, statistical and all.")
    always = ["climatology", *(f"raw_{s}" for s in sources)]
    targets = {i: build(i).spec.targets for i in known if i in chosen or i in always}
    return [i for i, names in targets.items() if not names or variable in names]


def run_backtest(config: BacktestConfig, progress: Progress | None = None) -> BacktestResult:
    """Read, walk forward, score and write ``scores.csv``, ``weights.csv``, ``predictions.zarr`` and ``report.html``.

    Args:
        config: What to replay.
        progress: Called with (what is being done, steps done, steps in all).

    Returns:
        Rows, findings and files.

    Raises:
        ConfigurationError: The data cannot be read or does not allow the split.
        UnknownNameError: A variable or forecaster is not known.
    """
    from training.report import write_report

    say = progress or (lambda _what, _done, _all: None)
    say("reading", 0, 1)
    ids = choose_forecasters(config.forecasters, list(config.sources), config.variable)
    archive = read_archive(config.sources, config.observations, config.variable)
    blocks = plan(archive, config)
    config.out.mkdir(parents=True, exist_ok=True)
    thresholds = config.thresholds or _thresholds(archive, blocks)
    walk = _Walk(archive, config, ids, thresholds)
    for number, block in enumerate(blocks):
        say(f"{'testing' if block.test else 'learning'} {_span(archive, block)}", number, len(blocks))
        walk.step(block)
    say("scoring", len(blocks), len(blocks))
    walk.finish()
    cases, left_out = _common(walk.record, archive, thresholds)
    rows = score_rows(cases)
    findings = (*archive.findings, *left_out, *(f"{i} was skipped: {why}." for i, why in walk.record.skipped.items()))
    files = {kind: config.out / name for kind, name in _FILES.items()}
    _write_csv(files["scores"], rows)
    _write_csv(files["weights"], weight_rows(walk.record.weights, sorted({float(h) for h in cases.lead_hours})))
    result = BacktestResult(rows, findings, files, cases, walk.record.weights)
    write_report(files["report"], config, result)
    say("done", len(blocks), len(blocks))
    return result


_FILES: Final = {"scores": "scores.csv", "weights": "weights.csv", "predictions": "predictions.zarr", "report": "report.html"}


# Which init_times share a fit, and what the fit may see ----------------------------------------------------------------------


def plan(archive: Archive, config: BacktestConfig) -> list[Block]:
    """Blocks of the walk in order of time.

    Raises:
        ConfigurationError: The training period is too short or the test period is empty.
    """
    inits = archive.pairs.frame[INIT_TIME].values
    valid = archive.valid_time
    start = _midnight(config.train_until)
    test = valid >= start
    if config.test_until is not None:
        test &= valid < _midnight(config.test_until)
    there = scorable(archive.pairs)
    if not (test & there).any():
        span = f"after {config.train_until}" + (f" and until {config.test_until}" if config.test_until else "")
        raise ConfigurationError(
            f"The test period is empty: no case {span} has a forecast and an observation; cases are valid {_iso(valid.min())} to "
            f"{_iso(valid.max())}. Choose an earlier --train-until."
        )
    training_days = len(np.unique(valid[~(valid >= start) & there].astype("datetime64[D]")))
    if training_days < _FEWEST_DAYS:
        raise ConfigurationError(
            f"There are {training_days} distinct valid days of pairs up to {config.train_until}, expected at least {_FEWEST_DAYS}; "
            "choose a later --train-until."
        )
    rows = np.flatnonzero(test.any(axis=1))
    first_cutoff = inits[rows[0]] if config.strict else start - np.timedelta64(1, "ns")
    usable = np.flatnonzero(((valid <= first_cutoff) & there).any(axis=1))
    usable = usable[usable < rows[0]] if (usable < rows[0]).any() else usable
    blocks = training_blocks(archive.pairs, usable, first_cutoff, _TRAINING_BLOCKS, config.window)
    if config.refit == "never":
        return [*blocks, Block(rows, first_cutoff, test=True)]
    unit = "datetime64[M]" if config.refit == "monthly" else "datetime64[D]"
    label = inits[rows].astype(unit)
    for number, name in enumerate(np.unique(label)):
        cut = rows[label == name]
        blocks.append(Block(cut, first_cutoff if number == 0 else inits[cut[0]], test=True))
    return blocks


class _Walk:
    """The replay: fits, forecasts, blends, writes and keeps statistics, block by block."""

    def __init__(self, archive: Archive, config: BacktestConfig, ids: Sequence[str], thresholds: Sequence[float]) -> None:
        self.archive, self.config, self.thresholds = archive, config, thresholds
        self.ids = list(ids)
        self.raw = [i for i in ids if i.startswith("raw_")]
        self.parts = [i for i in ids if i not in self.raw]
        self.record = Record([*self.raw, *self.parts, EQUAL, BLEND])
        self.leads = lead_hours(archive.pairs)
        self.memory = Memory(self.ids, self.parts, self.leads, resolution_of(archive.observed))
        known = VARIABLES.get(config.variable)
        self.lower = known.lower_bound if known else None
        self.upper = known.upper_bound if known else None
        self.store = config.out / _FILES["predictions"]
        self.written = False
        if self.store.exists():
            shutil.rmtree(self.store)

    def step(self, block: Block) -> None:
        """One block."""
        pairs = self.archive.pairs
        keep = visible(pairs, block.cutoff, self.config.window)
        if not block.test:
            keep &= ~near(pairs, block)
        since = self.archive.valid_time[keep].min() if self.config.window is not None and keep.any() else None
        found = forecast_block(pairs, block, keep, self.ids, since)
        said = found.quantiles[self.archive.variable]
        if block.test:
            for forecaster_id, reason in found.skipped.items():
                self.record.skipped.setdefault(forecaster_id, reason)
            state = self.memory.state(block.cutoff, since)
            self.record.weights.append((pairs.frame[INIT_TIME].values[block.rows[0]], state))
            nothing = np.full((*self.archive.observed[block.rows].shape, len(LEVELS)), np.nan, dtype=np.float32)
            parts = [said.get(i, nothing) for i in self.ids]
            blended = apply_blend(state, parts, self.leads, self.lower, self.upper)
            equal = apply_blend(learn_blend(None, self.ids, 0.0, self.parts), parts, self.leads)
            whole = {**dict(zip(self.ids, parts, strict=True)), EQUAL: equal, BLEND: blended}
            self._write(block, whole)
            self._score(block, whole)
        self.memory.add(pairs, block.rows, self.archive.observed[block.rows], said)

    def _write(self, block: Block, said: Mapping[str, np.ndarray]) -> None:
        """Forecasts of the block join ``predictions.zarr``."""
        frame = self.archive.pairs.frame.isel({INIT_TIME: block.rows})
        variable = self.archive.variable
        names = np.array(self.record.rows, dtype=np.dtypes.StringDType())
        values = np.stack([said[i] for i in self.record.rows]).astype(np.float32)
        observed = self.archive.observed[block.rows].astype(np.float32)
        dims = (FORECASTER, INIT_TIME, LEAD_TIME, STATION, QUANTILE)
        ground = [n for n in ("latitude", "longitude", "elevation") if n in frame.coords]
        data = xr.Dataset(
            {
                variable: (dims, values, variable_attributes(variable)),
                "observed": (dims[1:-1], observed, {"long_name": f"observed {variable}"}),
            },
            coords={
                FORECASTER: (FORECASTER, names, coordinate_attributes(FORECASTER)),
                INIT_TIME: (INIT_TIME, frame[INIT_TIME].values, coordinate_attributes(INIT_TIME)),
                LEAD_TIME: (LEAD_TIME, frame[LEAD_TIME].values, coordinate_attributes(LEAD_TIME)),
                STATION: (STATION, frame[STATION].values.astype(np.dtypes.StringDType()), coordinate_attributes(STATION)),
                QUANTILE: (QUANTILE, LEVELS, coordinate_attributes(QUANTILE)),
                **{n: (STATION, frame[n].values, coordinate_attributes(n)) for n in ground},
            },
        )
        if self.written:
            still = [c for c in data.coords if INIT_TIME not in data[c].dims]
            data.drop_vars(still).to_zarr(self.store, append_dim=INIT_TIME, consolidated=False)
            return
        shape = values.shape
        encoding: dict[str, dict[str, Any]] = {
            variable: {"chunks": (shape[0], _CHUNK, shape[2], min(shape[3], 64), shape[4])},
            "observed": {"chunks": (_CHUNK, shape[2], shape[3])},
            INIT_TIME: {"units": "hours since 1970-01-01", "dtype": "int64", "chunks": (4096,)},
            LEAD_TIME: {"units": "hours", "dtype": "float64"},
        }
        data.to_zarr(self.store, mode="w", encoding=encoding, consolidated=False)
        self.written = True

    def finish(self) -> None:
        """Consolidates the metadata of ``predictions.zarr``, for readers that expect it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(self.store)

    def _score(self, block: Block, said: Mapping[str, np.ndarray]) -> None:
        """Statistics of the block's test cases join the record."""
        archive, record = self.archive, self.record
        test = archive.valid_time[block.rows] >= _midnight(self.config.train_until)
        if self.config.test_until is not None:
            test &= archive.valid_time[block.rows] < _midnight(self.config.test_until)
        observed = archive.observed[block.rows]
        cases = np.flatnonzero((np.isfinite(observed) & test[..., None]).ravel())
        y = observed.ravel()[cases]
        found = []
        for row in record.rows:
            if row in self.raw:
                members = archive.pairs.sources[row.removeprefix("raw_")][archive.variable].isel({INIT_TIME: block.rows})
                flat = members.values.reshape(-1, members.sizes[ENSEMBLE_MEMBER])[cases]
                found.append(of_members(flat.astype(np.float64), y, self.thresholds))
            else:
                flat = said[row].reshape(-1, len(LEVELS))[cases]
                found.append(of_quantiles(flat.astype(np.float64), y, self.thresholds))
        for name in found[0]:
            record.statistics.setdefault(name, []).append(np.stack([f[name] for f in found]).astype(np.float32))
        record.observed.append(y)
        inits = archive.pairs.frame[INIT_TIME].values[block.rows]
        record.init_time.append(np.broadcast_to(inits[:, None, None], observed.shape).ravel()[cases])
        record.lead_hours.append(np.broadcast_to(self.leads[None, :, None], observed.shape).ravel()[cases])
        record.station.append(np.broadcast_to(np.arange(observed.shape[2])[None, None], observed.shape).ravel()[cases])


# What is written ---------------------------------------------------------------------------------------------------------------


def _common(record: Record, archive: Archive, thresholds: Sequence[float]) -> tuple[Cases, list[str]]:
    """Cases that every row has: the sources say which, and a forecaster that lacks one of those is not scored, which is said.

    Raises:
        ConfigurationError: There is none.
    """
    statistics = {name: np.concatenate(parts, axis=1) for name, parts in record.statistics.items()}
    there = np.isfinite(statistics["crps"])  # (rows, cases)
    raw = np.array([name.startswith("raw_") for name in record.rows])
    share = there.mean(axis=1)
    kept = raw & (share >= _RAW_SHARE)
    scorable = there[kept].all(axis=0) if kept.any() else there.any(axis=0)
    share = np.where(raw, share, there[:, scorable].mean(axis=1) if scorable.any() else 0.0)
    kept |= ~raw & (share >= 1.0)
    common = there[kept].all(axis=0)
    if not kept.any() or not common.any():
        raise ConfigurationError("No test case has an observation and a forecast from every row; check for missing values.")
    notes = [
        f"{name} lacks a forecast in {1.0 - part:.1%} of the test cases: it is not scored, so as not to cost the others those cases."
        for name, part, keep in zip(record.rows, share, kept, strict=True)
        if not keep
    ]
    lost = len(common) - int(common.sum())
    if lost:
        notes.append(f"{lost} of {len(common)} test cases lack some row's forecast and are not scored for any.")
    rows, take = np.flatnonzero(kept), np.flatnonzero(common)
    stations = archive.pairs.frame[STATION].values
    cases = Cases(
        tuple(record.rows[i] for i in rows),
        {name: values[rows][:, take].astype(np.float64) for name, values in statistics.items()},
        np.concatenate(record.observed)[take],
        np.concatenate(record.init_time)[take],
        np.concatenate(record.lead_hours)[take],
        stations[np.concatenate(record.station)[take]],
        tuple(thresholds),
    )
    return cases, notes


def weight_rows(weights: Sequence[tuple[np.datetime64, BlendState]], leads: Sequence[float]) -> list[dict[str, Any]]:
    """Rows of ``weights.csv``: what each fit said, by lead and forecaster."""
    return [
        {
            INIT_TIME: str(np.datetime_as_string(init, unit="m")),
            "lead_time_hours": f"{lead:g}",
            FORECASTER: name,
            "weight": float(state.weights[bucket, i]),
            "past_crps": float(state.past_crps[bucket, i]),
            "recalibration_shift": float(state.recalibration[bucket, 0]),
            "recalibration_slope": float(state.recalibration[bucket, 1]),
            "note": state.note[bucket],
        }
        for init, state in weights
        for lead in leads
        for bucket in [int(bucket_of(np.array([lead]))[0])]
        for i, name in enumerate(state.forecasters)
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows({k: (f"{v:.6g}" if isinstance(v, float) else v) for k, v in row.items()} for row in rows)


def _thresholds(archive: Archive, blocks: Sequence[Block]) -> tuple[float, ...]:
    """Thresholds people ask about for the variable; else the 10, 50, 90 and 99 % quantiles of the training observations, rounded."""
    if archive.variable == "precipitation_amount":
        return (0.1, 1.0, 5.0, 10.0, 25.0, 50.0)
    first = next(b for b in blocks if b.test)
    seen = archive.observed[(archive.valid_time <= first.cutoff)]
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        return ()
    digits = 0 if np.ptp(seen) >= 10 else 2
    return tuple(dict.fromkeys(round(float(v), digits) for v in np.quantile(seen, [0.1, 0.5, 0.9, 0.99])))


def _midnight(day: date) -> np.datetime64:
    """The end of a day, UTC."""
    return np.datetime64(day, "ns") + DAY


def _iso(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="D"))


def _span(archive: Archive, block: Block) -> str:
    inits = archive.pairs.frame[INIT_TIME].values[block.rows]
    return f"{_iso(inits[0])} to {_iso(inits[-1])}"
