"""Segmentation answers for whole images and for images in tiles.

Dimensions: B images, H and W the largest height and width among them, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from cvpipe.config import Segmentation
from cvpipe.data.prepare import prepare_tile, restore_rows
from cvpipe.fields import Field, pad_to
from cvpipe.geometry.masks import IGNORED
from cvpipe.geometry.tiles import fold_rows, join_row, tiles_along
from cvpipe.tasks.task import Tensors

MASK = Field(
    "pixels",
    padding=IGNORED,
    meaning="[B, H, W]: class number of every pixel; 255 beyond the edges of a smaller image",
)
"""Field of label masks."""
STRIP = 256
"""Number of rows processed at once, which bounds memory."""
Network = Callable[[tf.Tensor], Tensors]


def answer(
    outputs: dict[str, tf.Tensor],
    config: Segmentation,
    class_names: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        outputs: raw outputs of the network.
        config: the pipeline.
        class_names: names of the K classes.
        extent: int32 [B, 2], height and width of the original images; None for the size of the
            network's input.

    Returns:
        "mask" uint8 [B, H, W], the most probable class of each pixel of the original images, 255
        beyond the edges of smaller images; "image_size" int32 [B, 2]; "class_names" string [B, K];
        "shares" float32 [B, K], fraction of the pixels of each class; "mean_probabilities" float32
        [B, K], mean probability of each class over the pixels.
    """
    logits = outputs["logits"]
    if extent is None:
        size = tf.tile([config.prepare.size], [tf.shape(logits)[0], 1])
        masks, sums = _finish(tf.nn.softmax(tf.image.resize(logits, config.prepare.size)))
        # Convert to float32, because LiteRT can't divide in float64. For an image of the network's
        # size, float32 counts pixels exactly.
        sums = {name: tf.cast(total, tf.float32) for name, total in sums.items()}
        return _answers(masks, sums, size, class_names)
    # An unreadable image has no pixels, but layers need at least one.
    extent = tf.maximum(extent, 1)
    room = tf.reduce_max(extent, 0)

    def answer_one(one: tuple[tf.Tensor, tf.Tensor]) -> Any:
        values, size = one
        rows = min(STRIP, config.prepare.size[0])
        mask, sums = fold_rows(
            lambda number: tf.nn.softmax(
                restore_rows(values, size, number * rows, rows, config.prepare)
            ),
            size,
            len(class_names),
            rows,
            0,
            _finish,
        )
        return pad_to(mask, room, MASK), sums

    masks, sums = tf.map_fn(
        answer_one,
        (logits, extent),
        parallel_iterations=1,
        fn_output_signature=_signature(class_names),
    )
    return _answers(masks, sums, extent, class_names)


def answer_in_tiles(
    network: Network,
    images: tf.Tensor,
    config: Segmentation,
    class_names: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return the answers for images of any size, if `prepare.resize` is "tile".

    Args:
        network: maps prepared images, float32 [1, …], to raw outputs.
        images: uint8 [B, H, W, C], padded at the right and bottom.
        config: the pipeline.
        class_names: names of the K classes.
        extent: int32 [B, 2], height and width of each image without padding; None if there is no
            padding.

    Returns:
        The same as `answer`.
    """
    if extent is None:
        extent = tf.tile(tf.shape(images)[tf.newaxis, 1:3], [tf.shape(images)[0], 1])
    extent = tf.maximum(extent, 1)
    (height, width), overlap = config.prepare.size, config.prepare.overlap

    def answer_one(one: tuple[tf.Tensor, tf.Tensor]) -> Any:
        image, size = one
        image = image[: size[0], : size[1]]

        def tile(corner: tf.Tensor) -> tf.Tensor:
            logits = network(prepare_tile(image, corner, config.prepare)[tf.newaxis])["logits"]
            return tf.nn.softmax(tf.image.resize(logits, config.prepare.size))[0]

        def row(number: tf.Tensor) -> tf.Tensor:
            left = tf.range(tiles_along(size[1], width, overlap)) * (width - overlap)
            corners = tf.stack([tf.fill(tf.shape(left), number * (height - overlap)), left], 1)
            spec = tf.TensorSpec([height, width, len(class_names)])
            return join_row(
                tf.map_fn(tile, corners, parallel_iterations=1, fn_output_signature=spec), overlap
            )

        mask, sums = fold_rows(row, size, len(class_names), height, overlap, _finish)
        return pad_to(mask, tf.shape(images)[1:3], MASK), sums

    if images.shape[0] == 1:
        # map_fn would copy the image, which may be very large.
        masks, sums = tf.nest.map_structure(
            lambda only: only[tf.newaxis], answer_one((images[0], extent[0]))
        )
    else:
        masks, sums = tf.map_fn(
            answer_one,
            (images, extent),
            parallel_iterations=1,
            fn_output_signature=_signature(class_names),
        )
    return _answers(masks, sums, extent, class_names)


def _finish(probabilities: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Return the best class of each pixel, uint8 [..., rows, W], and the pixel count and summed
    probability of each class, float64 [..., K].

    `probabilities` are [..., rows, W, K].
    """
    best = tf.argmax(probabilities, -1, output_type=tf.int32)
    pixels = [
        tf.math.count_nonzero(best == label, [-2, -1]) for label in range(probabilities.shape[-1])
    ]
    # Sum a strip in float32, and an image in float64: float32 can't count a hundred million pixels.
    sums = {"pixels": tf.stack(pixels, -1), "probability": tf.reduce_sum(probabilities, [-3, -2])}
    return tf.cast(best, tf.uint8), tf.nest.map_structure(
        lambda total: tf.cast(total, tf.float64), sums
    )


def _signature(class_names: tuple[str, ...]) -> Any:
    total = tf.TensorSpec([len(class_names)], tf.float64)
    return tf.TensorSpec([None, None], tf.uint8), {"pixels": total, "probability": total}


def _answers(
    masks: tf.Tensor, sums: Mapping[str, tf.Tensor], extent: tf.Tensor, class_names: tuple[str, ...]
) -> dict[str, tf.Tensor]:
    pixels = tf.maximum(tf.reduce_prod(extent, 1, keepdims=True), 1)
    pixels = tf.cast(pixels, sums["pixels"].dtype)
    return {
        "mask": masks,
        "image_size": extent,
        "class_names": tf.tile([class_names], [tf.shape(extent)[0], 1]),
        "shares": tf.cast(sums["pixels"] / pixels, tf.float32),
        "mean_probabilities": tf.cast(sums["probability"] / pixels, tf.float32),
    }
