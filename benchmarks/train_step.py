"""ResNet-20 at 28×28×1, batch 128, on synthetic images in memory: our loop against Keras's own `fit`, same model and optimizer.

Each is measured in the same process, in turns, after a warm-up; the median of the rounds is reported. Input and augmentation
are left out, so that steps are compared with steps.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

from cvpipe import config_file  # noqa: E402
from cvpipe.runtime import prepare_process  # noqa: E402
from record import record, row  # noqa: E402

BATCH, STEPS, ROUNDS = 128, 20, 5
PIPELINE = Path(__file__).parent.parent / "pipelines" / "classification" / "fashion_mnist.yaml"
CONFIG = config_file.load(PIPELINE, [f"train.batch_size={BATCH}", "loss.l2=0", "schedule={kind: constant}"])
CLASSES = tuple("0123456789")


def ours() -> Callable[[], None]:
    """STEPS steps of our loop in one call."""
    import tensorflow as tf

    from cvpipe.tasks import classification
    from cvpipe.training.step import make_run_steps
    from cvpipe.training.train import build_state

    image, label = data()
    batch = {"image": image, "targets": {"label": label}, "weight": tf.ones([BATCH]), "index": tf.range(BATCH, dtype=tf.int64)}
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    state, _ = build_state(CONFIG, CLASSES, examples=60_000)
    run_steps = make_run_steps(state.model, state.optimizer, classification, CONFIG, tf.distribute.get_strategy(), state.step)
    return lambda: float(run_steps(batches, tf.constant(STEPS))["losses"]["loss"])


def keras_fit() -> Callable[[], None]:
    """STEPS steps of `fit` on the same model."""
    import keras
    import tensorflow as tf

    from cvpipe.training.train import build_state

    state, _ = build_state(CONFIG, CLASSES, examples=60_000)
    model = keras.Model(state.model.input, state.model.output["logits"])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = tf.data.Dataset.from_tensors(data()).repeat()
    return lambda: model.fit(dataset, steps_per_epoch=STEPS, verbose=0)


def data() -> tuple:
    """One batch, the same for all."""
    import tensorflow as tf

    return tf.random.stateless_normal([BATCH, 28, 28, 1], [0, 0]), tf.random.stateless_uniform([BATCH], [0, 1], 0, 10, tf.int32)


def seconds_of(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    prepare_process(CONFIG)
    contestants = {"cvpipe": ours(), "Keras fit": keras_fit()}
    for work in contestants.values():
        work()
    seconds = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, work in contestants.items():
            seconds[name].append(seconds_of(work))
    speed = {name: BATCH * STEPS / statistics.median(times) for name, times in seconds.items()}
    rows = [row(f"{name}: ResNet-20, 28×28, batch {BATCH}", round(value, 1), "images/s", name == "cvpipe") for name, value in speed.items()]
    record("train_step", rows, to_best_peer=round(speed["cvpipe"] / speed["Keras fit"], 3))
