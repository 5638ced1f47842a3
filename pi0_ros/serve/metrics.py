"""What a server counts, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pi0_ros.serve.engine import Job

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.clients = Gauge("pi0_clients", "Connections that are open.", registry=registry)
        self.questions = Gauge(
            "pi0_questions", "Observations whose chunk is not done.", registry=registry
        )
        self.refused = Counter(
            "pi0_refused", "Connections and requests refused.", ["reason"], registry=registry
        )
        self._inferences = Histogram(
            "pi0_inference_seconds", "Of one batch.", registry=registry, buckets=_SECONDS
        )
        self._waits = Histogram(
            "pi0_wait_seconds",
            "From an observation's arrival to its chunk.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._batches = Counter("pi0_batches", "By size.", ["size"], registry=registry)

    def on_batch(self, jobs: list[Job], seconds: float) -> None:
        """Count an inference; from any thread."""
        now = time.monotonic()
        self._inferences.observe(seconds)
        self._batches.labels(len(jobs)).inc()
        for job in jobs:
            self._waits.observe(now - job.put)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self._registry)
