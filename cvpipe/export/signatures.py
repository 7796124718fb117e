"""What an artefact can be asked: images as bytes, or prepared tensors. Decoding happens before batching, so one bad image is one answer.

Dimensions: B images, H, W, C of the network's input, V views of an image where `prepare_views` gives several.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.attempt import attempt
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import input_shape, prepare_views
from cvpipe.evaluation import Predict

Answers = dict[str, tf.Tensor]


def bytes_signature(predict: Predict, config: Config) -> Callable[[tf.Tensor], Answers]:
    """`serving_default`: "image_bytes" string [B], encoded images of any size, to the task's answers.

    "valid" bool [B] is False where an image couldn't be decoded; that answer is then the one for an all-zero input and means nothing.
    """

    def serve(image_bytes: tf.Tensor) -> Answers:
        # TensorFlow's convolutions on CPUs get the shapes of an empty batch wrong, and say so in riddles.
        some = tf.debugging.Assert(tf.shape(image_bytes)[0] > 0, ["send at least one image"])
        with tf.control_dependencies([some]):
            image_bytes = tf.identity(image_bytes)
        image, valid = tf.map_fn(
            lambda encoded: attempt(lambda one: prepare_views(decode_image(one, config.prepare.channels), config), encoded),
            image_bytes,
            fn_output_signature=(tf.TensorSpec(input_shape(config)), tf.TensorSpec([], tf.bool)),
        )
        return {**predict(image), "valid": valid}

    return serve


def tensor_signature(predict: Predict) -> Callable[[tf.Tensor], Answers]:
    """`tensor`: "image" float32 [B, H, W, C] or [B, V, H, W, C], decoded and prepared, to the answers; nothing in it needs a host."""

    def serve(image: tf.Tensor) -> Answers:
        return dict(predict(image))

    return serve
