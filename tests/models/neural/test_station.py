"""drn, bqn and shortrange: what they are before training, what they learn, and that their distributions are distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import LEVELS, ForecasterError, Inputs, Pairs
from models.distributions import censored_shifted_gamma
from models.neural.bqn import Bernstein, bernstein
from models.neural.drn import Drn, LocationScale
from models.neural.shifted_gamma import ShiftedGamma, nearest
from models.neural.shortrange import ShortRange
from models.neural.station import Head, StationForecaster
from models.neural.trainer import Epoch, Hooks
from models.registry import build
from models.scores.crps import crps_quantiles
from models.statistical.csgd import csgd_quantiles
from models.statistical.shared import Shape
from tests.models.contract import cycles, same, training
from tests.models.statistical.worlds import crps, ensemble, part

SHAPES = {
    "logistic": Shape("logistic"),
    "wind": Shape("normal", "truncated", 0.0, None),
    "humidity": Shape("normal", "truncated", 0.0, 100.0),
    "cloud": Shape("normal", "censored", 0.0, 100.0),
    "rain": Shape("logistic", "censored", 0.0, None, 0.5),
}


RAIN = SHAPES["rain"]


def heads(shape: Shape) -> tuple[Head, ...]:
    return (LocationScale(shape), Bernstein(shape), *([ShiftedGamma(shape)] if shape == RAIN else []))


def t(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("forecaster_id", ["drn", "bqn"])
def test_untrained_it_is_the_joint_emos(forecaster_id: str):
    found = build(forecaster_id, epochs=0).fit(training()).predict(cycles())
    base = build("emos").fit(training()).predict(cycles())
    assert set(found.data_vars) == set(base.data_vars)
    for name in base.data_vars:
        np.testing.assert_allclose(found[name].values, base[name].values, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("forecaster_id", ["drn", "bqn"])
def test_it_learns_from_another_variable_what_the_emos_cannot(forecaster_id: str):
    pairs = ensemble(days=660, stations=3, leads=[24], seed=5)
    rng = np.random.default_rng(6)
    cloud = rng.uniform(0.0, 100.0, size=pairs.observed["temperature_2m"].shape)
    observed = pairs.observed.assign(temperature_2m=pairs.observed["temperature_2m"] - 4.0 * np.abs(cloud / 100.0 - 0.5) * (cloud < 50))
    cover = pairs.observed["temperature_2m"].copy(data=cloud).expand_dims(ensemble_member=1, axis=-1)
    source = pairs.sources["x"].drop_vars("ensemble_member", errors="ignore")
    sources = {"x": source, "y": cover.to_dataset(name="total_cloud_cover_atmosphere")}
    world = Pairs(sources=sources, observed=observed, targets=("temperature_2m",))
    learned, later = part(world, 0, 600), part(world, 600, 660)
    learned, later = (replace(one, targets=("temperature_2m",)) for one in (learned, later))
    truth = later.observed["temperature_2m"].values
    scores = {
        name: crps(build(name).fit(learned).predict(Inputs(later.sources, targets=later.targets))["temperature_2m"].values, truth).mean()
        for name in ("emos", forecaster_id)
    }
    assert scores[forecaster_id] < 0.97 * scores["emos"]


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    outputs=st.lists(st.floats(-30.0, 30.0), min_size=9, max_size=9),
    location=st.floats(-3.0, 12.0),
    scale=st.floats(0.05, 8.0),
)
def test_quantiles_are_in_order_and_within_bounds_whatever_is_said(shape: str, outputs: list[float], location: float, scale: float):
    kind = SHAPES[shape]
    mu, sigma = torch.tensor([location], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64)
    for head in heads(kind):
        said = torch.tensor(outputs[: head.outputs], dtype=torch.float64)[None, None]
        found = head.quantiles(said, mu, sigma)[0, 0]
        assert bool(torch.isfinite(found).all())
        assert bool((found.diff() >= 0).all())
        assert kind.lower is None or float(found.min()) >= kind.lower
        assert kind.upper is None or float(found.max()) <= kind.upper


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_loss_is_the_crps_of_the_quantiles(name: str):
    """Up to the unit, and for the location and scale on the power scale; bqn's takes fewer levels, the gamma's quantiles stop at 0.999."""
    shape = SHAPES[name]
    rng = np.random.default_rng(1)
    mu, sigma = rng.uniform(1.0, 6.0, size=(40, 1)), rng.uniform(0.5, 2.0, size=(40, 1))
    y = np.maximum(mu + sigma * rng.normal(size=mu.shape), 0.0)
    for head in heads(shape):
        batch = {key: torch.from_numpy(column) for key, column in head.columns(y, mu, sigma).items()}
        outputs = torch.from_numpy(0.4 * rng.normal(size=(1, 40, head.outputs)))
        loss = head.crps(outputs.float(), batch)[0].numpy()
        power = shape.power if isinstance(head, LocationScale) else 1.0
        q = head.quantiles(outputs, torch.from_numpy(mu[:, 0]), torch.from_numpy(sigma[:, 0]))[0].numpy() ** power
        exact = crps_quantiles(q, (y[:, 0] ** (1.0 / shape.power)) ** power)
        ratio = loss / exact
        tolerance = 0.01 if isinstance(head, LocationScale) else 0.06
        np.testing.assert_allclose(ratio, np.median(ratio), rtol=tolerance)


@settings(max_examples=60, deadline=None)
@given(ratio=st.floats(-7.9, 39.0), scale=st.floats(0.05, 8.0))
def test_the_nearest_gamma_is_all_but_the_emos(ratio: float, scale: float):
    """By the expected CRPS where the EMOS is right: of the EMOS itself, and of the gamma distribution in its place."""
    mean, deviation, depth = (torch.from_numpy(part) for part in nearest(np.array([ratio * scale]), np.array([scale]), 0.5))
    p = torch.linspace(0.0, 1.0, 20_001, dtype=torch.float64)[1:-1]
    amount = (scale * (ratio + torch.logit(p))).clamp(min=0.0) ** 2
    usual = float(((2.0 * p - 1.0) * amount).mean())
    assert float(censored_shifted_gamma(mean, deviation, -depth).crps(amount).mean()) < 1.001 * usual + 1e-9


def test_the_nearest_gamma_beyond_its_table_is_as_at_the_end():
    wet = nearest(np.array([40.0, 60.0, np.nan]), np.array([1.0, 0.01, 1.0]), 0.5)
    np.testing.assert_allclose([part[1] for part in wet], [part[0] * 1.5**2 for part in wet])
    assert all(np.isnan(part[2]) for part in wet)
    dry = nearest(np.array([-8.0, -50.0]), np.array([1.0, 1.0]), 0.5)
    assert all(part[0] == part[1] for part in dry)


@settings(max_examples=60, deadline=None)
@given(
    outputs=st.lists(st.floats(-30.0, 30.0), min_size=3, max_size=3),
    location=st.floats(-60.0, 12.0),
    scale=st.floats(0.05, 8.0),
    amount=st.one_of(st.just(0.0), st.floats(0.1, 500.0)),
)
def test_the_loss_of_the_gamma_and_its_gradient_are_finite_in_float32(outputs: list[float], location: float, scale: float, amount: float):
    head = ShiftedGamma(RAIN)
    columns = head.columns(np.array([[np.sqrt(amount)]]), np.array([[location]]), np.array([[scale]]))
    said = torch.tensor(outputs)[None, None].requires_grad_()
    loss = head.crps(said, {name: torch.from_numpy(column) for name, column in columns.items()})
    assert loss.dtype == torch.float32
    assert float(loss.detach()) >= -1e-4 * (1.0 + columns["amount"].item())
    loss.sum().backward()
    assert said.grad is not None
    assert bool(torch.isfinite(loss).all())
    assert bool(torch.isfinite(said.grad).all())


@settings(max_examples=40, deadline=None)
@given(mean=st.floats(0.01, 200.0), ratio=st.floats(0.05, 40.0), depth=st.floats(0.01, 5.0))
def test_tabulated_quantiles_of_the_gamma_are_the_exact_ones(mean: float, ratio: float, depth: float):
    found = csgd_quantiles(t(mean), t(mean * ratio), t(-depth))
    exact = censored_shifted_gamma(t(mean), t(mean * ratio), t(-depth)).quantile(torch.tensor(LEVELS))
    np.testing.assert_allclose(found, exact, rtol=5e-3, atol=5e-4 * mean + 5e-3 * depth)


def test_the_gamma_head_is_that_of_rain_alone_and_survives_its_state():
    targets = ("precipitation_amount", "relative_humidity_2m")
    pairs = replace(training(), targets=targets)
    fitted, usual = (Drn(epochs=2, head=head).fit(pairs) for head in ("csgd", "emos"))
    asked = replace(cycles(), targets=targets)
    said, other = fitted.predict(asked), usual.predict(asked)
    assert np.array_equal(said["relative_humidity_2m"].values, other["relative_humidity_2m"].values)
    rain = said["precipitation_amount"].values
    assert np.isfinite(rain).all()
    assert (np.diff(rain, axis=-1) >= 0).all()
    assert not np.array_equal(rain, other["precipitation_amount"].values)
    restored = Drn.from_state(fitted.state())
    assert restored.options()["head"] == "csgd"
    assert same(restored.predict(asked), said)
    with pytest.raises(ForecasterError, match="no head called 'beta'; there are emos, csgd"):
        build("drn", head="beta")


def test_bernstein_polynomials_sum_to_one_and_equal_steps_are_a_line():
    levels = np.linspace(0.001, 0.999, 50)
    basis = bernstein(levels)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
    np.testing.assert_allclose(basis @ np.linspace(0.0, 1.0, basis.shape[1]), levels, atol=1e-12)


def test_the_record_of_a_run():
    seen: list[Epoch] = []
    forecaster = Drn(epochs=2, hidden=8)
    forecaster.hooks = Hooks(on_epoch=seen.append)
    forecaster.fit(replace(training(), targets=("temperature_2m",)))
    assert forecaster.options()["hidden"] == 8
    assert [row["epoch"] for row in forecaster.history] == [0.0, 1.0, 2.0]
    assert [row["temperature_2m_held_out"] for row in forecaster.history] == [epoch.held_out for epoch in seen]


@pytest.mark.parametrize("kind", [Drn, ShortRange])
def test_the_past_is_forecast_without_knowledge_of_it(kind: type[StationForecaster]):
    pairs = replace(training(), targets=("temperature_2m",))
    fitted = kind(epochs=4).fit(pairs)
    past = fitted.past(pairs)["temperature_2m"]
    truth = pairs.observed["temperature_2m"].sel(lead_time=past["lead_time"]).values
    known = np.isfinite(truth)
    assert np.isfinite(past.values).all()
    assert (np.diff(past.values, axis=-1) >= 0).all()
    inside = fitted.predict(Inputs(pairs.sources, pairs.observations, pairs.targets))["temperature_2m"].sel(lead_time=past["lead_time"])
    scores = [crps(said.values, truth)[known].mean() for said in (past, inside)]
    assert scores[0] > scores[1]  # in its own training a forecaster looks better than it is
    restored = kind.from_state(fitted.state())
    assert same(restored.past(pairs), fitted.past(pairs))


def test_an_unknown_parameter_lists_those_there_are():
    with pytest.raises(ForecasterError, match="no parameter is called depth; there are members, hidden"):
        build("drn", depth=3)


def test_a_fit_goes_on_from_its_checkpoint(tmp_path: Path):
    pairs = replace(training(), targets=("temperature_2m",))
    whole = Drn(epochs=3).fit(pairs)
    halted = Drn(epochs=3)

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    halted.hooks = Hooks(on_epoch=stop, checkpoint=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        halted.fit(pairs)
    said: list[str] = []
    resumed = Drn(epochs=3)
    resumed.hooks = Hooks(on_event=said.append, checkpoint=tmp_path)
    resumed.fit(pairs)
    assert said == [f"Resumed after epoch 1 from {tmp_path / 'temperature_2m' / 'checkpoint.pt'}."]
    assert same(resumed.predict(cycles()), whole.predict(cycles()))


def test_without_any_source_the_short_range_goes_on_from_reports():
    targets = ("temperature_2m", "wind_speed_10m")
    fitted: StationForecaster = ShortRange(epochs=3).fit(replace(training(), targets=targets))
    asked = replace(cycles(), targets=targets)
    whole = fitted.predict(asked)
    late = fitted.predict(replace(asked, sources={}, template=asked.frame))
    for name in targets:
        near = whole["lead_time"].values <= np.timedelta64(24, "h")
        assert np.isfinite(late[name].values[:, near]).all()
        assert np.isnan(late[name].values[:, ~near]).all()
        width = [float((d[name].sel(quantile=0.9) - d[name].sel(quantile=0.1)).mean()) for d in (whole, late)]
        assert width[1] > width[0]  # what is not known is not claimed


def test_the_short_range_needs_a_short_lead():
    pairs = training()
    far = {name: data.isel(lead_time=[3, 4]) for name, data in pairs.sources.items()}
    with pytest.raises(ForecasterError, match="24 h ahead, and no lead is that short"):
        ShortRange().fit(replace(pairs, sources=far, observed=pairs.observed.isel(lead_time=[3, 4])))
