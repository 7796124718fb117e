"""Guards that turn errors in a graph into data, so one bad element doesn't fail its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cvpipe.data.graph import noinline_branch

# Number of elements of a batch that are loaded at once, which limits memory.
PARALLEL = 8


def or_zeros(load: Callable[..., Any], *args: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Return (load(*args), True), or (zeros, False) if that raises a graph error.

    The zeros have the shapes and types of the result; unknown lengths are 0. Works in
    `Dataset.map` and in a SavedModel; `load` must return tensors of known rank. TensorFlow prepares
    `load` again for each call, which may take longer than decoding a small image. With op
    determinism, tf.data also loads examples one at a time if their function contains this guard.
    `each_or_zeros` prepares `load` once for a batch. `loaded_or_zeros` and `readable_or_zeros` have
    neither cost.
    """
    # TensorFlow can catch graph errors only inside a Dataset.
    tried = _single(args).map(
        tf.autograph.experimental.do_not_convert(lambda *args: (load(*args), True))
    )
    failed = _single((_zeros(tried.element_spec[0]), False))
    return tried.ignore_errors().concatenate(failed).take(1).get_single_element()


def each_or_zeros(load: Callable[[tf.Tensor], Any], batch: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Map `load` over a batch in parallel; elements with a graph error give zeros.

    All elements share one guard. If it catches an error, the elements are loaded again one at a
    time.

    Args:
        load: maps an element to tensors of fully known shapes.
        batch: [B].

    Returns:
        The stacked results, [B, …] each, and bool [B]: False for failed elements.
    """
    element = tf.TensorSpec(batch.shape[1:], batch.dtype)
    traced = tf.function(load, input_signature=[element], autograph=False)
    specs = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype),
        traced.get_concrete_function().structured_outputs,
    )
    results, all_loaded = or_zeros(
        lambda batch: tf.map_fn(
            traced, batch, fn_output_signature=specs, parallel_iterations=PARALLEL
        ),
        batch,
    )
    return tf.cond(
        all_loaded,
        lambda: (results, tf.ones_like(batch, tf.bool)),
        noinline_branch(lambda: _survivors(traced, batch, specs)),
    )


def readable_or_zeros(
    examples: tf.data.Dataset,
    load: Callable[..., Any],
    parallel: int,
    inputs: tf.data.Dataset | None = None,
) -> tf.data.Dataset:
    """Map `load` over a stream as `loaded_or_zeros` does, and return the results with their inputs.

    Args:
        examples: read twice, so it should be cheap.
        parallel: examples that are loaded at once.
        inputs: inputs of `load` if they aren't the examples themselves.

    Returns:
        (example, result, bool scalar: False for a failed example) for each example.
    """
    results = loaded_or_zeros(examples if inputs is None else inputs, load, parallel)
    return tf.data.Dataset.zip(examples, results).map(lambda example, result: (example, *result))


def loaded_or_zeros(
    examples: tf.data.Dataset, load: Callable[..., Any], parallel: int
) -> tf.data.Dataset:
    """Map `load` over a stream, in order; elements with a graph error give zeros.

    Args:
        examples: inputs of `load`.
        parallel: examples that are loaded at once.

    Returns:
        (result, bool scalar: False for a failed example) for each example, then an endless number
        of failed examples.
    """

    def numbered(number: tf.Tensor, example: Any) -> tuple[tf.Tensor, Any]:
        return number, load(*example) if isinstance(example, tuple) else load(example)

    numbered = tf.autograph.experimental.do_not_convert(numbered)
    loaded = examples.enumerate().map(numbered, parallel, deterministic=True).ignore_errors()
    gap = tf.data.Dataset.from_tensors((_zeros(loaded.element_spec[1]), False))

    def missing_before(expected: tf.Tensor, survivor: Any) -> tuple[tf.Tensor, Any]:
        number, result = survivor
        return number + 1, (number - expected, result)

    def filled(missing: tf.Tensor, result: Any) -> tf.data.Dataset:
        return gap.repeat(missing).concatenate(_single((result, True)))

    survivors = loaded.scan(tf.constant(0, tf.int64), missing_before)
    # The last example may be missing, too.
    return survivors.flat_map(filled).concatenate(gap.repeat())


def _survivors(
    load: Callable[[tf.Tensor], Any], batch: tf.Tensor, specs: Any
) -> tuple[Any, tf.Tensor]:
    """Return the result of `each_or_zeros`, loading one element at a time."""
    count = tf.shape(batch, tf.int64)[0]
    elements = tf.data.Dataset.from_tensor_slices((tf.range(count), batch))
    loaded = elements.map(lambda number, element: (number, load(element))).ignore_errors()
    # The appended row of zeros is the result of failed elements.
    last = tf.data.Dataset.from_tensors((count, _zeros(specs)))
    numbers, results = loaded.concatenate(last).batch(count + 1).get_single_element()
    loaded_count = tf.size(numbers, tf.int64) - 1
    place = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], loaded_count), numbers[:, tf.newaxis], tf.range(loaded_count + 1)
    )[:count]
    return tf.nest.map_structure(
        lambda result: tf.gather(result, place), results
    ), place < loaded_count


def _single(element: Any) -> tf.data.Dataset:
    """Return a dataset of one element.

    With op determinism, tf.data loads examples one at a time if a later function contains
    `from_tensors`. Slices don't have that effect, and copy nothing.
    """
    rows = tf.nest.map_structure(lambda value: tf.convert_to_tensor(value)[tf.newaxis], element)
    return tf.data.Dataset.from_tensor_slices(rows)


def _zeros(specs: Any) -> Any:
    """Return zeros of these specs; unknown lengths are 0."""
    return tf.nest.map_structure(
        lambda spec: tf.zeros([length or 0 for length in spec.shape], spec.dtype), specs
    )
