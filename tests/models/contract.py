"""What every registered forecaster promises, as a test class, and the small seeded world it is tested on.

Subclass :class:`ForecasterContract` and parametrise ``forecaster_id``; ``test_contract.py`` does so for the whole registry, so a
new forecaster is tested by the line that registers it.
"""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import xarray as xr

from data_catalog.variables import VARIABLES
from models.base import LEVELS, Forecaster, Inputs, MissingInputError, NotFittedError, Pairs
from models.registry import build

SOURCES: dict[str, int] = {"alpha": 8, "beta": 1, "gamma": 5}
"""Source names and how many members each has."""

DAYS, STATIONS = 50, ("a", "b", "c", "d")
LEADS = np.array([6, 12, 24, 30, 48], dtype="timedelta64[h]").astype("timedelta64[ns]")
START = np.datetime64("2024-04-01T00", "ns")
HOUR = np.timedelta64(1, "h")
BOUNDS = {"precipitation_amount": (0.0, np.inf), "relative_humidity_2m": (0.0, 100.0), "wind_speed_10m": (0.0, np.inf)}
PLACES = {
    "latitude": ("station", np.array([21.02, 21.22, 20.97, 21.60])),
    "longitude": ("station", np.array([105.80, 105.81, 105.77, 105.83])),
    "elevation": ("station", np.array([6.0, 12.0, 8.0, -9999.0])),
}


@lru_cache(maxsize=1)
def world() -> Pairs:
    """Fifty daily cycles, five leads, four stations, four variables, three sources with bias and too little spread."""
    rng = np.random.default_rng(20240401)
    times = START + np.arange(-5 * 24, (DAYS + 4) * 24, 6) * HOUR
    hours = (times - START) / HOUR
    weather = _red_noise(rng, len(times), 0.9)[:, None] + 0.5 * rng.normal(size=(len(times), len(STATIONS)))
    wet = _red_noise(rng, len(times), 0.6)[:, None] + 0.6 * rng.normal(size=(len(times), len(STATIONS)))
    truth = {
        "temperature_2m": 24.0 + 3.0 * np.sin(2 * np.pi * (hours[:, None] - 8.0) / 24.0) + 2.5 * weather + np.arange(4) * 0.4,
        "precipitation_amount": np.round(np.maximum(wet - 0.5, 0.0) ** 2 * 8.0, 1),
        "relative_humidity_2m": np.clip(80.0 + 10.0 * wet - 3.0 * weather, 5.0, 100.0),
        "wind_speed_10m": np.abs(2.0 + 1.5 * weather),
    }
    observations = xr.Dataset(
        {name: (("time", "station"), values) for name, values in truth.items()},
        coords={"time": times, "station": list(STATIONS), **PLACES},
    )
    init = START + np.arange(DAYS) * 24 * HOUR
    valid = init[:, None] + LEADS[None, :]
    coords = {"init_time": init, "lead_time": LEADS, "station": list(STATIONS), **PLACES}
    dims = ("init_time", "lead_time", "station")
    observed = xr.Dataset(
        {name: (dims, observations[name].sel(time=valid.ravel()).values.reshape(*valid.shape, -1)) for name in truth}, coords=coords
    )
    sources = {}
    for k, (source, members) in enumerate(SOURCES.items()):
        error = rng.normal(size=(*observed["temperature_2m"].shape, 1)) * (0.6 + 0.01 * np.arange(len(LEADS))[:, None, None])
        spread = 0.5 * rng.normal(size=(*error.shape[:-1], members))
        noise = error + spread
        made = {
            "temperature_2m": observed["temperature_2m"].values[..., None] + k - 1.0 + 1.2 * noise,
            "precipitation_amount": np.maximum(np.sqrt(observed["precipitation_amount"].values[..., None]) + 0.5 * noise - 0.1, 0.0) ** 2,
            "relative_humidity_2m": np.clip(observed["relative_humidity_2m"].values[..., None] - 4.0 + 6.0 * noise, 0.0, 100.0),
            "wind_speed_10m": np.abs(1.2 * observed["wind_speed_10m"].values[..., None] + 0.6 * noise),
        }
        sources[source] = xr.Dataset({n: ((*dims, "ensemble_member"), v.astype(np.float32)) for n, v in made.items()}, coords=coords)
    return Pairs(sources=sources, observations=observations, observed=observed)


