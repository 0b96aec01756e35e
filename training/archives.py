"""Reads archives in the backtest contract of DESIGN.md: one CF file or Zarr store per model and one for the observations.

Everything is put on one set of init_times, lead_times and stations; what a source does not have is NaN. What is odd about the
data is collected as findings, sentences for the report, and never repaired in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, INIT_TIME, LEAD_TIME, STATION, TIME
from data_catalog.errors import ConfigurationError, UnknownNameError
from data_catalog.variables import VARIABLES
from models.base import Pairs

DAY: Final = np.timedelta64(24, "h")
_GAP_DAYS: Final = 10.0  # a hole in the init_times worth a sentence
_OFFSETS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {  # (from, to): factor, offset
    ("K", "degree_Celsius"): (1.0, -273.15),
    ("hPa", "Pa"): (100.0, 0.0),
    ("m", "kg m-2"): (1000.0, 0.0),
}
_SAME: Final[Mapping[str, str]] = {
    "mm": "kg m-2", "kg/m2": "kg m-2", "kg m**-2": "kg m-2",
    "degC": "degree_Celsius", "celsius": "degree_Celsius", "Celsius": "degree_Celsius", "degrees_Celsius": "degree_Celsius",
    "kelvin": "K", "Kelvin": "K", "%": "percent", "m/s": "m s-1", "m s**-1": "m s-1", "mbar": "hPa",
}


@dataclass(frozen=True, eq=False)
class Archive:
    """Forecasts and observations on common coordinates.

    Attributes:
        variable: The one variable.
        pairs: Everything, as pairs.
        findings: What is odd about the data, one sentence each.
    """

    variable: str
    pairs: Pairs
    findings: tuple[str, ...]

    @property
    def valid_time(self) -> np.ndarray:
        """(init_time, lead_time) datetime64[ns]."""
        found: np.ndarray = self.pairs.frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
        return found

    @property
    def observed(self) -> np.ndarray:
        """(init_time, lead_time, station) float64."""
        return self.pairs.observed[self.variable].values.astype(np.float64, copy=False)


def read_archive(sources: Mapping[str, Path | str], observations: Path | str, variable: str) -> Archive:
    """Read forecasts of every source and the observations, and put them on common coordinates.

    Args:
        sources: File or Zarr store by source name: ``VARIABLE(init_time, lead_time, station, ensemble_member)``; member or lead may
            be absent or scalar.
        observations: ``VARIABLE(time, station)``, ``available_time(time)`` optional.
        variable: Name in all of them.

    Returns:
        The archive, in the units of the catalog where it has the variable.

    Raises:
        ConfigurationError: A file is missing or unreadable, a dimension is missing, units differ, or nothing overlaps.
        UnknownNameError: A file has no such variable.
    """
    if not sources:
        raise ConfigurationError("There is no forecast to test; give at least one NAME=FILE.")
    findings: list[str] = []
    truth = _variable(Path(observations), variable, "the observations")
    truth = _unit(_shape(truth, (TIME, STATION), "the observations"), variable, "the observations", findings)
    truth = _unique(truth, TIME, "the observations")
    members = {}
    for name, path in sources.items():
        data = _variable(Path(path), variable, f"the forecasts of {name!r}")
        data = _shape(data, (INIT_TIME, LEAD_TIME, STATION, ENSEMBLE_MEMBER), f"the forecasts of {name!r}")
        members[name] = _unique(_unit(data, variable, f"the forecasts of {name!r}", findings), INIT_TIME, f"the forecasts of {name!r}")
    return _assemble(members, truth, variable, findings)


def _variable(path: Path, variable: str, whose: str) -> xr.DataArray:
    """One variable of a NetCDF file or Zarr store, loaded, times decoded to nanoseconds."""
    if not path.exists():
        raise ConfigurationError(f"There is no file {path} for {whose}; check the path.")
    kind, options = ("Zarr", {"engine": "zarr", "consolidated": False}) if path.is_dir() else ("NetCDF-4", {"engine": "h5netcdf"})
    try:
        dataset = xr.open_dataset(path, decode_timedelta=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path} for {whose} cannot be read as {kind}: {error}.") from error
    with dataset:
        if variable not in dataset:
            had = ", ".join(map(str, dataset.data_vars)) or "no variable"
            raise UnknownNameError(f"{path} has no variable {variable!r}; it has {had}. Name one of them with --variable.")
        return dataset[variable].load()


def _shape(data: xr.DataArray, dims: tuple[str, ...], whose: str) -> xr.DataArray:
    """The dimensions of the contract in their order; a lead, station or member may be scalar, a member absent."""
    for name in dims:
        if name not in data.dims and (name in data.coords or name == ENSEMBLE_MEMBER):
            data = data.expand_dims(name)
    if set(data.dims) != set(dims):
        had = ", ".join(map(str, data.dims))
        raise ConfigurationError(f"{whose[0].upper()}{whose[1:]} need the dimensions {', '.join(dims)}; found {had}.")
    for name, kind in ((INIT_TIME, "M"), (TIME, "M"), (LEAD_TIME, "m")):
        if name in dims:
            if data[name].dtype.kind != kind:
                expected = "timedelta64 (units such as 'hours')" if kind == "m" else "datetime64 (units such as 'hours since ...')"
                raise ConfigurationError(f"{name} of {whose} is {data[name].dtype}, expected {expected}; give it CF units.")
            data = data.assign_coords({name: data[name].astype("datetime64[ns]" if kind == "M" else "timedelta64[ns]")})
    data = data.assign_coords({STATION: np.array([str(s) for s in data[STATION].values], dtype=object)})
    return data.transpose(*dims)


def _unit(data: xr.DataArray, variable: str, whose: str, findings: list[str]) -> xr.DataArray:
    """In the units of the catalog; a variable or unit that nobody stated is taken as it is."""
    wanted = VARIABLES[variable].units if variable in VARIABLES else None
    units = data.attrs.get("units")
    units = _SAME.get(str(units).strip(), str(units).strip()) if units is not None else None
    data = data.astype(np.float32)
    if wanted is None or units is None or units == wanted:
        if units is None:
            findings.append(f"{whose[0].upper()}{whose[1:]} state no units; taken as {wanted or 'they are'}.")
        return data
    if (units, wanted) not in _OFFSETS:
        raise ConfigurationError(f"{whose[0].upper()}{whose[1:]} are in {units!r}, expected {wanted!r}; convert them first.")
    factor, offset = _OFFSETS[units, wanted]
    findings.append(f"{whose[0].upper()}{whose[1:]} were converted from {units} to {wanted}.")
    return data.copy(data=(data.values.astype(np.float64) * factor + offset).astype(np.float32)).assign_attrs(units=wanted)


def _unique(data: xr.DataArray, dim: str, whose: str) -> xr.DataArray:
    """Sorted along a dimension.

    Raises:
        ConfigurationError: A label is there twice.
    """
    for name in (dim, STATION):
        labels, counts = np.unique(data[name].values, return_counts=True)
        if (counts > 1).any():
            raise ConfigurationError(f"{whose[0].upper()}{whose[1:]} have {name} {labels[counts > 1][0]} {counts.max()} times; keep one.")
    return data.sortby(dim)


def _assemble(members: Mapping[str, xr.DataArray], truth: xr.DataArray, variable: str, findings: list[str]) -> Archive:
    """Everything on the union of init_times and leads, at the stations that have observations."""
    inits = np.unique(np.concatenate([m[INIT_TIME].values for m in members.values()]))
    leads = np.unique(np.concatenate([m[LEAD_TIME].values for m in members.values()]))
    forecast_at = dict.fromkeys(s for m in members.values() for s in m[STATION].values)
    observed_at = set(truth[STATION].values)
    stations = np.array([s for s in forecast_at if s in observed_at], dtype=object)
    valid = inits[:, None] + leads[None, :]
    if not len(stations):
        raise ConfigurationError(
            f"Forecasts and observations have no station in common: {_few(forecast_at)} against {_few(observed_at)}; ids must agree."
        )
    truth = _believable(truth.sel({STATION: stations}), variable, findings)
    observed = truth.reindex({TIME: np.unique(valid)}).sel({TIME: valid.ravel()}).values.reshape(*valid.shape, len(stations))
    if not np.isfinite(observed).any():
        raise ConfigurationError(
            f"No observation falls on a valid time: forecasts are valid {valid.min()} to {valid.max()}, "
            f"observations are from {truth[TIME].values.min()} to {truth[TIME].values.max()}; check times, leads and missing values."
        )
    left_out = [s for s in forecast_at if s not in observed_at]
    if left_out:
        findings.append(f"{len(left_out)} of {len(forecast_at)} stations have no observations and are left out: {_few(left_out)}.")
    places = _places([truth, *members.values()], stations, findings)
    sources = {}
    for name, data in members.items():
        data = data.reindex({INIT_TIME: inits, LEAD_TIME: leads, STATION: stations})
        plain = data.drop_vars([c for c in data.coords if c not in data.dims]).assign_coords(places)
        sources[name] = plain.to_dataset(name=variable)
    coords = {INIT_TIME: inits, LEAD_TIME: leads, STATION: stations, **places}
    pairs_observed = xr.Dataset({variable: ((INIT_TIME, LEAD_TIME, STATION), observed)}, coords=coords)
    keep = [c for c in truth.coords if c in (TIME, STATION, "available_time")]
    series = truth.drop_vars([c for c in truth.coords if c not in keep]).to_dataset(name=variable)
    archive = Archive(variable, Pairs(sources, series, (variable,), None, pairs_observed), ())
    findings.extend(_oddities(archive))
    return Archive(variable, archive.pairs, tuple(findings))


def _believable(truth: xr.DataArray, variable: str, findings: list[str]) -> xr.DataArray:
    """Observations outside the believable range of the catalog are missing."""
    known = VARIABLES.get(variable)
    if known is None:
        return truth
    wrong = (truth < known.minimum) | (truth > known.maximum)
    count = int(wrong.sum())
    if count:
        worst = float(truth.where(wrong).max())
        findings.append(
            f"{count} observations lie outside {known.minimum:g} to {known.maximum:g} {known.units} (as {worst:g}) and count as missing."
        )
    return truth.where(~wrong)


def _places(arrays: list[xr.DataArray], stations: np.ndarray, findings: list[str]) -> dict[str, tuple[str, np.ndarray]]:
    """Latitude, longitude and elevation by station, NaN where unknown; -9999 and the like count as unknown."""
    found: dict[str, tuple[str, np.ndarray]] = {}
    for name, low, high in (("latitude", -90.0, 90.0), ("longitude", -180.0, 360.0), ("elevation", -500.0, 9000.0)):
        values = np.full(len(stations), np.nan)
        stated = False
        for array in arrays:
            if name in array.coords and array[name].dims == (STATION,):
                own = array[name].astype(np.float64).reindex({STATION: stations}).values
                values = np.where(np.isnan(values), own, values)
                stated = True
        if not stated:
            continue
        wrong = np.isfinite(values) & ((values < low) | (values > high))
        if wrong.any():
            sample = f"{values[wrong][0]:g} of station {stations[wrong][0]}"
            findings.append(f"{name} {sample} is not believable; {int(wrong.sum())} count as unknown.")
            values[wrong] = np.nan
        found[name] = (STATION, np.where(values > 180.0, values - 360.0, values) if name == "longitude" else values)
    return found


def _oddities(archive: Archive) -> list[str]:
    """Sentences about gaps, lonely members, missing rows, strange sources and strange observations."""
    found = []
    pairs, observed, variable = archive.pairs, archive.observed, archive.variable
    inits = pairs.frame[INIT_TIME].values
    steps = np.diff(inits) / DAY
    holes = np.flatnonzero(steps > _GAP_DAYS)
    longest = holes[np.argsort(-steps[holes], kind="stable")[:3]]
    found += [f"No forecast starts between {_day(inits[k])} and {_day(inits[k + 1])}: a gap of {steps[k]:.0f} days." for k in longest]
    if len(holes) > len(longest):
        found.append(f"{len(holes) - len(longest)} more gaps are longer than {_GAP_DAYS:.0f} days.")
    missing = int(np.isnan(observed).sum())
    if missing:
        found.append(f"{missing} of {observed.size} cases have no observation.")
    errors, lonely = {}, []
    for name, source in pairs.sources.items():
        values = source[variable].values
        there = np.isfinite(values)
        rows = there.any(axis=-1)
        if not there.any():
            found.append(f"{name} has no value at all.")
            continue
        if not rows.all():
            found.append(f"{name} is missing in {int((~rows).sum())} of {rows.size} cases.")
        if values.shape[-1] == 1:
            lonely.append(name)
        else:
            flat = (np.ptp(np.where(there, values, np.nanmean(values)), axis=-1) == 0) & rows
            if flat.mean() > 0.05 and not (values[flat] == 0).all():
                found.append(f"All members of {name} are equal in {int(flat.sum())} of {rows.size} cases.")
        if (np.nan_to_num(values) == 0).all():
            found.append(f"{name} is zero everywhere.")
        count = there.sum(axis=-1)
        mean = np.where(rows, np.where(there, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)
        errors[name] = mean - observed
    if lonely:
        found.append(f"{', '.join(lonely)}: one member, so no spread, no coverage and no fair CRPS.")
    typical = {name: float(np.nanmedian(np.abs(e))) for name, e in errors.items() if np.isfinite(e).any()}
    for name, size in typical.items():
        rest = [v for other, v in typical.items() if other != name]
        bias = float(np.nanmedian(errors[name]))
        if rest and size > 3.0 * min(rest) + 1e-6:
            found.append(f"{name} is typically {size:.3g} off (median error {bias:+.3g}), the best source {min(rest):.3g}.")
        elif not rest and abs(bias) > 0.7 * size and abs(bias) > 0.5 * float(np.nanstd(observed)):
            found.append(f"{name} has a median error of {bias:+.3g}.")
    if np.nanmax(observed) == np.nanmin(observed):
        found.append(f"Every observation is {np.nanmax(observed):g}.")
    return found + _suspects(archive, errors)


def _suspects(archive: Archive, errors: Mapping[str, np.ndarray]) -> list[str]:
    """Observations that every forecast contradicts by more than twelve robust standard deviations; they are scored all the same."""
    known = VARIABLES.get(archive.variable)
    if known is None or known.lower_bound is not None or not errors:
        return []
    distance = np.full(archive.observed.shape, np.inf)
    for error in errors.values():
        if np.isfinite(error).sum() < 20:
            continue
        centre = np.nanmedian(error)
        scale = max(1.4826 * float(np.nanmedian(np.abs(error - centre))), 1e-3)
        distance = np.fmin(distance, np.abs(error - centre) / scale)
    strange = np.argwhere(np.isfinite(distance) & (distance > 12.0))
    stations = archive.pairs.frame[STATION].values
    found = [
        f"The observation {archive.observed[i, j, k]:.1f} of {_day(archive.valid_time[i, j])} at {stations[k]} is far from every "
        "forecast: it is scored as it is and barely counts in fitting."
        for i, j, k in strange[:5]
    ]
    if len(strange) > 5:
        found.append(f"{len(strange) - 5} more observations are far from every forecast.")
    return found


def _few(names: object) -> str:
    listed = sorted(map(str, names))  # type: ignore[call-overload]
    return ", ".join(listed[:4]) + (", ..." if len(listed) > 4 else "")


def _day(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="D"))
