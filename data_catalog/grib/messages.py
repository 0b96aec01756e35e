"""GRIB 1 and 2 from the outside: where each message lies in a buffer, what its header says, and whether its lengths agree.

Nothing here decodes a payload and nothing here can crash on a damaged one: it is octet arithmetic after the WMO Manual on Codes
(WMO-No. 306, FM 92 GRIB, editions 1 and 2). Octet numbers in comments are the manual's, counted from 1 within a section.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from data_catalog.errors import DecodeError, NotGribError, TruncatedError

Bytes = bytes | memoryview

INSTANT: Final = None
AVERAGE: Final = 0
ACCUMULATION: Final = 1
MAXIMUM: Final = 2
MINIMUM: Final = 3
UNSTATED: Final = 255
"""Statistical processes of code table 4.10; GRIB 1's time range indicators are mapped to them."""

_SIMPLE: Final = 0
_GREATEST_STEP: Final = 1e30  # of a packing, in any unit
_CCSDS: Final = 42
_SECONDS2: Final = {0: 60, 1: 3600, 2: 86400, 10: 10800, 11: 21600, 12: 43200, 13: 1}
_SECONDS1: Final = {0: 60, 1: 3600, 2: 86400, 10: 10800, 11: 21600, 12: 43200, 13: 900, 14: 1800, 254: 1}
_FOLLOWS: Final = {0: {1}, 1: {2, 3, 4}, 2: {3}, 3: {4}, 4: {5}, 5: {6}, 6: {7}, 7: {2, 3, 4, 8}}
_MEMBER_TEMPLATES: Final = {1: 0, 11: 3}       # product definition template: octets before the interval that 4.8 does not have
_PLAIN_TEMPLATES: Final = {0: 0, 8: 0}
_DERIVED_TEMPLATES: Final = frozenset({2, 3, 4, 12, 13, 14})


@dataclass(frozen=True, slots=True)
class Flaw:
    """A stretch that cannot be used: which message of the file (from 1; 0 is the file itself), where, and why."""

    message: int
    offset: int
    error: DecodeError


@dataclass(frozen=True, slots=True)
class Piece:
    """One field of one message.

    Attributes:
        message: The message's place in the file, from 1.
        part: The field's place in its message, from 1; only GRIB 2 messages have more than one.
        parts: How many fields the message has.
        edition: 1 or 2.
        offset: First octet of the message in the buffer.
        length: Octets of the message.
        sections: First octet and octet after the last of each section, by section number.
    """

    message: int
    part: int
    parts: int
    edition: int
    offset: int
    length: int
    sections: dict[int, tuple[int, int]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Header:
    """What a field is, as its header says.

    Attributes:
        centre: Originating centre (common code table C-11; GRIB 1: C-1).
        process: Generating process identifier, the centre's own number of a model.
        status: Production status of the data (code table 1.3), -1 in GRIB 1.
        mars: ECMWF's class, type and stream from its local section, or None.
        parameter: (discipline, category, number) in GRIB 2; (-1, table, number) in GRIB 1.
        surface: Type of the first fixed surface (code table 4.5; GRIB 1: table 3).
        level: Its value, None when it has none.
        layered: Whether a second surface makes it a layer.
        statistic: None for an instant, else a number of code table 4.10.
        reference: Reference time, UTC.
        start: Seconds from the reference time to the start of the interval; equal to ``end`` for an instant.
        end: Seconds from the reference time to the end.
        member: 0 for the control or the only member, then the perturbation number.
        ensemble: Whether the field is a member of an ensemble.
        step: Distance of two neighbouring packed values, in the message's unit; 0 where the packing has none.
        masked: Whether values may be missing (bitmap, or missing-value management of complex packing).
        packing: Data representation template of GRIB 2 (code table 5.0); 0, simple, or -1 in GRIB 1.
        width: Bits of a packed value.
        points: Values the grid has.
        grid: The octets that describe the grid.
    """

    centre: int
    process: int
    status: int
    mars: tuple[int, int, int] | None
    parameter: tuple[int, int, int]
    surface: int
    level: float | None
    layered: bool
    statistic: int | None
    reference: datetime.datetime
    start: int
    end: int
    member: int
    ensemble: bool
    step: float
    masked: bool
    packing: int
    width: int
    points: int
    grid: bytes


def unsigned(data: Bytes, start: int, count: int) -> int:
    """Unsigned integer of ``count`` octets, big-endian."""
    return int.from_bytes(data[start : start + count], "big")


def signed(data: Bytes, start: int, count: int) -> int:
    """Signed integer of GRIB: the first bit is the sign, the others the magnitude."""
    value, sign = unsigned(data, start, count), 1 << (8 * count - 1)
    return -(value - sign) if value & sign else value


def why_not_grib(head: bytes) -> str:
    """What a file without any GRIB message seems to be, from its first octets."""
    text = head.lstrip()[:64].lower()
    if not head:
        return "the file is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<error")):
        return "the file is an HTML or XML page, probably an error page of the provider, not GRIB"
    kinds = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PK\x03\x04", "zip"), (b"\xfd7zXZ", "xz"))
    for magic, name in kinds:
        if head.startswith(magic):
            return f"the file is {name}-compressed: unpack it first"
    if head.startswith((b"CDF", b"\x89HDF")):
        return "the file is NetCDF or HDF5, not GRIB"
    return f"no GRIB message in the file, which starts with {head[:8]!r}"


