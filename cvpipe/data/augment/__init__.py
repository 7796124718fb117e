"""Random, stateless, label-aware changes to training examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvpipe.config.augment import (
    Augmentation,
    AutoAugment,
    ColourJitter,
    Cutout,
    Erase,
    Flip,
    Grayscale,
    Lens,
    PadCrop,
    PcaLighting,
    RandAugment,
    RandomResizedCrop,
    Rotate,
    Shear,
    ShortSideCrop,
    Translate,
)
from cvpipe.data.augment.colour import colour_jitter, grayscale, pca_lighting
from cvpipe.data.augment.erase import cutout, erase
from cvpipe.data.augment.geometry import flip, lens, pad_crop, random_resized_crop, rotate, shear, short_side_crop, translate
from cvpipe.data.augment.policies import auto_augment, rand_augment
from cvpipe.data.sources import Example


def augment(
    example: Example,
    seed: tf.Tensor,
    ops: Sequence[Augmentation],
    size: tuple[int, int],
    colours: tuple[np.ndarray, np.ndarray] | None = None,
    done: int = 0,
) -> Example:
    """Applies the operations in order. Graph code.

    Args:
        example: "image" uint8 [H, W, C], and labels.
        seed: int64 [2] from `order.example_seed`; the same seed changes the example in the same way.
        ops: what the pipeline file lists.
        size: height and width of the network's input, for operations that resize.
        colours: for pca_lighting, eigenvalues [C] and eigenvectors [C, C], in columns, of the covariance of the training set's
            colours, with pixels in 0…1.
        done: how many of the operations, the first ones, were applied already.

    Returns:
        The example; "image" is uint8 or float32 in 0…255.
    """
    for number, op in list(enumerate(ops))[done:]:
        op_seed = seed + tf.constant([0, number], tf.int64)
        match op:
            case Flip():
                example = flip(example, op_seed, op)
            case PadCrop():
                example = pad_crop(example, op_seed, op)
            case RandomResizedCrop():
                example = random_resized_crop(example, op_seed, op, size)
            case ShortSideCrop():
                example = short_side_crop(example, op_seed, op, size)
            case Rotate():
                example = rotate(example, op_seed, op)
            case Translate():
                example = translate(example, op_seed, op)
            case Shear():
                example = shear(example, op_seed, op)
            case Lens():
                example = lens(example, op_seed, op)
            case ColourJitter():
                example = colour_jitter(example, op_seed, op)
            case PcaLighting():
                assert colours is not None, "pca_lighting needs the colours of the training set"
                example = pca_lighting(example, op_seed, op, *colours)
            case Grayscale():
                example = grayscale(example, op_seed, op)
            case Erase():
                example = erase(example, op_seed, op)
            case Cutout():
                example = cutout(example, op_seed, op)
            case RandAugment():
                example = rand_augment(example, op_seed, op)
            case AutoAugment():
                example = auto_augment(example, op_seed, op)
    return example
