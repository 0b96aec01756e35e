"""Names, units, stations, regions and settings."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from data_catalog import dimensions, faults
from data_catalog.errors import ConfigurationError, GiomuaError, StoreCorruptError, UnknownNameError
from data_catalog.regions import load_region
from data_catalog.settings import load_settings
from data_catalog.stations import by_alias, by_id
from data_catalog.variables import VARIABLES

# UDUNITS text by CF canonical unit, as this project writes it.
SAME_UNITS = {"degree_Celsius": "K", "percent": "1"}


@pytest.fixture(scope="module")
def cf_units() -> dict[str, str]:
    """Canonical unit by standard name, from the CF standard-name table."""
    path = os.environ.get("GIOMUA_CF_TABLE")
    if not path or not Path(path).is_file():
        pytest.skip("GIOMUA_CF_TABLE does not name the CF standard-name table; make test fetches it")
    tree = ET.parse(path).getroot()
    units = {entry.get("id", ""): entry.findtext("canonical_units") or "" for entry in tree.iter("entry")}
    assert len(units) > 4000
    return units


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_variables_are_in_the_cf_table_with_compatible_units(name: str, cf_units: dict[str, str]) -> None:
    variable = VARIABLES[name]
    assert variable.standard_name in cf_units
    assert SAME_UNITS.get(variable.units, variable.units) == cf_units[variable.standard_name]


def test_dimensions_are_in_the_cf_table(cf_units: dict[str, str]) -> None:
    for name in (dimensions.INIT_TIME, dimensions.LEAD_TIME, dimensions.ENSEMBLE_MEMBER, dimensions.LATITUDE, dimensions.LONGITUDE):
        assert dimensions.attributes(name)["standard_name"] in cf_units


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_variables_are_whole(name: str) -> None:
    variable = VARIABLES[name]
    assert variable.minimum < variable.maximum
    assert variable.vietnamese
    assert variable.attributes()["cell_methods"].startswith("time: ")
    assert variable.lower_bound is None or variable.lower_bound >= variable.minimum


def test_true_extremes_are_believable() -> None:
    """Yagi 2024, Láng April 2024 and the stalled convergence of 2008 happened."""
    assert VARIABLES["pressure_reduced_to_mean_sea_level"].minimum < 98500
    assert VARIABLES["temperature_2m"].maximum > 41.5
    assert VARIABLES["precipitation_amount"].maximum > 812


def test_48820_is_two_places_and_is_never_joined_bare() -> None:
    stations = load_region().stations
    assert by_alias(stations, "synop", "48820") == by_id(stations, "lang")
    assert by_alias(stations, "metar", "VVNB") == by_id(stations, "noi_bai")
    assert by_alias(stations, "metar", "48820") is None
    assert all("48820" in by_id(stations, name).ambiguous for name in ("lang", "noi_bai"))
    with pytest.raises(UnknownNameError, match="without its network"):
        by_alias(stations, "", "48820")
    apart = np.hypot((21.221 - 21.0167) * 111.2, (105.807 - 105.80) * 103.8)
    assert 20 < apart < 25


def test_an_unknown_station_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="lang, noi_bai"):
        by_id(load_region().stations, "paris")


def test_region_grid() -> None:
    region = load_region()
    assert region.latitude[[0, -1]].tolist() == [23.0, 18.5]
    assert region.longitude[[0, -1]].tolist() == [102.0, 110.0]
    assert (region.latitude.size, region.longitude.size) == (19, 33)
    assert all(region.contains(s.latitude, s.longitude) for s in region.stations)
    assert all(region.city.contains(s.latitude, s.longitude) for s in region.stations if s.city)
    assert len({s.id for s in region.stations}) == len(region.stations)
    assert all(s.citation for s in region.stations)


def test_tiny_is_a_cut() -> None:
    region = load_settings(profile="tiny").load_region()
    assert (region.latitude.size, region.longitude.size) == (6, 6)
    assert len(region.stations) == 3


def test_another_city_is_one_file(tmp_path: Path) -> None:
    text = (Path(dimensions.__file__).parent / "config" / "hanoi.toml").read_text(encoding="utf-8")
    other = tmp_path / "hue.toml"
    other.write_text(text.replace('id = "hanoi"', 'id = "hue"', 1), encoding="utf-8")
    assert load_settings(region=str(other)).load_region().id == "hue"
    broken = tmp_path / "broken.toml"
    broken.write_text(text.replace("latitude_south = 18.5", "latitude_south = 28.5", 1), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="south must be below north"):
        load_region(str(broken))
    with pytest.raises(ConfigurationError, match="name one of hanoi"):
        load_region("atlantis")


def test_settings_come_from_the_command_line_then_the_environment_then_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("giomua.toml").write_text('members = 20\ntraining_days = 40\nroot = "from-file"\n')
    monkeypatch.setenv("GIOMUA_TRAINING_DAYS", "60")
    monkeypatch.delenv("GIOMUA_ROOT", raising=False)
    found = load_settings(root="chosen")
    assert (found.root, found.training_days, found.members) == ("chosen", 60, 20)


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"members is 1: .*GIOMUA_MEMBERS"):
        load_settings(members=1)


def test_errors_are_also_the_builtins_a_caller_expects() -> None:
    assert issubclass(StoreCorruptError, ValueError)
    assert issubclass(StoreCorruptError, OSError)
    assert issubclass(UnknownNameError, KeyError)
    assert str(UnknownNameError("No station 'x'.")) == "No station 'x'."
    assert issubclass(UnknownNameError, GiomuaError)


def test_fault_points_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIOMUA_FAULT", "nowhere")
    with pytest.raises(ConfigurationError, match="must be one of"):
        faults.at("store.staged")
    monkeypatch.setenv("GIOMUA_FAULT", "store.checked")
    faults.at("store.staged")
