"""Scheduling and writing of checkpoints during training."""

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

BACKGROUND_BYTES = 2**24
"""Checkpoints with at least this number of bytes are written in the background. Writing smaller
checkpoints takes only milliseconds.
"""


class Checkpointer:
    """Saves the whole training state in the run's folder."""

    def __init__(self, config: Config, run: Run, strategy: tf.distribute.Strategy, state: State):
        self._config, self._run, self._strategy, self._state = config, run, strategy, state
        self._saved_at = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, which: str, in_background: bool = False) -> None:
        """Write the state as the checkpoint `which`. All workers must call this; one worker writes.

        Args:
            which: name of the checkpoint, such as "last".
            in_background: True to write a large checkpoint in the background. The next call, or
                `finish`, then raises its error.

        Raises:
            UserError: a value is not finite, or the file can't be written. The old file is kept.
        """
        self.finish()
        # All workers read the state, because some variables can only be read by all together. The
        # arrays are copies, so later steps don't change them.
        arrays = self._state.arrays()
        file = self._run.folder / "checkpoints" / f"{which}.npz"
        if self._run.writes:
            if in_background and sum(value.nbytes for value in arrays.values()) >= BACKGROUND_BYTES:
                check_finite(file, arrays)
                self._writing = self._writer.submit(self._write, file, arrays)
            else:
                self._write(file, arrays)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Wait until a checkpoint in the background is written. Raises the same errors as
        `save`.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def is_due(self) -> bool:
        """Return True on all workers if `train.checkpoint_minutes` have passed since the last
        checkpoint on any worker. A collective: all workers must call it.
        """
        passed = time.monotonic() - self._saved_at
        return any_worker(self._strategy, passed > 60 * self._config.train.checkpoint_minutes)

    def _write(self, file: Path, arrays: dict[str, np.ndarray]) -> None:
        if file.stem == "last":
            write_last(file, arrays, self._config.train.checkpoints_kept - 1)
        else:
            write_checkpoint(file, arrays)
