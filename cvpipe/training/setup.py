"""What a training is made of, whichever way it minimizes."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.evaluation import Predict
from cvpipe.training.run import Run
from cvpipe.training.state import State


class Setup(NamedTuple):
    """One training, before it starts or goes on."""

    config: Config
    run: Run
    task: ModuleType
    splits: dict[str, Source]
    strategy: tf.distribute.Strategy
    state: State
    predict: Predict
    """The evaluated graph of the state's model."""
    quarantines: dict[str, Quarantine]
    """By split."""
