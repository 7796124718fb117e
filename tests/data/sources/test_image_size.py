"""Guards that sizes read from headers are those of the decoded images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.data.decode import decode_image
from cvpipe.data.sources.files import open_files
from cvpipe.data.sources.image_size import encoded_size, image_size, read_header
from image_files import claiming, encode, noise

XMP = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"></x:xmpmeta>'
# More pixels than Pillow opens.
BOMB = claiming(encode(noise(4, 6), "JPEG"), 20_000, 20_000)


def encoded(kind: str, orientation: int | None, **settings: bytes) -> bytes:
    image, file = Image.fromarray(np.zeros([4, 6, 3], np.uint8)), io.BytesIO()
    if orientation is not None:
        image.getexif()[0x0112] = orientation
    image.save(file, kind, exif=image.getexif(), **settings)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 7])
def test_the_upright_size_is_that_of_the_decoded_image(kind: str, orientation: int | None) -> None:
    file = encoded(kind, orientation)
    decoded = decode_image(tf.constant(file), 3)
    assert encoded_size(file, upright=True) == tuple(decoded.shape[:2])
    assert encoded_size(file, upright=False) == (4, 6)


def test_an_orientation_in_xmp_is_ignored_as_in_decoding() -> None:
    file = encoded("JPEG", None, xmp=XMP)
    with Image.open(io.BytesIO(file)) as image:
        assert image.getexif()[0x0112] == 6  # Pillow also reads XMP.
    assert encoded_size(file, upright=True) == tuple(decode_image(tf.constant(file), 3).shape[:2])


@pytest.mark.parametrize("content", [b"", b"text", BOMB])
def test_a_header_that_cannot_be_read_has_no_size(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    files = open_files(str(tmp_path), [])
    assert read_header(content) is None
    assert image_size(files, "a.png", upright=True) is None
    assert image_size(files, "missing.png", upright=True) is None
