"""Style transfer by optimization: pictures with the content of a photo and the style of other
pictures, and textures in a style (Gatys et al. 2015, Texture synthesis; 2016, Image style
transfer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from cvpipe.losses.perceptual import Features, content_loss, grams_of, style_loss
from cvpipe.synthesis.ascent import adam_ascent
from cvpipe.synthesis.regularize import total_variation
from cvpipe.synthesis.spectrum import DARKEST

CONTENT_LAYERS = ("stage4_conv2",)
STYLE_LAYERS = ("stage1_conv1", "stage2_conv1", "stage3_conv1", "stage4_conv1", "stage5_conv1")
"""Layers of VGG used for the style, as in the papers."""


class Transfer(NamedTuple):
    """Settings of a transfer."""

    steps: int = 300
    rate: float = 0.05
    """Approximate change of a pixel's logit in a step."""
    content: float = 1.0
    """Weight of the content; 0 for a texture."""
    style: float = 10.0
    """Weight of the style."""
    variation: float = 1.0
    """Weight of the total variation."""


def paint(
    features: Features,
    likes: Sequence[tf.Tensor],
    start: tf.Tensor,
    settings: Transfer,
    *,
    texture: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return a picture in the style of other pictures, float32 [1, H, W, 3] in 0…1, and the losses
    before each step, [steps, 1].

    Args:
        features: computes the features of images.
        likes: pictures of the style, float32 [1, h, w, 3] in 0…1 each; their Gram matrices are
            averaged.
        start: a photo, float32 [1, H, W, 3] in 0…1; noise for a texture.
        settings: settings of the transfer.
        texture: True to ignore the content of `start`.
    """
    each = [grams_of(features, like, STYLE_LAYERS) for like in likes]
    grams = {layer: tf.add_n([own[layer] for own in each]) / len(each) for layer in STYLE_LAYERS}
    content = {} if texture else features.of(start, CONTENT_LAYERS)

    def make(own: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return transfer(features, own, content, grams, settings)

    made: tuple[tf.Tensor, tf.Tensor] = tf.function(make, autograph=False)(start)
    return made


def transfer(
    features: Features,
    start: tf.Tensor,
    content: Mapping[str, tf.Tensor],
    grams: Mapping[str, tf.Tensor],
    settings: Transfer,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return pictures with the given content and style, float32 [B, H, W, 3] in 0…1, and their
    losses before each step, [steps, B]. Graph code.

    Args:
        features: computes the features of images.
        start: initial pictures, [B, H, W, 3] in 0…1: the photos, or noise.
        content: features of the photos by layer, [B, h, w, F]; empty for a texture.
        grams: Gram matrices of the style by layer, [1 or B, F, F].
        settings: settings of the transfer.
    """
    layers = (*content, *grams)

    def score(logits: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        pictures = tf.sigmoid(logits)
        found = features.of(pictures, layers)
        loss = settings.style * style_loss(found, grams)
        if content and settings.content > 0:
            loss += settings.content * content_loss(found, content)
        return -(loss + settings.variation * total_variation(pictures))

    clipped = tf.clip_by_value(start, DARKEST, 1 - DARKEST)
    logits = tf.math.log(clipped) - tf.math.log1p(-clipped)
    logits, scores = adam_ascent(score, logits, steps=settings.steps, rate=settings.rate)
    return tf.sigmoid(logits), -scores
