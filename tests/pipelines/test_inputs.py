"""What a cycle is given: runs that stand in, intervals that have to agree, grids and derived variables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.archive import cycle_key
from data_catalog.manifest import Manifest
from data_catalog.regions import Region, load_region
from data_catalog.store import Root
from pipelines.cycle import keep_for_training
from pipelines.inputs import OLDEST_LAG_HOURS, CycleInputs, derive, gather, key_time
from training.pairs import make_pairs, station_history

INIT = np.datetime64("2025-07-10T12", "ns")
HOUR = np.timedelta64(1, "h")
REGION = load_region().cut()
LATITUDES, LONGITUDES = REGION.latitude, REGION.longitude


class Archive:
    """A root and its manifest, and what gather makes of them."""

    def __init__(self, folder: Path) -> None:
        self.root = Root(str(folder))
        self.manifest = Manifest.open(f"sqlite:///{folder / 'manifest.db'}")

    def add(
        self,
        dataset: str,
        fields: xr.Dataset,
        init_time: np.datetime64 = INIT,
        *,
        available: np.datetime64 | None = None,
        complete: bool = True,
        details: dict[str, Any] | None = None,
    ) -> str:
        """Store one run; its hash."""
        ref = self.root.write_store(f"archive/{dataset}", cycle_key(init_time), {"": fields}, fields.attrs)
        self.manifest.add_revision(
            dataset, cycle_key(init_time), ref, available_time=available or init_time + 4 * HOUR, complete=complete, details=details
        )
        return ref.content_hash

    def gather(self, *datasets: str, region: Region = REGION, before: np.datetime64 | None = None) -> CycleInputs:
        found = gather(self.root, self.manifest, region, datasets, INIT, available_before=before)
        assert found is not None
        return found


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    yield made
    made.manifest.close()


def delta(hours: Sequence[float]) -> np.ndarray:
    return (np.asarray(hours) * 3600).astype("timedelta64[s]").astype("timedelta64[ns]")


def run(
    leads: Sequence[int],
    *,
    init_time: np.datetime64 = INIT,
    step: int | None = None,
    latitude: np.ndarray = LATITUDES,
    longitude: np.ndarray = LONGITUDES,
    members: int = 2,
    **variables: float | np.ndarray,
) -> xr.Dataset:
    """A run in the archive's form.

    Args:
        leads: Hours.
        init_time: Its start.
        step: Hours of the interval that ends at each lead but the first instants; None for no interval at all.
        latitude: Of its grid.
        longitude: Of its grid.
        members: How many.
        variables: One number for everything, one for each lead, or a field (latitude, longitude).
    """
    shape = (len(leads), members, latitude.size, longitude.size)
    data = {}
    for name, given_values in variables.items():
        values = np.asarray(given_values, dtype=np.float32)
        if values.shape == (len(leads),):
            values = values[:, None, None, None]
        data[name] = (("lead_time", "ensemble_member", "latitude", "longitude"), np.broadcast_to(values, shape).copy())
    coordinates: dict[str, Any] = {
        "init_time": init_time,
        "lead_time": delta(leads),
        "ensemble_member": np.arange(members),
        "latitude": latitude,
        "longitude": longitude,
    }
    if step is not None:
        ends = np.where(np.asarray(leads) > 0, leads, np.nan)
        coordinates["lead_time_bounds"] = (("lead_time", "bounds"), np.stack([delta(ends - step), delta(ends)], axis=1))
    return xr.Dataset(data, coordinates)


def leads_of(inputs: CycleInputs) -> list[float]:
    return list(inputs.bounds["lead_time"].values / HOUR)


def at_lang(inputs: CycleInputs, dataset: str, variable: str) -> np.ndarray:
    """Values of the first member at Láng, by lead."""
    values = inputs.stations.sources[dataset][variable].sel(station="lang").isel(init_time=0, ensemble_member=0)
    return np.asarray(values.values)


# --- a run that stands in ----------------------------------------------------------------------------------------------------------


def test_a_present_run_is_given_as_it_is(archive: Archive) -> None:
    digest = archive.add("gefs", run([0, 3, 6], step=3, temperature_2m=[20, 21, 22], precipitation_amount=[np.nan, 1, 2]))
    inputs = archive.gather("gefs")
    (state,) = inputs.states
    assert (state.dataset, state.status, state.lag_hours, state.content_hash, state.reason) == ("gefs", "present", 0, digest, "")
    assert not state.simulated
    assert leads_of(inputs) == [0, 3, 6]
    assert inputs.variables == ("temperature_2m", "precipitation_amount")
    assert at_lang(inputs, "gefs", "temperature_2m").tolist() == [20, 21, 22]
    rain = at_lang(inputs, "gefs", "precipitation_amount")
    assert np.isnan(rain[0]), "at lead 0 a sum is missing, not zero"
    assert rain[1:].tolist() == [1, 2]
    assert dict(inputs.stations.sources["gefs"].sizes) == {"init_time": 1, "lead_time": 3, "station": 3, "ensemble_member": 2, "bounds": 2}
    assert inputs.grid.sources["gefs"]["temperature_2m"].dims == ("init_time", "lead_time", "latitude", "longitude", "ensemble_member")
    assert list(inputs.stations.sources["gefs"]["station"].values) == [s.id for s in REGION.stations if s.operating]


@pytest.mark.parametrize("lag", [6, 12, 24])
def test_a_late_centre_is_replaced_by_its_last_run_at_the_same_valid_time(archive: Archive, lag: int) -> None:
    archive.add("ifs", run([0, 3, 6, 9], step=3, temperature_2m=10.0, precipitation_amount=1.0))
    leads = np.arange(0, 49, 3)
    earlier = INIT - lag * HOUR
    digest = archive.add("gefs", run(leads, init_time=earlier, step=3, temperature_2m=leads, precipitation_amount=leads / 10), earlier)
    inputs = archive.gather("ifs", "gefs")
    state = inputs.states[1]
    assert (state.status, state.lag_hours, state.content_hash) == ("lagged", lag, digest)
    assert state.reason == f"the run of {cycle_key(earlier)}, {lag} h older, stands in"
    offered = np.array(leads_of(inputs))
    assert offered.min() == 0, "what was valid before the cycle is not its forecast"
    own = offered <= 48 - lag
    assert at_lang(inputs, "gefs", "temperature_2m")[own] == pytest.approx(offered[own] + lag)
    bounds = inputs.bounds.values[1:] / HOUR
    assert (bounds == np.stack([offered[1:] - 3, offered[1:]], axis=1)).all()
    rain = at_lang(inputs, "gefs", "precipitation_amount")
    assert rain[1:][own[1:]] == pytest.approx((offered[1:][own[1:]] + lag) / 10)


def test_the_newest_run_stands_in(archive: Archive) -> None:
    for lag in (18, 6, 12):
        earlier = INIT - lag * HOUR
        archive.add("gefs", run([0, 24, 48], init_time=earlier, temperature_2m=float(lag)), earlier)
    (state,) = archive.gather("gefs").states
    assert (state.status, state.lag_hours) == ("lagged", 6)


def test_a_run_older_than_a_day_is_no_longer_a_forecast(archive: Archive) -> None:
    archive.add("ifs", run([0, 3], temperature_2m=10.0))
    old = INIT - (OLDEST_LAG_HOURS + 1) * HOUR
    archive.add("gefs", run(np.arange(0, 96, 3), init_time=old, temperature_2m=10.0), old)
    inputs = archive.gather("ifs", "gefs")
    state = inputs.states[1]
    assert (state.status, state.lag_hours, state.content_hash) == ("missing", 0, "")
    assert state.reason == "no run of gefs from 20250709T12Z to 20250710T12Z is in the archive"
    assert set(inputs.stations.sources) == {"ifs"}


def test_a_run_of_later_is_never_used(archive: Archive) -> None:
    later = INIT + 6 * HOUR
    archive.add("gefs", run([0, 3], init_time=later, temperature_2m=10.0), later)
    assert gather(archive.root, archive.manifest, REGION, ("gefs",), INIT) is None


def test_no_source_at_all_is_none(archive: Archive) -> None:
    assert gather(archive.root, archive.manifest, REGION, ("gefs", "ifs"), INIT) is None


@given(hours=st.integers(0, 24 * 365 * 40))
def test_a_key_says_its_time(hours: int) -> None:
    time = np.datetime64("1990-01-01T00", "ns") + hours * HOUR
    assert key_time(cycle_key(time)) == time
    assert key_time(cycle_key(time + np.timedelta64(30, "m"))) == time + np.timedelta64(30, "m")


# --- what had arrived by the cut-off --------------------------------------------------------------------------------------------------


def test_what_came_after_the_cut_off_is_not_seen(archive: Archive) -> None:
    earlier = INIT - 6 * HOUR
    archive.add("gefs", run([0, 6, 9, 12], init_time=earlier, temperature_2m=1.0), earlier)
    archive.add("gefs", run([0, 3, 6], temperature_2m=2.0), available=INIT + 5 * HOUR)
    before = archive.gather("gefs", before=INIT + np.timedelta64(299, "m"))
    after = archive.gather("gefs", before=INIT + 5 * HOUR)
    assert before.states[0].lag_hours == 6
    assert set(at_lang(before, "gefs", "temperature_2m")) == {1.0}
    assert after.states[0].status == "present"
    assert set(at_lang(after, "gefs", "temperature_2m")) == {2.0}


def test_a_correction_counts_from_when_it_came(archive: Archive) -> None:
    first = archive.add("gefs", run([0, 3], temperature_2m=1.0), available=INIT + 4 * HOUR)
    second = archive.add("gefs", run([0, 3], temperature_2m=2.0), available=INIT + 8 * HOUR)
    assert archive.gather("gefs", before=INIT + 6 * HOUR).states[0].content_hash == first
    assert archive.gather("gefs").states[0].content_hash == second


def test_an_incomplete_run_is_used_and_says_what_it_lacks(archive: Archive) -> None:
    archive.add("gefs", run([0, 3], temperature_2m=1.0), complete=False, details={"missing": ["temperature_2m 6 h", "temperature_2m 9 h"]})
    (state,) = archive.gather("gefs").states
    assert (state.status, state.reason) == ("present", "2 fields are missing")


def test_simulated_data_says_so(archive: Archive) -> None:
    archive.add("world", run([0, 3], temperature_2m=1.0).assign_attrs(simulated=True))
    archive.add("gefs", run([0, 3], temperature_2m=1.0))
    assert [state.simulated for state in archive.gather("world", "gefs").states] == [True, False]


# --- leads ---------------------------------------------------------------------------------------------------------------------------


def test_leads_are_the_published_ones_that_a_source_has(archive: Archive) -> None:
    archive.add("hourly", run(range(8), temperature_2m=1.0))
    archive.add("far", run([144, 147, 150], temperature_2m=2.0))
    inputs = archive.gather("hourly", "far")
    assert leads_of(inputs) == [0, 3, 6, 144, 150], "beyond 144 h the product is 6-hourly"
    assert np.isnan(at_lang(inputs, "hourly", "temperature_2m")[3:]).all()
    assert np.isnan(at_lang(inputs, "far", "temperature_2m")[:3]).all()


def test_where_no_lead_is_a_published_one_those_of_the_source_stay(archive: Archive) -> None:
    archive.add("odd", run([1, 2, 4], temperature_2m=[1, 2, 4]))
    inputs = archive.gather("odd")
    assert leads_of(inputs) == [1, 2, 4]
    assert at_lang(inputs, "odd", "temperature_2m").tolist() == [1, 2, 4]


# --- intervals -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("fine", "coarse"), ("coarse", "fine")])
def test_one_interval_a_lead_and_what_covers_another_is_missing(archive: Archive, order: tuple[str, str]) -> None:
    archive.add("fine", run([0, 3, 6, 9, 12], step=3, temperature_2m=1.0, precipitation_amount=3.0))
    archive.add("coarse", run([0, 6, 12], step=6, temperature_2m=2.0, precipitation_amount=6.0))
    inputs = archive.gather(*order)
    assert leads_of(inputs) == [0, 3, 6, 9, 12]
    bounds = inputs.bounds.values
    assert np.isnat(bounds[0]).all()
    length = 3 if order[0] == "fine" else 6
    assert (bounds[[2, 4]] / HOUR == [[6 - length, 6], [12 - length, 12]]).all(), "at leads that both have, the first source decides"
    assert (bounds[[1, 3]] / HOUR == [[0, 3], [6, 9]]).all(), "at a lead of one source, that source decides"
    fine = at_lang(inputs, "fine", "precipitation_amount")
    assert np.isfinite(fine).tolist() == [False, True, length == 3, True, length == 3]
    if length == 6:
        assert np.isfinite(at_lang(inputs, "coarse", "precipitation_amount")).tolist() == [False, False, True, False, True]
    else:
        assert "precipitation_amount" not in inputs.stations.sources["coarse"], "no lead is left over the agreed interval"
    assert (at_lang(inputs, "fine", "temperature_2m") == 1).all(), "an instant needs no interval"
    assert np.isfinite(at_lang(inputs, "coarse", "temperature_2m")).tolist() == [True, False, True, False, True]


def test_an_interval_that_starts_at_another_lead_wins(archive: Archive) -> None:
    archive.add("odd", run([0, 6, 12], step=4, precipitation_amount=4.0, temperature_2m=1.0))
    archive.add("even", run([0, 6, 12], step=6, precipitation_amount=6.0))
    inputs = archive.gather("odd", "even")
    assert (inputs.bounds.values[1:] / HOUR == [[0, 6], [6, 12]]).all(), "sums over days need intervals that fit together"
    assert at_lang(inputs, "even", "precipitation_amount")[1:].tolist() == [6, 6]
    assert "precipitation_amount" not in inputs.stations.sources["odd"]
    assert archive.gather("odd").bounds.values[1:, 0].tolist() == delta([2, 8]).tolist(), "alone, its own interval is all there is"


@pytest.mark.parametrize("resolution", [0.25, 1.0])
def test_stations_and_grid_both_carry_the_intervals(archive: Archive, resolution: float) -> None:
    latitude, longitude = np.arange(23.0, 18.0, -resolution), np.arange(103.0, 109.0, resolution)
    archive.add("gefs", run([0, 3, 6], step=3, latitude=latitude, longitude=longitude, precipitation_amount=[np.nan, 1, 2]))
    inputs = archive.gather("gefs")
    for given_to in (inputs.stations, inputs.grid):
        assert np.array_equal(given_to.sources["gefs"]["lead_time_bounds"], inputs.bounds, equal_nan=True)


def test_what_a_cycle_files_for_later_ones_keeps_its_intervals(archive: Archive) -> None:
    archive.add("gefs", run([0, 3, 6], step=3, temperature_2m=20.0, precipitation_amount=[np.nan, 1, 2]))
    inputs = archive.gather("gefs")
    keep_for_training(archive.root, archive.manifest, inputs, INIT)
    times = INIT + np.arange(1, 25) * HOUR
    observed = xr.Dataset(
        {"precipitation_amount": (("time", "station"), np.full((24, 1), 0.5, np.float32))},
        {"time": times, "station": np.array(["lang"], dtype=object)},
    )
    later = INIT + 24 * HOUR
    history, hashes = station_history(archive.root, archive.manifest, "gefs", later, 10, ["lang"])
    assert history is not None
    assert len(hashes) == 1
    pairs = make_pairs({"gefs": history}, observed, ("precipitation_amount",), later)
    rain = pairs.observed["precipitation_amount"].sel(station="lang").squeeze().values
    assert np.isnan(rain[0])
    assert rain[1:] == pytest.approx([1.5, 1.5]), "three hourly reports for each forecast of 3 h"


def test_a_variable_with_its_own_interval_is_held_to_it(archive: Archive) -> None:
    fields = run([0, 3, 6], step=3, precipitation_amount=1.0, temperature_2m_max=30.0)
    own = np.stack([delta([np.nan, np.nan, 0]), delta([np.nan, np.nan, 6])], axis=1)
    archive.add("gefs", fields.assign_coords(temperature_2m_max_bounds=(("lead_time", "bounds"), own)))
    inputs = archive.gather("gefs")
    assert "temperature_2m_max" not in inputs.stations.sources["gefs"], "6 h extremes are not 3 h extremes"
    assert np.isfinite(at_lang(inputs, "gefs", "precipitation_amount")[1:]).all()


# --- grids and variables ----------------------------------------------------------------------------------------------------------------


def test_a_coarser_grid_is_brought_to_the_regions(archive: Archive) -> None:
    latitude, longitude = np.arange(23.0, 18.0, -1.0), np.arange(103.0, 109.0)
    plane = 2.0 * latitude[:, None] - longitude[None, :]
    archive.add(
        "coarse",
        run([3], step=3, latitude=latitude, longitude=longitude, temperature_2m=plane, precipitation_amount=plane + 200),
    )
    inputs = archive.gather("coarse")
    grid = inputs.grid.sources["coarse"].isel(init_time=0, lead_time=0, ensemble_member=0)
    assert np.array_equal(grid["latitude"], REGION.latitude)
    assert np.array_equal(grid["longitude"], REGION.longitude)
    assert grid["temperature_2m"].values == pytest.approx(2 * REGION.latitude[:, None] - REGION.longitude[None, :], abs=1e-4)
    assert np.isin(grid["precipitation_amount"].values, np.float32(plane + 200)).all(), "rain is a value of the source, never a mean"
    lang = next(station for station in REGION.stations if station.id == "lang")
    assert at_lang(inputs, "coarse", "temperature_2m")[0] == pytest.approx(2 * lang.latitude - lang.longitude, abs=1e-4)


def test_a_grid_that_ends_inside_the_region_is_missing_outside(archive: Archive) -> None:
    latitude = LATITUDES[LATITUDES > 20.9]
    archive.add("part", run([0], latitude=latitude, temperature_2m=20.0))
    values = archive.gather("part").grid.sources["part"]["temperature_2m"].isel(init_time=0, lead_time=0, ensemble_member=0)
    edge = latitude.min() - 0.125 - 1e-6
    assert np.isfinite(values.sel(latitude=slice(None, edge))).all()
    assert values.sel(latitude=slice(edge, None)).size
    assert values.sel(latitude=slice(edge, None)).isnull().all()


def test_a_rate_becomes_the_amount_over_its_interval(archive: Archive) -> None:
    rate = 10 / 3600  # 10 mm an hour
    archive.add("gefs", run([0, 3, 6], step=3, precipitation_surface=[np.nan, rate, 0.0]))
    inputs = archive.gather("gefs")
    rain = at_lang(inputs, "gefs", "precipitation_amount")
    assert np.isnan(rain[0])
    assert rain[1:] == pytest.approx([30.0, 0.0], rel=1e-6)


def test_a_rate_without_an_interval_makes_no_amount() -> None:
    assert "precipitation_amount" not in derive(run([3], precipitation_surface=1e-3))


def test_wind_speed_follows_from_its_components_in_each_member(archive: Archive) -> None:
    fields = run([0], wind_u_10m=3.0, wind_v_10m=-4.0)
    fields["wind_v_10m"][:, 1] = 0.0
    archive.add("gefs", fields)
    speed = archive.gather("gefs").stations.sources["gefs"]["wind_speed_10m"].sel(station="lang").squeeze()
    assert speed.values.tolist() == [5.0, 3.0]
    assert speed.attrs["units"] == "m s-1"


def test_what_is_delivered_is_not_derived_again() -> None:
    fields = derive(
        run([3], step=3, wind_u_10m=3.0, wind_v_10m=4.0, wind_speed_10m=7.0, precipitation_surface=1e-3, precipitation_amount=1.0)
    )
    assert set(fields["wind_speed_10m"].values.ravel()) == {7.0}
    assert set(fields["precipitation_amount"].values.ravel()) == {1.0}


def test_unknown_variables_are_left_where_they_are(archive: Archive) -> None:
    archive.add("gefs", run([0], temperature_2m=1.0, soil_temperature_level_7=2.0))
    inputs = archive.gather("gefs")
    assert inputs.variables == ("temperature_2m",)
    assert "soil_temperature_level_7" not in inputs.stations.sources["gefs"]
    assert "soil_temperature_level_7" not in inputs.grid.sources["gefs"]


def test_a_variable_without_a_value_at_any_lead_is_not_offered(archive: Archive) -> None:
    archive.add("gefs", run([0, 3], temperature_2m=1.0, visibility=np.nan))
    assert archive.gather("gefs").variables == ("temperature_2m",)


def test_a_run_without_members_is_one_member(archive: Archive) -> None:
    archive.add("gfs", run([0, 3], members=1, temperature_2m=1.0).isel(ensemble_member=0, drop=True))
    assert archive.gather("gfs").stations.sources["gfs"].sizes["ensemble_member"] == 1


def test_members_stay_apart_and_sources_keep_their_own_number(archive: Archive) -> None:
    fields = run([0], members=3, temperature_2m=0.0)
    fields["temperature_2m"] += fields["ensemble_member"]
    archive.add("gefs", fields)
    archive.add("gfs", run([0], members=1, temperature_2m=9.0))
    sources = archive.gather("gefs", "gfs").stations.sources
    assert sources["gefs"]["temperature_2m"].sel(station="lang").values.ravel().tolist() == [0, 1, 2]
    assert sources["gfs"].sizes["ensemble_member"] == 1