def _red_noise(rng: np.random.Generator, length: int, memory: float) -> np.ndarray:
    values = rng.normal(size=length)
    for i in range(1, length):
        values[i] = memory * values[i - 1] + np.sqrt(1 - memory**2) * values[i]
    return values


def split(pairs: Pairs, first: int, last: int) -> Pairs:
    """The cycles ``first`` to ``last``; what had not been observed at the last of them is blank, as in a real fit."""
    cut = {name: data.isel(init_time=slice(first, last)) for name, data in pairs.sources.items()}
    observed = pairs.observed.isel(init_time=slice(first, last))
    now = observed["init_time"].values.max() + 24 * HOUR
    observed = observed.where(observed["init_time"] + observed["lead_time"] <= now)
    return replace(pairs, sources=cut, observed=observed)


def training() -> Pairs:
    return split(world(), 0, 40)


def cycles(first: int = 44, last: int = 47) -> Inputs:
    """A few cycles after the training, without what happened."""
    cut = {name: data.isel(init_time=slice(first, last)) for name, data in world().sources.items()}
    return Inputs(sources=cut, observations=world().observations)


def change(inputs: Inputs, edit: Callable[[str, xr.Dataset], xr.Dataset]) -> Inputs:
    return replace(inputs, sources={name: edit(name, data.copy(deep=True)) for name, data in inputs.sources.items()})


QUICK: Mapping[str, Mapping[str, int | str]] = {name: {"epochs": 2} for name in ("drn", "bqn", "shortrange")}
"""Laws hold however long a network is trained."""


def new(forecaster_id: str) -> Forecaster:
    return build(forecaster_id, **QUICK.get(forecaster_id, {}))


@lru_cache(maxsize=64)
def fitted(forecaster_id: str) -> Forecaster:
    return new(forecaster_id).fit(training())


def within(array: xr.DataArray, forecaster_id: str) -> np.ndarray:
    """What is said of the leads that the forecaster covers; it says nothing of the others."""
    covered = array["lead_time"].values / HOUR <= build(forecaster_id).spec.longest_lead
    assert np.isnan(array.values[:, ~covered]).all()
    return array.values[:, covered]


