"""Adversarial training: each step attacks its images, and trains on the attacked images (Madry et
al. 2018).
"""

from __future__ import annotations

import dataclasses

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

    The attack runs the network in training mode, with batch statistics.
    """

    def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        def own(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            return tf.add_n(
                list(update.losses(networks, {**batch, "image": images}, seed).values())
            )

        images = pgd(
            own,
            batch["image"],
            batch["weight"],
            ball,
            steps=section.steps,
            step_size=section.step_size,
            seed=tf.random.fold_in(seed, _START),
        )
        return update.losses(networks, {**batch, "image": tf.stop_gradient(images)}, seed)

    return dataclasses.replace(update, losses=losses)
