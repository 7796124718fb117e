"""Lowering of a pipeline's training step, and of the signature `tensor`, for any batch size."""

from __future__ import annotations

import dataclasses
from math import prod
from typing import Any

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs
from cvpipe.data.prepare import input_spec
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.stream import training_batches
from cvpipe.errors import ConfigError
from cvpipe.evaluation import make_predict
from cvpipe.export.signatures import tensor_signature
from cvpipe.preflight.lowering import Lowered, lower, without_strings
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task
from cvpipe.training.adversarial import with_attacks
from cvpipe.training.build import build_state
from cvpipe.training.distillation import with_teacher
from cvpipe.training.state import State
from cvpipe.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class Subject:
    """A pipeline with opened data and new networks."""

    config: Config
    source: Source
    task: Task
    state: State
    batch: Any
    """Nested tf.TensorSpec of a training batch."""

    @property
    def gradients(self) -> int:
        """Bytes of the gradients of one step, float32."""
        moved = (
            sum(4 * prod(variable.shape) for variable in self.state.moved[update.optimizer])
            * update.times
            for update in self.task.updates
        )
        return sum(moved)

    def lower_training(self, batch: int) -> Lowered:
        """Lower a whole training step, including optimizers, for one chip.

        Args:
            batch: number of images per chip.

        Raises:
            Uncompilable: the step has operations that XLA lacks.
        """
        step = make_train_step(self.state, self.task, self.config, replicas=1)
        specs = tf.nest.map_structure(
            lambda spec: tf.TensorSpec([batch, *spec.shape[1:]], spec.dtype), self.batch
        )
        return lower(step, (specs, tf.TensorSpec([2], tf.int64)), batch)

    def lower_answering(self, batch: int) -> Lowered:
        """Lower the artifact's signature `tensor`, without its strings, for one chip.

        Raises:
            ConfigError: the task has no signature `tensor`, or its images have no fixed size.
            Uncompilable: the signature has operations that XLA lacks.
        """
        if self.task.requests:
            raise ConfigError(
                f"--what serve: task: {self.config.task} has no signature tensor; use --what train"
            )
        image = input_spec(self.config)
        if not image.shape[1:].is_fully_defined():
            raise ConfigError(
                "--what serve: images keep their own size under prepare.resize:"
                f" {self.config.prepare.resize}, and a chip needs one size; use --what train"
            )
        predict = make_predict([self.state.networks], self.task, self.config)
        # Use the Python function, because outputs of a nested tf.function can't be removed.
        answer = tensor_signature(predict.python_function, self.task.options)  # type: ignore[attr-defined]
        specs = (
            tf.TensorSpec([batch, *image.shape[1:]], image.dtype),
            *(
                tf.TensorSpec([], tf.constant(option.default).dtype)
                for option in self.task.options.values()
            ),
        )
        kept, strings = without_strings(answer, specs)
        return lower(kept, specs, batch)._replace(left_out=strings)


def open_subject(config: Config) -> Subject:
    """Open a pipeline's data and build its networks.

    Raises:
        ConfigError: the optimizer runs on the host.
        DataError: the data can't be read.
    """
    if any(isinstance(own, Lbfgs) for own in config.optimizers.values()):
        raise ConfigError(
            "optimizer.kind: lbfgs minimizes on the host, step by step; choose another optimizer"
            " for a TPU or GPU"
        )
    source = open_splits(config.data)["train"]
    task = with_teacher(load_task(config, source.facts), config, source.facts)
    task = with_attacks(task, config)
    state, _ = build_state(config, task, len(source))
    batches = training_batches(source, config, task.encode, None, first_step=0, last_step=1)
    return Subject(config, source, task, state, batches.element_spec)
