"""Server-sent events: who listens at ``/events`` is told when a cycle is out, from a local root and from an object store alike."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

from anyio import CapacityLimiter, to_thread

from serving.api.cycles import Cycle, NotPublishedError, PublishedCycles

LOCAL_SECONDS: Final = 1.0
REMOTE_SECONDS: Final = 10.0
"""How often a root is looked at; an object store charges for each look."""
BEAT_SECONDS: Final = 15.0
"""A comment line this often keeps proxies from closing a silent stream."""
LISTENERS: Final = 1000

_log = logging.getLogger(__name__)


class Watcher:
    """Looks at the root, and wakes the listeners when another cycle is current.

    Args:
        store: Refreshed in a thread.
        seconds: Between two looks.
    """

    def __init__(self, store: PublishedCycles, seconds: float | None = None) -> None:
        self.store = store
        self.seconds = seconds if seconds is not None else REMOTE_SECONDS if store.root.is_remote else LOCAL_SECONDS
        self.listeners = 0
        self._changed = asyncio.Event()
        self._turn = CapacityLimiter(1)

    async def run(self) -> None:
        """Until cancelled; what goes wrong is logged and the next look comes."""
        while True:
            try:
                if await to_thread.run_sync(self.store.refresh, limiter=self._turn):
                    self._changed.set()
                    self._changed = asyncio.Event()
            except Exception:  # noqa: BLE001, the watch goes on whatever happens
                _log.exception("The root could not be looked at")
            await asyncio.sleep(self.seconds)

    async def events(self, last_id: str | None) -> AsyncIterator[bytes]:
        """The stream of one listener: the current cycle unless it has that one already, then each that follows.

        Args:
            last_id: Hash of the last cycle the listener heard of (``Last-Event-ID``).
        """
        self.listeners += 1
        try:
            yield b"retry: 5000\n\n"
            while True:
                changed = self._changed
                try:
                    cycle = self.store.current()
                except NotPublishedError:
                    cycle = None
                if cycle is not None and cycle.content_hash != last_id:
                    last_id = cycle.content_hash
                    yield event(cycle)
                try:
                    await asyncio.wait_for(changed.wait(), BEAT_SECONDS)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.listeners -= 1


def event(cycle: Cycle) -> bytes:
    """One ``published`` event; its id is the hash of the cycle."""
    return f"event: published\nid: {cycle.content_hash}\ndata: {json.dumps(summary(cycle))}\n\n".encode()


def summary(cycle: Cycle) -> dict[str, Any]:
    """A cycle in few words, as ``latest.json`` has it."""
    return {
        "id": cycle.id,
        "init_time": f"{cycle.init_time.astype('datetime64[s]')}Z",
        "revision": cycle.name.revision,
        "href": cycle.name.href,
        "content_hash": cycle.content_hash,
        "simulated": cycle.simulated,
    }
