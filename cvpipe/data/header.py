"""Formats and sizes of image files from their headers, before any pixel is decoded. Graph code."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from cvpipe.data.graph import choose, noinline_branch

# A 10,000 × 10,000 image; decoding it to RGB takes 300 MB.
MAX_PIXELS = 100_000_000
# An image of MAX_PIXELS takes 400 MB as a BMP of 32 bits per pixel.
MAX_BYTES = 500_000_000
TOO_LONG = f"the file has more than the {MAX_BYTES:,} bytes that are allowed"
# Beginnings of files by format; WebP's name follows at byte 8.
FORMATS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "BMP": b"BM", "WebP": b"RIFF"}


def format_of(encoded: tf.Tensor) -> tf.Tensor:
    """Return the index of a file's format in FORMATS.

    Args:
        encoded: scalar string, the file's bytes.

    Returns:
        int32 scalar.

    Raises:
        tf.errors.InvalidArgumentError: the file is empty, longer than MAX_BYTES, or of another
            format.
    """
    not_empty = tf.debugging.Assert(encoded != b"", ["the file is empty"])
    # Lengths are int32: negative from 2 GiB on.
    length = tf.strings.length(encoded)
    not_too_long = tf.debugging.Assert((length >= 0) & (length <= MAX_BYTES), [TOO_LONG])
    with tf.control_dependencies([not_empty, not_too_long]):
        head = _head(encoded)
    begins = [
        tf.strings.substr(head, 0, len(beginning)) == beginning for beginning in FORMATS.values()
    ]
    begins[-1] &= tf.strings.substr(head, 8, 4) == b"WEBP"
    known = tf.debugging.Assert(
        tf.reduce_any(begins),
        ["not a JPEG, PNG, BMP or WebP image (GIF and other formats are refused)"],
    )
    with tf.control_dependencies([known]):
        return tf.argmax(begins, output_type=tf.int32)


def stored_size(encoded: tf.Tensor, file_format: tf.Tensor) -> tf.Tensor:
    """Return height and width of the stored image, before rotation by its Exif orientation.

    Args:
        encoded: scalar string, the file's bytes.
        file_format: from `format_of`.

    Returns:
        int32 [2].

    Raises:
        tf.errors.InvalidArgumentError: the header is truncated or of an unusual kind, or states no
            pixels or more than MAX_PIXELS.
    """
    sizes = [_jpeg_size, _png_size, _bmp_size, _webp_size]
    size = choose(file_format, [noinline_branch(partial(read, encoded)) for read in sizes])
    size = tf.ensure_shape(size, [2])
    with tf.control_dependencies([size_allowed(size[0], size[1])]):
        return tf.identity(size)


def size_allowed(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Fail if a header states no pixels or more than MAX_PIXELS; int32 scalars."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    allowed = (height > 0) & (width > 0) & (pixels <= MAX_PIXELS)
    return tf.debugging.Assert(
        allowed,
        ["the header says", width, "x", height, f"pixels, but 1 to {MAX_PIXELS:,} are allowed"],
    )


def header_bytes(encoded: tf.Tensor, position: int, length: int) -> tf.Tensor:
    """Return bytes of a header, a scalar string; fail if the file ends before them."""
    complete = tf.debugging.Assert(
        tf.strings.length(encoded) >= position + length, ["the file is cut off inside its header"]
    )
    with tf.control_dependencies([complete]):
        return tf.strings.substr(encoded, position, length)


def webp_field(encoded: tf.Tensor, position: int) -> tf.Tensor:
    """Return four bytes of a WebP's header as an int32; missing bytes are 0."""
    return tf.io.decode_raw(tf.strings.substr(_head(encoded), position, 4), tf.int32)[0]


def _head(encoded: tf.Tensor) -> tf.Tensor:
    # Padded with zeros, so looking for a signature never fails.
    return tf.strings.join([tf.strings.substr(encoded, 0, 30), b"\0" * 30])


def _jpeg_size(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.extract_jpeg_shape(encoded)[:2]


def _png_size(encoded: tf.Tensor) -> tf.Tensor:
    # The IHDR chunk comes first: width and height, big-endian, at byte 16 (PNG specification,
    # section 11.2.2).
    size = tf.io.decode_raw(header_bytes(encoded, 16, 8), tf.int32, little_endian=False)
    return size[::-1]


def _bmp_size(encoded: tf.Tensor) -> tf.Tensor:
    # BITMAPINFOHEADER's length, width and height, little-endian, from byte 14; a negative height
    # means top row first. OS/2's header, of 12 bytes, has another layout.
    fields = tf.io.decode_raw(header_bytes(encoded, 14, 12), tf.int32)
    known = tf.debugging.Assert(fields[0] >= 40, ["a compressed or very old kind of BMP"])
    with tf.control_dependencies([known]):
        return tf.stack([tf.abs(fields[2]), fields[1]])


def _webp_size(encoded: tf.Tensor) -> tf.Tensor:
    # RFC 9649, sections 2.5 to 2.7: the first chunk's name is at byte 12, its content at 20.
    name = tf.strings.substr(_head(encoded), 12, 4)
    lossy, lossless, extended = (webp_field(encoded, at) for at in (26, 21, 24))
    return tf.where(
        name == b"VP8 ",
        tf.stack([lossy // 2**16, lossy]) & 0x3FFF,
        tf.where(
            name == b"VP8L",
            (tf.stack([lossless // 2**14, lossless]) & 0x3FFF) + 1,
            (tf.stack([webp_field(encoded, 26) // 2**8, extended]) & 0xFFFFFF) + 1,
        ),
    )
