"""Scores of a model or of an exported artefact, by one path: predictions in, the task's metrics
out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.prepare import input_spec
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.geometry.masks import concatenate_padded

# From prepared images, or from bytes, and what else there is to say, to the task's answers by name.
Predict = Callable[..., Mapping[str, tf.Tensor]]
# Sees every batch with its predictions: for pictures.
Watch = Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], None]


def numbers(scores: Mapping[str, Any]) -> dict[str, int | float]:
    """Those of the scores that are a single number."""
    return {name: value for name, value in scores.items() if isinstance(value, (int, float))}


def make_predict(
    models: Sequence[keras.Model], task: ModuleType, config: Config, classes: tuple[str, ...]
) -> Predict:
    """The evaluated graph, which is also what the artefact contains.

    It takes prepared images, as `input_spec(config)` describes them, and their `extent`, int32 [B,
    2], heights and widths before they were
    prepared: what has a place in an answer is in those pixels; without, in those of the prepared
        images. By name it takes other values
    than the pipeline's for `task.settings`, scalars. It returns the task's answers.

    Where an image has several views, and where several models answer together, the answers are
    averaged by `task.average`.
    """
    has_views = len(input_spec(config).shape) > 4

    def outputs_of(model: keras.Model, image: tf.Tensor) -> Mapping[str, tf.Tensor]:
        if not has_views:
            return model(image, training=False)
        # A view at a time, so that memory is bounded by the batch, whatever the number of views.
        signature = {
            name: tf.TensorSpec(output.shape, output.dtype) for name, output in model.output.items()
        }
        views = tf.map_fn(
            lambda view: model(view, training=False),
            tf.transpose(image, [1, 0, 2, 3, 4]),
            fn_output_signature=signature,
        )
        return task.average(views, config)

    def network(image: tf.Tensor) -> Mapping[str, tf.Tensor]:
        members = [outputs_of(model, image) for model in models]
        return (
            members[0]
            if len(members) == 1
            else task.average(tf.nest.map_structure(lambda *each: tf.stack(each), *members), config)
        )

    @tf.function(reduce_retracing=True)
    @tf.autograph.experimental.do_not_convert
    def predict(
        image: tf.Tensor, extent: tf.Tensor | None = None, **settings: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        if config.prepare.resize == "tile":
            return task.predict_in_tiles(network, image, config, classes, extent, **settings)
        return task.predict(network(image), config, classes, extent, **settings)

    return predict


def ask(predict: Predict, *batch: Any) -> dict[str, np.ndarray]:
    """The answers to a batch, of prepared images with their extents or of bytes, as arrays."""
    return {name: answer.numpy() for name, answer in predict(*batch).items()}


def batch_size_of(config: Config) -> int:
    """How many images are evaluated at once: one where they are answered in tiles, as only that
    bounds memory, whatever their size.
    """
    return 1 if config.prepare.resize == "tile" else config.train.batch_size


def evaluate(
    predict: Predict,
    source: Source,
    task: ModuleType,
    config: Config,
    *,
    quarantine: Quarantine,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Evaluates on every readable example of a split.

    Returns:
        The task's scores, and "quarantined", the number of records that couldn't be read.

    Raises:
        DataError: more records are bad than the pipeline allows.
    """
    metrics = task.metrics(config, source.classes)
    for batch in evaluation_batches(source, config, task.truth, quarantine, batch_size_of(config)):
        batch = tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        predictions = ask(predict, batch["image"], batch["extent"])
        metrics.update(predictions, batch["targets"], batch["weight"])
        if watch:
            watch(batch, predictions)
    quarantine.check()
    return {**metrics.result(), "quarantined": len(quarantine)}


def evaluate_each(
    predict: Predict, source: Source, task: ModuleType, config: Config, *, quarantine: Quarantine
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluates, and keeps what was answered to each of the N readable examples; not their images,
    which may be too many.

    Returns:
        What `evaluate` returns, and {"index": int64 [N], "targets": the task's, each [N, …],
        "predictions": likewise},
        in the source's order; what differs in size is padded, uint8 with IGNORED.

    Raises:
        DataError: as `evaluate` does.
    """
    kept: list[dict[str, Any]] = []

    def watch(batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        every = {"index": batch["index"], "targets": batch["targets"], "predictions": predictions}
        kept.append(tf.nest.map_structure(lambda values: values[batch["weight"] > 0], every))

    scores = evaluate(predict, source, task, config, quarantine=quarantine, watch=watch)
    return scores, tf.nest.map_structure(lambda *parts: concatenate_padded(parts), *kept)


def evaluate_bytes(
    answer: Predict, source: Source, task: ModuleType, config: Config, *, quarantine: Quarantine
) -> dict[str, Any]:
    """Evaluates a served signature, from raw bytes to answers; `answer` takes string [B] and also
    returns "valid".

    Returns and raises like `evaluate`.
    """
    metrics = task.metrics(config, source.classes)
    for batch in encoded_batches(source, config, task.truth, batch_size_of(config)):
        predictions = ask(answer, batch["bytes"])
        weight = batch["weight"].numpy()
        for index in batch["index"].numpy()[(weight > 0) & ~predictions["valid"]]:
            quarantine.note(int(index))
        targets = {name: value.numpy() for name, value in batch["targets"].items()}
        metrics.update(predictions, targets, weight * predictions["valid"])
    quarantine.check()
    return {**metrics.result(), "quarantined": len(quarantine)}
