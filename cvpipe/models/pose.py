"""Construction of pose networks from a configuration.

Dimensions: B images; H, W, C of a prepared image; P keypoints; h, w of a heatmap.
"""

from __future__ import annotations

import keras

from cvpipe.config import Pose
from cvpipe.config.pose import Heatmaps, PoseHead, Regression
from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style, scale_channels
from cvpipe.models.build import backbone, backbone_features
from cvpipe.models.heads import last_kernel
from cvpipe.models.pyramid import check_grids, grids_of, reach
from cvpipe.models.random_layers import Dropout
from cvpipe.models.spatial_softmax import SpatialSoftmax


def pose_network(config: Pose, points: int, style: Style) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to raw outputs by name, float32 under every dtype
    policy.

    Outputs are "coordinates" [B, P, 2], y and x as fractions of the network's input, or "heatmaps"
    [B, h, w, P].

    Raises:
        ConfigError: the backbone lacks the head's input map.
    """
    model = config.model
    image, features = backbone_features(
        backbone(model.backbone, model.cells),
        (*config.prepare.size, config.prepare.channels),
        width=model.width,
        style=style,
        normalize=None if config.prepare.normalize == "given" else config.prepare,
    )
    x = _start_of(features, config, model.head, style)
    if isinstance(model.head, Regression):
        outputs = {"coordinates": _coordinates(x, model.head, points, model.dropout, style)}
    else:
        x = _drop(x, model.dropout)
        outputs = {"heatmaps": _heatmaps(x, model.head, points, model.width, style)}
    return keras.Model(image, outputs, name=f"pose_{model.head.kind}")


def _start_of(
    features: dict[int, keras.KerasTensor], config: Pose, head: PoseHead, style: Style
) -> keras.KerasTensor:
    """Return the head's input map. If all maps of the backbone have smaller strides, convolutions
    are added.
    """
    if head.start is None:
        return features[max(features)]
    if head.start not in features and head.start < max(features):
        raise ConfigError(
            f"model.head.start: {config.model.backbone} has no feature map of stride {head.start};"
            f" choose from {', '.join(map(str, sorted(features)))}"
        )
    x = reach(features, head.start, style)[head.start]
    check_grids([x], grids_of(config.prepare.size, [head.start]))
    if isinstance(head, Regression):
        return x
    if config.prepare.size[0] % head.start or config.prepare.size[1] % head.start:
        raise ConfigError(
            "prepare.size: for heatmaps, height and width must be multiples of model.head.start,"
            f" {head.start}; choose another size"
        )
    return x


def _heatmaps(
    x: keras.KerasTensor, head: Heatmaps, points: int, width: float, style: Style
) -> keras.KerasTensor:
    """Return [B, H / stride, W / stride, P]: transposed convolutions with norm and ReLU, then a 1×1
    convolution (Xiao et al. 2018, section 2).
    """
    stride: int = head.start
    while stride > head.stride:
        stride //= 2
        name = f"head{stride}"
        x = keras.layers.Conv2DTranspose(
            scale_channels(head.channels, width),
            4,
            2,
            padding="same",
            use_bias=style.norm.kind == "none",
            kernel_initializer=style.initializer.kernel(),
            name=f"{name}_up",
        )(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(style.norm(x, f"{name}_norm"))
    return keras.layers.Conv2D(
        points, 1, kernel_initializer=last_kernel(style), dtype="float32", name="head_heatmaps"
    )(x)


def _coordinates(
    x: keras.KerasTensor, head: Regression, points: int, dropout: float, style: Style
) -> keras.KerasTensor:
    """Return [B, P, 2]; initially all points are near the center of the image."""
    match head.pooling:
        case "average":
            x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        case "softmax":
            x = SpatialSoftmax(dtype="float32", name="pool")(x)
        case "none":
            x = keras.layers.Flatten(name="cells")(x)
    x = keras.layers.Dense(
        head.hidden, "relu", kernel_initializer=style.initializer.kernel(), name="head_hidden"
    )(x)
    x = keras.layers.Dense(
        2 * points,
        kernel_initializer=last_kernel(style),
        bias_initializer=keras.initializers.Constant(0.5),
        dtype="float32",
        name="head_places",
    )(_drop(x, dropout))
    return keras.layers.Reshape((points, 2), dtype="float32", name="coordinates")(x)


def _drop(x: keras.KerasTensor, rate: float) -> keras.KerasTensor:
    return Dropout(rate, name="dropout")(x) if rate > 0 else x
