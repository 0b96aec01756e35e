"""Versions in the root and their roles: whole or not there, checked, never lost, one step at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_catalog.errors import StoreCorruptError, StoreNotFoundError, UnknownNameError
from data_catalog.store import Root
from models.base import Forecaster
from models.registry import build
from tests.models.contract import world
from tests.models.statistical.worlds import ensemble
from training.champions import (
    MODEL,
    POINTER,
    STATE,
    enter,
    find_version,
    load_role,
    load_version,
    promote,
    read_champions,
    roll_back,
    save_version,
    versions,
)

PAIRS = ensemble(days=60)
NOW = "2025-07-10T01:00:00Z"
TRAINING = {"until": "20250710T00Z", "held_out_from": "2025-06-10T00:00Z", "snapshot": "ab" * 32}


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return build("emos").fit(PAIRS)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


def other(number: int) -> dict[str, str]:
    """Another place and time of learning, and so another version."""
    return {**TRAINING, "until": f"202507{11 + number}T00Z"}


def test_what_is_loaded_forecasts_the_same(root: Root, fitted: Forecaster) -> None:
    version = save_version(root, fitted, TRAINING, {"card.md": b"# card"})
    again, forecaster = load_version(root, "emos", version.name, version.content_hash)
    assert again == version
    assert again.training == TRAINING
    left, right = fitted.predict(PAIRS), forecaster.predict(PAIRS)
    for name in left.data_vars:
        np.testing.assert_array_equal(left[name].values, right[name].values)
    assert versions(root) == [version]
    assert root.read_bytes(f"{version.folder}/card.md") == b"# card"


@pytest.mark.parametrize("forecaster_id", ["climatology", "csgd", "emos-recent", "emos_alpha"])
def test_every_kind_of_state_is_kept(root: Root, forecaster_id: str) -> None:
    forecaster = build(forecaster_id).fit(world())
    version = save_version(root, forecaster, TRAINING)
    found = load_version(root, forecaster.spec.id, version.name)[1].state()
    state = forecaster.state()
    assert set(found) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_same_training_makes_the_same_version(root: Root, fitted: Forecaster, tmp_path: Path) -> None:
    first = save_version(root, fitted, TRAINING, {"record.json": b"1"})
    assert save_version(root, fitted, TRAINING, {"record.json": b"2"}) == first
    assert save_version(Root(str(tmp_path / "elsewhere")), fitted, TRAINING) == first
    assert save_version(root, fitted, other(0)).name != first.name


def test_an_unfinished_version_is_not_there(root: Root, fitted: Forecaster) -> None:
    version = save_version(root, fitted, TRAINING)
    (Path(root.url) / version.folder / MODEL).unlink()
    assert versions(root) == []
    with pytest.raises(StoreNotFoundError):
        load_version(root, "emos", version.name)


@pytest.mark.parametrize("part", [STATE, MODEL])
def test_a_damaged_file_is_named_with_its_hash(root: Root, fitted: Forecaster, part: str) -> None:
    version = save_version(root, fitted, TRAINING)
    enter(root, version, now=NOW)
    file = Path(root.url) / version.folder / part
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(StoreCorruptError, match=rf"{part} is damaged.*{version.content_hash[:12]}.*rollback"):
        load_version(root, "emos", version.name, version.content_hash)
    found, notes = load_role(root, "champion")
    assert found == {}
    assert "The champion of emos cannot be used" in notes[0]


def test_a_damaged_pointer_is_one_note(root: Root) -> None:
    root.write_bytes(POINTER, b"{")
    assert load_role(root, "champion")[0] == {}
    root.write_json(POINTER, {"forecasters": {"emos": {"champion": {"who": 1}}}})
    with pytest.raises(StoreCorruptError, match=r"champions\.json is damaged"):
        read_champions(root)
    assert len(load_role(root, "champion")[1]) == 1


def test_first_champion_then_challenger_then_promoted_then_back(root: Root, fitted: Forecaster) -> None:
    first, second, third = (save_version(root, fitted, other(n)) for n in range(3))
    assert [enter(root, one, now=NOW) for one in (first, second, third, first)] == ["champion", "challenger", "challenger", "champion"]
    roles = read_champions(root)["emos"]
    assert roles.role_of(first.name) == "champion"
    assert roles.role_of(second.name) == ""
    assert roles.role_of(third.name) == "challenger"
    assert roles.champion is not None
    assert roles.champion.snapshot == TRAINING["snapshot"]

    after = promote(root, third, now=NOW, reason="better")
    assert after == read_champions(root)["emos"]
    assert after.role_of(third.name) == "champion"
    assert after.challenger is None
    assert after.role_of(first.name) == "previous"

    back = roll_back(root, "emos", now=NOW, reason="it rained")
    assert back.role_of(first.name) == "champion"
    assert back.role_of(third.name) == "challenger"
    assert back.champion is not None
    assert back.champion.reason == "it rained"
    with pytest.raises(UnknownNameError, match="no former champion"):
        roll_back(root, "emos", now=NOW, reason="again")
    assert set(load_role(root, "champion")[0]) == {"emos"}


def test_a_roll_back_to_a_damaged_champion_changes_nothing(root: Root, fitted: Forecaster) -> None:
    first, second = (save_version(root, fitted, other(n)) for n in range(2))
    enter(root, first, now=NOW)
    promote(root, second, now=NOW, reason="better")
    (Path(root.url) / first.folder / STATE).write_bytes(b"")
    before = root.read_bytes(POINTER)
    with pytest.raises(StoreCorruptError):
        roll_back(root, "emos", now=NOW, reason="")
    assert root.read_bytes(POINTER) == before


def test_versions_are_found_as_people_name_them(root: Root, fitted: Forecaster) -> None:
    first, second = (save_version(root, fitted, other(n)) for n in range(2))
    enter(root, first, now=NOW)
    enter(root, second, now=NOW)
    assert find_version(root, "emos", "champion") == first.name
    assert find_version(root, "emos", "challenger") == second.name
    for text in (first.name, first.name[:13], first.content_hash[:8]):
        assert find_version(root, "emos", text) == first.name
    with pytest.raises(UnknownNameError, match="2 version"):
        find_version(root, "emos", "2025")
    with pytest.raises(UnknownNameError, match="giomua train drn"):
        find_version(root, "drn", "1")


def test_an_object_store_will_do(fitted: Forecaster) -> None:
    root = Root("memory://")
    version = save_version(root, fitted, TRAINING)
    enter(root, version, now=NOW)
    assert json.loads(root.read_bytes(POINTER))["forecasters"]["emos"]["champion"]["version"] == version.name
    assert load_role(root, "champion")[0]["emos"].held_out_from == np.datetime64("2025-06-10T00", "ns")
