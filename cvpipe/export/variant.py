"""Variants of networks for export: folded batch normalizations, other precisions, XLA compilation,
batching in the graph.

A variant replaces the network in the graph. Decoding, suppression and class names (strings) are not
part of it and stay on the host.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.train import Batching, Export
from cvpipe.evaluation import Network
from cvpipe.export.compare import Tolerance
from cvpipe.models.folded import folded, is_foldable
from cvpipe.tasks.task import Networks, Task, Tensors

# Maps images [B, …] to outputs by name, each [B, …].
Ask = Callable[[tf.Tensor], Tensors]
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Keras dtype policy for each `export.precision` except "trained"."""
TOLERANCES = {
    "trained": Tolerance(),
    "float32": Tolerance(),
    # bfloat16 has 8 and float16 has 11 significant bits, and each layer loses precision.
    "bfloat16": Tolerance(close=3e-2, pixels=2e-2, images=0.1),
    "float16": Tolerance(close=5e-3, pixels=5e-3, images=0.05),
}
"""Tolerance between an artifact and evaluation in the same precision."""
COMPILED = Tolerance(close=1e-4, pixels=1e-3)
"""Tolerance for XLA's kernels in float32."""
TPU_ALIAS = "tpu_func"
"""Function alias by which Google's Inference Converter finds the function for the TPU."""
LARGEST = 65536
"""Largest request, in images, with batching in the graph. It is split into batches."""
WAITING = 100
"""Maximum number of queued batches; further requests are refused."""


def tolerance_of(export: Export) -> Tolerance:
    """Return the tolerance between an artifact and evaluation in the same precision."""
    allowed = TOLERANCES[export.precision]
    if export.target != "cpu":
        allowed = Tolerance(*map(max, allowed, COMPILED))
    return allowed if export.tolerance is None else allowed._replace(close=export.tolerance)


def in_precision(
    members: Sequence[Networks], task: Task, precision: str
) -> tuple[dict[str, Any], ...]:
    """Rebuild networks with the same weights in another precision.

    Args:
        precision: a key of POLICIES.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        return tuple(_rebuilt(networks, task) for networks in members)
    finally:
        keras.config.set_dtype_policy(before)


def _rebuilt(networks: Mapping[str, Any], task: Task) -> dict[str, Any]:
    built = task.build(False)
    for name, network in built.items():
        # Weights are float32 in every precision.
        for own, trained in zip(network.variables, networks[name].variables, strict=True):
            own.assign(trained)
    return built


def can_fold(members: Sequence[Networks], task: Task, config: Config) -> bool:
    """Return True if networks have batch normalizations to fold, and may be exported without them.

    In lower precision, a folded kernel would be rounded differently.
    """
    chosen = config.export.precision
    precision = config.train.precision if chosen == "trained" else chosen
    if precision != "float32" or task.requests:
        return False
    return any(is_foldable(network) for networks in members for network in networks.values())


def fold_members(members: Sequence[Networks]) -> tuple[dict[str, Any], ...]:
    """Return copies of all networks with their batch normalizations folded."""
    return tuple(
        {name: folded(network) for name, network in networks.items()} for networks in members
    )


def stand_in_for(export: Export, compiled: dict[str, Any]) -> Callable[[Network], Network]:
    """Return a function that maps a network to its variant for `export.target`.

    Args:
        compiled: receives the functions compiled by XLA, by their aliases.
    """

    def stand_in(network: Network) -> Network:
        ask: Ask = functools.partial(network, training=False)
        if export.target != "cpu":
            function = tf.function(ask, jit_compile=True, autograph=False)
            compiled[f"{TPU_ALIAS}_{len(compiled)}" if compiled else TPU_ALIAS] = function
            ask = in_batches(function, export.batch_sizes)
        if export.batching is not None:
            ask = batched(ask, export.batching)
        return lambda image, training=False: ask(image)

    return stand_in


def in_batches(ask: Ask, sizes: Sequence[int]) -> Ask:
    """Return a network that pads batches to the next of these sizes. Larger batches are not padded.

    Args:
        ask: maps images [B, …] to outputs [B, …].
        sizes: batch sizes in ascending order.
    """
    shapes: dict[str, list[int | None]] = {}

    def of_size(image: tf.Tensor, size: int) -> Tensors:
        count = tf.shape(image)[0]
        beyond = [[0, size - count], *[[0, 0]] * (image.shape.rank - 1)]
        filled = tf.ensure_shape(tf.pad(image, beyond), [size, *image.shape[1:]])
        outputs = ask(filled)
        shapes.update({name: [None, *value.shape[1:]] for name, value in outputs.items()})
        return {name: value[:count] for name, value in outputs.items()}

    def answer(image: tf.Tensor) -> Tensors:
        if image.shape[0] is not None:
            return ask(image)
        fits = tf.reduce_sum(tf.cast(tf.shape(image)[0] > tf.constant(sizes), tf.int32))
        branches = [lambda size=size: of_size(image, size) for size in sizes]
        outputs = tf.switch_case(fits, [*branches, lambda: ask(image)])
        # switch_case loses static shapes.
        return {name: tf.ensure_shape(value, shapes[name]) for name, value in outputs.items()}

    return answer


def sizes_up_to(most: int) -> list[int]:
    """Return the allowed batch sizes: the powers of two below `most`, and `most`."""
    return [*(2**power for power in range((most - 1).bit_length())), most]


def batched(ask: Ask, batching: Batching) -> Ask:
    """Return a network that batches the images of concurrent requests."""

    def answer(image: tf.Tensor) -> Tensors:
        known = tf.function(ask, autograph=False).get_concrete_function(
            tf.TensorSpec(image.shape, image.dtype)
        )
        flat = tf.raw_ops.BatchFunction(
            in_tensors=[image],
            captured_tensors=known.captured_inputs,
            f=known,
            num_batch_threads=batching.threads,
            max_batch_size=LARGEST,
            allowed_batch_sizes=sizes_up_to(batching.most),
            batch_timeout_micros=round(batching.wait * 1e6),
            max_enqueued_batches=WAITING,
            enable_large_batch_splitting=True,
            # Requests to operations with the same name are batched together, so each model has its
            # own name.
            shared_name=uuid.uuid4().hex,
            Tout=[output.dtype for output in known.outputs],
        )
        # The operation loses static shapes.
        shaped = [
            tf.ensure_shape(own, output.shape)
            for own, output in zip(flat, known.outputs, strict=True)
        ]
        outputs: Tensors = tf.nest.pack_sequence_as(known.structured_outputs, shaped)
        return outputs

    return answer
