"""Dynamic batching of encoded images across requests. Each image succeeds or fails alone.

Images of requests with the same options wait in one queue. Threads take as many images as fit into
a batch, oldest first, and call the model. Requests are refused if too many images wait in all
queues, and requests past their deadline are not computed.

While other threads compute n images, a free thread waits until n images, or a full batch, are
queued. Otherwise it would often take a single image just before many others arrive, and small
batches take more time per image.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from cvpipe.serving.errors import RequestError, to_request_error

Arrays = Mapping[str, np.ndarray]


class Answer(NamedTuple):
    """The answer to one image: a row of a batch's outputs."""

    outputs: Arrays
    row: int


class Limits(NamedTuple):
    """Size and time limits of a batcher."""

    max_batch: int = 32
    wait_micros: int = 0
    buckets: tuple[int, ...] = ()
    max_queue: int = 1024
    threads: int = 1


class Observer(Protocol):
    """Callbacks for batches, such as metrics; times are in seconds."""

    def batch(self, size: int, padded: int, queued: Sequence[float], called: float) -> None:
        """Record a batch: number of images, padded size, seconds for which each image was queued,
        and seconds of the call.
        """

    def failed(self, error: Exception) -> None:
        """Record a failed call."""


@dataclass(eq=False)
class Job:
    """The images of one request."""

    images: Sequence[bytes]
    options: Mapping[str, Any]
    key: Hashable
    """Only images with equal keys are batched together."""
    whole: bool
    """True to run all images of this request in one call, without images of other requests."""
    deadline: float
    """Time by `time.monotonic` after which no answer is needed."""
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Answer | RequestError]]
    arrived: float = field(default_factory=time.monotonic)
    taken: int = 0
    left: int = 0
    answers: list[Any] = field(default_factory=list)
    given_up: bool = False


Part = tuple[Job, int]
"""A job and the index of one of its images."""


