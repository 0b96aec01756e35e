"""Writing a forecast as a centre would: GRIB2 with ecCodes, and the index beside it, in NCEP's or ECMWF's layout.

The production status of every message is 2, research products (code table 1.3): it is no operational forecast of the centre whose
tables it uses. Files are written into a folder aside that is renamed when the cycle is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_catalog.simulated.noise import Floats
from data_catalog.sources import ecmwf, ncep
from data_catalog.sources.base import Progress, day_and_hour, silent

BITS: Final = 16
_KELVIN: Final = 273.15
_NCEP, _ECMWF = 7, 98
_RESEARCH: Final = 2
_PDT: Final = {(False, False): 0, (False, True): 1, (True, False): 8, (True, True): 11}  # by whether interval, whether member
_FIRST_LOCAL: Final = 192  # numbers of code table 4.2 from here on are the centre's own
_SURFACE, _TOP, _SEA, _ABOVE_GROUND, _COLUMN = 1, 8, 101, 103, 10


@dataclass(frozen=True, slots=True)
class _Coded:
    """A variable in GRIB2: numbers of WMO code tables 4.2 and 4.5, and how its value is made of ours."""

    category: int
    number: int
    surface: int
    height: int = 0
    second: int = 255
    statistic: int | None = None  # code table 4.10: 0 mean, 1 accumulation
    scale: float = 1.0
    offset: float = 0.0


_COMMON: Final[Mapping[str, _Coded]] = {
    "temperature_2m": _Coded(0, 0, _ABOVE_GROUND, 2, offset=_KELVIN),
    "dew_point_temperature_2m": _Coded(0, 6, _ABOVE_GROUND, 2, offset=_KELVIN),
    "wind_u_10m": _Coded(2, 2, _ABOVE_GROUND, 10),
    "wind_v_10m": _Coded(2, 3, _ABOVE_GROUND, 10),
}
_NCEP_CODES: Final[Mapping[str, _Coded]] = {
    **_COMMON,
    "wind_gust_10m": _Coded(2, 22, _SURFACE),
    "pressure_reduced_to_mean_sea_level": _Coded(3, 1, _SEA),
    "total_cloud_cover_atmosphere": _Coded(6, 1, _COLUMN),
    "precipitation_amount": _Coded(1, 8, _SURFACE, statistic=1),
    "downward_short_wave_radiation_flux_surface": _Coded(4, 192, _SURFACE, statistic=0),
}
_ECMWF_CODES: Final[Mapping[str, _Coded]] = {
    **_COMMON,
    "wind_gust_10m": _Coded(2, 22, _ABOVE_GROUND, 10),
    "pressure_reduced_to_mean_sea_level": _Coded(3, 0, _SEA),
    "total_cloud_cover_atmosphere": _Coded(6, 192, _SURFACE, second=_TOP, scale=1e-2),
    "precipitation_amount": _Coded(1, 193, _SURFACE, statistic=1, scale=1e-3),
    "downward_short_wave_radiation_flux_surface": _Coded(4, 7, _SURFACE, statistic=1),
}
_AIFS_CODES: Final[Mapping[str, _Coded]] = {**_ECMWF_CODES, "precipitation_amount": _Coded(1, 52, _SURFACE, statistic=1)}


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A forecast that is to be written.

    Attributes:
        init_time: Its start, UTC.
        lead_hours: Leads, ascending.
        latitude: Grid, descending, degrees_north.
        longitude: Grid, ascending, degrees_east.
        fields: By variable, shape (lead, member, latitude * longitude), in catalog units; rain in mm and short wave in W m-2 over the hours
            since the lead before, NaN at lead 0.
    """

    init_time: np.datetime64
    lead_hours: tuple[int, ...]
    latitude: Floats
    longitude: Floats
    fields: Mapping[str, Floats]

    @property
    def members(self) -> int:
        """How many members it has."""
        return int(next(iter(self.fields.values())).shape[1])


@dataclass(frozen=True, slots=True)
class _Window:
    """What an interval field covers, hours since the start, and its values in catalog units (member, point)."""

    begin: int
    end: int
    values: Floats


def _bucket(product: Product, name: str, position: int, hours: int) -> _Window:
    """The mean or sum since the last multiple of ``hours`` (0: since the start)."""
    lead = product.lead_hours[position]
    begin = (lead - 1) // hours * hours if hours else 0
    before = dict(zip(product.lead_hours, (0, *product.lead_hours), strict=False))
    steps = [(before[end], end, at) for at, end in enumerate(product.lead_hours) if begin < end <= lead]
    values = product.fields[name]
    if name == "precipitation_amount":
        total = np.sum([values[at] for _, _, at in steps], axis=0)
    else:
        total = np.sum([values[at] * (end - start) for start, end, at in steps], axis=0) / (lead - begin)
    return _Window(begin, lead, total)