def scan(data: Bytes | object) -> Iterator[Piece | Flaw]:
    """Find every message, its fields and every damaged stretch of a buffer (bytes, or an ``mmap``), payloads unread.

    Junk before, between and after messages (bulletin headings, padding) is passed over. After a damaged message the search goes on
    behind its indicator, so that one wrong length costs one message.

    Yields:
        Pieces and flaws in the order of the buffer.
    """
    size, place, count = len(data), 0, 0    # type: ignore[arg-type]
    while (offset := data.find(b"GRIB", place)) >= 0:      # type: ignore[union-attr]
        count += 1
        try:
            pieces = _pieces(data, offset, size, count)    # type: ignore[arg-type]
        except DecodeError as error:
            yield Flaw(count, offset, error)
            place = offset + 4
            continue
        yield from pieces
        place = offset + pieces[0].length
    if not count:
        yield Flaw(0, 0, NotGribError(why_not_grib(bytes(data[:64]))))    # type: ignore[index]


def _pieces(data: Bytes, offset: int, size: int, count: int) -> list[Piece]:
    edition = data[offset + 7] if offset + 8 <= size else 0
    if offset + 8 > size:
        raise TruncatedError(f"the message ends after {size - offset} octets, within its first section")
    if edition not in (1, 2):
        raise DecodeError(f"the message says edition {edition}; only 1 and 2 are read")
    length = _length1(data, offset, size) if edition == 1 else unsigned(data, offset + 8, 8)
    if offset + length > size:
        raise TruncatedError(f"the message says {length} octets and only {size - offset} are left")
    if length < 32 or bytes(data[offset + length - 4 : offset + length]) != b"7777":
        raise TruncatedError(f"no 7777 at the end of the {length} octets that the message says it has")
    parts = _parts2(data, offset, length) if edition == 2 else [_sections1(data, offset, length)]
    return [Piece(count, part, len(parts), edition, offset, length, found) for part, found in enumerate(parts, start=1)]


def _parts2(data: Bytes, offset: int, length: int) -> list[dict[int, tuple[int, int]]]:
    """Sections of each field of a GRIB 2 message; a later field inherits what it does not repeat."""
    found: dict[int, tuple[int, int]] = {0: (offset, offset + 16)}
    parts: list[dict[int, tuple[int, int]]] = []
    place, last, end, bitmap = offset + 16, 0, offset + length - 4, (0, 0)
    while place < end:
        size, number = unsigned(data, place, 4), data[place + 4]
        if number not in _FOLLOWS[last] or size < 5 or place + size > end:
            raise DecodeError(f"section lengths do not add up: section {number} of {size} octets after section {last}")
        found[number] = (place, place + size)
        if number == 6:
            if data[place + 5] == 0:
                bitmap = found[6]
            elif data[place + 5] == 254:         # the bitmap defined before in this message applies
                found[6] = bitmap
        if number == 7:
            parts.append(dict(found))
        place, last = place + size, number
    if last != 7:
        raise DecodeError(f"the message ends after section {last}, without data")
    return parts


