"""Registration of every layer and function of cvpipe for `.keras` files.

Import this module before `keras.saving.load_model`. It imports little besides the modules of
layers.
"""

from __future__ import annotations

from cvpipe.models.activations import Maxout, leaky_hundredth
from cvpipe.models.batch_norm import FusedBatchNormalization
from cvpipe.models.darknet import leaky_maximum, leaky_tenth
from cvpipe.models.fractalnet import Join, PathChoice
from cvpipe.models.fractional import FractionalMaxPooling
from cvpipe.models.grouped_conv import GroupedConv2D
from cvpipe.models.lenet_sparse import scaled_tanh
from cvpipe.models.local_response import LocalResponseNorm
from cvpipe.models.normalize import Normalize
from cvpipe.models.patch_memory import PatchBank, PatchGaussians
from cvpipe.models.pooling import MaxPooling2D
from cvpipe.models.pyramid import SpaceToDepth
from cvpipe.models.random_layers import DropConnect, Dropout, StochasticDepth
from cvpipe.models.spatial_softmax import SpatialSoftmax
from cvpipe.models.stylizer import ConditionalInstanceNorm, ReflectionPadding
from cvpipe.models.upsampling import (
    BilinearUpsampling,
    MaxPoolingWithPositions,
    Unpooling,
    bilinear_kernel,
)
from cvpipe.models.vgg import L2Normalization

__all__ = [
    "BilinearUpsampling",
    "ConditionalInstanceNorm",
    "DropConnect",
    "Dropout",
    "FractionalMaxPooling",
    "FusedBatchNormalization",
    "GroupedConv2D",
    "Join",
    "L2Normalization",
    "LocalResponseNorm",
    "MaxPooling2D",
    "MaxPoolingWithPositions",
    "Maxout",
    "Normalize",
    "PatchBank",
    "PatchGaussians",
    "PathChoice",
    "ReflectionPadding",
    "SpaceToDepth",
    "SpatialSoftmax",
    "StochasticDepth",
    "Unpooling",
    "bilinear_kernel",
    "leaky_hundredth",
    "leaky_maximum",
    "leaky_tenth",
    "scaled_tanh",
]
