"""Segmentation networks: a backbone and a head, with initial weights and raw scores.

All are functional models of float [B, H, W, C] with one output, "logits" [B, ceil(H / s), ceil(W /
s), K], float32 under every dtype policy; the same arguments give the same variable paths.
Convolutions pad with zeros and poolings round up, so images may have any size, and every pixel is
classified. Dimensions: B images; H, W, C of a prepared image; K classes; s the output stride.
"""

from __future__ import annotations

import keras

from cvpipe.config.prepare import Prepare
from cvpipe.config.segmentation_heads import UnpoolingKind
from cvpipe.errors import ConfigError
from cvpipe.models import mirrored_vgg
from cvpipe.models.backbones import Backbone
from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.build import backbone_features, network_input
from cvpipe.models.heads import decoder_kernel
from cvpipe.models.pyramid import check_grids, grids_of, reach, take
from cvpipe.models.random_layers import Dropout
from cvpipe.models.segmentation_heads import fcn_head, pixel_logits, unet_decoder
from cvpipe.models.vgg import fc6_fc7

COARSEST = 32
"""Stride of the coarsest map of every FCN."""


def fcn(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    stride: int = 8,
    learned: bool = True,
    output_stride: int = 1,
    dropout: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build FCN-32s, FCN-16s or FCN-8s (Long et al. 2015) on any backbone. The paper uses
    fcn_vgg16.

    Args:
        backbone: function that makes the feature maps with strides from `stride` to 32;
            convolutions are added if the coarsest are missing.
        input_shape: H, W, C.
        classes: K.
        stride: stride of the finest map that is used: 32, 16, 8 or 4.
        learned: True trains the transposed convolutions; False keeps bilinear interpolation.
        output_stride: s, a power of two up to `stride`.
        dropout: dropout rate of the coarsest map; the paper's network also drops half of fc6.
        width: multiplies the channels.
        style: settings of the layers.
        normalize: method of the first layer, which normalizes images in [0, 1]; None for no such
            layer.

    Raises:
        ConfigError: the backbone lacks one of the maps, or has a map whose size doesn't fit its
            stride.
    """
    size = input_shape[:2]
    image, features = backbone_features(
        backbone, input_shape, width=width, style=style, normalize=normalize
    )
    strides = [step for step in (4, 8, 16, COARSEST) if step >= stride]
    maps = take(reach(features, COARSEST, style), strides)
    check_grids(maps, grids_of(size, strides))
    maps[-1] = _drop(maps[-1], dropout)
    logits = fcn_head(
        dict(zip(strides, maps, strict=True)),
        classes,
        size=size,
        output_stride=output_stride,
        learned=learned,
        style=style,
    )
    return keras.Model(image, {"logits": logits}, name="fcn")


def unet(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    output_stride: int = 1,
    dropout: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build U-Net (Ronneberger et al. 2015) on any backbone. The paper uses unet without norms.

    Args:
        backbone: function that makes the feature maps; all maps with strides of s or more are used.
        output_stride: s, a power of two.
        Others: see `fcn`.

    Raises:
        ConfigError: the backbone has no coarse map, or a map whose size doesn't fit its stride.
    """
    size = input_shape[:2]
    image, features = backbone_features(
        backbone, input_shape, width=width, style=style, normalize=normalize
    )
    coarsest = max(features)
    if coarsest < output_stride or coarsest.bit_count() > 1:
        raise ConfigError(
            f"model.head: unet halves the stride of the backbone's coarsest map, {coarsest},"
            f" repeatedly, which never gives the output's stride, {output_stride}; choose another"
            " model.backbone"
        )
    used = {stride: x for stride, x in features.items() if stride >= output_stride}
    check_grids(list(used.values()), grids_of(size, list(used)))
    x = unet_decoder(
        {**used, coarsest: _drop(used[coarsest], dropout)},
        size=size,
        output_stride=output_stride,
        style=style,
    )
    return _classified(image, x, classes, 1, style, "unet")


def segnet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    unpooling: UnpoolingKind = "max",
    output_stride: int = 1,
    dropout: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build SegNet (Badrinarayanan et al. 2015): VGG16's convolutions, each with a norm, and their
    mirror image.

    As in the authors' model, the 26th convolution is the classifier, with a 3×3 kernel.

    Args:
        unpooling: method of upsampling (`Unpooling`); max in the paper.
        output_stride: s, a power of two up to 16; finer stages are left out.
        Others: see `fcn`.
    """
    image, normalized = network_input(input_shape, normalize)
    x, poolings = mirrored_vgg.encode(normalized, width=width, style=style)
    x = mirrored_vgg.decode(
        _drop(x, dropout),
        poolings,
        unpooling=unpooling,
        output_stride=output_stride,
        whole=False,
        width=width,
        style=style,
    )
    return _classified(image, x, classes, 3, style, "segnet")


def deconvnet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    unpooling: UnpoolingKind = "max",
    output_stride: int = 1,
    dropout: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build DeconvNet (Noh et al. 2015, table 2): VGG16's convolutions, fc6 and fc7, and their
    mirror image, each with a norm.

    The paper's deconvolutions have a stride of 1, so each is equivalent to a convolution with a
    rotated kernel. This network has convolutions. fc6 and its mirror image keep the map's size, so
    images may have any size. In the paper, images have 224×224 pixels, fc6 reduces 7×7 cells to
    one, and its mirror image restores them. Arguments and errors as for `segnet`.
    """
    image, normalized = network_input(input_shape, normalize)
    x, poolings = mirrored_vgg.encode(normalized, width=width, style=style)
    x = _drop(fc6_fc7(x, width=width, style=style), dropout)
    x = conv_norm(
        x, scale_channels(512, width), 7, 1, style=style, activation="relu", name="decoder_fc6"
    )
    x = mirrored_vgg.decode(
        x,
        poolings,
        unpooling=unpooling,
        output_stride=output_stride,
        whole=True,
        width=width,
        style=style,
    )
    return _classified(image, x, classes, 1, style, "deconvnet")


def _drop(x: keras.KerasTensor, rate: float) -> keras.KerasTensor:
    return Dropout(rate, name="dropout")(x) if rate > 0 else x


def _classified(
    image: keras.KerasTensor,
    x: keras.KerasTensor,
    classes: int,
    kernel: int,
    style: Style,
    name: str,
) -> keras.Model:
    return keras.Model(
        image,
        {"logits": pixel_logits(x, classes, kernel, initializer=decoder_kernel(style))},
        name=name,
    )
