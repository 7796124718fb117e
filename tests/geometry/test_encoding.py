"""Guards encoding and decoding of boxes, against the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry import encoding
from cvpipe.geometry.boxes import to_centers
from cvpipe.geometry.default_boxes import default_boxes, layers_for

GRID = (4, 6)


def some_boxes(seed: int, *shape: int) -> np.ndarray:
    low, high = np.sort(np.random.default_rng(seed).uniform(0.01, 0.99, (2, *shape, 2)), axis=0)
    return np.concatenate([low, high + 0.005], -1).astype(np.float32)


def test_ssd_offsets_equal_the_paper_and_decode_to_the_boxes() -> None:
    defaults = default_boxes(layers_for([GRID], 0.2, 0.5))
    boxes = some_boxes(0, 3, len(defaults))
    offsets = encoding.encode_ssd(boxes, defaults)
    g, d = to_centers(boxes[1, 7]).numpy(), defaults[7]
    expected = [
        (g[0] - d[0]) / d[2] / 0.1,
        (g[1] - d[1]) / d[3] / 0.1,
        math.log(g[2] / d[2]) / 0.2,
        math.log(g[3] / d[3]) / 0.2,
    ]
    np.testing.assert_allclose(offsets[1, 7], expected, rtol=1e-4)
    np.testing.assert_allclose(encoding.decode_ssd(offsets, defaults), boxes, atol=1e-5)


def test_offsets_of_zero_decode_to_the_default_box() -> None:
    defaults = default_boxes(layers_for([GRID], 0.2, 0.5))
    np.testing.assert_allclose(
        to_centers(encoding.decode_ssd(tf.zeros([1, *defaults.shape]), defaults))[0],
        defaults,
        atol=1e-6,
    )


def test_yolo_targets_decode_to_the_boxes_in_their_cells() -> None:
    anchors = np.float32([[0.1, 0.3], [0.5, 0.2]])
    boxes = some_boxes(1, 5)
    cells = encoding.cells_of(boxes, GRID).numpy()
    np.testing.assert_array_equal(cells, np.floor(to_centers(boxes)[:, :2].numpy() * GRID))
    targets = encoding.encode_yolo(boxes, cells, anchors[1], GRID).numpy()
    assert ((targets[:, :2] >= 0) & (targets[:, :2] <= 1)).all()
    for box, (row, column), target in zip(boxes, cells, targets):
        outputs = np.zeros((1, *GRID, 2, 4), np.float32)
        outputs[0, row, column, 1] = [*np.log(target[:2] / (1 - target[:2])), *target[2:]]
        np.testing.assert_allclose(
            encoding.decode_yolo(tf.constant(outputs), anchors)[0, row, column, 1], box, atol=1e-5
        )


def test_a_yolo_prediction_of_zeros_is_the_anchor_in_the_middle_of_its_cell() -> None:
    anchors = np.float32([[0.1, 0.3]])
    boxes = to_centers(encoding.decode_yolo(tf.zeros([*GRID, 1, 4]), anchors)).numpy()
    np.testing.assert_allclose(boxes[2, 5, 0], [2.5 / 4, 5.5 / 6, 0.1, 0.3], atol=1e-6)


def test_yolov1_targets_decode_to_the_boxes_and_contain_roots_of_sizes() -> None:
    boxes = some_boxes(2, 5)
    cells = encoding.cells_of(boxes, GRID).numpy()
    targets = encoding.encode_yolo1(boxes, cells, GRID).numpy()
    np.testing.assert_allclose(np.square(targets[:, 2:]), to_centers(boxes)[:, 2:], atol=1e-6)
    for box, (row, column), target in zip(boxes, cells, targets):
        outputs = np.zeros((1, *GRID, 2, 4), np.float32)
        outputs[0, row, column, 1] = target
        np.testing.assert_allclose(
            encoding.decode_yolo1(tf.constant(outputs))[0, row, column, 1], box, atol=1e-5
        )


def test_centers_at_the_far_border_belong_to_the_last_cell() -> None:
    assert encoding.cells_of(
        [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]], GRID
    ).numpy().tolist() == [[3, 5], [0, 0]]


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_outputs_decode_to_finite_boxes(size: float) -> None:
    defaults = default_boxes(layers_for([GRID], 0.2, 0.5))
    assert np.isfinite(encoding.decode_ssd(tf.fill([1, len(defaults), 4], size), defaults)).all()
    assert np.isfinite(encoding.decode_yolo(tf.fill([1, *GRID, 1, 4], size), [[0.1, 0.2]])).all()


def test_empty_boxes_encode_to_finite_numbers() -> None:
    boxes = np.full((1, 4), 0.5, np.float32)
    assert np.isfinite(encoding.encode_ssd(boxes, np.float32([[0.5, 0.5, 0.1, 0.1]]))).all()
    assert np.isfinite(encoding.encode_yolo(boxes, [[2, 3]], np.float32([[0.1, 0.1]]), GRID)).all()
    assert np.isfinite(encoding.encode_yolo1(boxes, [[2, 3]], GRID)).all()
