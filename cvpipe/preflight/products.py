"""Size and work of the convolutions and matrix products in XLA's program.

Each is an instruction and the shapes of its two operands. A product below is a matrix product.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np


def work_of(own: Any, left: Any, right: Any) -> float:
    """Return the number of multiplications and additions of a convolution or product. Operations
    with zeros of padding or dilation aren't counted.
    """
    if own.opcode == "dot":
        summed = prod(
            left.dimensions[axis] for axis in own.dot_dimension_numbers.lhs_contracting_dimensions
        )
        return 2.0 * summed * prod(own.shape.dimensions)
    names = own.convolution_dimension_numbers
    pairs = 1
    for axis, window in enumerate(own.window.dimensions):
        pixels = left.dimensions[names.input_spatial_dimensions[axis]]
        outputs = own.shape.dimensions[names.output_spatial_dimensions[axis]]
        pairs *= _pairs(pixels, outputs, window)
    channels, made = channels_of(own, left, right)
    images = left.dimensions[names.input_batch_dimension] // max(own.batch_group_count, 1)
    return 2.0 * pairs * channels * made * images


def pixels_summed(own: Any) -> int:
    """Return the number of pixels over which a matrix unit sums in addition to channels: in the
    gradient of a kernel, which convolves images with images, all pixels; otherwise 1.
    """
    if own.opcode == "dot":
        return 1
    window = prod(axis.size for axis in own.window.dimensions)
    spatial = own.convolution_dimension_numbers.output_spatial_dimensions
    return window if window > prod(own.shape.dimensions[axis] for axis in spatial) else 1


def channels_of(own: Any, left: Any, right: Any) -> tuple[int, int]:
    """Return the numbers of input channels within a group, and of output channels."""
    if own.opcode == "dot":
        numbers = own.dot_dimension_numbers
        rest = set(range(len(right.dimensions)))
        rest -= {*numbers.rhs_contracting_dimensions, *numbers.rhs_batch_dimensions}
        return (
            prod(left.dimensions[axis] for axis in numbers.lhs_contracting_dimensions),
            prod(right.dimensions[axis] for axis in rest),
        )
    names = own.convolution_dimension_numbers
    return (
        right.dimensions[names.kernel_input_feature_dimension],
        right.dimensions[names.kernel_output_feature_dimension],
    )


def _pairs(pixels: int, outputs: int, window: Any) -> int:
    """Return the number of multiplications along one axis: pairs of an output and a weight, except
    pairs that read padding.
    """
    at = (
        np.arange(outputs)[:, np.newaxis] * window.stride
        + np.arange(window.size) * window.window_dilation
        - window.padding_low
    )
    inside = (at >= 0) & (at <= (pixels - 1) * window.base_dilation)
    return int((inside & (at % window.base_dilation == 0)).sum())
