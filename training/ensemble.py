"""From inputs to one calibrated ensemble: every forecaster that has its inputs predicts, the blend mixes them, coupling makes members.

All of it is a pure function of the inputs and of pairs that were known before; nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, INIT_TIME, LEAD_TIME
from data_catalog.sources.base import Progress, silent
from data_catalog.variables import VARIABLES
from models.base import Forecaster, ForecasterError, Inputs, Pairs
from models.couple import consistent, couple, members_template
from models.mixture import mixture
from models.registry import build, forecaster_ids

CALIBRATED: Final = "emos_"
RAW: Final = "raw_"
ALONE: Final = ("climatology", "persistence")
"""Forecasters of a cycle that belong to no source."""


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


def fit_forecasters(
    sources: Sequence[str], pairs: Pairs | None, progress: Progress = silent
) -> tuple[dict[str, Forecaster], dict[str, str]]:
    """Every forecaster that these sources allow, fitted on the pairs.

    Args:
        sources: Names of the sources of the cycle.
        pairs: What to learn from, or None when there is no history: then only the raw ensembles remain.
        progress: Called for each forecaster.

    Returns:
        (fitted forecasters by id, why one is missing by id).
    """
    fitted: dict[str, Forecaster] = {}
    skipped: dict[str, str] = {}
    ids = [i for i in forecaster_ids(sources) if i in ALONE or i.startswith((RAW, CALIBRATED))]
    for number, forecaster_id in enumerate(ids):
        progress(f"learning {forecaster_id}", number, len(ids))
        forecaster = build(forecaster_id)
        days = history_days(pairs)
        if forecaster.spec.minimum_history > days:
            skipped[forecaster_id] = f"{days} days of pairs with observations, needs {forecaster.spec.minimum_history}"
            continue
        try:
            fitted[forecaster_id] = forecaster.fit(pairs) if pairs is not None else forecaster
        except ForecasterError as error:
            skipped[forecaster_id] = str(error)
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


def predict_all(fitted: Mapping[str, Forecaster], inputs: Inputs, progress: Progress = silent) -> Predictions:
    """What every fitted forecaster says for the inputs; one that fails is skipped with its reason, the others go on.

    Args:
        fitted: From :func:`fit_forecasters`.
        inputs: Of one or more cycles, at stations or on a grid.
        progress: Called for each forecaster.
    """
    quantiles: dict[str, xr.Dataset] = {}
    skipped: dict[str, str] = {}
    for number, (forecaster_id, forecaster) in enumerate(fitted.items()):
        progress(f"forecasting {forecaster_id}", number, len(fitted))
        try:
            said = forecaster.predict(inputs)
        except ForecasterError as error:
            skipped[forecaster_id] = str(error)
            continue
        if any(bool(values.notnull().any()) for values in said.data_vars.values()):
            quantiles[forecaster_id] = said
        else:
            skipped[forecaster_id] = "no finite value for these inputs"
    progress("forecasting", len(fitted), len(fitted))
    return Predictions(quantiles, skipped)


def predict_grid(fitted: Mapping[str, Forecaster], inputs: Inputs, progress: Progress = silent) -> Predictions:
    """What the calibrated forecasters say on a grid, and the raw ensembles for the variables that those leave open somewhere.

    Args:
        fitted: From :func:`fit_forecasters`.
        inputs: Of one cycle on a grid.
        progress: Called for each forecaster.
    """
    calibrated = predict_all({i: f for i, f in fitted.items() if i.startswith(CALIBRATED)}, inputs, progress)
    covered = {
        variable
        for variable in inputs.targets
        if any(variable in said and bool(said[variable].notnull().all()) for said in calibrated.quantiles.values())
    }
    open_variables = tuple(variable for variable in inputs.targets if variable not in covered)
    if not open_variables:
        return calibrated
    raw = predict_all({i: f for i, f in fitted.items() if i.startswith(RAW)}, replace(inputs, targets=open_variables), progress)
    return Predictions({**calibrated.quantiles, **raw.quantiles}, {**calibrated.skipped, **raw.skipped})


def blend_equally(predictions: Predictions, variables: Sequence[str]) -> Blend:
    """The equal-weight mixture of the calibrated forecasters; where none of them has a value, of the raw ensembles.

    A forecaster without a value at a place has no weight there and the others share it.

    Args:
        predictions: Of one cycle or several.
        variables: Which to blend.
    """
    ids = list(predictions.quantiles)
    mixed: dict[str, xr.DataArray] = {}
    weights: dict[str, xr.DataArray] = {}
    for variable in variables:
        parts = {i: predictions.quantiles[i][variable] for i in ids if variable in predictions.quantiles[i]}
        groups = [[i for i in parts if i.startswith(kind)] for kind in (CALIBRATED, RAW)]
        values: np.ndarray | None = None
        shares: dict[str, np.ndarray] = {i: np.zeros(()) for i in ids}
        like: xr.DataArray | None = None
        for group in filter(None, groups):
            arrays = [parts[i].transpose(*parts[group[0]].dims) for i in group]
            like = arrays[0] if like is None else like
            open_places = np.ones(like.shape[:-1], dtype=bool) if values is None else np.isnan(values[..., 0])
            if not open_places.any():
                break
            known = np.stack([np.isfinite(a.values).all(axis=-1) for a in arrays]) & open_places
            count = known.sum(axis=0)
            for i, has in zip(group, known, strict=True):
                shares[i] = shares[i] + np.where(count > 0, has / np.maximum(count, 1), 0.0)
            found = mixture([a.values for a in arrays], np.ones(len(group)))
            values = found if values is None else np.where(open_places[..., None], found, values)
        if like is None or values is None or np.isnan(values).all():
            continue
        mixed[variable] = like.copy(data=values.astype(np.float32))
        lead_axis = like.dims.index(LEAD_TIME)
        other = tuple(axis for axis in range(like.ndim - 1) if axis != lead_axis)
        table = np.stack([np.broadcast_to(share, like.shape[:-1]).mean(axis=other) for share in shares.values()])
        total = table.sum(axis=0)
        table = np.where(total > 0, table / np.where(total > 0, total, 1.0), np.nan)
        weights[f"weight_{variable}"] = xr.DataArray(
            table.astype(np.float32),
            dims=(FORECASTER, LEAD_TIME),
            coords={FORECASTER: np.array(ids, dtype=object), LEAD_TIME: like[LEAD_TIME]},
            attrs={"long_name": f"weight in the blend of {VARIABLES[variable].long_name}", "units": "1"},
        )
    return Blend(xr.Dataset(mixed), xr.Dataset(weights))


def scenario_template(predictions: Predictions, inputs: Inputs, size: int) -> xr.Dataset:
    """The scenarios whose order the published members take: members of all centres, each with its centre's own error taken off.

    A member keeps its rank among its centre's members and takes the value that the centre's calibrated forecast has at that rank, so
    that a warm centre's members do not all end up as the warm scenarios (ensemble copula coupling stratified by centre).

    Args:
        predictions: Of the same cycle and places.
        inputs: Its sources.
        size: Number of scenarios.

    Returns:
        ``VARIABLE(lead_time, places, ensemble_member)``.
    """
    centres: dict[str, xr.Dataset] = {}
    for name, source in inputs.sources.items():
        members = single(source)
        said = predictions.quantiles.get(f"{CALIBRATED}{name}")
        if said is not None:
            calibrated = couple(single(said), members, members.sizes[ENSEMBLE_MEMBER]).assign_coords(
                {ENSEMBLE_MEMBER: members[ENSEMBLE_MEMBER]}
            )
            both = [str(v) for v in calibrated.data_vars if v in members]
            members = members.assign({v: calibrated[v].transpose(*members[v].dims).fillna(members[v]) for v in both})
        centres[name] = members
    return members_template(centres, size)


def couple_blend(blend: Blend, template: xr.Dataset, progress: Progress = silent) -> xr.Dataset:
    """Coupled members of the blend, physically consistent: ``VARIABLE(lead_time, places, ensemble_member)``.

    Wind components are turned and stretched to the calibrated speed; relative humidity follows from temperature and dew point.

    Args:
        blend: Of one cycle.
        template: From :func:`scenario_template`, at the same places.
        progress: Called before and after.
    """
    progress("coupling", 0, 1)
    members = consistent(couple(single(blend.quantiles), template, template.sizes[ENSEMBLE_MEMBER]))
    members = with_humidity(turn_wind(members))
    progress("coupling", 1, 1)
    return members


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
