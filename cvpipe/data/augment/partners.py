"""Operations that join several training examples and their objects.

Each example has an "image" uint8 or float32 [H, W, C] in 0…255, with the same number of channels,
and the annotations of its n objects. Other tensors are those of the first example.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvpipe.data.annotations import join_objects, keep_objects
from cvpipe.data.annotations.boxes import LEAST_VISIBLE
from cvpipe.data.augment.mix import beta
from cvpipe.data.augment.moves import moved
from cvpipe.data.example import Example
from cvpipe.geometry.boxes import area
from cvpipe.geometry.pixels import resize_and_place

# Range of a mosaic's center, in shares of height and width.
CENTER = (0.3, 0.7)


def mosaic(examples: Sequence[Example], seed: tf.Tensor, size: tuple[int, int]) -> Example:
    """Join four images around a random center (Bochkovskiy et al. 2020, section 3.3).

    Each image is resized, with its aspect ratio kept, to cover its quarter, and cropped so that one
    of its corners is at the center. Objects with less than a quarter of their area visible are
    dropped.

    Args:
        examples: the four examples, in the order top left, top right, bottom left, bottom right.
        size: height and width of the mosaic.

    Returns:
        The first example with "image" float32 [*size, C] and the objects of all four.
    """
    low, high = CENTER
    shares = tf.random.stateless_uniform([2], seed, low, high, tf.float64)
    center = tf.cast(tf.round(shares * tf.constant(size, tf.float64)), tf.int32)
    quarters = []
    for number, example in enumerate(examples):
        is_far = tf.constant([number // 2, number % 2])
        quarters.append(_quarter(example, center, is_far, size))
    images = [quarter["image"] for quarter in quarters]
    rows = [tf.concat(images[:2], 1), tf.concat(images[2:], 1)]
    image = tf.ensure_shape(tf.concat(rows, 0), [*size, examples[0]["image"].shape[-1]])
    return {**examples[0], **join_objects(quarters), "image": image}


def copy_paste(example: Example, partner: Example, seed: tf.Tensor, share: float = 0.5) -> Example:
    """Paste the boxes of the partner's objects, each with the probability `share` (after Ghiasi et
    al. 2020).

    The partner is stretched to the image's size; its objects keep their relative positions. Crowds
    aren't pasted. Objects of the image with less than a quarter of their area visible afterwards
    are dropped.

    Returns:
        The example, its objects followed by the pasted ones; "image" keeps its type.
    """
    image = example["image"]
    height, width = tf.unstack(tf.shape(image)[:2])
    draws = tf.random.stateless_uniform([tf.shape(partner["boxes"])[0]], seed)
    pasted = keep_objects(partner, (draws < share) & ~partner["crowd"])
    cover = _covered(pasted["boxes"], height, width)
    stretched = tf.image.resize(partner["image"], [height, width])
    stretched = tf.cast(tf.round(stretched), image.dtype) if image.dtype.is_integer else stretched
    mixed = tf.where(cover[..., tf.newaxis], stretched, image)
    seen = 1 - _share_covered(cover, example["boxes"])
    return {
        **example,
        **join_objects([keep_objects(example, seen >= LEAST_VISIBLE), pasted]),
        "image": tf.ensure_shape(mixed, image.shape),
    }


def object_mixup(
    example: Example, partner: Example, seed: tf.Tensor, alpha: float = 1.5
) -> Example:
    """Blend two images, both at the top left of a black canvas large enough for both, and keep all
    objects (Zhang et al. 2019, section 3.1).

    The weight of the example's pixels is drawn from Beta(alpha, alpha). Objects of both images have
    the same weight in the loss.

    Returns:
        The example with "image" float32, as high and wide as the larger of the two, and the objects
        of both.
    """
    share = tf.cast(beta(seed, alpha), tf.float32)
    extents = [tf.shape(each["image"])[:2] for each in (example, partner)]
    canvas = tf.maximum(*extents)
    padded = []
    for each, extent in zip((example, partner), extents, strict=True):
        below, right = tf.unstack(canvas - extent)
        image = tf.pad(tf.cast(each["image"], tf.float32), [[0, below], [0, right], [0, 0]])
        padded.append(moved(each, image, extent / canvas, tf.zeros([2])))
    image = share * padded[0]["image"] + (1 - share) * padded[1]["image"]
    return {
        **example,
        **join_objects(padded),
        "image": tf.ensure_shape(image, [None, None, example["image"].shape[-1]]),
    }


def _quarter(
    example: Example, center: tf.Tensor, is_far: tf.Tensor, size: tuple[int, int]
) -> Example:
    """Resize and crop an image to its quarter of a mosaic, with boxes in fractions of the mosaic.

    `is_far` is int32 [2]: the first number is 1 for the lower quarters, the second is 1 for the
    right quarters.
    """
    image = tf.cast(example["image"], tf.float32)
    extent = tf.cast(tf.shape(image)[:2], tf.float32)
    quarter = tf.where(is_far == 1, size - center, center)
    # The upper or left quarter ends at the center. The lower or right quarter begins there.
    resized = extent * tf.reduce_max(tf.cast(quarter, tf.float32) / extent)
    begin = tf.where(is_far == 1, 0.0, tf.cast(quarter, tf.float32) - resized)
    shown = tf.clip_by_value(resize_and_place(image, quarter, resized / extent, begin), 0, 255)
    quarter, corner = tf.cast(quarter, tf.float32), tf.cast(is_far * center, tf.float32)
    # Clip to the quarter first, because another image adjoins it.
    inside = moved(example, shown, resized / quarter, begin / quarter)
    scale, offset = quarter / size, corner / size
    boxes = inside["boxes"] * tf.tile(scale, [2]) + tf.tile(offset, [2])
    # The whole quarter is in the mosaic, so nothing is dropped or clipped again.
    return {**moved(inside, shown, scale, offset, drop=False), "boxes": boxes}


def _covered(boxes: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return a bool [height, width] mask of the pixels whose center is in any of the boxes."""
    ymin, xmin, ymax, xmax = (side[:, tf.newaxis] for side in tf.unstack(boxes, axis=-1))
    y = (tf.range(height, dtype=tf.float32) + 0.5) / tf.cast(height, tf.float32)
    x = (tf.range(width, dtype=tf.float32) + 0.5) / tf.cast(width, tf.float32)
    rows, columns = (y >= ymin) & (y < ymax), (x >= xmin) & (x < xmax)
    # A matrix product counts the boxes over each pixel without a mask per object.
    return tf.matmul(tf.cast(rows, tf.float32), tf.cast(columns, tf.float32), transpose_a=True) > 0


def _share_covered(cover: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return the covered fraction of each box's pixels: float32 [n] in [0, 1] for boxes [n, 4]; 0
    for a box that contains no pixel center.
    """
    sums = tf.pad(tf.cumsum(tf.cumsum(tf.cast(cover, tf.int32), 0), 1), [[1, 0], [1, 0]])
    extent = tf.cast(tf.shape(cover), tf.float32)
    edges = tf.cast(tf.round(boxes * tf.tile(extent, [2])), tf.int32)
    ymin, xmin, ymax, xmax = tf.unstack(edges, axis=-1)

    def at(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(sums, tf.stack([y, x], -1))

    covered = at(ymax, xmax) - at(ymin, xmax) - at(ymax, xmin) + at(ymin, xmin)
    return tf.math.divide_no_nan(tf.cast(covered, tf.float32), area(tf.cast(edges, tf.float32)))
