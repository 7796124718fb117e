"""Adversarial training: each step attacks its images, and trains on the attacked images (Madry et
al. 2018), or on both (Goodfellow et al. 2015).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.train import Adversarial
from cvpipe.data.example import Batch
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
    updates = tuple(_attacked(update, section, ball) for update in task.updates)
    return dataclasses.replace(task, updates=updates)


def _attacked(update: Update, section: Adversarial, ball: Ball) -> Update:
    """Return an update that first attacks its images, with the update's loss as the objective.

    The attack sees the networks as an adversary does, in inference mode (Zhang et al. 2019), and so
    leaves the moving statistics of batch normalization to the images that are trained on.
    """

    def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        attacked = {name: _in_inference(network) for name, network in networks.items()}

        def objective(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            return tf.add_n(
                list(update.losses(attacked, {**batch, "image": images}, seed).values())
            )

        images = pgd(
            objective,
            batch["image"],
            batch["weight"],
            ball,
            steps=section.steps,
            step_size=section.step_size,
            seed=tf.random.fold_in(seed, _START),
        )
        images = tf.stop_gradient(images)
        if not section.clean:
            return update.losses(networks, {**batch, "image": images}, seed)
        # In one batch, so that BatchNorm sees the statistics that it will use in evaluation.
        twice = tf.nest.map_structure(lambda values: tf.concat([values, values], 0), dict(batch))
        twice["image"] = tf.concat([batch["image"], images], 0)
        found = update.losses(networks, twice, seed)
        return {name: _mean(part, section.clean) for name, part in found.items()}

    return dataclasses.replace(update, losses=losses)


def _in_inference(network: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """Return the network in inference mode, also for calls in training mode."""

    def call(*inputs: Any, training: bool) -> Tensors:
        return network(*inputs, training=False)

    return call


def _mean(losses: tf.Tensor, clean: float) -> tf.Tensor:
    """Return the weighted mean [B] of the losses of clean and attacked images, [2B]."""
    of_clean, of_attacked = tf.split(losses, 2)
    return clean * of_clean + (1 - clean) * of_attacked
