"""What becomes of objects when their image changes its shape.

An example of a detector has "boxes" float32 [n, 4] (ymin, xmin, ymax, xmax as fractions of the
image as it is), and with them "labels" int32 [n], "crowd" bool [n] and whatever else the source
says of each object, such as "area", which stays that of the stored image.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.data.sources import Example
from cvpipe.data.sources.objects import COLUMNS
from cvpipe.geometry.boxes import area

# An object of which less of its area stays visible is no longer one to find.
LEAST_VISIBLE = 0.25


def with_boxes(example: Example, boxes: tf.Tensor) -> Example:
    """The example with its objects at other places.

    Boxes are clipped to the image; objects of which less than LEAST_VISIBLE of their area is inside
    are left out.

    Args:
        example: with "boxes" and what belongs to them; "image" may be anything.
        boxes: float32 [n, 4], fractions of the image as it will be; may reach out of it.
    """
    clipped = tf.clip_by_value(boxes, 0, 1)
    seen = area(clipped)
    return keep({**example, "boxes": clipped}, (seen > 0) & (seen >= LEAST_VISIBLE * area(boxes)))


def moved(example: Example, scale: tf.Tensor, offset: tf.Tensor) -> Example:
    """`with_boxes` for what was scaled and moved, float32 [2] each, down and across; an example
    without boxes is left alone.
    """
    if "boxes" not in example:
        return example
    scale, offset = tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)
    return with_boxes(example, example["boxes"] * tf.tile(scale, [2]) + tf.tile(offset, [2]))


def mirrored(example: Example, axis: int, applied: tf.Tensor) -> Example:
    """The objects of an image that was mirrored top and bottom (axis 0) or left and right (axis 1),
    if that was `applied`, bool.
    """
    if "boxes" not in example:
        return example
    sides = tf.unstack(example["boxes"], axis=-1)
    sides[axis], sides[axis + 2] = 1 - sides[axis + 2], 1 - sides[axis]
    return {**example, "boxes": tf.where(applied, tf.stack(sides, -1), example["boxes"])}


def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor) -> Example:
    """The objects of an image that went through an affine transform, float32 [8], from output to
    input, see `warp`.

    A box becomes the smallest that holds its four corners. What a mirrored border repeats of an
    object is no object.
    """
    if "boxes" not in example:
        return example
    extent = tf.cast(extent, tf.float32)
    (a0, a1, a2), (b0, b1, b2) = tf.unstack(transform[:3]), tf.unstack(transform[3:6])
    ymin, xmin, ymax, xmax = tf.unstack(example["boxes"], axis=-1)
    # The first pixel's centre, not its edge, is at 0 there.
    x = tf.stack([xmin, xmax, xmin, xmax]) * extent[1] - 0.5 - a2
    y = tf.stack([ymin, ymin, ymax, ymax]) * extent[0] - 0.5 - b2
    determinant = a0 * b1 - a1 * b0
    x, y = (b1 * x - a1 * y) / determinant, (a0 * y - b0 * x) / determinant
    low, high = (
        [tf.reduce_min(y, 0), tf.reduce_min(x, 0)],
        [tf.reduce_max(y, 0), tf.reduce_max(x, 0)],
    )
    return with_boxes(example, (tf.stack(low + high, -1) + 0.5) / tf.tile(extent, [2]))


def keep(example: Example, wanted: tf.Tensor) -> Example:
    """The objects for which `wanted`, bool [n], is True; the image stays."""
    return {
        key: tf.boolean_mask(value, wanted) if key in COLUMNS else value
        for key, value in example.items()
    }


def together(examples: list[Example]) -> Example:
    """The objects of several examples, one example after the other, and nothing else."""
    return {
        key: tf.concat([example[key] for example in examples], 0)
        for key in COLUMNS
        if key in examples[0]
    }
