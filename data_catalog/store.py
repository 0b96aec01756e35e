r"""Immutable, content-addressed Zarr v3 stores: written aside, checked, hashed, then made visible by one atomic step.

The archive, the product and everything derived are stores of this one kind, in a local folder or an object store. A store is never
changed once it can be seen; what is corrected is a new store under a new hash. Plain ``xarray.open_zarr(path, group=...)`` opens them.

The hash of a store is the sha256 of what ``sha256sum`` prints for its files in the order of their paths, so anyone can check one::

    cd 20250101T00Z.r0.0123456789ab.zarr
    find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum

or, with nothing but Python, ``content_hash({p.relative_to(s).as_posix(): sha256(p.read_bytes()).hexdigest() for p in s.rglob("*")
if p.is_file()})``. The same content gives the same hash with the same versions of zarr and its codecs: nothing in a store depends on
the clock, the process, or the order in which things were given.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from data_catalog import dimensions, faults, variables
from data_catalog.errors import StoreCorruptError, StoreError, StoreNotFoundError
from data_catalog.files import MARKER, LocalFiles, open_files

if TYPE_CHECKING:
    from data_catalog.settings import Settings

TILE: Final[Mapping[str, int]] = {dimensions.LATITUDE: 8, dimensions.LONGITUDE: 8, dimensions.STATION: 8}
"""Chunk lengths in space: a meteogram reads one small tile with all leads and members, and a map a few dozen."""

CONVENTIONS: Final = "CF-1.12"

_EPOCH: Final = "seconds since 1970-01-01"
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")

Groups = Mapping[str, xr.Dataset]


@dataclass(frozen=True, slots=True)
class StoreRef:
    """A published store.

    Attributes:
        path: Relative to the root, e.g. ``archive/gefs/20250101T00Z.0123456789ab.zarr``.
        content_hash: :func:`content_hash` of its files, 64 hex digits; the path carries the first 12.
    """

    path: str
    content_hash: str


def content_hash(digests: Mapping[str, str]) -> str:
    """The hash of a store: sha256 over its sorted (path, sha256), one line ``<sha256>  <path>`` a file as ``sha256sum`` prints it.

    Args:
        digests: sha256 of every file, 64 hex digits, by path relative to the store with forward slashes.

    Returns:
        64 hex digits.
    """
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


class Root:
    """Where everything is kept: a local folder, or an object store by URL.

    Args:
        url: ``./var``, ``/srv/giomua``, ``file:///srv/giomua``, ``s3://bucket/prefix``, or ``memory://`` (private to this object).
        storage_options: Endpoint, region and credentials of the object store, as obstore names them; the environment (``AWS_*``) is
            read too.

    Attributes:
        url: The absolute folder, or the URL without a closing slash.
        is_remote: Whether this is an object store.

    Raises:
        ConfigurationError: No such kind of URL, or an unknown option.
    """

    def __init__(self, url: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self._files = open_files(url, storage_options or {})
        self.is_remote = not isinstance(self._files, LocalFiles)
        self.url = self._files.url

    def __repr__(self) -> str:
        return f"Root({self.url!r})"

    @classmethod
    def open(cls, settings: Settings) -> Root:
        """The root that the settings name."""
        return cls(settings.root, storage_options=settings.storage_options)

    def location(self, path: str) -> str:
        """Absolute path or URL of a relative path, for people and other programs."""
        return self._files.location(_checked(path))

    def write_store(
        self,
        folder: str,
        name: str,
        groups: Groups,
        attributes: Mapping[str, Any] | None = None,
        *,
        revision: str = "",
        chunks: Mapping[str, int] | None = None,
        shards: Mapping[str, int] | None = None,
        check: Callable[[Groups], None] | None = None,
    ) -> StoreRef:
        """Write datasets as one store, check it, and publish it in one atomic step.

        Strings become Zarr ``string``, times int64 CF seconds, float64 data (not coordinates) float32, NaN is the fill value, and CF
        attributes of the catalog are added where the datasets bring none. Writing the same content again, also at the same time in
        another process, ends with the one store.

        Args:
            folder: Where, relative to the root, e.g. ``archive/gefs``.
            name: First part of the name, e.g. ``20250101T00Z``.
            groups: Dataset by group name; ``""`` is the root group.
            attributes: Attributes of the root group.
            revision: Second part of the name, e.g. ``r0``.
            chunks: Chunk length by dimension, over :data:`TILE`; a dimension without one is not split.
            shards: Shard length by dimension, rounded up to whole chunks; a dimension without one is not split.
            check: Called with the groups as read back from disk, before anyone else can see them; it refuses by raising.

        Returns:
            Where the store is, and its hash.

        Raises:
            StoreError: A dataset cannot be kept in this form, or the place cannot be written: with the free space and what to do.
            StoreCorruptError: What was read back differs from what was given, or a damaged store has this name already.
        """
        stem = ".".join(part for part in (name, revision) if part)
        wanted = _checked(f"{folder}/{stem}")
        for group in filter(None, groups):
            if not _PART.fullmatch(group):
                raise StoreError(f"The group name {group!r} cannot be used: give letters, digits and . _ + -, without a slash.")
        ready = {group: _prepare(dataset, f"{wanted} {group}".strip()) for group, dataset in sorted(groups.items())}
        with self._files.staging() as staging:
            staged = staging / "store.zarr"
            _write(staged, ready, attributes or {}, chunks or {}, shards or {})
            faults.at("store.staged")
            _compare(ready, staged, wanted)
            if check is not None:
                check({group: _open(str(staged), group) for group in ready})
            digest = content_hash(
                {file.relative_to(staged).as_posix(): _sha256(file) for file in staged.rglob("*") if file.is_file()}
            )
            path = f"{wanted}.{digest[:12]}.zarr"
            faults.at("store.checked")
            if not self._files.publish(staged, path):
                self.verify(path, digest)
        faults.at("store.published")
        return StoreRef(path, digest)

    def open_store(self, path: str, group: str = "") -> xr.Dataset:
        """Open a group lazily, without dask: values are read when asked for.

        Args:
            path: Relative to the root.
            group: Name of the group, ``""`` for the root group.

        Raises:
            StoreNotFoundError: No store there.
            StoreError: The store has no such group, or nothing in its root group; the message lists the groups there are.
        """
        known = self.groups(path)
        if group not in known:
            raise StoreError(
                f"The store {self.location(path)} has no data in group {group!r}; its groups are {', '.join(map(repr, known))}"
                f"{'. Root.attributes reads the attributes of the store' if not group else ''}."
            )
        return _open(self._files.zarr_store(_checked(path)), group)

    def groups(self, path: str) -> list[str]:
        """Names of the groups of a store, sorted, ``""`` first if its root group has arrays (or nothing else has).

        Raises:
            StoreNotFoundError: No store there.
        """
        nodes = self._metadata(path)["consolidated_metadata"]["metadata"]
        found = sorted(name for name, node in nodes.items() if node["node_type"] == "group")
        has_root = any(node["node_type"] == "array" and "/" not in name for name, node in nodes.items())
        return ["", *found] if has_root or not found else found

    def attributes(self, path: str) -> dict[str, Any]:
        """Attributes of the root group of a store.

        Raises:
            StoreNotFoundError: No store there.
        """
        return dict(self._metadata(path).get("attributes", {}))

    def verify(self, path: str, content_hash: str | None = None) -> str:
        """Read a whole store and compute its hash anew.

        Args:
            path: Relative to the root.
            content_hash: The hash it must have; without one, the 12 digits in its name must agree.

        Returns:
            The hash.

        Raises:
            StoreNotFoundError: No store there.
            StoreCorruptError: The hash differs.
        """
        if not self._files.exists(f"{_checked(path)}/{MARKER}"):
            raise self._not_found(path)
        found = self._hash(path)
        expected = content_hash or path.removesuffix(".zarr").rpartition(".")[2]
        if not found.startswith(expected):
            raise StoreCorruptError(
                f"The store {self.location(path)} has hash {found}, expected {expected}; delete it and make it again from its inputs."
            )
        return found

    def list_stores(self, folder: str) -> list[str]:
        """Paths, relative to the root, of the stores directly in a folder, sorted; unfinished ones are not among them."""
        names = self._files.folders(_checked(folder))
        return [f"{folder}/{name}" for name in names if name.endswith(".zarr") and self._files.exists(f"{folder}/{name}/{MARKER}")]

    def list_folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder that are no stores, sorted."""
        found = self._files.folders(_checked(folder) if folder else "")
        return [name for name in found if not name.endswith(".zarr") and not name.startswith(".")]

    def list_files(self, folder: str) -> list[str]:
        """Paths, relative to the root, of all files under a folder, sorted."""
        return [f"{folder}/{name}" for name in sorted(self._files.sizes(_checked(folder)))]

    def delete_store(self, path: str) -> None:
        """Delete a store; a reader that opens it meanwhile finds it whole or not at all.

        Raises:
            StoreNotFoundError: No store there.
        """
        if not self._files.exists(f"{_checked(path)}/{MARKER}"):
            raise self._not_found(path)
        self._files.delete(path)

    def exists(self, path: str) -> bool:
        """Whether there is a published store, or a file, at this path."""
        return self._files.exists(_checked(path))

    def read_bytes(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The content of a file, or the bytes from ``start`` to ``stop`` of it, fewer where it ends before.

        Raises:
            StoreNotFoundError: No file there.
        """
        return self._files.read(_checked(path), start, stop)

    def file_size(self, path: str) -> int | None:
        """Length of a file in bytes, None where there is no file."""
        return self._files.size(_checked(path))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write a file; who reads it meanwhile gets the old content or the new one, whole.

        Raises:
            StoreError: The place cannot be written: with the free space and what to do.
        """
        self._files.write(_checked(path), data)

    def read_json(self, path: str) -> Any | None:
        """The value in a JSON file, None where there is no file.

        Raises:
            StoreCorruptError: The file is not JSON.
        """
        try:
            return json.loads(self.read_bytes(path))
        except StoreNotFoundError:
            return None
        except ValueError as error:
            raise StoreCorruptError(f"The file {self.location(path)} is not JSON ({error}); restore or delete it.") from error

    def write_json(self, path: str, value: Any) -> None:
        """Write a value as JSON with sorted keys, replacing the file atomically.

        Raises:
            StoreError: The value has no JSON form (NaN has none), or the place cannot be written.
        """
        self.write_bytes(path, _json(value, path))

    def _metadata(self, path: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._files.read(f"{_checked(path)}/{MARKER}"))
        except StoreNotFoundError:
            raise self._not_found(path) from None
        except ValueError as error:
            raise StoreCorruptError(f"The metadata of {self.location(path)} is not JSON ({error}); make the store again.") from error
        if "metadata" not in (found.get("consolidated_metadata") or {}):
            raise StoreCorruptError(f"The store {self.location(path)} has no consolidated metadata; it was not written by Giómua.")
        return found

    def _hash(self, path: str) -> str:
        return content_hash({name: hashlib.sha256(self._files.read(f"{path}/{name}")).hexdigest() for name in self._files.sizes(path)})

    def _not_found(self, path: str) -> StoreNotFoundError:
        folder = str(PurePosixPath(path).parent)
        beside = self._files.folders(folder)
        listed = f"the folder has {', '.join(beside[-3:])}" if beside else "its folder is empty or not there"
        return StoreNotFoundError(f"There is no store {self.location(path)}; {listed}.")


def _checked(path: str) -> str:
    """A relative path that stays inside the root."""
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        raise StoreError(f"The path {path!r} cannot be used: give one relative to the root, of letters, digits, . _ + - and slashes.")
    return path


def _prepare(dataset: xr.Dataset, where: str) -> xr.Dataset:
    """The dataset as it is kept: own dtypes and attributes only, variables in the order of their names."""
    kept = {name: _kept_variable(str(name), dataset, where) for name in sorted(dataset.variables, key=str)}
    coordinates = {name: variable for name, variable in kept.items() if name in dataset.coords}
    data = {name: variable for name, variable in kept.items() if name not in dataset.coords}
    return xr.Dataset(data, coordinates, _clean(dataset.attrs, where))


def _kept_variable(name: str, dataset: xr.Dataset, where: str) -> xr.Variable:
    variable = dataset.variables[name]
    values = np.asarray(variable.values)
    attributes = {**dimensions.attributes(name), **variables.attributes(name), **variable.attrs}
    if f"{name}_bounds" in dataset.variables:
        attributes.setdefault("bounds", f"{name}_bounds")
    if values.dtype.kind in "OUT":
        values = _strings(values, f"{where} {name}")
    elif values.dtype.kind in "mM":
        attributes = {key: value for key, value in attributes.items() if key not in ("units", "calendar", "dtype")}
        values = _seconds(values, f"{where} {name}")
    elif values.dtype == np.float64 and name not in dataset.coords:
        values = _single(values, f"{where} {name}")
    elif values.dtype.kind not in "biuf":
        raise StoreError(f"{where} {name} has dtype {values.dtype}; numbers, strings, times and booleans can be kept.")
    return xr.Variable(variable.dims, values, _clean(attributes, f"{where} {name}"))


def _strings(values: np.ndarray, where: str) -> np.ndarray:
    """Variable-length strings; a missing one is empty."""
    plain = values.astype(object)
    for value in plain.flat:
        if not (isinstance(value, str) or value is None or (isinstance(value, float) and math.isnan(value))):
            raise StoreError(f"{where} holds {value!r}, a {type(value).__name__}, among its strings; give strings only.")
    texts = [value if isinstance(value, str) else "" for value in plain.flat]
    return np.array(texts, dtype=np.dtypes.StringDType()).reshape(plain.shape)


def _seconds(values: np.ndarray, where: str) -> np.ndarray:
    whole = values.astype(f"{values.dtype.kind}8[s]")
    if not np.array_equal(whole.astype(values.dtype), values, equal_nan=True):
        raise StoreError(f"{where} has times with fractions of a second; stores keep whole seconds, so round them first.")
    return whole.astype(f"{values.dtype.kind}8[ns]")


def _single(values: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if np.isfinite(single).sum() != np.isfinite(values).sum():
        raise StoreError(f"{where} has values beyond float32, up to {np.nanmax(np.abs(values)):.3g}; check its units.")
    return single


def _clean(attributes: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Attributes as plain JSON, keys sorted."""
    return {str(key): _plain(attributes[key], f"{where}, attribute {key!r}") for key in sorted(attributes, key=str)}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, Mapping):
        return _clean(value, where)
    if isinstance(value, list | tuple):
        return [_plain(part, where) for part in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise StoreError(f"{where}: {value!r} has no JSON form; give text, finite numbers, booleans, lists or mappings of them.")


def _write(
    staged: Path, groups: Groups, attributes: Mapping[str, Any], chunks: Mapping[str, int], shards: Mapping[str, int]
) -> None:
    """Write the groups and their metadata, the latter in one canonical form."""
    root = groups.get("", xr.Dataset())
    root = root.assign_attrs(_clean({"Conventions": CONVENTIONS, **root.attrs, **attributes}, "the root group"))
    for group, dataset in sorted({**groups, "": root}.items()):
        encoding = {name: _encoding(variable, chunks, shards) for name, variable in dataset.variables.items()}
        dataset.to_zarr(
            staged, group=group or None, mode="a" if group else "w", zarr_format=3, consolidated=False, encoding=encoding
        )
    _consolidate(staged)


def _encoding(variable: xr.Variable, chunks: Mapping[str, int], shards: Mapping[str, int]) -> dict[str, Any]:
    """How one variable is kept; every chunk carries a checksum, so that damage is an error and never a value."""
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    is_number = variable.dtype.kind in "fiu"
    pack = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=variable.dtype.itemsize) if is_number else ZstdCodec(level=1)
    found: dict[str, Any] = {"compressors": (pack, Crc32cCodec())}
    if variable.dtype.kind == "f":
        found |= {"fill_value": np.nan, "_FillValue": np.nan}
    elif variable.dtype.kind == "M":
        found |= {"dtype": "int64", "units": _EPOCH, "calendar": "proleptic_gregorian"}
    elif variable.dtype.kind == "m":
        found |= {"dtype": "int64", "units": "seconds"}
    if variable.size > 0:
        sizes = dict(zip(map(str, variable.dims), variable.shape, strict=True))
        chunk = {dim: min(size, chunks.get(dim, TILE.get(dim, size))) for dim, size in sizes.items()}
        shard = {dim: _round_up(min(size, shards.get(dim, size)), chunk[dim]) for dim, size in sizes.items()}
        found["chunks"] = tuple(chunk.values())
        if shard != chunk:
            found["shards"] = tuple(shard.values())
    return found


def _round_up(length: int, step: int) -> int:
    return -(-length // step) * step


def _consolidate(staged: Path) -> None:
    """Rewrite all metadata with sorted keys, and repeat it in the root for those who read over a network.

    The form is zarr-python's for consolidated metadata of Zarr v3: an inline map from path to metadata.
    """
    nodes = {file.parent.relative_to(staged).as_posix(): json.loads(file.read_bytes()) for file in staged.rglob(MARKER)}
    inside = {path: node for path, node in sorted(nodes.items()) if path != "."}
    nodes["."]["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": inside}
    for path, node in nodes.items():
        (staged / path / MARKER).write_bytes(_json(node, path))


def _json(value: Any, where: str) -> bytes:
    try:
        return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise StoreError(f"What is to be written to {where} has no JSON form: {error}.") from error


def _open(store: Any, group: str) -> xr.Dataset:
    dataset: xr.Dataset = xr.open_zarr(store, group=group or None, chunks=None, consolidated=True, zarr_format=3)
    return dataset


def _compare(groups: Groups, staged: Path, where: str) -> None:
    """Whether the disk holds what was given, value by value."""
    for group, given in groups.items():
        stored = _open(str(staged), group)
        for name, variable in given.variables.items():
            found = stored.variables.get(name)
            if found is None or found.dims != variable.dims or not _equal(variable.values, found.values):
                raise StoreCorruptError(f"{where} {group}: {name} read back differs from what was written; check the disk and memory.")


def _equal(given: np.ndarray, found: np.ndarray) -> bool:
    if given.dtype.kind in "mM" and found.dtype.kind == given.dtype.kind:
        found = found.astype(given.dtype)  # xarray decodes a timedelta of length zero in other units
    return given.dtype == found.dtype and np.array_equal(given, found, equal_nan=given.dtype.kind in "fmM")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
