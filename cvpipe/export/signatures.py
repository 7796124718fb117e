"""What an artefact can be asked: images as bytes, or prepared tensors. Decoding happens before batching, so one bad image is one answer.

Where the task lets whoever asks choose `settings`, they are inputs that may be left out.

Dimensions: B images, H, W, C of the network's input, V views of an image where `prepare_views` gives several.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.attempt import attempt
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import input_shape, prepare_views
from cvpipe.evaluation import Predict

Answers = dict[str, tf.Tensor]
Settings = Mapping[str, float | int]


def bytes_signature(predict: Predict, config: Config, settings: Settings) -> Callable[..., Answers]:
    """`serving_default`: "image_bytes" string [B], encoded images of any size, to the task's answers.

    "valid" bool [B] is False where an image couldn't be decoded; that answer is then the one for an all-zero input and means nothing.
    """

    def serve(image_bytes: tf.Tensor, *chosen: tf.Tensor) -> Answers:
        # TensorFlow's convolutions on CPUs get the shapes of an empty batch wrong, and say so in riddles.
        some = tf.debugging.Assert(tf.shape(image_bytes)[0] > 0, ["send at least one image"])
        with tf.control_dependencies([some]):
            image_bytes = tf.identity(image_bytes)
        (image, extent), valid = tf.map_fn(
            lambda encoded: attempt(load, encoded),
            image_bytes,
            fn_output_signature=((tf.TensorSpec(input_shape(config)), tf.TensorSpec([2], tf.int32)), tf.TensorSpec([], tf.bool)),
        )
        return {**predict(image, extent, **dict(zip(settings, chosen))), "valid": valid}

    def load(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        decoded = decode_image(encoded, config.prepare.channels)
        return prepare_views(decoded, config), tf.shape(decoded)[:2]

    return _with_settings(serve, "image_bytes", settings)


def tensor_signature(predict: Predict, settings: Settings) -> Callable[..., Answers]:
    """`tensor`: "image" float32 [B, H, W, C] or [B, V, H, W, C], decoded and prepared, to the answers; nothing in it needs a host.

    Places in the answers are in the pixels of these images.
    """

    def serve(image: tf.Tensor, *chosen: tf.Tensor) -> Answers:
        return dict(predict(image, **dict(zip(settings, chosen))))

    return _with_settings(serve, "image", settings)


def settings_specs(settings: Settings) -> list[tf.TensorSpec]:
    """What a signature takes besides images: a scalar for each setting."""
    return [tf.TensorSpec([], tf.constant(default).dtype, name) for name, default in settings.items()]


def _with_settings(serve: Callable[..., Answers], images: str, settings: Settings) -> Callable[..., Answers]:
    """`serve` with named parameters that have defaults, from which TensorFlow makes those of the signature."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [inspect.Parameter(name, kind, default=tf.constant(default)) for name, default in settings.items()]
    serve.__signature__ = inspect.Signature([inspect.Parameter(images, kind), *named])  # type: ignore[attr-defined]
    return serve
