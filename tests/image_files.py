"""Encoded images, good and bad, for tests of code that reads images."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return an image of random pixels: uint8 [height, width, channels]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth image that JPEG preserves well: uint8 [height, width, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(3 * a * y + 3 * b * x + c) for a, b, c in random.uniform(0.2, 1, (3, 3))]
    return np.round(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def encode(image: np.ndarray, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Encode an image by PIL, after a conversion to `mode`, such as "P" or "CMYK"."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def zipped(root: Path) -> Path:
    """Write a folder's files to a zip archive beside it."""
    with zipfile.ZipFile(root.parent / f"{root.name}.zip", "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    return root.parent / f"{root.name}.zip"


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def black_png(width: int, height: int) -> bytes:
    """Return a valid black PNG with one bit per pixel, a small file even for a large image."""
    rows = zlib.compress(bytes(height * (1 + -(-width // 8))), 1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def claiming(encoded: bytes, width: int, height: int) -> bytes:
    """Return a JPEG, BMP or WebP file with this size in its header."""
    data = bytearray(encoded)
    if encoded.startswith(b"\xff\xd8"):
        start_of_frame = encoded.index(b"\xff\xc0")
        data[start_of_frame + 5 : start_of_frame + 9] = struct.pack(">HH", height, width)
    elif encoded.startswith(b"BM"):
        data[18:26] = struct.pack("<ii", width, height)
    elif encoded[12:16] == b"VP8 ":
        data[26:30] = struct.pack("<HH", width, height)
    elif encoded[12:16] == b"VP8L":
        data[21:25] = struct.pack(
            "<I",
            struct.unpack("<I", encoded[21:25])[0] & 0xF0000000 | (height - 1) << 14 | width - 1,
        )
    else:
        assert encoded[12:16] == b"VP8X"
        data[24:30] = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes(data)


JPEG = encode(noise(100, 80), "JPEG")
PNG = encode(noise(40, 30), "PNG")
BAD: dict[str, bytes] = {
    "empty": b"",
    "garbage": bytes(range(100, 200)),
    "three bytes": b"abc",
    "text": b"I am a text file in disguise.\n",
    "truncated JPEG": JPEG[: len(JPEG) // 2],
    "JPEG without its last byte": JPEG[:-1],
    "truncated JPEG header": JPEG[:20],
    "truncated PNG": PNG[: len(PNG) // 2],
    "PNG without its end": PNG[:-20],
    "truncated PNG header": PNG[:20],
    "truncated BMP": encode(noise(8, 8), "BMP")[:100],
    "truncated BMP header": b"BM12",
    "truncated WebP": encode(noise(8, 8), "WEBP", lossless=True)[:60],
    "truncated WebP header": b"RIFF",
    "other RIFF": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "huge PNG": black_png(1, 1)[:16] + struct.pack(">II", 20_000, 20_000) + black_png(1, 1)[24:],
    "GIF": encode(noise(8, 8, 1), "GIF"),
    "TIFF": encode(noise(8, 8), "TIFF"),
}
"""Files that aren't images, are damaged, or have a format that cvpipe refuses."""


def write_classes(folder: Path, classes: dict[str, list[bytes]]) -> list[Path]:
    """Write a folder of numbered files per class; return the files in the order of a source."""
    files = []
    for name, contents in sorted(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            files.append(folder / name / f"{number:03}.jpg")
            files[-1].write_bytes(content)
    return files


def draw_photos(folder: Path) -> Path:
    """Draw two classes of twenty small JPEG images, one dark, one bright; return the folder."""
    random = np.random.default_rng(0)
    for name, brightness in (("dark", 60), ("bright", 180)):
        (folder / name).mkdir(parents=True)
        for n in range(20):
            pixels = random.integers(brightness - 50, brightness + 50, (12, 14, 3), np.uint8)
            (folder / name / f"{n:02}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    return folder
