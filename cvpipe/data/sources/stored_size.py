"""Sizes of images as they are stored, from their headers."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from cvpipe.data.sources.files import Files
from cvpipe.errors import DataError


def stored_size(files: Files, name: str) -> tuple[int, int] | None:
    """Return an image's height and width as it is stored; None where its header can't be read."""
    try:
        with Image.open(io.BytesIO(files.read(name))) as image:
            return image.height, image.width
    except (DataError, UnidentifiedImageError, OSError, ValueError):
        return None
