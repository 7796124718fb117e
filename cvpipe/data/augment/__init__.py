"""Random, stateless, label-aware changes to training examples."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvpipe.config.augment import Augmentation, ColourJitter, Flip, PadCrop, RandomResizedCrop
from cvpipe.data.augment.colour import colour_jitter
from cvpipe.data.augment.geometry import flip, pad_crop, random_resized_crop
from cvpipe.data.sources import Example


def augment(example: Example, seed: tf.Tensor, ops: Sequence[Augmentation], size: tuple[int, int]) -> Example:
    """Applies the operations in order. Graph code.

    Args:
        example: "image" uint8 [H, W, C], and labels.
        seed: int64 [2] from `order.example_seed`; the same seed changes the example in the same way.
        ops: what the pipeline file lists.
        size: height and width of the network's input, for operations that resize.

    Returns:
        The example; "image" is uint8 or float32 in 0…255.
    """
    for number, op in enumerate(ops):
        op_seed = seed + tf.constant([0, number], tf.int64)
        match op:
            case Flip():
                example = flip(example, op_seed, op)
            case PadCrop():
                example = pad_crop(example, op_seed, op)
            case RandomResizedCrop():
                example = random_resized_crop(example, op_seed, op, size)
            case ColourJitter():
                example = colour_jitter(example, op_seed, op)
    return example
