"""Trains a toy task in a separate process: train.py FOLDER TASK [SIGNAL STEP MOMENT]."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from cvpipe.runtime import prepare_process
from cvpipe.training.train import train
from stopped import stop_at
from toy_tasks import register, toy_config

if __name__ == "__main__":
    folder, task, *stop = sys.argv[1:]
    if stop:
        stop_at(int(stop[1]), stop[2], signal.Signals[stop[0]])
    register()
    # A checkpoint after every step.
    config = toy_config(task, "train.steps_per_call=1", "train.checkpoint_minutes=1e-9")
    prepare_process(config)
    train(config, Path(folder))
