"""Exif orientation of a file, in graph code: JPEG (Exif 2.32, section 4.6.4), PNG's eXIf chunk
(PNG 3, section 11.3.4.6) and WebP's EXIF chunk (RFC 9649, section 2.7).
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from cvpipe.data.graph import noinline_branch

# Number of bytes to search. In a JPEG, Exif precedes the image, perhaps after other segments. With
# a thumbnail it may be as large as a segment can be.
_HEAD_BYTES = 2**18
_APP0, _APP1, _APP15, _COMMENT, _ORIENTATION = 0xE0, 0xE1, 0xEF, 0xFE, 0x0112
# Bytes of a number by its TIFF type: BYTE, SHORT, LONG and their signed forms (TIFF 6.0,
# section 2). No other type is an orientation.
_LENGTHS = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4}


@functools.partial(tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def stored_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation by which `decode_image` turns a file's image upright.

    Args:
        encoded: scalar string, the file's bytes.

    Returns:
        int32 scalar in 1…8; 1 (upright) if it is missing or invalid.
    """

    def of_another_format() -> tf.Tensor:
        head = tf.strings.join([tf.strings.substr(encoded, 0, 12), b"\0" * 12])
        is_png = tf.strings.substr(head, 0, 8) == b"\x89PNG\r\n\x1a\n"
        is_webp = tf.strings.substr(head, 8, 4) == b"WEBP"
        return tf.cond(
            is_png,
            lambda: png_orientation(encoded),
            lambda: tf.cond(is_webp, lambda: webp_orientation(encoded), lambda: tf.constant(1)),
        )

    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    return tf.cond(is_jpeg, lambda: exif_orientation(encoded), noinline_branch(of_another_format))


