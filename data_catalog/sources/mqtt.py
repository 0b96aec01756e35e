"""Connections to an MQTT 5 broker that keeps a session for us: what is published between two visits waits there."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from data_catalog.errors import SourceError

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

SESSION_SECONDS: Final = 86400  # the broker keeps what is published between two visits for a day

_PORTS: Final[Mapping[str, int]] = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_CONNECT_SECONDS: Final = 30.0


class Session:
    """Messages of some topics, each acknowledged once it is safe; a context manager.

    Args:
        address: ``mqtt://`` or ``mqtts://``, ``ws://`` or ``wss://``, with user and password where the broker wants them.
        client: Our name at the broker, under which it keeps the session.
        topics: What to subscribe to, at least once delivered each.
        seconds: How long the broker is to keep the session after we left.

    Raises:
        SourceError: The broker cannot be reached, or refuses us.
    """

    def __init__(self, address: str, client: str, topics: tuple[str, ...], seconds: int = SESSION_SECONDS) -> None:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        parts = urlsplit(address)
        if parts.scheme not in ("mqtt", "mqtts", "ws", "wss") or not parts.hostname:
            raise SourceError(f"The broker's address is {address!r}; expected mqtts://user:password@host:8883 or wss://.")
        self._where = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        self._host, self._port = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._topics, self._seconds = topics, seconds
        self._messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._ready: queue.Queue[str] = queue.Queue()
        transport: Any = "websockets" if parts.scheme in ("ws", "wss") else "tcp"
        self._client = Client(CallbackAPIVersion.VERSION2, client, protocol=MQTTv5, transport=transport, manual_ack=True)
        if parts.username:
            self._client.username_pw_set(parts.username, parts.password)
        if parts.scheme in ("mqtts", "wss"):
            self._client.tls_set()
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda _client, _data, _mid, codes, _properties: self._ready.put(
            next((f"it refuses the subscription: {code}" for code in codes if code.is_failure), "")
        )
        self._client.on_message = lambda _client, _data, message: self._messages.put(message)

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._ready.put(f"it refuses the connection: {code}")
        else:
            client.subscribe([(topic, 1) for topic in self._topics])

    def __enter__(self) -> Self:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)    # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._seconds
        try:
            self._client.connect(self._host, self._port, keepalive=60, clean_start=False, properties=properties)
        except (OSError, ValueError) as error:
            raise SourceError(f"The broker {self._where} cannot be reached: {error}.") from error
        self._client.loop_start()
        try:
            problem = self._ready.get(timeout=_CONNECT_SECONDS)
        except queue.Empty:
            problem = f"it did not answer in {_CONNECT_SECONDS:g} s"
        if problem:
            self.__exit__()
            raise SourceError(f"The broker {self._where} cannot be used: {problem}.")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def next(self, seconds: float) -> mqtt.MQTTMessage | None:
        """The next message, None when none comes in time."""
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            return None

    def acknowledge(self, message: mqtt.MQTTMessage) -> None:
        """Tell the broker that the message is safe here."""
        self._client.ack(message.mid, message.qos)



def check_broker(address: str) -> None:
    """Connect to a broker and leave again.

    Raises:
        SourceError: It cannot be reached, or refuses us.
    """
    with Session(address, f"giomua-check-{uuid.uuid4().hex[:12]}", ("$SYS/broker/version",), seconds=0):
        pass