def _length1(data: Bytes, offset: int, size: int) -> int:
    """Octets of a GRIB 1 message, with ECMWF's convention for messages over 8 MiB (multiples of 120 octets)."""
    length = unsigned(data, offset + 4, 3)
    if not length & 0x800000:
        return length
    place = offset + 8
    flags = data[place + 7] if place + 8 <= size else 0
    place += unsigned(data, place, 3)
    for flag in (0x80, 0x40):
        place += unsigned(data, place, 3) if flags & flag else 0
    excess = unsigned(data, place, 3)
    return (length & 0x7FFFFF) * 120 - excess + 4 if excess < 120 else length


def _sections1(data: Bytes, offset: int, length: int) -> dict[int, tuple[int, int]]:
    """Sections of a GRIB 1 message: 1 product, 2 grid, 3 bitmap, 4 data."""
    found, place, end = {0: (offset, offset + 8)}, offset + 8, offset + length - 4
    flags = data[place + 7]                      # octet 8: which of the grid and bitmap sections are there
    large = unsigned(data, offset + 4, 3) & 0x800000
    for number, there in ((1, True), (2, bool(flags & 0x80)), (3, bool(flags & 0x40)), (4, True)):
        if not there:
            continue
        size = unsigned(data, place, 3)
        if number == 4 and large:
            size = end - place
        if size < (28, 32, 6, 11)[number - 1] or place + size > end:
            raise DecodeError(f"section lengths do not add up: section {number} of {size} octets, {end - place} left")
        found[number] = (place, place + size)
        place += size
    if place != end:
        raise DecodeError(f"section lengths do not add up: {end - place} octets between the last section and the end")
    return found


def message_bytes(data: Bytes, piece: Piece) -> bytes:
    """The octets of one field as a message of its own: a copy, cut out of a message with several fields where needed."""
    if piece.parts == 1:
        return bytes(data[piece.offset : piece.offset + piece.length])
    body = b"".join(bytes(data[slice(*piece.sections[number])]) for number in range(1, 8) if number in piece.sections)
    head = bytes(data[piece.offset : piece.offset + 8])
    return head + (16 + len(body) + 4).to_bytes(8, "big") + body + b"7777"


@dataclass(frozen=True, slots=True)
class Cut:
    """Which rows of a message are to be unpacked; offsets of its sections within the message.

    Attributes:
        grid: Of section 3.
        packing: Of section 5.
        payload: Of section 7.
        first: First row, from 0.
        last: Last row.
        across: Points in a row.
        width: Bits of a packed value in simple packing; 0 when the rows before ``first`` cannot be left out.
    """

    grid: int
    packing: int
    payload: int
    first: int
    last: int
    across: int
    width: int

    @property
    def points(self) -> int:
        """Values that are unpacked."""
        return (self.last - self.first + 1) * self.across


def plan_cut(piece: Piece, header: Header, rows: tuple[int, int], across: int) -> Cut | None:
    """How to unpack only the rows that are needed, None where all have to be.

    In simple packing a value's place is known, so that any run of rows can stand alone; a CCSDS stream is read from its start, and can
    end early. A bitmap, or any other packing, needs the whole.

    Args:
        piece: The field.
        header: Its header.
        rows: First and last row needed, in scanning order.
        across: Points in a row.
    """
    if piece.edition != 2 or piece.parts != 1 or header.masked or header.packing not in (_SIMPLE, _CCSDS) or not header.width:
        return None
    grid, packing, payload = (piece.sections[number][0] - piece.offset for number in (3, 5, 7))
    whole_octets = header.packing == _SIMPLE and across * header.width % 8 == 0
    return Cut(grid, packing, payload, rows[0] if whole_octets else 0, rows[1], across, header.width if whole_octets else 0)


def cut_rows(read: Callable[[int, int], bytes], length: int, cut: Cut) -> bytes:
    """A GRIB 2 message of some rows of another one, to be unpacked for its values alone: its corners are still the other's.

    Args:
        read: Octets [start, stop) of the other message; only what is needed is read.
        length: Its octets.
        cut: The rows.
    """
    down = cut.last - cut.first + 1
    head = bytearray(read(0, cut.payload))
    head[cut.grid + 6 : cut.grid + 10] = head[cut.packing + 5 : cut.packing + 9] = (down * cut.across).to_bytes(4, "big")
    head[cut.grid + 34 : cut.grid + 38] = down.to_bytes(4, "big")
    if not cut.width:
        return bytes(head + read(cut.payload, length))
    row = cut.across * cut.width // 8
    start = cut.payload + 5 + cut.first * row
    data = read(start, start + down * row)
    head[8:16] = (len(head) + 5 + len(data) + 4).to_bytes(8, "big")
    return bytes(head + (5 + len(data)).to_bytes(4, "big") + b"\x07" + data + b"7777")


