"""Reports over WIS2, WMO's exchange: notifications from a global broker over MQTT, and the BUFR files that they point to.

:class:`Wis2` works in two steps. :meth:`Wis2.collect` connects to the broker and takes what has been published (the broker keeps a session
for us between two visits, so a visit an hour misses nothing), checks each notification and what it points to, and files both in an inbox
folder, a day a folder: the data, and a line of ``notifications.jsonl`` with what was decided and when. Only then is the notification
acknowledged. :meth:`Wis2.read` reads the inbox. A report is available when its data was here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_catalog import bufr
from data_catalog.errors import DecodeError, NotAvailableError, SourceError
from data_catalog.observations import Gathered, Reports, fetch
from data_catalog.sources import synop
from data_catalog.sources.base import Progress, StationSpec, Transport, silent
from data_catalog.sources.gauges import folder_files
from data_catalog.sources.mqtt import SESSION_SECONDS, Session
from data_catalog.sources.wis2_message import MAX_FILE, MAX_MESSAGE, Notification, check_integrity, inline, parse
from data_catalog.stations import Station

SPEC: Final = StationSpec(
    network="wis2",
    title="SYNOP over WIS2",
    url="mqtts://everyone:everyone@globalbroker.meteo.fr:8883",
    delay_hours=0.5,
    variables=synop.SPEC.variables,
    licence=synop.SPEC.licence,
)

TOPIC: Final = "cache/a/wis2/+/data/core/weather/surface-based-observations/synop"
"""WIS2 topic hierarchy; of every centre, as the global caches republish it."""

LOG: Final = "notifications.jsonl"
_NEAR: Final = 0.5      # degrees; a station's stated place may be some kilometres off, which the quality control judges
_DAY: Final = np.timedelta64(SESSION_SECONDS, "s")


@dataclass(frozen=True, slots=True)
class Wis2:
    """Reports of the stations with a ``synop`` or ``wigos`` alias, as they are published.

    Attributes:
        stations: Stations of the region.
        broker: See :class:`~data_catalog.sources.mqtt.Session`.
        inbox: Folder in which notifications and data are kept.
        topics: What is subscribed to.
        client: Our name at the broker.
        timeout: Seconds one message may take to decode.
        spec: What it declares.
    """

    stations: tuple[Station, ...]
    broker: str
    inbox: Path
    topics: tuple[str, ...] = (TOPIC,)
    client: str = "giomua"
    timeout: float = 120.0
    spec: StationSpec = SPEC

    def read(self, since: np.datetime64, until: np.datetime64, transport: Transport) -> Reports:
        """Reports in the inbox with since < time <= until; see :class:`~data_catalog.sources.base.StationSource`."""
        known = synop.known_by_number(self.stations)
        gathered = Gathered(self.spec, known.values(), since, until)
        first = str(since.astype("datetime64[D]")).replace("-", "")
        try:
            logs = [path for path in folder_files(transport, LOG) if path[:8] >= first]
        except NotAvailableError:
            logs = []                                       # nothing was collected yet
        entries = _settled(entry for url, data in fetch(gathered, transport, logs) for entry in _entries(url, data))
        withdrawn = {entry["data_id"]: entry["pubtime"] for entry in entries if entry["outcome"] == "deletion"}
        with bufr.worker(self.timeout) as worker:
            for entry in entries:
                name = f"{entry['folder']}/{entry['file']}" if entry["file"] else str(entry.get("data_id", ""))
                if entry["outcome"] in ("refused", "pending"):
                    gathered.flaw(name, entry["reason"], data=base64.b64decode(entry["payload"]))
                elif entry["outcome"] == "taken":
                    for url, data in fetch(gathered, transport, [name]):
                        if withdrawn.get(entry["data_id"], "") > entry["pubtime"]:
                            gathered.flaw(url, f"its publisher withdrew it at {withdrawn[entry['data_id']]}", data=data)
                        else:
                            synop.take(gathered, url, data, known, worker, _time(entry))
        return gathered.reports()

    def collect(
        self,
        transport: Transport,
        *,
        quiet: float = 10.0,
        longest: float = 600.0,
        clock: Callable[[], np.datetime64] = lambda: np.datetime64("now"),
        progress: Progress = silent,
    ) -> dict[str, int]:
        """Take what the broker has for us into the inbox.

        Args:
            transport: Reads the links.
            quiet: Stop when nothing has come for so many seconds.
            longest: Stop after so many seconds in any case.
            clock: The time, UTC.
            progress: Called as it goes on.

        Returns:
            Notifications by what became of them, see :meth:`Inbox.file`.

        Raises:
            SourceError: The broker cannot be reached or refuses us.
        """
        inbox = Inbox(self.inbox, synop.known_by_number(self.stations), transport)
        outcomes = inbox.retry(clock())
        start = time.monotonic()
        with Session(self.broker, self.client, self.topics) as session:
            while (left := longest - (time.monotonic() - start)) > 0 and (message := session.next(min(quiet, left))) is not None:
                outcomes.append(inbox.file(message.topic, bytes(message.payload), clock()))
                session.acknowledge(message)
                progress(f"notifications of {self.spec.network}", len(outcomes), 0)
        return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}


@dataclass(slots=True)
class Inbox:
    """The folder of what was received.

    Attributes:
        folder: A day a folder below it.
        known: Stations by number; a notification about another one is passed over.
        transport: Reads links.
    """

    folder: Path
    known: Mapping[str, Station]
    transport: Transport
    _seen: dict[str, str] = field(default_factory=dict)     # newest pubtime by data_id
    _pending: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        logs = sorted(self.folder.glob(f"*/{LOG}"))[-3:]
        for entry in _settled(entry for log in logs for entry in _entries(f"{log.parent.name}/{LOG}", log.read_bytes())):
            if entry["outcome"] in ("taken", "deletion"):
                self._seen[entry["data_id"]] = max(entry["pubtime"], self._seen.get(entry["data_id"], ""))
            elif entry["outcome"] == "pending":
                self._pending.append(entry)

    def retry(self, now: np.datetime64) -> list[str]:
        """Try again what could not be fetched in the last day: what became of each."""
        young = [entry for entry in self._pending if now - _time(entry) < _DAY]
        return [self.file(entry["topic"], base64.b64decode(entry["payload"]), now) for entry in young]

    def file(self, topic: str, payload: bytes, received: np.datetime64) -> str:
        """Check one notification, get its data, and keep both.

        Args:
            topic: On which it came.
            payload: Its bytes.
            received: When, UTC.

        Returns:
            What became of it: taken; deletion; refused, with its reason; pending, when its data could not be fetched now; duplicate, when
            this or a newer word is here; elsewhere, when it is about no station of ours.
        """
        digest = hashlib.sha256(payload).hexdigest()[:16]
        kept = base64.b64encode(payload[: 4 * MAX_MESSAGE]).decode()
        entry: dict[str, Any] = {"topic": topic, "received": f"{received.astype('datetime64[s]')}Z", "file": "", "name": digest}
        try:
            found = parse(payload)
            entry |= {"name": f"{found.data_id} {found.pubtime}", "data_id": found.data_id, "pubtime": found.pubtime}
            if found.pubtime <= self._seen.get(found.data_id, ""):
                return "duplicate"
            if not self._ours(found):
                return "elsewhere"
            if found.relation == "deletion":
                return self._keep(entry, "deletion")
            data = self._data(found)
            check_integrity(data, found.integrity)
        except DecodeError as error:
            return self._keep(entry | {"reason": str(error), "payload": kept}, "refused")
        except SourceError as error:
            return self._keep(entry | {"reason": f"its data could not be fetched (yet): {error}", "payload": kept}, "pending")
        entry["file"] = f"{hashlib.sha256(data).hexdigest()[:16]}.bufr"
        (self._day(entry) / entry["file"]).write_bytes(data)
        return self._keep(entry, "taken")

    def _ours(self, found: Notification) -> bool:
        """Whether it may be about one of our stations: what states neither station nor place may."""
        numbers = {found.station, found.station.rpartition("-")[2]} - {""}
        if numbers:
            return bool(numbers & self.known.keys())
        if found.place is None:
            return True
        longitude, latitude = found.place
        return any(abs(longitude - s.longitude) < _NEAR and abs(latitude - s.latitude) < _NEAR for s in self.known.values())

    def _data(self, found: Notification) -> bytes:
        if found.content is not None:
            return inline(found.content)
        if not found.href.startswith(("http://", "https://")):
            raise DecodeError(f"its link {found.href!r} is not over HTTP")
        if found.length is not None and found.length > MAX_FILE:
            raise DecodeError(f"its link promises {found.length} bytes, more than the {MAX_FILE} of any surface report")
        data = self.transport.read(found.href)
        if len(data) > MAX_FILE:
            raise DecodeError(f"its link gives {len(data)} bytes, more than the {MAX_FILE} of any surface report")
        return data

    def _day(self, entry: Mapping[str, Any]) -> Path:
        day = self.folder / str(entry["received"])[:10].replace("-", "")
        day.mkdir(parents=True, exist_ok=True)
        return day

    def _keep(self, entry: dict[str, Any], outcome: str) -> str:
        with (self._day(entry) / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry | {"outcome": outcome}, sort_keys=True) + "\n")
        if outcome in ("taken", "deletion"):
            self._seen[entry["data_id"]] = entry["pubtime"]
        return outcome


def _entries(url: str, data: bytes) -> Iterator[dict[str, Any]]:
    """Entries of a log with the folder they are in; a line that a kill cut off is passed over: its notification comes again."""
    for line in data.splitlines():
        try:
            yield {**json.loads(line), "folder": url.rpartition("/")[0]}
        except ValueError:
            continue


def _settled(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last entry on each notification, in the order of the first."""
    return list({entry["name"]: entry for entry in entries}.values())


def _time(entry: Mapping[str, Any]) -> np.datetime64:
    return np.datetime64(str(entry["received"]).rstrip("Z"), "s")
