"""The short range: what stations reported in the last three days, and the NWP where it has come; leads up to 24 hours.

Every case is learned twice, with the NWP and without. With it the network corrects the joint EMOS; without it, a regression on the
reports alone. So a late NWP is nothing new, and the forecast goes on from what is observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Final, Self

import numpy as np
import torch
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, STATION
from models.base import LEVELS, ForecasterError, ForecasterSpec, Inputs, MissingInputError, NotFittedError, Pairs, check_state
from models.neural.drn import LocationScale
from models.neural.features import Cases
from models.neural.station import Gathered, Head, StationForecaster
from models.statistical.fisher import fit_location_scale
from models.statistical.predictors import Design
from models.statistical.shared import DAY, HOUR, Shape, answer, observed_of, season, shape_of, wanted

LONGEST: Final = np.timedelta64(24, "h")
_LAGS: Final = (0, 1, 2, 3, 4, 5, 6, 9, 12, 15, 18, 21, 24, 30, 36, 42, 48, 60, 72)  # hours before init_time
_OTHER_LAGS: Final = (0, 3, 24)  # of the other variables
_OTHERS: Final = 6  # other observed variables at most
_LEAST: Final = 0.1  # of the spread of the observations: no few reports tell more
_RIDGE: Final = 30.0  # rows that a coefficient of zero counts for


@dataclass(frozen=True, eq=False)
class Reports:
    """The regression on reports alone, of one variable; arrays only, for ``state``.

    Attributes:
        leads: (L,) nanoseconds.
        others: (V,) other observed variables.
        unit: (2, p) centre and scale of its predictors.
        location: (L, p + 1) coefficients, the constant first.
        log_scale: (L, 5) likewise, of season and hour.
        floor: (L,) smallest scale.
    """

    leads: np.ndarray
    others: np.ndarray
    unit: np.ndarray
    location: np.ndarray
    log_scale: np.ndarray
    floor: np.ndarray


class ShortRange(StationForecaster):
    """``shortrange``."""

    id: ClassVar[str] = "shortrange"
    version: ClassVar[str] = "1"

    def __init__(self, device: str = "auto", **parameters: float) -> None:
        super().__init__(device, **parameters)
        self.reports_: dict[str, Reports] = {}

    def head(self, shape: Shape) -> Head:
        """Location and scale, as of ``drn``."""
        return LocationScale(shape)

    @property
    def spec(self) -> ForecasterSpec:
        """Needs observations; every source is optional once it is fitted."""
        return ForecasterSpec(
            id=self.id, version=self.version, optional=("*",), minimum_history=10, needs_observations=True,
            longest_lead=float(LONGEST / HOUR),
        )  # fmt: skip

    def fit(self, pairs: Pairs) -> Self:
        """Learn every variable that a source and the observations have, at leads up to 24 hours.

        Raises:
            MissingInputError: There are no observations, or no source.
            ForecasterError: No lead is that short, or no variable has a single pair.
        """
        if pairs.observations is None:
            raise MissingInputError(f"{self.id} needs the series of observations, and the pairs come without.")
        if not len(_near(pairs.frame)):
            raise ForecasterError(f"{self.id} forecasts up to {LONGEST / HOUR:g} h ahead, and no lead is that short.")
        self.reports_ = {}
        return super().fit(_short(pairs))

    def past(self, pairs: Pairs) -> xr.Dataset:
        """As of every station network, at the leads that are short enough."""
        return super().past(_short(pairs))

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles up to 24 hours ahead, NaN beyond; without any source, from the reports alone.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: There are no observations, or places are no stations.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.id} has not been fitted: call fit first.")
        if inputs.observations is None or inputs.place_dims != (STATION,):
            raise MissingInputError(f"{self.id} needs stations and their observations; a grid, or no observations, was given.")
        near, frame = _near(inputs.frame), inputs.frame
        size = (frame.sizes[INIT_TIME], frame.sizes[LEAD_TIME], frame.sizes[STATION], len(LEVELS))
        values = {name: np.full(size, np.nan) for name in wanted(inputs, self.learned_)}
        if len(near):
            cut = replace(
                inputs,
                sources={name: data.isel({LEAD_TIME: near}) for name, data in inputs.sources.items()},
                template=frame.isel({LEAD_TIME: near}),
            )
            for name, array in values.items():
                array[:, near] = self._quantiles(_with_blank(cut, name, self.base.learned_[name].frame.sources), name).reshape(
                    size[0], len(near), *size[2:]
                )
        return answer(inputs, values)

    def _gather(self, pairs: Pairs, name: str, learns: np.ndarray) -> Gathered:
        """Every case with the NWP, then every case without."""
        shape = self.base.shape(name)
        self.reports_[name] = _learn_reports(pairs, name, shape, np.ones(len(learns), dtype=bool))
        informed = super()._gather(pairs, name, learns)
        without = [_apply_reports(_learn_reports(pairs, name, shape, mine), pairs, name) for mine in learns.T]
        location, scale = (np.stack([w[i] for w in without], axis=1) for i in (0, 1))
        return Gathered(
            Cases(*(np.concatenate(parts) for parts in zip(informed.cases, _late(informed.cases, informed.names), strict=True))),
            informed.names,
            np.tile(informed.y, 2),
            np.concatenate([informed.location, location]),
            np.concatenate([informed.scale, scale]),
        )

    def _cases(self, inputs: Inputs, name: str, design: Design, auxiliary: tuple[str, ...]) -> tuple[Cases, tuple[str, ...]]:
        """As of every station network, with the reports."""
        cases, names = super()._cases(inputs, name, design, auxiliary)
        reports, of_reports = _reports(inputs, name, tuple(str(o) for o in self.reports_[name].others))
        return cases._replace(common=np.concatenate([cases.common, reports], axis=1)), (*names, *of_reports)

    def _anchored(self, inputs: Inputs, name: str) -> tuple[Cases, np.ndarray, np.ndarray]:
        """The EMOS where a source has a forecast, else the regression on reports."""
        cases, location, scale = super()._anchored(inputs, name)
        late = ~np.isfinite(location)
        blank = _late(cases, tuple(str(n) for n in self.learned_[name].scaling.names))
        cases = Cases(*(np.where(late.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(cases, blank, strict=True)))
        of_reports = _apply_reports(self.reports_[name], inputs, name)
        return cases, np.where(late, of_reports[0], location), np.where(late, of_reports[1], scale)

    def state(self) -> dict[str, np.ndarray]:
        """As of every station network, with the regression on reports.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        found = super().state()
        for name, reports in self.reports_.items():
            found |= {f"{name}/reports/{f.name}": getattr(reports, f.name) for f in fields(Reports)}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        made = super().from_state(state)
        for name in made.learned_:
            check_state(state, *(f"{name}/reports/{f.name}" for f in fields(Reports)))
            made.reports_[name] = Reports(**{f.name: state[f"{name}/reports/{f.name}"] for f in fields(Reports)})
        return made


