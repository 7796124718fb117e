"""Model and batch of the sanity checks, without augmentation and regularization.

Dimensions: b examples in the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Constant
from cvpipe.config.section import Section
from cvpipe.data.example import Batch
from cvpipe.data.samples import read_examples
from cvpipe.data.sources import Source
from cvpipe.errors import DataError
from cvpipe.tasks.task import Task
from cvpipe.training.step import step_seed

# Number of examples to overfit; CS231n uses 20.
EXAMPLES = 32


class SanityCase(NamedTuple):
    """An untrained model and one batch."""

    model: keras.Model
    """float32 [b, H, W, C] to the task's outputs."""
    task: Task
    config: Config
    """The configuration returned by `without_regularization`."""
    batch: Batch
    """A training batch of b readable examples."""

    def loss(self, examples: int | None = None) -> tf.Tensor:
        """Return the mean training loss, a scalar without L1 and L2 terms, of the batch's first
        `examples` examples; None for all.
        """
        batch = tf.nest.map_structure(lambda values: values[:examples], self.batch)
        [update] = self.task.updates
        seed = step_seed(self.config, tf.constant(0))
        parts = update.losses({"network": self.model}, batch, seed)
        return tf.add_n([tf.reduce_mean(part) for part in parts.values()])


def without_regularization(config: Config) -> Config:
    """Return the configuration in float32, with a constant learning rate, and without augmentation,
    dropout and other regularization.
    """
    train = config.train.model_copy(
        update={"ema": None, "accumulate": 1, "precision": "float32", "snapshots": False}
    )
    return (
        config.with_one_view()
        .without_augmentation()
        .model_copy(
            update={
                "loss": _without(config.loss, "l1", "l2", "label_smoothing"),
                "model": _without(
                    config.model, "dropout", "drop_connect", "stochastic_depth", "drop_path"
                ),
                "train": train,
                "optimizer": _without(config.optimizer, "weight_decay"),
                "schedule": Constant(kind="constant", warmup_epochs=config.schedule.warmup_epochs),
            }
        )
    )


def _without(section: Section, *keys: str) -> Section:
    """Set the given keys to 0 if the section has them."""
    return section.model_copy(
        update={key: 0.0 for key in keys if key in type(section).model_fields}
    )


def some_examples(source: Source, config: Config, task: Task) -> Batch:
    """Read a batch of at most EXAMPLES random examples. The same seed gives the same examples.

    Raises:
        DataError: fewer than two examples can be read.
    """
    # Choose twice as many as needed, in case some are unreadable.
    chosen = np.random.default_rng(config.seed).permutation(len(source))[: 2 * EXAMPLES]
    batch = tf.nest.map_structure(
        lambda values: values[:EXAMPLES], read_examples(source, chosen, config, task.encode)
    )
    if len(batch["weight"]) < 2:
        raise DataError(
            f"only {len(batch['weight'])} of {len(chosen)} training images can be read; find the"
            " reasons with: cvpipe data check"
        )
    return batch


def loss_and_gradients(
    case: SanityCase, examples: int | None = None
) -> tuple[tf.Tensor, list[Any]]:
    """Return `SanityCase.loss` and its gradient for each trainable variable. The gradient is None
    for variables that are not connected to the loss.
    """
    with tf.GradientTape() as tape:
        loss = case.loss(examples)
    return loss, tape.gradient(loss, case.model.trainable_variables)
