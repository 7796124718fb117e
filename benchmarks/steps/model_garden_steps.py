"""Measure training steps of Model Garden's ResNet-50: model_garden_steps.py SIZE CLASSES BATCH
STEPS PRECISION.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import tensorflow as tf
import tf_keras
from official.vision.configs import image_classification as configs
from official.vision.tasks.image_classification import ImageClassificationTask

from turns import answer, timed


def main(size: int, classes: int, batch_size: int, steps: int, precision: str) -> None:
    """Run the task's `train_step` `steps` times in a `tf.function`, as Model Garden's trainer."""
    tf_keras.mixed_precision.set_global_policy(precision)
    config = configs.ImageClassificationTask()
    config.model.num_classes, config.model.input_size = classes, [size, size, 3]
    task = ImageClassificationTask(config)
    model = task.build_model()
    optimizer = tf_keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    images = tf.random.stateless_normal([batch_size, size, size, 3], [0, 0])
    labels = tf.random.stateless_uniform([batch_size], [0, 1], 0, classes, tf.int32)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())

    @tf.function
    def run_steps() -> None:
        for _ in tf.range(steps):
            task.train_step(next(batches), model, optimizer)

    answer(timed(run_steps))


if __name__ == "__main__":
    side, labels, batch, count = map(int, sys.argv[1:5])
    main(side, labels, batch, count, sys.argv[5])