def _near(frame: xr.Dataset) -> np.ndarray:
    """Indices of the leads that are short enough."""
    return np.flatnonzero(np.atleast_1d(frame[LEAD_TIME].values) <= LONGEST)


def _short(pairs: Pairs) -> Pairs:
    """The pairs at these leads."""
    near = _near(pairs.frame)
    sources = {name: data.isel({LEAD_TIME: near}) for name, data in pairs.sources.items()}
    return replace(pairs, sources=sources, template=None, observed=pairs.observed.isel({LEAD_TIME: near}))


def _with_blank(inputs: Inputs, name: str, sources: np.ndarray) -> Inputs:
    """The inputs, with a source that says nothing where none has the variable."""
    if any(str(s) in inputs.sources and name in inputs.sources[str(s)] for s in sources):
        return inputs
    frame = inputs.frame
    size = [frame.sizes[d] for d in (INIT_TIME, LEAD_TIME, STATION)]
    nothing = xr.Dataset({name: ((INIT_TIME, LEAD_TIME, STATION, ENSEMBLE_MEMBER), np.full((*size, 1), np.nan))}, coords=frame.coords)
    return replace(inputs, sources={**inputs.sources, str(sources[0]): nothing})


def _late(cases: Cases, names: tuple[str, ...]) -> Cases:
    """The cases as they are without any NWP: what stations report, season, hour, lead and place are left."""
    kept = [n.startswith(("seen_", "year_", "hour_", "lead", "latitude", "longitude", "elevation")) for n in names]
    return cases._replace(
        common=np.where(kept, cases.common, np.nan), sources=np.full_like(cases.sources, np.nan), here=np.zeros_like(cases.here)
    )


