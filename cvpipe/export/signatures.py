"""What an artefact can be asked: images as bytes, or prepared tensors.

Decoding happens before batching, so one bad image is one answer.

Where the task lets whoever asks choose `settings`, they are inputs that may be left out.

Dimensions: B images, H, W, C of the network's input, V views of an image where `prepare_views`
gives several.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from cvpipe.config import Config, Segmentation
from cvpipe.data.attempt import attempt
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import input_spec, prepare_views
from cvpipe.evaluation import Predict
from cvpipe.export.pictures import png_files
from cvpipe.geometry.masks import pad_to_room

Answers = dict[str, tf.Tensor]
Settings = Mapping[str, float | int]


def bytes_signature(predict: Predict, config: Config, settings: Settings) -> Callable[..., Answers]:
    """`serving_default`: "image_bytes" string [B], encoded images of any size, to the task's
    answers.

    "valid" bool [B] is False where an image couldn't be decoded; that answer is then the one for an
    all-zero input and means nothing.
    """

    def serve(image_bytes: tf.Tensor, *chosen: tf.Tensor) -> Answers:
        # TensorFlow's convolutions on CPUs get the shapes of an empty batch wrong, and say so in
        # riddles.
        some = tf.debugging.Assert(tf.shape(image_bytes)[0] > 0, ["send at least one image"])
        with tf.control_dependencies([some]):
            image_bytes = tf.identity(image_bytes)
        if not prepared.shape[1:].is_fully_defined():
            return one_by_one(answer, image_bytes)
        (image, extent), valid = tf.map_fn(
            lambda encoded: attempt(load, encoded),
            image_bytes,
            fn_output_signature=(
                (tf.TensorSpec(prepared.shape[1:]), tf.TensorSpec([2], tf.int32)),
                tf.TensorSpec([], tf.bool),
            ),
        )
        answers = {
            **predict(image, extent, **dict(zip(settings, chosen, strict=True))),
            "valid": valid,
        }
        if not pictures:
            return answers
        files = {f"{kind}_bytes": tf.TensorSpec([], tf.string) for kind in pictures}
        return answers | tf.map_fn(draw, (image_bytes, answers["mask"]), fn_output_signature=files)

    prepared = input_spec(config)
    pictures = config.export.png if isinstance(config, Segmentation) else ()

    def answer(encoded: tf.Tensor) -> Answers:
        (image, extent), valid = attempt(load, encoded)
        answers = predict(image[tf.newaxis], extent[tf.newaxis])
        files = png_files(image, answers["mask"][0], pictures)
        return {
            **answers,
            **tf.nest.map_structure(lambda file: file[tf.newaxis], files),
            "valid": valid[tf.newaxis],
        }

    def draw(one: tuple[tf.Tensor, ...]) -> Answers:
        encoded, mask = one
        # Decoded once more: of the first time only what the network sees is left.
        pixels, _ = attempt(lambda encoded: decode_image(encoded, config.prepare.channels), encoded)
        return png_files(pixels, mask, pictures)

    def load(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        decoded = decode_image(encoded, config.prepare.channels)
        return prepare_views(decoded, config), tf.shape(decoded)[:2]

    return _with_settings(serve, "image_bytes", settings)


def tensor_signature(predict: Predict, settings: Settings) -> Callable[..., Answers]:
    """`tensor`: "image" as `input_spec` describes it, decoded and prepared, to the answers; nothing
    in it needs a host.

    Places in the answers are in the pixels of these images.
    """

    def serve(image: tf.Tensor, *chosen: tf.Tensor) -> Answers:
        return dict(predict(image, **dict(zip(settings, chosen, strict=True))))

    return _with_settings(serve, "image", settings)


def settings_specs(settings: Settings) -> list[tf.TensorSpec]:
    """What a signature takes besides images: a scalar for each setting."""
    return [
        tf.TensorSpec([], tf.constant(default).dtype, name) for name, default in settings.items()
    ]


def one_by_one(answer: Callable[[tf.Tensor], Answers], image_bytes: tf.Tensor) -> Answers:
    """Answers to images string [B], with one image in memory at a time; where they differ in size,
    smaller ones are padded with IGNORED.

    Args:
        answer: from one image's bytes, a scalar, to its answers, each [1, …], of known rank.
    """
    count, known = (
        tf.shape(image_bytes)[0],
        tf.function(answer, autograph=False).get_concrete_function(tf.TensorSpec([], tf.string)),
    )
    specs = known.structured_outputs
    answers = {
        name: tf.TensorArray(spec.dtype, count, infer_shape=False, element_shape=spec.shape[1:])
        for name, spec in specs.items()
    }
    rooms = {name: tf.zeros([spec.shape.rank - 1], tf.int32) for name, spec in specs.items()}

    def add(
        number: tf.Tensor, answers: dict[str, tf.TensorArray], rooms: Answers
    ) -> tuple[Any, ...]:
        given = {name: value[0] for name, value in known(image_bytes[number]).items()}
        larger = {name: tf.maximum(room, tf.shape(given[name])) for name, room in rooms.items()}
        return (
            number + 1,
            {name: several.write(number, given[name]) for name, several in answers.items()},
            larger,
        )

    _, answers, rooms = tf.while_loop(
        lambda number, *_: number < count,
        add,
        (tf.constant(0), answers, rooms),
        parallel_iterations=1,
    )

    def padded(name: str, number: tf.Tensor) -> tf.Tensor:
        value = answers[name].read(number)
        return (
            value if specs[name].shape[1:].is_fully_defined() else pad_to_room(value, rooms[name])
        )

    def gathered(number: tf.Tensor) -> Answers:
        return {name: padded(name, number) for name in answers}

    signature = {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in specs.items()}
    return tf.map_fn(
        gathered, tf.range(count), fn_output_signature=signature, parallel_iterations=1
    )


def _with_settings(
    serve: Callable[..., Answers], images: str, settings: Settings
) -> Callable[..., Answers]:
    """`serve` with named parameters that have defaults, from which TensorFlow makes those of the
    signature.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [
        inspect.Parameter(name, kind, default=tf.constant(default))
        for name, default in settings.items()
    ]
    serve.__signature__ = inspect.Signature([inspect.Parameter(images, kind), *named])  # type: ignore[attr-defined]
    return serve
