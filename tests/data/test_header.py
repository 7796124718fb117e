"""Guards sizes read from headers: they are those of the decoded image."""

from __future__ import annotations

import io

import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.data.decode import decode_image, upright_extent
from cvpipe.data.header import FORMATS, format_of, stored_size
from image_files import BAD, encode, noise

FILES = {
    "JPEG": encode(noise(5, 7), "JPEG"),
    "PNG": encode(noise(5, 7), "PNG"),
    "BMP": encode(noise(5, 7), "BMP"),
    "WebP": encode(noise(5, 7), "WEBP"),
    "WebP lossless": encode(noise(5, 7), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", FILES)
def test_format_and_size_are_those_of_the_file(name: str) -> None:
    file_format = format_of(tf.constant(FILES[name]))
    assert list(FORMATS)[int(file_format)] == name.split()[0]
    assert stored_size(tf.constant(FILES[name]), file_format).numpy().tolist() == [5, 7]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_upright_extent_is_that_of_the_decoded_image(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(noise(5, 7)).save(stream, kind, exif=exif)
    encoded = tf.constant(stream.getvalue())
    assert upright_extent(encoded).numpy().tolist() == [*decode_image(encoded, 3).shape[:2]]


def test_the_size_is_read_even_if_pixels_are_missing() -> None:
    encoded = FILES["PNG"][:60]
    assert upright_extent(tf.constant(encoded)).numpy().tolist() == [5, 7]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(encoded), 3)


@pytest.mark.parametrize("name", ["empty", "garbage", "GIF", "huge PNG", "truncated PNG header"])
def test_a_header_without_a_size_is_refused(name: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        upright_extent(tf.constant(BAD[name]))
