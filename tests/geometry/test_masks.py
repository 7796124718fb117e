"""Guards the colors of label masks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.masks import IGNORED, overlay, palette


def test_the_palette_is_vocs() -> None:
    # The first five and the last of VOC's 21 classes, and the color of ignored pixels.
    assert palette()[[0, 1, 2, 3, 4, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len({tuple(color) for color in palette().tolist()}) == 256


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_mixes_colors_and_leaves_ignored_pixels(channels: int) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 30, channels), np.uint8)
    mask = random.choice(np.array([0, 1, 7, 254, IGNORED], np.uint8), (40, 30))
    mixed = np.where(mask[..., np.newaxis] == IGNORED, pixels, 0.6 * palette()[mask] + 0.4 * pixels)
    np.testing.assert_allclose(overlay(tf.constant(pixels), tf.constant(mask)), mixed, atol=1)
