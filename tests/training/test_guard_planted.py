"""The greatest typhoons and stalled rains of the simulated atmosphere, left out of training: the tail guard keeps its promise."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from data_catalog.regions import load_region
from data_catalog.simulated import measure
from data_catalog.simulated.climate import Climate, hours_since_1970
from data_catalog.simulated.events import STALL, TYPHOON
from data_catalog.simulated.slots import ONSET, SIZE, Kind
from data_catalog.simulated.truth import Truth
from data_catalog.simulated.world import CENTRES
from models.base import Inputs, Pairs
from models.couple import couple
from training.ensemble import blend_learned, fit_forecasters, predict_all
from training.guard import HALF, HEAVY, RAIN, guard, lift_heavy_rain, pooled, ranges_of
from training.learning import learn_weights

LEADS = (24, 48)
ORDINARY = 50.0  # kg m-2: days with more in any member are left out of training
IDS = [f"emos_{name}" for name in CENTRES]


@pytest.fixture(scope="module")
def climate() -> Climate:
    return Climate.of(load_region())


def sources_of(found: measure.Hindcasts, inits: np.ndarray) -> tuple[dict[str, xr.Dataset], xr.Dataset]:
    """The centres at one gauge, and what came."""
    leads = np.array(LEADS, dtype="timedelta64[h]").astype("timedelta64[ns]")
    bounds = (("lead_time", "bounds"), np.stack([leads - np.timedelta64(24, "h"), leads], axis=1))
    coords = {"init_time": inits, "lead_time": leads, "station": ["one"], "lead_time_bounds": bounds}
    place = {"latitude": ("station", [21.02]), "longitude": ("station", [105.8])}
    dims = ("init_time", "lead_time", "station", "ensemble_member")
    members = {n: xr.Dataset({RAIN: (dims, found.rain[n][:, :, None].astype(np.float32))}, coords | place) for n in CENTRES}
    return members, xr.Dataset({RAIN: (dims[:3], found.observed_rain[..., None])}, coords | place)


@pytest.fixture(scope="module")
def ordinary(climate: Climate) -> Pairs:
    """Summer days on which nobody forecast or saw much rain."""
    inits = np.arange("2017-06-01", "2018-10-01", 10, dtype="datetime64[D]").astype("datetime64[ns]")
    found = measure.hindcasts(climate, 1, CENTRES, inits, LEADS, members=6)
    most = np.maximum(found.rain[measure.POOL].max(axis=(1, 2)), found.observed_rain.max(axis=1))
    sources, observed = sources_of(found, inits)
    quiet = np.flatnonzero(most < ORDINARY)
    return Pairs({n: s.isel(init_time=quiet) for n, s in sources.items()}, None, (RAIN,), None, observed.isel(init_time=quiet))


@pytest.mark.parametrize("kind", [TYPHOON, STALL], ids=["typhoon", "stall"])
def test_planted_extremes_are_not_argued_away(climate: Climate, ordinary: Pairs, kind: Kind) -> None:
    truth = Truth(climate, 1)
    first, last = (float(hours_since_1970(np.datetime64(day))) for day in ("2012-01-01", "2026-01-01"))
    drawn = [truth.event(kind, slot)[0] for slot in kind.slots(np.array([first, last]))]
    greatest = sorted((one for one in drawn if one[SIZE] > 0 and first <= one[ONSET] < last), key=lambda one: -one[SIZE])[:6]
    inits = np.unique([np.datetime64(int(one[ONSET] - 18), "h").astype("datetime64[D]").astype("datetime64[ns]") for one in greatest])
    sources, _ = sources_of(measure.hindcasts(climate, 1, CENTRES, inits, LEADS, members=6), inits)
    fitted, skipped = fit_forecasters(IDS, ordinary)
    assert not skipped
    states = learn_weights(None, IDS, IDS, (RAIN,), inits[0]).states
    seen, beyond = ranges_of(ordinary), 0
    for i in range(len(inits)):
        inputs = Inputs({n: s.isel(init_time=[i]) for n, s in sources.items()}, None, (RAIN,))
        plain = blend_learned(predict_all(fitted, inputs), states).quantiles
        quantiles = guard(plain, inputs, seen)
        raw = pooled(inputs, RAIN)
        assert raw is not None
        assert (quantiles[RAIN].values[..., -1] >= np.where(raw.max(axis=-1) > 2 * ORDINARY, raw.max(axis=-1), 0.0) - 1e-3).all()
        beyond += int((raw > 2 * ORDINARY).any())
        template = xr.Dataset({RAIN: (("lead_time", "station", "ensemble_member"), raw[0])}, coords=inputs.frame.isel(init_time=0).coords)
        members = couple(quantiles.isel(init_time=0), template, raw.shape[-1])
        lifted = lift_heavy_rain(quantiles, members, inputs, template)
        calibrated = (lifted.members[RAIN].values > HEAVY).sum(axis=-1)
        assert (calibrated >= np.floor(HALF * (raw[0] > HEAVY).sum(axis=-1))).all() or "even with the raw" in lifted.reasons[-1]
    assert beyond > 0, "no planted case went beyond the range of training"
