"""Which way up a photo was taken: the orientation in a JPEG's Exif header (Exif 2.32, section 4.6.4), in graph code."""

from __future__ import annotations

import tensorflow as tf

# Exif comes before the image; thumbnails inside it may make it as large as a segment can be, and others may precede it.
_HEAD_BYTES = 2**18
_APP1, _START_OF_SCAN, _ORIENTATION = 0xE1, 0xDA, 0x0112
# Orientation 1 to 8: transpose first, then mirror left and right, then top and bottom.
_TURNS = [
    (False, False, False), (False, True, False), (False, True, True), (False, False, True),
    (True, False, False), (True, True, False), (True, True, True), (True, False, True),
]


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG, int32 scalar in 1…8; 1 (upright) where there is none or it makes no sense.

    Args:
        encoded: scalar string, a file that begins as a JPEG.
    """
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD_BYTES), tf.uint8), tf.int32)

    def is_before_exif(at: tf.Tensor) -> tf.Tensor:
        marker = _number(head, at + 1, 1, False)
        is_exif = (marker == _APP1) & (_number(head, at + 4, 4, False) == int.from_bytes(b"Exif", "big"))
        return (_number(head, at, 1, False) == 0xFF) & (marker != _START_OF_SCAN) & ~is_exif

    # Segments: 0xFF, a marker, a length of two bytes that counts itself, and so on to the next.
    [segment] = tf.while_loop(is_before_exif, lambda at: [at + 2 + tf.maximum(_number(head, at + 2, 2, False), 2)], [tf.constant(2)])
    is_exif = _number(head, segment + 1, 1, False) == _APP1
    return tf.cond(is_exif, lambda: _tiff_orientation(head, segment + 10), lambda: tf.constant(1))


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image [H, W, C] so that it stands as the photographer saw it; W and H may change places."""
    transpose, left_right, top_bottom = tf.unstack(tf.gather(tf.constant(_TURNS), orientation - 1))
    image = tf.cond(transpose, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(left_right, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(top_bottom, lambda: tf.reverse(image, [0]), lambda: image)


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
    digits = tf.where(inside, tf.gather(head, tf.clip_by_value(places, 0, tf.size(head) - 1)), 0)
    big = tf.bitwise.left_shift(tf.constant(1), 8 * tf.range(length - 1, -1, -1))
    return tf.reduce_sum(digits * tf.where(little, big[::-1], big), -1)
