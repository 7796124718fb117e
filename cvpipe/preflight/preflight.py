"""Check that a pipeline compiles for a target, fits its memory, and reads images fast enough."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cvpipe.config import Config
from cvpipe.preflight.estimate import Cost, estimate
from cvpipe.preflight.feed import Feed, measure_feed
from cvpipe.preflight.lowering import Culprit, Lowered, Uncompilable
from cvpipe.preflight.padding import Padding, padding_of
from cvpipe.preflight.program import Program, dynamic_operations, parse
from cvpipe.preflight.roofline import SUBLANES, Largest, Roofline, Try, largest_batch, roofline
from cvpipe.preflight.subject import Subject, open_subject
from cvpipe.preflight.targets import GIB, Target
from cvpipe.preflight.tpu import Compiled, compile_for_tpu, has_compiler
from cvpipe.training.strategy import check_batch_size

TRAIN, SERVE = "train", "serve"
WHAT = (TRAIN, SERVE)
# Bytes of a chip's memory that the compiler reserves, measured on v5e: 0.25 of 16 GiB.
RESERVED = GIB // 4
Say = Callable[[str], None]


@dataclasses.dataclass
class Part:
    """The findings for one graph (the training step, or the artifact's signature) on one chip."""

    batch: int
    """Images per chip."""
    culprits: tuple[Culprit, ...] = ()
    """Operations that can't be compiled."""
    compiled: Compiled | None = None
    """None if nothing was compiled."""
    cost: Cost | None = None
    """Cost from the compiler; the estimate if the compiler didn't run or failed."""
    estimated: Cost | None = None
    padding: Padding | None = None
    roofline: Roofline | None = None
    largest: Largest | None = None
    left_out: tuple[str, ...] = ()
    """Outputs that the host computes."""
    lowering_seconds: float = 0.0
    fits: bool = False

    @property
    def compiles(self) -> bool | None:
        """True if the graph compiles; None if only TensorFlow's lowering was tried."""
        if self.culprits:
            return False
        if self.compiled is None:
            return None
        return not self.compiled.error or self.compiled.too_large

    @property
    def ok(self) -> bool:
        """True if the graph can run on the chip."""
        return self.compiles is not False and self.fits


@dataclasses.dataclass(frozen=True)
class Preflight:
    """All findings for a pipeline on a target."""

    target: Target
    precision: str
    global_batch: int
    parts: dict[str, Part]
    feed: Feed | None

    @property
    def ok(self) -> bool:
        """True if all parts compile and fit."""
        return all(part.ok for part in self.parts.values())


def preflight(
    config: Config,
    target: Target,
    what: Sequence[str] = WHAT,
    *,
    search: bool = False,
    save: Path | None = None,
    say: Say = lambda text: None,
) -> Preflight:
    """Check a pipeline for a target that this machine doesn't have.

    Args:
        config: the pipeline.
        target: the chips.
        what: parts to check, from WHAT.
        search: True to also find the largest batch of a training step that fits.
        save: folder for compiled programs, as for `compile_for_tpu`; None to save nothing.
        say: called with a message before each slow operation.

    Raises:
        UserError: the pipeline or its data can't be used, or the batch size isn't a multiple of
            the number of chips.
    """
    check_batch_size(config, target.chips)
    subject = open_subject(config)
    examiner = _Examiner(subject, target, save, say)
    parts = {}
    if TRAIN in what:
        batch = config.train.batch_size // target.chips
        parts[TRAIN] = examiner.examine(TRAIN, subject.lower_training, batch)
        if search and not parts[TRAIN].culprits:
            parts[TRAIN].largest = examiner.search(parts[TRAIN])
    if SERVE in what:
        batch = max(config.export.batch_sizes)
        parts[SERVE] = examiner.examine(SERVE, subject.lower_answering, batch)
    limits = parts[TRAIN].roofline if TRAIN in parts else None
    feed = None
    if limits:
        say("measuring this host's input")
        feed = measure_feed(subject.source, config, subject.task, target, limits.images_per_second)
    return Preflight(target, config.train.precision, config.train.batch_size, parts, feed)


@dataclasses.dataclass(frozen=True)
class _Examiner:
    """Lowers and compiles one pipeline's graphs for one chip of a target."""

    subject: Subject
    target: Target
    save: Path | None
    say: Say

    @property
    def limit(self) -> float:
        """Bytes of a chip's memory available to a program."""
        return self.target.chip.memory - (RESERVED if self.target.topology else 0)

    def examine(self, name: str, lowering: Callable[[int], Lowered], batch: int) -> Part:
        """Return the findings for one graph at one batch size."""
        self.say(f"lowering {name} for {batch} images per chip")
        try:
            lowered = lowering(batch)
        except Uncompilable as error:
            return Part(batch, culprits=error.culprits)
        module = parse(lowered.hlo)
        part = Part(batch, left_out=lowered.left_out, lowering_seconds=lowered.seconds)
        if dynamic := dynamic_operations(module):
            reason = "has a result whose size depends on values; a chip needs static shapes"
            part.culprits = tuple(Culprit(kind, name, "", reason) for kind, name in dynamic)
            return part
        config, target = self.subject.config, self.target
        program = Program(module)
        part.estimated = part.cost = estimate(program)
        part.fits = part.cost.total <= self.limit
        part.padding = padding_of(program, target.chip.lanes)
        if target.topology and has_compiler():
            self.say(f"compiling {name} for {batch} images on one {target.chip.name} chip")
            part.compiled = compile_for_tpu(module, target, f"{name}-{batch}", self.save)
            part.fits = part.compiled.cost is not None
            part.cost = part.compiled.cost or part.estimated
        precision = config.train.precision
        gradients = self.subject.gradients if name == TRAIN else 0
        part.roofline = roofline(part.cost, target, precision, batch, gradients)
        return part

    def search(self, known: Part) -> Largest:
        """Return the largest batch of a training step that fits into the memory of one chip.

        Args:
            known: the findings at the pipeline's batch size.
        """
        config = self.subject.config
        # Mixing needs pairs of examples, and a TPU pads batches to multiples of SUBLANES.
        least = config.train.accumulate * (2 if config.mixing else 1)
        multiple = math.lcm(least, SUBLANES)

        def attempt(batch: int) -> Try:
            began = time.monotonic()
            part = known
            if batch != known.batch:
                part = self.examine(TRAIN, self.subject.lower_training, batch)
            memory = part.cost.total if part.cost else None
            if part.compiled and not part.fits:
                memory = part.compiled.needed
            seconds = part.lowering_seconds + (part.compiled.seconds if part.compiled else 0.0)
            return Try(batch, memory, part.fits, seconds or time.monotonic() - began)

        return largest_batch(attempt, known.batch, self.limit, multiple, least)
