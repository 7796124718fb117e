"""Which way up a photo was taken: the orientation in a JPEG's Exif header (Exif 2.32, section
4.6.4), in graph code.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.data.graph import noinline_branch

# Exif comes before the image; thumbnails inside it may make it as large as a segment can be, and
# others may precede it.
_HEAD_BYTES = 2**18
_APP0, _APP1, _APP15, _COMMENT, _ORIENTATION = 0xE0, 0xE1, 0xEF, 0xFE, 0x0112
# Orientation 1 to 8: transpose first, then mirror left and right, then top and bottom.
_TURNS = [
    (False, False, False),
    (False, True, False),
    (False, True, True),
    (False, False, True),
    (True, False, False),
    (True, True, False),
    (True, True, True),
    (True, False, True),
]


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG, int32 scalar in 1…8; 1 (upright) where there is none or it makes
    no sense.

    Exif has to come right at the beginning (Exif 2.32, section 4.5.4): it is looked for up to the
    first segment that is neither an application's nor a comment.

    Args:
        encoded: scalar string, a file that begins as a JPEG.
    """
    # Most photos without Exif begin with JFIF's 18 bytes and go on with a table. To see that is
    # much cheaper than to search.
    start = tf.strings.join([tf.strings.substr(encoded, 2, 20), b"\0" * 20])
    has_jfif_alone = (tf.strings.substr(start, 0, 4) == b"\xff\xe0\0\x10") & (
        tf.strings.substr(start, 18, 2) == b"\xff\xdb"
    )
    return tf.cond(
        has_jfif_alone,
        lambda: tf.constant(1),
        noinline_branch(lambda: _searched_orientation(encoded)),
    )


def _searched_orientation(encoded: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD_BYTES), tf.uint8)

    def look(at: tf.Tensor) -> list[tf.Tensor]:
        # A segment: 0xFF, a marker, a length of two bytes that counts itself, and what it holds;
        # then comes the next.
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


def turns(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What turns an image of this orientation upright, in this order: transpose, mirror left and
    right, mirror top and bottom.
    """
    transpose, left_right, top_bottom = tf.unstack(tf.gather(tf.constant(_TURNS), orientation - 1))
    return transpose, left_right, top_bottom


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image [H, W, C] so that it stands as the photographer saw it; W and H
    may change places.
    """

    def turned() -> tf.Tensor:
        transpose, left_right, top_bottom = turns(orientation)
        transposed = tf.cond(transpose, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        mirrored = tf.cond(left_right, lambda: tf.reverse(transposed, [1]), lambda: transposed)
        return tf.cond(top_bottom, lambda: tf.reverse(mirrored, [0]), lambda: mirrored)

    return tf.cond(orientation == 1, lambda: image, noinline_branch(turned))


def stored_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation by which `decode_image` turned a file's image upright, int32 scalar in 1…8; 1
    for all formats but JPEG.
    """
    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    return tf.cond(is_jpeg, lambda: exif_orientation(encoded), lambda: tf.constant(1))


def _tiff_orientation(head: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """The entry in the first directory of the TIFF structure that begins at `tiff`."""
    # "II" for little-endian, or "MM"; two bytes; where the directory is.
    is_little = _bytes(head, tiff) == ord("I")

    def number(at: tf.Tensor, length: int) -> tf.Tensor:
        digits = _bytes(head, at[..., tf.newaxis] + tf.range(length))
        big = tf.bitwise.left_shift(tf.constant(1), 8 * tf.range(length - 1, -1, -1))
        return tf.reduce_sum(digits * tf.where(is_little, big[::-1], big), -1)

    directory = tiff + number(tiff + 4, 4)
    # An entry has 12 bytes: tag, type, count, value. More than the head can hold is a lie.
    count = tf.minimum(number(directory, 2), tf.size(head) // 12)
    entries = directory + 2 + 12 * tf.range(count)
    values = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == _ORIENTATION)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _bytes(head: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The bytes at these positions, int32; what lies beyond the head is 0."""
    inside = (at >= 0) & (at < tf.size(head))
    return tf.where(inside, tf.cast(tf.gather(head, tf.where(inside, at, 0)), tf.int32), 0)