def read_header(data: Bytes, piece: Piece) -> Header:
    """What a field is, from its header alone, with every length that can be checked checked.

    Raises:
        DecodeError: The header contradicts itself, or says something that is not read here (the message says what).
    """
    return _header2(data, piece) if piece.edition == 2 else _header1(data, piece)


def _time(year: int, month: int, day: int, hour: int, minute: int, second: int = 0) -> datetime.datetime:
    try:
        return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError as error:
        raise DecodeError(f"the reference time {year}-{month}-{day} {hour}:{minute} is no time: {error}") from error


def _seconds(units: dict[int, int], unit: int, count: int) -> int:
    if unit not in units:
        raise DecodeError(f"unit of time {unit} is not one of {sorted(units)}")
    return units[unit] * count


def _step(binary: int, decimal: int) -> float:
    """Distance of two packed values, 2^E 10^-D."""
    try:
        step = 2.0**binary * 10.0**-decimal
    except OverflowError:
        step = math.inf
    if not step < _GREATEST_STEP:
        raise DecodeError(f"packed values lie 2^{binary} x 10^{-decimal} apart; less than {_GREATEST_STEP:g} is expected")
    return step


def _float32(data: Bytes, start: int) -> float:
    import struct

    return float(struct.unpack(">f", bytes(data[start : start + 4]))[0])


def _header2(data: Bytes, piece: Piece) -> Header:
    one, grid, product, packing, bits = (piece.sections[number][0] for number in (1, 3, 4, 5, 6))
    template = unsigned(data, product + 7, 2)
    derived = template in _DERIVED_TEMPLATES
    shift = _MEMBER_TEMPLATES.get(template, _PLAIN_TEMPLATES.get(template))
    if data[one + 11] == 2:
        raise DecodeError("the reference time is that of verification; only analysis and start of forecast are read")
    mars = None
    if 2 in piece.sections:
        local = piece.sections[2][0]
        if piece.sections[2][1] - local >= 13 and unsigned(data, one + 5, 2) == 98:
            mars = unsigned(data, local + 7, 2), unsigned(data, local + 9, 2), unsigned(data, local + 11, 2)
    start = end = _seconds(_SECONDS2, data[product + 17], signed(data, product + 18, 4))
    statistic: int | None = INSTANT
    if template in (8, 11) and shift is not None:
        if data[product + 41 + shift] != 1:
            raise DecodeError(f"{data[product + 41 + shift]} time ranges in one field; only one is read")
        statistic = data[product + 46 + shift]
        end = start + _seconds(_SECONDS2, data[product + 48 + shift], unsigned(data, product + 49 + shift, 4))
    elif shift is None:
        statistic = -template                    # derived, probability, percentile ...: no variable of ours has it
    member, ensemble = 0, derived
    if template in _MEMBER_TEMPLATES:
        ensemble = True
        member = 0 if data[product + 34] in (0, 1) else data[product + 35]
    scale, value = signed(data, product + 23, 1), signed(data, product + 24, 4)
    missing = unsigned(data, product + 24, 4) == 0xFFFFFFFF
    points = unsigned(data, grid + 6, 4)
    _check_lengths2(data, piece, points)
    kind = unsigned(data, packing + 9, 2)
    has_step = kind in (0, 2, 3, 40, 41, 42)
    step = _step(signed(data, packing + 15, 2), signed(data, packing + 17, 2)) if has_step else 0.0
    return Header(
        centre=unsigned(data, one + 5, 2), process=data[product + 13], status=data[one + 19], mars=mars,
        parameter=(data[piece.offset + 6], data[product + 9], data[product + 10]),
        surface=data[product + 22], level=None if missing else value / 10.0**scale, layered=data[product + 28] != 255,
        statistic=statistic,
        reference=_time(unsigned(data, one + 12, 2), data[one + 14], data[one + 15], data[one + 16], data[one + 17], data[one + 18]),
        start=start, end=end, member=member, ensemble=ensemble, step=step,
        masked=data[bits + 5] != 255 or kind in (2, 3), packing=kind, width=data[packing + 19], points=points,
        grid=bytes(data[slice(*piece.sections[3])]),
    )    # fmt: skip


