"""Networks of searched cells (Zoph et al. 2018, Learning transferable architectures): operations,
cells, and whole networks.

A genotype, `config.cells.Cells`, lists the blocks of the cells. Image tensors are [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from cvpipe.config.cells import CellBlock, Cells
from cvpipe.models.blocks import Style, activate, conv_norm, scale_channels
from cvpipe.models.nasnet import Maps, fit, narrow, separable_twice
from cvpipe.models.pooling import MaxPooling2D
from cvpipe.models.random_layers import StochasticDepth

NASNET_A = Cells()


def cell_network(
    image: keras.KerasTensor, *, cells: Cells = NASNET_A, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the paper's network for CIFAR (figure 2): a convolution, and stages of normal cells
    with a reduction cell between stages.

    In training, `style.drop_path` is the probability that an operation of the last cell is dropped;
    it increases linearly over the cells. Unlike in the paper, the probability is the same in all
    epochs.

    Args:
        image: [B, H, W, C].
        cells: the genotype, and the number of its cells and channels.
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        {1, 2, 4 …: [B, ceil(H / stride), ceil(W / stride), C']}, one for each stage.
    """
    # Even, because half of the channels come from each of two paths in `fit`.
    filters = 2 * scale_channels(cells.filters, width / 2)
    x = conv_norm(image, filters, 3, 1, style=style, activation=None, name="stem")
    maps, features = (x, x), {}
    drop = (style.drop_path or 0) / (cells.stages * (cells.repeats + 1) - 1)
    count = 0
    for stage in range(cells.stages):
        cells_of_stage = [("reduction", cells.reduction, 2)] if stage else []
        cells_of_stage += [(f"cell{index + 1}", cells.normal, 1) for index in range(cells.repeats)]
        for title, blocks, stride in cells_of_stage:
            count += 1
            name = f"stage{stage + 1}_{title}"
            channels = filters * 2**stage
            maps = cell(maps, blocks, channels, stride, drop=count * drop, style=style, name=name)
        features[2**stage] = maps[0]
    features[2**stage] = activate(maps[0], "relu", style=style, name="last")
    return features


def cell(
    maps: Maps,
    blocks: Sequence[CellBlock],
    filters: int,
    stride: int,
    *,
    drop: float,
    style: Style,
    name: str,
) -> Maps:
    """Apply the blocks of a cell to the outputs of the two cells before it.

    Returns:
        The inputs of the next cell: the concatenation of the inputs and blocks that no block reads,
        [B, ceil(H / stride), ceil(W / stride), n × filters], and the first of `maps`.
    """
    x, before = maps
    states = [narrow(x, filters, style=style, name=f"{name}_input")]
    if before.shape[1:3] == x.shape[1:3]:
        states.append(narrow(before, filters, style=style, name=f"{name}_before"))
    else:
        states.append(fit(before, x, filters, style=style, name=f"{name}_before"))
    for number, block in enumerate(blocks, 1):
        sides = []
        pairs = zip(block.inputs, block.operations, strict=True)
        for side, (state, kind) in zip(("left", "right"), pairs, strict=True):
            part = f"{name}_{number}_{side}"
            cell_stride = stride if state < 2 else 1
            y = operation(states[state], kind, filters, cell_stride, style=style, name=part)
            if drop > 0 and kind != "identity":
                y = StochasticDepth(drop, name=f"{part}_drop")(y)
            sides.append(y)
        states.append(keras.layers.Add(name=f"{name}_{number}_add")(sides))
    read = {state for block in blocks for state in block.inputs}
    loose = [
        # Inputs of a reduction cell that no block reads still have to shrink.
        operation(y, "identity", filters, stride, style=style, name=f"{name}_{number}_loose")
        if number < 2
        else y
        for number, y in enumerate(states)
        if number not in read
    ]
    if len(loose) == 1:
        return loose[0], x
    return keras.layers.Concatenate(name=f"{name}_concat")(loose), x


def operation(
    x: keras.KerasTensor, kind: str, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply one of `config.cells.Operation`: [B, H, W, filters] -> [B, ceil(H / stride), ceil(W /
    stride), filters].
    """
    what, _, size = kind.partition("_")
    match what:
        case "separable":
            return separable_twice(x, filters, int(size[0]), stride, style=style, name=name)
        case "identity":
            if stride == 1:
                return x
            x = activate(x, "relu", style=style, name=f"{name}_before")
            return conv_norm(x, filters, 1, stride, style=style, activation=None, name=name)
    if stride > 1:
        # Centered on every second pixel, as strided convolutions are.
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    pool = MaxPooling2D if what == "max" else keras.layers.AveragePooling2D
    return pool(3, stride, padding="valid" if stride > 1 else "same", name=name)(x)
