"""Guards overlapping tiles: joined tiles equal the image for images of any size."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.tiles import fade_in, fold_rows, join_row, tiles_along

SIZES = [(1, 1), (5, 40), (16, 16), (17, 31), (28, 28), (29, 64), (100, 7)]


@pytest.mark.parametrize("overlap", [0, 4, 8])
def test_tiles_reach_the_end_and_the_last_is_needed(overlap: int) -> None:
    for length in range(1, 100):
        count = int(tiles_along(length, 16, overlap))
        assert (count - 1) * (16 - overlap) + 16 >= length
        assert count == 1 or (count - 2) * (16 - overlap) + 16 < length


def test_the_outermost_pixels_of_a_tile_have_weight_0_and_weights_are_symmetric() -> None:
    weight = fade_in(8).numpy()
    assert (weight[:2] == 0).all() and (weight[-2:] == 1).all() and (np.diff(weight) >= 0).all()
    np.testing.assert_allclose(weight + weight[::-1], 1, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 4, 8])
def test_joined_tiles_of_a_map_equal_the_map(size: tuple[int, int], overlap: int) -> None:
    tile, step = 16, 16 - overlap
    whole = np.random.default_rng(0).uniform(size=(*size, 3)).astype(np.float32)
    rows, columns = (int(tiles_along(length, tile, overlap)) for length in size)
    padded = tf.constant(
        np.pad(
            whole,
            [[0, rows * step + overlap - size[0]], [0, columns * step + overlap - size[1]], [0, 0]],
        )
    )

    def row(number: tf.Tensor) -> tf.Tensor:
        begin = number * step
        return join_row(
            tf.stack(
                [
                    padded[begin : begin + tile, left * step : left * step + tile]
                    for left in range(columns)
                ]
            ),
            overlap,
        )

    def finish(strip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(tf.round(strip[..., 0] * 200), tf.uint8), tf.reduce_sum(
            tf.cast(strip, tf.float64), [0, 1]
        )

    pixels, sums = tf.function(
        lambda: fold_rows(row, tf.constant(size), 3, tile, overlap, finish), autograph=False
    )()
    np.testing.assert_allclose(pixels, np.round(whole[..., 0] * 200), atol=1)
    assert pixels.shape == size
    np.testing.assert_allclose(sums, whole.sum((0, 1), np.float64), rtol=1e-5)


def test_tiles_that_differ_fade_into_each_other() -> None:
    tiles = tf.stack([tf.zeros([2, 16, 1]), tf.ones([2, 16, 1])])
    row = join_row(tiles, 8).numpy()[0, :, 0]
    np.testing.assert_array_equal(row, [0] * 8 + fade_in(8).numpy().tolist() + [1] * 8)
