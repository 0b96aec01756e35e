"""BUFR messages in the templates that services use, encoded with ecCodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import eccodes


def synop(
    *subsets: Mapping[str, Any], template: int = 307080, compressed: bool = False, replications: Sequence[int] = (1, 1, 0)
) -> bytes:
    """A surface report; keys are ecCodes' names with their rank left out for the first, e.g. ``{"#2#timePeriod": -3}``."""
    return message(template, subsets, 0, compressed, replications)


def temp(levels: Sequence[Mapping[str, float]], **about: Any) -> bytes:
    """A sounding in 309052."""
    ranked = {f"#{number}#{name}": value for number, level in enumerate(levels, 1) for name, value in level.items()}
    return message(309052, [{**about, **ranked}], 2, False, (0,), len(levels))


def message(
    template: int, subsets: Sequence[Mapping[str, Any]], category: int, compressed: bool, replications: Sequence[int], levels: int = 0
) -> bytes:
    """One BUFR 4 message; what is not given is missing."""
    handle = eccodes.codes_bufr_new_from_samples("BUFR4")
    try:
        eccodes.codes_set(handle, "masterTablesVersionNumber", 33)
        eccodes.codes_set(handle, "dataCategory", category)
        eccodes.codes_set(handle, "numberOfSubsets", len(subsets))
        eccodes.codes_set(handle, "compressedData", int(compressed))
        eccodes.codes_set_array(handle, "inputDelayedDescriptorReplicationFactor", list(replications) * (1 if compressed else len(subsets)))
        if levels:
            eccodes.codes_set_array(handle, "inputExtendedDelayedDescriptorReplicationFactor", [levels])
        eccodes.codes_set(handle, "unexpandedDescriptors", template)
        for number, subset in enumerate(subsets):
            for name, value in subset.items():
                key = name if name.startswith("#") else f"#1#{name}"
                if isinstance(value, float) and math.isnan(value):
                    continue
                if compressed:
                    eccodes.codes_set_array(handle, key, [float(one[name]) for one in subsets])
                elif len(subsets) > 1:
                    rank, _, bare = key[1:].partition("#")
                    per_subset = _occurrences(handle, bare) // len(subsets)
                    eccodes.codes_set(handle, f"#{int(rank) + number * per_subset}#{bare}", value)
                else:
                    eccodes.codes_set(handle, key, value)
        eccodes.codes_set(handle, "pack", 1)
        return bytes(eccodes.codes_get_message(handle))
    finally:
        eccodes.codes_release(handle)


def _occurrences(handle: Any, name: str) -> int:
    count = 0
    while eccodes.codes_is_defined(handle, f"#{count + 1}#{name}"):
        count += 1
    return count


def report(number: str, time: str, **values: Any) -> dict[str, Any]:
    """Station and time of a subset, and whatever else it has."""
    return {
        "blockNumber": int(number[:2]), "stationNumber": int(number[2:]), "year": int(time[:4]), "month": int(time[5:7]),
        "day": int(time[8:10]), "hour": int(time[11:13]), "minute": int(time[14:16] or 0), **values,
    }    # fmt: skip
