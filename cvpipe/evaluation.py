"""Evaluation of models and of exported artifacts with the task's metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import input_spec
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.errors import ConfigError
from cvpipe.fields import Field, concatenate_padded
from cvpipe.metrics.shares import one_sided
from cvpipe.tasks.task import Metrics, Networks, Task, Tensors

log = logging.getLogger(__name__)
# Maps prepared images and the argument `training` to raw outputs by name.
Network = Callable[..., Tensors]
# Maps images (prepared or encoded) and optional settings to named answers.
Predict = Callable[..., Mapping[str, tf.Tensor]]
# Callback that receives every batch and its predictions, for example to draw them.
Watch = Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], None]
# Yields each batch as arrays, with "targets", "weight" and "index", and the answers for the batch.
Answered = Iterator[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
# Collective: maps this process's named arrays to those of all processes, in order.
Exchange = Callable[[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]


class Evaluated(NamedTuple):
    """Targets and predictions of a batch, each [b, …]."""

    predictions: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    weight: np.ndarray
    """float32 [b]: 0 for unreadable examples and padding."""
    position: np.ndarray
    """int64 [b]: index of each example in the source."""


class Subject(NamedTuple):
    """A trained model or an artifact, and the split that it is evaluated on."""

    source: Source
    task: Task
    config: Config
    facts: Facts
    answer: Callable[[Source, Quarantine], Answered]
    """Answers all examples of a split, or of a part of it."""


# Called before an evaluation begins; returns the callback for its batches.
Begin = Callable[[Subject], Watch]


def numbers(scores: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the scores that are scalars."""
    return {name: value for name, value in scores.items() if isinstance(value, (int, float))}


