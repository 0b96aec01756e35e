"""Coupling, realizations, reliability and blending against IMPROVER's known good outputs.

Where the method is the same the answers agree within the 1e-4 that IMPROVER's tests allow, mostly to float32. Where it differs, the
test says how and bounds it. Not compared: metadata, and the marginals of ``transformation_kgo.nc``, made with options that the data do
not tell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import distance_transform_edt

from models.couple import couple, members_template, reorder
from models.distributions import Normal, QuantileGrid
from models.mixture import mixture
from models.scores import brier_decomposition_binned, crps_ensemble, reliability_diagram
from tests.models.improver import parameters, read


@pytest.fixture(scope="module")
def data(real_data: Path) -> Path:
    return real_data / "improver"


def untied(template: np.ndarray) -> np.ndarray:
    """Columns of a template (M, ...) in which no two members are equal."""
    return np.asarray((np.diff(np.sort(template, axis=0), axis=0) > 0).all(axis=0))


# ------------------------------------------------------------------------------------------------- ensemble copula coupling

ORDERED = [
    ("apply-emos-coefficients/normal/kgo.nc", "apply-emos-coefficients/normal/input.nc"),
    ("apply-emos-coefficients/realizations/realizations_kgo.nc", "apply-emos-coefficients/normal/input.nc"),
    ("generate-realizations/probabilities_reordering/kgo.nc", "generate-realizations/probabilities_reordering/raw_ens.nc"),
    (
        "generate-realizations/probabilities_reordering/transformation_kgo.nc",
        "generate-realizations/probabilities_reordering/raw_ens_precip_rate_scotland.nc",
    ),
]


@pytest.mark.parametrize(("kgo", "raw"), ORDERED)
def test_members_take_the_order_of_the_raw_ensemble(data: Path, kgo: str, raw: str) -> None:
    """Their marginals in the order of the raw ensemble are their members: exactly, at every point where no raw members are equal."""
    known, template = read(data / kgo).values, read(data / raw).values
    free = untied(template)
    assert 0.5 < free.mean() < 1.0
    np.testing.assert_array_equal(reorder(np.sort(known, axis=0), template)[:, free], known[:, free])


@pytest.mark.parametrize(("kgo", "raw"), ORDERED[:3])
def test_ties_broken_by_their_random_numbers_are_broken_as_theirs(data: Path, kgo: str, raw: str) -> None:
    """They break ties by white noise (seed 0): given the same numbers as the latent, every member agrees, tied or not.

    Ours is a noise correlated in space and time instead, so at ties our members are others; see the next test.
    """
    known, template = read(data / kgo).values, read(data / raw).values
    noise = np.random.RandomState(0).rand(*template.shape)
    np.testing.assert_array_equal(reorder(np.sort(known, axis=0), template, noise.astype(np.float32)), known)


@pytest.mark.parametrize(("kgo", "raw"), ORDERED[:3:2])
def test_couple_differs_from_theirs_at_ties_only(data: Path, kgo: str, raw: str) -> None:
    """The whole coupling: their marginals given as our quantiles come back as their members, but for who is who among equals.

    At a tie too the marginals are kept and no other pair of members changes places: where two raw members differ, so do ours, alike.
    """
    known, template = read(data / kgo).values, read(data / raw).values
    members, height, width = known.shape
    place = {"latitude": np.arange(height) * -0.02 + 60.0, "longitude": np.arange(width) * 0.02}
    dims = ("lead_time", "latitude", "longitude")
    frame = {
        "init_time": np.datetime64("2017-06-05T03", "ns"),
        "lead_time": np.array([12], dtype="timedelta64[h]").astype("m8[ns]"),
        **place,
    }
    marginals = np.moveaxis(np.sort(known, axis=0), 0, -1)[None]
    levels = (np.arange(members) + 0.5) / members
    quantiles = xr.Dataset({"temperature_2m": ((*dims, "quantile"), marginals)}, coords={**frame, "quantile": levels})
    source = xr.Dataset({"temperature_2m": ((*dims, "ensemble_member"), np.moveaxis(template, 0, -1)[None])}, coords=frame)
    found = couple(quantiles, members_template({"raw": source}, members), members)["temperature_2m"]
    # a template orders the members of a source by their basin mean
    by_mean = np.argsort(template.reshape(members, -1).mean(axis=1), kind="stable")
    ours = found.isel(lead_time=0).transpose("ensemble_member", ...).values
    free = untied(template)
    np.testing.assert_array_equal(ours[:, free], known[by_mean][:, free])
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(known, axis=0))
    given = template[by_mean]
    for first in range(members):
        below = given[first] < given
        assert not (below & (ours[first] > ours)).any()
    assert (ours != known[by_mean]).any()


def test_recycled_members_with_ties_by_realization(data: Path) -> None:
    """Twelve realizations of rain from a template of three, each used four times, ties given to the earlier member: exactly theirs.

    That is our order without a latent. With their random numbers as the latent, the KGO with random ties is met as exactly. (Our
    product instead jitters a member used again, see ``members_template``: nothing in the weather tells the four copies apart.)
    """
    folder = data / "generate-realizations/percentiles_reordering"
    percentiles = read(folder / "multiple_percentiles_precip_cube.nc")
    values = resampled(percentiles, 12)
    template = read(folder / "raw_precip_forecast.nc").values[np.arange(12) % 3]
    assert not untied(template).any()
    noise = np.random.RandomState(0).rand(*template.shape)
    for kgo, latent in (("realization", None), ("random", noise.astype(np.float32))):
        known = read(folder / f"tie_break_with_{kgo}_kgo.nc").values
        np.testing.assert_allclose(reorder(values, template, latent), known, rtol=1e-6, atol=1e-9)  # metres of rain, to 7e-3


def test_our_levels_have_the_lower_crps(data: Path) -> None:
    """They cut a distribution at m / (M + 1), we at (m + 0.5) / M: the members of the least expected CRPS (Broecker 2012).

    Shown on the calibrated normals of the KGO: observations drawn evenly from each are scored against both sets of twelve. Theirs
    are quantiles of the same distributions, drawn in: twelve of theirs span 0.82 of ours, and score 0.5 % worse.
    """
    folder = data / "apply-emos-coefficients/normal"
    location, scale = (t[::20, ::20] for t in parameters(folder / "normal_coefficients.nc", read(folder / "input.nc").values))
    calibrated = Normal(location, scale)

    def at(levels: np.ndarray) -> np.ndarray:
        return calibrated.quantile(torch.tensor(levels)[:, None, None]).numpy()

    theirs, ours = at(np.arange(1, 13) / 13.0), at((np.arange(12) + 0.5) / 12.0)
    np.testing.assert_allclose(theirs, np.sort(read(folder / "kgo.nc").values, axis=0)[:, ::20, ::20], rtol=0.0, atol=1e-3)
    truth = at((np.arange(400) + 0.5) / 400.0)
    scores = [np.mean(crps_ensemble(np.broadcast_to(np.moveaxis(m, 0, -1), (*truth.shape, 12)), truth)) for m in (theirs, ours)]
    assert scores[1] < 0.997 * scores[0]
    np.testing.assert_allclose((theirs[-1] - theirs[0]) / (ours[-1] - ours[0]), 0.8235, atol=1e-4)


# --------------------------------------------------------------------------------------- percentiles and probabilities to members


def resampled(percentiles: xr.DataArray, size: int, bounds: tuple[float, float] | None = None) -> np.ndarray:
    """Our quantile form at m / (size + 1), (size, ...); with bounds, these are the quantiles at 0 and 1."""
    values = np.moveaxis(percentiles.transpose("percentile", ...).values, 0, -1)
    levels = percentiles["percentile"].values.astype(float) / 100.0
    if bounds is not None:
        ends = [np.full((*values.shape[:-1], 1), bound) for bound in bounds]
        values, levels = np.concatenate([ends[0], values, ends[1]], axis=-1), np.concatenate([[0.0], levels, [1.0]])
    asked = torch.arange(1, size + 1, dtype=torch.float64) / (size + 1)
    found = QuantileGrid(torch.tensor(values), torch.tensor(levels)).quantile(asked.reshape(-1, *[1] * (values.ndim - 1)))
    return found.numpy()


WIND = (0.0, 50.0)  # m/s, IMPROVER's bounds of the distribution of wind speed


@pytest.mark.parametrize(
    ("forecast", "kgo", "bounds", "outside"),
    [
        ("percentiles_rebadging/multiple_percentiles_wind_cube.nc", "percentiles_rebadging/kgo.nc", WIND, 2),
        ("percentiles_extremes/few_percentiles_wind_cube.nc", "percentiles_extremes/with_ecc_bounds_kgo.nc", WIND, 2),
        ("percentiles_extremes/few_percentiles_wind_cube.nc", "percentiles_extremes/without_ecc_bounds_kgo.nc", None, 0),
        ("ecc_bounds_warning/multiple_percentiles_wind_cube_out_of_bounds.nc", "ecc_bounds_warning/kgo.nc", (0.0, 300.0), 1),
    ],
)
def test_members_from_percentiles(data: Path, forecast: str, kgo: str, bounds: tuple[float, float] | None, outside: int) -> None:
    """Linear between percentiles, both; beyond the first and the last they go on to fixed bounds, we stay (as they do when told).

    With their bounds as the quantiles at 0 and 1 ours are theirs everywhere. Without, all but the outermost members agree, and those
    are within the percentiles given, where theirs are not. (Our levels reach to 0.001 and 0.999 and a tail is fitted beyond:
    interpolating to 50 m/s from the 68th percentile is not a forecast.)
    """
    folder = data / "generate-realizations"
    percentiles, known = read(folder / forecast), read(folder / kgo).values
    if bounds is not None and percentiles.values.max() > bounds[1]:
        pytest.fail("the bounds have to hold the percentiles")
    np.testing.assert_allclose(resampled(percentiles, len(known), bounds), known, rtol=1e-6, atol=1e-5)
    plain = resampled(percentiles, len(known))
    given = percentiles.transpose("percentile", ...).values
    levels = np.arange(1, len(known) + 1) / (len(known) + 1.0)
    beyond = (levels < percentiles["percentile"].values[0] / 100.0 - 1e-6) | (levels > percentiles["percentile"].values[-1] / 100.0 + 1e-6)
    np.testing.assert_allclose(plain[~beyond], known[~beyond], rtol=1e-6, atol=1e-5)
    assert (plain >= given[0]).all()
    assert (plain <= given[-1]).all()
    if bounds is not None:
        assert beyond.sum() == outside
        assert ((known < given[0] - 1e-3) | (known > given[-1] + 1e-3))[beyond].mean() > 0.9


@pytest.mark.parametrize(
    ("folder", "kgo", "bounds"),
    [
        ("probabilities_12_realizations", "kgo.nc", (0.0, 1e5)),  # visibility, m
        ("probabilities_reordering", "kgo.nc", (173.15, 333.15)),  # temperature, K
        ("skip_ecc_bounds_probabilities", "with_ecc_bounds_kgo.nc", (0.0, 200.0)),  # gusts, m/s
        ("skip_ecc_bounds_probabilities", "without_ecc_bounds_kgo.nc", None),
    ],
)
def test_members_from_probabilities(data: Path, folder: str, kgo: str, bounds: tuple[float, float] | None) -> None:
    """A CDF known at thresholds is our quantile form with thresholds for quantiles: the same inverse, point by point.

    Their CDF is linear between thresholds and from and to the bounds, or without them held at the outermost thresholds, as ours.
    """
    probability = read(data / "generate-realizations" / folder / "input.nc").transpose("threshold", ...)
    known = np.sort(read(data / "generate-realizations" / folder / kgo).values, axis=0)  # reordered in one case
    with xr.open_dataset(data / "generate-realizations" / folder / "input.nc", decode_times=False) as file:
        above = "greater" in file["threshold"].attrs["spp__relative_to_threshold"]
    cdf = (1.0 - probability.values if above else probability.values).reshape(probability.sizes["threshold"], -1)
    thresholds = probability["threshold"].values.astype(float)
    if bounds is not None:
        cdf = np.concatenate([np.zeros_like(cdf[:1]), cdf, np.ones_like(cdf[:1])])
        thresholds = np.concatenate([bounds[:1], thresholds, bounds[1:]])
    size = len(known)
    asked = torch.arange(1, size + 1, dtype=torch.float64) / (size + 1)
    points = np.arange(0, cdf.shape[1], max(1, cdf.shape[1] // 250))
    steps = 1e-10 * np.arange(len(thresholds))  # levels have to ascend where no probability lies between thresholds
    found = [QuantileGrid(torch.tensor(thresholds), torch.tensor(cdf[:, i] + steps)).quantile(asked).numpy() for i in points]
    np.testing.assert_allclose(np.stack(found, axis=1), known.reshape(size, -1)[:, points], rtol=1e-5, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------- reliability

OBSERVED, PROBABILITY, COUNT = range(3)  # rows of their table: observations, sum of probabilities, forecasts, by bin


@pytest.mark.parametrize("kgo", ["kgo_aggregated.nc", "kgo_without_single_value_bins.nc", "kgo_single_value_bins.nc"])
@pytest.mark.parametrize("threshold", [0, 1])
def test_reliability_tables_tell_the_same(data: Path, kgo: str, threshold: int) -> None:
    """Five bins of probability hold the same counts; from their table follow our reliability and resolution to 1e-7.

    Our diagram is not binned (CORP: each probability given stands for itself, frequencies isotonic). Here every bin holds one
    probability and frequencies ascend, so its counts and frequencies are the table's. The bins that are single values, 0 and 1,
    hold the same forecasts too, as none of these is within 0.2 of them but not at them.
    """
    folder = data / "construct-reliability-tables/basic"
    probability, event = (
        np.stack([read(folder / f"{name}_{day}.nc").values[threshold] for day in (0, 1)]).ravel() for name in ("forecast", "truth")
    )
    table = read(folder / kgo, "reliability_calibration_table").values[threshold]
    table = table.reshape(3, 5, -1).sum(axis=-1)
    used = table[COUNT] > 0
    given, frequency, share = table[PROBABILITY][used], table[OBSERVED][used], table[COUNT][used] / table[COUNT].sum()
    given, frequency = given / table[COUNT][used], frequency / table[COUNT][used]
    found = brier_decomposition_binned(probability, event, bins=5)
    assert found.miscalibration == pytest.approx(share @ (given - frequency) ** 2, abs=1e-7)
    assert found.discrimination == pytest.approx(share @ (frequency - event.mean()) ** 2, abs=1e-7)
    diagram = reliability_diagram(probability, event, seed=0)
    np.testing.assert_array_equal(diagram.count, table[COUNT][used])
    np.testing.assert_allclose(diagram.probability, given, atol=1e-7)
    np.testing.assert_allclose(diagram.frequency, frequency, atol=1e-7)


@pytest.mark.parametrize("threshold", [0, 1])
def test_their_calibrated_probabilities_follow_our_reliability_curve(data: Path, threshold: int) -> None:
    """A probability is calibrated by reading the curve of observed frequencies at it, linearly between the bins' mean probabilities.

    We calibrate the whole distribution rather than each threshold, so there is no such step; but the curve is the same. A tenth
    of the 14 million cases of their table gives our frequencies, and their calibrated probabilities lie on the line through these
    within 1e-4 (rounding to whole cases moves a frequency by 3e-5). Beyond the outer bins they extrapolate and we hold; these stand at
    0 and 1 to 1e-7, so that no probability is there.
    """
    folder = data / "apply-reliability-calibration/basic"
    table = read(folder / "collapsed_table.nc").values[threshold]
    with xr.open_dataset(folder / "cubelist_table.nc", decode_times=False) as same:
        name = "reliability_calibration_table" + ("" if threshold == 0 else "_0")
        np.testing.assert_array_equal(same[name].values, table)
    count = np.round(table[COUNT] / 10.0).astype(int)
    events = np.round(count * table[OBSERVED] / table[COUNT]).astype(int)
    happened = np.concatenate([np.arange(n) < k for n, k in zip(count, events, strict=True)]).astype(float)
    curve = reliability_diagram(np.repeat(table[PROBABILITY] / table[COUNT], count), happened, seed=0, resamples=2)
    assert len(curve.probability) == 5
    forecast, known = (read(folder / f"{name}.nc").values[threshold] for name in ("forecast", "kgo"))
    assert forecast.min() < 0.01
    assert forecast.max() > 0.99
    np.testing.assert_allclose(np.interp(forecast, curve.probability, curve.frequency), known, rtol=0.0, atol=1e-4)
    # with a table for each point, all nine alike
    folder = folder.parent / "point_by_point"
    forecast, known = (read(folder / f"{name}_point_by_point.nc").values[threshold] for name in ("forecast", "kgo"))
    np.testing.assert_allclose(np.interp(forecast, curve.probability, curve.frequency), known, rtol=0.0, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------------- blending


def check_blend(forecasts: list[np.ndarray], weights: np.ndarray, known: np.ndarray, points: int = 100) -> None:
    """Blended chances of exceeding thresholds, from our mixture of quantiles, against theirs.

    A mixture does not depend on the scale of the variable, so threshold t stands at t, and each forecast's CDF is a line between
    thresholds. Its quantile form has a level at every probability of any forecast and of the KGO, so that nothing is lost between
    levels but what the mixture itself loses. All CDFs, the KGO's too, are first mixed with one and the same straight line (which
    commutes with blending), so that they rise everywhere and a level has one quantile.

    Args:
        forecasts: K arrays (threshold, place) of probabilities to exceed; NaN where masked.
        weights: (K,) or (place, K).
        known: (threshold, place).
        points: How many of the places are looked at, evenly.
    """
    thresholds = np.arange(len(known), dtype=float)
    edges = np.concatenate([[-1.0], thresholds, [len(known)]])
    line = 0.01 * np.arange(len(edges))
    for place in range(0, known.shape[1], max(1, known.shape[1] // points)):
        rows = np.stack([f[:, place] for f in (*forecasts, known)])
        cdf = np.pad(1.0 - np.clip(rows, 0.0, 1.0), ((0, 0), (1, 1)), constant_values=(0.0, 1.0))  # (K + 1, threshold + 2)
        cdf = (cdf + line) / (1.0 + line[-1])
        there = np.isfinite(cdf).all(axis=1)
        assert there[-1] == there[:-1].any(), f"place {place}: the KGO is missing, or should be"
        if not there.any():
            continue
        levels = np.unique(cdf[there])
        quantiles = [np.interp(levels, row, edges) if here else np.full(len(levels), np.nan) for row, here in zip(cdf, there, strict=True)]
        blended = mixture(quantiles[:-1], weights if weights.ndim == 1 else weights[place], levels)
        found = QuantileGrid(torch.tensor(blended), torch.tensor(levels)).cdf(torch.tensor(thresholds))
        np.testing.assert_allclose(found.numpy(), cdf[-1, 1:-1], rtol=0.0, atol=1e-4, err_msg=f"place {place}")


def chances(path: Path) -> np.ndarray:
    """(threshold, place)."""
    field = read(path)
    return field.values.reshape(field.shape[0], -1)


RAIN_CYCLES = [f"basic_lin/multiple_probabilities_rain_{hours}H.nc" for hours in (3, 2, 1)]  # the oldest first
MODELS = ["model/ukv_input.nc", "model/enuk_input.nc"]
NOWCASTS = [f"spatial_weights/nowcast_data/20181129T1000Z-PT000{h}H00M-lwe_precipitation_rate.nc" for h in (2, 3, 4)]
UKVX = "spatial_weights/ukvx_data/20181129T1000Z-PT0002H00M-lwe_precipitation_rate.nc"
THREE = [
    "three_models/nc/20190101T0400Z-PT0001H00M-precip_rate.nc",
    "three_models/ukvx/20190101T0400Z-PT0002H00M-precip_rate.nc",
    "three_models/enukxhrly/20190101T0400Z-PT0004H00M-precip_rate.nc",
]


@pytest.mark.parametrize(
    ("forecasts", "weights", "kgo"),
    [
        (RAIN_CYCLES, [20.0, 11.0, 2.0], "basic_lin/kgo.nc"),  # y0val 20, ynval 2
        (RAIN_CYCLES, [1.0, 0.85, 0.85**2], "basic_nonlin/kgo.nc"),  # cval 0.85
        (["cycletime/input_temperature_0.nc", "cycletime/input_temperature_1.nc"], [1.0, 4.0], "cycletime/kgo_specified_frt.nc"),
        (["cycletime/input_temperature_0.nc"], [1.0], "cycletime/kgo_single_input.nc"),
        (MODELS, [1.0, 1.0], "model/kgo.nc"),
        (["non_mo_model/non_mo_det.nc", "non_mo_model/non_mo_ens.nc"], [1.0, 1.0], "non_mo_model/kgo.nc"),
        (["model_spot/engl_input.nc", "model_spot/enuk_input.nc"], [1.0, 1.0], "model_spot/kgo.nc"),
        (["accum_cycle_blend/ukv_prob_accum_PT3H.nc", "accum_cycle_blend/ukv_prob_accum_PT4H.nc"], [1.0, 1.0], "accum_cycle_blend/kgo.nc"),
        (MODELS, [0.25, 0.75], "weights_from_dict/kgo.nc"),  # blending_weights.json at five hours
        (NOWCASTS, [1.0, 1.0, 1.0], "spatial_weights/kgo/cycle_no_fuzzy.nc"),
        ([NOWCASTS[0], UKVX], [1.0, 1.0], "spatial_weights/kgo/model_no_fuzzy.nc"),
    ],
)
def test_blended_probabilities(data: Path, forecasts: list[str], weights: list[float], kgo: str) -> None:
    """The weighted mean of probabilities is the CDF of our mixture, within 1e-4, the tolerance of their tests.

    The last two have masked places: a forecast that is not there takes no part and the other weights are scaled up, in both; where
    none is there, the blend is missing.
    """
    folder = data / "weighted_blending"
    check_blend([chances(folder / name) for name in forecasts], np.array(weights), chances(folder / kgo))


def test_blended_realizations(data: Path) -> None:
    """Probabilities of three members, each a forecast of its own, with equal weights."""
    folder = data / "weighted_blending/realizations"
    members = read(folder / "input.nc").transpose("realization", "threshold", ...)
    check_blend(list(members.values.reshape(3, 3, -1)), np.ones(3), chances(folder / "kgo.nc"))


def tapered(there: np.ndarray, weights: np.ndarray, length: float = 10.0) -> np.ndarray:
    """Their weights near the edge of what a forecast covers, (K, y, x): lowered in proportion to the distance up to ``length`` cells.

    What the lowered ones lose goes to the others in proportion; see SpatiallyVaryingWeightsFromMask of IMPROVER.
    """
    share = np.where(there, weights[:, None, None], 0.0)
    share = share / np.maximum(share.sum(axis=0), 1e-12)
    near = np.stack([np.ones(t.shape) if t.all() else np.minimum(distance_transform_edt(t) / length, 1.0) for t in there])
    lowered = share * near
    moved = lowered != share
    kept = np.where(moved, 0.0, lowered)
    rest = 1.0 - np.where(moved, lowered, 0.0).sum(axis=0)
    total = kept.sum(axis=0)
    return np.where(moved, lowered, kept * np.where(total > 0, rest / np.where(total > 0, total, 1.0), 0.0))


@pytest.mark.parametrize(
    ("forecasts", "weights", "kgo"),
    [
        (NOWCASTS, [1.0, 1.0, 1.0], "spatial_weights/kgo/cycle.nc"),
        ([NOWCASTS[0], UKVX], [1.0, 1.0], "spatial_weights/kgo/model.nc"),
        # weights of blending_weights.json at a lead of one hour
        (THREE, [0.8, 0.05004, 0.15012], "three_models/kgo.nc"),
    ],
)
def test_blended_probabilities_with_weights_of_each_place(data: Path, forecasts: list[str], weights: list[float], kgo: str) -> None:
    """They taper a forecast's weight over ten cells to the edge of its area; we don't, but the mixture takes weights of each place.

    With theirs the blend is theirs. Without, it is another within ten cells of an edge, and there only.
    """
    folder = data / "weighted_blending"
    fields = [read(folder / name).values for name in forecasts]
    there = np.stack([np.isfinite(f).all(axis=0) for f in fields])
    share = tapered(there, np.array(weights))
    known = read(folder / kgo).values
    flat = [f.reshape(len(f), -1) for f in fields]
    check_blend(flat, share.reshape(len(share), -1).T, known.reshape(len(known), -1))
    inner = np.stack([t.all() | (distance_transform_edt(t) >= 10.0) | ~t for t in there]).all(axis=0)
    check_blend(
        [f.reshape(len(f), -1)[:, inner.ravel()] for f in fields], np.array(weights), known.reshape(len(known), -1)[:, inner.ravel()]
    )
    with pytest.raises(AssertionError, match="place"):
        check_blend(flat, np.array(weights), known.reshape(len(known), -1))


@pytest.mark.parametrize(
    ("forecasts", "weights", "kgo"),
    [
        (None, [1.0, 1.0], "percentiles/kgo.nc"),
        (["ukv_input.nc", "enuk_input.nc"], [0.25, 0.75], "percentile_weights_from_dict/kgo.nc"),
    ],
)
def test_blended_percentiles(data: Path, forecasts: list[str] | None, weights: list[float], kgo: str) -> None:
    """Percentiles are blended as CDFs in both, and inverted exactly: within 2e-5 K at every point, the spacing of float32 at 290 K.

    (The mean of the quantiles, which is another blend, is more than a kelvin off at some.)
    """
    path = data / "weighted_blending" / kgo
    if forecasts is None:
        both = read(path.parent / "input.nc").transpose("forecast_reference_time", ..., "percentile").values
    else:
        both = np.stack([read(path.parent / name).transpose(..., "percentile").values for name in forecasts])
    known = read(path).transpose(..., "percentile")
    found = mixture(list(both), np.array(weights), known["percentile"].values / 100.0)
    np.testing.assert_allclose(found, known.values, rtol=0.0, atol=4e-5)
    share = np.array(weights) / sum(weights)
    assert np.abs(np.tensordot(share, both, axes=1) - known.values).max() > 1.0
