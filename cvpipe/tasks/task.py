"""The interface between the core and a task.

The core trains, evaluates, exports and serves any task through this interface, and has no code for
particular tasks.

Dimensions: B images in a batch, b examples in a replica's part of the batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from cvpipe.data.example import Batch
from cvpipe.data.sources import Example
from cvpipe.fields import Field

Tensors = dict[str, tf.Tensor]
# Keras models by name, or functions that are called like models, with the argument `training`.
Networks = Mapping[str, Callable[..., Any]]
# Maps (networks, batch, seed) to the parts of a loss by name, float32 [b] each. `seed`, int64 [2],
# is for stateless random ops; it differs for every step, update and replica.
Losses = Callable[[Networks, Batch, tf.Tensor], Tensors]
# Maps (outputs, a teacher's outputs, temperature) to the distance of the outputs, float32 [b].
Imitate = Callable[[Tensors, Tensors, float], tf.Tensor]
IMAGE_SIZE = Field("exact", meaning="[B, 2]: height and width of the image in pixels")
"""Answer of tasks whose other answers have places in the image."""


@dataclasses.dataclass(frozen=True)
class Update:
    """One optimizer update within a training step."""

    losses: Losses
    moves: tuple[str, ...] = ("network",)
    """Names of the networks whose weights the optimizer updates. Empty if nothing is trained by
    gradients: `losses` then assigns variables of the networks itself, as BatchNorm assigns its
    statistics, and the returned losses are only logged.
    """
    optimizer: str = "optimizer"
    """A key of `Config.optimizers`."""
    times: int = 1
    """Number of successive updates per step, on the same batch."""


class BestBy(NamedTuple):
    """The validation score that marks the best checkpoint."""

    score: str
    direction: Literal["max", "min"] = "max"

    def merit(self, score: float) -> float:
        """Return a number that is higher for better scores.

        If the score is NaN, because the split has nothing to score, all checkpoints get the same
        number.
        """
        if math.isnan(score):
            return 0.0 if self.direction == "max" else -math.inf
        return score if self.direction == "max" else -score


class Predict(Protocol):
    """Maps networks and prepared images to answers by name, each [B, …]."""

    def __call__(
        self,
        networks: Networks,
        image: tf.Tensor,
        extent: tf.Tensor | None = None,
        **options: tf.Tensor,
    ) -> Tensors:
        """Compute the answers for a batch.

        Args:
            networks: the networks of `Task.build`, or functions that are called like them.
            image: a batch of prepared images, as `prepare.input_spec` describes it.
            extent: int32 [B, 2], heights and widths of the original images. Coordinates in answers
                are in pixels of the original images, or of `image` if `extent` is None.
            options: scalars that override the defaults of `Task.options`.
        """
        ...


class Metrics(Protocol):
    """Metrics that accumulate batches."""

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch. Examples with weight 0 don't count."""
        ...

    def result(self) -> dict[str, Any]:
        """Return scores by name."""
        ...


class Option(NamedTuple):
    """A serving-time option: an optional scalar input of the signatures."""

    default: float | int
    meaning: str
    """Description for users of the artifact."""
    least: float | None = None
    """Smallest value; None for no limit."""
    most: float | None = None
    """Largest value; None for no limit."""


