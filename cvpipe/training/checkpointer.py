"""Checkpoints of a training: when one is due, and how it is written."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.training.checkpoints import check_finite, write_checkpoint, write_last
from cvpipe.training.run import Run
from cvpipe.training.state import State
from cvpipe.training.strategy import any_worker

BESIDE_BYTES = 2**24
"""States of this size and more are written beside the training; smaller ones take milliseconds."""


class Checkpointer:
    """Saves the whole state of a training in its run's folder."""

    def __init__(self, config: Config, run: Run, strategy: tf.distribute.Strategy, state: State):
        self._config, self._run, self._strategy, self._state = config, run, strategy, state
        self._saved_at = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, which: str, beside: bool = False) -> None:
        """Write the state as the checkpoint `which`, in the process that writes.

        Args:
            beside: a large one may be written while the training goes on. An error then comes from
                the next call, or from `finish`.

        Raises:
            UserError: a value is not finite, or it can't be written; the old file stays.
        """
        self.finish()
        # Reading some variables takes all workers, writing takes one. These are copies, which the
        # next steps don't change.
        arrays = self._state.arrays()
        file = self._run.folder / "checkpoints" / f"{which}.npz"
        if self._run.writes:
            if beside and sum(value.nbytes for value in arrays.values()) >= BESIDE_BYTES:
                check_finite(file, arrays)
                self._writing = self._writer.submit(self._write, file, arrays)
            else:
                self._write(file, arrays)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Wait for a checkpoint that is written beside the training; raises as `save` does."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def is_due(self) -> bool:
        """True if `train.checkpoint_minutes` have passed since the last one, in any process. A
        collective: all workers must call it.
        """
        passed = time.monotonic() - self._saved_at
        return any_worker(self._strategy, passed > 60 * self._config.train.checkpoint_minutes)

    def _write(self, file: Path, arrays: dict[str, np.ndarray]) -> None:
        if file.stem == "last":
            write_last(file, arrays, self._config.train.checkpoints_kept - 1)
        else:
            write_checkpoint(file, arrays)
