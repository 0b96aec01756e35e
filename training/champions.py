"""Trained versions in the root, and which of them a cycle uses: the champion of each forecaster, and the challenger in its shadow.

A version is ``models/<id>/<version>/``: ``state.safetensors`` with the arrays, ``model.json`` with the rest of the state and where it was
learned, and what people want to know of it beside these two. The version's name ends in a hash of the two: the same training makes the
same version. ``model.json`` is written last, after everything was read back, so that a version is whole or is not there.
``models/champions.json`` is replaced in one step. Nothing here knows of MLflow, and a cycle reads nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from data_catalog.errors import GiomuaError, StoreCorruptError, UnknownNameError
from data_catalog.store import Root, content_hash
from models.base import Forecaster, ForecasterError
from models.registry import restore

FOLDER: Final = "models"
POINTER: Final = "models/champions.json"
STATE, MODEL = "state.safetensors", "model.json"
SHADOW: Final = "shadow/"
"""Before the id of a challenger, the dataset of its forecasts in the shadow of the cycles."""
KEPT: Final = 5
"""Former champions that a roll-back can reach."""

Role = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class Version:
    """A trained forecaster in the root.

    Attributes:
        forecaster: Its id.
        name: ``<end of the past it knows>.<first digits of the hash>``.
        content_hash: Over its two files, as :func:`data_catalog.store.content_hash` makes it.
        training: Where it was learned: ``until``, ``held_out_from``, ``snapshot``, ``sources``, ``targets``, ``parameters``...
    """

    forecaster: str
    name: str
    content_hash: str
    training: Mapping[str, Any] = field(hash=False)

    @property
    def folder(self) -> str:
        """Path relative to the root."""
        return f"{FOLDER}/{self.forecaster}/{self.name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A version in a role.

    Attributes:
        version: Its name.
        content_hash: What it must have.
        snapshot: Of the data it learned from.
        since: UTC, when it got the role.
        reason: Why.
    """

    version: str
    content_hash: str
    snapshot: str
    since: str
    reason: str


@dataclass(frozen=True, slots=True)
class Roles:
    """Who is what among the versions of one forecaster.

    Attributes:
        champion: Used by the cycles.
        challenger: Runs in their shadow.
        previous: Former champions, the last one first.
    """

    champion: Entry | None = None
    challenger: Entry | None = None
    previous: tuple[Entry, ...] = ()

    def role_of(self, version: str) -> str:
        """``champion``, ``challenger``, ``previous`` or ``""``."""
        if self.champion and self.champion.version == version:
            return "champion"
        if self.challenger and self.challenger.version == version:
            return "challenger"
        return "previous" if any(one.version == version for one in self.previous) else ""


# --- versions ----------------------------------------------------------------------------------------------------------------------


def save_version(root: Root, forecaster: Forecaster, training: Mapping[str, Any], beside: Mapping[str, bytes] | None = None) -> Version:
    """Write a fitted forecaster, read it back, and make it visible in one step.

    Args:
        root: Where.
        forecaster: Fitted.
        training: JSON: ``until`` (``YYYYMMDDTHHZ``) and whatever else says where it was learned. Part of the hash: no clock in it.
        beside: Files for people, by name; not part of the hash.

    Returns:
        The version. The same state and training again is the one that is there.

    Raises:
        StoreError: The root cannot be written.
        StoreCorruptError: What was read back is another state.
    """
    version, files = _made(forecaster, training)
    if root.exists(f"{version.folder}/{MODEL}"):
        load_version(root, version.forecaster, version.name, version.content_hash)
        return version
    for name, data in ((STATE, files[STATE]), *(beside or {}).items()):
        root.write_bytes(f"{version.folder}/{name}", data)
    _decode(root.read_bytes(f"{version.folder}/{STATE}"), files[MODEL], f"{version.folder}/{STATE}")
    root.write_bytes(f"{version.folder}/{MODEL}", files[MODEL])
    return version


def version_of(forecaster: Forecaster, training: Mapping[str, Any]) -> Version:
    """The version that :func:`save_version` would write."""
    return _made(forecaster, training)[0]


