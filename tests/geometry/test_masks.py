"""Guards the colors and the padding of label masks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.masks import IGNORED, concatenate_padded, overlay, pad_to_room, palette


def test_the_palette_is_vocs() -> None:
    # The first five and the last of VOC's 21 classes, and the colour of what it leaves out.
    assert palette()[[0, 1, 2, 3, 4, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len({tuple(colour) for colour in palette().tolist()}) == 256


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_mixes_colours_and_leaves_ignored_pixels(channels: int) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 30, channels), np.uint8)
    mask = random.choice(np.array([0, 1, 7, 254, IGNORED], np.uint8), (40, 30))
    mixed = np.where(mask[..., np.newaxis] == IGNORED, pixels, 0.6 * palette()[mask] + 0.4 * pixels)
    np.testing.assert_allclose(overlay(tf.constant(pixels), tf.constant(mask)), mixed, atol=1)


def test_what_is_smaller_is_filled_up_with_ignored() -> None:
    parts = [np.zeros([2, 3, 5], np.uint8), np.ones([1, 4, 2], np.uint8)]
    together = concatenate_padded(parts)
    assert together.shape == (3, 4, 5)
    for n, part in ((0, parts[0][0]), (1, parts[0][1]), (2, parts[1][0])):
        np.testing.assert_array_equal(
            together[n], pad_to_room(tf.constant(part), tf.constant([4, 5]))
        )
        np.testing.assert_array_equal(together[n, : part.shape[0], : part.shape[1]], part)
        assert (together[n] == IGNORED).sum() == 20 - part.size


def test_what_has_room_stays_as_it_is() -> None:
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(pad_to_room(tf.constant(mask), tf.constant([1, 3])), mask)
    np.testing.assert_array_equal(concatenate_padded([mask, mask]), np.concatenate([mask, mask]))
