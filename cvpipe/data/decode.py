"""Decoding of encoded bytes to uint8 images of known rank."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from cvpipe.data.exif import exif_orientation, png_orientation, stored_orientation, webp_orientation
from cvpipe.data.graph import choose, noinline_branch
from cvpipe.data.header import format_of, header_bytes, stored_size, webp_field
from cvpipe.data.orientation import turns, upright
from cvpipe.errors import DataError

# APP14: version 100, no flags, colors that are neither YCCK nor YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


def decode_image(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decode JPEG, PNG, BMP or WebP. Graph code.

    Args:
        encoded: scalar string, the file's bytes.
        channels: 1 (gray) or 3 (RGB); the image is converted, alpha is dropped.

    Returns:
        uint8 [H, W, channels], rotated upright by the file's Exif orientation.

    Raises:
        tf.errors.InvalidArgumentError: the file is empty, truncated, not an image, an animation, or
            larger than MAX_PIXELS or MAX_BYTES.
    """
    if tf.executing_eagerly():
        return _decode(encoded, channels)
    return _decoder(channels)(encoded)


def decode_file(file: Path, channels: int) -> tf.Tensor:
    """Read an image file given by the user, and decode it as `decode_image` does.

    Raises:
        DataError: the file can't be read or decoded.
    """
    try:
        return decode_image(tf.constant(file.read_bytes()), channels)
    except OSError as error:
        raise DataError(f"{file}: the image can't be read ({error.strerror})") from None
    except tf.errors.InvalidArgumentError:
        raise DataError(f"{file}: can't be decoded; give JPEG, PNG, BMP or WebP") from None


@functools.partial(tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def upright_extent(encoded: tf.Tensor) -> tf.Tensor:
    """Return height and width of the image that `decode_image` returns: int32 [2].

    Only the header is read. Raises the errors of `decode_image` about headers.
    """
    size = stored_size(encoded, format_of(encoded))
    return tf.where(turns(stored_orientation(encoded))[0], size[::-1], size)


@functools.cache
def _decoder(channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the decoder as a `tf.function` that is traced once, not in each graph that calls
    it.
    """
    file = tf.TensorSpec([], tf.string)
    return tf.function(
        lambda encoded: _decode(encoded, channels), input_signature=[file], autograph=False
    )


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    file_format = format_of(encoded)
    # Check the size before the image's memory is allocated.
    with tf.control_dependencies([stored_size(encoded, file_format)]):
        encoded = tf.identity(encoded)
    decoders = [_decode_jpeg, _decode_png, _decode_bmp, _decode_webp]
    # `guard` prepares this graph for each batch. That takes time for every operation, except those
    # in branches that aren't taken.
    branches = [
        noinline_branch(functools.partial(decode, encoded, channels)) for decode in decoders
    ]
    return tf.ensure_shape(choose(file_format, branches), [None, None, channels])


def with_adobe(encoded: tf.Tensor, is_cmyk: tf.Tensor) -> tf.Tensor:
    """Add Adobe's segment to a JPEG in CMYK, so that libjpeg treats its colors as inverted; return
    other files unchanged.

    Programs write inverted colors with or without the segment. PIL and OpenCV assume inversion. A
    segment that the file already has comes later and takes precedence.
    """
    marked = noinline_branch(
        lambda: tf.strings.join([b"\xff\xd8", ADOBE, tf.strings.substr(encoded, 2, -1)])
    )
    return tf.cond(is_cmyk, marked, lambda: encoded)


def _decode_jpeg(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    is_cmyk = tf.io.extract_jpeg_shape(encoded)[2] == 4
    marked = with_adobe(encoded, is_cmyk)

    def decode(to: int) -> tf.Tensor:
        # INTEGER_ACCURATE, because the default differs between builds of libjpeg-turbo.
        return tf.io.decode_jpeg(marked, channels=to, dct_method="INTEGER_ACCURATE")

    if channels == 3:
        image = decode(3)
    else:
        # libjpeg can't convert CMYK (four channels) to gray.
        image = tf.cond(is_cmyk, lambda: tf.image.rgb_to_grayscale(decode(3)), lambda: decode(1))
    return upright(image, exif_orientation(encoded))


def _decode_png(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    # channels=0, because libpng's conversion to gray depends on the gamma stated in the file, by up
    # to 43 of 255.
    image = _to_channels(tf.io.decode_png(encoded, channels=0), channels)
    return upright(image, png_orientation(encoded))


def _decode_bmp(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    # Little-endian, from byte 10: the position of the pixels, then BITMAPINFOHEADER.
    fields = tf.io.decode_raw(header_bytes(encoded, 10, 24), tf.int32)
    pixels_at, header_size, compression = fields[0], fields[1], fields[5]
    # Planes and bits per pixel take two bytes each.
    bits = fields[4] // 2**16
    # 0: no compression. 3: masks give the position of each color in a pixel.
    plain = tf.debugging.Assert(
        (compression == 0) | (compression == 3), ["a compressed or very old kind of BMP"]
    )
    whole_bytes = tf.debugging.Assert(
        (bits == 8) | (bits == 24) | (bits == 32),
        ["a BMP with", bits, "bits per pixel; only 8, 24 and 32 can be read"],
    )
    with tf.control_dependencies([plain, whole_bytes]):
        image = tf.io.decode_bmp(encoded)

    def look_up() -> tf.Tensor:
        # The image is one channel of indices into a table between header and pixels. An entry of
        # the table is blue, green, red and a zero byte.
        table = tf.strings.substr(encoded, 14 + header_size, pixels_at - 14 - header_size)
        colors = tf.reshape(tf.io.decode_raw(table, tf.uint8), [-1, 4])[:, 2::-1]
        return tf.gather(colors, tf.cast(image[..., 0], tf.int32))

    image = tf.cond(tf.shape(image)[2] == 1, look_up, lambda: image)
    image = tf.cond(compression == 3, lambda: _by_bmp_masks(encoded, image), lambda: image)
    return _to_channels(image, channels)


def _by_bmp_masks(encoded: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Reorder the channels of a BMP by its color masks.

    Args:
        image: uint8 [H, W, 3 or 4], decoded as if a pixel's bytes were blue, green, red, alpha.
    """
    # Color masks follow the 40 bytes of BITMAPINFOHEADER, or are part of a longer header.
    masks = tf.io.decode_raw(header_bytes(encoded, 54, 12), tf.int32)
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
    # TensorFlow's decoder swaps the first and the third byte.
    return tf.gather(image, tf.gather([2, 1, 0, 3], byte), axis=2)


def _decode_webp(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    extended = tf.strings.substr(encoded, 12, 4) == b"VP8X"
    animated = extended & (webp_field(encoded, 20) & 2 > 0)
    still = tf.debugging.Assert(~animated, ["an animation, not an image"])
    with tf.control_dependencies([still]):
        image = _to_channels(tf.io.decode_webp(encoded, channels=0)[0], channels)
    return upright(image, webp_orientation(encoded))


def _to_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    has_color = tf.shape(image)[2] >= 3
    if channels == 3:
        return tf.cond(
            has_color, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=-1)
        )
    return tf.cond(
        has_color, lambda: tf.image.rgb_to_grayscale(image[..., :3]), lambda: image[..., :1]
    )
