"""From inputs to one calibrated ensemble: every forecaster that has its inputs predicts, the blend mixes them, coupling makes members.

All of it is a pure function of the inputs and of pairs that were known before; nothing is read or written here. Forecasters that are
trained elsewhere take part by :class:`training.learning.Trained`, a fitted forecaster with what it said of the past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, INIT_TIME, LEAD_TIME, QUANTILE
from data_catalog.sources.base import Progress, silent
from data_catalog.variables import VARIABLES
from models.base import Forecaster, Inputs, Pairs
from models.blend import BlendState, apply_blend, bucket_of
from models.couple import consistent, couple, members_template
from models.registry import build
from training.guard import Lift, lift_heavy_rain
from training.learning import DAY, FAILURES, HISTORY_DAYS, predict_newest, reason_of

CALIBRATED: Final = "emos_"
RAW: Final = "raw_"
JOINT: Final = ("emos", "csgd")
"""Forecasters on all sources together."""
ALONE: Final = ("climatology", "persistence")
"""Forecasters of a cycle that belong to no source, and to stations only."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the forecasters of a cycle say.

    Attributes:
        quantiles: ``VARIABLE(lead_time, places, quantile)`` by forecaster id.
        skipped: Why a forecaster is not among them, by id.
    """

    quantiles: Mapping[str, xr.Dataset]
    skipped: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Blend:
    """The mixture of the forecasters.

    Attributes:
        quantiles: ``VARIABLE(lead_time, places, quantile)``.
        weights: ``weight_VARIABLE(forecaster, lead_time)``, summing to one over the forecasters, or NaN at a lead with no forecast.
    """

    quantiles: xr.Dataset
    weights: xr.Dataset


def cycle_forecasters(sources: Sequence[str]) -> list[str]:
    """Ids of the statistical forecasters that a cycle fits itself, for these sources."""
    return [*ALONE, *(f"{RAW}{source}" for source in sources), *(f"{CALIBRATED}{source}" for source in sources), *JOINT]


def fit_forecasters(ids: Sequence[str], pairs: Pairs | None, progress: Progress = silent) -> tuple[dict[str, Forecaster], dict[str, str]]:
    """Forecasters fitted on the pairs.

    Args:
        ids: Which.
        pairs: What to learn from, or None when there is no history: then only the raw ensembles remain.
        progress: Called for each forecaster.

    Returns:
        (fitted forecasters by id, why one is missing by id).
    """
    fitted: dict[str, Forecaster] = {}
    skipped: dict[str, str] = {}
    days = history_days(pairs)
    for number, forecaster_id in enumerate(ids):
        progress(f"learning {forecaster_id}", number, len(ids))
        forecaster = build(forecaster_id)
        if forecaster.spec.minimum_history > days:
            skipped[forecaster_id] = f"{days} days of pairs with observations, needs {forecaster.spec.minimum_history}"
            continue
        if pairs is not None and forecaster.spec.targets and not set(forecaster.spec.targets) & set(pairs.targets):
            continue  # none of its variables is asked for
        try:
            fitted[forecaster_id] = forecaster.fit(pairs) if pairs is not None else forecaster
        except FAILURES as error:
            skipped[forecaster_id] = reason_of(error)
    progress("learning", len(ids), len(ids))
    return fitted, skipped


def history_days(pairs: Pairs | None) -> int:
    """Distinct valid days that have an observation of at least one target."""
    if pairs is None or not pairs.observed.data_vars:
        return 0
    valid = (pairs.observed[INIT_TIME].values[:, None] + pairs.observed[LEAD_TIME].values[None, :]).astype("datetime64[D]")
    known = np.zeros(valid.shape, dtype=bool)
    for values in pairs.observed.data_vars.values():
        known |= values.notnull().any([d for d in values.dims if d not in (INIT_TIME, LEAD_TIME)]).transpose(INIT_TIME, LEAD_TIME).values
    return int(np.unique(valid[known]).size)


def predict_all(fitted: Mapping[str, Forecaster], inputs: Inputs, progress: Progress = silent, pairs: Pairs | None = None) -> Predictions:
    """What every fitted forecaster says for the inputs; one that fails is skipped with its reason, the others go on.

    Args:
        fitted: From :func:`fit_forecasters`, or trained elsewhere.
        inputs: Of one or more cycles, at stations or on a grid.
        progress: Called for each forecaster.
        pairs: The past, for forecasters that look at errors verified lately; only with one cycle at stations.
    """
    quantiles: dict[str, xr.Dataset] = {}
    skipped: dict[str, str] = {}
    informed = inputs if pairs is None else with_recent(inputs, pairs)
    for number, (forecaster_id, forecaster) in enumerate(fitted.items()):
        progress(f"forecasting {forecaster_id}", number, len(fitted))
        try:
            said = predict_newest(forecaster, informed if forecaster.spec.needs_observations else inputs, inputs.frame.sizes[INIT_TIME])
        except FAILURES as error:
            skipped[forecaster_id] = reason_of(error)
            continue
        if any(bool(values.notnull().any()) for values in said.data_vars.values()):
            quantiles[forecaster_id] = said
        else:
            skipped[forecaster_id] = "no finite value for these inputs"
    progress("forecasting", len(fitted), len(fitted))
    return Predictions(quantiles, skipped)


def with_recent(inputs: Inputs, pairs: Pairs) -> Inputs:
    """The inputs with the cycles of the last :data:`training.learning.HISTORY_DAYS` days before them, on the same leads and stations."""
    frame = inputs.frame
    since = frame[INIT_TIME].values.min() - HISTORY_DAYS * DAY
    past = pairs.frame[INIT_TIME].values
    recent = np.flatnonzero((past >= since) & (past < frame[INIT_TIME].values.min()))
    joined = {}
    for name, source in inputs.sources.items():
        before = pairs.sources[name].isel({INIT_TIME: recent}) if name in pairs.sources else source.isel({INIT_TIME: slice(0, 0)})
        before = before[[v for v in before.data_vars if v in source]].reindex({LEAD_TIME: frame[LEAD_TIME].values})
        before = before.reindex({INIT_TIME: past[recent]})
        parts = [before.drop_vars("lead_time_bounds", errors="ignore"), source.drop_vars("lead_time_bounds", errors="ignore")]
        whole = xr.concat(parts, dim=INIT_TIME, data_vars="all", coords="minimal", compat="override", join="outer")
        joined[name] = whole.assign_coords({n: c for n, c in source.coords.items() if n == "lead_time_bounds"})
    return replace(inputs, sources=joined)


def blend_learned(predictions: Predictions, states: Mapping[str, BlendState]) -> Blend:
    """The mixture of the forecasters by what the past says.

    A forecaster without a value at a place has no weight there and the others share it.

    Args:
        predictions: Of one cycle or several.
        states: By variable; forecasters that are not among the predictions lose their weight.
    """
    mixed: dict[str, xr.DataArray] = {}
    weights: dict[str, xr.DataArray] = {}
    ids = list(predictions.quantiles)
    for variable, state in states.items():
        parts = {i: predictions.quantiles[i][variable] for i in ids if variable in predictions.quantiles[i] and i in state.forecasters}
        if not parts:
            continue
        own = state.only(list(parts))
        like = next(iter(parts.values()))
        places = [d for d in like.dims if d not in (INIT_TIME, LEAD_TIME, QUANTILE)]
        like = like.transpose(INIT_TIME, LEAD_TIME, *places, QUANTILE)
        shape = (*like.shape[:2], -1, like.shape[-1])
        arrays = [part.transpose(*like.dims).values.reshape(shape) for part in parts.values()]
        hours = np.asarray(like[LEAD_TIME].values / np.timedelta64(1, "h"), dtype=np.float64)
        known = VARIABLES[variable]
        values = apply_blend(own, arrays, hours, known.lower_bound, known.upper_bound)
        if np.isnan(values).all():
            continue
        mixed[variable] = like.copy(data=values.reshape(like.shape))
        shares = dict(zip(parts, _shares(own, arrays, hours), strict=True))
        weights[f"weight_{variable}"] = xr.DataArray(
            np.stack([shares.get(i, np.zeros(len(hours))) for i in ids]).astype(np.float32),
            dims=(FORECASTER, LEAD_TIME),
            coords={FORECASTER: np.array(ids, dtype=object), LEAD_TIME: like[LEAD_TIME]},
            attrs={"long_name": f"weight in the blend of {known.long_name}", "units": "1"},
        )
    return Blend(xr.Dataset(mixed), xr.Dataset(weights))


def _shares(state: BlendState, arrays: Sequence[np.ndarray], hours: np.ndarray) -> np.ndarray:
    """(F, L) weights as they came to be, mean over places; NaN at a lead where nobody speaks."""
    there = np.stack([np.isfinite(a).all(axis=-1) for a in arrays])  # (F, T, L, P)
    learned = state.weights[bucket_of(hours)].T[:, None, :, None]
    tiers = [learned, *(np.isin(state.forecasters, t)[:, None, None, None].astype(float) for t in (state.prefer, state.forecasters))]
    share = np.zeros(there.shape)
    for tier in tiers:
        own = there * tier
        share = np.where(share.sum(axis=0) > 0, share, own / np.maximum(own.sum(axis=0), 1e-300))
    total = share.sum(axis=(1, 3))
    return np.where(total.sum(axis=0) > 0, total / np.maximum(total.sum(axis=0), 1e-300), np.nan)


def forecast_grid(
    fitted: Mapping[str, Forecaster], inputs: Inputs, states: Mapping[str, BlendState], size: int, progress: Progress = silent
) -> tuple[Blend, xr.Dataset]:
    """The blend on a grid, with the weights learned at stations, and the scenarios for its members; variable by variable.

    Args:
        fitted: From :func:`fit_forecasters`; those that know stations only leave their weight to the others.
        inputs: Of one cycle on a grid.
        states: How to blend, by variable.
        size: Number of scenarios.
        progress: Called for each variable.

    Returns:
        (the blend, the template of :func:`scenario_template`).
    """
    blends, centres = [], []
    wanted = [v for v in inputs.targets if v in states]
    for number, variable in enumerate(wanted):
        progress(f"forecasting the grid: {variable}", number, len(wanted))
        weight = dict(zip(states[variable].forecasters, states[variable].weights.max(axis=0), strict=True))
        able = {i: f for i, f in fitted.items() if i not in ALONE and (weight.get(i, 0.0) > 0 or i.startswith(CALIBRATED))}
        asked = replace(inputs, targets=(variable,), observations=None)
        said = predict_all(able, asked)
        if not said.quantiles:
            said = predict_all({i: f for i, f in fitted.items() if i.startswith(RAW)}, asked)
        blends.append(blend_learned(said, {variable: states[variable]}))
        centres.append({name: _calibrated_members(name, source, said, variable) for name, source in inputs.sources.items()})
    progress("forecasting the grid", len(wanted), len(wanted))
    whole = {name: xr.merge([part[name] for part in centres], compat="override", join="outer") for name in inputs.sources}
    quantiles = xr.merge([b.quantiles for b in blends], compat="override", join="outer")
    weights = xr.merge([b.weights for b in blends], compat="override", join="outer")
    return Blend(quantiles, weights), members_template(whole, size)


def _calibrated_members(name: str, source: xr.Dataset, said: Predictions, variable: str) -> xr.Dataset:
    """One variable of a centre's members, with the centre's own error taken off.

    A member keeps its rank among its centre's members and takes the value that the centre's calibrated forecast has at that rank, so
    that a warm centre's members do not all end up as the warm scenarios (ensemble copula coupling stratified by centre).
    """
    if variable not in source:
        return xr.Dataset(coords=single(source).coords)
    members = single(source)[[variable]]
    own = said.quantiles.get(f"{CALIBRATED}{name}")
    if own is None or variable not in own:
        return members
    calibrated = couple(single(own[[variable]]), members, members.sizes[ENSEMBLE_MEMBER])
    calibrated = calibrated.assign_coords({ENSEMBLE_MEMBER: members[ENSEMBLE_MEMBER]})
    return members.assign({variable: calibrated[variable].transpose(*members[variable].dims).fillna(members[variable])})


def couple_blend(quantiles: xr.Dataset, inputs: Inputs, template: xr.Dataset, progress: Progress = silent) -> Lift:
    """Coupled members of the blend, physically consistent: ``VARIABLE(lead_time, places, ensemble_member)``.

    Wind components are turned and stretched to the calibrated speed; relative humidity follows from temperature and dew point.

    Args:
        quantiles: Of the blend, of one cycle.
        inputs: The raw ensembles at the same places, which heavy rain is held against; see :mod:`training.guard`.
        template: From :func:`forecast_grid`, at the same places.
        progress: Called before and after.

    Returns:
        Members, and the quantiles they come from, with what was done for heavy rain.
    """
    progress("coupling", 0, 1)
    members = consistent(couple(single(quantiles), template, template.sizes[ENSEMBLE_MEMBER]))
    found = lift_heavy_rain(quantiles, with_humidity(turn_wind(members)), inputs, template)
    progress("coupling", 1, 1)
    return found


def single(data: xr.Dataset) -> xr.Dataset:
    """The one cycle of a dataset, with ``init_time`` as a scalar coordinate."""
    return data.isel({INIT_TIME: 0}) if INIT_TIME in data.dims else data


def turn_wind(members: xr.Dataset) -> xr.Dataset:
    """Components whose speed is the member's calibrated wind speed, in the direction the components had."""
    if not {"wind_u_10m", "wind_v_10m", "wind_speed_10m"} <= set(members):
        return members
    length = xr.apply_ufunc(np.hypot, members["wind_u_10m"], members["wind_v_10m"])
    stretch = (members["wind_speed_10m"] / length.where(length > 0)).fillna(1.0)
    return members.assign(
        {name: (members[name] * stretch).astype(np.float32).assign_attrs(members[name].attrs) for name in ("wind_u_10m", "wind_v_10m")}
    )


def with_humidity(members: xr.Dataset) -> xr.Dataset:
    """Relative humidity of each member from its temperature and dew point, over water (Magnus form, WMO-No. 8, annex 4.B)."""
    if not {"temperature_2m", "dew_point_temperature_2m"} <= set(members):
        return members

    def pressure(celsius: xr.DataArray) -> xr.DataArray:
        found: xr.DataArray = xr.apply_ufunc(np.exp, 17.62 * celsius / (243.12 + celsius))
        return found  # saturation vapour pressure over 6.112 hPa

    percent = (100.0 * pressure(members["dew_point_temperature_2m"]) / pressure(members["temperature_2m"])).clip(0.0, 100.0)
    name = "relative_humidity_2m"
    return members.assign({name: percent.astype(np.float32).assign_attrs(VARIABLES[name].attributes())})
