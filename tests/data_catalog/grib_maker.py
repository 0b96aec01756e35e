"""GRIB2 messages made with ecCodes for tests: one small field, everything about it chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

EDGES = (23.0, 18.5, 102.0, 110.0)
"""The box of northern Vietnam: north, south, west, east."""

TEMPERATURE = {"parameterCategory": 0, "parameterNumber": 0, "typeOfFirstFixedSurface": 103, "scaledValueOfFirstFixedSurface": 2}
APCP = {"parameterCategory": 1, "parameterNumber": 8, "typeOfFirstFixedSurface": 1}
ECMWF_TP = {"centre": 98, "parameterCategory": 1, "parameterNumber": 193, "typeOfFirstFixedSurface": 1, "localTablesVersion": 1}
SHORT_WAVE = {"centre": 98, "parameterCategory": 4, "parameterNumber": 7, "typeOfFirstFixedSurface": 1}


def axes(step: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes, descending, and longitudes, ascending, of the grid that :func:`message` makes: 16-26 N, 100-112 E."""
    return 26.0 - step * np.arange(round(10 / step) + 1), 100.0 + step * np.arange(round(12 / step) + 1)


def message(
    values: np.ndarray,
    *,
    step: float = 1.0,
    interval: tuple[int, int] | int = 0,
    statistic: int | None = None,
    member: int | None = None,
    packing: str = "grid_simple",
    bits: int = 16,
    date: int = 20250801,
    missing: float | None = None,
    **keys: Any,
) -> bytes:
    """One GRIB2 message.

    Args:
        values: In the message's own units, in scanning order. (latitude, longitude)
        step: Of the grid in degrees.
        interval: Hours (begin, end), or the lead of an instant.
        statistic: Code table 4.10; None for an instant.
        member: Perturbation number; None for no ensemble.
        packing: ecCodes' packingType.
        bits: bitsPerValue.
        date: YYYYMMDD, at 00 UTC.
        missing: Value that stands for a missing one: makes a bitmap.
        keys: Any other of ecCodes' keys, set last before the packing.
    """
    import eccodes

    latitude, longitude = axes(step)
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    template = (0 if statistic is None else 8) + (0 if member is None else 1 if statistic is None else 3)
    chosen: dict[str, Any] = {
        "centre": 7, "dataDate": date, "dataTime": 0, "Ni": longitude.size, "Nj": latitude.size,
        "latitudeOfFirstGridPointInDegrees": latitude[0], "latitudeOfLastGridPointInDegrees": latitude[-1],
        "longitudeOfFirstGridPointInDegrees": longitude[0], "longitudeOfLastGridPointInDegrees": longitude[-1],
        "iDirectionIncrementInDegrees": step, "jDirectionIncrementInDegrees": step,
        "productDefinitionTemplateNumber": template, "generatingProcessIdentifier": 96, "scaleFactorOfFirstFixedSurface": 0,
        "scaledValueOfFirstFixedSurface": 0, **({} if statistic is None else {"typeOfStatisticalProcessing": statistic}),
        **keys,
    }    # fmt: skip
    if member is not None:
        chosen |= {"typeOfEnsembleForecast": 3 if member else 1, "perturbationNumber": member}
    for key, value in chosen.items():
        eccodes.codes_set(handle, key, float(value) if isinstance(value, np.floating) else value)
    eccodes.codes_set(handle, "stepRange", f"{interval[0]}-{interval[1]}" if isinstance(interval, tuple) else str(interval))
    eccodes.codes_set(handle, "packingType", packing)
    if missing is not None:
        eccodes.codes_set(handle, "bitmapPresent", 1)
        eccodes.codes_set(handle, "missingValue", missing)
    eccodes.codes_set(handle, "bitsPerValue", bits)
    eccodes.codes_set_values(handle, np.asarray(values, dtype=np.float64).ravel())
    found: bytes = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return found


def weather(seed: int = 0, step: float = 1.0, mean: float = 295.0, spread: float = 3.0) -> np.ndarray:
    """A smooth field on the grid of :func:`message`, different for each seed. (latitude, longitude)"""
    rng = np.random.default_rng(seed)
    latitude, longitude = np.meshgrid(*axes(step), indexing="ij")
    phase = rng.uniform(0, 2 * np.pi, 4)
    waves = np.sin(latitude / 3 + phase[0]) + np.cos(longitude / 4 + phase[1]) + np.sin((latitude + longitude) / 5 + phase[2])
    return mean + spread * (waves / 3 + 0.03 * np.sin(longitude * 2 + phase[3]))


def write(path: Path, *messages: bytes) -> Path:
    """A file of messages."""
    path.write_bytes(b"".join(messages))
    return path
