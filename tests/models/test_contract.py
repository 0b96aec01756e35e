"""Every registered forecaster keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.base import ForecasterError
from models.registry import build, forecaster_ids, restore
from tests.models.contract import QUICK, SOURCES, ForecasterContract, cycles, fitted, same


@pytest.mark.parametrize("forecaster_id", forecaster_ids(list(SOURCES)))
class TestEveryForecaster(ForecasterContract):
    pass


@pytest.mark.parametrize("forecaster_id", ["drn"])
class TestDrnWithTheGammaOfRain(ForecasterContract):
    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def gamma() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(QUICK, "drn", {**QUICK["drn"], "head": "csgd"})
            fitted.cache_clear()
            yield
        fitted.cache_clear()


def test_an_unknown_id_lists_the_known():
    with pytest.raises(ForecasterError, match=r"emos_<source>"):
        build("oracle")
    with pytest.raises(ForecasterError, match="climatology"):
        build("emos_")


def test_restore_by_id():
    state = fitted("emos_alpha").state()
    assert same(restore("emos_alpha", state).predict(cycles()), fitted("emos_alpha").predict(cycles()))
