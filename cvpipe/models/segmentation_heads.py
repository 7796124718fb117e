"""Heads of segmenters, which predict class scores of every pixel from feature maps.

Dimensions: B images; H, W of the network's input; h, w, C of a feature map; K classes; s the output
stride. A map of stride t has h = ceil(H / t), w = ceil(W / t).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import keras

from cvpipe.models.blocks import Style
from cvpipe.models.heads import last_kernel
from cvpipe.models.pyramid import Size, crop_to, grids_of
from cvpipe.models.unet import two_convolutions
from cvpipe.models.upsampling import upsample


def pixel_logits(
    x: keras.KerasTensor,
    classes: int,
    kernel: int,
    *,
    initializer: keras.initializers.Initializer,
    name: str = "logits",
) -> keras.KerasTensor:
    """Apply a `kernel`×`kernel` convolution: [B, h, w, C] -> logits [B, h, w, K], float32 under
    every dtype policy.
    """
    return keras.layers.Conv2D(
        classes, kernel, padding="same", kernel_initializer=initializer, dtype="float32", name=name
    )(x)


def fcn_head(
    maps: Mapping[int, keras.KerasTensor],
    classes: int,
    *,
    size: Size,
    output_stride: int,
    learned: bool,
    style: Style,
) -> keras.KerasTensor:
    """Compute class scores of each map. From coarse to fine, upsample the sum so far and add the
    scores of the next map (Long et al. 2015, figure 3).

    A map's layers are named by its stride, so FCN-16s can start from the weights of FCN-32s, as in
    the paper.

    Args:
        maps: [B, h, w, C] by their strides; one for FCN-32s, two for FCN-16s, three for FCN-8s.
        classes: K.
        size: H, W.
        output_stride: s, at most the smallest stride of `maps`.
        learned: True trains the transposed convolutions.
        style: kernel initializers.

    Returns:
        Logits, float32 [B, ceil(H / s), ceil(W / s), K].
    """
    coarsest = max(maps)
    x = pixel_logits(
        maps[coarsest], classes, 1, initializer=last_kernel(style), name=f"head{coarsest}_logits"
    )
    for before, after in pairwise(sorted({output_stride, *maps}, reverse=True)):
        x = upsample(x, before // after, learned=learned, name=f"head{before}_to{after}_logits")
        x = crop_to(x, grids_of(size, [after])[0])
        if after in maps:
            # Zero initialization leaves the coarser prediction undisturbed at first (section 4.2).
            fine = pixel_logits(
                maps[after],
                classes,
                1,
                initializer=keras.initializers.Zeros(),
                name=f"head{after}_logits",
            )
            x = keras.layers.Add(dtype="float32", name=f"head{after}_add")([x, fine])
    return x


def unet_decoder(
    features: Mapping[int, keras.KerasTensor], *, size: Size, output_stride: int, style: Style
) -> keras.KerasTensor:
    """Apply U-Net's expanding path (Ronneberger et al. 2015, figure 1, right). Each step has a 2×2
    up-convolution, a concatenation and two 3×3 convolutions.

    A step has as many channels as the map that it concatenates; in the paper, these are half the
    channels of the step before. If the backbone has no map of the step's stride, nothing is
    concatenated and the channels are halved.

    Args:
        features: [B, h, w, C] by their strides, powers of two.
        size: H, W.
        output_stride: s; a power of two, at most the largest stride.
        style: settings of the layers.

    Returns:
        [B, ceil(H / s), ceil(W / s), C'].
    """
    stride = max(features)
    x = features[stride]
    while stride > output_stride:
        stride //= 2
        name = f"decoder{stride}"
        skip = features.get(stride)
        filters = max(1, x.shape[-1] // 2) if skip is None else skip.shape[-1]
        x = keras.layers.Conv2DTranspose(
            filters, 2, 2, kernel_initializer=style.initializer.kernel(), name=f"{name}_up"
        )(x)
        x = crop_to(x, grids_of(size, [stride])[0])
        if skip is not None:
            x = keras.layers.Concatenate(name=f"{name}_concatenate")([skip, x])
        x = two_convolutions(x, filters, style=style, name=name)
    return x
