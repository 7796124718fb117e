"""Encoded bytes to uint8 images of known rank.

Sizes are checked in the header, before any memory is taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from cvpipe.data.exif import exif_orientation, png_orientation, webp_orientation
from cvpipe.data.graph import noinline_branch
from cvpipe.data.orientation import turns, upright

# A 10,000 × 10,000 image; decoding it to RGB takes 300 MB.
MAX_PIXELS = 100_000_000
# Such an image as a BMP of 32 bits a pixel takes 400 MB.
MAX_BYTES = 500_000_000
TOO_LONG = f"the file has more than the {MAX_BYTES:,} bytes that are allowed"
# How files of each format begin; WebP's name follows at byte 8.
FORMATS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "BMP": b"BM", "WebP": b"RIFF"}

# APP14: version 100, no flags, colors that are neither YCCK nor YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


def decode_image(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP or WebP. Graph code.

    Args:
        encoded: scalar string, the file's bytes.
        channels: 1 (grey) or 3 (RGB); the image is converted, alpha is dropped.

    Returns:
        uint8 [H, W, channels], upright as the file's Exif says.

    Raises:
        tf.errors.InvalidArgumentError: empty, truncated or no image, an animation, or more than
            MAX_PIXELS or MAX_BYTES.
    """
    if tf.executing_eagerly():
        return _decode(encoded, channels)
    return _decoder(channels)(encoded)