class Request(NamedTuple):
    """An additional signature of the artifact, with inputs other than images."""

    name: str
    inputs: tuple[tf.TensorSpec, ...]
    answer: Callable[..., Tensors]
    """Graph code that maps the tensors of `inputs` to answers."""
    samples: Mapping[str, np.ndarray]
    """Example inputs by name, on which the gate compares answers."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task for one pipeline and the facts of its data."""

    build: Callable[[bool], dict[str, Any]]
    """Builds new Keras models by name. With True, BatchNorm statistics span all replicas."""
    encode: Callable[[Example], Tensors]
    """Maps an example's annotations to training targets of fixed shapes."""
    updates: tuple[Update, ...]
    """Optimizer updates of a training step, in order."""
    predict: Predict
    answers: Mapping[str, Field]
    """The meaning of each answer of `predict` and `decorate`."""
    metrics: Callable[[], Metrics]
    best_by: BestBy
    truth: Callable[[Example], Tensors] | None = None
    """Maps an example's annotations to evaluation targets; None to use `encode`."""
    target_extent: Callable[[Tensors], tf.Tensor] | None = None
    """Maps training targets to the `extent` of `predict`, int32 [B, 2], with which answers can be
    compared with the targets; None for the size of the images.
    """
    targets: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    """Fields of those targets of `truth` whose sizes vary. These targets are padded."""
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    """Serving-time options by name."""
    best_thresholds: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    """Maps evaluation scores to overrides, as given to --set, with the thresholds of the best F1,
    or to nothing if no answer is right; None if answers have no threshold.
    """
    combine: Callable[[Tensors], Tensors] | None = None
    """Combines the outputs of M networks or of M views of an image, [M, B, …], into one, [B, …];
    None if the task can't combine outputs.
    """
    initial_loss: Callable[[], float | None] = lambda: None
    """Returns the loss of an untrained network; None if it depends on the images."""
    imitate: Imitate | None = None
    """The distillation loss; None if the task has none."""
    class_scores: Callable[[Tensors], tf.Tensor] | None = None
    """Maps outputs to a score per class and image, float32 [B, K], for explanations; None if the
    task has no classes.
    """
    answered_scores: Callable[[Tensors], tf.Tensor] | None = None
    """Maps answers to the scores of `class_scores`, up to a constant for each image, for attacks on
    artifacts; None if the answers don't contain them.
    """
    class_probabilities: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax
    """Maps `class_scores` to 0…1, in the same shape."""
    class_labels: Callable[[Tensors], tf.Tensor] | None = None
    """Maps targets to the true class of each image, int [B], −1 for an image without a class; None
    if images have no single class.
    """
    objectives: Mapping[str, Callable[[Tensors, Tensors], tf.Tensor]] = dataclasses.field(
        default_factory=dict
    )
    """Goals of attacks other than a high loss, by name. A goal maps outputs and training targets to
    the objective that the attack maximizes, float32 [b].
    """
    objects: Callable[[Tensors], tuple[tf.Tensor, tf.Tensor]] | None = None
    """Maps evaluation targets to the class of each object, int32 [B, M], −1 in empty slots, and its
    box, float32 [B, M, 4] (ymin, xmin, ymax, xmax) as fractions of the prepared image; None if
    objects have no boxes.
    """
    calibrate: Callable[[Networks, Mapping[str, Any]], None] | None = None
    """Sets variables of the networks, such as a threshold, by the scores of the validation split,
    after each evaluation and before its checkpoint; None if there are no such variables.
    """
    decorate: Callable[[tf.Tensor, Tensors], Tensors] | None = None
    """Graph code that adds answers computed from the decoded image. Takes an image, uint8 [h, w,
    C], and its answers without the batch dimension; returns scalar strings by name. None if there
    are no such answers.
    """
    requests: Callable[[Networks], tuple[Request, ...]] | None = None
    """Returns signatures that replace the artifact's signatures for encoded and prepared images;
    None to keep those.
    """
    frozen: tuple[str, ...] = ()
    """Names of networks that are not trained and not saved in checkpoints."""

    @property
    def true_targets(self) -> Callable[[Example], Tensors]:
        """Return `truth`, or `encode` if there is none."""
        return self.truth or self.encode


def supervised(loss: Callable[[Tensors, Tensors], Tensors]) -> Update:
    """Return the update for a task with one network and one loss.

    For mixed examples (MixUp, CutMix), the loss is the mean of the losses for both examples'
    targets, weighted by the examples' shares.

    Args:
        loss: maps (outputs, targets) to the parts of the loss by name, float32 [b] each.
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
    """Return logits whose softmax is the mean of several softmaxes.

    Args:
        outputs: {"logits": float32 [M, …, K]} of M networks or views.
    """
    logits = outputs["logits"]
    members = tf.cast(tf.shape(logits)[0], logits.dtype)
    return {"logits": tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(members)}
