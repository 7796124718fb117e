"""Sizes of images from their headers, for formats that don't state them."""

from __future__ import annotations

import io

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from cvpipe.data.exif import stored_orientation
from cvpipe.data.orientation import turns
from cvpipe.data.sources.files import Files
from cvpipe.errors import DataError


def image_size(files: Files, name: str, upright: bool) -> tuple[int, int] | None:
    """Return an image's height and width, upright or as stored; None for an unreadable header."""
    try:
        encoded = files.read(name)
        with Image.open(io.BytesIO(encoded)) as image:
            height, width = image.height, image.width
    except (DataError, UnidentifiedImageError, OSError, ValueError):
        return None
    is_turned = upright and bool(turns(stored_orientation(tf.constant(encoded)))[0])
    return (width, height) if is_turned else (height, width)
