"""Server metrics in Prometheus text format."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_VERSION = ("model", "version")
_Metric = TypeVar("_Metric", Counter, Histogram)


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

        self._of_versions: tuple[Counter | Gauge | Histogram, ...] = (
            self.requests,
            self.stages,
            self.queued,
            self.calls,
            self.sizes,
            self.padding,
            self.failures,
            self.loads,
            self.waiting,
        )
        # Cache the metric of each combination of labels, because looking it up is slow.
        self._counts: dict[tuple[str, ...], Counter] = {}
        self._stages: dict[tuple[str, ...], Histogram] = {}
        # A request may end after its version was unloaded. It must not bring the series back.
        self._unloaded: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def count(self, protocol: str, model: str, version: str, code: str) -> None:
        """Count a request."""
        labels = (protocol, model, version, code)
        if counter := self._cached(self._counts, self.requests, labels):
            counter.inc()

    def note_stages(self, model: str, version: str, seconds: Mapping[str, float]) -> None:
        """Record the durations of a request's stages."""
        for stage, took in seconds.items():
            if histogram := self._cached(self._stages, self.stages, (stage, model, version)):
                histogram.observe(took)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self.registry)

    def expect(self, model: str, version: int) -> None:
        """Record metrics of a version from now on, though it was unloaded before."""
        with self._lock:
            self._unloaded.discard((model, str(version)))

    def forget(self, model: str, version: int) -> None:
        """Remove all series of an unloaded version."""
        gone = (model, str(version))
        with self._lock:
            self._unloaded.add(gone)
            for metric in self._of_versions:
                metric.remove_by_labels(dict(zip(_VERSION, gone, strict=True)))
            for cache in (self._counts, self._stages):
                for labels in [labels for labels in cache if labels[1:3] == gone]:
                    del cache[labels]

    def _cached(
        self, cache: dict[tuple[str, ...], _Metric], metric: _Metric, labels: tuple[str, ...]
    ) -> _Metric | None:
        """Return the metric with these labels, of which the second and the third are model and
        version; None if the version was unloaded.
        """
        if (known := cache.get(labels)) is not None:
            return known
        with self._lock:
            if labels[1:3] in self._unloaded:
                return None
            cache[labels] = metric.labels(*labels)
            return cache[labels]


class BatchMetrics:
    """Batch metrics of one version."""

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        """Record batches of this version in `metrics`."""
        self._metrics, self._labels = metrics, (model, str(version))
        metrics.expect(model, version)

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
