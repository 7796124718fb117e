"""Measure packed data on remote storage: the utilization of a v5e-256 slice, and the time to
resume.

    python benchmarks/packed_storage.py

1. A simulation of 64 hosts that feed 256 chips in lockstep. Each host has a fixed number of
   requests in flight. A request takes its latency plus the transfer time of its bytes. The
   simulation adds queues and slow requests to the arithmetic of docs/packed_data.md.
2. cvpipe's reader on this machine, with storage that delays each answer by 30 ms: prefetched
   blocks, checksums and parsing in TensorFlow's graph, without decoding.
3. The time to the first batch of a stream of 1,000 and of 100 million examples, at the start and
   in the middle of an epoch, and the bytes of the stream's state in a checkpoint.
"""

from __future__ import annotations

import heapq
import importlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from record import record, row

LATENCY = 0.030
# Bytes per second of one connection, and of all connections of a host, whose network has 100 Gbit/s
# for all purposes.
CONNECTION, HOST = 100e6, 5e9
# One in STRAGGLERS requests takes a second.
STRAGGLERS = 10_000
HOSTS, CHIPS = 64, 4
# ResNet-50 in bfloat16 with a batch of 256 moves 99 GB per step, on a chip with 819 GB/s.
IMAGES_A_CHIP = 256 / (99 / 819)
CHIP_BATCH = 32
STEPS = 400
# Requests in flight per host, as in `cvpipe.data.packed.shards.REQUESTS`.
REQUESTS = 64
PHOTO, SMALL_PHOTO = 110_000, 30_000


class Reading(NamedTuple):
    """Settings of the reader."""

    block: int
    ahead: int
    photo: int


READINGS = [
    Reading(1, 2_048, PHOTO),
    Reading(16, 512, PHOTO),
    Reading(16, 2_048, PHOTO),
    Reading(16, 8_192, PHOTO),
    Reading(16, 16_384, PHOTO),
    Reading(64, 16_384, PHOTO),
    Reading(64, 16_384, SMALL_PHOTO),
]


class Link:
    """The connection of one host to the storage: requests in flight share its bandwidth."""

    def __init__(self, reading: Reading, seed: int):
        self._size, self._random = reading.block * reading.photo, np.random.default_rng(seed)
        self._slots = [0.0] * REQUESTS
        self._free = 0.0
        self._latencies = iter(())

    def fetch(self, requested: float) -> float:
        """Return the time at which a block arrives, if it is requested at the time `requested`."""
        start = max(requested, heapq.heappop(self._slots))
        first = start + self._latency()
        self._free = max(self._free, first) + self._size / HOST
        arrival = max(self._free, first + self._size / CONNECTION)
        heapq.heappush(self._slots, arrival)
        return arrival

    def _latency(self) -> float:
        """Draw a latency: 30 ms on average, at least 100 ms in 1 % of all cases."""
        drawn: float | None = next(self._latencies, None)
        if drawn is None:
            spread = 0.6
            usual = self._random.lognormal(np.log(LATENCY) - spread**2 / 2, spread, 1_000)
            slow = self._random.integers(0, STRAGGLERS, 1_000) == 0
            self._latencies = iter(np.where(slow, 1.0, usual).tolist())
            drawn = next(self._latencies)
        return drawn


