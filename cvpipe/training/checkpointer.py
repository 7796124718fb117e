"""Checkpoints of a training: when one is due, and how it is written."""

from __future__ import annotations

import time

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.training.run import Run
from cvpipe.training.state import State, write_checkpoint
from cvpipe.training.strategy import any_worker


class Checkpointer:
    """Saves the whole state of a training in its run's folder."""

    def __init__(self, config: Config, run: Run, strategy: tf.distribute.Strategy, state: State):
        self._config, self._run, self._strategy, self._state = config, run, strategy, state
        self._saved_at = time.monotonic()

    def save(self, which: str) -> None:
        """Write the state as the checkpoint `which`, in the process that writes."""
        # Reading some variables takes all workers, writing takes one.
        arrays = self._state.arrays()
        if self._run.writes:
            write_checkpoint(self._run.folder / "checkpoints" / f"{which}.npz", arrays)
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """True if `train.checkpoint_minutes` have passed since the last one, in any process. A
        collective: all workers must call it.
        """
        passed = time.monotonic() - self._saved_at
        return any_worker(self._strategy, passed > 60 * self._config.train.checkpoint_minutes)