def _reports(inputs: Inputs, name: str, others: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T L S, p) reports before each init_time on their power scales, NaN where there is none, and their names."""
    frame = inputs.frame
    inits, leads = np.atleast_1d(frame[INIT_TIME].values), np.atleast_1d(frame[LEAD_TIME].values)
    size = (len(inits), len(leads), frame.sizes[STATION])
    columns, names = [], []
    for variable, lags in ((name, _LAGS), *((other, _OTHER_LAGS) for other in others)):
        if inputs.observations is None or variable not in inputs.observations:
            seen = np.full((size[0], len(lags), size[2]), np.nan)
        else:
            seen = inputs.observed_at(variable, inits[:, None] - np.array(lags)[None] * HOUR)  # (T, lags, S)
        scaled = shape_of(variable).forward(torch.as_tensor(seen)).numpy()
        columns += [np.broadcast_to(scaled[:, None, i], size).ravel() for i in range(len(lags))]
        names += [f"seen_{variable}_{lag}h" for lag in lags]
    same_hour = np.ceil(leads / DAY).clip(1).astype(np.int64)  # the newest report of the valid hour
    seen = np.full(size, np.nan)
    if inputs.observations is not None and name in inputs.observations:
        seen = inputs.observed_at(name, inits[:, None] + leads[None] - same_hour[None] * DAY)
    columns.append(shape_of(name).forward(torch.as_tensor(seen)).numpy().ravel())
    return np.stack(columns, axis=-1), (*names, "seen_same_hour")


def _others(inputs: Inputs, name: str) -> tuple[str, ...]:
    """Other variables with reports that state no interval of their own."""
    assert inputs.observations is not None
    known = [str(v) for v in inputs.observations.data_vars]
    return tuple(v for v in known if v != name and f"{v}_interval" not in known and not v.endswith(("_interval", "_quality")))[:_OTHERS]


def _design_of_reports(inputs: Inputs, name: str, others: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(T L S, p) reports with season and hour for the location, and (T L S, 4) season and hour for the log scale."""
    frame = inputs.frame
    valid_time = frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    hour = 2.0 * np.pi * ((valid_time - valid_time.astype("datetime64[D]")) / DAY)
    waves = np.concatenate([season(valid_time, 1), np.stack([np.sin(hour), np.cos(hour)], axis=-1)], axis=-1)  # (T, L, 4)
    waves = np.repeat(waves.reshape(-1, 4), frame.sizes[STATION], axis=0)
    return np.concatenate([_reports(inputs, name, others)[0], waves], axis=1), waves


def _learn_reports(pairs: Pairs, name: str, shape: Shape, learns: np.ndarray) -> Reports:
    """Fit the regression on the pairs that may be learned from (T L S,), leads side by side, all stations together."""
    others = _others(pairs, name)
    X, Z = _design_of_reports(pairs, name, others)
    there = np.isfinite(X)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, X, 0.0).sum(axis=0) / count
    deviation = np.sqrt(np.where(there, (X - mean) ** 2, 0.0).sum(axis=0) / count)
    unit = np.stack([mean, np.where(deviation > 1e-9, deviation, 1.0)])
    observed = observed_of(pairs, name)  # (T, L, S)
    y = shape.forward(torch.as_tensor(np.where(learns, observed.ravel(), np.nan)))

    def by_lead(values: np.ndarray | torch.Tensor) -> torch.Tensor:
        table = torch.as_tensor(values).reshape(*observed.shape, -1).movedim(1, 0)  # (L, T, S, k)
        return table.reshape(observed.shape[1], -1, table.shape[-1])

    one = np.ones((len(X), 1))
    ridge = torch.full((X.shape[1] + 6,), _RIDGE, dtype=torch.float64)
    ridge[0] = ridge[X.shape[1] + 1] = 1e-3
    bounds = [None if b is None else float(b) for b in shape.bounds()]
    found = fit_location_scale(
        by_lead(y)[..., 0], by_lead(np.concatenate([one, _standard(X, unit)], axis=1)), by_lead(np.concatenate([one, Z], axis=1)),
        family=shape.family, form=shape.form, lower=bounds[0], upper=bounds[1], ridge=ridge, tolerance=1e-2,
    )  # fmt: skip
    leads = np.atleast_1d(pairs.frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)
    spread = y[torch.isfinite(y)].std(correction=0)
    floor = np.full(len(leads), max(_LEAST * float(torch.nan_to_num(spread)), 1e-6))
    return Reports(leads, np.array(others, dtype=str), unit, found.location.numpy(), found.log_scale.numpy(), floor)


def _apply_reports(reports: Reports, inputs: Inputs, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale (T L S,) on the power scale; where nothing was reported, those of the season and hour."""
    X, Z = _design_of_reports(inputs, name, tuple(str(o) for o in reports.others))
    size = [inputs.frame.sizes[d] for d in (INIT_TIME, LEAD_TIME, STATION)]
    asked = np.atleast_1d(inputs.frame[LEAD_TIME].values).astype("timedelta64[ns]").astype(np.int64)
    lead = np.abs(reports.leads[None] - asked[:, None]).argmin(axis=1)
    X, Z = (values.reshape(*size, -1) for values in (X, Z))
    one = np.ones((*size, 1))
    location = np.einsum("tlsk,lk->tls", np.concatenate([one, _standard(X, reports.unit)], axis=-1), reports.location[lead])
    log_scale = np.einsum("tlsk,lk->tls", np.concatenate([one, Z], axis=-1), reports.log_scale[lead])
    scale = np.maximum(np.exp(np.clip(log_scale, -12.0, 12.0)), reports.floor[lead][None, :, None])
    return location.ravel(), scale.ravel()


def _standard(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """In standard deviations about the mean, cut off, zero where missing."""
    found: np.ndarray = np.nan_to_num(np.clip((values - unit[0]) / unit[1], -5.0, 5.0))
    return found
