"""Random, stateless, label-aware changes to training examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cvpipe.config.augment import (
    Augmentation,
    AutoAugment,
    ColourJitter,
    CopyPaste,
    Cutout,
    Elastic,
    Erase,
    Expand,
    Flip,
    Grayscale,
    IouCrop,
    Lens,
    Mosaic,
    ObjectMixUp,
    PadCrop,
    PcaLighting,
    RandAugment,
    RandomResizedCrop,
    Rotate,
    ScaleCrop,
    ScaleJitter,
    Shear,
    ShortSideCrop,
    Translate,
)
from cvpipe.data.attempt import called
from cvpipe.data.augment.colour import colour_jitter, grayscale, pca_lighting
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
from cvpipe.data.sources import Example

# Operations that need other examples, and how many.
PARTNERS = {Mosaic: 3, CopyPaste: 1, ObjectMixUp: 1}


def partners_needed(ops: Sequence[Augmentation]) -> int:
    """How many other examples `augment` may ask for."""
    return max((PARTNERS.get(type(op), 0) for op in ops), default=0)


def augment(
    example: Example,
    seed: tf.Tensor,
    ops: Sequence[Augmentation],
    size: tuple[int, int],
    colours: tuple[np.ndarray, np.ndarray] | None = None,
    done: int = 0,
    partner: Callable[[int], Example] | None = None,
) -> Example:
    """Applies the operations in order. Graph code.

    Args:
        example: "image" uint8 [H, W, C], and labels; "boxes" and "mask", as `boxes` and `masks`
            describe them, move with the image.
        seed: int64 [2] from `order.example_seed`; the same seed changes the example in the same
            way.
        ops: what the pipeline file lists.
        size: height and width of the network's input, for operations that resize.
        colours: for pca_lighting, eigenvalues [C] and eigenvectors [C, C], in columns, of the
            covariance of the training set's
            colours, with pixels in 0…1.
        done: how many of the operations, the first ones, were applied already.
        partner: for operations that need other examples: graph code that reads number 0 …
            `partners_needed` − 1, decoded, unaugmented;
            called in the branch that uses it, so that an example isn't read for nothing.

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
            case Expand():
                example = expand(example, op_seed, op)
            case IouCrop():
                example = iou_crop(example, op_seed, op)
            case ScaleJitter():
                example = scale_jitter(example, op_seed, op)
            case Mosaic() | CopyPaste() | ObjectMixUp():
                assert partner is not None, f"{op.op} needs other examples"
                example = _joined(example, op_seed, op, size, partner)
            case ScaleCrop():
                example = scale_crop(example, op_seed, op, size)
            case Lens():
                example = lens(example, op_seed, op)
            case Elastic():
                example = elastic(example, op_seed, op)
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


def _joined(
    example: Example,
    seed: tf.Tensor,
    op: Mosaic | CopyPaste | ObjectMixUp,
    size: tuple[int, int],
    partner: Callable[[int], Example],
) -> Example:
    """Mix the example with others at the operation's probability. "image" becomes float32."""
    # Whether, and how, are drawn apart: more draws from the same seed would repeat the first.
    seed, own = tf.unstack(tf.random.split(seed))
    example = {**example, "image": tf.cast(example["image"], tf.float32)}

    def join() -> Example:
        match op:
            case Mosaic():
                joined = mosaic([example, *map(partner, range(3))], own, size)
            case CopyPaste():
                joined = copy_paste(example, partner(0), own, op.share)
            case ObjectMixUp():
                joined = object_mixup(example, partner(0), own, op.alpha)
        # Branches must have the same shapes, as far as they are known.
        return {
            **joined,
            "image": tf.ensure_shape(joined["image"], [None, None, example["image"].shape[-1]]),
        }

    return tf.cond(
        tf.random.stateless_uniform([], seed) < op.probability, called(join), lambda: example
    )
