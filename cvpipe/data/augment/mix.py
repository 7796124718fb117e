"""Mixing two training examples of a batch into one.

Dimensions: b examples of a batch on one replica; H, W, C of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from cvpipe.config.augment.combined import CutMix, Mix, MixUp
from cvpipe.geometry.pixels import paste


def mix(batch: dict[str, Any], seeds: tf.Tensor, ops: Sequence[Mix]) -> dict[str, Any]:
    """Mix every example with its neighbor in the batch, by a random operation. Graph code.

    An example stays unmixed if it or its neighbor couldn't be read (weight 0), or if it is the last
    example of an odd batch.

    Args:
        batch: "image" float32 [b, H, W, C], prepared; "targets" a dict of tensors [b, …]; "weight"
            float32 [b]; and other entries.
        seeds: int64 [b, 2], one per example, which no other operation uses.
        ops: the operations to choose from, at least one.

    Returns:
        The batch, with "image" mixed, "partner_targets" like "targets", and "share" float32 [b] in
        0…1: the example's own share of the image. The loss is share · loss(targets) +
        (1 − share) · loss(partner_targets).
    """
    images, weight = batch["image"], batch["weight"]
    positions = tf.range(tf.shape(images)[0])
    # Examples come in random order, so a neighbor is a random partner. If every replica has an even
    # number of examples, pairs are the same for any number of replicas.
    partners = tf.bitwise.bitwise_xor(positions, 1)
    partners = tf.where(partners < tf.size(positions), partners, positions)
    together = (partners != positions) & (weight > 0) & (tf.gather(weight, partners) > 0)

    def mixed(at: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        position, partner, together, seed = at
        image = images[position]
        return tf.cond(
            together,
            lambda: _pair(image, images[partner], seed, ops),
            lambda: (image, tf.constant(1.0)),
        )

    # Mixing one image at a time keeps it in the processor's cache and copies rectangles without a
    # mask.
    spec = (tf.TensorSpec(images.shape[1:], tf.float32), tf.TensorSpec([], tf.float32))
    image, share = tf.map_fn(
        mixed, (positions, partners, together, seeds), fn_output_signature=spec
    )
    partner_targets = tf.nest.map_structure(
        lambda target: tf.gather(target, partners), batch["targets"]
    )
    return {
        **batch,
        "image": tf.ensure_shape(image, images.shape),
        "partner_targets": partner_targets,
        "share": share,
    }


def _pair(
    image: tf.Tensor, partner: tf.Tensor, seed: tf.Tensor, ops: Sequence[Mix]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix two images [H, W, C]; also return the share of the first."""
    # The shares need their own seed, because a seed always draws the same numbers.
    seed, share_seed = tf.unstack(tf.random.split(seed))
    draws = tf.random.stateless_uniform([3], seed, dtype=tf.float64)

    def branch(op: Mix) -> tuple[tf.Tensor, tf.Tensor]:
        share = beta(share_seed, op.alpha)
        match op:
            case MixUp():
                return _mixup(image, partner, share)
            case CutMix():
                return _cutmix(image, partner, share, draws[1:])

    return tf.switch_case(
        tf.cast(draws[0] * len(ops), tf.int32), [lambda op=op: branch(op) for op in ops]
    )


def _mixup(image: tf.Tensor, partner: tf.Tensor, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend the images (Zhang et al. 2017, section 2)."""
    share = tf.cast(share, tf.float32)
    return share * image + (1 - share) * partner, share


def _cutmix(
    image: tf.Tensor, partner: tf.Tensor, share: tf.Tensor, center: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a rectangle of the partner into the image (Yun et al. 2019, section 3.1), around a
    center in [0, 1)².

    The rectangle has the partner's share of the area before it is clipped at the image's edges. The
    returned share is the part of the image that remains after clipping.
    """
    extent = tf.cast(tf.shape(image)[:2], tf.float64)
    center, half = center * extent, extent * tf.sqrt(1 - share) / 2
    first, last = (
        tf.cast(tf.clip_by_value(tf.round(edge), 0, extent), tf.int32)
        for edge in (center - half, center + half)
    )
    cut = partner[first[0] : last[0], first[1] : last[1]]
    covered = tf.cast(tf.reduce_prod(last - first), tf.float64) / tf.reduce_prod(extent)
    return paste(image, cut, first[0], first[1]), tf.cast(1 - covered, tf.float32)


def beta(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw a number from Beta(alpha, alpha): float64, never NaN."""
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed))
    gammas = tf.random.stateless_gamma(
        [2], gamma_seed, tf.constant(alpha + 1, tf.float64), dtype=tf.float64
    )
    uniforms = 1 - tf.random.stateless_uniform([2], uniform_seed, dtype=tf.float64)
    # Beta is X / (X + Y) for X and Y from Gamma(α), which underflow to 0 for a small α. Their
    # logarithms do not: Gamma(α) is distributed as Gamma(α + 1) · U^(1/α) (Marsaglia and Tsang
    # 2000, section 6).
    logs = tf.math.log(gammas) + tf.math.log(uniforms) / alpha
    return tf.sigmoid(logs[0] - logs[1])