def _check_lengths2(data: Bytes, piece: Piece, points: int) -> None:
    """Hold the lengths of grid, bitmap, packing and data against each other: most damaged headers fail here."""
    packing, (bits, bits_end), (payload, payload_end) = piece.sections[5][0], piece.sections[6], piece.sections[7]
    values, width, kind = unsigned(data, packing + 5, 4), data[packing + 19], unsigned(data, packing + 9, 2)
    indicator = data[bits + 5]
    if indicator == 0 and bits_end - bits != 6 + (points + 7) // 8:
        raise DecodeError(f"the bitmap has {bits_end - bits - 6} octets for {points} points")
    if values > points or (indicator == 255 and values != points):
        raise DecodeError(f"{values} packed values for a grid of {points} points")
    if kind == 0 and payload_end - payload != 5 + (values * width + 7) // 8:
        raise DecodeError(f"{payload_end - payload - 5} octets of data for {values} values of {width} bits")


def _header1(data: Bytes, piece: Piece) -> Header:
    one, size = piece.sections[1][0], piece.sections[1][1] - piece.sections[1][0]
    century, year = data[one + 24], data[one + 12]
    if 2 not in piece.sections:
        raise DecodeError(f"no grid section; the predefined grid {data[one + 6]} is not read")
    grid, payload = piece.sections[2], piece.sections[4]
    table, number, surface = data[one + 3], data[one + 8], data[one + 9]
    unit, first, second, indicator = data[one + 17], data[one + 18], data[one + 19], data[one + 20]
    start, end, statistic = first, second, INSTANT
    if indicator in (0, 1):
        start = end = first
    elif indicator == 10:                        # P1 fills both octets
        start = end = unsigned(data, one + 18, 2)
    elif indicator in (2, 3, 4):
        statistic = {2: UNSTATED, 3: AVERAGE, 4: ACCUMULATION}[indicator]
    else:
        raise DecodeError(f"time range indicator {indicator} is not one of 0, 1, 2, 3, 4, 10")
    start, end = _seconds(_SECONDS1, unit, start), _seconds(_SECONDS1, unit, end)
    centre, mars, member, ensemble = data[one + 4], None, 0, False
    if centre == 98 and size >= 50 and data[one + 40] in (1, 5, 6, 15, 16, 26, 30):      # octet 41: local definition, all with these
        mars = data[one + 41], data[one + 42], unsigned(data, one + 43, 2)
        ensemble = mars[1] in (10, 11)           # MARS type: control and perturbed forecast
        member = data[one + 49] if data[one + 40] in (1, 30) and (ensemble or mars[2] == 1030) else 0
    elif centre == 7 and size >= 45 and data[one + 40] == 1:      # NCEP's ensemble extension: type, then number
        ensemble, member = True, 0 if data[one + 41] == 1 else data[one + 42]
    layer = surface in _LAYERS1
    level = float(data[one + 10] if layer else unsigned(data, one + 10, 2))
    flags, width = data[payload[0] + 3], data[payload[0] + 10]
    simple = not flags & 0xD0
    points, masked = _points1(data, grid), 3 in piece.sections
    used = payload[1] - payload[0] - 11
    if simple and not masked and points and (used < (points * width + 7) // 8):
        raise DecodeError(f"{used} octets of data for {points} values of {width} bits")
    return Header(
        centre=centre, process=data[one + 5], status=-1, mars=mars, parameter=(-1, table, number),
        surface=surface, level=level, layered=layer, statistic=statistic,
        reference=_time((century - 1) * 100 + year, data[one + 13], data[one + 14], data[one + 15], data[one + 16]),
        start=start, end=end, member=member, ensemble=ensemble,
        step=_step(signed(data, payload[0] + 4, 2), signed(data, one + 26, 2)) if simple else 0.0,
        masked=masked, packing=0 if simple else -1, width=width, points=points, grid=bytes(data[slice(*grid)]),
    )    # fmt: skip


_LAYERS1: Final = frozenset({101, 104, 106, 108, 110, 112, 114, 116, 120, 121, 128, 141})


def _points1(data: Bytes, grid: tuple[int, int]) -> int:
    """Points of a GRIB 1 grid with a fixed number of points a row; 0 for a reduced one."""
    across, down = unsigned(data, grid[0] + 6, 2), unsigned(data, grid[0] + 8, 2)
    return 0 if across == 0xFFFF or down == 0xFFFF else across * down
