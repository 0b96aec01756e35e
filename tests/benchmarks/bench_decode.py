"""How fast GRIB gets into the archive, beside cfgrib + to_zarr and beside ecCodes decoding alone.

500 global messages of 0.25 degrees in two packings (simple, CCSDS), 16 bits: 25 leads x 10 members of two variables. Each contender runs in
a process of its own, in turn, and is charged for the CPU seconds of itself and its children, imports included (but dask, which xarray loads
where it is installed and which is no dependency)::

    python -m tests.benchmarks.bench_decode [--quick] [--json PATH]

``giomua``   cuts to the region and stores, with every check, by :func:`pipelines.ingest.import_files`
``cfgrib``   opens each file, cuts to the region, and ``to_zarr``
``eccodes``  decodes every message and throws the values away
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

PACKINGS = ("grid_simple", "grid_ccsds")
MEMBERS = 10
CONTENDERS = ("giomua", "cfgrib", "eccodes")
AGAINST_CFGRIB = 3.0          # at least this many times faster
AGAINST_ECCODES = 1.25        # at most this many times slower
WORKER_MIB = 100.0            # at most this much above the imports


def make_files(folder: Path, leads: int) -> list[Path]:
    """Two files of ``leads`` x 10 messages each: smooth fields with weather-like texture, seeded."""
    import eccodes

    rng = np.random.default_rng(20250801)
    latitude, longitude = np.linspace(90.0, -90.0, 721)[:, None], np.arange(1440)[None, :] * 0.25
    wave = 285.0 - 40.0 * np.sin(np.radians(latitude)) ** 2 + 6.0 * np.sin(np.radians(3 * longitude)) * np.cos(np.radians(latitude))
    texture = [_texture(rng) for _ in range(4)]
    files = []
    for packing, (category, number, level) in zip(PACKINGS, ((0, 0, 2), (2, 2, 10)), strict=True):
        handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
        keys = {
            "centre": 7, "dataDate": 20250801, "dataTime": 0, "Ni": 1440, "Nj": 721,
            "latitudeOfFirstGridPointInDegrees": 90.0, "latitudeOfLastGridPointInDegrees": -90.0,
            "longitudeOfFirstGridPointInDegrees": 0.0, "longitudeOfLastGridPointInDegrees": 359.75,
            "iDirectionIncrementInDegrees": 0.25, "jDirectionIncrementInDegrees": 0.25,
            "productDefinitionTemplateNumber": 1, "generatingProcessIdentifier": 107, "numberOfForecastsInEnsemble": MEMBERS,
            "parameterCategory": category, "parameterNumber": number, "typeOfFirstFixedSurface": 103,
            "scaleFactorOfFirstFixedSurface": 0, "scaledValueOfFirstFixedSurface": level, "packingType": packing, "bitsPerValue": 16,
        }    # fmt: skip
        for key, value in keys.items():
            eccodes.codes_set(handle, key, value)
        path = folder / f"{packing}.grib2"
        with path.open("wb") as file:
            for lead in range(leads):
                for member in range(MEMBERS):
                    eccodes.codes_set(handle, "step", 3 * lead)
                    eccodes.codes_set(handle, "typeOfEnsembleForecast", 3 if member else 1)
                    eccodes.codes_set(handle, "perturbationNumber", member)
                    shift = 7 * member + 31 * lead
                    noise = np.roll(texture[(member + lead) % 4], shift, axis=1) + 0.5 * np.roll(texture[lead % 4], -shift, axis=1)
                    values = wave + noise if category == 0 else 8.0 * np.sin(np.radians(4 * latitude + longitude)) + noise
                    eccodes.codes_set_values(handle, values.ravel())
                    eccodes.codes_write(handle, file)
        eccodes.codes_release(handle)
        files.append(path)
    return files


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Noise with a power law over scales, by Fourier filtering: what packing of real fields has to cope with. (721, 1440)."""
    spectrum = np.fft.rfft2(rng.normal(size=(721, 1440)))
    scale = np.hypot(np.fft.fftfreq(721)[:, None] * 721, np.fft.rfftfreq(1440)[None, :] * 1440)
    field = np.fft.irfft2(spectrum / np.maximum(scale, 1.0) ** 1.5, s=(721, 1440))
    return 2.0 * field / field.std()


