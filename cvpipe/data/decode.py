"""Encoded bytes to uint8 images of known rank. Sizes are checked in the header, before any memory is taken."""

from __future__ import annotations

import tensorflow as tf

# A 10,000 × 10,000 image; decoding it to RGB takes 300 MB.
MAX_PIXELS = 100_000_000


def decode_image(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP or WebP. Graph code.

    Args:
        encoded: scalar string, the file's bytes.
        channels: 1 (grey) or 3 (RGB); the image is converted, alpha is dropped.

    Returns:
        uint8 [H, W, channels].

    Raises:
        tf.errors.InvalidArgumentError: empty, truncated or no image, an animation, or more than MAX_PIXELS.
    """
    not_empty = tf.debugging.Assert(tf.strings.length(encoded) > 0, ["the file is empty"])
    with tf.control_dependencies([not_empty]):
        is_jpeg = _starts_with(encoded, b"\xff\xd8\xff")
        is_png = _starts_with(encoded, b"\x89PNG\r\n\x1a\n")
        is_bmp = _starts_with(encoded, b"BM")
        is_webp = tf.logical_and(_starts_with(encoded, b"RIFF"), tf.strings.substr(encoded, 8, 4) == b"WEBP")
    image = tf.case(
        [
            (is_jpeg, lambda: _decode_jpeg(encoded, channels)),
            (is_png, lambda: _decode_png(encoded, channels)),
            (is_bmp, lambda: _decode_bmp(encoded, channels)),
            (is_webp, lambda: _to_channels(tf.io.decode_webp(encoded, channels=3)[0], channels)),
        ],
        default=lambda: _refuse(encoded, channels),
    )
    return tf.ensure_shape(image, [None, None, channels])


def _decode_jpeg(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(encoded)
    with tf.control_dependencies([_size_allowed(shape[0], shape[1])]):
        # INTEGER_ACCURATE: the default differs between builds of libjpeg-turbo, and this must not.
        return tf.io.decode_jpeg(encoded, channels=channels, dct_method="INTEGER_ACCURATE")


def _decode_png(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    # The IHDR chunk comes first: width and height, big-endian, at byte 16 (PNG specification, section 11.2.2).
    size = tf.io.decode_raw(_header(encoded, 16, 8), tf.int32, little_endian=False)
    with tf.control_dependencies([_size_allowed(size[1], size[0])]):
        return tf.io.decode_png(encoded, channels=channels)


def _decode_bmp(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    # BITMAPINFOHEADER: width and height, little-endian, at byte 18; a negative height means top row first.
    size = tf.io.decode_raw(_header(encoded, 18, 8), tf.int32)
    with tf.control_dependencies([_size_allowed(tf.abs(size[1]), size[0])]):
        return _to_channels(tf.io.decode_bmp(encoded), channels)


def _to_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    has_colour = tf.shape(image)[2] >= 3
    if channels == 3:
        return tf.cond(has_colour, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=-1))
    return tf.cond(has_colour, lambda: tf.image.rgb_to_grayscale(image[..., :3]), lambda: image[..., :1])


def _starts_with(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _header(encoded: tf.Tensor, position: int, length: int) -> tf.Tensor:
    complete = tf.debugging.Assert(tf.strings.length(encoded) >= position + length, ["the file is cut off inside its header"])
    with tf.control_dependencies([complete]):
        return tf.strings.substr(encoded, position, length)


def _size_allowed(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    allowed = (height > 0) & (width > 0) & (pixels <= MAX_PIXELS)
    return tf.debugging.Assert(allowed, ["the header says", height, "x", width, f"pixels; allowed are 1 to {MAX_PIXELS:,} in all"])


def _refuse(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    known = tf.debugging.Assert(False, ["no JPEG, PNG, BMP or WebP image (GIF and other formats are refused)"])
    with tf.control_dependencies([known]):
        return tf.zeros([1, 1, channels], tf.uint8)
