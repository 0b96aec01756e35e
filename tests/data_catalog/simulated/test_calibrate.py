from __future__ import annotations

import numpy as np
import pytest

from data_catalog.simulated import calibrate, rain
from data_catalog.simulated.climate import Climate


@pytest.mark.slow
def test_fewer_wanted_days_raise_thresholds_and_totals_stay_wanted(climate: Climate, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = calibrate.WET_DAYS
    found = []
    for factor in (0.5, 2.0):
        monkeypatch.setattr(calibrate, "WET_DAYS", factor * wanted)
        found.append(calibrate.tables(climate, seeds=(1,), years=2, steps=3))
    few, many = found
    assert (np.array(few.threshold) > many.threshold).all()
    assert np.sum(np.array(few.scale) > many.scale) >= 8, "fewer days, each with more"
    assert few.drizzle[4:] == rain.DRIZZLE_THRESHOLD[4:], "only late winter's drizzle is fitted"
