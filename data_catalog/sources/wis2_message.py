"""The WIS2 notification message (WMO-No. 1061, wis2-notification-message 1.1): what it says, its data, its checksum.

A GeoJSON feature of at most 8,192 bytes with exactly one link that is canonical, update or deletion.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from data_catalog.errors import DecodeError

MAX_MESSAGE: Final = 8192       # bytes of a notification (7.1.16)
MAX_INLINE: Final = 4096        # bytes of data inside one (7.1.12)
MAX_FILE: Final = 16 << 20      # bytes of a file of surface reports; real ones have some hundreds

_CONFORMANCE: Final = "http://wis.wmo.int/spec/wnm/1/conf/core"
_LINKS: Final = ("canonical", "update", "deletion")
_HASHES: Final[Mapping[str, str]] = {
    "sha256": "sha256", "sha384": "sha384", "sha512": "sha512", "sha3-256": "sha3_256", "sha3-384": "sha3_384", "sha3-512": "sha3_512",
}    # fmt: skip
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Notification:
    """What a valid notification says.

    Attributes:
        id: Of the message.
        data_id: Of the data; the same in every copy.
        pubtime: When it was published, UTC, as text whose order is that of time.
        relation: canonical, update or deletion.
        href: Where the data is.
        length: Bytes that the link promises, None where it does not.
        place: Longitude and latitude of a point, None where it states none.
        station: WIGOS identifier of the station, "" where it states none.
        content: Encoding, value and size of data inside the message, or None.
        integrity: Method and value of the checksum, or None.
    """

    id: str
    data_id: str
    pubtime: str
    relation: str
    href: str
    length: int | None = None
    place: tuple[float, float] | None = None
    station: str = ""
    content: Mapping[str, Any] | None = None
    integrity: Mapping[str, str] | None = None


def parse(payload: bytes) -> Notification:
    """A notification from its bytes.

    Raises:
        DecodeError: It does not follow the standard; the message names what was found and what is expected.
    """
    if len(payload) > MAX_MESSAGE:
        raise DecodeError(f"the notification has {len(payload)} bytes, at most {MAX_MESSAGE} are allowed")
    try:
        message = json.loads(payload)
    except ValueError as error:
        raise DecodeError(f"the notification is not JSON: {error}") from None
    _expect(isinstance(message, dict), "the notification is no JSON object")
    _expect(message.get("type") == "Feature", f"its type is {message.get('type')!r}, expected 'Feature'")
    conforms, version = message.get("conformsTo"), message.get("version")
    conforms_to = conforms is None or (isinstance(conforms, list) and _CONFORMANCE in conforms)
    _expect(conforms_to, f"conformsTo is {conforms!r}, without {_CONFORMANCE}")
    _expect(version in (None, "v04"), f"its version is {version!r}, expected 'v04' or none")
    _expect((conforms is None) != (version is None), "it states not exactly one of conformsTo and version")
    _expect(_is_uuid(message.get("id")), f"its id {message.get('id')!r} is no UUID")
    _expect("geometry" in message, "it has no geometry; expected one, or null")
    about = message.get("properties")
    _expect(isinstance(about, dict), f"its properties are {about!r}, expected an object")
    _expect(_is_time(about.get("pubtime")), f"its pubtime {about.get('pubtime')!r} is no RFC 3339 time")
    _expect(isinstance(about.get("data_id"), str) and about["data_id"] != "", f"its data_id is {about.get('data_id')!r}, expected a text")
    _expect(_states_time(about), "it states not exactly one of datetime, and start_datetime with end_datetime")
    links = message.get("links")
    _expect(isinstance(links, list) and all(isinstance(link, dict) for link in links), f"its links are {links!r}, expected a list")
    chosen = [link for link in links if link.get("rel") in _LINKS]
    _expect(len(chosen) == 1, f"it has {len(chosen)} links of the kinds canonical, update and deletion, expected one")
    _expect(all(isinstance(link.get("href"), str) and isinstance(link.get("rel"), str) for link in links), "a link has no href or rel")
    length = chosen[0].get("length")
    _expect(length is None or isinstance(length, int), f"the length of its link is {length!r}, expected a number")
    return Notification(
        message["id"], about["data_id"], _moment(about["pubtime"]).isoformat(timespec="microseconds"), chosen[0]["rel"],
        chosen[0]["href"], length, _place(message["geometry"]), str(about.get("wigos_station_identifier") or ""), _content(about),
        _integrity(about),
    )    # fmt: skip


def _expect(holds: bool, reason: str) -> None:
    if not holds:
        raise DecodeError(reason)


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        return False
    try:
        _moment(value)
    except ValueError:
        return False
    return True


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value.upper()).astimezone(UTC)


def _states_time(about: Mapping[str, Any]) -> bool:
    span = "start_datetime" in about and "end_datetime" in about
    if ("datetime" in about) == span:
        return False
    times = [about[name] for name in ("datetime", "start_datetime", "end_datetime") if name in about]
    return all(_is_time(value) or (value is None and not span) for value in times)


def _place(geometry: Any) -> tuple[float, float] | None:
    """The point of a geometry; a polygon is an area, and says nothing about one station."""
    if geometry is None:
        return None
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    places = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind not in ("Point", "Polygon") or not isinstance(places, list):
        raise DecodeError(f"its geometry is {str(geometry)[:80]!r}, expected a point or polygon")
    if kind == "Polygon":
        return None
    numbers = [value for value in places if isinstance(value, (int, float)) and not isinstance(value, bool)]
    _expect(len(numbers) == len(places) >= 2, f"its point is {places!r}, expected longitude and latitude")
    return float(numbers[0]), float(numbers[1])


def _content(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    content: dict[str, Any] | None = about.get("content")
    if content is None:
        return None
    _expect(isinstance(content, dict) and {"encoding", "value", "size"} <= set(content), "its content lacks encoding, value or size")
    _expect(content["encoding"] in ("utf-8", "base64", "gzip"), f"its content is encoded as {content['encoding']!r}")
    size = content["size"]
    _expect(isinstance(size, int) and size <= MAX_INLINE, f"its content has size {size!r}, at most {MAX_INLINE}")
    _expect(isinstance(content["value"], str) and len(content["value"]) <= MAX_INLINE, "the value of its content is no text, or too long")
    return content


def _integrity(about: Mapping[str, Any]) -> Mapping[str, str] | None:
    stated: dict[str, str] | None = about.get("integrity")
    if stated is None:
        return None
    _expect(isinstance(stated, dict) and {"method", "value"} <= set(stated), "its integrity lacks method or value")
    _expect(stated["method"] in _HASHES, f"its checksum is by {stated['method']!r}; known are {', '.join(_HASHES)}")
    _expect(isinstance(stated["value"], str), "the value of its checksum is no text")
    return stated


def inline(content: Mapping[str, Any]) -> bytes:
    """The data inside a notification.

    Raises:
        DecodeError: It cannot be decoded, or has another size than stated.
    """
    value = str(content["value"])
    try:
        data = value.encode() if content["encoding"] == "utf-8" else base64.b64decode(value, validate=True)
        if content["encoding"] == "gzip":
            stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
            data = stream.decompress(data, MAX_FILE)
            _expect(stream.eof, f"its content is cut off, or has more than {MAX_FILE} bytes")
    except (binascii.Error, zlib.error) as error:
        raise DecodeError(f"its content cannot be decoded: {error}") from None
    stated = content["size"] if content["encoding"] != "gzip" else len(data)       # for gzip, the size is that of the compressed form
    _expect(len(data) == stated, f"its content has {len(data)} bytes, {stated} are stated")
    return data


def check_integrity(data: bytes, integrity: Mapping[str, str] | None) -> None:
    """Hold data against its checksum; data without one passes.

    Raises:
        DecodeError: The checksum differs.
    """
    if integrity is not None:
        found = base64.b64encode(hashlib.new(_HASHES[integrity["method"]], data).digest()).decode()
        if found != integrity["value"]:
            raise DecodeError(f"the {integrity['method']} of the data is {found}, the notification states {integrity['value']}")
