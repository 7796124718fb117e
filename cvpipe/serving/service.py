"""The part of the server that HTTP and gRPC share: models, limits, metrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cvpipe.serving.batching import Arrays
from cvpipe.serving.errors import RequestError
from cvpipe.serving.logs import log
from cvpipe.serving.metrics import BatchMetrics, Metrics
from cvpipe.serving.models import BYTES_SIGNATURE, Servable, load_servable
from cvpipe.serving.runner import Outcome, Pool, ServableRunner
from cvpipe.serving.settings import Settings
from cvpipe.serving.shelf import Shelf
from cvpipe.serving.versions import Version
from cvpipe.serving.warmup import warm

WARM_SIZES = (1, 2, 4, 8, 16, 32)
METHODS = {"classify": "classification", "regress": "regression"}
"""TF Serving's signature methods other than prediction."""


class Target(NamedTuple):
    """The version that a request asks for."""

    model: str
    version: int | None = None
    label: str | None = None


class Service:
    """A server without sockets. Its coroutines run in one event loop."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Prepare to serve a folder. `shelf.start()` loads its models."""
        self.settings, self.metrics = settings, Metrics()
        self.pool = Pool(settings.threads, settings.max_queue)
        if settings.dedicated:
            # By default, a thread with a finished batch may wait five milliseconds for Python's
            # lock.
            sys.setswitchinterval(0.001)
        self.shelf = Shelf(
            folder,
            settings.policy,
            self._load,
            poll_seconds=settings.poll_seconds,
            log=self._log,
            freeze=settings.dedicated,
        )
        self.draining, self.in_flight, self.held_bytes = False, 0, 0
        self.metrics.ready.set_function(lambda: float(self.ready))
        self.metrics.in_flight.set_function(lambda: float(self.in_flight))

    @property
    def ready(self) -> bool:
        """True while at least one model is served and the server is not stopping."""
        return not self.draining and bool(self.shelf.names())

    def close(self) -> None:
        """Release models and threads."""
        self.shelf.stop()
        self.pool.close()

    def deadline(self) -> float:
        """Return the deadline of a request that arrives now."""
        return time.monotonic() + self.settings.timeout

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request for a model as in progress."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def hold(self, size: int) -> None:
        """Count bytes of bodies in memory; a negative size releases them.

        Raises:
            RequestError: 429 if bodies have too many bytes in total. These bytes are counted, too.
        """
        self.held_bytes += size
        if size > 0 and self.held_bytes > self.settings.max_held_bytes:
            raise RequestError(429, "the server has too many requests; try again", retry_after=1)

    async def predict(
        self, version: Version, signature_name: str, given: Arrays, deadline: float
    ) -> Outcome:
        """Run a signature of a leased version.

        Args:
            version: a version leased from the shelf.
            signature_name: name of the signature, from `servable_of`.
            given: inputs of the request.
            deadline: time by `time.monotonic`.

        Raises:
            RequestError: the request failed.
            tf.errors.OpError: the model failed.
        """
        return await runner_of(version).predict(signature_name, given, deadline)

    def _load(self, folder: Path, model: str, number: int) -> ServableRunner:
        servable, settings = load_servable(folder), self.settings
        usual = [size for size in WARM_SIZES if size <= settings.max_batch]
        varies = warm(servable, settings.buckets or usual)
        observer = BatchMetrics(self.metrics, model, number)
        runner = ServableRunner(servable, settings, self.pool, varies, observer)
        if batcher := runner.batcher:
            waiting = self.metrics.waiting.labels(model, str(number))
            waiting.set_function(lambda: float(batcher.waiting))
        return runner

    def _log(self, event: str, **facts: object) -> None:
        log(event, **facts)
        if event in ("loaded", "load_failed"):
            labels = (str(facts["model"]), str(facts["version"]), event)
            self.metrics.loads.labels(*labels).inc()
        if event == "unloaded":
            self.metrics.forget(str(facts["model"]), int(str(facts["version"])))


def is_ready(service: Service, target: Target) -> bool:
    """Return True if a model or version accepts requests.

    Raises:
        RequestError: 404 if the model or version does not exist.
    """
    try:
        with service.shelf.lease(*target):
            return not service.draining
    except RequestError as error:
        if error.status != 503:
            raise
        return False


def wrong_method(version: Version, signature_name: str, verb: str, instead: str) -> RequestError:
    """Return TF Serving's error for a signature that doesn't support a method. cvpipe's signatures
    support none of `METHODS`.

    Args:
        version: a version leased from the shelf.
        signature_name: name from the request.
        verb: a key of METHODS.
        instead: the method to use instead.
    """
    servable, name = servable_of(version, signature_name)
    used = servable.signature_protos[name].method_name
    return RequestError(
        400,
        f"Expected {METHODS[verb]} signature method_name to be tensorflow/serving/{verb}. Was:"
        f" {used}; use {instead}",
    )


def runner_of(version: Version) -> ServableRunner:
    """Return the runner of a leased version."""
    assert isinstance(version.runner, ServableRunner)
    return version.runner


def servable_of(version: Version, signature_name: str) -> tuple[Servable, str]:
    """Return the model of a leased version, and the name of a signature. An empty name means the
    default signature.

    Raises:
        RequestError: 400 if the model has no such signature.
    """
    servable, name = runner_of(version).servable, signature_name or BYTES_SIGNATURE
    if name not in servable.signatures:
        names = ", ".join(sorted(servable.signatures))
        raise RequestError(400, f'no signature "{name}" in this model; it has {names or "none"}')
    return servable, name
