"""Inception-v4 and Inception-ResNet-v2 (Szegedy et al. 2016).

299×299 pixels become 35×35, 17×17 and 8×8. A kernel (1, 7) is one row of seven pixels.
"""

from __future__ import annotations

from typing import Any

import keras

from cvpipe.models.blocks import Style, activate, add_residual, conv_norm
from cvpipe.models.inception_module import Branch, Conv, Fork, Pool, module, steps
from cvpipe.models.inception_v3 import STEM
from cvpipe.models.random_layers import linear_decay

ROW, COLUMN = (1, 7), (7, 1)

STEM_V4: tuple[Conv | tuple[Branch, ...], ...] = (
    Conv(32, 3, 2, valid=True),
    Conv(32, 3, valid=True),
    Conv(64, 3),
    ((Pool("max", 2, valid=True),), (Conv(96, 3, 2, valid=True),)),
    (
        (Conv(64, 1), Conv(96, 3, valid=True)),
        (Conv(64, 1), Conv(64, ROW), Conv(64, COLUMN), Conv(96, 3, valid=True)),
    ),
    ((Conv(192, 3, 2, valid=True),), (Pool("max", 2, valid=True),)),
)
"""Figure 3: 299×299×3 become 147×147×64, 73×73×160, 71×71×192, 35×35×384."""
A: tuple[Branch, ...] = (
    (Conv(96, 1),),
    (Conv(64, 1), Conv(96, 3)),
    (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
    (Pool("avg"), Conv(96, 1)),
)
"""Figure 4."""
B: tuple[Branch, ...] = (
    (Conv(384, 1),),
    (Conv(192, 1), Conv(224, ROW), Conv(256, COLUMN)),
    (Conv(192, 1), Conv(192, COLUMN), Conv(224, ROW), Conv(224, COLUMN), Conv(256, ROW)),
    (Pool("avg"), Conv(128, 1)),
)
"""Figure 5."""
C: tuple[Branch, ...] = (
    (Conv(256, 1),),
    (Conv(384, 1), Fork(((Conv(256, (1, 3)),), (Conv(256, (3, 1)),)))),
    (
        Conv(384, 1),
        Conv(448, (3, 1)),
        Conv(512, (1, 3)),
        Fork(((Conv(256, (1, 3)),), (Conv(256, (3, 1)),))),
    ),
    (Pool("avg"), Conv(256, 1)),
)
"""Figure 6."""
REDUCTION_A: tuple[Branch, ...] = (
    (Conv(384, 3, 2, valid=True),),
    (Conv(192, 1), Conv(224, 3), Conv(256, 3, 2, valid=True)),
    (Pool("max", 2, valid=True),),
)
"""Figure 7 with k, l, m, n = 192, 224, 256, 384 (table 1)."""
REDUCTION_B: tuple[Branch, ...] = (
    (Conv(192, 1), Conv(192, 3, 2, valid=True)),
    (Conv(256, 1), Conv(256, ROW), Conv(320, COLUMN), Conv(320, 3, 2, valid=True)),
    (Pool("max", 2, valid=True),),
)
"""Figure 8."""
STAGES = ((A,) * 4, (REDUCTION_A, *(B,) * 7), (REDUCTION_B, *(C,) * 3))
"""Figure 9: the modules at strides 8, 16 and 32."""

FIRST: tuple[Branch, ...] = (
    (Conv(96, 1),),
    (Conv(48, 1), Conv(64, 5)),
    (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
    (Pool("avg"), Conv(64, 1)),
)
"""The module between stem and residual blocks in the authors' code: 35×35×320."""
RESIDUAL_A: tuple[Branch, ...] = (
    (Conv(32, 1),),
    (Conv(32, 1), Conv(32, 3)),
    (Conv(32, 1), Conv(48, 3), Conv(64, 3)),
)
"""Figure 16."""
RESIDUAL_B: tuple[Branch, ...] = (
    (Conv(192, 1),),
    (Conv(128, 1), Conv(160, ROW), Conv(192, COLUMN)),
)
"""Figure 17."""
RESIDUAL_C: tuple[Branch, ...] = (
    (Conv(192, 1),),
    (Conv(192, 1), Conv(224, (1, 3)), Conv(256, (3, 1))),
)
"""Figure 19."""
RESIDUAL_REDUCTION_A: tuple[Branch, ...] = (
    (Conv(384, 3, 2, valid=True),),
    (Conv(256, 1), Conv(256, 3), Conv(384, 3, 2, valid=True)),
    (Pool("max", 2, valid=True),),
)
"""Figure 7 with k, l, m, n = 256, 256, 384, 384 (table 1)."""
RESIDUAL_REDUCTION_B: tuple[Branch, ...] = (
    (Conv(256, 1), Conv(384, 3, 2, valid=True)),
    (Conv(256, 1), Conv(288, 3, 2, valid=True)),
    (Conv(256, 1), Conv(288, 3), Conv(320, 3, 2, valid=True)),
    (Pool("max", 2, valid=True),),
)
"""Figure 18."""
RESIDUAL_STAGES = (
    (FIRST, RESIDUAL_A, 10, 0.17),
    (RESIDUAL_REDUCTION_A, RESIDUAL_B, 20, 0.1),
    (RESIDUAL_REDUCTION_B, RESIDUAL_C, 10, 0.2),
)
"""The stages as in the authors' code: first module, residual block, number of blocks, and factor of
the residual branches (section 3.3). The last block's factor is 1.
"""


def inception_v4(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of figure 9: {8, 16, 32: [B, h, w, 384, 1024, 1536 × width]}, with maps a
    few pixels smaller than H / stride.

    `image` has at least 75 rows and columns.
    """
    x, features = image, {}
    settings: dict[str, Any] = {"width": width, "style": style}
    for index, step in enumerate(STEM_V4, 1):
        name = f"stem{index}"
        if isinstance(step, Conv):
            x = steps(x, (step,), name=name, **settings)
        else:
            x = module(x, step, name=name, **settings)
    for number, modules in enumerate(STAGES, 1):
        for index, branches in enumerate(modules, 1):
            name = f"stage{number}_module{index}"
            x = module(x, branches, width=width, style=style, name=name)
        features[4 * 2**number] = x
    return features


def inception_resnet_v2(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of figure 15 with Inception-v3's stem, as in the authors' code: {8, 16, 32:
    [B, h, w, 320, 1088, 1536 × width]}, with maps a few pixels smaller than H / stride.

    `image` has at least 75 rows and columns. BatchNorms have a scale, unlike those of the authors'
    code and of Keras. Stochastic depth drops residual blocks in training.
    """
    settings: dict[str, Any] = {"width": width, "style": style}
    x = steps(image, STEM, name="stem", **settings)
    features = {}
    drops = iter(linear_decay(sum(stage[2] for stage in RESIDUAL_STAGES), style.stochastic_depth))
    for number, (first, branches, count, factor) in enumerate(RESIDUAL_STAGES, 1):
        x = module(x, first, name=f"stage{number}_module", **settings)
        for index in range(1, count + 1):
            name = f"stage{number}_block{index}"
            last = number == len(RESIDUAL_STAGES) and index == count
            y = module(x, branches, name=name, **settings)
            y = conv_norm(
                y, x.shape[-1], 1, 1, style=style.without_norm(), activation=None, name=f"{name}_up"
            )
            y = keras.layers.Rescaling(1.0 if last else factor, name=f"{name}_factor")(y)
            x = add_residual(x, y, drop=next(drops), name=name)
            if not last:
                x = activate(x, "relu", style=style, name=name)
        features[4 * 2**number] = x
    features[32] = steps(x, (Conv(1536, 1),), name="last", **settings)
    return features