class Batcher:
    """Runs a model on batches of images in its own threads."""

    def __init__(
        self,
        call: Callable[[Sequence[bytes], Mapping[str, Any]], Arrays],
        limits: Limits,
        observer: Observer | None = None,
    ) -> None:
        """Start the threads.

        Args:
            call: maps images and options to outputs, each [B, …]. Batches are padded with empty
                strings, which the model must treat as unreadable images.
            limits: size and time limits.
            observer: notified of batches and failures.
        """
        self._call, self._limits, self._observer = call, limits, observer
        self._queues: OrderedDict[Hashable, deque[Job]] = OrderedDict()
        self._waiting, self._computing, self._closed = 0, 0, False
        self._filling: set[Hashable] = set()
        """Keys of queues for which a thread waits for more images."""
        self._speed = 0.0
        self._ready = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{n}", daemon=True)
            for n in range(limits.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of images in all queues."""
        return self._waiting

    async def answer(
        self,
        images: Sequence[bytes],
        options: Mapping[str, Any],
        key: Hashable,
        deadline: float,
        whole: bool = False,
    ) -> list[Answer | RequestError]:
        """Return an answer or an error for each image, in order.

        Raises:
            RequestError: 413 if the request alone exceeds the limit, 429 if too many images wait,
                503 after `close`, 504 if the deadline passes first.
        """
        loop = asyncio.get_running_loop()
        job = Job(images, options, key, whole, deadline, loop, loop.create_future())
        job.left, job.answers = len(images), [None] * len(images)
        self._put(job)
        timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._expire, job)
        try:
            return await job.future
        finally:
            job.given_up = True
            timer.cancel()

    def close(self) -> None:
        """Stop the threads once all queues are empty."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=60)

    def _put(self, job: Job) -> None:
        with self._ready:
            if self._closed:
                raise RequestError(503, "this version is no longer served", retry_after=1)
            if len(job.images) > self._limits.max_queue:
                raise RequestError(
                    413,
                    f"the request has {len(job.images)} images, and at most"
                    f" {self._limits.max_queue} may wait; send fewer images per request",
                )
            if self._waiting + len(job.images) > self._limits.max_queue:
                seconds = math.ceil(self._waiting / self._speed) if self._speed else 1
                raise RequestError(
                    429,
                    f"{self._waiting} images are waiting, and {len(job.images)} more would exceed"
                    f" the limit of {self._limits.max_queue}; try again",
                    retry_after=min(max(seconds, 1), 60),
                )
            self._waiting += len(job.images)
            self._queues.setdefault(job.key, deque()).append(job)
            self._wake()

    def _expire(self, job: Job) -> None:
        if not job.future.done():
            job.future.set_exception(too_late())

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._should_take() and not self._closed:
                    self._ready.wait()
                if not self._queues:
                    return
                parts = self._take()
                self._computing += len(parts)
                self._wake()
            if parts:
                self._run(parts)

    def _should_take(self) -> bool:
        """Return True if a free thread should take a batch now."""
        enough = min(self._computing, self._limits.max_batch)
        return self._waiting >= enough and self._queues.keys() > self._filling

    def _wake(self) -> None:
        if self._filling:
            self._ready.notify_all()  # also the threads that wait for more images
        elif self._should_take():
            self._ready.notify()

    def _take(self) -> list[Part]:
        """Take the next batch from the queue whose first job is the oldest. Leave queues that
        another thread is filling to that thread.
        """
        free = [key for key in self._queues if key not in self._filling]
        if not free:
            return []
        key = min(free, key=lambda each: self._queues[each][0].arrived)
        self._filling.add(key)
        self._fill(key)
        self._filling.discard(key)
        queue, parts = self._queues[key], list[Part]()
        while queue:
            job = queue[0]
            room = len(job.images) if job.whole else self._limits.max_batch - len(parts)
            if job.given_up or time.monotonic() > job.deadline:
                self._waiting -= len(job.images) - job.taken
            elif room <= 0 or (job.whole and parts):
                break
            else:
                end = min(job.taken + room, len(job.images))
                parts += [(job, n) for n in range(job.taken, end)]
                self._waiting -= end - job.taken
                job.taken = end
                if end < len(job.images):
                    break
            queue.popleft()
            if job.whole and parts:
                break
        if not queue:
            del self._queues[key]
        return parts

    def _fill(self, key: Hashable) -> None:
        """Wait up to `wait_micros` for more images if the batch isn't full."""
        if not self._limits.wait_micros:
            return
        until = self._queues[key][0].arrived + self._limits.wait_micros / 1e6
        while not self._closed and (queue := self._queues.get(key)):
            held = sum(len(job.images) - job.taken for job in queue)
            left = until - time.monotonic()
            if queue[0].whole or held >= self._limits.max_batch or left <= 0:
                return
            self._ready.wait(left)

    def _run(self, parts: list[Part]) -> None:
        began = time.monotonic()
        images, options = [job.images[n] for job, n in parts], parts[0][0].options
        answers: list[Answer | RequestError]
        try:
            outputs = self._first_call(images, options)
            answers = [Answer(outputs, row) for row in range(len(images))]
        except Exception as error:
            self._note_failure(error)
            if len(images) > 1:
                answers = [self._run_alone(image, options) for image in images]
            else:
                answers = [to_request_error(error)]
        took = time.monotonic() - began
        self._speed = 0.8 * self._speed + 0.2 * len(images) / max(took, 1e-6)
        if self._observer:
            queued = [began - job.arrived for job, _ in parts]
            self._observer.batch(len(images), len(self._padded(images)), queued, took)
        self._resolve_parts(parts, answers)

    def _first_call(self, images: Sequence[bytes], options: Mapping[str, Any]) -> Arrays:
        try:
            return self._call(self._padded(images), options)
        finally:
            with self._ready:
                self._computing -= len(images)
                self._wake()

    def _run_alone(self, image: bytes, options: Mapping[str, Any]) -> Answer | RequestError:
        """Run one image of a failed batch separately, so that only bad images fail."""
        try:
            return Answer(self._call(self._padded([image]), options), 0)
        except Exception as error:
            self._note_failure(error)
            return to_request_error(error)

    def _note_failure(self, error: Exception) -> None:
        if self._observer:
            self._observer.failed(error)

    def _padded(self, images: Sequence[bytes]) -> Sequence[bytes]:
        size = next((size for size in self._limits.buckets if size >= len(images)), len(images))
        return [*images, *[b""] * (size - len(images))]

    def _resolve_parts(self, parts: list[Part], answers: list[Answer | RequestError]) -> None:
        done: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        with self._ready:
            for (job, n), answer in zip(parts, answers, strict=True):
                job.answers[n] = answer
                job.left -= 1
                if job.left == 0:
                    done.setdefault(job.loop, []).append(job)
        for loop, jobs in done.items():
            # The call raises RuntimeError if the loop has been closed.
            with suppress(RuntimeError):
                # Use one call for all jobs, because each call wakes the loop.
                loop.call_soon_threadsafe(_resolve, jobs)


def too_late() -> RequestError:
    """Return the error for a request past its deadline."""
    return RequestError(504, "no answer within the time limit of this server; send fewer images")


def _resolve(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_result(job.answers)
