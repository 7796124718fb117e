"""AutoAugment's policies from the appendix of the paper (Cubuk et al. 2018): 25 sub-policies of two
(operation, probability, level).

The ImageNet policy is the paper's "reduced ImageNet", not the "v0" that EfficientNet was trained
with. All three policies equal those of torchvision's transforms.autoaugment and of Model Garden.
The ImageNet policy also equals timm's "original".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from cvpipe.data.augment.operations import (
    auto_contrast,
    brightness,
    color,
    contrast,
    equalize,
    invert,
    posterize,
    rotate,
    sharpness,
    shear_x,
    shear_y,
    solarize,
    translate_x,
    translate_y,
)

Operation: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Step: TypeAlias = tuple[Operation, float, int]
Policy: TypeAlias = tuple[tuple[Step, Step], ...]

IMAGENET: Policy = (
    ((posterize, 0.4, 8), (rotate, 0.6, 9)),
    ((solarize, 0.6, 5), (auto_contrast, 0.6, 5)),
    ((equalize, 0.8, 8), (equalize, 0.6, 3)),
    ((posterize, 0.6, 7), (posterize, 0.6, 6)),
    ((equalize, 0.4, 7), (solarize, 0.2, 4)),
    ((equalize, 0.4, 4), (rotate, 0.8, 8)),
    ((solarize, 0.6, 3), (equalize, 0.6, 7)),
    ((posterize, 0.8, 5), (equalize, 1.0, 2)),
    ((rotate, 0.2, 3), (solarize, 0.6, 8)),
    ((equalize, 0.6, 8), (posterize, 0.4, 6)),
    ((rotate, 0.8, 8), (color, 0.4, 0)),
    ((rotate, 0.4, 9), (equalize, 0.6, 2)),
    ((equalize, 0.0, 7), (equalize, 0.8, 8)),
    ((invert, 0.6, 4), (equalize, 1.0, 8)),
    ((color, 0.6, 4), (contrast, 1.0, 8)),
    ((rotate, 0.8, 8), (color, 1.0, 2)),
    ((color, 0.8, 8), (solarize, 0.8, 7)),
    ((sharpness, 0.4, 7), (invert, 0.6, 8)),
    ((shear_x, 0.6, 5), (equalize, 1.0, 9)),
    ((color, 0.4, 0), (equalize, 0.6, 3)),
    ((equalize, 0.4, 7), (solarize, 0.2, 4)),
    ((solarize, 0.6, 5), (auto_contrast, 0.6, 5)),
    ((invert, 0.6, 4), (equalize, 1.0, 8)),
    ((color, 0.6, 4), (contrast, 1.0, 8)),
    ((equalize, 0.8, 8), (equalize, 0.6, 3)),
)

CIFAR10: Policy = (
    ((invert, 0.1, 7), (contrast, 0.2, 6)),
    ((rotate, 0.7, 2), (translate_x, 0.3, 9)),
    ((sharpness, 0.8, 1), (sharpness, 0.9, 3)),
    ((shear_y, 0.5, 8), (translate_y, 0.7, 9)),
    ((auto_contrast, 0.5, 8), (equalize, 0.9, 2)),
    ((shear_y, 0.2, 7), (posterize, 0.3, 7)),
    ((color, 0.4, 3), (brightness, 0.6, 7)),
    ((sharpness, 0.3, 9), (brightness, 0.7, 9)),
    ((equalize, 0.6, 5), (equalize, 0.5, 1)),
    ((contrast, 0.6, 7), (sharpness, 0.6, 5)),
    ((color, 0.7, 7), (translate_x, 0.5, 8)),
    ((equalize, 0.3, 7), (auto_contrast, 0.4, 8)),
    ((translate_y, 0.4, 3), (sharpness, 0.2, 6)),
    ((brightness, 0.9, 6), (color, 0.2, 8)),
    ((solarize, 0.5, 2), (invert, 0.0, 3)),
    ((equalize, 0.2, 0), (auto_contrast, 0.6, 0)),
    ((equalize, 0.2, 8), (equalize, 0.6, 4)),
    ((color, 0.9, 9), (equalize, 0.6, 6)),
    ((auto_contrast, 0.8, 4), (solarize, 0.2, 8)),
    ((brightness, 0.1, 3), (color, 0.7, 0)),
    ((solarize, 0.4, 5), (auto_contrast, 0.9, 3)),
    ((translate_y, 0.9, 9), (translate_y, 0.7, 9)),
    ((auto_contrast, 0.9, 2), (solarize, 0.8, 3)),
    ((equalize, 0.8, 8), (invert, 0.1, 3)),
    ((translate_y, 0.7, 9), (auto_contrast, 0.9, 1)),
)

SVHN: Policy = (
    ((shear_x, 0.9, 4), (invert, 0.2, 3)),
    ((shear_y, 0.9, 8), (invert, 0.7, 5)),
    ((equalize, 0.6, 5), (solarize, 0.6, 6)),
    ((invert, 0.9, 3), (equalize, 0.6, 3)),
    ((equalize, 0.6, 1), (rotate, 0.9, 3)),
    ((shear_x, 0.9, 4), (auto_contrast, 0.8, 3)),
    ((shear_y, 0.9, 8), (invert, 0.4, 5)),
    ((shear_y, 0.9, 5), (solarize, 0.2, 6)),
    ((invert, 0.9, 6), (auto_contrast, 0.8, 1)),
    ((equalize, 0.6, 3), (rotate, 0.9, 3)),
    ((shear_x, 0.9, 4), (solarize, 0.3, 3)),
    ((shear_y, 0.8, 8), (invert, 0.7, 4)),
    ((equalize, 0.9, 5), (translate_y, 0.6, 6)),
    ((invert, 0.9, 4), (equalize, 0.6, 7)),
    ((contrast, 0.3, 3), (rotate, 0.8, 4)),
    ((invert, 0.8, 5), (translate_y, 0.0, 2)),
    ((shear_y, 0.7, 6), (solarize, 0.4, 8)),
    ((invert, 0.6, 4), (rotate, 0.8, 4)),
    ((shear_y, 0.3, 7), (translate_x, 0.9, 3)),
    ((shear_x, 0.1, 6), (invert, 0.6, 5)),
    ((solarize, 0.7, 2), (translate_y, 0.6, 7)),
    ((shear_y, 0.8, 4), (invert, 0.8, 8)),
    ((shear_x, 0.7, 9), (translate_y, 0.8, 3)),
    ((shear_y, 0.8, 5), (auto_contrast, 0.7, 3)),
    ((shear_x, 0.7, 2), (invert, 0.1, 5)),
)
