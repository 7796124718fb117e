"""Guards dynamic batching: each image gets its own answer, or fails alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.serving.batching import Answer, Batcher, Limits
from cvpipe.serving.errors import RequestError


class Model:
    """Answers an image by its length; fails on "poison"; waits while `gate` is closed."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.options: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, images: Any, options: Any) -> dict[str, np.ndarray]:
        self.calls.append(list(images))
        self.options.append(dict(options))
        assert self.gate.wait(20)
        if b"poison" in images:
            raise tf.errors.InvalidArgumentError(None, None, "poison")
        return {"length": np.array([len(image) for image in images])}


@contextmanager
def batcher(model: Model, **limits: Any) -> Iterator[Batcher]:
    own = Batcher(model, Limits(**limits))
    try:
        yield own
    finally:
        model.gate.set()
        own.close()


def lengths(answers: list[Answer | RequestError]) -> list[Any]:
    return [
        int(one.outputs["length"][one.row]) if isinstance(one, Answer) else one.status
        for one in answers
    ]


async def one(own: Batcher, *images: bytes, key: Any = (), seconds: float = 20, **more: Any) -> Any:
    deadline = time.monotonic() + seconds
    return lengths(await own.answer(images, {"key": key}, key, deadline, **more))


async def meanwhile(model: Model, own: Batcher, *others: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Send requests while a first call is running, so that they wait together."""
    model.gate.clear()
    first = asyncio.create_task(one(own, b"x"))
    while not model.calls:
        await asyncio.sleep(0.001)
    tasks = [asyncio.ensure_future(other()) for other in others]
    await asyncio.sleep(0.05)
    model.gate.set()
    assert await first == [1]
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def test_requests_share_a_call_and_each_gets_its_own_answers() -> None:
    model = Model()
    with batcher(model) as own:
        asked = [lambda n=n: one(own, *[b"x" * (n + k) for k in range(n)]) for n in range(1, 8)]
        answers = asyncio.run(meanwhile(model, own, *asked))
    assert answers == [[n + k for k in range(n)] for n in range(1, 8)]
    assert [len(call) for call in model.calls] == [1, 28]


def test_a_batch_is_no_larger_than_allowed_and_a_request_may_span_several() -> None:
    model = Model()
    with batcher(model, max_batch=4) as own:
        answers = asyncio.run(
            meanwhile(
                model,
                own,
                lambda: one(own, *[b"x" * n for n in range(1, 7)]),
                lambda: one(own, b"abc"),
            )
        )
    assert answers == [[1, 2, 3, 4, 5, 6], [3]]
    assert [len(call) for call in model.calls] == [1, 4, 3]


def test_batches_are_padded_to_a_bucket_by_empty_images() -> None:
    model = Model()
    with batcher(model, buckets=(1, 4, 8)) as own:
        asyncio.run(meanwhile(model, own, *[lambda: one(own, b"ab")] * 3))
    assert model.calls[1:] == [[b"ab"] * 3 + [b""]]


def test_images_with_other_options_get_separate_calls_and_the_oldest_first() -> None:
    model = Model()
    with batcher(model) as own:
        asked = [lambda key=key: one(own, b"ab", key=key) for key in (1, 2, 1)]
        asyncio.run(meanwhile(model, own, *asked))
    assert [(len(call), own["key"]) for call, own in zip(model.calls, model.options)] == [
        (1, ()),
        (2, 1),
        (1, 2),
    ]


def test_one_image_that_fails_a_call_fails_alone() -> None:
    model = Model()
    with batcher(model) as own:
        images = [b"a", b"poison", b"abc"]
        answers = asyncio.run(
            meanwhile(model, own, *[lambda image=image: one(own, image) for image in images])
        )
    assert answers == [[1], [400], [3]]


def test_a_whole_request_gets_a_separate_call() -> None:
    model = Model()
    with batcher(model, max_batch=2) as own:
        answers = asyncio.run(
            meanwhile(
                model,
                own,
                lambda: one(own, b"a", b"ab", b"abc", key=object(), whole=True),
                lambda: one(own, b"ab"),
            )
        )
    assert answers == [[1, 2, 3], [2]]
    assert [len(call) for call in model.calls] == [1, 3, 1]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    model = Model()
    with batcher(model, max_queue=2) as own:
        answers = asyncio.run(meanwhile(model, own, *[lambda: one(own, b"ab")] * 3))
    assert answers[:2] == [[2], [2]]
    assert answers[2].status == 429 and answers[2].retry_after >= 1


def test_a_request_with_more_images_than_may_ever_wait_is_told_to_send_fewer() -> None:
    with (
        batcher(Model(), max_queue=2) as own,
        pytest.raises(RequestError, match="send fewer images per request") as error,
    ):
        asyncio.run(one(own, b"a", b"b", b"c"))
    assert error.value.status == 413


def test_a_request_that_waited_past_its_deadline_is_refused_and_never_computed() -> None:
    model = Model()
    with batcher(model) as own:
        answers = asyncio.run(
            meanwhile(
                model, own, lambda: one(own, b"late", seconds=0.01), lambda: one(own, b"in time")
            )
        )
        assert own.waiting == 0
    assert answers[0].status == 504 and answers[1] == [7]
    assert model.calls == [[b"x"], [b"in time"]]


def test_a_batch_that_is_not_full_waits_for_more() -> None:
    model = Model()

    async def two(own: Batcher) -> list[Any]:
        first = asyncio.create_task(one(own, b"a"))
        await asyncio.sleep(0.02)
        return [await one(own, b"ab"), await first]

    with batcher(model, wait_micros=2_000_000, max_batch=2) as own:
        assert asyncio.run(two(own)) == [[2], [1]]
    assert model.calls == [[b"a", b"ab"]]


def test_while_a_batch_waits_for_more_images_another_thread_answers_other_options() -> None:
    async def two(own: Batcher) -> None:
        waiting = asyncio.create_task(one(own, b"a", key="first"))
        await asyncio.sleep(0.01)
        assert await one(own, b"bb", b"bb", key="second") == [2, 2]
        assert await one(own, b"ccc", b"c", key="third", whole=True) == [3, 1]
        assert not waiting.done()
        assert await one(own, b"dddd", key="first") == [4] and await waiting == [1]

    with batcher(Model(), wait_micros=10_000_000, max_batch=2, threads=2) as own:
        asyncio.run(two(own))


async def calls(model: Model, count: int) -> None:
    """Return once `count` calls are running."""
    end = time.monotonic() + 10
    while len(model.calls) < count and time.monotonic() < end:
        await asyncio.sleep(0.001)


def test_a_free_thread_waits_for_as_many_images_as_are_being_computed() -> None:
    model = Model()

    async def crowd(own: Batcher) -> list[Any]:
        model.gate.clear()
        asked = [asyncio.create_task(one(own, b"a", b"ab", b"abc"))]
        await calls(model, 1)
        asked.append(asyncio.create_task(one(own, b"a")))
        await asyncio.sleep(0.05)
        assert len(model.calls) == 1
        asked.append(asyncio.create_task(one(own, b"ab", b"abc")))
        await calls(model, 2)
        model.gate.set()
        return list(await asyncio.gather(*asked))

    with batcher(model, threads=2) as own:
        assert asyncio.run(crowd(own)) == [[1, 2, 3], [1], [2, 3]]
    assert model.calls == [[b"a", b"ab", b"abc"]] * 2


def test_a_few_images_wait_no_longer_than_the_call_under_way() -> None:
    model = Model()

    async def few(own: Batcher) -> list[Any]:
        model.gate.clear()
        first = asyncio.create_task(one(own, b"a", b"ab", b"abc"))
        await calls(model, 1)
        second = asyncio.create_task(one(own, b"a"))
        await asyncio.sleep(0.05)
        model.gate.set()
        return [await first, await second]

    with batcher(model, threads=2) as own:
        assert asyncio.run(few(own)) == [[1, 2, 3], [1]]


def test_closing_answers_waiting_requests_and_refuses_new_ones() -> None:
    model = Model()

    async def close(own: Batcher) -> None:
        waiting = [asyncio.create_task(one(own, b"ab")) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(own.close)
        assert await asyncio.gather(*waiting) == [[2]] * 3
        with pytest.raises(RequestError, match="no longer served"):
            await one(own, b"a")

    with batcher(model) as own:
        asyncio.run(close(own))
