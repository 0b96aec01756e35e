"""Requests made up from the OpenAPI document find no server error and no answer that it does not describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from serving.api.app import create_app
from tests.serving.served import INIT, STATIONS, Client, groups, settings_on

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance, unsupported_method]
DOCUMENT = create_app(settings_on("nothing")).openapi()
KNOWN: dict[str, list[str]] = {
    "collection_id": ["stations", "grid", "grid_quantiles", "models", "nothing"],
    "instance_id": ["20250710T00Z.r0", "20250710T00Z", "20240101T00Z.r7"],
    "location_id": [*STATIONS, "nowhere"],
    "path": ["latest.json", "catalog.json", "../manifest.db"],
}


def test_the_known_ids_are_among_those_tried() -> None:
    assert {*KNOWN["collection_id"]} - {"nothing"} <= {*groups(INIT, 0.0)}


def cases() -> Iterator[tuple[str, GenerationMode]]:
    """Every operation as described, and otherwise where it has parameters in the query to get wrong."""
    for path, operations in DOCUMENT["paths"].items():
        if path == "/events":
            continue  # it never ends
        yield path, GenerationMode.POSITIVE
        if any(parameter["in"] == "query" for parameter in operations["get"].get("parameters", [])):
            yield path, GenerationMode.NEGATIVE


@pytest.mark.parametrize(("path", "mode"), [*cases()])
def test_every_answer_is_described_and_none_is_a_server_error(client: Client, path: str, mode: GenerationMode) -> None:
    operation: Any = schemathesis.openapi.from_dict(DOCUMENT)[path]["GET"]
    known = {name: st.sampled_from(values) for name, values in KNOWN.items() if f"{{{name}}}" in path}

    @settings(max_examples=12 if mode is GenerationMode.POSITIVE else 6, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode), there=st.fixed_dictionaries({}, optional=known))
    def ask(case: schemathesis.Case, there: dict[str, str]) -> None:
        case.path_parameters = {**(case.path_parameters or {}), **there}
        case.call_and_validate(base_url=client.base, checks=CHECKS)

    ask()