def same(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Bitwise equality of every variable, NaN equal to NaN."""
    return set(one.data_vars) == set(other.data_vars) and all(
        np.array_equal(one[name].values, other[name].values, equal_nan=True) for name in one.data_vars
    )


def through_disk(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state written and read back with pickles refused."""
    file = io.BytesIO()
    np.savez(file, **{key.replace("/", "|"): array for key, array in state.items()})
    file.seek(0)
    with np.load(file, allow_pickle=False) as found:
        return {key.replace("|", "/"): found[key] for key in found.files}


class ForecasterContract:
    """Laws that hold for every forecaster of the registry."""

    def test_spec_names_what_was_asked_for(self, forecaster_id: str) -> None:
        spec = build(forecaster_id).spec
        assert spec.id == forecaster_id
        assert spec.version
        assert spec.returns in ("quantile", "ensemble_member")
        assert isinstance(build(forecaster_id), Forecaster)

    def test_fit_returns_self(self, forecaster_id: str) -> None:
        forecaster = new(forecaster_id)
        assert forecaster.fit(training()) is forecaster

    def test_unfitted_use_is_refused(self, forecaster_id: str) -> None:
        forecaster = build(forecaster_id)
        if forecaster.spec.minimum_history == 0:
            pytest.skip(f"{forecaster_id} has nothing to learn")
        with pytest.raises(NotFittedError):
            forecaster.predict(cycles())
        with pytest.raises(NotFittedError):
            forecaster.state()

    def test_dimensions_and_coordinates(self, forecaster_id: str) -> None:
        found = fitted(forecaster_id).predict(cycles())
        last = fitted(forecaster_id).spec.returns
        assert len(found.data_vars)
        for name, array in found.data_vars.items():
            assert array.dims == ("init_time", "lead_time", "station", last), name
        assert (found["init_time"].values == cycles().frame["init_time"].values).all()
        assert (found["lead_time"].values == LEADS).all()
        assert list(found["station"].values) == list(STATIONS)
        assert (found["valid_time"] == found["init_time"] + found["lead_time"]).all()
        if last == "quantile":
            assert np.array_equal(found["quantile"].values, LEVELS)

    def test_every_case_is_answered_and_in_order(self, forecaster_id: str) -> None:
        found = fitted(forecaster_id).predict(cycles())
        for name, array in found.data_vars.items():
            assert np.isfinite(within(array, forecaster_id)).all(), name
            if "quantile" in array.dims:
                assert (np.diff(within(array, forecaster_id), axis=-1) >= 0).all(), name

    def test_units_are_those_of_the_catalog(self, forecaster_id: str) -> None:
        found = fitted(forecaster_id).predict(cycles())
        assert {str(name): array.attrs["units"] for name, array in found.data_vars.items()} == {
            str(name): VARIABLES[str(name)].units for name in found.data_vars
        }

    def test_twice_the_members_have_the_same_spread(self, forecaster_id: str) -> None:
        """A forecaster that returns members: their spread against their error must not depend on how many there are."""
        if fitted(forecaster_id).spec.returns != "ensemble_member":
            return
        ratio = []
        for step in (1, 2):
            found = fitted(forecaster_id).predict(change(cycles(), lambda _, d, step=step: d.isel(ensemble_member=slice(None, None, step))))
            members = found["temperature_2m"].values
            error = members.mean(axis=-1) - world().observed["temperature_2m"].values[44:47]
            ratio.append(np.sqrt(members.var(axis=-1, ddof=1).mean() / (error**2).mean()))
        assert ratio[0] == pytest.approx(ratio[1], rel=0.3)

    def test_time_and_memory_budget(self, forecaster_id: str) -> None:
        """A cycle fits and predicts thousands of such cases on a small machine; the processor's seconds, whatever else it does."""
        began, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        forecaster = new(forecaster_id).fit(training())
        assert time.process_time() - began < 20.0
        began = time.process_time()
        forecaster.predict(cycles())
        assert time.process_time() - began < 3.0
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024 < 500.0  # MiB
        assert sum(array.nbytes for array in forecaster.state().values()) < 8e6

    def test_only_the_targets_are_returned(self, forecaster_id: str) -> None:
        target = (fitted(forecaster_id).spec.targets or ("temperature_2m",))[0]
        found = fitted(forecaster_id).predict(replace(cycles(), targets=(target,)))
        assert list(found.data_vars) == [target]

    def test_bounds(self, forecaster_id: str) -> None:
        wild = change(cycles(), lambda _, data: data * 3.0 - 20.0)
        for inputs in (cycles(), wild):
            found = fitted(forecaster_id).predict(inputs)
            if forecaster_id.startswith("raw_") and inputs is wild:
                continue
            for name in set(BOUNDS) & set(found.data_vars):
                low, high = BOUNDS[str(name)]
                assert float(found[name].min()) >= low, name
                assert float(found[name].max()) <= high, name

    def test_the_same_pairs_give_the_same_answer(self, forecaster_id: str) -> None:
        again = new(forecaster_id).fit(training()).predict(cycles())
        assert same(again, fitted(forecaster_id).predict(cycles()))

    def test_inputs_are_left_alone(self, forecaster_id: str) -> None:
        inputs = change(cycles(), lambda _, data: data)
        before = {name: data.copy(deep=True) for name, data in inputs.sources.items()}
        fitted(forecaster_id).predict(inputs)
        assert all(before[name].identical(inputs.sources[name]) for name in before)

    def test_a_later_cycle_changes_no_earlier_one(self, forecaster_id: str) -> None:
        both = fitted(forecaster_id).predict(cycles(44, 46))
        more = fitted(forecaster_id).predict(cycles(44, 48))
        for name in both.data_vars:
            np.testing.assert_allclose(more[name].values[:2], both[name].values, rtol=1e-5, atol=1e-5)

    def test_state_rebuilds_an_equal_forecaster(self, forecaster_id: str) -> None:
        state = fitted(forecaster_id).state()
        assert all(isinstance(array, np.ndarray) and array.dtype.kind in "fiubU" for array in state.values())
        rebuilt = type(build(forecaster_id)).from_state(through_disk(state))
        assert rebuilt.spec == fitted(forecaster_id).spec
        assert same(rebuilt.predict(cycles()), fitted(forecaster_id).predict(cycles()))

    def test_a_missing_required_input_is_named(self, forecaster_id: str) -> None:
        spec = fitted(forecaster_id).spec
        kept = {} if spec.required == ("*",) else {n: d for n, d in cycles().sources.items() if n not in spec.required}
        lacking = Inputs(sources=kept, observations=None if spec.needs_observations else cycles().observations, template=cycles().frame)
        if not spec.required and not spec.needs_observations:
            assert len(fitted(forecaster_id).predict(lacking).data_vars)
            return
        with pytest.raises(MissingInputError):
            fitted(forecaster_id).predict(lacking)

    def test_a_missing_optional_input_only_degrades(self, forecaster_id: str) -> None:
        spec = fitted(forecaster_id).spec
        spare = set(SOURCES) - set(spec.required)
        if spec.required == ("*",):
            spare = set(list(SOURCES)[1:])
        for gone in spare:
            left = replace(cycles(), sources={n: d for n, d in cycles().sources.items() if n != gone})
            found = fitted(forecaster_id).predict(left)
            assert all(np.isfinite(within(found[name], forecaster_id)).all() for name in found.data_vars), gone

    def test_missing_members_of_one_station_touch_no_other(self, forecaster_id: str) -> None:
        def blank(_: str, data: xr.Dataset) -> xr.Dataset:
            return data.where(data["station"] != "b")

        whole, holed = fitted(forecaster_id).predict(cycles()), fitted(forecaster_id).predict(change(cycles(), blank))
        for name in whole.data_vars:
            kept = [0, 2, 3]
            np.testing.assert_allclose(whole[name].values[:, :, kept], holed[name].values[:, :, kept], rtol=1e-5, atol=1e-5)

    def test_missing_rows_of_one_source_leave_the_fit_whole(self, forecaster_id: str) -> None:
        def blank(name: str, data: xr.Dataset) -> xr.Dataset:
            gone = (data["init_time"] < data["init_time"][5]) & (data["station"] == "b")
            return data.where(~gone) if name == "alpha" else data

        pairs = training()
        holed = replace(pairs, sources=change(pairs, blank).sources)
        found = new(forecaster_id).fit(holed).predict(cycles())
        assert all(np.isfinite(within(found[name], forecaster_id)).all() for name in found.data_vars)

    def test_some_members_missing(self, forecaster_id: str) -> None:
        def blank(_: str, data: xr.Dataset) -> xr.Dataset:
            return data.where(data["ensemble_member"] < 3) if data.sizes["ensemble_member"] > 3 else data

        numbered = change(cycles(), lambda _, d: d.assign_coords(ensemble_member=np.arange(d.sizes["ensemble_member"])))
        found = fitted(forecaster_id).predict(change(numbered, blank))
        assert all(np.isfinite(within(found[name], forecaster_id)).all() for name in found.data_vars)

    def test_members_without_spread(self, forecaster_id: str) -> None:
        def flat(_: str, data: xr.Dataset) -> xr.Dataset:
            return data * 0.0 + data.mean("ensemble_member")

        pairs = training()
        found = new(forecaster_id).fit(replace(pairs, sources=change(pairs, flat).sources)).predict(change(cycles(), flat))
        assert all(np.isfinite(within(found[name], forecaster_id)).all() for name in found.data_vars)

    def test_rain_that_never_came(self, forecaster_id: str) -> None:
        def dry(data: xr.Dataset) -> xr.Dataset:
            return data.assign(precipitation_amount=data["precipitation_amount"] * 0.0)

        pairs = training()
        assert pairs.observations is not None
        drought = replace(
            pairs,
            sources={n: dry(d) for n, d in pairs.sources.items()},
            observed=dry(pairs.observed),
            observations=dry(pairs.observations),
        )
        inputs = replace(cycles(), sources={n: dry(d) for n, d in cycles().sources.items()}, observations=dry(pairs.observations))
        found = new(forecaster_id).fit(drought).predict(inputs)
        if "precipitation_amount" in found:
            rain = within(found["precipitation_amount"], forecaster_id)
            assert np.isfinite(rain).all()
            assert (rain >= 0).all()
            assert np.median(rain) < 0.1  # mm

    def test_a_short_history_is_enough(self, forecaster_id: str) -> None:
        days = build(forecaster_id).spec.minimum_history
        pairs = split(world(), 0, max(days, 3))
        found = new(forecaster_id).fit(pairs).predict(cycles())
        assert all(np.isfinite(within(found[name], forecaster_id)).all() for name in found.data_vars)

    def test_a_wrong_source_does_not_crash(self, forecaster_id: str) -> None:
        cold = change(cycles(), lambda name, data: data - 30.0 if name == "alpha" else data)
        found = fitted(forecaster_id).predict(cold)
        assert all(np.isfinite(within(found[name], forecaster_id)).all() for name in found.data_vars)

    def test_a_planted_future_changes_no_forecast(self, forecaster_id: str) -> None:
        inputs = cycles(44, 45)
        now = inputs.frame["init_time"].values.max()
        assert inputs.observations is not None
        planted = inputs.observations.where(inputs.observations["time"] <= now, 77.0)
        assert same(fitted(forecaster_id).predict(inputs), fitted(forecaster_id).predict(replace(inputs, observations=planted)))

    def test_a_late_observation_is_not_used_early(self, forecaster_id: str) -> None:
        inputs = cycles(44, 45)
        now = inputs.frame["init_time"].values.max()
        assert inputs.observations is not None
        late = inputs.observations.assign_coords(available_time=("time", inputs.observations["time"].values + 12 * HOUR))
        planted = late.where(late["available_time"] <= now, 77.0)
        found = [fitted(forecaster_id).predict(replace(inputs, observations=o)) for o in (late, planted)]
        assert same(*found)

    def test_a_planted_future_changes_no_fit(self, forecaster_id: str) -> None:
        pairs = training()
        assert pairs.observations is not None
        last = pairs.frame["init_time"].values.max() + 24 * HOUR
        planted = replace(pairs, observations=pairs.observations.where(pairs.observations["time"] <= last, 77.0))
        assert same(new(forecaster_id).fit(planted).predict(cycles()), fitted(forecaster_id).predict(cycles()))

    def test_a_grid_is_answered_or_refused(self, forecaster_id: str) -> None:
        latitude, longitude = np.array([21.5, 21.25, 21.0]), np.array([105.5, 105.75])

        def to_grid(_: str, data: xr.Dataset) -> xr.Dataset:
            field = data.isel(station=0, drop=True)
            return field.expand_dims({"latitude": latitude, "longitude": longitude}, (2, 3))

        inputs = change(cycles(), to_grid)
        try:
            found = fitted(forecaster_id).predict(inputs)
        except MissingInputError:
            return
        for name, array in found.data_vars.items():
            assert array.dims[:4] == ("init_time", "lead_time", "latitude", "longitude"), name
            assert np.isfinite(array.values).all(), name
