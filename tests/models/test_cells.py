"""Guards networks of cells: the genotype in YAML, the shapes of every cell, dropped paths, and
cells as backbones of a detector and a segmenter.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from conftest import small_config
from cvpipe.config.cells import CellBlock, Cells
from cvpipe.errors import ConfigError
from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.cells import NASNET_A, cell
from cvpipe.models.detectors import ssd, ssd_maps
from cvpipe.models.fractalnet import Join, PathChoice
from cvpipe.models.nasnet import normal_cell, reduction_cell
from cvpipe.models.random_layers import StochasticDepth
from cvpipe.models.segmenters import fcn


def drawn(seed: int, blocks: int = 3, **settings: Any) -> Cells:
    """Return a random genotype."""
    random = np.random.default_rng(seed)
    start = {"inputs": [0, 1], "operations": ["identity", "identity"]}
    values = {"normal": [start] * blocks, "reduction": [start] * blocks, **settings}
    values = Cells.model_validate(values).model_dump(mode="json")
    for key, texts in Cells.model_validate(values).choices().items():
        name, number, part, side = key.split(".")
        text = texts[random.integers(len(texts))]
        values[name][int(number)][part][int(side)] = yaml.safe_load(text)
    return Cells.model_validate(values)


@pytest.mark.parametrize("seed", range(5))
def test_a_genotype_is_the_same_after_yaml(seed: int) -> None:
    cells = drawn(seed)
    text = yaml.safe_dump(cells.model_dump(mode="json"))
    assert Cells.model_validate(yaml.safe_load(text)) == cells != NASNET_A


@pytest.mark.parametrize("seed", range(12))
@without_weights()
def test_every_drawn_network_has_a_map_for_each_stage(seed: int) -> None:
    cells = drawn(seed, repeats=1 + seed % 2, filters=6)
    maps = backbone("cells", cells)(keras.Input((19, 14, 3)), width=0.75, style=Style())
    assert list(maps) == [1, 2, 4]
    for number, (stride, x) in enumerate(maps.items()):
        assert tuple(x.shape[1:3]) == (ceil(19 / stride), ceil(14 / stride))
        loose = set(range(5)) - {state for block in cells.normal for state in block.inputs}
        # 0.75 of 6 channels, as an even number.
        assert x.shape[3] == 4 * 2**number * len(loose)


@pytest.mark.parametrize(
    "theirs, blocks, stride",
    [(normal_cell, NASNET_A.normal, 1), (reduction_cell, NASNET_A.reduction, 2)],
    ids=["normal", "reduction"],
)
def test_the_default_cells_compute_what_nasnet_does(
    theirs: Any, blocks: tuple[CellBlock, ...], stride: int
) -> None:
    x, before = keras.Input((7, 8, 5)), keras.Input((7, 8, 3))
    style = Style()
    expected, _ = theirs((x, before), 4, style=style, name="cell")
    found, kept = cell((x, before), blocks, 4, stride, drop=0.0, style=style, name="cell")
    assert kept is x
    reference, model = keras.Model([x, before], expected), keras.Model([x, before], found)
    weights = {variable.path: variable for variable in reference.variables}
    assert {variable.path for variable in model.variables} == weights.keys()
    for variable in model.variables:
        variable.assign(weights[variable.path])
    random = np.random.default_rng(0)
    maps = [random.normal(size=(2, *tensor.shape[1:])).astype("float32") for tensor in (x, before)]
    # The first four channels of NASNet's cell are a map that a block reads. `cell` returns only
    # maps that no block reads.
    np.testing.assert_allclose(model(maps), reference(maps)[..., 4:], rtol=1e-4, atol=1e-5)


def test_a_block_adds_its_operations_and_a_cell_returns_unread_maps() -> None:
    x, before = keras.Input((6, 6, 4)), keras.Input((6, 6, 4))
    blocks = (
        CellBlock(inputs=(0, 0), operations=("max_3x3", "average_3x3")),
        CellBlock(inputs=(2, 2), operations=("identity", "identity")),
    )
    y, _ = cell((x, before), blocks, 4, 1, drop=0.0, style=Style(), name="cell")
    model = keras.Model([x, before], y)
    states = [model.get_layer(f"cell_{name}_norm").output for name in ("input", "before")]
    random = np.random.default_rng(0)
    maps = [random.normal(size=(2, 6, 6, 4)).astype("float32") for _ in range(2)]
    first, second = keras.Model([x, before], states)(maps)
    total = keras.ops.max_pool(first, 3, 1, "same") + keras.ops.average_pool(first, 3, 1, "same")
    expected = np.concatenate([second, 2 * total], axis=-1)
    np.testing.assert_allclose(model(maps), expected, rtol=1e-5, atol=1e-5)


@without_weights()
def test_all_operations_except_identities_are_dropped_and_more_in_later_cells() -> None:
    cells, style = drawn(0, repeats=1), Style(drop_path=0.6)
    model = classification_network("cells", (8, 8, 3), 2, cells=cells, style=style)
    order = [f"stage{part}" for part in ("1_cell1", "2_reduction", "2_cell1", "3_reduction")]
    for number, name in enumerate([*order, "stage3_cell1"], 1):
        blocks = cells.reduction if "reduction" in name else cells.normal
        operations = [kind for block in blocks for kind in block.operations if kind != "identity"]
        rates = [
            layer.rate
            for layer in model.layers
            if isinstance(layer, StochasticDepth) and layer.name.startswith(name)
        ]
        assert operations and rates == pytest.approx([number * 0.6 / 5] * len(operations))
    without = classification_network("cells", (8, 8, 3), 2, cells=cells)
    assert not [layer for layer in without.layers if isinstance(layer, StochasticDepth)]


@without_weights()
def test_cells_are_the_backbone_of_a_detector_and_of_a_segmenter() -> None:
    body = backbone("cells", drawn(3, stages=6, repeats=1, filters=2))
    maps = ssd_maps((64, 64), (8, 16))
    boxes = [2] * (len(maps.strides) + len(maps.extras))
    detector = ssd(body, (64, 64, 3), 4, maps=maps, boxes=boxes, width=1.0, style=Style())
    assert detector.output["boxes"].shape == (None, 2 * (64 + 16 + 4 + 1), 4)
    segmenter = fcn(body, (64, 64, 3), 5, stride=8, width=1.0, style=Style())
    assert segmenter.output["logits"].shape == (None, 64, 64, 5)


@pytest.mark.parametrize("share, rates", [(None, {0.15, 0.5}), (0.0, {0.0}), (0.3, {0.3, 0.5})])
@without_weights()
def test_the_share_of_fractalnets_dropped_paths_can_be_set(
    share: float | None, rates: set[float]
) -> None:
    style = Style(drop_path=share)
    model = classification_network("fractalnet20", (32, 32, 1), 2, width=0.1, style=style)
    assert {layer.rate for layer in model.layers if isinstance(layer, (Join, PathChoice))} == rates


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("model={backbone: resnet8, cells: {stages: 2}}", "cells is for backbone: cells"),
        ("model.drop_path=0.1", "drop_path does nothing in resnet8"),
        (
            "model={backbone: cells, cells: {normal: [{inputs: [0, 2],"
            " operations: [identity, identity]}]}}",
            "normal.0.inputs: 2 is no earlier map; give numbers from 0 to 1",
        ),
        (
            "model={backbone: cells, cells: {normal: []}}",
            "'model.cells.normal' should have at least 1 item",
        ),
    ],
)
def test_wrong_cells_are_a_clear_error(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        small_config(override)


def test_blocks_read_earlier_blocks_only() -> None:
    block = {"inputs": [0, 3], "operations": ["identity", "identity"]}
    with pytest.raises(ValidationError, match="from 0 to 2"):
        Cells.model_validate({"reduction": [{**block, "inputs": [1, 0]}, block]})
