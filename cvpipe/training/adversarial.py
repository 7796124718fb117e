"""Adversarial training: learning from the worst images near each example (Madry et al. 2018)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.train import Adversarial
from cvpipe.data.stream import Batch
from cvpipe.explain.attack import Ball, make_ball, pgd
from cvpipe.tasks.task import Networks, Task, Tensors, Update

# Keeps the attack's random start apart from what an update draws by the same seed.
_START = 7


def with_attacks(task: Task, config: Config) -> Task:
    """Return the task with updates that learn from attacked images, as `train.adversarial` says;
    the task itself where it says nothing.
    """
    section = config.train.adversarial
    if section is None:
        return task
    ball = make_ball(section.epsilon, "linf", config.prepare)
    updates = tuple(_attacked(update, section, ball) for update in task.updates)
    return dataclasses.replace(task, updates=updates)


def _attacked(update: Update, section: Adversarial, ball: Ball) -> Update:
    """Return an update whose images are moved up its own loss first.

    The attack sees the network as training does, with the statistics of the batch.
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
