"""Accuracy of classifiers under attacks of increasing strength, including attacks that were made
for another classifier.

Dimensions: E strengths, M models, B images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize, restore_pixels
from cvpipe.errors import DataError
from cvpipe.explain.attack import Ball, Norm, attack_loss, deep_fool, fgsm, make_ball, pgd
from cvpipe.explain.carlini_wagner import carlini_wagner
from cvpipe.explain.one_pixel import few_pixels
from cvpipe.explain.rounding import lengthened, to_bytes
from cvpipe.explain.score import Subject
from cvpipe.explain.universal import Batches, learn_patch, learn_perturbation, put_patch
from cvpipe.tasks.task import Tensors

Method = Literal["fgsm", "bim", "pgd", "deepfool", "carlini_wagner", "pixels", "universal", "patch"]
METHODS: tuple[Method, ...] = get_args(Method)
LEARNED: tuple[Method, ...] = ("universal", "patch")
"""Methods that learn one change for all images."""
_SEED = (0, 21)
Attack = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps prepared images and their true classes to attacked images, prepared."""

Watch = Callable[[np.ndarray, list[np.ndarray], list[np.ndarray]], None]
"""Takes the true classes of a batch, int [B], and two lists with an item for each strength: images
that attack the first model, uint8 [B, H, W, C], and the first model's answers to them, int [B].
"""


class Point(NamedTuple):
    """The accuracy at one strength."""

    epsilon: float
    right: int
    images: int
    hits: int = 0
    """Number of images of other classes that are classified as the target."""
    others: int = 0
    """Number of images of other classes than the target; 0 for attacks without a target."""

    @property
    def accuracy(self) -> float:
        """Share of correctly classified images."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy (Wilson 1927)."""
        return wilson(self.right, self.images)


class Model(NamedTuple):
    """A classifier, and the preparation of its images."""

    subject: Subject
    prepare: Prepare


class Plan(NamedTuple):
    """Settings of an attack."""

    method: Method
    norm: Norm = "linf"
    """Norm of the ball; "deepfool" and "carlini_wagner" look for the nearest image in L2."""
    steps: int = 20
    """Steps of "bim" and "pgd"."""
    target: int | None = None
    """The class that attacked images should be classified as; None for any wrong class."""