def run_giomua(files: list[Path], out: Path) -> dict[str, float]:
    from data_catalog.manifest import Manifest
    from data_catalog.regions import load_region
    from data_catalog.store import Root
    from pipelines.ingest import import_files

    with Manifest.open(f"sqlite:///{out / 'manifest.db'}") as manifest:
        report = import_files(Root(str(out)), manifest, load_region(), files, workers=1)
    return {"taken": float(len(report.taken))}


def run_cfgrib(files: list[Path], out: Path) -> dict[str, float]:
    import xarray as xr

    for file in files:
        with xr.open_dataset(file, engine="cfgrib", backend_kwargs={"indexpath": ""}) as opened:
            opened.sel(latitude=slice(23.0, 18.5), longitude=slice(102.0, 110.0)).to_zarr(out / f"{file.stem}.zarr", consolidated=False)
    return {}


def run_eccodes(files: list[Path], out: Path) -> dict[str, float]:
    import eccodes

    for path in files:
        with path.open("rb") as file:
            while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
                eccodes.codes_get_values(handle)
                eccodes.codes_release(handle)
    return {}


def worker_memory(files: list[Path], messages: int = 60) -> dict[str, float]:
    """Peak memory of a decoding worker above that of its imports, MiB."""
    from data_catalog.grib import DecodePool

    def peak(pid: int) -> float:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024.0

    found: dict[str, float] = {}
    with DecodePool(workers=1) as pool:
        pool.start()
        imports = peak(pool.pids[0])
        for number, _ in enumerate(pool.decode(files, (23.0, 18.5, 102.0, 110.0))):
            found["worker_mib"] = peak(pool.pids[0]) - imports
            if number > messages:
                break
    return found


RUNS: dict[str, Callable[[list[Path], Path], dict[str, float]]] = {"giomua": run_giomua, "cfgrib": run_cfgrib, "eccodes": run_eccodes}


def charge(name: str, files: list[Path]) -> float:
    """CPU seconds of one contender in a fresh process, its children included."""
    with tempfile.TemporaryDirectory() as out:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        module = ["-W", "ignore", "-m", "tests.benchmarks.bench_decode"]
        command = [sys.executable, *module, "--contender", name, "--out", out, *map(str, files)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(leads: int, repeats: int) -> dict[str, object]:
    """Median CPU seconds of each contender over interleaved runs, and the worker's memory."""
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), leads)
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(repeats):
            for name in CONTENDERS:
                seconds[name].append(charge(name, files))
        memory = worker_memory(files)["worker_mib"]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "messages": 2 * leads * MEMBERS,
        "repeats": repeats,
        "cpu_seconds": median,
        "all_cpu_seconds": seconds,
        "times_faster_than_cfgrib": median["cfgrib"] / median["giomua"],
        "times_eccodes_alone": median["giomua"] / median["eccodes"],
        "worker_mib_above_imports": memory,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table, with a word where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 messages, one run each: shows that it works, measures little")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("files", type=Path, nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.contender:
        sys.modules["dask"] = None    # type: ignore[assignment]     # only a development tool brings it; xarray would load all of it
        RUNS[chosen.contender](chosen.files, chosen.out)
        return 0
    found = measure(*((3, 1) if chosen.quick else (25, 5)))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    cpu = found["cpu_seconds"]
    assert isinstance(cpu, dict)
    print(f"{found['messages']} global 0.25-degree messages, median of {found['repeats']}, CPU seconds with children")
    for name in CONTENDERS:
        print(f"  {name:8s} {cpu[name]:8.2f} s")
    rows = (
        ("times faster than cfgrib + to_zarr", found["times_faster_than_cfgrib"], "at least", AGAINST_CFGRIB),
        ("times ecCodes decoding alone", found["times_eccodes_alone"], "at most", AGAINST_ECCODES),
        ("MiB of a worker above its imports", found["worker_mib_above_imports"], "at most", WORKER_MIB),
    )
    for what, value, how, target in rows:
        assert isinstance(value, float)
        holds = value >= target if how == "at least" else value <= target
        print(f"  {value:7.2f} {what} (target: {how} {target:g}){'' if holds else '  MISSED'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