class _Encoder:
    """GRIB2 messages of one product: one handle a variable, in which only what differs is set anew."""

    def __init__(self, product: Product, centre: int, codes: Mapping[str, _Coded], packing: str, process: int, *, ensemble: bool) -> None:
        self._handles = {name: _template(product, centre, codes[name], packing, process, ensemble=ensemble) for name in product.fields}
        self._codes = codes
        self._ensemble = ensemble
        self._steps: dict[str, str] = {}

    def message(self, name: str, begin: int, end: int, member: int, values: Floats) -> bytes:
        """One message: ``values`` (point,) in catalog units over [begin, end] hours, or at ``end``."""
        import eccodes

        code, handle = self._codes[name], self._handles[name]
        step = str(end) if code.statistic is None else f"{begin}-{end}"
        if self._steps.get(name) != step:  # half a millisecond, where all the rest is a tenth of that
            eccodes.codes_set(handle, "stepRange", step)
            self._steps[name] = step
        if self._ensemble:
            eccodes.codes_set(handle, "typeOfEnsembleForecast", 3 if member else 1)
            eccodes.codes_set(handle, "perturbationNumber", member)
        eccodes.codes_set(handle, "bitsPerValue", BITS)  # a constant field sets it to 0 for all that follow
        eccodes.codes_set_values(handle, values.astype(np.float64) * code.scale + code.offset)
        found: bytes = eccodes.codes_get_message(handle)
        return found

    def close(self) -> None:
        """Give the handles back."""
        import eccodes

        for handle in self._handles.values():
            eccodes.codes_release(handle)


def _template(product: Product, centre: int, code: _Coded, packing: str, process: int, *, ensemble: bool) -> int:
    import eccodes

    handle: int = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    day, hour = day_and_hour(product.init_time)
    lat, lon = product.latitude, product.longitude
    keys: dict[str, Any] = {
        "centre": centre,
        "subCentre": 0,
        "tablesVersion": 27,
        "localTablesVersion": 1 if code.number >= _FIRST_LOCAL else 0,
        "productionStatusOfProcessedData": _RESEARCH,
        "typeOfProcessedData": 1,
        "dataDate": int(day),
        "dataTime": int(hour) * 100,
        "Ni": lon.size,
        "Nj": lat.size,
        "latitudeOfFirstGridPointInDegrees": float(lat[0]),
        "latitudeOfLastGridPointInDegrees": float(lat[-1]),
        "longitudeOfFirstGridPointInDegrees": float(lon[0]) % 360.0,
        "longitudeOfLastGridPointInDegrees": float(lon[-1]) % 360.0,
        "iDirectionIncrementInDegrees": float(lon[1] - lon[0]),
        "jDirectionIncrementInDegrees": float(lat[0] - lat[1]),
        "productDefinitionTemplateNumber": _PDT[code.statistic is not None, ensemble],
        "generatingProcessIdentifier": process,
        "parameterCategory": code.category,
        "parameterNumber": code.number,
        "typeOfFirstFixedSurface": code.surface,
        "typeOfSecondFixedSurface": code.second,
        "packingType": packing,
        "bitsPerValue": BITS,
    }
    if code.surface == _ABOVE_GROUND:
        keys |= {"scaleFactorOfFirstFixedSurface": 0, "scaledValueOfFirstFixedSurface": code.height}
    if code.statistic is not None:
        keys |= {"typeOfStatisticalProcessing": code.statistic}
    if ensemble:
        keys |= {"numberOfForecastsInEnsemble": product.members}
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    return handle


def write_gefs(product: Product, folder: Path, progress: Progress = silent) -> None:
    """One file a lead and member, rain and short wave since the last multiple of 6 h, members as perturbations, half a degree."""

    def path(init_time: np.datetime64, lead_hours: int, member: int) -> str:
        return ncep.gefs_path(init_time, lead_hours, member, "a", "0p50")

    _write_ncep(product, folder, path, process=107, ensemble=True, totals=False, progress=progress)


def write_gfs(product: Product, folder: Path, progress: Progress = silent) -> None:
    """One file a lead; rain since the last multiple of 6 h and, in the same file, since the start."""
    def path(init_time: np.datetime64, lead_hours: int, member: int) -> str:
        return ncep.gfs_path(init_time, lead_hours)

    _write_ncep(product, folder, path, process=96, ensemble=False, totals=True, progress=progress)


def _write_ncep(
    product: Product,
    folder: Path,
    path: Callable[[np.datetime64, int, int], str],
    *,
    process: int,
    ensemble: bool,
    totals: bool,
    progress: Progress,
) -> None:
    encoder = _Encoder(product, _NCEP, _NCEP_CODES, "grid_simple", process, ensemble=ensemble)
    stamp = "d=" + "".join(day_and_hour(product.init_time))
    try:
        for position, lead in enumerate(product.lead_hours):
            windows = list(_ncep_windows(product, position, totals))
            for member in range(product.members):
                data = bytearray()
                lines: list[str] = []
                ending = "" if not ensemble else f"ENS=+{member}" if member else "ENS=low-res ctl"
                for field, window in windows:
                    message = encoder.message(field.variable, window.begin, window.end, member, window.values[member])
                    words = f"{field.element}:{field.level}:{_words(window, field.statistic)}:{ending}"
                    lines.append(f"{len(lines) + 1}:{len(data)}:{stamp}:{words}")
                    data += message
                _put(folder / path(product.init_time, lead, member), bytes(data), ".idx", lines, ".idx")
            progress("GRIB", position + 1, len(product.lead_hours))
    finally:
        encoder.close()


