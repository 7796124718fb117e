"""Conversion of annotations from the upright to the stored photo, for formats whose coordinates
refer to the stored photo if the stated size fits both.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.data.annotated import Annotated
from cvpipe.data.annotations import placed_kinds
from cvpipe.data.annotations.frame import KEYS
from cvpipe.data.annotations.keypoints import mirror_order
from cvpipe.data.facts import Facts

# The inverse orientations: rotations by 90° are exchanged, the others are their own inverses.
_BACK = {6: 8, 8: 6}
# The first of the orientations that swap height and width.
_FIRST_ON_ITS_SIDE = 5


def size_shows_rotation(image: Annotated) -> bool:
    """Return True if an image's size shows that its annotations refer to the upright photo."""
    height, width = image.size
    is_turned = image.orientation >= _FIRST_ON_ITS_SIDE and height != width
    return image.orientation == 1 or is_turned


def as_stored(image: Annotated, facts: Facts) -> Annotated:
    """Return an image with its annotations on the stored photo, which must have the same size."""
    annotations = image.annotations
    orientation = tf.constant(_BACK.get(image.orientation, image.orientation))
    example = {}
    if annotations.objects is not None:
        example["boxes"] = tf.constant(annotations.objects.boxes)
        if annotations.objects.keypoints is not None:
            order = mirror_order(len(facts.keypoint_names), facts.flip_pairs)
            example |= {
                "keypoints": tf.constant(annotations.objects.keypoints),
                "visibility": tf.constant(annotations.objects.visibility, tf.int32),
                "mirror_order": tf.constant(order, tf.int32),
            }
    if annotations.mask is not None:
        example["mask"] = tf.constant(annotations.mask[..., np.newaxis])
    # With an empty frame, masks are rotated and areas don't change.
    frame = dict(zip(KEYS, (tf.zeros([2], tf.int64), tf.constant(False)), strict=True))
    if annotations.objects is not None:
        frame["area"] = tf.constant(annotations.objects.area)
    turned = {
        name: value.numpy()
        for kind in placed_kinds(example)
        for name, value in kind.upright(
            {**frame, **example}, orientation, tf.constant(image.size)
        ).items()
    }
    objects, mask = annotations.objects, annotations.mask
    if objects is not None:
        places = {key: turned[key] for key in ("boxes", "keypoints", "visibility") if key in turned}
        objects = objects._replace(**places)
    if mask is not None:
        mask = turned["mask"][..., 0]
    return image._replace(annotations=annotations._replace(objects=objects, mask=mask))
