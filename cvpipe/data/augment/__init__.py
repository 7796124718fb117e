"""Random, stateless augmentation of training examples. Annotations move with the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.augment.color import ColorJitter, Cutout, Erase, Grayscale, PcaLighting
from cvpipe.config.augment.combined import CopyPaste, Mosaic, ObjectMixUp
from cvpipe.config.augment.crops import (
    BalancedScaleCrop,
    Expand,
    IouCrop,
    PadCrop,
    RandomResizedCrop,
    ScaleCrop,
    ScaleJitter,
    ShortSideCrop,
)
from cvpipe.config.augment.geometry import Elastic, Flip, Lens, Rotate, Shear, Translate
from cvpipe.config.augment.policies import AutoAugment, RandAugment
from cvpipe.data.augment.color import color_jitter, grayscale, pca_lighting
from cvpipe.data.augment.erase import cutout, erase
from cvpipe.data.augment.geometry import (
    elastic,
    flip,
    lens,
    pad_crop,
    random_resized_crop,
    rotate,
    shear,
    short_side_crop,
    translate,
)
from cvpipe.data.augment.partners import copy_paste, mosaic, object_mixup
from cvpipe.data.augment.policies import auto_augment, rand_augment
from cvpipe.data.augment.scale_crop import scale_crop
from cvpipe.data.augment.zoom import expand, iou_crop, scale_jitter
from cvpipe.data.example import Example
from cvpipe.data.graph import noinline_branch


class Surroundings(NamedTuple):
    """Inputs of operations other than the example."""

    size: tuple[int, int]
    """Height and width of the network's input."""
    colors: tuple[np.ndarray, np.ndarray] | None
    """Eigenvalues [C] and eigenvectors [C, C], in columns, of the training set's colors."""
    partner: Callable[[int], Example] | None
    """Reads another example, given its number 0, 1, …"""


Operation = Callable[[Example, tf.Tensor, Any, Surroundings], Example]
PARTNERS: dict[type, int] = {Mosaic: 3, CopyPaste: 1, ObjectMixUp: 1}
"""Number of other examples that an operation reads."""


def augment(
    example: Example,
    seed: tf.Tensor,
    ops: Sequence[Augmentation],
    size: tuple[int, int],
    colors: tuple[np.ndarray, np.ndarray] | None = None,
    done: int = 0,
    partner: Callable[[int], Example] | None = None,
) -> Example:
    """Apply the operations in order. Graph code.

    Args:
        example: "image" uint8 [H, W, C] and annotations, which move with it.
        seed: int64 [2] from `order.example_seed`; the same seed gives the same changes.
        ops: the pipeline file's list.
        size: height and width of the network's input, for operations that resize.
        colors: for pca_lighting, eigenvalues [C] and eigenvectors [C, C], in columns, of the
            covariance of the training set's colors, with pixels in 0…1.
        done: the number of operations at the start of the list that were applied already.
        partner: for operations that need other examples: graph code that reads another example by a
            number 0, 1, …, decoded and unaugmented. It is called only in the branch that uses it.

    Returns:
        The example; "image" is uint8 or float32 in 0…255.
    """
    around = Surroundings(size, colors, partner)
    for number, op in list(enumerate(ops))[done:]:
        example = OPERATIONS[type(op)](example, _seed_of(seed, number), op, around)
    return example


def most_partners(ops: Sequence[Augmentation]) -> int:
    """Return the largest number of partners that `augment` reads for an example."""
    return max((PARTNERS.get(type(op), 0) for op in ops), default=0)


def partners_read(seed: tf.Tensor, ops: Sequence[Augmentation]) -> tf.Tensor:
    """Return the number of partners that `augment` reads with this seed, int32 scalar. Partners are
    numbered from 0.
    """
    numbers = [
        tf.where(_is_applied(_seed_of(seed, number), op), PARTNERS[type(op)], 0)
        for number, op in enumerate(ops)
        if type(op) in PARTNERS
    ]
    return tf.reduce_max(tf.stack([0, *numbers]))


def _seed_of(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Return the seed of the operation with this number in the list."""
    return seed + tf.constant([0, number], tf.int64)


def _plain(operation: Callable[[Example, tf.Tensor, Any], Example]) -> Operation:
    return lambda example, seed, op, around: operation(example, seed, op)


def _sized(operation: Callable[[Example, tf.Tensor, Any, tuple[int, int]], Example]) -> Operation:
    return lambda example, seed, op, around: operation(example, seed, op, around.size)


def _lighting(example: Example, seed: tf.Tensor, op: PcaLighting, around: Surroundings) -> Example:
    assert around.colors is not None, "pca_lighting needs the colors of the training set"
    return pca_lighting(example, seed, op, *around.colors)


def _mosaic(example: Example, seed: tf.Tensor, op: Mosaic, around: Surroundings) -> Example:
    return mosaic([example, *(_partner(around, number) for number in range(3))], seed, around.size)


def _copy_paste(example: Example, seed: tf.Tensor, op: CopyPaste, around: Surroundings) -> Example:
    return copy_paste(example, _partner(around, 0), seed, op.share)


def _object_mixup(
    example: Example, seed: tf.Tensor, op: ObjectMixUp, around: Surroundings
) -> Example:
    return object_mixup(example, _partner(around, 0), seed, op.alpha)


def _partner(around: Surroundings, number: int) -> Example:
    assert around.partner is not None, "the operation needs other examples"
    return around.partner(number)


def _joining(operation: Operation) -> Operation:
    """Wrap an operation on several examples: apply it with its probability. "image" becomes
    float32.
    """

    def apply(example: Example, seed: tf.Tensor, op: Any, around: Surroundings) -> Example:
        is_applied, operation_seed = _is_applied(seed, op), tf.random.split(seed)[1]
        example = {**example, "image": tf.cast(example["image"], tf.float32)}

        def join() -> Example:
            joined = operation(example, operation_seed, op, around)
            # Both branches must return the same static shapes.
            shape = [None, None, example["image"].shape[-1]]
            return {**joined, "image": tf.ensure_shape(joined["image"], shape)}

        return tf.cond(is_applied, noinline_branch(join), lambda: example)

    return apply


def _is_applied(seed: tf.Tensor, op: Any) -> tf.Tensor:
    """Return True if an operation on several examples is applied with this seed."""
    # The decision and the operation need different seeds, because a seed always draws the same
    # numbers.
    return tf.random.stateless_uniform([], tf.random.split(seed)[0]) < op.probability


OPERATIONS: dict[type, Operation] = {
    Flip: _plain(flip),
    PadCrop: _plain(pad_crop),
    RandomResizedCrop: _sized(random_resized_crop),
    ShortSideCrop: _sized(short_side_crop),
    Rotate: _plain(rotate),
    Translate: _plain(translate),
    Shear: _plain(shear),
    Expand: _plain(expand),
    IouCrop: _plain(iou_crop),
    ScaleJitter: _plain(scale_jitter),
    ScaleCrop: _sized(scale_crop),
    BalancedScaleCrop: _sized(scale_crop),
    Mosaic: _joining(_mosaic),
    CopyPaste: _joining(_copy_paste),
    ObjectMixUp: _joining(_object_mixup),
    Lens: _plain(lens),
    Elastic: _plain(elastic),
    ColorJitter: _plain(color_jitter),
    PcaLighting: _lighting,
    Grayscale: _plain(grayscale),
    Erase: _plain(erase),
    Cutout: _plain(cutout),
    RandAugment: _plain(rand_augment),
    AutoAugment: _plain(auto_augment),
}
"""The function of each operation of `cvpipe.config.augment`."""
