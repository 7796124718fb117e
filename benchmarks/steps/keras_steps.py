"""Measure steps of Keras's `fit`: keras_steps.py NETWORK SIZE CLASSES BATCH STEPS PRECISION JIT.

ResNet-50 is from Keras Applications. Keras has no ResNet-20, so `fit` trains cvpipe's ResNet-20.
JIT is auto or off.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import tensorflow as tf

from turns import answer, timed


def main(
    network: str, size: int, classes: int, batch_size: int, steps: int, precision: str, jit: str
) -> None:
    """Make `steps` steps in one epoch of `fit`."""
    keras.config.set_dtype_policy(precision)
    if network == "resnet50":
        model = keras.applications.ResNet50(
            weights=None, classes=classes, classifier_activation=None
        )
    else:
        from cvpipe.models.build import classification_network

        ours = classification_network(network, (size, size, 3), classes)
        model = keras.Model(ours.input, ours.output["logits"])
    images = tf.random.stateless_normal([batch_size, size, size, 3], [0, 0])
    labels = tf.random.stateless_uniform([batch_size], [0, 1], 0, classes, tf.int32)
    compiled = {"auto": "auto", "off": False}[jit]
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=compiled,
    )
    dataset = tf.data.Dataset.from_tensors((images, labels)).repeat()
    answer(timed(lambda: model.fit(dataset, steps_per_epoch=steps, verbose=0)))


if __name__ == "__main__":
    side, labels, batch, count = map(int, sys.argv[2:6])
    main(sys.argv[1], side, labels, batch, count, *sys.argv[6:])
