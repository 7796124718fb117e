"""Masks from the outputs of a segmenter: of whole images, and of images in tiles.

Dimensions: B images, H, W the largest height and width among them, K classes.
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

MASK = Field(
    "pixels",
    padding=IGNORED,
    meaning="[B, H, W]: class number of every pixel; 255 beyond the edges of a smaller image",
)
"""A label mask."""
STRIP = 256
"""Rows of an image that are answered at once: what bounds memory."""
Network = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


def answer(
    outputs: dict[str, tf.Tensor],
    config: Segmentation,
    class_names: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        extent: int32 [B, 2], height and width of the images before they were resized; None: those
            of the network's input.

    Returns:
        "mask" uint8 [B, H, W], the most probable class of each pixel of those images, and 255
        beyond a smaller one's edges;
        "image_size" int32 [B, 2]; "class_names" string [B, K]; "shares" float32 [B, K], each
        class's share of the image's pixels, and
        "mean_probabilities" float32 [B, K], its probability's mean over them.
    """
    logits = outputs["logits"]
    if extent is None:
        size = tf.tile([config.prepare.size], [tf.shape(logits)[0], 1])
        masks, sums = _finish(tf.nn.softmax(tf.image.resize(logits, config.prepare.size)))
        # Exact for so few pixels; LiteRT doesn't divide in float64.
        sums = {name: tf.cast(total, tf.float32) for name, total in sums.items()}
        return _answers(masks, sums, size, class_names)
    # An image that can't be read has no pixels; no layer can work with none.
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
    """Return the answers to images of any size, where `prepare.resize` is tile.

    Args:
        network: from prepared images, float32 [1, …], to its outputs.
        images: uint8 [B, H, W, C].
        extent: int32 [B, 2], how much of each, from its upper left corner, is image; None for all
            of it.

    Returns:
        As `answer` does.
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
        # A loop would copy the image, which may be most of the memory there is.
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
    """Of pixels [..., rows, W, K] the best class, uint8 [..., rows, W], and each class's pixels and
    probability, float64 [..., K].
    """
    best = tf.argmax(probabilities, -1, output_type=tf.int32)
    pixels = [
        tf.math.count_nonzero(best == label, [-2, -1]) for label in range(probabilities.shape[-1])
    ]
    # Sums of strips in float32, of whole images in float64: a hundred million pixels are more than
    # float32 can count.
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
