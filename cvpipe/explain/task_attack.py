"""Attacks on any task with one network and one loss, and the task's score under these attacks.

Dimensions: E strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import normalize, restore_pixels
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Example, Source
from cvpipe.data.stream import evaluation_batches
from cvpipe.errors import ConfigError, suggest
from cvpipe.evaluation import Predict, ask, batch_size_of
from cvpipe.explain.attack import Ball, Norm, fgsm, make_ball, pgd
from cvpipe.explain.rounding import to_bytes
from cvpipe.metrics.intervals import bootstrap, interval
from cvpipe.mistakes import load_review, readable
from cvpipe.tasks.task import Networks, Task, Tensors

Method = Literal["fgsm", "bim", "pgd"]
Objective = Callable[[tf.Tensor, Tensors], tf.Tensor]
"""Maps prepared images and training targets to the values that an attack maximizes, float32 [B]."""
LOSS = "loss"
"""The goal that every task has: a high loss."""
# Prefix of the training targets' names. Evaluation targets may have the same names without it.
_LEARNED = "learned/"
_SEED = (0, 22)


class TaskPoint(NamedTuple):
    """Scores at one strength."""

    epsilon: float
    score: float
    """The task's score on the split, such as AP50."""
    mean: float
    """Mean score of images, `Verdict.score`."""
    interval: tuple[float, float]
    """95 % bootstrap interval of `mean`."""
    images: int
    """Number of images with a score."""


class Attacked(NamedTuple):
    """A trained model and the images to attack."""

    task: Task
    networks: Networks
    predict: Predict
    config: Config
    facts: Facts
    source: Source
    split: str
    thresholds: np.ndarray | None = None
    """Score thresholds of `Review.thresholds`; None to choose them at the weakest attack, if the
    task has thresholds.
    """


def make_objective(task: Task, networks: Networks, goal: str, name: str) -> Objective:
    """Return the function that an attack on the network in inference mode maximizes.

    Args:
        task: the task.
        networks: its networks.
        goal: LOSS, or one of the task's objectives.
        name: name of the task, for messages.

    Raises:
        ConfigError: the task has no such goal, or can't be attacked.
    """
    if set(networks) != {"network"} or [update.moves for update in task.updates] != [("network",)]:
        raise ConfigError(
            f"task: {name}: can't be attacked; only tasks with one network and one loss can"
        )
    goals = [LOSS, *task.objectives]
    if goal not in goals:
        raise ConfigError(f"--goal {goal}: task {name} has no such goal; {suggest(goal, goals)}")
    network, [update] = networks["network"], task.updates
    inference_only = {"network": lambda image, training=False: network(image, training=False)}

    def objective(images: tf.Tensor, targets: Tensors) -> tf.Tensor:
        if goal != LOSS:
            return task.objectives[goal](inference_only["network"](images), targets)
        batch = {"image": images, "targets": targets, "weight": tf.ones(tf.shape(images)[:1])}
        return tf.add_n(
            list(update.losses(inference_only, batch, tf.constant(_SEED, tf.int64)).values())
        )

    return objective


def scores_under_attack(
    attacked: Attacked,
    goal: str,
    method: Method,
    epsilons: Sequence[float],
    *,
    norm: Norm = "linf",
    steps: int = 20,
) -> list[TaskPoint]:
    """Return the scores at each strength. Attacked images are rounded to pixels of a file.

    Args:
        attacked: the model and its images.
        goal: LOSS, or one of the task's objectives.
        method: "fgsm", "bim" or "pgd".
        epsilons: strengths, for pixels in 0…1; 0 for no attack.
        norm: norm of the ball.
        steps: number of steps of "bim" and "pgd".

    Raises:
        ConfigError: the same errors as `make_objective`.
    """
    task, config = attacked.task, attacked.config
    objective = make_objective(task, attacked.networks, goal, config.task)
    balls = [make_ball(epsilon, norm, config.prepare) for epsilon in epsilons]
    attacks = [_graph(objective, method, ball, steps, config) for ball in balls]
    reviews = [load_review(config, attacked.facts) for _ in epsilons]
    metrics = [task.metrics() for _ in epsilons]
    quarantine = Quarantine(attacked.source, attacked.split, config.data.max_bad_share)
    for batch in evaluation_batches(
        attacked.source,
        config,
        partial(_both_targets, task),
        quarantine,
        batch_size_of(config),
        task.targets,
    ):
        learned, arrays = _divided(batch)
        for attack, review, metric in zip(attacks, reviews, metrics, strict=True):
            images = attack(batch["image"], learned)
            answers = ask(attacked.predict, images, arrays["extent"])
            metric.update(answers, arrays["targets"], arrays["weight"])
            usable = readable(arrays, answers)
            if len(usable.position):
                review.add(usable.predictions, usable.targets)
    quarantine.check()
    weakest = reviews[int(np.argmin(epsilons))]
    weakest.thresholds = attacked.thresholds
    weakest.verdicts()
    points = []
    for epsilon, metric, review in zip(epsilons, metrics, reviews, strict=True):
        # Thresholds chosen under attack would hide a part of its effect.
        review.thresholds = weakest.thresholds
        scores = np.array([verdict.score for verdict in review.verdicts()])
        scores = scores[np.isfinite(scores)]
        bounds = interval(bootstrap(scores[np.newaxis])[0]) if len(scores) else (np.nan, np.nan)
        score = float(metric.result()[task.best_by.score])
        mean = float(scores.mean()) if len(scores) else np.nan
        points.append(TaskPoint(epsilon, score, mean, bounds, len(scores)))
    return points


def _graph(
    objective: Objective, method: Method, ball: Ball, steps: int, config: Config
) -> Callable[[tf.Tensor, Tensors], tf.Tensor]:
    """Return a graph function that maps prepared images and training targets to attacked images."""

    @tf.function(reduce_retracing=True, autograph=False)
    def attack(images: tf.Tensor, targets: Tensors) -> tf.Tensor:
        images = normalize(restore_pixels(images, config.prepare), config.prepare)
        if not ball.epsilon:
            return images
        if method == "fgsm":
            found = fgsm(objective, images, targets, ball)
        else:
            size = ball.epsilon / steps if method == "bim" else None
            seed = tf.constant(_SEED, tf.int64) if method == "pgd" else None
            found = pgd(objective, images, targets, ball, steps=steps, step_size=size, seed=seed)
        return normalize(to_bytes(found, images, config.prepare, ball), config.prepare)

    return attack


def _both_targets(task: Task, example: Example) -> Tensors:
    """Return an example's evaluation targets, and its training targets with prefixed names."""
    learned = {f"{_LEARNED}{name}": value for name, value in task.encode(example).items()}
    return {**task.true_targets(example), **learned}


def _divided(batch: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Split a batch: return the training targets, and the rest of the batch as NumPy arrays."""
    names = [name for name in batch["targets"] if name.startswith(_LEARNED)]
    learned = {name.removeprefix(_LEARNED): batch["targets"][name] for name in names}
    truth = {name: value for name, value in batch["targets"].items() if name not in names}
    arrays = tf.nest.map_structure(lambda value: value.numpy(), {**batch, "targets": truth})
    return learned, arrays
