"""When a challenger takes the champion's place: what is significant, what is protected, what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import ConfigurationError
from data_catalog.regions import load_region
from data_catalog.store import Root
from models.base import Pairs
from models.registry import build
from tests.models.statistical.worlds import ensemble
from training.champions import Loaded, save_version
from training.evaluate import Protected, learned_until, protected_cases
from training.promotion import CHALLENGER, CHAMPION, Assessment, assess, compare, markdown, refusals
from training.scoring import Cases

PAIRS = ensemble(days=120)
CUT = np.datetime64("2023-03-17", "ns")
HEAT = Protected("heat", "temperature_2m", 25.0, "above")


def loaded(root: Root, pairs: Pairs) -> Loaded:
    """``emos`` learned before the cut from some pairs."""
    training = {"until": "20230501T00Z", "held_out_from": "2023-03-17T00:00Z", "snapshot": ""}
    forecaster = build("emos").fit(learned_until(pairs, CUT))
    return Loaded(save_version(root, forecaster, training), forecaster)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Loaded]:
    """One that learned from the truth, and one from a thermometer that stands in the sun."""
    root = Root(str(tmp_path_factory.mktemp("root")))
    good = loaded(root, PAIRS)
    return good, loaded(root, replace(PAIRS, observed=PAIRS.observed + 1.0))


def test_a_better_one_is_promoted(both: tuple[Loaded, Loaded]) -> None:
    good, bad = both
    found = assess(bad, good, PAIRS, [HEAT])
    assert found.refusals == ()
    overall = found.comparisons[0]
    assert overall.kind == "overall"
    assert overall.verdict == "better"
    assert overall.interval is not None
    assert overall.interval[0] < overall.change < overall.interval[1] < 0
    (protected,) = (one for one in found.comparisons if one.kind == "protected")
    assert protected.events == int((PAIRS.observed.temperature_2m.sel(init_time=slice(CUT, None)) >= 25.0).sum())
    assert {one.missing for one in found.failures} == {"observations"}
    text = markdown(found)
    assert "Should be promoted" in text
    assert "| heat |" in text


def test_a_worse_one_is_refused_for_both_reasons(both: tuple[Loaded, Loaded]) -> None:
    good, bad = both
    found = assess(good, bad, PAIRS, [HEAT])
    assert len(found.refusals) == 2
    assert "not significantly better" in found.refusals[0]
    assert found.refusals[1].startswith("It hurts heat")
    assert "Should not be promoted" in markdown(found)
    assert "because of the river" in markdown(replace(found, forced="because of the river"))


def test_the_same_one_is_refused(both: tuple[Loaded, Loaded]) -> None:
    found = assess(both[0], both[0], PAIRS, [HEAT])
    assert [one.verdict for one in found.comparisons if one.kind == "overall"] == ["no difference"]
    assert len(found.refusals) == 1


def test_without_a_cycle_to_judge_on_it_says_so(both: tuple[Loaded, Loaded]) -> None:
    early = learned_until(PAIRS, CUT)
    with pytest.raises(ConfigurationError, match="no cycle since 2023-03-17"):
        assess(*both, early, [HEAT])


def cases_of(days: int, gain: float, tail: float, seed: int = 0) -> Cases:
    """A challenger that is better by ``gain`` in the mean and worse by ``tail`` beyond the threshold."""
    rng = np.random.default_rng(seed)
    crps = rng.gamma(4.0, 0.25, size=days)
    beyond = rng.gamma(1.0, 0.05, size=days)
    rows = np.stack([crps * (1.0 - gain), crps])
    tails = np.stack([beyond * (1.0 + tail), beyond])
    start = np.datetime64("2025-01-01", "ns") + np.arange(days) * np.timedelta64(24, "h")
    observed = np.full(days, 20.0)
    observed[: days // 3] = 26.0
    return Cases(
        (CHALLENGER, CHAMPION), {"crps": rows, "heat": tails}, observed, start, np.full(days, 24.0), np.full(days, "s0"), ()
    )


def judged(cases: Cases) -> list[str]:
    comparisons = tuple(compare({"temperature_2m": cases}, [HEAT]))
    return list(refusals(Assessment("emos", "a", "b", "", "", comparisons, (), {})))


def test_a_protected_extreme_outweighs_the_mean() -> None:
    assert judged(cases_of(90, 0.1, 0.0)) == []
    (reason,) = judged(cases_of(90, 0.1, 0.3))
    assert reason.startswith("It hurts heat: the CRPS beyond the threshold changes by +30.0 %")
    assert "30 events in 90 cases" in reason


def test_a_few_days_prove_nothing() -> None:
    (reason,) = judged(cases_of(15, 0.3, 0.0))
    assert "too few days" in reason


def test_false_promotions_are_rare() -> None:
    """Two equally good forecasters over 60 days: about one in forty is called better."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):
        cases = cases_of(60, 0.0, 0.0)
        noise = rng.normal(size=(2, 60)) * 0.2
        wrong += judged(replace(cases, statistics={**cases.statistics, "crps": cases.statistics["crps"] + noise})) == []
    assert wrong / 400 < 0.05


def test_extremes_are_those_of_the_region() -> None:
    rain, heat, cold = protected_cases(load_region("hanoi"))
    assert (rain.threshold, heat.threshold, cold.threshold) == (16.0, 35.0, 15.0)
    np.testing.assert_array_equal(cold.happened(np.array([14.0, 15.0, 16.0])), [True, True, False])
    quantiles = np.linspace(10.0, 20.0, 105)[None]
    assert heat.score(quantiles, np.array([12.0])) == pytest.approx(0.0)
    assert cold.score(quantiles, np.array([12.0])) > 0


def test_the_same_state_is_kept_once(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    assert loaded(root, PAIRS).version == loaded(root, PAIRS).version