def png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation of a file that begins as a PNG, as `exif_orientation` does."""
    # Searching for four bytes is much cheaper than walking through the chunks.
    without = tf.strings.regex_replace(encoded, "eXIf", "", replace_global=False)
    return tf.cond(
        tf.strings.length(without) < tf.strings.length(encoded),
        noinline_branch(lambda: _chunk_orientation(encoded, tf.constant(True))),
        lambda: tf.constant(1),
    )


def webp_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation of a file that begins as a WebP, as `exif_orientation` does."""
    # Only the extended format can contain Exif.
    head = tf.strings.join([tf.strings.substr(encoded, 0, 16), b"\0" * 16])
    return tf.cond(
        tf.strings.substr(head, 12, 4) == b"VP8X",
        noinline_branch(lambda: _chunk_orientation(encoded, tf.constant(False))),
        lambda: tf.constant(1),
    )


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return a JPEG's orientation: int32 scalar in 1…8; 1 if it is missing or invalid.

    Exif must precede all other data (Exif 2.32, section 4.5.4). The search ends at the first
    segment that is neither an application segment nor a comment.

    Args:
        encoded: scalar string, a file that begins as a JPEG.
    """
    # Most photos without Exif begin with JFIF's 18 bytes and a table. Testing for that is much
    # cheaper than searching.
    start = tf.strings.join([tf.strings.substr(encoded, 2, 20), b"\0" * 20])
    has_jfif_alone = (tf.strings.substr(start, 0, 4) == b"\xff\xe0\0\x10") & (
        tf.strings.substr(start, 18, 2) == b"\xff\xdb"
    )
    return tf.cond(
        has_jfif_alone,
        lambda: tf.constant(1),
        noinline_branch(lambda: _segment_orientation(encoded)),
    )


def _segment_orientation(encoded: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD_BYTES), tf.uint8)

    def look(at: tf.Tensor) -> list[tf.Tensor]:
        # A segment: 0xFF, a marker, a length of two bytes that includes itself, and the content.
        begin, marker, high, low, *name = tf.unstack(_bytes(head, at + tf.range(8)))
        is_exif = (marker == _APP1) & tf.reduce_all(tf.stack(name) == list(b"Exif"))
        is_passed_over = (
            (begin == 0xFF)
            & ((marker >= _APP0) & (marker <= _APP15) | (marker == _COMMENT))
            & ~is_exif
        )
        return [at, is_exif, is_passed_over, at + 2 + tf.maximum(256 * high + low, 2)]

    segment, is_exif, _, _ = tf.while_loop(
        lambda *found: found[2], lambda *found: look(found[3]), look(tf.constant(2))
    )
    return tf.cond(is_exif, lambda: _tiff_orientation(head, segment + 10), lambda: tf.constant(1))


def _chunk_orientation(encoded: tf.Tensor, is_png: tf.Tensor) -> tf.Tensor:
    """Find the Exif chunk of a PNG or WebP.

    A PNG's chunk is length, name, content and checksum; a WebP's is name, length, content and a
    padding byte to an even size.
    """
    end = tf.cast(tf.strings.length(encoded), tf.int64)
    name_at, length_at = tf.where(is_png, 4, 0), tf.where(is_png, 0, 4)

    def look(at: tf.Tensor) -> list[tf.Tensor]:
        header = tf.strings.substr(encoded, tf.cast(at, tf.int32), 8)
        name = tf.strings.substr(header, name_at, 4)
        digits = tf.io.decode_raw(tf.strings.substr(header, length_at, 4), tf.uint8)
        big = np.array([2**24, 2**16, 2**8, 1])
        length = tf.reduce_sum(tf.cast(digits, tf.int64) * tf.where(is_png, big, big[::-1]))
        is_exif = (name == b"eXIf") | (name == b"EXIF")
        after = at + 8 + tf.where(is_png, length + 4, length + length % 2)
        return [at, is_exif, after]

    def goes_on(at: tf.Tensor, is_exif: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return ~is_exif & (after + 8 <= end)

    first = tf.where(is_png, tf.constant(8, tf.int64), tf.constant(12, tf.int64))
    at, is_exif, _ = tf.while_loop(
        goes_on, lambda at, is_exif, after: look(after), look(tf.minimum(first, end - 8))
    )

    def found() -> tf.Tensor:
        content = tf.strings.substr(encoded, tf.cast(at, tf.int32) + 8, _HEAD_BYTES)
        head = tf.io.decode_raw(content, tf.uint8)
        # Some programs also write the "Exif" prefix of JPEG segments here.
        named = tf.reduce_all(_bytes(head, tf.range(6)) == list(b"Exif\0\0"))
        return _tiff_orientation(head, tf.where(named, 6, 0))

    return tf.cond(is_exif, found, lambda: tf.constant(1))


def _tiff_orientation(head: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Return the entry in the first directory of the TIFF structure that begins at `tiff`."""
    # "II" (little-endian) or "MM", then two bytes, then the position of the directory.
    is_little = _bytes(head, tiff) == ord("I")

    def number(at: tf.Tensor, length: int) -> tf.Tensor:
        digits = _bytes(head, at[..., tf.newaxis] + tf.range(length))
        big = np.array([2**24, 2**16, 2**8, 1], np.int32)[-length:]
        return tf.reduce_sum(digits * tf.where(is_little, big[::-1], big), -1)

    directory = tiff + number(tiff + 4, 4)
    # An entry has 12 bytes: tag, type, count, value. A count of more entries than fit is invalid.
    count = tf.minimum(number(directory, 2), tf.size(head) // 12)
    entries = directory + 2 + 12 * tf.range(count)
    kinds = number(entries + 2, 2)
    # A number shorter than four bytes occupies the first bytes of the value, in both byte orders.
    values = tf.zeros_like(kinds)
    for kind, length in _LENGTHS.items():
        values = tf.where(kinds == kind, number(entries + 8, length), values)
    of_orientation = tf.boolean_mask(values, number(entries, 2) == _ORIENTATION)
    value = tf.concat([of_orientation, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _bytes(head: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Return the bytes at these positions, int32; 0 beyond the end."""
    inside = (at >= 0) & (at < tf.size(head))
    return tf.where(inside, tf.cast(tf.gather(head, tf.where(inside, at, 0)), tf.int32), 0)