@functools.partial(tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def upright_extent(encoded: tf.Tensor) -> tf.Tensor:
    """Return height and width of the image that `decode_image` gives: int32 [2].

    Of a JPEG only the header is read. Errors are those of `decode_image`.
    """

    def of_header() -> tf.Tensor:
        size = tf.io.extract_jpeg_shape(encoded)[:2]
        return tf.where(turns(exif_orientation(encoded))[0], size[::-1], size)

    is_jpeg = tf.strings.substr(encoded, 0, 3) == FORMATS["JPEG"]
    return tf.cond(is_jpeg, of_header, lambda: tf.shape(decode_image(encoded, 1))[:2])


@functools.cache
def _decoder(channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return decoding as a function of its own: traced once, not by each graph that calls it."""
    file = tf.TensorSpec([], tf.string)
    return tf.function(
        lambda encoded: _decode(encoded, channels), input_signature=[file], autograph=False
    )


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    not_empty = tf.debugging.Assert(encoded != b"", ["the file is empty"])
    # A length is an int32: from 2 GiB on it comes out negative.
    length = tf.strings.length(encoded)
    not_too_long = tf.debugging.Assert((length >= 0) & (length <= MAX_BYTES), [TOO_LONG])
    with tf.control_dependencies([not_empty, not_too_long]):
        # Zeros make up for what a short file lacks, so that looking for a signature never fails.
        head = tf.strings.join([tf.strings.substr(encoded, 0, 30), b"\0" * 30])
    is_webp = _holds(head, 0, FORMATS["WebP"]) & _holds(head, 8, b"WEBP")
    image = tf.case(
        [
            (_holds(head, 0, FORMATS["JPEG"]), lambda: _decode_jpeg(encoded, channels)),
            (_holds(head, 0, FORMATS["PNG"]), lambda: _decode_png(encoded, channels)),
            (_holds(head, 0, FORMATS["BMP"]), lambda: _decode_bmp(encoded, channels)),
            (is_webp, lambda: _decode_webp(encoded, head, channels)),
        ],
        default=lambda: _refuse(channels),
    )
    return tf.ensure_shape(image, [None, None, channels])


def with_adobe(encoded: tf.Tensor, is_cmyk: tf.Tensor) -> tf.Tensor:
    """Return a JPEG in CMYK with Adobe's segment, as whose colors libjpeg then takes its own; any
    other as it is.

    Programs write inverted colors with or without it, and PIL and OpenCV take all for inverted. In
    a file that has the segment its own counts, as it comes later.
    """
    marked = noinline_branch(
        lambda: tf.strings.join([b"\xff\xd8", ADOBE, tf.strings.substr(encoded, 2, -1)])
    )
    return tf.cond(is_cmyk, marked, lambda: encoded)


def _decode_jpeg(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(encoded)
    marked = with_adobe(encoded, shape[2] == 4)

    def decode(to: int) -> tf.Tensor:
        # INTEGER_ACCURATE: the default differs between builds of libjpeg-turbo, and this must not.
        return tf.io.decode_jpeg(marked, channels=to, dct_method="INTEGER_ACCURATE")

    with tf.control_dependencies([size_allowed(shape[0], shape[1])]):
        if channels == 3:
            image = decode(3)
        else:
            # libjpeg can't turn CMYK, the images of four channels, into grey.
            image = tf.cond(
                shape[2] == 4, lambda: tf.image.rgb_to_grayscale(decode(3)), lambda: decode(1)
            )
    return upright(image, exif_orientation(encoded))


def _decode_png(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    # The IHDR chunk comes first: width and height, big-endian, at byte 16 (PNG specification,
    # section 11.2.2).
    size = tf.io.decode_raw(_header(encoded, 16, 8), tf.int32, little_endian=False)
    with tf.control_dependencies([size_allowed(size[1], size[0])]):
        # Not `channels`: libpng's own grey depends on the gamma that a file claims, by up to 43 of
        # 255.
        image = _to_channels(tf.io.decode_png(encoded, channels=0), channels)
    return upright(image, png_orientation(encoded))


def _decode_bmp(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    # Little-endian, from byte 10: where the pixels begin, then BITMAPINFOHEADER; a negative height
    # means top row first.
    fields = tf.io.decode_raw(_header(encoded, 10, 24), tf.int32)
    pixels_at, header_size, width, height, compression = (
        fields[0],
        fields[1],
        fields[2],
        fields[3],
        fields[5],
    )
    # Planes and bits are of two bytes each.
    bits = fields[4] // 2**16
    # 12 is OS/2's header, of another layout. Compression 0 is none, 3 says by masks where in a
    # pixel its colors are.
    plain = tf.debugging.Assert(
        (header_size >= 40) & ((compression == 0) | (compression == 3)),
        ["a compressed or very old kind of BMP"],
    )
    whole_bytes = tf.debugging.Assert(
        (bits == 8) | (bits == 24) | (bits == 32),
        ["a BMP with", bits, "bits per pixel; only 8, 24 and 32 can be read"],
    )
    with tf.control_dependencies([plain, whole_bytes, size_allowed(tf.abs(height), width)]):
        image = tf.io.decode_bmp(encoded)

    def look_up() -> tf.Tensor:
        # One channel holds positions in a table of blue, green, red and nothing, which lies between
        # header and pixels.
        table = tf.strings.substr(encoded, 14 + header_size, pixels_at - 14 - header_size)
        colours = tf.reshape(tf.io.decode_raw(table, tf.uint8), [-1, 4])[:, 2::-1]
        return tf.gather(colours, tf.cast(image[..., 0], tf.int32))

    image = tf.cond(tf.shape(image)[2] == 1, look_up, lambda: image)
    image = tf.cond(compression == 3, lambda: _by_bmp_masks(encoded, image), lambda: image)
    return _to_channels(image, channels)


def _by_bmp_masks(encoded: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Put the channels of a BMP where its masks say that red, green and blue are.

    Args:
        image: uint8 [H, W, 3 or 4], decoded as if a pixel's bytes were blue, green, red, alpha.
    """
    # The masks follow the 40 bytes of BITMAPINFOHEADER, or are part of a longer header.
    masks = tf.io.decode_raw(_header(encoded, 54, 12), tf.int32)
    # All zeros means the usual order.
    masks = tf.where(tf.reduce_any(masks != 0), masks, [0xFF0000, 0xFF00, 0xFF])
    # The last byte's mask has the sign bit of an int32.
    is_byte = masks[:, tf.newaxis] == tf.constant([0xFF, 0xFF00, 0xFF0000, -0x1000000])
    readable = tf.debugging.Assert(
        tf.reduce_all(tf.reduce_any(is_byte[:, : tf.shape(image)[2]], 1)),
        ["a BMP whose color channels aren't whole bytes, which can't be read"],
    )
    with tf.control_dependencies([readable]):
        byte = tf.argmax(is_byte, 1, tf.int32)
    # Bytes in the order of the file: TensorFlow's decoder swaps the first and the third.
    return tf.gather(image, tf.gather([2, 1, 0, 3], byte), axis=2)


def _decode_webp(encoded: tf.Tensor, head: tf.Tensor, channels: int) -> tf.Tensor:
    def field(position: int) -> tf.Tensor:
        return tf.io.decode_raw(tf.strings.substr(head, position, 4), tf.int32)[0]

    # RFC 9649, sections 2.5 to 2.7: the first chunk's name is at byte 12, its content at 20.
    lossy, lossless, extended = (_holds(head, 12, name) for name in (b"VP8 ", b"VP8L", b"VP8X"))
    width, height = tf.case(
        [
            (lossy, lambda: (field(26) & 0x3FFF, field(28) & 0x3FFF)),
            (lossless, lambda: ((field(21) & 0x3FFF) + 1, (field(21) // 2**14 & 0x3FFF) + 1)),
        ],
        default=lambda: ((field(24) & 0xFFFFFF) + 1, (field(26) // 2**8 & 0xFFFFFF) + 1),
    )
    animated = extended & (field(20) & 2 > 0)
    with tf.control_dependencies(
        [
            size_allowed(height, width),
            tf.debugging.Assert(~animated, ["an animation, not an image"]),
        ]
    ):
        image = _to_channels(tf.io.decode_webp(encoded, channels=0)[0], channels)
    return upright(image, webp_orientation(encoded))


def _to_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    has_colour = tf.shape(image)[2] >= 3
    if channels == 3:
        return tf.cond(
            has_colour, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=-1)
        )
    return tf.cond(
        has_colour, lambda: tf.image.rgb_to_grayscale(image[..., :3]), lambda: image[..., :1]
    )


def _holds(head: tf.Tensor, position: int, text: bytes) -> tf.Tensor:
    return tf.strings.substr(head, position, len(text)) == text


def _header(encoded: tf.Tensor, position: int, length: int) -> tf.Tensor:
    complete = tf.debugging.Assert(
        tf.strings.length(encoded) >= position + length, ["the file is cut off inside its header"]
    )
    with tf.control_dependencies([complete]):
        return tf.strings.substr(encoded, position, length)


def size_allowed(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Fails where a header (its height and width, int32 scalars) asks for no pixel, or for more
    than MAX_PIXELS.
    """
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    allowed = (height > 0) & (width > 0) & (pixels <= MAX_PIXELS)
    return tf.debugging.Assert(
        allowed,
        ["the header says", width, "x", height, f"pixels; allowed are 1 to {MAX_PIXELS:,} in all"],
    )


def _refuse(channels: int) -> tf.Tensor:
    known = tf.debugging.Assert(
        False, ["no JPEG, PNG, BMP or WebP image (GIF and other formats are refused)"]
    )
    with tf.control_dependencies([known]):
        return tf.zeros([1, 1, channels], tf.uint8)
