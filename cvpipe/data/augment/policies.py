"""AutoAugment and RandAugment: choice and strength of the operations on an image.

Model Garden's versions draw from stateful random ops, and take seconds to import. Here all
randomness comes from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import tensorflow as tf

from cvpipe.config.augment.policies import AutoAugment, RandAugment
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

# The level at the upper end of an operation's range, in both papers' code.
TOP_LEVEL = 10
# Strengths at levels 0 and 10, from AutoAugment's table 6. Its 150 pixels refer to images with a
# side of 331 pixels.
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
# Operations whose strength gets a random sign.
SIGNED = (rotate, shear_x, shear_y, translate_x, translate_y)
Amount: TypeAlias = Callable[[Operation, float], float]
"""Maps an operation and its level to its strength, in the operation's unit."""


def amount(operation: Operation, level: float) -> float:
    """Return the strength of an operation for RandAugment and AutoAugment's ImageNet policy; 0
    for an operation without strength.

    Linear from the lower to the upper end of AutoAugment's table 6, as in the authors' code for
    ImageNet (tensorflow/tpu, models/official/efficientnet/autoaugment.py, and Model Garden), except
    that posterize keeps 0…4 bits in that code and 4…8 in the table and here. Higher levels
    therefore solarize and posterize *less*, and level 5 leaves color, contrast, brightness and
    sharpness unchanged. torchvision reaches the upper ends at level 9 (AutoAugment) and 30
    (RandAugment).

    Args:
        operation: one of `cvpipe.data.augment.operations`.
        level: 0…10, or up to 30 with RandAugment: level 20 rotates twice as far as level 10. Only
            translations don't grow beyond level 10, at which they move the image by almost half of
            its side; in the authors' code, level 28 moves images of 600 pixels only slightly
            further.
    """
    low, high = RANGES.get(operation, (0.0, 0.0))
    if operation in (translate_x, translate_y):
        level = min(level, TOP_LEVEL)
    return low + (high - low) * level / TOP_LEVEL


def cifar_amount(operation: Operation, level: float) -> float:
    """Return the strength of an operation for AutoAugment's CIFAR-10 and SVHN policies; 0 for an
    operation without strength.

    As in the authors' code for both data sets (tensorflow/models,
    research/autoaugment/augmentation_transforms.py): higher levels solarize and posterize *more*,
    and images of 32 pixels move by one pixel per level. Thresholds and bits are integers.

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
    """Apply operations drawn uniformly with replacement, all of one level (Cubuk et al. 2019).

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
    """Apply one of the policy's 25 sub-policies, drawn uniformly: two operations in turn, each with
    its own probability.

    "image" is uint8 or float32 [H, W, C] in 0…255, C = 1 or 3, and becomes uint8 in 0…255 (Cubuk et
    al. 2018, section 3.1).
    """
    policy, strength = POLICIES[op.policy]
    # Index 0, the identity, stands for "not applied".
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
    """Map a uniform draw from [0, 1) to one of 0 … count − 1."""
    return tf.cast(draw * count, tf.int32)


def _to_uint8(image: tf.Tensor) -> tf.Tensor:
    # The papers' operations are defined on integers: they count values and drop bits.
    return (
        image
        if image.dtype == tf.uint8
        else tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
    )
