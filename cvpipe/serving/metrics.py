"""Server metrics in Prometheus text format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_VERSION = ("model", "version")


class Metrics:
    """Metrics of one server; thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry, "namespace": "cvpipe"}
        self.requests = Counter(
            "requests", "Number of requests by status.", ("protocol", *_VERSION, "code"), **own
        )
        self.stages = Histogram(
            "stage_seconds",
            "Duration of the stages of a request: read, parse, answer (queue and model), write.",
            ("stage", *_VERSION),
            buckets=_SECONDS,
            **own,
        )
        self.queued = Histogram(
            "queue_seconds",
            "Time that an image waits in the queue.",
            _VERSION,
            buckets=_SECONDS,
            **own,
        )
        self.calls = Histogram(
            "call_seconds",
            "Duration of a model call on a batch.",
            _VERSION,
            buckets=_SECONDS,
            **own,
        )
        self.sizes = Histogram(
            "batch_images", "Number of images in a batch.", _VERSION, buckets=_SIZES, **own
        )
        self.padding = Counter(
            "batch_padding", "Number of padding images added to batches.", _VERSION, **own
        )
        self.failures = Counter("call_failures", "Number of failed model calls.", _VERSION, **own)
        self.loads = Counter(
            "loads",
            "Number of attempts to load a version, by outcome.",
            (*_VERSION, "outcome"),
            **own,
        )
        self.in_flight = Gauge("requests_in_flight", "Number of requests in progress.", **own)
        self.waiting = Gauge(
            "queue_images", "Number of images waiting in the queue.", _VERSION, **own
        )
        self.ready = Gauge("ready", "1 while the server accepts requests, else 0.", **own)

        # Cache the metric of each combination of labels, because looking it up is slow.
        self._counts: dict[tuple[str, ...], Counter] = {}
        self._stages: dict[tuple[str, ...], Histogram] = {}

    def count(self, protocol: str, model: str, version: str, code: str) -> None:
        """Count a request."""
        labels = (protocol, model, version, code)
        if labels not in self._counts:
            self._counts[labels] = self.requests.labels(*labels)
        self._counts[labels].inc()

    def note_stages(self, model: str, version: str, seconds: Mapping[str, float]) -> None:
        """Record the durations of a request's stages."""
        for stage, took in seconds.items():
            labels = (stage, model, version)
            if labels not in self._stages:
                self._stages[labels] = self.stages.labels(*labels)
            self._stages[labels].observe(took)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self.registry)

    def forget(self, model: str, version: int) -> None:
        """Remove the queue gauge of an unloaded version."""
        with suppress(KeyError):
            self.waiting.remove(model, str(version))


class BatchMetrics:
    """Batch metrics of one version."""

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        """Record batches of this version in `metrics`."""
        self._metrics, self._labels = metrics, (model, str(version))

    @cached_property
    def _children(self) -> tuple[Histogram, Histogram, Histogram, Counter]:
        known, labels = self._metrics, self._labels
        return (
            known.queued.labels(*labels),
            known.calls.labels(*labels),
            known.sizes.labels(*labels),
            known.padding.labels(*labels),
        )

    def batch(self, size: int, padded: int, queued: Sequence[float], called: float) -> None:
        """Record a batch."""
        waits, calls, sizes, padding = self._children
        for seconds in queued:
            waits.observe(seconds)
        calls.observe(called)
        sizes.observe(size)
        if padded > size:
            padding.inc(padded - size)

    def failed(self, error: Exception) -> None:
        """Count a failed call."""
        self._metrics.failures.labels(*self._labels).inc()
