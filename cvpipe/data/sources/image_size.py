"""Sizes of images from their headers, for formats that don't state them."""

from __future__ import annotations

import io
from typing import NamedTuple

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from cvpipe.data.exif import stored_orientation
from cvpipe.data.orientation import turns
from cvpipe.data.sources.files import Files
from cvpipe.errors import DataError

Extent = tuple[int, int]
"""Height and width in pixels."""


class Header(NamedTuple):
    """The header of an encoded image."""

    extent: Extent
    is_gray: bool


def read_header(encoded: bytes, upright: bool = True) -> Header | None:
    """Return the header of an encoded image; None if it can't be read, or states so many pixels
    that Pillow takes it for a decompression bomb.

    Args:
        upright: True returns the extent after rotation by the orientation that `decode_image`
            finds; False returns the stored extent.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            extent, is_gray = (image.height, image.width), image.mode in ("1", "L", "I;16", "LA")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    is_turned = upright and bool(turns(stored_orientation(tf.constant(encoded)))[0])
    return Header(extent[::-1] if is_turned else extent, is_gray)


def encoded_size(encoded: bytes, upright: bool) -> Extent | None:
    """Return an encoded image's height and width, upright or as stored; None for an unreadable
    header.
    """
    header = read_header(encoded, upright)
    return header.extent if header else None


def image_size(files: Files, name: str, upright: bool) -> Extent | None:
    """Return an image file's height and width as `encoded_size` does; None if it can't be read."""
    try:
        return encoded_size(files.read(name), upright)
    except DataError:
        return None
