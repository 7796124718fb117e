"""Accuracy of a network under attacks of increasing strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize
from cvpipe.explain.attack import Ball, Norm, fgsm, make_ball, margin_loss, pgd, to_bytes
from cvpipe.explain.score import Subject
from cvpipe.tasks.task import Tensors

Attack = Literal["fgsm", "pgd"]
ATTACKS: tuple[Attack, ...] = ("fgsm", "pgd")
_SEED = (0, 21)


class Point(NamedTuple):
    """The accuracy at one strength."""

    epsilon: float
    right: int
    images: int

    @property
    def accuracy(self) -> float:
        """Share of correctly classified images."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy (Wilson 1927)."""
        z, n, share = 1.96, self.images, self.accuracy
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        return max(middle - half, 0.0), min(middle + half, 1.0)


def accuracies(
    subject: Subject,
    batches: Iterable[Mapping[str, Any]],
    labels_of: Callable[[Tensors], tf.Tensor],
    prepare: Prepare,
    attack: Attack,
    epsilons: Sequence[float],
    *,
    norm: Norm = "linf",
    steps: int = 20,
) -> list[Point]:
    """Return the accuracy at each strength. Attacked images are rounded to pixels of a file.

    Args:
        subject: the network.
        batches: batches of evaluation, with "image", "targets" and "weight".
        labels_of: maps targets to the true class of each image.
        prepare: preparation of the images.
        attack: "fgsm" or "pgd".
        epsilons: strengths, for pixels in 0…1; 0 for no attack.
        norm: norm of the ball.
        steps: steps of pgd.
    """
    attacked = [
        _attacked(subject, prepare, attack, make_ball(epsilon, norm, prepare), steps)
        for epsilon in epsilons
    ]
    right, images = np.zeros(len(epsilons), int), 0
    for batch in batches:
        real = np.asarray(batch["weight"]) > 0
        labels = tf.cast(labels_of(batch["targets"]), tf.int32)
        images += int(real.sum())
        for n, answer in enumerate(attacked):
            answers = answer(tf.convert_to_tensor(batch["image"]), labels).numpy()
            right[n] += int((answers == labels.numpy())[real].sum())
    return [Point(e, int(r), images) for e, r in zip(epsilons, right, strict=True)]


def _attacked(
    subject: Subject, prepare: Prepare, attack: Attack, ball: Ball, steps: int
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a graph that maps images and labels to the classes predicted under attack."""
    loss = margin_loss(subject)

    @tf.function(reduce_retracing=True, autograph=False)
    def answer(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if ball.epsilon:
            found = (
                fgsm(loss, images, labels, ball)
                if attack == "fgsm"
                else pgd(loss, images, labels, ball, steps=steps, seed=tf.constant(_SEED, tf.int64))
            )
            images = normalize(to_bytes(found, images, prepare), prepare)
        return tf.argmax(subject.all_scores(images), axis=1, output_type=tf.int32)

    return answer
