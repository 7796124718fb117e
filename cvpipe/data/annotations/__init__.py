"""Kinds of annotation, one per file. This module is the only one that lists them.

Its functions call every kind that an example has, so callers need not know the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from cvpipe.data.annotations.annotation import Annotation
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.frame import KEYS, annotation_orientation, frame_check
from cvpipe.data.annotations.keypoints import Keypoints
from cvpipe.data.annotations.label import Label
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.example import Example

KINDS: tuple[type[Annotation], ...] = (Label, Boxes, Mask, Keypoints)


def kinds_of(example: Example) -> list[type[Annotation]]:
    """Return the kinds of annotation that an example has."""
    return [kind for kind in KINDS if kind.is_in(example)]


def placed_kinds(example: Example) -> list[type[Annotation]]:
    """Return the kinds of an example's annotations that move with its image."""
    return [kind for kind in kinds_of(example) if kind.placed]


def upright(example: Example, extent: Callable[[], tf.Tensor]) -> Example:
    """Rotate annotations of a stored image as decoding rotates the image. Graph code.

    Args:
        example: as its source reads it.
        extent: returns height and width of the upright image, int32 [2]; called only if annotations
            have positions in the image.
    """
    turned = {key: value for key, value in example.items() if key not in KEYS}
    placed = placed_kinds(example)
    if not placed:
        return turned
    size = extent()
    orientation = annotation_orientation(example, size)
    for kind in placed:
        turned |= kind.upright(example, orientation, size)
    return turned


def image_checks(
    example: Example, image: Callable[[], tf.Tensor], extent: Callable[[], tf.Tensor]
) -> list[tf.Operation]:
    """Return assertions that an example's annotations fit its image. Graph code.

    Args:
        example: as its source reads it.
        image: returns the upright image, uint8 [H, W, C]; called only if a kind needs it.
        extent: returns height and width of the upright image, int32 [2]; called only if the
            annotations state a size.
    """
    checks = [check for kind in kinds_of(example) for check in kind.image_checks(example, image)]
    if "frame_size" in example:
        checks.append(frame_check(example, extent()))
    return checks


def checked(example: Example, image: tf.Tensor) -> tf.Tensor:
    """Return the image; fail if an annotation doesn't fit it. Graph code."""
    checks = image_checks(example, lambda: image, lambda: tf.shape(image)[:2])
    if not checks:
        return image
    with tf.control_dependencies(checks):
        return tf.identity(image)


def measure(example: Example) -> Example:
    """Return the tensors, of fixed shapes, that `cvpipe data check` counts for an example. Graph
    code.
    """
    measured: Example = {}
    for kind in kinds_of(example):
        measured |= kind.measure(example)
    return measured


def keep_objects(example: Example, wanted: tf.Tensor) -> Example:
    """Return the example with the objects for which `wanted`, bool [n], is True. Graph code."""
    columns = {key for kind in KINDS for key in kind.per_object}
    return {
        key: tf.boolean_mask(value, wanted) if key in columns else value
        for key, value in example.items()
    }


def join_objects(examples: Sequence[Example]) -> Example:
    """Return only the objects of several examples, concatenated in order."""
    columns = [key for kind in KINDS for key in kind.per_object if key in examples[0]]
    return {key: tf.concat([example[key] for example in examples], 0) for key in columns}
