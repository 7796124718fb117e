"""Guards Exif orientation: photos stand as Pillow turns them, strange headers do no harm."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from conftest import soaked
from cvpipe.data.annotations.boxes import upright_boxes
from cvpipe.data.decode import decode_image
from cvpipe.data.exif import exif_orientation, stored_orientation
from image_files import encode, noise

ORIENTATION = 0x0112


def photo(orientation: int | None, **options: object) -> bytes:
    """A JPEG that looks different whichever way it is turned."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 250
    pixels[8:, 16:] = [200, 40, 40]
    file = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    exif[0x010E] = "a description that lies before it"
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, exif=exif, **options)
    return file.getvalue()


def in_other_byte_order(jpeg: bytes) -> bytes:
    """The same photo with a big-endian Exif header, which some cameras write."""
    exif = Image.Exif()
    exif.load(Image.open(io.BytesIO(jpeg)).info["exif"])
    exif.endian = ">"
    start = jpeg.index(b"Exif\0\0")
    old = Image.open(io.BytesIO(jpeg)).info["exif"]
    new = (
        b"Exif\0\0" + exif.tobytes()[6:]
        if exif.tobytes().startswith(b"Exif")
        else b"Exif\0\0" + exif.tobytes()
    )
    length = (len(new) + 2).to_bytes(2, "big")
    return jpeg[: start - 2] + length + new + jpeg[start + len(old) :]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(orientation: int, graph: bool) -> None:
    encoded = photo(orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    if graph:
        [given] = tf.data.Dataset.from_tensors(encoded).map(lambda one: decode_image(one, 3))
    else:
        given = decode_image(tf.constant(encoded), 3)
    assert given.shape == expected.shape
    assert np.abs(given.numpy().astype(int) - expected).max() <= 2


@pytest.mark.parametrize("graph", [False, *soaked(True)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_image(orientation: int, graph: bool) -> None:
    # The bright corner and the red one.
    stored = tf.constant([[0, 0, 8 / 16, 8 / 24], [8 / 16, 16 / 24, 1, 1]])
    encoded = tf.constant(photo(orientation))

    def turned(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return decode_image(encoded, 3), upright_boxes(stored, stored_orientation(encoded))

    image, boxes = (tf.function(turned) if graph else turned)(encoded)
    pixels = image.numpy().astype(int)
    for colour, box in zip(([250, 250, 250], [200, 40, 40]), boxes.numpy()):
        rows, columns = np.nonzero(abs(pixels - colour).max(-1) < 30)
        found = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        np.testing.assert_allclose(box * np.tile(pixels.shape[:2], 2), found, atol=1e-4)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_other_formats_stand_as_they_are_stored(kind: str) -> None:
    assert int(stored_orientation(tf.constant(encode(noise(4, 4), kind)))) == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_both_byte_orders_are_understood(orientation: int) -> None:
    encoded = in_other_byte_order(photo(orientation))
    assert b"MM\0*" in encoded
    assert int(exif_orientation(tf.constant(encoded))) == orientation


def test_other_segments_before_it_are_passed_over() -> None:
    encoded = photo(6)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    assert int(exif_orientation(tf.constant(encoded[:2] + segment + encoded[2:]))) == 6


@pytest.mark.parametrize("value", [None, 0, 9, 65535])
def test_no_orientation_or_a_senseless_one_leaves_the_image_as_it_is(value: int | None) -> None:
    given, plain = (decode_image(tf.constant(photo(n)), 3).numpy() for n in (value, 1))
    np.testing.assert_array_equal(given, plain)


def test_a_grey_photo_is_turned_too() -> None:
    assert decode_image(tf.constant(photo(6)), 1).shape == (24, 16, 1)


def test_a_damaged_header_never_fails() -> None:
    encoded = photo(6)
    random = np.random.default_rng(0)
    orientation = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])
    found = []
    for _ in range(300):
        damaged = bytearray(encoded[: random.integers(3, 200)])
        for place in random.integers(2, len(damaged), 4):
            damaged[place] = random.integers(256)
        found.append(int(orientation(bytes(damaged))))
    assert set(found) <= set(range(1, 9))
    assert 1 in found and 6 in found
