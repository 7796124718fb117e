"""The contract between the core and a task.

The core trains, evaluates, exports and serves what a `Task` describes; it knows no task by name.

Dimensions: B images in a batch, b examples in a replica's share of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from cvpipe.data.sources import Example
from cvpipe.data.stream import Batch
from cvpipe.fields import Field

Tensors = dict[str, tf.Tensor]
# Keras models by name, or functions that stand for them, called with `training=`.
Networks = Mapping[str, Callable[..., Any]]
# (networks, batch, seed) to the parts of a loss by name, float32 [b] each. `seed`, int64 [2], is
# for stateless random ops; it differs for every step, update and replica.
Losses = Callable[[Networks, Batch, tf.Tensor], Tensors]
# (outputs, a teacher's outputs, temperature) to the distance between both, float32 [b].
Imitate = Callable[[Tensors, Tensors, float], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Update:
    """One move of one optimizer within a train step."""

    losses: Losses
    moves: tuple[str, ...] = ("network",)
    """Names of the networks whose weights the optimizer moves."""
    optimizer: str = "optimizer"
    """A key of `Config.optimizers`."""
    times: int = 1
    """Moves in a step, one after the other, on the same batch."""


class BestBy(NamedTuple):
    """The validation score that marks the best checkpoint."""

    score: str
    direction: Literal["max", "min"] = "max"

    def merit(self, score: float) -> float:
        """Return a number that is higher for better scores.

        A split without anything to find has no score, and no checkpoint is better than another.
        """
        if math.isnan(score):
            return 0.0 if self.direction == "max" else -math.inf
        return score if self.direction == "max" else -score


class Predict(Protocol):
    """Networks and prepared images to answers by name, each [B, …]."""

    def __call__(
        self,
        networks: Networks,
        image: tf.Tensor,
        extent: tf.Tensor | None = None,
        **options: tf.Tensor,
    ) -> Tensors:
        """Answer images.

        Args:
            networks: what `Task.build` makes, or what stands for it.
            image: a batch as `prepare.input_spec` describes it.
            extent: int32 [B, 2], heights and widths before images were prepared: places in answers
                are in those pixels. None: in those of `image`.
            options: other values than the defaults of `Task.options`, scalars.
        """
        ...


class Metrics(Protocol):
    """Scores that are gathered batch by batch."""

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Take in a batch; examples of weight 0 don't count."""
        ...

    def result(self) -> dict[str, Any]:
        """Return scores by name."""
        ...


class Option(NamedTuple):
    """A serving-time option: a scalar input of the signatures that may be left out."""

    default: float | int
    meaning: str
    """Its effect, for those who ask an artifact."""


class Request(NamedTuple):
    """A signature of the artifact that doesn't answer images."""

    name: str
    inputs: tuple[tf.TensorSpec, ...]
    answer: Callable[..., Tensors]
    """Graph code: tensors, as `inputs` describes them, to answers."""
    samples: Mapping[str, np.ndarray]
    """Inputs by name that the gate asks and compares the answers of."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, bound to a pipeline and to the facts of its data."""

    build: Callable[[bool], dict[str, Any]]
    """Makes fresh Keras models by name. True lets the statistics of BatchNorm span all replicas."""
    encode: Callable[[Example], Tensors]
    """An example's annotations as training's targets, of fixed shapes."""
    updates: tuple[Update, ...]
    """Moves of a train step, in order."""
    predict: Predict
    answers: Mapping[str, Field]
    """The meaning of each answer of `predict` and `decorate`."""
    metrics: Callable[[], Metrics]
    best_by: BestBy
    truth: Callable[[Example], Tensors] | None = None
    """An example's annotations as evaluation compares answers with them; None: as `encode`."""
    target_extent: Callable[[Tensors], tf.Tensor] | None = None
    """Training's targets to the extent, int32 [B, 2], at which answers can be compared with them;
    None: that of the images.
    """
    targets: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    """Targets of `truth` that differ in size from image to image, and so are padded."""
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    """Serving-time options by name."""
    combine: Callable[[Tensors], Tensors] | None = None
    """Outputs of M networks, or views of an image, [M, B, …], to those of their mean answer; None
    where there is no such mean.
    """
    initial_loss: Callable[[], float | None] = lambda: None
    """Loss of an untrained network; None where it depends on the images."""
    imitate: Imitate | None = None
    """None where a task can't be taught by another network."""
    class_scores: Callable[[Tensors], tf.Tensor] | None = None
    """Outputs to the score of each class in an image, float32 [B, K], which explanations follow
    back to pixels; None where a task has no classes.
    """
    decorate: Callable[[tf.Tensor, Tensors], Tensors] | None = None
    """Graph code: adds answers that need the decoded image. Takes uint8 [h, w, C] and the answers
    to it, without their first dimension; returns scalar strings by name.
    """
    requests: Callable[[Networks], tuple[Request, ...]] | None = None
    """Signatures of the artifact; None: encoded images, and prepared tensors."""
    frozen: tuple[str, ...] = ()
    """Networks that stay as they are and are no part of a checkpoint."""

    @property
    def true_targets(self) -> Callable[[Example], Tensors]:
        """`truth`, or `encode` where that is the same."""
        return self.truth or self.encode


def supervised(loss: Callable[[Tensors, Tensors], Tensors]) -> Update:
    """Return the update of a task with one network and one loss.

    Of mixed examples, the loss is the mean of both examples' losses, weighted by their shares.

    Args:
        loss: (outputs, targets) to the parts of the loss by name, float32 [b] each.
    """

    def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        outputs = networks["network"](batch["image"], training=True)
        own = loss(outputs, batch["targets"])
        if "partner_targets" not in batch:
            return own
        partners, share = loss(outputs, batch["partner_targets"]), batch["share"]
        return {name: share * part + (1 - share) * partners[name] for name, part in own.items()}

    return Update(losses)


def mean_of_softmax(outputs: Tensors) -> Tensors:
    """Return logits of the mean of several softmaxes.

    Args:
        outputs: {"logits": float32 [M, …, K]} of M networks or views.
    """
    logits = outputs["logits"]
    members = tf.cast(tf.shape(logits)[0], logits.dtype)
    return {"logits": tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(members)}
