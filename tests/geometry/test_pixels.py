"""Guards images on canvases: the places of their pixels, and the color around them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.pixels import mean_canvas, mean_color, paste, resize_and_place
from image_files import noise


@pytest.mark.parametrize("size", [(5, 4), (9, 14), (18, 30)])
@pytest.mark.parametrize("antialias", [False, True])
def test_a_canvas_that_shows_all_of_an_image_is_the_resized_image(
    size: tuple[int, int], antialias: bool
) -> None:
    image = tf.constant(noise(9, 14))
    scale = np.array(size) / [9, 14]
    placed = resize_and_place(image, size, scale, tf.zeros([2]), antialias)
    np.testing.assert_allclose(placed, tf.image.resize(image, size, antialias=antialias), atol=1e-3)


def test_a_canvas_shows_a_part_of_the_resized_image_and_zeros_around_it() -> None:
    image = tf.constant(noise(6, 8))
    resized = tf.image.resize(image, [12, 16], antialias=True).numpy()
    placed = resize_and_place(image, (20, 10), tf.constant([2.0, 2.0]), tf.constant([3, -4]))
    np.testing.assert_allclose(placed[3:15], resized[:, 4:14], atol=1e-3)
    assert not placed[:3].numpy().any() and not placed[15:].numpy().any()


def test_a_cover_is_pasted_with_its_corner_at_the_given_position() -> None:
    image, cover = noise(7, 9), noise(3, 4, seed=1)
    expected = image.copy()
    expected[2:5, 5:9] = cover
    np.testing.assert_array_equal(paste(tf.constant(image), tf.constant(cover), 2, 5), expected)


def test_a_canvas_has_the_mean_color_and_the_type_of_its_image() -> None:
    pixels = np.array([[[0, 10, 255], [1, 20, 255]]], np.uint8)
    np.testing.assert_array_equal(mean_color(tf.constant(pixels)), [0.5, 15, 255])
    whole = mean_canvas(tf.constant(pixels), 3, 2)
    assert whole.dtype == tf.uint8 and (whole.numpy() == [0, 15, 255]).all()
    exact = mean_canvas(tf.constant(pixels, tf.float32), 3, 2)
    assert exact.shape == (3, 2, 3) and (exact.numpy() == [0.5, 15, 255]).all()
