"""Guards SSD's default boxes and their order, against the paper's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvpipe.geometry.default_boxes import (
    Layer,
    default_boxes,
    layers_for,
    ssd300_layers,
    ssd512_layers,
)


def test_ssd300_and_ssd512_have_as_many_default_boxes_as_in_the_paper() -> None:
    assert default_boxes(ssd300_layers()).shape == (8732, 4)
    assert default_boxes(ssd512_layers()).shape == (24564, 4)
    assert [layer.grid[0] for layer in ssd300_layers()] == [38, 19, 10, 5, 3, 1]


def test_default_boxes_of_ssd300_have_the_sizes_and_centers_of_the_authors_code() -> None:
    pixels = default_boxes(ssd300_layers()) * 300
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(
        pixels[:4],
        [
            [4, 4, 30, 30],
            [4, 4, math.sqrt(30 * 60), math.sqrt(30 * 60)],
            [4, 4, 30 / math.sqrt(2), 30 * math.sqrt(2)],
            [4, 4, 30 * math.sqrt(2), 30 / math.sqrt(2)],
        ],
        rtol=1e-5,
    )
    np.testing.assert_allclose(pixels[4, :2], [4, 12], rtol=1e-5)
    np.testing.assert_allclose(pixels[-4:, :2], 150, rtol=1e-5)
    np.testing.assert_allclose(pixels[-3, 2:], math.sqrt(264 * 315), rtol=1e-5)


def test_scales_of_ssd512_begin_at_0_07_and_end_at_0_9() -> None:
    squares = default_boxes(ssd512_layers())[:, 2]
    assert squares[0] == pytest.approx(0.07)
    assert default_boxes(ssd512_layers())[-4, 2] == pytest.approx(0.9)


def test_boxes_are_ordered_by_row_column_and_size_like_a_flattened_head() -> None:
    layer = Layer((2, 3), 0.2, 0.4, (3.0,))
    given = default_boxes([layer]).reshape(2, 3, layer.per_cell, 4)
    np.testing.assert_allclose(
        given[1, :, 0, :2], [[0.75, 1 / 6], [0.75, 0.5], [0.75, 5 / 6]], rtol=1e-6
    )
    assert (given[..., 2:] == given[0, 0, :, 2:]).all()
    np.testing.assert_allclose(given[..., 2, 3] / given[..., 2, 2], 3, rtol=1e-5)
    np.testing.assert_allclose(given[..., 2:, 2] * given[..., 2:, 3], 0.04, rtol=1e-5)


def test_scales_of_layers_are_evenly_spaced() -> None:
    layers = layers_for([(8, 8), (4, 4), (2, 2)], 0.2, 0.8, (2.0, 3.0))
    np.testing.assert_allclose(
        [(layer.scale, layer.next_scale) for layer in layers], [(0.2, 0.5), (0.5, 0.8), (0.8, 1.1)]
    )
    assert len(default_boxes(layers)) == (64 + 16 + 4) * 6
    (only,) = layers_for([(4, 4)], 0.3, 0.6)
    assert (only.scale, only.next_scale) == (0.3, 0.6)
