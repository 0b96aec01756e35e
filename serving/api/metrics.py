"""What Prometheus reads at ``/metrics``: requests, their duration, and what is published."""

from __future__ import annotations

from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from serving.api.cycles import NotPublishedError, PublishedCycles

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
AREAS: Final = ("api", "assets", "edr", "events", "published")
"""First parts of a path that are counted by name; everything else is ``other``."""


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self, store: PublishedCycles) -> None:
        self.store = store
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "giomua_requests", "Answers sent.", ("area", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "giomua_request_seconds", "Time until the answer was sent whole.", ("area",), registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        self.open_requests = Gauge("giomua_open_requests", "Requests being answered, event streams among them.", registry=self.registry)
        self.init_time = Gauge(
            "giomua_published_init_time_seconds", "Start of the forecast that is served, Unix time; 0 without one.", registry=self.registry
        )
        self.revision = Gauge("giomua_published_revision", "Its revision; -1 without one.", registry=self.registry)
        self.simulated = Gauge("giomua_published_simulated", "1 when it is simulated.", registry=self.registry)
        self.problem = Gauge("giomua_published_problem", "1 when the newest cycle cannot be served.", registry=self.registry)
        self.cached = Gauge("giomua_cached_bytes", "Decoded arrays kept in memory.", registry=self.registry)

    def count(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        area = first if first in AREAS else "page" if not first else "other"
        method = method if method in ("GET", "HEAD", "OPTIONS") else "other"
        self.requests.labels(area, method, str(status)).inc()
        self.seconds.labels(area).observe(seconds)

    def text(self) -> bytes:
        """In the text format."""
        try:
            cycle = self.store.current()
        except NotPublishedError:
            self.init_time.set(0)
            self.revision.set(-1)
        else:
            self.init_time.set(float(cycle.init_time.astype("datetime64[s]").astype(np.int64)))
            self.revision.set(cycle.name.revision)
            self.simulated.set(cycle.simulated)
        self.problem.set(self.store.problem is not None)
        self.cached.set(self.store.cache.bytes)
        return generate_latest(self.registry)