def _made(forecaster: Forecaster, training: Mapping[str, Any]) -> tuple[Version, dict[str, bytes]]:
    files = _encode(forecaster, training)
    digest = content_hash({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    return Version(forecaster.spec.id, f"{training['until']}.{digest[:12]}", digest, training), files


def load_version(root: Root, forecaster_id: str, name: str, expected: str | None = None) -> tuple[Version, Forecaster]:
    """A version and its forecaster, checked.

    Args:
        root: Where it is.
        forecaster_id: Its id.
        name: Of the version.
        expected: Hash it must have; without it, the digits in its name must agree.

    Raises:
        StoreNotFoundError: There is no such version, or its state is gone.
        StoreCorruptError: A file is not what it was: with its name and hash.
    """
    folder = f"{FOLDER}/{forecaster_id}/{name}"
    files = {part: root.read_bytes(f"{folder}/{part}") for part in (STATE, MODEL)}
    digests = {part: hashlib.sha256(data).hexdigest() for part, data in files.items()}
    found, wanted = content_hash(digests), expected or name.rpartition(".")[2]
    if not found.startswith(wanted):
        try:
            promised = json.loads(files[MODEL])["arrays"]
        except (ValueError, KeyError):
            promised = None
        part = MODEL if promised in (None, digests[STATE]) else STATE
        raise StoreCorruptError(
            f"The file {root.location(f'{folder}/{part}')} is damaged (sha256 {digests[part][:12]}, the version has hash {found[:12]} and "
            f"must have {wanted[:12]}); go back with: giomua promote {forecaster_id} --rollback, or train it again."
        )
    forecaster, training = _decode(files[STATE], files[MODEL], f"{folder}/{STATE}")
    return Version(forecaster_id, name, found, training), forecaster


def versions(root: Root, forecaster_id: str | None = None) -> list[Version]:
    """Every version in the root, by id and then by name; what is unfinished or unreadable is not among them."""
    ids = [forecaster_id] if forecaster_id else root.list_folders(FOLDER)
    found = []
    for one in ids:
        for name in root.list_folders(f"{FOLDER}/{one}"):
            try:
                written = root.read_bytes(f"{FOLDER}/{one}/{name}/{MODEL}")
                model = json.loads(written)
                digests = {STATE: model["arrays"], MODEL: hashlib.sha256(written).hexdigest()}
                found.append(Version(one, name, content_hash(digests), model["training"]))
            except (GiomuaError, ValueError, TypeError, KeyError):
                continue
    return found


def find_version(root: Root, forecaster_id: str, text: str) -> str:
    """The name of a version as people give it: whole, the start of it or of its hash, or ``challenger`` or ``champion``.

    Raises:
        UnknownNameError: None, or more than one, is meant.
    """
    roles = read_champions(root).get(forecaster_id, Roles())
    entry = {"champion": roles.champion, "challenger": roles.challenger}.get(text)
    if entry is not None:
        return entry.version
    names = [one.name for one in versions(root, forecaster_id)]
    meant = [name for name in names if name == text] or [
        name for name in names if name.startswith(text) or name.rpartition(".")[2].startswith(text)
    ]
    if len(meant) != 1:
        known = ", ".join(names) or f"none; train one: giomua train {forecaster_id}"
        raise UnknownNameError(f"{forecaster_id} has {'no' if not meant else len(meant)} version {text!r}; there is {known}.")
    return meant[0]


def _encode(forecaster: Forecaster, training: Mapping[str, Any]) -> dict[str, bytes]:
    """The two files of a version. Text and times, which safetensors has no types for, are kept in the JSON and as integers."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, Any] = {}
    times: dict[str, str] = {}
    for name, value in sorted(forecaster.state().items()):
        array = np.asarray(value)
        if array.dtype.kind in "UTO":
            texts[name] = np.asarray(array, dtype=object).tolist()
            continue
        if array.dtype.kind in "Mm":
            times[name] = array.dtype.str
            array = array.astype(np.int64)
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
    state: bytes = save(arrays)
    model = {
        "format": 1,
        "forecaster": forecaster.spec.id,
        "spec": forecaster.spec.version,
        "arrays": hashlib.sha256(state).hexdigest(),
        "texts": texts,
        "times": times,
        "training": dict(training),
    }
    return {STATE: state, MODEL: (json.dumps(model, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()}


def _decode(state: bytes, model: bytes, where: str) -> tuple[Forecaster, Mapping[str, Any]]:
    """The forecaster of two files.

    Raises:
        StoreCorruptError: They are not what :func:`_encode` wrote.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        said = json.loads(model)
        if (digest := hashlib.sha256(state).hexdigest()) != said["arrays"]:
            raise StoreCorruptError(f"The file {where} has sha256 {digest}, expected {said['arrays']}; train the forecaster again.")
        found: dict[str, Any] = dict(load(state))
        found |= {name: found[name].astype(dtype) for name, dtype in said["times"].items()}
        found |= {name: np.array(text, dtype=str) for name, text in said["texts"].items()}
        return restore(str(said["forecaster"]), found), said["training"]
    except (SafetensorError, ForecasterError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StoreCorruptError):
            raise
        raise StoreCorruptError(f"The version at {where} cannot be read ({error}); train the forecaster again.") from error


# --- roles -------------------------------------------------------------------------------------------------------------------------


def read_champions(root: Root) -> dict[str, Roles]:
    """Roles by forecaster id; empty where nothing was trained.

    Raises:
        StoreCorruptError: ``champions.json`` is damaged.
    """
    found = root.read_json(POINTER)
    if found is None:
        return {}
    try:
        return {
            name: Roles(_read(roles["champion"]), _read(roles["challenger"]), tuple(Entry(**one) for one in roles["previous"]))
            for name, roles in found["forecasters"].items()
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise StoreCorruptError(
            f"The file {root.location(POINTER)} is damaged ({error!r}); delete it and name the champions again with giomua promote --force."
        ) from error


def enter(root: Root, version: Version, *, now: str) -> Role:
    """A newly trained version becomes the challenger, or the champion where there is none. A champion stays what it is."""

    def change(roles: Roles) -> Roles:
        if roles.role_of(version.name) == "champion":
            return roles
        if roles.champion is None:
            return replace(roles, champion=_entry(version, now, "the first version"))
        return replace(roles, challenger=_entry(version, now, "newly trained"))

    role = _rewrite(root, version.forecaster, change).role_of(version.name)
    return "champion" if role == "champion" else "challenger"


def promote(root: Root, version: Version, *, now: str, reason: str) -> Roles:
    """The version becomes the champion; the one before is kept for a roll-back."""

    def change(roles: Roles) -> Roles:
        challenger = None if roles.challenger and roles.challenger.version == version.name else roles.challenger
        previous = roles.previous if roles.champion is None else (roles.champion, *roles.previous)
        previous = tuple(one for one in previous if one.version != version.name)[:KEPT]
        return Roles(_entry(version, now, reason), challenger, previous)

    return _rewrite(root, version.forecaster, change)


def roll_back(root: Root, forecaster_id: str, *, now: str, reason: str) -> Roles:
    """The last former champion is the champion again; the present one becomes the challenger.

    Raises:
        UnknownNameError: There is no former champion.
        StoreCorruptError: The former champion is damaged.
    """

    def change(roles: Roles) -> Roles:
        if not roles.previous:
            raise UnknownNameError(f"{forecaster_id} has no former champion to go back to; see giomua models {forecaster_id}.")
        back = roles.previous[0]
        load_version(root, forecaster_id, back.version, back.content_hash)
        return Roles(replace(back, since=now, reason=reason), roles.champion, roles.previous[1:])

    return _rewrite(root, forecaster_id, change)


def _read(entry: Mapping[str, Any] | None) -> Entry | None:
    return None if entry is None else Entry(**entry)


def _entry(version: Version, now: str, reason: str) -> Entry:
    return Entry(version.name, version.content_hash, str(version.training.get("snapshot", "")), now, reason)


def _rewrite(root: Root, forecaster_id: str, change: Callable[[Roles], Roles]) -> Roles:
    with _alone(root):
        known = read_champions(root)
        roles = change(known.get(forecaster_id, Roles()))
        known[forecaster_id] = roles
        root.write_json(POINTER, {"format": 1, "forecasters": {name: asdict(one) for name, one in sorted(known.items())}})
    return roles


@contextmanager
def _alone(root: Root) -> Iterator[None]:
    """One writer at a time in a local root; in an object store the last one wins, and its file is whole."""
    if root.is_remote:
        yield
        return
    lock = Path(root.location(FOLDER)) / ".lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, eq=False)
class Loaded:
    """A version at work.

    Attributes:
        version: What it is.
        forecaster: Fitted.
    """

    version: Version
    forecaster: Forecaster

    @property
    def held_out_from(self) -> np.datetime64:
        """From this init_time on, nothing that it forecasts was learned from."""
        return np.datetime64(str(self.version.training["held_out_from"]).rstrip("Z"), "ns")


def load_role(root: Root, role: Role) -> tuple[dict[str, Loaded], list[str]]:
    """Every champion, or every challenger, that can be used, and one sentence for each that cannot.

    A damaged one stops nothing: the cycle goes on without it and says so.
    """
    try:
        known = read_champions(root)
    except GiomuaError as error:
        return {}, [str(error)]
    found: dict[str, Loaded] = {}
    notes = []
    for name, roles in known.items():
        entry = roles.champion if role == "champion" else roles.challenger
        if entry is None:
            continue
        try:
            found[name] = Loaded(*load_version(root, name, entry.version, entry.content_hash))
        except (GiomuaError, ForecasterError) as error:
            notes.append(f"The {role} of {name} cannot be used: {error}")
    return found, notes