def simulate(reading: Reading) -> float:
    """Return the share of the time in which the chips compute. The time to fill the buffers before
    the first step is not counted.
    """
    links = [Link(reading, seed) for seed in range(HOSTS)]
    a_step = CHIPS * CHIP_BATCH
    duration = CHIP_BATCH / IMAGES_A_CHIP
    arrived: list[list[float]] = [[] for _ in links]
    now, start = 0.0, 0.0
    for step in range(STEPS + 1):
        # Number of blocks that are requested before this step.
        wanted = -(-(step * a_step + max(reading.ahead, a_step)) // reading.block)
        needed = -(-(step + 1) * a_step // reading.block)
        for link, arrivals in zip(links, arrived, strict=True):
            while len(arrivals) < wanted:
                arrivals.append(link.fetch(now))
        # The first step waits until the buffers are full.
        first = 0 if step == 0 else needed - 1 - a_step // reading.block
        last = wanted if step == 0 else needed
        now = max(now, *(max(arrivals[first:last]) for arrivals in arrived))
        if step == 0:
            start = now
        now += duration
    return (STEPS + 1) * duration / (now - start)


def simulated() -> list[dict[str, Any]]:
    """Return the rows of the simulation."""
    rows = []
    a_slice = HOSTS * CHIPS * IMAGES_A_CHIP
    for reading in READINGS:
        name = f"block {reading.block}, ahead {reading.ahead:,}, {reading.photo // 1000} kB"
        rows += [
            row(f"simulated v5e-256 computes: {name}", simulate(reading), "of the time", True),
            row(f"requests of the slice: {name}", a_slice / reading.block, "1/s", True),
        ]
        print(rows[-2], flush=True)
    return [
        row("v5e-256, ResNet-50: needed", a_slice, "images/s", True),
        row("one host: needed", CHIPS * IMAGES_A_CHIP, "images/s", True),
        row("one host: photos of 110 kB", CHIPS * IMAGES_A_CHIP * PHOTO / 1e6, "MB/s", True),
        *rows,
    ]


def virtual(examples: int, size: int = 8) -> Any:
    """Return a source of images that are generated when they are read."""
    import tensorflow as tf

    from cvpipe.data.sources.constructors import classification_source

    def read_record(number: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([number, tf.constant(1, tf.int64)])
        pixels = tf.random.stateless_uniform([size, size, 3], seed, 0, 256, tf.int32)
        return {"image": tf.cast(pixels, tf.uint8)}

    labels = np.zeros(examples, np.int32)
    return classification_source(("a", "b"), labels, read_record, lambda number: f"image/{number}")


def measured(folder: Path) -> list[dict[str, Any]]:
    """Measure the reader with delayed storage, and return the rows."""
    import tensorflow as tf

    from cvpipe.config.packed import PackedLabels
    from cvpipe.data.batching import PARALLEL, announced, prefetch
    from cvpipe.data.graph import read_in_python
    from cvpipe.data.order import batch_examples
    from cvpipe.data.packed.pack import pack
    from cvpipe.data.packed.reduce import Reduction
    from cvpipe.data.sources.constructors import classification_source
    from cvpipe.data.sources.packed import packed

    examples = 1_024
    plain = tf.autograph.experimental.do_not_convert
    random = np.random.default_rng(0)
    photos = [random.bytes(PHOTO) for _ in range(64)]
    source = classification_source(
        ("a", "b"),
        np.zeros(examples, np.int32),
        plain(lambda number: {"bytes": read_in_python(lambda n: photos[n % 64], number)}),
        str,
    )
    pack({"train": source}, str(folder), {}, Reduction(), workers=2)
    # Typed as Any, because its function `read_range` is replaced below.
    shards: Any = importlib.import_module("cvpipe.data.packed.shards")
    read_range = shards.read_range

    def late(file: str, begin: int, end: int) -> bytes:
        time.sleep(LATENCY + (end - begin) / CONNECTION)
        return read_range(file, begin, end)

    shards.read_range = late
    rows = []
    for block, ahead, steps in ((1, 0, 4), (1, 256, 16), (16, 512, 32), (64, 1_024, 32)):
        section = PackedLabels(kind="packed", path=str(folder), block=block, ahead=ahead)
        packed_source = packed(section)["train"]
        order = tf.data.Dataset.range(steps).flat_map(
            plain(
                lambda step, packed_source=packed_source: tf.data.Dataset.from_tensor_slices(
                    batch_examples(packed_source, step, seed=0, batch_size=64)
                )
            )
        )
        stream = prefetch(
            announced(packed_source, order)
            .map(
                plain(lambda index, epoch, packed_source=packed_source: packed_source.read(index)),
                PARALLEL,
                deterministic=True,
            )
            .batch(64)
        )
        arrivals = [(time.perf_counter(), time.process_time()) for _ in stream]
        images = 64 * (len(arrivals) - 1)
        wall, cpu = (last - first for first, last in zip(arrivals[0], arrivals[-1], strict=True))
        name = f"block {block}, ahead {ahead}"
        rows += [
            row(f"this machine reads: {name}", images / wall, "images/s", True),
            row(f"CPU time: {name}", cpu / images * 1e6, "µs per image", True),
        ]
        print(rows[-2:], flush=True)
    shards.read_range = read_range
    return rows


def resumed() -> list[dict[str, Any]]:
    """Measure the times to start and to resume, and return the rows."""
    from cvpipe import config_file
    from cvpipe.data.stream import training_batches
    from cvpipe.tasks.classification import encode

    config = config_file.load(
        str(Path(__file__).parent.parent / "pipelines/classification/digits.yaml"),
        ["prepare.channels=3", "train.batch_size=64"],
    )

    def first_batch(source: Any, step: int) -> float:
        begin = time.perf_counter()
        stream = training_batches(
            source, config, encode, None, first_step=step, last_step=step + 10
        )
        next(iter(stream))
        return time.perf_counter() - begin

    rows = []
    for examples in (1_000, 100_000_000):
        source = virtual(examples)
        middle = int(2.5 * examples / 64)
        # The first call in a process takes longer, so it isn't measured.
        first_batch(source, 0)
        seconds = {
            step: statistics.median(first_batch(source, step) for _ in range(5))
            for step in (0, middle)
        }
        rows += [
            row(f"first batch of {examples:,} examples", seconds[0], "s", True),
            row(f"first batch, resumed at step {middle:,}", seconds[middle], "s", True),
            row(f"difference, {examples:,} examples", seconds[middle] - seconds[0], "s", True),
        ]
        for entry in rows[-3:]:
            print(entry, flush=True)
    step = np.int64(middle)
    known = virtual(200_000)
    begin = time.perf_counter()
    known.digest()
    microseconds = (time.perf_counter() - begin) / len(known) * 1e6
    return [
        *rows,
        row("state of the stream", len(step.tobytes()), "bytes", True),
        row("fingerprints without packing, a million examples", microseconds, "s", True),
    ]


def main() -> None:
    from cvpipe.runtime import choose_kernels

    choose_kernels(onednn=True, deterministic=False)
    rows = simulated()
    with tempfile.TemporaryDirectory() as folder:
        rows += measured(Path(folder))
    rows += resumed()
    record("packed_storage", rows)


if __name__ == "__main__":
    main()
