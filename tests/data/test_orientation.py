"""Guards Exif orientation: photos are rotated as by Pillow, and invalid headers are ignored."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from conftest import soaked
from cvpipe.data.annotations.boxes import upright_boxes
from cvpipe.data.decode import decode_image
from cvpipe.data.exif import exif_orientation, stored_orientation
from image_files import chunk, encode, noise

ORIENTATION = 0x0112


def photo(orientation: int | None, **options: object) -> bytes:
    """Return a JPEG that differs from each of its rotations and reflections."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 250
    pixels[8:, 16:] = [200, 40, 40]
    file = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    exif[0x010E] = "an entry before the orientation"
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, exif=exif, **options)
    return file.getvalue()


def in_other_byte_order(jpeg: bytes) -> bytes:
    """Return the same photo with a big-endian Exif header, as some cameras write it."""
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
def test_every_orientation_is_rotated_as_by_pillow(orientation: int, graph: bool) -> None:
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
    # Boxes of the photo's bright and red corners.
    stored = tf.constant([[0, 0, 8 / 16, 8 / 24], [8 / 16, 16 / 24, 1, 1]])
    encoded = tf.constant(photo(orientation))

    def turned(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return decode_image(encoded, 3), upright_boxes(stored, stored_orientation(encoded))

    image, boxes = (tf.function(turned) if graph else turned)(encoded)
    pixels = image.numpy().astype(int)
    for color, box in zip(([250, 250, 250], [200, 40, 40]), boxes.numpy()):
        rows, columns = np.nonzero(abs(pixels - color).max(-1) < 30)
        found = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        np.testing.assert_allclose(box * np.tile(pixels.shape[:2], 2), found, atol=1e-4)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_files_without_exif_are_not_rotated(kind: str) -> None:
    assert int(stored_orientation(tf.constant(encode(noise(4, 4), kind)))) == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_both_byte_orders_are_understood(orientation: int) -> None:
    encoded = in_other_byte_order(photo(orientation))
    assert b"MM\0*" in encoded
    assert int(exif_orientation(tf.constant(encoded))) == orientation


def test_other_segments_before_exif_are_skipped() -> None:
    encoded = photo(6)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    assert int(exif_orientation(tf.constant(encoded[:2] + segment + encoded[2:]))) == 6


@pytest.mark.parametrize("value", [None, 0, 9, 65535])
def test_a_missing_or_invalid_orientation_does_not_rotate_the_image(value: int | None) -> None:
    given, plain = (decode_image(tf.constant(photo(n)), 3).numpy() for n in (value, 1))
    np.testing.assert_array_equal(given, plain)


def test_a_gray_photo_is_turned_too() -> None:
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


def tiff(kind: int, value: int, order: str) -> bytes:
    """Return Exif with an orientation of this TIFF type; II is little-endian, MM big-endian."""
    end = "<" if order == "II" else ">"
    number = struct.pack(end + {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}[kind], value)
    head = order.encode() + struct.pack(end + "HI", 42, 8)
    entry = struct.pack(end + "HHHI", 1, ORIENTATION, kind, 1) + number.ljust(4, b"\0")
    return head + entry + bytes(4)


# The header that JPEG requires before Exif; some programs write it in other formats, too.
NAMED = b"Exif\0\0"
CONTAINERS: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "JPEG": ("JPEG", NAMED, {}),
    "PNG": ("PNG", b"", {}),
    "PNG named": ("PNG", NAMED, {}),
    "WebP": ("WEBP", b"", {"lossless": True}),
    "WebP lossy": ("WEBP", b"", {}),
    "WebP named": ("WEBP", NAMED, {"lossless": True}),
}


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9])
@pytest.mark.parametrize("container", CONTAINERS)
def test_any_integer_type_and_byte_order_is_understood_in_every_format(
    container: str, kind: int, order: str
) -> None:
    name, prefix, options = CONTAINERS[container]
    encoded = encode(noise(3, 5), name, exif=prefix + tiff(kind, 8, order), **options)
    assert int(stored_orientation(tf.constant(encoded))) == 8


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", [2, 5, 7, 12])
def test_an_orientation_that_is_not_an_integer_is_ignored(container: str, kind: int) -> None:
    name, prefix, options = CONTAINERS[container]
    content = bytearray(tiff(3, 6, "II"))
    content[12:14] = struct.pack("<H", kind)
    encoded = encode(noise(3, 5), name, exif=prefix + bytes(content), **options)
    assert int(stored_orientation(tf.constant(encoded))) == 1


@pytest.mark.parametrize("container", ["PNG", "WebP", "WebP lossy"])
@pytest.mark.parametrize("orientation", [3, 5, 8])
def test_other_formats_are_rotated_as_by_pillow(container: str, orientation: int) -> None:
    name, prefix, options = CONTAINERS[container]
    encoded = encode(noise(6, 9), name, exif=prefix + tiff(3, orientation, "MM"), **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    given = decode_image(tf.constant(encoded), 3).numpy()
    assert given.shape == expected.shape and np.abs(given.astype(int) - expected).max() <= 2


def test_exif_after_the_pixels_of_a_png_is_read() -> None:
    encoded = encode(noise(3, 5), "PNG")
    with_exif = encoded[:-12] + chunk(b"eXIf", tiff(3, 6, "II")) + encoded[-12:]
    assert int(stored_orientation(tf.constant(with_exif))) == 6
    assert decode_image(tf.constant(with_exif), 3).shape == (5, 3, 3)


def test_the_name_of_exif_inside_another_chunk_is_ignored() -> None:
    encoded = encode(noise(3, 5), "PNG")
    text = chunk(b"tEXt", b"Comment\0" + chunk(b"eXIf", tiff(3, 6, "II")))
    assert int(stored_orientation(tf.constant(encoded[:33] + text + encoded[33:]))) == 1


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_damaged_chunks_never_fail(name: str) -> None:
    encoded = encode(noise(3, 5), name, exif=tiff(3, 6, "II"))
    random = np.random.default_rng(0)
    found = []
    for _ in range(100):
        damaged = bytearray(encoded[: random.integers(13, len(encoded))])
        for place in random.integers(12, len(damaged), 3):
            damaged[place] = random.integers(256)
        found.append(int(stored_orientation(tf.constant(bytes(damaged)))))
    assert set(found) <= set(range(1, 9)) and 1 in found
