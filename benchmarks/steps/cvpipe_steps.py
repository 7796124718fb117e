"""Measure steps of cvpipe's training loop: cvpipe_steps.py NETWORK SIZE CLASSES BATCH STEPS
PRECISION.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

sys.path.insert(0, str(Path(__file__).parent.parent))

from cvpipe import config_file
from cvpipe.runtime import prepare_process
from turns import answer, timed

ROOT = Path(__file__).parent.parent.parent


def runner(
    name: str, size: int, classes: int, batch_size: int, steps: int, precision: str = "float32"
) -> tuple[Callable[[], float], keras.Model]:
    """Return a function, and the network. The function makes `steps` training steps in one call of
    the graph, as in training, and returns the loss.
    """
    config = config_file.load(
        ROOT / "pipelines" / "classification" / "digits.yaml",
        [
            f"model.backbone={name}",
            f"prepare.size=[{size}, {size}]",
            "prepare.channels=3",
            f"train.batch_size={batch_size}",
            f"train.precision={precision}",
            "loss.l2=0",
            "loss.label_smoothing=0",
            "schedule={kind: constant}",
        ],
    )
    prepare_process(config)
    import tensorflow as tf

    from cvpipe.data.facts import Facts
    from cvpipe.tasks import load_task
    from cvpipe.training.build import build_state
    from cvpipe.training.step import make_run_steps

    batch = {
        "image": tf.random.stateless_normal([batch_size, size, size, 3], [0, 0]),
        "targets": {
            "label": tf.random.stateless_uniform([batch_size], [0, 1], 0, classes, tf.int32)
        },
        "weight": tf.ones([batch_size]),
        "index": tf.range(batch_size, dtype=tf.int64),
    }
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    task = load_task(config, Facts(tuple(map(str, range(classes)))))
    state, _ = build_state(config, task, examples=batch_size * 1000)
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())
    network = state.networks["network"]
    return lambda: float(run_steps(batches, tf.constant(steps))["losses"]["loss"]), network


if __name__ == "__main__":
    side, labels, batch, count = map(int, sys.argv[2:6])
    answer(timed(runner(sys.argv[1], side, labels, batch, count, sys.argv[6])[0]))
