"""Published figures reproduced with our engine: censored regression of three-day rain at Innsbruck.

References:
    Messner, Mayr and Zeileis (2016), Heteroscedastic censored and truncated regression with crch, The R Journal 8(1).
    Jordan, Krüger and Lerch (2019), Evaluating probabilistic forecasts with scoringRules, J. Statistical Software 90(12), section 4.1.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import xarray as xr

from models.distributions.bounded import Censored
from models.distributions.symmetric import Logistic, Normal
from models.scores import crps_ensemble
from models.statistical.fisher import Fit, fit_location_scale

pytestmark = pytest.mark.real_data


class Rain(NamedTuple):
    time: np.ndarray
    y: np.ndarray  # square root of millimetres
    members: np.ndarray
    X: np.ndarray
    Z: np.ndarray


@pytest.fixture(scope="module")
def rain(real_data: Path) -> Rain:
    folder = real_data / "pairs" / "innsbruck_rain_3day"
    forecasts = xr.open_dataset(folder / "gefs.nc", decode_timedelta=True)
    observations = xr.open_dataset(folder / "observations.nc")
    with forecasts, observations:
        time = (forecasts["init_time"] + forecasts["lead_time"]).values[:, 0]
        y = np.sqrt(observations["precipitation_amount"].sel(time=time).values[:, 0].astype(float))
        members = np.sqrt(forecasts["precipitation_amount"].values[:, 0, 0].astype(float))
    spread = members.std(axis=1, ddof=1)
    keep = spread > 0
    one = np.ones(keep.sum())
    X = np.stack([one, members[keep].mean(axis=1)], axis=1)
    Z = np.stack([one, np.log(spread[keep])], axis=1)
    return Rain(time[keep], y[keep], members[keep], X, Z)


def fit(rain: Rain, cut: np.ndarray, family: str) -> Fit:
    y, X, Z = (torch.as_tensor(a[cut])[None] for a in (rain.y, rain.X, rain.Z))
    return fit_location_scale(y, X, Z, family=family, lower=0.0, iterations=100, tolerance=1e-10)  # type: ignore[arg-type]


def test_coefficients_and_likelihood_of_the_censored_logistic_regression(rain: Rain):
    found = fit(rain, np.ones(len(rain.y), dtype=bool), "logistic")
    assert bool(found.converged.all())
    log_likelihood = -float(found.loss[0])
    assert round(log_likelihood) == -8921
    assert round(2 * 4 - 2 * log_likelihood) == 17850
    assert round(float(found.location[0, 1]), 4) == 0.7869
    assert [round(float(c), 4) for c in found.log_scale[0]] == [0.1174, 0.2705]


@pytest.mark.parametrize(("family", "kind", "published"), [("logistic", Logistic, 0.875), ("normal", Normal, 0.876)])
def test_score_after_the_split(rain: Rain, family: str, kind: type, published: float):
    found = fit(rain, rain.time < np.datetime64("2004-12-01"), family)
    test = rain.time >= np.datetime64("2005-01-01")
    location = torch.as_tensor(rain.X[test]) @ found.location[0]
    scale = torch.exp(torch.as_tensor(rain.Z[test]) @ found.log_scale[0])
    crps = Censored(kind(location, scale), lower=0.0).crps(torch.as_tensor(rain.y[test]))
    assert round(float(crps.mean()), 3) == published


def test_score_of_the_raw_ensemble(rain: Rain):
    test = rain.time >= np.datetime64("2005-01-01")
    assert round(float(crps_ensemble(rain.members[test], rain.y[test]).mean()), 3) == 1.321
