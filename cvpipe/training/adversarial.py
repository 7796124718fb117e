"""Adversarial training: each step attacks its images (Madry et al. 2018), or some of them (Kurakin
et al. 2017), and trains on the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.train import Adversarial
from cvpipe.data.example import Batch
from cvpipe.errors import ConfigError, counted
from cvpipe.explain.attack import Ball, make_ball, pgd
from cvpipe.tasks.task import Networks, Task, Tensors, Update

# Separates the attack's random start from other draws with the same seed.
_START = 7


def with_attacks(task: Task, config: Config) -> Task:
    """Return a task whose updates attack their images first, as `train.adversarial` configures; the
    task itself if this key is not set.
    """
    section = config.train.adversarial
    if section is None:
        return task
    ball = make_ball(section.epsilon, "linf", config.prepare)
    updates = tuple(_with_attack(update, section, ball) for update in task.updates)
    return dataclasses.replace(task, updates=updates)


def _with_attack(update: Update, section: Adversarial, ball: Ball) -> Update:
    """Return an update that first attacks its images, with the update's loss as the objective.

    The attack sees the networks as an adversary does, in inference mode (Zhang et al. 2019), and so
    leaves the moving statistics of batch normalization to the images that are trained on.
    """

    def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        in_inference = {name: _in_inference(network) for name, network in networks.items()}
        count = _attacked_count(batch["weight"].shape[0], section.clean)
        chosen = tf.nest.map_structure(lambda values: values[:count], dict(batch))

        def objective(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            parts = update.losses(in_inference, {**chosen, "image": images}, seed)
            return tf.add_n(list(parts.values()))

        images = pgd(
            objective,
            chosen["image"],
            chosen["weight"],
            ball,
            steps=section.steps,
            step_size=section.step_size,
            seed=tf.random.fold_in(seed, _START),
        )
        # In one batch, so that BatchNorm sees the statistics that it will use in evaluation.
        images = tf.concat([tf.stop_gradient(images), batch["image"][count:]], 0)
        return update.losses(networks, {**batch, "image": images}, seed)

    return dataclasses.replace(update, losses=losses)


def _in_inference(network: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """Return the network in inference mode, also for calls in training mode."""

    def call(*inputs: Any, training: bool) -> Tensors:
        return network(*inputs, training=False)

    return call


def _attacked_count(images: int, clean: float) -> int:
    """Return the number of attacked images, of those that a device processes at once.

    Raises:
        ConfigError: there would be none.
    """
    count = round((1 - clean) * images)
    if not count:
        raise ConfigError(
            f"train.adversarial.clean: none of the {counted(images, 'image')} that a device"
            " processes at once would be attacked; lower it, raise train.batch_size, or lower"
            " train.accumulate"
        )
    return count
