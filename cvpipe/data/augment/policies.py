"""AutoAugment and RandAugment: which operations an image goes through, and how strong they are.

Model Garden's draw from stateful random ops, and importing them takes seconds; here all randomness
comes from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import tensorflow as tf

from cvpipe.config.augment import AutoAugment, RandAugment
from cvpipe.data.augment.operations import (
    auto_contrast,
    brightness,
    color,
    contrast,
    equalize,
    identity,
    posterize,
    rotate,
    sharpness,
    shear_x,
    shear_y,
    solarize,
    translate_x,
    translate_y,
)
from cvpipe.data.augment.policy_tables import CIFAR10, IMAGENET, SVHN, Operation, Policy
from cvpipe.data.example import Example

# The K = 14 operations of RandAugment (section 3.1 and figure 2).
RAND_AUGMENT: tuple[Operation, ...] = (
    identity,
    auto_contrast,
    equalize,
    rotate,
    solarize,
    color,
    posterize,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)

# The level that stands for the upper end of an operation's range, in both papers' code.
TOP_LEVEL = 10
# What the levels 0 and 10 mean: AutoAugment's table 6. Its 150 pixels are of ImageNet images of
# 331.
RANGES: dict[Operation, tuple[float, float]] = {
    rotate: (0, 30),
    shear_x: (0, 0.3),
    shear_y: (0, 0.3),
    translate_x: (0, 150 / 331),
    translate_y: (0, 150 / 331),
    solarize: (0, 256),
    posterize: (4, 8),
    color: (0.1, 1.9),
    contrast: (0.1, 1.9),
    brightness: (0.1, 1.9),
    sharpness: (0.1, 1.9),
}
# These go either way, by the toss of a coin.
SIGNED = (rotate, shear_x, shear_y, translate_x, translate_y)
Amount: TypeAlias = Callable[[Operation, float], float]
"""From an operation and its level to its strength, in the operation's unit."""


def amount(operation: Operation, level: float) -> float:
    """Return the strength of an operation for RandAugment and AutoAugment's ImageNet policy; 0
    where it has none.

    Linear from the lower to the upper end of AutoAugment's table 6, as in the authors' code for
    ImageNet (tensorflow/tpu, models/official/efficientnet/autoaugment.py, and Model Garden; only
    posterize keeps 0…4 bits there, not the table's 4…8). So the higher the level the *less* is
    solarized and posterized, and color, contrast, brightness and sharpness stay as they are at
    level 5. torchvision's scale is another: it reaches the upper ends at 9 (AutoAugment) and 30
    (RandAugment).

    Args:
        operation: one of `cvpipe.data.augment.operations`.
        level: 0…10, or up to 30 with RandAugment: twice 10 turns by twice as much. Only
            translations stop at 10, where
            almost half of the image is gone: the authors' M = 28, on images of 600 pixels, went
            hardly further.
    """
    low, high = RANGES.get(operation, (0.0, 0.0))
    if operation in (translate_x, translate_y):
        level = min(level, TOP_LEVEL)
    return low + (high - low) * level / TOP_LEVEL


def cifar_amount(operation: Operation, level: float) -> float:
    """Return the strength of an operation for AutoAugment's CIFAR-10 and SVHN policies; 0 where it
    has none.

    It is that of the code with which the authors trained on both (tensorflow/models,
    research/autoaugment/augmentation_transforms.py): the higher the level, the *more* is solarized
    and posterized, and images of 32 pixels move by one pixel a level. Thresholds and bits are whole
    numbers there.

    Args:
        operation: one of `cvpipe.data.augment.operations`.
        level: 0…10.
    """
    if operation is solarize:
        return 256 - int(256 * level / TOP_LEVEL)
    if operation is posterize:
        return 4 - int(4 * level / TOP_LEVEL)
    if operation in (translate_x, translate_y):
        return level / 32
    return amount(operation, level)


POLICIES: dict[str, tuple[Policy, Amount]] = {
    "imagenet": (IMAGENET, amount),
    "cifar10": (CIFAR10, cifar_amount),
    "svhn": (SVHN, cifar_amount),
}


def rand_augment(example: Example, seed: tf.Tensor, op: RandAugment) -> Example:
    """Operations drawn uniformly with replacement, all of the same level (Cubuk et al. 2019).

    "image" is uint8 or float32 [H, W, C] in 0…255, C = 1 or 3, and becomes uint8 in 0…255.
    """
    amounts = tf.constant(
        [_both_ways(operation, amount(operation, op.magnitude)) for operation in RAND_AUGMENT]
    )
    draws = tf.random.stateless_uniform([op.layers, 2], seed, dtype=tf.float64)
    image = _to_uint8(example["image"])
    for layer in range(op.layers):
        chosen, way = _index(draws[layer, 0], len(RAND_AUGMENT)), _index(draws[layer, 1], 2)
        image = _apply(image, RAND_AUGMENT, chosen, amounts[chosen, way])
    return {**example, "image": image}


def auto_augment(example: Example, seed: tf.Tensor, op: AutoAugment) -> Example:
    """One of the policy's 25 sub-policies, drawn uniformly: its two operations in turn, each with
    its own probability.

    "image" is uint8 or float32 [H, W, C] in 0…255, C = 1 or 3, and becomes uint8 in 0…255 (Cubuk et
    al. 2018, section 3.1).
    """
    policy, strength = POLICIES[op.policy]
    # What isn't applied is the identity, the first.
    operations = (
        identity,
        *dict.fromkeys(operation for steps in policy for operation, _, _ in steps),
    )
    places = tf.constant(
        [[operations.index(operation) for operation, _, _ in steps] for steps in policy]
    )
    probabilities = tf.constant(
        [[probability for _, probability, _ in steps] for steps in policy], tf.float64
    )
    amounts = tf.constant(
        [
            [_both_ways(operation, strength(operation, level)) for operation, _, level in steps]
            for steps in policy
        ]
    )
    draws = tf.random.stateless_uniform([5], seed, dtype=tf.float64)
    image, row = _to_uint8(example["image"]), _index(draws[0], len(policy))
    for step in range(2):
        applied, way = draws[1 + step] < probabilities[row, step], _index(draws[3 + step], 2)
        image = _apply(
            image, operations, tf.where(applied, places[row, step], 0), amounts[row, step, way]
        )
    return {**example, "image": image}


def _apply(
    image: tf.Tensor, operations: Sequence[Operation], chosen: tf.Tensor, strength: tf.Tensor
) -> tf.Tensor:
    branches: list[Callable[[], tf.Tensor]] = [
        partial(operation, image, strength) for operation in operations
    ]
    return tf.ensure_shape(tf.switch_case(chosen, branches), image.shape)


def _both_ways(operation: Operation, strength: float) -> list[float]:
    return [strength, -strength if operation in SIGNED else strength]


def _index(draw: tf.Tensor, count: int) -> tf.Tensor:
    """A uniform draw from [0, 1) as one of 0 … count − 1."""
    return tf.cast(draw * count, tf.int32)


def _to_uint8(image: tf.Tensor) -> tf.Tensor:
    # The papers' operations count values and drop bits.
    return (
        image
        if image.dtype == tf.uint8
        else tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
    )
