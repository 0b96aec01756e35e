"""Named points at which a run can be killed on purpose, so that tests can prove what a kill leaves behind.

Set ``GIOMUA_FAULT`` to a name of :data:`POINTS` (``name:3`` for its third passing) and the process sends itself SIGKILL there. Unset, a
point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from data_catalog.errors import ConfigurationError

POINTS: Final = (
    "ingest.fetched",
    "ingest.decoded",
    "store.staged",
    "store.checked",
    "store.published",
    "manifest.recorded",
    "cycle.predicted",
    "cycle.coupled",
    "publish.stored",
    "publish.catalogued",
)

_passed: dict[str, int] = {}


def at(point: str) -> None:
    """Pass a named point; die there with SIGKILL when ``GIOMUA_FAULT`` says so.

    Raises:
        ConfigurationError: ``GIOMUA_FAULT`` names no point there is.
    """
    chosen = os.environ.get("GIOMUA_FAULT")
    if not chosen:
        return
    name, _, count = chosen.partition(":")
    if name not in POINTS or not (count or "1").isdigit():
        raise ConfigurationError(f"GIOMUA_FAULT is {chosen!r}; it must be one of {', '.join(POINTS)}, with :N for the N-th passing.")
    if point == name:
        _passed[point] = _passed.get(point, 0) + 1
        if _passed[point] >= int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
