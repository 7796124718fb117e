"""Speed of a pipeline's input, measured on this machine and estimated for an accelerator's host."""

from __future__ import annotations

import time
from typing import NamedTuple

from cvpipe.config import Config
from cvpipe.data.sources import Source
from cvpipe.data.stream import training_batches
from cvpipe.preflight.targets import Target
from cvpipe.tasks.task import Task

SECONDS = 5.0


class Feed(NamedTuple):
    """Speed at which a host reads, decodes, augments and prepares images."""

    per_core: float
    """Images per second of CPU time, measured on this machine."""
    host_cores: int | None
    """Virtual CPUs of the accelerator's host; None if unknown."""
    needed: float
    """Images per second that the accelerators process at their roofline."""

    @property
    def reached(self) -> float | None:
        """Images per second of the accelerator's host, assuming that its cores are as fast as this
        machine's.
        """
        return None if self.host_cores is None else self.per_core * self.host_cores

    @property
    def suffices(self) -> bool | None:
        """True if the host reads images as fast as the accelerators process them at their roofline;
        None if the number of the host's cores is unknown.
        """
        return None if self.reached is None else self.reached >= self.needed

    @property
    def cores_needed(self) -> float:
        """Number of cores, as fast as this machine's, that read `needed` images per second."""
        return self.needed / self.per_core


def measure_feed(source: Source, config: Config, task: Task, target: Target, needed: float) -> Feed:
    """Measure the speed of the training's input, without the network.

    The speed is per second of CPU time, so other processes on this machine have little effect.
    """
    size = min(config.train.batch_size, max(len(source), 1))
    small = config.model_copy(
        update={"train": config.train.model_copy(update={"batch_size": size, "accumulate": 1})}
    )
    batches = iter(
        training_batches(source, small, task.encode, None, first_step=0, last_step=1_000_000)
    )
    # The first batches trace the graph and fill the stream.
    for _ in range(3):
        next(batches)
    images, began, clock = 0, time.process_time(), time.monotonic()
    while images < 2 * size or time.monotonic() - clock < SECONDS:
        next(batches)
        images += size
    return Feed(images / (time.process_time() - began), target.host_cores, needed)
