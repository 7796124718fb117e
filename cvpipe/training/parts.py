"""The objects that step-by-step and full-batch training share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.evaluation import Exchange, Predict
from cvpipe.tasks.task import Task
from cvpipe.training.checkpointer import Checkpointer
from cvpipe.training.run import Run
from cvpipe.training.run_log import RunLog
from cvpipe.training.schedules import LearningRate
from cvpipe.training.state import State


class Parts(NamedTuple):
    """The objects of one training run."""

    config: Config
    run: Run
    task: Task
    splits: dict[str, Source]
    strategy: tf.distribute.Strategy
    state: State
    schedule: LearningRate
    predict: Predict
    """Prediction function of the state's networks."""
    quarantines: dict[str, Quarantine]
    """The quarantine of each split, by name."""
    validation: Iterable[dict[str, Any]] | None
    """This process's batches of the validation split; None if there is no such split."""
    exchange: Exchange | None
    """Gathers evaluated batches from all processes; None for a single process."""
    checkpointer: Checkpointer
    log: RunLog