def make_predict(
    members: Sequence[Networks],
    task: Task,
    config: Config,
    stand_in: Callable[[Network], Network] = lambda network: network,
) -> Predict:
    """Build the prediction function, which is also the graph of the artifact.

    The function takes the arguments of `Task.predict` except the networks. The outputs of several
    members, and of several views of an image, are combined by `Task.combine`.

    Args:
        members: the networks of each model of an ensemble.
        stand_in: maps a network to its replacement, for example a compiled one.

    Raises:
        ConfigError: there are several members, but the task has no `combine`.
    """
    if len(members) > 1 and task.combine is None:
        raise ConfigError(f"task: {config.task}: several runs can't be combined; give one")
    has_views = len(input_spec(config).shape) > 4
    networks = members[0]
    if has_views or len(members) > 1:
        models = [member["network"] for member in members]
        networks = {"network": _combined(models, task, has_views)}
    networks = {name: stand_in(network) for name, network in networks.items()}

    @tf.function(reduce_retracing=True)
    @tf.autograph.experimental.do_not_convert
    def predict(
        image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        return task.predict(networks, image, extent, **options)

    return predict


def _combined(models: Sequence[Any], task: Task, has_views: bool) -> Callable[..., Tensors]:
    """Return a network that combines the outputs of several models or views."""
    combine = task.combine
    assert combine is not None

    def outputs_of(model: Any, image: tf.Tensor) -> Tensors:
        if not has_views:
            return model(image, training=False)
        # One view at a time, so that memory doesn't grow with the number of views.
        signature = {
            name: tf.TensorSpec(output.shape, output.dtype) for name, output in model.output.items()
        }
        views = tf.map_fn(
            lambda view: model(view, training=False),
            tf.transpose(image, [1, 0, 2, 3, 4]),
            fn_output_signature=signature,
        )
        return combine(views)

    def network(image: tf.Tensor, training: bool = False) -> Tensors:
        assert not training, "an ensemble can't be trained"
        outputs = [outputs_of(model, image) for model in models]
        if len(outputs) == 1:
            return outputs[0]
        return combine(tf.nest.map_structure(lambda *each: tf.stack(each), *outputs))

    return network


def ask(predict: Predict, *batch: Any) -> dict[str, np.ndarray]:
    """Return the answers for a batch as arrays. `batch` is either (images, extents) with prepared
    images, or (bytes,).
    """
    return {name: answer.numpy() for name, answer in predict(*batch).items()}


def batch_size_of(config: Config) -> int:
    """Return the batch size of evaluations. It is 1 if images vary in size, to bound memory."""
    fixed = input_spec(config).shape[1:].is_fully_defined()
    return config.train.batch_size if fixed else 1


def batches_of(
    source: Source,
    task: Task,
    config: Config,
    quarantine: Quarantine,
    share: tuple[int, int] = (0, 1),
) -> Iterable[dict[str, Any]]:
    """Return the batches for `evaluate`. Each call traces a graph, so reuse the result.

    Args:
        share: (k, n) returns the k-th of n disjoint parts of the split, for process k of n.
    """
    size = batch_size_of(config)
    return evaluation_batches(
        source, config, task.true_targets, quarantine, size, task.targets, share
    )


def evaluate(
    predict: Predict,
    source: Source,
    task: Task,
    config: Config,
    *,
    quarantine: Quarantine,
    watch: Watch | None = None,
    batches: Iterable[dict[str, Any]] | None = None,
    exchange: Exchange | None = None,
) -> dict[str, Any]:
    """Evaluate every readable example of a split. Log a warning if all answers are the same class.

    Args:
        predict: from `make_predict`.
        watch: called with every batch of this process and its predictions.
        batches: from `batches_of`, if a split is evaluated several times.
        exchange: collective that gathers the results of all processes, if `batches` are only a
            share of the split. All processes then return the same scores.

    Returns:
        The task's scores, and "quarantined", the number of records that couldn't be read.

    Raises:
        DataError: more records are bad than the pipeline allows.
    """
    metrics = task.metrics()
    answered = answer_images(predict, batches or batches_of(source, task, config, quarantine))

    def evaluated() -> Iterator[Evaluated]:
        for batch, predictions in answered:
            if watch:
                watch(batch, predictions)
            yield Evaluated(predictions, batch["targets"], batch["weight"], batch["index"])

    each = evaluated()
    if exchange:
        rounds = -(-len(source) // batch_size_of(config))
        each = _exchanged(each, rounds, exchange, quarantine)
    for batch in each:
        metrics.update(batch.predictions, batch.targets, batch.weight)
    return _result(metrics, quarantine)


def answer_images(predict: Predict, batches: Iterable[Mapping[str, Any]]) -> Answered:
    """Yield each batch of `batches_of` as arrays, with the answers of `predict`."""
    for batch in batches:
        arrays = tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        yield arrays, ask(predict, arrays["image"], arrays["extent"])


def answer_bytes(
    answer: Predict, source: Source, task: Task, config: Config, quarantine: Quarantine
) -> Answered:
    """Yield each batch of a split as arrays, with the answers of a serving signature for its
    encoded images.

    Files that the signature can't decode get weight 0.
    """
    size = batch_size_of(config)
    for batch in encoded_batches(source, config, task.true_targets, size, task.targets):
        arrays = tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        predictions = ask(answer, batch["bytes"])
        for index in arrays["index"][(arrays["weight"] > 0) & ~predictions["valid"]]:
            quarantine.note(int(index))
        yield {**arrays, "weight": arrays["weight"] * predictions["valid"]}, predictions


def evaluate_each(
    predict: Predict, source: Source, task: Task, config: Config, *, quarantine: Quarantine
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate a split and keep the answers for each of the N readable examples, but not the
    images.

    Returns:
        The scores of `evaluate`, and {"index": int64 [N], "targets": the task's targets, each [N,
        …], "predictions": its answers, each [N, …]} in the source's order, padded to one size.

    Raises:
        DataError: more records are bad than the pipeline allows.
    """
    kept: list[dict[str, Any]] = []

    def watch(batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        every = {"index": batch["index"], "targets": batch["targets"], "predictions": predictions}
        kept.append(tf.nest.map_structure(lambda values: values[batch["weight"] > 0], every))

    scores = evaluate(predict, source, task, config, quarantine=quarantine, watch=watch)
    return scores, {
        "index": np.concatenate([part["index"] for part in kept]),
        "targets": joined([part["targets"] for part in kept], task.targets),
        "predictions": joined([part["predictions"] for part in kept], task.answers),
    }


def joined(
    parts: Sequence[Mapping[str, np.ndarray]], fields: Mapping[str, Field]
) -> dict[str, np.ndarray]:
    """Concatenate batches of named arrays, padded according to their fields."""
    return {
        name: concatenate_padded([part[name] for part in parts], fields.get(name, Field()))
        for name in parts[0]
    }


def evaluate_bytes(
    answer: Predict,
    source: Source,
    task: Task,
    config: Config,
    *,
    quarantine: Quarantine,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Evaluate a serving signature. `answer` maps encoded images, string [B], to answers and
    "valid", bool [B].

    Returns and raises the same as `evaluate`.
    """
    metrics = task.metrics()
    for batch, predictions in answer_bytes(answer, source, task, config, quarantine):
        if watch:
            watch(batch, predictions)
        metrics.update(predictions, batch["targets"], batch["weight"])
    return _result(metrics, quarantine)


def _exchanged(
    local: Iterator[Evaluated], batches: int, exchange: Exchange, quarantine: Quarantine
) -> Iterator[Evaluated]:
    """Yield the batches of all processes in the split's order.

    Args:
        local: the batches of this process.
        batches: the number of batches of the split.
        quarantine: receives the records that other processes couldn't read.
    """
    seen = 0
    while seen < batches:
        batch_here = next(local, None)
        for arrays in exchange(_flat(batch_here) if batch_here else {})[: batches - seen]:
            batch = _unflat(arrays)
            # Unreadable examples and padding have weight 0. Padding repeats the last example of a
            # batch.
            for index in {*batch.position[batch.weight == 0]} - {*batch.position[batch.weight > 0]}:
                quarantine.note(int(index))
            yield batch
            seen += 1


def _flat(batch: Evaluated) -> dict[str, np.ndarray]:
    return {
        **{f"predictions/{name}": value for name, value in batch.predictions.items()},
        **{f"targets/{name}": value for name, value in batch.targets.items()},
        "weight": batch.weight,
        "position": batch.position,
    }


def _unflat(arrays: Mapping[str, np.ndarray]) -> Evaluated:
    parts: dict[str, dict[str, np.ndarray]] = {"predictions": {}, "targets": {}}
    for path, value in arrays.items():
        part, _, name = path.partition("/")
        if name:
            parts[part][name] = value
    return Evaluated(**parts, weight=arrays["weight"], position=arrays["position"])


def _result(metrics: Metrics, quarantine: Quarantine) -> dict[str, Any]:
    quarantine.check()
    scores = metrics.result()
    if said := one_sided(scores):
        log.warning("%s", said)
    return {**scores, "quarantined": len(quarantine)}
