"""Guards that turn errors in a graph into data, so one bad element doesn't fail its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from cvpipe.data.graph import noinline_branch

# Number of elements that are loaded at once after an error.
PARALLEL = 8


def or_zeros(load: Callable[..., Any], *args: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Return (load(*args), True), or (zeros, False) if that raises a graph error.

    The zeros have the shapes and types of the result; unknown lengths are 0. Works in
    `Dataset.map` and in a SavedModel; `load` must return tensors of known rank. With op
    determinism, tf.data loads examples one at a time if their function contains this guard.
    `loaded_or_zeros` and `readable_or_zeros` have no such effect.
    """
    # TensorFlow can catch graph errors only inside a Dataset.
    specs = [tf.TensorSpec(arg.shape, arg.dtype) for arg in map(tf.convert_to_tensor, args)]
    function = _quickly_prepared(lambda *args: (load(*args), True), specs)
    tried = _mapped(_single(args), function)
    failed = _single((_zeros(tried.element_spec[0]), False))
    return tried.ignore_errors().concatenate(failed).take(1).get_single_element()


def each_or_zeros(load: Callable[[tf.Tensor], Any], batch: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Map `load` over a batch in parallel; elements with a graph error give zeros.

    All elements share one guard. If it catches an error, the elements are loaded again in a
    dataset.

    Args:
        load: maps an element to tensors of fully known shapes. Must be stateless.
        batch: [B].

    Returns:
        The stacked results, [B, …] each, and bool [B]: False for failed elements.
    """
    element = tf.TensorSpec(batch.shape[1:], batch.dtype)
    function = _quickly_prepared(load, [element])
    specs = function.structured_outputs
    results, all_loaded = or_zeros(lambda batch: _each(function, batch), batch)
    return tf.cond(
        all_loaded,
        lambda: (results, tf.ones_like(batch, tf.bool)),
        noinline_branch(lambda: _survivors(load, batch, specs)),
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
    """Return the result of `each_or_zeros`, with one error per element."""
    count = tf.shape(batch, tf.int64)[0]
    elements = tf.data.Dataset.from_tensor_slices((tf.range(count), batch))
    numbered = _quickly_prepared(
        lambda number, element: (number, load(element)), elements.element_spec
    )
    loaded = _mapped(elements, numbered, PARALLEL).ignore_errors()
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


def _quickly_prepared(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> Any:
    """Trace a function that TensorFlow prepares quickly, as a ConcreteFunction.

    TensorFlow prepares the function of a dataset again for each dataset: in a SavedModel, for each
    batch. By default it chooses a device for every operation, which takes 0.7 ms for
    `decode_image`, longer than decoding a small image. A function with this attribute runs on the
    dataset's device, and is prepared in 0.1 ms. Its loops run one iteration at a time.
    """
    return tf.function(
        function,
        input_signature=specs,
        autograph=False,
        experimental_attributes={"experimental_ints_on_device": True},
    ).get_concrete_function()


def _mapped(elements: tf.data.Dataset, function: Any, parallel: int = 1) -> tf.data.Dataset:
    """Map a ConcreteFunction over a dataset, in order.

    `Dataset.map` would wrap it in a function without its attributes.
    """
    outputs = function.structured_outputs
    flat = tf.nest.flatten(outputs)
    given = {
        "input_dataset": tf.data.experimental.to_variant(elements),
        "other_arguments": function.captured_inputs,
        "f": function,
        "output_types": [output.dtype for output in flat],
        "output_shapes": [output.shape for output in flat],
        "preserve_cardinality": True,
    }
    if parallel == 1:
        mapped = tf.raw_ops.MapDataset(**given)
    else:
        calls = tf.constant(parallel, tf.int64)
        mapped = tf.raw_ops.ParallelMapDatasetV2(
            **given, num_parallel_calls=calls, deterministic="true"
        )
    specs = tf.nest.map_structure(lambda output: tf.TensorSpec(output.shape, output.dtype), outputs)
    return tf.data.experimental.from_variant(mapped, specs)


def _each(function: Any, batch: tf.Tensor) -> Any:
    """Map a stateless ConcreteFunction over a batch, in parallel.

    Unlike `tf.map_fn`, this has no loop, whose iterations would run one at a time (see
    `_quickly_prepared`). Each thread finishes an element before it begins the next, which limits
    memory.
    """
    outputs = function.structured_outputs
    flat = tf.nest.flatten(outputs)
    stacked = tf.raw_ops.MapDefun(
        arguments=[batch],
        captured_inputs=function.captured_inputs,
        output_types=[output.dtype for output in flat],
        output_shapes=[output.shape for output in flat],
        f=function,
    )
    return tf.nest.pack_sequence_as(outputs, stacked)


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
