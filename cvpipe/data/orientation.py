"""Which way up a photo was taken: the orientation in a JPEG's Exif header (Exif 2.32, section 4.6.4), in graph code."""

from __future__ import annotations

import tensorflow as tf

# Exif comes before the image; thumbnails inside it may make it as large as a segment can be, and others may precede it.
_HEAD_BYTES = 2**18
_APP0, _APP1, _APP15, _COMMENT, _ORIENTATION = 0xE0, 0xE1, 0xEF, 0xFE, 0x0112
# Orientation 1 to 8: transpose first, then mirror left and right, then top and bottom.
_TURNS = [
    (False, False, False), (False, True, False), (False, True, True), (False, False, True),
    (True, False, False), (True, True, False), (True, True, True), (True, False, True),
]


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG, int32 scalar in 1…8; 1 (upright) where there is none or it makes no sense.

    Exif has to come right at the beginning (Exif 2.32, section 4.5.4): it is looked for up to the first segment that is neither
    an application's nor a comment.

    Args:
        encoded: scalar string, a file that begins as a JPEG.
    """
    # Most photos without Exif begin with JFIF's 18 bytes and go on with a table. To see that is much cheaper than to search.
    start = tf.strings.join([tf.strings.substr(encoded, 2, 20), b"\0" * 20])
    has_jfif_alone = (tf.strings.substr(start, 0, 4) == b"\xff\xe0\0\x10") & (tf.strings.substr(start, 18, 2) == b"\xff\xdb")
    return tf.cond(has_jfif_alone, lambda: tf.constant(1), lambda: _searched_orientation(encoded))


def _searched_orientation(encoded: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD_BYTES), tf.uint8)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        return (_number(head, at + 1, 1, False) == _APP1) & (_number(head, at + 4, 4, False) == int.from_bytes(b"Exif", "big"))

    def is_before_exif(at: tf.Tensor) -> tf.Tensor:
        marker = _number(head, at + 1, 1, False)
        passed_over = ((marker >= _APP0) & (marker <= _APP15)) | (marker == _COMMENT)
        return (_number(head, at, 1, False) == 0xFF) & passed_over & ~is_exif(at)

    # Segments: 0xFF, a marker, a length of two bytes that counts itself, and so on to the next.
    [segment] = tf.while_loop(is_before_exif, lambda at: [at + 2 + tf.maximum(_number(head, at + 2, 2, False), 2)], [tf.constant(2)])
    return tf.cond(is_exif(segment), lambda: _tiff_orientation(head, segment + 10), lambda: tf.constant(1))


def turns(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What turns an image of this orientation upright, in this order: transpose, mirror left and right, mirror top and bottom."""
    transpose, left_right, top_bottom = tf.unstack(tf.gather(tf.constant(_TURNS), orientation - 1))
    return transpose, left_right, top_bottom


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image [H, W, C] so that it stands as the photographer saw it; W and H may change places."""

    def turned() -> tf.Tensor:
        transpose, left_right, top_bottom = turns(orientation)
        transposed = tf.cond(transpose, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        mirrored = tf.cond(left_right, lambda: tf.reverse(transposed, [1]), lambda: transposed)
        return tf.cond(top_bottom, lambda: tf.reverse(mirrored, [0]), lambda: mirrored)

    return tf.cond(orientation == 1, lambda: image, turned)


def _tiff_orientation(head: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """The entry in the first directory of the TIFF structure that begins at `tiff`."""
    little = _number(head, tiff, 2, False) == int.from_bytes(b"II", "big")
    directory = tiff + _number(head, tiff + 4, 4, little)
    # An entry has 12 bytes: tag, type, count, value. More than the head can hold is a lie.
    count = tf.minimum(_number(head, directory, 2, little), tf.size(head) // 12)
    entries = directory + 2 + 12 * tf.range(count)
    is_orientation = _number(head, entries, 2, little) == _ORIENTATION
    values = tf.boolean_mask(_number(head, entries + 8, 2, little), is_orientation)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _number(head: tf.Tensor, at: tf.Tensor, length: int, little: bool | tf.Tensor) -> tf.Tensor:
    """The unsigned number of `length` bytes at each position; what lies beyond the head is 0."""
    places = at[..., tf.newaxis] + tf.range(length)
    inside = (places >= 0) & (places < tf.size(head))
    found = tf.cast(tf.gather(head, tf.clip_by_value(places, 0, tf.size(head) - 1)), tf.int32)
    digits = tf.where(inside, found, 0)
    big = tf.bitwise.left_shift(tf.constant(1), 8 * tf.range(length - 1, -1, -1))
    return tf.reduce_sum(digits * tf.where(little, big[::-1], big), -1)
