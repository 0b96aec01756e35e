"""Every forecaster by id. To add one: write its file, and register a line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from models.base import Forecaster, ForecasterError

_SINGLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "climatology": "models.statistical.climatology:Climatology",
        "persistence": "models.statistical.persistence:Persistence",
        "emos": "models.statistical.joint:JointEmos",
        "emos-recent": "models.statistical.joint:recent",
        "emos-loose": "models.statistical.joint:loose",
        "forest": "models.statistical.forest:ResidualForest",
        "analog": "models.statistical.analog:Analog",
        "csgd": "models.statistical.csgd:Csgd",
        "drn": "models.neural.drn:Drn",
        "bqn": "models.neural.bqn:Bqn",
        "shortrange": "models.neural.shortrange:ShortRange",
    }
)
"""One forecaster an id; imported when built."""

_PER_SOURCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "raw": "models.statistical.raw:Raw",
        "emos": "models.statistical.emos:Emos",
    }
)
"""One forecaster a source, ``<kind>_<source>``; built with the name of the source."""


def forecaster_ids(sources: Sequence[str]) -> list[str]:
    """Every id that can be built for these sources, single forecasters first."""
    return [*_SINGLE, *(f"{kind}_{source}" for kind in _PER_SOURCE for source in sources)]


def build(forecaster_id: str, **parameters: Any) -> Forecaster:
    """A new, unfitted forecaster.

    Args:
        forecaster_id: An id as in :func:`forecaster_ids`.
        parameters: In place of its own.

    Raises:
        ForecasterError: The id is not known, or has no such parameter.
    """
    try:
        if forecaster_id in _SINGLE:
            return _load(_SINGLE[forecaster_id])(**parameters)
        kind, _, source = forecaster_id.partition("_")
        if kind in _PER_SOURCE and source:
            return _load(_PER_SOURCE[kind])(source, **parameters)
    except TypeError as error:
        if not parameters:
            raise
        raise ForecasterError(f"{forecaster_id} cannot be built with {', '.join(parameters)}: {error}.") from error
    known = ", ".join([*_SINGLE, *(f"{kind}_<source>" for kind in _PER_SOURCE)])
    raise ForecasterError(f"No forecaster is called {forecaster_id!r}; known are {known}.")


def restore(forecaster_id: str, state: Mapping[str, Any]) -> Forecaster:
    """The fitted forecaster of an id and its ``state()``.

    Raises:
        ForecasterError: The id is not known or the state lacks something.
    """
    return type(build(forecaster_id)).from_state(state)


def _load(path: str) -> Callable[..., Forecaster]:
    module, _, name = path.partition(":")
    found: Callable[..., Forecaster] = getattr(import_module(module), name)
    return found