def _ncep_windows(product: Product, position: int, totals: bool) -> Iterator[tuple[ncep.NcepField, _Window]]:
    lead = product.lead_hours[position]
    for field in ncep.FIELDS:
        if field.variable not in product.fields:
            continue
        if not field.statistic:
            yield field, _Window(lead, lead, product.fields[field.variable][position])
        elif lead:
            yield field, _bucket(product, field.variable, position, 6)
            if totals and field.statistic == "acc":
                yield field, _bucket(product, field.variable, position, 0)


def _words(window: _Window, statistic: str) -> str:
    if statistic:
        if window.begin % 24 == 0 and window.end % 24 == 0:
            return f"{window.begin // 24}-{window.end // 24} day {statistic} fcst"
        return f"{window.begin}-{window.end} hour {statistic} fcst"
    return f"{window.end} hour fcst" if window.end else "anl"


def write_ens(product: Product, folder: Path, progress: Progress = silent) -> None:
    """One file a step with all members, rain in m and short wave in J m-2 since the start, CCSDS packing, a JSON index."""

    def files(lead: int) -> dict[str, range]:
        return {ecmwf.ens_path(product.init_time, lead): range(product.members)}

    _write_ecmwf(product, folder, files, _ECMWF_CODES, "od", progress)


def write_aifs_ens(product: Product, folder: Path, progress: Progress = silent) -> None:
    """As :func:`write_ens`, with the control in a file of its own and rain in mm."""

    def files(lead: int) -> dict[str, range]:
        kinds = {"cf": range(1), "pf": range(1, product.members)}
        return {ecmwf.path(product.init_time, lead, "aifs-ens", "enfo", kind): members for kind, members in kinds.items()}

    _write_ecmwf(product, folder, files, _AIFS_CODES, "ai", progress)


def _write_ecmwf(
    product: Product,
    folder: Path,
    files: Callable[[int], Mapping[str, range]],
    codes: Mapping[str, _Coded],
    mars_class: str,
    progress: Progress,
) -> None:
    """``files`` gives the members of each file of a step."""
    names = {variable: param for param, variable in ecmwf.PARAMS.items()}
    encoder = _Encoder(product, _ECMWF, codes, "grid_ccsds", 158, ensemble=True)
    day, hour = day_and_hour(product.init_time)
    common = {"domain": "g", "date": day, "time": f"{hour}00", "expver": "0001", "class": mars_class, "stream": "enfo"}
    try:
        for position, lead in enumerate(product.lead_hours):
            windows = dict(_ecmwf_windows(product, position, codes))
            for path, members in files(lead).items():
                data, lines = bytearray(), []
                for member in members:
                    number: dict[str, Any] = {"type": "pf", "number": str(member)} if member else {"type": "cf"}
                    for name, window in windows.items():
                        message = encoder.message(name, window.begin, window.end, member, window.values[member])
                        place = {"_offset": len(data), "_length": len(message)}
                        lines.append(json.dumps({**common, **number, "step": str(lead), "levtype": "sfc", "param": names[name], **place}))
                        data += message
                _put(folder / path, bytes(data), ".grib2", lines, ".index")
            progress("GRIB", position + 1, len(product.lead_hours))
    finally:
        encoder.close()


def _ecmwf_windows(product: Product, position: int, codes: Mapping[str, _Coded]) -> Iterator[tuple[str, _Window]]:
    lead = product.lead_hours[position]
    for name, values in product.fields.items():
        if codes[name].statistic is None:
            yield name, _Window(lead, lead, values[position])
        elif lead:
            window = _bucket(product, name, position, 0)
            # Joules since the start, where ours is a mean in watts.
            seconds = 1.0 if name == "precipitation_amount" else 3600.0 * window.end
            yield name, _Window(0, lead, window.values * seconds)


def _put(path: Path, data: bytes, suffix: str, lines: list[str], index_suffix: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    index = path.with_name(path.name.removesuffix(suffix) + index_suffix)
    index.write_text("\n".join(lines) + "\n", encoding="ascii")


Writer = Callable[[Product, Path, Progress], None]


def write_aside(write: Callable[[Path], None], base: Path, inside: Path) -> bool:
    """Let ``write`` fill a folder aside, then make its sub-folder ``inside`` appear below ``base`` in one step.

    Args:
        write: Called with the folder aside.
        base: Provider folder.
        inside: Path of the cycle below it; another writer of the same cycle may have been first, with the same content.

    Returns:
        Whether this call made it appear.
    """
    target = base / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=base))
    try:
        write(aside)
        try:
            os.rename(aside / inside, target)
        except OSError:
            if not target.is_dir():
                raise
            return False
        return True
    finally:
        shutil.rmtree(aside, ignore_errors=True)
