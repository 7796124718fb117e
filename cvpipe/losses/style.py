"""Loss of style transfer networks (Johnson et al. 2016; Dumoulin et al. 2017).

Dimensions: B images, N styles, F channels of a feature map.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config.style import PerceptualLoss, StyleImage
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import resize_short_side
from cvpipe.errors import DataError
from cvpipe.losses.perceptual import (
    Features,
    content_loss,
    grams_of,
    random_features,
    style_loss,
    trained_features,
)
from cvpipe.user_paths import find_path, nearly


class StyleTargets(NamedTuple):
    """The feature extractor, and the Gram matrices of the styles."""

    features: Features
    grams: dict[str, np.ndarray]
    """Gram matrices of the styles by layer, float32 [N, F, F]."""


def style_targets(loss: PerceptualLoss) -> StyleTargets:
    """Read the styles and measure their Gram matrices.

    Raises:
        ConfigError: the package of VGG16 isn't installed.
        DataError: a style's file can't be read.
    """
    features = (
        trained_features()
        if loss.features == "trained"
        else random_features(width=loss.features_width)
    )
    each = [grams_of(features, read_style(style), loss.style_layers) for style in loss.styles]
    grams: dict[str, np.ndarray] = {
        layer: np.concatenate([of_style[layer].numpy() for of_style in each])
        for layer in loss.style_layers
    }
    return StyleTargets(features, grams)


def read_style(style: StyleImage) -> tf.Tensor:
    """Return a style's picture, float32 [1, h, w, 3] in 0…1.

    Raises:
        DataError: the file is missing or not an image.
    """
    where = f"loss.styles: {style.name}: {style.file}"
    path = find_path(style.file)
    try:
        image = decode_image(tf.constant(path.read_bytes()), 3)
    except OSError as error:
        raise DataError(f"{where}: can't be read ({error.strerror}). {nearly(path)}") from None
    except tf.errors.InvalidArgumentError:
        raise DataError(f"{where}: can't be decoded; give JPEG, PNG, BMP or WebP") from None
    return resize_short_side(image, style.size)[tf.newaxis] / 255


def perceptual_loss(
    pictures: tf.Tensor,
    photos: tf.Tensor,
    weights: tf.Tensor,
    targets: StyleTargets,
    loss: PerceptualLoss,
) -> dict[str, tf.Tensor]:
    """Return the parts of the loss, float32 [B] each.

    Args:
        pictures: float32 [B, H, W, 3] in 0…1.
        photos: the photos that were stylized, of the same shape.
        weights: weights of the styles in each picture, float32 [B, N].
        targets: features and Gram matrices of the styles.
        loss: the configuration.
    """
    features, layers = targets.features, (loss.content_layer, *loss.style_layers)
    found = features.of(pictures, layers)
    wanted = features.of(photos, (loss.content_layer,))
    grams = {
        layer: tf.einsum("bn,nfg->bfg", weights, all_styles)
        for layer, all_styles in targets.grams.items()
    }
    style_weight = tf.linalg.matvec(weights, [style.weight for style in loss.styles])
    right, down = pictures[:, :, 1:] - pictures[:, :, :-1], pictures[:, 1:] - pictures[:, :-1]
    variation = tf.add_n([tf.reduce_mean(tf.square(x), [1, 2, 3]) for x in (right, down)])
    return {
        "content": loss.content_weight * content_loss(found, wanted),
        "style": loss.style_weight * style_weight * style_loss(found, grams),
        "variation": loss.variation_weight * variation,
    }
