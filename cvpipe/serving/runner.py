"""Execution of requests by a loaded version. Encoded images are batched; other requests run in a
thread pool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.serving.batching import Answer, Arrays, Batcher, Limits, Observer, too_late
from cvpipe.serving.errors import RequestError
from cvpipe.serving.image_header import Size, image_size
from cvpipe.serving.models import BYTES_SIGNATURE, Servable
from cvpipe.serving.offload import SMALL_BYTES, offload
from cvpipe.serving.settings import Settings

FEW_IMAGES = 8
"""Reading the header of an image takes up to a millisecond, so the headers of more images are read
in a thread.
"""


class Outcome(NamedTuple):
    """Outputs of a signature for one request."""

    outputs: Arrays
    errors: Mapping[int, str]
    """Errors of images refused before they reached the model, by index."""


class Pool:
    """Thread pool with a bounded queue, for requests that aren't batched."""

    def __init__(self, threads: int, most: int) -> None:
        """Start the threads. At most `most` requests are accepted at once."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._held, self._most = 0, most

    async def run(self, function: Any, *arguments: Any, deadline: float) -> Any:
        """Call a function in a thread and return its result.

        Raises:
            RequestError: 429 if too many wait, 504 if the deadline passes first.
        """
        if self._held >= self._most:
            raise RequestError(429, f"{self._held} requests are waiting; try again", retry_after=1)
        self._held += 1
        # A call that passes its deadline still occupies its thread, so it counts until it is done.
        future = asyncio.get_running_loop().run_in_executor(
            self._executor, _unless_late, deadline, function, arguments
        )
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await asyncio.shield(future)
        except TimeoutError:
            raise too_late() from None

    def close(self) -> None:
        """Release the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._held -= 1
        if not future.cancelled():
            future.exception()  # marks the exception as retrieved for asyncio


class ServableRunner:
    """Runs requests on one loaded version."""

    def __init__(
        self,
        servable: Servable,
        settings: Settings,
        pool: Pool,
        varies: bool = False,
        observer: Observer | None = None,
    ) -> None:
        """Prepare to run a version.

        Args:
            servable: the version.
            settings: limits.
            pool: thread pool shared by all versions.
            varies: True if the shapes of an image's outputs depend on the other images in the
                batch. Then only images of equal size are batched.
            observer: notified of batches.
        """
        self.servable, self._settings, self._pool, self._varies = servable, settings, pool, varies
        self.batcher: Batcher | None = None
        if servable.images_input:
            limits = Limits(
                settings.max_batch,
                settings.wait_micros,
                tuple(sorted(settings.buckets)),
                settings.max_queue,
                settings.batch_threads,
            )
            self.batcher = Batcher(self._call_bytes, limits, observer)

    def close(self) -> None:
        """Release the threads."""
        if self.batcher:
            self.batcher.close()

    async def predict(
        self, signature_name: str, given: Mapping[str, np.ndarray], deadline: float
    ) -> Outcome:
        """Run one request.

        Args:
            signature_name: name of a signature.
            given: inputs by name; strings are arrays of bytes objects.
            deadline: time by `time.monotonic`.

        Raises:
            RequestError: the request failed.
            tf.errors.OpError: the model failed.
        """
        self.servable.check_options(signature_name, given)
        errors: Mapping[int, str] = {}
        images = self._encoded_input(signature_name)
        if images is not None and images in given and len(given[images]):
            options = {name: value for name, value in given.items() if name != images}
            scalar = not any(value.ndim for value in options.values())
            if signature_name == BYTES_SIGNATURE and scalar:
                return await self.answer_images(list(given[images]), options, deadline)
            accepted, _, errors = await self._check_images(list(given[images]))
            if errors and self.servable.valid not in self.servable.output_specs(signature_name):
                raise RequestError(413, next(iter(errors.values())))
            given = {**given, images: np.array(accepted, dtype=object)}
        outputs = await self._pool.run(self._call, signature_name, given, deadline=deadline)
        return Outcome(outputs, errors)

    async def answer_images(
        self, images: Sequence[bytes], options: Mapping[str, np.ndarray], deadline: float
    ) -> Outcome:
        """Run encoded images in batches, with scalar options."""
        answers, errors = await self.answer_each(images, options, deadline)
        for answer in answers:
            if isinstance(answer, RequestError):
                raise answer
        return Outcome(
            _joined([answer for answer in answers if isinstance(answer, Answer)]), errors
        )

    async def answer_each(
        self, images: Sequence[bytes], options: Mapping[str, np.ndarray], deadline: float
    ) -> tuple[list[Answer | RequestError], dict[int, str]]:
        """Run encoded images in batches, with scalar options.

        Returns:
            An answer or an error for each image; and the errors of images that were refused before
            they reached the model, by index.
        """
        assert self.batcher
        accepted, sizes, errors = await self._check_images(images)
        key: Any = tuple((name, options[name].tobytes()) for name in sorted(options))
        several = self._varies and len(set(sizes)) > 1
        if self._varies:
            key = (key, object() if several else sizes[0])
        answers = await self.batcher.answer(accepted, options, key, deadline, whole=several)
        return answers, errors

    def _encoded_input(self, signature_name: str) -> str | None:
        """Return the input for encoded images, string [B], which has the same name in all
        signatures; None if the signature has none.
        """
        name = self.servable.images_input
        spec = self.servable.input_specs(signature_name).get(name) if name else None
        is_encoded = spec is not None and spec.dtype == tf.string and spec.shape.rank == 1
        return name if is_encoded else None

    async def _check_images(
        self, images: Sequence[bytes]
    ) -> tuple[list[bytes], list[Size | None], dict[int, str]]:
        """Check the limits on encoded images.

        Returns:
            The images, with empty ones, which the model answers as unreadable, instead of those
            with too many pixels; the sizes; and the errors by index.

        Raises:
            RequestError: 413 for too many images.
        """
        if len(images) > self._settings.max_instances:
            raise RequestError(
                413,
                f"the request has {len(images)} images, but this server takes at most"
                f" {self._settings.max_instances}; send fewer per request",
            )
        sizes = await offload(SMALL_BYTES if len(images) > FEW_IMAGES else 0, _sizes, images)
        errors = {n: error for n, size in enumerate(sizes) if (error := self._too_large(size))}
        accepted = [b"" if n in errors else image for n, image in enumerate(images)]
        return accepted, sizes, errors

    def _too_large(self, size: tuple[int, int] | None) -> str | None:
        if size is None or size[0] * size[1] <= self._settings.max_pixels:
            return None
        return (
            f"the image has {size[0]} x {size[1]} pixels, but this server takes at most"
            f" {self._settings.max_pixels:,}; send a smaller image"
        )

    def _call_bytes(self, images: Sequence[bytes], options: Mapping[str, Any]) -> Arrays:
        name = self.servable.images_input
        assert name
        given = {name: np.array(images, dtype=object), **options}
        return self._call(BYTES_SIGNATURE, given)

    def _call(self, signature_name: str, given: Mapping[str, np.ndarray]) -> Arrays:
        specs = self.servable.input_specs(signature_name)
        tensors = dict(self.servable.defaults(signature_name))
        for name, value in given.items():
            tensors[name] = tf.constant(value, specs[name].dtype)
        outputs = self.servable.signatures[signature_name](**tensors)
        return {name: _array(value) for name, value in outputs.items()}