def wilson(part: int, whole: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson 1927)."""
    z, n, share = 1.96, whole, part / whole
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def have_class(batch: Mapping[str, Any], labels: tf.Tensor | np.ndarray) -> np.ndarray:
    """Return True for the real images of a batch that have a class, bool [B]. Labels are int [B],
    −1 for no class.
    """
    return (np.asarray(batch["weight"]) > 0) & (np.asarray(labels) >= 0)


def accuracies(
    models: Sequence[Model],
    batches: Iterable[Mapping[str, Any]],
    labels_of: Callable[[Tensors], tf.Tensor],
    plan: Plan,
    epsilons: Sequence[float],
    learn_from: Batches = (),
    watch: Watch | None = None,
) -> list[list[list[Point]]]:
    """Return accuracies [E][M][M], indexed by strength, attacked model and evaluated model.
    Attacked images are rounded to pixels of a file.

    Args:
        models: classifiers with the same classes and the same size and channels of images.
        batches: evaluation batches with "image", "targets" and "weight" for the first model.
        labels_of: maps targets to the true class of each image; −1 for no class. Images without a
            class don't count.
        plan: the attack.
        epsilons: strengths. For "pixels", the number of changed pixels; for "patch", the patch's
            side as a share of the image's shorter side; otherwise, the norm of the change for
            pixels in 0…1. 0 is no attack.
        learn_from: images for LEARNED methods to learn from, prepared for the first model.
        watch: called for each batch.

    Raises:
        DataError: no image has a class.
    """
    first = models[0].prepare
    attacks = []
    for model in models:
        samples = [(_prepared_for(x, first, model.prepare), classes) for x, classes in learn_from]
        attacks.append(
            _rounded(model, make_attacks(model, plan, epsilons, samples), plan, epsilons, first)
        )
    answers = [_classifier(model) for model in models]
    shape = (len(epsilons), len(models), len(models))
    right, hits, others, images = np.zeros(shape, int), np.zeros(shape, int), 0, 0
    for batch in batches:
        labels = tf.cast(labels_of(batch["targets"]), tf.int32)
        real = have_class(batch, labels)
        labels = tf.maximum(labels, 0)
        is_other = real & (labels.numpy() != plan.target)
        images += int(real.sum())
        others += int(is_other.sum())
        for m, attack in enumerate(attacks):
            attacked = attack(tf.convert_to_tensor(batch["image"]), labels)
            found = [[answer(pixels).numpy() for answer in answers] for pixels in attacked]
            right[:, m] += (np.array(found) == labels.numpy())[..., real].sum(axis=-1)
            hits[:, m] += (np.array(found) == plan.target)[..., is_other].sum(axis=-1)
            if watch and not m and real.any():
                watch(
                    labels.numpy()[real],
                    [pixels.numpy()[real] for pixels in attacked],
                    [of_models[0][real] for of_models in found],
                )
    if not images:
        raise DataError("no image of the split has a class to attack; give another --split")
    if plan.target is None:
        others = 0
    return [
        [
            [
                Point(epsilon, int(right[e, m, n]), images, int(hits[e, m, n]), others)
                for n in range(len(models))
            ]
            for m in range(len(models))
        ]
        for e, epsilon in enumerate(epsilons)
    ]


def make_attacks(
    model: Model, plan: Plan, epsilons: Sequence[float], learn_from: Batches = ()
) -> Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]:
    """Return a function that maps prepared images and their true classes to E batches of attacked
    images, one for each strength. The function is graph code. LEARNED methods learn their change
    before this call returns. The arguments are those of `accuracies`, for one model.
    """
    balls = [make_ball(epsilon, plan.norm, model.prepare) for epsilon in epsilons]
    if plan.method in ("deepfool", "carlini_wagner"):
        return partial(_nearest, model, plan, balls)
    attacks = [_attack(model, plan, ball, learn_from) for ball in balls]

    def every(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        classes = labels if plan.target is None else tf.fill(tf.shape(labels), plan.target)
        return [attack(images, classes) for attack in attacks]

    return every


def _attack(model: Model, plan: Plan, ball: Ball, learn_from: Batches) -> Attack:
    """Return an attack of one strength."""
    loss, seed = attack_loss(model.subject, plan.target is not None), tf.constant(_SEED, tf.int64)
    if not ball.epsilon:
        return lambda images, classes: images
    height, width = model.prepare.size
    shape = (height, width, model.prepare.channels)
    if plan.target is not None:
        learn_from = [(x, tf.fill(tf.shape(classes), plan.target)) for x, classes in learn_from]
    match plan.method:
        case "fgsm":
            return partial(fgsm, loss, ball=ball)
        case "bim":
            size = ball.epsilon / plan.steps
            return partial(pgd, loss, ball=ball, steps=plan.steps, step_size=size)
        case "pgd":
            return partial(pgd, loss, ball=ball, steps=plan.steps, seed=seed)
        case "pixels":
            return partial(few_pixels, loss, ball=ball, pixels=round(ball.epsilon), seed=seed)
        case "universal":
            change = learn_perturbation(loss, learn_from, ball, shape)
            return lambda images, classes: ball.project(images + change, images)
    side = max(round(ball.epsilon * min(height, width)), 1)
    patch = learn_patch(loss, learn_from, ball, side, shape[2], seed=seed)
    return lambda images, classes: put_patch(images, patch, seed)


def _nearest(
    model: Model, plan: Plan, balls: Sequence[Ball], images: tf.Tensor, labels: tf.Tensor
) -> list[tf.Tensor]:
    """Return for each ball the nearest misclassified images that are inside the ball when rounded
    to pixels of a file. Other images, and images that are misclassified without attack, are
    returned unchanged.
    """
    anywhere = make_ball(math.inf, "l2", model.prepare)
    if plan.method == "deepfool":
        found = deep_fool(model.subject, images, anywhere)
    else:
        classes = labels if plan.target is None else tf.fill(tf.shape(labels), plan.target)
        targeted = plan.target is not None
        found = carlini_wagner(model.subject, images, classes, anywhere, targeted=targeted)

    def succeeds(attacked: tf.Tensor) -> tf.Tensor:
        scores = model.subject.all_scores(attacked)
        predicted = tf.argmax(scores, axis=1, output_type=tf.int32)
        return predicted != labels if plan.target is None else predicted == plan.target

    nearest = lengthened(found, images, model.prepare, succeeds)
    inside = [ball.holds(nearest, images)[:, tf.newaxis, tf.newaxis, tf.newaxis] for ball in balls]
    return [tf.where(is_inside, nearest, images) for is_inside in inside]


def _rounded(
    model: Model,
    attacks: Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]],
    plan: Plan,
    epsilons: Sequence[float],
    first: Prepare,
) -> Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]:
    """Return a graph function that maps images prepared by `first` to attacked images, uint8."""
    # Single pixels and patches may have any values.
    anywhere = plan.method in ("pixels", "patch")
    balls = [
        make_ball(math.inf, "linf", model.prepare)
        if anywhere
        else make_ball(epsilon, plan.norm, model.prepare)
        for epsilon in epsilons
    ]

    @tf.function(reduce_retracing=True, autograph=False)
    def every(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        originals = _prepared_for(images, first, model.prepare)
        return [
            to_bytes(x, originals, model.prepare, ball)
            for x, ball in zip(attacks(originals, labels), balls, strict=True)
        ]

    return every


def _classifier(model: Model) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(reduce_retracing=True, autograph=False)
    def answer(pixels: tf.Tensor) -> tf.Tensor:
        scores = model.subject.all_scores(normalize(pixels, model.prepare))
        return tf.argmax(scores, axis=1, output_type=tf.int32)

    return answer


def _prepared_for(images: tf.Tensor, first: Prepare, other: Prepare) -> tf.Tensor:
    """Restore the pixels of images prepared by `first`, uint8, and prepare them by `other`."""
    return normalize(restore_pixels(images, first), other)
