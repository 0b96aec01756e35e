"""What every registered source is tested on. Subclass it, or parametrise over the registry as ``test_registry.py`` does."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.errors import NotAvailableError
from data_catalog.sources.base import FieldKey, GridSource, StationSource, Transport
from data_catalog.variables import VARIABLES


class SourceContract:
    """Laws of a gridded source; a subclass or its fixtures give ``source``, ``transport`` and ``init_time`` of a complete cycle."""

    def test_it_is_a_source(self, source: GridSource) -> None:
        assert isinstance(source, GridSource)
        spec = source.spec
        assert spec.dataset == spec.dataset.lower()
        assert spec.members >= 1
        assert list(spec.lead_hours) == sorted(set(spec.lead_hours))
        assert set(spec.variables) <= set(VARIABLES)
        assert all(0 <= hour < 24 for hour in spec.cycles)
        assert spec.licence
        assert spec.simulated == spec.dataset.startswith("simulated-")

    def test_expected_is_every_variable_lead_and_member(self, source: GridSource, init_time: np.datetime64) -> None:
        keys, spec = source.expected(init_time), source.spec
        late = [lead for lead in spec.lead_hours if lead > 0]
        for variable in spec.variables:
            leads = late if VARIABLES[variable].has_interval else spec.lead_hours
            assert {key for key in keys if key.variable == variable} == {
                FieldKey(variable, lead, member) for lead in leads for member in range(spec.members)
            }

    def test_a_complete_cycle_is_planned_completely(self, source: GridSource, transport: Transport, init_time: np.datetime64) -> None:
        plan = source.plan(init_time, transport)
        assert plan.init_time == init_time
        assert {span.key for span in plan.spans} == source.expected(init_time)
        assert len(plan.spans) == len(source.expected(init_time))
        assert not plan.missing

    def test_spans_are_disjoint_and_inside_their_files(self, source: GridSource, transport: Transport, init_time: np.datetime64) -> None:
        files: dict[str, list[tuple[int, int | None]]] = {}
        for span in source.plan(init_time, transport).spans:
            files.setdefault(span.url, []).append((span.start, span.stop))
        for url, spans in files.items():
            size = len(transport.read(url))
            end = 0
            for start, stop in sorted(spans, key=lambda span: span[0]):
                assert end <= start < (size if stop is None else stop) <= size
                end = size if stop is None else stop

    def test_a_cycle_that_is_not_there_is_not_available(self, source: GridSource, transport: Transport) -> None:
        with pytest.raises(NotAvailableError, match=source.spec.dataset):
            source.plan(np.datetime64("1999-01-01T00"), transport)

    def test_no_index_is_a_missing_field_with_a_reason(self, source: GridSource, transport: Transport, init_time: np.datetime64) -> None:
        last = max(source.plan(init_time, transport).spans, key=lambda span: span.key).url

        class Lacking:
            def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
                if url.startswith(last.removesuffix(".grib2")):
                    raise NotAvailableError(f"There is no {url}.")
                return transport.read(url, start, stop)

        plan = source.plan(init_time, Lacking())
        missing = {key for key, _ in plan.missing}
        assert missing
        assert missing | {span.key for span in plan.spans} == source.expected(init_time)
        assert not missing & {span.key for span in plan.spans}
        assert all(reason for _, reason in plan.missing)


class StationSourceContract:
    """Laws of a source of station reports; fixtures give ``source``, ``transport``, ``since`` and ``until``."""

    def test_it_is_a_source(self, source: StationSource) -> None:
        assert isinstance(source, StationSource)
        assert set(source.spec.variables) <= set(VARIABLES)
        assert source.spec.licence

    def test_reports_are_after_since_and_up_to_until(
        self, source: StationSource, transport: Transport, since: np.datetime64, until: np.datetime64
    ) -> None:
        found = source.read(since, until, transport).data
        assert found.sizes["time"] > 0
        assert (found["time"].values > since).all()
        assert (found["time"].values <= until).all()
        assert found["available_time"].dims == ("time", "station")
        reported = np.any([np.isfinite(found[name].values) for name in source.spec.variables], axis=0)
        assert np.array_equal(found["available_time"].notnull().values, reported)
        assert (found["available_time"] >= found["time"]).values[reported].all()

    def test_every_interval_variable_says_its_interval(
        self, source: StationSource, transport: Transport, since: np.datetime64, until: np.datetime64
    ) -> None:
        found = source.read(since, until, transport).data
        for name in source.spec.variables:
            assert found[name].dims == ("time", "station")
            if VARIABLES[name].has_interval:
                stated = np.isfinite(found[f"{name}_interval"].values)
                assert np.array_equal(stated, np.isfinite(found[name].values))

    def test_values_are_believable(self, source: StationSource, transport: Transport, since: np.datetime64, until: np.datetime64) -> None:
        found = source.read(since, until, transport).data
        for name in source.spec.variables:
            values = found[name].values
            assert not (values < VARIABLES[name].minimum).any()
            assert not (values > VARIABLES[name].maximum).any()
