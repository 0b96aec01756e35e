"""Checks of decoded fields: damage is told in words, true extremes pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.quality import Placed, check_field, check_group, frozen, outlying, repeated, shifted_rows
from data_catalog.variables import VARIABLES

SHAPE = (19, 33)
RNG = np.random.default_rng(20250801)
TERRAIN = np.cumsum(RNG.normal(0.0, 0.8, SHAPE), axis=1) * 0.3 + RNG.normal(0.0, 0.7, SHAPE)
"""The same in all fields, as mountains and coasts are."""


def ensemble(mean: float = 28.0, members: int = 10, leads: int = 6, spread: float = 0.6) -> list[Placed]:
    """Smooth weather over fixed terrain: values differ between members and leads as forecasts do."""
    rng = np.random.default_rng(7)
    y, x = np.meshgrid(np.linspace(0, 1, SHAPE[0]), np.linspace(0, 2, SHAPE[1]), indexing="ij")
    found = []
    for lead in range(leads):
        for member in range(members):
            a, b, c = rng.normal(0.0, spread, 3)
            smooth = a + b * np.sin(2 * y + x + c) + 2.0 * np.sin(0.5 * lead)
            found.append(Placed((mean + TERRAIN + smooth).astype(np.float32), lead * 10800, member, 0.001))
    return found


def changed(fields: list[Placed], place: int, values: np.ndarray) -> list[Placed]:
    return [replace(one, values=values.astype(np.float32)) if at == place else one for at, one in enumerate(fields)]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("temperature_2m", 300.0, "outside the believable -60 to 60"),       # kelvin that nobody converted
        ("pressure_reduced_to_mean_sea_level", 1013.0, "outside the believable 85000 to 110000"),
        ("precipitation_amount", -5.0, "outside the believable 0"),
        ("total_cloud_cover_atmosphere", 800.0, "percent"),
    ],
)
def test_wrong_units_are_told(variable, value, words):
    reason = check_field(variable, np.full((4, 5), value, np.float32) + np.arange(20, dtype=np.float32).reshape(4, 5) * 0.01)
    assert words in reason
    assert variable in reason


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("temperature_2m", 41.5),                               # Láng, April 2024
        ("pressure_reduced_to_mean_sea_level", 87000.0),        # a deeper typhoon than any over land
        ("wind_gust_10m", 85.0),
        ("precipitation_amount", 1800.0),
        ("precipitation_amount", 0.0),
    ],
)
def test_true_extremes_pass(variable, value):
    spread = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5) * (0.0 if value == 0 else 0.5)
    assert check_field(variable, np.float32(value) + spread) == ""


@given(name=st.sampled_from(sorted(VARIABLES)), share=st.floats(0.0, 1.0), width=st.floats(0.0, 0.2))
def test_nothing_believable_is_refused(name, share, width):
    known = VARIABLES[name]
    size = known.maximum - known.minimum
    values = known.minimum + size * np.clip(share + width * np.linspace(0.001, 1, 20).reshape(4, 5), 0, 1)
    if values.min() < values.max():
        assert check_field(name, values.astype(np.float32), step=1e-4 * size) == ""


def test_infinite_and_constant_fields():
    assert check_field("visibility", np.array([[1.0, np.inf]])) == "some values are infinite"
    flat = np.full(SHAPE, 25.0, np.float32)
    assert "everywhere in the region" in check_field("temperature_2m", flat, step=0.01)
    assert check_field("temperature_2m", flat, step=8.0) == "", "eight kelvin of packing explain it"
    assert check_field("precipitation_amount", np.zeros(SHAPE, np.float32)) == "", "a dry region is no fault"
    assert check_field("t_isobaricInhPa_500", flat) == "", "nothing is known of what has no word"


@pytest.mark.parametrize("shape", [(3, 4), (19, 33)])
def test_one_point_far_from_those_around_it(shape):
    smooth = 25.0 - 0.3 * np.arange(shape[0])[:, None] + 0.2 * np.arange(shape[1])[None, :]
    assert check_field("temperature_2m", smooth) == ""
    smooth[1, 2] -= 20.48
    assert "differs at one point by 20" in check_field("temperature_2m", smooth)


def test_a_sound_ensemble_passes():
    for variable in ("temperature_2m", "wind_u_10m", "precipitation_amount"):
        assert check_group(variable, ensemble()) == {}


def test_no_step_of_a_damaged_header_makes_a_value_believable():
    field = (28.0 + TERRAIN).astype(np.float32)
    field[3, 4] = -240.0
    for step in (0.01, 8.0, 1e9):
        assert "outside the believable" in check_field("temperature_2m", field, step=step)


def test_a_frozen_step_and_a_copied_member():
    fields = ensemble()
    stuck = changed(fields, 25, fields[15].values)          # member 5: 6 h is what 3 h was
    assert list(frozen("temperature_2m", stuck)) == [25]
    assert "stuck" in frozen("temperature_2m", stuck)[25]
    copied = changed(fields, 33, fields[31].values)
    assert frozen("temperature_2m", copied) == {33: "temperature_2m of member 3 is that of member 1 at 9 h"}
    dry = [replace(one, values=np.zeros(SHAPE, np.float32)) for one in fields]
    assert check_group("precipitation_amount", dry) == {}


def test_a_member_in_another_world_and_a_jump_there_and_back():
    fields = ensemble()
    found = outlying("temperature_2m", changed(fields, 22, fields[22].values - 25.0))
    assert list(found) == [22]
    single = [one for one in fields if one.member == 0]
    found = outlying("temperature_2m", changed(single, 3, single[3].values + 20.0))
    assert list(found) == [3]
    assert "and back" in found[3]


def test_a_front_and_a_typhoon_in_some_members_pass():
    fields = ensemble()
    y = np.linspace(-1, 1, SHAPE[0])[:, None] + np.linspace(-0.6, 0.6, SHAPE[1])[None, :]
    front = -9.0 / (1 + np.exp(-12 * y))                    # nine degrees within a degree of latitude, aslant
    cold = {at for at, one in enumerate(fields) if one.member < 3 and one.lead > 20000}
    with_front = [replace(one, values=(one.values + front).astype(np.float32)) if at in cold else one for at, one in enumerate(fields)]
    assert check_group("temperature_2m", with_front) == {}
    y, x = np.meshgrid(np.linspace(23, 18.5, SHAPE[0]), np.linspace(102, 110, SHAPE[1]), indexing="ij")
    eye = -4500.0 * np.exp(-((y - 20.8) ** 2 + (x - 107) ** 2) / 0.8)
    pressure = ensemble(mean=100500.0, spread=60.0)
    stormy = changed(pressure, 12, pressure[12].values + eye)
    assert check_group("pressure_reduced_to_mean_sea_level", stormy) == {}


@given(height=st.floats(2.0, 6.0), sign=st.sampled_from([-1, 1]), row=st.integers(1, 15), rows=st.integers(1, 3), place=st.integers(0, 59))
def test_a_band_of_rows_moved_by_one_constant_is_damaged_packing(height, sign, row, rows, place):
    """What a flipped bit in a CCSDS stream does: the values after it are off by one constant up to the next reference sample."""
    fields = ensemble()
    values = fields[place].values.copy()
    values[row : row + rows] += sign * height
    found = shifted_rows("temperature_2m", changed(fields, place, values))
    assert list(found) == [place]
    assert "damaged packing" in found[place]


def test_few_fields_say_nothing_about_rows():
    assert shifted_rows("temperature_2m", ensemble(members=1, leads=3)) == {}


def test_a_wind_that_turns_across_a_few_points_is_no_damage():
    """Over four points a row, a bend of one height is weather: here that of one member, a day ahead of the others."""
    turning = np.array([[7.86, 7.67, 5.94, 4.00], [6.63, 6.36, 4.80, 3.51], [5.11, 5.19, 4.40, 4.14], [4.03, 4.62, 4.88, 6.33]])
    still = np.add.outer(np.linspace(2.0, 1.4, 4), np.linspace(0.0, 0.9, 4))
    usual = [(still + 0.03 * member * np.eye(4)).astype(np.float32) for member in range(5)]
    fields = [Placed(values, lead * 10800, member) for lead in range(8) for member, values in enumerate(usual)]
    assert not shifted_rows("wind_v_10m", changed(fields, 30, turning))


def test_the_cycle_before_over_again_is_stuck_and_no_rain_again_is_not():
    values = ensemble()[0].values
    assert repeated("temperature_2m", values, values.copy()) == "temperature_2m is that of the cycle before: production is stuck"
    assert not repeated("temperature_2m", values, values + np.float32(0.001))
    assert not repeated("temperature_2m", values, np.full_like(values, np.nan))
    assert not repeated("precipitation_amount", np.zeros(SHAPE), np.zeros(SHAPE))


def test_a_step_between_rows_that_does_no_harm_is_no_damage():
    fields = [replace(one, values=np.full(SHAPE, 20.0, np.float32) + place * np.linspace(0, 1e-3, SHAPE[0], dtype=np.float32)[:, None])
              for place, one in enumerate(ensemble(leads=1))]    # fmt: skip
    small, large = fields[3].values.copy(), fields[3].values.copy()
    small[7:] += 0.03
    large[7:] += 0.3
    assert not shifted_rows("temperature_2m", changed(fields, 3, small))
    assert set(shifted_rows("temperature_2m", changed(fields, 3, large))) == {3}