def _unless_late(deadline: float, function: Any, arguments: tuple[Any, ...]) -> Any:
    if time.monotonic() > deadline:
        raise too_late()
    return function(*arguments)


def _sizes(images: Sequence[bytes]) -> list[Size | None]:
    return [image_size(image) for image in images]


def _array(value: tf.Tensor) -> np.ndarray:
    array = value.numpy()
    return (
        array
        if isinstance(array, np.ndarray)
        else np.array(array, dtype=object if isinstance(array, bytes) else None)
    )


def _joined(answers: Sequence[Answer]) -> Arrays:
    """Stack the rows of answers into one array [B, …] per output.

    Raises:
        RequestError: 503 if the rows differ in shape. This happens if the shapes of outputs depend
            on the batch, and a batch failed, so that its images were answered one by one.
    """
    first = answers[0]
    rows = [answer.row for answer in answers]
    together = all(answer.outputs is first.outputs for answer in answers)
    if together and rows == list(range(rows[0], rows[0] + len(rows))):
        part = slice(rows[0], rows[0] + len(rows))
        return {name: value[part] for name, value in first.outputs.items()}
    for name in first.outputs:
        if len({answer.outputs[name].shape[1:] for answer in answers}) > 1:
            raise RequestError(
                503,
                f'the images could only be answered one by one, and the shapes of "{name}" differ;'
                " send the request again, or one image per request",
                retry_after=1,
            )
    return {
        name: np.stack([answer.outputs[name][answer.row] for answer in answers])
        if value.dtype != object
        else _stacked([answer.outputs[name][answer.row] for answer in answers])
        for name, value in first.outputs.items()
    }


def _stacked(rows: Sequence[Any]) -> np.ndarray:
    """Stack rows of bytes objects, which NumPy would convert to fixed-length strings."""
    stacked = np.empty((len(rows), *np.shape(rows[0])), dtype=object)
    for n, row in enumerate(rows):
        stacked[n] = row
    return stacked
