"""Lower bound of a step's time on a chip, and the largest batch that fits into its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cvpipe.preflight.estimate import Cost
from cvpipe.preflight.targets import Target

# A TPU pads batches to multiples of this number.
SUBLANES = 8
MOST_TRIES = 4


class Roofline(NamedTuple):
    """Lower bounds for the time of a step: one for each limiting resource. Real steps take
    longer.
    """

    compute: float
    """Seconds of arithmetic at the peak of the matrix units."""
    memory: float
    """Seconds of memory traffic at the memory's bandwidth."""
    exchange: float
    """Seconds of the all-reduce of gradients over the chips' links; 0 on one chip."""
    images: int
    """Images per step, of all chips."""

    @property
    def seconds(self) -> float:
        """The largest of the three times, assuming that all three overlap."""
        return max(self.compute, self.memory, self.exchange)

    @property
    def bound(self) -> str:
        """Name of the limiting resource."""
        return max(("compute", "memory", "exchange"), key=lambda name: getattr(self, name))

    @property
    def images_per_second(self) -> float:
        """Upper bound for images per second of all chips."""
        return self.images / self.seconds


def roofline(cost: Cost, target: Target, precision: str, batch: int, gradients: int) -> Roofline:
    """Return the limits of one step.

    Args:
        cost: cost of the step on one chip.
        precision: Keras's dtype policy.
        batch: images per chip.
        gradients: bytes of the gradients.
    """
    chip, others = target.chip, target.chips - 1
    return Roofline(
        compute=cost.flops / chip.flops[precision],
        memory=cost.traffic / chip.bandwidth,
        # A ring all-reduce sends each chip's share twice.
        exchange=2 * others / target.chips * gradients / chip.link,
        images=batch * target.chips,
    )


class Try(NamedTuple):
    """One batch that was tried."""

    batch: int
    memory: int | None
    """Bytes of memory that the batch needs, even if it doesn't fit; None if the compiler doesn't
    report them.
    """
    fits: bool
    seconds: float
    """Duration of lowering and compiling."""


class Largest(NamedTuple):
    """The largest batch per chip found to fit."""

    batch: int
    """0 if none fits."""
    tries: tuple[Try, ...]


def largest_batch(
    attempt: Callable[[int], Try], first: int, limit: float, multiple: int, least: int = 1
) -> Largest:
    """Search for the largest batch per chip.

    Memory is assumed to be linear in the batch size: the line through two batches that fit predicts
    the batch that reaches the limit. This batch is tried, then smaller batches until one fits.

    Args:
        attempt: compiles the step for a batch.
        first: the first batch to try.
        limit: bytes of memory.
        multiple: batches larger than `first` are multiples of this number.
        least: all batches are multiples of this number.
    """
    tries: list[Try] = []

    def fitting(batch: int) -> Try | None:
        tries.append(attempt(batch))
        return tries[-1] if tries[-1].fits else None

    large = fitting(first)
    while large is None and first > least and len(tries) < MOST_TRIES:
        first = _rounded(first / 2, least)
        large = fitting(first)
    small = fitting(_rounded(first / 4, least)) if large and first > least else None
    if large is None:
        return Largest(0, tuple(tries))
    if small is None or not large.memory or not small.memory:
        return Largest(large.batch, tuple(tries))
    batch = large.batch
    if large.memory > small.memory:
        batch = _reaching(limit, large, small, multiple)
    while batch > large.batch and len(tries) < 2 + MOST_TRIES:
        if fitting(batch):
            return Largest(batch, tuple(tries))
        # A line through a batch that is too large predicts better than a line through small ones.
        lower = _rounded(0.93 * batch, multiple)
        if tries[-1].memory:
            lower = _reaching(limit, large, tries[-1], multiple)
        batch = min(lower, batch - multiple)
    return Largest(large.batch, tuple(tries))


def _reaching(limit: float, first: Try, second: Try, multiple: int) -> int:
    """Return the batch at which the line through two tries reaches the limit."""
    assert first.memory is not None and second.memory is not None
    slope = (second.memory - first.memory) / (second.batch - first.batch)
    return _rounded(first.batch + (limit - first.memory) / slope, multiple)


def _rounded(batch: float, multiple: int) -> int:
    """Round a batch size down to a multiple, at least to `multiple` itself."""
    return max(int(batch // multiple), 1) * multiple
