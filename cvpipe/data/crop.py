"""Random resized crops of files that decode only the window of a JPEG.

If the first augmentation is a random_resized_crop, its window is drawn from the size in the file's
header. Only that window of a JPEG is decoded, at 1/2, 1/4 or 1/8 of its size if it still has enough
pixels for the network's input. Other formats, and JPEGs that are truncated or have trailing bytes,
are decoded whole and cropped to the same window.

At full size the window has the same pixels as in the whole image, except for the chroma of its
first and last columns: libjpeg smooths chroma across columns and doesn't have the neighboring
columns. At a reduced size the window begins and ends at whole reduced pixels, and pixels are
averaged in the frequency domain.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.augment.crops import RandomResizedCrop
from cvpipe.data.augment.geometry import random_window, resize_window
from cvpipe.data.decode import decode_image, with_adobe
from cvpipe.data.exif import exif_orientation
from cvpipe.data.graph import noinline_branch
from cvpipe.data.header import FORMATS, MAX_BYTES, size_allowed
from cvpipe.data.orientation import turns, upright

# Factors by which libjpeg can reduce an image while decoding it.
_REDUCTIONS = (1, 2, 4, 8)


def decode_random_crop(
    encoded: tf.Tensor, seed: tf.Tensor, op: RandomResizedCrop, size: tuple[int, int], channels: int
) -> tf.Tensor:
    """Decode an image and apply `random_resized_crop`. Graph code.

    Args:
        encoded: scalar string, the file's bytes.
        seed: int64 [2], the seed of the operation.
        op: the ranges of areas and aspect ratios.
        size: height and width to resize to.
        channels: 1 (gray) or 3 (RGB).

    Returns:
        float32 [*size, channels] in 0…255.

    Raises:
        tf.errors.InvalidArgumentError: the same errors as `decode_image`.
    """

    def only_the_window() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(encoded)
        with tf.control_dependencies([size_allowed(shape[0], shape[1])]):
            orientation = exif_orientation(encoded)
        is_upright = orientation == 1
        extent = tf.cond(
            is_upright,
            lambda: shape[:2],
            noinline_branch(lambda: tf.where(turns(orientation)[0], shape[1::-1], shape[:2])),
        )
        window = random_window(extent, seed, op)
        stored = tf.cond(
            is_upright,
            lambda: window,
            noinline_branch(lambda: _stored_window(window, extent, orientation)),
        )
        is_cmyk = shape[2] == 4
        marked = with_adobe(encoded, is_cmyk)
        image = decode_window(marked, stored, reduction_of(window, size), is_cmyk, channels)
        return resize_window(upright(image, orientation), size)

    def whole() -> tf.Tensor:
        image = decode_image(encoded, channels)
        top, left, height, width = tf.unstack(random_window(tf.shape(image)[:2], seed, op))
        return resize_window(image[top : top + height, left : left + width], size)

    return tf.ensure_shape(
        tf.cond(_is_whole_jpeg(encoded), only_the_window, noinline_branch(whole)), [*size, channels]
    )


def _is_whole_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Return True if the file starts and ends like a JPEG and has at most MAX_BYTES bytes.

    Other files are decoded whole, so a truncated file fails for every window.
    """
    length = tf.strings.length(encoded)
    end = tf.strings.substr(encoded, tf.maximum(length - 2, 0), 2)
    return (
        (tf.strings.substr(encoded, 0, 3) == FORMATS["JPEG"])
        & (end == b"\xff\xd9")
        & (length <= MAX_BYTES)
    )


def _stored_window(window: tf.Tensor, extent: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Convert a window of the upright image, whose size is `extent`, to coordinates of the stored
    image: int32 [4] (top, left, height, width).
    """
    transpose, left_right, top_bottom = turns(orientation)
    begin, size = window[:2], window[2:]
    begin = tf.where(tf.stack([top_bottom, left_right]), extent - begin - size, begin)
    return tf.where(transpose, tf.concat([begin[::-1], size[::-1]], 0), tf.concat([begin, size], 0))


def reduction_of(window: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Return the index in _REDUCTIONS of the largest factor that keeps the window at least as high
    and wide as `size`.
    """
    times = tf.reduce_min(window[2:] // size)
    return tf.reduce_sum(tf.cast(times >= _REDUCTIONS[1:], tf.int32))


def decode_window(
    encoded: tf.Tensor, window: tf.Tensor, reduction: tf.Tensor, is_cmyk: tf.Tensor, channels: int
) -> tf.Tensor:
    """Decode a window (int32 [4]: top, left, height, width) of a JPEG as stored. Returns uint8
    [height, width, channels], reduced.
    """

    def decode(window: tf.Tensor, ratio: int) -> tf.Tensor:
        def to(channels: int) -> tf.Tensor:
            return tf.io.decode_and_crop_jpeg(
                encoded, window, channels=channels, ratio=ratio, dct_method="INTEGER_ACCURATE"
            )

        # libjpeg can't convert CMYK to gray.
        return (
            to(3)
            if channels == 3
            else tf.cond(is_cmyk, lambda: tf.image.rgb_to_grayscale(to(3)), lambda: to(1))
        )

    def decode_reduced() -> tf.Tensor:
        ratio = tf.gather(_REDUCTIONS, reduction)
        begin, end = window[:2] // ratio, (window[:2] + window[2:] - 1) // ratio + 1
        reduced = tf.concat([begin, end - begin], 0)
        return tf.switch_case(
            reduction - 1, [lambda ratio=ratio: decode(reduced, ratio) for ratio in _REDUCTIONS[1:]]
        )

    return tf.cond(reduction == 0, lambda: decode(window, 1), noinline_branch(decode_reduced))
