"""The scorecard's form and its reader."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import serving.verification as verification
from data_catalog.errors import StoreCorruptError
from data_catalog.store import Root


def example() -> dict:
    """The example of the module's documentation."""
    text = verification.__doc__ or ""
    return json.loads(re.search(r"Example::\n\n(.*)", text, re.DOTALL).group(1))


def test_the_documented_example_can_be_read(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    assert verification.read_scorecard(root) is None
    root.write_json(verification.PATH, example() | {"something_new": 1})
    card = verification.read_scorecard(root)
    assert card is not None
    assert card.scores[0].skill_interval == (0.15, 0.23)
    assert card.reliability[0].bins[0].n == 812
    assert card.days[0].observed == 3.4
    assert card.forecasters[0].coverage_90 == 0.91
    assert card.drifts[0].since == "2026-11-10"


def test_another_form_is_refused_with_the_place_and_the_value(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    wrong = example()
    wrong["reliability"][0]["bins"][0]["forecast"] = 7
    root.write_json(verification.PATH, wrong)
    with pytest.raises(StoreCorruptError, match=r"reliability\.0\.bins\.0\.forecast is 7"):
        verification.read_scorecard(root)
