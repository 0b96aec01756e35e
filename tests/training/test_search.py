"""A search goes on where it was, and never looks at the days that versions are judged on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import ConfigurationError
from data_catalog.settings import Settings, load_settings
from tests.models.statistical.worlds import ensemble
from training.evaluate import learned_until
from training.search import SPACE, search

PAIRS = replace(ensemble(days=75), targets=("temperature_2m",))
CUT = np.datetime64("2023-03-02", "ns")
SNAPSHOT = "ab12" * 16
QUICK = {"epochs": 1, "least_steps": 1, "members": 2}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(root=str(tmp_path / "root"))


def test_a_search_goes_on_where_it_was(settings: Settings) -> None:
    first = search(settings, "drn", PAIRS, CUT, SNAPSHOT, 2, fixed=QUICK)
    assert (first.trials, first.fresh) == (2, 2)
    again = search(settings, "drn", PAIRS, CUT, SNAPSHOT, 3, fixed=QUICK)
    assert (again.trials, again.fresh) == (3, 1)
    assert again.score <= first.score
    assert set(again.parameters) == {*SPACE, *QUICK}
    assert again.study == first.study
    done = search(settings, "drn", learned_until(PAIRS, CUT), CUT, SNAPSHOT, 3, fixed=QUICK)
    assert (done.fresh, done.parameters, done.score) == (0, again.parameters, again.score)


def test_held_out_days_are_not_looked_at(settings: Settings, tmp_path: Path) -> None:
    whole = search(settings, "drn", PAIRS, CUT, SNAPSHOT, 1, fixed=QUICK)
    elsewhere = load_settings(root=str(tmp_path / "elsewhere"))
    cut = search(elsewhere, "drn", learned_until(PAIRS, CUT), CUT, SNAPSHOT, 1, fixed=QUICK)
    assert (cut.parameters, cut.score) == (whole.parameters, whole.score)


def test_what_has_no_parameters_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="climatology cannot be searched"):
        search(settings, "climatology", PAIRS, CUT, SNAPSHOT, 1)
