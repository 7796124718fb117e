"""Signatures for encoded images and for prepared images.

Each image is decoded separately, so a bad image does not affect the others. A task's options are
optional inputs.

Dimensions: B images; H, W and C of the network's input; V views of an image if `prepare_views`
returns several.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.decode import decode_image
from cvpipe.data.guard import each_or_zeros, or_zeros
from cvpipe.data.prepare import input_spec, prepare_views
from cvpipe.evaluation import Predict
from cvpipe.export.about import VALID
from cvpipe.export.explained import EXPLAIN
from cvpipe.fields import Field, pad_to
from cvpipe.tasks.task import Option, Task

Answers = dict[str, tf.Tensor]
Options = Mapping[str, Option]


def image_signatures(
    predict: Predict, task: Task, config: Config, explained: Predict | None = None
) -> dict[str, tuple[Callable[..., Answers], list[tf.TensorSpec]]]:
    """Return the signatures by name, each with the specs of its inputs.

    `serving_default` maps "image_bytes", string [B], encoded images of any size, to the task's
    answers. `VALID`, bool [B], is False for images that couldn't be decoded; for these, the other
    answers are those for an all-zero input and have no meaning.

    `tensor` maps "image", prepared images as in `input_spec`, to the answers, with coordinates in
    pixels of these images. The whole signature can run on an accelerator.

    `EXPLAIN` takes the inputs of `serving_default` and returns the answers of `explained`. Without
    `explained`, this signature is missing.
    """
    chosen = [
        tf.TensorSpec([], tf.constant(option.default).dtype, name)
        for name, option in task.options.items()
    ]
    encoded = [tf.TensorSpec([None], tf.string, "image_bytes"), *chosen]
    signatures = {
        "serving_default": (bytes_signature(predict, task, config), encoded),
        "tensor": (tensor_signature(predict, task.options), [input_spec(config), *chosen]),
    }
    if explained:
        signatures[EXPLAIN] = (bytes_signature(explained, task, config), encoded)
    return signatures


def bytes_signature(predict: Predict, task: Task, config: Config) -> Callable[..., Answers]:
    """Return the function of a signature that takes encoded images."""
    prepared, decorate = input_spec(config), task.decorate
    fixed_size = prepared.shape[1:].is_fully_defined()

    def load(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        decoded = decode_image(encoded, config.prepare.channels)
        return prepare_views(decoded, config), tf.shape(decoded)[:2]

    def answer_one(encoded: tf.Tensor, chosen: Mapping[str, tf.Tensor]) -> Answers:
        # Images that keep their size are processed one at a time to bound memory.
        (image, extent), valid = or_zeros(load, encoded)
        answers = predict(image[tf.newaxis], extent[tf.newaxis], **chosen)
        answers = {name: value[0] for name, value in answers.items()}
        added = decorate(image, answers) if decorate else {}
        return {**answers, **added, VALID: valid}

    def decorate_one(pair: tuple[tf.Tensor, Answers]) -> Answers:
        encoded, answers = pair
        # Decode again, because only the prepared image was kept.
        pixels, _ = or_zeros(
            lambda encoded: decode_image(encoded, config.prepare.channels), encoded
        )
        assert decorate is not None
        return decorate(pixels, answers)

    def serve(image_bytes: tf.Tensor, *chosen: tf.Tensor) -> Answers:
        # TensorFlow's CPU convolutions fail on empty batches with an obscure error.
        not_empty = tf.debugging.Assert(tf.shape(image_bytes)[0] > 0, ["send at least one image"])
        with tf.control_dependencies([not_empty]):
            image_bytes = tf.identity(image_bytes)
        named = dict(zip(task.options, chosen, strict=True))
        if not fixed_size:
            return one_by_one(lambda content: answer_one(content, named), image_bytes, task.answers)
        (image, extent), valid = each_or_zeros(load, image_bytes)
        answers = {**predict(image, extent, **named)}
        if decorate:
            specs = (tf.TensorSpec([], tf.string), _specs_of_one(answers))
            traced = tf.function(lambda *specs: decorate_one(specs), autograph=False)
            added = traced.get_concrete_function(*specs).structured_outputs
            signature = {
                name: tf.TensorSpec(value.shape, value.dtype) for name, value in added.items()
            }
            answers |= tf.map_fn(
                decorate_one, (image_bytes, dict(answers)), fn_output_signature=signature
            )
        return {**answers, VALID: valid}

    return _with_options(serve, "image_bytes", task.options)


def tensor_signature(predict: Predict, options: Options) -> Callable[..., Answers]:
    """Return the function of `tensor`."""

    def serve(image: tf.Tensor, *chosen: tf.Tensor) -> Answers:
        return dict(predict(image, **dict(zip(options, chosen, strict=True))))

    return _with_options(serve, "image", options)


def one_by_one(
    answer: Callable[[tf.Tensor], Answers], image_bytes: tf.Tensor, fields: Mapping[str, Field]
) -> Answers:
    """Compute the answers for encoded images, string [B], with one image in memory at a time.
    Answers that differ in size are padded by their fields.

    Args:
        answer: maps the bytes of one image, a scalar, to its answers of traced rank.
    """
    count, traced = (
        tf.shape(image_bytes)[0],
        tf.function(answer, autograph=False).get_concrete_function(tf.TensorSpec([], tf.string)),
    )
    specs = traced.structured_outputs
    answers = {
        name: tf.TensorArray(spec.dtype, count, infer_shape=False, element_shape=spec.shape)
        for name, spec in specs.items()
    }
    largest = {name: tf.zeros([spec.shape.rank], tf.int32) for name, spec in specs.items()}

    def add(
        number: tf.Tensor, answers: dict[str, tf.TensorArray], largest: Answers
    ) -> tuple[Any, ...]:
        given = traced(image_bytes[number])
        larger = {name: tf.maximum(shape, tf.shape(given[name])) for name, shape in largest.items()}
        return (
            number + 1,
            {name: array.write(number, given[name]) for name, array in answers.items()},
            larger,
        )

    _, answers, largest = tf.while_loop(
        lambda number, *_: number < count,
        add,
        (tf.constant(0), answers, largest),
        parallel_iterations=1,
    )

    def padded(name: str, number: tf.Tensor) -> tf.Tensor:
        value = answers[name].read(number)
        if specs[name].shape.is_fully_defined():
            return value
        return pad_to(value, largest[name], fields[name])

    def gathered(number: tf.Tensor) -> Answers:
        return {name: padded(name, number) for name in answers}

    signature = {name: tf.TensorSpec(spec.shape, spec.dtype) for name, spec in specs.items()}
    return tf.map_fn(
        gathered, tf.range(count), fn_output_signature=signature, parallel_iterations=1
    )


def _specs_of_one(answers: Mapping[str, tf.Tensor]) -> dict[str, tf.TensorSpec]:
    """Return the specs of the answers for one image of a batch."""
    return {name: tf.TensorSpec(value.shape[1:], value.dtype) for name, value in answers.items()}


def _with_options(
    serve: Callable[..., Answers], images: str, options: Options
) -> Callable[..., Answers]:
    """Give `serve` a Python signature with named options and defaults, from which TensorFlow
    derives the default values of the SavedModel's signature.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [
        inspect.Parameter(name, kind, default=tf.constant(option.default))
        for name, option in options.items()
    ]
    serve.__signature__ = inspect.Signature([inspect.Parameter(images, kind), *named])  # type: ignore[attr-defined]
    return serve
