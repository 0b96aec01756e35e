"""What a cycle publishes, made in memory from its inputs and its past: pure, so that the same inputs give the same store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog import faults
from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, INIT_TIME, LEAD_TIME
from data_catalog.grids import to_stations
from data_catalog.regions import Region
from data_catalog.settings import Settings
from data_catalog.sources.base import Progress, silent
from data_catalog.variables import VARIABLES
from models.registry import build
from models.statistical.emos import CARRY_KM
from pipelines.centres import raw_members, raw_quantiles
from pipelines.inputs import CycleInputs, station_inputs
from pipelines.products import anywhere, daily, probabilities, rain_risk
from pipelines.publish import root_attributes
from training.ensemble import (
    CALIBRATED,
    JOINT,
    Blend,
    Predictions,
    blend_learned,
    couple_blend,
    cycle_forecasters,
    fit_forecasters,
    forecast_grid,
    history_days,
    predict_all,
    single,
)
from training.guard import RAIN, guard, ranges_of
from training.learning import Trained, learn_weights
from training.pairs import Past
from training.skill import held_out_scores

HOUR = np.timedelta64(1, "h")

@dataclass(frozen=True, eq=False)
class Product:
    """A cycle's product before it is stored.

    Attributes:
        groups: By group name, as :mod:`pipelines.publish` lists them.
        attributes: Of the store's root.
        notes: What was missing and why, one sentence each; empty when nothing was.
        forecasters: Ids that forecast at stations.
        skipped: Why one did not, by id.
        tail_guard: Where and why the raw ensembles were let into heavy rain, one sentence each.
        variables: Published variables.
        leads: Number of leads.
        first_lead_hours: The first lead.
        last_lead_hours: The last one.
        skill: Rows of :func:`training.skill.held_out_scores`.
        simulated: Whether any source is simulated.
    """

    groups: Mapping[str, xr.Dataset]
    attributes: Mapping[str, Any]
    notes: tuple[str, ...]
    forecasters: tuple[str, ...]
    skipped: Mapping[str, str]
    tail_guard: tuple[str, ...]
    variables: tuple[str, ...]
    leads: int
    first_lead_hours: int
    last_lead_hours: int
    skill: tuple[Mapping[str, Any], ...]
    simulated: bool


def make(
    settings: Settings,
    region: Region,
    inputs: CycleInputs,
    past: Past,
    init_time: np.datetime64,
    expected_leads: np.ndarray,
    progress: Progress = silent,
    trained: Mapping[str, Trained] = MappingProxyType({}),
) -> Product:
    """Forecast, blend, couple and derive.

    Args:
        settings: Members and days to learn from.
        region: Windows, thresholds, time zone.
        inputs: The present.
        past: What may be learned from.
        init_time: Start of the cycle.
        expected_leads: Hours; a note says which of them are missing.
        progress: Called as work goes on.
        trained: Forecasters that were trained elsewhere, by id, in place of what would be fitted under the same id.
    """
    names = [state.dataset for state in inputs.states if state.status != "missing"]
    ids = [i for i in cycle_forecasters(names) if i not in trained]
    fitted, unfitted = fit_forecasters(ids, past.pairs, progress)
    everyone = fitted | {name: one.forecaster for name, one in trained.items()}
    stations = station_inputs(inputs, past)
    at_stations = predict_all(everyone, stations, progress, past.pairs)
    prefer = [i for i in everyone if i.startswith((*JOINT, CALIBRATED)) or i in trained]
    lesson = learn_weights(past.pairs, list(everyone), prefer, inputs.variables, init_time, trained=trained, progress=progress)
    station_blend = blend_learned(at_stations, lesson.states)
    grid_blend, template = forecast_grid(everyone, inputs.grid, lesson.states, settings.members, progress)
    faults.at("cycle.predicted")
    seen = ranges_of(past.pairs)
    on_grid = couple_blend(guard(grid_blend.quantiles, inputs.grid, seen), inputs.grid, template, progress)
    local = to_stations(template, region.operating)
    at_places = couple_blend(guard(station_blend.quantiles, stations, seen), stations, local, progress)
    faults.at("cycle.coupled")

    progress("deriving", 0, 1)
    bounds = inputs.bounds
    groups = {
        "stations": with_bounds(at_places.members, bounds),
        "grid": with_bounds(on_grid.members, bounds),
        "stations_quantiles": with_bounds(single(at_places.quantiles), bounds),
        "grid_quantiles": with_bounds(single(on_grid.quantiles), bounds),
        "models": with_bounds(_models(at_stations, station_blend, past), bounds),
        "centres": with_bounds(raw_members(inputs.stations.sources), bounds),
        "grid_centres": with_bounds(raw_quantiles(inputs.grid.sources), bounds),
    }
    for group in (groups["grid"], groups["grid_quantiles"]):
        if RAIN in group:
            group[RAIN].attrs["comment"] = GRID_RAIN
    for where, made in (("stations", at_places), ("grid", on_grid)):
        if made.reasons:
            groups[where].attrs["tail_guard"] = " ".join(made.reasons)
    for prefix, name in (("", "stations"), ("grid_", "grid")):
        groups[f"{prefix}probabilities"] = probabilities(groups[name], region)
        groups[f"{prefix}daily"] = daily(groups[name].assign_coords({INIT_TIME: init_time}), region)
    groups["city"] = anywhere(groups["grid"].assign_coords({INIT_TIME: init_time}), region)
    groups["risk"] = rain_risk(
        {"blend": groups["stations"].assign_coords({INIT_TIME: init_time})} | {f"raw_{n}": s for n, s in inputs.stations.sources.items()},
        {"blend": groups["grid"]} | {f"raw_{n}": s for n, s in inputs.grid.sources.items()},
        region,
    )
    progress("deriving", 1, 1)

    skill = held_out_scores(lesson, init_time)
    skipped = dict(unfitted) | dict(at_stations.skipped)
    simulated = any(state.simulated for state in inputs.states)
    sources = {
        state.dataset: {"status": state.status, "lag_hours": state.lag_hours, "content_hash": state.content_hash}
        for state in inputs.states
    }
    leads = inputs.bounds[LEAD_TIME].values
    return Product(
        groups={name: group for name, group in groups.items() if group.data_vars},
        attributes=root_attributes(region, init_time, sources, simulated),
        notes=tuple(_notes(inputs, past, skipped, expected_leads)),
        forecasters=tuple(at_stations.quantiles),
        skipped=skipped,
        tail_guard=(*(f"Stations: {r}" for r in at_places.reasons), *(f"Grid: {r}" for r in on_grid.reasons)),
        variables=tuple(str(name) for name in at_places.members.data_vars),
        leads=int(leads.size),
        first_lead_hours=int(leads.min() / HOUR),
        last_lead_hours=int(leads.max() / HOUR),
        skill=tuple(skill),
        simulated=simulated,
    )


def with_bounds(group: xr.Dataset, bounds: xr.DataArray) -> xr.Dataset:
    """A group with ``lead_time_bounds`` where it has a mean, a sum or an extreme; those are missing at leads without an interval."""
    plain = group.drop_vars("lead_time_bounds", errors="ignore")
    if not any(str(name) in VARIABLES and VARIABLES[str(name)].has_interval for name in plain.data_vars):
        return plain
    return plain.assign_coords(lead_time_bounds=((LEAD_TIME, "bounds"), bounds.values))


def _models(predictions: Predictions, blend: Blend, past: Past) -> xr.Dataset:
    """``VARIABLE(forecaster, lead_time, station, quantile)``, ``weight_VARIABLE(forecaster, lead_time)`` and what they learned from.

    ``pairs_VARIABLE(lead_time)`` counts the pairs of forecast and observation of all stations and past cycles; the attributes
    ``training_from`` and ``training_to`` are the first and last of those cycles.
    """
    ids = list(predictions.quantiles)
    if not ids:
        return xr.Dataset()
    parts = [single(predictions.quantiles[i]).drop_vars("lead_time_bounds", errors="ignore") for i in ids]
    joined = xr.concat(parts, dim=FORECASTER, data_vars="all", coords="minimal", compat="override", join="outer")
    joined = joined.assign_coords({FORECASTER: np.array(ids, dtype=object)})
    joined = joined.assign({name: blend.weights[name].astype(np.float32) for name in blend.weights.data_vars})
    if past.pairs is None:
        return joined
    observed = past.pairs.observed
    counts = {
        f"pairs_{name}": observed[name].notnull().sum([d for d in observed[name].dims if d != LEAD_TIME]).astype(np.int32)
        for name in observed.data_vars
    }
    inits = observed[INIT_TIME].values
    counted = xr.Dataset(counts).reset_coords(drop=True).reindex({LEAD_TIME: joined[LEAD_TIME]}, fill_value=0)
    return joined.assign(counted.data_vars).assign_attrs(training_from=str(inits.min())[:10], training_to=str(inits.max())[:10])


def _notes(inputs: CycleInputs, past: Past, skipped: Mapping[str, str], expected_leads: np.ndarray) -> list[str]:
    """What a forecaster on duty has to know is missing."""
    notes = [f"{state.dataset} is {state.status}: {state.reason}." for state in inputs.states if state.reason]
    offered = np.asarray(inputs.bounds[LEAD_TIME].values / HOUR, dtype=float)
    lacking = np.setdiff1d(expected_leads, offered)
    if lacking.size:
        kept = ", ".join(f"{lead:g}" for lead in offered[:8]) + (", ..." if offered.size > 8 else "")
        notes.append(f"{lacking.size} of the {expected_leads.size} published leads are missing; there are {offered.size}: {kept} h.")
    days = history_days(past.pairs)
    if past.observations is None:
        notes.append("There are no station observations, so nothing is calibrated and there is no climatology.")
    elif days == 0:
        notes.append("No past forecast of these sources is in the archive, so nothing is calibrated.")
    members = {name: source.sizes[ENSEMBLE_MEMBER] for name, source in inputs.stations.sources.items()}
    if max(members.values()) < 2:
        notes.append(f"No source has more than one member ({', '.join(members)}), so before calibration the ensemble has no spread.")
    absent = [name for name in CORE if name not in inputs.variables]
    if absent:
        notes.append(f"No source has {', '.join(absent)}.")
    if days:
        young = [forecaster for forecaster in skipped if build(forecaster).spec.minimum_history > days]  # their time will come
        notes += [f"{forecaster} did not forecast: {reason}." for forecaster, reason in skipped.items() if forecaster not in young]
    return notes


GRID_RAIN: Final = (
    "Corrected by what stations taught, for no forecast or analysis of rain is taken as truth: a station's own part decays with distance "
    f"as exp(-d / {CARRY_KM:g} km) towards what all of them have in common; values are of points in the cell."
)
"""Said of rain on the grid."""

CORE: Final = (
    "temperature_2m", "dew_point_temperature_2m", "wind_u_10m", "wind_v_10m", "pressure_reduced_to_mean_sea_level", "precipitation_amount",
)
"""Variables whose absence is said."""
