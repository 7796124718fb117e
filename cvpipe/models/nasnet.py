"""NASNet-A (Zoph et al. 2018), built from the cells of figure 4.

The inputs of a cell are the outputs of the two cells before it. Image tensors are [B, H, W, C].
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, activate, conv_norm, convolution, depthwise
from cvpipe.models.pooling import MaxPooling2D

Maps = tuple[keras.KerasTensor, keras.KerasTensor]
"""The outputs of the last cell and of the cell before it."""


def nasnet(
    image: keras.KerasTensor,
    *,
    filters: int,
    cells: int,
    stem: int,
    skips: bool,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Build the network for ImageNet (figure 2): a convolution, two reduction cells, and three
    groups of `cells` normal cells, separated by reduction cells.

    Args:
        image: [B, H, W, C].
        filters: filters of the first normal cells, a multiple of 4; the last map has 24 times as
            many channels.
        cells: number of normal cells between two reductions, N in the paper.
        stem: channels of the first convolution.
        skips: True if the second input of the first normal cell after a reduction comes from two
            cells before the reduction, as in the authors' large network.
        width: multiplies all channels.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: [B, h, w, C]}; 224×224 pixels become 111×111, 56×56, 28×28, 14×14, 7×7.
    """
    filters = 4 * max(1, round(filters * width / 4))
    x = conv_norm(
        image,
        max(1, round(stem * width)),
        3,
        2,
        style=style,
        activation=None,
        name="stem",
        padding=0,
    )
    features = {2: x}
    maps = reduction_cell((x, x), filters // 4, style=style, name="stage1_reduction")
    features[4] = maps[0]
    maps = reduction_cell(maps, filters // 2, style=style, name="stage2_reduction")
    for stage in (2, 3, 4):
        stage_filters = filters * 2 ** (stage - 2)
        if stage > 2:
            before = maps[1]
            maps = reduction_cell(maps, stage_filters, style=style, name=f"stage{stage}_reduction")
            maps = (maps[0], before) if skips else maps
        for index in range(1, cells + 1):
            maps = normal_cell(maps, stage_filters, style=style, name=f"stage{stage}_cell{index}")
        features[2 ** (stage + 1)] = maps[0]
    features[32] = activate(maps[0], "relu", style=style, name="last")
    return features


def normal_cell(maps: Maps, filters: int, *, style: Style, name: str) -> Maps:
    """Apply the normal cell (figure 4, left): [B, H, W, C] -> [B, H, W, 6 × filters]. Return the
    cell's output, and its input for the next cell.
    """
    x, p = maps
    p = fit(p, x, filters, style=style, name=f"{name}_before")
    h = narrow(x, filters, style=style, name=f"{name}_input")

    def separable(y: keras.KerasTensor, kernel: int, part: str) -> keras.KerasTensor:
        return separable_twice(y, filters, kernel, 1, style=style, name=f"{name}_{part}")

    def average(y: keras.KerasTensor, part: str) -> keras.KerasTensor:
        return keras.layers.AveragePooling2D(3, 1, padding="same", name=f"{name}_{part}")(y)

    sums = (
        (separable(h, 5, "1_left"), separable(p, 3, "1_right")),
        (separable(p, 5, "2_left"), separable(p, 3, "2_right")),
        (average(h, "3_left"), p),
        (average(p, "4_left"), average(p, "4_right")),
        (separable(h, 3, "5_left"), h),
    )
    added = [
        keras.layers.Add(name=f"{name}_{index}_add")(pair) for index, pair in enumerate(sums, 1)
    ]
    return keras.layers.Concatenate(name=f"{name}_concat")([p, *added]), x


def reduction_cell(maps: Maps, filters: int, *, style: Style, name: str) -> Maps:
    """Apply the reduction cell (figure 4, right): [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), 4 ×
    filters]. Return the cell's output, and its input for the next cell.
    """
    x, p = maps
    p = fit(p, x, filters, style=style, name=f"{name}_before")
    h = narrow(x, filters, style=style, name=f"{name}_input")

    def separable(y: keras.KerasTensor, kernel: int, stride: int, part: str) -> keras.KerasTensor:
        return separable_twice(y, filters, kernel, stride, style=style, name=f"{name}_{part}")

    def add(number: int, left: keras.KerasTensor, right: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.Add(name=f"{name}_{number}_add")([left, right])

    padded = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(h)
    largest = MaxPooling2D(3, 2, name=f"{name}_max")(padded)
    mean = keras.layers.AveragePooling2D(3, 2, name=f"{name}_mean")(padded)
    one = add(1, separable(h, 5, 2, "1_left"), separable(p, 7, 2, "1_right"))
    two = add(2, largest, separable(p, 7, 2, "2_right"))
    three = add(3, mean, separable(p, 5, 2, "3_right"))
    means = keras.layers.AveragePooling2D(3, 1, padding="same", name=f"{name}_4_left")(one)
    four = add(4, two, means)
    five = add(5, separable(one, 3, 1, "5_left"), largest)
    return keras.layers.Concatenate(name=f"{name}_concat")([two, three, four, five]), x


def separable_twice(
    x: keras.KerasTensor, filters: int, kernel: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply ReLU, separable convolution and norm, twice; the first has the stride (appendix
    A.4).
    """
    for index in (1, 2):
        part = f"{name}_conv{index}"
        x = activate(x, "relu", style=style, name=f"{part}_before")
        step = stride if index == 1 else 1
        x = depthwise(x, kernel, step, style=style, name=f"{part}_depthwise", bias=False)
        x = conv_norm(x, filters, 1, 1, style=style, activation=None, name=f"{part}_point")
    return x


def narrow(x: keras.KerasTensor, filters: int, *, style: Style, name: str) -> keras.KerasTensor:
    """Apply ReLU, 1×1 convolution and norm."""
    x = activate(x, "relu", style=style, name=f"{name}_before")
    return conv_norm(x, filters, 1, 1, style=style, activation=None, name=name)


def fit(
    p: keras.KerasTensor, x: keras.KerasTensor, filters: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Reduce `p` to the size of `x`, with `filters` channels unless `p` is `x`."""
    if p is x:
        return p
    if p.shape[1:3] == x.shape[1:3]:
        same = p.shape[-1] == filters
        return p if same else narrow(p, filters, style=style, name=name)
    p = activate(p, "relu", style=style, name=f"{name}_before")
    shifted = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_shift")(p)
    shifted = keras.layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}_crop")(shifted)
    halves = []
    for index, half in enumerate((p, shifted), 1):
        part = f"{name}_path{index}"
        half = keras.layers.AveragePooling2D(1, 2, name=f"{part}_subsample")(half)
        halves.append(convolution(half, filters // 2, 1, 1, style=style, name=part))
    return style.norm(keras.layers.Concatenate(name=f"{name}_concat")(halves), f"{name}_norm")
